"""Tests of the handler as a whole: what it keeps, what it lets go, and what no fault of its own or of others breaks."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from decimal import Decimal
from typing import Any

import pytest
from fake_llm import ScriptedLLM
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core import Document, MockEmbedding, QueryBundle, VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent, EmbeddingStartEvent
from llama_index.core.instrumentation.events.exception import ExceptionEvent
from llama_index.core.instrumentation.events.llm import LLMChatEndEvent, LLMChatStartEvent, LLMCompletionStartEvent
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.llms import ChatMessage, ChatResponse
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index_instrumentation import get_dispatcher
from truthful import INPUT, OUTPUT, Native, Wrapped

from llama_index_hybridmem import HybridRouterQueryEngine, tenant
from llama_index_hybridmem.costs.exporting import Finished
from llama_index_hybridmem.costs.handler import CostLatencyHandler
from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.retriever import HybridRetriever
from llama_index_hybridmem.stores import Store

dispatcher = get_dispatcher(__name__)
pytestmark = pytest.mark.filterwarnings("ignore:unclosed (event loop|<socket):ResourceWarning")


class Collecting:
    """An exporter that keeps what it gets, or fails."""

    name = "collecting"

    def __init__(self, fails: str = "") -> None:
        self.got: list[Finished] = []
        self.fails = fails
        self.closed = 0

    def _fail(self, where: str) -> None:
        if where in self.fails:
            raise OSError(f"{where} failed")

    def context(self) -> Any:
        """Note the thread."""
        self._fail("context")
        return threading.get_ident()

    def export(self, finished: Finished) -> None:
        """Keep it."""
        self._fail("export")
        self.got.append(finished)

    def close(self) -> None:
        """Count."""
        self._fail("close")
        self.closed += 1


@pytest.fixture(scope="module")
def index() -> VectorStoreIndex:
    """One document."""
    return VectorStoreIndex.from_documents([Document(text="text")], embed_model=MockEmbedding(embed_dim=4))


@pytest.fixture
def handler() -> Iterator[CostLatencyHandler]:
    """A handler on the instrumentation."""
    with CostLatencyHandler().attach() as attached:
        yield attached


def test_only_the_last_traces_are_kept(index: VectorStoreIndex) -> None:
    """The ring has a bound; what it lets go is counted, and the exporters have had it."""
    exporter = Collecting()
    with CostLatencyHandler(exporters=[exporter], keep=3).attach() as handler:
        for number in range(5):
            with handler.tags(n=str(number)):
                index.as_query_engine(llm=Native()).query(f"query {number}")
        assert [trace.tags["n"] for trace in handler.traces()] == ["2", "3", "4"]
        health = handler.health()
    assert (health["traces"], health["kept"], health["evicted"]) == (5, 3, 2)
    assert health["exporters"] == {"collecting": {"exported": 5, "failed": 0, "last_error": None}}
    assert [finished.trace.tags["n"] for finished in exporter.got] == list("01234")


def test_an_exporter_gets_what_the_trace_leaves_out(index: VectorStoreIndex) -> None:
    """Question, answer, sources, prompts, and what it noted itself on the thread that asked."""
    exporter = Collecting()
    with CostLatencyHandler(exporters=[exporter]).attach() as handler:
        "".join(index.as_query_engine(llm=Native(), streaming=True).query("query 1").response_gen)
        handler.flush()
    (finished,) = exporter.got
    assert (finished.question, finished.text) == ("query 1", "this is the answer 1")
    assert [node.get_content() for node in finished.response.source_nodes] == ["text"]
    assert len(finished.prompts) == len(finished.trace.calls) == 2
    assert "query 1" in str(finished.prompts[1])
    assert finished.context == threading.get_ident()


@pytest.mark.parametrize("fails", ["context", "export", "close", "context export close"])
def test_a_broken_exporter_breaks_nothing(
    index: VectorStoreIndex, caplog: pytest.LogCaptureFixture, fails: str
) -> None:
    """The query goes on, the other exporter gets everything, the fault is logged once and counted."""
    good, bad = Collecting(), Collecting(fails)
    handler = CostLatencyHandler(exporters=[bad, good]).install()
    with caplog.at_level(logging.WARNING, "llama_index_hybridmem"):
        for number in range(3):
            assert str(index.as_query_engine(llm=Native()).query(f"query {number}")) == f"answer {number}"
        handler.close()
    assert len(good.got) == 3
    assert good.closed == 1
    health = handler.health()["exporters"]
    assert health["collecting 2"] == {"exported": 3, "failed": 0, "last_error": None}
    assert health["collecting"]["failed"] == {"context": 3, "export": 3, "close": 1}.get(fails, 7)
    assert "OSError" in health["collecting"]["last_error"]
    assert [record.message for record in caplog.records].count(
        "exporter collecting failed; further failures are only counted"
    ) == 1


def test_a_fault_of_our_own_is_counted(
    handler: CostLatencyHandler, index: VectorStoreIndex, caplog: pytest.LogCaptureFixture
) -> None:
    """LlamaIndex swallows what a handler raises, so the handler counts it, says so once, and goes on."""

    def break_down(event: Any) -> None:
        raise KeyError("a fault")

    handler._events.on[EmbeddingEndEvent] = break_down
    with caplog.at_level(logging.WARNING, "llama_index_hybridmem"):
        for number in range(2):
            assert str(index.as_query_engine(llm=Native()).query(f"query {number}")) == f"answer {number}"
    assert len(handler.traces()) == 2
    health = handler.health()
    assert (health["faults"], health["last_fault"], health["open"]) == (2, "KeyError: 'a fault'", 0)
    assert len(caplog.records) == 1


def test_a_trace_that_cannot_be_made_is_counted(handler: CostLatencyHandler, index: VectorStoreIndex) -> None:
    """It stops neither the thread nor the next query."""
    engine = index.as_query_engine(llm=Native())
    made, handler._pipeline._maker = handler._pipeline._maker, None  # type: ignore[assignment]  # the fault
    engine.query("query 1")
    handler.flush()
    handler._pipeline._maker = made
    engine.query("query 2")
    assert len(handler.traces()) == 1
    assert handler.health()["failed"] == 1


def test_a_kept_trace_is_small(handler: CostLatencyHandler, index: VectorStoreIndex) -> None:
    """At most a kilobyte for a query with a route, an embedding and an answer, and it comes back whole."""
    index.as_query_engine(llm=Native()).query("query 1")
    (trace,) = handler.traces()
    assert (len(trace.stages), len(trace.calls)) == (4, 2)
    (packed,) = handler._pipeline._ring
    assert sys.getsizeof(packed) <= 1024


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"keep": 0}, "at least 1, not 0"),
        ({"max_open": 0}, "at least 1, not"),
        ({"prices": "prices.csv"}, "from_file"),
        ({"exporters": ["traces.jsonl"]}, "JsonlTraces"),
    ],
)
def test_senseless_settings_are_refused(setting: dict[str, Any], said: str) -> None:
    """At once, with the value and what to do."""
    with pytest.raises(ConfigurationError, match=said):
        CostLatencyHandler(**setting)


def test_too_many_open_queries_are_finished_as_they_stand(index: VectorStoreIndex) -> None:
    """An app that never reads its streams, but keeps them, does not fill the memory."""
    with CostLatencyHandler(max_open=5).attach() as handler:
        engine = index.as_query_engine(llm=Native(), streaming=True)
        answers = [engine.query(f"query {number}") for number in range(8)]
        assert handler.health()["open"] == 5
        assert [trace.status for trace in handler.traces()] == ["never_consumed"] * 3
        assert handler.health()["forced"] == 3
        assert len(answers) == 8


def test_uninstalling_finishes_what_is_open(index: VectorStoreIndex) -> None:
    """Streams that are still unread then are traces, too, and can still be read."""
    handler = CostLatencyHandler().install()
    answer = index.as_query_engine(llm=Native(), streaming=True).query("query 1")
    handler.uninstall()
    assert [trace.status for trace in handler.traces()] == ["never_consumed"]
    assert "".join(answer.response_gen) == "this is the answer 1"
    assert handler.health()["open"] == 0


def test_a_query_of_many_calls(handler: CostLatencyHandler) -> None:
    """A graph that a model builds makes thousands: each is counted, and their texts are not kept to the end."""
    llm, silent = Native(), Native(reports=False)
    with handler.query("build"):
        for number in range(150):
            llm.complete(f"query {number}")
        silent.complete("query 1")
        (query,) = handler.tracker.queries.open.values()
        assert [call.prompt for call in query.calls[101:]] == [None] * 50
    (trace,) = handler.traces()
    assert trace.tokens() == (sum(INPUT + n for n in range(150)) + 2, sum(OUTPUT + n for n in range(150)) + 2)


def test_tags_add_up_and_stay_inside(handler: CostLatencyHandler, index: VectorStoreIndex) -> None:
    """Inner tags go over outer ones, None takes one away, and tenant, user, run and phase are fields."""
    engine = index.as_query_engine(llm=Native())
    with handler.tags(tenant="acme", user="u1", colour="red"):
        with handler.tags(run="r1", phase="evaluation", user=None):
            engine.query("query 1")
        engine.query("query 2")
    engine.query("query 3")
    inner, outer, none = handler.traces()
    assert (inner.tenant, inner.user, inner.run, inner.phase, inner.tags) == (
        "acme",
        None,
        "r1",
        "evaluation",
        {"colour": "red"},
    )
    assert (outer.tenant, outer.user, outer.run, outer.phase) == ("acme", "u1", None, "query")
    assert (none.tenant, none.tags) == (None, {})
    with pytest.raises(ConfigurationError, match="phase"), handler.tags(phase="holiday"):
        pass


def test_a_tenant_of_adapters_is_one_of_traces(handler: CostLatencyHandler, index: VectorStoreIndex) -> None:
    """Who is served an adapter is who pays for the query."""
    with tenant("acme"):
        index.as_query_engine(llm=Native()).query("query 1")
    index.as_query_engine(llm=Native()).query("query 2")
    assert [trace.tenant for trace in handler.traces()] == ["acme", None]


def test_what_is_ingested_is_no_query(handler: CostLatencyHandler) -> None:
    """Embedding documents is a phase of its own, untagged."""
    VectorStoreIndex.from_documents([Document(text="text")], embed_model=MockEmbedding(embed_dim=4))
    assert {trace.phase for trace in handler.traces()} == {"ingest"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_measures_for_itself(handler: CostLatencyHandler, index: VectorStoreIndex) -> None:
    """A server that forks its workers after installing loses nothing: the thread is made anew in each."""
    engine = index.as_query_engine(llm=Native())
    engine.query("query 1")
    handler.flush()
    pid = os.fork()
    if not pid:
        engine.query("query 2")
        os._exit(0 if len(handler.traces()) == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(handler.traces()) == 1


def test_a_handler_that_is_gone_leaves_no_thread(index: VectorStoreIndex) -> None:
    """Its thread ends with it."""
    handler = CostLatencyHandler()
    with handler.attach():
        index.as_query_engine(llm=Native()).query("query 1")
    handler.flush()
    thread = handler._pipeline._thread
    assert thread is not None
    del handler
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


def test_the_collector_may_close_a_stream_at_any_moment(handler: CostLatencyHandler) -> None:
    """Also on a thread that is counting just then: that thread does not wait for itself."""

    def collect() -> None:
        stream: Any = Native().stream_complete("query 1")
        next(stream)
        cycle: list[Any] = [stream]
        cycle.append(cycle)
        del stream, cycle
        with handler.tracker.queries.lock:
            gc.collect()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert [trace.status for trace in handler.traces()] == ["abandoned"]


def test_a_block_is_a_query(index: VectorStoreIndex) -> None:
    """Its answer is the last engine's, also one that is read after the block; tags set inside are its own."""
    exporter = Collecting()
    with CostLatencyHandler(exporters=[exporter]).attach() as handler:
        with handler.query("mine"), handler.tags(tenant="acme"):
            answer = index.as_query_engine(llm=Native(), streaming=True).query("query 1")
        assert handler.health()["open"] == 1
        assert "".join(answer.response_gen) == "this is the answer 1"
        handler.flush()
    (finished,) = exporter.got
    assert (finished.trace.kind, finished.trace.name, finished.trace.tenant) == ("query", "mine", "acme")
    assert (finished.text, len(finished.response.source_nodes)) == ("this is the answer 1", 1)
    assert finished.trace.tokens() == (INPUT + 1, OUTPUT + 1)


def test_blocks_may_overlap(index: VectorStoreIndex) -> None:
    """One that ends does not end the others, and one in a callback manager does not begin to see other queries."""
    handler = CostLatencyHandler()
    first, second = handler.attach(), handler.attach()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    index.as_query_engine(llm=Native()).query("query 1")
    second.__exit__(None, None, None)
    assert not handler.installed
    assert len(handler.traces()) == 1


def test_a_closed_handler_stays_closed(index: VectorStoreIndex) -> None:
    """Also where a callback manager still calls it; installed again, it measures again."""
    handler = CostLatencyHandler()
    engine = index.as_query_engine(llm=Native())
    engine.callback_manager = CallbackManager([handler])
    handler.close()
    engine.query("query 1")
    assert (handler.installed, handler.traces()) == (False, [])
    handler.install()
    engine.query("query 2")
    assert len(handler.traces()) == 1
    handler.close()


class Reranker(BaseNodePostprocessor):
    """Tells of itself by events, as some integrations do; fails where it is told to."""

    fails: bool = False

    @classmethod
    def class_name(cls) -> str:
        """Return the class name."""
        return "Reranker"

    def _postprocess_nodes(self, nodes: list[NodeWithScore], query_bundle: Any = None) -> list[NodeWithScore]:
        dispatcher.event(ReRankStartEvent(query="", nodes=nodes, top_n=1, model_name="rerank-v3.5"))
        if self.fails:
            raise OSError("no reranker")
        dispatcher.event(ReRankEndEvent(nodes=nodes))
        return nodes


class CohereRerank(Reranker):
    """Is called like one that is paid for."""


@pytest.mark.parametrize("fails", [False, True])
def test_a_reranker(handler: CostLatencyHandler, index: VectorStoreIndex, fails: bool) -> None:
    """It is a call of its own, with a price, and one stage; one that fails leaves nothing open."""
    engine = index.as_query_engine(llm=Native(), node_postprocessors=[CohereRerank(fails=fails)])
    with pytest.raises(OSError, match="no reranker") if fails else nullcontext():
        engine.query("query 1")
    (trace,) = handler.traces()
    (call,) = [call for call in trace.calls if call.kind == "rerank"]
    assert (call.provider, call.status) == ("cohere", "error" if fails else "ok")
    assert call.cost == Decimal("0.002") or fails
    assert [stage.count for stage in trace.stages if stage.name == "rerank"] == [1]
    assert handler.health()["open"] == 0


def test_whoever_waits_for_a_calls_end_may_fail(handler: CostLatencyHandler, index: VectorStoreIndex) -> None:
    """The query is closed all the same, and the fault counted."""
    began = handler._events.on[LLMCompletionStartEvent]

    def guarded(event: Any) -> None:
        def fail(call: Any) -> None:
            raise OSError("no room")

        began(event)
        handler.tracker.queries.call_at(event.span_id).on_end = fail  # type: ignore[union-attr]  # it has just begun

    handler._events.on[LLMCompletionStartEvent] = guarded
    index.as_query_engine(llm=Native()).query("query 1")
    assert [trace.status for trace in handler.traces()] == ["ok"]
    assert (handler.health()["open"], handler.health()["last_fault"]) == (0, "OSError: no room")


def test_nothing_is_fetched_to_estimate_tokens(handler: CostLatencyHandler) -> None:
    """A model whose tokenizer is a property, which fetches one from the network, is not asked for it."""

    class Fetching(Native):
        @property
        def _tokenizer(self) -> Any:
            raise ConnectionError("no network")

    list(Fetching(reports=False).stream_complete("query 1"))
    (trace,) = handler.traces()
    assert trace.calls[0].usage is not None
    assert trace.calls[0].usage.source == "estimated"


class Passage(BaseRetriever):
    """Finds one passage, or hangs until it is let go, or fails."""

    needs_embedding = False

    def __init__(self, until: threading.Event | None = None, error: Exception | None = None) -> None:
        super().__init__()
        self._until, self._error = until, error

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if self._until is not None:
            self._until.wait(10)
        if self._error is not None:
            raise self._error
        return [NodeWithScore(node=TextNode(id_="p", text="query 1 is about refreshing"), score=0.5)]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_our_own_engine(handler: CostLatencyHandler, is_async: bool) -> None:
    """Its stores are stages with the CPU of their threads; a late and a failed one degrade the answer, with reasons."""
    until = threading.Event()
    stores = [
        Store("vector", Passage()),
        Store("slow", Passage(until), deadline_s=0.05),
        Store("broken", Passage(error=OSError("no route"))),
    ]
    engine = HybridRouterQueryEngine(HybridRetriever(stores), ScriptedLLM(reply="Refreshing."), route="hybrid")
    response = await engine.aquery("refreshing") if is_async else engine.query("refreshing")
    (trace,) = await handler.atraces()
    until.set()
    assert (trace.route, trace.route_source, trace.answer, trace.status) == ("hybrid", "fixed", "generated", "ok")
    assert sorted(reason.partition(":")[0] for reason in trace.degraded) == ["broken", "slow"]
    stages = {stage.name: stage for stage in trace.stages}
    assert set(stages) == {"route", "vector", "slow", "broken", "fuse", "judge", "prompt", "llm"}
    assert stages["vector"].cpu_s is not None
    assert stages["slow"].cpu_s is None
    assert stages["slow"].wall_s >= 0.05
    starts = [stages[name].started_s for name in ("route", "vector", "fuse", "judge", "prompt", "llm")]
    assert starts == sorted(starts)
    assert (trace.cpu_s is None) == is_async
    assert response.metadata["hybridmem"]["trace"] == trace.id
    assert handler.health()["open"] == 0


class Embedding(Passage):
    """Embeds while it searches, as a second hop does."""

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        Slow(embed_dim=2).get_query_embedding(query_bundle.query_str)
        return super()._retrieve(query_bundle)


class Slow(MockEmbedding):
    """Takes its time, and the processor's."""

    def _get_query_embedding(self, query: str) -> list[float]:
        until = time.thread_time() + 0.03
        while time.thread_time() < until:
            pass
        return super()._get_query_embedding(query)


def test_a_store_that_embeds(handler: CostLatencyHandler) -> None:
    """What it embeds is the stage "embed" and no time of its own; the query's CPU has that of all its threads."""
    HybridRetriever([Store("memory", Embedding())]).retrieve("query 1")
    (trace,) = handler.traces()
    stages = {stage.name: stage for stage in trace.stages}
    assert set(stages) == {"memory", "embed", "fuse"}
    assert (stages["embed"].cpu_s or 0) >= 0.03
    assert (stages["memory"].cpu_s or 0) < 0.03 <= (trace.cpu_s or 0)
    assert [(call.kind, call.count) for call in trace.calls] == [("embedding", 1)]


def test_stages_do_not_count_time_twice(handler: CostLatencyHandler, index: VectorStoreIndex) -> None:
    """Of a query that does one thing after the other, the stages' own times add up to no more than the whole."""
    index.as_query_engine(llm=Native()).query("query 1")
    (trace,) = handler.traces()
    assert sum(stage.wall_s for stage in trace.stages) <= trace.wall_s
    assert all(stage.cpu_s is None or stage.cpu_s <= stage.wall_s + 0.001 for stage in trace.stages)


IDS = st.integers(0, 6)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), IDS, st.one_of(st.none(), IDS), st.sampled_from(["llm", "astream", "plain"])),
        st.tuples(st.sampled_from(["leave", "drop", "start", "end", "break", "embed", "embedded"]), IDS),
    ),
    max_size=40,
)


@given(STEPS)
def test_any_order_of_spans_and_events(steps: list[tuple[Any, ...]]) -> None:
    """Lost, doubled and swapped spans and events raise nothing, count no call twice and leave nothing open."""
    handler = CostLatencyHandler()
    instance, message = Wrapped(is_chat=True), ChatMessage(content="query 1")
    started = 0
    for step in steps:
        started += _play(handler, step, instance, message)
    handler.tracker.stop()
    health = handler.health()
    assert (health["faults"], health["open"]) == (0, 0), health
    assert not handler.tracker.queries.spans
    assert not handler.tracker._calls._lazy
    assert all(meter.active == 0 for meter in handler.tracker._calls._meters.values())
    calls = sum(call.kind == "llm" for trace in handler.traces() for call in trace.calls)
    assert calls <= started
    assert handler.health()["failed"] == 0, handler.health()["last_error"]


def _play(handler: CostLatencyHandler, step: tuple[Any, ...], instance: Wrapped, message: ChatMessage) -> int:
    """Do one step; give 1 where a call may have begun."""
    names = {"llm": "Wrapped.stream_chat", "astream": "Wrapped.astream_chat", "plain": "Wrapped.metadata"}
    kind, place = step[0], step[1]
    ids = [f"{names[sorted(names)[each % 3]]}-{each:036d}" for each in range(7)]
    id_ = ids[place]
    spans, handle = handler._spans, handler._events.handle
    if kind == "enter":
        spans.span_enter(id_, None, instance, None if step[2] is None else ids[step[2]])
    elif kind == "leave":
        spans.span_exit(id_, None, instance, iter(()))
    elif kind == "drop":
        spans.span_drop(id_, None, instance, asyncio.CancelledError())
    elif kind == "start":
        handle(LLMChatStartEvent(model_dict={}, messages=[message], additional_kwargs={}, span_id=id_))
        return 1
    elif kind == "end":
        handle(LLMChatEndEvent(messages=[message], response=ChatResponse(message=message), span_id=id_))
    elif kind == "break":
        handle(ExceptionEvent(exception=RuntimeError("broken"), span_id=id_))
    elif kind == "embed":
        handle(EmbeddingStartEvent(model_dict={}, span_id=id_))
    else:
        handle(EmbeddingEndEvent(chunks=["a"], embeddings=[[0.0]], span_id=id_))
    return 0
