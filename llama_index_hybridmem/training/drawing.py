"""Curves as SVG for a page, in the colours of its style; pure, knows no training.

Bars are drawn by the training set's page (`export.drawing`); what that has not got, lines over an axis, is here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

_WIDTH, _HEIGHT = 460.0, 220.0
_LEFT, _RIGHT, _TOP, _BASE = 46.0, 12.0, 30.0, 184.0
_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)
_LETTER = 6.5  # width of a letter of 11 units, about
_MOST = 400  # points of a line; of more the page would only grow

Place = tuple[float, float]
Scale = Callable[[float], float]


class Whisker(NamedTuple):
    """A measured point with its interval.

    Attributes:
        x: where.
        y: how much.
        low: lower end.
        high: upper end.
    """

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """A line, or points, or both.

    Attributes:
        name: in the key.
        colour: a role of the page's style: "one", "two" or "five".
        points: that it runs through, by x; () for none.
        measured: points with intervals; () for none.
        dashed: for what is not measured.
    """

    name: str
    colour: str
    points: Sequence[Place] = ()
    measured: Sequence[Whisker] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Axis:
    """What lies below the lines, or beside them.

    Attributes:
        name: with its unit.
        shown: how a number is written at it.
        at: numbers to write; () for round ones.
        logarithmic: equal steps are equal ratios.
    """

    name: str
    shown: Callable[[float], str] = "{:g}".format
    at: Sequence[float] = ()
    logarithmic: bool = False


def curves(
    title: str,
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    marks: Sequence[tuple[float, str]] = (),
    shaded: tuple[float, float] | None = None,
) -> str:
    """Draw lines over an axis.

    Args:
        title: for those who cannot see it.
        lines: those without a finite point are left out.
        x: the axis below.
        y: the axis beside.
        marks: places on x to mark, each with its name.
        shaded: from where to where on x something is wrong.

    Returns:
        the SVG element; "" if there is nothing to draw.
    """
    places = [place for line in lines for place in _places(line)]
    if not places:
        return ""
    across = _across(places, x, [at for at, _ in marks])
    upwards, heights = _upwards(places, y)
    parts = [*_grid(y, upwards, heights), *_below(x, across, places), *_key(lines)]
    if shaded:
        left, right = (across(at) for at in shaded)
        spot = f'x="{left:.1f}" y="{_TOP:g}" width="{max(right - left, 1):.1f}" height="{_BASE - _TOP:g}"'
        parts.append(f'<rect {spot} style="fill:var(--two);opacity:.12"/>')
    for line in lines:
        parts += _drawn(line, across, upwards)
    parts += [part for at, name in marks for part in _mark(across(at), name)]
    head = f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img"><title>{escape(title)}</title>'
    return "\n".join([head, *parts, "</svg>"])


def _places(line: Line) -> Iterator[Place]:
    yield from (each for each in line.points if _finite(*each))
    for each in line.measured:
        if _finite(*each):
            yield from ((each.x, each.low), (each.x, each.y), (each.x, each.high))


def _finite(*numbers: float) -> bool:
    return all(map(math.isfinite, numbers))


def _across(places: Sequence[Place], axis: Axis, marks: Sequence[float]) -> Scale:
    bent = math.log if axis.logarithmic else float
    xs = [bent(at) for at in (*(x for x, _ in places), *marks)]
    first, wide = min(xs), (max(xs) - min(xs)) or 1.0
    return lambda at: _LEFT + 6 + (bent(at) - first) / wide * (_WIDTH - _LEFT - _RIGHT - 12)


def _upwards(places: Sequence[Place], axis: Axis) -> tuple[Scale, Sequence[float]]:
    """The scale beside the lines, and the round numbers on it."""
    low, high = min(y for _, y in places), max(y for _, y in places)
    step = _step((high - low) or abs(high) or 1.0)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last += first == last
    heights = axis.at or [step * place for place in range(first, last + 1)]
    start, tall = min(heights[0], low), (max(heights[-1], high) - min(heights[0], low)) or 1.0
    return lambda at: _BASE - (at - start) / tall * (_BASE - _TOP), heights


def _step(wide: float) -> float:
    """A round number of which three to five make the width."""
    power = 10.0 ** math.floor(math.log10(wide / 4))
    return next(digit * power for digit in _ROUND if digit * power >= wide / 4 - 1e-12 * wide)


def _grid(axis: Axis, upwards: Scale, heights: Sequence[float]) -> Iterator[str]:
    for at in heights:
        y = upwards(at)
        yield _stroke([(_LEFT, y), (_WIDTH - _RIGHT, y)], "line", 1)
        yield _text(_LEFT - 6, y + 4, axis.shown(at), "end")
    yield _text(0, _TOP - 16, axis.name, "start")


def _below(axis: Axis, across: Scale, places: Sequence[Place]) -> Iterator[str]:
    first, last = min(x for x, _ in places), max(x for x, _ in places)
    step = max(_step((last - first) or 1.0), 1.0 if float(first).is_integer() and last - first > 3 else 0.0)
    round_ = [step * place for place in range(math.ceil(first / step), math.floor(last / step) + 1)]
    free = -math.inf
    for at in axis.at or round_ or [first]:
        told, x = axis.shown(at), across(at)
        half = len(told) * _LETTER / 2
        if x - half > free:  # numbers that would touch are left out
            yield _text(x, _BASE + 16, told, "middle")
            free = x + half + 4
    yield _text(_WIDTH - _RIGHT, _BASE + 32, axis.name, "end")


def _key(lines: Sequence[Line]) -> Iterator[str]:
    x = _WIDTH - _RIGHT
    for line in reversed([each for each in lines if any(_places(each))]):
        x -= len(line.name) * _LETTER
        yield _text(x, 14, line.name, "start")
        yield _stroke([(x - 20, 10), (x - 5, 10)], line.colour, 2.5, line.dashed)
        x -= 34


def _drawn(line: Line, across: Scale, upwards: Scale) -> Iterator[str]:
    points = [(across(x), upwards(y)) for x, y in line.points if _finite(x, y)]
    points = points[:: max(1, math.ceil(len(points) / _MOST))] + points[-1:]
    if points:
        yield _stroke(points, line.colour, 2, line.dashed)
    for x, y, low, high in (each for each in line.measured if _finite(*each)):
        yield _stroke([(across(x), upwards(low)), (across(x), upwards(high))], line.colour, 1)
        told = f"<title>{x:,g}: {y:.3g} ({low:.3g} to {high:.3g})</title>"
        spot = f'cx="{across(x):.1f}" cy="{upwards(y):.1f}" r="3.5"'
        yield f'<circle {spot} style="fill:var(--{line.colour})">{told}</circle>'


def _mark(x: float, name: str) -> Iterator[str]:
    right = x > _WIDTH / 2
    yield _stroke([(x, _TOP), (x, _BASE)], "ink", 1, dashed=True)
    yield _text(x + (-5 if right else 5), _TOP + 10, name, "end" if right else "start")


def _stroke(points: Sequence[Place], colour: str, width: float, dashed: bool = False) -> str:
    course = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = ";stroke-dasharray:4 3" if dashed else ""
    look = f"fill:none;stroke:var(--{colour});stroke-width:{width:g};stroke-linejoin:round{dashes}"
    return f'<polyline points="{course}" style="{look}"/>'


def _text(x: float, y: float, told: str, anchor: str) -> str:
    return f'<text class="dim" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(told)}</text>'
