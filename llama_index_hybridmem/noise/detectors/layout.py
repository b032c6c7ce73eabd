"""Finds what laying out pages leaves in text: lost and doubled blanks, hyphens at line ends, page furniture; pure.

Each detector asks first whether a text has the signs for it at all: most have not, and cost little.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from llama_index_hybridmem.noise.edits import Span
from llama_index_hybridmem.noise.findings import Finding, of_passage
from llama_index_hybridmem.noise.scene import Passage, Scene

_SHOWN = 20
_SEVERE_BLANKS = 0.3  # of the words, as the operator has it
_SEVERE_HYPHENS = 0.35  # of the long words
_SEVERE_FURNITURE = 5
_SLIPS = 0.01
"""Damaged places per word up to which blanks may be an author's own slips."""

_DOUBLED = re.compile(
    r"[ \t\u00a0\u3000](?:(?<=[^\W_].)|(?<=[^\W\d_][,;].))(?:(?<=\t)|[ \t\u00a0\u3000])[ \t\u00a0\u3000]*(?=[^\W\d_])"
)
_BREAK = re.compile(r"\n[ \t\r]*((?:\n[ \t\r]*){0,3})(?=[a-zß-ÿ])")
_JOINED = re.compile(r"[.,!?](?:(?<=[a-z]{2}[.!?])[A-Z][a-z]+ |(?<=[a-z]{3},)[a-z]{2,}[ .])")
_LONG = 24
_LONGER_WORD = re.compile(rf"\b[a-z]{{{_LONG},}}\b")
_GLUED = tuple(
    f" {words} "
    for words in "ofthe inthe tothe onthe andthe forthe bythe atthe isthe ofa ina isa asa tobe itis".split()
)
"""Common neighbours with the blank between them lost, none of them a word itself; English only."""

_CODE = re.compile(r"(?ms)^[ \t]*(```|~~~).*?(?:^[ \t]*\1[ \t]*$|\Z)|^(?: {4}|\t|\|)[^\n]*$")

_AT_LINE_END = re.compile(r"[-\u2010\u00ad](?<=[^\W\d_]{2}.)[ \t]*\r?\n[ \t]*(?=[a-zß-ÿ]{2})")
_AND = "and or to und oder bis et ou y e o en of nor but as in plus than y/o and/or sowie".split()
_IN_LINE = re.compile(rf"-(?<=[^\W\d_]{{2}}-) (?!(?:{'|'.join(_AND)})\b)[a-zß-ÿ]{{2}}")
_LONG_WORDS = 0.4  # share of English words with six letters or more, which can be hyphenated

_FURNITURE = {
    "cookie": ("we use cookies", "uses cookies", "use of cookies", "cookie policy", "cookie settings", "all cookies"),
    "edit": ("[edit]", "[ edit ]", "[edit | edit source]"),
    "share ": ("share this page", "share this article", "share on facebook"),
    "skip to ": ("skip to content", "skip to main", "skip to navigation"),
    "jump to ": ("jump to navigation", "jump to search"),
    "previous": ("previous | next", "« previous"),
    "back to top": ("back to top",),
    "rights reserved": ("all rights reserved",),
    "intentionally": ("intentionally left blank",),
    "newsletter": ("our newsletter",),
    "distribut": ("do not distribute",),
    "printer-": ("printer-friendly",),
    "accept all": ("accept all",),
    "internal use": ("internal use only",),
    "add to cart": ("add to cart",),
    "you are here": ("you are here:",),
    "view all ": ("view all posts",),
    "hide]": ("[hide]",),
    " »": ("next »",),
}
"""What menus, banners, heads and feet of pages say, in small letters, each by a part without which it is not there."""

_SHAPED = (  # a sign without which the pattern need not be tried, and the pattern
    ("page ", re.compile(r"(?i)\bpage \d{1,4} (?:of|/) \d{1,4}\b")),
    ("home", re.compile(r"(?i)\bhome ?[>»›|/•] ?\w[\w ]{1,24}(?: ?[>»›|/•] ?\w[\w ]{1,60})?")),
    ("in |", re.compile(r"(?i)\b(?:sign|log) in \| ?\w+(?: \w+)?")),
    ("terms of", re.compile(r"(?i)\bterms of (?:use|service) ?[|·•] ?\w+")),
    ("©", re.compile(r"©(?: ?copyright)? ?(?:\d{4}|all )")),
    ("advertis", re.compile(r"(?im)^[ \t]*advertise?ment[ \t]*$")),
    ("related", re.compile(r"(?im)^[ \t]*related:? .{3,80}\|.{3,60}$")),
    ("continued", re.compile(r"(?im)^.{3,60}[,(] ?continued\)?[ \t]*$")),
)
_PAGE_NUMBER = re.compile(r"(?m)^[ \t]*(?:[-–—][ \t]*)?\d{1,4}[ \t]*(?:[-–—][ \t]*)?$")
_MOST_NUMBERS = 3  # more lines of nothing but a number are a table that lost its form
_BETWEEN = re.compile(r"\n(?<=[a-zß-ÿ,]\n)([^a-zß-ÿ\n][^\n]{0,79})\n(?=[a-zß-ÿ])")
"""A line that parts a sentence: what stood at the foot or head of a page."""

_LINE = re.compile(r"(?m)^[ \t]*([^\s|#>*+`-][^\n]{8,79})$")


@of_passage("blanks", "layout")
def blanks(passage: Passage, scene: Scene) -> Finding | None:
    """Blanks doubled or lost inside sentences, and line breaks there; severity 1: three blanks of ten."""
    text = passage.text
    pieces = text.split()
    spans = [*_wide(text), *_narrow(text, pieces)]
    if not spans or len(spans) <= _SLIPS * len(pieces):
        return None
    spans = sorted(_outside_code(text, spans))
    share = len(spans) / len(pieces)
    if share <= _SLIPS:
        return None
    return Finding("layout", "whitespace", min(share / _SEVERE_BLANKS, 1.0), tuple(spans[:_SHOWN]))


@of_passage("hyphens", "layout")
def hyphens(passage: Passage, scene: Scene) -> Finding | None:
    """Words cut by a hyphen at a line's end, or by soft ones; severity 1: a third of the long words."""
    text = passage.text
    if "-" not in text and "\u00ad" not in text and "\u2010" not in text:
        return None
    spans = [match.span() for match in _AT_LINE_END.finditer(text)] if "\n" in text else []
    spans += [(match.start(), match.start() + 2) for match in _IN_LINE.finditer(text)] if "- " in text else []
    spans += [match.span() for match in re.finditer("\u00ad", text)]
    if not spans:
        return None
    share = len(set(spans)) / (_LONG_WORDS * (text.count(" ") + text.count("\n") + 1))
    return Finding("layout", "hyphenation", min(share / _SEVERE_HYPHENS, 1.0), tuple(sorted(set(spans))[:_SHOWN]))


@of_passage("page_furniture", "layout")
def page_furniture(passage: Passage, scene: Scene) -> Finding | None:
    """Page numbers, banners, menus and lines that come again: what stands around a text; severity 1: five pieces."""
    spans = list(_furniture(passage.text))
    if not spans:
        return None
    spans = sorted(_outside_code(passage.text, spans))
    found: list[Span] = []
    for start, end in spans:  # one piece can look like furniture in more than one way
        if not found or start >= found[-1][1]:
            found.append((start, end))
    if not found:
        return None
    return Finding("layout", "page_furniture", min(len(found) / _SEVERE_FURNITURE, 1.0), tuple(found[:_SHOWN]))


def _outside_code(text: str, spans: list[Span]) -> list[Span]:
    code = [match.span() for match in _CODE.finditer(text)]
    return [span for span in spans if not any(start <= span[0] < end for start, end in code)]


def _longest(text: str) -> int:
    """The longest line of prose: tables and code are not wrapped where prose is."""
    return max((len(line) for line in text.split("\n") if not line.startswith(("|", "    ", "```"))), default=0)


def _wide(text: str) -> Iterator[Span]:
    if "  " in text or "\t" in text or "\u00a0 " in text:
        yield from (match.span() for match in _DOUBLED.finditer(text))
    if "\n" not in text:
        return
    longest = _longest(text)
    for match in _BREAK.finditer(text):
        start = match.start()
        length = start - text.rfind("\n", 0, start) - 1
        ended = not text[max(start - 1, 0) : start].isalpha() and text[start - 1 : start] != ","
        if not ended and length > 0 and (match[1] or length < 0.6 * longest):  # no line that was full
            yield match.span()


def _narrow(text: str, pieces: list[str]) -> Iterator[Span]:
    yield from (match.span() for match in _JOINED.finditer(text))
    for words in _GLUED:
        if (at := text.find(words)) >= 0:
            yield at + 1, at + len(words) - 1
    if max(map(len, pieces), default=0) >= _LONG:
        yield from (match.span() for match in _LONGER_WORD.finditer(text))


def _furniture(text: str) -> Iterator[Span]:
    small = text.lower()
    if len(small) == len(text):  # else places differ: few signs have longer small forms, none of them in these words
        for part, pieces in _FURNITURE.items():
            if part in small:
                yield from ((at, at + len(words)) for words in pieces if (at := small.find(words)) >= 0)
    for sign, pattern in _SHAPED:
        if sign in small:
            yield from (match.span() for match in pattern.finditer(text))
    if "\n" in text:
        yield from _lines(text)


def _lines(text: str) -> Iterator[Span]:
    numbers = [match.span() for match in _PAGE_NUMBER.finditer(text)]
    if len(numbers) <= _MOST_NUMBERS and text.count(" ") > 20:
        yield from numbers
    longest = _longest(text)
    yield from (match.span(1) for match in _BETWEEN.finditer(text) if len(match[1]) < 0.6 * longest)
    if text.count("\n") > 3:
        lines = list(_LINE.finditer(text))
        counts = Counter(line[1] for line in lines)
        yield from (line.span(1) for line in lines if counts[line[1]] > 1)
