"""The app that is observed: a router over two engines, and models whose token counts name the query they answered.

Knows nothing of who observes it.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llama_index.core import Document, MockEmbedding, Settings, VectorStoreIndex
from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseGen,
    CustomLLM,
    LLMMetadata,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.query_engine import RouterQueryEngine
from llama_index.core.tools import QueryEngineTool, ToolMetadata
from pydantic import PrivateAttr

OUTPUT = 1000
"""Query n is answered with OUTPUT + n tokens, says the model."""

MOST = 1100
"""Tokens of an answer at most."""

_DIM = 384
_WORDS_PER_TEXT = 300


def question(number: int) -> str:
    """What query n asks."""
    return f"query {number}"


def number_in(text: str) -> int:
    """The query that a prompt belongs to."""
    return int(re.findall(r"query (\d+)", text)[-1])


def truth(numbers: Sequence[int]) -> int:
    """The output tokens of so many queries."""
    return sum(OUTPUT + number for number in numbers)


class Nested(CustomLLM):
    """A chat model that has `complete` and `stream_complete` only, as `HuggingFaceLLM` has; LlamaIndex makes the rest.

    It calls itself ``gpt-4o-mini`` of OpenAI's class, so that its calls are priced.

    Attributes:
        max_tokens: of an answer.
        length: tokens of a stream.
        pause_s: seconds that an async call takes.
    """

    max_tokens: int = MOST
    length: int = 5
    pause_s: float = 0.0
    _spent: Counter[str] = PrivateAttr(default_factory=Counter)

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which it is priced."""
        return "openai_llm"

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex wants to know."""
        return LLMMetadata(
            is_chat_model=True, model_name="gpt-4o-mini", num_output=self.max_tokens, context_window=16_384
        )

    @property
    def spent(self) -> Counter[str]:
        """``calls`` and ``tokens``, of prompts and answers; a copy of this model adds to the same count."""
        return self._spent

    def _raw(self, prompt: str) -> dict[str, Any]:
        counts = {"prompt_tokens": len(prompt.split()), "completion_tokens": OUTPUT + number_in(prompt)}
        self._spent.update(calls=1, tokens=sum(counts.values()))
        return {"usage": counts}

    def _parts(self, prompt: str) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
        text = ""
        for place in range(self.length):
            delta = f"w{place} "
            text = delta if place % 100 == 0 else text + delta  # else a long stream is all copying
            yield text, delta, self._raw(prompt) if place == self.length - 1 else None

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer."""
        return CompletionResponse(text=f"answer {number_in(prompt)}", raw=self._raw(prompt))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Answer in tokens; the last one carries the counts."""
        return (CompletionResponse(text=text, delta=delta, raw=raw) for text, delta, raw in self._parts(prompt))


class Native(Nested):
    """Writes the chat methods itself, as the integrations of providers do."""

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer."""
        return self._reply(_shown(messages))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer."""
        await asyncio.sleep(self.pause_s)
        return self._reply(_shown(messages))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer in tokens."""
        parts = self._parts(_shown(messages))
        return (ChatResponse(message=_said(text), delta=delta, raw=raw) for text, delta, raw in parts)

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Answer in tokens."""

        async def steps() -> ChatResponseAsyncGen:
            for text, delta, raw in self._parts(_shown(messages)):
                await asyncio.sleep(0)
                yield ChatResponse(message=_said(text), delta=delta, raw=raw)

        return steps()

    def _reply(self, prompt: str) -> ChatResponse:
        return ChatResponse(message=_said(f"answer {number_in(prompt)}"), raw=self._raw(prompt))


def _said(text: str) -> ChatMessage:
    return ChatMessage(role="assistant", content=text)


def _shown(messages: Sequence[ChatMessage]) -> str:
    return "\n".join(message.content or "" for message in messages)


class _First(BaseSelector):
    """Chooses the first engine, and asks no model."""

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts: dict[str, Any]) -> None:
        pass

    def _select(self, choices: Sequence[ToolMetadata], query: Any) -> SelectorResult:
        return SelectorResult(selections=[SingleSelection(index=0, reason="the first")])

    async def _aselect(self, choices: Sequence[ToolMetadata], query: Any) -> SelectorResult:
        return self._select(choices, query)


class App:
    """Twenty texts, and engines over them; every part of it has the one callback manager that legacy handlers need.

    Attributes:
        callbacks: that manager.
    """

    def __init__(self) -> None:
        self.callbacks = Settings.callback_manager = CallbackManager()
        Settings.embed_model = self._embedding = MockEmbedding(embed_dim=_DIM, callback_manager=self.callbacks)
        texts = (" ".join(f"word{(7 * text + place) % 997}" for place in range(_WORDS_PER_TEXT)) for text in range(20))
        self._index = VectorStoreIndex.from_documents(
            [Document(text=text) for text in texts], embed_model=self._embedding, callback_manager=self.callbacks
        )

    def native(self, **settings: Any) -> Native:
        """A model with all methods."""
        return Native(callback_manager=self.callbacks, **settings)

    def nested(self, **settings: Any) -> Nested:
        """A model with two methods."""
        return Nested(callback_manager=self.callbacks, **settings)

    def routed(self, llm: Nested, streaming: bool = False) -> RouterQueryEngine:
        """A router over two engines that read two texts for a question."""
        tools = [
            QueryEngineTool(self._engine(llm, streaming), ToolMetadata(name=name, description=f"the {name} texts"))
            for name in ("first", "second")
        ]
        return RouterQueryEngine(selector=_First(), query_engine_tools=tools, llm=llm)

    def _engine(self, llm: Nested, streaming: bool) -> Any:
        return self._index.as_query_engine(llm=llm, streaming=streaming, similarity_top_k=2)


def ask(engine: Any) -> Callable[[int], Any]:
    """Give what asks query n, and reads what is streamed."""

    def one(number: int) -> Any:
        answer = engine.query(question(number))
        for _ in getattr(answer, "response_gen", None) or ():
            pass
        return answer

    return one
