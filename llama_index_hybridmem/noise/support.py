"""Whether passages still hold what an answer needs, after what was done to them; pure, knows no language model.

The answer must stand verbatim (but for case, blanks and the form of its marks) in a passage that answers, or in a true
copy of one; enough of the question's words that this passage had must be left there; and no other of its statements may
be false. What a question's answer does not quote is supported by its quotes, or by the sentence closest to question and
answer; quotes of other passages than the answer's are needed, too. Without support the answer may still be guessed from
what is left of it (`may_be_read`): then it is neither there nor gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from llama_index_hybridmem.answers import best_sentences
from llama_index_hybridmem.noise.kinds import FALSE_KINDS, Kind
from llama_index_hybridmem.noise.scene import Passage, Scene
from llama_index_hybridmem.terms import content_stems

KEPT = 0.6
"""Share of the question's words in a gold passage that must be left in it: below that, it does not tell any more whom
or what it speaks of ("… was born in 1932.")."""

_BETWEEN = r"[\s|*_`]+"
"""What may stand between two words of an answer: blanks, and the marks of Markdown ("819 | GB/s" in a table's row)."""
_GAP = re.compile(_BETWEEN)
_GARBLING: tuple[Kind, ...] = ("ocr", "encoding", "layout", "html", "language")
"""Damage that changes letters, but takes nothing away: a reader may see through it."""
_LEAST = 3
"""Letters that are a trace of a word: two stand everywhere."""
_STOPS, _EDGES = ".,;:!?", "\"'“”‘’«»"
_ALIKE = {"'": "['’]", "’": "['’]", "-": "[-\u2010\u2011–]", "–": "[-\u2010\u2011–]"}
"""Signs that are typed one way or the other."""


def evidence(scene: Scene) -> tuple[str, ...]:
    """What must be found in a gold passage for the answer to hold, verbatim: the answer, or else what supports it.

    Args:
        scene: as retrieved, before any damage; answer and gold are known.

    Returns:
        the answer, when a gold passage has it as it stands, and those of the scene's quotes that stand in gold passages
        without it; else the quotes; else the sentence of a gold passage that is closest to question and answer. Empty
        when there is no gold passage, or no answer.
    """
    gold = [each for each in scene.passages if scene.is_gold(each)]
    if not gold or scene.answer is None:
        return ()
    if _place(scene.answer, gold):
        others = [each for each in gold if quoted(scene.answer, each.text) is None]
        return (scene.answer, *(quote for quote in scene.quotes if _place(quote, others)))
    if quotes := tuple(quote for quote in scene.quotes if _place(quote, gold)):
        return quotes
    best = best_sentences(f"{scene.question} {scene.answer}", [each.text for each in gold], n=1)
    return tuple(each.text for each in best)


def support(before: Scene, after: Scene, needed: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Find what supports the answer after the damage.

    Args:
        before: the scene as retrieved.
        after: the same scene, damaged.
        needed: its `evidence`.

    Returns:
        (passage id, the words as they stand there) for each piece of evidence; empty when one is gone.
    """
    asked = set(content_stems(before.question))
    clean = {each.id: each for each in before.passages}
    held = [each for each in after.passages if after.is_gold(each) and _is_legible(each, clean, asked)]
    found = [_place(piece, held) for piece in needed]
    return tuple(each for each in found if each) if needed and all(found) else ()


def may_be_read(scene: Scene, needed: Sequence[str]) -> bool:
    """Whether a reader may make something of what is left in the gold passages, be it garbled, halved or out of place.

    Args:
        scene: damaged; its support is gone.
        needed: the `evidence` of the scene before.

    Returns:
        True when letters of a gold passage have changed ("1 932", "Noiwich"), or half of a piece of evidence is still
        there. Then neither the answer nor an abstention is a safe label.
    """
    gold = [each for each in scene.passages if scene.is_gold(each)]
    return any(each.has(*_GARBLING) or any(_is_left(piece, each.text) for piece in needed) for each in gold)


def _is_left(piece: str, text: str) -> bool:
    """Whether half of the letters and digits of a piece, in one stretch, stand in a text."""
    sought, there = ("".join(filter(str.isalnum, each.casefold())) for each in (piece, text))
    size = min(len(sought), max(_LEAST, (len(sought) + 1) // 2))
    return size > 0 and any(sought[at : at + size] in there for at in range(len(sought) - size + 1))


def quoted(words: str, text: str) -> str | None:
    """The words as they stand in a text, whatever case, blanks and marks between; None when they are no whole words.

    A full stop at their end, quotation marks around them, and how apostrophes and hyphens are typed make no difference.
    """
    lead, bare, tail = _edged(words.strip())
    parts = bare.split()
    low = text.lower() if words.isascii() else ""
    if parts and len(low) == len(text) and not (lead or tail or any(map(_needs_pattern, parts))):
        return _found([part.lower() for part in parts], text, low)
    if not parts or (low and not all(part.lower() in low for part in parts if part.isalnum())):  # ten times as fast
        return None
    pattern = _BETWEEN.join("".join(_ALIKE.get(sign) or re.escape(sign) for sign in part) for part in parts)
    match = re.search(rf"{lead}(?<![^\W_]){pattern}{tail}(?![^\W_])", text, re.IGNORECASE)
    return match.group() if match else None


def _needs_pattern(part: str) -> bool:
    return part[0] in "|*_`" or not _ALIKE.keys().isdisjoint(part)


def _found(parts: Sequence[str], text: str, low: str) -> str | None:
    """What the pattern finds: answers differ, and to compile one each takes twenty times as long as this."""
    at = low.find(parts[0])
    while at >= 0:
        end = at + len(parts[0])
        for part in parts[1:]:
            gap = _GAP.match(low, end)
            if gap is None or not low.startswith(part, gap.end()):
                break
            end = gap.end() + len(part)
        else:
            if not low[max(0, at - 1) : at].isalnum() and not low[end : end + 1].isalnum():
                return text[at:end]
        at = low.find(parts[0], at + 1)
    return None


def _edged(words: str) -> tuple[str, str, str]:
    """Words without the marks at their edges, and patterns of those before and behind."""
    bare = words.rstrip(_STOPS + _EDGES).lstrip(_EDGES)
    if not bare:
        return "", words, ""
    at = words.index(bare)
    lead, tail = re.escape(words[:at]), re.escape(words[at + len(bare) :])
    return lead and f"(?:{lead})?", bare, tail and f"(?:{tail})?"


def _place(words: str, passages: Sequence[Passage]) -> tuple[str, str] | None:
    for each in passages:
        found = quoted(words, each.text)
        if found is not None:
            return each.id, found
    return None


def _is_legible(passage: Passage, clean: dict[str, Passage], asked: set[str]) -> bool:
    """Whether a passage is true, and still tells what it is about."""
    if not passage.damage:  # as it was
        return True
    if passage.has(*FALSE_KINDS):
        return False
    was = _original(passage, clean)
    if was is None:
        return True
    before = _named(asked, was)  # by letters, on both sides alike: stems of whole passages take twenty times as long
    return len(_named(before, passage)) >= KEPT * len(before)


def _named(roots: set[str], passage: Passage) -> set[str]:
    low = f"{passage.title} {passage.text}".lower()
    return {root for root in roots if root in low}


def _original(passage: Passage, clean: dict[str, Passage]) -> Passage | None:
    names: Iterator[str | None] = (each.note.get("id") for each in passage.damage)
    return next((clean[name] for name in (passage.id, *names) if name in clean), None)
