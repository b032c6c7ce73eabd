"""Checks of records: what must hold of each, what their answers have in common, what one part knows of another."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_set_zoo import ABSTAINS, abstaining, record

from llama_index_hybridmem.export import near_duplicates
from llama_index_hybridmem.export.checks import Tally, faults, verdict
from llama_index_hybridmem.export.drift import Drifting
from llama_index_hybridmem.export.facts import facts, unsupported
from llama_index_hybridmem.export.leakage import Leaks
from llama_index_hybridmem.export.near_duplicates import Questions
from llama_index_hybridmem.export.record import Quote, Record
from llama_index_hybridmem.export.shapes import NearDuplicates
from llama_index_hybridmem.export.style import Oddity, Style
from llama_index_hybridmem.noise.scene import Damage, Passage


def named(of: Record) -> list[str]:
    """The faults of a record, without their places."""
    return [each.split(":")[0] for each in faults(of)]


def test_a_sound_record_has_no_fault() -> None:
    """Answered or abstaining."""
    assert named(record(1)) == named(abstaining(1)) == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"answer": ABSTAINS}, ["answers otherwise than expected"]),
        ({"answer": "Ada Byron"}, ["answers otherwise than expected", "answers what no passage says"]),
        ({"answer": "Ada Byron", "expected": "Ada Byron"}, ["answers what no passage says", "quotes too little"]),
        ({"answer": "in 1999", "expected": "in 1999"}, ["answers what no passage says", "quotes too little"]),
        ({"expected": None}, ["answers otherwise than expected", "answers without support"]),
        ({"answerable": False, "quotes": ()}, ["answers though labelled as abstaining", "abstains though answerable"]),
        ({"answerable": False, "answer": ABSTAINS, "quotes": ()}, ["abstains though answerable"]),
        ({"answerable": False, "answer": ABSTAINS}, ["abstains though answerable", "abstains with quotes"]),
        ({"quotes": ()}, ["answers without quotes"]),
        ({"quotes": (Quote("g1", "Inventor"),)}, ["quotes too little"]),
        ({"quotes": (Quote("g1", "Somebody else"),)}, ["quotes too little", "quotes what is not there"]),
        ({"quotes": (Quote("gone", "Inventor Nr1"),)}, ["quotes too little", "quotes what is not there"]),
        ({"quotes": (Quote("o1", "Rain fell"),)}, ["quotes too little", "quotes what does not answer"]),
        ({"given": ("in a shed", "sold soon after")}, []),
        ({"split": "all"}, ["unknown split"]),
    ],
)
def test_faults_of_answers(changes: dict[str, Any], found: list[str]) -> None:
    """Each way in which label, answer and support disagree is named: the answer is looked up, not believed."""
    assert named(record(1, **changes)) == found


def test_an_answer_in_other_words_is_held_to_what_its_draft_quoted() -> None:
    """All of the quotes must stand there, and be quoted; what they imply is nobody's to judge."""
    one = record(1, answer="Nr 99 did", expected="Nr 99 did", given=("painted green", "in a shed"))
    text = one.noisy[0].text
    assert named(replace(one, quotes=(Quote("g1", text),))) == []
    assert named(replace(one, quotes=(Quote("g1", "painted green"),))) == ["quotes too little"]
    gone = replace(one.noisy[0], text=text.replace("in a shed", "somewhere"))
    assert "answers without support" in named(replace(one, noisy=(gone, one.noisy[1])))


def test_a_quote_of_a_falsified_passage_is_a_fault() -> None:
    """What was made false supports nothing, though its words stand there."""
    one = record(1)
    gold = one.noisy[0]
    original = one.noisy[1].damage[0].original
    false = replace(gold, damage=(Damage("counterfactual", "counterfactual", 1.0, "s", original, ((0, 3),)),))
    assert "quotes what does not answer" in named(replace(one, noisy=(false, one.noisy[1])))


def test_faults_of_provenance() -> None:
    """A span outside of its text, a severity of 2, a hash of something else, an unmarked change, an id twice."""
    one = record(1)
    gold, cut = one.noisy
    damage = cut.damage[0]

    def with_damage(**changes: Any) -> Record:
        return replace(one, noisy=(gold, replace(cut, damage=(replace(damage, **changes),))))

    assert named(with_damage(spans=((0, 99),))) == ["span outside of its text"]
    assert named(with_damage(severity=2.0)) == ["severity out of range"]
    assert named(with_damage(original="0" * 16)) == ["hash of another passage"]
    assert named(replace(one, noisy=(gold, replace(cut, damage=())))) == ["changed without provenance"]
    assert named(replace(one, noisy=(gold, gold))) == ["two passages of one id"]


def test_a_tally_counts() -> None:
    """Records, labels, splits, kinds by split, operators, and the exact share of passages with a kind."""
    tally = Tally()
    for n in range(8):
        tally.add(abstaining(n) if n % 4 == 1 else record(n))
    found = tally.result()
    assert (found.records, found.answerable, found.abstained) == (8, 6, 2)
    assert found.splits == {"train": (4, 2), "dev": (2, 2), "test": (2, 2)}
    assert found.kinds == {
        "gold_removed": {"train": 2, "dev": 0, "test": 0},
        "truncation": {"train": 2, "dev": 2, "test": 2},
    }
    assert found.operators == {"gold_removed": 2, "truncate_tail": 6}
    assert found.share_of("truncation") == 6 / 14
    assert found.share_of("gold_removed") == 2 / 8
    assert found.faults == {}
    assert found.to_json()["splits"]["train"] == {"records": 4, "answerable": 2}


def test_nothing_has_no_share() -> None:
    """Of no passages, a share is unknown, not 0."""
    assert Tally().result().share_of("ocr") is None


@pytest.mark.parametrize(("rows", "word"), [(0, "too few"), (99, "too few"), (100, "limited"), (499, "limited")])
def test_too_few_rows_are_called_so(rows: int, word: str) -> None:
    """Below 100, examples in the prompt; below 500, limited."""
    assert verdict(rows)[0] == word
    assert verdict(500)[0] == "enough"


# -- facts


def answered(answer: str, text: str) -> Record:
    """A record with that answer and one passage."""
    passage = Passage("g", text, source="d")
    return record(0, answer=answer, expected=answer, clean=(passage,), noisy=(passage,), gold=frozenset({"g"}))


@pytest.mark.parametrize(
    ("answer", "text", "missing"),
    [
        ("It costs $250.", "It costs $25.", [("price", "$250")]),
        ("It costs $25.", "It costs $25 today.", []),
        ("On 3 May 2021.", "In May of 2021.", [("date", "3 May 2021")]),
        ("It holds 3,000 tons.", "It holds 3000 tons.", []),
        ("It holds 4,000 tons.", "It holds 3000 tons.", [("quantity", "4,000")]),
        ("Robert Dennard", "It was ROBERT dennard.", []),
        ("Robert Dennard", "It was Robert Smith.", [("name", "Dennard")]),
        ("Marie did it [1].", "Marie did it.", []),
        ("Refreshing takes most of the energy.", "nothing", []),
        (
            'It says "the moon is made of cheese".',
            "It says the moon is rock.",
            [("quotation", "the moon is made of cheese")],
        ),
    ],
)
def test_facts_that_the_passages_lack(answer: str, text: str, missing: list[tuple[str, str]]) -> None:
    """Prices, dates, quantities, names and quotations are looked up; case and separators make no difference."""
    assert [tuple(each) for each in unsupported(answered(answer, text))] == missing


def test_the_question_counts_as_read_and_abstentions_hold_no_facts() -> None:
    """Names of the question need no passage; the words of abstention are not looked up."""
    one = answered("Nr5", "text")
    assert unsupported(replace(one, question="Is it Nr5?")) == ()
    assert unsupported(replace(one, answerable=False)) == ()


@given(st.text(max_size=80))
def test_any_answer_can_be_looked_through(answer: str) -> None:
    """No text raises, and every fact stands in the answer."""
    assert all(each.text in answer for each in facts(answer))


# -- style


def oddities(answers: list[str]) -> dict[str, Oddity]:
    """What is odd, by trait."""
    style = Style()
    for n, answer in enumerate(answers):
        style.add(f"r{n}", answer)
    return {each.trait: each for each in style.result()}


USUAL = ["A red house", "The green car", "A small old dog", "Two cats", "A barn"] * 20


@pytest.mark.parametrize(
    ("trait", "odd"),
    [
        ("length", "A house of red bricks " * 30),
        ("casing", "a red house"),
        ("ending", "A red house."),
        ("script", "Красный дом"),
    ],
)
def test_an_answer_unlike_the_others_is_named(trait: str, odd: str) -> None:
    """One of a hundred stands out, with its id; the hundred alone do not."""
    found = oddities([*USUAL, odd])
    assert found[trait].count == 1
    assert found[trait].ids == ("r100",)
    assert oddities(USUAL) == {}


def test_units_are_written_one_way() -> None:
    """The same unit spelled out and abbreviated is named, the rarer way with its ids; one way alone is not."""
    short = [f"{n} GB/s" for n in range(25)]
    found = oddities([*short, "12 gigabytes per second"])
    assert found["unit gigabytes per second"].found == "spelled out"
    assert found["unit gigabytes per second"].ids == ("r25",)
    assert "unit gigabytes per second" not in oddities(short)


def test_json_that_does_not_parse_is_named() -> None:
    """Where most answers are JSON, broken JSON and plain text are outliers; a cited answer is neither."""
    good = [f'{{"answer": {n}}}' for n in range(30)]
    style = Style()
    for n, answer in enumerate([*good, '{"answer": 3', "3"]):
        style.add(f"r{n}", answer)
    assert {each.found: each.ids for each in style.result() if each.trait == "JSON"} == {
        "broken JSON": ("r30",),
        "no JSON": ("r31",),
    }
    assert "JSON" not in oddities(["[1] says so"] * 30)


def test_few_answers_have_no_style() -> None:
    """Below twenty nothing is usual."""
    assert oddities(["A house"] * 5 + ["a very long text " * 50]) == {}


@given(st.lists(st.text(max_size=30), min_size=20, max_size=25))
def test_any_answers_can_be_compared(answers: list[str]) -> None:
    """Blank, half and foreign characters do not raise, and no more are odd than there are."""
    assert all(0 < each.count <= len(answers) for each in oddities(answers).values())


# -- drift


def drifts(records: list[Record]) -> dict[str, bool]:
    """Trait to whether it drifted."""
    drift = Drifting()
    for each in records:
        drift.add(each)
    return {each.trait: each.drifted for each in drift.result()}


def test_labels_that_change_over_time_drift() -> None:
    """Abstention that sets in half way is told; labels that alternate are not, nor what has no time."""
    late = [record(n, asked=float(n)) if n < 60 else abstaining(n, asked=float(n)) for n in range(120)]
    even = [record(n, asked=float(n)) if n % 2 else abstaining(n, asked=float(n)) for n in range(120)]
    assert drifts(late)["abstention"]
    assert not any(drifts(even).values())
    assert drifts([record(n) for n in range(120)]) == {}
    assert drifts([record(n, asked=1.0) for n in range(120)]) == {}


def test_answers_that_grow_drift() -> None:
    """Lengths are compared by rank, forms by count; what stays as it was does not drift."""
    grown = [record(n, asked=float(n), answer="Word" if n < 60 else "word " * 20 + ".") for n in range(120)]
    assert drifts(grown) == {"abstention": False, "answer length": True, "question wording": False, "answer form": True}


# -- near-duplicates and leaks


def compared(records: list[Record]) -> NearDuplicates:
    """The near-duplicates among records."""
    with Questions() as questions:
        for each in records:
            questions.add(each)
        return questions.result()


LONG = "Which of the two engines of the old ferry was repaired in the yard during the winter"


def test_near_duplicates_across_parts_are_found() -> None:
    """A question that differs in one word of many is one, within a part and across; another question is none."""
    near, other = f"{LONG}?", f"{LONG} storm?"
    found = compared(
        [
            record(0, question=near, split="train"),
            record(1, question=other, split="train"),
            record(2, question=other, split="test"),
            record(3, question="Who was the captain of the new ferry?", split="test"),
        ]
    )
    assert (found.questions, found.within, found.across) == (4, 2, 3)
    assert {each.splits for each in found.pairs} == {("train", "test"), ("train", "train")}
    assert {found.pairs[0].first[0], found.pairs[0].second[0]} <= {"r0", "r1", "r2"}


def test_sketches_are_the_same_with_every_numpy() -> None:
    """They are drawn by Python's own generator, whose numbers are promised to stay: else reports would differ."""
    draw = Random(20261122)
    assert near_duplicates._FACTOR[:2].tolist() == [1 + int(draw.random() * (2**31 - 2)) for _ in range(2)]


def test_many_copies_cost_little_and_are_all_counted() -> None:
    """Thousands of equal questions are all found, and one or two of them named."""
    found = compared([record(n, question=LONG, split="train" if n % 2 else "dev") for n in range(2000)])
    assert (found.within, found.across) == (2000, 2000)
    assert 0 < len(found.pairs) <= 4


def test_conflicting_answers_to_one_question_are_found() -> None:
    """Asked with other function words and answered otherwise; the same answer, or an abstention, is no conflict."""
    one = record(0, question="Who built the Nautilus?", answer="Robert Fulton")
    other = record(1, question="Tell me who built the Nautilus", answer="Jules Verne")
    same = record(2, question="Who has built the Nautilus?", answer="robert fulton.")
    silent = abstaining(3, question="Who built the Nautilus?")
    assert compared([one, same, silent]).conflicting == 0
    found = compared([one, other, same, silent])
    assert found.conflicting == 3
    assert {found.conflicts[0].first[0], found.conflicts[0].second[0]} == {"r0", "r1"}


@given(st.lists(st.text(max_size=20), max_size=6))
def test_any_questions_can_be_compared(questions: list[str]) -> None:
    """Blank and half characters do not raise; a question is near itself in another part."""
    records = [record(0, question=each, split=split) for each in questions for split in ("train", "test")]
    assert compared(records).across == len(records)


def test_leaks_are_told_from_distractors() -> None:
    """A test document that answers in train leaks; one that only stands there does not, and is counted."""
    leaks = Leaks()
    test = record(3)
    leaks.add(test)
    assert leaks.result().documents.held == 1
    shown = replace(record(0), clean=(*record(0).clean, test.clean[0]), noisy=(*record(0).noisy, test.clean[0]))
    leaks.add(shown)
    assert leaks.result().documents == replace(leaks.result().documents, as_gold=0, as_distractor=1)
    assert leaks.result().passages.as_distractor == 1
    leaks.add(replace(test, id="again", split="train"))
    assert (leaks.result().documents.as_gold, leaks.result().documents.as_distractor) == (1, 0)


def test_what_noise_brought_in_counts_as_seen() -> None:
    """A passage that the damage put into a train record is a distractor there."""
    leaks = Leaks()
    leaks.add(record(3))
    copy = replace(record(3).clean[0], id="copy", damage=(Damage("irrelevant_passage", "irrelevant", 1, "s", "0"),))
    leaks.add(replace(record(0), noisy=(*record(0).noisy, copy)))
    assert leaks.result().documents.as_distractor == 1
