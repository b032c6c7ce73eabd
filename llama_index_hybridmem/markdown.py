"""Reads the block structure of a Markdown text as spans; knows nothing of chunks, tokens or rendering.

Follows CommonMark where that is cheap, and plain sense where real files stray from it: fences count at any indentation,
an underlined heading is one line long. Any text is valid Markdown: what is nothing else is prose.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Span = tuple[int, int]
"""(first character, the character behind the last)."""

_LINE = re.compile(r"([^\r\n]*)(?:\r\n|\r|\n|\Z)")
_ATX = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)")
_CLOSING_HASHES = re.compile(r"(?:^|[ \t])#+$")
_UNDERLINE = re.compile(r" {0,3}(==+|--+)[ \t]*$")
_FENCE = re.compile(r"[ \t]*(`{3,}(?=[^`]*$)|~{3,})")
_DELIMITER_ROW = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
_ITEM = re.compile(r"[ \t]*(?:[-*+]|\d{1,9}[.)])(?:[ \t]|$)")
_QUOTE = re.compile(r" {0,3}>")


@dataclass(frozen=True)
class Block:
    """One block of a text.

    Attributes:
        kind: a heading; prose (a paragraph, a list item, a quote); or lines that belong together (a fence, a table).
        start: its first character, indentation included.
        end: the character behind its last.
        level: of a heading, 1 the highest; else 0.
        title: of a heading, its text without the marks; else empty.
    """

    kind: Literal["heading", "prose", "lines"]
    start: int
    end: int
    level: int = 0
    title: str = ""


@dataclass(frozen=True)
class _Line:
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def blocks(text: str) -> Iterator[Block]:
    """The text's blocks in order; together they hold every character that is not white space."""
    lines = _lines(text)
    at = 0
    while at < len(lines):
        if not lines[at].text:
            at += 1
            continue
        block, taken = next(filter(None, (reader(lines, at) for reader in _READERS)))
        yield block
        at += taken


def front_matter(text: str) -> str | None:
    """The YAML between two ``---`` at the very start, as static site generators have it, marks included; else None."""
    block = _front_matter(_lines(text), 0) if text.startswith("---") else None
    return text[: block[0].end] if block else None


def _lines(text: str) -> list[_Line]:
    return [_Line(match[1].rstrip(), match.start()) for match in _LINE.finditer(text)]


_Read = tuple[Block, int]  # the block, and how many lines it takes


def _run(lines: Sequence[_Line], at: int, taken: int) -> _Read:
    return Block("lines", lines[at].start, lines[at + taken - 1].end), taken


def _front_matter(lines: Sequence[_Line], at: int) -> _Read | None:
    if at != 0 or lines[0].text != "---":
        return None
    last = next((place for place in range(1, len(lines)) if lines[place].text in ("---", "...")), 0)
    return _run(lines, 0, last + 1) if last else None


def _fence(lines: Sequence[_Line], at: int) -> _Read | None:
    """Code between fences; an unclosed fence reaches to the end of the text, as in CommonMark."""
    opening = _FENCE.match(lines[at].text)
    if opening is None:
        return None
    mark = opening[1]
    for place in range(at + 1, len(lines)):
        line = lines[place].text.strip()
        if line.startswith(mark) and not line.strip(mark[0]):
            return _run(lines, at, place - at + 1)
    last = max(place for place in range(at, len(lines)) if lines[place].text)
    return _run(lines, at, last - at + 1)


def _heading(lines: Sequence[_Line], at: int) -> _Read | None:
    line = lines[at]
    if match := _ATX.match(line.text):
        title = _CLOSING_HASHES.sub("", line.text[match.end() :].strip()).strip()
        return Block("heading", line.start, line.end, len(match[1]), title), 1
    below = _UNDERLINE.match(lines[at + 1].text) if at + 1 < len(lines) else None
    if below is None or _UNDERLINE.match(line.text) or _ITEM.match(line.text) or _QUOTE.match(line.text):
        return None
    level = 1 if below[1][0] == "=" else 2
    return Block("heading", line.start, lines[at + 1].end, level, line.text.strip()), 2


def _is_table(lines: Sequence[_Line], at: int) -> bool:
    if at + 1 >= len(lines) or "|" not in lines[at].text or "|" not in lines[at + 1].text:
        return False
    return _DELIMITER_ROW.match(lines[at + 1].text) is not None


def _table(lines: Sequence[_Line], at: int) -> _Read | None:
    if not _is_table(lines, at):
        return None
    last = at + 1
    while last + 1 < len(lines) and "|" in lines[last + 1].text:
        last += 1
    return _run(lines, at, last - at + 1)


def _prose(lines: Sequence[_Line], at: int) -> _Read:
    """Up to a blank line or whatever may interrupt a paragraph; a list item is a block of its own."""
    last = at
    while last + 1 < len(lines) and lines[last + 1].text and not _interrupts(lines, last + 1):
        last += 1
    return Block("prose", lines[at].start, lines[last].end), last - at + 1


def _interrupts(lines: Sequence[_Line], at: int) -> bool:
    line = lines[at].text
    return any(pattern.match(line) for pattern in (_ATX, _FENCE, _ITEM)) or _is_table(lines, at)


_READERS: tuple[Callable[[Sequence[_Line], int], _Read | None], ...] = (_front_matter, _fence, _heading, _table, _prose)
