"""A language model that says what the test wants and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
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
from pydantic import Field

Reply = str | Callable[[str], str]


class ScriptedLLM(CustomLLM):
    """Replies with a text, or with what a function of the prompt gives; streams word by word.

    Attributes:
        reply: the text or function.
        prompts: every prompt it was asked, chats as "role: content" lines.
        is_chat: whether it declares itself a chat model.
    """

    reply: Any = "an answer"
    prompts: list[str] = Field(default_factory=list)
    is_chat: bool = False
    context_window: int = 4096

    @classmethod
    def class_name(cls) -> str:
        """Return the class name."""
        return "ScriptedLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex wants to know."""
        return LLMMetadata(is_chat_model=self.is_chat, context_window=self.context_window, model_name="scripted")

    def _say(self, prompt: str) -> str:
        self.prompts.append(prompt)
        text = self.reply(prompt) if callable(self.reply) else self.reply
        return str(text)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Reply."""
        return CompletionResponse(text=self._say(prompt))

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Reply."""
        await asyncio.sleep(0)
        return CompletionResponse(text=self._say(prompt))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Reply word by word."""

        def steps() -> CompletionResponseGen:
            text = ""
            for token in _tokens(self._say(prompt)):
                text += token
                yield CompletionResponse(text=text, delta=token)

        return steps()

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """Reply word by word."""

        async def steps() -> CompletionResponseAsyncGen:
            text = ""
            for token in _tokens(self._say(prompt)):
                await asyncio.sleep(0)
                text += token
                yield CompletionResponse(text=text, delta=token)

        return steps()

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Reply."""
        return ChatResponse(message=_assistant(self._say(_shown(messages))))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Reply."""
        await asyncio.sleep(0)
        return ChatResponse(message=_assistant(self._say(_shown(messages))))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Reply word by word."""

        def steps() -> ChatResponseGen:
            text = ""
            for token in _tokens(self._say(_shown(messages))):
                text += token
                yield ChatResponse(message=_assistant(text), delta=token)

        return steps()

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Reply word by word."""

        async def steps() -> ChatResponseAsyncGen:
            text = ""
            for token in _tokens(self._say(_shown(messages))):
                await asyncio.sleep(0)
                text += token
                yield ChatResponse(message=_assistant(text), delta=token)

        return steps()


def _tokens(text: str) -> list[str]:
    words = text.split(" ")
    return [word if place == 0 else f" {word}" for place, word in enumerate(words)]


def _assistant(text: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.ASSISTANT, content=text)


def _shown(messages: Sequence[ChatMessage]) -> str:
    return "\n".join(f"{message.role.value}: {message.content}" for message in messages)
