"""Blanks, line breaks, hyphens and page furniture as text extraction leaves them; pure, knows no page."""

from __future__ import annotations

import re
from random import Random

from llama_index_hybridmem.noise.edits import Edit
from llama_index_hybridmem.noise.operators.places import every, hits, scattered
from llama_index_hybridmem.noise.operators.registry import of_text

WORST_BLANKS = 0.3
"""Share of the stretches of blanks that are wrong at severity 1."""

WORST_HYPHENS = 0.35
"""Share of the long words that are broken at severity 1."""

WORST_FURNITURE = 5
"""Pieces of page furniture in a passage at severity 1."""

_BLANKS = re.compile(r"(?<!\s)\s+")
_INSTEAD = ("", "", "", "  ", "  ", "\n", "\n", "   ", "\t")  # joined words are the commonest
_INSTEAD_OF_BREAK = (" ", " ", " ", "", "\n\n", "\n", "\n \n")  # lost line breaks are the commonest

_LONG_WORD = re.compile(r"[A-Za-zÀ-ÖØ-öø-ɏΑ-ωа-яА-ЯёЁ]{6,}")  # scripts that are hyphenated
_SYLLABLE_END = re.compile(r"[aeiouyäöüáéíóúèàаеиоуыэюяαεηιου](?=[^aeiouyäöüáéíóúèàаеиоуыэюяαεηιου])", re.IGNORECASE)
_HYPHENS = ("-\n", "-\n", "-\n", "\u00ad", "- ")  # over a line's end, soft, and where the line's end became a blank

_TITLE_MARKS = " \t#*_|>-=`[]()\r"
_TITLE_LENGTH = 60
_NEAR_LINE_END = 80
_NEAR_BLANK = 24
_OWN_WORDS_WITHIN = 120
_OWN_WORD = re.compile(r"[^\W\d_]{5,20}")
_PRINTED = (
    "{title}  {page}",
    "Page {page} of {pages}",
    "{page}",
    "{caps}",
    "- {page} -",
    "{page} | {title}",
    "Confidential. Do not distribute.",
    "{title}, continued",
    "[This page intentionally left blank]",
)
_ON_THE_WEB = (
    "Home > {first} > {title}",
    "We use cookies to improve your experience. Accept all | Reject | Settings",
    "Skip to main content",
    "[ edit ]",
    "Share this page: Facebook | X | Email",
    "Related: {first} | {second} | {title}",
    "Sign in | Register | {first}",
    "Advertisement",
    "« Previous | Next »",
    "Subscribe to our newsletter",
    "© All rights reserved. Terms of use | Privacy",
    "{title} - Jump to navigation",
)


@of_text("whitespace", "layout")
def whitespace(text: str, severity: float, draw: Random) -> list[Edit]:
    """Doubles blanks, joins words, loses and adds line breaks; severity 1 hits three of ten stretches of blanks."""
    gap = every(WORST_BLANKS * severity, text.count(" ") + text.count("\n") + 1, text)
    edits = []
    for match in scattered(text, _BLANKS, gap, draw):
        (start, end), was = match.span(), match.group()
        choice = _INSTEAD_OF_BREAK if "\n" in was else _INSTEAD
        put = choice[int(draw.random() * len(choice))]
        edits.append(Edit(start, end, put if put != was else was + " "))
    return edits


@of_text("hyphenation", "layout")
def hyphenation(text: str, severity: float, draw: Random) -> list[Edit]:
    """Leaves words broken as at line ends, or with soft hyphens; severity 1 breaks 35 % of those of six letters up.

    A passage has one style: "-" and a line break, a soft hyphen, or "-" and a blank.
    """
    spans = [match.span() for match in _LONG_WORD.finditer(text)]
    hyphen = draw.choice(_HYPHENS)
    edits = []
    for n in hits(len(spans), WORST_HYPHENS * severity, draw):
        start, end = spans[n]
        at = start + 2 + int(draw.random() * (end - start - 4))
        syllable = _SYLLABLE_END.search(text, at - 1, end - 2)
        at = syllable.end() if syllable else at
        edits.append(Edit(at, at, hyphen))
    return edits


@of_text("page_furniture", "layout")
def page_furniture(text: str, severity: float, draw: Random) -> list[Edit]:
    """Puts running titles, page numbers, cookie banners and navigation between lines; severity 1 means five of them.

    A passage comes from print or from the web. Its own first line and words make the titles and the menus. Where no
    line ends nearby, the piece stands in the midst of a sentence, as at a page's end.
    """
    if not text.strip():
        return []
    lines = draw.choice((_PRINTED, _ON_THE_WEB))
    names = _names(text, draw)
    at_line, at_page = int(draw.random() * len(lines)), int(draw.random() * 300) + 1
    wanted = max(1, round(WORST_FURNITURE * severity))
    places = sorted({_line_end(text, int(draw.random() * len(text))) for _ in range(wanted)})
    edits = []
    for n, (start, end) in enumerate(places):
        line = lines[(at_line + n) % len(lines)].format(page=at_page + n, pages=at_page + 40, **names)
        edits.append(Edit(start, end, f"\n{line}\n" if end > start else f"\n{line}"))
    return edits


def _line_end(text: str, near: int) -> tuple[int, int]:
    """The next line end, to be inserted at, or else a blank, to be replaced; the text's end when neither is near."""
    at = text.find("\n", near, near + _NEAR_LINE_END)
    if at >= 0:
        return at, at
    at = text.find(" ", near, near + _NEAR_BLANK)
    return (at, at + 1) if at >= 0 else (len(text), len(text))


def _names(text: str, draw: Random) -> dict[str, str]:
    """What furniture can say about a passage: its title-like first line, and words of its own."""
    first_line = text.strip().split("\n", 1)[0].strip(_TITLE_MARKS)
    title = first_line if 0 < len(first_line) <= _TITLE_LENGTH else " ".join(first_line[:200].split()[:5])[:40]
    from_ = int(draw.random() * len(text) / 2)
    own = _OWN_WORD.findall(text, from_, from_ + _OWN_WORDS_WITHIN) or ["Products"]
    first, second = draw.choice(own).capitalize(), draw.choice(own).capitalize()
    return {"title": title, "caps": title.upper(), "first": first, "second": second}
