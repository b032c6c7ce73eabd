"""Answers that are written unlike the others: length, casing, signs, script, units, JSON; pure, knows no passage.

Memory stays flat: each trait is kept as a histogram, with the first few ids of each rare value.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

OUTLIER = 3.5
"""Robust z-score beyond which a value is one (Iglewicz and Hoaglin 1993)."""
RULE, EXCEPTION = 0.9, 0.05
"""A trait's most frequent value is a rule from this share of the answers on; what fewer than the other share do breaks
it. What more do is a habit of its own."""
ENOUGH = 20
"""Answers below which nothing is usual."""

_STEP = 0.05  # of histograms, in units of the natural logarithm: 5 % of a length
_NAMED = 5
_PUNCTUATION = re.compile(r"[^\w\s]")
_LETTER = re.compile(r"[^\W\d_]")
_UNITS = {
    "gigabytes per second": (r"\d\s?GB/s\b", r"\bgigabytes? (?:per|a) second\b"),
    "megabytes per second": (r"\d\s?MB/s\b", r"\bmegabytes? (?:per|a) second\b"),
    "gigabytes": (r"\d\s?GB(?!/)\b", r"\bgigabytes?\b(?! (?:per|a) )"),
    "megabytes": (r"\d\s?MB(?!/)\b", r"\bmegabytes?\b(?! (?:per|a) )"),
    "terabytes": (r"\d\s?TB\b", r"\bterabytes?\b"),
    "gigahertz": (r"\d\s?GHz\b", r"\bgigahertz\b"),
    "megahertz": (r"\d\s?MHz\b", r"\bmegahertz\b"),
    "milliseconds": (r"\d\s?ms\b", r"\bmilliseconds?\b"),
    "kilometres per hour": (r"\d\s?(?:km/h|kph)\b", r"\bkilomet(?:re|er)s? (?:per|an) hour\b"),
    "kilometres": (r"\d\s?km(?!/)\b", r"\bkilomet(?:re|er)s?\b(?! (?:per|an) )"),
    "kilograms": (r"\d\s?kg\b", r"\bkilogram(?:me)?s?\b"),
    "centimetres": (r"\d\s?cm\b", r"\bcentimet(?:re|er)s?\b"),
    "millimetres": (r"\d\s?mm\b", r"\bmillimet(?:re|er)s?\b"),
    "nanometres": (r"\d\s?nm\b", r"\bnanomet(?:re|er)s?\b"),
    "percent": (r"\d\s?%", r"\bper ?cent\b"),
    "dollars": (r"\$\s?\d", r"\bdollars?\b"),
    "euros": (r"€\s?\d|\d\s?€", r"\beuros?\b"),
    "United States": (r"\bU\.?S\.?(?:A\.?)?(?!\w)", r"\bUnited States\b"),
    "United Kingdom": (r"\bU\.?K\.?(?!\w)", r"\bUnited Kingdom\b"),
    "European Union": (r"\bEU\b", r"\bEuropean Union\b"),
}
_FORMS = {unit: (re.compile(short), re.compile(long, re.IGNORECASE)) for unit, (short, long) in _UNITS.items()}
_ANY_FORM = re.compile(
    "|".join(f"(?:{short})|(?i:{long})" for short, long in _UNITS.values()),
)


@dataclass(frozen=True, slots=True)
class Oddity:
    """Answers that differ from most in one way.

    Attributes:
        trait: "length", "punctuation", "casing", "ending", "script", "unit …" or "JSON".
        usual: what most do.
        found: what these do.
        count: how many.
        ids: the first of them.
    """

    trait: str
    usual: str
    found: str
    count: int
    ids: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {**asdict(self), "ids": list(self.ids)}


class Style:
    """Compares answers with one another."""

    def __init__(self) -> None:
        self._answers = 0
        self._numbers: dict[str, Counter[int]] = defaultdict(Counter)
        self._values: dict[str, Counter[str]] = defaultdict(Counter)
        self._ids: dict[tuple[str, str | int], list[str]] = defaultdict(list)

    def add(self, id_: str, answer: str) -> None:
        """Take an answer; abstentions are worded by the export and are not given here."""
        if not answer.strip():
            return
        self._answers += 1
        for trait, number in _numbers(answer):
            self._keep(self._numbers[trait], trait, round(number / _STEP), id_)
        for trait, value in _values(answer):
            self._keep(self._values[trait], trait, value, id_)

    def _keep(self, counter: Counter[Any], trait: str, value: str | int, id_: str) -> None:
        counter[value] += 1
        if counter[value] <= _NAMED:
            self._ids[trait, value].append(id_)

    def result(self) -> tuple[Oddity, ...]:
        """Give the oddities, the most frequent first; none below `ENOUGH` answers."""
        if self._answers < ENOUGH:
            return ()
        found = [*self._far_ones(), *self._rule_breakers(), *self._mixed_units()]
        return tuple(sorted(found, key=lambda each: (-each.count, each.trait, each.found)))

    def _far_ones(self) -> Iterator[Oddity]:
        for trait, counter in sorted(self._numbers.items()):
            middle, spread = _centre(counter)
            if not spread:
                continue
            for name, side in (("low", -1), ("high", 1)):
                far = sorted(value for value in counter if side * (value - middle) / spread > OUTLIER)
                if far and sum(counter[value] for value in far) < EXCEPTION * self._answers:
                    nearest = far[-1] if side < 0 else far[0]
                    limit, usual = _shown(trait, nearest), _shown(trait, middle)
                    found = f"{'at most' if side < 0 else 'at least'} {limit}, {name}"
                    yield self._oddity(trait, f"about {usual}", found, counter, far)

    def _rule_breakers(self) -> Iterator[Oddity]:
        for trait, counter in sorted(self._values.items()):
            if trait.startswith("unit "):
                continue
            usual, most = max(counter.items(), key=lambda each: (each[1], each[0]))
            if trait == "JSON" and usual == "JSON" and most > self._answers / 2:
                rare = [value for value in counter if value != "JSON"]
            elif trait == "JSON":
                rare = [value for value in counter if value == "broken JSON"]
            else:
                rule = most >= RULE * self._answers
                rare = [value for value, n in counter.items() if rule and n < EXCEPTION * self._answers]
            for value in sorted(rare):
                yield self._oddity(trait, usual, value, counter, [value])

    def _mixed_units(self) -> Iterator[Oddity]:
        for trait, counter in sorted(self._values.items()):
            if trait.startswith("unit ") and len(counter) == 2:
                (usual, _), (rare, _) = counter.most_common()
                yield self._oddity(trait, usual, rare, counter, [rare])

    def _oddity(self, trait: str, usual: str, found: str, counter: Counter[Any], values: list[Any]) -> Oddity:
        ids = [id_ for value in values for id_ in self._ids[trait, value]][:_NAMED]
        return Oddity(trait, usual, found, sum(counter[value] for value in values), tuple(ids))


def form_of(answer: str) -> str:
    """Name an answer's casing and ending, as "capital first, full stop"."""
    return f"{_casing(answer)}, {_ending(answer)}"


def _numbers(answer: str) -> Iterator[tuple[str, float]]:
    yield "length", math.log(max(len(answer.split()), 1))
    yield "punctuation", math.log1p(100 * len(_PUNCTUATION.findall(answer)) / len(answer))


def _values(answer: str) -> Iterator[tuple[str, str]]:
    yield "casing", _casing(answer)
    yield "ending", _ending(answer)
    yield "script", _script(answer)
    yield "JSON", _json(answer)
    if _ANY_FORM.search(answer):
        for unit, (short, long) in _FORMS.items():
            if short.search(answer):
                yield f"unit {unit}", "abbreviated"
            elif long.search(answer):
                yield f"unit {unit}", "spelled out"


def _casing(answer: str) -> str:
    letters = _LETTER.findall(answer[:200])
    if not letters:
        return "no letters"
    if len(letters) > 6 and answer[:200].isupper():
        return "capitals throughout"
    if letters[0].isupper():
        return "capital first"
    return "small letter first" if letters[0].islower() else "no case"


def _ending(answer: str) -> str:
    return "full stop" if answer.rstrip("\"'”’)] ").endswith((".", "!", "?", "。", "！", "？")) else "no full stop"


def _script(answer: str) -> str:
    """The script of most of its first letters, by their Unicode names."""
    letters = "".join(_LETTER.findall(answer[:200]))
    if letters.isascii():
        return "latin" if letters else "none"
    names = Counter(unicodedata.name(letter, "unknown").split()[0].split("-")[0].lower() for letter in letters[:40])
    return max(names, key=lambda name: (names[name], name))


def _json(answer: str) -> str:
    start = answer.lstrip()[:1]
    if start not in "{[" or not start or re.match(r"\s*\[\d+\]", answer):
        return "no JSON"
    try:
        json.loads(answer)
    except (ValueError, RecursionError):
        return "broken JSON" if start == "{" or answer.rstrip().endswith("]") else "no JSON"
    return "JSON"


def _centre(counter: Mapping[int, int]) -> tuple[float, float]:
    """Median, and a spread in units of a standard deviation: by the median deviation, or the mean one where that is 0.

    The factors are those that make either equal the standard deviation of normally distributed values.
    """
    middle = _median(counter)
    deviations: Counter[float] = Counter()
    for value, n in counter.items():
        deviations[abs(value - middle)] += n
    if spread := _median(deviations):
        return middle, 1.4826 * spread
    return middle, 1.2533 * sum(value * n for value, n in deviations.items()) / deviations.total()


def _median(counter: Mapping[Any, int]) -> float:
    whole, passed = sum(counter.values()), 0
    for value in sorted(counter):
        passed += counter[value]
        if 2 * passed >= whole:
            return float(value)
    return 0.0


def _shown(trait: str, value: float) -> str:
    number = math.exp(value * _STEP)
    return f"{number:.0f} words" if trait == "length" else f"{number - 1:.0f} signs in 100"
