"""Cuts a text along its structure into pieces an encoder can read; knows nothing of encoders, nodes or LlamaIndex.

Markdown sections first; within a section whole blocks (paragraphs, list items, fences, tables) while they fit; a block
that does not fit is cut at sentences or lines, then at words, and a word only where it is too long by itself. Plain
text is Markdown without headings. Chunks are slices of the text: nothing is rewritten.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from llama_index_hybridmem.markdown import Block, Span, blocks, front_matter

Count = Callable[[str], int]
"""How many tokens a text has, in whatever tokens the encoder counts."""

_VISIBLE = re.compile(r"\S")
_WORD = re.compile(r"\S+")
_LINE = re.compile(r"[^\S\r\n]*\S(?:[^\r\n]*\S)?")
_STRETCH = re.compile(r"(?s).{1,64}")
_SENTENCE_END = re.compile(r"""(?<![.!?…])[.!?…]+["'”’»)\]]*(?=\s)|[。！？]+["'”’」』）]*""")
_ABBREVIATION = re.compile(
    r"\b(?:[A-Z]|e\.g|i\.e|etc|cf|vs|al|approx|ca|Nos?|Figs?|Eq|Sec|Ch|Vol|Dr|Mrs?|Ms|Prof|St|Inc|Ltd|Co|Corp)\.$"
)
_LONGEST_ABBREVIATION = 8
_TITLE_FIELD = re.compile(r"^title:[ \t]*(\S[^\r\n]*?)[ \t]*\r?$", re.MULTILINE | re.IGNORECASE)
_BARE_MARKUP = re.compile(r"[\s\-*_=+|#>`~:]*")


@dataclass(frozen=True)
class Chunk:
    """A slice of a text.

    Attributes:
        text: ``source[start:end]``.
        sections: the headings it stands under, outermost first.
        start: its first character in the source.
        end: the character behind its last.
    """

    text: str
    sections: tuple[str, ...]
    start: int
    end: int


def chunk(
    text: str, *, count: Count, max_tokens: int = 200, prefix: Callable[[tuple[str, ...]], str] | None = None
) -> list[Chunk]:
    """Cuts a text into chunks of at most `max_tokens`, in order and without overlap.

    Every letter and digit is in exactly one chunk, or in a heading of some chunk's `sections`; a heading with nothing
    under it is a chunk itself. Rules and other bare markup that stand alone are left out.

    Args:
        text: Markdown or plain text.
        count: counts tokens; it is asked for slices of the text.
        max_tokens: per chunk, with its prefix; 200 leaves room in the 256 word pieces that MiniLM reads. However long
            the prefix, a quarter of it is left to the text; a single character is never cut, whatever it counts.
        prefix: gives what will stand in front of a chunk of these sections.

    Returns:
        The chunks; none for a text without a letter or digit.
    """
    found: list[Chunk] = []
    for section in _sections(text):
        used = count(prefix(section.path)) if prefix else 0
        budget = max(max_tokens - used, max_tokens // 4, 1)
        for start, end in _pack(text, section.pieces(), _Limit(text, count, budget)):
            if not _BARE_MARKUP.fullmatch(text, start, end):
                found.append(Chunk(text[start:end], section.path, start, end))
    return found


def title_of(text: str) -> str | None:
    """The title that a text gives itself: its front matter's, else its first level-one heading, else None."""
    if (matter := front_matter(text)) and (named := _TITLE_FIELD.search(matter)):
        return named[1].strip("\"'")
    return next((block.title for block in blocks(text) if block.level == 1 and block.title), None)


def windows(offsets: Sequence[Span], size: int = 180, stride: int = 120) -> list[Span]:
    """Overlapping windows over a tokenised text.

    Args:
        offsets: (start, end) of each token in characters.
        size: tokens per window.
        stride: tokens from one window's start to the next.

    Returns:
        (start, end) of each window in characters; every token is in one, the last window may be short.
    """
    spans: list[Span] = []
    for first in range(0, len(offsets), stride):
        last = min(first + size, len(offsets)) - 1
        spans.append((offsets[first][0], offsets[last][1]))
        if last == len(offsets) - 1:
            break
    return spans


_Cut = Callable[[str, int, int], Iterator[Span]]


@dataclass(frozen=True)
class _Piece:
    start: int
    end: int
    cuts: tuple[_Cut, ...]  # where it may be cut if it does not fit, the coarsest first


@dataclass
class _Section:
    path: tuple[str, ...]
    blocks: list[Block] = field(default_factory=list)

    def pieces(self) -> list[_Piece]:
        return [_Piece(block.start, block.end, _CUTS[block.kind]) for block in self.blocks]


def _sections(text: str) -> Iterator[_Section]:
    """The blocks by the headings above them; a heading with neither text nor subheading below is a block itself."""
    above: list[Block] = []
    section = _Section(())
    for block in [*blocks(text), Block("heading", len(text), len(text), level=1)]:
        if block.kind != "heading":
            if not _BARE_MARKUP.fullmatch(text, block.start, block.end):
                section.blocks.append(block)
            continue
        if not section.blocks and above and block.level <= above[-1].level:
            section.blocks.append(above[-1])
        if section.blocks:
            yield section
        above = [*(heading for heading in above if heading.level < block.level), block]
        section = _Section(tuple(heading.title for heading in above if heading.title))


@dataclass(frozen=True)
class _Limit:
    text: str
    count: Count
    budget: int

    def admits(self, first: _Piece, last: _Piece) -> bool:
        return self.count(self.text[first.start : last.end]) <= self.budget


def _pack(text: str, pieces: Sequence[_Piece], limit: _Limit) -> Iterator[Span]:
    """Joins neighbouring pieces while they fit; cuts one that does not fit at its next finer places."""
    at = 0
    while at < len(pieces):
        piece = pieces[at]
        taken = _fitting(pieces, at, limit)
        if taken:
            yield piece.start, pieces[at + taken - 1].end
        elif piece.cuts:
            cut, *finer = piece.cuts
            parts = [_Piece(start, end, tuple(finer)) for start, end in cut(text, piece.start, piece.end)]
            yield from _pack(text, parts, limit)
        else:
            yield piece.start, piece.end
        at += max(taken, 1)


def _fitting(pieces: Sequence[_Piece], at: int, limit: _Limit) -> int:
    """How many pieces from `at` on fit together: doubling, then bisection, because counting is the costly step."""
    fits, too_many = 0, 1
    while at + too_many <= len(pieces) and limit.admits(pieces[at], pieces[at + too_many - 1]):
        fits, too_many = too_many, too_many * 2
    too_many = min(too_many, len(pieces) - at + 1)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if limit.admits(pieces[at], pieces[at + middle - 1]):
            fits = middle
        else:
            too_many = middle
    return fits


def _matches(pattern: re.Pattern[str]) -> _Cut:
    return lambda text, start, end: (match.span() for match in pattern.finditer(text, start, end))


def _characters(_: str, start: int, end: int) -> Iterator[Span]:
    return ((place, place + 1) for place in range(start, end))


def _sentences(text: str, start: int, end: int) -> Iterator[Span]:
    """Sentences by their punctuation; not behind abbreviations and initials, nor before a small letter."""
    first = start
    for match in _SENTENCE_END.finditer(text, start, end):
        follows = _VISIBLE.search(text, match.end(), end)
        near = max(first, match.end() - _LONGEST_ABBREVIATION)
        if follows is None or follows.group().islower() or _ABBREVIATION.search(text, near, match.end()):
            continue
        yield first, match.end()
        first = follows.start()
    yield first, end


_LINEWISE: tuple[_Cut, ...] = (_matches(_LINE), _matches(_WORD), _matches(_STRETCH), _characters)
_PROSE: tuple[_Cut, ...] = (_sentences, *_LINEWISE)
_CUTS = {"heading": _PROSE, "prose": _PROSE, "lines": _LINEWISE}
