"""Who observes: ours with its exporters, LlamaIndex's callback handlers, OpenInference, LlamaIndex's OpenTelemetry.

Each can be put on and taken off again and again. Those whose library is missing are left out, and named.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _observability_hearing import handlers
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler, TokenCountingHandler
from llama_index_instrumentation import get_dispatcher

from llama_index_hybridmem import CostLatencyHandler, JsonlTraces, OpenTelemetryTraces, PrometheusMetrics

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

NOBODY = "no handler (A/A)"
IDLE = "a handler that does nothing"
OURS = "CostLatencyHandler"
OPENINFERENCE = "OpenInference"
OTEL = "llama-index-observability-otel"
COUNTING = "TokenCountingHandler"
DEBUG = "LlamaDebugHandler"

Step = Callable[[], object]


def _nothing() -> None:
    """What needs no doing."""


def _ignore(*_: object) -> None:
    """What does not listen."""


class Arm:
    """One observer.

    Args:
        name: in the tables.
        on: begins to observe.
        off: ends it.
        settle: has everything done that was put off: its CPU counts.
        forget: lets go what it has kept; its CPU does not count.
    """

    def __init__(
        self, name: str, on: Step = _nothing, off: Step = _nothing, settle: Step = _nothing, forget: Step = _nothing
    ) -> None:
        self.name, self.on, self.off, self.settle, self.forget = name, on, off, settle, forget

    @contextmanager
    def observing(self) -> Iterator[None]:
        """Observe within a block."""
        self.on()
        try:
            yield
        finally:
            self.off()


def null_exporter() -> Any:
    """Give an exporter of OpenTelemetry's that drops its spans."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Null(SpanExporter):
        def export(self, spans: Sequence[Any]) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    return Null()


def ours(name: str = OURS, exporters: Sequence[Any] = (), settle: Step = _nothing, **settings: Any) -> Arm:
    """Ours with some exporters."""
    handler = CostLatencyHandler(exporters=exporters, **settings)

    def settled() -> None:
        handler.flush()
        settle()

    return Arm(name, handler.install, handler.uninstall, settled, handler.clear)


def idle() -> Arm:
    """What LlamaIndex itself takes to tell one handler more of every span and event."""
    root, (spans, events) = get_dispatcher(), handlers(_ignore, _ignore, _ignore)

    def on() -> None:
        root.add_span_handler(spans)
        root.add_event_handler(events)

    def off() -> None:
        root.span_handlers.remove(spans)
        root.event_handlers.remove(events)

    return Arm(IDLE, on, off)


def legacy(name: str, handler: Any, callbacks: CallbackManager, forget: Step) -> Arm:
    """A handler for a callback manager."""
    return Arm(name, lambda: callbacks.add_handler(handler), lambda: callbacks.remove_handler(handler), forget=forget)


def tracing(*processors: Any) -> TracerProvider:
    """A tracer provider of OpenTelemetry's."""
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider()
    for processor in processors:
        provider.add_span_processor(processor)
    return provider


def openinference(name: str, provider: TracerProvider) -> Arm:
    """OpenInference, as its own documentation installs it."""
    from openinference.instrumentation.llama_index import LlamaIndexInstrumentor

    instrumentor = LlamaIndexInstrumentor()
    return Arm(
        name,
        lambda: instrumentor.instrument(tracer_provider=provider, skip_dep_check=True),
        instrumentor.uninstrument,
        provider.force_flush,
    )


def otel(name: str, exporter: Any, processor: str = "batch") -> Arm:
    """LlamaIndex's own OpenTelemetry package; it cannot be taken off, so its handlers are.

    Once in a process: it makes its provider the global one, and there is no second.
    """
    from llama_index.observability.otel import LlamaIndexOpenTelemetry

    root = get_dispatcher()
    spans, events = list(root.span_handlers), list(root.event_handlers)
    provider = tracing()
    LlamaIndexOpenTelemetry(
        span_exporter=exporter, span_processor=processor, tracer_provider=provider
    ).start_registering()
    own_spans = [each for each in root.span_handlers if each not in spans]
    own_events = [each for each in root.event_handlers if each not in events]

    def on() -> None:
        root.span_handlers += own_spans
        root.event_handlers += own_events

    def off() -> None:
        root.span_handlers[:] = [each for each in root.span_handlers if each not in own_spans]
        root.event_handlers[:] = [each for each in root.event_handlers if each not in own_events]

    def forget() -> None:
        for handler in own_spans:
            handler.completed_spans.clear()  # it never does

    off()
    return Arm(name, on, off, provider.force_flush, forget)


def has(*modules: str) -> bool:
    """Whether modules are installed."""
    try:
        return all(find_spec(module) is not None for module in modules)
    except ModuleNotFoundError:  # a parent of theirs is not
        return False


HAS_SDK = has("opentelemetry.sdk")
HAS_PROMETHEUS = has("prometheus_client")
HAS_OPENINFERENCE = HAS_SDK and has("openinference.instrumentation.llama_index")
HAS_OTEL = HAS_SDK and has("llama_index.observability.otel")


def missing() -> list[str]:
    """Name the distributions whose arms are left out."""
    wanted = {
        "opentelemetry-sdk": HAS_SDK,
        "prometheus-client": HAS_PROMETHEUS,
        "openinference-instrumentation-llama-index": HAS_OPENINFERENCE,
        "llama-index-observability-otel": HAS_OTEL,
    }
    return [name for name, is_here in wanted.items() if not is_here]


def everyone(callbacks: CallbackManager, folder: Path) -> list[Arm]:
    """Give all arms, the control first.

    Args:
        callbacks: of the app.
        folder: for traces.
    """
    arms = [Arm(NOBODY), idle(), ours()]
    place = tempfile.mkdtemp(dir=folder)
    arms.append(ours(f"{OURS} + JsonlTraces", [JsonlTraces(Path(place) / "traces.jsonl")]))
    if HAS_PROMETHEUS:
        from prometheus_client import CollectorRegistry

        arms.append(ours(f"{OURS} + PrometheusMetrics", [PrometheusMetrics(CollectorRegistry())]))
    if HAS_SDK:
        arms.append(_our_otel())
    counting, debug = TokenCountingHandler(), LlamaDebugHandler(print_trace_on_end=False)
    arms.append(legacy(COUNTING, counting, callbacks, counting.reset_counts))
    arms.append(legacy(DEBUG, debug, callbacks, debug.flush_event_logs))
    return [*arms, *_tracers()]


def _our_otel() -> Arm:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = tracing(BatchSpanProcessor(null_exporter()))
    exporter = OpenTelemetryTraces(provider, MeterProvider())
    return ours(f"{OURS} + OpenTelemetryTraces", [exporter], provider.force_flush)


def _tracers() -> Iterator[Arm]:
    if HAS_OPENINFERENCE:
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        yield openinference(f"{OPENINFERENCE}, no processor", tracing())
        yield openinference(f"{OPENINFERENCE} + BatchSpanProcessor", tracing(BatchSpanProcessor(null_exporter())))
    if HAS_OTEL:
        yield otel(OTEL, null_exporter())
