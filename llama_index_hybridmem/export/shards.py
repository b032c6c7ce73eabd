"""The files of an export, shard by shard, whole or not there; knows no option and nothing of what the lines say.

A shard's record file is written last: when it is there, the shard is done. A run that was killed at any byte leaves
whole files and unfinished ones with names of their own, which the next run removes; it makes missing shards again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_index_hybridmem.disk import LOCK_NAME, FolderLock, atomic_write_bytes, make_folder, on_disk
from llama_index_hybridmem.errors import ConfigurationError, StoreDamagedError
from llama_index_hybridmem.export.record import encodable

RECORDS, DRAFTS, SUMMARIES = "records", "drafts", "shards"
SETTINGS, PROFILE, POOL, COLLECTED, MIX = "export.json", "profile.json", "pool.jsonl", "drafts.json", "mix.json"
GATHERING, REPLIES = "collecting.json", "generated.jsonl"
_UNFINISHED = re.compile(r"\..+\.\d+-\d+\.tmp")  # as `disk.atomic_write_bytes` names them
_SEPARATORS = (", ", ": ")
_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=_SEPARATORS)
_ESCAPING = json.JSONEncoder(check_circular=False, separators=_SEPARATORS)


@dataclass
class Shard:
    """Everything that one shard's drafts became.

    Attributes:
        number: of the shard.
        records: lines of its record file.
        files: a format's file ("messages/train") to its lines.
        summary: what became of the drafts, as plain JSON: ``splits`` (split to records), ``abstained``, ``left_out``
            (reason to draft ids).
    """

    number: int
    records: list[bytes] = field(default_factory=list)
    files: dict[str, list[bytes]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)


def line(row: Mapping[str, Any]) -> bytes:
    """One JSON line in UTF-8; what UTF-8 cannot hold (half characters) is escaped, so that it reads back alike."""
    try:
        return _ENCODER.encode(row).encode("utf-8") + b"\n"
    except UnicodeEncodeError:
        return _ESCAPING.encode(row).encode("ascii") + b"\n"


def training_line(row: Mapping[str, Any]) -> bytes:
    """One JSON line that every reader takes: half characters, which many refuse, are replaced (`record.encodable`)."""
    return encodable(_ENCODER.encode(row)).encode("utf-8") + b"\n"


def part(folder: Path, kind: str, number: int) -> Path:
    """Where a shard's drafts, records or summary are."""
    return folder / kind / f"part-{number:05d}.{'json' if kind == SUMMARIES else 'jsonl'}"


def read_rows(path: Path, content: bytes | None = None) -> Iterator[tuple[str, Any]]:
    """Read JSON lines.

    Args:
        path: the file.
        content: what is in it, if it was read already.

    Yields:
        the place, for messages, and what stands there.

    Raises:
        StoreError: it cannot be read.
        StoreDamagedError: a line is no JSON.
    """
    if content is None:
        with on_disk(path):
            content = path.read_bytes()
    for number, text in enumerate(content.split(b"\n"), start=1):
        if text:
            try:
                yield f"{path}, line {number}", json.loads(text)
            except (ValueError, RecursionError) as error:
                raise StoreDamagedError(f"{path}, line {number}: not JSON: {error}") from error


def read_object(path: Path, *fields: str) -> dict[str, Any]:
    """Read a file that is one JSON object.

    Args:
        path: the file.
        *fields: each must be there, and an object.

    Raises:
        StoreDamagedError: it is none, or lacks a field.
        StoreError: it cannot be read.
    """
    with on_disk(path):
        content = path.read_bytes()
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise StoreDamagedError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise StoreDamagedError(f"{path}: no JSON object")
    for name in fields:
        if not isinstance(found.get(name), dict):
            raise StoreDamagedError(f"{path}: not what an export writes: the object {name} is expected")
    return found


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits.

    Raises:
        StoreError: it cannot be read.
    """
    with on_disk(path):
        return hashlib.sha256(path.read_bytes()).hexdigest()


def write_object(path: Path, row: Mapping[str, Any]) -> None:
    """Write a file that is one JSON object, for people, too."""
    atomic_write_bytes(path, json.dumps(row, indent=2).encode("ascii") + b"\n")


def keep(path: Path, row: Mapping[str, Any], what: str, advice: str) -> None:
    """Write what a run is made with, or find it unchanged.

    Args:
        path: where it is kept.
        row: as plain JSON; objects in it are compared field by field.
        what: the folder's content, for the message.
        advice: what to do about a difference.

    Raises:
        ConfigurationError: the file says something else; names each difference.
    """
    if not path.exists():
        make_folder(path.parent)
        write_object(path, row)
        return
    was, now = _flat(read_object(path)), _flat(json.loads(json.dumps(row)))
    differing = [name for name in dict.fromkeys((*was, *now)) if was.get(name) != now.get(name)]
    if differing:
        told = "; ".join(f"{name} was {_short(was.get(name))}, is {_short(now.get(name))}" for name in differing)
        raise ConfigurationError(f"{path.parent} holds {what} made otherwise: {told}. {advice}")


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Own an export's folder, and remove what a killed run left unfinished.

    Args:
        folder: it is made if it is missing.

    Raises:
        ConfigurationError: it holds other things than an export.
        StoreLockedError: another process owns it.
        StoreError: it cannot be made or written to.
    """
    with on_disk(folder):
        inside = {each.name for each in folder.iterdir()} if folder.is_dir() else set()
    strange = sorted(name for name in inside - {LOCK_NAME, REPLIES} if not _UNFINISHED.fullmatch(name))
    if strange and not inside & {SETTINGS, GATHERING}:
        raise ConfigurationError(f"{folder} is no export's folder: it holds {', '.join(strange[:3])}; name a new one")
    with FolderLock(folder):
        with on_disk(folder):
            for each in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")):
                if _UNFINISHED.fullmatch(each.name):
                    each.unlink(missing_ok=True)
        yield


def is_done(folder: Path, number: int) -> bool:
    """Whether a shard is whole."""
    return part(folder, RECORDS, number).exists()


def write_shard(folder: Path, shard: Shard) -> None:
    """Write a shard's files, the record file last; a split without rows gets no file.

    Raises:
        StoreError: disk full, read-only; the shard is not done then.
    """
    for name, lines in shard.files.items():
        if lines:
            place = folder / f"{name}-{shard.number:05d}.jsonl"
            make_folder(place.parent)
            atomic_write_bytes(place, b"".join(lines))
    for kind, content in (
        (SUMMARIES, json.dumps(shard.summary).encode("ascii") + b"\n"),
        (RECORDS, b"".join(shard.records)),
    ):
        make_folder(folder / kind)
        atomic_write_bytes(part(folder, kind, shard.number), content)


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        found |= _flat(value, f"{prefix}{name}, ") if isinstance(value, Mapping) else {prefix + name: value}
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
