"""What searchers and writers ask of the place where points lie, be it this process or a server; holds no point itself.

Filters and points are spoken of in the embedded engine's classes, also where a server is asked in the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol
from uuid import UUID

import qdrant_edge as edge

from .files import Settings

Hits = list[tuple[str, float]]
"""(node id, score), best first."""
PointHits = list[tuple[UUID, float]]
"""(point, score), best first."""


class Record(Protocol):
    """A point as it was read."""

    @property
    def id(self) -> Any:
        """The point, a UUID."""

    @property
    def payload(self) -> dict[str, Any] | None:
        """What was asked for of its payload."""

    @property
    def vector(self) -> Any:
        """By name, where it was asked for."""


class Points(Protocol):
    """One store's points: a shard of this process, or one tenant's part of a collection on a server.

    Attributes:
        lock: guards what is kept here between calls.
        settings: None while nothing was added.
    """

    settings: Settings | None

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Guards what is kept here between calls."""

    @property
    def writes(self) -> int | None:
        """Counts changes, so that what was computed from the content can be told stale; None: others write, too."""

    def check(self) -> None:
        """Raise if no call can be made here and now."""

    def point_id(self, node_id: str) -> UUID:
        """The point of a node."""

    def nearest(self, vector: list[float], limit: int, condition: edge.Filter | None, exact: bool) -> list[PointHits]:
        """The nearest points by their own vectors and, where there are some, by their windows'."""

    def keywords(self, indices: list[int], values: list[float], limit: int, condition: edge.Filter | None) -> PointHits:
        """The best points by BM25; document frequencies are those of the store's living points."""

    def diverse(
        self, vector: list[float], limit: int, condition: edge.Filter | None, relevance: float, candidates: int
    ) -> PointHits:
        """Points by maximal marginal relevance, as they were chosen."""

    def names(self, points: Sequence[UUID]) -> Mapping[UUID, str]:
        """The node ids of points; those that are not there are left out."""

    def retrieve(self, ids: Sequence[UUID], vectors: bool = False) -> Sequence[Record]:
        """Read points with their payload; those that are not there are left out."""

    def pages(
        self,
        condition: edge.Filter | None,
        payload: bool | list[str] = False,
        *,
        vectors: bool = False,
        start: UUID | None = None,
    ) -> Iterator[Sequence[Record]]:
        """Scan the points under a condition, in the order of their ids; from a given one on, if one is."""

    def count(self, condition: edge.Filter | None = None) -> int:
        """Count the points under a condition."""

    def make(self, settings: Settings) -> None:
        """Make the store; where another process was faster, its settings stand."""

    def amend(self, settings: Settings) -> None:
        """Note other settings for the store as it now is."""

    def upsert(self, points: Iterable[edge.Point]) -> None:
        """Write points; each is safe when this has returned."""

    def revise(self, vectors: Iterable[tuple[UUID, dict[str, edge.NamedVector]]]) -> None:
        """Put other vectors in the place of points' present ones of the same names."""

    def remove(self, condition: edge.Filter | None) -> None:
        """Remove the points under a condition."""

    def empty(self) -> None:
        """Remove all points, and what was measured on the first."""

    def noticed_windows(self) -> None:
        """Note that points with windows are being written."""

    def close(self) -> None:
        """Let go of it; twice is fine."""


def content(record: Record) -> dict[str, Any]:
    """The payload of a record that was read with it."""
    assert record.payload is not None, "asked for without payload"
    return record.payload
