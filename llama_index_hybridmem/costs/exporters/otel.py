"""Traces as OpenTelemetry spans and metrics, emitted once a query is over; knows no exporter of OpenTelemetry's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_index_hybridmem import __version__
from llama_index_hybridmem.costs.exporters import genai_names as names
from llama_index_hybridmem.costs.exporters.genai_spans import Operation, Wanted, of_query, operations, sendable
from llama_index_hybridmem.costs.exporting import Finished
from llama_index_hybridmem.costs.trace import QueryTrace
from llama_index_hybridmem.extras import require

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, SpanContext, TracerProvider

_LIBRARY = __name__.partition(".")[0]


class OpenTelemetryTraces:
    """Emits every finished query as spans and metrics, after OpenTelemetry's GenAI conventions.

    A span ``invoke_workflow`` for the query; below it ``retrieval STORE`` for each store that was asked, and
    ``chat MODEL``, ``embeddings MODEL``, ``rerank MODEL`` for each model call, with the times at which they happened.
    What the conventions have no name for is called ``hybrid_rag.…``. The metrics are
    ``gen_ai.client.operation.duration`` and ``gen_ai.client.token.usage``. docs/traces.md lists them all;
    `genai_names` says which version of the conventions it is.

    Where the asking code has a span open, of whatever tracer, ours become its children and share its trace id;
    otherwise they are a trace of their own. With OpenTelemetry's API and no SDK, all this does nothing.

    Args:
        tracer_provider: OpenTelemetry's global one when None, also when that is set later.
        meter_provider: see tracer_provider.
        capture_content: whether questions, prompts, answers and the messages of errors are recorded.
        costs: whether costs are: ``gen_ai.usage.cost.*`` on ``chat`` spans, as a pull request to the conventions has
            them, and ``hybrid_rag.cost.*`` on the query's span.
        estimated_tokens: whether token counts that were estimated from a text are reported like counted ones. The
            conventions ask for billable tokens, so by default they are left out.

    Raises:
        MissingExtraError: opentelemetry is not installed.
    """

    name = "opentelemetry"

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        capture_content: bool = False,
        costs: bool = False,
        estimated_tokens: bool = False,
    ) -> None:
        require("OpenTelemetryTraces", "otel", "opentelemetry.trace")
        from opentelemetry import metrics, trace

        self._wanted = Wanted(capture_content, costs, estimated_tokens)
        self._current_span = trace.get_current_span
        self._tracer = trace.get_tracer(_LIBRARY, __version__, tracer_provider)
        meter = metrics.get_meter(_LIBRARY, __version__, meter_provider)
        self._durations = meter.create_histogram(
            names.DURATION,
            unit="s",
            description="Duration of model calls and retrievals.",
            explicit_bucket_boundaries_advisory=names.DURATION_BUCKETS,
        )
        self._tokens = meter.create_histogram(
            names.TOKEN_USAGE,
            unit="{token}",
            description="Input and output tokens of model calls.",
            explicit_bucket_boundaries_advisory=names.TOKEN_USAGE_BUCKETS,
        )

    def context(self) -> SpanContext | None:
        """Note which span is open where the question is asked; None when none is."""
        here = self._current_span().get_span_context()
        return here if here.is_valid else None

    def export(self, finished: Finished) -> None:
        """Emit one query."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        trace, parent = finished.trace, _below(finished.context)
        attributes = of_query(finished, self._wanted)
        root = self._tracer.start_span(names.WORKFLOW, parent, SpanKind.INTERNAL, attributes, start_time=_ns(trace, 0))
        inside = set_span_in_context(root, parent)
        for operation in operations(finished, self._wanted):
            self._emit(operation, trace, inside)
        if trace.status == "error":
            kind = trace.error.partition(":")[0] if trace.error else names.ERROR_OTHER
            _fail(root, kind, sendable(trace.error) if self._wanted.content else None)
        root.end(_ns(trace, trace.wall_s))

    def close(self) -> None:
        """Nothing is left here; the providers are the caller's to flush."""

    def _emit(self, operation: Operation, trace: QueryTrace, inside: Context) -> None:
        from opentelemetry.trace import SpanKind

        kind = SpanKind.CLIENT if operation.is_remote else SpanKind.INTERNAL
        attributes = {**operation.measured, **operation.described}
        started = _ns(trace, operation.started_s)
        span = self._tracer.start_span(operation.title, inside, kind, attributes, start_time=started)
        if operation.error_type is not None:
            _fail(span, operation.error_type)
        span.end(_ns(trace, operation.started_s + operation.wall_s))
        self._durations.record(operation.wall_s, operation.measured)
        for direction, tokens in operation.tokens:
            self._tokens.record(tokens, {**operation.measured, names.TOKEN_TYPE: direction})


def _below(parent: SpanContext | None) -> Context:
    """Give a context in which a span becomes the child of a span that may be over by now; of none, a root.

    Built on an empty one: what the exporting thread has open has nothing to do with the query.
    """
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    return Context() if parent is None else set_span_in_context(NonRecordingSpan(parent), Context())


def _fail(span: Span, kind: str, message: str | None = None) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute(names.ERROR_TYPE, kind)
    span.set_status(Status(StatusCode.ERROR, message))


def _ns(trace: QueryTrace, offset_s: float) -> int:
    return round(trace.started * 1e6) * 1000 + round(offset_s * 1e9)  # a float of today has no more than microseconds
