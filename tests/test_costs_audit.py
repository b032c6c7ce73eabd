"""The audit log: what a record says, that no change of the chain goes unseen, retention, erasure, kills, neighbours."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from fake_llm import ScriptedLLM
from fakes import WordsEmbedding
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core import Document
from llama_index.core.base.response.schema import Response
from llama_index.core.llms import ChatMessage
from llama_index.core.schema import NodeRelationship, NodeWithScore, RelatedNodeInfo, TextNode

from llama_index_hybridmem import HybridMemoryIndex
from llama_index_hybridmem.costs.audit.chain import START, Head, canonical, parse, seal
from llama_index_hybridmem.costs.audit.log import AuditLog
from llama_index_hybridmem.costs.audit.record import answer_fields, is_answer, prompt_text
from llama_index_hybridmem.costs.audit.redaction import redact_personal
from llama_index_hybridmem.costs.audit.replay import compare, question_of, replay
from llama_index_hybridmem.costs.audit.verify import verify
from llama_index_hybridmem.costs.exporting import Finished
from llama_index_hybridmem.costs.handler import CostLatencyHandler
from llama_index_hybridmem.costs.tokens.usage import Usage
from llama_index_hybridmem.costs.trace import ModelCall, QueryTrace
from llama_index_hybridmem.errors import ConfigurationError, StoreDamagedError, StoreError

DAY = 86_400.0
KEY, OTHER_KEY = b"the key that seals the log", b"another key, which does not"
QUESTION, ANSWER = "Who invented DRAM? Tell bob@acme.example", "Robert Dennard did [1]."
CITATIONS = {
    "valid": True,
    "citations": [{"number": 1, "exists": True, "supported": True, "share": 1.0, "sentence": "Robert Dennard did."}],
    "uncited": [],
}


def node(text: str = "Robert Dennard invented DRAM.", id_: str = "n1", document: str = "d1", version: int = 3) -> Any:
    """A node of a document of some version, with a score."""
    parent = RelatedNodeInfo(node_id=document, hash=f"hash of version {version}")
    made = TextNode(id_=id_, text=text, metadata={"version": version}, relationships={NodeRelationship.SOURCE: parent})
    return NodeWithScore(node=made, score=0.5)


def model_call(model: str = "small", adapter: str | None = "brand@1a2b") -> ModelCall:
    """A call of a language model."""
    return ModelCall("llm", model, "local", adapter, False, "ok", 0.0, 0.1, None, 0.1, Usage(20, 5))


def finished(
    id_: str = "t1",
    *,
    user: str | None = "bob",
    tenant: str | None = "acme",
    text: str | None = ANSWER,
    nodes: Iterable[Any] = (),
    prompts: tuple[Any, ...] = ("Answer: who?",),
    **trace: Any,
) -> Finished:
    """A finished query as the handler hands it on."""
    fields = {"kind": "query", "name": "Engine.query", "started": 10.0, "wall_s": 1.0, "route": "hybrid"} | trace
    made = QueryTrace(id=id_, user=user, tenant=tenant, calls=(model_call(),), **fields)
    response = Response(
        text or "", source_nodes=list(nodes) or [node()], metadata={"hybridmem": {"citations": CITATIONS}}
    )
    return Finished(made, QUESTION, response, text, prompts)


def chained(count: int, key: bytes | None = None) -> list[bytes]:
    """Lines of a chain, all kinds of texts among them."""
    lines, head = [], START
    for number in range(count):
        fields = {"kind": "answer", "at": float(number), "id": f"t{number}", "personal": {"user": "é\u2028\x1f\\" * 2}}
        record = seal(fields, head, key)
        head = Head(record["seq"], record["hash"])
        lines.append(canonical(record) + b"\n")
    return lines


def log_of(path: Path, count: int = 3, **options: Any) -> AuditLog:
    """A log with answers to bob and eve by turns, a day apart."""
    days = iter(range(1000))
    log = AuditLog(path, **{"clock": lambda: next(days) * DAY, **options})
    for number in range(count):
        log.export(finished(f"t{number}", user=("bob", "eve")[number % 2]))
    return log


def lines_of(log: AuditLog) -> list[bytes]:
    """The file's lines, with their ends."""
    return log.path.read_bytes().splitlines(keepends=True)


def tampered(log: AuditLog, change: Callable[[list[bytes]], list[bytes]]) -> AuditLog:
    """Rewrites a log's lines behind its back."""
    log.path.write_bytes(b"".join(change(lines_of(log))))
    return log


# -- the chain --------------------------------------------------------------------------------------------------------

CHAIN = b"".join(chained(4))
SEALED = b"".join(chained(4, KEY))


@given(st.integers(0, len(CHAIN) - 1), st.integers(1, 255), st.booleans())
def test_a_changed_byte_is_found(place: int, difference: int, is_sealed: bool) -> None:
    """Whichever byte is changed to whatever, the line that it stands in is named."""
    content = bytearray(SEALED if is_sealed else CHAIN)
    content[place] ^= difference
    fault = verify(bytes(content).splitlines(keepends=True), KEY if is_sealed else None).fault
    assert fault is not None
    before = bytes(content[:place])
    assert fault.line - 1 <= before.count(b"\n") <= fault.line


@given(st.integers(0, len(CHAIN) - 1))
def test_a_removed_byte_is_found(place: int) -> None:
    """Whichever byte is missing, line ends and the last one included."""
    content = CHAIN[:place] + CHAIN[place + 1 :]
    assert not verify(content.splitlines(keepends=True)).ok


@given(st.permutations(range(5)), st.sets(st.integers(0, 4)), st.lists(st.integers(0, 4), max_size=2))
def test_lines_moved_removed_or_doubled_are_found(order: list[int], kept: set[int], doubled: list[int]) -> None:
    """Any arrangement of the lines but the right one, or a beginning of it, is found without a head, that with one."""
    lines = chained(5)
    head = Head(5, json.loads(lines[-1])["hash"])
    chosen = [place for place in order if place in kept] + doubled
    verdict = verify([lines[place] for place in chosen])
    assert verdict.ok == (chosen == list(range(len(chosen))))
    assert verify([lines[place] for place in chosen], head=head).ok == (chosen == list(range(5)))


@pytest.mark.parametrize(
    ("change", "problem", "line"),
    [
        (lambda lines: lines[:2] + lines[3:], "removed", 3),
        (lambda lines: lines[1:], "removed", 1),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "reordered", 2),
        (lambda lines: [*lines[:3], lines[1], *lines[3:]], "inserted", 4),
        (lambda lines: [*lines[:3], b"\n", *lines[3:]], "changed", 4),
        (lambda lines: [*lines[:2], lines[2].replace(b'"t2"', b'"t9"'), *lines[3:]], "changed", 3),
        (lambda lines: [*lines[:2], lines[2].replace(b'":"', b'": "', 1), *lines[3:]], "changed", 3),
        (lambda lines: [*lines[:4], lines[4][:-1]], "torn", 5),
        (lambda lines: [*lines[:2], b"[" * 100_000 + b"\n"], "changed", 3),
        (lambda lines: [*lines[:2], b'{"at":NaN}\n'], "changed", 3),
        (lambda lines: [*lines[:2], b"\xff\n"], "changed", 3),
    ],
)
def test_the_first_broken_place_is_named(change: Callable[[list[bytes]], list[bytes]], problem: str, line: int) -> None:
    """What was done, and to which line."""
    fault = verify(change(chained(5))).fault
    assert fault is not None
    assert (fault.problem, fault.line) == (problem, line)


def test_a_cut_end_shows_against_a_head_only() -> None:
    """Without a head kept elsewhere a shortened chain holds; with one, the missing line is named."""
    lines = chained(5)
    head = verify(lines).head
    assert verify(lines[:3]).ok
    fault = verify(lines[:3], head=head).fault
    assert fault is not None
    assert (fault.problem, fault.line) == ("truncated", 4)
    assert verify(lines, head=head).anchored is True
    assert verify(chained(7), head=head).anchored is True


def test_a_chain_written_anew_shows_against_a_head_only() -> None:
    """Whoever can write the file can seal another chain without a key; the head of the first one tells."""
    forged = [line.replace(b'"t2"', b'"t9"') for line in chained(5)]
    head, again = START, []
    for line in forged:
        fields = {name: value for name, value in (parse(line[:-1]) or {}).items() if name != "hash"}
        record = seal(fields, head, None)
        head = Head(record["seq"], record["hash"])
        again.append(canonical(record) + b"\n")
    assert verify(again).ok
    fault = verify(again, head=verify(chained(5)).head).fault
    assert fault is not None
    assert (fault.problem, fault.line) == ("rewritten", 5)
    assert not verify(again, KEY).ok


@pytest.mark.parametrize(
    ("sealed_with", "read_with", "said"),
    [(KEY, OTHER_KEY, "another key"), (KEY, None, "none is given"), (None, KEY, "without a key")],
)
def test_a_wrong_key_is_no_tampering(sealed_with: bytes | None, read_with: bytes | None, said: str) -> None:
    """A key that does not fit is told by its fingerprint; one line sealed otherwise is a changed line."""
    lines = chained(3, sealed_with)
    fault = verify(lines, read_with).fault
    assert fault is not None
    assert (fault.problem, fault.line) == ("key", 1)
    assert said in fault.message
    mixed = verify([chained(1, read_with)[0], *lines[1:]], sealed_with).fault
    assert mixed is not None
    assert (mixed.problem, mixed.line) == ("changed", 1)
    assert KEY not in b"".join(lines)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False), st.lists))
def test_what_is_written_reads_back(value: Any) -> None:
    """Any JSON value, halves of surrogate pairs included, gives a line that holds."""
    if value in (float("inf"), float("-inf")):
        value = None
    try:
        line = canonical(seal({"kind": "answer", "at": 1.0, "personal": {"value": value}}, START, None)) + b"\n"
    except ValueError:  # an infinity deeper down: the record is never written
        return
    assert verify([line]).ok


def test_a_head_reads_back() -> None:
    """A head is one word, to be kept in a mail or a ticket; anything else is refused."""
    head = Head(12, "ab" * 32)
    assert Head.read(f" {head}\n") == head
    for text in ("", "12", f"x:{'ab' * 32}", "12:abc", f"12:{'AB' * 32}"):
        with pytest.raises(ConfigurationError, match="SEQ:HASH"):
            Head.read(text)


# -- what a record says -----------------------------------------------------------------------------------------------


def test_a_record_names_what_the_answer_stands_on() -> None:
    """Sources with versions, models with adapters, the spans that cite, and hashes; no text unless asked for."""
    record = answer_fields(finished(degraded=("graph: late",)), at=5.0, salt="s")
    assert (record["id"], record["route"], record["degraded"]) == ("t1", "hybrid", ["graph: late"])
    (source,) = record["sources"]
    assert (source["node_id"], source["ref_doc_id"], source["score"]) == ("n1", "d1", 0.5)
    assert (source["document_hash"], source["version"]) == ("hash of version 3", {"version": "3"})
    assert source["text_sha256"] == sha256(b"Robert Dennard invented DRAM.").hexdigest()
    assert record["calls"][0]["adapter"] == "brand@1a2b"
    assert record["calls"][0]["usage"]["input"] == 20
    assert record["cited"] == {
        "valid": True,
        "spans": [{"number": 1, "node_id": "n1", "supported": True, "share": 1.0}],
        "uncited": 0,
    }
    assert record["personal"]["question_sha256"] == sha256(QUESTION.encode()).hexdigest()
    assert record["personal"]["prompt_sha256"] == [sha256(b"Answer: who?").hexdigest()]
    written = canonical(record).decode()
    assert "Dennard" not in written
    assert "invented" not in written


def test_texts_are_kept_on_demand_and_masked_first() -> None:
    """With texts, question, answer and cited sentences; the hash is that of the masked text, as it stands there."""
    record = answer_fields(finished(), at=5.0, salt="s", texts=True, redact=redact_personal)
    personal = record["personal"]
    assert personal["question"] == "Who invented DRAM? Tell [e-mail]"
    assert personal["question_sha256"] == sha256(personal["question"].encode()).hexdigest()
    assert (personal["answer"], personal["cited"]) == (ANSWER, ["Robert Dennard did."])
    assert record["redacted"] == "redact_personal"


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({}, True),
        ({"kind": "agent"}, True),
        ({"status": "abandoned"}, True),
        ({"text": None}, True),
        ({"text": None, "kind": "workflow"}, False),
        ({"kind": "workflow"}, True),
        ({"text": None, "status": "error"}, False),
        ({"status": "never_consumed"}, False),
        ({"kind": "retrieve"}, False),
        ({"kind": "llm"}, False),
    ],
)
def test_only_answers_are_recorded(change: dict[str, Any], counts: bool, tmp_path: Path) -> None:
    """Half an answer is one, an object is one; a failure, an unread stream and a retrieval are none."""
    log = AuditLog(tmp_path / "audit.jsonl")
    log.export(finished(**change))
    assert is_answer(finished(**change)) == counts == log.path.exists()


def test_an_error_is_told_by_its_type_only() -> None:
    """What an exception says may hold a prompt."""
    record = answer_fields(finished(status="error", error="ValueError: you asked: secret"), at=0.0, salt="s")
    assert record["error"] == "ValueError"


def test_a_missing_store_is_told_by_the_type_of_its_error_only() -> None:
    """The message may quote the question: it is kept with the texts, masked as they are, where it can be erased."""
    lost = finished(degraded=("graph: StoreUnavailableError: no node for bob@acme.example",))
    record = answer_fields(lost, at=0.0, salt="s")
    assert record["degraded"] == ["graph: StoreUnavailableError"]
    assert "no node" not in canonical(record).decode()
    record = answer_fields(lost, at=0.0, salt="s", texts=True, redact=redact_personal)
    assert record["degraded"] == ["graph: StoreUnavailableError"]
    assert record["personal"]["degraded"] == ["graph: StoreUnavailableError: no node for [e-mail]"]


def test_a_chat_prompt_has_one_canonical_text() -> None:
    """Role and blocks of each message; where one message ends matters."""
    one, two = ChatMessage("a\nuser: b", role="user"), [ChatMessage("a", role="user"), ChatMessage("b", role="user")]
    assert prompt_text([one]) == '[["user","a\\nuser: b"]]'
    assert prompt_text(two) == '[["user","a"],["user","b"]]'
    assert prompt_text([one], str.upper) == '[["user","A\\nUSER: B"]]'
    assert prompt_text(None) is None


def test_an_agents_sources_are_those_of_its_tools() -> None:
    """Where a response has none of its own, its tools' nodes count, each once; scores that are no numbers are none."""

    class Fields:
        def __init__(self, **fields: Any) -> None:
            self.__dict__.update(fields)

    output = Fields(raw_output=Response("", source_nodes=[node(), node(id_="n2")]))
    tool_calls = [Fields(tool_output=output), Fields(tool_output=output), Fields(tool_output=Fields(raw_output="text"))]
    asked = Finished(finished().trace, QUESTION, Fields(tool_calls=tool_calls), ANSWER)
    assert [source["node_id"] for source in answer_fields(asked, at=0.0, salt="")["sources"]] == ["n1", "n2"]
    output.raw_output.source_nodes[0].score = float("nan")
    assert answer_fields(asked, at=0.0, salt="")["sources"][0]["score"] is None


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("mail bob.x+y@mail.example.org.", "mail [e-mail]."),
        ("from 192.168.0.1:80, 2001:db8::1 at 12:30:45", "from [address]:80, [address] at 12:30:45"),
        ("4111 1111 1111 1111 12/27, 3782-822463-10005", "[card] 12/27, [card]"),
        ("no card: 4111 1111 1111 1112", "no card: 4111 1111 1111 1112"),
        ("+49 30 1234567, 030/1234567, (555) 123-4567", "[phone], [phone], [phone]"),
        ("01.23.45.67.89", "[phone]"),
        ("01.02.2026, 2026-05-06 12:30, 3,387,286, 0.000123", "01.02.2026, 2026-05-06 12:30, 3,387,286, 0.000123"),
        ("std::vector, a::b, 1.2.3, 999.1.1.1", "std::vector, a::b, 1.2.3, 999.1.1.1"),
    ],
)
def test_the_default_mask(text: str, masked: str) -> None:
    """What is plainly written as an address or number goes, dates and quantities stay; twice is like once."""
    assert redact_personal(text) == masked
    assert redact_personal(masked) == masked


@given(st.text(alphabet="0123456789 .:-/()+@ab\n", max_size=60))
def test_the_mask_leaves_nothing_to_mask(text: str) -> None:
    """A masked text has no e-mail address or payment card of 16 digits in a row left, whatever it was."""
    masked = redact_personal(f"{text} bob@acme.example {text}\n4111111111111111\n")
    assert "bob@" not in masked
    assert "4111111111111111" not in masked


# -- the file ---------------------------------------------------------------------------------------------------------


def test_every_answer_is_a_line_that_holds(tmp_path: Path) -> None:
    """Records follow each other over instances; the file is its owner's alone, and the key is not in it."""
    path = tmp_path / "new" / "audit.jsonl"
    log_of(path, 2, key=KEY)
    log = log_of(path, 1, key=KEY)
    verdict = log.verify()
    assert (verdict.ok, verdict.answers, verdict.head) == (True, 3, log.head())
    assert [record["seq"] for record in log.records()] == [1, 2, 3]
    assert not AuditLog(path).verify().ok
    assert KEY not in path.read_bytes()
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_key_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name stands for what the variable holds; none, or a short key, is refused without showing it."""
    monkeypatch.setenv("AUDIT_KEY", KEY.decode())
    log_of(tmp_path / "a.jsonl", 1, key="AUDIT_KEY")
    assert AuditLog(tmp_path / "a.jsonl", key=KEY).verify().ok
    monkeypatch.setenv("AUDIT_KEY", "tooshort")
    with pytest.raises(ConfigurationError, match="8 bytes") as caught:
        AuditLog(tmp_path / "b.jsonl", key="AUDIT_KEY")
    assert "tooshort" not in str(caught.value)
    monkeypatch.delenv("AUDIT_KEY")
    with pytest.raises(ConfigurationError, match="AUDIT_KEY"):
        AuditLog(tmp_path / "b.jsonl", key="AUDIT_KEY")
    with pytest.raises(ConfigurationError, match="keep_days"):
        AuditLog(tmp_path / "b.jsonl", keep_days=0)


def test_nothing_is_appended_to_a_broken_end(tmp_path: Path) -> None:
    """A last line that does not hold, or of another key, is no place to go on from."""
    log = tampered(log_of(tmp_path / "a.jsonl"), lambda lines: [*lines[:2], lines[2].replace(b'"t2"', b'"t9"')])
    with pytest.raises(StoreDamagedError, match="audit verify"):
        log.export(finished())
    sealed = log_of(tmp_path / "b.jsonl", key=KEY)
    with pytest.raises(ConfigurationError, match="another key"):
        AuditLog(sealed.path, key=OTHER_KEY).export(finished())
    assert (len(lines_of(log)), len(lines_of(sealed))) == (3, 3)


@pytest.mark.parametrize("torn", [b"{", b'{"at":1.0,"call":"query"', b"\x00" * 70_000])
def test_a_torn_line_is_cut_and_told(torn: bytes, tmp_path: Path) -> None:
    """What a kill left of a line goes when the next one comes, and a record of its own says so."""
    log = log_of(tmp_path / "audit.jsonl")
    with log.path.open("ab") as file:
        file.write(torn)
    fault = log.verify().fault
    assert fault is not None
    assert (fault.problem, fault.line) == ("torn", 4)
    log.export(finished("t9"))
    verdict = log.verify()
    assert (verdict.ok, verdict.answers, verdict.repaired, verdict.lines) == (True, 4, 1, 5)
    assert list(log.records())[3]["torn_bytes"] == len(torn)


def test_a_torn_first_line_is_cut(tmp_path: Path) -> None:
    """Killed while it wrote its very first record, a log begins anew."""
    (tmp_path / "audit.jsonl").write_bytes(b'{"at":')
    assert log_of(tmp_path / "audit.jsonl", 1).verify().repaired == 1


WRITER = """
import sys, time
from pathlib import Path
from llama_index_hybridmem.costs.audit.chain import canonical, without_personal
from llama_index_hybridmem.costs.audit.file import ChainFile, readable

path, name, count = sys.argv[1:]
file = ChainFile(Path(path), None, time.time)
for number in range(int(count)):
    with file.writing() as writer:
        writer.append({"kind": "answer", "at": 1.0, "id": f"{name}{number}", "text": "x" * 100_000})
        if number % 4 == 3:
            writer.replace(list(writer.lines()))
    print(number, flush=True)
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    """A process that appends records, and now and then puts a new file in the place of the old one."""
    command = [sys.executable, "-c", WRITER, str(path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_share_a_file(tmp_path: Path) -> None:
    """Each takes its turn: all records of both are there, in one chain, rewritten files or not."""
    path = tmp_path / "audit.jsonl"
    processes = [writer(path, name, 20) for name in "ab"]
    assert [process.communicate(timeout=60)[0].count("\n") for process in processes] == [20, 20]
    assert [process.returncode for process in processes] == [0, 0]
    log = AuditLog(path)
    verdict = log.verify()
    assert (verdict.ok, verdict.answers) == (True, 40)
    assert {record["id"] for record in log.records()} == {f"{name}{number}" for name in "ab" for number in range(20)}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("after", [1, 4])
def test_a_killed_writer_leaves_a_chain_that_holds(after: int, tmp_path: Path) -> None:
    """After kill -9 every acknowledged record is there, and the next writer goes on at once."""
    path = tmp_path / "audit.jsonl"
    process = writer(path, "a", 100_000)
    assert process.stdout is not None
    for _ in range(after):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    acknowledged = after + process.stdout.read().count("\n")
    process.stdout.close()
    process.wait()
    log = AuditLog(path)
    log.export(finished())
    verdict = log.verify()
    assert verdict.ok
    assert acknowledged + 1 <= verdict.answers <= acknowledged + 2


# -- retention and erasure --------------------------------------------------------------------------------------------


def test_old_records_go_and_the_chain_holds(tmp_path: Path) -> None:
    """One record stands for those that were removed, again and again; heads of before are no longer compared."""
    log = log_of(tmp_path / "audit.jsonl", 6)
    first, last = Head(1, next(log.records())["hash"]), log.head()
    keeping = AuditLog(log.path, keep_days=2)
    assert keeping.prune(now=4 * DAY) == 2
    verdict = keeping.verify(last)
    assert (verdict.ok, verdict.answers, verdict.pruned, verdict.anchored) == (True, 4, 2, True)
    assert keeping.verify(first).anchored is None
    assert keeping.prune(now=4 * DAY) == 0
    assert keeping.prune(now=100 * DAY) == 4
    (stand_in,) = keeping.records()
    assert (stand_in["kind"], stand_in["count"], stand_in["since"], stand_in["until"]) == ("pruned", 6, 0.0, 5 * DAY)
    assert keeping.verify(last).ok
    assert keeping.head() == last
    keeping.export(finished())
    assert [record.get("seq") for record in keeping.records()] == [6, 7]
    assert keeping.verify(last).anchored is True


def test_what_was_cut_beyond_the_pruned_is_found(tmp_path: Path) -> None:
    """The record after the pruned ones must follow them."""
    log = log_of(tmp_path / "audit.jsonl", 6, keep_days=2)
    log.prune(now=4 * DAY)
    fault = tampered(log, lambda lines: [lines[0], *lines[2:]]).verify().fault
    assert fault is not None
    assert (fault.problem, fault.line) == ("removed", 2)


def test_a_log_prunes_itself_once_a_day(tmp_path: Path) -> None:
    """With keep_days a record of each answer is written, and old ones go by themselves."""
    log = log_of(tmp_path / "audit.jsonl", 6, keep_days=2.5)
    assert [record["kind"] for record in log.records()] == ["pruned", "answer", "answer", "answer"]
    assert log.verify().ok
    with pytest.raises(ConfigurationError, match="keep_days"):
        AuditLog(log.path).prune()


def test_evidence_is_not_pruned(tmp_path: Path) -> None:
    """Where an old record was changed, nothing is removed."""
    log = tampered(log_of(tmp_path / "a.jsonl"), lambda lines: [lines[0].replace(b'"t0"', b'"t9"'), *lines[1:]])
    before = log.path.read_bytes()
    with pytest.raises(StoreDamagedError, match="line 1: its content"):
        AuditLog(log.path, keep_days=1).prune(now=100 * DAY)
    assert log.path.read_bytes() == before


@pytest.mark.parametrize("key", [None, KEY])
def test_a_person_is_forgotten_and_the_chain_holds(key: bytes | None, tmp_path: Path) -> None:
    """Names, texts and hashes of texts go, the rest stays; the chain, a head of before, and later pruning hold."""
    log = log_of(tmp_path / "audit.jsonl", 4, texts=True, key=key)
    head = log.head()
    assert log.forget(user="bob") == 2
    content = log.path.read_text(encoding="utf-8")
    assert '"user":"bob"' not in content
    assert content.count("Who invented") == content.count(sha256(QUESTION.encode()).hexdigest()) == 2
    verdict = log.verify(head)
    assert (verdict.ok, verdict.answers, verdict.erased, verdict.anchored) == (True, 4, 2, True)
    assert list(log.records())[-1]["seqs"] == [1, 3]
    assert log.forget(user="bob") == log.forget(user="eve", tenant="other") == 0
    assert log.forget(tenant="acme") == 2
    assert log.verify(head).erased == 4
    assert AuditLog(log.path, keep_days=1, key=key).prune(now=4 * DAY) == 3
    assert log.verify().ok
    with pytest.raises(ConfigurationError, match="user or a tenant"):
        log.forget()


def test_a_part_that_somebody_else_took_out_is_found(tmp_path: Path) -> None:
    """Only what an erasure in the chain announces may lack its personal part, and the part cannot be exchanged."""
    log = log_of(tmp_path / "audit.jsonl")

    def without(lines: list[bytes]) -> list[bytes]:
        record = json.loads(lines[1])
        del record["personal"]
        return [lines[0], canonical(record) + b"\n", lines[2]]

    before = log.path.read_bytes()
    fault = tampered(log, without).verify().fault
    assert fault is not None
    assert fault.line == 2
    assert "no erasure" in fault.message
    log.path.write_bytes(before)
    fault = (
        tampered(log, lambda lines: [line.replace(b'"user":"eve"', b'"user":"bob"') for line in lines]).verify().fault
    )
    assert fault is not None
    assert (fault.line, fault.message) == (2, "its personal part does not match its hash")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other rights")
def test_a_rewrite_keeps_the_files_rights_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Rights that were widened or narrowed stay; what a killed rewrite left behind is gone with the next record."""
    log = log_of(tmp_path / "audit.jsonl")
    log.path.chmod(0o640)
    log.forget(user="bob")
    (tmp_path / ".audit.jsonl.new").write_text("left by a kill", encoding="utf-8")
    log.export(finished())
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.jsonl", "audit.jsonl.lock"]


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """A record that is not on the disk is not passed over: the handler counts the error."""
    (tmp_path / "audit.jsonl").mkdir()
    with pytest.raises(StoreError, match=r"audit\.jsonl"):
        AuditLog(tmp_path / "audit.jsonl").export(finished())
    assert AuditLog(tmp_path / "none.jsonl").head() == START
    with pytest.raises(StoreError, match="No such file"):
        AuditLog(tmp_path / "none.jsonl").verify()


# -- asked again ------------------------------------------------------------------------------------------------------


def beside(was: dict[str, Any] | None = None, now: dict[str, Any] | None = None, **fields: Any) -> Any:
    """Two answers to a question, compared."""
    records = [answer_fields(finished(**(each or {})), at=0.0, salt="", texts=True) for each in (was, now)]
    records[0].update(fields)
    return compare(*records)


def test_the_same_answer_is_the_same() -> None:
    """Nothing differs, and nothing is unknown but what no engine told."""
    found = beside()
    assert found.same
    assert [each.same for each in found.fields] == [True] * 5
    assert found.remarks == ()


def test_each_source_is_same_changed_gone_or_new() -> None:
    """By node id, then by document: a passage that changed has another id in another version of its document."""
    was = [node(id_="a"), node("old", "b", "d2"), node(id_="c", document="d3"), node("x", "e", "d5")]
    now = [node("new", "b2", "d2", 4), node(id_="a"), node(id_="f", document="d6"), node("x", "e", "d5", 4)]
    found = {each.node_id: each for each in beside({"nodes": was}, {"nodes": now}).sources}
    assert {name: each.state for name, each in found.items()} == {
        "a": "same",
        "b": "changed",
        "c": "gone",
        "e": "changed",
        "f": "new",
    }
    assert (found["a"].was, found["a"].now, found["f"].was, found["c"].now) == (1, 2, None, None)
    assert (found["b"].changes, found["b"].became) == (("text", "document", "version"), "b2")
    assert found["e"].changes == ("document", "version")


def test_another_passage_of_an_unchanged_document_is_no_successor() -> None:
    """The document's version tells an edited passage from another one."""
    found = beside({"nodes": [node("one", "a")]}, {"nodes": [node("two", "b")]})
    assert [each.state for each in found.sources] == ["gone", "new"]


def test_route_prompt_and_answer_are_compared() -> None:
    """Each by itself; what cannot be known is not called different."""
    found = beside(now={"route": "graph", "prompts": ("another",), "text": "Somebody else."})
    assert {each.name: each.same for each in found.fields} == {
        "route": False,
        "kind of answer": True,
        "model": True,
        "prompt": False,
        "answer": False,
    }
    assert not found.same
    unknown = beside(now={"prompts": (None,), "text": None})
    assert {each.name for each in unknown.fields if each.same is None} == {"prompt", "answer"}


def test_what_cannot_be_compared_is_said() -> None:
    """A chat's earlier turns, another mask, an unfinished answer."""
    remarks = beside(call="chat", status="abandoned", redacted="Firm.mask").remarks
    assert len(remarks) == 4
    assert "Firm.mask" in " ".join(remarks)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"personal": None}, "erased"),
        ({"personal": {"salt": "s"}}, "texts=True"),
        ({"personal": {"question": None}}, "no"),
    ],
)
def test_a_record_without_its_question_says_why(change: dict[str, Any], reason: str) -> None:
    """Erased, never kept, never there."""
    with pytest.raises(ConfigurationError, match=reason):
        question_of({"id": "t1", **change})


def test_an_answer_is_audited_and_asked_again(tmp_path: Path) -> None:
    """With the real handler and engine: the record holds the document's hash; after an edit a replay shows it."""
    documents = [
        Document(text="Robert Dennard invented DRAM at IBM.", id_="d1", metadata={"title": "DRAM"}),
        Document(text="NVM keeps its state without power.", id_="d2", metadata={"title": "NVM"}),
    ]
    llm = ScriptedLLM(reply="Robert Dennard invented DRAM [1].")
    log = AuditLog(tmp_path / "audit.jsonl", texts=True, redact=redact_personal)
    handler = CostLatencyHandler(exporters=[log])
    with HybridMemoryIndex.from_documents(documents, embed_model=WordsEmbedding()) as index:
        engine = index.as_query_engine(llm, citations=True)
        with handler.attach(), handler.tags(tenant="acme", user="bob"):
            engine.query("Who invented DRAM?")
            index.as_retriever().retrieve("DRAM")
            handler.flush()
        (record,) = log.records()
        assert record["personal"]["user"] == "bob"
        assert documents[0].hash in [source["document_hash"] for source in record["sources"]]
        assert len([digest for digest in record["personal"]["prompt_sha256"] if digest]) == 1
        assert record["cited"]["spans"][0]["node_id"] == record["sources"][0]["node_id"]
        assert replay(record, engine).same
        index.refresh_ref_docs([Document(text="Robert Dennard invented DRAM in 1966.", id_="d1")])
        found = replay(record, engine)
    assert not found.same
    assert {each.ref_doc_id: each.state for each in found.sources} == {"d1": "changed", "d2": "same"}
    assert {each.name: each.same for each in found.fields} | {"prompt": False, "answer": True} == {
        each.name: each.same for each in found.fields
    }
