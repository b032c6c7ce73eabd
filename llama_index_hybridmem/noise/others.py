"""Another value of the same type and form as one in a text, and an older one; pure, knows no passage or operator."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from llama_index_hybridmem.noise.values import (
    DIGITS,
    FIRST_YEAR,
    LAST_YEAR,
    LINE_OF,
    MONTH,
    MONTHS,
    NUMBER,
    SHORT,
    YEAR,
    Value,
    figures,
    month_and_day,
    stands,
)

_TRIES = 8


def another(value: Value, draw: Random, pool: Sequence[Value] = (), avoid: Sequence[str] = ()) -> str | None:
    """Make another value of the same type and form.

    Figures keep separators, decimals, round zeros and units, and stay between half and about twice the old one.

    Args:
        value: the value.
        draw: random numbers.
        pool: names to choose from; one of as many words, after the same preposition if there is such a one, else one
            put together from their words.
        avoid: texts that must not hold the new value, nor it them.

    Returns:
        a text that neither holds the old value nor stands in it; None when none was found.
    """
    for _ in range(_TRIES):
        new = _OTHERS[value.type](value, draw, pool)
        if new and all(apart(new, each) for each in (value.text, *avoid)):
            return new
    return None


def apart(new: str, old: str) -> bool:
    """Whether neither of two texts stands in the other as whole words."""
    return not (stands(new, old) or (old.strip() and stands(old, new)))


def older(text: str, draw: Random) -> str | None:
    """Put the first date, year or version of a text back by one to four years, or one release.

    Returns:
        the whole text with that one change; None when it holds neither, or only a date without a year.
    """
    for value in figures(text):
        old = _older(value, draw)
        if old:
            return text[: value.start] + old + text[value.end :]
    return None


def _near(core: int, draw: Random, top: int | None = None) -> int:
    """Another whole number from half to twice as much."""
    low = max(2 if core > 1 else 1, core // 2)
    high = min(max(core * 2, 2), top - 1 if top is not None else core * 2 + 2)
    number = draw.randint(min(low, high), high)
    return number + (number >= core)


def _other_number(text: str, draw: Random, top: int | None = None) -> str:
    whole, point, part = text.partition(".")
    digits = whole.replace(",", "") + part
    core = digits if part or top else digits.rstrip("0") or "0"  # round figures stay round
    zeros = len(digits) - len(core) if core != "0" else 0
    new = str(_near(int(core), draw, top * 10 ** len(part) if top else None)) + "0" * zeros
    new = new.zfill(len(digits) if whole.startswith("0") else len(part) + 1)
    front = new[: len(new) - len(part)]
    return (f"{int(front):,}" if "," in whole else front) + point + new[len(new) - len(part) :]


def _other_figure(value: Value, draw: Random, pool: Sequence[Value]) -> str:
    match = re.search(NUMBER, value.text)
    assert match is not None  # every type of figure holds one
    small = value.type == "percent" and float(match.group().replace(",", "")) <= 100
    new = _other_number(match.group(), draw, 100 if small else None)
    rest = value.text[match.end() :]
    if rest[:2] in ("st", "nd", "rd", "th"):
        rest = _suffix(int(new.replace(",", ""))) if new.replace(",", "").isdigit() else rest
    elif match.group() == "1" and re.fullmatch(r"[\s-][a-z]{3,}", rest) and rest[-1] != "s":
        rest += "s"
    return value.text[: match.start()] + new + rest


def _suffix(number: int) -> str:
    return "th" if 10 < number % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def _other_year(value: Value, draw: Random, pool: Sequence[Value]) -> str:
    step = 10 if value.text.endswith("s") else 1
    shift = draw.choice((-9, -8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4)) if step == 1 else draw.choice((-3, -2, -1, 1))
    year = min(max(int(value.text[:4]) + shift * step, FIRST_YEAR), LAST_YEAR)
    return f"{year}{value.text[4:]}"


_DATE_PART = re.compile(rf"(?P<year>{YEAR})|(?P<month>{MONTH})|(?P<day>[0-9]{{1,2}})(?P<suffix>st|nd|rd|th)?")


def _other_date(value: Value, draw: Random, pool: Sequence[Value]) -> str:
    """Every part of the date changes, so that neither its year nor its day is left as it was."""
    date, rest = (value.text[:10], value.text[10:]) if value.text[4:5] == "-" else (value.text, "")
    last_day = 28 if re.search(MONTH, date) else 12  # in figures alone, it may be the month

    def other(part: re.Match[str]) -> str:
        if part["year"]:
            return _other_year(Value(0, 4, part["year"], "year"), draw, ())
        if part["month"]:
            return _other_month(part["month"], draw)
        day = draw.randint(1, last_day - 1)
        day += day >= int(part["day"])
        return f"{day:0{len(part['day']) if part['day'][0] == '0' or last_day == 12 else 1}d}" + (
            _suffix(day) if part["suffix"] else ""
        )

    return _DATE_PART.sub(other, date) + rest


def _other_month(month: str, draw: Random) -> str:
    at = (SHORT.index(month[:3]) + draw.randint(1, 11)) % 12
    if month.rstrip(".") in MONTHS:
        return MONTHS[at]
    return SHORT[at] + ("." if month.endswith(".") else "")


def _other_time(value: Value, draw: Random, pool: Sequence[Value]) -> str:
    hour, colon, rest = value.text.partition(":")
    half = rest[-1] in "mM."  # am, pm
    other = (int(hour) - half + draw.randint(1, 11 if half else 23)) % (12 if half else 24) + half
    return f"{other:0{len(hour) if hour[0] == '0' or not half else 1}d}{colon}{rest}"


def _other_version(value: Value, draw: Random, pool: Sequence[Value]) -> str:
    parts = list(DIGITS.finditer(value.text))
    part = draw.choice(parts[1:] or parts)
    return value.text[: part.start()] + str(_near(int(part.group()), draw)) + value.text[part.end() :]


def _other_word(value: Value, draw: Random, pool: Sequence[Value]) -> str:
    return draw.choice(LINE_OF[value.text])


def _other_name(value: Value, draw: Random, pool: Sequence[Value]) -> str | None:
    alike = [each for each in pool if _shape(each.text) == _shape(value.text) and each.text != value.text]
    best = [each for each in alike if each.before == value.before]
    if alike:
        return draw.choice(best or alike).text
    words = value.text.split(" ")
    capital = [at for at, word in enumerate(words) if word[0].isupper()]
    spare = sorted({word for each in pool for word in each.text.split(" ") if word[0].isupper()} - set(words))
    if len(spare) < len(capital):
        return None
    for at, word in zip(capital, draw.sample(spare, len(capital)), strict=True):
        words[at] = word
    return " ".join(words)


def _shape(name: str) -> tuple[int, bool]:
    return name.count(" "), name.isupper()


def _older(value: Value, draw: Random) -> str | None:
    if value.type == "version":
        part = next((each for each in reversed(list(DIGITS.finditer(value.text))) if int(each.group())), None)
        return part and value.text[: part.start()] + str(int(part.group()) - 1) + value.text[part.end() :]
    year = re.search(YEAR, value.text) if value.type in ("date", "year") else None
    if not year:
        return None
    back = draw.randint(1, 4) * (10 if value.text.endswith("s") else 1)
    was = int(year.group())
    old = value.text[: year.start()] + str(was - back) + value.text[year.end() :]
    return re.sub(r"(?<![0-9])29(?![0-9])", "28", old) if _is_leap_day(value.text, year) else old


def _is_leap_day(text: str, year: re.Match[str]) -> bool:
    return re.search(r"(?<![0-9])29(?![0-9])", text) is not None and month_and_day(text, year)[0] in (0, 2)


_OTHERS = {
    "date": _other_date,
    "year": _other_year,
    "time": _other_time,
    "money": _other_figure,
    "percent": _other_figure,
    "version": _other_version,
    "quantity": _other_figure,
    "number": _other_figure,
    "word": _other_word,
    "name": _other_name,
}
