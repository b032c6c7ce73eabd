"""Reads triples from a CSV file; knows no store."""

from __future__ import annotations

import csv
from pathlib import Path

from ..errors import IngestError
from .stores.base import Fact

COLUMNS = ("subject", "relation", "object")


def read_facts(path: str | Path) -> list[Fact]:
    """Read facts from a CSV file with the columns subject, relation, object, in any order; others are ignored.

    Raises:
        IngestError: the file cannot be read, lacks a column, or has a row with an empty cell; names file and line.
    """
    place = Path(path)
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


def _fact(row: dict[str, str | None], place: Path, line: int) -> Fact:
    subject, relation, target = ((row[column] or "").strip() for column in COLUMNS)
    if not (subject and relation and target):
        found = ", ".join(map(repr, (subject, relation, target)))
        raise IngestError(f"{place}, line {line}: {', '.join(COLUMNS)} must all be filled, found {found}")
    return Fact(subject, relation, target, source=place.name)
