"""Light changes that leave a text saying the same: what tells a near copy from a copy; pure, knows no operator."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

from llama_index_hybridmem.noise.edits import Edit, Span
from llama_index_hybridmem.noise.values import spots
from llama_index_hybridmem.terms import STOPWORDS

FEWEST_SENTENCES = 3
"""A text of fewer keeps them all."""

_SENTENCE_GAP = re.compile(r"(?<=[.!?])[ \n]+(?=[A-Z])")
_LONG_WORD = re.compile(r"(?<=[a-z,] )[a-z]{5,}(?= )")
_COMMA = re.compile(r"(?<=[a-z]),(?= [a-z])")
_WORD = re.compile(r"\w{3,}")


def reworded(text: str, draw: Random, keep: Sequence[str] = (), asked: str = "") -> list[Edit]:
    """Drop a sentence that is not needed, and change a break, a comma or the case of a word; one of these is left out.

    Args:
        text: the text.
        draw: random numbers.
        keep: words that stay untouched wherever they stand.
        asked: a question; sentences that share a word with it are needed.

    Returns:
        edits in order; empty when nothing of the kind can be done.
    """
    held = [place for words in keep for place in spots(words, text)]
    edits: list[Edit] = []
    for change in draw.sample(_CHANGES, len(_CHANGES) - 1):
        edit = change(text, draw, held, asked)
        if edit and all(edit.end <= start or end <= edit.start for start, end in held + [each[:2] for each in edits]):
            edits.append(edit)
    return sorted(edits)


def _without_sentence(text: str, draw: Random, held: Sequence[Span], asked: str) -> Edit | None:
    gaps = [0, *(gap.end() for gap in _SENTENCE_GAP.finditer(text)), len(text)]
    parts = list(zip(gaps, gaps[1:], strict=False))[1:]  # the first tells what it is about
    if len(parts) + 1 < FEWEST_SENTENCES:
        return None
    asked_for = {word.lower()[:6] for word in _WORD.findall(asked)} - STOPWORDS  # six signs will do for a stem
    start, end = draw.choice(parts)
    low = text[start:end].lower()
    needed = any(begin < end and start < stop for begin, stop in held) or any(word in low for word in asked_for)
    return None if needed else Edit(start, end, "")


def _other_break(text: str, draw: Random, held: Sequence[Span], asked: str) -> Edit | None:
    gap = _one_of(_SENTENCE_GAP, text, draw)
    return gap and Edit(*gap.span(), " " if "\n" in gap.group() else "\n")


def _other_case(text: str, draw: Random, held: Sequence[Span], asked: str) -> Edit | None:
    word = _one_of(_LONG_WORD, text, draw)
    return word and Edit(*word.span(), word.group().capitalize())


def _without_comma(text: str, draw: Random, held: Sequence[Span], asked: str) -> Edit | None:
    comma = _one_of(_COMMA, text, draw)
    return comma and Edit(*comma.span(), "")


def _one_of(pattern: re.Pattern[str], text: str, draw: Random) -> re.Match[str] | None:
    """A match behind a drawn place, so that not all need to be found."""
    return pattern.search(text, draw.randrange(len(text))) or pattern.search(text)


_CHANGES: list[Callable[[str, Random, Sequence[Span], str], Edit | None]] = [
    _without_sentence,
    _other_break,
    _other_case,
    _without_comma,
]
