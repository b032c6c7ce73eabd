"""Finds passages that repeat another one of the same list, wholly or nearly; pure, knows no operator.

Two texts are compared by their runs of three words. Chunks of one document that overlap a little are no duplicates, nor
is a text of which the copy has other figures: that one disagrees.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from llama_index_hybridmem.noise.findings import Finding, of_scene
from llama_index_hybridmem.noise.scene import Scene

SAME = 0.6
"""Share of the two texts' runs of words that both have from which on they are the same (Jaccard)."""
WITHIN = 0.85
"""Share of the shorter one's runs that the longer one has from which on it repeats it, …"""
SHORTER = 0.5
"""… when it is at least so long, as a share of the longer one: the last chunk of a document may be mostly overlap."""
FEWEST = 4
"""Runs of words in a text that can be judged at all."""

Shingles = frozenset[tuple[str, ...]]
_WORD = re.compile(r"\w+")
_UNSPACED = 16  # signs per word from which on a text has no blanks between its words
_FIGURE = re.compile(r"[0-9][0-9.,:]*")
_TOKEN = re.compile(r"[0-9][0-9.,:]*|\w+")
_CAPITALS = re.compile(r"\b[A-Z]\w+")


@of_scene("duplicates", "duplicate")
def duplicates(scene: Scene) -> Iterator[tuple[str | None, Finding]]:
    """Finds a passage that repeats an earlier one; severity is how alike they are."""
    seen: list[tuple[str, Shingles]] = []
    for passage in scene.passages:
        runs = shingles(passage.text)
        alike, text = max(((likeness(runs, known), known_text) for known_text, known in seen), default=(0.0, ""))
        if alike >= SAME and not disagree(text, passage.text):
            operator = "duplicate" if _plain(text) == _plain(passage.text) else "near_duplicate"
            yield passage.id, Finding("duplicate", operator, min(1.0, alike), ((0, len(passage.text)),))
        seen.append((passage.text, runs))


@lru_cache(maxsize=128)  # several detectors look at the same few texts
def shingles(text: str) -> Shingles:
    """A text's runs of three words, whatever their case; of three signs where words have no blanks between them."""
    words = _WORD.findall(text.casefold())
    if len(words) * _UNSPACED < len(text):
        words = list("".join(words))
    return frozenset(zip(words, words[1:], words[2:], strict=False))


def likeness(one: Shingles, other: Shingles) -> float:
    """How alike two texts are, 0 to 1: by what both have, or by how much of the shorter is in the longer."""
    if min(len(one), len(other)) < FEWEST:
        return float(one == other and bool(one))
    both = len(one & other)
    jaccard = both / (len(one) + len(other) - both)
    shorter, longer = sorted((len(one), len(other)))
    within = both / shorter
    return max(jaccard, within) if within >= WITHIN and shorter >= SHORTER * longer else jaccard


def disagree(one: str, other: str) -> bool:
    """Whether each of two texts has figures, or each has words in capitals, that the other does not have at all."""
    return any(_lacking(one, other, pattern) and _lacking(other, one, pattern) for pattern in (_FIGURE, _CAPITALS))


def _lacking(text: str, other: str, pattern: re.Pattern[str]) -> bool:
    has = {word.rstrip(".,:") for word in _TOKEN.findall(other.casefold())}
    return any(found.rstrip(".,:").casefold() not in has for found in pattern.findall(text))


def _plain(text: str) -> str:
    return " ".join(text.split())


def pairs(scene: Scene) -> Iterable[tuple[int, int]]:
    """Every two places of a list, the earlier first."""
    return ((one, other) for other in range(len(scene.passages)) for one in range(other))
