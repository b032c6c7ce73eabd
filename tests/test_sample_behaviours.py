"""Rows that teach a behaviour: right by their own rules, apart between the parts, the same everywhere."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.sample.behaviours import sealed, sealed_records, ticket_frames, tickets, voices
from llama_index_hybridmem.sample.behaviours.__main__ import COUNTS, SETS, as_lines, write
from llama_index_hybridmem.sample.behaviours.parts import PARTS, Part, asked, dealt, number
from llama_index_hybridmem.sample.behaviours.policy import CATEGORIES, POLICY, SENTIMENTS, policy_text, resolve
from llama_index_hybridmem.sample.behaviours.styles import STYLES
from llama_index_hybridmem.sample.behaviours.ticket_cores import CORES
from llama_index_hybridmem.sample.behaviours.voice_phrases import LEADS
from llama_index_hybridmem.sample.behaviours.voice_topics import TOPICS
from llama_index_hybridmem.training.rows import read_set

SEED = 3


@cache
def made(name: str, part: Part) -> tuple[Example, ...]:
    """A set's part, as large as it is written."""
    return tuple(SETS[name](COUNTS[part], SEED, part))


@cache
def written_tickets(part: Part) -> tuple[tickets.Ticket, ...]:
    """The tickets behind the rows."""
    return tuple(tickets.make_tickets(COUNTS[part], SEED, part))


@pytest.mark.parametrize("name", list(SETS))
def test_no_two_rows_ask_the_same_and_ids_are_their_own(name: str) -> None:
    """All prompts of a set, over its three parts, differ; so do the ids."""
    rows = [row for part in PARTS for row in made(name, part)]
    assert len({asked(row) for row in rows}) == len({row.id for row in rows}) == sum(COUNTS.values())
    assert len(made(name, "train")) >= 400


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    """Neither hash seeds nor the process show in the files; another seed does."""
    command = [sys.executable, "-m", "llama_index_hybridmem.sample.behaviours", "--out", str(tmp_path), "--seed", "3"]
    subprocess.run([*command, "--only", "tickets"], check=True, env={**os.environ, "PYTHONHASHSEED": "7"})
    there = hashlib.sha256((tmp_path / "tickets" / "train.jsonl").read_bytes()).digest()
    assert there == hashlib.sha256(as_lines(made("tickets", "train")).encode()).digest()
    assert as_lines(SETS["tickets"](30, 4, "train")) != as_lines(SETS["tickets"](30, 3, "train"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tickets"]


def test_a_trainer_reads_what_is_written(tmp_path: Path) -> None:
    """The files are rows of a training set, and nothing is lost of prompt and completion."""
    paths = write(tmp_path, ["sealed"], SEED)
    assert [path.name for path in paths] == ["train.jsonl", "dev.jsonl", "test.jsonl"]
    found = read_set(paths[1])
    assert sorted(each.id for each in (*found.train, *found.dev)) == [each.id for each in made("sealed", "dev")]
    assert {each.completion for each in found.train} <= {each.completion for each in made("sealed", "dev")}


def test_no_template_or_number_of_test_is_seen_in_train() -> None:
    """Templates of tickets are in one part each; so are the numbers that a part may draw."""
    used = {part: {id_ for each in written_tickets(part) for id_ in each.made_of} for part in PARTS}
    assert not used["train"] & used["test"]
    assert not used["train"] & used["dev"]
    assert not used["dev"] & used["test"]
    drawn = {part: {number(Random(place), 2, 60, part) for place in range(200)} for part in PARTS}
    assert not drawn["train"] & drawn["test"]
    assert not drawn["dev"] & (drawn["train"] | drawn["test"])


def test_no_wording_of_test_stands_in_a_training_prompt() -> None:
    """What the held-out stories, markings and topics say by themselves is in no prompt of train."""
    train = "\n".join(asked(row) for name in ("sealed", "harbor") for row in made(name, "train")).casefold()
    held = [*dealt(sealed_records.SEALED_LINES, "test"), *dealt(sealed_records.HARMLESS, "test")]
    held += [question for topic in dealt(TOPICS, "test") for question in topic.questions]
    held += [question for _, asks in dealt(sealed_records.STORIES, "test") for question, _ in asks]
    held += [lead.partition("{")[0] for lead in dealt(LEADS, "test") if not lead.startswith("{")]
    assert [each for each in held if each.casefold() in train] == []
    test = "\n".join(asked(row) for name in ("sealed", "harbor") for row in made(name, "test")).casefold()
    assert sum(each.casefold() in test for each in held) >= 0.9 * len([each for each in held if "{" not in each])


def test_tickets_are_written_in_many_ways() -> None:
    """More than 120 different templates in train, every style and mood, every category as often as another."""
    train = written_tickets("train")
    assert len({id_ for each in train for id_ in each.made_of}) >= 220
    assert {each.style for each in train} == set(STYLES)
    assert set(Counter(each.category for each in train).values()) == {len(train) // len(CATEGORIES)}
    assert min(Counter(each.sentiment for each in train).values()) >= len(train) // 4
    texts = [text for of_one in CORES.values() for text in of_one]
    assert len(set(texts)) == len(texts)


def test_single_words_do_not_tell_the_category() -> None:
    """In a third of the messages or more a sentence speaks of another category than the ticket's."""
    train = written_tickets("train")
    asides = [id_ for each in train for id_ in each.made_of if id_.startswith("aside-")]
    assert len(asides) >= len(train) / 3
    assert not [each for each in train if any(id_.startswith(f"aside-{each.category}/") for id_ in each.made_of)]


def test_a_resolution_is_what_the_policy_says() -> None:
    """Limits are inclusive, law comes before the matter and safety before law; no case is without a rule."""
    days = [resolve("billing", {"situation": "return", "days": each}) for each in (30, 31)]
    assert days == ["Accept the return and refund in full.", "Decline the refund because the 30 days are over."]
    assert resolve("defect", {"situation": "dead", "months": 36}) == "Open a warranty return with a free label."
    assert resolve("billing", {"situation": "double", "legal": 1}) == "Escalate to the legal desk."
    assert resolve("defect", {"situation": "hazard", "legal": 1}).startswith("Escalate to the safety desk")
    with pytest.raises(ConfigurationError, match="no rule"):
        resolve("billing", {"situation": "weather"})
    assert {rule.resolution for rule in POLICY} == {each.resolution for each in written_tickets("train")}
    assert all(rule.resolution in policy_text() for rule in POLICY)


def test_legal_threats_escalate_and_lawyers_as_customers_do_not() -> None:
    """Words of law are in more tickets than those that go to the legal desk."""
    train = written_tickets("train")
    threatened = {each.text for each in train if any(id_.startswith("threats/") for id_ in each.made_of)}
    assert threatened == {each.text for each in train if each.resolution == "Escalate to the legal desk."}
    misled = {each.text for each in train if any(id_.startswith("misleading/") for id_ in each.made_of)}
    assert len(misled) >= 20
    assert not misled & threatened
    assert not set(ticket_frames.THREATS) & set(ticket_frames.MISLEADING)


@pytest.mark.parametrize("part", PARTS)
def test_every_ticket_keeps_its_own_form(part: Part) -> None:
    """Each completion has no problem and is right in all fields for its own row."""
    for row in made("tickets", part):
        assert tickets.check(row.completion) == []
        assert all(tickets.right(row.completion, row).values())


def test_check_names_what_is_wrong() -> None:
    """Text around the JSON, keys too many or few, values of one's own: each is told."""
    good = made("tickets", "dev")[0].completion
    assert tickets.check(f"Sure: {good}") == ["no JSON"]
    assert tickets.check("[1]") == ["no JSON object"]
    assert tickets.check(good.replace("{", "{\n")) == ["more than one line"]
    changed = {**json.loads(good), "sentiment": ["angry"], "extra": 1}
    assert tickets.check(json.dumps(changed)) == [
        "keys are not sentiment, category, resolution",
        "sentiment is not one of ours",
    ]


@given(st.text())
def test_any_answer_can_be_judged(answer: str) -> None:
    """No text that a model may give raises an error, or is right by chance."""
    assert tickets.check(answer)
    assert not any(tickets.right(answer, made("tickets", "dev")[0]).values())
    assert not sealed.is_refusal(answer)
    for voice in voices.VOICES:
        assert 0 <= voices.rule_score(voice, answer) <= 1


def test_a_wrong_field_is_told_from_right_ones() -> None:
    """Each field is judged by itself."""
    row = made("tickets", "dev")[0]
    found = json.loads(row.completion)
    found["sentiment"] = next(each for each in SENTIMENTS if each != found["sentiment"])
    judged = tickets.right(json.dumps(found), row)
    assert judged == {"sentiment": False, "category": True, "resolution": True}


@pytest.mark.parametrize("voice", list(voices.VOICES))
def test_rules_tell_the_voices_apart(voice: str) -> None:
    """Every row keeps all rules of its voice, no other voice's; and each rule is broken by rows of others."""
    others = [each for each in voices.VOICES if each != voice]
    texts = [row.completion for part in PARTS for row in made(voice.lower(), part)]
    won = [max(voices.VOICES, key=lambda each: voices.rule_score(each, text)) == voice for text in texts]
    assert sum(won) >= 0.95 * len(won)
    assert {voices.rule_score(voice, text) for text in texts} == {1.0}
    foreign = [row.completion for each in others for row in made(each.lower(), "test")]
    assert all(not all(rule(text) for text in foreign) for rule in voices.VOICES[voice].rules.values())


def test_voices_answer_the_same_questions_with_the_same_numbers() -> None:
    """Source and question are equal in all three voices; each answer has the source's numbers."""
    for rows in zip(*(made(voice.lower(), "test") for voice in voices.VOICES), strict=True):
        assert len({row.prompt[1]["content"] for row in rows}) == 1
        assert len({row.completion for row in rows}) == 3
        facts = rows[0].sources[0].partition(": ")[2]
        numbers = {each.strip(".,;:") for each in facts.split() if each.strip(".,;:").isdigit()}
        assert all(numbers <= set(row.completion.replace(".", " ").split()) for row in rows)


def test_sealed_records_are_declined_and_look_alikes_answered() -> None:
    """45 % are sealed, in three ways; words of sealing stand in many open records; the answer stands in the record."""
    rows = made("sealed", "train")
    declined = [row for row in rows if not row.answerable]
    assert len(declined) == round(0.45 * len(rows))
    assert {row.completion for row in declined} == {sealed.REFUSAL}
    assert min(Counter(way for row in declined for way in row.kinds).values()) >= 0.25 * len(declined)
    answered = [row for row in rows if row.answerable]
    assert sum("seal" in row.prompt[1]["content"].casefold() for row in answered) >= 0.4 * len(answered)
    assert sum("Sealed:" in row.prompt[0]["content"] for row in answered) >= 0.2 * len(answered)
    assert all(row.answer.casefold() in "\n".join(row.sources).casefold() for row in answered)


def test_a_listed_number_is_sealed_and_one_beside_it_is_not() -> None:
    """Of the rows with a list, exactly those marked by it have their own number on it."""
    for row in made("sealed", "test"):
        listed = row.prompt[0]["content"].partition("Sealed: ")[2].rstrip(".").split(", ")
        asks = row.prompt[1]["content"].rpartition("\n\n")[2]
        assert ("sealed by list" in row.kinds) == any(each and each in asks for each in listed)


def test_an_answer_about_a_seal_is_no_refusal() -> None:
    """The set form counts in any case and with text after it; other words about seals do not."""
    rows = made("sealed", "train")
    closed, opened = (next(row for row in rows if row.answerable is each) for each in (False, True))
    assert sealed.is_refusal("this record is SEALED, ask the records office")
    assert not sealed.is_refusal("It lay in a sealed envelope.")
    assert sealed.right(f"{sealed.REFUSAL} Sorry.", closed)
    assert sealed.right(f"It is {opened.answer}, says the record.", opened)
    assert not sealed.right(sealed.REFUSAL, opened)
    assert not sealed.right(opened.answer, closed)


def test_what_cannot_be_made_is_refused() -> None:
    """An unknown part or voice, and more rows than there are, are told by name."""
    with pytest.raises(ConfigurationError, match="part 'all'"):
        tickets.tickets(1, 0, "all")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="Harbor, Spark, Ledger"):
        voices.rows("Loud", 1, 0, "train")
    with pytest.raises(ConfigurationError, match="no rule|3 texts"):
        dealt(["a", "b"], "dev")
