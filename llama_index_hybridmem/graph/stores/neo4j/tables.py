"""The Neo4j store as the linker writes it: batches of Cypher in one transaction; decides nothing about links."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from ....filters import elements
from ...entities import Gazetteer, words
from ..bolt import Transaction
from ..linking import Change, FactRow, LinkRow, Removed, Row, Written
from .conditions import fields_of
from .schema import Schema, key_of, keys_of

Search = Callable[[str, Mapping[str, object]], list[list[Any]]]

_PHRASES_PER_SEARCH = 512
_ROWS_PER_STATEMENT = 5_000
NO_PASSAGE = 0
_COLUMN_GAP = " | "
"""Stands between the words of title and text, so that no phrase is found across."""
_CASE = "CASE WHEN n.given OR n.total = 0 THEN 1.0 ELSE toFloat(n.upper) / n.total END"


class Neo4jTables:
    """See `linking.Tables`.

    Args:
        transaction: an open one that holds the store's lock.
        schema: the store's labels.
        search: runs a full-text search outside the transaction, on what was committed. Within, the index would be
            rebuilt over all of the transaction's own passages for each search; those are linked afresh anyway.
    """

    def __init__(self, transaction: Transaction, schema: Schema, search: Search) -> None:
        self._transaction = transaction
        self._schema = schema
        self._search = search
        self._removed: set[int] = set()
        self.changed = False
        """Whether anything was written."""

    def find(self, node_ids: Iterable[str], doc_ids: Iterable[str]) -> list[tuple[int, str, str]]:
        """Look up passages by node id or document id: (number, node id, digest)."""
        wanted = {"key": keys_of(node_ids), "doc_key": keys_of(doc_ids)}
        found = {
            row[0]: (row[0], row[1], row[2])
            for field, keys in wanted.items()
            for row in self._each(
                f"UNWIND $rows AS key MATCH (p:<P> {{{field}: key}}) RETURN p.id, p.node_id, p.digest", keys
            )
        }
        return list(found.values())

    def name_count(self) -> int:
        """Count the names."""
        return int(self._run("MATCH (n:<N>) RETURN count(n)")[0][0])

    def names(self, heads: Sequence[str] | None = None) -> list[str]:
        """List the names, all or those that begin with one of the given heads."""
        if heads is None:
            return [row[0] for row in self._run("MATCH (n:<N>) RETURN n.name")]
        return [row[0] for row in self._each("UNWIND $rows AS head MATCH (n:<N> {head: head}) RETURN n.name", heads)]

    def numbers(self, count: int) -> range:
        """Take new numbers, for passages and names; none is given twice."""
        cypher = "MATCH (s:HybridmemStore {name: $store}) SET s.next = s.next + $count RETURN s.next"
        after = self._run(cypher, store=self._schema.store, count=count)[0][0]
        return range(after - count, after)

    def insert(self, rows: Sequence[Row]) -> list[int]:
        """Insert passages without their links; returns their new numbers."""
        self.changed = True
        numbers = self.numbers(len(rows))
        self._each(
            "UNWIND $rows AS row CREATE (p:<P>) SET p = row",
            [_passage_row(number, row) for number, row in zip(numbers, rows, strict=True)],
        )
        self.insert_facts([(number, fact) for number, row in zip(numbers, rows, strict=True) for fact in row.facts])
        self._count_words([_all_words(row.title_words, row.text_words) for row in rows], +1)
        return list(numbers)

    def remove(self, passages: Sequence[int]) -> Removed:
        """Delete passages, whose links are gone already, with their facts."""
        self.changed = True
        self._removed.update(passages)
        rows = self._run(
            "UNWIND $ids AS id MATCH (p:<P> {id: id}) RETURN p.declared, p.long, p.words", ids=list(passages)
        )
        self._run(
            "UNWIND $ids AS id MATCH (p:<P> {id: id}) OPTIONAL MATCH (p)-[:STATES]->(f:<F>) DETACH DELETE f, p",
            ids=list(passages),
        )
        self._count_words([row[2] for row in rows], -1)
        return Removed(Counter(name for row in rows for name in row[0]), sum(row[1] for row in rows))

    def passage_count(self) -> int:
        """Count the passages."""
        return int(self._run("MATCH (p:<P>) RETURN count(p)")[0][0])

    def change_names(self, uses: Mapping[str, int], given: Collection[str]) -> tuple[list[str], list[str]]:
        """Change how many passages declare each name, and mark those the user gave; see `linking.Tables`."""
        touched = list(dict.fromkeys([*uses, *given]))
        known_ones = "UNWIND $rows AS key MATCH (n:<N> {key: key}) RETURN n.name"
        known = {row[0] for row in self._each(known_ones, list(map(key_of, touched)))}
        fresh = [name for name in touched if name not in known]
        numbers = self.numbers(len(fresh)) if fresh else ()
        self._each(
            "UNWIND $rows AS row CREATE (n:<N> {id: row[0], key: row[1], name: row[2], head: row[3], df: 0, total: 0,"
            " upper: 0, case: 1.0, uses: 0, given: false})",
            [[number, key_of(name), name, head_of(name)] for number, name in zip(numbers, fresh, strict=True)],
        )
        self._each(
            "UNWIND $rows AS row MATCH (n:<N> {key: row[0]}) SET n.uses = n.uses + row[1]",
            [[key_of(name), change] for name, change in uses.items()],
        )
        newly = self._each(
            "UNWIND $rows AS key MATCH (n:<N> {key: key}) WHERE NOT n.given SET n.given = true"
            f" SET n.case = {_CASE} RETURN n.key",
            [key_of(name) for name in given],
        )
        self.changed = self.changed or bool(uses or newly)
        for end in ("subject", "object"):
            cypher = (
                f"UNWIND $rows AS key MATCH (n:<N> {{key: key}}) MATCH (f:<F> {{{end}_key: key}})"
                f" MERGE (f)-[:{end.upper()}]->(n)"
            )
            self._each(cypher, [key_of(name) for name in fresh])
        gone = "UNWIND $rows AS key MATCH (n:<N> {key: key}) WHERE n.uses = 0 AND NOT n.given RETURN n.name"
        vanished = [row[0] for row in self._each(gone, [key_of(name) for name in touched])]
        return sorted(set(fresh).difference(vanished)), vanished

    def passages_with(self, names: Sequence[str]) -> set[int]:
        """Find the passages that have one of the names, a sequence of words, in title or text."""
        found: set[int] = set()
        for start in range(0, len(names), _PHRASES_PER_SEARCH):
            query = " OR ".join(f'"{name}"' for name in names[start : start + _PHRASES_PER_SEARCH])
            cypher = "CALL db.index.fulltext.queryNodes($index, $query) YIELD node RETURN node.id"
            rows = self._search(cypher, {"index": self._schema.words_index, "query": query})
            found.update(row[0] for row in rows)
        return found - self._removed

    def linked_to(self, names: Sequence[str]) -> set[int]:
        """Find the passages linked to one of the names."""
        cypher = "UNWIND $rows AS key MATCH (n:<N> {key: key})<-[:MENTIONS]-(p:<P>) RETURN DISTINCT p.id"
        return {row[0] for row in self._each(cypher, [key_of(name) for name in names])}

    def written(self, passages: Sequence[int]) -> dict[int, Written]:
        """Read what links are computed from."""
        cypher = (
            "UNWIND $ids AS id MATCH (p:<P> {id: id}) RETURN p.id, CASE WHEN p.lead THEN p.title ELSE '' END, p.text,"
            " [(p)-[:STATES]->(f:<F>) | [f.subject, f.relation, f.object]]"
        )
        rows = self._run(cypher, ids=list(passages))
        return {row[0]: Written(row[1], row[2], tuple((f[0], f[1], f[2]) for f in row[3])) for row in rows}

    def links_of(self, passages: Sequence[int]) -> dict[int, dict[str, LinkRow]]:
        """Read the links of passages, by name."""
        cypher = (
            "UNWIND $ids AS id MATCH (p:<P> {id: id}) RETURN p.id, [(p)-[r:MENTIONS]->(n:<N>) |"
            " [n.name, r.total, r.upper, r.titled, r.surface]]"
        )
        rows = self._run(cypher, ids=list(passages))
        return {
            passage: {name: (total, upper, int(titled), surface) for name, total, upper, titled, surface in links}
            for passage, links in rows
        }

    def relink(self, gone: Sequence[tuple[int, str]], come: Sequence[tuple[int, str, LinkRow]]) -> None:
        """Delete and insert links; a link that changes is in both."""
        self._each(
            "UNWIND $rows AS row MATCH (p:<P> {id: row[0]})-[r:MENTIONS]->(n:<N> {key: row[1]}) DELETE r",
            [[passage, key_of(name)] for passage, name in gone],
        )
        self._each(
            "UNWIND $rows AS row MATCH (p:<P> {id: row[0]}) MATCH (n:<N> {key: row[1]})"
            " CREATE (p)-[:MENTIONS {total: row[2], upper: row[3], titled: row[4], surface: row[5]}]->(n)",
            [[passage, key_of(name), link[0], link[1], bool(link[2]), link[3]] for passage, name, link in come],
        )

    def count_mentions(self, changes: Mapping[str, Change]) -> None:
        """Change what is counted of each name."""
        self._each(
            "UNWIND $rows AS row MATCH (n:<N> {key: row[0]})"
            " SET n.df = n.df + row[1], n.total = n.total + row[2], n.upper = n.upper + row[3]"
            f" SET n.case = {_CASE}",
            [[key_of(name), *change] for name, change in changes.items()],
        )

    def forget_names(self, names: Sequence[str]) -> None:
        """Delete names that nothing is linked to any more."""
        self._each("UNWIND $rows AS key MATCH (n:<N> {key: key}) DETACH DELETE n", [key_of(name) for name in names])

    def count(self, changes: Mapping[str, int]) -> None:
        """Change what is counted over the whole store."""
        for key in changes.keys() & {"total", "upper", "long", "length", "version"}:
            cypher = f"MATCH (s:HybridmemStore {{name: $store}}) SET s.{key} = s.{key} + $change"
            self._run(cypher, store=self._schema.store, change=changes[key])

    def insert_facts(self, facts: Iterable[tuple[int, FactRow]]) -> None:
        """Write facts, each with its passage or `NO_PASSAGE`; of several sources of one the first by name stays."""
        rows = [_fact_row(passage, fact) for passage, fact in facts]
        written = self._each(
            "UNWIND $rows AS row MERGE (f:<F> {key: row.key})"
            " WITH f, row WHERE f.source IS NULL OR row.source < f.source SET f = row RETURN f.key",
            rows,
        )
        self.changed = self.changed or bool(written)
        self._each(
            "UNWIND $rows AS row MATCH (p:<P> {id: row.passage}) MATCH (f:<F> {key: row.key}) MERGE (p)-[:STATES]->(f)",
            [row for row in rows if row["passage"] != NO_PASSAGE],
        )
        for end in ("subject", "object"):  # names that come later find their facts themselves
            self._each(
                f"UNWIND $rows AS row MATCH (f:<F> {{key: row.key}}) MATCH (n:<N> {{key: row.{end}_key}})"
                f" MERGE (f)-[:{end.upper()}]->(n)",
                rows,
            )

    def _count_words(self, texts: Sequence[str], sign: int) -> None:
        """Follow in how many passages each word is, and how many words there are."""
        found: Counter[str] = Counter()
        length = 0
        for text in texts:
            listed = words_of(text)
            length += len(listed)
            found.update(set(listed))
        changes = [[key_of(word), sign * count] for word, count in found.items()]
        if sign > 0:
            self._each("UNWIND $rows AS row MERGE (w:<W> {key: row[0]}) SET w.df = coalesce(w.df, 0) + row[1]", changes)
        else:
            self._each(
                "UNWIND $rows AS row MATCH (w:<W> {key: row[0]}) SET w.df = w.df + row[1]"
                " WITH w WHERE w.df <= 0 DETACH DELETE w",
                changes,
            )
        if length:
            self.count({"length": sign * length})

    def _each(self, cypher: str, rows: Sequence[object], **parameters: object) -> list[list[Any]]:
        """Run a statement over `$rows`, some thousand at a time; not at all over none."""
        found: list[list[Any]] = []
        for start in range(0, len(rows), _ROWS_PER_STATEMENT):
            found += self._run(cypher, rows=rows[start : start + _ROWS_PER_STATEMENT], **parameters)
        return found

    def _run(self, cypher: str, **parameters: object) -> list[list[Any]]:
        return self._transaction.run(self._schema.fill(cypher), parameters)


class AskedDictionary:
    """The names of a store whose dictionary is too large to hold: those in the texts at hand are looked up.

    A name is found by its first two words (its only one, if it has no second), so that looking up every pair of
    neighbouring words in a text finds every name in it.
    """

    def __init__(self, tables: Neo4jTables) -> None:
        self._tables = tables
        self._vanished: set[str] = set()  # in the database until the transaction's end

    def within(self, texts: Iterable[str]) -> Gazetteer:
        """See `linking.Dictionary`."""
        heads: set[str] = set()
        for text in texts:
            found = words(text).texts
            heads.update(found)
            heads.update(map(" ".join, zip(found, found[1:], strict=False)))
        gazetteer = Gazetteer(self._tables.names(sorted(map(key_of, heads))))
        gazetteer.discard(self._vanished)
        return gazetteer

    def change(self, appeared: Collection[str], vanished: Collection[str]) -> None:
        """See `linking.Dictionary`; the tables themselves are asked each time."""
        self._vanished.update(vanished)


def head_of(name: str) -> str:
    """Give the words a name is looked up by in a text: its first two."""
    return key_of(" ".join(name.split(" ", 2)[:2]))


def words_of(indexed: str) -> list[str]:
    """List the words of a passage from its indexed form."""
    return [word for word in indexed.split(" ") if word and word != _COLUMN_GAP.strip()]


def _all_words(title: str, text: str) -> str:
    return f"{title}{_COLUMN_GAP}{text}"


def _fact_row(passage: int, fact: FactRow) -> dict[str, object]:
    subject, relation, target, source, subject_name, object_name = fact
    parts = json.dumps([passage, subject, relation, target])
    return {
        "key": hashlib.sha256(parts.encode()).hexdigest(),
        "passage": passage,
        "subject": subject,
        "relation": relation,
        "object": target,
        "source": source,
        "subject_key": key_of(subject_name),
        "object_key": key_of(object_name),
    }


def _passage_row(number: int, row: Row) -> dict[str, object]:
    passage = row.passage
    indexed = _all_words(row.title_words, row.text_words)
    kept = {key: found for key, field in passage.metadata.items() if (found := elements(field))}
    return {
        **fields_of(passage.metadata),
        "id": number,
        "key": key_of(passage.node_id),
        "node_id": passage.node_id,
        "doc_key": key_of(passage.doc_id),
        "doc_id": passage.doc_id,
        "title": passage.title,
        "lead": passage.lead,
        "text": passage.text,
        "node": passage.node,
        "digest": row.digest,
        "doc_hash": passage.doc_hash,
        "long": passage.long,
        "words": indexed,
        "length": len(words_of(indexed)),
        "declared": sorted(row.declared),
        "elements": json.dumps(kept),
    }
