"""Questions for an export, read from JSON lines or CSV, each line checked; knows no retriever and no passage."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from llama_index_hybridmem.errors import IngestError
from llama_index_hybridmem.export.record import Origin

NO_RETRIEVAL = "no_retrieval"
_LINES, _TABLES = (".jsonl", ".ndjson", ".json"), (".csv",)
_SEPARATOR = "|"
_OPENING = (b"[", b"{", b"[{")
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and what is known of its answer.

    Attributes:
        id: unique.
        question: the text.
        answer: None when it is not known, or there is none.
        gold: what names the right sources: document ids, node ids, titles, or file names with or without ending; empty
            when nobody says.
        quotes: what of the sources supports the answer, verbatim.
        answerable: False when it is known that no source answers; True when one does; None: see answer and gold.
        domain: for held-out domains.
        asked: Unix seconds, when it was asked or labelled.
        origin: where it comes from.
        kind: the user's own; ``no_retrieval`` marks one that needs no sources.
    """

    id: str
    question: str
    answer: str | None = None
    gold: frozenset[str] = frozenset()
    quotes: tuple[str, ...] = ()
    answerable: bool | None = None
    domain: str | None = None
    asked: float | None = None
    origin: Origin = field(default="user")
    kind: str | None = None


def read_asked(path: str | Path) -> list[Asked]:
    """Read questions.

    A row has ``question``, and may have ``answer``, ``gold`` or ``expected_sources`` (names), ``quotes``, ``id``,
    ``domain``, ``date`` (ISO 8601, or Unix seconds), ``answerable`` (true, false) and ``kind``; other fields are left
    alone. JSON lines say "no source answers" by ``"answer": null`` without gold, or ``"answerable": false``; a CSV file
    by the latter alone, its lists are names with "|" between them, or a JSON list. A question without id gets one made
    of its text. A mark of byte order, either kind of line end and blank lines are fine.

    Args:
        path: a ``.jsonl`` or ``.csv`` file, UTF-8.

    Raises:
        IngestError: it cannot be read, holds no question, a row is not of that form, or an id occurs twice; names file,
            line and field.
    """
    path = Path(path)
    if path.suffix.lower() not in (*_LINES, *_TABLES):
        raise IngestError(f"{path}: questions are read from .jsonl or .csv files")
    rows = _table(path) if path.suffix.lower() in _TABLES else _lines(path)
    found: list[Asked] = []
    places: dict[str, str] = {}
    for place, row in rows:
        each = _asked(row, place)
        if each.id in places:
            raise IngestError(f"{place}: field id: {each.id!r:.60} is taken by {places[each.id]}{_advice(row)}")
        places[each.id] = place
        found.append(each)
    if not found:
        raise IngestError(f"{path}: no question in it")
    return found


def _advice(row: Mapping[str, Any]) -> str:
    return "" if str(row.get("id") or "").strip() else ": the same question twice; leave one out, or give both an id"


def _asked(row: Any, place: str) -> Asked:
    if not isinstance(row, Mapping):
        raise IngestError(f'{place}: expected an object with "question", found {row!r:.60}')
    question = _text(row, "question", place)
    if question is None:
        raise IngestError(f"{place}: field question: a text is expected, found {row.get('question')!r:.60}")
    answer, gold = _text(row, "answer", place), _names(row, place)
    answerable = _truth(row, place)
    if answerable is None and "answer" in row and row["answer"] is None and not gold:
        answerable = False
    if answerable is False and answer is not None:
        raise IngestError(f"{place}: field answerable: false, and yet there is an answer")
    named = "quotes" if row.get("quotes") else "quote"
    return Asked(
        _id(row, question, place),
        question,
        answer,
        frozenset(gold),
        tuple(_list(row[named], named, place, None)) if row.get(named) else (),
        answerable,
        _text(row, "domain", place),
        _seconds(row, place),
        kind=_text(row, "kind", place),
    )


def _id(row: Mapping[str, Any], question: str, place: str) -> str:
    given = row.get("id")
    if given is None or (isinstance(given, str) and not given.strip()):
        return hashlib.sha256(question.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    if not isinstance(given, str | int) or isinstance(given, bool):
        raise IngestError(f"{place}: field id: a text or a whole number is expected, found {given!r:.60}")
    try:
        str(given).encode("utf-8")
    except UnicodeEncodeError as error:
        raise IngestError(f"{place}: field id: {given!r:.60} holds half a character") from error
    return str(given)


def _text(row: Mapping[str, Any], name: str, place: str) -> str | None:
    value = row.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, str):
        raise IngestError(f"{place}: field {name}: a text is expected, found {value!r:.60}")
    return value.strip()


def _names(row: Mapping[str, Any], place: str) -> list[str]:
    name = "expected_sources" if row.get("expected_sources") else "gold"
    return [] if row.get(name) in (None, "") else _list(row[name], name, place, _SEPARATOR)


def _list(value: Any, name: str, place: str, separator: str | None) -> list[str]:
    """A list of texts; from a text, as a table has it, a JSON list, or what stands between separators."""
    if isinstance(value, str):
        value = (
            _unpacked(value.strip(), name, place) if value.strip().startswith("[") else value.split(separator or "\0")
        )
    if not isinstance(value, list | tuple) or not all(isinstance(each, str | int) for each in value):
        raise IngestError(f"{place}: field {name}: a list of texts is expected, found {value!r:.60}")
    return [text for each in value if (text := str(each).strip())]


def _unpacked(value: str, name: str, place: str) -> Any:
    try:
        return json.loads(value)
    except ValueError as error:
        raise IngestError(f"{place}: field {name}: begins like a JSON list and is none: {error}") from error


def _truth(row: Mapping[str, Any], place: str) -> bool | None:
    value = row.get("answerable")
    told = value.strip().lower() if isinstance(value, str) else str(value).lower()
    if value is None or told == "":
        return None
    if told not in (*_YES, *_NO):
        raise IngestError(f"{place}: field answerable: true or false is expected, found {value!r:.60}")
    return told in _YES


def _seconds(row: Mapping[str, Any], place: str) -> float | None:
    value = row.get("date")
    if value is None or value == "":
        return None
    try:
        seconds = float(value) if not isinstance(value, str) or _is_number(value) else _parsed(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise IngestError(f"{place}: field date: ISO 8601 or Unix seconds expected, found {value!r:.60}") from error
    if isinstance(value, bool) or not math.isfinite(seconds):
        raise IngestError(f"{place}: field date: ISO 8601 or Unix seconds expected, found {value!r:.60}")
    return seconds


def _is_number(value: str) -> bool:
    return "-" not in value[1:] and value.strip().lstrip("+-").replace(".", "", 1).isdecimal() and len(value) > 8


def _parsed(value: str) -> float:
    text = value.strip()
    when = datetime.fromisoformat(f"{text[:-1]}+00:00" if text[-1:] in "Zz" else text)  # Python 3.10 knows no Z
    return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp()


def _columns(names: Iterable[str], path: Path) -> list[str]:
    """The first line of a table, without blanks around the names: a column of no name that is known would be lost."""
    found = [name.strip() for name in names]
    if "question" not in found:
        told = ", ".join(found) or "none"
        raise IngestError(f"{path}, line 1: no column question; there are {told:.200} (commas must part them)")
    for name in found:
        if found.count(name) > 1:
            raise IngestError(f"{path}, line 1: two columns are called {name!r:.60}; only one could be read")
    return found


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if text.strip():
                    yield f"{path}, line {number}", _json(text, f"{path}, line {number}")
    except OSError as error:
        raise IngestError(f"{path} cannot be read: {error.strerror or error}") from error


def _json(text: bytes, place: str) -> Any:
    try:
        return json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        told = (
            "a question takes one line, with neither a list nor lines around it" if text.strip() in _OPENING else error
        )
        raise IngestError(f"{place}: not JSON in UTF-8: {told}") from error


def _table(path: Path) -> Iterator[tuple[str, Any]]:
    number = 1
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            reader.fieldnames = _columns(reader.fieldnames or (), path)
            for row in reader:
                number = reader.line_num
                if None in row or None in row.values():
                    raise IngestError(f"{path}, line {number}: more or fewer cells than the first line has")
                yield f"{path}, line {number}", row
    except OSError as error:
        raise IngestError(f"{path} cannot be read: {error.strerror or error}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise IngestError(f"{path}, near line {number}: no CSV in UTF-8: {error}") from error
