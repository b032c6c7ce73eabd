"""The router engine: routes, answers, evidence, citations, streams, and what LlamaIndex expects of an engine."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fake_llm import ScriptedLLM
from fakes import WordsEmbedding
from llama_index.core import Document, PropertyGraphIndex, Settings, VectorStoreIndex
from llama_index.core.agent.workflow import ReActAgent
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.response.schema import (
    RESPONSE_TYPE,
    AsyncStreamingResponse,
    PydanticResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.graph_stores import SimplePropertyGraphStore
from llama_index.core.graph_stores.types import EntityNode, Relation
from llama_index.core.instrumentation.events.llm import LLMCompletionEndEvent
from llama_index.core.instrumentation.span import SimpleSpan
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.selectors import LLMSingleSelector
from llama_index.core.tools import QueryEngineTool
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import instrument_tags
from pydantic import BaseModel
from recorder import Recorder, recorded

from llama_index_hybridmem import HybridMemoryIndex, Route
from llama_index_hybridmem.errors import (
    AllStoresFailedError,
    ConfigurationError,
    NoLLMError,
    NotInSourcesError,
    StoreError,
    UnknownRouteError,
)
from llama_index_hybridmem.events import AbstainEvent, EvidenceEvent, RouteSelectedEvent
from llama_index_hybridmem.query_engine import HybridRouterQueryEngine
from llama_index_hybridmem.retriever import HybridRetriever, Store
from llama_index_hybridmem.routing.decision import RouteDecision
from llama_index_hybridmem.routing.table import RouteSettings

DRAM = "DRAM keeps each bit as charge in a capacitor. It must be refreshed every 64 ms."
OPTANE = "Optane was a phase-change memory made by Intel and Micron, discontinued in 2022."
FACT = "Intel → made → Optane"
REFRESH = "How often must DRAM be refreshed?"
UNKNOWN = "Who directed the film Casablanca?"


class Fixed(BaseRetriever):
    """Returns the same nodes for every question, or fails."""

    def __init__(self, *nodes: TextNode, score: float | None = 0.8, error: Exception | None = None) -> None:
        super().__init__()
        self.nodes, self.score, self.error, self.asked = nodes, score, error, list[str]()

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        self.asked.append(query_bundle.query_str)
        if self.error:
            raise self.error
        return [NodeWithScore(node=node, score=self.score) for node in self.nodes]


def dram(**metadata: Any) -> TextNode:
    """The passage on DRAM."""
    return TextNode(id_="dram", text=DRAM, metadata=metadata)


def optane(**metadata: Any) -> TextNode:
    """The passage on Optane, with a fact from a graph."""
    return TextNode(id_="optane", text=OPTANE, metadata={"hybridmem": {"facts": [FACT]}, **metadata})


def stores() -> dict[str, Any]:
    """Three stores with one passage each or both."""
    return {"vector": Fixed(dram()), "keyword": Fixed(dram(), score=7.5), "graph": Fixed(optane())}


def account(response: RESPONSE_TYPE) -> dict[str, Any]:
    """The engine's own account of an answer, through json."""
    assert response.metadata is not None
    noted: dict[str, Any] = json.loads(json.dumps(response.metadata))["hybridmem"]
    return noted


async def both(engine: HybridRouterQueryEngine, question: str) -> list[RESPONSE_TYPE]:
    """The answers of query and aquery."""
    return [engine.query(question), await engine.aquery(question)]


@pytest.fixture
def events() -> Iterator[Recorder]:
    """All events fired during the test."""
    with recorded() as recorder:
        yield recorder


# --- routes ----------------------------------------------------------------------------------------------------------


async def test_a_question_goes_to_all_memories_and_says_so(events: Recorder) -> None:
    """By default every store is asked; route, stores, timings, evidence and facts are in the JSON metadata."""
    given = stores()
    for response in await both(HybridRouterQueryEngine.from_stores(**given, llm=ScriptedLLM(reply="64 ms")), REFRESH):
        noted = account(response)
        assert str(response) == "64 ms"
        assert (noted["route"], noted["source"], noted["answer"]) == ("hybrid", "rules", "generated")
        assert {name: store["status"] for name, store in noted["stores"].items()} == dict.fromkeys(given, "ok")
        assert noted["stores"]["vector"]["node_count"] == 1
        assert noted["stores"]["vector"]["latency_s"] >= 0
        assert noted["degraded"] == []
        assert noted["evidence"]["sufficient"] is True
        assert noted["facts"] == [{"text": FACT, "source": 2}]
        assert {"route", "retrieve", "judge", "synthesize", "total"} <= noted["timings"].keys()
        assert [each.node.node_id for each in response.source_nodes] == ["dram", "optane"]
        assert set(response.metadata or ()) == {"dram", "optane", "hybridmem"}
    assert [event.route for event in events.of(RouteSelectedEvent)] == ["hybrid"] * 2
    assert all(event.sufficient for event in events.of(EvidenceEvent))


@pytest.mark.parametrize(
    ("route", "asked"),
    [("vector", {"vector", "keyword"}), ("graph", {"graph"}), ("hybrid", {"vector", "keyword", "graph"})],
)
async def test_a_fixed_route_asks_its_stores_only(route: str, asked: set[str]) -> None:
    """The vector route is dense and keyword memory, the graph route the graph."""
    given = stores()
    engine = HybridRouterQueryEngine.from_stores(**given, llm=ScriptedLLM(), route=route)
    for response in await both(engine, "How does DRAM compare with Optane?"):
        assert account(response)["route"] == route
        assert account(response)["stores"].keys() == asked
    assert {name for name, store in given.items() if store.asked} == asked


async def test_the_parametric_route_is_the_model_and_the_plain_question() -> None:
    """A greeting is answered by the model from the bare words: no store is asked, and nothing says "Empty Response"."""
    given, llm = stores(), ScriptedLLM(reply="Hello!")
    engine = HybridRouterQueryEngine.from_stores(**given, llm=llm)
    for response in await both(engine, "Hi"):
        assert str(response) == "Hello!"
        assert (account(response)["route"], account(response)["answer"]) == ("parametric", "parametric")
        assert response.source_nodes == []
    assert llm.prompts == ["Hi", "Hi"]
    assert not any(store.asked for store in given.values())


async def test_selectors_and_policies_choose() -> None:
    """A LlamaIndex selector chooses by its model; a policy's scores are kept; nonsense takes the default route."""
    given, llm = stores(), ScriptedLLM()
    chooser = LLMSingleSelector.from_defaults(llm=ScriptedLLM(reply='[{"choice": 3, "reason": "linked"}]'))
    for response in await both(HybridRouterQueryEngine.from_stores(**given, llm=llm, selector=chooser), REFRESH):
        assert (account(response)["route"], account(response)["reason"]) == ("graph", "linked")
    decision = RouteDecision(Route.VECTOR, "learned", "policy", {"vector": 0.9, "graph": 0.1})
    engine = HybridRouterQueryEngine.from_stores(**given, llm=llm, policy=lambda question: decision)
    assert account(engine.query(REFRESH))["scores"] == {"vector": 0.9, "graph": 0.1}
    lost = LLMSingleSelector.from_defaults(llm=ScriptedLLM(reply='[{"choice": 0, "reason": "?"}]'))
    engine = HybridRouterQueryEngine.from_stores(**given, llm=llm, selector=lost)
    assert (account(engine.query(REFRESH))["route"], account(engine.query(REFRESH))["source"]) == ("hybrid", "fallback")


async def test_a_route_has_its_own_stores_model_prompt_and_top_k() -> None:
    """The routing table replaces what a route uses and leaves the others alone."""
    own = ScriptedLLM(reply="from the graph model")
    table = {
        Route.GRAPH: RouteSettings(
            stores=("graph", "keyword"),
            llm=own,
            text_qa_template=PromptTemplate("GRAPH {context_str} ASKS {query_str}"),
            top_k=1,
        )
    }
    given = stores()
    engine = HybridRouterQueryEngine.from_stores(**given, llm=ScriptedLLM(reply="other"), routes=table, route="graph")
    for response in await both(engine, "DRAM or Optane?"):
        assert str(response) == "from the graph model"
        assert len(response.source_nodes) == 1
    assert own.prompts[0].startswith("GRAPH ")
    assert not given["vector"].asked
    plain = HybridRouterQueryEngine.from_stores(**given, llm=ScriptedLLM(reply="other"), routes=table, route="vector")
    assert str(plain.query(REFRESH)) == "other"


def test_a_route_without_its_stores_is_refused_at_once() -> None:
    """A fixed route, or a table, that names what is not there fails when the engine is made."""
    with pytest.raises(UnknownRouteError, match="graph"):
        HybridRouterQueryEngine.from_stores(vector=Fixed(), route="graph")
    with pytest.raises(UnknownRouteError, match="'web'"):
        HybridRouterQueryEngine.from_stores(vector=Fixed(), routes={"hybrid": RouteSettings(stores=("web",))})
    engine = HybridRouterQueryEngine.from_stores(**stores(), route="graph", response_mode="no_text")
    with pytest.raises(UnknownRouteError, match="graph"):
        engine.with_retriever(Fixed(dram()))
    with pytest.raises(ConfigurationError, match="similarity_top_k"):
        HybridRouterQueryEngine.from_defaults(Fixed(), similarity_top_k=0)
    with pytest.raises(ConfigurationError, match="no_answer"):
        HybridRouterQueryEngine.from_stores(vector=Fixed(), no_answer="guess")


async def test_a_dead_store_degrades_and_all_dead_raise() -> None:
    """One failing store leaves an answer that names it; when all fail the error names each cause."""
    given: dict[str, Any] = {"vector": Fixed(dram()), "graph": Fixed(error=ConnectionError("refused"))}
    for response in await both(HybridRouterQueryEngine.from_stores(**given, llm=ScriptedLLM()), REFRESH):
        assert account(response)["stores"]["graph"]["status"] == "failed"
        assert "refused" in account(response)["degraded"][0]
    engine = HybridRouterQueryEngine.from_stores(vector=Fixed(error=ConnectionError("refused")), llm=ScriptedLLM())
    with pytest.raises(AllStoresFailedError, match="refused"):
        engine.query(REFRESH)
    with pytest.raises(AllStoresFailedError, match="refused"):
        await engine.aquery(REFRESH)


async def test_an_empty_question_is_refused() -> None:
    """Blank questions are the caller's mistake, said plainly, before any store is asked."""
    engine = HybridRouterQueryEngine.from_stores(**stores(), llm=ScriptedLLM())
    with pytest.raises(ConfigurationError, match="empty"):
        engine.query("  ")
    with pytest.raises(ConfigurationError, match="empty"):
        await engine.aquery("")


# --- prompts ---------------------------------------------------------------------------------------------------------


def test_passages_and_facts_are_labelled_sections() -> None:
    """The prompt holds facts and passages under their labels, and none of our metadata."""
    llm = ScriptedLLM()
    HybridRouterQueryEngine.from_stores(**stores(), llm=llm).query("How does DRAM compare with Optane?")
    assert f"Facts from the graph:\n- {FACT}\n\nPassages:\n{DRAM}\n\n{OPTANE}" in llm.prompts[0]
    assert "rank" not in llm.prompts[0]
    engine = HybridRouterQueryEngine.from_stores(**stores(), llm=llm)
    engine.synthesize(QueryBundle("Optane?"), [NodeWithScore(node=optane(year=2022))])
    assert f"- {FACT}\n\nPassages:\nyear: 2022\n\n{OPTANE}" in llm.prompts[1]


@pytest.mark.parametrize("mode", ["refine", "accumulate"])
def test_modes_that_ask_once_per_passage_put_the_facts_beside_it(mode: str) -> None:
    """Where each text is a call of its own, each carries its passage with its facts, and no call has facts only."""
    llm = ScriptedLLM()
    HybridRouterQueryEngine.from_stores(**stores(), llm=llm, response_mode=mode).query("DRAM and Optane?")
    assert len(llm.prompts) == 2
    assert FACT not in llm.prompts[0]
    assert FACT in llm.prompts[1]
    assert OPTANE in llm.prompts[1]


async def test_citations_are_numbered_and_verified() -> None:
    """Passages carry numbers, facts that of their passage; each [n] of the answer is checked, streams included."""
    llm = ScriptedLLM(reply="DRAM must be refreshed every 64 ms [1]. Optane has 9 layers [2]. So it is [7].")
    engine = HybridRouterQueryEngine.from_stores(**stores(), llm=llm, citations=True)
    responses = await both(engine, "How does DRAM compare with Optane?")
    engine.streaming = True
    streamed = engine.query("How does DRAM compare with Optane?")
    assert account(streamed)["citations"] is None
    assert str(streamed) == llm.reply
    for response in (*responses, streamed):
        report = account(response)["citations"]
        assert [(c["number"], c["exists"], c["supported"]) for c in report["citations"]] == [
            (1, True, True),
            (2, True, False),
            (7, False, False),
        ]
        assert report["valid"] is False
    assert (
        f"- {FACT} [2]\n\nPassages (cite them by their numbers, like [1]):\n[1] {DRAM}\n\n[2] {OPTANE}"
        in llm.prompts[0]
    )


def test_few_shot_examples_are_fixed_or_nearest() -> None:
    """Fixed examples all come; nearest ones by the retriever's own embedding model, closest to the question."""
    examples = [
        ("What is flash?", "A memory."),
        ("How often must SRAM be refreshed?", "Never."),
        ("Who is Bob?", "No."),
    ]
    llm = ScriptedLLM()
    HybridRouterQueryEngine.from_stores(**stores(), llm=llm, few_shot=examples).query(REFRESH)
    assert all(f"Question: {question}\nAnswer: {answer}" in llm.prompts[0] for question, answer in examples)
    index = VectorStoreIndex([dram()], embed_model=WordsEmbedding())
    llm = ScriptedLLM()
    HybridRouterQueryEngine.from_stores(vector=index, llm=llm, few_shot=examples, few_shot_top_k=1).query(REFRESH)
    assert "SRAM" in llm.prompts[0]
    assert "flash" not in llm.prompts[0]
    with pytest.raises(ConfigurationError, match="embed_model"):
        HybridRouterQueryEngine.from_stores(**stores(), few_shot=examples, few_shot_top_k=1)


def test_prompts_are_reachable_by_flat_names() -> None:
    """get_prompts and update_prompts reach engine, route, synthesizer and selector prompts, one colon at most."""
    llm = ScriptedLLM(reply="2")
    table = {"vector": RouteSettings(text_qa_template=PromptTemplate("OLD {context_str} {query_str}"))}
    engine = HybridRouterQueryEngine.from_stores(
        **stores(), llm=llm, routes=table, selector=LLMSingleSelector.from_defaults(llm=llm)
    )
    names = set(engine.get_prompts())
    assert names >= {"text_qa_template", "simple_template", "vector_text_qa_template", "selector:prompt"}
    assert all(name.count(":") <= 1 for name in names)
    engine.update_prompts({"vector_text_qa_template": PromptTemplate("NEW {context_str} {query_str}")})
    engine.query(REFRESH)
    assert llm.prompts[-1].startswith("NEW ")
    given = get_response_synthesizer(llm=llm)
    engine = HybridRouterQueryEngine.from_stores(**stores(), response_synthesizer=given)
    engine.update_prompts({"response_synthesizer:text_qa_template": PromptTemplate("MINE {context_str} {query_str}")})
    engine.query(REFRESH)
    assert llm.prompts[-1].startswith("MINE ")


# --- evidence --------------------------------------------------------------------------------------------------------


async def test_without_evidence_it_abstains_and_shows_what_it_found(events: Recorder) -> None:
    """An unanswerable question gets the fixed sentence, no model call, the sources, the reason and an event."""
    llm = ScriptedLLM(reply="Michael Curtiz")
    given: dict[str, Any] = {"vector": Fixed(dram(), score=0.1), "graph": Fixed(optane())}
    engine = HybridRouterQueryEngine.from_stores(**given, llm=llm, abstain_message="I do not know.")
    for streaming in (False, True):
        engine.streaming = streaming
        for response in await both(engine, UNKNOWN):
            text = await response.get_response() if isinstance(response, AsyncStreamingResponse) else str(response)
            assert "I do not know." in str(getattr(text, "response", text))
            assert isinstance(response, (StreamingResponse, AsyncStreamingResponse)) is streaming
            assert len(response.source_nodes) == 2
            assert account(response)["answer"] == "abstained"
            assert "Casablanca" in account(response)["evidence"]["reason"]
            assert "total" in account(response)["timings"]
    assert llm.prompts == []
    assert len(events.of(AbstainEvent)) == 4
    assert "Casablanca" in events.of(AbstainEvent)[0].missing


async def test_no_answer_can_ask_the_model_or_raise() -> None:
    """Under "llm" the model answers from a prompt that says so, or without any when nothing came; "raise" raises."""
    llm = ScriptedLLM(reply="Michael Curtiz")
    store = Fixed(dram(), score=0.1)
    engine = HybridRouterQueryEngine.from_stores(vector=store, llm=llm, no_answer="llm")
    for response in await both(engine, UNKNOWN):
        assert (str(response), account(response)["answer"]) == ("Michael Curtiz", "open")
    assert "your own knowledge" in llm.prompts[0]
    empty = HybridRouterQueryEngine.from_stores(vector=Fixed(), llm=llm, no_answer="llm")
    for response in await both(empty, UNKNOWN):
        assert str(response) == "Michael Curtiz"
    assert llm.prompts[-1] == UNKNOWN
    strict = HybridRouterQueryEngine.from_stores(vector=store, llm=llm, no_answer="raise")
    with pytest.raises(NotInSourcesError, match="Casablanca"):
        strict.query(UNKNOWN)
    with pytest.raises(NotInSourcesError, match="Casablanca"):
        await strict.aquery(UNKNOWN)


async def test_nothing_retrieved_abstains() -> None:
    """Zero nodes are no "Empty Response": the policy for no answer decides."""
    for response in await both(HybridRouterQueryEngine.from_stores(vector=Fixed(), llm=ScriptedLLM()), REFRESH):
        assert str(response) == "The sources do not seem to answer this question."
        assert account(response)["evidence"]["reason"] == "nothing was retrieved"


def test_word_counts_sharpen_the_evidence() -> None:
    """With frequencies from the index, a word that no passage has decides; corpus_size may be a callable."""
    seen: list[str] = []

    def frequencies(words: Any) -> dict[str, int]:
        seen.extend(words)
        return {"memory": 900, "made": 900, "intel": 900}

    engine = HybridRouterQueryEngine.from_stores(
        vector=Fixed(optane(), score=0.2), llm=ScriptedLLM(), frequencies=frequencies, corpus_size=lambda: 1000
    )
    assert account(engine.query("Which zorblax memory was made by Intel?"))["answer"] == "abstained"
    assert "zorblax" in seen


# --- models ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_settings_llm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes Settings.llm unresolvable, as where no LLM package is installed."""

    def unresolvable(name: str) -> None:
        raise ImportError("`llama-index-llms-openai` package not found")

    monkeypatch.setattr(Settings, "_llm", None)
    monkeypatch.setattr("llama_index.core.settings.resolve_llm", unresolvable)


@pytest.mark.usefixtures("no_settings_llm")
async def test_without_a_model_it_says_what_to_do_and_no_text_works() -> None:
    """An engine is made without touching Settings.llm; asking names no_text; no_text gives facts and best sentences."""
    engine = HybridRouterQueryEngine.from_stores(**stores())
    with pytest.raises(NoLLMError, match="no_text"):
        engine.query(REFRESH)
    with pytest.raises(NoLLMError, match="no_text"):
        await engine.aquery("Hi")
    engine = HybridRouterQueryEngine.from_stores(**stores(), response_mode="no_text")
    for response in await both(engine, REFRESH):
        assert f"- {FACT} [2]" in str(response)
        assert "- It must be refreshed every 64 ms. [1]" in str(response)
        assert account(response)["answer"] == "sources"
        assert len(response.source_nodes) == 2
    assert "no language model was asked" in str(engine.query("Hi"))
    assert DRAM in str(HybridRouterQueryEngine.from_stores(**stores(), response_mode="context_only").query(REFRESH))
    given = HybridRouterQueryEngine.from_stores(**stores(), llm=ScriptedLLM(reply="yes"))
    assert str(given.query(REFRESH)) == "yes"


def test_settings_llm_is_looked_up_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """llm=None follows Settings.llm, also when it is set after the engine was made."""
    engine = HybridRouterQueryEngine.from_stores(**stores())
    monkeypatch.setattr(Settings, "_llm", ScriptedLLM(reply="from settings"))
    assert str(engine.query(REFRESH)) == "from settings"


async def test_the_models_callback_manager_stays() -> None:
    """Answering leaves the user's handlers on the model, and the engine's handlers see query and synthesis."""
    own, handler = LlamaDebugHandler(print_trace_on_end=False), LlamaDebugHandler(print_trace_on_end=False)
    llm = ScriptedLLM(callback_manager=CallbackManager([own]))
    manager = llm.callback_manager
    postprocessor = SimilarityPostprocessor()
    engine = HybridRouterQueryEngine.from_stores(
        **stores(), llm=llm, callback_manager=CallbackManager([handler]), node_postprocessors=[postprocessor]
    )
    await both(engine, REFRESH)
    assert llm.callback_manager is manager
    assert len(own.get_event_pairs(CBEventType.LLM)) >= 2
    assert len(handler.get_event_pairs(CBEventType.QUERY)) == 2
    assert len(handler.get_event_pairs(CBEventType.SYNTHESIZE)) == 2
    assert postprocessor.callback_manager is engine.callback_manager


def test_a_model_that_says_nothing_is_noticed() -> None:
    """An empty answer, or one lost to a ValueError that LlamaIndex swallows, is marked degraded."""

    def fails(prompt: str) -> str:
        raise ValueError("bad key")

    for reply in ("", fails):
        engine = HybridRouterQueryEngine.from_stores(**stores(), llm=ScriptedLLM(reply=reply))
        assert account(engine.query(REFRESH))["degraded"] == ["the language model gave no answer"]


# --- LlamaIndex's arguments ------------------------------------------------------------------------------------------


class Interval(BaseModel):
    """A refresh interval."""

    milliseconds: int


async def test_structured_answers_keep_their_sources() -> None:
    """output_cls gives PydanticResponse with sources and metadata, also without retrieval; it is never streamed."""
    llm = ScriptedLLM(reply='{"milliseconds": 64}')
    engine = HybridRouterQueryEngine.from_stores(**stores(), llm=llm, output_cls=Interval, streaming=True)
    for question, count in ((REFRESH, 2), ("what is 8 * 8?", 0)):
        for response in await both(engine, question):
            assert isinstance(response, PydanticResponse)
            assert response.response == Interval(milliseconds=64)
            assert len(response.source_nodes) == count
            assert account(response)["route"] == ("hybrid" if count else "parametric")
    structured = HybridRouterQueryEngine.from_stores(**stores(), llm=llm.as_structured_llm(Interval))
    for response in await both(structured, REFRESH):
        assert isinstance(response, PydanticResponse)
        assert response.response == Interval(milliseconds=64)


async def test_it_takes_what_retriever_query_engine_takes() -> None:
    """The arguments of RetrieverQueryEngine.from_args work: templates, mode, postprocessors, a synthesizer."""
    llm = ScriptedLLM()
    arguments: dict[str, Any] = {
        "retriever": Fixed(dram(), optane()),
        "llm": llm,
        "text_qa_template": PromptTemplate("QA {context_str} {query_str}"),
        "summary_template": PromptTemplate("SUM {context_str} {query_str}"),
        "response_mode": "tree_summarize",
        "node_postprocessors": [SimilarityPostprocessor(similarity_cutoff=0.0)],
        "use_async": False,
        "streaming": False,
    }
    assert str(RetrieverQueryEngine.from_args(**arguments).query(REFRESH)) == "an answer"
    assert str(HybridRouterQueryEngine.from_defaults(**arguments).query(REFRESH)) == "an answer"
    assert llm.prompts[-1].startswith("SUM Facts from the graph")
    given = get_response_synthesizer(llm=ScriptedLLM(reply="given"), streaming=True)
    engine = HybridRouterQueryEngine.from_defaults(Fixed(dram()), response_synthesizer=given)
    streamed = engine.query(REFRESH)
    assert isinstance(streamed, StreamingResponse)
    assert str(streamed) == "given"
    engine.streaming = False
    assert isinstance(engine.query(REFRESH), Response)
    assert given._streaming is True
    assert str(engine.query("Hi")) == "given"
    with pytest.raises(ConfigurationError, match="response_synthesizer"):
        HybridRouterQueryEngine.from_defaults(
            Fixed(), response_synthesizer=given, routes={"vector": RouteSettings(llm=llm)}
        )
    with pytest.raises(ConfigurationError, match="response_mode"):
        HybridRouterQueryEngine.from_defaults(Fixed(), response_mode="shout")


async def test_filters_and_top_k_reach_the_stores() -> None:
    """Filters are pushed down to a vector index and guard every store; similarity_top_k is the number of nodes."""
    nodes = [TextNode(text=f"{DRAM} {n}", metadata={"year": 2000 + n}) for n in range(8)]
    index = VectorStoreIndex(nodes, embed_model=WordsEmbedding())
    recent = MetadataFilters(filters=[MetadataFilter(key="year", value=2006, operator=FilterOperator.GTE)])
    engine = HybridRouterQueryEngine.from_stores(
        vector=index, keyword=Fixed(dram(year=1999)), llm=ScriptedLLM(), similarity_top_k=5, filters=recent
    )
    for response in await both(engine, REFRESH):
        assert sorted(each.node.metadata["year"] for each in response.source_nodes) == [2006, 2007]
    engine = HybridRouterQueryEngine.from_defaults(
        HybridRetriever({"vector": Fixed(dram(year=1999), optane(year=2010))}), llm=ScriptedLLM(), filters=recent
    )
    assert [each.node.node_id for each in engine.query("Optane?").source_nodes] == ["optane"]
    engine = HybridRouterQueryEngine.from_defaults(
        HybridRetriever({"vector": Fixed(*nodes)}), llm=ScriptedLLM(), similarity_top_k=3
    )
    assert len(engine.query(REFRESH).source_nodes) == 3


def test_a_plain_retriever_is_neither_cut_nor_hurried() -> None:
    """A retriever that stands alone keeps its own number of nodes and has no deadline."""
    engine = HybridRouterQueryEngine.from_defaults(
        Fixed(*(TextNode(text=f"{DRAM} {n}") for n in range(25))), llm=ScriptedLLM()
    )
    assert len(engine.query(REFRESH).source_nodes) == 25
    assert engine.retriever.stores[0].deadline_s is None
    with pytest.raises(ConfigurationError, match="from_stores"):
        HybridRouterQueryEngine.from_defaults(object())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="neither"):
        HybridRouterQueryEngine.from_stores(vector=object())  # type: ignore[arg-type]


async def test_postprocessors_work_on_copies() -> None:
    """A postprocessor may write on nodes: the stores' own nodes stay as they are."""
    node = dram()

    class Marks(SimilarityPostprocessor):
        """Writes on every node."""

        def _postprocess_nodes(
            self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
        ) -> list[NodeWithScore]:
            for each in nodes:
                each.node.metadata["marked"] = True
            return nodes

    engine = HybridRouterQueryEngine.from_stores(vector=Fixed(node), llm=ScriptedLLM(), node_postprocessors=[Marks()])
    for response in await both(engine, REFRESH):
        assert response.source_nodes[0].node.metadata["marked"]
    assert node.metadata == {}


async def test_retrieve_and_synthesize_are_the_two_halves() -> None:
    """Retrieve gives the route's nodes, synthesize answers from given ones with extra sources listed; async too."""
    engine = HybridRouterQueryEngine.from_stores(**stores(), llm=ScriptedLLM(reply="64 ms"))
    query = QueryBundle(REFRESH)
    for nodes in (engine.retrieve(query), await engine.aretrieve(query), engine.retrieve(QueryBundle("Hi"))):
        assert [each.node.node_id for each in nodes] == ["dram", "optane"]
    extra = [NodeWithScore(node=TextNode(id_="extra", text="more"))]
    for response in (
        engine.synthesize(query, nodes[:1], extra),
        await engine.asynthesize(query, nodes[:1], extra),
    ):
        assert str(response) == "64 ms"
        assert [each.node.node_id for each in response.source_nodes] == ["dram", "extra"]
    other = engine.with_retriever(Fixed(optane()))
    assert [each.node.node_id for each in other.query("Optane?").source_nodes] == ["optane"]
    assert len(engine.query(REFRESH).source_nodes) == 2


# --- streams ---------------------------------------------------------------------------------------------------------


async def test_streams_have_sources_and_end_with_their_timings() -> None:
    """Tokens come as they are made; sources are there at once; timings at the end, also when closed early."""
    engine = HybridRouterQueryEngine.from_stores(**stores(), llm=ScriptedLLM(reply="one two three"), streaming=True)
    for question in (REFRESH, "Hi"):
        whole, early = engine.query(question), engine.query(question)
        assert isinstance(whole, StreamingResponse)
        assert isinstance(early, StreamingResponse)
        assert len(whole.source_nodes) == (0 if question == "Hi" else 2)
        assert "total" not in account(whole)["timings"]
        assert list(whole.response_gen) == ["one", " two", " three"]
        assert next(early.response_gen) == "one"
        early.response_gen.close()
        awhole, aearly = await engine.aquery(question), await engine.aquery(question)
        assert isinstance(awhole, AsyncStreamingResponse)
        assert isinstance(aearly, AsyncStreamingResponse)
        assert [token async for token in awhole.async_response_gen()] == ["one", " two", " three"]
        assert await aearly.response_gen.__anext__() == "one"
        await aearly.response_gen.aclose()
        for response in (whole, early, awhole, aearly):
            timings = account(response)["timings"]
            assert 0 < timings["first_token"] <= timings["total"]


async def test_a_stream_keeps_its_span_and_tags() -> None:
    """The model's call happens after query returned: it still has the query as its parent span, and its tags."""
    spans: dict[str, SimpleSpan] = {}

    class Spans(SimpleSpanHandler):
        """Keeps every span."""

        def new_span(self, id_: str, *args: Any, **kwargs: Any) -> SimpleSpan:
            """Keep it."""
            spans[id_] = super().new_span(id_, *args, **kwargs)
            return spans[id_]

    root, recorder = get_dispatcher(), Recorder(seen=[])
    handler = Spans()
    root.add_span_handler(handler)
    root.add_event_handler(recorder)
    engine = HybridRouterQueryEngine.from_stores(**stores(), llm=ScriptedLLM(), streaming=True)
    try:
        with instrument_tags({"user": "ann"}):
            stream = engine.query(REFRESH)
        list(stream.response_gen)  # type: ignore[union-attr, arg-type]
        with instrument_tags({"user": "ann"}):
            astream = await engine.aquery(REFRESH)
        [token async for token in astream.async_response_gen()]  # type: ignore[union-attr]
    finally:
        root.span_handlers.remove(handler)
        root.event_handlers.remove(recorder)
    for method, query in (("stream_complete", "_query"), ("astream_complete", "_aquery")):
        span = next(span for id_, span in spans.items() if id_.startswith(f"ScriptedLLM.{method}"))
        assert span.tags == {"user": "ann"}
        above = [span]
        while above[-1].parent_id:
            above.append(spans[above[-1].parent_id])
        assert any(each.id_.startswith(f"HybridRouterQueryEngine.{query}-") for each in above)
    assert all(event.tags == {"user": "ann"} for event in recorder.of(LLMCompletionEndEvent))


async def test_many_questions_at_once_do_not_mix() -> None:
    """Concurrent queries on one engine keep their own answers, streams and accounts."""
    llm = ScriptedLLM(reply=lambda prompt: prompt.partition("Question: ")[2].split("?")[0])
    engine = HybridRouterQueryEngine.from_stores(**stores(), llm=llm)
    questions = [f"How is DRAM number {n} refreshed" for n in range(12)]
    responses = await asyncio.gather(*(engine.aquery(f"{question}?") for question in questions))
    assert [str(response) for response in responses] == questions
    accounts = [account(response) for response in responses]  # held, or their ids could be used again
    assert len({id(each) for each in accounts}) == 12


# --- citizens --------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # LlamaIndex's agents
async def test_it_works_as_a_tool_of_an_agent() -> None:
    """A ReActAgent calls it through QueryEngineTool; sources stay reachable in the tool's raw output."""

    def thinks(prompt: str) -> str:
        if "Observation: 64 ms" in prompt:
            return "Thought: I can answer without using any more tools.\nAnswer: every 64 ms"
        return f'Thought: I need a tool.\nAction: memory\nAction Input: {{"input": "{REFRESH}"}}'

    engine = HybridRouterQueryEngine.from_stores(**stores(), llm=ScriptedLLM(reply="64 ms"))
    tool = QueryEngineTool.from_defaults(engine, name="memory", description="Facts on memory chips.")
    agent = ReActAgent(tools=[tool], llm=ScriptedLLM(reply=thinks, is_chat=True), streaming=False)
    result: Any = await agent.run(REFRESH)
    assert "64 ms" in str(result)
    response = result.tool_calls[0].tool_output.raw_output
    assert [each.node.node_id for each in response.source_nodes] == ["dram", "optane"]
    assert account(response)["route"] == "hybrid"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # LlamaIndex's workflows
async def test_it_works_in_a_workflow_step() -> None:
    """A step of a Workflow awaits it."""
    engine = HybridRouterQueryEngine.from_stores(**stores(), llm=ScriptedLLM(reply="64 ms"))

    class Ask(Workflow):
        """Asks the engine."""

        @step
        async def ask(self, event: StartEvent) -> StopEvent:
            """Ask."""
            return StopEvent(result=await engine.aquery(event.question))

    assert str(await Ask().run(question=REFRESH)) == "64 ms"


async def test_it_joins_the_indexes_an_app_has() -> None:
    """from_stores takes a VectorStoreIndex and a PropertyGraphIndex; the chunk from the graph keeps its facts."""
    store = SimplePropertyGraphStore()
    model = WordsEmbedding()
    graph = PropertyGraphIndex.from_existing(
        store, llm=ScriptedLLM(reply="Optane"), embed_model=model, use_async=False, show_progress=False
    )
    entities = [EntityNode(name="Intel"), EntityNode(name="Optane")]
    for entity in entities:
        entity.properties["triplet_source_id"] = "optane"
    relation = Relation(label="made", source_id="Intel", target_id="Optane", properties={"triplet_source_id": "optane"})
    plain = TextNode(id_="optane", text=OPTANE)
    store.upsert_nodes(entities)
    store.upsert_relations([relation])
    store.upsert_llama_nodes([plain])
    vector = VectorStoreIndex([dram(), plain], embed_model=model)
    engine = HybridRouterQueryEngine.from_stores(vector=vector, graph=graph, llm=ScriptedLLM(reply="Intel"))
    for response in await both(engine, "Who made Optane?"):
        assert account(response)["stores"].keys() == {"vector", "graph"}
        found = {each.node.node_id: each.node.metadata["hybridmem"] for each in response.source_nodes}
        assert found["optane"]["stores"].keys() == {"vector", "graph"}
        assert any("Intel" in fact["text"] for fact in account(response)["facts"])


def test_named_stores_beside_the_three_are_asked_too() -> None:
    """Further stores join the hybrid route; a Store keeps its own deadline."""
    live = Store("any", Fixed(optane()), deadline_s=9)
    engine = HybridRouterQueryEngine.from_stores(vector=Fixed(dram()), stores={"live": live}, llm=ScriptedLLM())
    assert account(engine.query(REFRESH))["stores"].keys() == {"vector", "live"}
    assert {store.name: store.deadline_s for store in engine.retriever.stores} == {"vector": 2.0, "live": 9}


async def test_it_is_the_engine_of_the_hybrid_index() -> None:
    """HybridMemoryIndex gives it three stores and word counts: a question, an unknown, a greeting and a chat."""
    documents = [Document(text=f"# {name}\n\n{text}", id_=name) for name, text in (("DRAM", DRAM), ("Optane", OPTANE))]
    with HybridMemoryIndex.from_documents(documents, embed_model=WordsEmbedding()) as index:
        engine = index.as_query_engine(llm=ScriptedLLM(reply="64 ms"))
        for response in await both(engine, REFRESH):
            assert str(response) == "64 ms"
            assert account(response)["stores"].keys() == {"vector", "keyword", "graph"}
            assert account(response)["evidence"]["cosine"] > 0
            assert response.source_nodes[0].node.ref_doc_id == "DRAM"
        assert account(engine.query(UNKNOWN))["answer"] == "abstained"
        assert account(engine.query("Hi"))["route"] == "parametric"
        assert index.as_query_engine(route="graph", response_mode="no_text").query("Optane?").source_nodes
        chat = index.as_chat_engine(llm=ScriptedLLM(reply="64 ms"))
        assert chat.chat(REFRESH).source_nodes


@pytest.mark.parametrize("part", ["frequencies", "corpus_size"])
def test_word_counts_that_fail_degrade_the_answer_only(part: str) -> None:
    """A graph store that cannot count words any more weakens the evidence; the question is answered and says so."""

    def broken(*_: object) -> Any:
        raise StoreError("disk I/O error")

    counts: dict[str, Any] = {"frequencies": lambda words: dict.fromkeys(words, 1), "corpus_size": lambda: 9}
    engine = HybridRouterQueryEngine.from_stores(**stores(), llm=ScriptedLLM(), **{**counts, part: broken})
    told = account(engine.query("Who invented DRAM?"))
    assert told["answer"] == "generated"
    assert told["degraded"] == ["word counts: StoreError: disk I/O error"]


async def test_counting_words_leaves_the_event_loop_free() -> None:
    """Word counts may come from a server: the loop runs on while they are waited for."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    def slow(words: Any) -> dict[str, int]:
        time.sleep(0.5)
        return dict.fromkeys(words, 1)

    engine = HybridRouterQueryEngine.from_stores(**stores(), llm=ScriptedLLM(), frequencies=slow, corpus_size=9)
    beside = asyncio.create_task(tick())
    assert account(await engine.aquery("Who invented DRAM?"))["answer"] == "generated"
    beside.cancel()
    assert ticks >= 5


def test_a_lost_store_is_not_asked_to_count_words() -> None:
    """A graph that was lost for a question costs its own deadline, and not that of the word counts on top."""
    asked: list[object] = []

    def counting(words: Any) -> dict[str, int]:
        asked.append(words)
        return {}

    parts = {**stores(), "graph": Fixed(error=StoreError("gone"))}
    engine = HybridRouterQueryEngine.from_stores(
        **parts, llm=ScriptedLLM(), frequencies=counting, corpus_size=9, counted_by="graph"
    )
    assert account(engine.query("Who invented DRAM?"))["degraded"] == ["graph: StoreError: gone"]
    assert not asked
