"""Measures arms: what they find, how long a question takes alone and among 16, and round trips; knows no store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from _servers_peers import Arm, Ask
from tqdm import tqdm

from llama_index_hybridmem.statistics import bootstrap_interval, paired_difference, recall_at_k

SEED = 0

Asked = Sequence[tuple[str, Sequence[float], Sequence[str]]]
"""Questions, their vectors and their gold passages."""


def recalls(ask: Ask, asked: Asked, k: int = 5) -> list[float]:
    """Recall at k of every question."""
    found = [(ask(question, vector), gold) for question, vector, gold in asked]
    return [recall_at_k(ids, gold, k) for ids, gold in found]


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and 95 % bootstrap interval, in percent."""
    return _percent(asdict(bootstrap_interval(values, SEED)))


def difference(a: Sequence[float], b: Sequence[float]) -> dict[str, float]:
    """Mean of the paired difference and its interval, in points."""
    return _percent(asdict(paired_difference(a, b, SEED)))


def _percent(values: Mapping[str, float]) -> dict[str, float]:
    return {key: round(100 * value, 1) for key, value in values.items()}


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """p50 and p95 in milliseconds."""
    p50, p95 = np.percentile(seconds, [50, 95]) * 1e3
    return {"p50": round(float(p50), 1), "p95": round(float(p95), 1)}


def one_by_one(arms: Sequence[Arm], asked: Asked, rounds: int, *, encode: bool) -> dict[str, dict[str, Any]]:
    """Ask every arm each question in turn, so that all of them meet the same moments of a busy machine.

    Args:
        arms: in another order at each question.
        asked: the questions.
        rounds: how often.
        encode: whether the question's vector is made in the measured time, too.

    Returns:
        by arm, wall and our process's CPU milliseconds of a question; the server's CPU is not in it.
    """
    wall: dict[str, list[float]] = {arm.name: [] for arm in arms}
    cpu: dict[str, list[float]] = {arm.name: [] for arm in arms}
    turns = [(turn, one) for turn in range(rounds) for one in asked]
    for number, (_, (question, vector, _)) in enumerate(tqdm(turns, "one by one", leave=False)):
        first = number % len(arms)
        for arm in [*arms[first:], *arms[:first]]:
            busy, began = time.process_time(), time.perf_counter()
            arm.ask(question, None if encode else vector)
            wall[arm.name].append(time.perf_counter() - began)
            cpu[arm.name].append(time.process_time() - busy)
    return {arm.name: {"wall_ms": spread(wall[arm.name]), "cpu_ms": spread(cpu[arm.name])} for arm in arms}


def together(arm: Arm, asked: Asked, clients: int, times: int, *, encode: bool) -> dict[str, Any]:
    """Let so many threads ask at once, each its next question when the last is answered."""
    waiting: SimpleQueue[tuple[str, Sequence[float], Sequence[str]]] = SimpleQueue()
    for one in [*asked] * times:
        waiting.put(one)

    def client() -> list[float]:
        seconds: list[float] = []
        while True:
            try:
                question, vector, _ = waiting.get_nowait()
            except Empty:
                return seconds
            began = time.perf_counter()
            arm.ask(question, None if encode else vector)
            seconds.append(time.perf_counter() - began)

    with ThreadPoolExecutor(clients) as threads:
        began = time.perf_counter()
        running = [threads.submit(client) for _ in range(clients)]
        seconds = [second for one in running for second in one.result()]
        wall = time.perf_counter() - began
    return {"clients": clients, "questions_per_s": round(len(seconds) / wall, 1), "wall_ms": spread(seconds)}
