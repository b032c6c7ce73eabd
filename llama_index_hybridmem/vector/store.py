"""Qdrant Edge as a LlamaIndex vector store: nodes and queries in, nodes and scores out; the engine is the shard's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import qdrant_edge as edge
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)

from ..errors import ConfigurationError, StoreMismatchError
from ..filters import parse
from .modes import Modes
from .points import point_id, to_node
from .search import Hits, Searcher, checked_vector, content
from .shard import PAGE, Shard, batches
from .twins import AsyncTwins
from .writing import Windows, Wish, Writer

DRIFT = 0.2
"""From here on the average length of what is stored is another than its keyword vectors were weighed with."""


class QdrantEdgeVectorStore(AsyncTwins):
    """A vector store with BM25 keyword search beside the vectors, in this process, on disk, without a server.

    Points look as LlamaIndex's `QdrantVectorStore` writes them, so they can be copied to a server and read there as
    they are. One process owns a store; threads may share it. What `add` and the deletes have returned from survives a
    kill of the process. New points are searchable at once; `optimize` builds the index that makes large stores fast.

    Args:
        path: the store's folder, opened if there is a store in it, else made by the first `add`; None: a temporary one
            that is removed on `close`.
        dimension: floats per vector; None: that of the store, or of the first vector.
        language: of BM25's stemmer and stop words; None: that of the store, or English.
        average_length: BM25 terms per node that keyword vectors are weighed with, in a new store; None: measured on the
            first `add`.
        indexed_fields: metadata fields whose numbers are compared by `<` and `>`. Those of the first `add` are indexed
            unasked, and comparisons for equality need no index on any field; a filter that needs an index there is not
            answers all the same, by reading.

    Raises:
        StoreLockedError: another process owns the folder; names its pid.
        StoreMismatchError: the store has another dimension or language.
        StoreDamagedError: its files cannot be read.
    """

    stores_text: bool = True
    path: str | None = None
    dimension: int | None = None
    language: str | None = None
    average_length: float | None = None
    indexed_fields: tuple[str, ...] = ()

    _shard: Shard = PrivateAttr()
    _searcher: Searcher = PrivateAttr()
    _writer: Writer = PrivateAttr()
    _modes: Modes = PrivateAttr()

    def __init__(
        self,
        path: str | Path | None = None,
        dimension: int | None = None,
        language: str | None = None,
        average_length: float | None = None,
        indexed_fields: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        fields: dict[str, Any] = {
            "path": str(path) if path is not None else None,
            "dimension": dimension,
            "language": language,
            "average_length": average_length,
            "indexed_fields": tuple(indexed_fields),
        }
        super().__init__(**fields, **kwargs)
        self._shard = Shard(Path(path) if path is not None else None)
        self._searcher = Searcher(self._shard)
        self._writer = Writer(self._shard, Wish(dimension, language, average_length, self.indexed_fields))
        self._modes = Modes(self._searcher, self._writer.encoder, self._vector)
        try:
            self._check_match()
            self._shard.index_numbers(self.indexed_fields)
        except BaseException:
            self._shard.close()
            raise

    @classmethod
    def class_name(cls) -> str:
        """Name it for LlamaIndex's serialisation."""
        return "QdrantEdgeVectorStore"

    @property
    def client(self) -> edge.EdgeShard | None:
        """The engine itself; None while nothing was added. Calls past this store are not guarded by its lock."""
        return self._shard.engine

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
        self._shard.check()
        if window_embeddings:
            self._searcher.noticed_windows()
        if nodes:
            self._writer.add(nodes, window_embeddings or {})
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **_: Any) -> None:
        """Remove every node of a source document."""
        self._remove(self._searcher.restrict(None, ref_doc_ids=[ref_doc_id]))

    def delete_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **_: Any) -> None:
        """Remove the given nodes, those that pass the filters, or where both are given, those that are both.

        Raises:
            ConfigurationError: neither is given; `clear` removes all.
        """
        if node_ids is None and filters is None:
            raise ConfigurationError("delete_nodes needs node_ids or filters; clear() removes all nodes")
        self._remove(self._searcher.restrict(parse(filters), node_ids))

    def clear(self) -> None:
        """Remove all nodes, and with them what was measured on the first; the next `add` starts anew."""
        self._shard.empty()
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
        nodes = {node.node_id: node for node in self._retrieve([point_id(node_id) for node_id, _ in hits])}
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

    def stats(self) -> dict[str, Any]:
        """Describe the store, JSON-safe; reads a number from every point, 1 s for 200,000.

        `average_length` is what keyword vectors are weighed with, `average_length_now` that of the nodes stored now;
        apart by more than a fifth, `reindex_sparse_advised` is true.
        """
        settings = self._shard.settings
        if settings is None:
            self._shard.check()
            return {"points": 0, "dimension": self.dimension, "language": self.language or "english"}
        engine = self._shard.call(lambda engine: engine.info())
        now = self._writer.average_length()
        return {
            "points": engine.points_count,
            "points_with_windows": self._searcher.count_windows(),
            "indexed_vectors": engine.indexed_vectors_count,
            "segments": engine.segments_count,
            "bytes_on_disk": self._shard.bytes_on_disk(),
            "dimension": settings.dimension,
            "language": settings.language,
            "number_fields": list(settings.number_fields),
            "average_length": settings.average_length,
            "average_length_now": now,
            "reindex_sparse_advised": now is not None and abs(now / settings.average_length - 1) > DRIFT,
        }

    def reindex_sparse(self) -> None:
        """Measure the average length anew and weigh all keyword vectors by it."""
        self._shard.check()
        self._writer.reweigh()

    def optimize(self) -> None:
        """Build the search index for what was added since the last time, and number indexes that filters have missed.

        The engine holds the interpreter's lock meanwhile, half a minute for 100,000 points of 384 dimensions: every
        thread stands still. Call it at the end of an ingest, or use `optimize_in_child`.
        """
        self._index_missed()
        if self._shard.settings is not None:
            self._shard.optimize()

    def optimize_in_child(self) -> None:
        """`optimize` in a child process: the store is closed here meanwhile, its calls wait, other threads run on."""
        self._index_missed()
        if self._shard.settings is not None:
            self._shard.optimize_in_child()

    def persist(self, persist_path: str | None = None, fs: object = None) -> None:
        """Flush; the store is on disk anyway, where it was opened. The arguments are LlamaIndex's and play no part."""
        self._shard.flush()

    def close(self) -> None:
        """Close the store and let others have its folder; twice is fine."""
        self._shard.close()

    def __enter__(self) -> QdrantEdgeVectorStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _check_match(self) -> None:
        settings = self._shard.settings
        if settings is None:
            return
        for name, asked in (("dimension", self.dimension), ("language", self.language)):
            if asked is not None and asked != getattr(settings, name):
                raise StoreMismatchError(
                    f"{self.path} was built with {name} {getattr(settings, name)!r}, not {asked!r}; open it with that "
                    "one, or build another"
                )

    def _vector(self, embedding: Sequence[float] | None) -> list[float]:
        if embedding is None:
            raise ConfigurationError("this search needs a query_embedding")
        settings = self._shard.settings
        return checked_vector(embedding, settings.dimension if settings else self.dimension, "the query's vector")

    def _nodes(self, condition: edge.Filter | None) -> list[BaseNode]:
        self._shard.check()
        if self._shard.settings is None:
            return []
        return [to_node(content(record)) for page in self._shard.pages(condition, True) for record in page]

    def _retrieve(self, ids: Sequence[UUID]) -> list[BaseNode]:
        return [to_node(content(record)) for some in batches(ids, PAGE) for record in self._shard.retrieve(some)]

    def _remove(self, condition: edge.Filter | None) -> None:
        self._shard.check()
        if self._shard.settings is not None:
            found = [cast(UUID, record.id) for page in self._shard.pages(condition) for record in page]
            self._shard.remove(found)

    def _index_missed(self) -> None:
        self._shard.check()
        self._shard.index_numbers(sorted(self._searcher.scanned))
