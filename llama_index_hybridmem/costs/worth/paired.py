"""The paired bootstrap: whole questions drawn anew, all their figures together; pure, knows no money.

The draws are those of `statistics.paired_difference`, so that with one seed both give one interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llama_index_hybridmem.statistics import Interval

Numbers: TypeAlias = NDArray[np.float64]
Verdict = Literal["better", "worse", "not shown"]

POWER = 0.8
"""How often as many questions as `needed_pairs` says would show the gain; the customary four times in five."""

LEAST_DIFFERENT = 6
"""Questions that must be answered differently. Of five, all in favour, a sign test makes p = 2 · 0.5⁵ = 0.06, while the
bootstrap, which draws from those five alone, would take them for certain."""

_BLOCK = 2**20  # draws held at a time


@dataclass(frozen=True)
class Figure:
    """A figure, or why there is none.

    Attributes:
        value: with its interval, whose ends may be infinite; None when it cannot be said.
        why: the reason; None when it can.
    """

    value: Interval | None
    why: str | None = None


def resampled(columns: Numbers, seed: int, resamples: int) -> Numbers:
    """Means of the columns over questions drawn anew.

    Args:
        columns: a row per question, a column per figure.
        seed: 0 or more.
        resamples: how often.

    Returns:
        A row per resample, a column per figure.
    """
    draws, size = np.random.default_rng(seed), len(columns)
    rows = max(1, _BLOCK // size)
    blocks = [
        _counts(draws.integers(0, size, (min(rows, resamples - done), size))) @ columns / size
        for done in range(0, resamples, rows)
    ]
    return np.concatenate(blocks)


def _counts(drawn: NDArray[np.int64]) -> Numbers:
    """How often each question was drawn, a row per resample: one product then gives the means of all columns."""
    rows, size = drawn.shape
    places = drawn + size * np.arange(rows)[:, None]
    return np.bincount(places.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)


def interval(value: float, draws: Numbers, level: float = 0.95) -> Interval:
    """The percentile interval around a value; draws may be infinite, and so may its ends."""
    shares = ((1 - level) / 2, (1 + level) / 2)
    if np.isfinite(draws).all():
        low, high = np.quantile(draws, shares)
    else:  # nothing lies between a number and infinity: the nearest draw inside
        ordered, last = np.sort(draws), len(draws) - 1
        low, high = ordered[math.ceil(shares[0] * last)], ordered[math.floor(shares[1] * last)]
    return Interval(value, float(low), float(high))


def around(value: float, draws: Numbers, size: int, least: int, level: float = 0.95) -> Interval:
    """The interval of `interval`; of fewer than `least` questions one that says nothing, from −∞ to ∞."""
    return interval(value, draws, level) if size >= least else Interval(value, -math.inf, math.inf)


def says_nothing(found: Interval) -> bool:
    """Whether an interval has no end, because it would rest on too few questions."""
    return found.low == -math.inf


def ratio(above: Numbers, below: Numbers) -> Numbers:
    """Divide; infinite where what stands below is not above 0, because then no price and no volume is enough."""
    found = np.full(np.broadcast(above, below).shape, np.inf)
    np.divide(above, below, out=found, where=np.broadcast_to(below > 0, found.shape))
    return found


def verdict(difference: Interval, pairs: int, differ: int, least: int) -> Verdict:
    """Say whether a difference is shown: enough questions, enough of them answered differently, 0 outside."""
    if pairs < least or differ < LEAST_DIFFERENT or difference.low <= 0 <= difference.high:
        return "not shown"
    return "better" if difference.low > 0 else "worse"


def needed_pairs(differences: Numbers, level: float = 0.95) -> int | None:
    """How many paired questions would show a mean difference of this size, four times in five.

    ``(z(level) + z(POWER))² · variance / mean²``, from the spread of the differences seen (for right and wrong alone
    the share of questions answered differently, less the squared mean). None when the mean is 0.
    """
    mean = float(differences.mean())
    if mean == 0:
        return None
    z = NormalDist().inv_cdf((1 + level) / 2) + NormalDist().inv_cdf(POWER)
    return math.ceil(z**2 * float(differences.var()) / mean**2)
