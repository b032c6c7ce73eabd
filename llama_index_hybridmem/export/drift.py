"""Whether questions and answers changed over time: the first third against the last; pure, knows no clock.

A set whose labels were made under two sets of rules teaches neither. Each trait has its test, and the tests share one
error rate (Holm 1979): 5 % for all of them together.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import chdtrc

from llama_index_hybridmem.export.record import Record
from llama_index_hybridmem.export.style import form_of

FEWEST = 60
"""Records with a time below which nothing is said: 20 in a third."""
_MOST = 6000  # records looked at, those of the smallest hashes
_VALUES = 8  # of a trait; the rarer ones count as one


class _Seen(NamedTuple):
    asked: float
    answerable: bool
    length: int
    opening: str
    form: str


@dataclass(frozen=True, slots=True)
class Drift:
    """One trait, then and now.

    Attributes:
        trait: "abstention", "answer length", "question wording" or "answer form".
        first: how it was in the first third.
        last: how it was in the last one.
        p: probability of a difference as large, by chance.
        drifted: whether that is too small, the number of tests considered.
    """

    trait: str
    first: str
    last: str
    p: float
    drifted: bool

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return asdict(self)


class Drifting:
    """Keeps a sample of records by time."""

    def __init__(self) -> None:
        self._sample: list[tuple[int, str, _Seen]] = []  # a heap: the largest hash first

    def add(self, record: Record) -> None:
        """Take a record; one without a time is left out."""
        if record.asked is None or not math.isfinite(record.asked):
            return
        name = hashlib.blake2b(record.id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        place = -int.from_bytes(name, "big")
        if len(self._sample) < _MOST or place > self._sample[0][0]:
            opening = " ".join(record.question.casefold().split()[:2])
            form = form_of(record.answer) if record.answerable else ""
            seen = _Seen(record.asked, record.answerable, len(record.answer.split()), opening, form)
            put = heapq.heappush if len(self._sample) < _MOST else heapq.heappushpop
            put(self._sample, (place, record.id, seen))

    def result(self) -> tuple[Drift, ...]:
        """Give every trait, then and now; () where too few records have a time, or all the same."""
        seen = sorted((each for _, _, each in self._sample), key=lambda each: each.asked)
        if len(seen) < FEWEST or seen[0].asked == seen[-1].asked:
            return ()
        third = len(seen) // 3
        found = list(_compared(seen[:third], seen[-third:]))
        limits = _holm([each[3] for each in found])
        return tuple(Drift(*each, drifted=limit) for each, limit in zip(found, limits, strict=True))


def _compared(first: Sequence[_Seen], last: Sequence[_Seen]) -> Iterator[tuple[str, str, str, float]]:
    yield _shares(
        "abstention", *(["answered" if each.answerable else "abstained" for each in part] for part in (first, last))
    )
    lengths = [[each.length for each in part if each.answerable] for part in (first, last)]
    if all(lengths):
        yield _lengths(*lengths)
    yield _shares("question wording", [each.opening for each in first], [each.opening for each in last])
    forms = [[each.form for each in part if each.answerable] for part in (first, last)]
    if all(forms):
        yield _shares("answer form", *forms)


def _shares(trait: str, first: Sequence[str], last: Sequence[str]) -> tuple[str, str, str, float]:
    """Two lists of values: Pearson's chi-square test of homogeneity, rare values as one."""
    usual = [value for value, _ in Counter([*first, *last]).most_common(_VALUES)]
    table = np.array([[part.count(value) for value in usual] for part in map(list, (first, last))])
    rest = np.array([[len(first)], [len(last)]]) - table.sum(axis=1, keepdims=True)
    table = np.hstack([table, rest])
    table = table[:, table.sum(axis=0) > 0]
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    square = float(((table - expected) ** 2 / expected).sum())
    p = float(chdtrc(table.shape[1] - 1, square)) if table.shape[1] > 1 else 1.0
    return trait, _told(first), _told(last), p


def _lengths(first: Sequence[int], last: Sequence[int]) -> tuple[str, str, str, float]:
    """Two lists of numbers: the rank-sum test of Mann and Whitney (1947), normal, corrected for ties."""
    values, place, counts = np.unique([*first, *last], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    n, m = len(first), len(last)
    shift = ranks[:n].sum() - n * (n + m + 1) / 2
    ties = float((counts.astype(float) ** 3 - counts).sum()) / ((n + m) * (n + m - 1))
    spread = math.sqrt(n * m / 12 * max(n + m + 1 - ties, 0))
    p = 1.0 if len(values) == 1 else math.erfc(abs(shift) / spread / math.sqrt(2))
    return "answer length", f"{np.median(first):.0f} words", f"{np.median(last):.0f} words", float(p)


def _told(values: Sequence[str]) -> str:
    """The two most frequent values, with their shares."""
    most = Counter(values).most_common(2)
    return "; ".join(f"{value or 'nothing'} {n / len(values):.0%}" for value, n in most)


def _holm(ps: Sequence[float], level: float = 0.05) -> list[bool]:
    order = sorted(range(len(ps)), key=lambda place: ps[place])
    below = [False] * len(ps)
    for rank, place in enumerate(order):
        if ps[place] > level / (len(ps) - rank):
            break
        below[place] = True
    return below
