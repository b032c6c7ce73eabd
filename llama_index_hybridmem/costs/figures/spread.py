"""How seconds and costs spread: means, percentiles, and how far to trust them; pure, knows nothing of queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Generic, TypeVar

import numpy as np

from llama_index_hybridmem.statistics import bootstrap_interval

Number = TypeVar("Number", float, Decimal)

TOO_FEW = 20
"""Below so many values no range is given for a mean: a bootstrap of fewer is too narrow. Reports print no higher
percentile than the half of fewer, either."""

TOO_FEW_FOR_P95 = 72
"""Below so many values the highest of them may lie below the 95th percentile: 0.95^71 > 0.025."""

_SEED = 6
_DRAWS = 20_000_000  # of one bootstrap, so that a hundred thousand queries take a third of a second
_ROUNDED = Context(prec=10)
_PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Range(Generic[Number]):
    """Where the true value lies, with 95 % confidence."""

    low: Number
    high: Number


@dataclass(frozen=True, slots=True)
class Spread(Generic[Number]):
    """How values spread, in seconds (float) or in the currency of the traces (Decimal).

    Attributes:
        n: how many values there are.
        mean: of all of them.
        p50: half of them are at most this; as for the next three, seconds are interpolated, costs are never: theirs
            are costs that occurred.
        p90: see p50.
        p95: see p50.
        p99: see p50.
        mean_range: percentile bootstrap of the mean; None below `TOO_FEW` values.
        p95_range: of the 95th percentile, from ranks alone, whatever the distribution; None below `TOO_FEW_FOR_P95`.
    """

    n: int
    mean: Number
    p50: Number
    p90: Number
    p95: Number
    p99: Number
    mean_range: Range[Number] | None = None
    p95_range: Range[Number] | None = None


def seconds(values: Sequence[float], *, ranges: bool = True) -> Spread[float] | None:
    """Describe measured seconds.

    Args:
        values: finite, in any order.
        ranges: whether to say how far mean and 95th percentile can be trusted.

    Returns:
        None without values.
    """
    if not len(values):
        return None
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    p50, p90, p95, p99 = (float(each) for each in np.percentile(ordered, _PERCENTILES))
    mean_range = p95_range = None
    if ranges:
        mean_range = _mean_range(values)
        ranks = _p95_ranks(len(ordered))
        p95_range = ranks and Range(float(ordered[ranks[0]]), float(ordered[ranks[1]]))
    return Spread(len(ordered), float(ordered.mean()), p50, p90, p95, p99, mean_range, p95_range)


def money(values: Sequence[Decimal], *, ranges: bool = True) -> Spread[Decimal] | None:
    """Describe costs; see `seconds`. Mean and its range are rounded to ten digits, all else is exact."""
    if not values:
        return None
    ordered, count = sorted(values), len(values)
    p50, p90, p95, p99 = (ordered[-(-percent * count // 100) - 1] for percent in _PERCENTILES)
    mean_range: Range[Decimal] | None = None
    p95_range: Range[Decimal] | None = None
    if ranges:
        drawn = _mean_range([float(value) for value in values])
        mean_range = None if drawn is None else Range(_rounded(drawn.low), _rounded(drawn.high))
        ranks = _p95_ranks(count)
        p95_range = ranks and Range(ordered[ranks[0]], ordered[ranks[1]])
    mean = _ROUNDED.plus(sum(values, Decimal(0)) / count)
    return Spread(count, mean, p50, p90, p95, p99, mean_range, p95_range)


def quantiles(values: Sequence[float]) -> tuple[float, ...]:
    """Give the 0th, 1st, … 100th percentile of measured seconds; nothing without values."""
    return tuple(float(each) for each in np.percentile(values, range(101))) if len(values) else ()


def _mean_range(values: Sequence[float]) -> Range[float] | None:
    if len(values) < TOO_FEW:
        return None
    resamples = min(2000, max(200, _DRAWS // len(values)))
    found = bootstrap_interval(values, _SEED, resamples=resamples)
    return Range(found.low, found.high)


def _p95_ranks(count: int) -> tuple[int, int] | None:
    """Places in an ascending list between which its population's 95th percentile lies with 95 % confidence.

    How many of n values lie below it is binomial (Conover, Practical Nonparametric Statistics, 3.2).
    """
    from scipy.special import bdtr

    below = bdtr(np.arange(count), count, 0.95)
    high = int(np.searchsorted(below, 0.975))
    low = int(np.searchsorted(below, 0.025, side="right")) - 1
    return (max(low, 0), high) if high < count else None


def _rounded(value: float) -> Decimal:
    return _ROUNDED.create_decimal_from_float(value)
