"""The embedded graph store: one SQLite file (or memory), one writer at a time, many readers; ranks nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConfigurationError
from ...filters import Filter
from ..entities import Gazetteer, is_short, normalise
from . import copies
from .base import Fact, Ids, Link, Links, Name, NameRule, Passage, StoredPassage
from .conditions import Sql, to_sql
from .database import Database
from .linking import HeldDictionary, Linker, Row, digest, fact_rows, stated_names
from .schema import NO_PASSAGE, SCHEMA, VERSION
from .sqlite_tables import SqliteTables

_AMONG = "IN (SELECT value FROM json_each(?))"
_CASE = "CASE WHEN name.given OR NOT name.total THEN 1.0 ELSE 1.0 * name.upper / name.total END"
_NAME_COLUMNS = f"name.id, name.name, name.df, {_CASE}, name.given"
_ADMITTED = f"(name.df > 1 OR name.given) AND name.df <= ? AND {_CASE} >= ?"
"""`NameRule.admits` in SQL."""


class SqliteGraphStore:
    """A graph store in one SQLite file.

    Readers never wait for the writer; a commit survives the death of the process (see `Database`). Safe to share
    between threads; other processes may read the file, too, and take turns writing.

    Args:
        path: the file, created when absent; None keeps everything in memory.

    Raises:
        StoreDamagedError: the file is no database, or damaged.
        StoreMismatchError: it is another application's database, or has another version of the schema.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path is not None else None
        self._database = Database(self.path, SCHEMA, VERSION)
        self._known: tuple[int, Gazetteer] | None = None  # version of the tables, dictionary as of then

    def __reduce__(self) -> tuple[type[SqliteGraphStore], tuple[Path]]:
        if self.path is None:
            raise ConfigurationError("a graph store in memory cannot go to another process; give it a path")
        return SqliteGraphStore, (self.path,)

    # -- writing ------------------------------------------------------------------------------------------------------

    def upsert(self, passages: Sequence[Passage]) -> None:
        """Add or replace passages by node id in one transaction; unchanged ones are left alone."""
        self.replace((), passages)

    def replace(self, doc_ids: Iterable[str], passages: Sequence[Passage]) -> None:
        """Make the given passages all there is of the given documents, in one transaction; unchanged ones stay."""
        latest = {passage.node_id: passage for passage in passages}
        digests = {node_id: digest(passage) for node_id, passage in latest.items()}
        with self._writing() as (connection, linker):
            rows = connection.execute(
                f"SELECT id, node_id, digest FROM passage WHERE node_id {_AMONG} OR doc_id {_AMONG}",
                (_json(latest), _json(doc_ids)),
            ).fetchall()
            same = {node_id for _, node_id, digest in rows if digests.get(node_id) == digest}
            linker.remove(number for number, node_id, _ in rows if node_id not in same)
            linker.add([Row.of(one, digests[node_id]) for node_id, one in latest.items() if node_id not in same])

    def delete(self, *, node_ids: Iterable[str] = (), doc_ids: Iterable[str] = ()) -> None:
        """Remove passages by node id or document id in one transaction; unknown ids are ignored."""
        with self._writing() as (connection, linker):
            sql = f"SELECT id FROM passage WHERE node_id {_AMONG} OR doc_id {_AMONG}"
            linker.remove([row[0] for row in connection.execute(sql, (_json(node_ids), _json(doc_ids)))])

    def await_writes(self) -> None:
        """Do nothing: a write here has ended when its call returns."""

    def add_names(self, names: Iterable[str]) -> None:
        """Add names the user knows of; they are linked to every passage, old or new, that has them."""
        with self._writing() as (_, linker):
            linker.give(name for raw in names if (name := normalise(raw)) and is_short(name))

    def add_facts(self, facts: Sequence[Fact]) -> None:
        """Add statements that belong to no passage; ends written as names join the dictionary."""
        with self._writing() as (connection, linker):
            SqliteTables(connection).insert_facts(fact_rows(facts), NO_PASSAGE)
            linker.give(name for fact in facts for name in stated_names(fact))

    @contextmanager
    def _writing(self) -> Iterator[tuple[sqlite3.Connection, Linker]]:
        with self._database.writing() as connection:
            version, gazetteer = self._dictionary(connection)
            self._known = None  # what follows puts it ahead of the tables, until they are committed
            before = connection.total_changes
            linker = Linker(SqliteTables(connection), HeldDictionary(gazetteer))
            yield connection, linker
            linker.settle()
            if connection.total_changes > before:
                version += 1
                connection.execute("UPDATE meta SET value = ? WHERE key = 'version'", (version,))
        self._known = version, gazetteer

    def _dictionary(self, connection: sqlite3.Connection) -> tuple[int, Gazetteer]:
        version = int(connection.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()[0])
        if self._known is not None and self._known[0] == version:  # else another process has written
            return self._known
        return version, Gazetteer(row[0] for row in connection.execute("SELECT name FROM name"))

    # -- reading ------------------------------------------------------------------------------------------------------

    def find_names(self, candidates: Iterable[str]) -> dict[str, Name]:
        """Look up normalised names; unknown ones are missing from the answer."""
        sql = f"SELECT {_NAME_COLUMNS} FROM name WHERE name {_AMONG} AND (df > 0 OR given)"
        return {row[1]: _name(row) for row in self._rows(sql, _json(candidates))}

    def passage_ids(self, node_ids: Sequence[str], keep: Filter | None = None) -> dict[str, int]:
        """Look up passages by node id; filtered-out and unknown ones are missing from the answer."""
        condition, values = _kept(keep, "passage.id")
        sql = f"SELECT node_id, id FROM passage WHERE node_id {_AMONG} AND {condition}"
        return dict(self._rows(sql, _json(node_ids), *values))

    def node_ids(self, passages: Ids) -> dict[int, str]:
        """Give the node id of each passage; unknown ones are missing from the answer."""
        return dict(self._rows(f"SELECT id, node_id FROM passage WHERE id {_AMONG}", _json(passages)))

    def links_of_passages(self, passages: Ids, rule: NameRule) -> Links:
        """Follow passages to those of their names that the rule admits."""
        sql = (
            "SELECT link.passage_id, link.name_id, name.df, link.titled FROM json_each(?) AS wanted"
            f" JOIN link ON link.passage_id = wanted.value JOIN name ON name.id = link.name_id WHERE {_ADMITTED}"
        )
        return _links(self._rows(sql, _json(passages), rule.max_df, rule.min_case))

    def links_of_names(self, names: Ids, keep: Filter | None = None) -> Links:
        """Follow names to their passages, filtered-out passages left aside."""
        condition, values = _kept(keep, "link.passage_id")
        sql = (
            "SELECT link.passage_id, link.name_id, name.df, link.titled FROM json_each(?) AS wanted"
            f" JOIN link ON link.name_id = wanted.value JOIN name ON name.id = link.name_id WHERE {condition}"
        )
        return _links(self._rows(sql, _json(names), *values))

    def links_between(self, passages: Ids, names: Ids) -> Links:
        """List which of the given passages have which of the given names, whatever the rule says of them."""
        sql = (
            "SELECT link.passage_id, link.name_id, name.df, link.titled FROM link JOIN name ON name.id = link.name_id"
            f" WHERE link.name_id {_AMONG} AND link.passage_id {_AMONG}"
        )
        return _links(self._rows(sql, _json(names), _json(passages)))

    def names_in(self, passages: Ids) -> dict[int, list[Link]]:
        """List every name of the given passages, alphabetically."""
        found: dict[int, list[Link]] = {int(passage): [] for passage in passages}
        sql = (
            f"SELECT link.passage_id, link.surface, link.titled, {_NAME_COLUMNS} FROM link"
            f" JOIN name ON name.id = link.name_id WHERE link.passage_id {_AMONG} ORDER BY name.name"
        )
        for passage, surface, titled, *name in self._rows(sql, _json(passages)):
            found[passage].append(Link(_name(name), surface, bool(titled)))
        return found

    def load(self, passages: Ids) -> dict[int, StoredPassage]:
        """Hand passages back."""
        sql = f"SELECT id, node_id, title, text, node FROM passage WHERE id {_AMONG}"
        return {row[0]: StoredPassage(*row) for row in self._rows(sql, _json(passages))}

    def facts_about(self, names: Ids, passages: Ids, limit: int) -> list[tuple[Fact, int | None]]:
        """List statements read from the given passages, and those of no passage about the given names, alphabetically.

        Returns:
            each with its passage id or None; at most `limit` per passage, and as many of no passage.
        """
        read = (
            "SELECT subject, relation, object, passage.node_id, source, passage_id FROM (SELECT *, row_number() OVER"
            " (PARTITION BY passage_id ORDER BY subject, relation, object) AS place FROM fact"
            f" WHERE passage_id {_AMONG}) JOIN passage ON passage.id = passage_id"
            " WHERE place <= ? ORDER BY passage_id, place"
        )
        named = f"IN (SELECT name FROM name WHERE id {_AMONG})"
        stated = (
            f"SELECT subject, relation, object, NULL, source, NULL FROM fact WHERE passage_id = {NO_PASSAGE}"
            f" AND (subject_name {named} OR object_name {named}) ORDER BY subject, relation, object LIMIT ?"
        )
        rows = self._rows(read, _json(passages), limit) + self._rows(stated, _json(names), _json(names), limit)
        return [(Fact(*row[:5]), row[5]) for row in rows]

    def fact_links(self, names: Ids, rule: NameRule, keep: Filter | None = None) -> list[tuple[int, int, int]]:
        """Follow names to those that a fact ties them to, facts of filtered-out passages left aside.

        Returns:
            (name, other name, the other's df) for every tie, where the rule admits the other.
        """
        if not self._rows("SELECT 1 FROM fact LIMIT 1"):
            return []
        condition, values = _kept(keep, "fact.passage_id")
        sql = (
            "SELECT near.id, name.id, name.df FROM name AS near JOIN fact ON fact.{0}_name = near.name"
            f" JOIN name ON name.name = fact.{{1}}_name WHERE near.id <> name.id AND near.id {_AMONG}"
            f" AND {_ADMITTED} AND (fact.passage_id = {NO_PASSAGE} OR {condition})"
        )
        both = (("subject", "object"), ("object", "subject"))
        parameters = (_json(names), rule.max_df, rule.min_case, *values)
        return sorted({tie for ends in both for tie in self._rows(sql.format(*ends), *parameters)})

    def keyword_scores(self, terms: Iterable[str], top_k: int, keep: Filter | None = None) -> list[tuple[str, float]]:
        """Rank passages by BM25 over plain words (FTS5, no stemming): (node id, score), best first."""
        query = " OR ".join('"' + term.replace('"', '""') + '"' for term in terms)
        if not query:
            return []
        condition, values = _kept(keep, "passage.id")
        sql = (
            "SELECT passage.node_id, -bm25(word) AS score FROM word JOIN passage ON passage.id = word.rowid"
            f" WHERE word MATCH ? AND {condition} ORDER BY score DESC, passage.node_id LIMIT ?"
        )
        return [(node_id, score) for node_id, score in self._rows(sql, query, *values, top_k)]

    def sample(self, count: int) -> list[str]:
        """List the first node ids in alphabetical order; ids that are UUIDs make that a random sample."""
        return [row[0] for row in self._rows("SELECT node_id FROM passage ORDER BY node_id LIMIT ?", count)]

    def document_frequencies(self, terms: Iterable[str]) -> dict[str, int]:
        """Count the passages that have each word, in title or text; words not found are missing from the answer."""
        sql = "SELECT term, doc FROM json_each(?) AS wanted JOIN word_df ON word_df.term = wanted.value"
        return dict(self._rows(sql, _json(terms)))

    @property
    def passage_count(self) -> int:
        """Number of passages."""
        return self._count("passage")

    @property
    def capital_share(self) -> float:
        """Share of all counted mentions written with capitals, 1.0 when none was counted."""
        total, upper = self._meta("total"), self._meta("upper")
        return upper / total if total else 1.0

    @property
    def long_share(self) -> float:
        """Share of passages longer than the encoder reads."""
        count = self.passage_count
        return self._meta("long") / count if count else 0.0

    def stats(self) -> dict[str, int]:
        """Count passages, documents, names, links and facts, and the bytes they take."""
        counts = {f"{table}s": self._count(table) for table in ("passage", "name", "link", "fact")}
        counts["documents"] = int(self._rows("SELECT count(DISTINCT doc_id) FROM passage")[0][0])
        counts["bytes"] = int(
            self._rows("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")[0][0]
        )
        return counts

    def documents(self) -> dict[str, str]:
        """Give the hash of every document that has passages."""
        return dict(self._rows("SELECT doc_id, max(doc_hash) FROM passage GROUP BY doc_id ORDER BY doc_id"))

    def document_node_ids(self, doc_id: str) -> list[str]:
        """List the node ids of one document."""
        return [row[0] for row in self._rows("SELECT node_id FROM passage WHERE doc_id = ? ORDER BY id", doc_id)]

    def export_passages(self, after: str | None, limit: int) -> list[Passage]:
        """Give passages whole, in the order of their node ids; see `PortableGraphStore`."""
        return copies.export_passages(self._rows, after, limit)

    def stated(self) -> tuple[list[str], list[Fact]]:
        """List the names and facts that the user stated; see `PortableGraphStore`."""
        return copies.stated(self._rows)

    def close(self) -> None:
        """Close every connection; further calls raise StoreClosedError. Closing twice is fine."""
        self._database.close()

    def _rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self._database.rows(sql, *parameters)

    def _count(self, table: str) -> int:
        return int(self._rows(f"SELECT count(*) FROM {table}")[0][0])

    def _meta(self, key: str) -> int:
        return int(self._rows("SELECT value FROM meta WHERE key = ?", key)[0][0])


def _kept(keep: Filter | None, passage: str) -> Sql:
    return to_sql(keep, passage) if keep is not None else ("1", [])


def _json(values: Ids | Iterable[str]) -> str:
    """Pack a list for `_AMONG`; without strings that hold a NUL, which SQLite would cut, and no table has."""
    if isinstance(values, np.ndarray):
        return json.dumps(values.tolist())
    return json.dumps([value for value in values if "\0" not in value])


def _name(row: Sequence[Any]) -> Name:
    number, name, df, case, given = row
    return Name(number, name, df, case, bool(given))


def _links(rows: Sequence[Sequence[int]]) -> Links:
    table = np.asarray(rows, dtype=np.int64).reshape(-1, 4)
    return Links(table[:, 0], table[:, 1], table[:, 2], table[:, 3].astype(bool))
