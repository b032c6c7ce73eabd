"""Points from one store to another, embedded or on a server, as they are; knows no document and no command line.

Nothing is embedded anew and nothing is taken from the source. Only where the target weighs words by another average
length, as one that holds nodes already may do, keyword vectors are weighed by that: side by side with others they would
score by two measures. What was copied is in a journal, so that a killed copy
goes on where it was; writing a point twice is writing it once. At the end every point is read back and compared.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import qdrant_edge as edge

from ..disk import Journal
from ..errors import ConfigurationError, StoreDamagedError, StoreError, StoreMismatchError
from .base import Points, Record, content
from .point_store import PointVectorStore
from .points import NODE_ID, own_node_id
from .sparse import Bm25Encoder
from .writing import weighed

JOURNAL = "migration.jsonl"
_CLOSE = 1e-6
"""A vector is scaled to length 1 wherever it is kept: its last bit may differ, twice over."""
_LAST_BITS = 1e-15
"""The embedded engine reads 0.49649365599282835 back as 0.4964936559928283, and so one number in six."""
_SHOWN = 5

Progress = Callable[[str, int, int], None]
"""Told what is being done ("copying", "comparing"), with how many points, of how many."""


@dataclass(frozen=True)
class Migration:
    """How a copy ended.

    Attributes:
        points: of the source, each of which was found in the target, equal.
        copied: by this run.
        resumed: points that an earlier run had copied.
        repaired: points that were not in the target, or other than in the source, and were copied again.
        others: points in the target that the source does not have.
        checksum: of the source's points in any order, in hexadecimal: node ids, payloads, vectors.
        seconds: it took.
    """

    points: int
    copied: int
    resumed: int
    repaired: int
    others: int
    checksum: str
    seconds: float


def migrate(
    source: PointVectorStore,
    target: PointVectorStore,
    journal: Path,
    *,
    merge: bool = False,
    progress: Progress | None = None,
) -> Migration:
    """Copy all points, and see that they have arrived.

    Args:
        source: left as it is. Nobody should write to it meanwhile.
        target: another store, empty or made by an earlier run of this copy.
        journal: a file that says how far a copy has come; removed at the end.
        merge: whether the target may hold points already; those of nodes that the source has are replaced, and all
            are weighed with the target's average length.
        progress: told how far it is.

    Raises:
        ConfigurationError: the target holds points that no copy of this source has put there.
        StoreMismatchError: its vectors have another length, or its keywords another language.
        StoreError: what was written cannot be read back as it was; or either store fails. Run it again to go on.
    """
    began = time.monotonic()
    copy = _Copy(source._points, target._points, progress or (lambda *_: None))
    if source._points.settings is None:
        return Migration(0, 0, 0, 0, target._points.count() if target._points.settings else 0, checksum([]), 0.0)
    done = Journal(journal)
    place = {"source": _place(source), "target": _place(target)}
    earlier = _resumed(done, place, journal)
    copy.prepare(may_hold=merge or earlier is not None)
    start, resumed = earlier or (None, 0)
    if earlier is None:
        done.append({**place, "last": None, "points": 0})  # from here on, points in the target may be ours
    copied = 0
    for page in copy.pages(start, resumed):
        copy.write(page)
        copied += len(page)
        done.append({**place, "last": str(page[-1].id), "points": resumed + copied})
    found, repaired = copy.compare()
    others = target._points.count() - found.points
    done.clear()
    seconds = time.monotonic() - began
    return replace(found, copied=copied, resumed=resumed, repaired=repaired, others=others, seconds=seconds)


def checksum(records: Iterable[Record]) -> str:
    """The checksum of points, whatever their order; see `Migration`."""
    return _hexadecimal(sum(map(_digest, records)))


@dataclass(frozen=True)
class _Fitted:
    """A point of the source as the target is to have it: see `base.Record`."""

    id: Any
    payload: dict[str, Any] | None
    vector: Any


class _Copy:
    """One copy under way."""

    def __init__(self, source: Points, target: Points, progress: Progress) -> None:
        self._source, self._target, self._progress = source, target, progress
        self._encoder: Bm25Encoder | None = None
        """Weighs words as the target does, where the source does otherwise."""

    def prepare(self, *, may_hold: bool) -> None:
        """Make the target, or see that the copy fits it.

        Args:
            may_hold: whether points in it are no surprise.
        """
        here, there = self._source.settings, self._target.settings
        assert here is not None, "an empty source was dealt with"
        if there is None:
            self._target.make(here)
            return
        for name in ("dimension", "language"):
            if getattr(here, name) != getattr(there, name):
                raise StoreMismatchError(
                    f"the target has {name} {getattr(there, name)!r}, the source {getattr(here, name)!r}: take another"
                )
        if here.average_length != there.average_length:
            self._encoder = Bm25Encoder(there.language, there.average_length)
        if not may_hold and (held := self._target.count()):
            raise ConfigurationError(
                f"the target holds {held} points already; take another, or say that both shall be merged"
            )

    def pages(self, start: UUID | None, before: int) -> Iterator[Sequence[Record]]:
        """The source's points from a given one on."""
        total = self._source.count()
        for page in self._source.pages(None, True, vectors=True, start=start):
            if page:
                yield page
                before += len(page)
                self._progress("copying", min(before, total), total)

    def write(self, page: Sequence[Record]) -> None:
        """Copy some points."""
        self._target.upsert(
            edge.Point(self._target.point_id(_node_id(record)), record.vector, content(record))
            for record in map(self._fitted, page)
        )

    def compare(self) -> tuple[Migration, int]:
        """Read every point back, copy again what is not as it should be, and read that back once more.

        Returns:
            Points and checksum, and how many were copied again.
        """
        points, total, summed, repaired = 0, self._source.count(), 0, 0
        for page in self._source.pages(None, True, vectors=True):
            wrong = self._differing(page)
            if wrong:
                self.write(wrong)
                repaired += len(wrong)
                self._refuse(self._differing(wrong))
            points += len(page)
            summed += sum(map(_digest, page))
            self._progress("comparing", points, total)
        return Migration(points, 0, 0, 0, 0, _hexadecimal(summed), 0.0), repaired

    def _differing(self, page: Sequence[Record]) -> list[Record]:
        wanted = {self._target.point_id(_node_id(record)): self._fitted(record) for record in page}
        found = {record.id: record for record in self._target.retrieve(list(wanted), vectors=True)}
        return [record for point, record in wanted.items() if point not in found or not _same(record, found[point])]

    def _fitted(self, record: Record) -> Record:
        if self._encoder is None:
            return record
        return _Fitted(record.id, record.payload, {**record.vector, **weighed(self._encoder, record)})

    def _refuse(self, wrong: Sequence[Record]) -> None:
        if wrong:
            named = ", ".join(repr(_node_id(record)) for record in wrong[:_SHOWN])
            raise StoreError(f"{len(wrong)} points cannot be read back as they were written: {named} …")


def _resumed(done: Journal, place: Mapping[str, str], path: Path) -> tuple[UUID | None, int] | None:
    """Where an earlier run of this copy has come to: the last point, and how many before it; None: there was none."""
    entries = done.entries()
    if not entries:
        return None
    last = entries[-1]
    if {name: last.get(name) for name in place} != place:
        raise ConfigurationError(
            f"{path} is of another copy, from {last.get('source')} to {last.get('target')}, that was not finished: "
            "finish it, or remove the file"
        )
    try:
        if last["last"] is None:
            return None, 0
        return UUID(last["last"]), int(last["points"]) - 1  # that one is copied again: a scan starts with it
    except (KeyError, TypeError, ValueError) as error:
        raise StoreDamagedError(f"{path} cannot be read: {error}; remove it to start anew") from error


def _place(store: PointVectorStore) -> str:
    """A store's name in the journal; of an embedded one, without its folder, which may have been moved."""
    fields = [getattr(store, name, None) for name in ("url", "collection_name", "tenant")]
    return " ".join(str(one) for one in fields if one is not None) or "embedded"


def _node_id(record: Record) -> str:
    node_id: str | None = content(record).get(NODE_ID) or own_node_id(record.id)
    if node_id is None:
        raise StoreDamagedError(f"point {record.id} does not say which node it is")
    return node_id


def _same(one: Record, other: Record) -> bool:
    mine, theirs = _vectors(one), _vectors(other)
    if not _alike(content(one), content(other)) or mine.keys() != theirs.keys():
        return False
    return all(_same_vector(vector, theirs[name]) for name, vector in mine.items())


def _alike(one: Any, other: Any) -> bool:
    """Whether payloads are the same but for a number's last bit, which an engine may lose; the node in it is text."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_LAST_BITS)
    return bool(one == other)


def _vectors(record: Record) -> dict[str, Any]:
    """A point's vectors; a text without words has a keyword vector without entries, or none."""
    return {
        name: vector
        for name, vector in record.vector.items()
        if not isinstance(vector, edge.SparseVector) or vector.indices
    }


def _same_vector(one: Any, other: Any) -> bool:
    if isinstance(one, edge.SparseVector) or isinstance(other, edge.SparseVector):
        return bool(_by_index(one) == _by_index(other))
    first, second = np.asarray(one, dtype=np.float32), np.asarray(other, dtype=np.float32)
    return first.shape == second.shape and bool(np.allclose(first, second, rtol=0, atol=_CLOSE))


def _by_index(vector: edge.SparseVector) -> list[tuple[int, float]]:
    return sorted(zip(vector.indices, np.asarray(vector.values, dtype=np.float32).tolist(), strict=True))


def _digest(record: Record) -> int:
    hashed = hashlib.blake2b(_node_id(record).encode(), digest_size=16, person=b"hybridmem-copy")
    hashed.update(json.dumps(content(record), sort_keys=True).encode())
    for name, vector in sorted(_vectors(record).items()):
        floats = _by_index(vector) if isinstance(vector, edge.SparseVector) else vector
        hashed.update(name.encode() + np.asarray(floats, dtype="<f8").tobytes())
    return int.from_bytes(hashed.digest(), "big")


def _hexadecimal(total: int) -> str:
    return f"{total % 2**128:032x}"
