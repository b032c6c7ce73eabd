"""Exports that somebody has cut, edited or mixed up, and files of questions and traces that are not what they seem."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from llama_index_hybridmem.errors import ConfigurationError, IngestError, StoreDamagedError
from llama_index_hybridmem.export.asking import read_asked
from llama_index_hybridmem.export.collecting import DAMAGED, collect_traces
from llama_index_hybridmem.export.describing import UNFINISHED, describe
from llama_index_hybridmem.export.exporter import export, read_options
from llama_index_hybridmem.export.lengths import Lengths
from llama_index_hybridmem.export.options import ExportOptions
from llama_index_hybridmem.export.parts import finish, put_part
from llama_index_hybridmem.export.record import Draft
from llama_index_hybridmem.export.shards import read_rows
from llama_index_hybridmem.export.validating import validate
from llama_index_hybridmem.noise.profile import Profile
from llama_index_hybridmem.noise.retrievals import Found, Retrieval
from llama_index_hybridmem.noise.scene import Passage, Scene

OPTIONS = ExportOptions(shard_rows=2)
CLEAN = Profile({})


def draft(number: int) -> Draft:
    """A question that its first passage answers."""
    passages = (
        Passage(f"p{number}", f"The loom of mill {number} was built in 19{number:02}.", {}, f"d{number}", 0.5),
        Passage(f"o{number}", "Canals carried coal.", {}, f"o{number}", 0.4),
    )
    scene = Scene(f"When was the loom of mill {number} built?", passages, gold=frozenset({f"p{number}"}))
    return Draft(f"q{number}", Scene(scene.question, passages, gold=scene.gold, answer=f"19{number:02}"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of three shards."""
    folder = tmp_path_factory.mktemp("made")
    export(map(draft, range(6)), folder, OPTIONS, CLEAN)
    return folder


@pytest.fixture
def set_(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "set"))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the first record of a file."""
    first, *others = path.read_text("utf-8").splitlines(keepends=True)
    row = json.loads(first)
    change(row)
    path.write_text(json.dumps(row) + "\n" + "".join(others), "utf-8")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("question", None),
        ("answer", 5),
        ("split", ["train"]),
        ("domain", ["x"]),
        ("origin", 5),
        ("asked", math.nan),
        ("answerable", "yes"),
        ("id", 5),
        ("versions", 5),
        ("quotes", [{"passage": 5, "text": 5}]),
        ("clean", [{"id": "p0", "text": 5}]),
        ("clean", [{"id": "p0", "text": "x", "metadata": [1]}]),
        ("removed", [{"id": "p0", "text": "x", "score": "high"}]),
    ],
)
def test_a_record_edited_by_hand_is_a_problem_with_a_place(set_: Path, name: str, value: object) -> None:
    """Whoever validates is told, and whoever describes, too; nobody gets a traceback."""
    path = set_ / "records" / "part-00001.jsonl"
    edit(path, lambda row: row.update({name: value}))
    assert any(each.place == f"{path}, line 1" and "form" in each.what for each in validate(set_).problems)
    with pytest.raises(ConfigurationError, match=r"part-00001.jsonl, line 1: no record: a field is of the wrong form"):
        describe(set_, write=False)


def test_an_export_that_was_cut_off_says_so(set_: Path) -> None:
    """What is missing is counted by the report, and named by the validation, until the same is run again."""
    (set_ / "records" / "part-00001.jsonl").unlink()
    assert describe(set_, write=False).left_out[UNFINISHED] == 2
    assert any(
        each.place.endswith("part-00001.jsonl") and "2 drafts wait for it" in each.what
        for each in validate(set_).problems
    )
    export(None, set_, OPTIONS, CLEAN)
    assert UNFINISHED not in describe(set_, write=False).left_out
    assert validate(set_).ok


def test_a_record_that_is_there_twice_is_named(set_: Path) -> None:
    """In another shard, too: with both places."""
    records = set_ / "records"
    edit(records / "part-00002.jsonl", lambda row: row.update(id="q0"))
    told = [each.what for each in validate(set_).problems if each.place == f"{records / 'part-00002.jsonl'}, line 1"]
    assert any(f"the id 'q0' is that of {records / 'part-00000.jsonl'}, line 1, too" in each for each in told)


@pytest.mark.parametrize("name", ["pool.jsonl", "drafts.json", "mix.json"])
def test_what_decides_the_bytes_cannot_be_changed_between_two_runs(set_: Path, name: str) -> None:
    """Half of the shards would be made otherwise than the others, and nobody would know."""
    (set_ / "records" / "part-00001.jsonl").unlink()
    path = set_ / name
    content = path.read_bytes()
    path.write_bytes(content.replace(b"coal", b"iron") if name == "pool.jsonl" else content.replace(b"{", b"{ ", 1))
    if name == "mix.json":
        row = json.loads(content)
        path.write_text(json.dumps({**row, "rates": {"ocr": 1.0}}), "utf-8")
    with pytest.raises(StoreDamagedError, match=f"{name} is not the file that was written"):
        export(None, set_, OPTIONS, CLEAN)


def test_a_damaged_export_json_is_named(set_: Path) -> None:
    """By whatever needs it."""
    (set_ / "export.json").write_text('{"options": 5}', "utf-8")
    for read in (read_options, describe):
        with pytest.raises(StoreDamagedError, match=r"export.json: not what an export writes: the object options"):
            read(set_)


def test_json_without_end_is_no_json(tmp_path: Path) -> None:
    """A line of nothing but brackets is told with its place, like any other that cannot be read."""
    path = tmp_path / "part-00000.jsonl"
    path.write_text("[" * 100_000 + "\n", "utf-8")
    with pytest.raises(StoreDamagedError, match=r"part-00000.jsonl, line 1: not JSON"):
        list(read_rows(path))
    assert "not JSON" in validate(path).problems[0].what


def test_questions_that_became_no_draft_are_in_the_report(tmp_path: Path) -> None:
    """Left out when they were collected or later: nothing is lost."""
    put_part(tmp_path, 0, [draft(1), draft(2)], {"nobody knows": ["a", "b", "c"]})
    finish(tmp_path, 1, 5, lost={"torn": 4})
    (tmp_path / "collecting.json").write_text("{}", "utf-8")
    export(None, tmp_path, OPTIONS, CLEAN)
    assert describe(tmp_path).left_out == {"nobody knows": 3, "torn": 4}
    assert "nobody knows 3" in (tmp_path / "README.md").read_text("utf-8")


def test_a_torn_line_of_traces_is_left_out_and_counted(tmp_path: Path) -> None:
    """A killed process leaves one; the answers of the others are collected."""
    passage = Passage("n", "The tower was built in 1889.", {}, "d")
    row = Retrieval("r", 1.0, (Found(passage=passage),), question="When was the tower built?", answer="1889").to_json()
    lines = [json.dumps({**row, "id": f"r{number}"}) for number in range(2)]
    file = tmp_path / "retrievals.jsonl"
    file.write_text("\n".join([lines[0], lines[1][:80], lines[1], ""]), "utf-8")
    found = collect_traces(file, tmp_path / "out")
    assert (found.answered, found.left_out[DAMAGED]) == (2, 1)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("q.json", "[\n", "a question takes one line, with neither a list nor lines around it"),
        ("q.jsonl", "{\n", "a question takes one line"),
        ("q.csv", "question,answer,question\na,b,c\n", "two columns are called 'question'"),
        ("q.csv", "question;answer\na;b\n", "no column question; there are question;answer .commas must part them"),
    ],
)
def test_questions_of_another_form_say_what_is_expected(tmp_path: Path, name: str, content: str, said: str) -> None:
    """A JSON list, an object over several lines, other separators, one column twice."""
    path = tmp_path / name
    path.write_text(content, "utf-8")
    with pytest.raises(IngestError, match=f"{name}, line 1: .*{said}"):
        read_asked(path)


def test_blanks_around_a_column_lose_nothing(tmp_path: Path) -> None:
    """An answer in a column that is called " answer" is an answer; a blank id is none."""
    path = tmp_path / "q.csv"
    path.write_text("question, answer , id\nWho?,Ada,  \n", "utf-8")
    (asked,) = read_asked(path)
    assert asked.answer == "Ada"
    assert asked.id.strip()


class Spaces:
    """A tokenizer that was loaded from a folder."""

    name_or_path = "/home/ada/models/tiny"

    def encode(self, text: str) -> list[str]:
        """Words."""
        return text.split()


def test_reports_have_no_path_of_this_machine() -> None:
    """A card is shared; where its maker keeps models is nobody's business."""
    lengths = Lengths("completion", Spaces())
    lengths.add({"prompt": "a b", "completion": "c"})
    assert lengths.result().tokenizer == "tiny"


SCRIPT = """
import os, sys, threading
from pathlib import Path
from llama_index_hybridmem.export.parallel import run

def make(folder, number):
    (Path(folder) / str(number)).write_text(str(os.getpid()))
    print("begun", flush=True)
    threading.Event().wait()

if __name__ == "__main__":
    list(run(make, sys.argv[1], [0, 1], 2))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills by a signal")
def test_workers_end_with_a_killed_export(tmp_path: Path) -> None:
    """Nobody gives them more to do: they would wait for ever, each with its memory."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, "utf-8")
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert [process.stdout.readline(), process.stdout.readline()] == [b"begun\n"] * 2
    process.kill()
    try:
        process.communicate(timeout=20)  # what they write ends when the last of them has
    finally:
        for name in ("0", "1"):
            with suppress(ProcessLookupError):
                os.kill(int((tmp_path / name).read_text("utf-8")), signal.SIGKILL)


def test_a_cards_name_is_the_folders(tmp_path: Path) -> None:
    """Whatever it is: it opens no field and no tag, and YAML reads it back as it is."""
    yaml = pytest.importorskip("yaml")
    folder = tmp_path / '"\nlicense: mine <b>\U0001f600 [red]'
    export(map(draft, range(2)), folder, OPTIONS, CLEAN)
    describe(folder)
    front = yaml.safe_load((folder / "README.md").read_text("utf-8").split("---\n")[1])
    assert (front["pretty_name"], front["license"]) == (folder.name, "unknown")
    assert "<b>" not in (folder / "report.html").read_text("utf-8")
