"""The generated questions are many, different, true to the documents, and split so that no document gives two parts."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from llama_index_hybridmem import sample
from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.export.asking import read_asked
from llama_index_hybridmem.sample.asking.__main__ import main, sample_material
from llama_index_hybridmem.sample.asking.generate import SEED
from llama_index_hybridmem.sample.asking.quoting import answer_in, holds, quote_of
from llama_index_hybridmem.sample.asking.splitting import split_documents
from llama_index_hybridmem.sample.asking.unanswerable import is_unanswered

ANSWERED = ("single", "comparison", "two_hop")
Row = dict[str, Any]


@cache
def rows() -> tuple[Row, ...]:
    """The shipped file."""
    return tuple(json.loads(line) for line in sample.generated_path().read_text(encoding="utf-8").splitlines())


@cache
def documents() -> dict[str, str]:
    """File stems and texts."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sample.documents_folder().glob("*.md")}


@cache
def table() -> dict[tuple[str, str], list[str]]:
    """What the table of facts says, and where."""
    found: dict[tuple[str, str], list[str]] = {}
    with sample.facts_path().open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault((row["entity"], row["attribute"]), []).append(row["document"])
    return found


def of_kind(*kinds: str) -> list[Row]:
    """The rows of these kinds."""
    return [row for row in rows() if row["kind"] in kinds]


def test_the_shipped_file_is_what_the_script_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script writes the shipped bytes again; another seed splits otherwise."""
    monkeypatch.setattr("sys.argv", ["asking", "--out", str(tmp_path / "again.jsonl")])
    main()
    assert (tmp_path / "again.jsonl").read_bytes() == sample.generated_path().read_bytes()
    facts = sample_material().facts
    assert split_documents(facts, 0) != split_documents(facts, SEED) == split_documents(facts, SEED)


def test_there_are_enough_of_every_kind_and_part() -> None:
    """At least 600 are answered and 200 are not; the test part has some of every kind."""
    assert len(of_kind(*ANSWERED)) >= 600
    assert len(of_kind("unanswerable")) >= 200
    kinds = Counter(row["kind"] for row in rows() if row["split"] == "test")
    assert {*kinds} == {*ANSWERED, "unanswerable"}
    assert sum(kinds.values()) >= 200
    assert {row["split"] for row in rows()} == {"train", "dev", "test"}


def test_no_two_are_the_same() -> None:
    """Ids differ, and so do the questions without case and marks."""
    folded = [" ".join(re.findall(r"\w+", row["question"].casefold())) for row in rows()]
    assert len(set(folded)) == len({row["id"] for row in rows()}) == len(rows())


def test_nothing_is_left_to_fill_in() -> None:
    """No question holds a brace, a double blank, or an article that its noun does not take."""
    assert not [
        row["question"] for row in rows() if re.search(r"[{}]|  |\b[Aa] (HBM|LPDDR|NVDIMM|the )", row["question"])
    ]


def test_quotes_stand_in_the_sources_and_hold_the_answer() -> None:
    """One quote a source, or two of one source, each verbatim; the answer stands in one of them as it is written."""
    for row in of_kind(*ANSWERED):
        texts = [documents()[stem] for stem in row["expected_sources"]]
        assert row["answerable"]
        assert row["quotes"]
        assert all(any(quote in text for text in texts) for quote in row["quotes"]), row
        assert all(any(quote in text for quote in row["quotes"]) for text in texts), row
        assert any(holds(quote, row["answer"]) for quote in row["quotes"]), row
    assert all(holds(quote, row["answer"]) for row in of_kind("single") for quote in row["quotes"])


def test_two_hops_need_both_documents() -> None:
    """The first document does not hold the answer, the last one does."""
    for row in of_kind("two_hop"):
        first, last = (documents()[stem] for stem in row["expected_sources"])
        assert row["answer"] not in first.partition("\n## Facts\n")[0]
        assert row["answer"] in last


def test_a_comparison_is_won_by_the_value_in_its_quotes() -> None:
    """The answer is one of two entities whose rows are quoted, and these have different values."""
    for row in of_kind("comparison"):
        cells = [[cell.strip() for cell in quote.split("|")] for quote in row["quotes"]]
        assert row["answer"] in {entity for _, entity, *_ in cells}
        assert len({value for _, _, _, value, *_ in cells}) == 2


def test_no_document_is_in_two_parts() -> None:
    """What a document's table says is asked in one part only, and so is what two tables say alike."""
    parts: dict[str, set[str]] = {}
    for row in rows():
        for stem in row["expected_sources"][: 1 if row["kind"] == "single" else None]:  # others' prose says it, too
            parts.setdefault(stem, set()).add(row["split"])
    assert {len(found) for found in parts.values()} == {1}
    for stems in table().values():
        assert len({split for stem in stems for split in parts.get(stem, ())}) <= 1


def test_the_test_part_has_phrasings_of_its_own() -> None:
    """No phrasing of the test part is heard in train or dev."""
    heard = {row["phrasing"] for row in rows() if row["split"] != "test"}
    assert not heard & {row["phrasing"] for row in rows() if row["split"] == "test"}


def test_no_phrasing_and_no_opening_takes_over() -> None:
    """No phrasing, and no first two words, make up more than one question in twenty."""
    for counts in (
        Counter(row["phrasing"] for row in rows()),
        Counter(" ".join(row["question"].split()[:2]) for row in rows()),
    ):
        assert counts.most_common(1)[0][1] <= 0.05 * len(rows())


def test_unanswerable_ones_have_no_answer_in_the_table() -> None:
    """Each resembles an answered question of its part, is about another entity, and no table states it."""
    by_id = {row["id"]: row for row in rows()}
    material = sample_material()
    for row in of_kind("unanswerable"):
        assert (row["answer"], row["expected_sources"], row["quotes"], row["answerable"]) == (None, [], [], False)
        original = by_id[row["twin_of"]]
        assert original["kind"] == "single"
        assert (original["split"], original["phrasing"]) == (row["split"], row["phrasing"])
        assert original["question"] != row["question"]
    for attribute, twin in material.twins.items():
        stated = [each for each in twin.entities if (each, attribute) in table()]
        assert not [each for each in stated if is_unanswered(material, attribute, each, ())]


def test_a_text_that_may_answer_is_no_twin() -> None:
    """Chua's birthplace is in no table, but his document tells it; Dennard's is; that of Gordon Moore nobody tells."""
    material = sample_material()
    assert not is_unanswered(material, "birthplace", "Leon Chua", ["born"])
    assert not is_unanswered(material, "birthplace", "Robert Dennard", [])
    assert is_unanswered(material, "birthplace", "Gordon Moore", ["born"])
    # A table's row says what its head names.
    assert not is_unanswered(material, "endurance", "Toggle MRAM", ["survives"])


def test_many_twins_are_about_what_the_documents_know() -> None:
    """A third of the unanswerable questions and more name nothing unheard of: the name alone tells nothing."""
    text = " ".join(documents().values()).casefold()
    unheard = [
        row
        for row in of_kind("unanswerable")
        if any(word.casefold() not in text for word in re.findall(r"\b[A-Z\d]\w*[A-Z\d-]\w*", row["question"]))
    ]
    assert len(unheard) <= 2 / 3 * len(of_kind("unanswerable"))


def test_they_are_read_as_questions_for_an_export() -> None:
    """The file is one that `--questions` takes, with its domains and quotes."""
    asked = read_asked(sample.generated_path())
    assert len(asked) == len(rows())
    assert {each.domain for each in asked} == {"companies", "dram", "flash", "new memories", "people", "systems"}
    assert all(each.quotes and each.gold for each in asked if each.answerable)
    assert all(each.answerable is not None for each in asked)


def test_an_answer_is_written_as_its_text_writes_it() -> None:
    """Thousands, units and compounds are found; what is not there is refused."""
    assert answer_in("139000", "activations", "some 139,000 activations") == "139,000 activations"
    assert answer_in("4", "pJ/bit", "about 4 pJ per bit") == "4 pJ per bit"
    assert answer_in("1", "kilobit", "a 1-kilobit chip") == "1-kilobit"
    assert answer_in("2007", "year", "in 2007, at last") == "2007"
    with pytest.raises(ConfigurationError, match="wordings"):
        answer_in("7", "ns", "17 ns or 7.5 ns or 7,500 ns")


def test_a_quote_is_the_closest_sentence() -> None:
    """Of two sentences with the answer, the one that is about the question is quoted."""
    text = "# Title Inc.\n\nIn 1990 it rained. The company was founded in 1990.\n\n- Its shares fell in 1990.\n"
    assert quote_of(text, "1990", ["When was the company founded?"]) == "The company was founded in 1990."
    assert quote_of(text, "1990", ["shares"]) == "Its shares fell in 1990."
    with pytest.raises(ConfigurationError, match="no sentence"):
        quote_of(text, "1991", ["shares"])
