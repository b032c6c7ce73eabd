"""Whether passages still hold what an answer needs, after what was done to them; pure, knows no language model.

The answer must stand verbatim (but for case and blanks) in a passage that answers, or in a true copy of one; enough
of the question's words that this passage had must be left there; and no other of its statements may be false. What a
question's answer does not quote is supported by its quotes, or by the sentence closest to question and answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from llama_index_hybridmem.answers import best_sentences
from llama_index_hybridmem.noise.kinds import Kind
from llama_index_hybridmem.noise.scene import Passage, Scene
from llama_index_hybridmem.terms import content_stems

KEPT = 0.6
"""Share of the question's words in a gold passage that must be left in it: below that, it does not tell any more whom
or what it speaks of ("… was born in 1932.")."""

_BETWEEN = r"[\s|*_`]+"
"""What may stand between two words of an answer: blanks, and the marks of Markdown ("819 | GB/s" in a table's row)."""
_FALSE: tuple[Kind, ...] = ("counterfactual", "stale", "conflict")


def evidence(scene: Scene) -> tuple[str, ...]:
    """What must be found in a gold passage for the answer to hold, verbatim: the answer, or else what supports it.

    Args:
        scene: as retrieved, before any damage; answer and gold are known.

    Returns:
        the answer, when a gold passage has it as it stands; else the scene's quotes; else the sentence of a gold
        passage that is closest to question and answer. Empty when there is no gold passage, or no answer.
    """
    gold = [each for each in scene.passages if scene.is_gold(each)]
    if not gold or scene.answer is None:
        return ()
    if _place(scene.answer, gold):
        return (scene.answer,)
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


def quoted(words: str, text: str) -> str | None:
    """The words as they stand in a text, whatever case, blanks and marks between; None when they are no whole words."""
    parts = words.split()
    low = text.lower() if words.isascii() else ""
    if not parts or (low and not all(part.lower() in low for part in parts)):  # ten times as fast as the pattern
        return None
    pattern = _BETWEEN.join(re.escape(part) for part in parts)
    match = re.search(rf"(?<![^\W_]){pattern}(?![^\W_])", text, re.IGNORECASE)
    return match.group() if match else None


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
    if passage.has(*_FALSE):
        return False
    was = _original(passage, clean)
    if was is None:
        return True
    before = asked & set(content_stems(f"{was.title} {was.text}"))
    after = asked & set(content_stems(f"{passage.title} {passage.text}"))
    return len(before & after) >= KEPT * len(before)


def _original(passage: Passage, clean: dict[str, Passage]) -> Passage | None:
    names: Iterator[str | None] = (each.note.get("id") for each in passage.damage)
    return next((clean[name] for name in (passage.id, *names) if name in clean), None)
