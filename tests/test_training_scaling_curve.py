"""Which scale of an adapter to use: the smallest that is good enough and loses little; pure."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.training.scaling_curve import Point, scaling_curve

N = 100


def right(many: int) -> tuple[float, ...]:
    """So many right answers of a hundred, the same ones first."""
    return tuple(float(place < many) for place in range(N))


def test_the_smallest_scale_that_is_as_good_as_the_best_is_chosen() -> None:
    """0.5 misses one answer of the best, which is noise; 0.25 misses thirty, which is not."""
    found = scaling_curve(
        [Point(0.0, right(10)), Point(0.25, right(50)), Point(0.5, right(79)), Point(0.75, right(80))],
    )
    assert (found.recommended, found.best) == (0.5, 0.75)
    assert found.sentence().startswith("Use 0.5 of the adapter: +69.0 points (")
    assert "+70.0 points" in found.sentence()
    assert "was not measured" in found.sentence()


def test_a_scale_that_loses_more_than_the_margin_is_left_out() -> None:
    """1.0 is best on the task and forgets three points; 0.5 forgets one, which is the margin itself."""
    points = [Point(0.0, right(10), right(60)), Point(0.5, right(70), right(59)), Point(1.0, right(95), right(57))]
    found = scaling_curve(points)
    assert [each.admitted for each in found.scales] == [True, True, False]
    assert (found.recommended, found.best) == (0.5, 0.5)
    assert "-1.0 points" in found.sentence()
    assert "(1 would lose more than 1)" in found.sentence()
    assert scaling_curve(points, margin=0.05).recommended == 1.0


def test_an_adapter_without_a_gain_is_left_out() -> None:
    """Where no scale is better than the base beyond noise, the base is recommended, and the reason told."""
    useless = scaling_curve([Point(0.0, right(50), right(60)), Point(1.0, right(51), right(60))])
    assert useless.recommended == 0
    assert useless.sentence() == "Leave the adapter out: at no scale does it gain more on the task than noise."
    harmful = scaling_curve([Point(0.0, right(10), right(60)), Point(1.0, right(90), right(30))])
    assert harmful.recommended == 0
    assert "loses more on general questions than 1 in 100" in harmful.sentence()


def test_the_noise_is_that_of_pairs() -> None:
    """The same means are told apart or not by which questions differ: six lost are proven, six net of many are not."""
    apart = tuple(float(place % 2 == 0) for place in range(N))
    turned = tuple(float(place % 2 == 1 or place < 12) for place in range(N))  # other questions, 6 more of them right
    paired = scaling_curve([Point(0.0, right(50)), Point(1.0, right(56))])
    unpaired = scaling_curve([Point(0.0, apart), Point(1.0, turned)])
    assert sum(turned) - sum(apart) == 6
    assert (paired.recommended, unpaired.recommended) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ([], "not none"),
        ([Point(0.5, right(1)), Point(1.0, right(1))], "from 0"),
        ([Point(0.0, right(1)), Point(1.0, right(1)), Point(1.0, right(2))], "different scales"),
        ([Point(0.0, ()), Point(1.0, ())], "the same questions"),
        ([Point(0.0, right(1)), Point(1.0, right(1)[:-1])], "the same questions"),
        ([Point(0.0, right(1), right(1)), Point(1.0, right(1))], "the same questions"),
    ],
)
def test_what_cannot_be_compared_is_refused(points: list[Point], told: str) -> None:
    """The base is needed, each scale once, and all with the same questions."""
    with pytest.raises(ConfigurationError, match=told):
        scaling_curve(points)


def test_the_margin_is_a_share() -> None:
    """NaN and negative ones are refused."""
    for margin in (-0.1, float("nan")):
        with pytest.raises(ConfigurationError, match="margin"):
            scaling_curve([Point(0.0, right(1))], margin)


SCORES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12)


@settings(max_examples=15)
@given(SCORES, SCORES, st.floats(0, 0.5))
def test_what_is_recommended_keeps_the_promises(
    task: list[tuple[float, ...]], general: list[tuple[float, ...]], margin: float
) -> None:
    """It is admitted, not larger than the best, not provably worse; JSON is plain, the order of scales is free."""
    points = [
        Point(scale, tuple(each[place] for each in task), tuple(each[place] for each in general))
        for place, scale in enumerate((0.0, 0.5, 1.0))
    ]
    found = scaling_curve(points, margin)
    chosen = next(each for each in found.scales if each.scale == found.recommended)
    assert chosen.admitted
    assert chosen.missing.low <= 0
    assert found.recommended <= found.best
    assert found == scaling_curve(points[::-1], margin)
    json.dumps(found.to_json(), allow_nan=False)
