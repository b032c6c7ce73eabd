"""When a candidate may take the place of what it is compared with, when not, and when nobody can tell."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.training.probes import Measured
from llama_index_hybridmem.training.scores import Score
from llama_index_hybridmem.training.verdict import ALL, ANSWERING, CLEAN, FORGETTING, Verdict, judge, rows_needed

NUMBERS = {"right": 1.0, "half": 0.5, "wrong": 0.0, "silent": 0.0}


def said(*answers: str) -> list[Score]:
    """Scores by name."""
    return [Score(NUMBERS[each], each == "right", each == "right", each == "silent", NUMBERS[each]) for each in answers]


def rows(count: int, noisy: int = 0, answerable: bool | None = True) -> list[Example]:
    """So many rows, the first so many with noise."""
    return [
        Example(
            str(n), ({"role": "user", "content": "?"},), "!", None, answerable, frozenset({"ocr"} if n < noisy else ())
        )
        for n in range(count)
    ]


def told(verdict: Verdict) -> dict[str, bool | None]:
    """What each check came to."""
    return {each.name: each.passed for each in verdict.checks}


def test_better_is_said_where_the_interval_lies_above_zero() -> None:
    """40 of 100 rows gained, none lost: passed, and better."""
    found = judge(said(*["wrong"] * 40, *["right"] * 60), said(*["right"] * 100), rows(100), margin=0.05)
    assert (found.passed, found.better) == (True, True)
    assert found.lines[0] == "against the base: passed, and better beyond chance"
    assert found.checks[0].change is not None
    assert found.checks[0].change.mean == pytest.approx(0.4)


def test_worse_beyond_the_margin_is_not_passed() -> None:
    """Measurably: the whole interval lies below it."""
    found = judge(said(*["right"] * 100), said(*["wrong"] * 40, *["right"] * 60), rows(100), name="brand@1234")
    assert (found.passed, found.better) == (False, False)
    assert found.lines[0] == "against brand@1234: not passed"
    assert "worse by more than 1" in found.lines[1]


def test_a_gain_on_noise_does_not_pay_for_a_loss_on_clean_rows() -> None:
    """All rows together are better, the clean ones worse."""
    old = said(*["wrong"] * 80, *["right"] * 40)
    found = judge(old, said(*["right"] * 80, *["wrong"] * 40), rows(120, noisy=80))
    assert told(found)[ALL] is True
    assert told(found)[CLEAN] is False
    assert found.passed is False


def test_more_false_abstentions_are_not_passed_even_if_as_much_is_right() -> None:
    """What was answered wrongly and is now not answered counts against it: it could have been answered."""
    found = judge(said(*["wrong"] * 200), said(*["silent"] * 100, *["wrong"] * 100), rows(200), margin=0.05)
    assert told(found) == {ALL: True, CLEAN: True, ANSWERING: False}
    unanswerable = judge(said(*["wrong"] * 200), said(*["right"] * 200), rows(200, answerable=False), margin=0.05)
    assert told(unanswerable) == {ALL: True, CLEAN: True, ANSWERING: None}
    assert "none was asked" in unanswerable.lines[-1]


def test_too_few_rows_tell_nothing_even_where_all_stay_the_same() -> None:
    """It takes about 3 / margin unchanged rows; the number needed is said, and with that many it can be told."""
    few = judge(said(*["right"] * 20), said(*["right"] * 20), rows(20), margin=0.05)
    assert few.passed is None
    assert few.checks[0].needed is not None
    assert f"cannot be told with 20 rows; about {few.checks[0].needed:,} are needed" in few.lines[1]
    many = judge(said(*["right"] * 80), said(*["right"] * 80), rows(80), margin=0.05)
    assert many.passed is True


def test_rows_needed_are_those_of_the_formula() -> None:
    """A tenth of the rows discordant, a margin of 5 points: (1.96 + 0.84)² · 0.1 / 0.05², about 314."""
    assert rows_needed([1.0, -1.0, *[0.0] * 18] * 1000, 0.05) == pytest.approx(314, abs=1)


def test_what_was_forgotten_is_not_passed_and_named() -> None:
    """A skill that the base had; one that it never had is no loss, and said to be unknown."""
    had, lost = Measured((True,) * 30, 0.0), Measured((False,) * 30, 0.0)
    same = said(*["right"] * 400)
    before, after = {"facts": had, "sums": lost}, {"facts": lost, "sums": lost}
    found = judge(same, same, rows(400), general_before=before, general_after=after)
    assert told(found)[FORGETTING] is False
    assert "facts 100 % to 0 %" in found.lines[-1]
    kept = judge(same, same, rows(400), general_before=before, general_after=before)
    assert (kept.passed, kept.lines[-1]) == (True, "+ skills kept: none of 1 measurably worse (not measurable: sums)")
    nothing = judge(same, same, rows(400), general_before={"sums": lost}, general_after={"sums": lost})
    assert told(nothing)[FORGETTING] is None


@given(st.lists(st.tuples(*[st.sampled_from(sorted(NUMBERS))] * 2, st.booleans(), st.booleans()), max_size=30))
def test_any_scores_give_a_verdict_that_is_json(cases: list[tuple[str, str, bool, bool]]) -> None:
    """With any mixture of rows, none too; turned round, what was better is not so any more."""
    old, new = said(*[each[0] for each in cases]), said(*[each[1] for each in cases])
    examples = [
        Example(str(n), ({"role": "user", "content": "?"},), "!", None, each[2], frozenset({"ocr"} if each[3] else ()))
        for n, each in enumerate(cases)
    ]
    found, turned = judge(old, new, examples), judge(new, old, examples)
    assert json.loads(json.dumps(found.to_json()))["passed"] is found.passed
    assert not (found.better and turned.better)
    assert found.passed is not True or len(cases) > 0


def test_what_cannot_be_compared_is_refused() -> None:
    """Other lengths, a margin of nothing, one side's probes."""
    with pytest.raises(ConfigurationError, match="1, 0 of 1 rows"):
        judge(said("right"), [], rows(1))
    with pytest.raises(ConfigurationError, match="margin"):
        judge([], [], [], margin=0)
    with pytest.raises(ConfigurationError, match="of both"):
        judge([], [], [], general_before={})
