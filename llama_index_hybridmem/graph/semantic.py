"""Lets any LlamaIndex vector store serve the graph search; knows nothing of names or walks."""

from __future__ import annotations

from collections.abc import Sequence

from llama_index.core.vector_stores.types import BasePydanticVectorStore, MetadataFilters, VectorStoreQuery

from ..errors import ConfigurationError
from ..filters import Filter, Group
from .candidates import Embedding, SemanticMemory
from .entities import terms
from .stores.base import GraphReads


def semantic_memory(vector_store: object, graph_store: GraphReads) -> SemanticMemory:
    """Use a vector store as it is if it can give keyword and exact scores (ours can), else through its plain `query`.

    Raises:
        ConfigurationError: it is no vector store.
    """
    if all(hasattr(vector_store, method) for method in ("search_dense", "search_sparse", "score_dense")):
        return vector_store  # type: ignore[return-value]  # the three methods are the protocol
    if not isinstance(vector_store, BasePydanticVectorStore):
        raise ConfigurationError(f"vector_store must be a LlamaIndex vector store, not {type(vector_store).__name__}")
    return QueriedVectorStore(vector_store, graph_store)


class QueriedVectorStore:
    """A vector store seen through LlamaIndex's `query` alone; keyword scores come from the graph store's words."""

    def __init__(self, vector_store: BasePydanticVectorStore, graph_store: GraphReads) -> None:
        self._vector_store = vector_store
        self._graph_store = graph_store

    def search_dense(self, embedding: Embedding, top_k: int, filters: Filter | None = None) -> list[tuple[str, float]]:
        """Find the nearest nodes by the store's own query."""
        return self._query(VectorStoreQuery(list(embedding), top_k, filters=metadata_filters(filters)))

    def search_sparse(self, text: str, top_k: int, filters: Filter | None = None) -> list[tuple[str, float]]:
        """Rank by the graph store's own BM25."""
        return self._graph_store.keyword_scores(terms(text), top_k, filters)

    def score_dense(self, embedding: Embedding, node_ids: Sequence[str]) -> dict[str, float]:
        """Give the similarity of the given nodes; a store that cannot search among them tells that of the nearest."""
        wanted = set(node_ids)
        if not wanted:
            return {}
        found = self._query(VectorStoreQuery(list(embedding), 2 * len(wanted), node_ids=sorted(wanted)))
        return {node_id: score for node_id, score in found if node_id in wanted}

    def _query(self, query: VectorStoreQuery) -> list[tuple[str, float]]:
        answer = self._vector_store.query(query)
        ids = answer.ids or [node.node_id for node in answer.nodes or ()]
        return list(zip(ids, answer.similarities or [], strict=False))


def metadata_filters(keep: Filter | None) -> MetadataFilters | None:
    """Write a filter as LlamaIndex's own."""
    return MetadataFilters.model_validate(_plain(keep)) if keep is not None else None


def _plain(keep: Filter) -> dict[str, object]:
    """Write a filter in the shape of LlamaIndex's MetadataFilters; a lone condition becomes a group of one."""
    if not isinstance(keep, Group):
        return _plain(Group("and", (keep,)))
    parts = [
        _plain(part) if isinstance(part, Group) else {"key": part.key, "operator": part.op.value, "value": part.value}
        for part in keep.parts
    ]
    return {"condition": keep.kind, "filters": parts}
