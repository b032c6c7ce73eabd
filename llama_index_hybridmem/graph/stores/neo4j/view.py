"""One question's view of the Neo4j store: fetches together what the search asks for one by one; ranks nothing.

A round trip costs more than what it brings, so the search's thirty small reads become a few: one when the question is
known, one for the passages that vectors and keywords bring, and one for each walk, seeds in and neighbourhoods out.
What was not foreseen is read as the store reads it: foresight changes the number of trips and never the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ....filters import Filter
from ...candidates import RARE_DF
from ...entities import spans_of, terms
from ..base import Ids, Link, Links, Name, NameRule, Push, StoredPassage
from .foresight import QUESTION, READING, SEEDS, WALK
from .reads import Neo4jReads, links_in, links_of, marks_of, name_of, shares
from .schema import key_of, keys_of
from .tables import NO_PASSAGE

_SLACK = 0.8
"""What lies this near below the tolerance is fetched, too: the server's sums are not quite ours."""


class Neo4jView(Neo4jReads):
    """The store as one question sees it; not shared between threads.

    Args:
        store: the store itself.
        question: any text.
        keep: passages outside this filter are never fetched ahead.
    """

    def __init__(self, store: Neo4jReads, question: str, keep: Filter | None) -> None:
        super().__init__(store.bolt, store.schema)
        self._store = store
        self._keep = keep
        self._rule: NameRule | None = None
        self._node_ids: dict[int, str] = {}
        self._numbers: dict[str, int | None] = {}  # by node id; None: not there, or filtered out
        self._common_links: dict[int, list[list[Any]]] = {}  # passage -> its links to the question's common names
        self._out: dict[int, list[list[Any]]] = {}  # passage -> the links that the rule admits
        self._back: dict[int, tuple[int, list[list[Any]]]] = {}  # name -> its df and its links
        self._ties: dict[int, list[tuple[int, int]]] = {}  # name -> the names that facts tie it to, with their df
        self._loaded: dict[int, StoredPassage] = {}
        self._links: dict[int, list[Link]] = {}  # passage -> all its names
        self._fetch_question(question)

    # -- what is fetched together -------------------------------------------------------------------------------------

    def _fetch_question(self, question: str) -> None:
        self._spans = set(spans_of(question))
        self._words = {key_of(word): word for word in terms(question)}
        parameters: dict[str, Any] = {"store": self.schema.store, "rare": RARE_DF}
        row = self.rows(QUESTION, self._keep, keys=keys_of(self._spans), words=keys_of(self._words), **parameters)[0]
        self._seen_marks = marks_of(row[:7])
        self._has_facts = row[7] > 0
        self._names: dict[str, Name] = {}
        for cells, links in row[8]:
            name = name_of(cells)
            self._names[name.name] = name
            if links is not None:
                self._back[name.id] = (name.df, [[passage, titled] for passage, _, titled in links])
                self._node_ids.update((passage, node_id) for passage, node_id, _ in links)
        self._frequencies = {self._words[key]: df for key, df in row[9]}
        self._numbers.update((node_id, passage) for passage, node_id in self._node_ids.items())
        self._asked = {name.id for name in self._names.values()}
        self._rare = {name: dict(links) for name, (_, links) in self._back.items()}  # of the question, all links
        self._common = self._asked - self._rare.keys()
        if not self._common:
            self._common_links.update((passage, []) for passage in self._node_ids)

    def foresee_walk(
        self,
        passages: Mapping[int, float],
        names: Mapping[int, float],
        followed: Iterable[int],
        rule: NameRule,
        push: Push,
    ) -> None:
        """Fetch what a walk from these starting points will follow, in one trip; see `base.ForesightedView`."""
        if rule != self._rule:
            self._out, self._ties, self._rule = {}, {}, rule
        held = [[number, mass] for number, mass in passages.items() if mass >= push.tolerance]
        found = self.rows(
            WALK,
            self._keep,
            held=held,
            names=[[number, mass] for number, mass in names.items()],
            common=list(self._common),
            followed=list(followed),
            tolerance=push.tolerance * _SLACK,
            damping=push.damping,
            fact_share=push.fact_share,
            facts=self._has_facts,
            none=NO_PASSAGE,
            max_df=rule.max_df,
            min_case=rule.min_case,
        )
        for number, node_id, out, common in found[0][0]:
            self._node_ids[number], self._common_links[number] = node_id, common
            self._out[number] = out
            if number not in passages:  # reached over links, so through the filter, which nobody applied to those
                self._numbers[node_id] = number
        for number, df, back, ties in found[0][1]:
            self._ties[number] = sorted({(end, end_df) for end, end_df in ties})
            if back is not None:
                self._back[number] = (df, back)

    def foresee_reading(self, passages: Ids) -> None:
        """Fetch passages with all their names, in one trip; see `base.Foresight`."""
        wanted = [p for p in passages.tolist() if p not in self._links]
        for number, node_id, title, text, node, links in self.rows(READING, ids=wanted) if wanted else ():
            self._loaded[number] = StoredPassage(number, node_id, title, text, node)
            self._links[number] = links_in(links)

    # -- the store's reads --------------------------------------------------------------------------------------------

    @property
    def passage_count(self) -> int:
        """Number of passages."""
        return int(self._seen_marks["passages"])

    @property
    def capital_share(self) -> float:
        """Share of all counted mentions written with capitals."""
        return shares(self._seen_marks)[0]

    @property
    def long_share(self) -> float:
        """Share of passages longer than the encoder reads."""
        return shares(self._seen_marks)[1]

    def sample(self, count: int) -> list[str]:
        """See the store, which keeps it until it is written to."""
        return self._store.sample_of(self._seen_marks["version"], count)

    def find_names(self, candidates: Iterable[str]) -> dict[str, Name]:
        """See the store."""
        wanted = list(candidates)
        found = {name: self._names[name] for name in wanted if name in self._names}
        unknown = [name for name in wanted if name not in self._spans]
        return {**found, **(super().find_names(unknown) if unknown else {})}

    def document_frequencies(self, terms: Iterable[str]) -> dict[str, int]:
        """See the store."""
        wanted = list(terms)
        asked = set(self._words.values())
        unknown = [term for term in wanted if term not in asked]
        found = {term: self._frequencies[term] for term in wanted if term in self._frequencies}
        return {**found, **(super().document_frequencies(unknown) if unknown else {})}

    def passage_ids(self, node_ids: Sequence[str], keep: Filter | None = None) -> dict[str, int]:
        """See the store; the passages' links to the question's names come along."""
        if keep is not self._keep:
            return super().passage_ids(node_ids, keep)
        unknown = [node_id for node_id in dict.fromkeys(node_ids) if node_id not in self._numbers]
        if unknown:
            self._numbers.update(dict.fromkeys(unknown))
            rare = [node_id for number, node_id in self._node_ids.items() if number not in self._common_links]
            keys, common = keys_of([*unknown, *rare]), list(self._common)
            for passage, node_id, links in self.rows(SEEDS, keep, keys=keys, common=common):
                self._node_ids[passage], self._numbers[node_id], self._common_links[passage] = node_id, passage, links
        known = ((node_id, self._numbers[node_id]) for node_id in node_ids)
        return {node_id: number for node_id, number in known if number is not None}

    def node_ids(self, passages: Ids) -> dict[int, str]:
        """See the store."""
        wanted = passages.tolist()
        unknown = [number for number in wanted if number not in self._node_ids]
        if unknown:
            self._node_ids.update(super().node_ids(np.asarray(unknown, dtype=np.int64)))
        return {number: self._node_ids[number] for number in wanted if number in self._node_ids}

    def links_between(self, passages: Ids, names: Ids) -> Links:
        """See the store; of the question's names, the rare ones' links are all known."""
        wanted, among = passages.tolist(), set(names.tolist())
        if not among <= self._asked:
            return super().links_between(passages, names)
        rare = [
            (passage, name, self._back[name][0], self._rare[name][passage])
            for name in among & self._rare.keys()
            for passage in wanted
            if passage in self._rare[name]
        ]
        unknown = [passage for passage in wanted if passage not in self._common_links] if self._common else []
        missed = set(unknown)
        common = [
            (passage, *link)
            for passage in wanted
            if passage not in missed
            for link in self._common_links.get(passage, ())
            if link[0] in among
        ]
        asked = np.asarray(sorted(among & self._common), dtype=np.int64)
        rest = super().links_between(np.asarray(unknown, dtype=np.int64), asked)
        return _joined(links_of([*rare, *common]), rest)

    def load(self, passages: Ids) -> dict[int, StoredPassage]:
        """See the store."""
        wanted = passages.tolist()
        unknown = [number for number in wanted if number not in self._loaded]
        if unknown:
            self._loaded.update(super().load(np.asarray(unknown, dtype=np.int64)))
        return {number: self._loaded[number] for number in wanted if number in self._loaded}

    def names_in(self, passages: Ids) -> dict[int, list[Link]]:
        """See the store."""
        wanted = passages.tolist()
        unknown = [number for number in wanted if number not in self._links]
        if unknown:
            self._links.update(super().names_in(np.asarray(unknown, dtype=np.int64)))
        return {number: list(self._links[number]) for number in wanted}

    def links_of_passages(self, passages: Ids, rule: NameRule) -> Links:
        """See the store."""
        wanted = passages.tolist()
        unknown = [p for p in wanted if rule != self._rule or p not in self._out]
        missed = set(unknown)
        known = links_of((passage, *link) for passage in wanted if passage not in missed for link in self._out[passage])
        return (
            _joined(known, super().links_of_passages(np.asarray(unknown, dtype=np.int64), rule)) if unknown else known
        )

    def links_of_names(self, names: Ids, keep: Filter | None = None) -> Links:
        """See the store."""
        wanted = names.tolist()
        unknown = [name for name in wanted if keep is not self._keep or name not in self._back]
        missed = set(unknown)
        known = links_of(
            (passage, name, self._back[name][0], titled)
            for name in wanted
            if name not in missed
            for passage, titled in self._back[name][1]
        )
        return _joined(known, super().links_of_names(np.asarray(unknown, dtype=np.int64), keep)) if unknown else known

    def fact_links(self, names: Ids, rule: NameRule, keep: Filter | None = None) -> list[tuple[int, int, int]]:
        """See the store."""
        if not self._has_facts:
            return []
        wanted = names.tolist()
        unknown = [n for n in wanted if keep is not self._keep or rule != self._rule or n not in self._ties]
        missed = set(unknown)
        known = [(name, *tie) for name in wanted if name not in missed for tie in self._ties[name]]
        rest = super().fact_links(np.asarray(unknown, dtype=np.int64), rule, keep) if unknown else []
        return sorted([*known, *rest])


def _joined(known: Links, rest: Links) -> Links:
    return Links(
        np.concatenate([known.passages, rest.passages]),
        np.concatenate([known.names, rest.names]),
        np.concatenate([known.df, rest.df]),
        np.concatenate([known.titled, rest.titled]),
    )
