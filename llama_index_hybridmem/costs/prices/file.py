"""Reads price tables from CSV; knows no call."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path

from llama_index_hybridmem.costs.prices.money import exactly
from llama_index_hybridmem.costs.prices.row import PriceRow
from llama_index_hybridmem.disk import on_disk
from llama_index_hybridmem.errors import ConfigurationError

REQUIRED = ("kind", "provider", "model", "unit", "typical", "source", "read_on")
OPTIONAL = {"low": "", "high": "", "currency": "USD", "note": ""}
"""Columns that may be left out, with what they then hold; an empty low or high is the typical amount."""

SHIPPED = Path(__file__).with_name("rows.csv")


@cache
def shipped_rows() -> tuple[PriceRow, ...]:
    """Give the table of this package."""
    return read_rows(SHIPPED)


def read_rows(path: str | Path) -> tuple[PriceRow, ...]:
    """Read a table.

    Args:
        path: UTF-8, with a header; the columns of `PriceRow` in any order, amounts as decimals, dates as 2026-11-21.

    Raises:
        ConfigurationError: names the file, the line and the field.
        StoreError: it cannot be read.
    """
    if not isinstance(path, str | Path):
        raise ConfigurationError(f"the path of a price table is expected, not {path!r}")
    place = Path(path)
    with on_disk(place), open(place, encoding="utf-8-sig", newline="") as file:
        try:
            lines = csv.DictReader(file, strict=True)
            _check_header(lines.fieldnames or (), place)
            return tuple(_row(cells, f"{place}, line {lines.line_num}") for cells in lines)
        except (csv.Error, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{place}: no CSV in UTF-8: {error}") from error


def _check_header(names: object, place: Path) -> None:
    columns = list(names) if isinstance(names, (list, tuple)) else []
    missing = [name for name in REQUIRED if name not in columns]
    strange = [name for name in columns if name not in (*REQUIRED, *OPTIONAL)]
    if missing or strange:
        problem = f"lacks the column {missing[0]!r}" if missing else f"has an unknown column {strange[0]!r}"
        raise ConfigurationError(f"{place}, line 1: {problem}; columns are {', '.join((*REQUIRED, *OPTIONAL))}")


def _row(cells: Mapping[str | None, str | None], place: str) -> PriceRow:
    if None in cells or None in cells.values():
        raise ConfigurationError(f"{place}: the row has not as many cells as the header; quote cells with commas")
    given = {str(name): str(cell).strip() for name, cell in cells.items()}
    filled = {**OPTIONAL, **{name: cell for name, cell in given.items() if cell}}
    try:
        for name in REQUIRED:
            if name not in filled:
                raise ConfigurationError(f"{name}: must not be empty")
        typical = exactly(filled["typical"], "typical")
        return PriceRow(
            kind=filled["kind"],
            provider=filled["provider"],
            model=filled["model"],
            unit=filled["unit"],
            low=exactly(filled["low"], "low") if filled["low"] else typical,
            typical=typical,
            high=exactly(filled["high"], "high") if filled["high"] else typical,
            currency=filled["currency"],
            source=filled["source"],
            read_on=dated(filled["read_on"]),
            note=filled["note"],
        )
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}, {error}") from error


def dated(text: str) -> date:
    """Read a day.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(f"read_on: {text!r} is no date; write it as 2026-11-21") from error
