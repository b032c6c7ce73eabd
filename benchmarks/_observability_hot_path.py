"""What our handler takes on the asking thread: of a real query all spans and events, timed in place and replayed.

A paired measurement of whole queries on a shared machine is good to tens of microseconds; these two are good to a few.
In place, a clock is read around every call of the handler, in the app, whose own code has filled the processor's caches
meanwhile. Replayed, nothing runs but the handler: the least that it can take. Knows no other observer.
"""

from __future__ import annotations

import gc
import time
import uuid
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from _observability_hearing import Hear, hearing

from llama_index_hybridmem import CostLatencyHandler

_UUID = 36  # characters of it, at the end of a span's id

Heard = tuple[str, tuple[Any, ...]]
Call = tuple[Callable[..., Any], tuple[Any, ...]]


def record(ask: Callable[[int], Any]) -> list[Heard]:
    """Ask one query, and write down all that LlamaIndex tells of it."""
    heard: list[Heard] = []

    def writes(kind: str) -> Hear:
        return lambda *told: heard.append((kind, told))

    with hearing(writes("enter"), writes("leave"), writes("event")):
        ask(1)
    return heard


# -- in place ---------------------------------------------------------------------------------------------------------


def in_place(ask: Callable[[int], Any], rounds: int, queries: int) -> float:
    """Microseconds of a real query that are spent in the handler; the clock's own are subtracted.

    Args:
        ask: asks query n.
        rounds: how often each of the two, the handler and one that does nothing, has its turn.
        queries: of a turn.
    """
    handler = CostLatencyHandler()
    real = (handler._spans.span_enter, handler._spans.span_exit, handler._events.handle)
    spent: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(rounds):
        for is_real, steps in ((True, real), (False, (_pass, _pass, _pass))):
            spent[is_real] += _seconds_within(steps, ask, queries)
        handler.flush()
    return round(1e6 * (median(spent[True]) - median(spent[False])), 1)


def _seconds_within(steps: Sequence[Hear], ask: Callable[[int], Any], queries: int) -> list[float]:
    clock, total = time.perf_counter, [0.0]

    def timed(step: Hear) -> Hear:
        def run(*told: Any) -> None:
            began = clock()
            step(*told)
            total[0] += clock() - began

        return run

    seconds = []
    with hearing(*map(timed, steps)):
        for number in range(queries):
            total[0] = 0.0
            ask(number)
            seconds.append(total[0])
    return seconds


# -- replayed ---------------------------------------------------------------------------------------------------------


def replay(heard: Sequence[Heard], rounds: int, queries: int) -> dict[str, Any]:
    """Replay a query many times.

    Args:
        heard: by `record`.
        rounds: how often it is measured, after one that is not counted.
        queries: replayed each time.

    Returns:
        microseconds of a query, median and least of the rounds; of a pair of span calls, from replays of the spans
        alone; and of an event, from the difference.
    """
    handler = CostLatencyHandler()
    only_spans = [one for one in heard if one[0] != "event"]
    whole, alone = [], []
    for _ in range(rounds + 1):
        whole.append(_us(heard, handler, queries))
        alone.append(_us(only_spans, handler, queries))
    spans, events = len(only_spans) // 2, len(heard) - len(only_spans)
    health = handler.health()
    return {
        "spans": spans,
        "events": events,
        "replayed_us": round(median(whole[1:]), 1),
        "least_us": round(min(whole[1:]), 1),
        "span_pair_us": round(median(alone[1:]) / spans, 2),
        "event_us": round((median(whole[1:]) - median(alone[1:])) / events, 2),
        "faults": health["faults"] + health["failed"],
        "open": health["open"],
    }


def _us(heard: Sequence[Heard], handler: CostLatencyHandler, queries: int) -> float:
    """Microseconds of a query in one replay of so many."""
    batches = [_anew(heard, handler) for _ in range(queries)]
    gc.collect()
    gc.disable()  # what piles up here is this benchmark's
    empty = sum(_spent(calls, for_real=False) for calls in batches)
    spent = sum(_spent(calls, for_real=True) for calls in batches)
    gc.enable()
    handler.flush()
    return 1e6 * (spent - empty) / queries


def _anew(heard: Sequence[Heard], handler: CostLatencyHandler) -> list[Call]:
    """The calls that LlamaIndex would make for one more such query."""
    ids: dict[str, str] = {}

    def fresh(id_: str | None) -> str | None:
        return None if id_ is None else ids.setdefault(id_, id_[:-_UUID] + str(uuid.uuid4()))

    calls: list[Call] = []
    for kind, told in heard:
        if kind == "enter":
            id_, bound, instance, parent, tags = told
            calls.append((handler._spans.span_enter, (fresh(id_), bound, instance, fresh(parent), tags)))
        elif kind == "leave":
            calls.append((handler._spans.span_exit, (fresh(told[0]), *told[1:])))
        else:
            event = told[0].model_copy()
            event.span_id = fresh(event.span_id)
            calls.append((handler._events.handle, (event,)))
    return calls


def _spent(calls: Sequence[Call], *, for_real: bool) -> float:
    began = time.thread_time()
    for call, told in calls:
        (call if for_real else _pass)(*told)
    return time.thread_time() - began


def _pass(*_: Any) -> None:
    """What is called instead of the handler."""
