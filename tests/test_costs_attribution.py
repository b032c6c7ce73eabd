"""Every model call is counted once and belongs to its query, however the app runs; counts name their query."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.agent.workflow import ReActAgent
from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.callbacks import CallbackManager
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import ChatMessage, ChatResponse, MessageRole
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import RouterQueryEngine
from llama_index.core.tools import FunctionTool, QueryEngineTool, ToolMetadata
from truthful import INPUT, OUTPUT, Native, Wrapped, number_in
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from llama_index_hybridmem.costs.handler import CostLatencyHandler
from llama_index_hybridmem.costs.tokens.usage import Usage
from llama_index_hybridmem.costs.trace import ModelCall, QueryTrace

N = 50
MODELS = [Native(), Wrapped(is_chat=True)]
MODEL_IDS = [f"{type(model).__name__}{'-chat' * model.is_chat}" for model in MODELS]
MODES = ("compact", "refine", "tree_summarize", "simple_summarize")
EMBEDDING = MockEmbedding(embed_dim=4)

# pytest-asyncio leaves an event loop of its own to the garbage collector, which these tests call
pytestmark = pytest.mark.filterwarnings("ignore:unclosed (event loop|<socket):ResourceWarning")
each_model = pytest.mark.parametrize("llm", MODELS, ids=MODEL_IDS)


@pytest.fixture(scope="module")
def index() -> VectorStoreIndex:
    """Three documents; their text is no one's query."""
    return VectorStoreIndex.from_documents([Document(text=f"text {n}") for n in range(3)], embed_model=EMBEDDING)


@pytest.fixture
def handler() -> Iterator[CostLatencyHandler]:
    """A handler on the instrumentation."""
    with CostLatencyHandler().attach() as attached:
        yield attached


def llm_calls(trace: QueryTrace) -> list[ModelCall]:
    """The calls of language models."""
    return [call for call in trace.calls if call.kind == "llm"]


def checked(handler: CostLatencyHandler, expected: int = N, calls: int = 1) -> list[QueryTrace]:
    """The traces, each with exactly the counts of its own query, and nothing left open."""
    traces = handler.traces()
    assert sorted(int(trace.tags["n"]) for trace in traces) == list(range(expected))
    for trace in traces:
        number = int(trace.tags["n"])
        counted = [(call.usage.input, call.usage.output) for call in llm_calls(trace) if call.usage is not None]
        assert counted == [(INPUT + number, OUTPUT + number)] * calls, trace
        assert trace.status == "ok"
    nothing_left(handler)
    return traces


def nothing_left(handler: CostLatencyHandler) -> None:
    """No query, span or lazy call is kept, and nothing went wrong."""
    health = handler.health()
    assert (health["open"], health["faults"], health["failed"], health["waiting"]) == (0, 0, 0, 0), health
    assert not handler.tracker.queries.spans


def ask(handler: CostLatencyHandler, engine: Any, number: int) -> Any:
    """Ask query n, tagged with n."""
    with handler.tags(n=str(number)):
        return engine.query(f"query {number}")


async def aask(handler: CostLatencyHandler, engine: Any, number: int) -> Any:
    """Ask query n, tagged with n."""
    with handler.tags(n=str(number)):
        return await engine.aquery(f"query {number}")


def shuffled(answers: list[Any]) -> list[Any]:
    """In another order, always the same."""
    random.Random(7).shuffle(answers)
    return answers


@each_model
def test_one_after_the_other(handler: CostLatencyHandler, index: VectorStoreIndex, llm: Wrapped) -> None:
    """Plain queries."""
    engine = index.as_query_engine(llm=llm)
    for number in range(N):
        ask(handler, engine, number)
    traces = checked(handler)
    assert {trace.kind for trace in traces} == {"query"}
    assert {stage.name for trace in traces for stage in trace.stages} >= {"embed", "vector", "prompt", "llm"}


@pytest.mark.parametrize(("mode", "llm"), list(zip(MODES, MODELS * 2, strict=True)), ids=MODES)
async def test_all_at_once(handler: CostLatencyHandler, index: VectorStoreIndex, llm: Wrapped, mode: str) -> None:
    """Fifty under asyncio.gather, in every response mode that asks once."""
    engine = index.as_query_engine(llm=llm, response_mode=mode, similarity_top_k=1)

    async def all_of_them() -> None:
        await asyncio.gather(*(aask(handler, engine, number) for number in range(N)))

    await all_of_them()
    checked(handler)


@each_model
def test_in_threads(handler: CostLatencyHandler, index: VectorStoreIndex, llm: Wrapped) -> None:
    """Sixteen threads of the app's own."""
    engine = index.as_query_engine(llm=llm)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: ask(handler, engine, number), range(N)))
    checked(handler)


def read_at_once(answers: Iterator[Any]) -> None:
    """Each stream is read before the next query."""
    for answer in answers:
        assert "".join(answer.response_gen).startswith("this is the answer")


def read_late(answers: Iterator[Any]) -> None:
    """All streams are read after all queries, in another order."""
    for answer in shuffled(list(answers)):
        list(answer.response_gen)


def read_in_threads(answers: Iterator[Any]) -> None:
    """The streams are read by other threads than asked."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda answer: list(answer.response_gen), shuffled(list(answers))))


def read_in_turns(answers: Iterator[Any]) -> None:
    """All streams are read at the same time, a token of each in turn."""
    streams = [answer.response_gen for answer in answers]
    while streams:
        streams = [stream for stream in streams if next(stream, None) is not None]


@each_model
@pytest.mark.parametrize("read", [read_at_once, read_late, read_in_threads, read_in_turns])
def test_streams(
    handler: CostLatencyHandler, index: VectorStoreIndex, llm: Wrapped, read: Callable[[Iterator[Any]], None]
) -> None:
    """A stream belongs to its query whenever and wherever it is read; its first token is timed."""
    engine = index.as_query_engine(llm=llm, streaming=True)
    read(ask(handler, engine, number) for number in range(N))
    for trace in checked(handler):
        assert trace.first_token_s is not None
        assert 0 < trace.first_token_s <= trace.wall_s
        assert llm_calls(trace)[0].streamed


@each_model
async def test_async_streams(handler: CostLatencyHandler, index: VectorStoreIndex, llm: Wrapped) -> None:
    """Fifty async streams, asked and read at the same time."""
    engine = index.as_query_engine(llm=llm, streaming=True)

    async def read(answer: Any) -> None:
        async for _ in answer.response_gen:
            await asyncio.sleep(0)

    async def all_of_them() -> None:
        answers = await asyncio.gather(*(aask(handler, engine, number) for number in range(N)))
        await asyncio.gather(*map(read, shuffled(list(answers))))

    await all_of_them()
    checked(handler)


@each_model
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_half_read_streams(
    handler: CostLatencyHandler, index: VectorStoreIndex, llm: Wrapped, is_async: bool
) -> None:
    """A stream closed early is "abandoned", and what was written until then is counted, as an estimate."""
    engine = index.as_query_engine(llm=llm, streaming=True)

    async def begin(number: int) -> None:
        answer = await aask(handler, engine, number)
        await anext(aiter(answer.response_gen))
        await answer.response_gen.aclose()

    async def all_of_them() -> None:
        await asyncio.gather(*map(begin, range(5)))

    if is_async:
        await all_of_them()
        while handler.health()["open"]:  # the loop closes LlamaIndex's own generators in its turn
            gc.collect()
            await asyncio.sleep(0)
    else:
        for number in range(5):
            answer = ask(handler, engine, number)
            next(answer.response_gen)
            answer.response_gen.close()
    traces = await handler.atraces()
    assert [trace.status for trace in traces] == ["abandoned"] * 5
    for trace in traces:
        (call,) = llm_calls(trace)
        assert call.status == "abandoned"
        assert call.usage is not None
        assert (call.usage.source, call.usage.output) == ("estimated", 2)  # "this "
    nothing_left(handler)


@each_model
def test_streams_that_nobody_reads(handler: CostLatencyHandler, index: VectorStoreIndex, llm: Wrapped) -> None:
    """They asked no model, cost nothing, and are told of when the response is gone, with nothing kept."""
    engine = index.as_query_engine(llm=llm, streaming=True)
    answers = [ask(handler, engine, number) for number in range(5)]
    assert handler.health()["open"] == 5
    del answers
    gc.collect()
    traces = handler.traces()
    assert [trace.status for trace in traces] == ["never_consumed"] * 5
    assert [llm_calls(trace) for trace in traces] == [[]] * 5
    nothing_left(handler)


METHODS = [f"{a}{stream}{how}" for a in ("", "a") for stream in ("", "stream_") for how in ("complete", "chat")]


async def called(llm: Wrapped, method: str, number: int) -> None:
    """Ask a model itself, by one of its eight methods, and read what it streams."""
    prompt = [ChatMessage(content=f"query {number}")] if "chat" in method else f"query {number}"
    answer = getattr(llm, method)(prompt)
    if method.startswith("a"):
        answer = await answer
    if isinstance(answer, AsyncIterator):
        async for _ in answer:
            await asyncio.sleep(0)
    elif isinstance(answer, Iterator):
        list(answer)


@each_model
@pytest.mark.parametrize("method", METHODS)
async def test_a_model_by_itself(handler: CostLatencyHandler, llm: Wrapped, method: str) -> None:
    """LlamaIndex fires up to three ends for one call of a model that lacks methods; one is counted."""

    async def one(number: int) -> None:
        with handler.tags(n=str(number)):
            await called(llm, method, number)

    async def all_of_them() -> None:
        await asyncio.gather(*map(one, range(N)))

    await all_of_them()
    assert {trace.kind for trace in checked(handler)} == {"llm"}


async def test_the_same_prompt_at_the_same_time(handler: CostLatencyHandler) -> None:
    """Async streams that LlamaIndex makes of sync ones are told apart, though model and prompt are the same."""
    llm = Wrapped()
    messages = [ChatMessage(content="query 7")]

    async def one(number: int) -> None:
        with handler.tags(n=str(number)):
            async for _ in await llm.astream_chat(messages):
                await asyncio.sleep(0)

    async def all_of_them() -> None:
        await asyncio.gather(*map(one, range(N)))

    await all_of_them()
    traces = handler.traces()
    assert sorted(int(trace.tags["n"]) for trace in traces) == list(range(N))
    assert all(len(llm_calls(trace)) == 1 for trace in traces)
    nothing_left(handler)


def test_a_stream_of_a_model_that_nobody_reads(handler: CostLatencyHandler) -> None:
    """It leaves no open call behind."""
    for llm in MODELS:
        del_me = llm.stream_complete("query 1")
        del del_me
    gc.collect()
    assert {trace.status for trace in handler.traces()} == {"never_consumed"}
    nothing_left(handler)


CHATS = ["simple", "context", "condense_plus_context", "condense_question"]


@each_model
@pytest.mark.parametrize("mode", CHATS)
@pytest.mark.parametrize("method", ["chat", "achat", "stream_chat", "astream_chat"])
async def test_chat_engines(
    handler: CostLatencyHandler, index: VectorStoreIndex, llm: Wrapped, mode: str, method: str
) -> None:
    """A chat's stream is read by a thread or task of the engine's own, after the engine has returned."""
    chats = 6

    async def one(number: int) -> None:
        memory = ChatMemoryBuffer.from_defaults(token_limit=4000)  # the default one leaves its database open
        if mode == "simple":
            engine: Any = SimpleChatEngine.from_defaults(llm=llm, memory=memory)
        else:
            engine = index.as_chat_engine(mode, llm=llm, memory=memory)
        with handler.tags(n=str(number)):
            answer = getattr(engine, method)(f"query {number}")
            answer = await answer if method.startswith("a") else answer
            if method == "stream_chat":
                list(answer.response_gen)
            elif method == "astream_chat":
                async for _ in answer.async_response_gen():
                    pass

    async def all_of_them() -> None:
        await asyncio.gather(*map(one, range(chats)))

    await all_of_them()
    assert {trace.kind for trace in checked(handler, chats)} == {"chat"}


class Parity(BaseSelector):
    """Chooses by the number in the question."""

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts: Any) -> None:
        pass

    def _select(self, choices: Any, query: Any) -> SelectorResult:
        return SelectorResult(selections=[SingleSelection(index=number_in(query.query_str) % 2, reason="parity")])

    async def _aselect(self, choices: Any, query: Any) -> SelectorResult:
        return self._select(choices, query)


@each_model
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
async def test_llamaindex_routers(
    handler: CostLatencyHandler, index: VectorStoreIndex, llm: Wrapped, streaming: bool
) -> None:
    """LlamaIndex fires no event for its router's choice; it is read from the selector."""
    engine = index.as_query_engine(llm=llm, streaming=streaming)
    tools = [QueryEngineTool(engine, ToolMetadata(name=name, description=name)) for name in ("even", "odd")]
    router = RouterQueryEngine(selector=Parity(), query_engine_tools=tools, llm=llm)

    async def one(number: int) -> None:
        answer = await aask(handler, router, number)
        if streaming:
            async for _ in answer.response_gen:
                pass

    async def all_of_them() -> None:
        await asyncio.gather(*map(one, range(N)))

    await all_of_them()
    for trace in checked(handler):
        assert trace.route == ("odd" if int(trace.tags["n"]) % 2 else "even")
        assert trace.stage_s("route") is not None


class Reasoning(Native):
    """Speaks as a ReAct agent wants it."""

    def _reply(self, prompt: str) -> ChatResponse:
        answer = super()._reply(prompt)
        said = "Thought: I can answer without using any more tools.\nAnswer: done"
        return answer.model_copy(update={"message": ChatMessage(role=MessageRole.ASSISTANT, content=said)})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # LlamaIndex's agents use what its workflows deprecate
async def test_agents(handler: CostLatencyHandler) -> None:
    """An agent's steps run in tasks of its own."""
    tool = FunctionTool.from_defaults(lambda text: text, name="echo", description="repeats")

    async def one(number: int) -> None:
        agent = ReActAgent(tools=[tool], llm=Reasoning(is_chat=True), streaming=False)
        with handler.tags(n=str(number)):
            await agent.run(f"query {number}", memory=ChatMemoryBuffer.from_defaults(token_limit=4000))

    async def all_of_them() -> None:
        await asyncio.gather(*map(one, range(10)))

    await all_of_them()
    assert {trace.kind for trace in checked(handler, 10)} == {"agent"}


class Asking(Workflow):
    """Asks a model in a step."""

    @step
    async def go(self, event: StartEvent) -> StopEvent:
        """Ask, twice at the same time."""
        await asyncio.gather(MODELS[0].acomplete(event.question), MODELS[1].acomplete(event.question))
        return StopEvent()


async def test_workflows(handler: CostLatencyHandler) -> None:
    """Both calls of a workflow's step are its own; the tags that LlamaIndex adds, with the input, are left out."""

    async def one(number: int) -> None:
        with handler.tags(n=str(number)):
            await Asking().run(question=f"query {number}")

    async def all_of_them() -> None:
        await asyncio.gather(*map(one, range(N)))

    await all_of_them()
    for trace in checked(handler, calls=2):
        assert trace.kind == "workflow"
        assert set(trace.tags) == {"n"}


@each_model
def test_several_calls_as_one_query(handler: CostLatencyHandler, index: VectorStoreIndex, llm: Wrapped) -> None:
    """A block of the app's own is one query."""
    engine = index.as_query_engine(llm=llm)
    for number in range(5):
        with handler.tags(n=str(number)), handler.query("pipeline"):
            engine.query(f"query {number}")
            llm.complete(f"query {number}")
    assert {trace.name for trace in checked(handler, 5, calls=2)} == {"pipeline"}


@pytest.mark.parametrize("kind", [Native, Wrapped])
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
def test_a_model_that_is_down(
    handler: CostLatencyHandler, index: VectorStoreIndex, kind: type[Wrapped], streaming: bool
) -> None:
    """The query is an error, and the call is one that took no tokens: a refused request is not charged."""
    engine = index.as_query_engine(llm=kind(fails=True), streaming=streaming)
    with pytest.raises(RuntimeError, match="down"):  # noqa: PT012 - a stream raises when it is read
        list(getattr(ask(handler, engine, 1), "response_gen", ()))
    (trace,) = handler.traces()
    assert (trace.status, trace.error) == ("error", "RuntimeError: the model is down")
    (call,) = llm_calls(trace)
    assert (call.status, call.error, call.usage) == ("error", "RuntimeError", Usage(0, 0, source="estimated"))
    nothing_left(handler)


@each_model
def test_a_stream_that_breaks(handler: CostLatencyHandler, index: VectorStoreIndex, llm: Wrapped) -> None:
    """What was written before it broke is charged, as an estimate."""
    engine = index.as_query_engine(llm=llm.model_copy(update={"breaks_after": 3}), streaming=True)
    with pytest.raises(RuntimeError, match="broke"):  # noqa: PT012 - a stream raises when it is read
        list(ask(handler, engine, 1).response_gen)
    (trace,) = handler.traces()
    (call,) = llm_calls(trace)
    assert (trace.status, call.status) == ("error", "error")
    assert call.usage is not None
    assert (call.usage.source, call.usage.output) == ("estimated", 3)  # "this is the "
    nothing_left(handler)


async def test_cancelled_tasks(handler: CostLatencyHandler, index: VectorStoreIndex) -> None:
    """They are told as such, and leave nothing open."""
    engine = index.as_query_engine(llm=Native(pause_s=30))

    async def give_up() -> None:
        tasks = [asyncio.create_task(aask(handler, engine, number)) for number in range(N)]
        while sum(len(query.calls) for query in list(handler.tracker.queries.open.values())) < N:
            await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    await give_up()
    traces = handler.traces()
    assert [trace.status for trace in traces] == ["cancelled"] * N
    assert {call.status for trace in traces for call in llm_calls(trace)} == {"cancelled"}
    nothing_left(handler)


def counted(handler: CostLatencyHandler, manager: CallbackManager, index: VectorStoreIndex, llm: Wrapped) -> None:
    """Ask five queries through engines that know the manager."""
    retriever = index.as_retriever()
    retriever.callback_manager = manager
    engine = index.as_query_engine(llm=llm)
    engine.callback_manager = manager
    for number in range(5):
        ask(handler, engine, number)


@each_model
@pytest.mark.parametrize("also_installed", [False, True], ids=["callbacks only", "both"])
def test_as_a_callback_handler(index: VectorStoreIndex, llm: Wrapped, also_installed: bool) -> None:
    """Passed in a CallbackManager it counts each call once, from the first query on, installed as well or not."""
    handler = CostLatencyHandler()
    if also_installed:
        handler.install()
    try:
        counted(handler, CallbackManager([handler]), index, llm)
        checked(handler, 5)
    finally:
        handler.uninstall()


def test_callbacks_limit_what_is_kept(index: VectorStoreIndex) -> None:
    """A handler that is only in a CallbackManager keeps the queries that reach that manager, and no others."""
    handler = CostLatencyHandler()
    try:
        counted(handler, CallbackManager([handler]), index, MODELS[0])
        ask(handler, index.as_query_engine(llm=MODELS[0]), 99)
        checked(handler, 5)
    finally:
        handler.uninstall()


def test_installing_twice_counts_once(index: VectorStoreIndex) -> None:
    """Also inside a block that attaches it once more; afterwards nothing is left on LlamaIndex."""
    handler = CostLatencyHandler()
    with handler.install().attach(), handler.attach():
        ask(handler, index.as_query_engine(llm=MODELS[0]), 0)
    assert handler.installed
    checked(handler, 1)
    handler.uninstall()
    assert not handler.installed
    ask(handler, index.as_query_engine(llm=MODELS[0]), 1)
    checked(handler, 1)


def test_two_handlers_count_for_themselves(handler: CostLatencyHandler, index: VectorStoreIndex) -> None:
    """Both see the whole stream."""
    with CostLatencyHandler().attach() as other:
        read_late(ask(handler, index.as_query_engine(llm=MODELS[1], streaming=True), number) for number in range(5))
        checked(other, 5)
    checked(handler, 5)
