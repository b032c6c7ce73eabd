"""The embedded graph store: one SQLite file (or memory), written by one thread at a time, read by many; ranks nothing."""

from __future__ import annotations

import hashlib
import json
import queue
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ...errors import StoreClosedError, StoreDamagedError, StoreError, StoreMismatchError
from ...filters import Filter
from ..entities import Gazetteer, is_short, normalise
from .base import Fact, Ids, Link, Links, Name, NameRule, Passage, StoredPassage
from .conditions import to_sql
from .linking import NO_PASSAGE, SCHEMA, Linker, fact_names, insert_facts

SCHEMA_VERSION = 1
_NAME_COLUMNS = "name.id, name.name, name.df, CASE WHEN name.total THEN 1.0 * name.upper / name.total ELSE 1.0 END"
_BUSY_TIMEOUT_S = 10.0


class SqliteGraphStore:
    """A graph store in one SQLite file.

    WAL mode: readers never wait for the writer. A commit survives the death of the process (kill -9); with
    `synchronous=NORMAL` the last commits before a power cut may be lost, the file stays whole. Other processes may read
    it, too, and take turns writing.

    Args:
        path: the file, created when absent; None keeps everything in memory.

    Raises:
        StoreDamagedError: the file is no database of ours.
        StoreMismatchError: it was written by another version of the schema.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path is not None else None
        self._write_lock = threading.RLock()
        self._idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._gazetteer: Gazetteer | None = None
        self._gazetteer_version = -1
        self._closed = False
        self._writer = self._connect()
        with self._mapped_errors():
            self._create()

    # -- writing ------------------------------------------------------------------------------------------------------

    def upsert(self, passages: Sequence[Passage]) -> None:
        """Add or replace passages by node id in one transaction; unchanged ones are left alone."""
        self.replace((), passages)

    def replace(self, doc_ids: Iterable[str], passages: Sequence[Passage]) -> None:
        """Make the given passages all there is of the given documents, in one transaction; unchanged ones are left alone."""
        latest = {passage.node_id: passage for passage in passages}
        digests = {node_id: _digest(passage) for node_id, passage in latest.items()}
        with self._writing() as (connection, linker):
            gone = connection.execute(
                "SELECT id FROM passage WHERE doc_id IN (SELECT value FROM json_each(?))"
                " AND node_id NOT IN (SELECT value FROM json_each(?))",
                (json.dumps(list(doc_ids)), json.dumps(list(latest))),
            )
            linker.remove([row[0] for row in gone])
            rows = connection.execute(
                "SELECT node_id, id, digest FROM passage WHERE node_id IN (SELECT value FROM json_each(?))",
                (json.dumps(list(latest)),),
            )
            known = {node_id: (number, digest) for node_id, number, digest in rows}
            same = {node_id for node_id, (_, digest) in known.items() if digest == digests[node_id]}
            linker.remove(number for node_id, (number, _) in known.items() if node_id not in same)
            new = [passage for node_id, passage in latest.items() if node_id not in same]
            linker.add(new, [digests[passage.node_id] for passage in new])

    def delete(self, *, node_ids: Iterable[str] = (), doc_ids: Iterable[str] = ()) -> None:
        """Remove passages by node id or document id in one transaction; unknown ids are ignored."""
        with self._writing() as (connection, linker):
            rows = connection.execute(
                "SELECT id FROM passage WHERE node_id IN (SELECT value FROM json_each(?))"
                " OR doc_id IN (SELECT value FROM json_each(?))",
                (json.dumps(list(node_ids)), json.dumps(list(doc_ids))),
            )
            linker.remove([row[0] for row in rows])

    def add_names(self, names: Iterable[str]) -> None:
        """Add names the user knows of; they are linked to every passage, old or new, that has them."""
        with self._writing() as (_, linker):
            linker.give(name for raw in names if (name := normalise(raw)) and is_short(name))

    def add_facts(self, facts: Sequence[Fact]) -> None:
        """Add statements that belong to no passage; ends written as names join the dictionary."""
        with self._writing() as (connection, linker):
            insert_facts(connection, facts, NO_PASSAGE)
            linker.give(name for fact in facts for name in fact_names(fact))

    # -- reading ------------------------------------------------------------------------------------------------------

    def find_names(self, candidates: Iterable[str]) -> dict[str, Name]:
        """Look up normalised names; unknown ones are missing from the answer."""
        sql = f"SELECT {_NAME_COLUMNS} FROM name WHERE name IN (SELECT value FROM json_each(?)) AND df > 0"
        return {row[1]: Name(*row) for row in self._rows(sql, json.dumps(list(candidates)))}

    def passage_ids(self, node_ids: Sequence[str], keep: Filter | None = None) -> dict[str, int]:
        """Look up passages by node id; filtered-out and unknown ones are missing from the answer."""
        sql = "SELECT node_id, id FROM passage WHERE node_id IN (SELECT value FROM json_each(?))"
        condition, values = _kept(keep, "passage.id")
        return dict(self._rows(sql + condition, json.dumps(list(node_ids)), *values))

    def node_ids(self, passages: Ids) -> dict[int, str]:
        """Give the node id of each passage; unknown ones are missing from the answer."""
        sql = "SELECT id, node_id FROM passage WHERE id IN (SELECT value FROM json_each(?))"
        return dict(self._rows(sql, json.dumps(passages.tolist())))

    def links_of_passages(self, passages: Ids, rule: NameRule) -> Links:
        """Follow passages to those of their names that the rule admits."""
        sql = (
            "SELECT link.passage_id, link.name_id, name.df, link.titled FROM json_each(?) AS wanted"
            " JOIN link ON link.passage_id = wanted.value JOIN name ON name.id = link.name_id"
            " WHERE name.df > 1 AND name.df <= ? AND (name.total = 0 OR name.upper >= ? * name.total)"
        )
        return _links(self._rows(sql, json.dumps(passages.tolist()), rule.max_df, rule.min_case))

    def links_of_names(self, names: Ids, keep: Filter | None = None) -> Links:
        """Follow names to their passages, filtered-out passages left aside."""
        condition, values = _kept(keep, "link.passage_id")
        sql = (
            "SELECT link.passage_id, link.name_id, name.df, link.titled FROM json_each(?) AS wanted"
            " JOIN link ON link.name_id = wanted.value JOIN name ON name.id = link.name_id WHERE 1" + condition
        )
        return _links(self._rows(sql, json.dumps(names.tolist()), *values))

    def links_between(self, passages: Ids, names: Ids) -> Links:
        """List which of the given passages have which of the given names."""
        sql = (
            "SELECT link.passage_id, link.name_id, name.df, link.titled FROM link JOIN name ON name.id = link.name_id"
            " WHERE link.name_id IN (SELECT value FROM json_each(?))"
            " AND link.passage_id IN (SELECT value FROM json_each(?))"
        )
        return _links(self._rows(sql, json.dumps(names.tolist()), json.dumps(passages.tolist())))

    def names_in(self, passages: Ids) -> dict[int, list[Link]]:
        """List every name of the given passages, alphabetically."""
        found: dict[int, list[Link]] = {int(passage): [] for passage in passages}
        sql = (
            f"SELECT link.passage_id, link.surface, link.titled, {_NAME_COLUMNS} FROM link"
            " JOIN name ON name.id = link.name_id WHERE link.passage_id IN (SELECT value FROM json_each(?))"
            " ORDER BY name.name"
        )
        for passage, surface, titled, *name in self._rows(sql, json.dumps(passages.tolist())):
            found[passage].append(Link(Name(*name), surface, bool(titled)))
        return found

    def load(self, passages: Ids) -> dict[int, StoredPassage]:
        """Hand passages back."""
        sql = "SELECT id, node_id, title, text, node FROM passage WHERE id IN (SELECT value FROM json_each(?))"
        return {row[0]: StoredPassage(*row) for row in self._rows(sql, json.dumps(passages.tolist()))}

    def facts_about(self, names: Ids, passages: Ids, limit: int) -> list[tuple[Fact, int | None]]:
        """List statements read from the given passages or stated by the user about the given names, oldest first."""
        sql = (
            "SELECT subject, relation, object, passage.node_id, source, passage_id FROM fact"
            " LEFT JOIN passage ON passage.id = passage_id WHERE passage_id IN (SELECT value FROM json_each(?))"
            f" OR (passage_id = {NO_PASSAGE} AND (subject_name IN {_NAMED} OR object_name IN {_NAMED}))"
            " ORDER BY fact.id LIMIT ?"
        )
        wanted = json.dumps(names.tolist())
        rows = self._rows(sql, json.dumps(passages.tolist()), wanted, wanted, limit)
        return [(Fact(*row[:5]), row[5] or None) for row in rows]

    def fact_links(self, names: Ids) -> list[tuple[int, int]]:
        """List the pairs of different names that a fact ties, one of them among the given."""
        if not self._rows("SELECT 1 FROM fact LIMIT 1"):
            return []
        sql = (
            "SELECT DISTINCT near.id, far.id FROM name AS near JOIN fact ON {0}_name = near.name"
            " JOIN name AS far ON far.name = {1}_name"
            " WHERE near.id <> far.id AND near.id IN (SELECT value FROM json_each(?))"
        )
        wanted = json.dumps(names.tolist())
        both = (("subject", "object"), ("object", "subject"))
        return sorted({pair for ends in both for pair in self._rows(sql.format(*ends), wanted)})

    def keyword_scores(self, terms: Iterable[str], top_k: int, keep: Filter | None = None) -> list[tuple[str, float]]:
        """Rank passages by BM25 over plain words (FTS5, no stemming): (node id, score), best first."""
        query = " OR ".join(f'"{term}"' for term in terms)
        if not query:
            return []
        condition, values = _kept(keep, "passage.id")
        sql = (
            "SELECT passage.node_id, -bm25(word) AS score FROM word JOIN passage ON passage.id = word.rowid"
            f" WHERE word MATCH ?{condition} ORDER BY score DESC, passage.node_id LIMIT ?"
        )
        return self._rows(sql, query, *values, top_k)

    def sample(self, count: int) -> list[str]:
        """List the first node ids in alphabetical order; ids that are UUIDs make that a random sample."""
        return [row[0] for row in self._rows("SELECT node_id FROM passage ORDER BY node_id LIMIT ?", count)]

    def document_frequencies(self, terms: Iterable[str]) -> dict[str, int]:
        """Count the passages that have each word, in title or text; words not found are missing from the answer."""
        sql = "SELECT term, doc FROM json_each(?) AS wanted JOIN word_df ON word_df.term = wanted.value"
        return dict(self._rows(sql, json.dumps(list(terms))))

    @property
    def passage_count(self) -> int:
        """Number of passages."""
        return int(self._rows("SELECT count(*) FROM passage")[0][0])

    @property
    def capital_share(self) -> float:
        """Share of all counted mentions written with capitals, 1.0 when none was counted."""
        counts = dict(self._rows("SELECT key, value FROM meta WHERE key IN ('total', 'upper')"))
        return counts["upper"] / counts["total"] if counts["total"] else 1.0

    @property
    def long_share(self) -> float:
        """Share of passages longer than the encoder reads."""
        count = self.passage_count
        return float(self._rows("SELECT value FROM meta WHERE key = 'long'")[0][0] / count) if count else 0.0

    def stats(self) -> dict[str, int]:
        """Count passages, documents, names, links and facts, and the bytes on disk (0 in memory)."""
        tables = {"passages": "passage", "names": "name", "links": "link", "facts": "fact"}
        counts = {key: int(self._rows(f"SELECT count(*) FROM {table}")[0][0]) for key, table in tables.items()}
        counts["documents"] = int(self._rows("SELECT count(DISTINCT doc_id) FROM passage")[0][0])
        counts["bytes"] = self.path.stat().st_size if self.path else 0
        return counts

    def documents(self) -> dict[str, str]:
        """Give the hash of every document that has passages."""
        return dict(self._rows("SELECT doc_id, max(doc_hash) FROM passage GROUP BY doc_id ORDER BY doc_id"))

    def document_node_ids(self, doc_id: str) -> list[str]:
        """List the node ids of one document."""
        return [row[0] for row in self._rows("SELECT node_id FROM passage WHERE doc_id = ? ORDER BY id", doc_id)]

    def close(self) -> None:
        """Close every connection; further calls raise StoreClosedError. Closing twice is fine."""
        with self._write_lock:
            self._closed = True
            self._writer.close()
            while not self._idle.empty():
                self._idle.get_nowait().close()

    # -- connections --------------------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        target = str(self.path) if self.path else ":memory:"
        with self._mapped_errors():
            connection = sqlite3.connect(target, timeout=_BUSY_TIMEOUT_S, check_same_thread=False, isolation_level=None)
            connection.create_function("lowered", 1, str.lower, deterministic=True)
            if self.path:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def _create(self) -> None:
        version = self._writer.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA_VERSION):
            raise StoreMismatchError(f"{self.path} has graph schema {version}, this version reads {SCHEMA_VERSION}; ingest anew")
        self._writer.executescript(SCHEMA)
        self._writer.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._writer.execute("INSERT OR IGNORE INTO meta VALUES ('version', 0), ('total', 0), ('upper', 0), ('long', 0)")

    @contextmanager
    def _writing(self) -> Iterator[tuple[sqlite3.Connection, Linker]]:
        with self._write_lock, self._mapped_errors():
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                linker = Linker(self._writer, self._current_gazetteer())
                yield self._writer, linker
                linker.settle()
                self._writer.execute("UPDATE meta SET value = value + 1 WHERE key = 'version'")
                self._writer.execute("COMMIT")
                self._gazetteer_version += 1
            except BaseException:
                self._gazetteer = None  # may be ahead of the tables, which go back
                if not self._closed:
                    self._writer.execute("ROLLBACK")
                raise

    def _current_gazetteer(self) -> Gazetteer:
        version = self._writer.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()[0]
        if self._gazetteer is None or version != self._gazetteer_version:  # another process may have written
            self._gazetteer = Gazetteer(row[0] for row in self._writer.execute("SELECT name FROM name"))
            self._gazetteer_version = version
        return self._gazetteer

    def _rows(self, sql: str, *parameters: object) -> list[tuple]:  # type: ignore[type-arg]  # columns differ by query
        with self._mapped_errors():
            if self.path is None:  # a memory database lives in one connection
                with self._write_lock:
                    return self._writer.execute(sql, parameters).fetchall()
            connection = self._reader()
            try:
                return connection.execute(sql, parameters).fetchall()
            finally:
                self._idle.put(connection)

    def _reader(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreClosedError(f"the graph store {self.path} is closed")
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._connect()

    @contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        place = self.path or "in memory"
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StoreError(f"graph store {place}: {error}") from error
        except sqlite3.ProgrammingError as error:
            if self._closed:
                raise StoreClosedError(f"the graph store {place} is closed") from error
            raise StoreError(f"graph store {place}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise StoreDamagedError(f"graph store {place} cannot be read: {error}; restore a copy or ingest anew") from error
        except UnicodeEncodeError as error:
            raise StoreError(f"graph store {place}: text holds a lone surrogate, which no file can keep: {error}") from error


_NAMED = "(SELECT name FROM name WHERE id IN (SELECT value FROM json_each(?)))"


def _kept(keep: Filter | None, passage: str) -> tuple[str, list[object]]:
    if keep is None:
        return "", []
    sql, values = to_sql(keep, passage)
    return f" AND {sql}", values


def _links(rows: Sequence[Sequence[int]]) -> Links:
    table = np.asarray(rows, dtype=np.int64).reshape(-1, 4)
    return Links(table[:, 0], table[:, 1], table[:, 2], table[:, 3].astype(bool))


def _digest(passage: Passage) -> str:
    parts = [
        passage.doc_id, passage.doc_hash, passage.long, passage.title, passage.text, passage.node, sorted(passage.names),
        [[f.subject, f.relation, f.object, f.source] for f in passage.facts], dict(passage.metadata),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode("utf-8", "surrogatepass")).hexdigest()
