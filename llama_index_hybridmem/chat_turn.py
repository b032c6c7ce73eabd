"""One turn of a chat: the message, its question, and the response in LlamaIndex's chat types; knows no history."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.base.response.schema import RESPONSE_TYPE, Response
from llama_index.core.chat_engine.types import AgentChatResponse, StreamingAgentChatResponse
from llama_index.core.tools import ToolOutput

from .routed_engine import RoutedQueryEngine


@dataclass
class ChatStream(StreamingAgentChatResponse):
    """A streamed answer that closes with its consumer.

    Attributes:
        metadata: the query engine's; completed when the stream ends.
    """

    metadata: dict[str, Any] | None = None
    is_writing_to_memory: bool = False

    @property
    def response_gen(self) -> Generator[str, None, None]:
        """The tokens."""
        try:
            yield from super().response_gen
        finally:
            if isinstance(self.chat_stream, Generator):
                self.chat_stream.close()

    async def async_response_gen(self) -> AsyncGenerator[str, None]:
        """The tokens."""
        try:
            async for token in super().async_response_gen():
                yield token
        finally:
            if isinstance(self.achat_stream, AsyncGenerator):
                await self.achat_stream.aclose()


@dataclass(frozen=True)
class Turn:
    """One message, the question it became, and the engine's view that answers it."""

    engine: RoutedQueryEngine
    message: str
    question: str

    def said(self, answer: str) -> list[ChatMessage]:
        """Return the turn as the history keeps it."""
        return [
            ChatMessage(role=MessageRole.USER, content=self.message),
            ChatMessage(role=MessageRole.ASSISTANT, content=answer),
        ]

    def whole(self, response: RESPONSE_TYPE) -> AgentChatResponse:
        """Return a finished answer."""
        return AgentChatResponse(
            response=text_of(response),
            sources=[self._output(response, text_of(response))],
            source_nodes=list(response.source_nodes),
            metadata=response.metadata,
        )

    def stream(self, response: RESPONSE_TYPE, **streams: Any) -> ChatStream:
        """Return an answer that is still to come; `streams` is its chat_stream or achat_stream."""
        return ChatStream(
            sources=[self._output(response, "")],
            source_nodes=list(response.source_nodes),
            metadata=response.metadata,
            **streams,
        )

    def _output(self, response: RESPONSE_TYPE, content: str) -> ToolOutput:
        return ToolOutput(
            content=content, tool_name="hybrid_memory", raw_input={"query": self.question}, raw_output=response
        )


def text_of(response: RESPONSE_TYPE) -> str:
    """Return an answer's text; LlamaIndex's own str() says "None" where a model said nothing."""
    return (response.response or "") if isinstance(response, Response) else str(response)
