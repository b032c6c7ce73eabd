"""What a model is trained on, read from an export's folder and from files of every format, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from training_set_zoo import ABSTAINS, abstaining, record, write

from llama_index_hybridmem.errors import ConfigurationError, IngestError
from llama_index_hybridmem.example import digest
from llama_index_hybridmem.export.formats import FORMATS, row
from llama_index_hybridmem.export.options import ExportOptions
from llama_index_hybridmem.export.wording import Wording
from llama_index_hybridmem.training.rows import of_record, read_set

RECORDS = [*map(record, range(12)), *map(abstaining, range(12, 16))]


def a_file(folder: Path, rows: list[Any]) -> Path:
    """Rows as lines."""
    place = folder / "rows.jsonl"
    place.write_text("".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in rows), "utf-8")
    return place


def chat(question: str, answer: str, **columns: Any) -> dict[str, Any]:
    """A row of messages."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, **columns}


def test_an_exports_records_become_rows_in_its_wording(tmp_path: Path) -> None:
    """Prompt and completion are those of its files; the answer alone, label, kinds and sources come along."""
    folder = write(tmp_path / "set", RECORDS)
    found = read_set(folder)
    assert {name: len(getattr(found, name)) for name in ("train", "dev", "test")} == {"train": 8, "dev": 4, "test": 4}
    one = found.train[0]
    wanted = row(RECORDS[0], "prompt-completion", found.wording or Wording())
    assert one.row() == {name: wanted[name] for name in ("prompt", "completion")}
    assert (one.answer, one.answerable, one.origin) == ("Inventor Nr0", True, "user")
    assert one.completion.endswith("[1]")
    assert one.kinds == {"truncation"}
    assert one.sources == tuple(each.text for each in RECORDS[0].noisy)
    silent = next(each for part in (found.train, found.dev, found.test) for each in part if each.answerable is False)
    assert silent.answer == silent.completion == ABSTAINS


def test_facts_that_no_source_has_are_counted_over_the_answers_that_are_trained_on(tmp_path: Path) -> None:
    """An answer with a year of its own in one of six answered training rows."""
    invented = record(0, answer="Inventor Nr0 in 1987", expected="Inventor Nr0 in 1987")
    found = read_set(write(tmp_path / "set", [invented, *RECORDS[1:]]))
    assert found.facts_in_targets == pytest.approx(1 / 6)
    assert read_set(write(tmp_path / "sound", RECORDS)).facts_in_targets == 0


def test_what_an_export_was_made_with_is_kept_for_the_lineage(tmp_path: Path) -> None:
    """Hashes of options and profile, and the words around the rows."""
    found = read_set(write(tmp_path / "set", RECORDS))
    assert set(found.made_of) == {"options", "profiles", "wording"}
    assert found.made_of["wording"] == ExportOptions().wording.to_json()


@pytest.mark.parametrize("format_", FORMATS)
def test_a_file_of_any_format_is_read(tmp_path: Path, format_: str) -> None:
    """With the same last words to the model and the same words to learn."""
    rows = [row(each, format_, Wording()) for each in RECORDS]
    found = read_set(a_file(tmp_path, rows))
    read = {each.completion for part in (found.train, found.dev) for each in part}
    assert read == {of_record(each, Wording()).completion for each in RECORDS}
    assert all(each.prompt[-1]["role"] == "user" for each in found.train)
    assert found.facts_in_targets is None


def test_a_tenth_of_a_file_is_watched_whatever_its_order(tmp_path: Path) -> None:
    """Chosen by its words: the same rows in another order are parted alike."""
    rows = [chat(f"Question {number}?", f"Answer {number}", id=f"r{number}") for number in range(60)]
    found = read_set(a_file(tmp_path, rows))
    other = read_set(a_file(tmp_path, rows[::-1]))
    assert (len(found.train), len(found.dev)) == (54, 6)
    assert {each.id for each in found.dev} == {each.id for each in other.dev}
    assert digest(found.train) != digest(other.train), "the order counts"


@pytest.mark.parametrize(
    ("line", "error", "told"),
    [
        ("{no json", IngestError, "line 1: not JSON"),
        ("[1, 2]", ConfigurationError, "line 1: a row is a JSON object"),
        ({"question": "Why?"}, ConfigurationError, "line 1: a row of no known format"),
        (chat("Why?", "  "), ConfigurationError, "line 1: the answer is empty"),
        ({"messages": [{"role": "user", "content": "Why?"}]}, ConfigurationError, "line 1: expected turns that end"),
        (
            {"messages": [{"role": "robot", "content": "x"}, {"role": "assistant", "content": "y"}]},
            ConfigurationError,
            "line 1: a turn has a role",
        ),
        ({"messages": "text"}, ConfigurationError, "line 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: Any, error: type[Exception], told: str) -> None:
    """With its file and what is wrong with it."""
    with pytest.raises(error, match=told):
        read_set(a_file(tmp_path, [line]))


def test_what_is_no_training_set_is_refused(tmp_path: Path) -> None:
    """A folder without an export, a file that is not there, two rows of one id."""
    with pytest.raises(ConfigurationError, match="is no training set.*dataset export"):
        read_set(tmp_path)
    with pytest.raises(IngestError, match=r"none\.jsonl.*give a JSONL file"):
        read_set(tmp_path / "none.jsonl")
    with pytest.raises(ConfigurationError, match="two rows have the id 'a'"):
        read_set(a_file(tmp_path, [chat("One?", "1", id="a"), chat("Two?", "2", id="a")]))
