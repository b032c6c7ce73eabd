"""`hybridmem noise …`: profiles of a store and of traces, shown and written; in process."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import typer
from fakes import WordsEmbedding
from llama_index.core.base.response.schema import Response
from llama_index.core.schema import NodeWithScore, TextNode
from trace_zoo import trace

from llama_index_hybridmem import HybridMemoryIndex
from llama_index_hybridmem.cli import noise
from llama_index_hybridmem.costs.exporting import Finished
from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.noise.kinds import KINDS
from llama_index_hybridmem.noise.profiles import load
from llama_index_hybridmem.noise.traces import RetrievalTraces

FENCE = "Run it:\n\n```python\nprint(1)"


def run(*arguments: object) -> str:
    """Runs a subcommand in this process; its standard output with single spaces."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        assert not typer.main.get_command(noise.app)([str(each) for each in arguments], standalone_mode=False)
    return " ".join(out.getvalue().split())


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of four chunks, one with half a code block, which the command line opens with an encoder of words."""
    encoder, folder = WordsEmbedding(), tmp_path / "store"
    texts = [FENCE, "All is said here.", "Nothing is missing there.", "Every sentence has its end."]
    with HybridMemoryIndex.from_documents([], persist_dir=folder, embed_model=encoder) as made:
        made.insert_nodes([TextNode(id_=f"n{number}", text=text) for number, text in enumerate(texts)])
    monkeypatch.setattr(
        "llama_index_hybridmem.cli.store.open_index", lambda place: HybridMemoryIndex.open(place, embed_model=encoder)
    )
    return folder


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """Two queries, one of which got half a code block."""
    path = tmp_path / "retrievals.jsonl"
    exporter = RetrievalTraces(path)
    for number, text in enumerate((FENCE, "All is said here.")):
        found = [NodeWithScore(node=TextNode(text=text), score=1.0)]
        exporter.export(Finished(trace(f"t{number}"), "How is it run?", Response("so", found), "so"))
    return path


@pytest.fixture(autouse=True)
def uncorrected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares are given as found, whatever the detectors' error rates have been measured to be."""
    monkeypatch.setattr("llama_index_hybridmem.noise.profiles.error_rates", dict)


def test_a_store_is_measured_and_the_profile_written(store: Path, tmp_path: Path) -> None:
    """The share with its interval and how it came about, what could not be measured, and a file to show again."""
    out = run("profile", store, "-o", tmp_path / "noise.json")
    assert "4 passages looked at" in out
    assert "markdown 25.0 4.6 to 69.9 25.0 " in out
    assert "fence_unclosed" in out
    assert "not measured: " in out
    profile = load(tmp_path / "noise.json")
    assert profile.kinds["markdown"].seen == 0.25
    assert run("show", tmp_path / "noise.json") == out
    assert json.loads(run("show", tmp_path / "noise.json", "--json")) == profile.to_json()


def test_a_sample_of_a_store(store: Path) -> None:
    """So many chunks, and what takes two of them is not measured."""
    found = json.loads(run("profile", store, "--sample", 2, "--json"))
    assert found["passages"] == 2
    assert "duplicate" not in found["kinds"]
    assert found["source"].startswith("2 of 4 chunks of an index")


def test_traces_are_measured(traces: Path) -> None:
    """What queries got, and how many passages each."""
    found = json.loads(run("profile", traces, "--json"))
    assert (found["questions"], found["top_k"]) == (2, {"1": 2})
    assert found["kinds"]["markdown"]["seen"] == 0.5
    out = run("profile", traces)
    assert "2 passages of 2 queries looked at" in out


def test_what_cannot_be_measured_is_refused(traces: Path, tmp_path: Path) -> None:
    """No store, no file, a sample of traces, and an output that would overwrite what is read."""
    for arguments, said in (
        ([tmp_path], "no store in"),
        ([tmp_path / "none.jsonl"], "no such file"),
        ([traces, "--sample", 5], "--sample is for stores"),
        ([traces, "-o", traces], "would overwrite"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            run("profile", *arguments)


def test_all_kinds_are_listed() -> None:
    """Each with the operators that make it and the detectors that find it."""
    rows = {row["kind"]: row for row in json.loads(run("kinds", "--json"))}
    assert tuple(rows) == KINDS
    named = {each["name"]: each["about"] for each in rows["truncation"]["operators"]}
    assert named["truncate_tail"]
    assert rows["truncation"]["detectors"]
    assert set(rows["truncation"]) == {"kind", "of", "operators", "detectors", "errors"}
    out = run("kinds")
    assert f"truncate_tail {' '.join(named['truncate_tail'].split())[:30]}" in out
