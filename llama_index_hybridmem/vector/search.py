"""Questions to one store's points, answered by ids and scores; knows no node, no file, no query class of LlamaIndex.

Scores of dense search are cosines, exact as far as the engine's 32-bit floats go, with or without its search index; the
index only decides which points are looked at. A point with window vectors scores as the best of its windows and itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import numpy as np
import qdrant_edge as edge

from ..errors import InvalidVectorError
from ..filters import Filter, evaluate
from .base import Hits, PointHits, Points, content
from .conditions import NOTHING, WITH_WINDOWS, translate, unindexed, with_terms
from .points import CONTENT, SOURCE, fields_of, own_node_id, source_term
from .sparse import Bm25Encoder

REMEMBERED = 16
"""Filters whose points are kept between queries, until the next write."""
KNOWN_IDS = 100_000
"""Node ids kept that a point id does not spell out: about 20 MB."""
LARGE = 10_000
"""From here on a top_k is cut to the number of points: the engine makes room for all it is asked for."""


def checked_vector(vector: Sequence[float], dimension: int | None, what: str) -> list[float]:
    """A vector as the engine may have it.

    Args:
        vector: floats.
        dimension: how many there must be; None: any number but 0.
        what: for the message: whose vector it is.

    Raises:
        InvalidVectorError: wrong length, or a float that is NaN or infinite in 32 bits (the engine would take it).
    """
    with np.errstate(over="ignore"):
        found = np.asarray(vector, dtype=np.float32)
    if found.ndim != 1 or not found.size or (dimension is not None and found.size != dimension):
        raise InvalidVectorError(
            f"{what} has shape {found.shape}, not {(dimension or 'n',)}: was it made by the store's encoder?"
        )
    if not np.isfinite(found).all():
        raise InvalidVectorError(f"{what} holds NaN or infinity")
    floats: list[float] = found.tolist()
    return floats


class Searcher:
    """Searches one store. Safe to share between threads.

    Args:
        points: the store's; one that is not made yet has no hits.
    """

    def __init__(self, points: Points) -> None:
        self._points = points
        self._node_ids: dict[UUID, str] = {}
        self._remembered: dict[str, tuple[int, edge.ConditionType]] = {}
        self.scanned: set[str] = set()
        """Fields whose numbers were compared by reading, for want of an index."""

    def forget(self) -> None:
        """Drop what was remembered of points that are gone."""
        with self._points.lock:
            self._remembered.clear()

    def restrict(
        self,
        filter: Filter | None,
        node_ids: Iterable[str] | None = None,
        ref_doc_ids: Iterable[str] | None = None,
    ) -> edge.Filter | None:
        """The points that pass a filter and are among the given, exactly; None for all points.

        Where the engine cannot follow the filter, what it can is used to narrow the scan, and every point under it is
        read and evaluated; the outcome is remembered until the next write.

        Args:
            filter: on metadata.
            node_ids: None does not restrict, an empty one leaves nothing.
            ref_doc_ids: ids of the nodes' source documents; None and empty as for `node_ids`.
        """
        among: list[edge.ConditionType] = []
        if node_ids is not None:
            among.append(edge.HasIdCondition({self._points.point_id(node_id) for node_id in node_ids}))
        if ref_doc_ids is not None:
            among.append(with_terms([source_term(ref_doc_id) for ref_doc_id in ref_doc_ids]))
        settings = self._points.settings
        indexed = settings.number_fields if settings else ()
        pushed = translate(filter, indexed)
        if not pushed.exact and filter is not None:
            self.scanned |= unindexed(filter, indexed)
            among.append(self._read(filter, pushed.condition, among))
        elif pushed.condition is not None:
            among.append(pushed.condition)
        return edge.Filter(must=among) if among else None

    def dense(self, vector: list[float], top_k: int, condition: edge.Filter | None) -> Hits:
        """The nearest points, best first; ties by id.

        Args:
            vector: checked.
            top_k: at most so many.
            condition: from `restrict`.
        """
        return self._best(self._nearest(vector, top_k, condition, exact=False), top_k)

    def scores(self, vector: list[float], node_ids: Sequence[str]) -> dict[str, float]:
        """The exact score of each given node that is stored.

        Args:
            vector: checked.
            node_ids: any order.
        """
        if not node_ids:
            return {}
        condition = edge.Filter(must=[edge.HasIdCondition({self._points.point_id(node_id) for node_id in node_ids})])
        found = self._nearest(vector, len(node_ids), condition, exact=True)
        by_point = {self._points.point_id(node_id): node_id for node_id in node_ids}
        return {by_point[point]: score for point, score in found.items()}

    def diverse(
        self, vector: list[float], top_k: int, condition: edge.Filter | None, relevance: float, candidates: int
    ) -> Hits:
        """Points by maximal marginal relevance, in the order in which they were chosen, with their cosines.

        Args:
            vector: checked.
            top_k: at most so many.
            condition: from `restrict`.
            relevance: 1 asks for nearness alone, 0 for difference from what was chosen before alone.
            candidates: how many of the nearest to choose from. Windows play no part.
        """
        limit = self._limit(top_k)
        return self._named(self._points.diverse(vector, limit, condition, relevance, candidates) if limit else [])

    def sparse(self, text: str, encoder: Bm25Encoder, top_k: int, condition: edge.Filter | None) -> Hits:
        """The best points by BM25, best first; ties by id. A text without terms finds none.

        Args:
            text: the question.
            encoder: the one that the points were weighed with.
            top_k: at most so many.
            condition: from `restrict`; document frequencies are those of the whole store all the same.
        """
        (indices,), (values,) = encoder.embed_queries([text])
        if not indices:
            return []
        limit = self._limit(top_k)
        return self._best(dict(self._points.keywords(indices, values, limit, condition)) if limit else {}, top_k)

    def count_windows(self) -> int:
        """Count the points with window vectors."""
        return self._points.count(WITH_WINDOWS)

    def _nearest(
        self, vector: list[float], top_k: int, condition: edge.Filter | None, exact: bool
    ) -> dict[UUID, float]:
        best: dict[UUID, float] = {}
        limit = self._limit(top_k)
        # Whoever belongs to the best k by either vector is among the best k of that vector: the two suffice.
        for hits in self._points.nearest(vector, limit, condition, exact) if limit else ():
            for point, score in hits:
                best[point] = max(score, best.get(point, score))
        return best

    def _limit(self, top_k: int) -> int:
        """How many points to ask for; 0 where there are none."""
        if self._points.settings is None or top_k < 1:
            self._points.check()
            return 0
        return min(top_k, self._points.count()) if top_k > LARGE else top_k

    def _best(self, found: Mapping[UUID, float], top_k: int) -> Hits:
        return self._named(sorted(found.items(), key=lambda hit: (-hit[1], hit[0]))[:top_k])

    def _named(self, found: PointHits) -> Hits:
        """Hits by node id; a point that is gone by now is left out."""
        known = self._node_ids  # not asked for twice: another thread may put an empty one in its place
        names = self._points.names([point for point, _ in found if own_node_id(point) is None and point not in known])
        self._learn(names)
        named = ((own_node_id(point) or names.get(point) or known.get(point), score) for point, score in found)
        return [(node_id, score) for node_id, score in named if node_id is not None]

    def _learn(self, names: Mapping[UUID, str]) -> None:
        if len(self._node_ids) > KNOWN_IDS:
            self._node_ids = {}
        self._node_ids.update(names)

    def _read(
        self, filter: Filter, condition: edge.Filter | None, among: Sequence[edge.ConditionType]
    ) -> edge.ConditionType:
        """The points that pass a filter, by reading all those under a condition."""
        name, writes = repr(filter), self._points.writes  # not the filter: to a dict, True and 1 are the same key
        known = self._remembered.get(name)
        if known is not None and known[0] == writes:
            return known[1]
        if self._points.settings is None:
            return NOTHING
        wide = edge.Filter(must=[*among, *([condition] if condition is not None else [])])
        read = (record for page in self._points.pages(wide, [CONTENT, SOURCE]) for record in page)
        passing = edge.HasIdCondition({record.id for record in read if evaluate(filter, fields_of(content(record)))})
        if not among and writes is not None:
            self._remember(name, writes, passing)
        return passing

    def _remember(self, name: str, writes: int, passing: edge.ConditionType) -> None:
        with self._points.lock:
            while len(self._remembered) >= REMEMBERED:
                self._remembered.pop(next(iter(self._remembered)))
            self._remembered[name] = (writes, passing)
