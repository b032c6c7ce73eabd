"""Words and sentences of a text, folded so that two texts can be compared; knows no language model, store or index."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+(?:[.,](?=\d)[^\W_]+|['’][^\W\d_]+)*")
_POSSESSIVE = re.compile(r"['’]s?$|(?<=\d),(?=\d)")
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
"""Thai, Japanese, Chinese, Korean: without blanks (or with glued particles), so compared by pairs of signs."""

_SENTENCE_END = re.compile(
    r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[^\W_a-z])|(?<=[。！？])|\n\s*\n|\n(?=\s*(?:[-*•#|]|\d+[.)])\s)"
)
_ABBREVIATION = re.compile(
    r"(?:^|\s)(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Inc|Ltd|Co|Corp|vs|etc|No|Fig|Eq|al|e\.g|i\.e|approx)\.$"
)

_FUNCTION_WORDS = """
    a about above according after again against all also although am among an and another any are as at be
    became because become been before being below between both but by can could did do does doing done down
    during each either else ever every few find first for from further get gets give given gives go got had has
    have having he her here hers him his how however i if in instead into is it its itself just kind last let
    like list long made make makes many may me mean means might more most much must my name named neither never
    next no nor not now of off often on once one only or other our out over own per please possible same say
    says she should show since so some someone something such take tell than that the their them then there
    these they thing this those though through thus to together too two under until up upon us use used uses
    using usually very was we were what whatever when where whether which while who whom whose why will with
    within without would yes yet you your
"""
STOPWORDS = frozenset(_FUNCTION_WORDS.split())
"""English function words and the verbs of asking ("give", "tell", "name"): they carry no evidence either way."""

_ENDINGS = (("ies", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("ly", ""), ("s", ""), ("e", ""))


def words(text: str) -> list[str]:
    """Split a text into case-folded words.

    Possessive endings and the commas in numbers go ("Sony's" → "sony", "3,000" → "3000"); scripts without blanks come
    as overlapping pairs of signs.
    """
    found: list[str] = []
    for word in map(str.casefold, _WORD.findall(text if text.isascii() else unicodedata.normalize("NFKC", text))):
        if word.isascii() and word.isalnum():  # nearly all: nothing to cut off, and no script without blanks
            found.append(word)
            continue
        word = _POSSESSIVE.sub("", word)
        if _UNSPACED.fullmatch(word) and len(word) > 2:
            found += [word[i : i + 2] for i in range(len(word) - 1)]
        elif word:
            found.append(word)
    return found


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Cut English endings roughly, the same way on both sides of a comparison; words with digits stay."""
    if len(word) < 4 or word.endswith("ss") or any(sign.isdigit() for sign in word):
        return word
    if len(word) == 4:
        return word.removesuffix("s")
    for ending, replacement in _ENDINGS:
        if word.endswith(ending):
            return word.removesuffix(ending) + replacement
    return word


def content_stems(text: str) -> list[str]:
    """The stems of a text's words without function words, in order, each time they occur."""
    return [stem(word) for word in words(text) if word not in STOPWORDS]


def sentences(text: str) -> list[str]:
    """Split a text into sentences: at full stops before a capital, blank lines and list items; abbreviations hold."""
    parts: list[str] = []
    for piece in _SENTENCE_END.split(text):
        if parts and _ABBREVIATION.search(parts[-1]):
            parts[-1] += " " + piece.strip()
        elif piece.strip():
            parts.append(piece.strip())
    return parts
