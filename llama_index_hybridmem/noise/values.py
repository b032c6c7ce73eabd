"""Typed values in a text: figures, dates, money, names; pure, knows no passage and nobody who changes them."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

from llama_index_hybridmem.terms import STOPWORDS

Type = Literal["date", "year", "time", "money", "percent", "version", "quantity", "number", "word", "name"]

FIRST_YEAR, LAST_YEAR = 1500, 2100
"""Four digits from here to there are a year."""

SERIES = (
    "two three four five six seven eight nine ten eleven twelve",
    "Two Three Four Five Six Seven Eight Nine Ten Eleven Twelve",
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "true false",
    "True False",
    "enabled disabled",
    "required optional",
    "red blue green yellow black white orange purple",
    "north south east west",
    "northern southern eastern western",
    "monthly weekly daily yearly",
)
"""Words of which another of the same line says something else."""


class Value(NamedTuple):
    """A value in a text.

    Attributes:
        start: first character.
        end: the character behind the last.
        text: as it stands there.
        type: what it is.
        before: for a name, the preposition before it, "" without one: "in Bern" and "by Bern" are not alike.
    """

    start: int
    end: int
    text: str
    type: Type
    before: str = ""


MONTHS = "January February March April May June July August September October November December".split()
SHORT = [month[:3] for month in MONTHS]
MONTH = rf"(?:{'|'.join(MONTHS)}|(?:{'|'.join(SHORT)}|Sept)\b\.?)"
_DAY = r"[0-9]{1,2}(?:st|nd|rd|th)?"
YEAR = r"(?:1[5-9][0-9]{2}|20[0-9]{2}|2100)"
NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,12})(?:\.[0-9]{1,9})?"
_SCALE = r"(?:thousand|million|billion|trillion)"
_UNIT = r"""(?:
    [nµμum]?s | secs? | seconds? | mins? | minutes? | h | hrs? | hours? | days? | weeks? | months? | years?
    | [KMGTP]?i?[Bb](?:it|ps)? | [kKMGT]?bit | [kMGT]?bps | bytes? | bits? | tokens?
    | [nµμmck]?m[²³]? | inch(?:es)? | ft | feet | foot | yards? | miles? | mi | acres? | hectares?
    | [mkµμ]?g | kilograms? | grams? | tons? | tonnes? | lbs? | oz | ml | litres? | liters? | l | gallons?
    | [mkMG]?W | [mk]?V | mA | mAh | [kMG]?Wh | [kMG]?Hz | [kM]?J | °\s?[CF] | [Kk]m/h | mph | k?Pa | dB | px | x
    )(?:/(?:s|h|min|day|month|year|user|token))?"""
_FIGURE = re.compile(
    rf"""(?:
    (?P<date>{YEAR}-[0-9]{{2}}-[0-9]{{2}}(?:[T ][0-9]{{2}}:[0-9]{{2}}(?::[0-9]{{2}}(?:\.[0-9]+)?)?
            (?:Z|[+-][0-9:]{{4,5}})?)?
        | {YEAR}/[0-9]{{2}}/[0-9]{{2}} | [0-9]{{1,2}}([./])[0-9]{{1,2}}\2{YEAR}
        | {MONTH}\ {_DAY}(?:,?\ {YEAR})? | {MONTH},?\ {YEAR} | {_DAY}\ (?:of\ )?{MONTH}(?:,?\ {YEAR})?)
    | (?P<time>[0-9]{{1,2}}:[0-9]{{2}}(?::[0-9]{{2}})?(?:\s?[ap]m|\s?[AP]M|\s[ap]\.m\.)?)
    | (?P<money>[$€£¥₹]\ ?{NUMBER}(?:\ ?(?:{_SCALE}|bn|[mMkKbB]))?
        | {NUMBER}(?:\ {_SCALE})?\s?(?:(?:US\ )?dollars|euros|pounds|yen|cents|USD|EUR|GBP|CHF|JPY|€|£))
    | (?P<percent>{NUMBER}\s?(?:%|percent|per\ cent))
    | (?P<version>v[0-9]{{1,5}}(?:\.[0-9]{{1,5}})*|[0-9]{{1,5}}(?:\.[0-9]{{1,5}}){{2,3}})
    | (?P<year>{YEAR}s|{YEAR}(?![\s-]?{_UNIT}(?!\w)))
    | (?P<quantity>{NUMBER}[\s-]?{_UNIT})
    | (?P<number>{NUMBER}(?:st|nd|rd|th|\ {_SCALE})?)
    )(?!\w|[.,:/-][0-9])""",
    re.VERBOSE,
)
DIGITS = re.compile(r"[0-9]+")
_CURRENCIES = "$€£¥₹"
_MONTH_NAMES = frozenset([*MONTHS, *SHORT, *(month + "." for month in SHORT), "Sept", "Sept."])

_UP = "[A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĘĚĞĢĪĶŁŃŇŌŐŒŘŚŞŠŢŤŪŮŰŹŻŽΑ-ΩА-Я]"
_NAME_WORD = rf"(?:{_UP}\.)+|{_UP}[\w'’-]*"
_NAME = re.compile(
    rf"{_UP}(?<!\w{_UP})(?:\.(?:{_UP}\.)*|[\w'’-]*)"
    rf"(?:\ (?:of\ (?:the\ )?|de\ (?:la\ )?|van\ (?:der\ )?|von\ |du\ |la\ )?(?:{_NAME_WORD}))*"
)
_SENTENCE_START = re.compile(r"[.!?:;|#*•>\n][\s\"'“‘(\[*_-]*$")
_PREPOSITIONS = frozenset("in at from by with of near to for into on".split())
_TAIL = re.compile(r"['’]s$|['’-]+$")
_NO_NAMES = STOPWORDS | {day.casefold() for day in (*SERIES[2].split(), *MONTHS, *SHORT)}
_LINES = [line.split() for line in SERIES]
LINE_OF = {word: line for line in _LINES for word in line}
_SERIES_WORD = re.compile(rf"\b(?:{'|'.join(sorted(LINE_OF))})\b")


def figures(text: str) -> list[Value]:
    """Find dates, years, times, money, percentages, versions, quantities and plain numbers, in order."""
    found: list[Value] = []
    read = 0
    for digits in DIGITS.finditer(text):
        start = digits.start()
        if start < read or (start and _is_inside(text, start)):
            continue
        match = _FIGURE.match(text, _beginning(text, start, read))
        if match:
            read = match.end()
            found.append(Value(match.start(), read, match.group(), cast(Type, match.lastgroup)))
    return found


def names(text: str) -> list[Value]:
    """Find names by their capitals: runs of capitalised words, less function words, months and lone first words.

    A light rule: headings in title case pass for names, and a single name that opens a sentence is missed.
    """
    return [value for match in _NAME.finditer(text) if (value := _name(text, match.start(), match.group()))]


def words_of_series(text: str) -> list[Value]:
    """Find words that stand in one of `SERIES`."""
    if LINE_OF.keys().isdisjoint(text.replace(".", " ").replace(",", " ").split()):
        return []  # as most texts: ten times as fast as the pattern; one with a bracket at it may be missed
    return [Value(*match.span(), match.group(), "word") for match in _SERIES_WORD.finditer(text)]


def values(text: str) -> list[Value]:
    """Find all typed values of a text, in order; of overlapping ones, figures go before names, names before words."""
    return merged(merged(figures(text), names(text)), words_of_series(text))


def merged(first: Sequence[Value], more: Sequence[Value]) -> list[Value]:
    """Put two ordered lists of values together, in order; where two overlap, the one from ``first`` stays."""
    if not first or not more:
        return [*first, *more]
    starts = [value.start for value in first]

    def is_free(value: Value) -> bool:
        after = bisect_left(starts, value.end)  # the first that begins behind it
        return not after or first[after - 1].end <= value.start

    return sorted([*first, *filter(is_free, more)])


def spots(words: str, text: str) -> list[tuple[int, int]]:
    """Where words stand in a text as whole words, whatever their case; blanks must agree."""
    low, sought = text.lower(), words.strip().lower()
    if len(low) != len(text):  # "İ" grows when it is lowered
        low, sought = text, words.strip()
    found: list[tuple[int, int]] = []
    at = low.find(sought) if sought else -1
    while at >= 0:
        end = at + len(sought)
        whole = not (at and low[at - 1].isalnum()) and not (end < len(low) and low[end].isalnum())
        if whole:
            found.append((at, end))
        at = low.find(sought, end if whole else at + 1)
    return found


def stands(words: str, text: str) -> bool:
    """Whether words stand in a text as whole words; the commas of its figures do not count (5,000 is 5000)."""
    return bool(spots(words, text)) or ("," in words + text and bool(spots(_plain(words), _plain(text))))


def moment(text: str) -> tuple[int, ...] | None:
    """The first date, year or version of a text as numbers that can be compared with another's of the same form.

    Returns:
        (year, month, day), with 0 for what is not told, or a version's numbers; None without any.
    """
    for value in figures(text):
        if value.type == "version":
            return tuple(int(part) for part in DIGITS.findall(value.text))
        year = re.search(YEAR, value.text) if value.type in ("date", "year") else None
        if year:
            return (int(year.group()), *month_and_day(value.text, year))
    return None


def month_and_day(text: str, year: re.Match[str]) -> tuple[int, int]:
    """The month and the day of a date of which the year is found; 0 for what is not told."""
    month = re.search(MONTH, text)
    rest = [int(digits) for digits in DIGITS.findall(text[: year.start()] + " " + text[year.end() :])[:2]]
    if month:
        return SHORT.index(month.group()[:3]) + 1, rest[0] if rest else 0
    if year.start() == 0 and len(rest) == 2:  # 2024-05-17
        return rest[0], rest[1]
    return 0, 0  # 05/06/2024: nobody knows which is which


def _is_inside(text: str, start: int) -> bool:
    """Whether the figure at a place is a part of something longer: H2O, 978-3-16, Llama-3.1, /v2/."""
    before = text[start - 1]
    if before in "$€£¥₹ \n(":
        return False
    if before == "v":
        return start > 1 and (text[start - 2].isalnum() or text[start - 2] in "_-/.")
    if before in ".,:-/":
        return start > 1 and (text[start - 2].isdigit() or (before not in ".,:" and text[start - 2].isalpha()))
    return before.isalnum() or before == "_"


def _beginning(text: str, start: int, read: int) -> int:
    """Where a figure begins of which the first digit is known: at its currency, its "v", its month's name."""
    before = text[start - 1] if start > read else ""
    if before == "v" or before in _CURRENCIES:
        return start - len(before)
    if before == " " and start - 1 > read:
        if text[start - 2] in _CURRENCIES:
            return start - 2
        word = text[max(read, start - 12) : start - 1].rstrip(",").rpartition(" ")[2].rpartition("\n")[2]
        if word in _MONTH_NAMES:
            return text.rindex(word, 0, start)
    return start


def _name(text: str, start: int, found: str) -> Value | None:
    words = found.split(" ")
    alone = len(words) == 1  # the run that begins here has no other word: perhaps it only opens a sentence
    while words and _bare(words[0]) in _NO_NAMES:
        start += len(words.pop(0)) + 1
    while words and _bare(words[-1]) in _NO_NAMES:
        words.pop()
    if not words or (alone and (found[1:].islower() or found[-1] == ".") and _opens(text, start)):
        return None
    kept = " ".join(words)
    if not kept[-2:].isalpha():
        kept = _TAIL.sub("", kept)
    before = text[start - 6 : start].rpartition(" ")[0].rpartition(" ")[2] if start > 6 else ""
    end = start + len(kept)
    return Value(start, end, kept, "name", before if before in _PREPOSITIONS else "") if len(kept) > 1 else None


def _opens(text: str, start: int) -> bool:
    return start == 0 or _SENTENCE_START.search(text[max(0, start - 4) : start]) is not None


def _bare(word: str) -> str:
    low = word.lower()
    return low if low.isalpha() else low.partition("'")[0].partition("’")[0]


def _plain(text: str) -> str:
    return re.sub(r"(?<=[0-9]),(?=[0-9])", "", text)
