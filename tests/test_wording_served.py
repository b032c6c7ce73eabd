"""An adapter trained on exported rows is asked as it was trained, and its answer is read back."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import training_set_zoo as zoo
from adapters_by_hand import write_adapter
from fake_llm import ScriptedLLM
from fakes import WordsEmbedding
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core import Document
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index.core.instrumentation.events.llm import LLMChatStartEvent
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import NodeWithScore, QueryBundle
from recorder import recorded

from llama_index_hybridmem import CostLatencyHandler, HybridMemoryIndex
from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.events import AbstainEvent
from llama_index_hybridmem.export.formats import row
from llama_index_hybridmem.export.record import Record
from llama_index_hybridmem.export.wording import Layout, Wording
from llama_index_hybridmem.llms.adapters.registry import AdapterRegistry
from llama_index_hybridmem.llms.local import LoraHuggingFaceLLM
from llama_index_hybridmem.noise.passages import to_node, to_passages
from llama_index_hybridmem.noise.scene import Passage
from llama_index_hybridmem.query_engine import HybridRouterQueryEngine
from llama_index_hybridmem.routing.table import RouteSettings
from llama_index_hybridmem.worded import WordedSynthesizer, turns, wording_of

RECORD = zoo.record(1)
REASONED = Wording(target="reasoned", layout="xml", abstain=("Nobody says.", "I cannot tell."))
FACT = "Inventor Nr1 → built → machine number 1"
MODES = ("query", "aquery", "stream", "astream")
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


class Found(BaseRetriever):
    """Gives a record's noisy passages, the first with a fact of a graph and an entry that models are not shown."""

    def __init__(self, record: Record = RECORD, score: float = 0.9) -> None:
        super().__init__()
        self.passages, self.score = record.noisy, score

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        nodes = [to_node(replace(each, score=self.score - n / 10)) for n, each in enumerate(self.passages)]
        for each in nodes[:1]:
            each.node.metadata |= {"hybridmem": {"facts": [FACT]}, "file_path": "/home/somebody/a.txt"}
            each.node.excluded_llm_metadata_keys = ["file_path"]
        return nodes


class Told(ScriptedLLM):
    """Keeps the messages of each call, too."""

    turns: list[Any] = []

    def chat(self, messages: Any, **kwargs: Any) -> Any:
        """Reply."""
        self.turns.append(plain(messages))
        return super().chat(messages, **kwargs)

    async def achat(self, messages: Any, **kwargs: Any) -> Any:
        """Reply."""
        self.turns.append(plain(messages))
        return await super().achat(messages, **kwargs)

    def stream_chat(self, messages: Any, **kwargs: Any) -> Any:
        """Reply word by word."""
        self.turns.append(plain(messages))
        return super().stream_chat(messages, **kwargs)

    async def astream_chat(self, messages: Any, **kwargs: Any) -> Any:
        """Reply word by word."""
        self.turns.append(plain(messages))
        return await super().astream_chat(messages, **kwargs)


def told(reply: str) -> Told:
    """A model that says one thing."""
    return Told(reply=reply, turns=[], is_chat=True)


def plain(messages: list[ChatMessage]) -> list[dict[str, str]]:
    """Turns as rows have them."""
    return [{"role": each.role.value, "content": each.content or ""} for each in messages]


def trained_on(record: Record, wording: Wording) -> Any:
    """The turns of the record's row."""
    return row(record, "prompt-completion", wording)["prompt"]


async def asked(engine: Any, mode: str, question: str = RECORD.question) -> tuple[str, Mapping[str, Any]]:
    """The text of an answer, however it comes, and what the engine says of it when it is over."""
    for inner in (engine, getattr(engine, "_response_synthesizer", engine)):
        for name in {"streaming", "_streaming"} & vars(inner).keys():
            setattr(inner, name, mode.endswith("stream"))
    response = await engine.aquery(question) if mode.startswith("a") else engine.query(question)
    if isinstance(response, AsyncStreamingResponse):
        text = "".join([token async for token in response.response_gen])
    elif isinstance(response, StreamingResponse):
        text = "".join(response.response_gen)
    else:
        text = response.response or ""
    assert mode.endswith("stream") == isinstance(response, (AsyncStreamingResponse, StreamingResponse))
    return text, (response.metadata or {}).get("hybridmem", {})


texts = st.text(st.characters(), max_size=40)
passages = st.builds(
    Passage,
    id=st.uuids().map(str),
    text=texts,
    metadata=st.dictionaries(st.sampled_from(["title", "file_name", "date", "section", "version"]), texts),
)


@given(
    question=texts,
    found=st.lists(passages, max_size=3),
    layout=st.sampled_from(LAYOUTS),
    system=st.none() | st.just("Read. {form}"),
)
def test_the_turns_are_those_of_a_row(question: str, found: list[Passage], layout: Layout, system: str | None) -> None:
    """Byte for byte, in every layout, also after the way through nodes, with half characters and tricky lines."""
    wording = Wording(system, layout, shown=("title", "source", "section"))
    record = replace(RECORD, question=question, noisy=tuple(found), answerable=False, quotes=(), answer="x")
    nodes = [to_node(each) for each in found]
    assert plain(turns(question, to_passages(nodes), wording)) == trained_on(record, wording)


@pytest.mark.parametrize("mode", MODES)
async def test_the_engine_asks_as_the_row_does(mode: str) -> None:
    """The model gets system and user turn of the training row, without facts, and cites the passages by their order."""
    llm = told("Inventor Nr1 [1]")
    engine = HybridRouterQueryEngine(Found(), llm, wording=Wording(), citations=True)
    text, noted = await asked(engine, mode)
    assert llm.turns == [trained_on(RECORD, Wording())]
    assert text == "Inventor Nr1 [1]"
    assert (noted["answer"], noted["facts"], noted["model"]) == ("generated", [], "scripted")
    assert noted["reading"] == {
        "answer": "Inventor Nr1",
        "abstained": False,
        "cited": [1],
        "quotes": [],
        "reason": "",
    }
    assert [each["number"] for each in noted["citations"]["citations"]] == [1]


@pytest.mark.parametrize("mode", MODES)
async def test_a_reasoned_answer_is_read_back(mode: str) -> None:
    """Quotes, reason and answer stand apart; citations are those of the answer, not what the reason rejects."""
    llm = told(row(RECORD, "prompt-completion", REASONED)["completion"][0]["content"])
    engine = HybridRouterQueryEngine(Found(), llm, wording=REASONED, citations=True)
    _, noted = await asked(engine, mode)
    assert llm.turns == [trained_on(RECORD, REASONED)]
    assert noted["reading"]["answer"] == "Inventor Nr1"
    assert noted["reading"]["quotes"] == [{"source": 1, "text": "Inventor Nr1"}]
    assert "[2]" in noted["reading"]["reason"]
    assert [each["number"] for each in noted["citations"]["citations"]] == [1]


@pytest.mark.parametrize("mode", MODES)
async def test_the_models_abstention_is_one(mode: str) -> None:
    """Any of the wordings of abstention counts, in the metadata, as an event, and in the costs, streamed or not."""
    record = zoo.abstaining(1)
    llm = told("Reason: [1] is about something else.\nAnswer: i cannot tell")
    engine = HybridRouterQueryEngine(Found(record), llm, wording=REASONED, no_answer="llm")
    with recorded() as events:
        _, noted = await asked(engine, mode)
    assert noted["answer"] == "abstained"
    assert noted["reading"]["abstained"] is True
    (event,) = events.of(AbstainEvent)
    assert event.span_id.startswith("HybridRouterQueryEngine.")  # also when the stream ended after the query
    with CostLatencyHandler().attach() as costs:
        await asked(engine, mode)
        assert [each.answer for each in costs.traces()] == ["abstained"]
    assert llm.turns == [trained_on(record, REASONED)] * 2


@pytest.mark.parametrize("mode", MODES)
async def test_any_query_engine_can_ask_so(mode: str) -> None:
    """LlamaIndex's own engine with the synthesizer asks with the same turns, and keeps its sources."""
    llm = told("Inventor Nr1 [1]")
    engine = RetrieverQueryEngine(Found(), WordedSynthesizer(Wording(), llm))
    assert (await asked(engine, mode))[0] == "Inventor Nr1 [1]"
    assert llm.turns == [trained_on(RECORD, Wording())]
    response = engine.query(RECORD.question)
    assert [each.node.node_id for each in response.source_nodes] == [each.id for each in RECORD.noisy]


async def test_the_router_engine_takes_the_synthesizer_as_it_is() -> None:
    """A WordedSynthesizer given to it gets nodes, not sections, and is not changed by a stream."""
    llm = told("Inventor Nr1 [1]")
    synthesizer = WordedSynthesizer(Wording(), llm)
    engine = HybridRouterQueryEngine(Found(), response_synthesizer=synthesizer)
    for mode in MODES:
        assert (await asked(engine, mode))[1]["reading"]["cited"] == [1]
        assert synthesizer._streaming is False
    assert llm.turns == [trained_on(RECORD, Wording())] * 4


async def test_without_passages_no_model_is_asked() -> None:
    """Nothing retrieved is an abstention in the wording's words, in both engines."""
    llm = told("something")
    nothing = Found(replace(RECORD, noisy=()))
    engine = HybridRouterQueryEngine(nothing, llm, wording=REASONED, no_answer="llm")
    for mode in MODES:
        text, noted = await asked(engine, mode)
        assert (text, noted["answer"]) == ("Nobody says.", "abstained")
        assert (await asked(RetrieverQueryEngine(nothing, WordedSynthesizer(REASONED, llm)), mode))[0] == "Nobody says."
    assert llm.turns == []


async def test_weak_evidence_is_still_judged_first() -> None:
    """By default the engine abstains by itself; facts that the model is not shown are no evidence."""
    llm = told("Inventor Nr1")
    cut = replace(RECORD, noisy=(Passage("x", "Rain fell on the town."),))
    text, noted = await asked(HybridRouterQueryEngine(Found(cut, 0.1), llm, wording=Wording()), "query")
    assert (noted["answer"], noted["reading"], llm.turns) == ("abstained", None, [])
    assert text == "The sources do not seem to answer this question."
    assert (await asked(HybridRouterQueryEngine(Found(cut, 0.1), llm), "query"))[1][
        "answer"
    ] == "generated"  # by the fact


async def test_a_route_has_its_own() -> None:
    """A route's wording goes before the engine's, and so does its prompt."""
    for settings, wanted in (
        (RouteSettings(wording=REASONED), trained_on(RECORD, REASONED)),
        (RouteSettings(text_qa_template=PromptTemplate("MINE {query_str}")), None),
    ):
        llm = told("Inventor Nr1")
        engine = HybridRouterQueryEngine(Found(), llm, wording=Wording(), routes={"hybrid": settings})
        await asked(engine, "query")
        assert llm.turns[0] == wanted if wanted else "MINE" in llm.turns[0][0]["content"]


async def test_a_chat_asks_so_too() -> None:
    """Turns of a chat that need sources are asked as rows, without the chat's system prompt; small talk keeps it."""
    llm = told("Inventor Nr1 [1]")
    engine = HybridRouterQueryEngine(Found(), llm, wording=Wording())
    chat = engine.as_chat_engine(system_prompt="Be kind.")
    assert chat.chat(RECORD.question).response == "Inventor Nr1 [1]"
    chat.chat("Thank you!")
    assert llm.turns[0] == trained_on(RECORD, Wording())
    assert llm.turns[1][0] == {"role": "system", "content": "Be kind."}


def test_an_index_asks_with_what_the_exporter_reads_of_it() -> None:
    """Nodes of an index become the passages that the exporter makes of them, metadata included."""
    llm = told("1815 [1]")
    text = "Ada Byron was born in 1815. Her work is read to this day."
    with HybridMemoryIndex.from_documents(
        [Document(text=text, id_="ada", metadata={"title": "Ada", "date": "1990-01-02"})],
        embed_model=WordsEmbedding(),
    ) as index:
        found = to_passages(index.as_retriever().retrieve("When was Ada Byron born?"))
        engine = index.as_query_engine(llm, wording=Wording())
        assert str(engine.query("When was Ada Byron born?")) == "1815 [1]"
    record = replace(RECORD, question="When was Ada Byron born?", noisy=found, answerable=False, quotes=())
    assert llm.turns == [trained_on(record, Wording())]
    assert "[1] Ada\nAda Byron was born" in llm.turns[0][-1]["content"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"text_qa_template": PromptTemplate("{context_str}")}, "text_qa_template"),
        ({"few_shot": [("a", "b")], "multimodal": True}, "multimodal, few_shot"),
        ({"response_mode": "refine"}, "response_mode"),
        ({"response_synthesizer": get_response_synthesizer(llm=ScriptedLLM())}, "WordedSynthesizer"),
        ({"routes": {"parametric": RouteSettings(wording=Wording())}}, "route parametric"),
        ({"wording": {"layout": "xml"}}, "a wording is a Wording"),
        (
            {"routes": {"hybrid": RouteSettings(wording=REASONED, text_qa_template=PromptTemplate("x"))}},
            "route hybrid",
        ),
    ],
)
def test_what_contradicts_a_wording_is_refused(settings: dict[str, Any], says: str) -> None:
    """What would have no effect on the prompt, or another effect than meant, is named."""
    with pytest.raises(ConfigurationError, match=says):
        HybridRouterQueryEngine(Found(), ScriptedLLM(), **{"wording": Wording(), **settings})


def test_texts_without_nodes_are_passages() -> None:
    """Called with texts, as LlamaIndex's evaluators do, the synthesizer lays them out without metadata."""
    llm = told("yes")
    assert WordedSynthesizer(Wording(system=None), llm).get_response("Why?", ["Because."]) == "yes"
    assert llm.turns == [[{"role": "user", "content": "[1]\nBecause.\n\nQuestion: Why?"}]]


def test_a_lineage_without_a_wording_and_one_that_is_none() -> None:
    """None where there is none; what is no wording is named with its place."""
    assert wording_of({}) is None
    assert wording_of({"wording": REASONED.to_json()}) == REASONED
    with pytest.raises(ConfigurationError, match="a lineage: wording: no wording"):
        wording_of({"wording": {"colour": "red"}})


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "safetensors")),
    reason="needs the extra 'lora'",
)
def test_the_adapter_that_answers_brings_its_wording(llama_folder: Path, tmp_path: Path) -> None:
    """With "adapter" a real model gets the turns of its lineage, view by view; without one, the engine's prompt."""
    registry = AdapterRegistry(tmp_path / "registry")
    registry.add(write_adapter(tmp_path / "a", 0.1), "reader", lineage={"wording": REASONED.to_json()})
    registry.add(write_adapter(tmp_path / "b", 0.2), "voice")
    llm = LoraHuggingFaceLLM.from_pretrained(
        str(llama_folder), adapters=registry, max_new_tokens=2, context_window=4096
    )
    try:
        for adapter, worded in (("reader", True), ("voice", False), ("base", False)):
            view = llm.with_adapter(adapter)
            with recorded() as events:
                response = HybridRouterQueryEngine(Found(), view, wording="adapter").query(RECORD.question)
            (started,) = events.of(LLMChatStartEvent)
            assert (plain(started.messages) == trained_on(RECORD, REASONED)) is worded
            assert (response.metadata or {})["hybridmem"]["model"].endswith(f"+{adapter}") is (adapter != "base")
            if worded:
                row_asked = [ChatMessage(**turn) for turn in trained_on(RECORD, REASONED)]
                assert str(response) == view.chat(row_asked).message.content
    finally:
        llm.close()


def test_a_model_without_adapters_keeps_the_prompt() -> None:
    """With "adapter", an LLM that knows of none is asked with the engine's prompt."""
    llm = told("Inventor Nr1")
    HybridRouterQueryEngine(Found(), llm, wording="adapter").query(RECORD.question)
    assert "Answer the question from these sources alone" in llm.turns[0][-1]["content"]
