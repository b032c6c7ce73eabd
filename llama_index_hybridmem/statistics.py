"""Retrieval measures and bootstrap intervals; pure, knows nothing of stores or question files."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import ConfigurationError

Z95 = 1.959963984540054
"""Standard normal value between whose negative and itself 95 % lie."""

_BLOCK = 2**20  # draws held at a time, so that long lists do not need resamples x length of memory


@dataclass(frozen=True)
class Interval:
    """A mean and how far it can be trusted.

    Attributes:
        mean: of the values themselves.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    mean: float
    low: float
    high: float


def recall_at_k(retrieved: Sequence[str], gold: Collection[str], k: int) -> float:
    """Return the share of the gold ids among the first ``k`` retrieved, 0 … 1.

    Args:
        retrieved: ids, best first; a repeated id takes a place each time.
        gold: the ids that should be found, at least one.
        k: how many are looked at, 1 or more.

    Raises:
        ConfigurationError: no gold, or ``k`` below 1.
    """
    wanted = _wanted(gold)
    if k < 1:
        raise ConfigurationError(f"k is at least 1, not {k}")
    return len(wanted & set(retrieved[:k])) / len(wanted)


def all_gold_at_k(retrieved: Sequence[str], gold: Collection[str], k: int) -> float:
    """Return 1 when all gold ids are among the first ``k`` retrieved, else 0.

    Args:
        retrieved: ids, best first.
        gold: the ids that should be found, at least one.
        k: how many are looked at, 1 or more.

    Raises:
        ConfigurationError: no gold, or ``k`` below 1.
    """
    return float(recall_at_k(retrieved, gold, k) == 1.0)


def reciprocal_rank(retrieved: Sequence[str], gold: Collection[str]) -> float:
    """Return 1 / the rank of the first gold id, 0 when none was retrieved; its mean over questions is the MRR.

    Args:
        retrieved: ids, best first.
        gold: the ids that should be found, at least one.

    Raises:
        ConfigurationError: no gold.
    """
    wanted = _wanted(gold)
    return next((1 / rank for rank, id_ in enumerate(retrieved, start=1) if id_ in wanted), 0.0)


def bootstrap_interval(values: Sequence[float], seed: int, level: float = 0.95, resamples: int = 2000) -> Interval:
    """Return the mean of the values with its percentile bootstrap interval (Efron 1979).

    Args:
        values: one per question, in any unit; at least one, all finite.
        seed: 0 or more; the same seed and values give the same interval.
        level: share of the resampled means inside the interval, between 0 and 1.
        resamples: how often the values are drawn anew; 2000 settles 95 % ends to about the third digit.

    Raises:
        ConfigurationError: no values, a value that is not finite, or an argument out of range.
    """
    sample = _sample(values)
    if not 0 < level < 1:
        raise ConfigurationError(f"the level lies between 0 and 1, not {level}")
    if resamples < 1 or seed < 0:
        raise ConfigurationError(f"resamples is at least 1 and seed at least 0, not {resamples} and {seed}")
    means = _resampled_means(sample, seed, resamples)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(math.fsum(values) / len(sample), float(low), float(high))


def paired_difference(
    a: Sequence[float], b: Sequence[float], seed: int, level: float = 0.95, resamples: int = 2000
) -> Interval:
    """Return the mean of ``a - b``, question by question, with its interval; above 0 throughout: ``a`` is better.

    Args:
        a: one value per question.
        b: one value per question, in the same order.
        seed: 0 or more.
        level: share of the resampled means inside the interval.
        resamples: how often the questions are drawn anew.

    Raises:
        ConfigurationError: unequal lengths, or what ``bootstrap_interval`` refuses.
    """
    if len(a) != len(b):
        raise ConfigurationError(f"a pair for every question is needed: {len(a)} values against {len(b)}")
    return bootstrap_interval([x - y for x, y in zip(a, b, strict=True)], seed, level, resamples)


def wilson(count: int, total: int) -> tuple[float, float]:
    """Give the 95 % interval of a share (Wilson 1927), sound near 0 and 1, too.

    Args:
        count: how many, 0 to ``total``.
        total: of how many; of none the interval is 0 to 1.
    """
    if not total:
        return 0.0, 1.0
    share, square = count / total, Z95 * Z95 / total
    middle = share + square / 2
    half = Z95 * math.sqrt(share * (1 - share) / total + square / total / 4)
    low = (middle - half) / (1 + square) if count else 0.0
    high = (middle + half) / (1 + square) if count < total else 1.0
    return max(0.0, low), min(1.0, high)


def _wanted(gold: Collection[str]) -> set[str]:
    if not gold:
        raise ConfigurationError("a question without gold ids cannot be scored")
    return set(gold)


def _sample(values: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0 or not np.isfinite(sample).all():
        raise ConfigurationError("an interval needs at least one value, and finite ones")
    return sample


def _resampled_means(
    sample: np.ndarray[tuple[int], np.dtype[np.float64]], seed: int, resamples: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    draws = np.random.default_rng(seed)
    rows = max(1, _BLOCK // sample.size)
    blocks = [
        sample[draws.integers(0, sample.size, (min(rows, resamples - done), sample.size))].mean(axis=1)
        for done in range(0, resamples, rows)
    ]
    return np.concatenate(blocks)
