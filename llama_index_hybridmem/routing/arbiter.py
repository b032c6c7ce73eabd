"""Whether what was retrieved can answer the question, by plain rules; knows no store, retriever or model.

Nearest-neighbour search always returns something, so an empty result proves nothing. What can be seen without a model:
how many of the question's own words, its names and rare words above all, occur anywhere in the context, and how close
the closest passage is. Words alone or distance alone do not count against answering; in doubt the answer is tried.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..terms import STOPWORDS, content_stems, stem, words

Frequencies = Callable[[Iterable[str]], Mapping[str, int]]
"""Words (case-folded) to the number of passages that have each; words it does not know may be missing."""

_PUNCTUATION = "\"“”‘’'()[]?!,.;:"


@dataclass(frozen=True)
class EvidenceRules:
    """When the context counts as not answering.

    Measured on 517 answerable questions over three corpora (MuSiQue, HotpotQA and SQuAD paragraphs, MiniLM): 1.9 % of
    them refused (1.4 % without frequencies), half for misspelt names; 32 % (24 %) of the same questions with their
    passages taken away, and 60 % (45 %) of questions put to another corpus.

    Attributes:
        coverage: limit of the weighted share of the question's words found in the context, where the closest passage
            is not close, or the question names a code ("DDR6") that no passage of the corpus has.
        close: similarity from which a passage is close. Set for MiniLM, as `very_close`; an encoder whose cosines all
            lie high never falls below it, and then the context is always tried.
        coverage_alone: limit of that share where the closest passage is not very close, or its similarity unknown.
        very_close: similarity from which missing words say nothing.
    """

    coverage: float = 0.6
    close: float = 0.45
    coverage_alone: float = 1 / 3
    very_close: float = 0.6


@dataclass(frozen=True)
class Evidence:
    """What speaks for and against answering from the context.

    Attributes:
        sufficient: False when the context most likely does not hold the answer.
        reason: one readable phrase.
        coverage: weighted share of the question's words found in the context, 0 to 1.
        missing: the question's words that the context never mentions, as the user wrote them, names first.
        cosine: similarity of the closest passage, None when unknown.
    """

    sufficient: bool
    reason: str
    coverage: float
    missing: tuple[str, ...] = ()
    cosine: float | None = None

    def to_json(self) -> dict[str, object]:
        """The evidence in plain JSON types."""
        return {
            "sufficient": self.sufficient,
            "reason": self.reason,
            "coverage": round(self.coverage, 4),
            "missing": list(self.missing),
            "cosine": self.cosine,
        }


def judge(
    question: str,
    texts: Sequence[str],
    *,
    cosine: float | None = None,
    frequencies: Frequencies | None = None,
    corpus_size: int | None = None,
    rules: EvidenceRules = EvidenceRules(),  # noqa: B008 - frozen
) -> Evidence:
    """Judge whether the retrieved texts can answer a question.

    Args:
        question: as the user asked it.
        texts: everything the answer may be taken from: passages with their titles, facts.
        cosine: similarity of the closest passage, None when unknown.
        frequencies: passage counts of words; rare words then weigh more. Without it names weigh double.
        corpus_size: number of passages behind `frequencies`.
        rules: the limits.

    Returns:
        The evidence; `sufficient` is True whenever there is doubt.
    """
    if not any(text.strip() for text in texts):
        return Evidence(False, "nothing was retrieved", 0.0, (), cosine)
    asked = list(dict.fromkeys(word for word in words(question) if word not in STOPWORDS))
    if not asked:
        return Evidence(True, "the question names nothing to look for", 1.0, (), cosine)
    counts = None if frequencies is None or not corpus_size else _counts(asked, frequencies)
    weights = _weights(asked, names(question), counts, corpus_size or 0)
    context = {root for text in texts for root in content_stems(text)}
    missing = {word: weight for word, weight in weights.items() if stem(word) not in context}
    coverage = 1 - sum(missing.values()) / sum(weights.values())
    written = _as_written(question)
    listed = tuple(written.get(word, word) for word in sorted(missing, key=lambda word: (-missing[word], word)))
    unheard = counts is not None and any(_is_code(word) and not counts[word] for word in missing)
    if _refuses(coverage, cosine, unheard, rules):
        return Evidence(False, f"the sources do not mention {', '.join(listed[:3])}", coverage, listed, cosine)
    return Evidence(True, "the sources mention what the question asks about", coverage, listed, cosine)


def _refuses(coverage: float, cosine: float | None, unheard: bool, rules: EvidenceRules) -> bool:
    if coverage < rules.coverage and (unheard or (cosine is not None and cosine < rules.close)):
        return True
    return coverage < rules.coverage_alone and (cosine is None or cosine < rules.very_close)


def names(question: str) -> set[str]:
    """The words of a question that look like parts of names: capitals inside it, quotes, acronyms, digits."""
    found = {word for span in re.finditer(r"[\"“]([^\"”]+)[\"”]", question) for word in words(span[1])}
    opening = True
    for token in question.split():
        bare = token.strip(_PUNCTUATION)
        strong = any(sign.isdigit() for sign in bare) or sum(sign.isupper() for sign in bare) > 1
        if strong or (bare[:1].isupper() and not opening):
            found.update(words(bare))
        opening = token[-1] in ".?!:"
    return found - STOPWORDS


def _as_written(question: str) -> dict[str, str]:
    """Folded words to the way the question writes them."""
    written: dict[str, str] = {}
    for token in question.split():
        for word in words(token):
            bare = token.strip(_PUNCTUATION)
            written.setdefault(word, bare if words(bare) == [word] else word)
    return written


def _is_code(word: str) -> bool:
    """Letters and digits in one: a type, standard or part number, which has no synonyms."""
    return word.isalnum() and not word.isalpha() and not word.isdigit()


def _counts(asked: Sequence[str], frequencies: Frequencies) -> dict[str, int]:
    """Passages that have each word, as written or as its stem."""
    known = frequencies({form for word in asked for form in (word, stem(word))})
    return {word: max(known.get(word, 0), known.get(stem(word), 0)) for word in asked}


def _weights(
    asked: Sequence[str], named: Collection[str], counts: Mapping[str, int] | None, corpus_size: int
) -> dict[str, float]:
    """How much each word tells: its rarity where counts are known, else 2 for names and 1 for others."""
    if counts is None:
        return {word: 2.0 if word in named else 1.0 for word in asked}
    return {word: math.log(1 + (corpus_size + 0.5) / (counts[word] + 0.5)) for word in asked}
