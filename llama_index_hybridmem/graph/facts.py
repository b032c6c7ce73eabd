"""Reads triples from a CSV or JSON file; knows no store."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from ..errors import IngestError
from .stores.base import Fact

COLUMNS = ("subject", "relation", "object")
_JSON = {".json", ".jsonl", ".ndjson"}


def read_facts(path: str | Path) -> list[Fact]:
    """Read facts from a file.

    Args:
        path: CSV with the columns subject, relation, object, in any order; others are ignored. Or, ending in .json or
            .jsonl, a JSON list of triples or one triple a line, each [subject, relation, object] or an object with
            those keys.

    Raises:
        IngestError: the file cannot be read, lacks a column, or has a row with an empty cell; names file and line.
    """
    place = Path(path)
    if place.suffix.lower() in _JSON:
        return list(_json_facts(place))
    try:
        with place.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            missing = [column for column in COLUMNS if column not in (rows.fieldnames or [])]
            if missing:
                raise IngestError(
                    f"{place}: no column {', '.join(missing)}; the first line must name subject, relation, object"
                )
            return [_fact(row, place, rows.line_num) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise IngestError(f"{place} cannot be read as CSV: {error}") from error


def _json_facts(place: Path) -> Iterator[Fact]:
    try:
        text = place.read_text(encoding="utf-8-sig")
        if place.suffix.lower() == ".json":
            rows = list(enumerate(json.loads(text), start=1))
        else:
            rows = [(line, json.loads(row)) for line, row in enumerate(text.split("\n"), start=1) if row.strip()]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise IngestError(f"{place} cannot be read as JSON triples: {error}") from error
    for line, row in rows:
        cells = dict(zip(COLUMNS, row, strict=False)) if isinstance(row, list) and len(row) == len(COLUMNS) else row
        if not isinstance(cells, dict) or not all(isinstance(cells.get(column), str) for column in COLUMNS):
            raise IngestError(f"{place}, triple {line}: expected {', '.join(COLUMNS)} as texts, found {row!r:.200}")
        yield _fact(cells, place, line)


def _fact(row: dict[str, str | None], place: Path, line: int) -> Fact:
    subject, relation, target = ((row[column] or "").strip() for column in COLUMNS)
    if not (subject and relation and target):
        found = ", ".join(map(repr, (subject, relation, target)))
        raise IngestError(f"{place}, line {line}: {', '.join(COLUMNS)} must all be filled, found {found}")
    return Fact(subject, relation, target, source=place.name)
