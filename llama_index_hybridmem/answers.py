"""Sentences and citations: the best sentences for a question, and whether each [n] holds; knows no model or store."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .terms import content_stems, sentences, words


@dataclass(frozen=True)
class Sentence:
    """A sentence taken from a source as it stands.

    Attributes:
        text: the sentence, verbatim.
        source: which text it comes from, counted from 1.
        score: higher is better; comparable within one call only.
    """

    text: str
    source: int
    score: float


@dataclass(frozen=True)
class Citation:
    """One [n] of an answer.

    Attributes:
        number: the n.
        sentence: the sentence that cites it, without its marks.
        exists: whether there is a source n.
        share: part of the sentence's content words that source n has, 0 to 1.
        supported: whether that is enough and the cited sources have the sentence's numbers; None when the sentence has
            nothing to check ("Yes [1].").
    """

    number: int
    sentence: str
    exists: bool
    share: float
    supported: bool | None


@dataclass(frozen=True)
class CitationReport:
    """What became of an answer's citations.

    Attributes:
        citations: every [n], in reading order.
        uncited: the sentences that cite nothing.
    """

    citations: tuple[Citation, ...]
    uncited: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether every citation points at a source that backs its sentence (True for an answer that cites nothing)."""
        return all(citation.exists and citation.supported is not False for citation in self.citations)

    def to_json(self) -> dict[str, object]:
        """The report in plain JSON types."""
        return {
            "valid": self.valid,
            "citations": [
                {
                    "number": citation.number,
                    "exists": citation.exists,
                    "supported": citation.supported,
                    "share": round(citation.share, 4),
                    "sentence": citation.sentence,
                }
                for citation in self.citations
            ],
            "uncited": list(self.uncited),
        }


def number_sources(texts: Sequence[str]) -> list[str]:
    """Put [1], [2], … in front of the sources, in the order in which answers cite them."""
    return [f"[{number}] {text}" for number, text in enumerate(texts, start=1)]


_QUANTITY = re.compile(
    r"\bhow (?:many|much|often|long|old|far|fast|large|big)\b|\bwhen\b|\bwhat (?:year|percentage|number|date)\b",
    re.IGNORECASE,
)


def best_sentences(question: str, texts: Sequence[str], n: int = 3) -> list[Sentence]:
    """Pick the sentences that say most about a question; no model, so the words are the sources' own.

    A sentence scores by the question's words it has, weighted by their rarity among all the sentences and slightly by
    the rank of its text; words that a better sentence already has count half, so that the picks complement each other.

    Args:
        question: as the user asked it.
        texts: passages, best first.
        n: how many sentences at most.

    Returns:
        Sentences that share at least one content word with the question, best first.
    """
    asked = set(content_stems(question))
    pool = [(text, number) for number, passage in enumerate(texts, start=1) for text in sentences(passage)]
    stems = [set(content_stems(text)) & asked for text, _ in pool]
    counts = Counter(root for found in stems for root in found)
    rarity = {root: math.log(1 + len(pool) / count) for root, count in counts.items()}
    wants_number = _QUANTITY.search(question) is not None

    def score(index: int, covered: set[str]) -> float:
        text, source = pool[index]
        match = sum(rarity[root] * (0.5 if root in covered else 1.0) for root in stems[index])
        fitting = 1.2 if wants_number and any(sign.isdigit() for sign in text) else 1.0
        return match * fitting * (1 + 1 / (1 + source)) if match else 0.0

    picked: list[Sentence] = []
    open_ones, covered = set(range(len(pool))), set[str]()
    while open_ones and len(picked) < n:
        best = max(open_ones, key=lambda index: (score(index, covered), -index))
        value = score(best, covered)
        if not value:
            break
        picked.append(Sentence(pool[best][0], pool[best][1], value))
        covered |= stems[best]
        open_ones.remove(best)
    return picked


_MARK = re.compile(r"\[(\d+(?:\s*[,;–-]\s*\d+)*)\]")
_MARK_AFTER_STOP = re.compile(r"([.!?])((?:\s*\[\d+(?:\s*[,;–-]\s*\d+)*\])+)")
_LONGEST_RANGE = 50
_ENOUGH = 0.5
"""Half of a sentence's content words in its source. A paraphrase keeps more than that of names and terms; an unrelated
source of the same field rarely reaches a third."""


def verify_citations(answer: str, sources: Sequence[str]) -> CitationReport:
    """Check each [n] of an answer against source n; the answer itself is never altered.

    A citation holds when source n exists, has enough of the words of the sentence that cites it (a sentence citing k
    sources needs a k-th of that from each), and every number in the sentence stands in one of the sources it cites.

    Args:
        answer: the text with marks like [1], [1][2], [1, 2] or [1-3], before or after the full stop.
        sources: the numbered sources, the first being [1].
    """
    citations: list[Citation] = []
    uncited: list[str] = []
    for sentence in sentences(_MARK_AFTER_STOP.sub(r"\2\1", answer)):
        numbers = list(dict.fromkeys(_numbers(sentence)))
        bare = re.sub(r"\s+(?=[.!?,;:])", "", re.sub(r"\s{2,}", " ", _MARK.sub(" ", sentence))).strip()
        if numbers:
            citations += _check(bare, numbers, sources)
        elif words(bare):
            uncited.append(bare)
    return CitationReport(tuple(citations), tuple(uncited))


def _numbers(sentence: str) -> Iterator[int]:
    for mark in _MARK.finditer(sentence):
        for part in re.split(r"[,;]", mark[1]):
            first, *last = (int(number) for number in re.split(r"[–-]", part))
            yield first
            if last and first < last[-1] <= first + _LONGEST_RANGE:
                yield from range(first + 1, last[-1])
            yield from last[-1:]


def _check(sentence: str, numbers: Sequence[int], sources: Sequence[str]) -> Iterator[Citation]:
    claimed = set(content_stems(sentence))
    found = {number: set(content_stems(sources[number - 1])) for number in numbers if 1 <= number <= len(sources)}
    figures = {root for root in claimed if root[0].isdigit()}
    backed = figures <= {root for stems in found.values() for root in stems}
    for number in numbers:
        share = len(claimed & found.get(number, set())) / len(claimed) if claimed else 0.0
        enough = backed and share >= _ENOUGH / max(len(found), 1)
        exists = number in found
        yield Citation(number, sentence, exists, share, (enough if claimed else None) if exists else False)
