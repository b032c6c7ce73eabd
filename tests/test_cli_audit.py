"""`hybridmem audit …`: what it says of a log, its exit codes, an answer asked again; in process."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import typer
from fake_llm import ScriptedLLM
from fakes import WordsEmbedding
from llama_index.core import Document
from llama_index.core.base.response.schema import Response

from llama_index_hybridmem import HybridMemoryIndex
from llama_index_hybridmem.cli import audit
from llama_index_hybridmem.costs.audit.log import AuditLog
from llama_index_hybridmem.costs.exporting import Finished
from llama_index_hybridmem.costs.handler import CostLatencyHandler
from llama_index_hybridmem.costs.trace import QueryTrace
from llama_index_hybridmem.errors import ConfigurationError

QUESTION = "Who invented DRAM?"
KEY = "the key that seals the log"


def run(*arguments: object) -> tuple[int, str]:
    """Runs a subcommand in this process; its exit code, and its standard output with single spaces."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        code = typer.main.get_command(audit.app)([str(each) for each in arguments], standalone_mode=False)
    return code or 0, " ".join(out.getvalue().split())


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    """Three answers, to bob and eve, a day apart."""
    days = iter((0.0, 86_400.0, 172_800.0))
    log = AuditLog(tmp_path / "audit.jsonl", clock=lambda: next(days, 200_000.0))
    for number, user in enumerate(("bob", "eve", "bob")):
        trace = QueryTrace(f"t{number}", "query", "Engine.query", 1.0, 1.0, user=user)
        log.export(Finished(trace, QUESTION, Response("x"), "x"))
    return log


def test_a_whole_log(log: AuditLog) -> None:
    """How many answers, from when to when, and the head in one piece, with code 0."""
    code, out = run("verify", log.path)
    assert code == 0
    assert "Chain holds Answers 3, in 3 lines" in out
    assert "1970-01-01 00:00:00 UTC, 1970-01-03 00:00:00 UTC" in out
    assert f"Head {log.head()}" in out
    assert "--head" in out
    code, out = run("verify", log.path, "--head", log.head(), "--json")
    assert (code, json.loads(out)["ok"], json.loads(out)["anchored"]) == (0, True, True)


def test_a_broken_log(log: AuditLog) -> None:
    """Code 1, and the first broken line, on the screen and as JSON; a cut end only with a head."""
    head, content = log.head(), log.path.read_bytes()
    log.path.write_bytes(content.replace(b'"t1"', b'"t9"'))
    code, out = run("verify", log.path)
    assert code == 1
    assert "broken at line 2, changed" in out
    log.path.write_bytes(b"".join(content.splitlines(keepends=True)[:2]))
    assert run("verify", log.path)[0] == 0
    code, out = run("verify", log.path, "--head", head, "--json")
    assert code == 1
    assert json.loads(out)["fault"]["problem"] == "truncated"


def test_a_sealed_log_wants_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--key-env names the variable that holds it."""
    monkeypatch.setenv("AUDIT_KEY", KEY)
    path = tmp_path / "sealed.jsonl"
    AuditLog(path, key="AUDIT_KEY").export(Finished(QueryTrace("t", "query", "q", 1.0, 1.0), "q", Response("x"), "x"))
    code, out = run("verify", path)
    assert code == 1
    assert "none is given" in out
    assert run("verify", path, "--key-env", "AUDIT_KEY")[0] == 0


def test_pruned_and_forgotten(log: AuditLog) -> None:
    """Both say how many, and the log holds afterwards."""
    head = log.head()
    assert run("forget", log.path, "--user", "bob") == (0, "2 records have no personal part any more")
    assert json.loads(run("forget", log.path, "--user", "bob", "--json")[1]) == {"erased": 0}
    assert run("prune", log.path, "--days", 1)[1] == "3 records removed"
    out = run("verify", log.path, "--head", head)[1]
    assert "Chain holds" in out
    assert "Pruned 3" in out
    assert "Given head found" in out


def test_what_is_not_there(log: AuditLog, tmp_path: Path) -> None:
    """No such file, no such answer, an id that fits several, and a log without texts are told before a store opens."""
    with pytest.raises(ConfigurationError, match="no audit log"):
        run("verify", tmp_path / "none.jsonl")
    for id_, reason in (("x", "no answers"), ("t", "3 answers"), ("t0", "texts=True")):
        with pytest.raises(ConfigurationError, match=reason):
            run("replay", log.path, id_, "--store", tmp_path / "none")


def test_a_file_of_something_else_is_no_log(log: AuditLog, tmp_path: Path) -> None:
    """A file of traces is told to be none; a log whose first line was changed, a torn one or an empty one is a log."""
    traces = tmp_path / "traces.jsonl"
    traces.write_text(json.dumps(QueryTrace("t", "query", "q", 1.0, 1.0).to_json()) + "\n")
    for command in (["verify"], ["forget", "--user", "bob"], ["prune", "--days", "1"]):
        with pytest.raises(ConfigurationError, match=r"traces\.jsonl is no audit log"):
            run(command[0], traces, *command[1:])
    assert run("verify", traces, "--head", log.head())[0] == 1
    lines = log.path.read_bytes().splitlines(keepends=True)
    for content, code in ((b"{}\n" + lines[1], 1), (lines[0][:40], 1), (b"", 0)):
        log.path.write_bytes(content)
        assert run("verify", log.path)[0] == code


def test_errors_name_options(log: AuditLog) -> None:
    """What is missing is named as the command line spells it."""
    with pytest.raises(ConfigurationError, match="--user NAME, --tenant NAME"):
        run("forget", log.path)
    for days in ("-3", "0", "nan"):
        with pytest.raises(ConfigurationError, match=f"^--days: a number above 0 is expected, not {days}"):
            run("prune", log.path, f"--days={days}")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HybridMemoryIndex]:
    """A store of two documents that the command line opens with an encoder of words."""
    documents = [
        Document(text="Robert Dennard invented DRAM at IBM.", id_="d1"),
        Document(text="NVM keeps its state without power.", id_="d2"),
    ]
    encoder, folder = WordsEmbedding(), tmp_path / "store"

    def opened(place: Path, *, warm: bool) -> HybridMemoryIndex:
        return HybridMemoryIndex.open(place, embed_model=encoder)

    monkeypatch.setattr("llama_index_hybridmem.cli.store.open_index", opened)
    with HybridMemoryIndex.from_documents(documents, persist_dir=folder, embed_model=encoder) as made:
        yield made


def asked(index: HybridMemoryIndex, log: AuditLog) -> dict[str, Any]:
    """The record of a question to an index."""
    handler = CostLatencyHandler(exporters=[log])
    with handler.attach():
        index.as_query_engine(ScriptedLLM(reply="Dennard [1]."), citations=True).query(QUESTION)
        handler.flush()
    return next(log.records())


def test_an_answer_is_asked_again(index: HybridMemoryIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the store as it is: all the same at first; after an edit, with another model, what differs is named."""
    store, log = tmp_path / "store", AuditLog(tmp_path / "audit.jsonl", texts=True)
    record = asked(index, log)
    index.close()
    monkeypatch.setattr("llama_index_hybridmem.cli.llms.resolve", lambda name: ScriptedLLM(reply="Dennard [1]."))
    command = ["replay", log.path, record["id"][:8], "--store", store, "--llm", "smollm2"]
    found = json.loads(run(*command, "--json")[1])
    assert (found["same"], found["question"], found["remarks"]) == (True, QUESTION, [])
    assert {each["ref_doc_id"] for each in found["sources"]} == {"d1", "d2"}

    with HybridMemoryIndex.open(store, embed_model=WordsEmbedding()) as again:
        again.refresh_ref_docs([Document(text="Robert Dennard invented DRAM in 1966.", id_="d1")])
    monkeypatch.setattr("llama_index_hybridmem.cli.llms.resolve", lambda name: ScriptedLLM(reply="He did."))
    out = run(*command)[1]
    assert "Question Who invented DRAM?" in out
    assert "answer Dennard [1]. He did. different" in out
    assert "changed: text, document" in out
    assert "prompt" in out


def test_texts_of_a_log_do_not_steer_the_terminal(
    index: HybridMemoryIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither question, answer nor ids of documents: they come from whoever asks, and from whoever writes documents."""
    steering = "\x1b\x07\u202e"
    log = AuditLog(tmp_path / "audit.jsonl", texts=True)
    index.insert(Document(text=f"{QUESTION} Nobody.", id_=f"d3{steering}"))
    handler = CostLatencyHandler(exporters=[log])
    with handler.attach():
        index.as_query_engine(ScriptedLLM(reply=f"He did{steering} so.")).query(f"{QUESTION}{steering}")
        handler.flush()
    index.close()
    monkeypatch.setattr("llama_index_hybridmem.cli.llms.resolve", lambda name: ScriptedLLM(reply=f"No{steering} one."))
    monkeypatch.setenv("COLUMNS", "200")
    id_ = next(log.records())["id"]
    out = run("replay", log.path, id_, "--store", tmp_path / "store", "--llm", "smollm2")[1]
    assert QUESTION in out
    assert "d3\ufffd" in out
    assert "No\ufffd" in out
    assert not set(out) & set("\x1b\x07\u202e")


def test_without_a_model_the_sources_are_compared(index: HybridMemoryIndex, tmp_path: Path) -> None:
    """Nothing that only a model could tell is called different."""
    log = AuditLog(tmp_path / "audit.jsonl", texts=True)
    record = asked(index, log)
    index.close()
    found = json.loads(run("replay", log.path, record["id"], "--store", tmp_path / "store", "--json")[1])
    assert found["same"]
    assert {each["name"]: each["same"] for each in found["fields"]} == {
        "route": True,
        "kind of answer": None,
        "model": None,
        "prompt": None,
        "answer": None,
    }
    assert "no language model was asked" in found["remarks"][0]
