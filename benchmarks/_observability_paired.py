"""What observing takes: CPU of a block of work with an observer and without, in turn; knows no observer.

Neighbouring blocks meet the same moments of a busy machine. Which of the two comes first, and in which order the
observers have their turns, is drawn anew each round, from the seed.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from _observability_app import question
from _observability_arms import Arm
from tqdm import tqdm

from llama_index_hybridmem.statistics import bootstrap_interval

TOGETHER = 5
"""Neighbouring pairs that count once, by their median: what else runs on the machine upsets one pair in some."""

Cpu = tuple[float, float]
"""CPU seconds of the asking thread, and of the whole process."""

Block = Callable[[Callable[[], object]], Cpu]
"""Does some work, then has the observer settle, whose CPU is the process's only."""


class Stopwatch:
    """Reads both clocks."""

    def __init__(self) -> None:
        self._thread, self._process = time.thread_time(), time.process_time()

    def stop(self, settle: Callable[[], object]) -> Cpu:
        """CPU since it was made."""
        thread = time.thread_time() - self._thread
        settle()
        return thread, time.process_time() - self._process


def of_queries(ask: Callable[[int], Any], queries: int) -> Block:
    """So many queries, one after the other."""

    def block(settle: Callable[[], object]) -> Cpu:
        watch = Stopwatch()
        for number in range(queries):
            ask(number)
        return watch.stop(settle)

    return block


def of_tokens(engine: Any) -> Block:
    """A stream, from its first token to its end: what is done once for a query is not in it."""

    def block(settle: Callable[[], object]) -> Cpu:
        stream: Iterator[str] = engine.query(question(1)).response_gen
        next(stream)
        watch = Stopwatch()
        for _ in stream:
            pass
        return watch.stop(settle)

    return block


def of_async_tokens(engine: Any) -> Block:
    """An async stream, from its first token to its end."""

    async def read(settle: Callable[[], object]) -> Cpu:
        stream = (await engine.aquery(question(1))).response_gen
        await anext(stream)
        watch = Stopwatch()
        async for _ in stream:
            pass
        return watch.stop(settle)

    return lambda settle: asyncio.run(read(settle))


def compare(arms: Sequence[Arm], block: Block, rounds: int, per_block: int, seed: int) -> list[dict[str, Any]]:
    """Measure all observers in turn, round after round, after one that is not counted.

    Args:
        arms: the observers.
        block: the work.
        rounds: pairs of each, a multiple of `TOGETHER`.
        per_block: queries or tokens of a block.
        seed: of the order.

    Returns:
        for each observer, in the order given, microseconds of a query or token: unobserved (median), and what
        observing adds, on the asking thread and in the whole process.
    """
    chance = random.Random(f"{seed}:order")
    found: dict[str, list[tuple[Cpu, Cpu]]] = {arm.name: [] for arm in arms}
    gc.collect()
    gc.freeze()  # what is there already need not be looked through again and again
    for turn in tqdm(range(rounds + 1), "paired", leave=False):
        for arm in chance.sample(arms, len(arms)):
            pair = _pair(arm, block, first=chance.random() < 0.5)
            if turn:
                found[arm.name].append(pair)
    gc.unfreeze()
    return [{"arm": arm.name, **_told(found[arm.name], 1e6 / per_block, seed)} for arm in arms]


def _pair(arm: Arm, block: Block, *, first: bool) -> tuple[Cpu, Cpu]:
    """A block that is observed and one that is not; the former comes first if so told, and stands first."""
    found: dict[bool, Cpu] = {}
    for is_observed in (first, not first):
        gc.collect()
        if is_observed:
            with arm.observing():
                found[True] = block(arm.settle)
            arm.forget()
        else:
            found[False] = block(lambda: None)
    return found[True], found[False]


def _told(pairs: Sequence[tuple[Cpu, Cpu]], scale: float, seed: int) -> dict[str, Any]:
    """The mean difference with a 95 % bootstrap interval, over the medians of neighbouring pairs.

    And ``least``: between the quickest observed block and the quickest one unobserved.
    """
    said: dict[str, Any] = {"pairs": len(pairs), "base_us": round(scale * median(off[0] for _, off in pairs), 1)}
    for place, clock in enumerate(("thread", "process")):
        more = [scale * (on[place] - off[place]) for on, off in pairs]
        steady = [median(more[start : start + TOGETHER]) for start in range(0, len(more), TOGETHER)]
        interval = asdict(bootstrap_interval(steady, seed))
        least = scale * (min(on[place] for on, _ in pairs) - min(off[place] for _, off in pairs))
        said[f"{clock}_us"] = {name: round(value, 2) for name, value in {**interval, "least": least}.items()}
    return said


def slope(arm: Arm, ask: Callable[[int], Any], queries: int) -> float:
    """Bytes that stay allocated for each query while it is observed, after as many that do not count."""
    with arm.observing():
        for number in range(queries):
            ask(number)
        arm.settle()
        gc.collect()
        tracemalloc.start()
        for number in range(queries):
            ask(number)
        arm.settle()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    arm.forget()
    return grown / queries
