"""Hybrid memory as a block of an agent's Memory: what the stores know goes to the agent; knows no agent or model."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.memory import BaseMemoryBlock
from llama_index.core.schema import BaseNode, NodeWithScore, TextNode
from llama_index.core.utils import get_tokenizer
from pydantic import Field, PrivateAttr, model_validator
from typing_extensions import Self

from .branches import in_thread
from .errors import ConfigurationError
from .existing import as_hybrid
from .prompts import context
from .retriever import HybridRetriever
from .routing.need import retrieval_need

SESSION_KEY = "chat_session_id"
"""Metadata of a stored conversation: the session it belongs to. Other sessions never see it."""


@runtime_checkable
class NodeIndex(Protocol):
    """An index that takes nodes, as every LlamaIndex index and `HybridMemoryIndex` do."""

    def insert_nodes(self, nodes: Sequence[BaseNode]) -> object:
        """Add nodes."""

    def as_retriever(self) -> BaseRetriever:
        """Return a retriever over what the index holds."""


class HybridMemoryBlock(BaseMemoryBlock[str]):
    """Puts the passages and facts on the latest user message into an agent's `Memory`.

    With a `retriever` it only reads: the documents stay as they are, whatever the agent is told. Given an `index`, it
    also remembers: messages that leave the short-term memory are inserted there, one node for each batch, and are found
    again in the same session only. Use an index of their own for them, unless conversations should stand among the
    documents.

    A ReActAgent drops system messages: give its `Memory` insert_method="user", or it never sees any block.

    Small talk retrieves nothing. When every store fails, AllStoresFailedError reaches the agent; when some fail, it
    gets what the others have.

    Attributes:
        retriever: a `HybridRetriever` or any other; None for the index's own, made afresh after each insertion (a
            VectorStoreIndex's retriever sees only the nodes that were there when it was made).
        index: where messages are inserted; None: they are forgotten here.
        similarity_top_k: passages at most; None for the retriever's own setting.
    """

    name: str = Field(default="HybridMemory", description="Name of the block, as the agent's prompt shows it.")
    retriever: BaseRetriever | None = Field(default=None, description="Retriever over the memories.")
    index: NodeIndex | None = Field(default=None, description="Where messages are inserted.")
    similarity_top_k: int | None = Field(default=None, ge=1, description="Passages at most.")
    _hybrid: HybridRetriever | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if self.retriever is None and self.index is None:
            raise ConfigurationError("a memory block needs a retriever, an index, or both")
        return self

    async def _aget(
        self, messages: list[ChatMessage] | None = None, session_id: str | None = None, **block_kwargs: Any
    ) -> str:
        question = _latest_question(messages or ())
        if not question or not retrieval_need(question).needed:
            return ""
        nodes = [each for each in await self._view().aretrieve(question) if _visible(each, session_id)]
        return "\n\n".join(context(nodes).texts)

    def _view(self) -> HybridRetriever:
        """The retriever as a hybrid one: unlike many others it never blocks the event loop."""
        if self._hybrid is None:
            retriever = self.retriever or (self.index.as_retriever() if self.index else None)
            assert retriever is not None
            self._hybrid = as_hybrid(retriever)
        return self._hybrid.with_stores([store.name for store in self._hybrid.stores], self.similarity_top_k)

    async def _aput(self, messages: list[ChatMessage]) -> None:
        node = _conversation(messages)
        if self.index is not None and node is not None:
            await in_thread(self.index.insert_nodes, [node])
            self._hybrid = self._hybrid if self.retriever is not None else None

    async def atruncate(self, content: str, tokens_to_truncate: int) -> str | None:
        """Drop sections from the end, the least relevant first; None when nothing is left."""
        count = get_tokenizer()
        sections = content.split("\n\n")
        dropped = 0
        while sections and dropped < tokens_to_truncate:
            dropped += len(count(sections.pop()))
        return "\n\n".join(sections) or None


def _latest_question(messages: Sequence[ChatMessage]) -> str:
    asked = (message.content or "" for message in reversed(messages) if message.role == MessageRole.USER)
    return next(asked, "").strip()


def _visible(found: NodeWithScore, session_id: str | None) -> bool:
    return found.node.metadata.get(SESSION_KEY) in (None, session_id)


def _conversation(messages: Sequence[ChatMessage]) -> TextNode | None:
    """One node of what user and assistant said; None when they said nothing. The same batch gives the same id."""
    spoken = [message for message in messages if message.role in (MessageRole.USER, MessageRole.ASSISTANT)]
    lines = [f"{message.role.value}: {message.content}" for message in spoken if (message.content or "").strip()]
    if not lines:
        return None
    text = "\n".join(lines)
    sessions = {message.additional_kwargs.get("session_id") for message in spoken} - {None}
    session = min(map(str, sessions), default="")
    return TextNode(
        id_=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{session}\0{text}")),
        text=text,
        metadata={SESSION_KEY: session} if session else {},
        excluded_llm_metadata_keys=[SESSION_KEY],
        excluded_embed_metadata_keys=[SESSION_KEY],
    )
