"""HTML to Markdown, as far as cutting and searching need it: headings, lists, tables, code; knows no files.

LlamaIndex's HTML reader glues the words of neighbouring elements together and drops the headings, which are what a
document is cut and found by.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

_SKIPPED = frozenset({"script", "style", "noscript", "template", "svg", "nav"})
_BLOCKS = frozenset(
    "address article aside blockquote body br dd div dl dt figcaption figure footer form header hr main ol p pre "
    "section table tbody tfoot thead tr ul".split()
)
_MARKS = {"li": "- ", **{f"h{level}": "#" * level + " " for level in range(1, 7)}}
_CELLS = frozenset({"td", "th"})
_ROW_ENDS = frozenset({"tr", "table", "tbody", "thead", "tfoot"})
_CHARSET = re.compile(rb"charset\s*=\s*[\"']?([\w:.-]+)", re.IGNORECASE)


def decoded(content: bytes) -> str:
    """Decode a page by the character set that its first 2,048 bytes name, else as UTF-8; bad bytes become U+FFFD."""
    named = _CHARSET.search(content[:2048])
    try:
        return content.decode(named[1].decode("ascii") if named else "utf-8-sig", "replace")
    except LookupError:  # a character set that Python does not know
        return content.decode("utf-8-sig", "replace")


def to_markdown(page: str) -> tuple[str, str]:
    """Turn a page into Markdown; scripts, styles and navigation are left out.

    Returns:
        the page's own ``<title>`` ("" without one) and the text.
    """
    writer = _Writer()
    writer.feed(page)
    writer.close()
    return " ".join(writer.title.split()), writer.text()


class _Writer(HTMLParser):
    """Writes blocks as the parser meets their tags; tags that were never closed do no harm."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self._blocks: list[str] = []
        self._line = ""  # the block being written
        self._mark = ""  # what goes in front of it
        self._row: list[str] | None = None  # finished cells of the table row being written
        self._columns = 0  # of the table; 0 before its first row
        self._skipping: list[str] = []
        self._in_title = self._in_cell = self._verbatim = False

    def text(self) -> str:
        self._end_block()
        return "\n\n".join(self._blocks) + "\n" if self._blocks else ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._skipping or tag in _SKIPPED:
            self._skipping += [tag] if tag in _SKIPPED else []
        elif tag == "title":
            self._in_title = not self.title
        elif self._row is not None and tag != "tr":
            self._start_in_row(tag)
        elif tag in _BLOCKS or tag in _MARKS:
            self._end_block()
            self._start_block(tag)

    def _start_in_row(self, tag: str) -> None:
        if tag in _CELLS:
            self._end_cell()
            self._in_cell = True
        elif tag in _BLOCKS or tag in _MARKS:
            self._line += " "

    def _start_block(self, tag: str) -> None:
        self._mark = _MARKS.get(tag, self._mark)
        self._verbatim = tag == "pre"
        if tag == "table":
            self._columns = 0
        elif tag == "tr":
            self._row = []

    def handle_endtag(self, tag: str) -> None:
        if self._skipping:
            if tag in self._skipping:
                del self._skipping[self._skipping.index(tag) :]
        elif tag == "title":
            self._in_title = False
        elif self._row is not None and tag not in _ROW_ENDS:
            self._line += " " if tag in _BLOCKS else ""
        elif tag in _BLOCKS or tag in _MARKS:
            self._end_block()
            self._mark = "" if tag in _MARKS else self._mark

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif not self._skipping:
            self._line += data

    def _end_block(self) -> None:
        if self._row is not None:
            self._end_row()
            return
        line = self._line.strip("\n") if self._verbatim else " ".join(self._line.split())
        if line.strip():
            self._append(f"```\n{line}\n```" if self._verbatim else f"{self._mark}{line}", joined=self._mark == "- ")
            self._mark = ""
        self._line, self._verbatim = "", False

    def _append(self, block: str, joined: bool) -> None:
        """Add a block; items of a list and rows of a table stand on successive lines."""
        if joined and self._blocks and self._blocks[-1].startswith(block[:2]):
            self._blocks[-1] += f"\n{block}"
        else:
            self._blocks.append(block)

    def _end_cell(self) -> None:
        if self._in_cell and self._row is not None:
            self._row.append(" ".join(self._line.split()).replace("|", "\\|"))
        self._line, self._in_cell = "", False

    def _end_row(self) -> None:
        self._end_cell()
        cells, self._row = self._row or [], None
        if not any(cells):
            return
        self._append(f"| {' | '.join(cells)} |", joined=self._columns > 0)
        if not self._columns:
            self._columns = len(cells)
            self._append("| " + " | ".join("---" for _ in cells) + " |", joined=True)
