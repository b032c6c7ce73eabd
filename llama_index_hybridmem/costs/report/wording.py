"""How figures, days and names are written, in the page and in the terminal; pure, knows no page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timezone
from decimal import ROUND_HALF_EVEN, Context, Decimal

NONE = "–"
"""Stands where nothing is known; never a zero."""

_TWO_DIGITS = Context(prec=2, rounding=ROUND_HALF_EVEN)
_SIGNS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥"}
_GAP = "\u00a0"  # between a figure and its unit, which stay on one line

_BLANKS = re.compile(rf"[^\S{_GAP}]+")
# What XML 1.0 has no way to write, lone surrogates among it, and what moves a terminal's cursor.
_UNWRITABLE = re.compile("[^\t\n\r\u0020-\u007e\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# What would turn the words behind a name around.
_TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_LONGEST = 80


def money(value: Decimal | None, currency: str = "USD") -> str:
    """Write an amount: "$1,204", "$42.10", "$0.42", "$0.0042"; below ten cents with two digits that say something."""
    if value is None:
        return NONE
    sign = _SIGNS.get(currency, f"{currency}{_GAP}")
    size = abs(value)
    minus = "−" if value < 0 else ""
    if size == 0:
        return f"{sign}0"
    if size < Decimal("1e-7"):
        return f"{minus}<{sign}0.0000001"
    if size < Decimal("0.0995"):
        rounded = _TWO_DIGITS.plus(size)
        return f"{minus}{sign}{rounded.quantize(Decimal(1).scaleb(rounded.adjusted() - 1)):f}"
    return f"{minus}{sign}{size:,.0f}" if size >= 1000 else f"{minus}{sign}{size:.2f}"


def round_money(value: Decimal, currency: str) -> str:
    """Write an amount that somebody chose, without zeros that say nothing: "$0.02", "$0.70", "$5", "$1,000"."""
    told = money(value, currency)
    return told.rstrip("0") if 0 < value < Decimal("0.0995") else told.removesuffix(".00")


def scale_money(values: Sequence[float], currency: str) -> list[str]:
    """Write the amounts of a scale from 0, evenly apart, all with the same digits behind the point."""
    step = Decimal(repr(values[-1])) / max(len(values) - 1, 1)
    digits = max(0, -step.normalize().adjusted())
    sign = _SIGNS.get(currency, f"{currency}{_GAP}")
    return [f"{sign}{value:,.{2 if digits == 1 else digits}f}" for value in values]


def at_least(value: Decimal | None, partly: bool, currency: str = "USD") -> str:
    """Write an amount to which something unknown comes."""
    return f"≥{_GAP}{money(value, currency)}" if partly and value is not None else money(value, currency)


def seconds(value: float | None) -> str:
    """Write a time: "0.42 ms", "4.2 ms", "38 ms", "1.2 s", "38 s", "12 min 5 s", "2 h 10 min"."""
    if value is None:
        return NONE
    if value < 0.9995:
        milli = value * 1000
        digits = 0 if milli >= 9.95 or milli == 0 else 1 if milli >= 0.995 else 2
        return f"{milli:.{digits}f}{_GAP}ms"
    if value < 59.5:
        return f"{value:.{1 if value < 9.95 else 0}f}{_GAP}s"
    if value < 3599.5:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes}{_GAP}min" + (f"{_GAP}{rest}{_GAP}s" if rest else "")
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours:,}{_GAP}h" + (f"{_GAP}{minutes}{_GAP}min" if minutes else "")


def share(value: float | None) -> str:
    """Write a share of 0 … 1: "0 %", "<0.1 %", "3.2 %", "31 %", "99.6 %", "100 %"."""
    if value is None:
        return NONE
    percent = 100 * value
    if percent in (0, 100):
        return f"{percent:.0f}{_GAP}%"
    if percent < 0.1:
        return f"<0.1{_GAP}%"
    if percent > 99.9:
        return f">99.9{_GAP}%"
    return f"{percent:.{1 if percent < 9.95 or percent >= 99.5 else 0}f}{_GAP}%"


def round_seconds(value: float) -> str:
    """Write a round time, as it stands at a scale: "0", "20 ms", "1 s"."""
    return seconds(value).replace(f".0{_GAP}", _GAP) if value else "0"


def count(number: int | None) -> str:
    """Write a number in full: "1,240"."""
    return NONE if number is None else f"{number:,}"


def tokens(number: int | None) -> str:
    """Write a number of tokens: "8,440", "844k", "1.2M", "3.4B"."""
    if number is None or number < 9_999.5:
        return count(number)
    for size, letter in ((1e9, "B"), (1e6, "M")):
        if number >= 0.9995 * size:
            return f"{number / size:,.{1 if number < 9.95 * size else 0}f}{letter}"
    return f"{number / 1000:.0f}k"


def counted(number: int, noun: str, several: str = "") -> str:
    """Say how many: "1 query", "1,024 queries"."""
    return f"{number:,}{_GAP}{noun if number == 1 else several or f'{noun}s'}"


def queries(number: int) -> str:
    """Say how many queries."""
    return counted(number, "query", "queries")


def day(when: float, year: bool = True) -> str:
    """Write the day (UTC) of a moment in Unix seconds: "18 Nov 2026", "18 Nov"."""
    moment = datetime.fromtimestamp(when, timezone.utc)
    return f"{moment.day}{_GAP}{moment:%b %Y}" if year else f"{moment.day}{_GAP}{moment:%b}"


def month(name: str) -> str:
    """Write "2026-11" as "November 2026"."""
    return f"{datetime.strptime(name, '%Y-%m'):%B}{_GAP}{name[:4]}"


def period(first: float, last: float) -> str:
    """Write from when to when (UTC): "1 Nov to 18 Nov 2026", "3 Nov 2026, 10:12 to 11:40 UTC"."""
    if day(first) == day(last):
        start, end = (f"{datetime.fromtimestamp(each, timezone.utc):%H:%M}" for each in (first, last))
        return f"{day(first)}, {start} to {end}{_GAP}UTC" if start != end else f"{day(first)}, {start}{_GAP}UTC"
    same = day(first)[-4:] == day(last)[-4:]
    return f"{day(first, year=not same)} to {day(last)}"


def writable(text: str) -> str:
    """Put "\ufffd" in place of what a page cannot hold."""
    return _UNWRITABLE.sub("\ufffd", text)


def clean(text: str) -> str:
    """Make of any text one line that a page can hold and that leaves what stands beside it alone."""
    return _BLANKS.sub(" ", _TURNING.sub("\ufffd", writable(text))).strip(" ")


def name(text: str) -> str:
    """Make a name of any text, for a cell of a table: cut when it is very long."""
    text = clean(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def said(text: str) -> str:
    """Make a name of any text, for a sentence: shorter, and by itself, whichever way its letters run."""
    return f"\u2068{shortened(text, 26, 1)}\u2069"


def ending(status: str) -> str:
    """Say how a query ended, in words; the type of an error stays what it is."""
    return "never read" if status == "never_consumed" else name(status)


def width(text: str, size: float = 12) -> float:
    """Estimate how wide text stands, in the unit of its size; rather too wide, whatever the reader's font."""
    return size * sum(_ems(letter) for letter in text)


def _ems(letter: str) -> float:
    if ord(letter) > 0x2FF or letter in "mwMW@%":
        return 1.0
    return 0.38 if letter in "iljtf.,:;|!'() \u00a0·" else 0.72 if letter.isupper() else 0.65


def shortened(text: str, room: float, size: float = 12) -> str:
    """Cut text to the room there is, with "…" in place of what went."""
    text = clean(text)
    if width(text, size) <= room:
        return text
    kept = len(text)
    while kept > 1 and width(f"{text[:kept]}…", size) > room:
        kept -= 1
    return f"{text[:kept].rstrip()}…"
