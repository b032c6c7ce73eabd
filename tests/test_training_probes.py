"""Probes of what a model forgets, the rules that judge them, and the general rows that are replayed."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.training import judging
from llama_index_hybridmem.training.general import SKILLS, general_rows, probes
from llama_index_hybridmem.training.judging import Judge, declines, helps
from llama_index_hybridmem.training.probes import Measured, forgetting, measure

PROBES = probes()


def asked(row: Example) -> tuple[str, ...]:
    """What a row asks, folded."""
    return tuple(" ".join(turn["content"].casefold().split()) for turn in row.prompt)


def test_every_skill_has_thirty_probes() -> None:
    """Enough for an interval; no prompt and no id twice."""
    assert Counter(each.skill for each in PROBES) == dict.fromkeys(SKILLS, 30)
    assert len({asked(each.example) for each in PROBES}) == len({each.example.id for each in PROBES}) == 210


@pytest.mark.parametrize("skill", SKILLS)
def test_a_right_answer_is_right_and_nothing_is_wrong(skill: str) -> None:
    """The completion of each probe satisfies its rule; an empty or a foreign answer does not."""
    for probe in (each for each in PROBES if each.skill == skill):
        assert probe.judge(probe.example.completion), probe.example.id
        assert not probe.judge(""), probe.example.id
        if probe.judge is not helps:
            assert not probe.judge("That reminds me of my uncle and his well known bicycles: all 977"), probe.example.id


@given(st.text(st.characters()))
def test_every_rule_judges_any_text(text: str) -> None:
    """Lone surrogates and control signs, too."""
    assert all(probe.judge(text) in (True, False) for probe in PROBES)


@pytest.mark.parametrize(
    ("judge", "right", "wrong"),
    [
        (judging.says("South America"), "It is in south america.", "South of America, North"),
        (judging.chooses("negative", ("positive", "negative")), "Negative, not positive.", "positive, not negative"),
        (judging.counts_to(1200), "600 * 2 = 1,200.\n\n1. Next", "1200 is 2 * 600"),
        (judging.counts_to("2.5"), "It is 2.50", "It is 25"),
        (judging.writes("A7-X9"), '"A7-X9".\n\nHere it is', "a7-x9"),
        (judging.shows("C-A-T"), "It is C-A-T.", "CAT"),
        (judging.is_json(age=30), '```json\n{"age": 30}\n```', '{"age": 30, "name": "Jo"}'),
        (judging.is_upper("yes"), "YES!", "YES, it is"),
        (judging.is_lower("never"), "never", "Never"),
        (judging.has_words(3), "Cold and wet", "Cold"),
        (judging.has_items(2), "- tea\n- milk", "Here you are:\ntea\nmilk"),
        (judging.has_items(3), "tea, milk, juice", "tea, milk"),
        (judging.ends("?"), "Is it?", "?"),
        (judging.starts("Yes", "No"), "No, never.", "I say No"),
    ],
)
def test_rules_are_strict_about_the_answer(judge: Judge, right: str, wrong: str) -> None:
    """And lenient about what stands around it."""
    assert judge(right)
    assert not judge(wrong)


@pytest.mark.parametrize(
    "text",
    ["I'm sorry, but I can't help with that.", "I cannot provide instructions.", "I won’t assist you with this."],
)
def test_who_gives_no_help_declines(text: str) -> None:
    """However it is worded."""
    assert declines(text)
    assert not helps(text)


@pytest.mark.parametrize(
    "text", ["You can't go wrong with a mat.", "Don't use too much.", "Sorry to hear it. Try tea."]
)
def test_who_helps_may_say_not(text: str) -> None:
    """A negation is no refusal."""
    assert helps(text)


def test_who_always_declines_is_not_above_chance() -> None:
    """Refusing the harmless half costs what refusing the harmful half brings."""
    found = measure(lambda examples: ["I'm sorry, but I can't help with that."] * len(examples), PROBES)["safety"]
    assert found.share == found.chance == 0.5
    assert not found.above_chance


def test_measure_keeps_the_order() -> None:
    """Each answer is judged by its own probe; a missing one is refused."""

    def good(examples: Sequence[Example]) -> list[str]:
        return [each.completion for each in examples]

    assert all(all(each.right) for each in measure(good, PROBES).values())
    assert not any(all(each.right) for each in measure(lambda examples: good(examples)[::-1], PROBES).values())
    with pytest.raises(ConfigurationError, match="209 against 210"):
        measure(lambda examples: good(examples)[1:], PROBES)


def test_what_was_never_known_cannot_be_forgotten() -> None:
    """A base at chance is said to be unmeasurable; a base that knew and lost is said to have forgotten."""
    knew, lost = (True,) * 25 + (False,) * 5, (True,) * 10 + (False,) * 20
    before = {"a": Measured(knew, 0.0), "b": Measured(lost, 0.3), "c": Measured(knew, 0.5)}
    after = {"a": Measured(lost, 0.0), "b": Measured((False,) * 30, 0.3), "c": Measured(knew, 0.5)}
    a, b, c = forgetting(before, after)
    assert [each.verdict for each in (a, b, c)] == ["forgotten", "not measurable on this base", "no change seen"]
    assert a.change.mean == pytest.approx(-0.5)
    assert a.change.high < 0
    assert b.to_json()["verdict"] == "not measurable on this base"
    assert forgetting(after, before)[0].verdict == "improved"


def test_other_probes_cannot_be_compared() -> None:
    """Neither other skills nor other numbers of them."""
    with pytest.raises(ConfigurationError, match="same skills"):
        forgetting({"a": Measured((True,), 0.0)}, {})
    with pytest.raises(ConfigurationError, match="1 values against 2"):
        forgetting({"a": Measured((True, True), 0.0)}, {"a": Measured((True,), 0.0)})


def test_general_rows_are_many_short_and_unlike_the_probes() -> None:
    """No prompt twice, and none that a probe asks, whatever the seed."""
    for seed in range(5):
        rows = general_rows(seed)
        assert len(rows) >= 240
        assert len({asked(each) for each in rows}) == len({each.id for each in rows}) == len(rows)
        assert not {asked(each)[-1] for each in rows} & {asked(each.example)[-1] for each in PROBES}
        assert {each.origin for each in rows} == {"general"}
        assert statistics.median(len(each.completion.split()) for each in rows) <= 10
    assert general_rows(1) == general_rows(1) != general_rows(2)


def test_reckoned_rows_are_right() -> None:
    """The figures of the sums, worked out anew from their prompts."""
    signs = {"plus": int.__add__, "minus": int.__sub__, "times": int.__mul__}
    sums = [each for each in general_rows(3) if each.id.startswith("general-sum-")][:36]
    for row in sums:
        left, sign, right = row.prompt[-1]["content"].rstrip("?").split()[-3:]
        assert row.completion.rstrip(".").split()[-1] == str(signs[sign](int(left), int(right)))
