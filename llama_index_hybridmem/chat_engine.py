"""Chat on the query engine: follow-ups are condensed, small talk is answered from the chat; knows no stores or routes.

LlamaIndex's context chat engines say "Empty Response" to a greeting, and its condensing one loses sources when it
streams asynchronously. Here every turn is one query of the engine, with its routes, evidence, sources and metadata.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence

from llama_index.core.base.llms.generic_utils import messages_to_history_str
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index.core.callbacks import trace_method
from llama_index.core.chat_engine.types import AgentChatResponse, BaseChatEngine
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.instrumentation.events.chat_engine import (
    StreamChatDeltaReceivedEvent,
    StreamChatEndEvent,
    StreamChatErrorEvent,
    StreamChatStartEvent,
)
from llama_index.core.llms import LLM
from llama_index.core.memory import BaseMemory, ChatMemoryBuffer
from llama_index.core.prompts import BasePromptTemplate
from llama_index_instrumentation import get_dispatcher

from .chat_turn import ChatStream, Turn, text_of
from .prompts import CONDENSE
from .routed_engine import RoutedQueryEngine
from .routing.decision import Route, RouteDecision
from .routing.need import retrieval_need
from .streaming import aone, one

dispatcher = get_dispatcher(__name__)

_ANSWER_TOKENS = 256
"""Kept free of history for the answer, as LlamaIndex's chat engines do."""


class HybridChatEngine(BaseChatEngine):
    """A chat with the memories and with the model.

    A turn is kept in the history when its answer is complete, or closed by the consumer; a turn that fails leaves no
    trace. Every response carries `source_nodes`; `sources[0].raw_output` is the query engine's response.

    Args:
        engine: answers each turn; its own `streaming` setting plays no part.
        llm: condenses follow-up questions; None: they are asked as they are.
        memory: LlamaIndex's chat history.
        condense_prompt: with {chat_history} and {question}.
        system_prompt: stands in front of every prompt; not of a wording's, which has its own.
    """

    def __init__(
        self,
        engine: RoutedQueryEngine,
        llm: LLM | None,
        memory: BaseMemory,
        condense_prompt: BasePromptTemplate = CONDENSE,
        system_prompt: str | None = None,
    ) -> None:
        self._engine = engine
        self._llm = llm
        self._memory = memory
        self._condense_prompt = condense_prompt
        self._system_prompt = system_prompt
        self.callback_manager = engine.callback_manager

    @classmethod
    def from_defaults(
        cls,
        engine: RoutedQueryEngine,
        *,
        llm: LLM | None = None,
        memory: BaseMemory | None = None,
        chat_history: Sequence[ChatMessage] | None = None,
        condense_prompt: BasePromptTemplate | None = None,
        skip_condense: bool = False,
        system_prompt: str | None = None,
    ) -> HybridChatEngine:
        """Build a chat engine.

        Args:
            engine: answers each turn.
            llm: condenses follow-up questions; None for the engine's.
            memory: chat history; None for a ChatMemoryBuffer as long as the model's context (a `Memory` would open a
                database connection for every chat).
            chat_history: what was said before, for the new one.
            condense_prompt: with {chat_history} and {question}.
            skip_condense: whether follow-up questions are asked as they are.
            system_prompt: stands in front of every prompt; not of a wording's, which has its own.

        Raises:
            NoLLMError: the engine needs a model and there is none.
        """
        if llm is None and engine.synthesis.asks_llm:
            llm = engine.synthesis.llm(engine.router.default)
        if memory is None:
            window = DEFAULT_CONTEXT_WINDOW if llm is None else llm.metadata.context_window
            limit = max(window - _ANSWER_TOKENS, _ANSWER_TOKENS)
            memory = ChatMemoryBuffer.from_defaults(list(chat_history or ()), token_limit=limit)
        return cls(engine, None if skip_condense else llm, memory, condense_prompt or CONDENSE, system_prompt)

    @property
    def chat_history(self) -> list[ChatMessage]:
        """What was said so far."""
        return self._memory.get_all()

    def reset(self) -> None:
        """Forget what was said."""
        self._memory.reset()

    @trace_method("chat")
    def chat(self, message: str, chat_history: list[ChatMessage] | None = None) -> AgentChatResponse:
        """Answer a message."""
        turn = self._turn(message, chat_history, streaming=False)
        response = turn.engine.query(turn.question)
        for said in turn.said(text_of(response)):
            self._memory.put(said)
        return turn.whole(response)

    @trace_method("chat")
    async def achat(self, message: str, chat_history: list[ChatMessage] | None = None) -> AgentChatResponse:
        """Answer a message."""
        turn = await self._aturn(message, chat_history, streaming=False)
        response = await turn.engine.aquery(turn.question)
        for said in turn.said(text_of(response)):
            await self._memory.aput(said)
        return turn.whole(response)

    @trace_method("chat")
    def stream_chat(self, message: str, chat_history: list[ChatMessage] | None = None) -> ChatStream:
        """Answer a message token by token."""
        turn = self._turn(message, chat_history, streaming=True)
        response = turn.engine.query(turn.question)
        tokens = response.response_gen if isinstance(response, StreamingResponse) else one(text_of(response))

        def steps() -> Generator[ChatResponse, None, None]:
            text = ""
            dispatcher.event(StreamChatStartEvent())
            try:
                for token in tokens:
                    text += token
                    yield _step(text, token)
            except GeneratorExit:
                tokens.close()
            except Exception as error:
                dispatcher.event(StreamChatErrorEvent(exception=error))
                raise
            for said in turn.said(text):
                self._memory.put(said)
            dispatcher.event(StreamChatEndEvent())

        return turn.stream(response, chat_stream=steps())

    @trace_method("chat")
    async def astream_chat(self, message: str, chat_history: list[ChatMessage] | None = None) -> ChatStream:
        """Answer a message token by token."""
        turn = await self._aturn(message, chat_history, streaming=True)
        response = await turn.engine.aquery(turn.question)
        tokens = response.response_gen if isinstance(response, AsyncStreamingResponse) else aone(text_of(response))

        async def steps() -> AsyncGenerator[ChatResponse, None]:
            text = ""
            dispatcher.event(StreamChatStartEvent())
            try:
                async for token in tokens:
                    text += token
                    yield _step(text, token)
            except GeneratorExit:
                await tokens.aclose()
            except Exception as error:
                dispatcher.event(StreamChatErrorEvent(exception=error))
                raise
            for said in turn.said(text):
                await self._memory.aput(said)
            dispatcher.event(StreamChatEndEvent())

        return turn.stream(response, achat_stream=steps())

    def _turn(self, message: str, chat_history: list[ChatMessage] | None, *, streaming: bool) -> Turn:
        if chat_history is not None:
            self._memory.set(chat_history)
        earlier = self._memory.get(input=message)
        decision = self._decision(message)
        question = message
        if self._llm is not None and decision is None and _has_turns(earlier):
            said = messages_to_history_str(earlier)
            question = _first_line(self._llm.predict(self._condense_prompt, chat_history=said, question=message))
        return self._prepared(message, question or message, earlier, decision, streaming)

    async def _aturn(self, message: str, chat_history: list[ChatMessage] | None, *, streaming: bool) -> Turn:
        if chat_history is not None:
            await self._memory.aset(chat_history)
        earlier = await self._memory.aget(input=message)
        decision = self._decision(message)
        question = message
        if self._llm is not None and decision is None and _has_turns(earlier):
            said = messages_to_history_str(earlier)
            question = _first_line(await self._llm.apredict(self._condense_prompt, chat_history=said, question=message))
        return self._prepared(message, question or message, earlier, decision, streaming)

    def _decision(self, message: str) -> RouteDecision | None:
        """The parametric route where the message itself shows it; condensing would make a question of a "Hi"."""
        fixed = self._engine.router.fixed
        if fixed is not None:
            return self._engine.router.at_once(message) if fixed is Route.PARAMETRIC else None
        need = retrieval_need(message)
        return None if need.needed else RouteDecision(Route.PARAMETRIC, need.reason, "rules")

    def _prepared(
        self,
        message: str,
        question: str,
        earlier: Sequence[ChatMessage],
        decision: RouteDecision | None,
        streaming: bool,
    ) -> Turn:
        engine = self._engine.in_conversation(
            earlier, streaming=streaming, system_prompt=self._system_prompt, decision=decision
        )
        return Turn(engine, message, question)


def _has_turns(messages: Sequence[ChatMessage]) -> bool:
    """Whether there is a conversation; the system messages of memory blocks are none."""
    return any(message.role in (MessageRole.USER, MessageRole.ASSISTANT) for message in messages)


def _first_line(text: str) -> str:
    """The condensed question alone: small models go on after it."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _step(text: str, token: str) -> ChatResponse:
    dispatcher.event(StreamChatDeltaReceivedEvent(delta=token))
    return ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, content=text), delta=token)
