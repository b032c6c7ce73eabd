"""Questions that are nearly the same, within a part and across parts, and those of them that are answered differently.

Knows no record's passages. Memory stays flat: every question is written to a temporary file as a sketch of fixed size
(MinHash, Broder 1997) beside its text; at the end one column at a time is read and sorted, and only questions whose
sketches meet in a band are compared, by their words. Memory takes some tens of bytes for each question (a column of its
sketch, sorted), the disk some 120 bytes and its text.
"""

from __future__ import annotations

import re
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from llama_index_hybridmem.disk import on_disk
from llama_index_hybridmem.export.options import SPLITS
from llama_index_hybridmem.export.record import Record
from llama_index_hybridmem.export.shapes import NearDuplicates, Twins
from llama_index_hybridmem.terms import content_stems, words

NEAR = 0.8
"""Share of the words and pairs of words that two questions must have in common (Jaccard). "In what year was the Eiffel
Tower built?" and "In which year was the Eiffel Tower built?" share two thirds: they ask the same, and are seen as
conflicting when answered differently, but are not copies of each other."""

_BANDS, _ROWS = 12, 4  # a pair as alike as NEAR meets in one band at least with a probability of 0.998
_BATCH = 2048
_NAMED = 20
_PRIME = np.uint64(2**31 - 1)
_DRAWS = Random(20261122)  # its random() is promised to stay the same, numpy's generators are not
_FACTOR, _SHIFT = (
    np.array([least + int(_DRAWS.random() * (2**31 - 1 - least)) for _ in range(_BANDS * _ROWS)], np.uint64)
    for least in (1, 0)
)
_SKETCH = np.dtype(
    [("bands", "<u8", _BANDS), ("asked", "<u8"), ("answer", "<u8"), ("split", "u1"), ("at", "<u8"), ("size", "<u4")]
)
_BLANKS = re.compile(r"\s+")
Rows = NDArray[np.intp]


class Questions:
    """Collects questions in a temporary file; use it in a ``with`` block.

    Args:
        folder: where the file is made; None: the system's place for such files.

    Raises:
        StoreError: there is no room on the disk.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._place = Path(folder or tempfile.gettempdir())
        self._sketches, self._texts = _nameless(self._place), _nameless(self._place)
        self._waiting: list[tuple[str, int, int, int, str]] = []
        self._count = 0
        self._written = 0

    def __enter__(self) -> Questions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sketches.close()
        self._texts.close()

    def add(self, record: Record) -> None:
        """Take a record's question and, where it is answered, its answer."""
        stems = " ".join(sorted(content_stems(record.question))) or record.question
        answer = _hash(" ".join(words(record.answer)) or record.answer) if record.answerable else 0
        split = SPLITS.index(record.split) if record.split in SPLITS else 0
        self._waiting.append((record.question, _hash(stems), answer, split, record.id))
        if len(self._waiting) == _BATCH:
            self._write()

    def result(self) -> NearDuplicates:
        """Compare all questions."""
        self._write()
        if not self._count:
            return NearDuplicates()
        splits = self._column("split")
        within, across = (np.zeros(self._count, bool) for _ in range(2))
        pairs: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        for band in range(_BANDS):
            for rows, others in _meeting(self._column("bands", band), splits):
                same = splits[rows] == splits[others]
                for flags, chosen, named in ((within, same, pairs[1]), (across, ~same, pairs[0])):
                    self._flag(flags, rows[chosen], others[chosen], named)
        conflicts, conflicting = self._conflicts()
        told = tuple(self._twins(*pair, splits) for pair in _once([*pairs[0], *pairs[1]]))
        return NearDuplicates(self._count, int(within.sum()), int(across.sum()), conflicting, told, conflicts)

    def _flag(self, flags: NDArray[np.bool_], rows: Rows, others: Rows, named: list[tuple[int, int]]) -> None:
        """Flag both of each pair that is as alike as it seems; those that are flagged need no second look."""
        unseen = ~(flags[rows] & flags[others])
        for row, other in zip(rows[unseen].tolist(), others[unseen].tolist(), strict=True):
            if not (flags[row] and flags[other]) and self._are_alike(row, other):
                flags[row] = flags[other] = True
                first, second = sorted((row, other))
                if len(named) < _NAMED and all(first != known for known, _ in named):  # one of each group of copies
                    named.append((first, second))

    def _are_alike(self, row: int, other: int) -> bool:
        one, two = (_shingles(self._text(each)[1]) for each in (row, other))
        return len(one & two) >= NEAR * len(one | two)

    def _conflicts(self) -> tuple[tuple[Twins, ...], int]:
        """Compare the answers of those that ask the same with the first one's."""
        asked, answers, splits = (self._column(name) for name in ("asked", "answer", "split"))
        answered = np.flatnonzero(answers)
        order, starts, lengths = _runs(asked[answered])
        if not len(order):
            return (), 0
        order = answered[order]
        first = np.repeat(order[starts], lengths)
        other = answers[order] != answers[first]
        mixed = np.add.reduceat(other, starts) > 0
        named = zip(first[other].tolist(), order[other].tolist(), strict=True)
        twins = tuple(self._twins(*pair, splits) for pair, _ in zip(named, range(_NAMED), strict=False))
        return twins, int(lengths[mixed].sum())

    def _write(self) -> None:
        if not self._waiting:
            return
        sketches = np.zeros(len(self._waiting), _SKETCH)
        sketches["bands"] = _bands([_shingles(each[0]) for each in self._waiting])
        for row, (question, asked, answer, split, id_) in zip(sketches, self._waiting, strict=True):
            text = f"{id_}\0{question}".encode("utf-8", "surrogatepass")
            row["asked"], row["answer"], row["split"] = asked, answer, split
            row["at"], row["size"] = self._written, len(text)
            self._written += len(text)
            with on_disk(self._place):
                self._texts.write(text)
        with on_disk(self._place):
            self._sketches.write(sketches.tobytes())
        self._count += len(sketches)
        self._waiting.clear()

    def _column(self, name: str, band: int | None = None) -> NDArray[Any]:
        """One field of all sketches, read a batch at a time."""
        with on_disk(self._place):
            self._sketches.seek(0)
            parts = iter(lambda: self._sketches.read(_SKETCH.itemsize * _BATCH * 8), b"")
            read = (np.frombuffer(part, _SKETCH)[name] for part in parts)
            return np.concatenate([(part if band is None else part[:, band]).copy() for part in read])

    def _text(self, row: int) -> tuple[str, str]:
        """Id and question."""
        with on_disk(self._place):
            self._sketches.seek(row * _SKETCH.itemsize)
            sketch = np.frombuffer(self._sketches.read(_SKETCH.itemsize), _SKETCH)[0]
            self._texts.seek(int(sketch["at"]))
            text = self._texts.read(int(sketch["size"])).decode("utf-8", "surrogatepass")
        id_, _, question = text.partition("\0")
        return id_, question

    def _twins(self, first: int, second: int, splits: NDArray[Any]) -> Twins:
        return Twins(self._text(first), self._text(second), (SPLITS[splits[first]], SPLITS[splits[second]]))


def _nameless(folder: Path) -> IO[bytes]:
    """A file that is gone when it is closed, or when the process ends."""
    with on_disk(folder):
        return tempfile.TemporaryFile(dir=folder)


def _meeting(band: NDArray[Any], splits: NDArray[Any]) -> Iterator[tuple[Rows, Rows]]:
    """Pair each row with the first of each part whose sketch agrees with its own in this band."""
    order, starts, lengths = _runs(band)
    run = np.repeat(np.arange(len(starts)), lengths)
    for split in range(len(SPLITS)):
        if not len(order):
            return
        firsts = np.minimum.reduceat(np.where(splits[order] == split, order, len(band)), starts)
        others = firsts[run]
        met = (others < len(band)) & (others != order)
        yield order[met], others[met]


def _runs(values: NDArray[Any]) -> tuple[Rows, Rows, Rows]:
    """The rows whose value is not theirs alone, equal ones together; where each run of them starts, and its length."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    new = np.ones(len(values) + 1, bool)
    new[1:-1] = ordered[1:] != ordered[:-1]
    del ordered
    order = order[~(new[:-1] & new[1:])]
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(order)])
    return order, starts, np.diff(np.append(starts, len(order)))


def _bands(shingles: Sequence[frozenset[str]]) -> NDArray[np.uint64]:
    """The bands of several questions' sketches, a row each."""
    hashes = np.array([_hash32(each) for of_one in shingles for each in of_one], np.uint64)
    starts = np.cumsum([0, *(len(of_one) for of_one in shingles[:-1])])
    rows = [np.minimum.reduceat((hashes * a + b) % _PRIME, starts) for a, b in zip(_FACTOR, _SHIFT, strict=True)]
    signature = np.stack(rows, axis=1).reshape(len(shingles), _BANDS, _ROWS)
    mixed = signature[:, :, 0]
    for row in range(1, _ROWS):
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + signature[:, :, row]  # wraps, as hashes do
    return mixed


def _shingles(question: str) -> frozenset[str]:
    """The words of a question, and its pairs of neighbours; at least one."""
    found = words(question)
    if not found:
        return frozenset({_BLANKS.sub(" ", question).strip()})
    return frozenset([*found, *(f"{one} {two}" for one, two in zip(found, found[1:], strict=False))])


def _hash32(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass")) & 0x7FFFFFFF


def _hash(text: str) -> int:
    """64 bits, never 0; the same in every process."""
    encoded = text.encode("utf-8", "surrogatepass")
    return zlib.crc32(encoded) << 32 | zlib.crc32(encoded[::-1], 1) or 1


def _once(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return list(dict.fromkeys(pairs))[:_NAMED]
