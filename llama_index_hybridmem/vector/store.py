"""Qdrant Edge as a LlamaIndex vector store: nodes and queries in, nodes and scores out; the engine is the shard's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import qdrant_edge as edge
from llama_index.core.bridge.pydantic import PrivateAttr

from .embedded import EmbeddedPoints
from .point_store import PointVectorStore
from .writing import Wish


class QdrantEdgeVectorStore(PointVectorStore):
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

    path: str | None = None
    dimension: int | None = None
    language: str | None = None
    average_length: float | None = None
    indexed_fields: tuple[str, ...] = ()

    _shard: EmbeddedPoints = PrivateAttr()

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
        self._shard = EmbeddedPoints(Path(path) if path is not None else None)
        wish = Wish(dimension, language, average_length, self.indexed_fields)
        self._hold(self._shard, wish)
        try:
            if self._shard.settings is not None:
                wish.check(self._shard.settings, str(path))
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
        return {
            "points": engine.points_count,
            "points_with_windows": self._searcher.count_windows(),
            "indexed_vectors": engine.indexed_vectors_count,
            "segments": engine.segments_count,
            "bytes_on_disk": self._shard.bytes_on_disk(),
            "dimension": settings.dimension,
            "language": settings.language,
            "number_fields": list(settings.number_fields),
            **self._average_stats(settings.average_length),
        }

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

    def __enter__(self) -> QdrantEdgeVectorStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _dimension(self) -> int | None:
        return self.dimension

    def _index_missed(self) -> None:
        self._shard.check()
        self._shard.index_numbers(sorted(self._searcher.scanned))
