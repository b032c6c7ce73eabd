"""Questions to one shard of this process, in the engine's terms; knows no node and no filter tree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast
from uuid import UUID

import qdrant_edge as edge

from .base import PointHits, content
from .conditions import WITH_WINDOWS
from .files import ROOM_TO_DELETE
from .points import DENSE, NODE_ID, SPARSE, WINDOWS, point_id
from .shard import UPSERT, Shard, batches

LIVING = edge.SearchParams(idf=edge.IdfParams(corpus=edge.Filter()))
"""Document frequencies of the points there are. By itself the engine counts deleted ones until it rewrites them, and a
score would hang on the past: measured, 0.4 of 4 after half was deleted. Costs 1 ms at 100,000 points."""


class EmbeddedPoints(Shard):
    """A shard that answers the questions of `base.Points`. Safe to share between threads; one process owns it.

    Args:
        folder: as for `Shard`.
    """

    def __init__(self, folder: Path | None) -> None:
        self._has_windows: bool | None = None
        super().__init__(folder)

    def point_id(self, node_id: str) -> UUID:
        """The point of a node."""
        return point_id(node_id)

    def nearest(self, vector: list[float], limit: int, condition: edge.Filter | None, exact: bool) -> list[PointHits]:
        """The nearest points by their own vectors and, where there are some, by their windows'."""
        params = edge.SearchParams(exact=exact)
        found = [self._ask(edge.Query.Nearest(vector, using=DENSE), limit, condition, params)]
        if self._windows():
            found.append(self._ask(edge.Query.Nearest([vector], using=WINDOWS), limit, condition, params))
        return found

    def keywords(self, indices: list[int], values: list[float], limit: int, condition: edge.Filter | None) -> PointHits:
        """The best points by BM25."""
        query = edge.Query.Nearest(edge.SparseVector(indices, values), using=SPARSE)
        return self._ask(query, limit, condition, LIVING)

    def diverse(
        self, vector: list[float], limit: int, condition: edge.Filter | None, relevance: float, candidates: int
    ) -> PointHits:
        """Points by maximal marginal relevance, as they were chosen."""
        return self._ask(edge.Mmr(vector, relevance, candidates, using=DENSE), limit, condition)

    def names(self, points: Sequence[UUID]) -> dict[UUID, str]:
        """The node ids of points; those that are not there are left out."""
        if not points:
            return {}
        records = self.call(lambda engine: engine.retrieve(list(points), [NODE_ID], False))
        return {cast(UUID, record.id): content(record)[NODE_ID] for record in records}

    def remove(self, condition: edge.Filter | None) -> None:
        """Remove the points under a condition, in short calls."""
        self.check()
        if self.settings is not None:
            found = [cast(UUID, record.id) for page in self.pages(condition) for record in page]
            self._delete(found)

    def empty(self) -> None:
        """Go back to having no shard."""
        with self.lock:
            super().empty()
            self._has_windows = None

    def noticed_windows(self) -> None:
        """Note that points with windows are being written."""
        with self.lock:
            self._has_windows = True

    def _windows(self) -> bool:
        with self.lock:
            if self._has_windows is None:
                self._has_windows = self.count(WITH_WINDOWS) > 0
            return self._has_windows

    def _ask(
        self,
        query: edge.ScoringQueryType,
        limit: int,
        condition: edge.Filter | None,
        params: edge.SearchParams | None = None,
    ) -> PointHits:
        request = edge.QueryRequest(limit, query=query, filter=condition, params=params)
        found = self.call(lambda engine: engine.query(request))
        return [(cast(UUID, point.id), point.score) for point in found]

    def _delete(self, ids: Iterable[UUID]) -> None:
        for some in batches(ids, UPSERT):
            self.change(edge.UpdateOperation.delete_points(list(some)), ROOM_TO_DELETE)
