"""One question's way through the graph: gathers what each step needs and keeps it; every number comes from `graph.walk`.

It lives for one question and is not shared between threads. A passage is known here by the store's integer id.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..filters import Filter
from . import walk as w
from .entities import query_names, terms, word_set
from .neighbourhood import Frontier
from .second_hop import expansion
from .stores.base import Fact, GraphStore, Ids, Link, Links, Name, NameRule, StoredPassage

SEEDS = 100
"""Passages taken from each of vector and keyword search; 20 to 100 lose nothing against seeding from the whole store."""
RARE_DF = 100
"""A name of the question found in at most this many passages brings all of them in as candidates."""
POOL = 100
"""Passages scored for the final order: the best of the walk, and the best ten of each second-hop text."""
HOP_TOP = 10
BACKGROUND = 100
"""Passages whose cosine with a text says what "unrelated" looks like for this encoder."""
UNRELATED_PERCENTILE = 5.0
READ = 50
"""Passages whose words are read, for the gate and for covering the question."""
COVERED_TOP = 10
"""Places filled so as to cover the question; the rest follow by score."""
FACTS_PER_PASSAGE = 5

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


@dataclass(frozen=True)
class Found:
    """A passage with why it was found.

    Attributes:
        passage: as stored.
        score: comparable within one question only.
        path: how the search got there; JSON-safe; None when nothing but its words or vector led to it.
        facts: statements read from it, or stated by the user about the question's names.
    """

    passage: StoredPassage
    score: float
    path: dict[str, object] | None = None
    facts: tuple[Fact, ...] = ()


class QuestionWalk:
    """The state of one search; `candidates` is empty when the store has nothing in common with the question."""

    def __init__(
        self,
        question: str,
        embedding: Embedding | None,
        store: GraphStore,
        semantic: SemanticMemory | None,
        numbers: Numbers,
        keep: Filter | None,
    ) -> None:
        self._question = question
        self._embedding = embedding if semantic is not None else None
        self._store = store
        self._semantic = semantic
        self._settings = numbers.settings
        self._numbers = numbers
        self._keep = keep
        self._count = max(store.passage_count, 1)
        self._names = self._question_names()
        self._node_ids: dict[int, str] = {}
        self._cosine: dict[int, float] = {}
        self._keyword: dict[int, float] = {}
        self._floor = 0.0
        self._background = store.sample(BACKGROUND) if self._embedding is not None else []
        self.candidates = self._gather()
        self._frontier = Frontier(store, numbers.rule, keep, numbers.settings)
        self._prior: dict[int, float] = {}
        self._mass: dict[int, float] = {}
        self._second: dict[int, float] | None = None
        self._hop: dict[int, float] = {}
        self._title_hop: dict[int, float] = {}
        self._from: dict[int, int] = {}  # passage -> the expanded passage that led to it
        self._expanded: list[int] = []
        self._words = terms(question)
        self._read: dict[int, set[str]] = {}

    # -- the steps ----------------------------------------------------------------------------------------------------

    def first_walk(self) -> None:
        """Walk from what the question itself finds."""
        self._prior = self._priors(self.candidates)
        self._mass = self._walk(self._prior)

    def second_walk(self, encode: Encode) -> None:
        """Ask again from the best passages, and walk from what that finds, too."""
        assert self._semantic is not None  # an embedding implies it
        best = self._best(self._mass, self._settings.expansions)
        links = self._store.names_in(_ids(best))
        passages = self._store.load(_ids(best))
        self._expanded = [passage for passage in best if passage in passages]
        texts = [
            expansion(self._question, self._names, passages[p].title, links[p], self._numbers.rule) for p in self._expanded
        ]
        vectors = encode(texts)
        found = [node_id for v in vectors for node_id, _ in self._semantic.search_dense(v, HOP_TOP, self._keep)]
        pool = self._pool(self._resolve(found))
        self._score_hops(pool, vectors)
        prior = self._priors({*self.candidates, *pool})
        self._prior = prior
        hop = np.asarray([self._hop.get(passage, 0.0) for passage in prior])
        again = w.scaled(np.fromiter(prior.values(), float) + self._settings.rewalk * hop, 0.0)
        self._second = self._walk(dict(zip(prior, again.tolist(), strict=True)))

    def results(self, top_k: int) -> list[Found]:
        """Order, load and explain the best passages."""
        pool = self._pool(set(self._hop))
        scores = self._scores(pool)
        order = sorted(range(len(pool)), key=lambda i: (-scores[i], self._node_ids[pool[i]]))
        front = [pool[i] for i in order[:READ]]
        places = min(COVERED_TOP, top_k)
        picked = w.pick(scores[order[:READ]], self._covers(front), self._idf_of_words(), places, self._settings)
        chosen = [front[i] for i in picked] + [pool[i] for i in order[READ:]]
        by_id = dict(zip(pool, scores.tolist(), strict=True))
        return self._explained(chosen[:top_k], by_id)

    # -- candidates and priors ----------------------------------------------------------------------------------------

    def _question_names(self) -> dict[str, Name]:
        known: dict[str, Name] = {}

        def look_up(candidates: Iterable[str]) -> Mapping[str, int]:
            known.update(self._store.find_names(candidates))
            return {name: entry.df for name, entry in known.items()}

        return {name: known[name] for name in query_names(self._question, look_up)}

    def _gather(self) -> list[int]:
        dense = self._dense()
        keyword = self._keywords()
        self._resolve([*dense, *keyword])
        rare = _ids(name.id for name in self._names.values() if name.df <= RARE_DF)
        if len(rare):
            passages = self._store.links_of_names(rare, self._keep).passages
            self._node_ids.update(self._store.node_ids(np.unique(passages)))
        for passage, node_id in self._node_ids.items():
            if node_id in dense:
                self._cosine[passage] = dense[node_id]
            self._keyword[passage] = keyword.get(node_id, 0.0)
        self._score_missing(self._node_ids)
        return self._sorted(self._node_ids)

    def _dense(self) -> dict[str, float]:
        if self._embedding is None or self._semantic is None:
            return {}
        background = self._semantic.score_dense(self._embedding, self._background)
        self._floor = _floor(background.values())
        return dict(self._semantic.search_dense(self._embedding, SEEDS, self._keep))

    def _keywords(self) -> dict[str, float]:
        if self._semantic is not None:
            return dict(self._semantic.search_sparse(self._question, SEEDS, self._keep))
        return dict(self._store.keyword_scores(terms(self._question), SEEDS, self._keep))

    def _resolve(self, node_ids: Iterable[str]) -> set[int]:
        """Learn passages by node id; those the graph does not have, or the filter leaves out, are passed over."""
        wanted = list(dict.fromkeys(node_ids))
        found = self._store.passage_ids(wanted, self._keep)
        self._node_ids.update((number, node_id) for node_id, number in found.items())
        return set(found.values())

    def _score_missing(self, passages: Iterable[int]) -> None:
        missing = [passage for passage in passages if passage not in self._cosine]
        if not missing or self._embedding is None or self._semantic is None:
            return
        scores = self._semantic.score_dense(self._embedding, [self._node_ids[passage] for passage in missing])
        self._cosine.update((passage, scores.get(self._node_ids[passage], self._floor)) for passage in missing)

    def _priors(self, passages: Iterable[int]) -> dict[int, float]:
        order = self._sorted(passages)
        self._score_missing(order)
        dense = w.scaled(np.asarray([self._cosine.get(p, self._floor) for p in order]), self._floor)
        keyword = w.scaled(np.asarray([self._keyword.get(p, 0.0) for p in order]), 0.0)
        coverage, titled = self._name_coverage(order)
        values = w.prior(dense, keyword, coverage, titled, self._numbers.keyword_weight, self._settings)
        return dict(zip(order, values.tolist(), strict=True))

    def _name_coverage(self, order: Sequence[int]) -> tuple[w.Array, w.Array]:
        weights = self._name_weights()
        rows = {passage: row for row, passage in enumerate(order)}
        coverage, titled = np.zeros(len(order)), np.zeros(len(order))
        links = self._question_links(order)
        at = np.asarray([rows[p] for p in links.passages.tolist()], dtype=np.int64)
        share = np.asarray([weights[name] for name in links.names.tolist()])
        np.add.at(coverage, at, share)
        np.add.at(titled, at[links.titled], share[links.titled])
        return coverage, titled

    def _question_links(self, passages: Sequence[int]) -> Links:
        return self._store.links_between(_ids(passages), _ids(name.id for name in self._names.values()))

    def _name_weights(self) -> dict[int, float]:
        idf = {name.id: math.log(1 + self._count / name.df) for name in self._names.values()}
        total = sum(idf.values())
        return {name: value / total for name, value in idf.items()}

    # -- the walk -----------------------------------------------------------------------------------------------------

    def _walk(self, prior: Mapping[int, float]) -> dict[int, float]:
        start = w.sharpened(np.fromiter(prior.values(), float), self._settings)
        held = dict(zip(prior, start.tolist(), strict=True))
        weights = self._name_weights()
        admitted = {name.id: name for name in self._names.values() if self._numbers.rule.admits(name)}
        names = {name: weights[name] for name in admitted}
        self._frontier.add_names({name: entry.df for name, entry in admitted.items()})
        share = self._settings.name_share
        self._frontier.grow(
            {passage: mass * (1 - share) for passage, mass in held.items()}, {n: m * share for n, m in names.items()}
        )
        self._learn(self._frontier.passages())
        order = self._sorted({*held, *self._frontier.passages()})
        graph, columns = self._frontier.graph(order)
        mass = w.walk(
            np.asarray([held.get(p, 0.0) for p in order]), np.asarray([names.get(n, 0.0) for n in columns]),
            self._direct(order, weights, names), graph, self._settings,
        )  # fmt: skip
        return dict(zip(order, mass.tolist(), strict=True))

    def _direct(self, order: Sequence[int], weights: Mapping[int, float], names: Mapping[int, float]) -> w.Array:
        """Give the mass of the question's common words, which carry none onward, straight to their passages."""
        direct = np.zeros(len(order))
        rows = {passage: row for row, passage in enumerate(order)}
        links = self._question_links(order)
        for passage, name, df in zip(links.passages.tolist(), links.names.tolist(), links.df.tolist(), strict=True):
            if name not in names:
                direct[rows[passage]] += weights[name] / df
        return direct

    def _learn(self, passages: Iterable[int]) -> None:
        unknown = [passage for passage in passages if passage not in self._node_ids]
        if unknown:
            self._node_ids.update(self._store.node_ids(_ids(unknown)))

    # -- the second hop -----------------------------------------------------------------------------------------------

    def _score_hops(self, pool: list[int], vectors: Sequence[Embedding]) -> None:
        assert self._semantic is not None
        node_ids = [self._node_ids[passage] for passage in pool]
        found = np.zeros((len(pool), len(vectors)))
        floors = np.zeros(len(vectors))
        for text, vector in enumerate(vectors):
            scores = self._semantic.score_dense(vector, [*node_ids, *self._background])
            floors[text] = _floor(scores[node_id] for node_id in self._background if node_id in scores)
            found[:, text] = [scores.get(node_id, floors[text]) for node_id in node_ids]
        chosen = [pool.index(passage) for passage in self._expanded]
        mass = np.asarray([self._mass.get(passage, 0.0) for passage in pool])
        weights = w.standing(mass, chosen, self._settings)
        hop, each = w.hop_scores(found, floors, weights, chosen)
        named = self._titles_named(pool)
        title_hop = w.title_hop_scores(named, each, weights)
        self._hop = dict(zip(pool, hop.tolist(), strict=True))
        self._title_hop = dict(zip(pool, title_hop.tolist(), strict=True))
        leading = (each * weights).argmax(axis=1)
        self._from = {p: self._expanded[int(k)] for p, k in zip(pool, leading, strict=True) if p not in self._expanded}

    def _titles_named(self, pool: Sequence[int]) -> w.Flags:
        asked = {name.id for name in self._names.values()}
        named = np.zeros((len(pool), len(self._expanded)), dtype=bool)
        for text, passage in enumerate(self._expanded):
            titles = {p for name in self._frontier.names_of(passage) - asked for p in self._frontier.titled_by(name)}
            named[:, text] = [p in titles and p != passage for p in pool]
        return named

    # -- the order ----------------------------------------------------------------------------------------------------

    def _pool(self, extra: set[int]) -> list[int]:
        return self._sorted({*self._best(self._mass, POOL), *extra})

    def _scores(self, pool: Sequence[int]) -> w.Array:
        first = self._log_mass(self._mass, pool)
        if self._second is None:
            return first
        take = lambda values: np.asarray([values.get(passage, 0.0) for passage in pool])  # noqa: E731
        signals = w.Signals(
            take(self._prior), first, self._log_mass(self._second, pool), take(self._hop), take(self._title_hop)
        )
        return w.combine(signals, w.openness(self._best_coverage(), self._settings), self._settings)

    def _log_mass(self, mass: Mapping[int, float], pool: Sequence[int]) -> w.Array:
        return w.log_mass(np.asarray([mass.get(passage, 0.0) for passage in pool]))

    def _best_coverage(self) -> float:
        idf = self._idf_of_words()
        total = float(idf.sum())
        covers = self._covers(self._best(self._prior, READ))
        return float((covers @ idf).max(initial=0.0)) / total if total > 0 else 0.0

    def _covers(self, passages: Sequence[int]) -> w.Flags:
        rows = [[term in present for term in self._words] for present in self._words_of(passages)]
        return np.asarray(rows, dtype=bool).reshape(len(passages), len(self._words))

    def _idf_of_words(self) -> w.Array:
        found = self._store.document_frequencies(self._words)
        return np.asarray([math.log(1 + self._count / (1 + found.get(term, 0))) for term in self._words])

    def _words_of(self, passages: Sequence[int]) -> list[set[str]]:
        wanted = [passage for passage in passages if passage not in self._read]
        if wanted:
            for number, stored in self._store.load(_ids(wanted)).items():
                self._read[number] = word_set(stored.title) | word_set(stored.text)
        return [self._read.get(passage, set()) for passage in passages]

    def _best(self, values: Mapping[int, float], count: int) -> list[int]:
        known = [passage for passage in values if passage in self._node_ids]
        return sorted(known, key=lambda p: (-values[p], self._node_ids[p]))[:count]

    def _sorted(self, passages: Iterable[int]) -> list[int]:
        return sorted((p for p in passages if p in self._node_ids), key=self._node_ids.__getitem__)

    # -- provenance ---------------------------------------------------------------------------------------------------

    def _explained(self, chosen: Sequence[int], scores: Mapping[int, float]) -> list[Found]:
        stored = self._store.load(_ids([*chosen, *self._expanded]))
        links = self._store.names_in(_ids(stored))
        asked = _ids(name.id for name in self._names.values())
        facts: dict[int | None, list[Fact]] = {}
        for fact, passage in self._store.facts_about(asked, _ids(chosen), FACTS_PER_PASSAGE * max(len(chosen), 1)):
            facts.setdefault(passage, []).append(fact)
        present = [passage for passage in chosen if passage in stored]
        found = []
        for place, passage in enumerate(present):
            mine = facts.get(passage, [])[:FACTS_PER_PASSAGE] + (facts.get(None, []) if place == 0 else [])
            found.append(Found(stored[passage], scores[passage], self._path(passage, stored, links), tuple(mine)))
        return found

    def _path(
        self, passage: int, stored: Mapping[int, StoredPassage], links: Mapping[int, list[Link]]
    ) -> dict[str, object] | None:
        shared = [link.surface for link in links[passage] if link.name.name in self._names]
        if shared:
            return {"from": "question", "names": shared}
        source = self._from.get(passage)
        if source is None or source not in stored:
            return None
        theirs = {link.name.name for link in links[source]}
        rule = self._numbers.rule
        common = [link.surface for link in links[passage] if link.name.name in theirs and rule.admits(link.name)]
        return {"from": stored[source].node_id, "title": stored[source].title, "names": common} if common else None


def _ids(numbers: Iterable[int]) -> Ids:
    return np.fromiter(numbers, dtype=np.int64)


def _floor(values: Iterable[float]) -> float:
    known = np.fromiter(values, float)
    return float(np.percentile(known, UNRELATED_PERCENTILE)) if len(known) else 0.0
