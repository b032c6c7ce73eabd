"""Keeps names and links exact under adds, changes and deletes, inside one SQLite transaction; knows nothing of files or threads.

After any sequence of changes the tables equal those of a fresh build from the surviving passages. Two things make that so:
a passage's links are always computed whole, from its own words and the current dictionary; and whenever the dictionary
changes, exactly the passages that can see the change are computed again. A new name is looked up in an inverted index of
words (FTS5 phrase search, no scan); a name that goes away was linked wherever it mattered.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence

from ..entities import Gazetteer, Mention, is_short, mentions, normalise, title_names, words
from .base import Fact, Passage

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS passage (
    id INTEGER PRIMARY KEY AUTOINCREMENT, node_id TEXT NOT NULL UNIQUE, doc_id TEXT NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL,
    node TEXT NOT NULL, digest TEXT NOT NULL, doc_hash TEXT NOT NULL, long INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS passage_doc ON passage (doc_id);
CREATE TABLE IF NOT EXISTS field (passage_id INTEGER NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL, value NOT NULL);
CREATE INDEX IF NOT EXISTS field_passage ON field (passage_id, key, kind, value);
CREATE TABLE IF NOT EXISTS name (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, df INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0,
    upper INTEGER NOT NULL DEFAULT 0, uses INTEGER NOT NULL DEFAULT 0, given INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS declared (
    passage_id INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (passage_id, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS link (
    passage_id INTEGER NOT NULL, name_id INTEGER NOT NULL, total INTEGER NOT NULL, upper INTEGER NOT NULL,
    titled INTEGER NOT NULL, surface TEXT NOT NULL, PRIMARY KEY (passage_id, name_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS link_name ON link (name_id, passage_id, titled);
CREATE TABLE IF NOT EXISTS fact (
    id INTEGER PRIMARY KEY, subject TEXT NOT NULL, relation TEXT NOT NULL, object TEXT NOT NULL, source TEXT NOT NULL,
    subject_name TEXT NOT NULL, object_name TEXT NOT NULL, passage_id INTEGER NOT NULL,
    UNIQUE (passage_id, subject, relation, object));
CREATE INDEX IF NOT EXISTS fact_subject ON fact (subject_name);
CREATE INDEX IF NOT EXISTS fact_object ON fact (object_name);
CREATE VIRTUAL TABLE IF NOT EXISTS word USING fts5 (title, text, content='', tokenize='ascii');
CREATE VIRTUAL TABLE IF NOT EXISTS word_df USING fts5vocab (word, 'row');
"""

NO_PASSAGE = 0
"""Stands for "no passage" in `fact`; SQLite's row ids begin at 1."""


def fact_names(fact: Fact) -> list[str]:
    """Name the ends of a fact, if both are written as names.

    Measured on MuSiQue with GPT-3.5 triples: letting common-noun ends ("monthly publication") into the dictionary costs
    recall, names alone add to it; so other facts are kept to be read and cited, but tie nothing together.
    """
    ends = (fact.subject.strip(), fact.object.strip())
    names = [normalise(end) for end in ends]
    written_as_names = all(end[:1].isupper() for end in ends)
    return names if written_as_names and all(names) and all(is_short(name) for name in names) else []


def row_values(value: object) -> Iterable[tuple[str, object]]:
    """Yield (kind, value) for every scalar element of a metadata value, as `filters.evaluate` sees them."""
    for element in value if isinstance(value, list | tuple) else [value]:
        if isinstance(element, bool):
            yield "bool", int(element)
        elif isinstance(element, int | float):
            yield "number", element if isinstance(element, float) or abs(element) < 2**63 else float(element)
        elif isinstance(element, str):
            yield "text", element


class Linker:
    """Applies changes to the tables of one open transaction.

    Args:
        connection: within a write transaction.
        gazetteer: the dictionary as the tables have it; changed in step with them.
    """

    def __init__(self, connection: sqlite3.Connection, gazetteer: Gazetteer) -> None:
        self._db = connection
        self._gazetteer = gazetteer
        self._uses: Counter[str] = Counter()  # change in the number of passages that declare a name
        self._given: set[str] = set()
        self._fresh: set[int] = set()
        self._counted: Counter[str] = Counter()  # change in the mentions of the whole store

    def add(self, passages: Sequence[Passage], digests: Sequence[str]) -> None:
        """Insert passages that the tables do not have."""
        for passage, digest in zip(passages, digests, strict=True):
            self._fresh.add(self._insert(passage, digest))

    def remove(self, ids: Iterable[int]) -> None:
        """Delete passages and everything that hangs on them."""
        for passage in ids:
            row = self._db.execute("SELECT title, text, long FROM passage WHERE id = ?", (passage,)).fetchone()
            title, text, long = row
            self._counted["long"] -= long
            self._db.execute(
                "INSERT INTO word (word, rowid, title, text) VALUES ('delete', ?, ?, ?)", (passage, *_words(title, text))
            )
            self._uses.subtract(self._declared(passage))
            self._relink(passage, {})
            for table in ("field", "declared", "fact"):
                self._db.execute(f"DELETE FROM {table} WHERE passage_id = ?", (passage,))
            self._db.execute("DELETE FROM passage WHERE id = ?", (passage,))
            self._fresh.discard(passage)

    def give(self, names: Iterable[str]) -> None:
        """Note names that the user states and no passage need declare."""
        self._given.update(names)

    def settle(self) -> None:
        """Bring dictionary and links in line with what was added and removed."""
        appeared, vanished = self._update_names()
        stale = set(self._fresh)
        if len(self._fresh) < self._db.execute("SELECT count(*) FROM passage").fetchone()[0]:
            for name in appeared:
                stale.update(self._passages_with(name))
        for name in vanished:
            rows = self._db.execute(
                "SELECT passage_id FROM link JOIN name ON name.id = name_id WHERE name.name = ?", (name,)
            )
            stale.update(row[0] for row in rows)
        self._gazetteer.add(appeared)
        self._gazetteer.discard(vanished)
        for passage in sorted(stale):
            self._relink(passage, self._mentions(passage))
        self._db.executemany("DELETE FROM name WHERE name = ?", [(name,) for name in vanished])
        self._db.executemany("UPDATE meta SET value = value + ? WHERE key = ?", [(n, k) for k, n in self._counted.items()])

    def _insert(self, passage: Passage, digest: str) -> int:
        row = (passage.node_id, passage.doc_id, passage.title, passage.text, passage.node, digest)
        cursor = self._db.execute(
            "INSERT INTO passage (node_id, doc_id, title, text, node, digest, doc_hash, long)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, passage.doc_hash, passage.long),
        )
        self._counted["long"] += passage.long
        number = cursor.lastrowid
        assert number is not None  # an INSERT into a rowid table sets it
        self._db.execute(
            "INSERT INTO word (rowid, title, text) VALUES (?, ?, ?)", (number, *_words(passage.title, passage.text))
        )
        fields = [(number, key, *kind) for key, value in passage.metadata.items() for kind in row_values(value)]
        self._db.executemany("INSERT INTO field VALUES (?, ?, ?, ?)", fields)
        insert_facts(self._db, passage.facts, number)
        names = {*passage.names, *title_names(passage.title), *(name for fact in passage.facts for name in fact_names(fact))}
        self._db.executemany("INSERT INTO declared VALUES (?, ?)", [(number, name) for name in names])
        self._uses.update(names)
        return number

    def _declared(self, passage: int) -> list[str]:
        return [row[0] for row in self._db.execute("SELECT name FROM declared WHERE passage_id = ?", (passage,))]

    def _update_names(self) -> tuple[list[str], list[str]]:
        self._db.executemany(
            "INSERT INTO name (name, uses) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET uses = uses + excluded.uses",
            [(name, change) for name, change in self._uses.items() if change],
        )
        self._db.executemany(
            "INSERT INTO name (name, given) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET given = 1",
            [(name,) for name in sorted(self._given)],
        )
        touched = [name for name, change in self._uses.items() if change]
        touched += [name for name in self._given if name not in self._uses]
        appeared = [name for name in touched if name not in self._gazetteer]
        gone = "SELECT name FROM name WHERE uses = 0 AND given = 0 AND name IN (SELECT value FROM json_each(?))"
        vanished = [row[0] for row in self._db.execute(gone, (json.dumps(touched),))]
        return sorted(set(appeared) - set(vanished)), vanished

    def _passages_with(self, name: str) -> list[int]:
        rows = self._db.execute("SELECT rowid FROM word WHERE word MATCH ?", (f'"{name}"',))
        return [row[0] for row in rows]

    def _mentions(self, passage: int) -> dict[str, Mention]:
        title, text = self._db.execute("SELECT title, text FROM passage WHERE id = ?", (passage,)).fetchone()
        found = mentions(text, title, title_names(title), self._gazetteer)
        for subject, relation, target in self._db.execute(
            "SELECT subject, relation, object FROM fact WHERE passage_id = ? ORDER BY subject, relation, object", (passage,)
        ):
            for name, surface in zip(fact_names(Fact(subject, relation, target)), (subject, target), strict=False):
                found.setdefault(name, Mention(surface, 0, 0))
        return found

    def _relink(self, passage: int, found: dict[str, Mention]) -> None:
        change = "UPDATE name SET df = df + ?, total = total + ?, upper = upper + ? WHERE id = ?"
        old = self._db.execute("SELECT name_id, total, upper FROM link WHERE passage_id = ?", (passage,)).fetchall()
        self._db.execute("DELETE FROM link WHERE passage_id = ?", (passage,))
        self._db.executemany(change, [(-1, -total, -upper, name) for name, total, upper in old])
        self._counted["total"] += sum(m.total for m in found.values()) - sum(row[1] for row in old)
        self._counted["upper"] += sum(m.upper for m in found.values()) - sum(row[2] for row in old)
        ids = self._ids(found)
        links = [(passage, ids[n], m.total, m.upper, m.titled, m.surface) for n, m in found.items()]
        self._db.executemany("INSERT INTO link VALUES (?, ?, ?, ?, ?, ?)", links)
        self._db.executemany(change, [(1, m.total, m.upper, ids[n]) for n, m in found.items()])

    def _ids(self, names: Iterable[str]) -> dict[str, int]:
        rows = self._db.execute(
            "SELECT name, id FROM name WHERE name IN (SELECT value FROM json_each(?))", (json.dumps(list(names)),)
        )
        return dict(rows.fetchall())


def insert_facts(connection: sqlite3.Connection, facts: Sequence[Fact], passage: int) -> None:
    """Write facts of one passage (or of none); a statement already there is left as it is."""
    rows = []
    for fact in facts:
        subject, target = fact_names(fact) or (normalise(fact.subject), normalise(fact.object))
        rows.append((fact.subject, fact.relation, fact.object, fact.source, subject, target, passage))
    connection.executemany(
        "INSERT OR IGNORE INTO fact (subject, relation, object, source, subject_name, object_name, passage_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        rows,
    )


def _words(*texts: str) -> list[str]:
    return [" ".join(word.text for word in words(text)) for text in texts]
