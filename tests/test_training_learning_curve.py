"""What more data would buy: known curves are found again, and what cannot be told is not told; pure."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.training.learning_curve import Fit, LearningCurve, Point, learning_curve

SIZES = (50, 100, 250, 500, 1000, 2000)


def point(rows: int, score: float, half: float = 0.02) -> Point:
    """A score with its interval."""
    score = min(max(score, 0.0), 1.0)
    return Point(rows, score, max(0.0, score - half), min(1.0, score + half))


def curve(scores: list[tuple[int, float]], half: float = 0.02, resamples: int = 100) -> LearningCurve:
    """Fit scores that all have the same interval."""
    return learning_curve([point(rows, score, half) for rows, score in scores], resamples=resamples)


@settings(max_examples=10)
@given(st.floats(0.5, 0.95), st.floats(0.3, 1.0), st.floats(0.2, 0.4))
def test_a_known_curve_is_found_again(ceiling: float, b: float, lost: float) -> None:
    """Without noise ceiling and exponent come back to within the grid, and the bound covers what is left."""
    known = Fit(ceiling, lost * 50**b, b)
    found = curve([(rows, known.at(rows)) for rows in SIZES])
    assert found.fit is not None
    assert found.at_most is not None
    assert found.doubling is not None
    assert found.fit.ceiling == pytest.approx(ceiling, abs=0.02)
    assert found.fit.b == pytest.approx(b, rel=0.1)
    assert found.at_most >= ceiling - known.at(2000) - 0.005
    assert found.doubling.low <= known.at(4000) - known.at(2000) + 0.005
    assert found.doubling.high >= known.at(4000) - known.at(2000) - 0.005


def test_the_bound_covers_the_truth_as_often_as_it_says() -> None:
    """Of 20 noisy curves at least 18 have no more to gain than their bound says (95 % would be 19)."""
    known, covered = Fit(0.9, 3.0, 0.6), 0
    for seed in range(20):
        draws = random.Random(f"{seed}:curve")
        noisy = [(rows, known.at(rows) + draws.gauss(0, 0.02)) for rows in (100, 250, 500, 1000)]
        found = curve(noisy, half=0.0392, resamples=100)
        covered += found.at_most is None or found.at_most >= 0.9 - known.at(1000)
    assert covered >= 18


def test_more_noise_promises_more_cautiously() -> None:
    """The same scores with wider intervals have a higher bound, never a lower one."""
    scores = [(rows, Fit(0.8, 3, 0.6).at(rows)) for rows in SIZES]
    narrow, wide = curve(scores, 0.01).at_most, curve(scores, 0.05).at_most
    assert narrow is not None
    assert wide is not None
    assert wide > narrow


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ([], "it takes 3 numbers of rows, not 0"),
        ([(100, 0.3), (200, 0.4)], "it takes 3 numbers of rows, not 2"),
        ([(100, 0.3), (100, 0.3), (100, 0.4), (200, 0.5)], "not 2"),
        ([(100, 0.5), (200, 0.5), (400, 0.5), (800, 0.5)], "does not rise"),
        ([(100, 0.6), (200, 0.5), (400, 0.4)], "does not rise"),
        ([(100, 0.1), (200, 0.9), (400, 0.6)], "falls again after 200 rows"),
    ],
    ids=["none", "two", "two sizes of four points", "flat", "falling", "falling again"],
)
def test_what_cannot_be_told_is_not_told(scores: list[tuple[int, float]], reason: str) -> None:
    """No figure, but the reason."""
    found = curve(scores)
    assert (found.fit, found.at_most, found.doubling) == (None, None, None)
    assert reason in found.reason
    assert found.sentence() == f"What more data would buy cannot be told: {found.reason}."


def test_runs_with_other_seeds_count_with_their_spread() -> None:
    """Runs of as many rows that differ make the bound wider than runs that agree."""
    known = Fit(0.8, 3, 0.6)
    alike = curve([(rows, known.at(rows)) for rows in SIZES for _ in range(3)])
    spread = curve([(rows, known.at(rows) + off) for rows in SIZES for off in (-0.06, 0.0, 0.06)])
    assert alike.at_most is not None
    assert spread.at_most is not None
    assert spread.at_most > alike.at_most


def test_the_sentence_has_the_figures() -> None:
    """Points, rows and an interval, and all of it is JSON."""
    found = curve([(rows, Fit(0.8, 3, 0.6).at(rows)) for rows in SIZES])
    row = json.loads(json.dumps(found.to_json()))
    assert f"at most {100 * row['at_most']:.1f} points" in row["sentence"]
    assert "doubling the 2,000 rows about" in row["sentence"]
    assert [each["rows"] for each in row["points"]] == list(SIZES)


def test_the_same_seed_gives_the_same_curve_in_any_order() -> None:
    """The points' order does not matter."""
    scores = [(rows, Fit(0.8, 3, 0.6).at(rows)) for rows in SIZES]
    assert curve(scores) == curve(scores[::-1])


@pytest.mark.parametrize(
    ("rows", "score", "low", "high"),
    [(0, 0.5, 0.4, 0.6), (10, 1.2, 0.4, 1.3), (10, 0.5, 0.6, 0.7), (10, float("nan"), 0.4, 0.6), (10, 0.5, -0.1, 0.6)],
)
def test_what_is_no_score_is_refused(rows: int, score: float, low: float, high: float) -> None:
    """A score lies between 0 and 1, inside its interval."""
    with pytest.raises(ConfigurationError, match="learning curve: a score"):
        Point(rows, score, low, high)


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 1), st.floats(0, 0.5)), max_size=8))
def test_any_scores_give_a_figure_or_a_reason(scores: list[tuple[int, float, float]]) -> None:
    """Never both, never neither; a gain is no loss, and none goes beyond 1."""
    found = learning_curve([point(*each) for each in scores], resamples=50)
    assert (found.at_most is None) == bool(found.reason)
    if found.at_most is not None and found.fit is not None and found.doubling is not None:
        assert found.at_most >= 0
        assert 0 <= found.fit.ceiling <= 1
        assert found.doubling.low <= found.doubling.mean <= found.doubling.high
    json.dumps(found.to_json(), allow_nan=False)
