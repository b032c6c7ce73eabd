"""Bars and histograms as SVG for a page, in the colours of its style; pure, knows no training set."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_WIDTH = 460.0
_LEFT, _RIGHT = 104.0, 50.0
_ROW, _BAR = 34.0, 11.0


class Bar(NamedTuple):
    """A share and how far it can be trusted.

    Attributes:
        share: 0 to 1.
        low: lower end of its interval.
        high: upper end.
    """

    share: float
    low: float
    high: float


def pairs(title: str, names: tuple[str, str], rows: Sequence[tuple[str, Bar | None, Bar | None]]) -> str:
    """Draw two bars for each row, one below the other, with their intervals.

    Args:
        title: for those who cannot see it.
        names: of the first and the second bar.
        rows: what they stand for, and both; None: unknown, and said so.
    """
    most = max((each.high for _, *both in rows for each in both if each), default=0.0) or 1.0
    scale = (_WIDTH - _LEFT - _RIGHT) / most
    parts = [_key(names)]
    for place, (name, *both) in enumerate(rows):
        top = 26 + place * _ROW
        parts.append(f'<text x="{_LEFT - 10:g}" y="{top + 15:g}" text-anchor="end">{escape(name)}</text>')
        for nth, (bar, colour) in enumerate(zip(both, ("five", "one"), strict=True)):
            parts.append(_bar(bar, top + nth * (_BAR + 2), scale, colour))
    return _svg(title, 30 + len(rows) * _ROW, parts)


def histogram(title: str, bins: Sequence[tuple[int, int, int]], marks: Sequence[tuple[int, str]]) -> str:
    """Draw how many there are of which size.

    Args:
        title: for those who cannot see it.
        bins: (from, to, how many), following one another.
        marks: sizes to mark, each with its name; those beyond the last bin are left out.
    """
    height, base = 170.0, 140.0
    most, end = max((n for *_, n in bins), default=0) or 1, bins[-1][1] if bins else 1
    scale = (_WIDTH - 50) / end
    parts = [f'<line x1="40" x2="{_WIDTH - 10:g}" y1="{base:g}" y2="{base:g}" style="stroke:var(--line)"/>']
    for start, stop, n in bins:
        tall = n / most * (base - 34)
        x, wide = 40 + start * scale, max((stop - start) * scale - 1, 0.5)
        told = f"<title>{start:,} to {stop - 1:,}: {n:,}</title>"
        parts.append(_rect(x, base - tall, wide, tall, "one", told))
    parts += [
        f'<text class="dim" x="{40 + at * scale:.1f}" y="{base + 16:g}" text-anchor="middle">{at:,}</text>'
        for at in _ticks(end)
    ]
    for nth, (at, name) in enumerate(mark for mark in marks if mark[0] <= end):
        x, y = 40 + at * scale, 14 + nth % 2 * 14
        anchor = "end" if x > _WIDTH / 2 else "start"
        shift = -4 if anchor == "end" else 4
        parts.append(_line(x, y - 8, x, base, "two"))
        parts.append(f'<text class="dim" x="{x + shift:.1f}" y="{y:g}" text-anchor="{anchor}">{escape(name)}</text>')
    return _svg(title, height, parts)


def _key(names: tuple[str, str]) -> str:
    first, second = (escape(name) for name in names)
    return (
        f'{_rect(_LEFT, 4, 10, 10, "five")}<text x="{_LEFT + 15:g}" y="13">{first}</text>'
        f'{_rect(_LEFT + 110, 4, 10, 10, "one")}<text x="{_LEFT + 125:g}" y="13">{second}</text>'
    )


def _bar(bar: Bar | None, y: float, scale: float, colour: str) -> str:
    if bar is None:
        return f'<text class="dim" x="{_LEFT + 2:g}" y="{y + 9:g}">unknown</text>'
    low, high, middle = _LEFT + bar.low * scale, _LEFT + bar.high * scale, y + _BAR / 2
    told = f"{bar.share:.1%}"
    return (
        _rect(_LEFT, y, bar.share * scale, _BAR, colour)
        + _line(low, middle, high, middle, "ink")
        + f'<text class="dim" x="{max(high, _LEFT + bar.share * scale) + 5:.1f}" y="{y + 9:g}">{told}</text>'
    )


def _rect(x: float, y: float, width: float, height: float, colour: str, inside: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} style="fill:var(--{colour})">{inside}</rect>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} style="stroke:var(--{colour})"/>'


def _ticks(end: int) -> list[int]:
    """Round numbers up to an end, four to nine of them."""
    step = 1
    while end / step > 9:
        step *= 5 if str(step)[0] == "1" and end / step > 18 else 2
    return list(range(0, end + 1, step))


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {_WIDTH:g} {height:g}" role="img"><title>{escape(title)}</title>'
    return "\n".join([head, *parts, "</svg>"])
