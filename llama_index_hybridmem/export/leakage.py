"""Whether what answers a question of test or dev was seen in training; pure, knows no file.

Seen as the answer's source in train it is a leak. Seen there as a distractor it tells the model no more than that the
passage exists, and is counted apart. Memory grows with the documents and passages of the corpus (about 20 bytes each),
not with the records.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_index_hybridmem.export.record import Record

_TRAIN_GOLD, _TRAIN_OTHER, _HELD_GOLD = 1, 2, 4
_BUFFER = 50_000


@dataclass(frozen=True, slots=True)
class Seen:
    """Gold documents (or passages) of dev and test.

    Attributes:
        held: how many there are.
        as_gold: those that answer a question of train, too: must be 0.
        as_distractor: those that stand in train without answering anything.
    """

    held: int
    as_gold: int
    as_distractor: int


@dataclass(frozen=True, slots=True)
class Leakage:
    """What train knows of dev and test.

    Attributes:
        documents: by source document.
        passages: by the text of a passage.
    """

    documents: Seen
    passages: Seen

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return asdict(self)


class Leaks:
    """Notes who was seen where."""

    def __init__(self) -> None:
        self._documents, self._passages = _Marks(), _Marks()

    def add(self, record: Record) -> None:
        """Take a record. What retrieval found is looked at, as damage does not make a passage another one."""
        gold = {each.id for each in record.clean if each.id in record.gold}
        shown = {each.id for each in record.noisy}
        sources: dict[str, int] = {}
        for each in record.clean:
            answers = each.id in gold
            if answers or each.id in shown:
                mark = _mark(record.split, answers)
                source = each.source or each.id
                sources[source] = sources.get(source, 0) | mark
                self._passages.add(each.text, mark)
        known = {each.id for each in record.clean}
        for each in record.noisy:
            if each.id not in known:  # put there by the damage
                source = each.source or each.id
                sources[source] = sources.get(source, 0) | _mark(record.split, answers=False)
                self._passages.add(each.text, _mark(record.split, answers=False))
        for source, mark in sources.items():
            self._documents.add(source, mark)

    def result(self) -> Leakage:
        """Give the counts so far."""
        return Leakage(self._documents.seen(), self._passages.seen())


class _Marks:
    """Names, as hashes, with the marks that each of them got: two sorted arrays and a buffer."""

    def __init__(self) -> None:
        self._names: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._marks: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._buffer: dict[int, int] = {}

    def add(self, name: str, mark: int) -> None:
        hashed = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        key = int.from_bytes(hashed, "big")
        self._buffer[key] = self._buffer.get(key, 0) | mark
        if len(self._buffer) >= _BUFFER:
            self._merge()

    def seen(self) -> Seen:
        self._merge()
        held = (self._marks & _HELD_GOLD) > 0
        gold = (self._marks & _TRAIN_GOLD) > 0
        other = (self._marks & _TRAIN_OTHER) > 0
        return Seen(int(held.sum()), int((held & gold).sum()), int((held & other & ~gold).sum()))

    def _merge(self) -> None:
        if not self._buffer:
            return
        names = np.concatenate([self._names, np.fromiter(self._buffer, np.uint64, len(self._buffer))])
        marks = np.concatenate([self._marks, np.fromiter(self._buffer.values(), np.uint8, len(self._buffer))])
        order = np.argsort(names, kind="stable")
        self._names, starts = np.unique(names[order], return_index=True)
        self._marks = np.bitwise_or.reduceat(marks[order], starts)
        self._buffer.clear()


def _mark(split: str, answers: bool) -> int:
    """What being seen in a split means; a distractor of dev or test means nothing."""
    if split == "train":
        return _TRAIN_GOLD if answers else _TRAIN_OTHER
    return _HELD_GOLD if answers else 0
