"""How the Neo4j store is read, each read a single statement; writes nothing and ranks nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ....filters import Filter
from ..base import Fact, Ids, Link, Links, Name, NameRule, Passage, StoredPassage
from ..bm25 import bm25
from ..bolt import Bolt
from .conditions import Conditions
from .schema import Schema, key_of, keys_of
from .tables import NO_PASSAGE, words_of

NAME = "[n.id, n.name, n.df, n.case, n.given]"
"""A name as a list, as `name_of` reads it."""


def admitted(name: str) -> str:
    """Write `NameRule.admits` in Cypher."""
    return f"({name}.df > 1 OR {name}.given) AND {name}.df <= $max_df AND {name}.case >= $min_case"


SEEN_FACT = "(f.passage = $none OR EXISTS { (f)<-[:STATES]-(p:<P>) WHERE <keep p> })"
"""A fact of no passage, or of one that the filter keeps."""
_TERMS = 256
"""Most words of one keyword search, the rarest; Lucene takes 1,024."""
_POOL = 200
"""Fewest passages that a keyword search looks at, before they are scored as the embedded store scores them."""
MARKS = "s.version, s.schema, s.total, s.upper, s.long, s.length"


class Neo4jReads:
    """The reading half of `GraphStore`.

    Args:
        bolt: the connection.
        schema: the store's labels.
    """

    def __init__(self, bolt: Bolt, schema: Schema) -> None:
        self.bolt = bolt
        self.schema = schema
        self._sample: tuple[int, int, list[str]] | None = None  # version, count, node ids

    def find_names(self, candidates: Iterable[str]) -> dict[str, Name]:
        """Look up normalised names; unknown ones are missing from the answer."""
        cypher = f"UNWIND $keys AS key MATCH (n:<N> {{key: key}}) WHERE n.df > 0 OR n.given RETURN {NAME}"
        found = (name_of(row[0]) for row in self.rows(cypher, keys=keys_of(candidates)))
        return {name.name: name for name in found}

    def passage_ids(self, node_ids: Sequence[str], keep: Filter | None = None) -> dict[str, int]:
        """Look up passages by node id; filtered-out and unknown ones are missing from the answer."""
        cypher = "UNWIND $keys AS key MATCH (p:<P> {key: key}) WHERE <keep p> RETURN p.node_id, p.id"
        return dict(self.rows(cypher, keep, keys=keys_of(node_ids)))

    def node_ids(self, passages: Ids) -> dict[int, str]:
        """Give the node id of each passage; unknown ones are missing from the answer."""
        cypher = "UNWIND $ids AS id MATCH (p:<P> {id: id}) RETURN p.id, p.node_id"
        return dict(self.rows(cypher, ids=passages.tolist()))

    def links_of_passages(self, passages: Ids, rule: NameRule) -> Links:
        """Follow passages to those of their names that the rule admits."""
        cypher = (
            f"UNWIND $ids AS id MATCH (p:<P> {{id: id}})-[r:MENTIONS]->(n:<N>) WHERE {admitted('n')}"
            " RETURN p.id, collect([n.id, n.df, r.titled])"
        )
        rows = self.rows(cypher, ids=passages.tolist(), max_df=rule.max_df, min_case=rule.min_case)
        return links_of((passage, *link) for passage, links in rows for link in links)

    def links_of_names(self, names: Ids, keep: Filter | None = None) -> Links:
        """Follow names to their passages, filtered-out passages left aside."""
        cypher = (
            "UNWIND $ids AS id MATCH (n:<N> {id: id})<-[r:MENTIONS]-(p:<P>) WHERE <keep p>"
            " RETURN n.id, n.df, collect([p.id, r.titled])"
        )
        rows = self.rows(cypher, keep, ids=names.tolist())
        return links_of((passage, name, df, titled) for name, df, links in rows for passage, titled in links)

    def links_between(self, passages: Ids, names: Ids) -> Links:
        """List which of the given passages have which of the given names, whatever the rule says of them."""
        if not len(passages) or not len(names):
            return links_of(())
        cypher = (
            "UNWIND $ids AS id MATCH (p:<P> {id: id})-[r:MENTIONS]->(n:<N>) WHERE n.id IN $names"
            " RETURN p.id, collect([n.id, n.df, r.titled])"
        )
        rows = self.rows(cypher, ids=passages.tolist(), names=names.tolist())
        return links_of((passage, *link) for passage, links in rows for link in links)

    def names_in(self, passages: Ids) -> dict[int, list[Link]]:
        """List every name of the given passages, alphabetically."""
        found: dict[int, list[Link]] = {int(passage): [] for passage in passages}
        cypher = (
            "UNWIND $ids AS id MATCH (p:<P> {id: id})-[r:MENTIONS]->(n:<N>)"
            f" RETURN p.id, collect([r.surface, r.titled, {NAME}])"
        )
        for passage, links in self.rows(cypher, ids=passages.tolist()):
            found[passage] = links_in(links)
        return found

    def load(self, passages: Ids) -> dict[int, StoredPassage]:
        """Hand passages back."""
        cypher = "UNWIND $ids AS id MATCH (p:<P> {id: id}) RETURN p.id, p.node_id, p.title, p.text, p.node"
        return {row[0]: StoredPassage(*row) for row in self.rows(cypher, ids=passages.tolist())}

    def facts_about(self, names: Ids, passages: Ids, limit: int) -> list[tuple[Fact, int | None]]:
        """List statements read from the given passages, and those of no passage about the given names, alphabetically.

        Returns:
            each with its passage id or None; at most `limit` per passage, and as many of no passage.
        """
        cypher = (
            "UNWIND $ids AS id MATCH (p:<P> {id: id}) CALL (p) {"
            " MATCH (p)-[:STATES]->(f:<F>) WITH f ORDER BY f.subject, f.relation, f.object LIMIT $limit"
            " RETURN collect([f.subject, f.relation, f.object, p.node_id, f.source]) AS said }"
            " RETURN p.id AS id, said"
            " UNION ALL"
            " CALL () { UNWIND $names AS id MATCH (n:<N> {id: id})<-[:SUBJECT|OBJECT]-(f:<F> {passage: $none})"
            " WITH DISTINCT f ORDER BY f.subject, f.relation, f.object LIMIT $limit"
            " RETURN collect([f.subject, f.relation, f.object, null, f.source]) AS said }"
            " RETURN null AS id, said"
        )
        rows = self.rows(cypher, ids=passages.tolist(), names=names.tolist(), limit=limit, none=NO_PASSAGE)
        ordered = sorted(rows, key=lambda row: (row[0] is None, row[0] or 0))
        return [(Fact(*fact), passage) for passage, said in ordered for fact in said]

    def fact_links(self, names: Ids, rule: NameRule, keep: Filter | None = None) -> list[tuple[int, int, int]]:
        """Follow names to those that a fact ties them to, facts of filtered-out passages left aside.

        Returns:
            (name, other name, the other's df) for every tie, where the rule admits the other.
        """
        if not len(names):
            return []
        cypher = (
            "UNWIND $ids AS id MATCH (near:<N> {id: id})<-[:SUBJECT|OBJECT]-(f:<F>)-[:SUBJECT|OBJECT]->(n:<N>)"
            f" WHERE n <> near AND {admitted('n')} AND {SEEN_FACT} RETURN DISTINCT near.id, n.id, n.df"
        )
        rows = self.rows(cypher, keep, ids=names.tolist(), max_df=rule.max_df, min_case=rule.min_case, none=NO_PASSAGE)
        return sorted((near, name, df) for near, name, df in rows)

    def keyword_scores(self, terms: Iterable[str], top_k: int, keep: Filter | None = None) -> list[tuple[str, float]]:
        """Rank passages by BM25 over plain words, as the embedded store does: (node id, score), best first.

        Lucene finds the passages; the scores of the best few hundred are computed here, from exact frequencies.
        """
        frequencies = self.document_frequencies(terms)
        wanted = sorted(frequencies, key=lambda term: (frequencies[term], term))[:_TERMS]
        if not wanted:
            return []
        cypher = (
            "MATCH (s:HybridmemStore {name: $store}) CALL () { MATCH (p:<P>) RETURN count(p) AS passages }"
            " CALL db.index.fulltext.queryNodes($index, $query) YIELD node AS p, score WHERE <keep p>"
            " WITH s, passages, p LIMIT $pool"
            " RETURN passages, s.length, p.node_id, p.words, p.length"
        )
        rows = self.rows(
            cypher,
            keep,
            store=self.schema.store,
            index=self.schema.words_index,
            query=" OR ".join(f'"{term}"' for term in wanted),
            pool=max(_POOL, 4 * top_k),
        )
        scored = [
            (node_id, bm25(words_of(words), length, frequencies, passages, total))
            for passages, total, node_id, words, length in rows
        ]
        found = [hit for hit in scored if hit[1] > 0]  # Lucene finds overlong words by their pieces, too
        return sorted(found, key=lambda hit: (-hit[1], hit[0]))[:top_k]

    def sample(self, count: int) -> list[str]:
        """List the first node ids in alphabetical order; ids that are UUIDs make that a random sample."""
        return self.sample_of(self._marks()["version"], count)

    def sample_of(self, version: int, count: int) -> list[str]:
        """Give the sample of the store as of a version, fetched once."""
        if self._sample is None or self._sample[:2] != (version, count):
            cypher = "MATCH (p:<P>) WHERE p.key >= '' WITH p ORDER BY p.key LIMIT $count RETURN p.node_id"
            self._sample = version, count, [row[0] for row in self.rows(cypher, count=count)]
        return self._sample[2]

    def document_frequencies(self, terms: Iterable[str]) -> dict[str, int]:
        """Count the passages that have each word, in title or text; words not found are missing from the answer."""
        by_key = {key_of(term): term for term in terms}
        rows = self.rows("UNWIND $keys AS key MATCH (w:<W> {key: key}) RETURN w.key, w.df", keys=list(by_key))
        return {by_key[key]: df for key, df in rows}

    @property
    def passage_count(self) -> int:
        """Number of passages."""
        return int(self._marks()["passages"])

    @property
    def capital_share(self) -> float:
        """Share of all counted mentions written with capitals, 1.0 when none was counted."""
        return shares(self._marks())[0]

    @property
    def long_share(self) -> float:
        """Share of passages longer than the encoder reads."""
        return shares(self._marks())[1]

    def stats(self) -> dict[str, int]:
        """Count passages, documents, names, links and facts."""
        cypher = (
            "CALL () { MATCH (p:<P>) RETURN count(p) AS passages, count(DISTINCT p.doc_key) AS documents }"
            " CALL () { MATCH (n:<N>) RETURN count(n) AS names }"
            " CALL () { MATCH (:<P>)-[r:MENTIONS]->() RETURN count(r) AS links }"
            " CALL () { MATCH (f:<F>) RETURN count(f) AS facts }"
            " RETURN passages, names, links, facts, documents"
        )
        return dict(zip(("passages", "names", "links", "facts", "documents"), self.scan(cypher)[0], strict=True))

    def documents(self) -> dict[str, str]:
        """Give the hash of every document that has passages."""
        return dict(self.scan("MATCH (p:<P>) RETURN p.doc_id, max(p.doc_hash) ORDER BY p.doc_id"))

    def document_node_ids(self, doc_id: str) -> list[str]:
        """List the node ids of one document."""
        cypher = "MATCH (p:<P> {doc_key: $key}) RETURN p.node_id ORDER BY p.id"
        return [row[0] for row in self.rows(cypher, key=key_of(doc_id))]

    def export_passages(self, after: str | None, limit: int) -> list[Passage]:
        """Give passages whole, in the order of their keys; see `PortableGraphStore`."""
        later = ">=" if after is None else ">"
        cypher = (
            f"MATCH (p:<P>) WHERE p.key {later} $after WITH p ORDER BY p.key LIMIT $limit"
            " RETURN p.node_id, p.doc_id, p.title, p.text, p.declared, p.elements, p.node, p.doc_hash, p.long, p.lead,"
            " [(p)-[:STATES]->(f:<F>) | [f.subject, f.relation, f.object, p.node_id, f.source]]"
        )
        rows = self.scan(cypher, after=key_of(after or ""), limit=limit)
        return [_passage(*row) for row in rows]

    def stated(self) -> tuple[list[str], list[Fact]]:
        """List the names and facts that the user stated; see `PortableGraphStore`."""
        names = sorted(row[0] for row in self.scan("MATCH (n:<N>) WHERE n.given RETURN n.name"))
        cypher = "MATCH (f:<F> {passage: $none}) RETURN f.subject, f.relation, f.object, null, f.source"
        facts = [Fact(*row) for row in self.scan(cypher, none=NO_PASSAGE)]
        return names, sorted(facts, key=lambda fact: (fact.subject, fact.relation, fact.object))

    def rows(self, cypher: str, keep: Filter | None = None, **parameters: object) -> list[list[Any]]:
        """Read: labels stand as in `Schema.fill`, `<keep p>` stands for the filter on a passage `p`."""
        if "<keep p>" in cypher:
            conditions = Conditions()
            cypher = cypher.replace("<keep p>", conditions.write(keep, "p"))
            parameters.update(conditions.parameters)
        return self.bolt.read(self.schema.fill(cypher), parameters)

    def scan(self, cypher: str, **parameters: object) -> list[list[Any]]:
        """Read what takes the longer the more the store holds: with the time of a write."""
        return self.bolt.read(self.schema.fill(cypher), parameters, timeout_s=self.bolt.write_timeout_s)

    def _marks(self) -> dict[str, Any]:
        cypher = (
            "CALL () { MATCH (p:<P>) RETURN count(p) AS passages } OPTIONAL MATCH (s:HybridmemStore {name: $store})"
            f" RETURN {MARKS}, passages"
        )
        return marks_of(self.rows(cypher, store=self.schema.store)[0])


def marks_of(row: Sequence[Any]) -> dict[str, Any]:
    """Name the store-wide counts; a store that nothing was written to counts nothing."""
    return dict(
        zip(("version", "schema", "total", "upper", "long", "length", "passages"), (x or 0 for x in row), strict=True)
    )


def shares(marks: Mapping[str, Any]) -> tuple[float, float]:
    """Give capital share and long share; see `GraphStore`."""
    capital = marks["upper"] / marks["total"] if marks["total"] else 1.0
    return capital, marks["long"] / marks["passages"] if marks["passages"] else 0.0


def name_of(cells: Sequence[Any]) -> Name:
    """Read a name."""
    number, name, df, case, given = cells
    return Name(number, name, df, case, given)


def links_in(rows: Iterable[Sequence[Any]]) -> list[Link]:
    """Read the names of a passage, alphabetically."""
    found = [Link(name_of(name), surface, titled) for surface, titled, name in rows if surface is not None]
    return sorted(found, key=lambda link: link.name.name)


def links_of(rows: Iterable[Sequence[Any]]) -> Links:
    """Pack (passage, name, df, titled)."""
    table = np.asarray(list(rows), dtype=np.int64).reshape(-1, 4)
    return Links(table[:, 0], table[:, 1], table[:, 2], table[:, 3].astype(bool))


def _passage(
    node_id: str, doc_id: str, title: str, text: str, names: list[str], elements: str, node: str, doc_hash: str,
    long: bool, lead: bool, facts: list[list[Any]],
) -> Passage:  # fmt: skip
    metadata = {key: values if len(values) > 1 else values[0] for key, values in json.loads(elements).items()}
    return Passage(
        node_id, doc_id, title, text, tuple(names), metadata, tuple(Fact(*fact) for fact in sorted(facts)), node,
        doc_hash, long, lead,
    )  # fmt: skip
