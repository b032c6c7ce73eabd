"""Finds what a page's markup left in text: tags, entities, attributes, styles and scripts; pure, knows no parser.

Code is none of it, nor are the line breaks and small marks that Markdown has no other way to write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from llama_index_hybridmem.noise.edits import Span
from llama_index_hybridmem.noise.findings import Finding, of_passage
from llama_index_hybridmem.noise.scene import Passage, Scene

_SHOWN = 20
_SEVERE = 0.15
"""Share of the words with a leftover about them at severity 1, as the operator has it."""

_NAMES = (
    "abbr article aside blockquote body br button caption center cite code col colgroup dd del div dl dt em figcaption "
    "figure font footer form h1 h2 h3 h4 h5 h6 head header hr html iframe img input ins label li link main meta nav "
    "noscript ol option picture pre ref script section select small source span strike strong style sub sup svg table "
    "tbody td textarea tfoot th thead title tr tt ul video"
).split()
_ATTRIBUTES = r"(?:\s+[\w:-]+\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>]+)|\s+[\w:-]+)*"
_TAG = re.compile(
    rf"<(?:/(?:{'|'.join(_NAMES)}|[abipqsu])\s*>|(?:{'|'.join(_NAMES)})\b{_ATTRIBUTES}\s*/?>"
    rf"|(?<![\w:]<)[abipqsu](?:\s+\w[\w-]*=[^<>]*|\s*/)?>|!--|!\[if|!doctype\b|\?xml\b)",
    re.IGNORECASE,
)
_IN_MARKDOWN = re.compile(r"</?(?:sub|sup|kbd|details|summary)\b|<!--", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{2,6}|#x[\da-f]{2,5}|[a-z]{2,8}\d{0,2}|[A-Z][a-z]{2,7});")
_ATTRIBUTE = re.compile(
    r"\b(?:class|style|href|src|id|alt|target|rel|width|height|data-[\w-]+)=\\?[\"'][^\"'\n]*(?:[\"'](?:\s?/?>)?)?"
)
_RULE = re.compile(r"(?m)(?:^|\s)[.#@]?[\w-]+(?: \([^()\n]{0,80}\))?\s?\{\s?[.\w-]+\s?[:{][^{}\n]*[;}]")
_SCRIPT = re.compile(
    r"\bfunction ?\w{0,40}\([^()\n]{0,80}\) ?\{|\b(?:window|document)\.\w+ ?[=(.]|\bvar \w+ ?= ?[^=\n]*;"
    r"|@media\b|@import\b"
)
_SCRIPT_SIGNS = ("function", "window.", "document.", "var ", "@media", "@import")
_CODE = re.compile(r"(?ms)^[ \t]*(```|~~~).*?(?:^[ \t]*\1[ \t]*$|\Z)|``[^\n]+?``|`[^`\n]+`|^(?: {4}|\t)[^\n]*$")


@of_passage("markup", "html")
def markup(passage: Passage, scene: Scene) -> Finding | None:
    """Tags, entities, attributes, styles or scripts; severity 1: at one word in seven."""
    text = passage.text
    if not ("<" in text or "&" in text or "{" in text or "=" in text):
        return None
    spans = sorted(_found(text))
    if not spans:
        return None
    code = [match.span() for match in _CODE.finditer(text)] if "`" in text or "    " in text or "~~~" in text else []
    spans = [span for span in spans if not any(start <= span[0] < end for start, end in code)]
    spans = [span for n, span in enumerate(spans) if n == 0 or span[0] >= spans[n - 1][1]]
    if not spans:
        return None
    share = len(spans) / (text.count(" ") + 1)
    return Finding("html", "html_residue", min(share / _SEVERE, 1.0), tuple(spans[:_SHOWN]))


def _found(text: str) -> Iterator[Span]:
    if "<" in text:
        yield from (match.span() for match in _TAG.finditer(text) if not _is_markdown(text, match))
    if "&" in text:
        yield from (match.span() for match in _ENTITY.finditer(text))
    if "=" in text and ('"' in text or "'" in text):
        yield from (match.span() for match in _ATTRIBUTE.finditer(text))
    if "{" in text:
        yield from (match.span() for match in _RULE.finditer(text))
    if any(sign in text for sign in _SCRIPT_SIGNS):
        yield from (match.span() for match in _SCRIPT.finditer(text))


def _is_markdown(text: str, tag: re.Match[str]) -> bool:
    """Whether a tag is one that people write in Markdown: a line break in a table's cell, a raised sign, a fold."""
    if _IN_MARKDOWN.match(tag.group()):
        return True
    row = text[text.rfind("\n", 0, tag.start()) + 1 : tag.start()]
    return tag.group()[:3].lower() == "<br" and row.startswith("|")
