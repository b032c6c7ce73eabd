"""The async methods of a blocking vector store: each is its twin on a thread of our own; knows no engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)

from ..branches import in_thread


class AsyncTwins(BasePydanticVectorStore):
    """A vector store whose async methods run the blocking ones, where LlamaIndex's own would block the event loop."""

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """`add` from an event loop."""
        return await in_thread(self.add, nodes, **kwargs)

    async def adelete(self, ref_doc_id: str, **kwargs: Any) -> None:
        """`delete` from an event loop."""
        await in_thread(self.delete, ref_doc_id, **kwargs)

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **kwargs: Any
    ) -> None:
        """`delete_nodes` from an event loop."""
        await in_thread(self.delete_nodes, node_ids, filters, **kwargs)

    async def aclear(self) -> None:
        """`clear` from an event loop."""
        await in_thread(self.clear)

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """`get_nodes` from an event loop."""
        return await in_thread(self.get_nodes, node_ids, filters)

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """`query` from an event loop."""
        return await in_thread(self.query, query, **kwargs)
