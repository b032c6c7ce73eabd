"""A LlamaIndex vector store over points, wherever they lie: nodes and queries in, nodes and scores out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import qdrant_edge as edge
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)

from ..errors import ConfigurationError
from ..filters import parse
from .base import Hits, Points, content
from .modes import Modes
from .points import to_node
from .search import Searcher, checked_vector
from .shard import PAGE, batches
from .twins import AsyncTwins
from .writing import Windows, Wish, Writer

DRIFT = 0.2
"""From here on the average length of what is stored is another than its keyword vectors were weighed with."""


class PointVectorStore(AsyncTwins):
    """What the embedded store and the one on a server do alike; they differ in where their points lie."""

    stores_text: bool = True

    _points: Points = PrivateAttr()
    _searcher: Searcher = PrivateAttr()
    _writer: Writer = PrivateAttr()
    _modes: Modes = PrivateAttr()

    def _hold(self, points: Points, wish: Wish) -> None:
        """Take hold of the points; last in a constructor."""
        self._points = points
        self._searcher = Searcher(points)
        self._writer = Writer(points, wish)
        self._modes = Modes(self._searcher, self._writer.encoder, self._vector)

    # -- writing ------------------------------------------------------------------------------------------------------

    def add(self, nodes: Sequence[BaseNode], *, window_embeddings: Windows | None = None, **_: Any) -> list[str]:
        """Add nodes, or replace those with their ids.

        Args:
            nodes: each with an embedding; left as they are.
            window_embeddings: by node id, the vectors of the windows of a node that is longer than its encoder reads;
                such a node scores as the best of its windows and its embedding.

        Returns:
            The nodes' ids.

        Raises:
            InvalidVectorError: an embedding is missing, of another length, or not finite; nothing is written then.
        """
        self._points.check()
        if window_embeddings:
            self._points.noticed_windows()
        if nodes:
            self._writer.add(nodes, window_embeddings or {})
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **_: Any) -> None:
        """Remove every node of a source document."""
        self._points.remove(self._searcher.restrict(None, ref_doc_ids=[ref_doc_id]))

    def delete_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **_: Any) -> None:
        """Remove the given nodes, those that pass the filters, or where both are given, those that are both.

        Raises:
            ConfigurationError: neither is given; `clear` removes all.
        """
        if node_ids is None and filters is None:
            raise ConfigurationError("delete_nodes needs node_ids or filters; clear() removes all nodes")
        self._points.remove(self._searcher.restrict(parse(filters), node_ids))

    def clear(self) -> None:
        """Remove all nodes, and with them what was measured on the first; the next `add` starts anew."""
        self._points.empty()
        self._searcher.forget()

    # -- reading ------------------------------------------------------------------------------------------------------

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Read nodes, without their embeddings.

        Args:
            node_ids: the nodes, in this order; None: all.
            filters: only those that pass.
        """
        condition = self._searcher.restrict(parse(filters), node_ids)
        found = {node.node_id: node for node in self._nodes(condition)}
        order = found if node_ids is None else dict.fromkeys(node_ids)
        return [found[node_id] for node_id in order if node_id in found]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Find nodes.

        Args:
            query: its mode is `default` (dense), `sparse` or `text_search` (BM25), `hybrid` or `mmr`. Hybrid takes
                `similarity_top_k` nodes by vector and `sparse_top_k` by BM25 (default: as many), stretches the scores
                of each to 0 … 1, adds them up with weights `alpha` (default 0.5; 1 is dense alone, 0 BM25 alone) and
                `1 - alpha`, and gives the best `hybrid_top_k` (default: `similarity_top_k`).
            **kwargs: for mmr: `mmr_threshold` (1: nearness alone, 0: difference alone; default 0.5), and
                `mmr_prefetch_factor` (default 4) or `mmr_prefetch_k`, the number of nearest nodes to choose from.

        Raises:
            ConfigurationError: another mode or argument, or a query without the vector or text that its mode needs.
            FilterError: a malformed filter.
            InvalidVectorError: a vector of another length, or not finite.
        """
        hits = self._modes.hits(query, kwargs)
        nodes = {node.node_id: node for node in self._retrieve([self._points.point_id(node_id) for node_id, _ in hits])}
        scores = {node_id: score for node_id, score in hits if node_id in nodes}
        return VectorStoreQueryResult([nodes[node_id] for node_id in scores], list(scores.values()), list(scores))

    def search_dense(self, embedding: Sequence[float], top_k: int, filters: object = None) -> Hits:
        """The nearest nodes by cosine, as (node id, cosine), best first.

        Args:
            embedding: the question's vector.
            top_k: at most so many.
            filters: anything `filters.parse` takes.
        """
        return self._searcher.dense(self._vector(embedding), top_k, self._searcher.restrict(parse(filters)))

    def search_sparse(self, text: str, top_k: int, filters: object = None) -> Hits:
        """The best nodes by BM25, as (node id, score), best first; arguments as for `search_dense`."""
        return self._searcher.sparse(text, self._writer.encoder(), top_k, self._searcher.restrict(parse(filters)))

    def score_dense(self, embedding: Sequence[float], node_ids: Sequence[str]) -> dict[str, float]:
        """The cosine of each given node that is stored, by node id; exact also where `search_dense` uses an index."""
        return self._searcher.scores(self._vector(embedding), node_ids)

    # -- looking after ------------------------------------------------------------------------------------------------

    def reindex_sparse(self) -> None:
        """Measure the average length anew and weigh all keyword vectors by it."""
        self._points.check()
        self._writer.reweigh()

    def close(self) -> None:
        """Let go of the store; twice is fine."""
        self._points.close()

    @abstractmethod
    def stats(self) -> dict[str, Any]:
        """Describe the store, JSON-safe."""

    def _average_stats(self, average_length: float) -> dict[str, Any]:
        """What keyword vectors are weighed with, and what they would be weighed with now; reads all points."""
        now = self._writer.average_length()
        return {
            "average_length": average_length,
            "average_length_now": now,
            "reindex_sparse_advised": now is not None and abs(now / average_length - 1) > DRIFT,
        }

    def _vector(self, embedding: Sequence[float] | None) -> list[float]:
        if embedding is None:
            raise ConfigurationError("this search needs a query_embedding")
        settings = self._points.settings
        return checked_vector(embedding, settings.dimension if settings else self._dimension(), "the query's vector")

    def _dimension(self) -> int | None:
        """Floats per vector, as far as the store's maker said."""
        return None

    def _nodes(self, condition: edge.Filter | None) -> list[BaseNode]:
        self._points.check()
        if self._points.settings is None:
            return []
        return [to_node(content(record)) for page in self._points.pages(condition, True) for record in page]

    def _retrieve(self, ids: Sequence[UUID]) -> list[BaseNode]:
        return [to_node(content(record)) for some in batches(ids, PAGE) for record in self._points.retrieve(some)]
