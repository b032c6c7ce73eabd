"""Where the dots of a picture stand, each in a row of its own, and how much room their labels take; draws nothing."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

ROW = 26
MEDIUM, SMALL, LARGE = 13, 11, 17
"""Sizes of type: of dots, of lines, of the dot in the middle."""
LABEL_AT = 13
"""From a dot's middle to its label."""
_RING, _GAP = 190, 74  # from the middle to the inner dots at least; from their labels to the outer dots
_LONGEST_LABEL, _LONGEST_WORDS = 34, 30  # characters of a dot's label, of a line's

Side = Literal[-1, 1]
Point = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Dot:
    """A name, or what stands at the other end of a fact.

    Attributes:
        key: tells it from the others.
        label: cut when long.
        told: shown in full when pointed at.
        beside: key of the dot it hangs on; None for the one in the middle.
        weight: makes it larger.
        is_name: whether it is a name of the graph; else it is drawn hollow.
    """

    key: str
    label: str
    told: str
    beside: str | None
    weight: int = 0
    is_name: bool = True


@dataclass(frozen=True)
class Line:
    """Two names with passages in common, and how many."""

    one: str
    other: str
    count: int


@dataclass(frozen=True)
class Arrow:
    """Facts from one dot to another: their relations."""

    tail: str
    head: str
    relations: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """What is drawn: the first dot in the middle; a dot is listed after the one it hangs on.

    Attributes:
        title: what the picture shows, for those who cannot see it, too.
        description: the same in a sentence.
    """

    title: str
    description: str
    dots: Sequence[Dot]
    lines: Sequence[Line]
    arrows: Sequence[Arrow]


@dataclass(frozen=True)
class Placed:
    """A dot in its place: `depth` 0 in the middle, 1 beside it, 2 further out."""

    dot: Dot
    at: Point
    radius: float
    side: Side
    depth: int


def layout(picture: Picture) -> dict[str, Placed]:
    """Give every dot its place: the first in the middle at (0, 0), the others left and right of it."""
    middle = picture.dots[0]
    hanging: dict[str, list[Dot]] = {}
    for dot in picture.dots[1:]:
        hanging.setdefault(dot.beside or middle.key, []).append(dot)
    ring = _RING + max((width_of(spoken(arrow), SMALL) for arrow in picture.arrows), default=0)
    flat = hanging.keys() <= {middle.key}  # nothing further out
    placed = {middle.key: Placed(middle, (0, 0), 9, 1, 0)}
    for side, inner in _sides(hanging.get(middle.key, ()), hanging):
        label = max((width_of(label_of(dot), MEDIUM) for dot in inner), default=0)
        outer_x = ring + 14 + label + _GAP
        row = -sum(_rows(dot, hanging) for dot in inner) / 2
        half = abs(row) * ROW or 1
        for dot in inner:
            outer = hanging.get(dot.key, ())
            y = (row + _rows(dot, hanging) / 2) * ROW
            bow = 0.62 + 0.38 * math.sqrt(max(0.0, 1 - (y / half) ** 2))
            x = ring * (bow if flat else 1)
            placed[dot.key] = Placed(dot, (side * x, y), _radius(dot), side, 1)
            for place, far in enumerate(outer):
                at = (side * outer_x, (row + place + 0.5) * ROW)
                placed[far.key] = Placed(far, at, _radius(far), side, 2)
            row += _rows(dot, hanging)
    return placed


def _sides(inner: Sequence[Dot], hanging: Mapping[str, Sequence[Dot]]) -> Iterator[tuple[Side, list[Dot]]]:
    """Share the dots out evenly; the first in the middle of its side, the next above and below it in turn."""
    sides: dict[Side, list[Dot]] = {1: [], -1: []}
    for dot in inner:
        fuller = sum(_rows(each, hanging) for each in sides[1]) > sum(_rows(each, hanging) for each in sides[-1])
        sides[-1 if fuller else 1].append(dot)
    for side, dots in sides.items():
        yield side, [*dots[1::2][::-1], *dots[::2]]


def _rows(dot: Dot, hanging: Mapping[str, Sequence[Dot]]) -> int:
    return max(1, len(hanging.get(dot.key, ())))


def _radius(dot: Dot) -> float:
    return 3.5 + min(4.5, math.sqrt(max(0, dot.weight)))


def boxes(each: Placed) -> Iterator[Box]:
    """The room that a dot and its label take: left, top, right, bottom."""
    (x, y), width = each.at, width_of(label_of(each.dot), LARGE if each.depth == 0 else MEDIUM)
    yield x - 9, y - 9, x + 9, y + 9
    if each.depth == 0:
        yield x - width / 2, y - 36, x + width / 2, y - 12
    else:
        ends = sorted((x + each.side * LABEL_AT, x + each.side * (LABEL_AT + width)))
        yield ends[0], y - 9, ends[1], y + 9


def label_of(dot: Dot) -> str:
    """A dot's label as far as there is room for it."""
    return _cut(dot.label, _LONGEST_LABEL)


def spoken(arrow: Arrow) -> str:
    """An arrow's relations as far as there is room for them."""
    return _cut(" · ".join(arrow.relations), _LONGEST_WORDS)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"


def width_of(text: str, size: int) -> float:
    """How wide a text is about: capitals are wider, letters of Chinese, Japanese and Korean twice as wide."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    capitals = sum(map(str.isupper, text))
    return size * (0.57 * len(text) + 0.14 * capitals + 0.45 * wide)
