"""Finds signs that a text recogniser took for others; pure, knows no image, font or dictionary.

Without a dictionary most misread words look like words. Three things give them away: the commonest English words, whose
misreadings are few and are no words ("tbe", "aud", "wlth"); figures in the midst of words and letters in numbers; and
letters that never meet. From how many are seen the character error rate is estimated. Codes such as "DDR4", "x86_64"
and hashes mix letters and figures, too, but not in these ways. Slips of the keyboard give themselves away in none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from llama_index_hybridmem.noise.findings import Finding, of_passage
from llama_index_hybridmem.noise.scene import Passage, Scene

_SHOWN = 20
WORST_CER = 0.15
"""Character error rate at severity 1, as the operator has it."""

_SEEN = 0.13
"""Share of the errors that give themselves away; by the operator at 1.5 to 15 % on English prose."""

_SHORT = 60
"""In a passage of more words one odd word may be a name, and what has none of `_ENGLISH` is another language."""

_ENGLISH = frozenset("the of and".split())

_COMMON = (
    "about after also and are been before between but can could during each first for from had has have her his into "
    "its made many more most not now one only other over she some such than that the their them then there these they "
    "this through time two under used very was were what when where which while who will with would years"
).split()
_SHAPES = {
    "a": "o s",
    "b": "6 h",
    "c": "e (",
    "d": "cl ol",
    "e": "c o a",
    "f": "t r",
    "g": "9 q",
    "h": "b n li",
    "i": "l 1 j |",
    "k": "lc",
    "l": "1 i |",
    "m": "rn nn in",
    "n": "u r h",
    "o": "0 c e",
    "r": "n i",
    "s": "5 a",
    "t": "l f r i 7",
    "th": "m",
    "u": "n v",
    "v": "y",
    "w": "vv",
    "y": "v g",
}
_WORDS = frozenset(
    "ane arc ard aro auch bad bas bean beer ber bis boen bur buf car cave con ene ever fer foi gears hac har hei hen "
    "hod hor hos hot hove how hut ils inte irs lade liar lier lime mace mada man mary mat me meir mem men mere mese "
    "mis moat mode mora moro nad nave ner net new nis nor nov ohm ona ond ono ore oven oyer rhea rot row sha sho "
    "soma sonne thai thal tham thar thein thera thom thon those tima timo tor uno vary vera ware waa were wim "
    "wino wore wos".split()
)
"""Misreadings that are words, names or abbreviations themselves."""


def _misread() -> frozenset[str]:
    found = set()
    for word in _COMMON:
        for at in range(len(word)):
            for size in (1, 2):
                for put in _SHAPES.get(word[at : at + size], "").split():
                    found.add(word[:at] + put + word[at + size :])
    small = found - _WORDS - set(_COMMON)
    return frozenset(small | {each.capitalize() for each in small if each[0].isalpha()})


_MISREAD = _misread()
_MARKS = ".,;:!?\"'()[]{}“”‘’…–—-/*`<>=#&"
_NEVER = " tbe| tbi| tbo| vv|vva|vvi|vvo|vvh|nq |iug |tioh |rnent ".split("|")
"""Letters that do not meet in words of English, and hardly in others; blanks are ends of words."""

_MIXED = re.compile(
    r"[A-Z]?[a-z]+[015689|][a-z]{2,}|[A-Z]?[a-z]{2,}[015689|][a-z]+|[A-Z]?[a-z]{3,}in9"  # a figure in a word
    r"|(?!0x)[015678|][a-z]{3,}|0f|t0|0n|0r|1n|1f|1t|6y|7he"  # or before one
    r"|[12Z][09OQ][0-9OolISZB]{2}(?<!\d{4})|[Il]\d{3}|\d+[OolISZB]\d+"  # a letter in a number
)
_UNIT = re.compile(
    r"\d(?:st|nd|rd|th|bits?|bytes?|hours?|mins?|secs?|years?|inch|cores?|[kmgtpn]?(?:hz|bps|bit|wh|mol)|[kmgt]?i?b"
    r"|pin|way|gen|day|days|fold|mah|rpm|dpi|fps|kbps|mbps|gbps|mbit|gbit|min|max|ers|nths?)"
)
"""What is written behind a figure without a blank."""


@of_passage("misread", "ocr")
def misread(passage: Passage, scene: Scene) -> Finding | None:
    """Misread common words, figures in words, letters in numbers; severity: the estimated CER, 1 for 15 %."""
    text = passage.text
    pieces = text.split()
    found = _common(pieces)
    common = bool(found)
    found += _odd(text, pieces)
    if not found or (len(found) == 1 and not common and len(pieces) > _SHORT):
        return None
    rate = len(found) / (_SEEN * max(len(text), 1))
    pattern = "|".join(re.escape(each) for each in sorted(set(found[:_SHOWN])))
    spans = tuple(match.span() for match in re.finditer(pattern, text))
    return Finding("ocr", "ocr", min(rate / WORST_CER, 1.0), spans[:_SHOWN])


def _common(pieces: list[str]) -> list[str]:
    """Common words that were misread, if the text is English at all."""
    bare = [each.strip(_MARKS) for each in pieces]
    if _MISREAD.isdisjoint(bare) or (len(pieces) > _SHORT and _ENGLISH.isdisjoint(pieces)):
        return []
    return [each for each in bare if each in _MISREAD]


def _odd(text: str, pieces: list[str]) -> Iterator[str]:
    for letters in _NEVER:
        if letters in text:
            yield from [letters.strip()] * text.count(letters)
    for each in pieces:
        if not each.isalpha() and _mixes(each.strip(_MARKS)):
            yield each


def _mixes(piece: str) -> bool:
    return _MIXED.fullmatch(piece) is not None and not _UNIT.fullmatch(piece) and piece not in _MISREAD
