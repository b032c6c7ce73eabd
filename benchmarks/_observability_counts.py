"""Whose tokens each observer says a query used: every model call's counts name the query that they belong to.

Of each observer is read what it offers: of ours the traces, of the tracers what their spans hold, of
`TokenCountingHandler` its total, for it knows no queries.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from _observability_app import OUTPUT, App, question, truth
from _observability_arms import (
    COUNTING,
    HAS_OPENINFERENCE,
    HAS_OTEL,
    OPENINFERENCE,
    OTEL,
    OURS,
    Arm,
    legacy,
    openinference,
    otel,
    ours,
    tracing,
)
from _observability_modes import QUERIES, modes
from llama_index.core.callbacks import TokenCountingHandler

Counted = list[tuple[str | None, int]]
"""Of each query or trace that an observer knows: what was asked, if that can be told, and its output tokens."""


class _Kept:
    """An exporter of ours that keeps what was asked, and what was counted."""

    name = "kept"

    def __init__(self) -> None:
        self.counted: Counted = []

    def context(self) -> None:
        """Nothing of the asking thread is needed."""

    def export(self, finished: Any) -> None:
        """Keep one."""
        self.counted.append((finished.question, finished.trace.tokens()[1]))

    def close(self) -> None:
        """Nothing is left."""


def _by_trace(spans: Sequence[Any], read: Callable[[Any], tuple[str | None, int]]) -> Counted:
    """Put the spans of each trace together: what its topmost question was, and the sum of its tokens."""
    traces: dict[int, list[Any]] = defaultdict(list)
    for span in spans:
        traces[span.context.trace_id].append(span)
    counted: Counted = []
    for members in traces.values():
        members.sort(key=lambda span: (span.parent is not None, span.start_time))
        said = [read(span) for span in members]
        counted.append((said[0][0], sum(tokens for _, tokens in said)))
    return counted


def _of_openinference(span: Any) -> tuple[str | None, int]:
    attributes = span.attributes
    is_llm = attributes.get("openinference.span.kind") == "LLM"
    return attributes.get("input.value"), attributes.get("llm.token_count.completion", 0) if is_llm else 0


def _of_otel(span: Any) -> tuple[str | None, int]:
    """It has no attribute for tokens, but dumps every event, the raw response with it."""
    asked = [event.attributes.get("query") for event in span.events if event.name == "QueryStartEvent"]
    ends = [event for event in span.events if event.name in ("LLMChatEndEvent", "LLMCompletionEndEvent")]
    tokens = sum(event.attributes.get("response.raw.usage.completion_tokens", 0) for event in ends)
    return next(iter(asked), None), tokens


def _observers(app: App) -> Iterator[tuple[str, Arm, Callable[[], Counted]]]:
    """Give each observer with what reads, and lets go, what it has counted."""
    kept = _Kept()

    def of_ours() -> Counted:
        counted, kept.counted = kept.counted, []
        return counted

    yield OURS, ours(exporters=[kept]), of_ours
    counting = TokenCountingHandler()

    def of_counting() -> Counted:
        total = counting.completion_llm_token_count
        counting.reset_counts()
        return [(None, total)]

    yield COUNTING, legacy(COUNTING, counting, app.callbacks, lambda: None), of_counting
    yield from _tracers()


def _tracers() -> Iterator[tuple[str, Arm, Callable[[], Counted]]]:
    if not (HAS_OPENINFERENCE or HAS_OTEL):
        return
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    def reader(memory: Any, read: Callable[[Any], tuple[str | None, int]]) -> Callable[[], Counted]:
        def counted() -> Counted:
            spans = memory.get_finished_spans()
            memory.clear()
            return _by_trace(spans, read)

        return counted

    if HAS_OPENINFERENCE:
        memory = InMemorySpanExporter()
        arm = openinference(OPENINFERENCE, tracing(SimpleSpanProcessor(memory)))
        yield OPENINFERENCE, arm, reader(memory, _of_openinference)
    if HAS_OTEL:
        memory = InMemorySpanExporter()
        yield OTEL, otel(OTEL, memory, "simple"), reader(memory, _of_otel)


def attribution(app: App) -> Iterator[dict[str, Any]]:
    """Run every mode under every observer.

    Yields:
        ``exact``: of how many queries exactly its own tokens were counted, None where no query can be told;
        ``counted`` and ``truth``: output tokens of all.
    """
    right = truth(range(QUERIES))
    ways = modes(app)
    for name, arm, read in _observers(app):
        for mode, run in ways.items():
            with arm.observing():
                run()
                arm.settle()
            counted = read()
            arm.forget()
            total = sum(tokens for _, tokens in counted)
            exact = None if name == COUNTING else _exact(counted)
            yield {"mode": mode, "arm": name, "exact": exact, "queries": QUERIES, "counted": total, "truth": right}


def _exact(counted: Counted) -> int:
    found: dict[str | None, list[int]] = defaultdict(list)
    for asked, tokens in counted:
        found[asked].append(tokens)
    return sum(found[question(number)] == [OUTPUT + number] for number in range(QUERIES))
