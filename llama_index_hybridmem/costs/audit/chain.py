"""Records sealed one over the other: how they are written, hashed and read back; pure, knows no file and no answer.

A record is one line of canonical JSON. `hash` is the SHA-256 of the record without `hash` and `personal`, an
HMAC-SHA256 where there is a key; `prev` is the `hash` of the record before. `personal` is covered by `personal_hash`
instead, so that it can be taken out later and the chain still holds.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llama_index_hybridmem.errors import ConfigurationError

SCHEMA = 1
"""Of the records; it is part of each."""

Problem = Literal["changed", "removed", "inserted", "reordered", "truncated", "torn", "rewritten", "key"]

_UNCOVERED = ("hash", "personal")
_FINGERPRINT = b"hybridmem audit key"


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ended. Kept elsewhere, it shows later whether anything up to there was changed or cut off.

    Attributes:
        seq: of the last record, counted from 1; 0 of an empty chain.
        hash: of that record.
    """

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def read(cls, text: str) -> Head:
        """Read SEQ:HASH.

        Raises:
            ConfigurationError: it is none.
        """
        seq, _, digest = text.strip().partition(":")
        if not (seq.isdecimal() and len(digest) == len(START.hash) and set(digest) <= set("0123456789abcdef")):
            raise ConfigurationError(f"{text!r} is no head of an audit log; SEQ:HASH is, as `audit verify` shows it")
        return cls(int(seq), digest)


START = Head(0, "0" * 64)
"""Where the first record begins."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A place where a chain does not hold.

    Attributes:
        problem: what was done to it, as far as can be told.
        line: counted from 1; of "truncated" the line that is missing.
        message: what was found there.
    """

    problem: Problem
    line: int
    message: str


def canonical(value: object) -> bytes:
    """Write JSON in the one way that is hashed: sorted keys, no spaces, UTF-8 ("?" for what UTF-8 cannot write)."""
    written = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return written.encode("utf-8", "replace")


def parse(line: bytes) -> dict[str, Any] | None:
    """Read a line, without its line end; None for what `canonical` has not written."""
    try:
        record = json.loads(line.decode("utf-8"))
        return record if isinstance(record, dict) and canonical(record) == line else None
    except (ValueError, RecursionError):
        return None


def fingerprint(key: bytes | None) -> str | None:
    """Name a key without giving it away; None for none."""
    return None if key is None else hmac.new(key, _FINGERPRINT, hashlib.sha256).hexdigest()[:16]


def seal(fields: Mapping[str, Any], before: Head, key: bytes | None) -> dict[str, Any]:
    """Make a record that follows another one.

    Args:
        fields: JSON types; `personal` may be among them.
        before: where the chain ends.
        key: of the HMAC; None for a plain SHA-256.
    """
    record = {**fields, "schema": SCHEMA, "seq": before.seq + 1, "prev": before.hash, "key": fingerprint(key)}
    if "personal" in record:
        record["personal_hash"] = _plain_digest(record["personal"])
    return {**record, "hash": _digest(record, key)}


def stand_in(head: Head, since: object, until: object, at: float, key: bytes | None) -> dict[str, Any]:
    """Make the record that takes the place of all records up to one; `seq` and `prev` are that one's seq and hash.

    Args:
        head: the last record that is removed.
        since: Unix seconds of the first that was removed, ever.
        until: of the last.
        at: of now.
        key: see `seal`.
    """
    fields = {"kind": "pruned", "at": at, "count": head.seq, "since": since, "until": until}
    return seal(fields, Head(head.seq - 1, head.hash), key)


def head_of(record: Mapping[str, Any]) -> Head:
    """Say where a chain ends that ends with this record."""
    return Head(record["seq"], record["prev"] if record.get("kind") == "pruned" else record["hash"])


def without_personal(record: Mapping[str, Any]) -> dict[str, Any]:
    """Take the personal part out; the record's hash stays right."""
    return {name: value for name, value in record.items() if name != "personal"}


def checked(line: bytes, number: int, key: bytes | None) -> dict[str, Any] | Fault:
    """Read one line and look at it by itself: complete, unchanged, sealed with this key.

    Args:
        line: with its line end.
        number: its own, from 1.
        key: None for none.
    """
    if not line.endswith(b"\n"):
        return Fault("torn", number, "the last line is incomplete: its writer was killed, or the file was cut")
    record = parse(line[:-1])
    if record is None or not _shaped(record):
        return Fault("changed", number, "it is no record as the log writes them")
    if record["key"] != fingerprint(key):
        return Fault("key", number, _other_key(record["key"], key))
    if _digest(record, key) != record["hash"]:
        return Fault("changed", number, "its content does not match its hash")
    if "personal" in record and _plain_digest(record["personal"]) != record.get("personal_hash"):
        return Fault("changed", number, "its personal part does not match its hash")
    return record


def _other_key(written: object, key: bytes | None) -> str:
    if written is None:
        return "it was sealed without a key"
    if key is None:
        return f"it was sealed with a key ({written}), and none is given"
    return f"it was sealed with another key ({written}) than the given one ({fingerprint(key)})"


def _shaped(record: Mapping[str, Any]) -> bool:
    """Whether a record has what every record has; one that a stranger sealed may not."""
    texts = all(isinstance(record.get(name), str) for name in ("prev", "hash"))
    seqs = record.get("seqs") if record.get("kind") == "erased" else []
    numbers = type(record.get("seq")) is int and type(record.get("at")) in (int, float) and "key" in record
    return texts and numbers and isinstance(seqs, list) and all(type(seq) is int for seq in seqs)


def _digest(record: Mapping[str, Any], key: bytes | None) -> str:
    content = canonical({name: value for name, value in record.items() if name not in _UNCOVERED})
    return hashlib.sha256(content).hexdigest() if key is None else hmac.new(key, content, hashlib.sha256).hexdigest()


def _plain_digest(value: object) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()
