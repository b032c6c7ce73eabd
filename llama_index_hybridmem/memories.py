"""The memories of an index as named stores for a hybrid retriever; asks and fuses nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.indices.vector_store.base import VectorStoreIndex
from llama_index.core.vector_stores.types import BasePydanticVectorStore, VectorStoreQueryMode

from .errors import UnknownRouteError
from .filters import parse
from .graph.retriever import EntityGraphRetriever
from .graph.semantic import metadata_filters
from .graph.stores.base import GraphStore
from .graph.words import WordRetriever
from .stores import Store
from .vector.point_store import PointVectorStore

DEADLINE_S = 5.0
"""Seconds each memory has; a warm query takes well under a tenth of one."""
FUSED_DEPTH = 10
"""Nodes taken from each memory, however few are asked for, so that fusion has something to fuse."""
WEIGHTS: Mapping[str, float] = {"vector": 0.005, "keyword": 0.005, "graph": 1.0}
"""The graph's ranking already weighs vectors and keywords, so these only fill up what it does not bring, and take over
when it fails. Votes of their own cost recall@5 (MuSiQue, hops=2, tried once by hand with `weights=`: 82 without, 72 at
0.2, 68 at 1)."""
RETRIEVER_ARGUMENTS = frozenset({"similarity_top_k", "stores", "weights", "mode", "filters", "hops", "deadline_s"})


class Memories(Protocol):
    """The parts of an index that its retrievers are made of."""

    @property
    def vector_index(self) -> VectorStoreIndex:
        """Vectors and keywords, behind LlamaIndex's face."""

    @property
    def vector_store(self) -> BasePydanticVectorStore:
        """What that index stores into."""

    @property
    def graph_store(self) -> GraphStore:
        """Names, links and facts."""

    @property
    def embed_model(self) -> BaseEmbedding:
        """Encodes questions."""


def memory_stores(
    memories: Memories,
    names: Sequence[str],
    top_k: int,
    weights: Mapping[str, float],
    filters: object,
    hops: int,
    deadline_s: float | None,
) -> list[Store]:
    """Make the named stores "vector", "keyword" and "graph", as far as they are asked for.

    Raises:
        UnknownRouteError: a name beside these three.
        FilterError: a malformed filter.
    """
    depth = max(top_k, FUSED_DEPTH)
    keep = parse(filters)
    native = metadata_filters(keep)

    def vector() -> BaseRetriever:
        return memories.vector_index.as_retriever(similarity_top_k=depth, filters=native)

    def keyword() -> BaseRetriever:
        if not isinstance(memories.vector_store, PointVectorStore):
            return WordRetriever(memories.graph_store, similarity_top_k=depth, filters=keep)
        return memories.vector_index.as_retriever(
            similarity_top_k=depth,
            sparse_top_k=depth,
            vector_store_query_mode=VectorStoreQueryMode.SPARSE,
            filters=native,
        )

    def graph() -> BaseRetriever:
        return EntityGraphRetriever(
            memories.graph_store,
            vector_store=memories.vector_store,
            embed_model=memories.embed_model,
            similarity_top_k=depth,
            hops=hops,
            filters=keep,
            budget_s=deadline_s,
        )

    makers: dict[str, Callable[[], BaseRetriever]] = {"vector": vector, "keyword": keyword, "graph": graph}
    unknown = [name for name in (*names, *weights) if name not in makers]
    if unknown:
        raise UnknownRouteError(unknown[0], list(makers))
    chosen = {**WEIGHTS, **weights}
    return [Store(name, makers[name](), weight=chosen[name], deadline_s=deadline_s) for name in names]
