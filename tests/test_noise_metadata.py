"""Tests of metadata that is made wrong, and of what finds it."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.noise.detectors import metadata as detecting
from llama_index_hybridmem.noise.operators.metadata import KNOWN
from llama_index_hybridmem.noise.operators.registry import damage_passage, operator
from llama_index_hybridmem.noise.scene import Passage, Scene, World

OPERATORS = ("metadata_title", "metadata_source", "metadata_date", "metadata_missing", "metadata_swapped")
DETECTORS = (
    detecting.metadata_gap,
    detecting.metadata_shape,
    detecting.metadata_words,
    detecting.metadata_time,
    detecting.metadata_origin,
)
SUBJECTS = ("Hamming code", "Wear levelling", "Phase change", "Ferroelectric gate", "Crossbar array", "Magnetic tunnel")


def of(n: int, **other: Any) -> Passage:
    """A passage about the n-th subject, with everything known about it."""
    subject = SUBJECTS[n]
    path = subject.lower().replace(" ", "-") + ".md"
    fields = {
        "title": subject,
        "file_name": path,
        "file_path": f"/docs/{path}",
        "published": f"201{n}-03-01",
        "updated": f"202{n % 5}-11-30",
        "version": f"{n}.1",
    }
    return Passage(f"p{n}", f"The {subject} was described at length in 2009.", fields | other, source=f"d{n}")


WORLD = World([of(n) for n in range(len(SUBJECTS))])
SCENE = Scene("What is the Hamming code?", tuple(of(n) for n in range(5)))


def damaged(name: str, passage: Passage, severity: float = 1.0, seed: str = "s", world: World = WORLD) -> Passage:
    """A passage after an operator."""
    return damage_passage(passage, operator(name), severity, seed, world)


def found(passage: Passage, others: Sequence[Passage] = SCENE.passages[1:]) -> dict[str, float]:
    """What the detectors say of a passage among others: operator to severity."""
    scene = Scene("", (passage, *others))
    findings = [each(passage, scene) for each in DETECTORS]
    assert all(0 < each.severity <= 1 for each in findings if each)
    return {each.operator: each.severity for each in findings if each}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("seed", "abcd")
def test_what_was_and_is_stands_in_the_provenance(name: str, seed: str) -> None:
    """The text stays; the fields that changed are named, and their values noted."""
    before = of(0)
    after = damaged(name, before, 0.4, seed)
    changed = {field for field in KNOWN if before.metadata.get(field) != after.metadata.get(field)}
    assert after.text == before.text
    assert changed
    assert set(after.damage[0].fields) == changed
    assert all(str(before.metadata[field]) in after.damage[0].note["was"] for field in changed)
    assert all(str(after.metadata.get(field, "missing")) in after.damage[0].note["now"] for field in changed)


@pytest.mark.parametrize("name", OPERATORS)
def test_there_is_nothing_to_break_without_metadata(name: str) -> None:
    """A passage without known fields stays as it is; so does one whose world knows no other."""
    bare = Passage("a", "Text", {"file_size": 7, "title": "", "author": "A. Author"})
    assert damaged(name, bare) is bare
    if name in ("metadata_title", "metadata_source"):
        assert damaged(name, of(0), world=World()) == damaged(name, of(0), world=World([of(0)])) == of(0)


def test_a_wrong_source_is_one_documents() -> None:
    """All source fields come from the same passage of the world."""
    after = damaged("metadata_source", of(0)).metadata
    assert any((after["file_name"], after["file_path"]) == (f"{n}", p) for n, p in _files())
    assert after["title"] == "Hamming code"


def _files() -> list[tuple[str, str]]:
    return [(each.metadata["file_name"], each.metadata["file_path"]) for each in WORLD.passages[1:]]


@given(st.dates(date(1950, 1, 1), date(2050, 12, 31)), st.integers(0, 50))
@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d.%m.%Y", "%Y%m%d", "%B %d, %Y", "%Y-%m-%dT12:00:00Z", "%Y"])
def test_dates_keep_their_form(form: str, day: date, seed: int) -> None:
    """A shifted date is a date, one to eight years off, and written as before."""
    from datetime import datetime

    passage = Passage("a", "Text", {"date": f"{day:{form}}"})
    after = datetime.strptime(damaged("metadata_date", passage, seed=str(seed)).metadata["date"], form)
    assert 1 <= abs(after.year - day.year) <= 8
    assert f"{after:{form}}"[-2:] == f"{day:{form}}"[-2:] or form[-2:] == "%Y"


@pytest.mark.parametrize("value", [2019, 1.6e9, 1_600_000_000_000])
def test_numbers_are_dates_too(value: float) -> None:
    """Years, seconds and milliseconds since 1970 move by years, and stay what they are."""
    after = damaged("metadata_date", Passage("a", "Text", {"date": value})).metadata["date"]
    assert type(after) is type(value)
    scale = 1 if value == 2019 else timedelta(days=365.2425).total_seconds() * (1000 if value > 1e12 else 1)
    assert round(abs(after - value) / scale, 3) in range(1, 9)


@pytest.mark.parametrize("value", ["soon", True, 7, [1], "12345678901"])
def test_what_is_no_date_stays(value: Any) -> None:
    """A date field without a date cannot be shifted."""
    passage = Passage("a", "Text", {"date": value})
    assert damaged("metadata_date", passage) is passage


def test_severity_is_a_share_of_the_fields() -> None:
    """Of six fields all are lost at 1, half at 0.5 and one at 0.01."""
    for severity, share in ((0.01, 1), (0.5, 3), (1.0, 6)):
        assert len(damaged("metadata_missing", of(0), severity).damage[0].fields) == share


def test_swapped_fields_hold_one_anothers_values() -> None:
    """No value is lost; title and source change places first."""
    before, after = of(0).metadata, damaged("metadata_swapped", of(0), 0.1).metadata
    assert sorted(before.values()) == sorted(after.values())
    assert after["title"] in (before["file_name"], before["file_path"])


values = st.one_of(
    st.text(max_size=12), st.integers(), st.floats(), st.none(), st.booleans(), st.lists(st.text(max_size=3))
)
fields = st.dictionaries(
    st.one_of(st.sampled_from(KNOWN), st.text(string.ascii_letters, max_size=4)), values, max_size=7
)


@given(
    st.lists(st.tuples(fields, st.text(max_size=20)), min_size=1, max_size=5),
    st.sampled_from(OPERATORS),
    st.floats(0.01, 1),
)
def test_any_metadata_will_do(passages: list[tuple[dict[str, Any], str]], name: str, severity: float) -> None:
    """Odd values raise nothing in operators and detectors, and the same seed does the same."""
    scene = [Passage(str(n), text, fields, str(n % 2)) for n, (fields, text) in enumerate(passages)]
    once = damaged(name, scene[0], severity, world=World(scene))
    assert repr(once) == repr(damaged(name, scene[0], severity, world=World(scene)))
    found(once, scene[1:])


def test_clean_metadata_is_left_in_peace() -> None:
    """Nothing is found in clean passages, with all fields, without any, or alone."""
    for n in range(5):
        others = [of(m) for m in range(5) if m != n]
        assert found(of(n), others) == {}
        assert found(of(n), ()) == {}
        assert found(Passage("a", "Text"), [Passage(str(m), "Text") for m in range(4)]) == {}


def test_titles_without_sources_are_not_judged() -> None:
    """Where a passage has no source to compare with, a title that the text does not repeat is no finding."""
    others = [Passage(str(n), f"On {subject}", {"title": subject}) for n, subject in enumerate(SUBJECTS[1:])]
    assert found(Passage("a", "He was born there.", {"title": "Robert Dennard"}), others) == {}


def test_initials_and_other_forms_are_the_same_words() -> None:
    """A file named by a title's initials belongs to it, and so does one named by another form of its word."""
    ecc = {"title": "Error-correcting codes", "file_name": "ecc.md", "file_path": "/docs/ecc.md"}
    persistent = {"title": "Persistent memory", "file_name": "persistence.md", "file_path": "/docs/persistence.md"}
    dates = {"published": "2010-01-01", "updated": "2020-01-01", "version": "1.0"}
    assert (
        found(Passage("a", "A chip can fail.", ecc | dates)) == found(Passage("a", "A line.", persistent | dates)) == {}
    )


@pytest.mark.parametrize("name", ["metadata_title", "metadata_source", "metadata_missing", "metadata_swapped"])
@pytest.mark.parametrize("severity", [0.1, 1.0])
def test_what_operators_break_is_found(name: str, severity: float) -> None:
    """Wrong titles and sources, gaps and swaps are found among clean passages, and named."""
    for seed in range(10):
        assert name in found(damaged(name, of(0), severity, f"{seed}")), seed


def test_placeholders_are_found_without_others() -> None:
    """A field that says "unknown" is missing, whatever the others have."""
    assert found(of(0, title="Untitled document 3"), ()) == {"metadata_missing": pytest.approx(1 / 6)}


def test_a_date_that_the_text_contradicts_is_found() -> None:
    """A text that tells of two later years, not later than the scene's newest date, is younger than its date."""
    passage = of(0, published="2009-01-01", updated="2010-01-01")
    late = replace(passage, text="The Hamming code was used in 2015 and 2018.")
    plan = replace(passage, text="The Hamming code will be used in 2015, on 2048 bits.")
    assert found(late) == {"metadata_date": 1.0}
    assert found(plan) == {}
    assert found(of(0, published="2022-01-01", updated="2010-01-01")) == {"metadata_date": 0.5}
    assert found(of(0, published="some day")) == {"metadata_date": 0.5}


def test_what_a_documents_other_passages_say_counts() -> None:
    """Passages of one document have one date and one source."""
    peers = [replace(of(0), id=f"peer{n}") for n in range(2)]
    assert found(of(0, updated="2013-11-30"), peers) == {"metadata_date": 0.5}
    assert found(of(0, file_name="wear-levelling.md"), peers) == {"metadata_source": 0.5}
    assert found(of(0), peers) == {}
