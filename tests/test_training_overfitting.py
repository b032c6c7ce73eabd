"""What the losses of a run say: overfitted, learned nothing, broke, or nothing at all; pure."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.training.overfitting import overfitting, points, stretch

FALLING = [{"step": step, "loss": 2.0 / step**0.5} for step in range(1, 41)]


def dev(*losses: float) -> list[dict[str, Any]]:
    """A dev loss each ten steps."""
    return [{"step": 10 * place, "dev_loss": loss} for place, loss in enumerate(losses, start=1)]


def test_a_dev_loss_that_turns_up_is_found() -> None:
    """The best step, the rise in nats and as a share, and a sentence that names them."""
    found = overfitting([*FALLING, *dev(1.0, 0.8, 0.9, 1.0)])
    assert (found.best_step, found.best_loss, found.last_loss) == (20, 0.8, 1.0)
    assert found.rise == pytest.approx(0.2)
    assert found.relative == pytest.approx(0.25)
    assert found.overfitted is True
    assert "step 20 (0.800) and is 25% higher" in str(found.warning)
    assert stretch([*FALLING, *dev(1.0, 0.8, 0.9, 1.0)]) == (20, 40)


@pytest.mark.parametrize("losses", [(1.0, 0.9, 0.8, 0.7), (1.0, 0.8, 0.81, 0.805)])
def test_a_falling_or_flat_dev_loss_is_no_overfitting(losses: tuple[float, ...]) -> None:
    """A rise within two per cent is noise."""
    found = overfitting([*FALLING, *dev(*losses)])
    assert found.overfitted is False
    assert found.warnings == ()
    assert stretch([*FALLING, *dev(*losses)]) is None


def test_two_dev_losses_say_nothing() -> None:
    """With fewer than three it cannot be told, which is not the same as no."""
    found = overfitting([*FALLING, *dev(0.8, 1.6)])
    assert found.overfitted is None
    assert found.warnings == ()


def test_a_train_loss_that_rises_too_is_no_overfitting() -> None:
    """Where both rise the run diverges: that is another fault, and told as such."""
    rising = [{"step": step, "loss": 1.0 + step / 10} for step in range(1, 41)]
    found = overfitting([*rising, *dev(1.0, 0.8, 0.9, 1.0)])
    assert found.overfitted is False
    assert "did not fall" in str(found.warning)


def test_a_loss_that_hardly_falls_is_told() -> None:
    """As with a rate that is far too low: 7.60 to 7.55 is nothing learned; seven losses are too few to say so."""
    flat = [{"step": step, "loss": 7.6 - step * 0.001} for step in range(40)]
    assert "did not fall (7.59" in str(overfitting(flat).warning)
    assert overfitting(flat[:7]).warnings == ()


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "NaN", True])
@pytest.mark.parametrize("name", ["loss", "dev_loss"])
def test_a_loss_that_is_no_number_is_told(name: str, value: object) -> None:
    """It is named with its step, and left out of the curves."""
    found = overfitting([*FALLING, {"step": 41, name: value}])
    assert str(found.warning) == f"The {name.replace('_', ' ')} at step 41 is not finite: lower the rate."
    assert all(step != 41 for step, _ in points([{"step": 41, name: value}], "loss"))


def test_a_resumed_run_writes_steps_twice_and_the_later_counts() -> None:
    """The order of the steps is that of their numbers."""
    lines = [{"step": 2, "loss": 5.0}, {"step": 1, "loss": 4.0}, {"step": 2, "loss": 3.0}]
    assert points(lines, "loss") == [(1, 4.0), (2, 3.0)]


def test_nothing_says_nothing() -> None:
    """Absent is not zero."""
    found = overfitting([])
    assert found.best_step is None
    assert found.rise is None
    assert found.overfitted is None
    assert found.warning is None


LOSSES = st.floats(0, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf])
LINES = st.lists(st.fixed_dictionaries({"step": st.integers(0, 99)}, optional={"loss": LOSSES, "dev_loss": LOSSES}))


@given(LINES)
def test_any_losses_are_judged(lines: list[dict[str, Any]]) -> None:
    """Whatever the figures: no error, the best is the least, and all of it is JSON."""
    found = overfitting(lines)
    json.dumps(found.to_json(), allow_nan=False)
    if found.best_loss is not None and found.last_loss is not None:
        assert found.best_loss == min(loss for _, loss in points(lines, "dev_loss"))
        assert found.last_loss >= found.best_loss
