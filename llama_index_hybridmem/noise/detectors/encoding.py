"""Finds text that was read in a wrong encoding, or lost what its encoding could not hold; pure, knows no file."""

from __future__ import annotations

import re
from functools import cache
from re import Pattern

from llama_index_hybridmem.extras import require
from llama_index_hybridmem.noise.edits import Span
from llama_index_hybridmem.noise.findings import Finding, of_passage
from llama_index_hybridmem.noise.scene import Passage, Scene

_SHOWN = 20
_STRETCH = re.compile("[^\x00-\x7f]+")
_SUSPECT = re.compile("[^\x00-\x7f]{2}|[\x80-\x9fÂÃâã]")
"""Mojibake comes in stretches, but for the one byte of two that is read as a blank."""

_LOST = re.compile("\ufffd+")
_ASKED = re.compile(r"(?<=[^\W\d_])\?+(?=[^\W\d_])|(?:(?<=\s)|\A)\?(?=[^\W\d_])|(?<=[\w,)\]] )\?(?= [a-zß-ÿ])")
"""A question mark for a letter, a quotation mark or a dash, where no question ends."""

_CODE = re.compile(r"(?ms)^[ \t]*(```|~~~).*?(?:^[ \t]*\1[ \t]*$|\Z)|`[^`\n]+`")
_LINK = re.compile(r"://|www\.|\?[\w%-]+[=&]|\?[.:]")
_REACH = 200  # signs of a link that are looked at on either side of a question mark


@of_passage("mojibake", "encoding")
def mojibake(passage: Passage, scene: Scene) -> Finding | None:
    """Signs that only a wrong encoding makes ("cafÃ©"), by ftfy; severity: share of the non-ASCII stretches."""
    text = passage.text
    if text.isascii() or _SUSPECT.search(text) is None:
        return None
    spans = [match.span() for match in _badness().finditer(text)]
    if not spans:
        return None
    stretches = [match.span() for match in _STRETCH.finditer(text)]
    bad = sum(any(start < last and first < end for first, last in spans) for start, end in stretches)
    return Finding("encoding", "mojibake", min(max(bad, 1) / len(stretches), 1.0), tuple(spans[:_SHOWN]))


@of_passage("lost_signs", "encoding")
def lost_signs(passage: Passage, scene: Scene) -> Finding | None:
    """U+FFFD, or "?" where no question ends; severity: share of such signs among those beyond ASCII."""
    text = passage.text
    spans: list[Span] = [match.span() for match in _LOST.finditer(text)] if "\ufffd" in text else []
    if "?" in text and (asked := [match.span() for match in _ASKED.finditer(text)]):
        code = [match.span() for match in _CODE.finditer(text)]
        spans += [
            span
            for span in asked
            if not any(start <= span[0] < end for start, end in code) and not _is_in_link(text, *span)
        ]
    if not spans:
        return None
    kept = 0 if text.isascii() else sum(len(match.group()) for match in _STRETCH.finditer(text.replace("\ufffd", "")))
    return Finding("encoding", "lost_encoding", len(spans) / (len(spans) + kept), tuple(sorted(spans)[:_SHOWN]))


def _is_in_link(text: str, start: int, end: int) -> bool:
    before = text[max(start - _REACH, 0) : start].split()[-1:] if not text[start - 1 : start].isspace() else []
    behind = text[end : end + _REACH].split()[:1] if not text[end : end + 1].isspace() else []
    return _LINK.search("".join([*before, text[start:end], *behind])) is not None


@cache
def _badness() -> Pattern[str]:
    require("noise.detectors.encoding", "noise", "ftfy")
    from ftfy.badness import BADNESS_RE

    pattern: Pattern[str] = BADNESS_RE
    return pattern
