"""Finds passages about something else, lists that hold no answer, and lists out of order; pure, knows no retriever.

All that is looked at are the question's own words, names above all, and the scores that the retriever gave. Who asks
in other words than the corpus, or in another language, is told from who asks for what is not there only by the rest of
the list: where no passage has any of the words, nothing is said about single ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

from llama_index_hybridmem.noise.findings import Finding, of_scene
from llama_index_hybridmem.noise.scene import Scene
from llama_index_hybridmem.terms import STOPWORDS, stem, words

FOREIGN = 0.12
"""Share of the question's words, names twice, up to which a passage is about something else. Of passages drawn from
another document 83 to 93 % have no more, of those that BM25 found 0 to 13 % (SQuAD, HotpotQA, MuSiQue paragraphs)."""

NEAR = 0.3
"""Share that the best passage must have for others to be measured by it."""

CLOSE, TELLING = 0.9, 0.7
"""Share of the best score from which a passage counts as found for good reason, whatever its words; and the share that
the worst must stay below, for scores to tell anything: fused ones go by ranks, and hardly differ."""

ANSWERING = 0.4
"""Share that the best passage has at least when the list holds the answer: so in 98 % of the questions about one
paragraph (SQuAD) or two (HotpotQA), and 86 % of those that need up to four (MuSiQue)."""

_SHORT = 4  # letters up to which a word must be found at a word's start: "ram" is no part of "program"
_BEFORE = (" ", "\n", "(", '"', "-", "/", "“", "|", "[", "*", "'", "\t")


@of_scene("foreign", "irrelevant", version=2)
def foreign(scene: Scene) -> Iterator[tuple[str | None, Finding]]:
    """Has next to none of the question's words, while another passage has them; severity 1: no more can be said."""
    shares = _shares(scene)
    if max(shares, default=0.0) < NEAR:
        return
    scores = [each.score for each in scene.passages if each.score is not None]
    best = max(scores, default=0.0)
    telling = best > 0 and min(scores) < TELLING * best
    for passage, share in zip(scene.passages, shares, strict=True):
        trusted = passage.score is not None and telling and passage.score >= CLOSE * best
        if share <= FOREIGN and not trusted:
            yield passage.id, Finding("irrelevant", "irrelevant_passage", 1.0)


@of_scene("unanswerable", "gold_removed")
def unanswerable(scene: Scene) -> Iterator[tuple[str | None, Finding]]:
    """No passage has enough of the question's words together to hold the answer; severity 1."""
    roots = _roots(scene.question)
    if any(len(root) == 2 and not root.isascii() for root in roots):
        return  # pairs of signs, most of them across two words: no text has many
    if scene.passages and roots and max(_shares(scene)) < ANSWERING:
        yield None, Finding("gold_removed", "gold_removed", 1.0)


@of_scene("out_of_order", "order")
def out_of_order(scene: Scene) -> Iterator[tuple[str | None, Finding]]:
    """A passage stands behind one with a lower score; severity: share of the neighbours that do."""
    scores = [each.score for each in scene.passages if each.score is not None]
    rising = sum(first < second for first, second in pairwise(scores))
    if rising:
        yield None, Finding("order", "shuffle", rising / (len(scores) - 1))


def _shares(scene: Scene) -> tuple[float, ...]:
    return _covered(scene.question, tuple((each.title, each.text) for each in scene.passages))


@lru_cache(maxsize=16)
def _covered(question: str, texts: tuple[tuple[str, str], ...]) -> tuple[float, ...]:
    """The weighted share of the question's words in each passage with its title; 1 for a question without any."""
    roots = _roots(question)
    whole = sum(roots.values())
    if not whole:
        return (1.0,) * len(texts)
    shares = []
    for title, text in texts:
        small = f" {title} {text}".casefold()
        shares.append(sum(weight for root, weight in roots.items() if root in small and _begins(root, small)) / whole)
    return tuple(shares)


def _begins(root: str, small: str) -> bool:
    """Whether a word of a text begins so; long ones may stand inside of words, scripts without blanks have no other."""
    return len(root) > _SHORT or not root.isascii() or any(sign + root in small for sign in _BEFORE)


@lru_cache(maxsize=256)
def _roots(question: str) -> dict[str, float]:
    """What the question's words begin with, and how much each tells: names and codes 2, others 1."""
    roots: dict[str, float] = {}
    for at, token in enumerate(question.split()):
        for word in words(token):
            if word not in STOPWORDS:
                named = any(sign.isdigit() for sign in word) or (at > 0 and token.strip("\"'“‘([")[:1].isupper())
                root = stem(word)
                root = root[:-1] if len(root) > _SHORT and root.endswith("y") else root  # memory, memories
                roots[root] = max(roots.get(root, 0.0), 2.0 if named else 1.0)
    return roots
