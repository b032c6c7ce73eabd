"""Passages that lost an end, a middle or half a sentence; pure, knows no splitter and no tokenizer.

Lost shares are counted in signs, so that scripts without blanks are cut, too. Something is always left.
"""

from __future__ import annotations

import re
from random import Random

from llama_index_hybridmem.noise.edits import Edit, Span
from llama_index_hybridmem.noise.operators.registry import of_text

WORST = 0.8
"""Share of a passage that is lost at severity 1."""

WORST_WINDOW = 0.6
"""Share that is lost out of its middle at severity 1."""

IN_WORD = 0.25
"""Share of the cuts that go through a word: splitters that count signs or tokens make them."""

_LONGEST_WORD = 24
_LAST_SENTENCES = 3
_READ_BACK = 1_500
_BLANK = re.compile(r"\s")
_SENTENCE_END = re.compile(r"[.!?…。！？\n](?:(?<=[。！？])\s*|(?<=\n)\s*\n|(?<!\n)[\"'”’)\]]*\s+)")
_CLOSING = ".!?…。！？\"'”’)] \t\r\n"
_ELLIPSES = ("...", "...", " ...", "…")


@of_text("truncate_head", "truncation")
def truncate_head(text: str, severity: float, draw: Random) -> list[Edit]:
    """Cuts the beginning off, at a word's edge or, one time in four, inside of a word; severity 1 loses up to 80 %."""
    start, end = _core(text)
    lost = _lost(end - start, WORST * severity, draw)
    if not lost:
        return []
    return [Edit(0, _behind_blank(text, _edge(text, start + lost, end, draw.random() < IN_WORD)), "")]


@of_text("truncate_tail", "truncation")
def truncate_tail(text: str, severity: float, draw: Random) -> list[Edit]:
    """Cuts the end off, at a word's edge or, one time in four, inside of a word; severity 1 loses up to 80 %."""
    start, end = _core(text)
    lost = _lost(end - start, WORST * severity, draw)
    if not lost:
        return []
    return [Edit(_edge(text, end - lost, end, draw.random() < IN_WORD), len(text), "")]


@of_text("truncate_sentence", "truncation")
def truncate_sentence(text: str, severity: float, draw: Random) -> list[Edit]:
    """Ends in the midst of a sentence, as snippets of a search do, half of them with "..."; severity 1 loses three.

    Severity is the share of the last three sentences that is lost; always at least the last word, never a sentence's
    first.
    """
    start, end = _core(text)
    read = max(start, end - _READ_BACK)
    starts = [read, *(match.end() for match in _SENTENCE_END.finditer(text, read, end))][-_LAST_SENTENCES:]
    aim = end - _lost(end - starts[0], severity, draw)
    first = max((each for each in starts if each <= aim), default=starts[0])
    behind = next((each for each in starts if each > first), end)
    last = first + len(text[first:behind].rstrip(_CLOSING))
    if last - first < 2:
        return []
    aim = min(max(aim, first + 1), last - 1)
    cut = text.rfind(" ", first + 1, aim + 1)
    ellipsis = draw.choice(_ELLIPSES) if draw.random() < 0.5 else ""
    return [Edit(aim if cut < 0 else cut, len(text), ellipsis)]


@of_text("truncate_tokens", "truncation")
def truncate_tokens(text: str, severity: float, draw: Random) -> list[Edit]:
    """Loses a window of words out of its middle; severity 1 loses up to 60 % in one piece."""
    start, end = _core(text)
    size = end - start
    lost = min(_lost(size, WORST_WINDOW * severity, draw), size - 2)
    if lost < 1:
        return []
    from_ = start + 1 + int(draw.random() * (size - lost - 1))
    in_word = draw.random() < IN_WORD
    first = _edge(text, from_, end, in_word)
    behind = _edge(text, min(first + lost, end - 1), end, in_word)
    return [Edit(first, behind, "")]


@of_text("truncate_chunk", "truncation")
def truncate_chunk(text: str, severity: float, draw: Random) -> list[Edit]:
    """Loses both ends, as a splitter of fixed size cuts, half the time through words; severity 1 loses up to 80 %."""
    start, end = _core(text)
    lost = min(_lost(end - start, WORST * severity, draw), end - start - 1)
    if lost < 2:
        return []
    head = 1 + int((lost - 1) * (0.2 + 0.6 * draw.random()))
    in_word = draw.random() < 0.5  # the same splitter cut both ends
    tail = end - (lost - head)
    first = _behind_blank(text, _edge(text, start + head, tail, in_word))
    behind = _edge(text, tail, end, in_word)
    return [Edit(0, first, ""), Edit(behind, len(text), "")] if text[first:behind].strip() else []


def _core(text: str) -> Span:
    """Where the text stands between the blanks around it."""
    return len(text) - len(text.lstrip()), len(text.rstrip())


def _lost(size: int, share: float, draw: Random) -> int:
    """How many of so many signs are lost: 80 to 100 % of the share, at least one, never all; 0 when one is all."""
    return min(max(1, round(size * share * (0.8 + 0.2 * draw.random()))), size - 1) if size > 1 else 0


def _edge(text: str, at: int, end: int, in_word: bool) -> int:
    """The end of the word at a place; the place itself for a cut through a word, and where no blank is near."""
    found = None if in_word else _BLANK.search(text, at, min(at + _LONGEST_WORD, end))
    return found.start() if found else at


def _behind_blank(text: str, at: int) -> int:
    return at + 1 if text[at].isspace() else at
