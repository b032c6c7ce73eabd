"""What a retriever found for a question becomes a draft: which passages answer it; knows no file and no noise.

In a draft, gold are the passages that answer. A draft without gold among its passages is one that the retriever failed
on, or that nothing answers: a real example for abstaining. Whatever cannot be told apart becomes no draft.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from random import Random

from llama_index.core.schema import BaseNode, NodeWithScore

from llama_index_hybridmem.answers import best_sentences
from llama_index_hybridmem.export.asking import NO_RETRIEVAL, Asked
from llama_index_hybridmem.export.making import TOLD_ELSEWHERE, LeftOut, asked_words, may_tell, tells
from llama_index_hybridmem.export.record import Draft
from llama_index_hybridmem.noise.passages import to_passages
from llama_index_hybridmem.noise.retrievals import Retrieval
from llama_index_hybridmem.noise.scene import Passage, Scene
from llama_index_hybridmem.noise.support import quoted
from llama_index_hybridmem.terms import content_stems, words

UNKNOWN = "neither its answer nor its sources are known"
UNNEEDED = "it needs no retrieval"
NOT_VERBATIM = "no source is named, and its answer stands in no passage word by word"
UNSUPPORTED = "no retrieved passage supports the model's answer"
INCOMPLETE = "it takes several of its sources together, and not all of them were retrieved"
NO_TEXTS = "its trace has no texts"
DISLIKED = "the user did not like the model's answer"
FAILED = "the app failed on it, or its answer was not finished"
ABSTAINED = "the app abstained, and nobody says whether rightly"
COVERED = 0.8
"""Share of a long answer's words, and all of its numbers, that a passage must have to hold it in other words. Our
judgement."""
LONG = 5
"""Words from which on an answer may be put in other words than its source."""
_NAMED_BY = ("title", "file_name", "path", "file_path")
_CITATION = re.compile(r"\s*\[\d+(?:\s*,\s*\d+)*\]")

Lookup = Callable[[frozenset[str]], Sequence[BaseNode]]
"""Names of sources to their nodes."""


@dataclass(frozen=True)
class Gathering:
    """How passages are collected.

    Attributes:
        near: passages kept beyond the prompt's, as hard distractors.
        add_gold: looks a question's sources up in the store; where none was retrieved, the passage that holds the
            answer takes the place of one that was. None: what was retrieved stays, and the model shall abstain.
        at_once: questions asked of the retriever at a time, each on a thread; 1 for one that is not thread-safe.
        more: passages of the corpus that operators may draw from, besides those retrieved.
        store: names what the retriever searches in, as a hash of it: drafts of another store are not gone on with. "":
            unknown, whoever calls sees to it.
    """

    near: int = 5
    add_gold: Lookup | None = None
    at_once: int = 4
    more: Iterable[Passage] = ()
    store: str = ""


def draft_of(asked: Asked, nodes: Sequence[NodeWithScore], top_k: int, how: Gathering | None = None) -> Draft | LeftOut:
    """Say which of the retrieved passages answer a question.

    Args:
        asked: the question.
        nodes: as retrieved, best first.
        top_k: of them the prompt gets; gold is looked for beyond them, too, so that none is taken for a distractor.
        how: ``near`` and ``add_gold`` are used.

    Returns:
        the draft; or why there is none: it cannot be told whether a passage answers.
    """
    how = how or Gathering()
    if asked.kind == NO_RETRIEVAL:
        return LeftOut(UNNEEDED)
    if asked.answerable is not False and asked.answer is None and not asked.gold:
        return LeftOut(UNKNOWN)
    passages = to_passages(nodes[: top_k + how.near])
    sources = {each.id: names_of(found.node) & asked.gold for each, found in zip(passages, nodes, strict=False)}
    gold = _gold(asked, passages, {id_ for id_, names in sources.items() if names})
    if isinstance(gold, LeftOut):
        return gold
    if how.add_gold is not None and asked.gold and not any(each.id in gold for each in passages[:top_k]):
        passages, gold, nodes = _with_gold(asked, passages, gold, nodes, top_k, how.add_gold)
        sources |= {found.node.node_id: names_of(found.node) & asked.gold for found in nodes}
    needed = _together(asked, passages[:top_k], gold, sources)
    if isinstance(needed, LeftOut):
        return needed
    scene = Scene(asked.question, passages[:top_k], passages[top_k:], needed[0], asked.answer, needed[1])
    return Draft(asked.id, scene, asked.origin, asked.domain, asked.asked, _versions(passages, nodes))


def draft_of_trace(retrieval: Retrieval) -> Draft | LeftOut:
    """Make a draft of what an app was asked, found and answered, where a passage supports the answer."""
    scene = retrieval.scene
    if scene is None or not scene.question.strip():
        return LeftOut(NO_TEXTS)
    if retrieval.status != "ok":
        return LeftOut(FAILED)
    if retrieval.abstained:  # with the evidence at hand or not: no draft of either kind would be certain
        return LeftOut(ABSTAINED)
    if retrieval.answer is None:
        return LeftOut(NO_TEXTS)
    if retrieval.good is False:
        return LeftOut(DISLIKED)
    answer = " ".join(_CITATION.sub("", retrieval.answer).split())
    gold = frozenset(each.id for each in scene.passages if _holds(answer, (), each)) if answer else frozenset()
    if not gold:
        return LeftOut(UNSUPPORTED)
    hashes = {each.source: hashed(each.text) for each in scene.passages if each.source is not None}
    return Draft(retrieval.id, replace(scene, gold=gold, answer=answer), "traces", None, retrieval.asked, hashes)


def names_of(node: BaseNode) -> frozenset[str]:
    """What a question's gold may call a node: ids of node and document, title, file name, with or without ending.

    The same as `evaluation.evaluate` knows, and a document's id without its folder or ending.
    """
    values = [node.ref_doc_id or "", *(str(node.metadata.get(key) or "") for key in _NAMED_BY)]
    paths = [PurePath(value) for value in values if value]
    return frozenset([node.node_id, *values, *(each.name for each in paths), *(each.stem for each in paths)]) - {""}


def _gold(asked: Asked, passages: Sequence[Passage], named: set[str]) -> frozenset[str] | LeftOut:
    if asked.answerable is False:
        return frozenset()
    if asked.answer is None:  # the sources are known: without them, nobody can answer
        return frozenset(named)
    if asked.gold:
        gold = {each.id for each in passages if each.id in named and _holds(asked.answer, asked.quotes, each)}
        return LeftOut(TOLD_ELSEWHERE) if not gold and _may_tell(asked, passages) else frozenset(gold)
    if gold := set(_told(asked, passages)):
        return frozenset(gold)
    if _may_tell(asked, passages):
        return LeftOut(TOLD_ELSEWHERE)
    return LeftOut(NOT_VERBATIM) if len(words(asked.answer)) >= LONG else frozenset()


def _told(asked: Asked, passages: Sequence[Passage]) -> list[str]:
    answer = asked.answer or ""
    shared = asked_words(asked.question, answer)
    return [each.id for each in passages if tells(shared, answer, each)]


def _may_tell(asked: Asked, passages: Sequence[Passage]) -> bool:
    answer = asked.answer or ""
    shared = asked_words(asked.question, answer)
    return any(may_tell(shared, answer, each) for each in passages)


def _together(
    asked: Asked, passages: Sequence[Passage], gold: frozenset[str], sources: Mapping[str, frozenset[str]]
) -> tuple[frozenset[str], tuple[str, ...]] | LeftOut:
    """Where the passage with the answer does not speak of what is asked: what else is needed, of the other sources.

    Args:
        asked: its sources are named.
        passages: those of the prompt.
        gold: ids of those that hold the answer.
        sources: passage id to the names of its source that the question's gold has.

    Returns:
        gold and quotes: as they were where one passage answers alone; else with the passage of each other source that
        is closest to the question and the first one's title, and its closest sentence. Or that a source is not among
        the passages.
    """
    held = [each for each in passages if each.id in gold]
    covered = frozenset[str]().union(*(sources.get(each.id, frozenset()) for each in held))
    open_ones = asked.gold - covered
    if not held or not open_ones or asked.quotes or _told(asked, held):
        return gold, asked.quotes
    quotes: list[str] = []
    sought = " ".join((asked.question, *(each.title for each in held)))
    while open_ones:
        others = [each for each in passages if sources.get(each.id, frozenset()) & open_ones]
        best = best_sentences(sought, [each.text for each in others], n=1)
        if not best:
            return LeftOut(INCOMPLETE)
        found = others[best[0].source - 1]
        lines = best_sentences(sought, best[0].text.splitlines(), n=1)  # of a table one row
        quotes.append(lines[0].text)
        gold, open_ones = gold | {found.id}, open_ones - sources[found.id]
    return gold, tuple(quotes)


def _holds(answer: str, quotes: Sequence[str], passage: Passage) -> bool:
    """Whether a passage that is named as the source has the answer, or one of its quotes, or a long answer's words."""
    if any(quoted(each, passage.text) is not None for each in (answer, *quotes)):
        return True
    if len(words(answer)) < LONG:
        return False
    stems, there = set(content_stems(answer)), set(content_stems(passage.text))
    numbers = {each for each in stems if any(sign.isdigit() for sign in each)}
    return bool(stems) and numbers <= there and len(stems & there) >= COVERED * len(stems)


def _with_gold(
    asked: Asked,
    passages: tuple[Passage, ...],
    gold: frozenset[str],
    nodes: Sequence[NodeWithScore],
    top_k: int,
    lookup: Lookup,
) -> tuple[tuple[Passage, ...], frozenset[str], Sequence[NodeWithScore]]:
    """Put the first passage of the named sources that holds the answer where one was retrieved that does not."""
    found = [NodeWithScore(node=each) for each in lookup(asked.gold)]
    holding = [each for each in to_passages(found) if asked.answer and _holds(asked.answer, asked.quotes, each)]
    if not holding:
        return passages, gold, nodes
    first = holding[0]
    others = [each for each in passages if each.id != first.id]
    at = Random(f"add_gold:{asked.id}").randrange(min(top_k, len(others) + 1))
    kept = (*others[:at], first, *others[at : top_k - 1])
    near = tuple(each for each in others if each not in kept)
    return (*kept, *near), gold | {each.id for each in holding}, [*nodes, *found]


def _versions(passages: Sequence[Passage], nodes: Sequence[NodeWithScore]) -> dict[str, str]:
    """The hash of each source document, as its nodes know it; else of what was retrieved of it."""
    known = {each.node.ref_doc_id: each.node.source_node.hash for each in nodes if each.node.source_node is not None}
    texts: dict[str, list[str]] = {}
    for each in passages:
        if each.source is not None:
            texts.setdefault(each.source, []).append(each.text)
    return {source: known.get(source) or hashed("\0".join(some)) for source, some in sorted(texts.items())}


def is_plain(asked: Asked) -> bool:
    """Whether the retriever need not be asked."""
    return asked.kind == NO_RETRIEVAL or (asked.answerable is not False and asked.answer is None and not asked.gold)


def hashed(text: str) -> str:
    """16 hexadecimal digits that name a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
