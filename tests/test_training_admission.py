"""Which rows may be trained on, at the very boundaries; pure."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.training.admission import admit, model_written


def example(origin: str) -> Example:
    """A row of an origin."""
    return Example("a", ({"role": "user", "content": "?"},), "!", origin=origin)


def test_ninety_nine_rows_are_refused_and_told_what_does_better() -> None:
    """Below 100 rows nothing is trained; the message advises examples in the prompt, and says how to go on."""
    with pytest.raises(ConfigurationError, match=r"99 rows.*examples in the prompt does better.*few_rows=True"):
        admit(99, None, few_rows_allowed=False)


def test_ninety_nine_rows_are_warned_of_when_allowed() -> None:
    """Who asks for it may train on few rows, and is warned."""
    (warning,) = admit(99, None, few_rows_allowed=True)
    assert "99 rows" in warning
    assert "does better" in warning


@pytest.mark.parametrize("allowed", [True, False])
def test_no_rows_are_never_trained_on(allowed: bool) -> None:
    """Of no rows nothing is learned, whatever is allowed."""
    with pytest.raises(ConfigurationError, match="no rows"):
        admit(0, None, few_rows_allowed=allowed)


@pytest.mark.parametrize(("rows", "warned"), [(100, True), (499, True), (500, False), (10**6, False)])
def test_up_to_499_rows_are_warned_of(rows: int, warned: bool) -> None:
    """From 100 rows on one may train; up to 499 with a warning."""
    assert [f"{rows:,} rows" in each for each in admit(rows, None, few_rows_allowed=False)] == [True] * warned


def test_facts_up_to_the_limit_are_warned_of_and_beyond_it_refused() -> None:
    """The limit itself is still allowed; a hair more is not, unless said so."""
    (warning,) = admit(1000, 0.3)
    assert warning.startswith("30 % of the answers have facts")
    with pytest.raises(ConfigurationError, match=r"30\.1 % of the answers.*at most 30 % may"):
        admit(1000, 0.301)
    assert "60 %" in admit(1000, 0.6, facts_allowed=True)[0]
    assert admit(1000, 0.6, max_fact_share=0.7)


@pytest.mark.parametrize("share", [None, 0.0])
def test_no_known_fact_is_no_warning(share: float | None) -> None:
    """Unknown and none are not warned of."""
    assert admit(1000, share, model_share=share) == []


def test_model_written_rows_are_capped() -> None:
    """Half of the rows may be a model's, with a warning; more may not."""
    assert admit(1000, None, model_share=0.25) == []
    assert "A model wrote 50 % of the rows" in admit(1000, None, model_share=0.5)[0]
    with pytest.raises(ConfigurationError, match=r"51 % of the rows; at most 50 %"):
        admit(1000, None, model_share=0.51)
    assert admit(1000, None, model_share=0.51, max_model_share=1.0)


def test_the_share_of_model_written_rows_leaves_replayed_ones_out() -> None:
    """Replay dilutes nothing; without rows there is no share."""
    rows = [example("model"), example("user"), example("traces"), example("model"), *[example("general")] * 9]
    assert model_written(rows) == 0.5
    assert model_written([example("general")]) is None


@pytest.mark.parametrize("name", ["fact_share", "max_fact_share", "model_share", "max_model_share"])
@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan, math.inf])
def test_a_share_is_between_0_and_1(name: str, share: float) -> None:
    """Anything else is refused by name, so that NaN never passes a limit."""
    known = {"fact_share": None, name: share}
    with pytest.raises(ConfigurationError, match=name):
        admit(1000, **known)


@given(st.integers(1, 2000), st.floats(0, 1), st.floats(0, 1), st.booleans(), st.booleans())
def test_what_is_refused_is_refused_by_a_rule(rows: int, facts: float, model: float, few: bool, allowed: bool) -> None:
    """It is admitted exactly when no rule forbids it."""
    wanted = (rows >= 100 or few) and (facts <= 0.3 or allowed) and model <= 0.5
    try:
        admit(rows, facts, few_rows_allowed=few, facts_allowed=allowed, model_share=model)
        admitted = True
    except ConfigurationError:
        admitted = False
    assert admitted == wanted
