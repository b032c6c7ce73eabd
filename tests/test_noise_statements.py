"""Tests of operators that make passages say something false, and of the detectors that find such."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.noise.detectors import statements as detectors  # noqa: F401 - registers
from llama_index_hybridmem.noise.findings import detect
from llama_index_hybridmem.noise.operators import statements as operators  # noqa: F401 - registers
from llama_index_hybridmem.noise.operators.registry import damage, operator
from llama_index_hybridmem.noise.scene import Passage, Scene, World
from llama_index_hybridmem.noise.support import evidence, quoted, support

TEXT = (
    "The Cairn Relay keeps its backups for 30 days in Oslo. Since 2021 it costs 1,200 euros per year. "
    "Engineers of Cairn Relay answer within 4 hours, also at night and on public holidays."
)
GOLD = Passage("g", TEXT, {"title": "Cairn Relay", "date": "2024-03-01", "file_name": "cairn-relay.md"}, "doc1")
OTHER = Passage("o", "A gazebo of wood was built by Ann Miller and John Brown near Bergen Harbour in 1987.", {}, "doc2")
SCENE = Scene("How long does Cairn Relay keep backups?", (OTHER, GOLD), gold=frozenset({"g"}), answer="30 days")
WORLD = World([OTHER, Passage("w", "We met Nordic Lamp, Blue Harbour and Per Olsen in Rome and at Silver Gate.")])
ADDING = ("stale_version", "conflicting_source", "fictitious")
STATEMENTS = ("stale_pairs", "conflicting_values")
ODD = [
    "\ud800",
    "a\u0301",
    "\u200b",
    "שלום 12",
    "東京2020年",
    "\r\n",
    "1,024",
    "New York",
    "12 March 2019",
    "30 days",
    "İ",
    "x.",
]
TEXTS = st.lists(st.sampled_from(ODD) | st.text(max_size=8), max_size=8).map(" ".join)


def made(scene: Scene) -> Passage:
    """The one passage that was damaged."""
    (found,) = [each for each in scene.passages if each.damage]
    return found


def kinds(scene: Scene) -> set[tuple[str | None, str]]:
    """What the detectors of statements find, and where."""
    found = detect(scene, STATEMENTS)
    return {(id_, each.kind) for id_, findings in found.items() for each in findings}


@given(TEXTS, TEXTS, st.floats(0.01, 1), st.integers(0, 99), st.sampled_from(["counterfactual", *ADDING]))
def test_any_text_is_changed_truly_and_repeatably(one: str, other: str, severity: float, seed: int, name: str) -> None:
    """Spans lie in the text, the same seed does the same, originals stay, and the right answer never comes back."""
    scene = Scene("Which?", (Passage("a", one), Passage("b", other)), gold=frozenset({"a"}), answer="30 days")
    first, again = (damage(scene, operator(name), severity, f"{seed}", WORLD) for _ in range(2))
    assert first == again
    if name != "counterfactual":
        assert [each for each in first.passages if not each.damage] == list(scene.passages)
    for each in first.passages:
        for mark in each.damage:
            assert all(0 <= start <= end <= len(each.text) for start, end in mark.spans)
            assert each.text.strip()
            assert name == "counterfactual" or quoted("30 days", each.text) is None
        if "\ud800" not in one + other:
            each.text.encode()


@pytest.mark.parametrize("name", ["counterfactual", *ADDING])
def test_severity_zero_changes_nothing(name: str) -> None:
    """An operator at 0 hands the same scene back."""
    assert damage(SCENE, operator(name), 0, "1", WORLD) is SCENE


@pytest.mark.parametrize("name", ADDING)
@pytest.mark.parametrize("seed", range(8))
def test_the_added_passage_denies_the_answer(name: str, seed: int) -> None:
    """The gold passage is copied, its answer changed first, the original stays and still supports the answer."""
    after = damage(SCENE, operator(name), 0.1, f"{seed}", WORLD)
    copy = made(after)
    assert copy.damage[0].note["id"] == "g"
    assert quoted("30 days", copy.text) is None
    assert (
        {OTHER, GOLD} == set(after.passages) - {copy}
        if False
        else [e for e in after.passages if e is not copy] == [OTHER, GOLD]
    )
    assert not after.is_gold(copy)
    assert support(SCENE, after, evidence(SCENE)) == (("g", "30 days"),)


@pytest.mark.parametrize("name", ADDING)
def test_an_answer_that_is_no_value_is_not_copied_as_it_is(name: str) -> None:
    """Where the answer cannot be changed into another of its type, no copy that gives it is made."""
    scene = replace(SCENE, passages=(GOLD,), answer="public holidays")
    assert damage(scene, operator(name), 1, "1", WORLD) is scene


def test_severity_is_the_share_of_values_that_change() -> None:
    """At 1 all figures change, at the least one does."""

    def changed(severity: float) -> set[int]:
        marks = [
            made(damage(Scene("?", (GOLD,)), operator("counterfactual"), severity, f"{seed}", WORLD)).damage[0]
            for seed in range(20)
        ]
        return {len(each.spans) for each in marks if each.note["was"][0].isdigit()}

    assert changed(0.01) == {1}
    assert changed(1) == {4}


def test_counterfactual_notes_what_was_and_is_there() -> None:
    """The note's words stood in the text, and stand there now, at the first of the spans or a later one."""
    after = made(damage(SCENE, operator("counterfactual"), 0.2, "5", WORLD, at=1))
    note = after.damage[0].note
    assert note["was"] in TEXT
    assert note["now"] in [after.text[start:end] for start, end in after.damage[0].spans]


@pytest.mark.parametrize("seed", range(6))
def test_a_stale_copy_stands_beside_the_present_one_and_shows_its_age(seed: int) -> None:
    """Its date is older by years, it is of the same document, and the detector finds it and not the original."""
    after = damage(SCENE, operator("stale_version"), 0.3, f"{seed}", WORLD)
    copy = made(after)
    assert abs(after.passages.index(copy) - after.passages.index(GOLD)) == 1
    assert "2020-" <= str(copy.metadata["date"]) < "2024-01"
    assert copy.source == "doc1"
    assert (copy.id, "stale") in kinds(after)
    assert ("g", "stale") not in kinds(after)


def test_without_a_date_a_stale_copy_says_as_of() -> None:
    """Only the copy gets a date, and it is found by it."""
    bare = replace(GOLD, metadata={"title": "Cairn Relay"}, source=None)
    after = damage(replace(SCENE, passages=(bare,)), operator("stale_version"), 0.1, "1", WORLD)
    copy = made(after)
    assert str(copy.metadata["version_date"]).startswith("as of 20")
    assert "as of" in copy.damage[0].note["cue"]
    assert kinds(after) == {(copy.id, "stale")}


def test_a_version_goes_back_where_there_is_no_date() -> None:
    """Documents with versions get an older one, and integers stay integers."""
    for version, type_ in (("2.4.1", str), (2021, int)):
        field = "version" if type_ is str else "date"
        bare = replace(GOLD, metadata={field: version})
        copy = made(damage(replace(SCENE, passages=(bare,)), operator("stale_version"), 0.1, "1", WORLD))
        assert isinstance(copy.metadata[field], type_)
        assert str(copy.metadata[field]) < str(version)


@pytest.mark.parametrize("seed", range(6))
def test_a_conflicting_source_looks_less_trustworthy_and_is_found(seed: int) -> None:
    """Title and file say so; it is of no known document; the finding goes to it wherever it stands."""
    after = damage(SCENE, operator("conflicting_source"), 0.1, f"{seed}", WORLD)
    copy = made(after)
    cue = copy.damage[0].note["cue"]
    assert copy.metadata["title"] == f"Cairn Relay ({cue})"
    assert copy.metadata["file_name"] == cue
    assert copy.source is None
    assert kinds(after) == {(copy.id, "conflict")}


def test_the_title_does_not_give_the_answer_away() -> None:
    """A title with the answer changes as the text does."""
    titled = replace(GOLD, metadata={"title": "Backups: 30 days"})
    for name in ("stale_version", "conflicting_source"):
        copy = made(damage(replace(SCENE, passages=(titled,)), operator(name), 0.1, "1", WORLD))
        assert "30 days" not in copy.title


def test_a_fictitious_passage_is_about_someone_else_everywhere() -> None:
    """The entity's name goes from text, title and file name, its figures change, and no value contradicts."""
    after = damage(SCENE, operator("fictitious"), 1, "2", WORLD)
    copy = made(after)
    new = copy.damage[0].note["now"]
    assert copy.damage[0].note["was"] == "Cairn Relay"
    assert "Cairn" not in copy.text + copy.title
    assert new in copy.text
    assert copy.title == new
    assert copy.metadata["file_name"] == new.lower().replace(" ", "-") + ".md"
    assert kinds(after) == set()


@pytest.mark.parametrize(
    "reply", ["", "  ", TEXT, "Backups are kept for 30 days.", "Cairn Relay is big.", "bad \ud800"]
)
def test_a_language_models_reply_is_checked(reply: str) -> None:
    """What is empty, the same, gives the answer, names the entity or cannot be encoded is not used."""
    after = damage(SCENE, operator("fictitious"), 0.5, "2", replace(WORLD, write=lambda prompt: reply))
    assert made(after).text != reply
    assert "Cairn" not in made(after).text


def test_a_language_model_writes_the_passage() -> None:
    """It is told both names and what not to say, and its words are taken."""
    asked: list[str] = []

    def write(prompt: str) -> str:
        asked.append(prompt)
        return " Nordic Lamp stores copies for a week. "

    copy = made(damage(SCENE, operator("fictitious"), 0.5, "2", replace(WORLD, write=write)))
    assert copy.text == "Nordic Lamp stores copies for a week."
    assert copy.damage[0].spans == ((0, len(copy.text)),)
    assert all(words in asked[0] for words in ("Cairn Relay", copy.damage[0].note["now"], "30 days", TEXT))


def test_damaged_copies_are_not_copied_again() -> None:
    """What is already untrue is no base for another."""
    once = damage(replace(SCENE, passages=(GOLD,)), operator("conflicting_source"), 0.1, "1", WORLD)
    twice = damage(once, operator("stale_version"), 0.1, "1", WORLD)
    assert {each.damage[-1].note["id"] for each in twice.passages if each.damage} == {"g"}
    assert len({each.id for each in twice.passages}) == 3


def test_chunks_and_series_are_no_versions() -> None:
    """Chunks of one document of one date, and articles of one title with other text, are left alone."""
    chunks = [replace(GOLD, id=str(n), text=text) for n, text in enumerate((TEXT, OTHER.text))]
    series = [
        replace(each, source=None, metadata={"title": "News", "date": f"2024-0{n + 1}-01"})
        for n, each in enumerate(chunks)
    ]
    assert kinds(Scene("?", tuple(chunks))) == set()
    assert kinds(Scene("?", tuple(series))) == set()


def test_one_pattern_about_two_things_is_no_contradiction() -> None:
    """Sentences of a series agree in their words and differ in whom they are about."""
    villages = [
        Passage(str(n), f"The village of {name} lies on the river and has about {count} inhabitants.", {"title": name})
        for n, (name, count) in enumerate((("Bern", 300), ("Thun", 512)))
    ]
    assert kinds(Scene("?", tuple(villages))) == set()
    same = replace(villages[1], text=villages[1].text.replace("Thun", "Bern"), metadata={"title": "Bern"})
    assert kinds(Scene("?", (villages[0], same))) == {("1", "conflict")}


@pytest.mark.parametrize("seed", range(8))
def test_a_fictitious_passage_does_not_answer_the_question_otherwise(seed: int) -> None:
    """Where what is asked about cannot be renamed, a copy would contradict the truth, and nothing would show it."""
    gold = Passage(
        "g", "Orin Dale sold the plant to Vextor Metals in 2021. Orin Dale is from Lund.", {"title": "Orin Dale"}
    )
    asked = Scene("Which company bought the plant?", (gold,), gold=frozenset({"g"}), answer="Vextor Metals")
    assert damage(asked, operator("fictitious"), 0.5, f"{seed}", WORLD) is asked
    named = replace(asked, question="To whom did Orin Dale sell the plant?")
    assert "Orin Dale" not in made(damage(named, operator("fictitious"), 0.5, f"{seed}", WORLD)).text
