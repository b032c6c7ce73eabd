"""One question's way through the graph: walk, second hop, order, reasons; every number comes from `graph.walk`.

It lives for one question and is not shared between threads. A passage is known here by the store's integer id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..filters import Filter
from . import walk as w
from .candidates import Candidates, Embedding, Encode, Numbers, SemanticMemory, ids_of
from .entities import normalise
from .neighbourhood import Frontier
from .second_hop import expansion
from .stores.base import Fact, Foresight, GraphReads, Link, StoredPassage

POOL = 100
"""Passages scored for the final order: the best of the walk, and the best ten of each second-hop text."""
HOP_TOP = 10
READ = 50
"""Passages whose words are read, for the gate and for covering the question."""
COVERED_TOP = 10
"""Places filled so as to cover the question; the rest follow by score."""
FACTS_PER_PASSAGE = 5
_DIGITS = 12
"""Beyond them sums differ by the order in which a store numbers its names; ties must not hang on that."""

Path = dict[str, object]
"""From where ("question" or a node id, then with its title) and over which names or facts a passage was reached."""


@dataclass(frozen=True)
class Found:
    """A passage with why it was found.

    Attributes:
        passage: as stored.
        score: falls with the rank; comparable within one question only.
        path: how the search got there; JSON-safe; None when nothing but its words or vector led to it.
        facts: statements read from it, or stated by the user about the question's names.
    """

    passage: StoredPassage
    score: float
    path: Path | None = None
    facts: tuple[Fact, ...] = ()


class QuestionWalk:
    """The state of one search: `first_walk`, then perhaps `second_walk`, then `results`.

    Attributes:
        candidates: what the passages have in common with the question.
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
        self.candidates = Candidates(question, embedding, store, semantic, numbers, keep)
        self._question = question
        self._store = store
        self._settings = numbers.settings
        self._rule = numbers.rule
        self._frontier = Frontier(store, numbers.rule, keep, numbers.settings)
        self._prior: dict[int, float] = {}
        self._mass: dict[int, float] = {}
        self._second: dict[int, float] | None = None
        self._hop: dict[int, float] = {}
        self._title_hop: dict[int, float] = {}
        self._from: dict[int, int] = {}  # passage -> the expanded passage that led to it
        self._expanded: list[int] = []

    def first_walk(self) -> None:
        """Walk from what the question itself finds."""
        self._prior = self.candidates.prior(self.candidates.found)
        self._mass = self._walk(self._prior)

    def second_walk(self, encode: Encode) -> None:
        """Ask again from the best passages, and walk from what that finds, too."""
        texts = self._expansions()
        if not texts:
            return
        vectors = encode(texts)
        pool = self._pool({passage for vector in vectors for passage in self.candidates.nearest(vector, HOP_TOP)})
        self._score_hops(pool, vectors)
        self._prior = self.candidates.prior({*self.candidates.found, *pool})
        hop = np.asarray([self._hop.get(passage, 0.0) for passage in self._prior])
        again = w.scaled(np.fromiter(self._prior.values(), float) + self._settings.rewalk * hop, 0.0)
        self._second = self._walk(dict(zip(self._prior, again.tolist(), strict=True)))

    def results(self, top_k: int) -> list[Found]:
        """Order, load and explain the best passages."""
        pool = self._pool(set(self._hop), max(POOL, top_k))
        scores = np.round(self._scores(pool), _DIGITS)
        order = np.argsort(-scores, kind="stable")
        front = order[:READ]
        covers = self.candidates.covers([pool[i] for i in front])
        places = min(COVERED_TOP, top_k)
        picked, values = w.pick(scores[front], covers, self.candidates.word_weights, places, self._settings)
        chosen = [pool[i] for i in [*front[picked], *order[READ:]]]
        ranked = dict(zip(chosen[:top_k], [*values.tolist(), *scores[order[READ:]].tolist()], strict=False))
        return self._explained(ranked)

    # -- the walk -----------------------------------------------------------------------------------------------------

    def _walk(self, prior: Mapping[int, float]) -> dict[int, float]:
        start = w.sharpened(np.fromiter(prior.values(), float), self._settings)
        held = dict(zip(prior, start.tolist(), strict=True))
        admitted = {name.id: name.df for name in self.candidates.names.values() if self._rule.admits(name)}
        names = {name: self.candidates.name_weights[name] for name in admitted}
        share = self._settings.name_share
        self._frontier.add_names(admitted)
        self._frontier.grow(
            {passage: mass * (1 - share) for passage, mass in held.items()},
            {name: mass * share for name, mass in names.items()},
        )
        self.candidates.learn(self._frontier.passages())
        order = self.candidates.in_order({*held, *self._frontier.passages()})
        graph, columns = self._frontier.graph(order)
        from_passages = np.asarray([held.get(passage, 0.0) for passage in order])
        from_names = np.asarray([names.get(name, 0.0) for name in columns])
        mass = w.walk(from_passages, from_names, self._direct(order, names), graph, self._settings)
        return dict(zip(order, np.round(mass, _DIGITS).tolist(), strict=True))

    def _direct(self, order: Sequence[int], names: Mapping[int, float]) -> w.Array:
        """Give the mass of the question's common words, which carry none onward, straight to their passages."""
        direct = np.zeros(len(order))
        rows = {passage: row for row, passage in enumerate(order)}
        links = self.candidates.links(order)
        for passage, name, df in zip(links.passages.tolist(), links.names.tolist(), links.df.tolist(), strict=True):
            if name not in names:
                direct[rows[passage]] += self.candidates.name_weights[name] / df
        return direct

    # -- the second hop -----------------------------------------------------------------------------------------------

    def _expansions(self) -> list[str]:
        best = self.candidates.best(self._mass, self._settings.expansions)
        self._foresee(best)
        links = self._store.names_in(ids_of(best))
        passages = self._store.load(ids_of(best))
        self._expanded = [passage for passage in best if passage in passages]
        return [
            expansion(self._question, self.candidates.names, passages[passage].title, links[passage], self._rule)
            for passage in self._expanded
        ]

    def _score_hops(self, pool: list[int], vectors: Sequence[Embedding]) -> None:
        columns = [self.candidates.cosines(vector, pool) for vector in vectors]
        found = np.stack([cosines for cosines, _ in columns], axis=1)
        floors = np.asarray([floor for _, floor in columns])
        chosen = [pool.index(passage) for passage in self._expanded]
        weights = w.standing(np.asarray([self._mass.get(passage, 0.0) for passage in pool]), chosen, self._settings)
        hop, each = w.hop_scores(found, floors, weights, chosen)
        title_hop = w.title_hop_scores(self._titles_named(pool), each, weights)
        self._hop = dict(zip(pool, hop.tolist(), strict=True))
        self._title_hop = dict(zip(pool, title_hop.tolist(), strict=True))
        leading = (each * weights).argmax(axis=1)
        self._from = {p: self._expanded[int(k)] for p, k in zip(pool, leading, strict=True) if p not in self._expanded}

    def _titles_named(self, pool: Sequence[int]) -> w.Flags:
        asked = {name.id for name in self.candidates.names.values()}
        named = np.zeros((len(pool), len(self._expanded)), dtype=bool)
        for text, passage in enumerate(self._expanded):
            titles = {p for name in self._frontier.names_of(passage) - asked for p in self._frontier.titled_by(name)}
            named[:, text] = [p in titles and p != passage for p in pool]
        return named

    # -- the order ----------------------------------------------------------------------------------------------------

    def _pool(self, extra: set[int], count: int = POOL) -> list[int]:
        return self.candidates.in_order({*self.candidates.best(self._mass, count), *extra})

    def _scores(self, pool: Sequence[int]) -> w.Array:
        first = w.log_mass(_picked(self._mass, pool))
        if self._second is None:
            return first
        signals = w.Signals(
            prior=_picked(self._prior, pool),
            first=first,
            second=w.log_mass(_picked(self._second, pool)),
            hop=_picked(self._hop, pool),
            title_hop=_picked(self._title_hop, pool),
        )
        return w.combine(signals, w.openness(self._best_coverage(), self._settings), self._settings)

    def _best_coverage(self) -> float:
        weights = self.candidates.word_weights
        total = float(weights.sum())
        covers = self.candidates.covers(self.candidates.best(self._prior, READ))
        return float((covers @ weights).max(initial=0.0)) / total if total > 0 else 0.0

    def _foresee(self, passages: Sequence[int]) -> None:
        if isinstance(self._store, Foresight):
            self._store.foresee_reading(ids_of(passages))

    # -- reasons ------------------------------------------------------------------------------------------------------

    def _explained(self, ranked: Mapping[int, float]) -> list[Found]:
        leading = self._expanded or self.candidates.best(self._mass, self._settings.expansions)
        self._foresee([*ranked, *leading])
        stored = self._store.load(ids_of([*ranked, *leading]))
        links = self._store.names_in(ids_of(stored))
        facts: dict[int | None, list[Fact]] = {}
        asked = ids_of(self.candidates.name_weights)
        for fact, passage in self._store.facts_about(asked, ids_of(ranked), FACTS_PER_PASSAGE):
            facts.setdefault(passage, []).append(fact)
        stated = facts.get(None, [])
        found: list[Found] = []
        for passage, score in ranked.items():
            if passage in stored:  # else deleted since
                path = self._path_from_question(links[passage], stated) or self._path_from_passage(
                    passage, leading, stored, links
                )
                said = [*facts.get(passage, []), *(stated if not found else [])]
                found.append(Found(stored[passage], score, path, tuple(said)))
        return found

    def _path_from_question(self, links: Sequence[Link], stated: Sequence[Fact]) -> Path | None:
        named = [link for link in links if link.name.case >= self._rule.min_case]  # the others are common words
        shared = [link.surface for link in named if link.name.id in self.candidates.name_weights]
        if shared:
            return {"from": "question", "names": shared}
        surfaces = {link.name.name: link.surface for link in links}
        ends = {end: str(fact) for fact in stated for end in map(normalise, (fact.subject, fact.object))}
        tied = [name for name in ends if name in surfaces]
        if tied:
            facts = list(dict.fromkeys(ends[name] for name in tied))
            return {"from": "question", "names": [surfaces[name] for name in tied], "facts": facts}
        return None

    def _path_from_passage(
        self,
        passage: int,
        leading: Sequence[int],
        stored: Mapping[int, StoredPassage],
        links: Mapping[int, Sequence[Link]],
    ) -> Path | None:
        mine = [link for link in links[passage] if self._rule.admits(link.name)]
        for source in (self._from.get(passage), *leading):
            if source == passage:  # what led to it stands before it
                return None
            if source is not None and source in stored:
                theirs = {link.name.name for link in links[source]}
                common = [link.surface for link in mine if link.name.name in theirs]
                if common:
                    return {"from": stored[source].node_id, "title": stored[source].title, "names": common}
        return None


def _picked(values: Mapping[int, float], passages: Sequence[int]) -> w.Array:
    return np.asarray([values.get(passage, 0.0) for passage in passages], dtype=np.float64)
