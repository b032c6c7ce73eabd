"""One reading of a property graph in the tables of the embedded store, in memory; knows no LlamaIndex store."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from functools import cache

from ..entities import title_names, words
from .base import Name
from .conditions import row_values
from .property_graph_contents import FACTS, Contents, folded, name_key
from .sqlite import SqliteGraphStore

_ALIASES = "CREATE TABLE alias (spelling TEXT PRIMARY KEY, name_id INTEGER NOT NULL) WITHOUT ROWID"


class Snapshot(SqliteGraphStore):
    """A property graph as it was when it was read.

    Args:
        contents: what was read.
        before: the reading before this one. What is in both keeps its number, and what is new gets one that nothing
            ever had: a search that is under way while the graph is read again goes on undisturbed.
    """

    def __init__(self, contents: Contents, before: Snapshot | None = None) -> None:
        super().__init__()
        self._next: dict[str, int] = dict(before._next) if before is not None else {"name": 1, "passage": 1}
        names = self._numbers("name", contents.names, before, "SELECT name, id FROM name")
        passages = self._numbers("passage", contents.passages, before, "SELECT node_id, id FROM passage")
        with self._database.writing() as connection:
            _insert_names(connection, contents, names)
            _insert_passages(connection, contents, passages)
            _insert_links(connection, contents, passages, names)
            _insert_facts(connection, contents, passages)

    def find_names(self, candidates: Iterable[str]) -> dict[str, Name]:
        """Look up names as they are written, then as aliases, then both without accents and in plain width."""
        spellings = {candidate: (candidate, folded(candidate)) for candidate in candidates}
        wanted = {spelling for both in spellings.values() for spelling in both}
        rows = self._rows(
            "SELECT spelling, name.name FROM alias JOIN name ON name.id = name_id"
            " WHERE spelling IN (SELECT value FROM json_each(?))",
            json.dumps(sorted(wanted)),
        )
        meant = dict(rows)
        names = super().find_names(wanted.union(meant.values()))
        found: dict[str, Name] = {}
        for candidate, both in spellings.items():
            for spelling in both:
                name = names.get(spelling) or names.get(meant.get(spelling, ""))
                if name is not None:
                    found.setdefault(candidate, name)
        return found

    def sample(self, count: int) -> list[str]:
        """List the first node ids of chunks in alphabetical order: facts have no vectors."""
        sql = "SELECT node_id FROM passage WHERE doc_id <> ? ORDER BY node_id LIMIT ?"
        return [row[0] for row in self._rows(sql, FACTS, count)]

    def documents(self) -> dict[str, str]:
        """Give the hash of every document that has chunks, "" where the graph does not hold it."""
        return {doc_id: doc_hash for doc_id, doc_hash in super().documents().items() if doc_id != FACTS}

    def _numbers(self, table: str, keys: Iterable[str], before: Snapshot | None, sql: str) -> dict[str, int]:
        held: dict[str, int] = dict(before._rows(sql)) if before is not None else {}
        numbers: dict[str, int] = {}
        for key in keys:
            number = held.get(key)
            if number is None:
                number = self._next[table]
                self._next[table] += 1
            numbers[key] = number
        return numbers


def _insert_names(connection: sqlite3.Connection, contents: Contents, numbers: Mapping[str, int]) -> None:
    rows = ((number, name) for name, number in numbers.items())
    connection.executemany("INSERT INTO name (id, name, given) VALUES (?, ?, 1)", rows)
    connection.execute(_ALIASES)
    aliases = ((spelling, numbers[name]) for spelling, name in contents.aliases.items())
    connection.executemany("INSERT INTO alias VALUES (?, ?)", aliases)


def _insert_passages(connection: sqlite3.Connection, contents: Contents, numbers: Mapping[str, int]) -> None:
    found = [(numbers[node_id], passage) for node_id, passage in contents.passages.items()]
    connection.executemany(
        "INSERT INTO passage (id, node_id, doc_id, title, lead, text, node, digest, doc_hash, long)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, '', ?, ?)",
        (
            (number, p.node_id, p.doc_id, p.title, p.lead, p.text, p.node, p.doc_hash, p.long)
            for number, p in found
        ),
    )  # fmt: skip
    indexed = ((number, " ".join(words(p.title).texts), " ".join(words(p.text).texts)) for number, p in found)
    connection.executemany("INSERT INTO word (rowid, title, text) VALUES (?, ?, ?)", indexed)
    fields = ((number, key, *row) for number, p in found for key, v in p.metadata.items() for row in row_values(v))
    connection.executemany("INSERT INTO field VALUES (?, ?, ?, ?)", fields)
    long = sum(passage.long for _, passage in found)
    connection.execute("UPDATE meta SET value = ? WHERE key = 'long'", (long,))


def _insert_links(
    connection: sqlite3.Connection, contents: Contents, passages: Mapping[str, int], names: Mapping[str, int]
) -> None:
    rows = []
    for node_id, number in passages.items():
        passage = contents.passages[node_id]
        titles = title_names(passage.title) if passage.lead else ()
        for name in contents.links.get(node_id, ()):
            rows.append((number, names[name], name in titles, contents.names[name]))
    connection.executemany(
        "INSERT INTO link (passage_id, name_id, total, upper, titled, surface) VALUES (?, ?, 0, 0, ?, ?)", rows
    )
    connection.execute("UPDATE name SET df = (SELECT count(*) FROM link WHERE name_id = name.id)")


def _insert_facts(connection: sqlite3.Connection, contents: Contents, passages: Mapping[str, int]) -> None:
    key = cache(name_key)
    rows = (
        (f.subject, f.relation, f.object, f.source, key(f.subject), key(f.object), passages[node_id])
        for node_id, passage in contents.passages.items()
        for f in passage.facts
    )
    connection.executemany(
        "INSERT OR IGNORE INTO fact (subject, relation, object, source, subject_name, object_name, passage_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
