"""Bars that stand under their names, one row each: what fits a phone; knows nothing of costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llama_index_hybridmem.costs.report.drawing import WIDTH, Drawing
from llama_index_hybridmem.costs.report.wording import shortened, width

STEP = 38.0
"""Height of a row: its text, its bar, and room."""

_BAR, _BAR_AT = 9.0, 19.0
_SMALL = 11.0


@dataclass(frozen=True, slots=True)
class Row:
    """A name and a bar.

    Attributes:
        label: the name; cut when it is long.
        value: the bar's length, of the longest's; None for no bar.
        told: the value, as written at the right.
        note: written small after the name.
        ends: where a range around the value begins and ends.
        colour: the bar's.
    """

    label: str
    value: float | None
    told: str
    note: str = ""
    ends: tuple[float, float] | None = None
    colour: str = "one"


@dataclass(frozen=True, slots=True)
class Stack:
    """A name and a bar of several parts, each a share of the row's whole."""

    label: str
    parts: tuple[float, ...]
    told: str


Legend = Sequence[tuple[str, str]]
"""Names and their colours."""


def bars(rows: Sequence[Row], whole: float | None = None) -> Drawing:
    """Draw rows with a bar each.

    Args:
        rows: from top to bottom.
        whole: the value of a bar over the full width; the largest that is drawn unless given.
    """
    drawing = Drawing(STEP * len(rows) - 8)
    longest = whole or max((end for row in rows for end in (row.value or 0.0, *(row.ends or ()))), default=0.0)
    for place, row in enumerate(rows):
        top = place * STEP
        _text(drawing, top, row.label, row.told, row.note, row.value is None)
        drawing.bar(0, top + _BAR_AT, WIDTH, _BAR, "track")
        if row.value is not None and longest:
            length = max(row.value / longest * WIDTH, 1.5 if row.value else 0.0)
            drawing.bar(0, top + _BAR_AT, length, _BAR, row.colour)
        if row.ends is not None and longest:
            _whisker(drawing, top + _BAR_AT + _BAR / 2, *(end / longest * WIDTH for end in row.ends))
    return drawing


def stacks(rows: Sequence[Stack], legend: Legend) -> Drawing:
    """Draw rows with a bar of parts each; the legend names the parts, in their order."""
    drawing = Drawing(0)
    below = draw_legend(drawing, legend)
    drawing.height = below + STEP * len(rows) - 8
    for place, row in enumerate(rows):
        top, x = below + place * STEP, 0.0
        _text(drawing, top, row.label, row.told, "", False)
        drawing.bar(0, top + _BAR_AT, WIDTH, _BAR, "track")
        for part, (_, colour) in zip(row.parts, legend, strict=True):
            drawing.bar(
                x, top + _BAR_AT, max(0.0, part * WIDTH - (1 if x + part * WIDTH < WIDTH - 1 else 0)), _BAR, colour
            )
            x += part * WIDTH
    return drawing


def draw_legend(drawing: Drawing, legend: Legend) -> float:
    """Write names beside squares of their colours, in lines; give where they end."""
    x, y = 0.0, 0.0
    for name, colour in legend:
        wide = 14 + width(name, _SMALL)
        if x and x + wide > WIDTH:
            x, y = 0.0, y + 18
        drawing.bar(x, y + 2, 9, 9, colour)
        drawing.text(x + 14, y + 10.5, name, size=_SMALL, colour="dim")
        x += wide + 12
    return y + 26 if legend else 0.0


def ticks(highest: float, most: int = 4) -> list[float]:
    """Choose round values from 0 up to the highest, 1, 2 or 5 times a power of ten apart."""
    if highest <= 0:
        return [0.0]
    rough = highest / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough * (1 - 1e-9))
    return [step * place for place in range(int(highest / step + 1e-9) + 1)]


def _text(drawing: Drawing, top: float, label: str, told: str, note: str, missing: bool) -> None:
    room = WIDTH - width(told) - 10
    name = shortened(label, room)
    drawing.text(0, top + 12, name)
    drawing.text(WIDTH, top + 12, told, anchor="right", colour="dim" if missing else "ink", bold=not missing)
    at = width(name) + 8
    if note and at + width(note, _SMALL) < room:
        drawing.text(at, top + 12, note, size=_SMALL, colour="dim")


def _whisker(drawing: Drawing, y: float, low: float, high: float) -> None:
    drawing.line([(low, y), (high, y)], "ink", 1.2)
    for x in (low, high):
        drawing.line([(x, y - 3), (x, y + 3)], "ink", 1.2)
