"""LlamaIndex's query modes as searches of one store; knows no node and no file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import qdrant_edge as edge
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

from ..errors import ConfigurationError
from ..filters import parse
from ..fusion import by_score
from .base import Hits
from .search import Searcher
from .sparse import Bm25Encoder

MMR_FACTOR = 4
"""Candidates for each node that MMR gives back, as in LlamaIndex's own stores."""
OPTIONS = frozenset({"mmr_threshold", "mmr_prefetch_factor", "mmr_prefetch_k"})


class Modes:
    """Answers queries by their modes.

    Args:
        searcher: of the store.
        encoder: gives the one that the store's terms are weighed with.
        vector: checks a query's vector, None included.
    """

    def __init__(
        self,
        searcher: Searcher,
        encoder: Callable[[], Bm25Encoder],
        vector: Callable[[Sequence[float] | None], list[float]],
    ) -> None:
        self._searcher = searcher
        self._encoder = encoder
        self._vector = vector
        self._modes = {
            VectorStoreQueryMode.DEFAULT: self._dense,
            VectorStoreQueryMode.SPARSE: self._sparse,
            VectorStoreQueryMode.TEXT_SEARCH: self._sparse,
            VectorStoreQueryMode.HYBRID: self._hybrid,
        }

    def hits(self, query: VectorStoreQuery, options: Mapping[str, Any]) -> Hits:
        """Answer a query; see `PointVectorStore.query`."""
        if unknown := sorted(set(options) - OPTIONS):
            raise ConfigurationError(f"unknown query arguments {unknown}; known: {sorted(OPTIONS)}")
        if query.mode not in self._modes and query.mode != VectorStoreQueryMode.MMR:
            known = ", ".join([*(mode.value for mode in self._modes), "mmr"])
            raise ConfigurationError(f"unknown query mode {query.mode}; known: {known}")
        # LlamaIndex's VectorStoreIndex hands over empty lists where it means no restriction
        condition = self._searcher.restrict(parse(query.filters), query.node_ids or None, query.doc_ids or None)
        if query.mode == VectorStoreQueryMode.MMR:
            return self._diverse(query, condition, options)
        return self._modes[query.mode](query, condition)

    def _dense(self, query: VectorStoreQuery, condition: edge.Filter | None) -> Hits:
        return self._searcher.dense(self._vector(query.query_embedding), query.similarity_top_k, condition)

    def _sparse(self, query: VectorStoreQuery, condition: edge.Filter | None) -> Hits:
        if query.query_str is None:
            raise ConfigurationError("BM25 search needs a query_str")
        return self._searcher.sparse(query.query_str, self._encoder(), _first(query.sparse_top_k, query), condition)

    def _hybrid(self, query: VectorStoreQuery, condition: edge.Filter | None) -> Hits:
        alpha = 0.5 if query.alpha is None else query.alpha
        if not 0 <= alpha <= 1:
            raise ConfigurationError(f"alpha weighs dense search against BM25 and is 0 … 1, not {alpha}")
        rankings = {
            "dense": self._dense(query, condition) if alpha > 0 else [],
            "sparse": self._sparse(query, condition) if alpha < 1 else [],
        }
        fused = by_score(rankings, {"dense": alpha, "sparse": 1 - alpha})
        return [(hit.id, hit.score) for hit in fused[: _first(query.hybrid_top_k, query)]]

    def _diverse(self, query: VectorStoreQuery, condition: edge.Filter | None, options: Mapping[str, Any]) -> Hits:
        given = options.get("mmr_threshold", query.mmr_threshold)
        relevance = 0.5 if given is None else float(given)
        if not 0 <= relevance <= 1:
            raise ConfigurationError(f"mmr_threshold is 0 … 1, not {given}")
        top_k = query.similarity_top_k
        wanted = options.get("mmr_prefetch_k") or int(top_k * options.get("mmr_prefetch_factor", MMR_FACTOR))
        vector = self._vector(query.query_embedding)
        return self._searcher.diverse(vector, top_k, condition, relevance, max(wanted, top_k))


def _first(top_k: int | None, query: VectorStoreQuery) -> int:
    return top_k if top_k is not None else query.similarity_top_k
