"""Signs that a wrong encoding garbled or lost; pure, knows no file and no repair.

What `mojibake` makes, a repairing reader can undo: it leaves out stretches whose garbled form could be proper text
("å" read as "Ã¥"), which no detector takes for damage.
"""

from __future__ import annotations

import re
from random import Random

from llama_index_hybridmem.noise.edits import Edit
from llama_index_hybridmem.noise.operators.places import hits
from llama_index_hybridmem.noise.operators.registry import of_text

FEW = 5
"""With fewer stretches of non-ASCII signs, ASCII quotes and dashes are first made the typographic ones."""

_STRETCH = re.compile("[\x80-\ud7ff\ue000-\U0010ffff]+(?: [\x80-\ud7ff\ue000-\U0010ffff]+)*")
"""Neighbours are garbled together: a repairing reader takes the blank between them for a byte of the second."""

_SIGN = re.compile("[^\x00-\x7f]")
_TELLING = re.compile(
    "["
    "\u00a0-\u00a4\u00a6-\u00c1\u00c4\u00c6-\u00cb\u00cd\u00cf-\u00d1\u00d3-\u00e4\u00e6-\u00ff"  # Western European
    "\u0391\u0393-\u03a4\u03a6-\u03bf\u03c1\u03c3\u03c6-\u03c9\u03cd"  # Greek
    "\u0401\u0406-\u040b\u040f-\u0411\u0413-\u0424\u0426-\u043f\u0441\u0443\u0446-\u0449\u044d\u044f"  # Cyrillic
    "\u0905-\u0939\u0e01-\u0e4f\u3000-\u307f"  # Devanagari, Thai, Hiragana
    "\u2010-\u205e\u20ac\u2190-\u22bf\U0001f600-\U0001f63f"  # typographic signs, arrows, mathematics, faces
    "]|[\u0370-\ud7ff\ue000-\uffff]{5}"  # several signs together
)
"""Signs whose garbled form is no text even alone, by ftfy 6.3: the tests garble and repair each of them."""

# The sign comes first and then what must stand before it, so that a search can skip to the next such sign.
_TYPOGRAPHIC = re.compile(
    r"'(?<=\w')(?=\w)|\"(?<![^\x00-\x7f] \")(?=\w)|\"(?<=[\w.,!?]\")|-(?<=[!-{}~] -)(?= [^\s|])",
)
_CP1252 = {byte: bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(0x80, 0xA0)}
_LOST = ("\ufffd", "\ufffd", "?", "")


@of_text("mojibake", "encoding")
def mojibake(text: str, severity: float, draw: Random) -> list[Edit]:
    """Reads UTF-8 as Windows-1252 or Latin-1 in places; severity 1 does so in all that have signs beyond ASCII.

    A place is a stretch of such signs, over single blanks. Where there are fewer than `FEW`, apostrophes, quotation
    marks and dashes in ASCII are places, too: they come as the typographic ones would.
    """
    places = [(*match.span(), match.group()) for match in _STRETCH.finditer(text) if _TELLING.search(match.group())]
    if len(places) < FEW:
        places = sorted([*places, *_typographic(text)])
    western = draw.random() < 0.75  # what browsers and most programs on Windows fall back to
    chosen = (places[n] for n in hits(len(places), severity, draw))
    return [Edit(start, end, _misread(signs, western)) for start, end, signs in chosen]


@of_text("lost_encoding", "encoding")
def lost_encoding(text: str, severity: float, draw: Random) -> list[Edit]:
    """Loses signs beyond ASCII to U+FFFD, to "?" or altogether; severity 1 loses all of them.

    Where there are fewer than `FEW`, ASCII quotes and dashes are lost, too, as the typographic ones would be. Nothing
    is dropped altogether where that would leave no more than half of the text.
    """
    places = [(*match.span(), match.group()) for match in _SIGN.finditer(text)]
    if len(places) < FEW:
        places = sorted([*places, *_typographic(text)])
    instead = draw.choice(_LOST) if len(places) * 2 < len(text) else "\ufffd"
    chosen = (places[n] for n in hits(len(places), severity, draw))
    return [Edit(start, end, instead) for start, end, sign in chosen if sign != instead]


def _typographic(text: str) -> list[tuple[int, int, str]]:
    """ASCII quotes and dashes, each with the sign that a typesetter would have put there."""
    return [(*match.span(), _typeset(match.group(), text, match.start())) for match in _TYPOGRAPHIC.finditer(text)]


def _typeset(sign: str, text: str, at: int) -> str:
    if sign == "-":
        return "\u2013"
    if sign == "'":
        return "\u2019"
    return "\u201d" if at and not text[at - 1].isspace() and text[at - 1] not in "([" else "\u201c"


def _misread(signs: str, western: bool) -> str:
    """UTF-8 read as Latin-1, or as Windows-1252 with the bytes that it lacks kept as they are, as browsers do."""
    read = signs.encode("utf-8").decode("latin-1")
    return read.translate(_CP1252) if western else read
