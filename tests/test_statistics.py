"""Tests of the retrieval measures and intervals."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.statistics import (
    Interval,
    all_gold_at_k,
    bootstrap_interval,
    paired_difference,
    recall_at_k,
    reciprocal_rank,
)

IDS = st.lists(st.sampled_from("abcdefgh"), max_size=8)
GOLD = st.sets(st.sampled_from("abcdefgh"), min_size=1, max_size=4)


def test_recall_counts_the_gold_among_the_first_k() -> None:
    """Two of three gold ids in the first two: 2/3."""
    assert recall_at_k(["a", "b", "c"], ["a", "b", "c"], 2) == pytest.approx(2 / 3)
    assert recall_at_k([], ["a"], 5) == 0.0
    assert recall_at_k(["a", "a", "b"], ["a", "b"], 2) == 0.5


@settings(max_examples=40)
@given(IDS, GOLD, st.integers(1, 10))
def test_recall_grows_with_k_and_all_gold_is_its_full_mark(retrieved: list[str], gold: set[str], k: int) -> None:
    """recall@k never falls with k; all-gold@k is 1 exactly where recall@k is."""
    recall = recall_at_k(retrieved, gold, k)
    assert 0 <= recall <= recall_at_k(retrieved, gold, k + 1) <= 1
    assert all_gold_at_k(retrieved, gold, k) == float(recall == 1)


@settings(max_examples=40)
@given(IDS, GOLD)
def test_reciprocal_rank_is_the_smallest_k_with_any_recall(retrieved: list[str], gold: set[str]) -> None:
    """1 / rank of the first gold id, and 0 when there is none."""
    hits = [k for k in range(1, len(retrieved) + 1) if recall_at_k(retrieved, gold, k) > 0]
    assert reciprocal_rank(retrieved, gold) == (1 / hits[0] if hits else 0.0)


def test_a_question_without_gold_cannot_be_scored() -> None:
    """No gold is a mistake in the questions, not a recall of 0 or 1."""
    for measure in (
        lambda: recall_at_k(["a"], [], 1),
        lambda: all_gold_at_k(["a"], [], 1),
        lambda: reciprocal_rank(["a"], []),
    ):
        with pytest.raises(ConfigurationError, match="without gold"):
            measure()
    with pytest.raises(ConfigurationError, match="at least 1"):
        recall_at_k(["a"], ["a"], 0)


@settings(max_examples=25)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.integers(0, 2**32))
def test_the_interval_lies_within_the_values_and_is_repeatable(values: list[float], seed: int) -> None:
    """Same seed, same interval; its ends are means of the values, so they lie between their extremes."""
    interval = bootstrap_interval(values, seed, resamples=200)
    slack = 1e-9 * max(1.0, *map(abs, values))
    assert min(values) - slack <= interval.low <= interval.high <= max(values) + slack
    assert interval.mean == pytest.approx(math.fsum(values) / len(values))
    assert bootstrap_interval(values, seed, resamples=200) == interval


def test_the_interval_is_about_two_standard_errors_wide() -> None:
    """For 400 coin flips the 95 % interval reaches about 1.96 x 0.025 either way."""
    flips = [float(random.Random(f"0:{number}").random() < 0.5) for number in range(400)]
    interval = bootstrap_interval(flips, seed=1)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * 0.025, rel=0.1)
    assert bootstrap_interval(flips, seed=1, level=0.5).high < interval.high


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Over 200 samples of 50 from a known law the 90 % interval holds the true mean in 84 … 95 % of them."""
    covered = 0
    for trial in range(200):
        draws = random.Random(f"7:{trial}")
        interval = bootstrap_interval([draws.random() for _ in range(50)], seed=trial, level=0.9, resamples=400)
        covered += interval.low <= 0.5 <= interval.high
    assert 168 <= covered <= 190


def test_long_lists_are_resampled_in_blocks() -> None:
    """A million values cost blocks of memory, not resamples x values."""
    interval = bootstrap_interval([0.0, 1.0] * 600_000, seed=3, resamples=3)
    assert interval.mean == 0.5
    assert interval.low == pytest.approx(0.5, abs=0.01)


def test_pairs_see_a_difference_that_single_intervals_hide() -> None:
    """A small constant gain over very uneven questions: the intervals overlap, the paired one excludes 0."""
    hard = [random.Random(f"1:{number}").random() for number in range(60)]
    better = [value + 0.01 for value in hard]
    assert bootstrap_interval(hard, 0).high > bootstrap_interval(better, 0).low
    gain = paired_difference(better, hard, seed=0)
    assert gain == Interval(pytest.approx(0.01), pytest.approx(0.01), pytest.approx(0.01))


@pytest.mark.parametrize(
    ("values", "arguments"),
    [
        ([], {}),
        ([1.0, math.nan], {}),
        ([math.inf], {}),
        ([1.0], {"level": 1.0}),
        ([1.0], {"resamples": 0}),
        ([1.0], {"seed": -1}),
    ],
)
def test_senseless_arguments_are_refused(values: list[float], arguments: dict[str, float]) -> None:
    """Nothing to average, non-finite values and impossible settings are named, not computed with."""
    with pytest.raises(ConfigurationError):
        bootstrap_interval(values, **{"seed": 0, **arguments})  # type: ignore[arg-type]


def test_unequal_pairs_are_refused() -> None:
    """A missing partner is an error, never a shorter list."""
    with pytest.raises(ConfigurationError, match="2 values against 1"):
        paired_difference([1.0, 2.0], [1.0], seed=0)
