"""What markdown-it-py sees in a text: fences, tables, lists, headings, links, and where they stand; knows no operator.

The only room of noise that asks a Markdown parser. A parse costs a few hundred microseconds: texts without any sign of
structure are not parsed, and the last texts' structures are kept.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Literal

from llama_index_hybridmem.extras import require
from llama_index_hybridmem.noise.edits import Span

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

Sort = Literal["fence", "table", "row", "list", "heading"]

KEPT = 256
"""Texts whose structure is kept, the latest ones: a few scenes' worth."""

_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n|\Z)")
_BLOCK_SIGN = re.compile(
    r"""
    \|                                      # a table
    | (?:^|\r)[ \t>]*(?:
        (?:[-+*]|\d{1,9}[.)])(?:\s|$)       # a list
        | \#{1,6}(?:\s|$)                   # a heading
        | ```|~~~                           # a fence
        | (?:=+|-+)[ \t]*(?:\r|$)           # a heading's underline
    )""",
    re.MULTILINE | re.VERBOSE,
)
_LINK = re.compile(
    r"""!?\[(?P<text>[^\[\]]*)\](?:
        \(\s*<?(?P<target>[^()\s<>]*(?:\([^()\s<>]*\)[^()\s<>]*)*)>?(?:\s+"[^"]*"|\s+'[^']*')?\s*\)
        | \[(?P<label>[^\[\]]*)\]
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a text.

    Attributes:
        sort: what it is; ``row`` is one of a table's rows below its delimiter row, ``list`` an outermost one.
        lines: its lines, each without its line break.
        content: what the parser reads in it; blocks of equal content are the same to a reader.
        closed: of a fence, whether it has a closing line; else True.
    """

    sort: Sort
    lines: tuple[Span, ...]
    content: tuple[Any, ...]
    closed: bool = True

    @property
    def start(self) -> int:
        """Its first line's first character."""
        return self.lines[0][0]

    @property
    def end(self) -> int:
        """The character behind its last line, which is its line break."""
        return self.lines[-1][1]


@dataclass(frozen=True, slots=True)
class Link:
    """A link or an image, ``[text](target)`` or ``[text][label]``.

    Attributes:
        start: its first character.
        middle: the ``]`` behind its text.
        end: the character behind its last.
        label: of the definition that it refers to; None when it names its target itself.
    """

    start: int
    middle: int
    end: int
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Structure:
    """The blocks of a text, in order."""

    blocks: tuple[Block, ...] = ()

    def of(self, sort: Sort) -> list[Block]:
        """Give the blocks of one sort."""
        return [each for each in self.blocks if each.sort == sort]

    def contents(self, sort: Sort) -> Counter[tuple[Any, ...]]:
        """What the blocks of one sort hold, and how often."""
        return Counter(each.content for each in self.of(sort))


@dataclass(frozen=True, slots=True)
class Links:
    """The links and images of a text.

    Attributes:
        found: those whose place is known, in order.
        targets: where all of them lead, and how often.
    """

    found: tuple[Link, ...] = ()
    targets: Counter[str] = field(default_factory=Counter)


@lru_cache(KEPT)
def structure(text: str) -> Structure:
    """Find the blocks of a text, as CommonMark with tables has them.

    Raises:
        MissingExtraError: the text has signs of structure, and markdown-it-py is not installed.
    """
    if not _BLOCK_SIGN.search(text):
        return Structure()
    lines = _lines(text)
    return Structure(tuple(_blocks(_parser(inline=False).parse(text), text, lines)))


@lru_cache(KEPT)
def links(text: str) -> Links:
    """Find the links and images of a text; those of which a parser makes none are none.

    Raises:
        MissingExtraError: the text has signs of links, and markdown-it-py is not installed.
    """
    if not _LINK.search(text):
        return Links()
    lines = _lines(text)
    env: dict[str, Any] = {}
    found: list[Link] = []
    targets: list[str] = []
    for token in _parser(inline=True).parse(text, env):
        here = _targets(token)
        targets += here
        if here and token.map:
            found += _places(text, (lines[token.map[0]][0], lines[token.map[1] - 1][1]), here, env)
    return Links(tuple(found), Counter(targets))


@cache
def _parser(inline: bool) -> MarkdownIt:
    """Without ``inline`` it stops at blocks, which takes a third of the time."""
    require("Breaking Markdown where a parser confirms it", "noise", "markdown_it")
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    if not inline:
        parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


def _lines(text: str) -> list[Span]:
    """As the parser counts them: it knows no line breaks but these."""
    return [(match.start(), match.start() + len(match.group().rstrip("\r\n"))) for match in _LINE.finditer(text)]


def _blocks(tokens: Sequence[Token], text: str, lines: Sequence[Span]) -> Iterator[Block]:
    listed = 0  # up to where an outermost list reaches
    for at, token in enumerate(tokens):
        if token.map is None:
            continue
        place = tuple(lines[token.map[0] : token.map[1]])
        if token.type == "fence":
            closed = _is_closed(text, place, token.markup)
            yield Block("fence", place, (token.info.strip(), token.content, closed), closed)
        elif token.type == "heading_open":
            yield Block("heading", place, (token.tag, tokens[at + 1].content))
        elif token.type == "table_open":
            yield Block("table", place, _content(tokens, at))
        elif token.type == "tr_open" and token.level and tokens[at - 1].type != "thead_open":
            yield Block("row", place, _content(tokens, at))
        elif token.type.endswith("list_open") and at >= listed:
            listed = _closing(tokens, at)
            yield Block("list", _trimmed(text, place), _content(tokens, at))


def _closing(tokens: Sequence[Token], at: int) -> int:
    return next(n for n in range(at + 1, len(tokens)) if tokens[n].level == tokens[at].level)


def _content(tokens: Sequence[Token], at: int) -> tuple[Any, ...]:
    """What stands inside, with its depth."""
    inside = tokens[at + 1 : _closing(tokens, at)]
    depth = tokens[at].level
    return tuple((each.level - depth, each.content) for each in inside if each.type in ("inline", "fence"))


def _is_closed(text: str, lines: Sequence[Span], mark: str) -> bool:
    last = text[slice(*lines[-1])].strip(" \t>")
    return len(lines) > 1 and last.startswith(mark) and not last.strip(mark[0])


def _trimmed(text: str, lines: tuple[Span, ...]) -> tuple[Span, ...]:
    """Without the blank lines that the parser counts to a list."""
    while len(lines) > 1 and not text[slice(*lines[-1])].strip():
        lines = lines[:-1]
    return lines


def _targets(token: Token) -> list[str]:
    children = token.children or ()
    return [
        str(each.attrs.get("src" if each.type == "image" else "href", ""))
        for each in children
        if each.type in ("link_open", "image")
    ]


def _places(text: str, span: Span, targets: Sequence[str], env: dict[str, Any]) -> Iterator[Link]:
    """Where links stand: the parser does not say, so what looks like one is one if it leads where one of them does."""
    left = Counter(targets)
    parser = _parser(inline=True)
    for match in _LINK.finditer(text, *span):
        label = match["label"]
        target = match["target"]
        if target is None:
            label = label or match["text"]
            target = env.get("references", {}).get(_folded(label), {}).get("href")
        else:
            target = parser.normalizeLink(target)
        if target is not None and left[target] > 0:
            left[target] -= 1
            yield Link(match.start(), match.end("text"), match.end(), label)


def _folded(label: str) -> str:
    from markdown_it.common.utils import normalizeReference

    return normalizeReference(label)
