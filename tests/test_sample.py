"""The sample corpus is complete, consistent in itself, and asks questions that its documents answer (or do not)."""

from __future__ import annotations

import ast
import csv
import json
import re
from collections import Counter
from functools import cache
from itertools import combinations
from typing import Any

import pytest

from llama_index_hybridmem import sample

FACTS_HEADING = "\n## Facts\n"
KINDS = {"single": 12, "comparison": 8, "two_hop": 10, "unanswerable": 6, "no_retrieval": 4}  # at least so many of each
Fact = tuple[str, str, str, str]


@cache
def documents() -> dict[str, str]:
    """File stems and texts."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(sample.documents_folder().glob("*.md"))}


@cache
def questions() -> list[dict[str, Any]]:
    """Every question, as written."""
    return [json.loads(line) for line in sample.questions_path().read_text(encoding="utf-8").splitlines()]


def of_kind(*kinds: str) -> list[Any]:
    """The questions of these kinds, as parameters named by their ids."""
    return [pytest.param(question, id=question["id"]) for question in questions() if question["kind"] in kinds]


def plain(text: str) -> str:
    """Lower case, single spaces, no commas between thousands."""
    return re.sub(r"(?<=\d),(?=\d{3})", "", " ".join(text.lower().split()))


def words(text: str) -> list[str]:
    """The words of a text, lower case."""
    return re.findall(r"\w+", text.lower())


def facts_table(text: str) -> list[Fact]:
    """The rows of the table under the heading "Facts"."""
    lines = text.partition(FACTS_HEADING)[2].strip().splitlines()
    assert lines[:2] == ["| entity | attribute | value | unit |", "|---|---|---|---|"]
    rows = []
    for line in lines[2:]:
        start, entity, attribute, value, unit, end = (cell.strip() for cell in line.split("|"))
        assert (start, end) == ("", "")
        rows.append((entity, attribute, value, unit))
    return rows


def test_the_corpus_is_large_enough() -> None:
    """There are at least sixty documents."""
    assert len(documents()) >= 60


@pytest.mark.parametrize("stem", documents())
def test_a_document_has_one_title_and_a_fitting_length(stem: str) -> None:
    """Each document opens with its only H1, has sections, ends with its facts, and stays short."""
    text = documents()[stem]
    assert text.startswith("# ")
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1
    assert re.findall(r"^## .+", text, re.MULTILINE)[-1] == FACTS_HEADING.strip()
    assert len(re.findall(r"^## ", text, re.MULTILINE)) >= 3
    assert 120 <= len(text.split()) <= 420


def test_titles_differ() -> None:
    """No two documents bear the same title."""
    assert len({text.partition("\n")[0] for text in documents().values()}) == len(documents())


def test_no_document_repeats_another() -> None:
    """Two documents share hardly any run of five words: nothing is there twice."""
    runs = {}
    for stem, text in documents().items():
        prose = words(text.partition(FACTS_HEADING)[0])
        runs[stem] = set(zip(*(prose[start:] for start in range(5)), strict=False))
    for first, second in combinations(runs, 2):
        shared = len(runs[first] & runs[second])
        assert shared <= 0.05 * min(len(runs[first]), len(runs[second])), (first, second)


@pytest.mark.parametrize("stem", documents())
def test_facts_stand_in_the_prose(stem: str) -> None:
    """Each document has three to six facts, each said once, and the prose above the table says every value."""
    prose = plain(documents()[stem].partition(FACTS_HEADING)[0])
    facts = facts_table(documents()[stem])
    assert 3 <= len(facts) <= 6
    assert len({(entity, attribute) for entity, attribute, *_ in facts}) == len(facts)
    for entity, attribute, value, _ in facts:
        assert entity
        assert attribute
        assert re.search(rf"(?<![\w.]){re.escape(plain(value))}(?!\w|\.\d)", prose), (entity, attribute, value)


def test_facts_file_holds_every_table() -> None:
    """facts.csv is exactly the rows of all fact tables, with their documents."""
    with sample.facts_path().open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["entity", "attribute", "value", "unit", "document"]
    tables = [[*fact, stem] for stem, text in documents().items() for fact in facts_table(text)]
    assert sorted(rows) == sorted(tables)


def test_documents_agree_on_shared_facts() -> None:
    """Where two documents state the same attribute of the same entity, they state the same value."""
    stated: dict[tuple[str, str], tuple[str, str]] = {}
    for text in documents().values():
        for entity, attribute, value, unit in facts_table(text):
            assert stated.setdefault((entity, attribute), (value, unit)) == (value, unit)


def test_there_are_questions_of_every_kind() -> None:
    """At least forty questions, with unique ids and texts, of exactly the five kinds."""
    counts = Counter(question["kind"] for question in questions())
    assert len(questions()) >= 40
    assert set(counts) == set(KINDS)
    assert all(counts[kind] >= least for kind, least in KINDS.items())
    for key in ("id", "question"):
        assert len({question[key] for question in questions()}) == len(questions())


def test_the_telling_question_is_asked() -> None:
    """The demo's comparison of energy efficiency is among the questions, word for word."""
    text = "How does the energy efficiency of NVM compare to DRAM?"
    assert [question["kind"] for question in questions() if question["question"] == text] == ["comparison"]


@pytest.mark.parametrize("question", of_kind("single", "comparison", "two_hop"))
def test_an_expected_source_says_the_answer(question: dict[str, Any]) -> None:
    """Every expected source exists, and at least one of them holds the short answer as it is written."""
    assert question["expected_sources"]
    assert len(set(question["expected_sources"])) == len(question["expected_sources"])
    texts = [plain(documents()[stem].partition(FACTS_HEADING)[0]) for stem in question["expected_sources"]]
    assert any(plain(question["answer"]) in text for text in texts)


@pytest.mark.parametrize("question", of_kind("two_hop"))
def test_two_hops_need_two_documents(question: dict[str, Any]) -> None:
    """The first document names what the question names and lacks the answer; the last one, the other way round."""
    first, *_, last = (documents()[stem] for stem in question["expected_sources"])
    assert plain(question["answer"]) not in plain(first)
    assert plain(question["answer"]) in plain(last)
    names = [word.lower() for word in re.findall(r"\w+", question["question"])[1:] if re.search(r"[A-Z\d]", word)]
    assert any(name in words(first) and name not in words(last) for name in names)


@pytest.mark.parametrize("question", of_kind("unanswerable"))
def test_unanswerable_questions_have_no_source(question: dict[str, Any]) -> None:
    """No source, no answer, and at least one word of the question stands in no document."""
    assert question["expected_sources"] == []
    assert question["answer"] is None
    known = {word for text in documents().values() for word in words(text)}
    assert set(words(question["question"])) - known


@pytest.mark.parametrize("question", of_kind("no_retrieval"))
def test_small_talk_has_no_source(question: dict[str, Any]) -> None:
    """Greetings, thanks, arithmetic and work on given text expect no document."""
    assert question["expected_sources"] == []


def test_the_sample_stands_alone() -> None:
    """The sample package imports nothing but pathlib, so that a look at its files costs nothing."""
    tree = ast.parse((sample.documents_folder().parent / "__init__.py").read_text(encoding="utf-8"))
    imports = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    assert imports == ["__future__", "pathlib"]
