"""Tests of the hybrid retriever: stores side by side, degradation, embedding, reports and events."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.evaluation import RetrieverEvaluator
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.dispatcher import instrument_tags
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.base import BaseEvent
from llama_index.core.instrumentation.events.retrieval import RetrievalStartEvent
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index_instrumentation.span import active_span_id

from llama_index_hybridmem.branches import in_thread
from llama_index_hybridmem.errors import (
    AllStoresFailedError,
    BranchTimeoutError,
    BreakerOpenError,
    ConfigurationError,
    EncoderError,
    FilterError,
    StoreUnavailableError,
    UnknownRouteError,
)
from llama_index_hybridmem.events import BranchEndEvent, FusionEndEvent
from llama_index_hybridmem.retriever import HybridRetriever, LiveSource, RetrievalReport, Store, retrieval_report

Retrieve = Callable[[HybridRetriever, Any], "list[NodeWithScore]"]


class Fixed(BaseRetriever):
    """Returns the given nodes, and remembers the query bundles it was asked with."""

    def __init__(self, *nodes: NodeWithScore | TextNode, embed_model: BaseEmbedding | None = None) -> None:
        super().__init__()
        self.nodes = [n if isinstance(n, NodeWithScore) else NodeWithScore(node=n, score=1.0) for n in nodes]
        self.asked: list[QueryBundle] = []
        if embed_model is not None:
            self._embed_model = embed_model

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        self.asked.append(query_bundle)
        return self.nodes


class Doing(BaseRetriever):
    """Calls a function; what it returns are the nodes."""

    def __init__(self, function: Callable[[QueryBundle], Sequence[NodeWithScore]]) -> None:
        super().__init__()
        self.function = function

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return list(self.function(query_bundle))


class Counting(BaseEmbedding):
    """Embeds every text as one number and counts how often it is asked."""

    value: float = 1.0
    calls: list[str] = []
    fails: bool = False

    def _get_query_embedding(self, query: str) -> list[float]:
        self.calls.append(query)
        if self.fails:
            raise RuntimeError("CUDA out of memory")
        return [self.value]

    def _get_text_embedding(self, text: str) -> list[float]:
        return [self.value]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        raise AssertionError("the query is embedded on a thread of its own")


class Recorder(BaseEventHandler):
    """Keeps every event."""

    events: list[BaseEvent] = []

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """Keep it."""
        self.events.append(event)

    def of(self, kind: type[BaseEvent]) -> list[Any]:
        """The events of one class."""
        return [event for event in self.events if type(event) is kind]


def sync(retriever: HybridRetriever, query: Any) -> list[NodeWithScore]:
    """Ask from plain code."""
    return retriever.retrieve(query)


def on_a_loop(retriever: HybridRetriever, query: Any) -> list[NodeWithScore]:
    """Ask on an event loop."""
    return asyncio.run(retriever.aretrieve(query))


@pytest.fixture(params=[sync, on_a_loop], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Retrieve:
    """Both ways in."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What hanging stores wait for."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A handler on the root dispatcher, taken off again."""
    handler, root = Recorder(), get_dispatcher()
    root.add_event_handler(handler)
    yield handler
    root.event_handlers.remove(handler)


def node(name: str, **metadata: Any) -> TextNode:
    """A node whose id and text are its name."""
    return TextNode(id_=name, text=name, metadata=metadata)


def ids(nodes: Sequence[NodeWithScore]) -> list[str]:
    """The order alone."""
    return [each.node.node_id for each in nodes]


def fail(error: BaseException) -> Doing:
    """A store that raises."""

    def raise_it(_: QueryBundle) -> Sequence[NodeWithScore]:
        raise error

    return Doing(raise_it)


def hang(gate: threading.Event) -> Doing:
    """A store that does not come back."""
    return Doing(lambda _: [] if gate.wait(60) else [])


def test_stores_are_fused_by_weighted_rank(ask: Retrieve) -> None:
    """Agreement wins; store weights count; ``weights`` overrides them by name."""
    stores = [
        Store("vector", Fixed(node("a"), node("b"))),
        Store("keyword", Fixed(node("b"), node("c")), weight=0.5),
    ]
    nodes = ask(HybridRetriever(stores), "q")
    assert ids(nodes) == ["b", "a", "c"]
    assert nodes[0].score == pytest.approx(1 / 62 + 0.5 / 61)
    assert nodes[0].node.metadata["hybridmem"]["stores"] == {
        "vector": {"rank": 2, "score": 1.0},
        "keyword": {"rank": 1, "score": 1.0},
    }
    assert ids(ask(HybridRetriever(stores, weights={"keyword": 9.0}), "q")) == ["b", "c", "a"]


def test_score_mode_and_top_k(ask: Retrieve) -> None:
    """mode="score" fuses scores; similarity_top_k cuts after fusion."""
    vector = Fixed(*(NodeWithScore(node=node(name), score=score) for name, score in [("a", 0.9), ("b", 0.1)]))
    keyword = Fixed(
        *(NodeWithScore(node=node(name), score=score) for name, score in [("c", 9.0), ("a", 8.0), ("b", 0.0)])
    )
    retriever = HybridRetriever({"v": vector, "k": keyword}, mode="score", similarity_top_k=2)
    nodes = ask(retriever, "q")
    assert [(each.node.node_id, each.score) for each in nodes] == [
        ("a", pytest.approx((1 + 8 / 9) / 2)),
        ("c", pytest.approx(0.5)),
    ]


def test_stores_are_asked_at_the_same_time(ask: Retrieve) -> None:
    """Three stores that wait for one another answer only when they run side by side."""
    together = threading.Barrier(3)
    stores = [Store(name, Doing(lambda _: [] if together.wait(20) else []), deadline_s=20) for name in "abc"]
    with retrieval_report() as report:
        assert ask(HybridRetriever(stores), "q") == []
    assert [outcome.status for outcome in report.outcomes] == ["ok"] * 3


def test_a_failed_and_a_late_store_leave_an_answer_from_the_rest(
    ask: Retrieve, gate: threading.Event, recorder: Recorder
) -> None:
    """The reason stands in the report, on the nodes and in an event; a RuntimeError stays that error."""
    stores = [
        Store("vector", Fixed(node("a"))),
        Store("gpu", fail(RuntimeError("CUDA out of memory"))),
        Store("graph", hang(gate), deadline_s=0.02),
    ]
    with retrieval_report() as report:
        nodes = ask(HybridRetriever(stores), "q")
    assert ids(nodes) == ["a"]
    reasons = [
        "gpu: RuntimeError: CUDA out of memory",
        "graph: BranchTimeoutError: graph did not answer within 0.02 s",
    ]
    assert report.degraded == reasons
    assert nodes[0].node.metadata["hybridmem"]["degraded"] == reasons
    ended = {event.store: (event.status, event.node_count, event.error) for event in recorder.of(BranchEndEvent)}
    assert ended == {
        "vector": ("ok", 1, None),
        "gpu": ("failed", 0, "RuntimeError: CUDA out of memory"),
        "graph": ("late", 0, "BranchTimeoutError: graph did not answer within 0.02 s"),
    }
    (fusion,) = recorder.of(FusionEndEvent)
    assert (fusion.mode, fusion.node_count, fusion.degraded) == ("rrf", 1, reasons)


def test_all_stores_failing_is_one_error_that_names_each_cause(ask: Retrieve, gate: threading.Event) -> None:
    """Nothing came back: one error of ours, with every store's own exception; the report is filled all the same."""
    boom = ValueError("no such collection")
    retriever = HybridRetriever([Store("vector", fail(boom)), Store("graph", hang(gate), deadline_s=0.02)])
    with (
        retrieval_report() as report,
        pytest.raises(AllStoresFailedError, match="vector: ValueError: no such") as raised,
    ):
        ask(retriever, "q")
    assert raised.value.causes["vector"] is boom
    assert isinstance(raised.value.causes["graph"], BranchTimeoutError)
    assert raised.value.__cause__ is boom
    assert [outcome.status for outcome in report.outcomes] == ["failed", "late"]


def test_an_empty_store_is_no_failure(ask: Retrieve) -> None:
    """Zero results are an answer: no degradation, no error, even when all stores are empty."""
    with retrieval_report() as report:
        assert ask(HybridRetriever({"a": Fixed(), "b": Fixed()}), "q") == []
    assert report.degraded == []


def test_a_hanging_store_is_skipped_after_four_and_asked_again_when_one_call_comes_back(
    ask: Retrieve, gate: threading.Event
) -> None:
    """Four abandoned calls open the store's breaker, for its views too; no thread is spent on it until it recovers."""
    asked: list[int] = []

    def hang_on(_: QueryBundle) -> Sequence[NodeWithScore]:
        asked.append(1)
        gate.wait(60)
        return []

    graph = Doing(hang_on)
    retriever = HybridRetriever([Store("vector", Fixed(node("a"))), Store("graph", graph, deadline_s=0.01)])
    for _ in range(6):
        assert ids(ask(retriever, "q")) == ["a"]
    assert len(asked) == 4
    with pytest.raises(AllStoresFailedError) as raised:
        ask(retriever.with_stores(["graph"]), "q")
    assert isinstance(raised.value.causes["graph"], BreakerOpenError)
    gate.set()
    end = time.monotonic() + 10
    while not answers(retriever.with_stores(["graph"]), ask):
        assert time.monotonic() < end, "the breaker never closed"
        time.sleep(0.002)


def test_a_store_without_its_server_is_skipped_and_tried_again_by_one_query(ask: Retrieve) -> None:
    """Four queries find no server, the next are not held up by it, a later one finds it back; health tells each."""
    found: list[TextNode] = []
    asked: list[int] = []

    def look(_: QueryBundle) -> Sequence[NodeWithScore]:
        asked.append(1)
        if not found:
            raise StoreUnavailableError("Neo4j at bolt://db:7687 did not answer within 2 s")
        return [NodeWithScore(node=each) for each in found]

    retriever = HybridRetriever({"vector": Fixed(node("a")), "graph": Doing(look)}, retry_s=0.2)
    states = []
    for _ in range(6):
        states.append(retriever.health()["graph"]["state"])
        assert ids(ask(retriever, "q")) == ["a"]
    assert states == ["closed"] * 4 + ["open"] * 2
    assert len(asked) == 4
    health = json.loads(json.dumps(retriever.health()))
    assert health["vector"] == {"state": "closed", "hanging": 0, "misses": 0, "retry_in_s": None, "error": None}
    graph = health["graph"]
    assert (graph["state"], graph["hanging"], graph["misses"]) == ("open", 0, 4)
    assert 0 < graph["retry_in_s"] <= 0.2
    assert graph["error"] == "StoreUnavailableError: Neo4j at bolt://db:7687 did not answer within 2 s"
    found.append(node("b"))
    end = time.monotonic() + 10
    while ids(ask(retriever, "q")) != ["a", "b"]:
        assert time.monotonic() < end, "the store was never tried again"
        time.sleep(0.01)
    assert len(asked) == 5
    assert retriever.health()["graph"]["state"] == "closed"
    assert list(retriever.with_stores(["graph"]).health()) == ["graph"]


def answers(retriever: HybridRetriever, ask: Retrieve) -> bool:
    """Whether any store answers."""
    try:
        ask(retriever, "q")
    except AllStoresFailedError:
        return False
    return True


def test_no_deadline_is_no_limit(ask: Retrieve) -> None:
    """deadline_s=None waits for a slow store."""
    slow = Doing(lambda _: [NodeWithScore(node=node("a"))] if not time.sleep(0.1) else [])
    assert ids(ask(HybridRetriever([Store("slow", slow, deadline_s=None)]), "q")) == ["a"]


async def test_cancelling_returns_at_once(gate: threading.Event) -> None:
    """A cancelled aretrieve does not wait for its stores."""
    started = threading.Event()

    def hang_on(_: QueryBundle) -> Sequence[NodeWithScore]:
        started.set()
        gate.wait(60)
        return []

    task = asyncio.ensure_future(HybridRetriever([Store("graph", Doing(hang_on), deadline_s=60)]).aretrieve("q"))
    assert await in_thread(started.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not gate.is_set()


async def test_a_store_with_use_async_is_awaited_on_the_loop() -> None:
    """use_async awaits the retriever's own aretrieve in the caller's thread, under the same deadline."""
    where: list[int] = []

    class Native(Fixed):
        async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            where.append(threading.get_ident())
            if query_bundle.query_str == "slow":
                await asyncio.sleep(60)
            return self.nodes

    retriever = HybridRetriever(
        [Store("native", Native(node("a")), use_async=True, deadline_s=0.3), Store("other", Fixed(node("b")))]
    )
    assert ids(await retriever.aretrieve("q")) == ["a", "b"]
    assert where == [threading.get_ident()]
    assert ids(await retriever.aretrieve("slow")) == ["b"]


def test_the_query_is_embedded_once_per_model(ask: Retrieve) -> None:
    """Two stores share one model, a third has another, a fourth names its own; each gets its model's vector."""
    first, second = Counting(value=1.0, calls=[]), Counting(value=2.0, calls=[])
    a, b = Fixed(embed_model=first), Fixed(embed_model=first)
    c, d = Fixed(embed_model=second), Fixed()
    stores = [Store("a", a), Store("b", b), Store("c", c), Store("d", d, embed_model=second), Store("e", e := Fixed())]
    with retrieval_report() as report:
        ask(HybridRetriever(stores), QueryBundle("q", custom_embedding_strs=["x", "y"], image_path="i.png"))
    assert (first.calls, second.calls) == (["x", "y"], ["x", "y"])
    assert [store.asked[0].embedding for store in (a, b, c, d, e)] == [[1.0], [1.0], [2.0], [2.0], None]
    assert {(q.query_str, q.image_path, *q.custom_embedding_strs) for s in (a, b, c, d, e) for q in s.asked} == {
        ("q", "i.png", "x", "y")
    }
    assert report.embed_latency_s is not None
    assert report.embed_latency_s > 0


def test_each_branch_has_a_query_of_its_own(ask: Retrieve) -> None:
    """What one retriever writes on its bundle reaches neither another nor the caller's."""

    def scribble(query: QueryBundle) -> Sequence[NodeWithScore]:
        query.embedding.append(9.0)
        query.custom_embedding_strs.append("more")
        query.query_str = "changed"
        return []

    model = Counting(calls=[])
    scribbler, other = Doing(scribble), Fixed(embed_model=model)
    scribbler._embed_model = model
    mine = QueryBundle("q", custom_embedding_strs=["x"], embedding=[5.0])
    ask(HybridRetriever({"scribbler": scribbler, "other": other}), mine)
    assert mine == QueryBundle("q", custom_embedding_strs=["x"], embedding=[5.0])
    assert other.asked == [mine]
    assert model.calls == [], "the caller's own embedding is used"


def test_a_callers_embedding_is_not_used_for_two_models(ask: Retrieve) -> None:
    """With two models nobody knows whose the caller's embedding is: both embed for themselves."""
    a, b = Fixed(embed_model=Counting(value=1.0, calls=[])), Fixed(embed_model=Counting(value=2.0, calls=[]))
    ask(HybridRetriever({"a": a, "b": b}), QueryBundle("q", embedding=[5.0]))
    assert [store.asked[0].embedding for store in (a, b)] == [[1.0], [2.0]]


def test_an_empty_query_is_not_embedded(ask: Retrieve) -> None:
    """There is nothing to embed in an empty string; the stores are asked all the same."""
    model = Counting(calls=[])
    store = Fixed(node("a"), embed_model=model)
    assert ids(ask(HybridRetriever({"a": store}), "")) == ["a"]
    assert (model.calls, store.asked[0].embedding) == ([], None)


def test_a_retriever_that_makes_no_use_of_embeddings_does_not_wait_for_one(ask: Retrieve) -> None:
    """LlamaIndex's VectorIndexRetriever in a sparse mode has a model but needs no embedding."""
    model = Counting(calls=[])
    store = Fixed(embed_model=model)
    store._needs_embedding = lambda: False  # type: ignore[attr-defined]
    ask(HybridRetriever({"sparse": store}), "q")
    assert model.calls == []


def test_a_model_for_stores_that_need_one_and_have_none(ask: Retrieve) -> None:
    """HybridRetriever(embed_model=) serves a retriever that says needs_embedding."""
    needy, plain = Fixed(), Fixed()
    needy.needs_embedding = True  # type: ignore[attr-defined]
    ask(HybridRetriever({"needy": needy, "plain": plain}, embed_model=Counting(value=3.0, calls=[])), "q")
    assert [store.asked[0].embedding for store in (needy, plain)] == [[3.0], None]


def test_a_failing_encoder_fails_only_the_stores_that_need_it(ask: Retrieve) -> None:
    """Vector search is lost; keyword search and a graph that can do without embeddings still answer."""
    broken = Counting(calls=[], fails=True)
    graph = Fixed(node("g"), embed_model=broken)
    graph.needs_embedding = False  # type: ignore[attr-defined]
    stores = {"vector": Fixed(node("v"), embed_model=broken), "keyword": Fixed(node("k")), "graph": graph}
    with retrieval_report() as report:
        assert ids(ask(HybridRetriever(stores), "q")) == ["g", "k"]
    assert [outcome.status for outcome in report.outcomes] == ["failed", "ok", "ok"]
    assert report.outcomes[0].error == (
        "EncoderError: the query could not be embedded: RuntimeError: CUDA out of memory"
    )
    assert report.degraded[0] == "encoder:Counting-1: RuntimeError: CUDA out of memory"
    assert len(broken.calls) == 1
    with pytest.raises(AllStoresFailedError) as raised:
        ask(HybridRetriever({"vector": stores["vector"]}), "q")
    assert isinstance(raised.value.causes["vector"], EncoderError)


def test_a_hanging_encoder_has_its_own_deadline_and_breaker(ask: Retrieve, gate: threading.Event) -> None:
    """Embedding is a branch too: late, it costs the vector store, not the query, and opens no store's breaker."""

    class Hung(Counting):
        def _get_query_embedding(self, query: str) -> list[float]:
            self.calls.append(query)
            gate.wait(60)
            return [0.0]

    model = Hung(calls=[])
    stores = {"vector": Fixed(node("v"), embed_model=model), "keyword": Fixed(node("k"))}
    retriever = HybridRetriever(stores, embed_deadline_s=0.02)
    for _ in range(6):
        with retrieval_report() as report:
            assert ids(ask(retriever, "q")) == ["k"]
    assert len(model.calls) == 4
    assert report.degraded[0].startswith(
        "encoder:Hung-1: BreakerOpenError: encoder:Hung-1 skipped: 4 earlier calls have not come back; next try in "
    )
    assert report.degraded[0].endswith("; last miss: BranchTimeoutError: encoder:Hung-1 did not answer within 0.02 s")
    health = retriever.health()
    assert list(health) == ["vector", "keyword", "encoder:Hung-1"]
    assert [each["state"] for each in health.values()] == ["closed", "closed", "open"]
    assert [outcome.status for outcome in report.outcomes] == ["failed", "ok"]


def test_keyword_search_does_not_wait_for_the_encoder(ask: Retrieve) -> None:
    """A store that needs no embedding runs beside the encoder, not after it."""
    asked = threading.Event()

    class Waiting(Counting):
        def _get_query_embedding(self, query: str) -> list[float]:
            assert asked.wait(20), "the keyword store was not asked meanwhile"
            return [1.0]

    keyword = Doing(lambda _: [] if asked.set() else [])
    with retrieval_report() as report:
        ask(HybridRetriever({"vector": Fixed(embed_model=Waiting(calls=[])), "keyword": keyword}), "q")
    assert report.degraded == []


def test_a_stores_filter_guards_what_its_retriever_returns(ask: Retrieve) -> None:
    """Nodes outside the filter never appear; top_k counts what is left; the other store is not filtered by it."""
    mixed = Fixed(node("a", tenant="x"), node("b", tenant="y"), node("c", tenant="x"), node("d", tenant="x"))
    tenant = {"key": "tenant", "operator": "==", "value": "x"}
    filtered = Store("filtered", mixed, filters={"condition": "and", "filters": [tenant]}, top_k=2)
    assert ids(ask(HybridRetriever([filtered]), "q")) == ["a", "c"]
    assert sorted(ids(ask(HybridRetriever([filtered, Store("open", Fixed(node("b", tenant="y")))]), "q"))) == list(
        "abc"
    )
    with pytest.raises(FilterError):
        HybridRetriever([Store("a", mixed, filters=[{"key": 1}])])


def test_the_stores_and_callers_nodes_are_untouched(ask: Retrieve) -> None:
    """Returned nodes are copies: scores, metadata and excluded keys of the originals stay as they were."""
    store = Fixed(node("a", tags=["t"]), node("b"))
    before = [each.model_dump_json() for each in store.nodes]
    nodes = ask(HybridRetriever({"one": store, "two": store}), "q")
    for each in nodes:
        each.node.metadata["tags"] = "changed"
        each.score = 99.0
    assert [each.model_dump_json() for each in store.nodes] == before


def test_a_live_source_stands_among_the_stores(ask: Retrieve) -> None:
    """A function is a store like any other; its nodes say when they were read."""
    live = LiveSource(lambda question: [f"{question}: 42 EUR"])
    nodes = ask(HybridRetriever({"vector": Fixed(node("a")), "prices": live}), "price")
    read = next(each for each in nodes if each.node.node_id != "a")
    assert read.node.get_content() == "price: 42 EUR"
    assert "read_at" in read.node.metadata


def test_the_report_says_what_everything_took(ask: Retrieve) -> None:
    """Per-branch, embedding and fusion latency, as plain JSON; several retrievals under one report add up."""
    retriever = HybridRetriever(
        {"a": Fixed(node("a"), embed_model=Counting(calls=[])), "b": Fixed(node("b"), node("a"))}
    )
    with retrieval_report() as report:
        ask(retriever, "one")
        once = json.loads(json.dumps(report.to_json()))
        ask(retriever, "two")
    assert [(o["store"], o["status"], o["node_count"], o["error"]) for o in once["outcomes"]] == [
        ("a", "ok", 1, None),
        ("b", "ok", 2, None),
    ]
    assert all(outcome["latency_s"] > 0 for outcome in once["outcomes"])
    assert once["embed_latency_s"] > 0
    assert once["fuse_latency_s"] > 0
    assert len(report.outcomes) == 4
    assert report.fuse_latency_s > once["fuse_latency_s"]


def test_models_embed_side_by_side_and_retrievals_one_after_the_other() -> None:
    """Of one retrieval's models the slowest counts; two retrievals add up; none leaves None."""
    report = RetrievalReport()
    report.add_branches([], [], [])
    assert report.embed_latency_s is None
    report.add_branches([], [], [0.25, 0.5])
    report.add_branches([], [], [0.125])
    assert report.embed_latency_s == 0.625


async def test_reports_of_concurrent_queries_do_not_mix() -> None:
    """Eight queries at once in one loop: each report holds its own branches only."""
    together = threading.Barrier(8)

    async def one(number: int) -> list[str]:
        retriever = HybridRetriever(
            [Store(f"s{number}", Doing(lambda _: [] if together.wait(20) else []), deadline_s=20)]
        )
        with retrieval_report() as report:
            await retriever.aretrieve("q")
        return [outcome.store for outcome in report.outcomes]

    assert await asyncio.gather(*map(one, range(8))) == [[f"s{number}"] for number in range(8)]


def test_a_hybrid_retriever_as_a_store_keeps_its_details_to_itself(ask: Retrieve) -> None:
    """Nesting works; the outer report names the outer stores only."""
    inner = HybridRetriever({"x": Fixed(node("a")), "y": fail(ValueError("no"))})
    with retrieval_report() as report:
        (found,) = ask(HybridRetriever({"inner": inner}), "q")
    assert [outcome.store for outcome in report.outcomes] == ["inner"]
    assert found.node.metadata["hybridmem"]["stores"] == {"inner": {"rank": 1, "score": pytest.approx(1 / 61)}}


def test_credentials_in_an_error_do_not_reach_reports(ask: Retrieve) -> None:
    """A driver's message with a URL loses the URL's password."""
    broken = fail(ConnectionError("no route to bolt://neo4j:s3cret@db:7687"))
    with retrieval_report() as report:
        ask(HybridRetriever({"graph": broken, "vector": Fixed(node("a"))}), "q")
    assert report.degraded == ["graph: ConnectionError: no route to bolt://***@db:7687"]


def test_branches_fire_llama_index_events_with_the_callers_tags_and_span(ask: Retrieve, recorder: Recorder) -> None:
    """The stores' public retrieve is called: their events fire, tagged and inside the hybrid retriever's span."""
    spans: list[str | None] = []

    def look(_: QueryBundle) -> Sequence[NodeWithScore]:
        spans.append(active_span_id.get())
        return []

    with instrument_tags({"tenant": "x"}):
        ask(HybridRetriever({"a": Doing(look), "b": Doing(look)}), "q")
    starts = recorder.of(RetrievalStartEvent)
    assert len(starts) == 3, "the hybrid retriever's own and one per store"
    assert {event.tags.get("tenant") for event in recorder.events} == {"x"}
    assert all(span and span.startswith("Doing") for span in spans)
    assert all(str(event.span_id).startswith("HybridRetriever") for event in recorder.of(BranchEndEvent))


def test_a_view_asks_fewer_stores_and_leaves_the_original_alone(ask: Retrieve) -> None:
    """with_stores: chosen stores in the given order, its own top k; weights and filters stay."""
    whole = HybridRetriever(
        [Store("v", Fixed(node("a"), node("b"))), Store("k", Fixed(node("b"))), Store("g", Fixed(node("c")))],
        weights={"k": 0.0},
    )
    view = whole.with_stores(["k", "v", "k"], top_k=1)
    assert [store.name for store in view.stores] == ["k", "v"]
    assert ids(ask(view, "q")) == ["a"]
    assert [store.name for store in whole.stores] == ["v", "k", "g"]
    assert ids(ask(whole, "q")) == ["a", "c", "b"]
    with pytest.raises(UnknownRouteError, match="unknown name 'x'; known: v, k, g"):
        whole.with_stores(["x"])
    with pytest.raises(ConfigurationError, match="at least one store"):
        whole.with_stores([])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: HybridRetriever([]), "at least one store"),
        (lambda: HybridRetriever([Store("a", Fixed()), Store("a", Fixed())]), "a name of its own"),
        (lambda: HybridRetriever({"a": Fixed()}, weights={"b": 1.0}), "unknown name 'b'"),
        (lambda: HybridRetriever({"a": Fixed()}, weights={"a": -1.0}), "0 or more"),
        (lambda: HybridRetriever({"a": Fixed()}, mode="dense"), '"rrf" or "score"'),
        (lambda: HybridRetriever({"a": Fixed()}, similarity_top_k=0), "similarity_top_k"),
        (lambda: HybridRetriever({"a": Fixed()}, rrf_k=-1), "finite k"),
        (lambda: HybridRetriever({"a": Fixed()}, embed_deadline_s=0), "embed_deadline_s"),
        (lambda: HybridRetriever({"a": Fixed()}, retry_s=0), "retry_s"),
        (lambda: Store("", Fixed()), "not empty"),
        (lambda: Store("encoder:x", Fixed()), "does not start with"),
        (lambda: Store("a", Fixed(), weight=float("nan")), "a: a weight"),
        (lambda: Store("a", Fixed(), deadline_s=0), "a: deadline_s"),
        (lambda: Store("a", Fixed(), deadline_s=float("nan")), "a: deadline_s"),
        (lambda: Store("a", Fixed(), top_k=0), "a: top_k"),
    ],
)
def test_senseless_settings_are_refused_when_made(build: Callable[[], object], message: str) -> None:
    """What cannot work is an error at construction, not at the first query."""
    with pytest.raises(ConfigurationError, match=message):
        build()


def test_real_vector_index_retrievers_share_one_embedding(ask: Retrieve) -> None:
    """LlamaIndex's own VectorIndexRetriever, dense twice: the model is asked once, by us, and never by them."""
    model = Counting(calls=[])
    index = VectorStoreIndex([node("a"), node("b")], embed_model=model)
    stores = {"near": index.as_retriever(similarity_top_k=1), "wide": index.as_retriever(similarity_top_k=2)}
    nodes = ask(HybridRetriever(stores), "q")
    assert sorted(ids(nodes)) == ["a", "b"]
    assert model.calls == ["q"]
    assert nodes[0].node.metadata["hybridmem"]["stores"]["near"]["score"] == pytest.approx(1.0)


def citizen() -> HybridRetriever:
    """A hybrid retriever over a real index and a keyword store."""
    index = VectorStoreIndex([node("DRAM forgets."), node("NAND keeps.")], embed_model=MockEmbedding(embed_dim=2))
    return HybridRetriever({"vector": index.as_retriever(), "keyword": Fixed(node("NAND keeps."))}, similarity_top_k=2)


def test_it_works_inside_a_retriever_query_engine() -> None:
    """Sources carry their note, the prompt holds the texts and not the note."""
    response = RetrieverQueryEngine.from_args(citizen(), llm=MockLLM()).query("What keeps?")
    assert ids(response.source_nodes) == ["NAND keeps.", "DRAM forgets."]
    assert response.source_nodes[0].node.metadata["hybridmem"]["stores"].keys() == {"vector", "keyword"}
    assert "NAND keeps." in str(response)
    assert "hybridmem" not in str(response)
    json.dumps(response.metadata)


async def test_it_works_inside_a_query_fusion_retriever() -> None:
    """LlamaIndex's own fusion takes it as one of its retrievers, sync and async."""
    fusion = QueryFusionRetriever(
        [citizen(), Fixed(node("other"))], llm=MockLLM(), num_queries=1, mode="reciprocal_rerank", use_async=False
    )
    assert "NAND keeps." in ids(fusion.retrieve("q"))
    assert ids(await fusion.aretrieve("q")) == ids(fusion.retrieve("q"))


async def test_it_works_with_a_retriever_evaluator() -> None:
    """LlamaIndex's evaluator scores it by node ids."""
    evaluator = RetrieverEvaluator.from_metric_names(["mrr", "hit_rate"], retriever=citizen())
    measured = await evaluator.aevaluate("q", expected_ids=["DRAM forgets."])
    assert measured.metric_vals_dict == {"mrr": 0.5, "hit_rate": 1.0}


async def test_it_works_in_a_context_chat_engine() -> None:
    """A chat over it has the texts in its context and the nodes as sources."""
    memory = ChatMemoryBuffer.from_defaults(token_limit=1000)  # the default one leaves its SQLite connection open
    chat = ContextChatEngine.from_defaults(retriever=citizen(), llm=MockLLM(), memory=memory)
    for answer in (chat.chat("What keeps?"), await chat.achat("And now?")):
        assert ids(answer.source_nodes) == ["NAND keeps.", "DRAM forgets."]


def test_the_callback_manager_given_is_its_own_and_the_stores_keep_theirs() -> None:
    """One RETRIEVE event per retriever that has the handler; no store's callback manager is replaced."""
    debug = LlamaDebugHandler(print_trace_on_end=False)
    store = Fixed(node("a"))
    kept = store.callback_manager
    HybridRetriever({"a": store}, callback_manager=CallbackManager([debug])).retrieve("q")
    assert len(debug.get_event_pairs(CBEventType.RETRIEVE)) == 1
    assert store.callback_manager is kept


def test_half_a_character_in_a_question_reaches_no_store(ask: Retrieve) -> None:
    """A lone surrogate, which no encoder, file or server takes, becomes "?"; the caller's bundle keeps it."""
    model = Counting(calls=[])
    store = Fixed(node("a"), embed_model=model)
    bundle = QueryBundle("Robert \ud800 Dennard?", custom_embedding_strs=["Dennard \udc00"])
    assert ids(ask(HybridRetriever({"vector": store}), bundle)) == ["a"]
    assert (store.asked[0].query_str, store.asked[0].custom_embedding_strs) == ("Robert ? Dennard?", ["Dennard ?"])
    assert model.calls == ["Dennard ?"]
    assert bundle == QueryBundle("Robert \ud800 Dennard?", custom_embedding_strs=["Dennard \udc00"])
