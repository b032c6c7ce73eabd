"""Markdown that is no longer what it was: fences, tables, headings, lists, links; pure, knows no detector.

Splitters cut structures apart and converters flatten them: at LlamaIndex's default of 1,024 tokens an eighth of the
chunks of real Markdown has an odd number of fences and a sixth a table without its header. Every break is confirmed by
a parser: of the structures that were broken, none is left as it was. What the parser still reads as before is not
done. Severity is the share of the text's structures of that sort that are broken, at least one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from random import Random
from typing import TypeVar

from llama_index_hybridmem.noise.edits import Edit, Span, edited
from llama_index_hybridmem.noise.operators.registry import of_text
from llama_index_hybridmem.noise.structure import Block, Link, Sort, links, structure

T = TypeVar("T")
Attempt = Callable[[str, Block, Random], "list[Edit]"]

_FENCE_MARK = re.compile(r"```|~~~")
_PREFIX = re.compile(r"[\s>]*")
_CELL = re.compile(r"(?:\\.|[^|\\])+")
_HEADING_MARK = re.compile(r"[ \t>]*#{1,6}(?:[ \t]+|$)")
_SETEXT_LINE = re.compile(r"[ \t>]*(?:=+|-+)[ \t]*$")
_BREAKS_BEFORE = re.compile(r"\s*\n\s*$")
_BREAKS_BEHIND = re.compile(r"[ \t]*(?:\r\n?|\n)\s*")
_PROSE = re.compile(r"[ \t]*(?![|`~#>]|[-*+][ \t]|\d{1,9}[.)][ \t]|[-=]+[ \t]*$)\S", re.MULTILINE)
_ITEM_BREAK = re.compile(r"(?<![ \t])[ \t]*(?:\r\n?|\n)[\s>]*")
_ITEM_BREAK_AND_MARK = re.compile(_ITEM_BREAK.pattern + r"(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?")
_NESTING = re.compile(r"^[ \t]+(?=(?:[-*+]|\d{1,9}[.)])[ \t])", re.MULTILINE)


@of_text("fence_unclosed", "markdown")
def fence_unclosed(text: str, severity: float, draw: Random) -> list[Edit]:
    """Code fences without their closing line; severity is the share of them, at least one."""
    return _broken(text, "fence", severity, draw, _without_closing)


@of_text("fence_orphaned", "markdown")
def fence_orphaned(text: str, severity: float, draw: Random) -> list[Edit]:
    """Code fences without their opening line; severity is the share of them, at least one."""
    return _broken(text, "fence", severity, draw, _without_opening)


@of_text("table_header_lost", "markdown")
def table_header_lost(text: str, severity: float, draw: Random) -> list[Edit]:
    """Tables without header, delimiter row or both; severity is the share of them, at least one.

    Both rows are lost in half of the cases.
    """
    return _broken(text, "table", severity, draw, _without_header)


@of_text("table_cells_lost", "markdown")
def table_cells_lost(text: str, severity: float, draw: Random) -> list[Edit]:
    """Table rows that lost a cell, or had one cut in two; severity is the share of them, at least one."""
    return _broken(text, "row", severity, draw, _without_cell)


@of_text("heading_collapsed", "markdown")
def heading_collapsed(text: str, severity: float, draw: Random) -> list[Edit]:
    """Headings without their marks, or run into the text; severity is the share of them, at least one.

    Half of them keep their marks, in mid-line.
    """
    return _broken(text, "heading", severity, draw, _run_in)


@of_text("list_collapsed", "markdown")
def list_collapsed(text: str, severity: float, draw: Random) -> list[Edit]:
    """Lists in one line, or with all items on one level; severity is the share of them, at least one."""
    return _broken(text, "list", severity, draw, _flat)


@of_text("link_broken", "markdown")
def link_broken(text: str, severity: float, draw: Random) -> list[Edit]:
    """Links and images that lost target, bracket or definition; severity is the share of them, at least one."""
    there = links(text)
    tried = [_unlinked(text, link, draw) for link in _some(there.found, severity, draw)]

    def lost(after: str) -> int:
        left = links(after).targets
        return there.targets.total() - (there.targets & left).total()

    return _confirmed(text, tried, lost)


def _broken(text: str, sort: Sort, severity: float, draw: Random, attempt: Attempt) -> list[Edit]:
    there = structure(text)
    before = there.contents(sort)
    tries = ((block, attempt(text, block, draw)) for block in _some(there.of(sort), 1, draw))
    breakable = [(block, edits) for block, edits in tries if edits]
    tried = [edits for _, edits in breakable[: _count(len(breakable), severity)]]

    def lost(after: str) -> int:
        return before.total() - (before & structure(after).contents(sort)).total()

    return _confirmed(text, tried, lost)


def _count(there: int, severity: float) -> int:
    return min(there, max(1, round(severity * there)))


def _some(found: Sequence[T], severity: float, draw: Random) -> list[T]:
    return draw.sample(found, _count(len(found), severity))


def _confirmed(text: str, tried: Sequence[list[Edit]], lost: Callable[[str], int]) -> list[Edit]:
    """All of the breaks when the parser misses as many structures; else the first that it notices by itself."""
    if len(tried) > 1:
        together = _in_order(chain.from_iterable(tried))
        if lost(edited(text, together)[0]) >= len(tried):
            return together
    return next((edits for edits in tried if edits and lost(edited(text, edits)[0]) > 0), [])


def _in_order(edits: Iterator[Edit]) -> list[Edit]:
    """Those that two breaks share (the gap between two headings) count once."""
    kept: list[Edit] = []
    for edit in sorted(edits):
        if not kept or edit.start >= kept[-1].end:
            kept.append(edit)
    return kept


def _without_closing(text: str, fence: Block, draw: Random) -> list[Edit]:
    return [Edit(fence.lines[-2][1], fence.end, "")] if fence.closed else []


def _without_opening(text: str, fence: Block, draw: Random) -> list[Edit]:
    if not fence.closed:
        return []
    start, end = fence.lines[0]
    mark = _FENCE_MARK.search(text, start, end)
    if mark is not None and not _PREFIX.fullmatch(text, start, mark.start()):  # "- ```": the item stays
        return [Edit(mark.start(), end, "")]
    return [Edit(start, fence.lines[1][0], "")]


def _without_header(text: str, table: Block, draw: Random) -> list[Edit]:
    first, last = draw.choice(((0, 2), (0, 2), (0, 1), (1, 2)))
    if len(table.lines) == 2:  # without rows: its delimiter row is all that made it a table
        return [Edit(table.lines[0][1], table.end, "")]
    return [Edit(table.lines[first][0], table.lines[last][0], "")]


def _without_cell(text: str, row: Block, draw: Random) -> list[Edit]:
    start, end = row.lines[0]
    cells = [match.span() for match in _CELL.finditer(text, start, end) if match.group().strip()]
    if len(cells) < 2:
        return []
    at = draw.randrange(len(cells))
    gaps = [match.start() for match in re.finditer(r"(?<=\w) (?=\w)", text[slice(*cells[at])])]
    if gaps and draw.random() < 0.3:
        cut = cells[at][0] + draw.choice(gaps)
        return [Edit(cut, cut, " |")]
    return [_cell_cut(text, cells[at], end)]


def _cell_cut(text: str, cell: Span, end: int) -> Edit:
    """Without the cell and the pipe behind it, or the one before where none follows."""
    if cell[1] < end:
        return Edit(cell[0], cell[1] + 1, "")
    return Edit(cell[0] - 1, cell[1], "")


def _run_in(text: str, heading: Block, draw: Random) -> list[Edit]:
    mark_kept = draw.random() < 0.5
    gaps = [*_gap_before(text, heading), *_gap_behind(text, heading)]
    if mark_kept and gaps:
        return gaps
    mark = _mark(text, heading)
    return _in_order(chain(mark, gaps)) if draw.random() < 0.5 else mark


def _mark(text: str, heading: Block) -> list[Edit]:
    mark = _HEADING_MARK.match(text, heading.start, heading.end)
    if mark is not None:
        return [Edit(*mark.span(), "")]
    if len(heading.lines) > 1 and _SETEXT_LINE.match(text, *heading.lines[-1]):
        return [Edit(heading.lines[-2][1], heading.end, "")]
    return []


def _gap_before(text: str, heading: Block) -> list[Edit]:
    head = text[max(0, heading.start - 40) : heading.start]
    gap = _BREAKS_BEFORE.search(head)
    line = text.rfind("\n", 0, heading.start - len(head) + gap.start()) + 1 if gap else 0
    if not gap or not _PROSE.match(text, line):
        return []
    return [Edit(heading.start - len(head) + gap.start(), heading.start, " ")]


def _gap_behind(text: str, heading: Block) -> list[Edit]:
    gap = _BREAKS_BEHIND.match(text, heading.end)
    if not gap or not _PROSE.match(text, gap.end()) or len(heading.lines) > 1:
        return []
    return [Edit(*gap.span(), " ")]


def _flat(text: str, block: Block, draw: Random) -> list[Edit]:
    nesting = [Edit(*match.span(), "") for match in _NESTING.finditer(text, block.lines[0][1], block.end)]
    if nesting and draw.random() < 0.3:
        return nesting
    pattern = _ITEM_BREAK if draw.random() < 0.7 else _ITEM_BREAK_AND_MARK
    return [Edit(*match.span(), " ") for match in pattern.finditer(text, block.start, block.end)]


def _unlinked(text: str, link: Link, draw: Random) -> list[Edit]:
    if link.label is not None:
        return _undefined(text, link)
    opening = text.index("[", link.start)
    target = (link.middle + 2, link.end - 1)
    ways = (
        Edit(draw.randint(*target), link.end, ""),  # the target's end
        Edit(target[1], link.end, ""),  # the closing bracket
        Edit(opening, opening + 1, ""),
        Edit(link.middle, link.middle + 1, ""),
        Edit(link.middle + 1, link.end, ""),  # the target with its brackets
    )
    return [draw.choice(ways)]


def _undefined(text: str, link: Link) -> list[Edit]:
    """Without the definition, which stands at the end of a document and so in another chunk."""
    label = r"\s+".join(re.escape(word) for word in (link.label or "").split())
    definition = re.search(rf"^ {{0,3}}\[\s*{label}\s*\]:.*(?:\n|\Z)", text, re.MULTILINE | re.IGNORECASE)
    return [Edit(*definition.span(), "")] if definition else []
