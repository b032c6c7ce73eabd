"""OpenTelemetry: spans and metrics after the pinned conventions, in the trace of whoever asked; with the real SDK."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from trace_zoo import EDGES, trace

from llama_index_hybridmem.costs.exporters import genai_names as names
from llama_index_hybridmem.costs.exporters.otel import OpenTelemetryTraces
from llama_index_hybridmem.costs.exporting import Exporter, Finished
from llama_index_hybridmem.costs.tokens.usage import Usage
from llama_index_hybridmem.costs.trace import ModelCall, QueryTrace, Stage
from llama_index_hybridmem.errors import MissingExtraError

TESTS = Path(__file__).parent
STARTED = 1_793_491_200.25

# The API alone: nothing may be asked of the SDK, and nothing fails.
WITHOUT_SDK = """
import sys

class NoSdk:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("opentelemetry.sdk"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoSdk())
from llama_index_hybridmem.costs.exporters.otel import OpenTelemetryTraces
from llama_index_hybridmem.costs.exporting import Finished
from trace_zoo import traffic

exporter = OpenTelemetryTraces(capture_content=True, costs=True, estimated_tokens=True)
for made in traffic(20):
    exporter.export(Finished(made, question="?", text="!", context=exporter.context()))
exporter.close()
print("fine", sorted(name for name in sys.modules if name.startswith("opentelemetry.sdk")))
"""


@dataclass
class Sink:
    """An SDK that keeps what it is given."""

    kept: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)
    tracers: TracerProvider = field(default_factory=TracerProvider)

    def __post_init__(self) -> None:
        self.tracers.add_span_processor(SimpleSpanProcessor(self.kept))
        self.meters = MeterProvider([self.reader])

    def exporter(self, **settings: bool) -> OpenTelemetryTraces:
        """An exporter that writes here."""
        return OpenTelemetryTraces(self.tracers, self.meters, **settings)

    def spans(self) -> dict[str, ReadableSpan]:
        """What was emitted, by name."""
        return {span.name: span for span in self.kept.get_finished_spans()}

    def points(self, metric: str) -> list[Any]:
        """The data points of a metric."""
        read = self.reader.get_metrics_data()
        metrics = [each for part in read.resource_metrics for scope in part.scope_metrics for each in scope.metrics]
        return [point for each in metrics if each.name == metric for point in each.data.data_points]


def a_query(**changes: Any) -> QueryTrace:
    """A query whose every number is known."""
    made = QueryTrace(
        id="q1",
        kind="query",
        name="HybridRouterQueryEngine.query",
        started=STARTED,
        wall_s=1.5,
        cpu_s=0.25,
        first_token_s=0.75,
        route="hybrid",
        route_source="rules",
        answer="generated",
        tenant="acme",
        tags={"question": "q17"},
        stages=(
            Stage("embed", 0.0, 0.125),
            Stage("retrieve", 0.0, 0.0625),
            Stage("vector", 0.125, 0.25),
            Stage("graph", 0.125, 0.375, count=2),
            Stage("llm", 0.5, 1.0),
        ),
        calls=(
            ModelCall(
                "embedding",
                "minilm",
                "local",
                None,
                False,
                "ok",
                0.0,
                0.125,
                None,
                0.125,
                Usage(9, 0, source="extracted"),
            ),
            ModelCall(
                *("llm", "gpt-4o-mini", "openai", "brand@1", True, "ok", 0.5, 1.0, 0.25, 1.0),
                usage=Usage(1200, 300, cached_read=1024, reasoning=200),
                cost=Decimal("0.00028"),
                price="a table (2026-11-04)",
            ),
        ),
    )
    return replace(made, **changes)


def emitted(*made: QueryTrace, finished: dict[str, Any] | None = None, **settings: bool) -> Sink:
    """What becomes of queries."""
    sink = Sink()
    exporter: Exporter = sink.exporter(**settings)
    for each in made:
        exporter.export(Finished(each, context=exporter.context(), **(finished or {})))
    exporter.close()
    exporter.close()
    return sink


def attributes(sink: Sink, span: str) -> dict[str, Any]:
    """The attributes of a span."""
    return dict(sink.spans()[span].attributes or {})


def everything(sink: Sink) -> str:
    """All that was emitted, as text."""
    return "".join(span.to_json() for span in sink.kept.get_finished_spans())


def test_names_are_those_of_the_conventions() -> None:
    """What OpenTelemetry's own package has of them, it has under the same strings; the buckets are those documented."""
    source = "opentelemetry.semconv._incubating"  # marked as moved: a later release may do without them
    gen_ai_attributes = pytest.importorskip(f"{source}.attributes.gen_ai_attributes")
    gen_ai_metrics = pytest.importorskip(f"{source}.metrics.gen_ai_metrics")
    known = {value for value in vars(gen_ai_attributes).values() if isinstance(value, str)}
    known |= {value for value in vars(gen_ai_metrics).values() if isinstance(value, str)}
    known |= {each.value for each in gen_ai_attributes.GenAiOperationNameValues}
    known |= {each.value for each in gen_ai_attributes.GenAiProviderNameValues}
    ours = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}
    pending = {names.COST_AMOUNT, names.COST_CURRENCY, names.COST_SOURCE}
    assert {value for value in ours if value.startswith("gen_ai.")} - known == pending
    assert {names.CHAT, names.EMBEDDINGS, names.RETRIEVAL, names.WORKFLOW} <= known
    assert set(names.PROVIDERS.values()) - known <= {"moonshot_ai"}  # newer than that package
    seconds = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
    tokens = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
    assert seconds == names.DURATION_BUCKETS
    assert tokens == names.TOKEN_USAGE_BUCKETS


def test_a_query_is_a_tree_of_spans_with_its_own_times() -> None:
    """The query's span above, one for each store and call below, all of one trace, at the times they happened."""
    spans = emitted(a_query()).spans()
    root = spans["invoke_workflow"]
    assert root.parent is None
    for name, span in spans.items():
        assert span.context.trace_id == root.context.trace_id
        assert span is root or (span.parent and span.parent.span_id == root.context.span_id), name
        assert span.status.status_code is StatusCode.UNSET
    start = 1_793_491_200_250_000_000
    seconds = {
        name: ((span.start_time - start) / 1e9, (span.end_time - start) / 1e9)
        for name, span in spans.items()
        if span.start_time and span.end_time
    }
    assert seconds == {
        "invoke_workflow": (0, 1.5),
        "retrieval vector": (0.125, 0.375),
        "retrieval graph": (0.125, 0.5),
        "embeddings minilm": (0, 0.125),
        "chat gpt-4o-mini": (0.5, 1.5),
    }
    kinds = {name: span.kind for name, span in spans.items()}
    assert kinds.pop("invoke_workflow") == kinds.pop("embeddings minilm") == SpanKind.INTERNAL
    assert set(kinds.values()) == {SpanKind.CLIENT}


def test_what_the_spans_say() -> None:
    """Usage, model, provider and times in the conventions' words, the rest in ours; what is absent is left out."""
    sink = emitted(a_query())
    assert attributes(sink, "chat gpt-4o-mini") == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 1200,
        "gen_ai.usage.output_tokens": 300,
        "gen_ai.usage.cache_read.input_tokens": 1024,
        "gen_ai.usage.reasoning.output_tokens": 200,
        "hybrid_rag.adapter": "brand@1",
        "hybrid_rag.busy_s": 1.0,
        "hybrid_rag.status": "ok",
        "hybrid_rag.usage.source": "reported",
    }
    assert attributes(sink, "embeddings minilm") == {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "local",
        "gen_ai.request.model": "minilm",
        "gen_ai.usage.input_tokens": 9,
        "hybrid_rag.busy_s": 0.125,
        "hybrid_rag.status": "ok",
        "hybrid_rag.usage.source": "extracted",
    }
    assert attributes(sink, "retrieval graph") == {
        "gen_ai.operation.name": "retrieval",
        "gen_ai.data_source.id": "graph",
    }
    root = attributes(sink, "invoke_workflow")
    assert root["gen_ai.operation.name"] == "invoke_workflow"
    assert root["hybrid_rag.trace_id"] == "q1"
    assert (root["hybrid_rag.route"], root["hybrid_rag.answer"]) == ("hybrid", "generated")
    assert (root["hybrid_rag.tenant"], root["hybrid_rag.tag.question"]) == ("acme", "q17")
    assert root["hybrid_rag.stage.graph.wall_s"] == 0.375
    assert "hybrid_rag.user" not in root
    assert "hybrid_rag.degraded" not in root


@pytest.mark.parametrize(
    ("provider", "said"), [("x-ai", "x_ai"), ("azure", "azure.ai.openai"), ("groq", "groq"), (None, "unknown")]
)
def test_providers_have_the_conventions_names(provider: str | None, said: str) -> None:
    """genai-prices calls some of them otherwise; the conventions want one for every call."""
    made = a_query()
    sink = emitted(replace(made, calls=(replace(made.calls[1], provider=provider),)))
    assert attributes(sink, "chat gpt-4o-mini")[names.PROVIDER] == said


def test_stages_without_a_store_or_a_model_call() -> None:
    """A retriever that is none of ours is one retrieval; a reranker without a model call of its own is told once."""
    foreign = emitted(
        a_query(stages=(Stage("retrieve", 0, 0.5), Stage("rerank", 0.5, 0.25), Stage("fuse", 0, 0.1)), calls=())
    )
    assert set(foreign.spans()) == {"invoke_workflow", "retrieval", "rerank"}
    assert foreign.spans()["rerank"].kind is SpanKind.INTERNAL
    call = ModelCall("rerank", None, "cohere", None, False, "ok", 0.5, 0.25, None, 0.25, Usage(40, 0))
    called = emitted(a_query(stages=(Stage("rerank", 0.5, 0.25),), calls=(call,)))
    assert [span.name for span in called.kept.get_finished_spans()] == ["rerank", "invoke_workflow"]
    assert attributes(called, "rerank")["gen_ai.provider.name"] == "cohere"


def test_errors_have_a_status_and_a_type() -> None:
    """The query's is what was raised, a call's is not known; what was merely left is no error."""
    made = a_query(status="error", error="ReadTimeout: SECRET took too long")
    sink = emitted(replace(made, calls=(replace(made.calls[1], status="error"),)))
    root, call = sink.spans()["invoke_workflow"], sink.spans()["chat gpt-4o-mini"]
    assert root.status.status_code is call.status.status_code is StatusCode.ERROR
    assert attributes(sink, root.name)["error.type"] == "ReadTimeout"
    assert attributes(sink, call.name)["error.type"] == "_OTHER"
    assert "SECRET" not in everything(sink)
    assert {"_OTHER"} == {
        point.attributes["error.type"] for point in sink.points(names.DURATION) if "chat" in point.attributes.values()
    }
    left = emitted(a_query(status="abandoned"), a_query(status="error", error=None))
    first, second = (span for span in left.kept.get_finished_spans() if span.name == "invoke_workflow")
    assert first.status.status_code is StatusCode.UNSET
    assert (first.attributes or {})["hybrid_rag.status"] == "abandoned"
    assert (second.attributes or {})["error.type"] == "_OTHER"


def test_content_is_left_out_unless_wanted() -> None:
    """Question, prompts, answer and error messages; with `capture_content` in the conventions' form."""
    messages = [ChatMessage("SECRET rules", role=MessageRole.SYSTEM), ChatMessage("SECRET question")]
    given = {"question": "SECRET?", "text": "SECRET!", "prompts": (None, messages)}
    made = a_query(status="error", error="ValueError: SECRET")
    assert "SECRET" not in everything(emitted(made, finished=given, costs=True))
    sink = emitted(made, finished=given, capture_content=True)
    root = attributes(sink, "invoke_workflow")
    assert json.loads(root["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "SECRET?"}]}
    ]
    [answer] = json.loads(root["gen_ai.output.messages"])
    assert (answer["role"], answer["parts"][0]["content"], answer["finish_reason"]) == ("assistant", "SECRET!", "error")
    asked = json.loads(attributes(sink, "chat gpt-4o-mini")["gen_ai.input.messages"])
    assert [(each["role"], each["parts"][0]["content"]) for each in asked] == [
        ("system", "SECRET rules"),
        ("user", "SECRET question"),
    ]
    assert "gen_ai.input.messages" not in attributes(sink, "embeddings minilm")
    assert sink.spans()["invoke_workflow"].status.description == "ValueError: SECRET"


def test_a_missing_store_is_named_without_the_message_of_its_error() -> None:
    """A message may quote the question, a URL, a row; the class says what kind of failure it was."""
    lost = (
        "graph: StoreUnavailableError: no node for: SECRET",
        "vector: TimeoutError",
        "keyword: SECRET of one who writes reasons otherwise",
        "the language model gave no answer",
    )
    made = a_query(degraded=lost)
    told = attributes(emitted(made), "invoke_workflow")["hybrid_rag.degraded"]
    bare = ("graph: StoreUnavailableError", "vector: TimeoutError", "keyword", "the language model gave no answer")
    assert told == bare
    assert attributes(emitted(made, capture_content=True), "invoke_workflow")["hybrid_rag.degraded"] == lost


def test_costs_are_left_out_unless_wanted() -> None:
    """On chat spans only, so that no sum counts twice; an unpriced call has none, and the query says how many."""
    assert "cost" not in everything(emitted(a_query()))
    sink = emitted(a_query(), costs=True)
    chat = attributes(sink, "chat gpt-4o-mini")
    assert [chat[name] for name in (names.COST_AMOUNT, names.COST_CURRENCY, names.COST_SOURCE)] == [
        0.00028,
        "USD",
        "local",
    ]
    assert not any("cost" in name for name in attributes(sink, "embeddings minilm"))
    root = attributes(sink, "invoke_workflow")
    assert "hybrid_rag.cost.amount" not in root  # the embedding has no price
    assert (root["hybrid_rag.cost.known"], root["hybrid_rag.cost.unpriced_calls"]) == (0.00028, 1)
    assert not any(name.startswith("gen_ai.usage") for name in root)


def test_metrics_and_their_buckets() -> None:
    """Durations of every operation, tokens of every counted call, with the conventions' boundaries."""
    sink = emitted(a_query(), a_query())
    durations = {tuple(sorted(point.attributes.items())): point for point in sink.points(names.DURATION)}
    chat = durations[
        tuple(sorted({names.OPERATION: "chat", names.PROVIDER: "openai", names.MODEL: "gpt-4o-mini"}.items()))
    ]
    assert (chat.count, chat.sum) == (2, 2.0)
    assert tuple(chat.explicit_bounds) == names.DURATION_BUCKETS
    assert durations[((names.OPERATION, "retrieval"),)].count == 4
    tokens = {
        (point.attributes[names.MODEL], point.attributes[names.TOKEN_TYPE]): point
        for point in sink.points(names.TOKEN_USAGE)
    }
    assert {key: point.sum for key, point in tokens.items()} == {
        ("gpt-4o-mini", "input"): 2400,
        ("gpt-4o-mini", "output"): 600,
        ("minilm", "input"): 18,
    }
    assert tuple(tokens["minilm", "input"].explicit_bounds) == names.TOKEN_USAGE_BUCKETS


def test_estimated_tokens_are_reported_only_when_wanted() -> None:
    """The conventions ask for billable ones; who counted is said in any case."""
    made = a_query()
    made = replace(made, calls=(replace(made.calls[1], usage=Usage(10, 5, source="estimated")),))
    sink = emitted(made)
    assert sink.points(names.TOKEN_USAGE) == []
    chat = attributes(sink, "chat gpt-4o-mini")
    assert chat["hybrid_rag.usage.source"] == "estimated"
    assert not any(name.startswith("gen_ai.usage") for name in chat)
    wanted = emitted(made, estimated_tokens=True)
    assert [point.sum for point in wanted.points(names.TOKEN_USAGE)] == [10, 5]
    assert attributes(wanted, "chat gpt-4o-mini")["gen_ai.usage.input_tokens"] == 10


def test_a_foreign_trace_is_joined_and_not_split() -> None:
    """Concurrent askers with spans of their own, exported later by one thread: each query under its asker's span."""
    sink = Sink()
    exporter = sink.exporter()
    foreign = sink.tracers.get_tracer("somebody else's")
    waiting: list[Finished] = []
    all_asking = threading.Barrier(8)

    def ask(who: str) -> None:
        with foreign.start_as_current_span(who):
            all_asking.wait(timeout=5)
            waiting.append(Finished(a_query(id=who), context=exporter.context()))
            all_asking.wait(timeout=5)

    askers = [threading.Thread(target=ask, args=(f"asker-{number}",)) for number in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    waiting.append(Finished(a_query(id="alone"), context=exporter.context()))
    with foreign.start_as_current_span("the exporting thread's own"):
        for finished in waiting:
            exporter.export(finished)
    emitted_spans = sink.kept.get_finished_spans()
    asked = {span.name: span.context for span in emitted_spans if span.name.startswith("asker")}
    roots = {
        (span.attributes or {})["hybrid_rag.trace_id"]: span for span in emitted_spans if span.name == "invoke_workflow"
    }
    assert roots.keys() == {*asked, "alone"}
    for who, context in asked.items():
        parent = roots[who].parent
        assert parent is not None
        assert (parent.trace_id, parent.span_id) == (context.trace_id, context.span_id)
        assert sum(span.context.trace_id == context.trace_id for span in emitted_spans) == 6
    assert roots["alone"].parent is None
    assert len({span.context.trace_id for span in emitted_spans}) == 10


def test_who_is_not_sampled_stays_so() -> None:
    """A foreign trace that its tracer left out is left out here."""
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

    sink = Sink()
    exporter = sink.exporter()
    with use_span(NonRecordingSpan(SpanContext(7, 9, is_remote=False, trace_flags=TraceFlags(0)))):
        finished = Finished(a_query(), context=exporter.context())
    exporter.export(finished)
    assert sink.spans() == {}


def test_noting_the_open_span_is_quick() -> None:
    """At most 2 microseconds of CPU, on the thread that asks; a quarter of it when last measured."""
    sink = Sink()
    exporter = sink.exporter()

    def cost() -> float:
        before = time.thread_time()
        for _ in range(2000):
            exporter.context()
        return (time.thread_time() - before) / 2000

    with sink.tracers.get_tracer("x").start_as_current_span("asking"):
        assert min(cost() for _ in range(10)) < 2e-6


@pytest.mark.parametrize("edge", ["unicode", "hostile", "no models", "only ledgers", "uncounted"])
def test_awkward_traces_can_be_sent(edge: str) -> None:
    """Whatever is in a name can be written in UTF-8, so that no batch of spans is lost with it."""
    made = EDGES[edge]()
    sink = emitted(*made, finished={"question": "half \ud800", "text": "half \ud800"}, capture_content=True, costs=True)
    roots = [span for span in sink.kept.get_finished_spans() if span.name == "invoke_workflow"]
    assert len(roots) == len(made)
    for span in sink.kept.get_finished_spans():
        texts: Sequence[Any] = [span.name, span.status.description or "", *(span.attributes or {}).values()]
        assert all(str(text).encode() is not None for text in texts)


def test_without_the_sdk_nothing_happens() -> None:
    """With OpenTelemetry's API alone, every call does nothing, and none asks for the SDK."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SDK], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(TESTS)}
    )
    assert done.stdout == "fine []\n"


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library: which extra brings it."""
    monkeypatch.setattr("llama_index_hybridmem.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"llama-index-hybridmem\[otel\]"):
        OpenTelemetryTraces()


def test_a_rented_model_of_ones_own_is_no_remote_call() -> None:
    """`local` runs in this process or on a machine of one's own: internal, and its tokens are counted all the same."""
    made = trace("x", "parametric")
    sink = emitted(made)
    assert sink.spans()["chat smollm2-135m"].kind is SpanKind.INTERNAL
