"""Reviewed failures and the rounds they are kept in: what counts, what is new, what is replayed, capped, asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.errors import ConfigurationError, IngestError
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.export.asking import Asked
from llama_index_hybridmem.training.admission import MAX_MODEL_SHARE, model_written
from llama_index_hybridmem.training.candidates import VERDICT
from llama_index_hybridmem.training.failures import UNREVIEWED, from_lines, lines, origins, read_failures, without
from llama_index_hybridmem.training.improving import Improving, improve
from llama_index_hybridmem.training.rounds import (
    Part,
    begin,
    capped,
    current,
    evenly,
    learned,
    question_of,
    rounds_of,
)
from llama_index_hybridmem.training.rows import TrainingSet

FRIDAY = {"question": "When is it due?", "answer": "On Friday", "expected_sources": ["terms.md"], "reviewed": True}


def written(path: Path, *rows: Any) -> Path:
    """A file of rows."""
    path.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in rows), "utf-8")
    return path


def row(question: str, name: str = "", origin: str = "user") -> Example:
    """A row as an export has it."""
    prompt = ({"role": "user", "content": f"[1] A source.\n\nQuestion: {question}"},)
    return Example(name or question, prompt, "Yes", origin=origin, answerable=True)


def part(name: str, train: str = "", held_back: str = "", origin: str = "user") -> Part:
    """A round's rows, a letter each."""
    return Part(name, *(tuple(row(each, f"{name}/{each}", origin) for each in some) for some in (train, "", held_back)))


# -- failures ---------------------------------------------------------------------------------------------------------


def test_what_nobody_has_reviewed_is_left_out_and_counted(tmp_path: Path) -> None:
    """By true or a name; who wrote the answer is kept."""
    path = written(
        tmp_path / "failures.jsonl",
        FRIDAY,
        "",
        {**FRIDAY, "question": "Who pays?", "reviewed": "Ada", "origin": "model"},
        {**FRIDAY, "question": "Who knows?", "reviewed": False},
        {**FRIDAY, "question": "Why?", "reviewed": " "},
        {"question": "What?", "answer": "That"},
    )
    found = read_failures(path)
    assert [each.question for each in found.asked] == ["When is it due?", "Who pays?"]
    assert [each.origin for each in found.asked] == ["user", "generated"]
    assert found.left_out == {UNREVIEWED: 3}
    assert origins(found.asked) == {"model": 1, "user": 1}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([FRIDAY, "{"], "line 2: not JSON"),
        ([FRIDAY, {**FRIDAY, "question": "Who?", "reviewed": 3}], "line 2: field reviewed: true, false or a name"),
        ([{**FRIDAY, "origin": "magic"}], "line 1: field origin: one of user, traces, model"),
        ([{**FRIDAY, "answer": 3}], "line 1: field answer"),
        ([FRIDAY, FRIDAY], "line 2: field id"),
        ([{**FRIDAY, "reviewed": None}], "none of 1 rows was reviewed"),
        ([], "no question in it"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, rows: list[Any], told: str) -> None:
    """And by field."""
    with pytest.raises(IngestError, match=f"failures.jsonl.*{told}"):
        read_failures(written(tmp_path / "failures.jsonl", *rows))


def test_no_file_and_a_table_are_refused(tmp_path: Path) -> None:
    """A table has no place for a list, and no null."""
    with pytest.raises(IngestError, match="cannot be read"):
        read_failures(tmp_path / "none.jsonl")
    with pytest.raises(IngestError, match="from .jsonl files"):
        read_failures(tmp_path / "failures.csv")


texts = st.text(max_size=20)
failures = st.builds(
    Asked,
    id=texts,
    question=texts,
    answer=st.none() | texts,
    gold=st.frozensets(texts, max_size=3),
    quotes=st.lists(texts, max_size=2).map(tuple),
    answerable=st.none() | st.booleans(),
    asked=st.none() | st.floats(allow_nan=False),
)


@given(st.lists(failures, max_size=8))
def test_failures_are_read_back_as_they_were_and_come_once(asked: list[Asked]) -> None:
    """Whatever signs they have; an id decides nothing, and what is known is passed over."""
    again = from_lines(json.loads(line) for line in lines(asked).split("\n") if line)
    assert again == tuple(asked)
    once = without([*asked, *(replace(each, id="other") for each in asked)], frozenset())
    assert set(once) <= set(asked)
    assert len(without(once, frozenset())) == len(once)


# -- rounds -----------------------------------------------------------------------------------------------------------


def asked(letters: str) -> list[Asked]:
    """Failures, a letter each."""
    return [Asked(each, each, "yes") for each in letters]


def finish(workspace: Path) -> None:
    """Judge the last round."""
    (rounds_of(workspace)[-1].folder / VERDICT).write_text("{}")


def test_a_round_takes_what_is_new_and_says_how_much_is_missing(tmp_path: Path) -> None:
    """A file that grows will do; the same file again has nothing new."""
    with pytest.raises(ConfigurationError, match=r"3 new reviewed failures: 97 more are needed .*--few-rows"):
        begin(tmp_path, asked("abc"), 100)
    assert rounds_of(tmp_path) == []
    assert begin(tmp_path, asked("abc"), 2).name == "0001"
    finish(tmp_path)
    with pytest.raises(ConfigurationError, match="nothing new: all 3 failures"):
        begin(tmp_path, asked("abc"), 2)
    second = begin(tmp_path, asked("abcde"), 2)
    assert (second.name, [each.question for each in second.failures]) == ("0002", ["d", "e"])


def test_a_round_that_is_not_finished_is_gone_on_with(tmp_path: Path) -> None:
    """By the failures that it was begun with, though there are more by now; with others it is refused."""
    begin(tmp_path, asked("ab"), 1)
    again = begin(tmp_path, asked("abc"), 1)
    assert (again.name, len(again.failures)) == ("0001", 2)
    with pytest.raises(ConfigurationError, match="not finished, and was begun with other failures"):
        begin(tmp_path, asked("acd"), 1)


def test_earlier_rows_are_replayed_as_many_as_new_ones() -> None:
    """And none that is asked in any round."""
    parts = [part("first", "abcdef"), part("0001", "ghijkl", "yz"), part("0002", "mnoyq", "x")]
    rows, counts = learned(parts, TrainingSet("set", parts[-1].train), 1.0, 0)
    ids = [each.id for each in rows.train]
    assert ids[:4] == ["0002/m", "0002/n", "0002/o", "0002/q"]
    assert len(ids) == 8
    assert not {"0002/m"} & set(ids[4:])
    assert counts["asked, not trained on"] == 1
    assert (counts["new"], counts["earlier"]) == (4, 4)
    assert learned(parts, TrainingSet("set", parts[-1].train), 0.0, 0)[1]["earlier"] == 0


@given(st.lists(st.integers(0, 20), max_size=6), st.integers(0, 80))
def test_each_round_is_replayed_as_much_as_any_other(sizes: list[int], count: int) -> None:
    """As far as it has rows; together it is what was wanted, or all there is."""
    shares = evenly(sizes, count)
    assert sum(shares) == min(count, sum(sizes))
    assert all(0 <= share <= size for share, size in zip(shares, sizes, strict=True))
    short = [share for share, size in zip(shares, sizes, strict=True) if share < size]
    assert max(shares, default=0) - min(short, default=max(shares, default=0)) <= 1


def test_what_is_answered_anew_is_neither_replayed_nor_asked_as_it_was() -> None:
    """Its old answer was wrong."""
    kept = current([part("0001", "abc", "de"), part("0002", "bx", "d")])
    assert [each.id for each in kept[0].train] == ["0001/a", "0001/c"]
    assert [each.id for each in kept[0].held_back] == ["0001/e"]
    assert [each.id for each in kept[1].train] == ["0002/b", "0002/x"]


@given(st.text("um", max_size=30))
def test_model_written_rows_are_no_more_than_admission_takes(letters: str) -> None:
    """As many as there may be, the first of them, and no other row is lost."""
    rows = [row(str(n), origin={"u": "user", "m": "model"}[each]) for n, each in enumerate(letters)]
    kept = capped(rows)
    people = letters.count("u")
    assert (model_written(kept) or 0) <= MAX_MODEL_SHARE
    assert [each for each in kept if each.origin == "user"] == [each for each in rows if each.origin == "user"]
    assert len(kept) == people + min(people, letters.count("m"))


def test_model_written_rows_beyond_the_share_are_counted() -> None:
    """With those replayed."""
    parts = [part("0001", "ab", origin="model"), part("0002", "cdef")]
    rows, counts = learned(parts, TrainingSet("set", ()), 1.0, 0)
    assert (counts["model-written"], counts["model-written, left out"]) == (2, 0)
    parts = [part("0001", "ab"), part("0002", "cdef", origin="model")]
    rows, counts = learned(parts, TrainingSet("set", ()), 1.0, 0)
    assert (len(rows.train), counts["model-written"], counts["model-written, left out"]) == (4, 2, 2)


def test_a_question_is_found_in_every_layout() -> None:
    """Behind the sources, whatever stands in them; a prompt without sources is the question."""
    assert question_of(row("When?")) == "When?"
    for text in ("[1] Question: none\n\nQuestion: When?", "<DOCUMENT>x</DOCUMENT>\nWhen?", "When?"):
        assert question_of(Example("1", ({"role": "user", "content": text},), "!")) == "When?"


def gone() -> Any:
    """A store that cannot be opened."""
    raise ConnectionError


def test_another_workspace_and_too_few_are_refused(tmp_path: Path) -> None:
    """Before a model is loaded."""
    path = written(tmp_path / "failures.jsonl", FRIDAY)
    given: dict[str, Any] = {"registry": tmp_path / "registry", "how": Improving(few_rows=True)}
    with pytest.raises(ConnectionError):
        improve(path, gone, tmp_path, tmp_path / "work", name="brand", **given)
    with pytest.raises(ConfigurationError, match='name was "brand", is "other"'):
        improve(path, gone, tmp_path, tmp_path / "work", name="other", **given)
    with pytest.raises(ConfigurationError, match="99 more are needed"):
        improve(path, gone, tmp_path, tmp_path / "new", name="brand", registry=tmp_path / "registry")
