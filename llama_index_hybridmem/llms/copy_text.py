"""Sources as an answer may quote them: blanks folded, where a quote may begin and end; pure, knows no tokens.

Places are counted in bytes of UTF-8, since a token may be a part of a character.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

BREAK = b"\xff"
"""Between two sources: no UTF-8 text has this byte, so no quote runs from one source into the next."""

_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_JOINS_DIGITS, _JOINS_LETTERS = ".,:/", "'’"
_RULE = re.compile(r"^[ \t]*[-=_*]{5,}[ \t]*$", re.MULTILINE)
_QUESTION = re.compile(r"^[ \t]*(?:Question|Query)[ \t]*:", re.MULTILINE)
_NUMBERED = re.compile(r"^[ \t]*\[([0-9]{1,9})\][ \t]", re.MULTILINE)


class QuotedText:
    """Sources behind one another, with their places.

    A quote begins at a word, or at the marks in front of one, and ends at a word's end or behind the marks that follow
    one: never inside a number ("3.41"), nor between a letter and its accent. Scripts without blanks (Chinese,
    Japanese, Korean, Thai) have a word at each sign.

    Args:
        sources: any texts; runs of blanks count as one.

    Attributes:
        text: of all sources, in UTF-8; lone surrogates are "?".
        starts: where a quote may begin, with the bytes of the sign that stands there.
        ends: where a quote may end.
    """

    def __init__(self, sources: Iterable[str]) -> None:
        starts: list[tuple[int, str]] = []
        ends: set[int] = set()
        parts: list[bytes] = []
        at = 0
        for source in sources:
            for piece in source.encode("utf-8", "replace").decode().split():
                places = _places(piece)
                starts += [(at + places[each], piece[each]) for each in _starts(piece)]
                ends.update(at + places[each] for each in _ends(piece))
                parts += [piece.encode(), b" "]
                at += places[-1] + 1
            if parts and parts[-1] == b" ":
                parts[-1] = BREAK
        self.text = b"".join(parts)
        self.starts = tuple(starts)
        self.ends = frozenset(ends)


def sources_in(prompt: str) -> tuple[list[str], int]:
    """The sources that a prompt shows.

    They stand between its first and its last ruled line ("-----"), as in LlamaIndex's prompts; without such lines
    before its last "Question:" (or "Query:"); else the whole prompt is taken.

    Args:
        prompt: a user's message.

    Returns:
        The sources, and how many of them are numbered: where lines begin with [1], [2], and so on, these come first,
        in that order, and what stands before them last. 0 where none is.
    """
    rules = list(_RULE.finditer(prompt))
    asked = list(_QUESTION.finditer(prompt))
    if len(rules) > 1:
        prompt = prompt[rules[0].end() : rules[-1].start()]
    elif asked:
        prompt = prompt[: asked[-1].start()]
    marks = _in_order(_NUMBERED.finditer(prompt))
    if not marks:
        return [prompt], 0
    ends = [*(mark.start() for mark in marks[1:]), len(prompt)]
    numbered = [prompt[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
    return [*numbered, prompt[: marks[0].start()]], len(numbered)


def _in_order(marks: Iterable[re.Match[str]]) -> list[re.Match[str]]:
    """Those that count 1, 2, 3: a [7] at the start of a line is part of a source."""
    found: list[re.Match[str]] = []
    for mark in marks:
        if int(mark[1]) == len(found) + 1:
            found.append(mark)
    return found


def _places(piece: str) -> list[int]:
    """Byte at which each sign begins, and the end."""
    places = [0]
    for sign in piece:
        places.append(places[-1] + len(sign.encode()))
    return places


def _starts(piece: str) -> Iterator[int]:
    """Where a quote may begin in a piece without blanks."""
    within = [at for at, sign in enumerate(piece) if _is_word(sign)]
    if within and within[0]:
        yield 0
    for at in within:
        if not (_is_inside(piece, at) or _is_joined(piece, at - 1)):
            yield at


def _ends(piece: str) -> Iterator[int]:
    """Where a quote may end in a piece without blanks."""
    within = [at for at, sign in enumerate(piece) if _is_word(sign)]
    for at in within:
        if not (_is_inside(piece, at + 1) or _is_joined(piece, at + 1, _JOINS_DIGITS)):
            yield at + 1
    if within:
        yield from range(within[-1] + 2, len(piece) + 1)


def _is_inside(piece: str, at: int) -> bool:
    """Whether the place before sign `at` lies inside a word."""
    if at == 0 or at == len(piece) or not (_is_word(piece[at - 1]) and _is_word(piece[at])):
        return False
    if unicodedata.category(piece[at])[0] in "MC":
        return True
    return not (_UNSPACED.match(piece[at - 1]) or _UNSPACED.match(piece[at]))


def _is_joined(piece: str, at: int, joints: str = _JOINS_DIGITS + _JOINS_LETTERS) -> bool:
    """Whether the sign at a place joins what stands around it: "3.41", "Sony's"."""
    if not 0 < at < len(piece) - 1 or piece[at] not in joints:
        return False
    if piece[at] in _JOINS_DIGITS:
        return piece[at - 1].isdigit() and piece[at + 1].isdigit()
    return _is_word(piece[at - 1]) and _is_word(piece[at + 1])


@lru_cache(maxsize=1 << 14)
def _is_word(sign: str) -> bool:
    """Letters, numbers, their accents, and the unseen signs that join letters."""
    return sign == "_" or unicodedata.category(sign)[0] in "LNM" or unicodedata.category(sign) == "Cf"


def openings(sign: str) -> Sequence[bytes]:
    """How a quote may write its first sign: as it stands, or in the other case; behind a blank, or not."""
    forms = [form for form in dict.fromkeys((sign, sign.upper(), sign.lower())) if len(form) == 1]  # "ß" has no "SS"
    return [lead + form.encode() for lead in (b"", b" ") for form in forms]
