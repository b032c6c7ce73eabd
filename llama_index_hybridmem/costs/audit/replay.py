"""Asks an audited question again, and says what has changed since; knows no store and no screen."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from llama_index_hybridmem.costs.audit.record import Redact, answer_fields
from llama_index_hybridmem.costs.audit.redaction import redact_personal
from llama_index_hybridmem.costs.exporting import Finished
from llama_index_hybridmem.costs.handler import CostLatencyHandler
from llama_index_hybridmem.errors import ConfigurationError

State = Literal["same", "changed", "gone", "new"]

_SHOWN = 12
"""Signs of a hash."""


@dataclass(frozen=True, slots=True)
class SourceChange:
    """What became of a source.

    Attributes:
        state: "changed" is another version: of the passage, or of its document only (`changes` says which).
        node_id: the recorded one; of a new source its own.
        ref_doc_id: its document.
        was: its rank then, from 1; None for a new one.
        now: its rank now; None for one that is gone.
        changes: "text", "document", "version".
        became: the id of the node of the same document that stands in its place; None when the id is the same.
    """

    state: State
    node_id: str
    ref_doc_id: str | None
    was: int | None
    now: int | None
    changes: tuple[str, ...] = ()
    became: str | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """One thing compared.

    Attributes:
        name: ``route``, ``kind of answer``, ``model``, ``prompt`` or ``answer``.
        was: then; of prompts, and of an answer whose text the log does not keep, the beginning of the hash.
        now: now.
        same: None when it cannot be compared.
    """

    name: str
    was: str | None
    now: str | None
    same: bool | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """An audited answer beside today's.

    Attributes:
        id: the record's.
        sources: the recorded ones, then the new ones, each by rank.
        fields: everything else.
        remarks: why something cannot be compared, or is bound to differ.
    """

    id: str
    sources: tuple[SourceChange, ...]
    fields: tuple[Field, ...]
    remarks: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether nothing that can be compared differs; ranks may."""
        return all(each.state == "same" for each in self.sources) and all(
            each.same is not False for each in self.fields
        )

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {"same": self.same, **asdict(self)}


def question_of(record: Mapping[str, Any]) -> str:
    """Give the question of an audited answer.

    Raises:
        ConfigurationError: the record does not hold it; says why.
    """
    personal = record.get("personal")
    if personal is None:
        raise ConfigurationError(f"answer {record['id']!r} cannot be replayed: its question was erased")
    if "question" not in personal:
        told = "the log keeps hashes only; AuditLog(texts=True) keeps questions"
        raise ConfigurationError(f"answer {record['id']!r} cannot be replayed: {told}")
    if not personal["question"]:
        raise ConfigurationError(f"answer {record['id']!r} cannot be replayed: it has no question")
    return str(personal["question"])


def replay(record: Mapping[str, Any], engine: Any, redact: Redact | None = None) -> Comparison:
    """Ask an audited question again.

    Args:
        record: of an answer, from a log that keeps texts.
        engine: whom to ask; a query engine.
        redact: the log's own, where it was not `redact_personal`.

    Raises:
        ConfigurationError: the record does not hold the question.
    """
    question = question_of(record)
    if redact is None and record.get("redacted") == redact_personal.__qualname__:
        redact = redact_personal
    kept = _Kept()
    handler = CostLatencyHandler(exporters=[kept])
    with handler.attach():
        engine.query(question)
        handler.flush()
    finished = next(each for each in reversed(kept.found) if each.question == question)
    return compare(record, answer_fields(finished, at=time.time(), salt="", texts=True, redact=redact))


def compare(was: Mapping[str, Any], now: Mapping[str, Any]) -> Comparison:
    """Set an audited answer beside another one to the same question.

    Args:
        was: its record, whose personal part is there.
        now: the other's.
    """
    asked, hashed = bool(_models(now)) or not _models(was), was.get("redacted") == now.get("redacted")
    fields = (
        _field("route", was["route"], now["route"]),
        _field("kind of answer", was["answer"], now["answer"], known=asked),
        _field("model", _joined(_models(was)), _joined(_models(now)), known=asked),
        _prompt_field(_prompts(was), _prompts(now), asked and hashed),
        _answer_field(was["personal"], now["personal"] if asked else {"answer_sha256": None}, hashed),
    )
    return Comparison(was["id"], tuple(_sources(was["sources"], now["sources"])), fields, tuple(_remarks(was, now)))


class _Kept:
    """An exporter that keeps what it gets."""

    name = "kept"

    def __init__(self) -> None:
        self.found: list[Finished] = []

    def context(self) -> None:
        return None

    def export(self, finished: Finished) -> None:
        self.found.append(finished)

    def close(self) -> None:
        return None


def _remarks(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    said = []
    if _models(was) and not _models(now):
        said.append("no language model was asked: only the route and the sources are compared")
    if was.get("redacted"):
        said.append("the question was asked as the log keeps it, with what was masked in it")
    if was.get("redacted") != now.get("redacted"):
        said.append(f"texts of the log went through {was.get('redacted')}: prompts and answers cannot be compared")
    if was["call"] != "query":
        said.append("asked as a single question: earlier turns, instructions and tools are not in the log")
    if was["status"] != "ok":
        said.append(f"the recorded answer did not come to its end ({was['status']})")
    return said


def _sources(was: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[SourceChange]:
    left = {each["node_id"]: (rank, each) for rank, each in enumerate(now, start=1)}
    same_id = {each["node_id"]: left.pop(each["node_id"]) for each in was if each["node_id"] in left}
    found = []
    for rank, old in enumerate(was, start=1):
        place, new = same_id.get(old["node_id"]) or _successor(old, left)
        changes = () if new is None else _changes(old, new)
        state: State = "gone" if new is None else "changed" if changes else "same"
        became = None if new is None or new["node_id"] == old["node_id"] else new["node_id"]
        found.append(SourceChange(state, old["node_id"], old["ref_doc_id"], rank, place, changes, became))
    fresh = (SourceChange("new", id_, new["ref_doc_id"], None, rank) for id_, (rank, new) in left.items())
    return [*found, *fresh]


def _successor(
    old: Mapping[str, Any], left: dict[str, tuple[int, Mapping[str, Any]]]
) -> tuple[int | None, Mapping[str, Any] | None]:
    """Take the best node of another version of the same document: a passage that changed has another id."""
    for id_, (_, new) in left.items():
        other_version = any(old[key] != new[key] for key in ("document_hash", "version"))
        if old["ref_doc_id"] is not None and new["ref_doc_id"] == old["ref_doc_id"] and other_version:
            return left.pop(id_)
    return None, None


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    names = {"text_sha256": "text", "document_hash": "document", "version": "version"}
    return tuple(name for key, name in names.items() if old[key] != new[key])


def _models(record: Mapping[str, Any]) -> list[str]:
    """The language models that were called, with their adapters."""
    calls = [call for call in record["calls"] if call["kind"] == "llm"]
    return [f"{call['model']} + {call['adapter']}" if call["adapter"] else str(call["model"]) for call in calls]


def _prompts(record: Mapping[str, Any]) -> list[str | None]:
    """The hashes of what language models were asked."""
    hashes = record["personal"]["prompt_sha256"]
    return [digest for call, digest in zip(record["calls"], hashes, strict=False) if call["kind"] == "llm"]


def _joined(parts: Sequence[str]) -> str | None:
    return ", ".join(parts) or None


def _field(name: str, was: str | None, now: str | None, known: bool = True) -> Field:
    return Field(name, was, now, was == now if known else None)


def _prompt_field(was: Sequence[str | None], now: Sequence[str | None], known: bool) -> Field:
    shown = [_joined([digest[:_SHOWN] for digest in each if digest]) for each in (was, now)]
    return Field("prompt", shown[0], shown[1], was == now if known and None not in (*was, *now) else None)


def _answer_field(was: Mapping[str, Any], now: Mapping[str, Any], known: bool) -> Field:
    digests = was["answer_sha256"], now["answer_sha256"]
    shown = [each.get("answer") or _short(each["answer_sha256"]) for each in (was, now)]
    return Field("answer", shown[0], shown[1], digests[0] == digests[1] if known and None not in digests else None)


def _short(digest: str | None) -> str | None:
    return None if digest is None else digest[:_SHOWN]
