"""Finds Markdown that is broken: fences, tables, headings, lists, links; pure, knows no operator and asks no parser.

Line by line and without a parser, since a parser takes any text for valid Markdown. What stands in code is looked at
by none but the fences' detector. Headings and lists of which no mark is left cannot be told from prose: they are not
found, nor are lists of two items in one line ("- name - what it does" is how people write).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from llama_index_hybridmem.noise.edits import Span
from llama_index_hybridmem.noise.findings import Finding, of_passage
from llama_index_hybridmem.noise.scene import Passage, Scene

_FENCE = re.compile(r"^[ \t>]*(?:[-*+][ \t]+|\d{1,9}[.)][ \t]+)?(`{3,}(?=[^`\r\n]*$)|~{3,})[ \t]*([^\r\n]*)", re.M)
_CODE_SPAN = re.compile(r"(?<!`)(`{1,2})(?!`)[^`\r\n]+(?<!`)\1(?!`)")
_SIGN = re.compile(r"[^\r\n]")
_CODE_LINE = re.compile(
    r"^(?: {4}|\t|.*(?:[{}<>=;$\\]|\(\)|\w_\w)|[ \t]*(?:#|//|def |import |from |pip |- \w+:|\w+: ?\S*$))"
)

_ROW = re.compile(r"^[^|\r\n]*\|[^\r\n]*$", re.M)
_PIPE = re.compile(r"(?<!\\)\|")
_DELIMITER = re.compile(r"[ \t>]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")
_CELL_END = re.compile(r"[ \t]\|")
_CLOSED_ROW = re.compile(r"[ \t>]*\|.*\|[ \t]*")

_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]", re.M)
_HEADING_INSIDE = re.compile(r"(?<=\S)[ \t]+(?:#{2,6}|(?<=[.!?:][ \t])#)[ \t]+(?=[^\W_a-z]|[*\"'])")
_LONG_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(?=[^\r\n]{100})[^\r\n]*?\w[.!?][ \t]+[^\W\d_a-z][^\r\n]*", re.M)

_LIST_LINE = re.compile(r"^[ \t>]*(?:([-*+])|(\d{1,4})[.)])[ \t]+\S[^\r\n]*", re.M)
_LIST_INSIDE = re.compile(r":[ \t]+([-*+])()[ \t]+\w[^\r\n]*")

_CUT_LINK = r"!?\[[^\[\]\r\n]*\]\((?![^()\r\n]*(?:\([^()\r\n]*\)[^()\r\n]*)*\))[^\s()]*"  # [text](https://exam
_EMPTY_LINK = r"!?\[[^\[\]\r\n]*\]\([ \t]*\)"
_UNCLOSED_TEXT = r"\[[^\[\]()\r\n]*\((?:https?://|www\.|\.{0,2}/)[^()\s]*\)"  # [text(https://example.org)
_DANGLING = re.compile("|".join((_CUT_LINK, _EMPTY_LINK, _UNCLOSED_TEXT)))
_BRACKET = re.compile(r"\[|(?<=\w)\](\([^()\s]+\))|\]|\n[ \t]*\r?\n")
_REFERENCE = re.compile(r"(?<![\w\])])!?\[([^\[\]\r\n]*[^\W\d_]{2}[^\[\]\r\n]*)\]\[([^\[\]\r\n]*)\]")
_DEFINITION = re.compile(r"^ {0,3}\[([^\[\]\r\n]+)\]:", re.M)


@of_passage("broken_fence", "markdown")
def broken_fence(passage: Passage, scene: Scene) -> Finding | None:
    """A code fence that is never closed, that holds another's opening, or that was never opened."""
    fences = _fences(passage.text)
    broken = [each for each in fences if each.closing is None or each.held]
    if not broken:
        return None
    name = "fence_orphaned" if _is_orphan(passage.text, broken[-1]) else "fence_unclosed"
    return _finding(name, len(broken), len(fences), [each.opening.span(1) for each in broken])


@of_passage("broken_table", "markdown")
def broken_table(passage: Passage, scene: Scene) -> Finding | None:
    """Rows of pipes without header or delimiter row, or with more or fewer cells than their header."""
    text = _prose(passage.text)
    if text.count("|") < 2:
        return None
    tables = [_Table.of(rows) for rows in _runs(text)]
    headless = [each for each in tables if each.headless]
    if headless:
        spans = [(each.rows[0].start(), each.rows[-1].end()) for each in headless]
        return _finding("table_header_lost", len(headless), sum(1 for each in tables if each.is_one), spans)
    uneven = [row.span() for each in tables for row in each.uneven()]
    rows = sum(len(each.rows) - 2 for each in tables if each.is_one)
    return _finding("table_cells_lost", len(uneven), rows, uneven) if uneven else None


@of_passage("heading_inside", "markdown")
def heading_inside(passage: Passage, scene: Scene) -> Finding | None:
    """A heading's marks in mid-line, or a heading as long as a paragraph."""
    if "# " not in passage.text:
        return None
    text = _prose(passage.text)
    found = [*_HEADING_INSIDE.finditer(text), *_LONG_HEADING.finditer(text)]
    whole = sum(1 for _ in _HEADING.finditer(text))
    spans = sorted(match.span() for match in found)
    return _finding("heading_collapsed", len(spans), whole + len(spans), spans) if spans else None


@of_passage("list_inside", "markdown")
def list_inside(passage: Passage, scene: Scene) -> Finding | None:
    """A list in one line: three items with the same mark, or numbers that count up."""
    text = _prose(passage.text)
    lines = list(_LIST_LINE.finditer(text))
    candidates = [(match, _marks(match)) for match in (*lines, *_LIST_INSIDE.finditer(text))]
    found = [match for match, marks in candidates if marks > (2 if len(lines) > 1 and match[1] else 1)]
    others = len(lines) > len(found)
    return (
        _finding("list_collapsed", len(found), len(found) + others, [each.span() for each in found]) if found else None
    )


@of_passage("dangling_link", "markdown")
def dangling_link(passage: Passage, scene: Scene) -> Finding | None:
    """A link or an image without target, bracket or definition."""
    if "[" not in passage.text and "](" not in passage.text:
        return None
    text = _prose(passage.text)
    spans = [*(match.span() for match in _DANGLING.finditer(text)), *_unopened(text)]
    if "][" in text:
        defined = {_folded(match[1]) for match in _DEFINITION.finditer(text)}
        references = _REFERENCE.finditer(text)
        spans += [match.span() for match in references if _folded(match[2] or match[1]) not in defined]
    there = text.count("](") + text.count("][")
    return _finding("link_broken", len(spans), max(there, len(spans)), sorted(spans)) if spans else None


def _is_open(row: str) -> bool:
    """Whether a line stands between pipes with blanks, and has two cells; by hand, for a pattern would be quadratic."""
    bare = row.lstrip(" \t>").rstrip(" \t")
    closed = bare[:2] in ("| ", "|\t") and bare[-2:] in (" |", "\t|")
    return closed and _CELL_END.search(bare, 2, len(bare) - 1) is not None


def _unopened(text: str) -> Iterator[Span]:
    """Where ``](target)`` closes a bracket that its paragraph never opened."""
    depth = 0
    for match in _BRACKET.finditer(text) if "](" in text else ():
        if match[0] == "[":
            depth += 1
        elif match[0][0] != "]":
            depth = 0
        else:
            if match[1] and not depth:
                yield match.span()
            depth = max(0, depth - 1)


def _finding(operator: str, broken: int, there: int, spans: Sequence[Span]) -> Finding:
    return Finding("markdown", operator, min(1.0, broken / max(1, there)), tuple(spans))


def _folded(label: str) -> str:
    return " ".join(label.casefold().split())


@lru_cache(64)
def _prose(text: str) -> str:
    """The text with blanks for code, so that places stay."""
    if "`" not in text and "~~~" not in text:
        return text
    ends = [(each.opening.start(), each.closing.end() if each.closing else len(text)) for each in _fences(text)]
    for start, end in ends:
        text = text[:start] + _SIGN.sub(" ", text[start:end]) + text[end:]
    return _CODE_SPAN.sub(lambda match: "x" * len(match.group()), text)


class _Fence(NamedTuple):
    """From an opening to its closing; ``held`` are openings in between, which the parser takes for code."""

    opening: re.Match[str]
    closing: re.Match[str] | None
    held: tuple[re.Match[str], ...]


def _fences(text: str) -> list[_Fence]:
    if "```" not in text and "~~~" not in text:
        return []
    found: list[_Fence] = []
    opening: re.Match[str] | None = None
    held: list[re.Match[str]] = []
    for mark in _FENCE.finditer(text):
        if opening is None:
            opening, held = mark, []
        elif mark[1].startswith(opening[1]) and mark[2].strip():
            held.append(mark)
        elif mark[1].startswith(opening[1]):
            found.append(_Fence(opening, mark, tuple(held)))
            opening = None
    return found if opening is None else [*found, _Fence(opening, None, tuple(held))]


def _is_orphan(text: str, fence: _Fence) -> bool:
    """Whether what opens a fence was meant to close one: it names no language, and there is more code before it."""
    if fence.opening[2].strip():
        return False
    behind = text[fence.opening.end() : fence.held[0].start() if fence.held else len(text)]
    before = text[: fence.opening.start()]
    before = before[before.rfind("```") + 1 :]
    return not behind.strip() or _code(before.splitlines()[-8:]) > _code(behind.splitlines()[:8])


def _code(lines: Sequence[str]) -> float:
    lines = [line for line in lines if line.strip()]
    return sum(1 for line in lines if _CODE_LINE.match(line)) / len(lines) if lines else 0.0


class _Table(NamedTuple):
    """Lines with pipes that follow one another.

    Attributes:
        rows: the lines.
        cells: of each.
        delimiter: which of them is the delimiter row; -1 without one.
    """

    rows: Sequence[re.Match[str]]
    cells: Sequence[int]
    delimiter: int

    @classmethod
    def of(cls, rows: Sequence[re.Match[str]]) -> _Table:
        """Read lines."""
        found = (at for at, row in enumerate(rows) if "-" in row[0] and _DELIMITER.fullmatch(row[0]))
        return cls(rows, [_cells(row[0]) for row in rows], next(found, -1))

    @property
    def is_one(self) -> bool:
        """Whether it is, or was, a table."""
        if self.delimiter >= 0 or any(_is_open(row[0]) for row in self.rows):
            return True
        if sum(1 for row in self.rows if _CLOSED_ROW.fullmatch(row[0])) > 1:
            return True
        return len(self.rows) > 2 and min(self.cells) > 2 and len(set(self.cells)) == 1

    @property
    def headless(self) -> bool:
        """Whether there is no header or no delimiter row, or the one does not fit the other."""
        at = self.delimiter
        return self.is_one and (at < 1 or self.cells[at - 1] != self.cells[at])

    def uneven(self) -> Iterator[re.Match[str]]:
        """The rows with more or fewer cells than the header."""
        body = range(self.delimiter + 1, len(self.rows))
        return (self.rows[at] for at in body if self.is_one and self.cells[at] != self.cells[self.delimiter])


def _cells(row: str) -> int:
    row = row.strip(" \t>")
    pipes = len(_PIPE.findall(row))
    return pipes + 1 - row.startswith("|") - (row.endswith("|") and not row.endswith("\\|"))


def _runs(text: str) -> Iterator[list[re.Match[str]]]:
    run: list[re.Match[str]] = []
    for row in _ROW.finditer(text):
        if run and row.start() - run[-1].end() > (2 if text[run[-1].end()] == "\r" else 1):
            yield run
            run = []
        run.append(row)
    if run:
        yield run


def _marks(line: re.Match[str]) -> int:
    """How many more items a list's first line holds; three when its numbers count up, which is enough."""
    if line[1]:
        return len(re.findall(rf"(?<=\S)[ \t]+\{line[1]}[ \t]+(?=\S)", line[0][line.end(1) - line.start() :]))
    following = rf"(?<=\S)[ \t]+{int(line[2]) + 1}[.)][ \t]+(?=[^\W\d_])"
    return 3 if re.search(following, line[0]) else 0
