"""Tags, entities and script crumbs that page cleaning left over; pure, knows no page and no parser."""

from __future__ import annotations

import re
from random import Random
from typing import TypeVar

from llama_index_hybridmem.noise.edits import Edit
from llama_index_hybridmem.noise.operators.places import every, hits, scattered
from llama_index_hybridmem.noise.operators.registry import of_text

WORST = 0.15
"""Share of the words that have a leftover about them at severity 1."""

T = TypeVar("T")
_WORD = re.compile(r"(?<!\S)\S+")
_SPECIAL = re.compile("[&<>\"']")
_ENTITIES = {
    "&": ("&amp;", "&amp;", "&#38;", "&amp;amp;"),
    "<": ("&lt;", "&#60;"),
    ">": ("&gt;", "&#62;"),
    '"': ("&quot;", "&quot;", "&#34;"),
    "'": ("&#39;", "&#x27;", "&apos;", "&rsquo;"),
}
_AROUND = (
    ("<b>", "</b>"),
    ("<strong>", "</strong>"),
    ("<em>", "</em>"),
    ("<i>", "</i>"),
    ('<span class="highlight">', "</span>"),
    ('<span style="font-size: 14px;">', "</span>"),
    ('<a href="#">', "</a>"),
    ('<a href="/index.html" target="_blank">', "</a>"),
    ("<code>", "</code>"),
    ("<td>", "</td>"),
)
_BEFORE = (
    '<div class="content">',
    '<div class="row" id="main">',
    '<p class="text-body">',
    "<p>",
    "<li>",
    '<div data-id="1042">',
    "<h2>",
    "<!-- begin -->",
)
_BEHIND = (
    "</div>",
    "</p>",
    "<br>",
    "<br />",
    "</span>",
    "</li>",
    "</p>\n<p>",
    "<sup>[1]</sup>",
    '<img src="spacer.gif" alt="">',
    "&nbsp;",
    "&hellip;",
)
_CRUMBS = (
    "\n<script>window.dataLayer = window.dataLayer || [];</script>",
    '\n<script type="text/javascript">var page = 1;</script>',
    "\n.nav { display: none; }",
    "\n<style>.ad { margin: 0 auto; }</style>",
    "\n(function () { track('view'); })();",
    "\n@media (max-width: 640px) { .side { float: none; } }",
    "\n<!--[if lt IE 9]>",
    "\n<noscript>",
)
_BLANKS = ("&nbsp;", "&nbsp;", "&#160;", "&nbsp;&nbsp;", "<br>")


@of_text("html_residue", "html")
def html_residue(text: str, severity: float, draw: Random) -> list[Edit]:
    """Leaves tags, entities, unclosed elements, script crumbs; severity 1 hits 15 % of the words, all special signs."""
    special = [match.start() for match in _SPECIAL.finditer(text)]
    edits = []
    for n in hits(len(special), severity, draw):
        at = special[n]
        edits.append(Edit(at, at + 1, _one(_ENTITIES[text[at]], draw)))
    gap = every(WORST * severity, text.count(" ") + text.count("\n") + 1, text)
    for match in scattered(text, _WORD, gap, draw):
        edits += _leftover(*match.span(), draw, last=match.end() == len(text))
    return sorted(edits)


def _leftover(start: int, end: int, draw: Random, last: bool) -> list[Edit]:
    """What is left about a word: in its place's blank, before it, behind it, or around it, often on one side only."""
    sort = draw.random()
    if sort < 0.3 and not last:
        return [Edit(end, end + 1, _one(_BLANKS, draw))]
    if sort < 0.5:
        return [Edit(start, start, _one(_BEFORE, draw))]
    if sort < 0.72:
        return [Edit(end, end, _one(_BEHIND, draw))]
    if sort < 0.8:
        return [Edit(end, end, _one(_CRUMBS, draw))]
    opening, closing = _one(_AROUND, draw)
    if sort < 0.92:
        return [Edit(start, start, opening), Edit(end, end, closing)]
    return [Edit(start, start, opening)] if sort < 0.96 else [Edit(end, end, closing)]


def _one(choice: tuple[T, ...], draw: Random) -> T:
    return choice[int(draw.random() * len(choice))]
