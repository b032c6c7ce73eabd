"""From the indexes and retrievers an app has to a HybridRetriever with named stores; knows no questions or answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol, runtime_checkable

from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.indices.property_graph import BasePGRetriever, PGRetriever

from .errors import ConfigurationError
from .filters import parse
from .retriever import HybridRetriever
from .stores import Store

_UNCUT = 10_000
"""More nodes than a retriever returns: a retriever that stands alone decides by itself how many there are."""


@runtime_checkable
class Index(Protocol):
    """Anything that can be turned into a retriever, as every LlamaIndex index can."""

    def as_retriever(self) -> BaseRetriever:
        """Return a retriever over what the index holds."""


Source = Store | BaseRetriever | Index


def as_hybrid(retriever: BaseRetriever) -> HybridRetriever:
    """Return a retriever as a hybrid one: itself, or the single store "vector" ("graph" for a property graph's)."""
    if isinstance(retriever, HybridRetriever):
        return retriever
    if not isinstance(retriever, BaseRetriever):
        raise ConfigurationError(f"{type(retriever).__name__} is no retriever; for indexes use from_stores")
    name = "graph" if isinstance(retriever, (PGRetriever, BasePGRetriever)) else "vector"
    return HybridRetriever([Store(name, retriever, deadline_s=None)], similarity_top_k=_UNCUT)


def hybrid_of(
    sources: Mapping[str, Source | None],
    *,
    similarity_top_k: int | None = None,
    filters: object = None,
    deadline_s: float | None = 2.0,
    embed_model: BaseEmbedding | None = None,
) -> HybridRetriever:
    """Build a hybrid retriever from named indexes, retrievers or stores.

    Args:
        sources: name to source; None is left out.
        similarity_top_k: nodes per vector index, and in the end (default 10).
        filters: pushed down to vector indexes, and checked on what every store returns.
        deadline_s: seconds that each store has, where it is no `Store` with its own.
        embed_model: for stores that need one and have none.

    Raises:
        ConfigurationError: no source, or something that is none.
        FilterError: malformed filters.
    """
    parse(filters)
    top_k = similarity_top_k or 10
    stores = [
        _store(name, source, top_k, filters, deadline_s) for name, source in sources.items() if source is not None
    ]
    return HybridRetriever(stores, similarity_top_k=top_k, embed_model=embed_model)


def _store(name: str, source: Source, top_k: int, filters: object, deadline_s: float | None) -> Store:
    if isinstance(source, Store):
        return replace(source, name=name)
    if isinstance(source, VectorStoreIndex):
        source = source.as_retriever(similarity_top_k=top_k, filters=filters)
    elif not isinstance(source, BaseRetriever) and isinstance(source, Index):
        source = source.as_retriever()
    if not isinstance(source, BaseRetriever):
        raise ConfigurationError(f"{name}: {type(source).__name__} is neither a retriever nor an index")
    return Store(name, source, deadline_s=deadline_s, filters=filters)
