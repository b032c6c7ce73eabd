"""Finds older versions beside newer ones, and passages that tell the same with other values; pure, knows no operator.

Both look for two passages about one thing. Which of two that disagree is wrong no text tells: the finding goes to the
one that calls itself less trustworthy, else to the later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from llama_index_hybridmem.noise.detectors.duplicates import SAME, disagree, likeness, pairs, shingles
from llama_index_hybridmem.noise.findings import Finding, of_scene
from llama_index_hybridmem.noise.scene import DATE_FIELDS, SOURCE_FIELDS, TITLE, VERSION_FIELDS, Passage, Scene
from llama_index_hybridmem.noise.values import moment, values

ALIKE = 0.4
"""Share of common runs of words (see `duplicates`) from which on two texts tell the same thing: each changed value
takes three runs with it."""
RELATED = 0.15
"""The same for two passages of one title: another article of a series has less in common."""
FEWEST_WORDS = 6
"""Plain words of a sentence that can be told from others of its pattern."""

_SENTENCE_GAP = re.compile(r"(?<=[.!?])\s+|\n+")
_UP = "[A-ZÀ-ÖØ-Þ]"
_VALUE = re.compile(rf"[0-9][0-9.,:/-]*(?<=[0-9])%?|{_UP}(?<!\w{_UP})[\w'’-]*(?: (?:of |the |de )?{_UP}[\w'’-]*)*")
_AS_OF = re.compile(r"\bas of\b", re.IGNORECASE)
_DATED = re.compile(r"\b(?:as of|last (?:updated|modified|reviewed)|updated|effective)\b.{0,40}", re.IGNORECASE)
_DOUBTFUL = re.compile(
    r"forum|mirror|unverified|anonymous|comment|rumou?r|unofficial|machine-made|draft|scraped", re.IGNORECASE
)


class _Age(NamedTuple):
    """When a passage is from: numbers that can be compared with another's of the same form."""

    form: Literal["date", "version"]
    at: tuple[int, ...]
    as_of: bool


@of_scene("stale_pairs", "stale")
def stale_pairs(scene: Scene) -> Iterator[tuple[str | None, Finding]]:
    """Finds the older of two versions; severity is the share of its values that the newer one does not have."""
    found: dict[str, Finding] = {}
    for one, other in pairs(scene):
        pair = scene.passages[one], scene.passages[other]
        older = _older(*pair) if _may_be_versions(*pair) else None
        if older is not None and older.id not in found:
            newer = pair[0] if older is pair[1] else pair[1]
            found[older.id] = _finding("stale", "stale_version", older, newer)
    yield from found.items()


@of_scene("conflicting_values", "conflict")
def conflicting_values(scene: Scene) -> Iterator[tuple[str | None, Finding]]:
    """Finds sentences that are the same but for a figure, date or name; severity is the share of values that differ."""
    seen: dict[str, list[tuple[Passage, str]]] = {}
    found: dict[str, Finding] = {}
    for passage in scene.passages:
        for pattern, sentence in _patterns(passage.text):
            known = seen.setdefault(pattern, [])
            for earlier, told in known:
                if told != sentence and _contradict(earlier, told, passage, sentence):
                    wrong, right = (earlier, passage) if _is_doubtful(earlier) else (passage, earlier)
                    found.setdefault(wrong.id, _finding("conflict", "conflicting_source", wrong, right))
            known.append((passage, sentence))
    doubtful = {passage.id for passage in scene.passages if _is_doubtful(passage)}
    for one, other in pairs(scene) if doubtful else ():
        pair = scene.passages[one], scene.passages[other]
        if (pair[0].id in doubtful) != (pair[1].id in doubtful) and _tell_the_same(*pair):
            right, wrong = pair if pair[1].id in doubtful else pair[::-1]
            found.setdefault(wrong.id, _finding("conflict", "conflicting_source", wrong, right))
    yield from found.items()


def _may_be_versions(one: Passage, other: Passage) -> bool:
    if one.source is not None and one.source == other.source:
        return True
    alike = likeness(shingles(one.text), shingles(other.text))
    return alike >= ALIKE or (alike >= RELATED and bool(one.title) and one.title == other.title)


def _older(one: Passage, other: Passage) -> Passage | None:
    """The older of two; None when that cannot be told."""
    first, second = _age(one), _age(other)
    if first is None or second is None:
        told = first or second
        alike = told is not None and told.as_of and likeness(shingles(one.text), shingles(other.text)) >= ALIKE
        if not alike or one.text == other.text:
            return None
        return one if first else other
    if first.form != second.form:
        return None
    if _is_before(first, second):
        return one
    return other if _is_before(second, first) else None


def _is_before(one: _Age, other: _Age) -> bool:
    for mine, theirs in zip(one.at, other.at, strict=False):
        if one.form == "date" and not (mine and theirs):
            return False  # the month of one is not told
        if mine != theirs:
            return mine < theirs
    return False


def _age(passage: Passage) -> _Age | None:
    forms: tuple[tuple[Literal["date", "version"], tuple[str, ...]], ...] = (
        ("date", DATE_FIELDS),
        ("version", VERSION_FIELDS),
    )
    for form, fields in forms:
        for name in fields:
            if at := _moment(passage.metadata.get(name)):
                return _Age(form, at, _AS_OF.search(str(passage.metadata[name])) is not None)
    told = _DATED.search(passage.text)
    at = moment(told.group()) if told else None
    return _Age("date", at, False) if at else None


def _moment(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, float):  # "version: 1.2" read as a number
        value = str(value)
        return tuple(int(part) for part in value.split(".")) if re.fullmatch(r"\d+\.\d+", value) else None
    return moment(str(value)) if isinstance(value, str | int) else None


@lru_cache(maxsize=128)
def _patterns(text: str) -> tuple[tuple[str, str], ...]:
    """A text's sentences that hold values, each with what is left when these are taken out."""
    found = []
    for sentence in _SENTENCE_GAP.split(text):
        pattern, masked = _VALUE.subn("#", sentence)
        if masked and pattern.count(" ") - masked >= FEWEST_WORDS:
            found.append((pattern.lower(), sentence))
    return tuple(found)


def _contradict(one: Passage, told: str, other: Passage, sentence: str) -> bool:
    """Whether two sentences of one pattern are about the same thing: then their values contradict each other."""
    first, second = _names(told), _names(sentence)
    older = _older(one, other) if _may_be_versions(one, other) else None
    if older is not None or _repeats(told, other) or _repeats(sentence, one):
        return False  # a version, or one that says both
    if first == second and first:
        return True
    same = sum(mine == theirs for mine, theirs in zip(first, second, strict=False))
    return 2 * same >= len(first) and _are_about_one(one, other)


def _tell_the_same(one: Passage, other: Passage) -> bool:
    """Whether two passages are near copies with other values, and none is the older version.

    Asked of a source that calls itself doubtful and one that does not: without that sign, near copies with other names
    are mostly two true things of a kind.
    """
    alike = likeness(shingles(one.text), shingles(other.text)) >= SAME
    return alike and _are_about_one(one, other) and disagree(one.text, other.text) and _older(one, other) is None


def _are_about_one(one: Passage, other: Passage) -> bool:
    if one.title and other.title:
        mine, theirs = one.title.casefold(), other.title.casefold()
        return mine in theirs or theirs in mine
    return likeness(shingles(one.text), shingles(other.text)) >= ALIKE


def _repeats(sentence: str, passage: Passage) -> bool:
    return sentence in passage.text


def _names(sentence: str) -> list[str]:
    """What a sentence names; a lone word that opens it may be any."""
    found = [match for match in _VALUE.finditer(sentence) if match.group()[0].isalpha()]
    return [match.group() for match in found if match.start() or " " in match.group()]


def _is_doubtful(passage: Passage) -> bool:
    return any(_DOUBTFUL.search(str(passage.metadata.get(name) or "")) for name in (TITLE, *SOURCE_FIELDS))


def _finding(kind: Literal["stale", "conflict"], operator: str, wrong: Passage, right: Passage) -> Finding:
    """A finding on the values that the other passage does not have."""
    has = {value.text for value in values(right.text)}
    mine = values(wrong.text)
    other = [(value.start, value.end) for value in mine if value.text not in has]
    return Finding(kind, operator, len(other) / len(mine) if mine else 0.5, tuple(other))
