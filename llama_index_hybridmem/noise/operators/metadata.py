"""Metadata that is wrong: title, source, date, missing and swapped fields; pure, knows no detector.

Only fields that say what a text is are touched: `TITLE`, `SOURCE_FIELDS`, `DATE_FIELDS`, `VERSION_FIELDS`. Severity is
the share of those that the operator is about and the passage has, at least one. The text stays. What was changed is
noted by the field's name: what it ``was`` and is ``now``, the names joined to one text each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

from llama_index_hybridmem.noise.operators.registry import Change, of_passage
from llama_index_hybridmem.noise.scene import DATE_FIELDS, SOURCE_FIELDS, TITLE, VERSION_FIELDS, Passage, World

KNOWN = (TITLE, *SOURCE_FIELDS, *DATE_FIELDS, *VERSION_FIELDS)
PLACEHOLDERS = ("unknown", "N/A", "untitled", "none")

TRIES = 20
"""How many passages of the world are looked at for a value that differs: its size does not matter then."""

_YEAR = re.compile(r"(?<!\d)((?:19|20)\d\d)(?=\d{4}(?!\d)|(?!\d))")
_SECONDS_IN_YEAR = 31_556_952  # 365.2425 days
_SECONDS = (1e8, 1e10)  # 1973 to 2286, as seconds since 1970; as milliseconds a thousand times that


@of_passage("metadata_title", "metadata")
def metadata_title(passage: Passage, severity: float, draw: Random, world: World) -> Change | None:
    """Another document's title, whatever the severity.

    There is one title: any severity above 0 is the same. Nothing without a title, or another one in the world.
    """
    return _changed(passage, _borrowed(passage, _present(passage, (TITLE,)), draw, world))


@of_passage("metadata_source", "metadata")
def metadata_source(passage: Passage, severity: float, draw: Random, world: World) -> Change | None:
    """Another document's file, path or address; severity is the share of the fields, at least one.

    Nothing unless a passage of the world has other values for them.
    """
    fields = _some(_present(passage, SOURCE_FIELDS), severity, draw)
    return _changed(passage, _borrowed(passage, fields, draw, world))


@of_passage("metadata_date", "metadata")
def metadata_date(passage: Passage, severity: float, draw: Random, world: World) -> Change | None:
    """Dates some years off, written as they were; severity is the share of the fields, at least one.

    All of them move by the same one to eight years.
    """
    fields = _some(_present(passage, DATE_FIELDS), severity, draw)
    years = draw.randint(1, 8) * (-1 if draw.random() < 0.7 else 1)
    shifted = {name: _shifted(passage.metadata[name], years) for name in fields}
    return _changed(passage, {name: value for name, value in shifted.items() if value is not None})


@of_passage("metadata_missing", "metadata")
def metadata_missing(passage: Passage, severity: float, draw: Random, world: World) -> Change | None:
    """Fields missing, or with "unknown" in them (one in four); severity is the share of them, at least one."""
    fields = _some(_present(passage, KNOWN), severity, draw)
    lost = {name: draw.choice(PLACEHOLDERS) if draw.random() < 0.25 else None for name in fields}
    return _changed(passage, lost)


@of_passage("metadata_swapped", "metadata")
def metadata_swapped(passage: Passage, severity: float, draw: Random, world: World) -> Change | None:
    """Fields with one another's values, as title and source; severity is the share of them, two at least.

    The first two are title and source, when there are both.
    """
    fields = _present(passage, KNOWN)
    order = draw.sample(fields, len(fields))
    order.sort(key=lambda name: 0 if name == TITLE else 1 if name in SOURCE_FIELDS else 2)
    pairs = list(_pairs(order, passage.metadata))[: max(1, round(severity * len(fields) / 2))]
    values = {a: passage.metadata[b] for pair in pairs for a, b in (pair, pair[::-1])}
    return _changed(passage, values)


def _present(passage: Passage, fields: Sequence[str]) -> list[str]:
    return [name for name in fields if passage.metadata.get(name) not in (None, "")]


def _some(fields: Sequence[str], severity: float, draw: Random) -> list[str]:
    return draw.sample(fields, min(len(fields), max(1, round(severity * len(fields)))))


def _changed(passage: Passage, values: Mapping[str, Any]) -> Change | None:
    if not values:
        return None
    was = ", ".join(f"{name}: {passage.metadata[name]}" for name in values)
    now = ", ".join(f"{name}: {'missing' if value is None else value}" for name, value in values.items())
    if len(values) == 1:
        (name,) = values
        was, now = str(passage.metadata[name]), "missing" if values[name] is None else str(values[name])
    return Change(metadata=values, note={"was": was, "now": now})


def _borrowed(passage: Passage, fields: Sequence[str], draw: Random, world: World) -> dict[str, Any]:
    """Other values of the fields, all of one passage."""
    for _ in range(TRIES if fields and world.passages else 0):
        lender = world.passages[draw.randrange(len(world.passages))].metadata
        there = {name: lender[name] for name in fields if lender.get(name) not in (None, "", passage.metadata[name])}
        if there:
            return there
    return {}


def _shifted(value: Any, years: int) -> Any:
    """A date moved by some years, in the same form; None when there is none in it."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return _shifted_number(value, years)
    found = _YEAR.search(str(value))
    if found is None:
        return None
    year = int(found[1])
    if year % 4 == 0 and "29" in str(value):  # 29 February must not get into a year that has none
        years = 4 if years > 0 else -4
    if not 1901 <= year + years <= 2099:
        years = -years
    return _YEAR.sub(lambda match: f"{int(match[1]) + years:04}", str(value))


def _shifted_number(value: float, years: int) -> float | None:
    if 1909 <= value <= 2091:
        return value + years
    for unit in (1, 1000):
        if _SECONDS[0] * unit <= value < _SECONDS[1] * unit:
            return value + years * _SECONDS_IN_YEAR * unit
    return None


def _pairs(order: Sequence[str], values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Fields two by two, each with the first that is left and has another value."""
    left = list(order)
    while left:
        first = left.pop(0)
        other = next((name for name in left if values[name] != values[first]), None)
        if other is not None:
            left.remove(other)
            yield first, other
