"""`hybridmem dataset export`: from a store, from traces, by a model; what it reports, and what it refuses."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from fake_llm import ScriptedLLM
from test_cli import Result, run

from llama_index_hybridmem import extras, sample
from llama_index_hybridmem.noise.retrievals import Found, Retrieval
from llama_index_hybridmem.noise.scene import Passage

CHOSEN = ("robert-dennard", "hbm3", "ufs", "feram", "row-hammer", "nvme", "optane", "dram-refresh")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of some of the sample's documents."""
    folder = tmp_path_factory.mktemp("some")
    for name in CHOSEN:
        shutil.copy(sample.documents_folder() / f"{name}.md", folder)
    assert run("ingest", folder, "--store", folder / "store").code == 0
    return folder / "store"


@pytest.fixture(scope="module")
def made(store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """An export with the defaults, and what was said."""
    folder = tmp_path_factory.mktemp("made") / "set"
    return folder, run("dataset", "export", "--store", store, "--questions", "sample", "-o", folder)


def rows(folder: Path, pattern: str) -> list[dict[str, Any]]:
    """The lines of some files."""
    return [json.loads(text) for path in sorted(folder.glob(pattern)) for text in path.read_text("utf-8").splitlines()]


def test_one_command_writes_a_training_set(made: tuple[Path, Result]) -> None:
    """From the sample's questions; with target and achieved noise side by side, and what was left out."""
    folder, result = made
    assert result.code == 0, result.err
    assert "records (" in result.words
    assert "target injected achieved" in result.words
    assert "left out 6: it needs no retrieval" in result.words
    records = {row["id"]: row for row in rows(folder, "records/*.jsonl")}
    assert records["unanswerable-05"]["answerable"] is False
    assert any(row["answerable"] for row in records.values())
    assert len(rows(folder, "prompt-completion/*.jsonl")) == len(records)
    assert all((folder / name).is_file() for name in ("report.json", "report.html", "README.md", "profile.json"))


def test_the_same_again_does_nothing_and_something_else_is_refused(store: Path, made: tuple[Path, Result]) -> None:
    """By name of the option, before anything is written."""
    folder, _ = made
    before = {path: path.stat().st_mtime_ns for path in (folder / "records").iterdir()}
    again = run("dataset", "export", "--store", store, "--questions", "sample", "-o", folder, "--json")
    assert (again.code, again.json["export"]["made"]) == (0, 0)
    assert len(json.loads((folder / "collecting.json").read_text())["hash of the store's documents"]) == 16
    other = run("dataset", "export", "--store", store, "--questions", "sample", "-o", folder, "--layout", "xml")
    assert other.code == 2
    assert "wording, layout was" in other.err
    assert {path: path.stat().st_mtime_ns for path in (folder / "records").iterdir()} == before


def test_options_reach_the_rows(store: Path, tmp_path: Path) -> None:
    """Own questions, formats, layout, words of abstention, weights, no gold; also as Parquet; JSON of all of it."""
    from pyarrow.parquet import read_table

    lines = [json.loads(text) for text in sample.questions_path().read_text("utf-8").splitlines()[:6]]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, lines)))
    result = run(
        *("dataset", "export", "-s", store, "--questions", tmp_path / "q.jsonl", "-o", tmp_path / "set", "--json"),
        *("--format", "messages", "--format", "openai", "--layout", "xml", "--abstain", "No idea.", "--p-gold", "0"),
        *("--weigh", "ocr=0", "--weigh", "truncation=0.5", "--parquet"),
        *("--strength", "0", "--split", "1,0,0", "--top-k", "3", "--add-gold"),
    )
    assert result.code == 0, result.err
    assert result.json["export"]["splits"] == {"train": 6}
    assert result.json["description"]
    found = rows(tmp_path / "set", "messages/*.jsonl")
    assert {row["messages"][-1]["content"] for row in found} == {"No idea."}
    assert all("</" in row["messages"][-2]["content"] for row in found)
    assert len(rows(tmp_path / "set", "openai/train-*.jsonl")) == 6
    assert [path.name for path in (tmp_path / "set" / "messages").glob("*.parquet")] == ["train.parquet"]
    assert read_table(tmp_path / "set" / "messages" / "train.parquet").to_pylist() == found
    kinds = json.loads((tmp_path / "set" / "profile.json").read_text())["kinds"]
    assert [kinds[kind]["weight"] for kind in ("ocr", "truncation", "html")] == [0, 0.5, 1]


def test_traces_need_no_store(tmp_path: Path) -> None:
    """What an app answered with support becomes a record, by the noise measured in it."""
    text = "Toggle MRAM was invented by Leonid Savtchenko, who worked for Motorola in Texas at the time."
    found = Found(source="toggle.md", passage=Passage("t", text, {}, "toggle.md"))
    rows_ = (
        Retrieval(f"t{number}", 5.0, (found,), question=f"Who invented Toggle MRAM? ({number})", answer=answer)
        for number, answer in enumerate(["Leonid Savtchenko [1]", "Robert Dennard"])
    )
    (tmp_path / "traces.jsonl").write_text("".join(json.dumps(each.to_json()) + "\n" for each in rows_))
    asked = f"traces:{tmp_path / 'traces.jsonl'}"
    result = run("dataset", "export", "--questions", asked, "-o", tmp_path / "set", "--profile", "measured")
    assert result.code == 0, result.err
    assert "left out 1: no retrieved passage supports the model's answer" in result.words
    (record,) = rows(tmp_path / "set", "records/*.jsonl")
    assert (record["expected"], record["origin"]) == ("Leonid Savtchenko", "traces")


def test_a_model_writes_the_questions(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of as many passages as are wanted; its replies stay in the folder."""

    def reply(prompt: str) -> str:
        text = prompt.split("<passage>\n")[1].split("\n</passage>")[0]
        words = next(line for line in text.splitlines() if len(line.split()) > 8).split()
        asked = f"What goes with {words[0]} {words[1]}, and what comes of it?"
        return json.dumps({"question": asked, "answer": words[4], "quote": " ".join(words[:7])})

    monkeypatch.setattr("llama_index_hybridmem.cli.llms.resolve", lambda name: ScriptedLLM(reply=reply))
    result = run(
        *("dataset", "export", "-s", store, "-o", tmp_path / "set", "--questions", "generate", "--llm", "scripted"),
        *("--count", "5", "--json"),
    )
    assert result.code == 0, result.err
    assert {row["origin"] for row in rows(tmp_path / "set", "drafts/*.jsonl")} == {"generated"}
    assert (tmp_path / "set" / "generated.jsonl").is_file()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(["--top-k", "0"], "--top-k: a whole number", id="top-k"),
        pytest.param(["--format", "csv"], "--format: no 'csv'", id="format"),
        pytest.param(["--split", "0.5,0.5"], "--split: three shares", id="split"),
        pytest.param(["--split", "0.5,0.5,0.5"], "--split: the shares sum to 1", id="sum"),
        pytest.param(["--held-out-kind", "typos"], "--held-out-kind: no 'typos'", id="kind"),
        pytest.param(["--layout", "html"], "no 'html'", id="layout"),
        pytest.param(["--weigh", "ocr"], "--weigh: a kind and its weight", id="weigh"),
        pytest.param(["--store", "nowhere", "--questions", "generate"], "--llm NAME: who", id="llm-first"),
        pytest.param([], "--store DIR", id="store"),
        pytest.param(["--store", "nowhere"], "no store in nowhere", id="no-store"),
        pytest.param(["--store", "nowhere", "--questions", "none.jsonl"], "none.jsonl cannot be read", id="questions"),
        pytest.param(["--questions", "traces:none.jsonl"], "none.jsonl", id="traces"),
    ],
)
def test_a_bad_option_is_named_and_nothing_is_written(tmp_path: Path, arguments: list[str], told: str) -> None:
    """In one line, with exit code 2."""
    result = run("dataset", "export", "--questions", "sample", "-o", tmp_path / "set", *arguments)
    assert result.code == 2, result.err
    assert told in result.err
    assert not (tmp_path / "set").exists()


def test_questions_must_be_named(store: Path, tmp_path: Path) -> None:
    """Nobody's own store is asked the sample's questions by mistake."""
    result = run("dataset", "export", "-s", store, "-o", tmp_path / "set")
    assert (result.code, "--questions" in result.err) == (2, True)


def test_a_weight_is_of_a_kind_of_the_profile(store: Path, tmp_path: Path) -> None:
    """Others are refused by name."""
    result = run("dataset", "export", "-s", store, "-o", tmp_path / "set", "--questions", "sample", "--weigh", "rust=2")
    assert (result.code, "--weigh: the profile has no kind 'rust'" in result.err) == (2, True)


@pytest.mark.parametrize("option", ["--ray", "--parquet"])
def test_a_missing_library_is_said_before_anything_is_done(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """With the line that installs it."""
    missing = ("ray", "datasets")
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name in missing else find_spec(name))
    result = run("dataset", "export", "-s", store, "-o", tmp_path / "set", "--questions", "sample", option)
    assert result.code == 2
    assert f"[{'ray' if option == '--ray' else 'train'}]" in result.err
    assert not (tmp_path / "set").exists()


def test_a_set_of_nothing_is_described_all_the_same(tmp_path: Path) -> None:
    """As from Python: traces of which none could be used leave a report that says why."""
    (tmp_path / "traces.jsonl").write_text(json.dumps(Retrieval("t", 5.0, ()).to_json()) + "\n")
    result = run(
        "dataset", "export", "--questions", f"traces:{tmp_path / 'traces.jsonl'}", "-o", tmp_path / "set", "--json"
    )
    assert result.code == 0, result.err
    assert (result.json["export"]["splits"], result.json["description"]["left_out"]) == (
        {},
        {"its trace has no texts": 1},
    )
    assert (tmp_path / "set" / "report.html").is_file()


def test_generating_needs_a_model(store: Path, tmp_path: Path) -> None:
    """It is asked for by its option."""
    result = run("dataset", "export", "-s", store, "-o", tmp_path / "set", "--questions", "generate")
    assert (result.code, "--llm NAME" in result.err) == (2, True)
