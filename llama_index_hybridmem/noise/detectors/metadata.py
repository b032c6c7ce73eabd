"""Finds metadata that is missing or cannot be right; pure, knows no operator.

What is usual is learned from the other passages of the scene: a field is missing where most others have it, a title is
wrong where the others' occur in their texts and this one does not. So a passage that stands alone is hardly judged,
and clean metadata is left in peace even where a whole corpus has none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from llama_index_hybridmem.noise.edits import Span
from llama_index_hybridmem.noise.findings import Finding, of_passage
from llama_index_hybridmem.noise.scene import DATE_FIELDS, SOURCE_FIELDS, TITLE, VERSION_FIELDS, Passage, Scene
from llama_index_hybridmem.terms import STOPWORDS, stem, words

KNOWN = (TITLE, *SOURCE_FIELDS, *DATE_FIELDS, *VERSION_FIELDS)

MOST = 0.75
"""Share of the others that must have, or show, what this passage lacks."""

OTHERS = 3
"""So many of the others at least; `PEERS` when they come from the same document."""

PEERS = 2

BEGINNING = 5
"""Letters of a word that must occur: "persistence" is "persistent", and what is told twice is told in other forms."""

_PLACEHOLDER = re.compile(
    r"unknown|n/?a|none|null|nil|nan|undefined|untitled(?:[ _-](?:document|page))?(?:[ _-]?\d+)?|no title|tb[ad]|todo"
    r"|-+|\?+|0000-00-00.*|<[^<>]*>|\{+[^{}]*\}+",
    re.IGNORECASE,
)
_YEAR = re.compile(r"(?<!\d)((?:19|20)\d\d)(?=\d{4}(?!\d)|(?!\d))")
_DATE = re.compile(
    r"(?:\d{4}[-/.]\d\d?(?:[-/.]\d\d?)?(?:[T ][\d:.]+(?:Z|[+-]\d\d:?\d\d)?)?|\d\d?[-/.]\d\d?[-/.]\d{4}"
    r"|(?:\d\d?\.? )?[A-Za-z]{3,9}\.? (?:\d\d?, ?)?\d{4}|(?:19|20)\d{6})"
)
_NUMBER = re.compile(r"[vV]?\d+(?:[._-]\w+)*")
_PATH = re.compile(r"(?:\w+://|www\.|[A-Za-z]:\\|\.{0,2}/)\S*|\S+(?:/|\\)\S+|(?:.*/)?[^/\s][^/]*\.[A-Za-z]\w{1,4}")
_EXTENSION = re.compile(r"\.\w{1,5}$")
_PUBLISHED = ("published",)
_CHANGED = ("updated", "modified")


@of_passage("metadata_gap", "metadata")
def metadata_gap(passage: Passage, scene: Scene) -> Finding | None:
    """A field that most others have is missing, or holds a placeholder."""
    named = set().union(*(each.metadata for each in scene.passages))
    gaps = [name for name in KNOWN if name in named and _is_gap(name, passage, scene)]
    there = [name for name in KNOWN if _value(passage, name)]
    return _finding("metadata_missing", len(gaps) / len(gaps + there)) if gaps else None


@of_passage("metadata_shape", "metadata")
def metadata_shape(passage: Passage, scene: Scene) -> Finding | None:
    """Two fields or more that hold another sort of value than most others': a path for a title, a title for a path."""
    there = [name for name in KNOWN if _value(passage, name)]
    others = _others(passage, scene)
    if len(there) < 2 or len(others) < PEERS:
        return None
    odd = [name for name in there if _is_odd(_shape(_value(passage, name)), _shapes(others, name))]
    return _finding("metadata_swapped", len(odd) / len(there)) if len(odd) > 1 else None


@of_passage("metadata_words", "metadata")
def metadata_words(passage: Passage, scene: Scene) -> Finding | None:
    """A title or a source of which nothing occurs elsewhere in the passage, while most others' does."""
    others = _others(passage, scene)
    if len(others) < OTHERS:
        return None
    for name, fields in (("metadata_title", (TITLE,)), ("metadata_source", SOURCE_FIELDS)):
        if _is_told(passage, fields) is False and _is_most([_is_told(each, fields) for each in others]):
            return _finding(name, 1.0)
    return None


@of_passage("metadata_time", "metadata")
def metadata_time(passage: Passage, scene: Scene) -> Finding | None:
    """A date that the text, the document's other passages or the passage's other dates contradict."""
    dated = [name for name in DATE_FIELDS if _value(passage, name)]
    odd = [name for name in dated if _is_out_of_range(name, passage, scene) or _differs(name, passage, scene)]
    if odd:
        return _finding("metadata_date", len(odd) / len(dated))
    if _newest(passage, _CHANGED) < _newest(passage, _PUBLISHED) and _newest(passage, _CHANGED):
        return _finding("metadata_date", 1 / len(dated))
    spans = _later_years(passage, scene) if dated else ()
    return _finding("metadata_date", 1.0, spans) if spans else None


@of_passage("metadata_origin", "metadata")
def metadata_origin(passage: Passage, scene: Scene) -> Finding | None:
    """A file or address that the document's other passages, or the passage's other paths, contradict."""
    there = [name for name in SOURCE_FIELDS if _value(passage, name)]
    odd = [name for name in there if _differs(name, passage, scene)]
    if odd:
        return _finding("metadata_source", len(odd) / len(there))
    if _agree(passage) is not False:
        return None
    others = [agrees for each in _others(passage, scene) if (agrees := _agree(each)) is not None]
    return _finding("metadata_source", 1 / len(there)) if len(others) >= PEERS and all(others) else None


def _finding(operator: str, severity: float, spans: Iterable[Span] = ()) -> Finding:
    return Finding("metadata", operator, severity, tuple(spans))


def _value(passage: Passage, name: str) -> str:
    """A field's value as text; "" for none, blank or a placeholder."""
    value = passage.metadata.get(name)
    return "" if value is None else _unless_placeholder(str(value))


@lru_cache(1024)
def _unless_placeholder(value: str) -> str:
    return "" if _PLACEHOLDER.fullmatch(value.strip()) else value.strip()


def _others(passage: Passage, scene: Scene) -> list[Passage]:
    return [each for each in scene.passages if each.id != passage.id]


def _peers(passage: Passage, scene: Scene) -> list[Passage]:
    if passage.source is None:
        return []
    return [each for each in scene.passages if each.id != passage.id and each.source == passage.source]


def _is_gap(name: str, passage: Passage, scene: Scene) -> bool:
    if _value(passage, name):
        return False
    value = passage.metadata.get(name)
    return bool(value is not None and str(value).strip()) or _is_usual(name, passage, scene)


def _is_usual(name: str, passage: Passage, scene: Scene) -> bool:
    """Whether most others have a field, or all others of its document."""
    having = [bool(_value(each, name)) for each in _others(passage, scene)]
    if len(having) >= OTHERS and _is_most(having):
        return True
    peers = [bool(_value(each, name)) for each in _peers(passage, scene)]
    return len(peers) >= PEERS and all(peers)


def _is_most(shown: Sequence[bool | None]) -> bool:
    judged = [each for each in shown if each is not None]
    return len(judged) >= OTHERS and sum(judged) >= MOST * len(judged)


@lru_cache(1024)
def _shape(value: str) -> str:
    for shape, pattern in (("date", _DATE), ("number", _NUMBER), ("path", _PATH)):
        if pattern.fullmatch(value):
            return shape
    return "words"


def _shapes(passages: Sequence[Passage], name: str) -> Counter[str]:
    return Counter(_shape(value) for each in passages if (value := _value(each, name)))


def _is_odd(shape: str, others: Counter[str]) -> bool:
    count = max(others.values(), default=0)
    return shape not in others and count >= max(PEERS, MOST * others.total())


def _is_told(passage: Passage, fields: Sequence[str]) -> bool | None:
    """Whether a word of these fields occurs in the text or the other fields.

    None when there is no word, or no other field: of real passages with a title but no source, one in twelve does not
    repeat its title.
    """
    mine = _values(passage, fields)
    theirs = _values(passage, SOURCE_FIELDS if TITLE in fields else (TITLE,))
    if not _names(mine) or not theirs:
        return None
    text = _folded(passage.text)
    return any(name in text for name in _names(mine)) or _are_akin(mine, theirs) or _are_akin(theirs, mine)


def _values(passage: Passage, fields: Sequence[str]) -> tuple[str, ...]:
    return tuple(value for name in fields if (value := _value(passage, name)))


def _are_akin(some: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether a word of some values occurs in others, or in their initials."""
    there = _folded(" ".join((*others, *map(_initials, others))))
    return any(name in there for name in _names(some))


@lru_cache(1024)
def _names(values: tuple[str, ...]) -> frozenset[str]:
    """The beginnings of the words of titles, or of the last parts of paths."""
    found = words(re.sub(r"[_\W]+", " ", " ".join(map(_tail, values))))
    letters = (word for word in found if word not in STOPWORDS and not word.isdigit())
    return frozenset(stem(word)[:BEGINNING] for word in letters if len(word) > 2 or not word.isascii())


@lru_cache(1024)
def _initials(value: str) -> str:
    """Of a title's words: files are often named so."""
    return "".join(word[0] for word in words(_tail(value)))


def _tail(value: str) -> str:
    """The last part of a path, without its ending; other values as they are."""
    if _shape(value) != "path":
        return value
    return _EXTENSION.sub("", re.split(r"[?#]", value)[0].rstrip("/").rsplit("/", 1)[-1])


@lru_cache(256)
def _folded(text: str) -> str:
    return text.casefold()


def _differs(name: str, passage: Passage, scene: Scene) -> bool:
    """Whether the other passages of the same document agree on another value."""
    values = [_value(each, name) for each in _peers(passage, scene)]
    return len(values) >= PEERS and len(set(values)) == 1 and values[0] not in ("", _value(passage, name))


def _agree(passage: Passage) -> bool | None:
    """Whether all paths end in the same name; None for fewer than two."""
    tails = [_tail(value) for value in _values(passage, SOURCE_FIELDS) if _shape(value) == "path"]
    return len(set(tails)) == 1 if len(tails) > 1 else None


def _is_out_of_range(name: str, passage: Passage, scene: Scene) -> bool:
    """Whether a date holds no digit, while the others' do."""
    if re.search(r"\d", _value(passage, name)):
        return False
    return _is_most([bool(_YEAR.search(_value(each, name))) for each in _others(passage, scene)])


def _newest(passage: Passage, fields: Sequence[str] = DATE_FIELDS) -> int:
    """The latest year of a passage's dates; 0 without one."""
    found: list[Any] = [match for name in fields for match in _YEAR.findall(_value(passage, name))]
    return max(map(int, found), default=0)


def _later_years(passage: Passage, scene: Scene) -> list[Span]:
    """Where the text speaks of years that its date had not seen, up to the newest date in the scene.

    Two different ones at least: plans and forecasts name one.
    """
    own = _newest(passage)
    told = [match for match in _YEAR.finditer(passage.text) if own < int(match[1])]
    newest = max(_newest(each) for each in scene.passages) if told else own
    found = [match for match in told if int(match[1]) <= newest]
    return [match.span() for match in found] if len({match[1] for match in found}) > 1 else []
