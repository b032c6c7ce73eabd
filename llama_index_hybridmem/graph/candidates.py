"""What passages have in common with one question: vectors, keywords, names and words; knows no walk and orders nothing.

It lives for one question, is not shared between threads, and never asks a store for the same thing twice. A passage is
known here by the graph store's integer id.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from ..filters import Filter
from . import walk as w
from .entities import query_names, terms, word_set
from .stores.base import GraphReads, Ids, Links, Name, NameRule

SEEDS = 100
"""Passages taken from each of vector and keyword search; 20 to 100 lose nothing against seeding from all of them."""
RARE_DF = 100
"""A name of the question found in at most this many passages brings all of them in as candidates."""
BACKGROUND = 100
"""Passages whose cosine with a text says what "unrelated" looks like for this encoder."""
UNRELATED_PERCENTILE = 5.0

Embedding = Sequence[float]
Encode = Callable[[Sequence[str]], Sequence[Embedding]]
"""Turns questions into vectors, one call for all."""


class SemanticMemory(Protocol):
    """What the search asks of a vector store; `QdrantEdgeVectorStore` is one."""

    def search_dense(self, embedding: Embedding, top_k: int, filters: Filter | None = None) -> list[tuple[str, float]]:
        """Find the nearest nodes: (node id, cosine), best first."""

    def search_sparse(self, text: str, top_k: int, filters: Filter | None = None) -> list[tuple[str, float]]:
        """Rank by BM25: (node id, score), best first."""

    def score_dense(self, embedding: Embedding, node_ids: Sequence[str]) -> dict[str, float]:
        """Give the exact cosine of the given nodes."""


@dataclass(frozen=True)
class Numbers:
    """What holds for every question asked of the store as it is now."""

    settings: w.WalkSettings
    rule: NameRule
    keyword_weight: float


class Candidates:
    """What is known of the passages that one question has to do with.

    Args:
        question: any text.
        embedding: its vector; None: words and names alone.
        store: the graph.
        semantic: vectors and keywords over the same nodes; None: the graph store's own words.
        numbers: see `Numbers`.
        keep: passages outside this filter are never learnt of.

    Attributes:
        names: the known names in the question.
        name_weights: name id to its share of the question's idf mass.
        words: the question's content words.
        found: the passages that the question itself brings up; empty when the store has nothing in common with it.
    """

    def __init__(
        self,
        question: str,
        embedding: Embedding | None,
        store: GraphReads,
        semantic: SemanticMemory | None,
        numbers: Numbers,
        keep: Filter | None,
    ) -> None:
        self._question = question
        self._embedding = embedding if semantic is not None else None
        self._store = store
        self._semantic = semantic
        self._numbers = numbers
        self._keep = keep
        self._count = max(store.passage_count, 1)
        self._node_ids: dict[int, str] = {}
        self._cosine: dict[int, float] = {}
        self._keyword: dict[int, float] = {}
        self._floor = 0.0
        self._read: dict[int, set[str]] = {}
        self._background = store.sample(BACKGROUND) if self._embedding is not None else []
        self.words = terms(question)
        self.names = self._known_names()
        self.name_weights = self._weigh_names()
        self.found = self._gather()

    @property
    def has_vectors(self) -> bool:
        """Whether passages can be compared by vector: there is a semantic memory, and the question has a vector."""
        return self._embedding is not None

    # -- which passages -----------------------------------------------------------------------------------------------

    def nearest(self, embedding: Embedding, top_k: int) -> set[int]:
        """Find the passages nearest to another text."""
        assert self._semantic is not None  # whoever has a vector got it for a semantic memory
        return self._resolve(node_id for node_id, _ in self._semantic.search_dense(embedding, top_k, self._keep))

    def learn(self, passages: Iterable[int]) -> None:
        """Make passages known that links have led to."""
        unknown = [passage for passage in passages if passage not in self._node_ids]
        if unknown:
            self._node_ids.update(self._store.node_ids(ids_of(unknown)))

    def in_order(self, passages: Iterable[int]) -> list[int]:
        """Put known passages in an order that does not depend on how the store numbers them."""
        return sorted((passage for passage in passages if passage in self._node_ids), key=self._node_ids.__getitem__)

    def best(self, values: Mapping[int, float], count: int) -> list[int]:
        """List the known passages with the greatest values, best first."""
        known = [passage for passage in values if passage in self._node_ids]
        return sorted(known, key=lambda passage: (-values[passage], self._node_ids[passage]))[:count]

    def _known_names(self) -> dict[str, Name]:
        known: dict[str, Name] = {}

        def look_up(candidates: Iterable[str]) -> Mapping[str, int]:
            known.update(self._store.find_names(candidates))
            return {name: entry.df for name, entry in known.items()}

        return {name: known[name] for name in query_names(self._question, look_up)}

    def _weigh_names(self) -> dict[int, float]:
        idf = {name.id: math.log(1 + self._count / max(name.df, 1)) for name in self.names.values()}
        total = sum(idf.values())
        return {name: value / total for name, value in idf.items()}

    def _gather(self) -> list[int]:
        dense = self._dense()
        keyword = self._keywords()
        self._resolve([*dense, *keyword])
        rare = ids_of(name.id for name in self.names.values() if name.df <= RARE_DF)
        if len(rare):
            self.learn(np.unique(self._store.links_of_names(rare, self._keep).passages).tolist())
        for passage, node_id in self._node_ids.items():
            if node_id in dense:
                self._cosine[passage] = dense[node_id]
            self._keyword[passage] = keyword.get(node_id, 0.0)
        return self.in_order(self._node_ids)

    def _dense(self) -> dict[str, float]:
        if self._embedding is None or self._semantic is None:
            return {}
        background = self._semantic.score_dense(self._embedding, self._background)
        self._floor = _floor(background.values())
        return dict(self._semantic.search_dense(self._embedding, SEEDS, self._keep))

    def _keywords(self) -> dict[str, float]:
        if self._semantic is not None:
            return dict(self._semantic.search_sparse(self._question, SEEDS, self._keep))
        return dict(self._store.keyword_scores(self.words, SEEDS, self._keep))

    def _resolve(self, node_ids: Iterable[str]) -> set[int]:
        """Learn passages by node id; those the graph does not have, or the filter leaves out, are passed over."""
        wanted = list(dict.fromkeys(node_ids))
        found = self._store.passage_ids(wanted, self._keep)
        self._node_ids.update((number, node_id) for node_id, number in found.items())
        return set(found.values())

    # -- how much in common -------------------------------------------------------------------------------------------

    def prior(self, passages: Iterable[int]) -> dict[int, float]:
        """Score passages against the question, see `walk.prior`; the keys come `in_order`."""
        order = self.in_order(passages)
        self._score_missing(order)
        dense = w.scaled(np.asarray([self._cosine.get(passage, self._floor) for passage in order]), self._floor)
        keyword = w.scaled(np.asarray([self._keyword.get(passage, 0.0) for passage in order]), 0.0)
        coverage, titled = self._name_coverage(order)
        values = w.prior(dense, keyword, coverage, titled, self._numbers.keyword_weight, self._numbers.settings)
        return dict(zip(order, values.tolist(), strict=True))

    def cosines(self, embedding: Embedding, passages: Sequence[int]) -> tuple[w.Array, float]:
        """Compare passages with another text: shape (passages,), and what an unrelated passage scores."""
        assert self._semantic is not None  # whoever has a vector got it for a semantic memory
        node_ids = [self._node_ids[passage] for passage in passages]
        scores = self._semantic.score_dense(embedding, [*node_ids, *self._background])
        floor = _floor(scores[node_id] for node_id in self._background if node_id in scores)
        return np.asarray([scores.get(node_id, floor) for node_id in node_ids], dtype=np.float64), floor

    def links(self, passages: Sequence[int]) -> Links:
        """List which of the passages have which of the question's names."""
        return self._store.links_between(ids_of(passages), ids_of(self.name_weights))

    @cached_property
    def word_weights(self) -> w.Array:
        """The idf of the question's words, shape (words,)."""
        found = self._store.document_frequencies(self.words)
        return np.asarray([math.log(1 + self._count / (1 + found.get(word, 0))) for word in self.words])

    def covers(self, passages: Sequence[int]) -> w.Flags:
        """Say which of the question's words each passage has: shape (passages, words)."""
        wanted = [passage for passage in passages if passage not in self._read]
        if wanted:
            for number, stored in self._store.load(ids_of(wanted)).items():
                self._read[number] = word_set(stored.title) | word_set(stored.text)
        rows = [[word in self._read.get(passage, ()) for word in self.words] for passage in passages]
        return np.asarray(rows, dtype=bool).reshape(len(passages), len(self.words))

    def _score_missing(self, passages: Iterable[int]) -> None:
        missing = [passage for passage in passages if passage not in self._cosine]
        if not missing or self._embedding is None or self._semantic is None:
            return
        scores = self._semantic.score_dense(self._embedding, [self._node_ids[passage] for passage in missing])
        self._cosine.update((passage, scores.get(self._node_ids[passage], self._floor)) for passage in missing)

    def _name_coverage(self, order: Sequence[int]) -> tuple[w.Array, w.Array]:
        rows = {passage: row for row, passage in enumerate(order)}
        coverage, titled = np.zeros(len(order)), np.zeros(len(order))
        links = self.links(order)
        at = np.asarray([rows[passage] for passage in links.passages.tolist()], dtype=np.int64)
        share = np.asarray([self.name_weights[name] for name in links.names.tolist()])
        np.add.at(coverage, at, share)
        np.add.at(titled, at[links.titled], share[links.titled])
        return coverage, titled


def ids_of(numbers: Iterable[int]) -> Ids:
    """Pack store ids."""
    return np.fromiter(numbers, dtype=np.int64)


def _floor(values: Iterable[float]) -> float:
    known = np.fromiter(values, float)
    return float(np.percentile(known, UNRELATED_PERCENTILE)) if len(known) else 0.0
