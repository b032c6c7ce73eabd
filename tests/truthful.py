"""Language models whose token counts name the query they answered, so that every count can be traced to its query."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from typing import Any

from llama_index.core.llms import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    CustomLLM,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from pydantic import PrivateAttr

OUTPUT, INPUT = 1000, 50_000
"""Query n writes OUTPUT + n tokens and reads INPUT + n."""


def number_in(text: str) -> int:
    """Which query a prompt belongs to: the last "query <n>" in it."""
    return int(re.findall(r"query (\d+)", text)[-1])


def usage(number: int) -> dict[str, int]:
    """What a call of that query reports."""
    return {"prompt_tokens": INPUT + number, "completion_tokens": OUTPUT + number}


class Wrapped(CustomLLM):
    """Writes `complete` and `stream_complete` only; LlamaIndex makes the other six, so one call fires up to three ends.

    Attributes:
        reports: whether responses carry token counts.
        breaks_after: tokens after which a stream raises; None for never.
        fails: whether every call raises.
        is_chat: whether it says it is a chat model.
        name: of the model.
    """

    reports: bool = True
    breaks_after: int | None = None
    fails: bool = False
    is_chat: bool = False
    name: str = "truthful"
    pause_s: float = 0.0
    num_output: int = 256
    _calls: int = PrivateAttr(default=0)

    @classmethod
    def class_name(cls) -> str:
        """Return the class name."""
        return "Wrapped"

    @property
    def calls(self) -> int:
        """How often the model itself was asked."""
        return self._calls

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex wants to know."""
        return LLMMetadata(is_chat_model=self.is_chat, model_name=self.name, num_output=self.num_output)

    def _raw(self, prompt: str) -> dict[str, Any] | None:
        return {"usage": usage(number_in(prompt))} if self.reports else None

    def _ask(self) -> None:
        self._calls += 1
        if self.fails:
            raise RuntimeError("the model is down")

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer."""
        self._ask()
        return CompletionResponse(text=f"answer {number_in(prompt)}", raw=self._raw(prompt))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Answer in five tokens; the last one carries the counts."""
        return (CompletionResponse(text=text, delta=delta, raw=raw) for text, delta, raw in self._parts(prompt))

    def _parts(self, prompt: str) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
        self._ask()
        text = ""
        for place, token in enumerate(("this ", "is ", "the ", "answer ", str(number_in(prompt)))):
            if place == self.breaks_after:
                raise RuntimeError("the stream broke")
            text += token
            yield text, token, self._raw(prompt) if place == 4 else None


class Native(Wrapped):
    """Writes all eight methods itself, as the integrations of providers do."""

    @classmethod
    def class_name(cls) -> str:
        """Return the class name."""
        return "Native"

    def _reply(self, prompt: str) -> ChatResponse:
        self._ask()
        return ChatResponse(message=_said(f"answer {number_in(prompt)}"), raw=self._raw(prompt))

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer."""
        await asyncio.sleep(self.pause_s)
        self._ask()
        return CompletionResponse(text=f"answer {number_in(prompt)}", raw=self._raw(prompt))

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """Answer in five tokens."""

        async def steps() -> CompletionResponseAsyncGen:
            for text, delta, raw in self._parts(prompt):
                await asyncio.sleep(0)
                yield CompletionResponse(text=text, delta=delta, raw=raw)

        return steps()

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
        """Answer in five tokens."""
        parts = self._parts(_shown(messages))
        return (ChatResponse(message=_said(text), delta=delta, raw=raw) for text, delta, raw in parts)

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Answer in five tokens."""

        async def steps() -> ChatResponseAsyncGen:
            for text, delta, raw in self._parts(_shown(messages)):
                await asyncio.sleep(0)
                yield ChatResponse(message=_said(text), delta=delta, raw=raw)

        return steps()


def _said(text: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.ASSISTANT, content=text)


def _shown(messages: Sequence[ChatMessage]) -> str:
    return "\n".join(message.content or "" for message in messages)
