"""Answers a question from the graph, with as much of vectors, keywords and second hop as there is; knows no LlamaIndex.

Without vectors it works on words and names; when the vector store or the encoder fails, or time is short, it goes on
with what is left and says so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..errors import EncoderError, RetrievalError, told
from ..filters import Filter
from . import walk as w
from .candidates import Embedding, Encode, Numbers, SemanticMemory
from .guarded import GuardedMemory
from .question import Found, QuestionWalk
from .stores.base import ForesightedStore, GraphReads, NameRule

logger = logging.getLogger(__name__)


@dataclass
class GraphAnswer:
    """What a search found.

    Attributes:
        found: best first; empty when nothing in the store has anything in common with the question.
        notes: what had to be left out, and why.
    """

    found: list[Found] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class GraphSearch:
    """Ranks passages for a question.

    Args:
        store: the graph.
        semantic: vector and keyword memory over the same node ids; None: words and names alone.
        encode: question encoder, for the second hop; None: no second hop.
        settings: the numbers of the method.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        store: GraphReads,
        semantic: SemanticMemory | None = None,
        encode: Encode | None = None,
        *,
        settings: w.WalkSettings = w.DEFAULTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.settings = settings
        self._semantic = GuardedMemory(semantic) if semantic is not None else None
        self._encode = encode
        self._clock = clock

    def search(
        self,
        question: str,
        embedding: Embedding | None = None,
        *,
        top_k: int = 10,
        hops: int = 2,
        keep: Filter | None = None,
        budget_s: float | None = None,
    ) -> GraphAnswer:
        """Find the passages that answer a question, directly or through names they share with those that do.

        Args:
            question: any text, in any case.
            embedding: its vector; None: words and names alone.
            top_k: passages handed back.
            hops: 1 walks once (no further encoding), 2 also asks again with what was found.
            keep: only these passages appear or carry mass.
            budget_s: when half of it is gone after the first walk, the second hop is left out; None: no limit.
        """
        began = self._clock()
        answer = GraphAnswer()
        store = self.store.view(question, keep) if isinstance(self.store, ForesightedStore) else self.store
        run = self._begin(store, question, embedding, keep, answer)
        if not run.candidates.found and not run.candidates.names:
            return answer
        spent = self._clock() - began
        if hops > 1 and budget_s is not None and spent > budget_s / 2:
            answer.notes.append(f"second hop left out: {spent:.3f} s of {budget_s:g} s were gone")
        elif hops > 1 and run.candidates.has_vectors and self._encode is not None:
            self._second_hop(run, self._encode, answer)
        answer.found = run.results(top_k)
        return answer

    def rule(self, store: GraphReads | None = None) -> NameRule:
        """Say which names carry mass in the store as it is now, or as a view sees it."""
        seen = self.store if store is None else store
        guard = seen.capital_share < self.settings.capital_guard
        cap = max(self.settings.max_df_floor, int(self.settings.max_df_share * seen.passage_count))
        return NameRule(cap, 0.0 if guard else self.settings.min_case)

    def _begin(
        self,
        store: GraphReads,
        question: str,
        embedding: Embedding | None,
        keep: Filter | None,
        answer: GraphAnswer,
    ) -> QuestionWalk:
        numbers = Numbers(self.settings, self.rule(store), w.keyword_weight(store.long_share))
        try:
            run = QuestionWalk(question, embedding, store, self._semantic, numbers, keep)
            run.first_walk()
        except RetrievalError as error:
            logger.warning("graph search goes on without vectors: %s", error)
            answer.notes.append(f"vectors and keywords left out: {error}")
            run = QuestionWalk(question, None, store, None, numbers, keep)
            run.first_walk()
        return run

    def _second_hop(self, run: QuestionWalk, encode: Encode, answer: GraphAnswer) -> None:
        try:
            run.second_walk(lambda texts: _encoded(encode, texts))
        except RetrievalError as error:
            logger.warning("second hop left out: %s", error)
            answer.notes.append(f"second hop left out: {error}")


def _encoded(encode: Encode, texts: Sequence[str]) -> Sequence[Embedding]:
    try:
        return _one_each(texts, encode(texts))
    except Exception as error:  # a boundary: any encoder
        raise RetrievalError(told(error)) from error


def _one_each(texts: Sequence[str], vectors: Sequence[Embedding]) -> Sequence[Embedding]:
    if len(vectors) != len(texts):
        raise EncoderError(f"{len(vectors)} vectors for {len(texts)} texts")
    return vectors
