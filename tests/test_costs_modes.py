"""Attribution where an app nests, retries, drops or breaks things: every call once, nothing left open."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from llama_index.core import Document, MockEmbedding, PropertyGraphIndex, Settings, VectorStoreIndex
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.indices.property_graph import SimpleLLMPathExtractor
from llama_index.core.indices.query.query_transform import HyDEQueryTransform
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler
from llama_index.core.llms import ChatMessage, ChatResponse, CompletionResponse, LLMMetadata
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.memory import ChatMemoryBuffer, Memory
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.postprocessor import LLMRerank
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import (
    MultiStepQueryEngine,
    RetrieverQueryEngine,
    RouterQueryEngine,
    SubQuestionQueryEngine,
    TransformQueryEngine,
)
from llama_index.core.question_gen.types import BaseQuestionGenerator, SubQuestion
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.selectors import LLMSingleSelector
from llama_index.core.tools import QueryEngineTool, ToolMetadata
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import instrument_tags
from pydantic import BaseModel, PrivateAttr
from sqlalchemy.ext.asyncio import create_async_engine
from truthful import INPUT, OUTPUT, Native, Wrapped, number_in

from llama_index_hybridmem import CostLatencyHandler, HybridMemoryBlock, HybridRouterQueryEngine
from llama_index_hybridmem.costs.trace import ModelCall, QueryTrace

N = 10
EMBEDDING = MockEmbedding(embed_dim=2)
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed (event loop|<socket):ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # LlamaIndex's agents use what its workflows deprecate
]
Says = Callable[[str], str]


class Speaking(Native):
    """Says what a function makes of the prompt; its counts still name the query."""

    says: Any = None

    @classmethod
    def class_name(cls) -> str:
        """Return the class name."""
        return "Speaking"

    def _text(self, prompt: str) -> str:
        return str(self.says(prompt)) if self.says else f"answer {number_in(prompt)}"

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer."""
        self._ask()
        return CompletionResponse(text=self._text(prompt), raw=self._raw(prompt))

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer."""
        await asyncio.sleep(self.pause_s)
        self._ask()
        return CompletionResponse(text=self._text(prompt), raw=self._raw(prompt))

    def _reply(self, prompt: str) -> ChatResponse:
        self._ask()
        return ChatResponse(message=ChatMessage(role="assistant", content=self._text(prompt)), raw=self._raw(prompt))

    def _parts(self, prompt: str) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
        self._ask()
        words, text = self._text(prompt).split(" "), ""
        for place, word in enumerate(words):
            text += word + " "
            yield text, word + " ", self._raw(prompt) if place == len(words) - 1 else None


@pytest.fixture(scope="module")
def index() -> VectorStoreIndex:
    """Two documents; their text is no one's query."""
    return VectorStoreIndex.from_documents([Document(text=f"text {n}") for n in range(2)], embed_model=EMBEDDING)


@pytest.fixture
def handler() -> Iterator[CostLatencyHandler]:
    """A handler on the instrumentation."""
    with CostLatencyHandler().attach() as attached:
        yield attached


def llm_calls(trace: QueryTrace) -> list[ModelCall]:
    """The calls of language models."""
    return [call for call in trace.calls if call.kind == "llm"]


def nothing_left(handler: CostLatencyHandler) -> None:
    """No query, span or lazy call is kept, and nothing went wrong."""
    handler.flush()
    health = handler.health()
    assert (health["open"], health["faults"], health["failed"], health["waiting"]) == (0, 0, 0, 0), health
    assert not handler.tracker.queries.spans


def exact(handler: CostLatencyHandler, calls: int, numbers: int = N, kind: str | None = "query") -> list[QueryTrace]:
    """One trace for each query, with so many calls, each with exactly its query's counts, and nothing left open."""
    traces = [trace for trace in handler.traces() if trace.name != "around"]
    assert sorted(int(trace.tags["n"]) for trace in traces) == list(range(numbers)), [trace.name for trace in traces]
    for trace in traces:
        number = int(trace.tags["n"])
        usages = [call.usage for call in llm_calls(trace)]
        counted = [None if usage is None else (usage.input, usage.output) for usage in usages]
        assert counted == [(INPUT + number, OUTPUT + number)] * calls, trace
        assert trace.status == "ok"
        assert kind is None or trace.kind == kind
    nothing_left(handler)
    return traces


async def each(handler: CostLatencyHandler, ask: Callable[[int], Any], numbers: int = N) -> list[Any]:
    """All queries at the same time, each tagged with its number."""

    async def one(number: int) -> Any:
        with handler.tags(n=str(number)):
            answer = ask(number)
            return await answer if asyncio.iscoroutine(answer) else answer

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*map(one, range(numbers)))

    return await all_of_them()


def tool(engine: Any, name: str = "tool") -> QueryEngineTool:
    """An engine as a tool."""
    return QueryEngineTool(engine, ToolMetadata(name=name, description=f"knows of {name}"))


# -- engines around engines ----------------------------------------------------------------------------------------


class Splitting(BaseQuestionGenerator):
    """Asks two questions for one."""

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts: Any) -> None:
        pass

    def generate(self, tools: Sequence[ToolMetadata], query: QueryBundle) -> list[SubQuestion]:
        """Both parts."""
        return [SubQuestion(sub_question=f"part of {query.query_str}", tool_name="tool") for _ in range(2)]

    async def agenerate(self, tools: Sequence[ToolMetadata], query: QueryBundle) -> list[SubQuestion]:
        """Both parts."""
        return self.generate(tools, query)


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize("method", ["query", "aquery"])
async def test_sub_questions(
    handler: CostLatencyHandler, index: VectorStoreIndex, method: str, use_async: bool
) -> None:
    """Each sub-question's call and the last answer's are the query's, side by side or not."""
    llm = Speaking()
    engine = SubQuestionQueryEngine.from_defaults(
        [tool(index.as_query_engine(llm=llm))],
        llm=llm,
        question_gen=Splitting(),
        use_async=use_async,
        verbose=False,
    )
    await each(handler, lambda number: getattr(engine, method)(f"query {number}"))
    exact(handler, 3)


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize("method", ["query", "aquery"])
async def test_fused_queries(
    handler: CostLatencyHandler, index: VectorStoreIndex, method: str, use_async: bool
) -> None:
    """A model writes further queries, all retrievers are asked all of them, a model answers: two calls."""
    llm = Speaking(says=lambda prompt: f"more of query {number_in(prompt)}")
    fusion = QueryFusionRetriever([index.as_retriever()] * 2, llm=llm, num_queries=3, use_async=use_async)
    engine = RetrieverQueryEngine.from_args(fusion, llm=llm)
    await each(handler, lambda number: getattr(engine, method)(f"query {number}"))
    for trace in exact(handler, 2):
        assert {stage.name for stage in trace.stages} >= {"embed", "vector", "retrieve", "llm"}


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
def test_a_query_is_transformed(handler: CostLatencyHandler, index: VectorStoreIndex, streaming: bool) -> None:
    """HyDE asks a model for a document before the query: both calls are one query's."""
    llm = Speaking(says=lambda prompt: f"made for query {number_in(prompt)}")
    engine = TransformQueryEngine(index.as_query_engine(llm=llm, streaming=streaming), HyDEQueryTransform(llm=llm))
    answers = []
    for number in range(N):
        with handler.tags(n=str(number)):
            answers.append(engine.query(f"query {number}"))
    for answer in reversed(answers if streaming else []):
        list(answer.response_gen)
    exact(handler, 2)


def test_several_steps(handler: CostLatencyHandler, index: VectorStoreIndex) -> None:
    """A multi-step engine asks, rewrites and sums up: every call of every step."""
    from llama_index.core.indices.query.query_transform import StepDecomposeQueryTransform

    llm = Speaking(says=lambda prompt: f"again query {number_in(prompt)}")
    engine = MultiStepQueryEngine(
        index.as_query_engine(llm=llm),
        StepDecomposeQueryTransform(llm=llm),
        get_response_synthesizer(llm=llm),
        num_steps=2,
        early_stopping=False,
    )
    for number in range(3):
        with handler.tags(n=str(number)):
            engine.query(f"query {number}")
    exact(handler, llm.calls // 3, 3)


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
async def test_routers_of_routers(handler: CostLatencyHandler, index: VectorStoreIndex, streaming: bool) -> None:
    """Two models choose, one answers; the outer choice is the route."""
    answering = Speaking()
    choosing = Speaking(says=lambda _: json.dumps([{"choice": 1, "reason": "first"}]))
    tools = [tool(index.as_query_engine(llm=answering, streaming=streaming), name) for name in ("a", "b")]
    inner = RouterQueryEngine(LLMSingleSelector.from_defaults(choosing), tools, llm=answering)
    outer = RouterQueryEngine(
        LLMSingleSelector.from_defaults(choosing), [tool(inner, "in"), tool(inner, "out")], answering
    )

    async def ask(number: int) -> None:
        answer = await outer.aquery(f"query {number}")
        if streaming:
            async for _ in answer.response_gen:
                pass

    await each(handler, ask)
    assert {trace.route for trace in exact(handler, 3)} == {"in"}


class Facts(BaseModel):
    """What a model is to fill in."""

    name: str


def fills(prompt: str) -> str:
    """Facts as JSON."""
    return json.dumps({"name": f"query {number_in(prompt)}"})


@pytest.mark.parametrize("how", ["structured_predict", "astructured_predict", "as_structured_llm", "output_cls"])
async def test_structured_answers(handler: CostLatencyHandler, index: VectorStoreIndex, how: str) -> None:
    """Programs and structured models wrap the model: one call each."""
    llm = Speaking(says=fills)
    template = PromptTemplate("{question}")

    def ask(number: int) -> Any:
        if how == "as_structured_llm":
            return llm.as_structured_llm(Facts).complete(f"query {number}")
        if how == "output_cls":
            return index.as_query_engine(llm=llm, output_cls=Facts, response_mode="compact").query(f"query {number}")
        return getattr(llm, how)(Facts, template, question=f"query {number}")

    answers = await each(handler, ask)
    assert len(answers) == N
    assert llm.calls == N
    exact(handler, 1, kind=None)


# -- agents --------------------------------------------------------------------------------------------------------


class Calling(Speaking, FunctionCallingLLM):
    """Calls the first tool once, then answers."""

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex wants to know."""
        return LLMMetadata(is_chat_model=True, is_function_calling_model=True, model_name="calling")

    def _prepare_chat_with_tools(
        self, tools: Sequence[Any], user_msg: Any = None, chat_history: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        messages = [*(chat_history or ()), *([ChatMessage(content=str(user_msg))] if user_msg else ())]
        return {"messages": messages, "tools": [each.metadata.name for each in tools or ()]}

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The one call, where the last answer asks for it."""
        text = (response.message.content or "").strip()
        if not (text.startswith("call ") and text.endswith("}")):  # also of the beginning of a stream
            return []
        _, name, rest = text.split(" ", 2)
        return [ToolSelection(tool_id="one", tool_name=name, tool_kwargs=json.loads(rest))]


def calls_once(name: str, **arguments: Any) -> Says:
    """What to say to call a tool in the first step of a conversation, and to be done in the next."""

    def says(prompt: str) -> str:
        filled = {key: value.format(number_in(prompt)) for key, value in arguments.items()}
        return (
            f"all done with query {number_in(prompt)}" if "tool says" in prompt else f"call {name} {json.dumps(filled)}"
        )

    return says


class Passage(BaseRetriever):
    """Finds one passage."""

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [NodeWithScore(node=TextNode(id_="p", text=f"{query_bundle.query_str} is refreshed"), score=0.9)]


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
async def test_our_engine_inside_an_agent(handler: CostLatencyHandler, streaming: bool) -> None:
    """An agent's two steps and its tool's answer are one query of three calls; the tool's sources are the answer's."""
    answering = Speaking(says=lambda prompt: f"tool says query {number_in(prompt)}")
    engine = HybridRouterQueryEngine.from_stores(vector=Passage(), llm=answering)
    llm = Calling(says=calls_once("tool", input="query {}"))

    async def ask(number: int) -> None:
        agent = FunctionAgent(tools=[tool(engine)], llm=llm, streaming=streaming)
        run = agent.run(f"query {number}", memory=ChatMemoryBuffer.from_defaults(token_limit=4000))
        async for _ in run.stream_events():
            pass
        await run

    await each(handler, ask)
    for trace in exact(handler, 3, kind="agent"):
        assert "vector" in {stage.name for stage in trace.stages}


async def test_agents_that_hand_over(handler: CostLatencyHandler) -> None:
    """Two agents of one workflow are one query."""
    first = Calling(says=lambda prompt: f'call handoff {{"to_agent": "second", "reason": "query {number_in(prompt)}"}}')
    second = Calling(says=lambda prompt: f"done with query {number_in(prompt)}")

    async def ask(number: int) -> None:
        agents = [
            FunctionAgent(name="first", description="one", llm=first, can_handoff_to=["second"]),
            FunctionAgent(name="second", description="two", llm=second),
        ]
        flow = AgentWorkflow(agents=agents, root_agent="first")
        await flow.run(f"query {number}", memory=ChatMemoryBuffer.from_defaults(token_limit=4000))

    await each(handler, ask)
    exact(handler, 2, kind="agent")


async def test_memory_of_an_agent(handler: CostLatencyHandler) -> None:
    """What an agent's memory block retrieves is the agent's query, and a stage of it."""
    llm = Calling(says=lambda prompt: f"done with query {number_in(prompt)}")
    for number in range(3):
        database = create_async_engine("sqlite+aiosqlite:///:memory:")
        memory = Memory.from_defaults(memory_blocks=[HybridMemoryBlock(retriever=Passage())], async_engine=database)
        with handler.tags(n=str(number)):
            await FunctionAgent(tools=[], llm=llm).run(f"Tell me of query {number}", memory=memory)
        await database.dispose()
    for trace in exact(handler, 1, 3, kind="agent"):
        assert {stage.name for stage in trace.stages} == {"vector", "fuse", "llm"}


CHATS = ["chat", "achat", "stream_chat", "astream_chat"]


@pytest.mark.parametrize("method", CHATS)
async def test_our_own_chat(handler: CostLatencyHandler, method: str) -> None:
    """Small talk and a question to the memory, in the same chat: each turn is a query of its own."""
    llm = Speaking(is_chat=True)
    engine = HybridRouterQueryEngine.from_stores(vector=Passage(), llm=llm, no_answer="llm")

    async def ask(number: int) -> None:
        chat = engine.as_chat_engine()
        answer = getattr(chat, method)(f"Is query {number} refreshed?")
        answer = await answer if method.startswith("a") else answer
        if method == "stream_chat":
            list(answer.response_gen)
        elif method == "astream_chat":
            async for _ in answer.async_response_gen():
                pass

    await each(handler, ask)
    for trace in exact(handler, 1, kind="chat"):
        assert (trace.route, trace.answer) == ("hybrid", "generated")


@pytest.mark.parametrize("method", CHATS[2:])
async def test_our_own_chat_that_nobody_reads(handler: CostLatencyHandler, method: str) -> None:
    """It is told of once the response is gone."""
    engine = HybridRouterQueryEngine.from_stores(vector=Passage(), llm=Speaking(is_chat=True), no_answer="llm")
    answer = getattr(engine.as_chat_engine(), method)("Is query 1 refreshed?")
    answer = await answer if method.startswith("a") else answer
    del answer
    gc.collect()
    await asyncio.sleep(0)
    gc.collect()
    (trace,) = await handler.atraces()
    assert trace.status == "never_consumed"
    nothing_left(handler)


# -- documents -----------------------------------------------------------------------------------------------------


def test_ingesting(handler: CostLatencyHandler) -> None:
    """Splitting asks no model and is no query; embedding is an ingest."""
    pipeline = IngestionPipeline(transformations=[SentenceSplitter(chunk_size=64, chunk_overlap=0), EMBEDDING])
    pipeline.run(documents=[Document(text="one two three. " * 50)])
    SentenceSplitter(chunk_size=64, chunk_overlap=0).get_nodes_from_documents([Document(text="one two three. " * 50)])
    (trace,) = handler.traces()
    assert (trace.kind, trace.phase, [call.kind for call in trace.calls]) == ("ingest", "ingest", ["embedding"])
    nothing_left(handler)


def test_building_a_graph(handler: CostLatencyHandler) -> None:
    """A model's triplets are a graph's building, all its calls, and no query."""
    llm = Speaking(says=lambda _: "(a, b, c)")
    documents = [Document(text=f"query {number}") for number in range(5)]
    extractor = SimpleLLMPathExtractor(llm=llm, num_workers=2)
    PropertyGraphIndex.from_documents(
        documents, llm=llm, embed_model=EMBEDDING, kg_extractors=[extractor], show_progress=False
    )
    traces = handler.traces()
    calls = [call for trace in traces if trace.phase == "graph_build" for call in llm_calls(trace)]
    assert sorted(call.usage.output for call in calls if call.usage) == [OUTPUT + number for number in range(5)]
    assert {trace.phase for trace in traces} == {"graph_build", "ingest"}
    nothing_left(handler)


# -- postprocessors ------------------------------------------------------------------------------------------------


def test_a_model_that_reranks(handler: CostLatencyHandler, index: VectorStoreIndex) -> None:
    """Its call is the query's, its own time the stage "rerank"."""
    choosing = Speaking(says=lambda _: "Doc: 1, Relevance: 9")
    llm = Speaking()
    engine = index.as_query_engine(llm=llm, node_postprocessors=[LLMRerank(llm=choosing, top_n=1)])
    for number in range(N):
        with handler.tags(n=str(number)):
            engine.query(f"query {number}")
    for trace in exact(handler, 2):
        assert trace.stage_s("rerank") is not None
        assert trace.stage_s("postprocess") is None


class SomeRerank(BaseNodePostprocessor):
    """A reranker without events, as SentenceTransformerRerank is; fails when told to."""

    fails: bool = False

    def _postprocess_nodes(self, nodes: list[NodeWithScore], query_bundle: Any = None) -> list[NodeWithScore]:
        if self.fails:
            raise LookupError("no such word")
        return nodes[::-1]


class Dropping(SomeRerank):
    """Another postprocessor."""


def test_postprocessors_are_stages(handler: CostLatencyHandler, index: VectorStoreIndex) -> None:
    """One that reranks is told from the others by its name."""
    engine = index.as_query_engine(llm=Native(), node_postprocessors=[SomeRerank(), Dropping()])
    with handler.tags(n="0"):
        engine.query("query 0")
    (trace,) = exact(handler, 1, 1)
    assert {stage.name for stage in trace.stages} == {"embed", "vector", "rerank", "postprocess", "prompt", "llm"}


def test_a_postprocessor_that_fails(handler: CostLatencyHandler, index: VectorStoreIndex) -> None:
    """The app gets its error, the trace names it, and what was spent until then is there."""
    engine = index.as_query_engine(llm=Native(), node_postprocessors=[SomeRerank(fails=True)])
    with pytest.raises(LookupError, match="no such word"):
        engine.query("query 0")
    (trace,) = handler.traces()
    assert (trace.status, trace.error) == ("error", "LookupError: no such word")
    assert [call.kind for call in trace.calls] == ["embedding"]
    nothing_left(handler)


# -- models around models ------------------------------------------------------------------------------------------


class Cascade(Wrapped):
    """Asks a small model, and then a large one."""

    _small: Native = PrivateAttr(default_factory=Native)
    _large: Native = PrivateAttr(default_factory=Native)

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Ask both; the large one's answer counts."""
        self._small.chat(messages)
        return self._large.chat(messages)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Ask both."""
        self._small.complete(prompt)
        return self._large.complete(prompt)


class Handing(Cascade):
    """Adds nothing to one other model."""

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Ask it."""
        return self._large.complete(prompt)

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        """Ask it."""
        yield from self._large.stream_complete(prompt)


class Retrying(Cascade):
    """Asks the same model until it answers."""

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Ask thrice."""
        for _ in range(2):
            with pytest.raises(RuntimeError, match="down"):
                self._small.model_copy(update={"fails": True}).complete(prompt)
        return self._large.complete(prompt)


@pytest.mark.parametrize("is_chat", [False, True], ids=["text", "chat"])
@pytest.mark.parametrize(("kind", "calls"), [(Cascade, 2), (Handing, 1)])
async def test_models_around_models(
    handler: CostLatencyHandler, index: VectorStoreIndex, kind: type[Cascade], calls: int, is_chat: bool
) -> None:
    """The models that were asked are counted, the one around them is not."""
    engine = index.as_query_engine(llm=kind(is_chat=is_chat and kind is Cascade))
    await each(handler, lambda number: engine.aquery(f"query {number}"))
    exact(handler, calls)


@pytest.mark.parametrize("read", ["at once", "late"])
def test_streams_around_streams(handler: CostLatencyHandler, index: VectorStoreIndex, read: str) -> None:
    """A stream that hands another one on is no call of its own."""
    engine = index.as_query_engine(llm=Handing(), streaming=True)
    answers = []
    for number in range(N):
        with handler.tags(n=str(number)):
            answers.append(engine.query(f"query {number}"))
            if read == "at once":
                list(answers[-1].response_gen)
    for answer in answers:
        list(answer.response_gen)
    exact(handler, 1)


def test_retries(handler: CostLatencyHandler, index: VectorStoreIndex) -> None:
    """Each attempt is a call; those that failed have taken no tokens and name their error, and the query went well."""
    index.as_query_engine(llm=Retrying()).query("query 1")
    (trace,) = handler.traces()
    assert trace.status == "ok"
    assert [call.status for call in llm_calls(trace)] == ["error", "error", "ok"]
    assert [call.error for call in llm_calls(trace)] == ["RuntimeError", "RuntimeError", None]
    assert [call.usage is not None and call.usage.output for call in llm_calls(trace)] == [0, 0, OUTPUT + 1]
    nothing_left(handler)


# -- streams, threads and loops ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Native, Wrapped])
def test_fifty_threads_with_one_model(
    handler: CostLatencyHandler, index: VectorStoreIndex, kind: type[Wrapped]
) -> None:
    """All stream at the same time from one object."""
    engine = index.as_query_engine(llm=kind(), streaming=True)
    together = threading.Barrier(50)

    def ask(number: int) -> None:
        with handler.tags(n=str(number)):
            answer = engine.query(f"query {number}")
            together.wait(20)
            list(answer.response_gen)

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(ask, range(50)))
    exact(handler, 1, 50)


@pytest.mark.parametrize("kind", [Native, Wrapped])
def test_a_stream_in_two_threads(handler: CostLatencyHandler, index: VectorStoreIndex, kind: type[Wrapped]) -> None:
    """Begun in one thread and finished in another, with another query's context there."""
    engine = index.as_query_engine(llm=kind(), streaming=True)
    answers = []
    for number in range(N):
        with handler.tags(n=str(number)):
            answers.append(engine.query(f"query {number}"))
        next(answers[-1].response_gen)
    with ThreadPoolExecutor(4) as pool, handler.tags(n="wrong"), handler.query("around"):
        list(pool.map(lambda answer: contextvars.copy_context().run(list, answer.response_gen), answers))
    exact(handler, 1)


@pytest.mark.parametrize("read", [0, 1], ids=["unread", "half read"])
@pytest.mark.parametrize("kind", [Native, Wrapped])
def test_collected_in_another_thread(
    handler: CostLatencyHandler, index: VectorStoreIndex, kind: type[Wrapped], read: int
) -> None:
    """The garbage collector closes the streams in a thread that asked nothing, within another query."""
    engine = index.as_query_engine(llm=kind(), streaming=True)
    answers = [engine.query(f"query {number}") for number in range(N)]
    for answer in answers:
        for _ in range(read):
            next(answer.response_gen)
        answer.itself = answer  # only the collector can let it go
    answers.clear()
    del answer
    with handler.query("around"):
        thread = threading.Thread(target=gc.collect)
        thread.start()
        thread.join()
    traces = [trace for trace in handler.traces() if trace.name != "around"]
    assert [trace.status for trace in traces] == ["abandoned" if read else "never_consumed"] * N
    assert [len(llm_calls(trace)) for trace in traces] == [read] * N
    nothing_left(handler)


@pytest.mark.parametrize("read", [0, 1], ids=["unread", "half read"])
@pytest.mark.parametrize("kind", [Native, Wrapped])
async def test_async_streams_dropped(
    handler: CostLatencyHandler, index: VectorStoreIndex, kind: type[Wrapped], read: int
) -> None:
    """Nobody closes them; the loop does."""
    engine = index.as_query_engine(llm=kind(), streaming=True)

    async def begin(number: int) -> None:
        answer = await engine.aquery(f"query {number}")
        for _ in range(read):
            await anext(aiter(answer.response_gen))

    async def all_of_them() -> None:
        await asyncio.gather(*map(begin, range(N)))

    await all_of_them()
    while handler.health()["open"]:  # the loop closes LlamaIndex's own generators in its turn
        gc.collect()
        await asyncio.sleep(0)
    traces = await handler.atraces()
    assert [trace.status for trace in traces] == ["abandoned" if read else "never_consumed"] * N
    nothing_left(handler)


@pytest.mark.parametrize("kind", [Native, Wrapped])
def test_a_loop_that_closes_first(handler: CostLatencyHandler, index: VectorStoreIndex, kind: type[Wrapped]) -> None:
    """Streams that outlive their loop are no longer open when they are gone."""
    engine = index.as_query_engine(llm=kind(), streaming=True)
    kept = []

    async def begin() -> None:
        for number in range(3):
            kept.append(await engine.aquery(f"query {number}"))
            await anext(aiter(kept[-1].response_gen))

    asyncio.run(begin())
    kept.clear()
    gc.collect()
    assert [trace.status for trace in handler.traces()] == ["abandoned"] * 3
    nothing_left(handler)


async def test_timeouts(handler: CostLatencyHandler, index: VectorStoreIndex) -> None:
    """A query that took too long was cancelled, and so was its call."""
    engine = index.as_query_engine(llm=Native(pause_s=30))

    async def give_up() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(engine.aquery("query 1"), 0.05)

    await give_up()
    (trace,) = await handler.atraces()
    assert (trace.status, [call.status for call in llm_calls(trace)]) == ("cancelled", ["cancelled"])
    nothing_left(handler)


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
def test_a_key_is_pressed(handler: CostLatencyHandler, index: VectorStoreIndex, streaming: bool) -> None:
    """KeyboardInterrupt goes to the app and leaves nothing open."""

    def interrupt(_: str) -> str:
        raise KeyboardInterrupt

    engine = index.as_query_engine(llm=Speaking(says=interrupt), streaming=streaming)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - a stream raises when it is read
        list(getattr(engine.query("query 1"), "response_gen", ()))
    (trace,) = handler.traces()
    assert trace.status == "error"
    assert trace.error is not None
    assert "KeyboardInterrupt" in trace.error
    nothing_left(handler)


# -- other instruments ---------------------------------------------------------------------------------------------


class Foreign(BaseSpanHandler[Any]):
    """Somebody else's tracer: raises at every turn, or replaces the stream of an answer as OpenInference does."""

    replaces: bool = False

    @classmethod
    def class_name(cls) -> str:
        """Return the class name."""
        return "Foreign"

    def _fail(self) -> None:
        if not self.replaces:
            raise RuntimeError("foreign")

    def new_span(self, *args: Any, **kwargs: Any) -> None:
        """Nothing, or a fault."""
        self._fail()

    def prepare_to_exit_span(
        self, id_: str, bound_args: Any, instance: Any = None, result: Any = None, **_: Any
    ) -> None:
        """Puts a stream of its own around an answer's."""
        self._fail()
        if hasattr(result, "response_gen") and isinstance(result.response_gen, Iterator):
            result.response_gen = Replaced(result.response_gen)

    def prepare_to_drop_span(self, *args: Any, **kwargs: Any) -> None:
        """Nothing, or a fault."""
        self._fail()


class Replaced:
    """An iterator, not a generator, around a stream."""

    def __init__(self, tokens: Iterator[str]) -> None:
        self._tokens = tokens

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._tokens)


@pytest.mark.parametrize("first", [False, True], ids=["after ours", "before ours"])
@pytest.mark.parametrize("replaces", [False, True], ids=["raises", "replaces"])
@pytest.mark.parametrize("kind", [Native, Wrapped])
def test_beside_a_foreign_tracer(index: VectorStoreIndex, kind: type[Wrapped], replaces: bool, first: bool) -> None:
    """Nothing is lost or counted twice, whoever stands first; an unread and a half-read stream end, too."""
    root, foreign, handler = get_dispatcher(), Foreign(), CostLatencyHandler()
    foreign.replaces = replaces
    engine = index.as_query_engine(llm=kind(), streaming=True)
    root.add_span_handler(foreign) if first else handler.install()
    handler.install() if first else root.add_span_handler(foreign)
    try:
        answers = []
        for number in range(N):
            with handler.tags(n=str(number)):
                answers.append(engine.query(f"query {number}"))
        for answer in answers:
            assert "".join(answer.response_gen).startswith("this is")
        exact(handler, 1)
        handler.clear()
        next(engine.query("query 1").response_gen)
        engine.query("query 2")
        answers.clear()
        del answer
        gc.collect()
        assert sorted(trace.status for trace in handler.traces()) == ["abandoned", "never_consumed"]
        nothing_left(handler)
    finally:
        root.span_handlers.remove(foreign)
        handler.uninstall()


def test_tags_of_the_apps_own(handler: CostLatencyHandler, index: VectorStoreIndex) -> None:
    """What the app tags with LlamaIndex's own means is in the trace, whatever its type."""
    engine = index.as_query_engine(llm=Native(), streaming=True)
    with instrument_tags({"n": 0, "tenant": "acme", "odd": object, 5: None}):
        answer = engine.query("query 0")
    list(answer.response_gen)
    (trace,) = exact(handler, 1, 1)
    assert trace.tenant == "acme"
    assert set(trace.tags) == {"n", "odd", "5"}


def test_installed_while_a_query_runs(index: VectorStoreIndex) -> None:
    """What is left of a query that is under way is counted once, and the next one whole."""
    handler = CostLatencyHandler()

    class Installing(Passage):
        def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            handler.install()
            return super()._retrieve(query_bundle)

    engine = RetrieverQueryEngine.from_args(Installing(), llm=Native())
    try:
        engine.query("query 1")
        first = handler.traces()
        assert [call.usage.output for trace in first for call in llm_calls(trace) if call.usage] == [OUTPUT + 1]
        with handler.tags(n="0"):
            engine.query("query 0")
        assert len(handler.traces()) == len(first) + 1
        nothing_left(handler)
    finally:
        handler.uninstall()


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
def test_uninstalled_while_a_query_runs(index: VectorStoreIndex, streaming: bool) -> None:
    """The query goes on, its trace tells what was seen, and a later install begins cleanly."""
    handler = CostLatencyHandler().install()

    class Uninstalling(Passage):
        def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            handler.uninstall()
            return super()._retrieve(query_bundle)

    engine = RetrieverQueryEngine.from_args(Uninstalling(), llm=Wrapped(), streaming=streaming)
    answer = engine.query("query 1")
    assert "answer 1" in ("".join(answer.response_gen) if streaming else str(answer))
    assert [trace.status for trace in handler.traces()] == ["abandoned"]
    nothing_left(handler)
    handler.clear()
    with handler.attach(), handler.tags(n="0"):
        index.as_query_engine(llm=Native()).query("query 0")
        exact(handler, 1, 1)


@pytest.mark.parametrize("installed", [False, True], ids=["callbacks only", "both"])
def test_callbacks_everywhere(index: VectorStoreIndex, installed: bool) -> None:
    """In Settings' manager and in the model's, sync and streamed: each call once."""
    handler = CostLatencyHandler()
    if installed:
        handler.install()
    manager, before = CallbackManager([handler]), Settings._callback_manager
    Settings.callback_manager = manager
    try:
        for streaming in (False, True):
            engine = index.as_query_engine(llm=Native(callback_manager=manager), streaming=streaming)
            for number in range(N):
                with handler.tags(n=str(number)):
                    list(getattr(engine.query(f"query {number}"), "response_gen", ()))
            exact(handler, 1)
            handler.clear()
    finally:
        Settings._callback_manager = before
        handler.uninstall()
