"""`hybridmem dataset inspect` and `validate`, and the description in the terminal; in process."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from rich.console import Console
from training_set_zoo import abstaining, record, reread, write

from llama_index_hybridmem.cli import dataset_inspect, dataset_validate
from llama_index_hybridmem.cli.dataset_view import LOST, description, done, marked
from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.export.describing import describe
from llama_index_hybridmem.export.formats import FORMATS
from llama_index_hybridmem.export.validating import NAMED, validate
from llama_index_hybridmem.noise.scene import Damage

app = typer.Typer()
app.command()(dataset_inspect.inspect)
app.command()(dataset_validate.validate)


def run(*arguments: object) -> tuple[int, str]:
    """Runs a subcommand in this process; its exit code and its standard output."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        code = typer.main.get_command(app)([str(each) for each in arguments], standalone_mode=False)
    return code or 0, out.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve records in two shards, in two formats."""
    made = [abstaining(n) if n % 4 == 1 else record(n) for n in range(12)]
    return write(tmp_path / "set", made, ("prompt-completion", "openai"))


# -- inspect


def test_a_record_is_shown_with_its_damage(folder: Path) -> None:
    """Question, answer, what supports it, where something was lost, and what was done, without a colour."""
    code, told = run("inspect", folder, "--id", "r2")
    assert code == 0
    for part in ("Who built the machine number 2?", "Inventor Nr2", "g2, answers", "truncate_tail (truncation, 0.50)"):
        assert part in told
    assert f"Rain fell on the town for days.{LOST}" in told
    assert "\x1b" not in told


def test_what_was_taken_away_is_shown(folder: Path) -> None:
    """An abstention shows the answer that lost its support, and the passage that was removed."""
    _, told = run("inspect", folder, "--kind", "gold_removed")
    assert "Not in the sources." in told
    assert "Unsupported  Inventor Nr1" in told
    assert "taken away: Machine 1" in told


def test_records_are_chosen_by_split_and_number(folder: Path) -> None:
    """As many as asked, of the split that was asked, as the canonical records."""
    _, told = run("inspect", folder, "--split", "test", "--n", 2, "--json")
    assert [each["id"] for each in json.loads(told)] == ["r3", "r7"]
    assert json.loads(told)[0] == record(3).to_json()


def test_a_row_is_shown_as_the_model_reads_it(folder: Path) -> None:
    """In any format, written or not, with the folder's own wording."""
    _, told = run("inspect", folder, "--id", "r2", "--rendered", "messages")
    assert told.index("system") < told.index("[1] Machine 2") < told.index("assistant") < told.rindex("Inventor Nr2")
    _, told = run("inspect", folder, "--id", "r2", "--rendered", "prompt-completion", "--json")
    assert json.loads(told) == [reread(folder / "prompt-completion" / "dev-00000.jsonl")[0]]


@pytest.mark.parametrize("options", [("--id", "none"), ("--kind", "rust"), ("--split", "all"), ("--kind", "ocr")])
def test_what_is_not_there_is_said(folder: Path, options: tuple[str, str]) -> None:
    """A record, kind or split that does not exist is an error that names it."""
    with pytest.raises(ConfigurationError, match=options[1]):
        run("inspect", folder, *options)


def test_spans_are_marked_where_they_are() -> None:
    """In order, each once, nested ones within the outer; a whole text and spans outside of it are left unmarked."""
    damage = [
        Damage("ocr", "ocr", 0.5, "s", "h", ((4, 5), (0, 1))),
        Damage("whitespace", "layout", 0.5, "s", "h", ((4, 5), (6, 6), (0, 99))),
        Damage("wrong_language", "language", 0.5, "s", "h", ((0, 8),)),
    ]
    text = marked("abcdefgh", damage)
    assert text.plain == "⟦a⟧bcd⟦e⟧f⟦…⟧gh"
    assert len({str(each.style) for each in text.spans}) == 2


def test_hostile_texts_do_not_steer_the_terminal() -> None:
    """Escape sequences and turning marks in a passage are shown as what cannot be shown."""
    assert marked("a\x1b[2Jb\u202ec", []).plain == "a\ufffd[2Jb\ufffdc"


def test_what_was_done_is_said_in_full() -> None:
    """Operator, kind, severity, places, fields and particulars."""
    damage = Damage("stale_version", "stale", 0.25, "s", "h", ((1, 2), (3, 4)), ("date",), {"was": "5", "now": "4"})
    assert done(damage) == "stale_version (stale, 0.25), 2 places, fields date, was '5', now '4'"


def test_the_description_fits_a_terminal(folder: Path) -> None:
    """Target, injected and achieved in one table, verdict and warnings, in 80 columns."""
    out = Console(width=80, file=io.StringIO(), highlight=False)
    out.print(*description(describe(folder, write=False)), sep="\n")
    told = out.file.getvalue()  # type: ignore[attr-defined]
    for part in ("target", "injected", "achieved", "truncation", "20.0% (10.0…30.0)", "few-shot", "longest"):
        assert part in told
    assert max(map(len, told.splitlines())) <= 80


# -- validate


def test_a_good_set_passes(folder: Path) -> None:
    """Records and rows of every format are counted; nothing is wrong."""
    code, told = run("validate", folder)
    assert (code, told) == (0, "12 records; rows: prompt-completion 12, openai 12; nothing wrong.\n")
    assert json.loads(run("validate", folder, "--json")[1])["ok"] is True


@pytest.mark.parametrize("format_", FORMATS)
def test_a_file_is_known_by_its_rows(tmp_path: Path, format_: str) -> None:
    """Each format's file passes by itself, wherever it lies."""
    folder = write(tmp_path / "set", [record(4 * n) for n in range(10)], (format_,))
    place = (folder / format_ / "train-00000.jsonl").rename(tmp_path / "rows.jsonl")
    assert dict(validate(place).rows) == {format_: 10}
    assert validate(place).ok
    assert validate(folder / "records" / "part-00000.jsonl").records == 10


def test_every_problem_has_its_place(folder: Path) -> None:
    """A changed passage, a row of another schema, half a line: each with file and line, and exit code 1."""
    records, rows = folder / "records" / "part-00000.jsonl", folder / "openai" / "train-00000.jsonl"
    records.write_text(records.read_text().replace("was built by Inventor Nr2", "was built by nobody"))
    rows.write_text(rows.read_text().replace('"messages"', '"message"', 1) + '{"messages"')
    code, told = run("validate", folder)
    told = told.replace(str(folder), "")
    assert code == 1
    assert "/records/part-00000.jsonl, line 3: record 'r2': quotes what is not there: quotes[0]" in told
    assert "/openai/train-00000.jsonl, line 1: messages: is missing" in told
    assert "/openai/train-00000.jsonl, line 7: not JSON" in told


def test_rows_and_records_must_be_the_same(folder: Path) -> None:
    """Missing files, missing rows, other rows, and rows without records are all told apart."""
    (folder / "openai" / "dev-00000.jsonl").unlink()
    train = folder / "prompt-completion" / "train-00000.jsonl"
    first, second, *others = train.read_text().splitlines(keepends=True)
    train.write_text("".join([second, first, *others]))
    test = folder / "prompt-completion" / "test-00000.jsonl"
    test.write_text(test.read_text().splitlines(keepends=True)[0])
    (folder / "openai" / "train-00007.jsonl").write_text("")
    problems = [(Path(each.place.split(",")[0]).name, each.what) for each in validate(folder).problems]
    assert ("dev-00000.jsonl", "is missing: 2 records belong there") in problems
    assert ("train-00000.jsonl", "is row 'r1', where record 'r0' belongs") in problems
    assert ("test-00000.jsonl", "1 rows for 2 records") in problems
    assert ("train-00007.jsonl", "belongs to no file of records") in problems


def test_a_row_must_be_the_one_that_its_record_gives(folder: Path) -> None:
    """With the wording of its export: a changed answer or prompt is named; without export.json nobody can tell."""
    for name in ("prompt-completion", "openai"):
        train = folder / name / "train-00000.jsonl"
        train.write_text(train.read_text().replace("Inventor Nr4", "Inventor Nr5"))
    problems = [each.what for each in validate(folder).problems]
    assert problems == [
        "is not what record 'r4' gives: completion, prompt",
        "is not what record 'r4' gives: messages",
    ]
    (folder / "export.json").unlink()
    assert validate(folder).ok


def test_long_rows_are_problems_when_a_length_is_given(folder: Path) -> None:
    """Without a length any row is fine; with one, those that are longer are counted and the first named."""
    found = validate(folder, "prompt-completion", max_length=20)
    assert found.wrong == 1
    assert "12 rows are longer than 20 tokens" in found.problems[0].what
    assert validate(folder, max_length=5000).ok


def test_many_problems_are_counted_and_some_named(tmp_path: Path) -> None:
    """A broken set does not fill the screen."""
    made = [replace(record(4 * n), answer="Not in the sources.") for n in range(150)]
    found = validate(write(tmp_path / "set", made))
    assert (found.wrong, len(found.problems)) == (150, NAMED)
    assert f"… and {150 - NAMED} more" in run("validate", tmp_path / "set")[1]


def test_what_cannot_be_checked_is_refused(folder: Path, tmp_path: Path) -> None:
    """No such place, no such format, none of its rows, and a file without lines."""
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    for place, format_, told in (
        (tmp_path / "nowhere", None, "there is no"),
        (folder, "yaml", "no format 'yaml'"),
        (folder, "alpaca", "no rows of alpaca"),
        (empty, None, "has no lines"),
        (tmp_path, None, "no finished export"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            validate(place, format_)
