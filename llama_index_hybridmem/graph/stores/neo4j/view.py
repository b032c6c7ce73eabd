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
from ...entities import spans_of, terms
from ..base import Ids, Links, Name, NameRule, Push
from .reads import SEEN_FACT, Neo4jReads, admitted, keys_of, links_of, marks_of, name_of, shares
from .schema import key_of
from .tables import NO_PASSAGE

RARE_DF = 100
"""Passages of names in at most so many are fetched with the name; the search takes them all as candidates."""
_SLACK = 0.999
"""The server adds up mass in another order; what lies this near the tolerance is fetched, too."""

_ASKED = "[(p)-[q:MENTIONS]->(m:<N>) WHERE m.id IN $asked | [m.id, m.df, q.titled]]"
_TIES = (
    "[(n)<-[:SUBJECT|OBJECT]-(f:<F>)-[:SUBJECT|OBJECT]->(e:<N>)"
    f" WHERE e <> n AND {admitted('e')} AND {SEEN_FACT} | [e.id, e.df]]"
)

_QUESTION = """
CALL () { MATCH (p:<P>) RETURN count(p) AS passages }
CALL () { MATCH (f:<F>) RETURN count(f) AS facts }
CALL () { UNWIND $words AS word MATCH (w:<W> {key: word}) RETURN collect([w.key, w.df]) AS frequencies }
CALL () {
  UNWIND $keys AS key MATCH (n:<N> {key: key}) WHERE n.df > 0 OR n.given RETURN collect(n) AS asked
}
CALL (asked) {
  UNWIND asked AS n
  RETURN collect([[n.id, n.name, n.df, n.case, n.given], CASE WHEN n.df <= $rare THEN
    [(n)<-[r:MENTIONS]-(p:<P>) WHERE <keep p> | [p.id, p.node_id, r.titled,
      [(p)-[q:MENTIONS]->(m:<N>) WHERE m IN asked | [m.id, m.df, q.titled]]]] END]) AS names
}
OPTIONAL MATCH (s:HybridmemStore {name: $store})
RETURN s.version, s.schema, s.total, s.upper, s.long, s.length, passages, facts, names, frequencies
"""

_SEEDS = f"UNWIND $keys AS key MATCH (p:<P> {{key: key}}) WHERE <keep p> RETURN p.id, p.node_id, {_ASKED}"

_AT_NAMES = f"""
  WITH n, sum(m) AS m WHERE m >= $tolerance
  WITH n, m, CASE WHEN m >= $tolerance * n.df
    THEN [(n)<-[r:MENTIONS]-(p:<P>) WHERE <keep p> | [p, r.titled]] ELSE null END AS back,
    CASE WHEN $facts THEN {_TIES} ELSE [] END AS ties
  RETURN collect({{n: n, m: m, back: back, ties: ties}})"""
_AT_PASSAGES = f"""
  WITH p, sum(m) AS m WHERE m >= $tolerance
  RETURN collect({{p: p, m: m, out: [(p)-[r:MENTIONS]->(n:<N>) WHERE {admitted("n")} | [n, r.titled]]}})"""
_STARTS = "UNWIND $names AS start MATCH (n:<N> {id: start[0]}) RETURN n, start[1] AS m"
_HELD = "UNWIND $held AS start MATCH (p:<P> {id: start[0]}) RETURN p, start[1] AS m"
_FROM_TIES = (
    "UNWIND {0} AS e UNWIND e.ties AS tie MATCH (n:<N> {{id: tie[0]}})"
    " RETURN n, $damping * $fact_share * e.m / size(e.ties) AS m"
)
_FROM_PASSAGES = "UNWIND {0} AS e UNWIND e.out AS o RETURN o[0] AS n, $damping * e.m / size(e.out) AS m"
_FROM_NAMES = "UNWIND {0} AS e UNWIND e.back AS b RETURN b[0] AS p, $damping * e.m / size(e.back) AS m"

_WALK = f"""
CALL () {{ CALL () {{ {_HELD} }} {_AT_PASSAGES} AS first }}
CALL () {{
  CALL () {{ {_STARTS} }} RETURN collect({{n: n, m: m, ties: CASE WHEN $facts THEN {_TIES} ELSE [] END}}) AS starts
}}
CALL (first, starts) {{
  CALL (first, starts) {{
    {_STARTS} UNION ALL {_FROM_TIES.format("starts")} UNION ALL {_FROM_PASSAGES.format("first")}
  }}
  {_AT_NAMES} AS near
}}
CALL (near) {{ CALL (near) {{ {_HELD} UNION ALL {_FROM_NAMES.format("near")} }} {_AT_PASSAGES} AS second }}
CALL (second, near) {{
  CALL (second, near) {{ {_STARTS} UNION ALL {_FROM_TIES.format("near")} UNION ALL {_FROM_PASSAGES.format("second")} }}
  {_AT_NAMES} AS far
}}
CALL (far) {{ CALL (far) {{ {_HELD} UNION ALL {_FROM_NAMES.format("far")} }} {_AT_PASSAGES} AS third }}
CALL (first, second, third) {{
  UNWIND first + second + third AS e WITH DISTINCT e.p AS p, e.out AS out
  RETURN collect([p.id, p.node_id, [o IN out | [o[0].id, o[0].df, o[1]]], {_ASKED}]) AS passages
}}
CALL (starts, near, far) {{
  UNWIND starts + near + far AS e WITH e.n AS n, collect(e) AS each
  WITH n, head([e IN each WHERE e.back IS NOT NULL | e.back]) AS back, each[0].ties AS ties
  RETURN collect([n.id, n.df, [b IN back | [b[0].id, b[1]]], ties]) AS names
}}
RETURN passages, names
"""


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
        self._asked_links: dict[int, list[list[Any]]] = {}  # passage -> its links to the question's names
        self._out: dict[int, list[list[Any]]] = {}  # passage -> the links that the rule admits
        self._back: dict[int, tuple[int, list[list[Any]]]] = {}  # name -> its df and its links
        self._ties: dict[int, list[tuple[int, int]]] = {}  # name -> the names that facts tie it to, with their df
        self._fetch_question(question)

    # -- what is fetched together -------------------------------------------------------------------------------------

    def _fetch_question(self, question: str) -> None:
        self._spans = set(spans_of(question))
        self._words = {key_of(word): word for word in terms(question)}
        parameters: dict[str, Any] = {"store": self.schema.store, "rare": RARE_DF}
        row = self.rows(_QUESTION, self._keep, keys=keys_of(self._spans), words=keys_of(self._words), **parameters)[0]
        self._seen_marks = marks_of(row[:7])
        self._has_facts = row[7] > 0
        self._names: dict[str, Name] = {}
        for cells, links in row[8]:
            name = name_of(cells)
            self._names[name.name] = name
            if links is not None:
                self._back[name.id] = (name.df, [[passage, titled] for passage, _, titled, _ in links])
                for passage, node_id, _, asked in links:
                    self._learn(passage, node_id, asked)
        self._frequencies = {self._words[key]: df for key, df in row[9]}
        self._asked = {name.id for name in self._names.values()}

    def foresee_walk(
        self, passages: Mapping[int, float], names: Mapping[int, float], rule: NameRule, push: Push
    ) -> None:
        """Fetch what a walk from these starting points will follow, in one trip; see `base.ForesightedView`."""
        if rule != self._rule:
            self._out, self._ties, self._rule = {}, {}, rule
        held = [[number, mass] for number, mass in passages.items() if mass >= push.tolerance]
        found = self.rows(
            _WALK,
            self._keep,
            held=held,
            names=[[number, mass] for number, mass in names.items()],
            asked=list(self._asked),
            tolerance=push.tolerance * _SLACK,
            damping=push.damping,
            fact_share=push.fact_share,
            facts=self._has_facts,
            none=NO_PASSAGE,
            max_df=rule.max_df,
            min_case=rule.min_case,
        )
        for number, node_id, out, asked in found[0][0]:
            self._learn(number, node_id, asked)
            self._out[number] = out
        for number, df, back, ties in found[0][1]:
            self._ties[number] = sorted({(end, end_df) for end, end_df in ties})
            if back is not None:
                self._back[number] = (df, back)

    def _learn(self, passage: int, node_id: str, asked: list[list[Any]]) -> None:
        self._node_ids[passage] = node_id
        self._numbers[node_id] = passage
        self._asked_links[passage] = asked

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
            for passage, node_id, asked in self.rows(_SEEDS, keep, keys=keys_of(unknown), asked=list(self._asked)):
                self._learn(passage, node_id, asked)
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
        """See the store."""
        wanted, among = passages.tolist(), set(names.tolist())
        unknown = wanted if not among <= self._asked else [p for p in wanted if p not in self._asked_links]
        missed = set(unknown)
        known = [
            (passage, *link)
            for passage in wanted
            if passage not in missed
            for link in self._asked_links[passage]
            if link[0] in among
        ]
        rest = super().links_between(np.asarray(unknown, dtype=np.int64), names)
        return _joined(links_of(known), rest)

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
