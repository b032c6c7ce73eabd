"""Signs that a text recogniser takes for others; pure, knows no image and no font."""

from __future__ import annotations

import re
import unicodedata
from math import log
from random import Random

from llama_index_hybridmem.noise.edits import Edit
from llama_index_hybridmem.noise.operators.registry import of_text

WORST_CER = 0.15
"""Character error rate at severity 1: edits (one sign put in, left out or replaced) per sign of the text."""

_FAINTEST = 1e-9
_SLACK = 8
"""Signs within which an error that is due may find a sign to be misread: a stretch of others owes none behind it."""

_CONFUSIONS: dict[str, str] = {
    # letters that touch, and letters that fall apart
    "rn": "m",
    "m": "rn nn in",
    "cl": "d",
    "d": "cl ol",
    "ri": "n",
    "nn": "m",
    "vv": "w",
    "w": "vv",
    "li": "h",
    "ii": "u",
    "ll": "U 11",
    "tt": "H",
    "fi": "\ufb01 f1 h",
    "fl": "\ufb02 f1",
    "ff": "\ufb00",
    "ti": "h d",
    "in": "m",
    "ni": "m",
    "ci": "a",
    "th": "tb m",
    "he": "be",
    "IN": "M",
    "VV": "W",
    "LI": "U",
    # strokes
    "l": "1 I i |",
    "I": "l 1 |",
    "i": "l 1 j",
    "j": "i",
    "t": "f l r",
    "f": "t r",
    "r": "t n i",
    "1": "l I 7",
    "7": "1 T",
    "T": "I 7 F",
    "L": "I 1",
    "J": "I",
    "F": "P E",
    "E": "F B",
    "H": "N M",
    "M": "N H",
    "N": "H M",
    # rounds
    "o": "0 c e a",
    "O": "0 Q D",
    "0": "O o 8",
    "Q": "O 0",
    "D": "O 0",
    "C": "G c (",
    "G": "C 6",
    "U": "V O",
    "e": "c o a",
    "c": "e o (",
    "a": "o e s",
    "s": "5 a",
    "g": "9 q",
    "q": "g 9",
    "b": "h 6",
    "h": "b n",
    "n": "u r h",
    "u": "n v",
    "v": "y u",
    "y": "v g",
    "p": "n",
    "k": "lc h",
    "x": "z",
    "z": "2 s",
    # capitals and figures
    "S": "5 s 8",
    "5": "S 6",
    "B": "8 E",
    "8": "B 3 0",
    "3": "8 5",
    "6": "b 5",
    "9": "g 4",
    "2": "Z 7",
    "4": "A 9",
    "Z": "2",
    "A": "4",
    "P": "F",
    "R": "P B",
    "K": "X",
    "V": "Y U",
    "W": "VV",
    "X": "K",
    "Y": "V",
    # marks that change
    ".": ", :",
    ",": ". '",
    ";": ": ,",
    ":": ". ;",
    "!": "1 l",
    "?": "7",
    "-": "~ _",
    "\u2013": "- ~",
    "\u2014": "- _",
    "'": "` ,",
    "\u2019": "' `",
    "\u201c": "\" ''",
    "\u201d": "\" ''",
    '"': "'' *",
    "(": "C {",
    ")": "J }",
    "[": "( I",
    "]": ") J",
    "|": "l I",
    "$": "S 8",
    "&": "8",
    "%": "96",
    "\u20ac": "E C",
    "\u00df": "B b",
    # other scripts
    "\u0430": "a \u043e",
    "\u0435": "e \u0441",
    "\u043e": "o \u0441",
    "\u0441": "c \u0435",
    "\u0438": "\u043d \u043f",
    "\u043d": "\u0438 \u043f",
    "\u043f": "\u043d \u043b",
    "\u0448": "\u0449",
    "\u0449": "\u0448",
    "\u03bf": "o \u03c3",
    "\u03b1": "a",
    "\u03bd": "v \u03c5",
    "\u65e5": "\u66f0 \u76ee",
    "\u672a": "\u672b",
    "\u571f": "\u58eb",
    "\u5df1": "\u5df2",
    "\u4eba": "\u5165",
    "\u5927": "\u72ac \u592a",
    "\u3002": "\u3001 .",
}
"""Signs to what they are taken for, any of it as likely; from the shapes of letters in common book and screen fonts."""

_LEFT_OUT = ". , ; : - ' \" | ` \u2019 \u201c \u201d \u3002".split()
_TORN = "t f r l w v k".split()  # a gap behind them is taken for a blank


def _alternatives() -> dict[str, tuple[tuple[str, int], ...]]:
    """All confusions, with those that follow rules, each with the edits that it counts for."""
    table = {sign: tuple(taken.split(" ")) for sign, taken in _CONFUSIONS.items()}
    for sign in _LEFT_OUT:
        table[sign] = (*table.get(sign, ()), "")
    for sign in _TORN:
        table[sign] = (*table[sign], f"{sign} ")
    for sign in map(chr, range(0xC0, 0x180)):
        base = unicodedata.normalize("NFD", sign)[0]
        if base.isascii():
            table[sign] = (base,)
    table[" "] = ("", "", "  ")
    return {sign: tuple((put, _edits(sign, put)) for put in puts) for sign, puts in table.items()}


def _edits(was: str, put: str) -> int:
    """Levenshtein's distance, for two that differ in one place."""
    ahead = _alike(was, put)
    was, put = was[ahead:], put[ahead:]
    return max(len(was), len(put)) - _alike(was[::-1], put[::-1])


def _alike(one: str, other: str) -> int:
    """How many signs at the beginning of both are the same."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


CONFUSIONS = _alternatives()
_CONFUSED = re.compile(f"[{re.escape(''.join(sorted(sign for sign in CONFUSIONS if len(sign) == 1)))}]")


@of_text("ocr", "ocr")
def ocr(text: str, severity: float, draw: Random) -> list[Edit]:
    """Takes signs for others that look alike, loses and adds blanks, marks, accents; severity 1 is a CER of 0.15.

    Errors fall due at random, and the next sign that can be misread is. One that counts for two edits, "m" for "rn",
    puts the next off accordingly, so that the character error rate is the one asked for.
    """
    random, table, size = draw.random, CONFUSIONS, len(text)
    new = tuple.__new__  # of a named tuple, without its own in Python: a third of the time, for a hundred edits
    mean_gap = 1 / max(WORST_CER * severity, _FAINTEST)
    edits: list[Edit] = []
    due = -log(1 - random()) * mean_gap
    at = int(due) if due < size else size
    while at < size:
        was = text[at : at + 2]  # two signs first
        puts = table.get(was)
        if puts is None:
            was = text[at]
            puts = table.get(was)
        if puts is None:
            match = _CONFUSED.search(text, at)
            at = match.start() if match else size
            continue
        put, cost = puts[int(random() * len(puts))]
        behind = at + len(was)
        edits.append(new(Edit, (at, behind, put)))
        due = (due if due > at - _SLACK else at - _SLACK) - cost * log(1 - random()) * mean_gap
        at = int(due) if due > behind else behind
    return edits or _one_error(text, draw)


def _one_error(text: str, draw: Random) -> list[Edit]:
    """Who asks for damage gets some, however short the text."""
    match = _CONFUSED.search(text, int(draw.random() * len(text))) or _CONFUSED.search(text)
    return [Edit(*match.span(), draw.choice(CONFUSIONS[match.group()])[0])] if match else []
