"""Reads failures that somebody has reviewed, as questions; knows no store, no round and no model."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from llama_index_hybridmem.disk import on_disk
from llama_index_hybridmem.errors import IngestError
from llama_index_hybridmem.export.asking import Asked, read_asked
from llama_index_hybridmem.export.record import Origin

UNREVIEWED = "nobody has reviewed it"
_ORIGINS: Mapping[str, Origin] = {"user": "user", "traces": "traces", "model": "generated", "generated": "generated"}


@dataclass(frozen=True)
class Failures:
    """Failures to learn from.

    Attributes:
        asked: those that were reviewed; one whose answer a model wrote has the origin ``generated``.
        left_out: reason to how many were not.
    """

    asked: tuple[Asked, ...]
    left_out: Mapping[str, int]


def read_failures(path: Path | str) -> Failures:
    """Read failures, one JSON object a line.

    A row is a question as `export.asking.read_asked` takes it, and says who has reviewed it: ``"reviewed": true``, or a
    name. ``"origin": "model"`` marks an answer that a model wrote, ``"traces"`` one that the app gave; else a person
    did. A row without a review is left out and counted: what nobody has looked at is no example.

    Args:
        path: a ``.jsonl`` file, UTF-8.

    Raises:
        IngestError: it cannot be read, a row is not of that form (names file, line and field), or none was reviewed.
    """
    path = Path(path)
    if path.suffix.lower() not in (".jsonl", ".ndjson"):
        raise IngestError(f"{path}: reviewed failures are read from .jsonl files")
    kept, left_out = [], 0
    for each, (place, row) in zip(read_asked(path), _rows(path), strict=True):
        if _reviewed(row, place):
            kept.append(replace(each, origin=_origin(row, place)))
        else:
            left_out += 1
    if not kept:
        raise IngestError(
            f"{path}: none of {left_out:,} rows was reviewed: check their answers, and mark those that are right with "
            '"reviewed": true or a name'
        )
    return Failures(tuple(kept), {UNREVIEWED: left_out} if left_out else {})


def key_of(asked: Asked) -> str:
    """Name a failure by what it teaches, whatever its id: 32 hexadecimal digits."""
    told = [asked.question, asked.answer, sorted(asked.gold), list(asked.quotes), asked.answerable]
    return hashlib.sha256(json.dumps(told).encode("ascii")).hexdigest()[:32]


def without(asked: Iterable[Asked], known: frozenset[str]) -> tuple[Asked, ...]:
    """Leave out failures that are known by their `key_of`, and what comes a second time."""
    fresh: dict[str, Asked] = {}
    for each in asked:
        fresh.setdefault(key_of(each), each)
    return tuple(each for name, each in fresh.items() if name not in known)


def lines(asked: Sequence[Asked]) -> str:
    """Give failures as JSON lines that `from_lines` reads."""
    return "".join(json.dumps({**asdict(each), "gold": sorted(each.gold)}) + "\n" for each in asked)


def from_lines(rows: Iterable[Mapping[str, Any]]) -> tuple[Asked, ...]:
    """Read what `lines` gave."""
    return tuple(Asked(**{**row, "gold": frozenset(row["gold"]), "quotes": tuple(row["quotes"])}) for row in rows)


def origins(asked: Sequence[Asked]) -> dict[str, int]:
    """Count failures by who wrote their answers."""
    return dict(sorted(Counter("model" if each.origin == "generated" else each.origin for each in asked).items()))


def _rows(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """The rows again, now that each is known to be one."""
    with on_disk(path):
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    numbered = enumerate(content.split(b"\n"), start=1)
    return [(f"{path}, line {number}", json.loads(line)) for number, line in numbered if line.strip()]


def _reviewed(row: Mapping[str, Any], place: str) -> bool:
    value = row.get("reviewed")
    if value is not None and not isinstance(value, bool | str):
        raise IngestError(f"{place}: field reviewed: true, false or a name is expected, found {value!r:.60}")
    return bool(value.strip()) if isinstance(value, str) else bool(value)


def _origin(row: Mapping[str, Any], place: str) -> Origin:
    value = row.get("origin") or "user"
    if not isinstance(value, str) or value not in _ORIGINS:
        raise IngestError(f"{place}: field origin: one of {', '.join(_ORIGINS)} is expected, found {value!r:.60}")
    return _ORIGINS[value]
