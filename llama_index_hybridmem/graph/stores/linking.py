"""Keeps names and links exact under adds, changes and deletes, inside one transaction; knows no files and no threads.

After any sequence of changes the tables equal those of a fresh build from the surviving passages. Two things make that
so: a passage's links are always computed whole, from its own words and the current dictionary; and whenever the
dictionary changes, exactly the passages that can see the change are computed again. A new name is looked up in an
inverted index of words (FTS5 phrase search, no scan); a name that goes away was linked wherever it mattered.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from ...errors import StoreError
from ..entities import Gazetteer, Mention, is_short, mentions, normalise, title_names, words
from .base import Fact, Passage
from .conditions import row_values

_PHRASES_PER_SEARCH = 64

Change = tuple[int, int, int]
"""How a name's df, total and upper change."""


def fact_names(fact: Fact) -> list[str]:
    """Name the ends of a fact, if both are written as names.

    Measured on MuSiQue with GPT-3.5 triples: letting common-noun ends ("monthly publication") into the dictionary costs
    recall, names alone add to it; so other facts are kept to be read and cited, but tie nothing together.
    """
    ends = (fact.subject.strip(), fact.object.strip())
    names = [normalise(end) for end in ends]
    written_as_names = all(end[:1].isupper() for end in ends)
    return names if written_as_names and all(names) and all(is_short(name) for name in names) else []


def stated_names(fact: Fact) -> list[str]:
    """Name those ends of a stated fact that are written as names; the user's own words are trusted one by one."""
    ends = [normalise(end) for end in (fact.subject.strip(), fact.object.strip()) if end[:1].isupper()]
    return [name for name in ends if name and is_short(name)]


def digest(passage: Passage) -> str:
    """Hash all of a passage: another hash, another passage."""
    parts = [
        passage.doc_id, passage.doc_hash, passage.long, passage.title, passage.lead, passage.text, passage.node,
        sorted(passage.names), [[f.subject, f.relation, f.object, f.source] for f in passage.facts],
        dict(passage.metadata),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode("utf-8", "surrogatepass")).hexdigest()


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
        self._ids: dict[str, int] = {}
        self._changes: dict[int, Change] = {}  # by name id
        self._counted: Counter[str] = Counter()  # change in what is counted over the whole store

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
            indexed = (passage, *_words(title, text))
            self._db.execute("INSERT INTO word (word, rowid, title, text) VALUES ('delete', ?, ?, ?)", indexed)
            declared = self._db.execute("SELECT name FROM declared WHERE passage_id = ?", (passage,))
            self._uses.subtract(row[0] for row in declared)
            self._relink(passage, {})
            for table in ("field", "declared", "fact"):
                self._db.execute(f"DELETE FROM {table} WHERE passage_id = ?", (passage,))
            self._db.execute("DELETE FROM passage WHERE id = ?", (passage,))

    def give(self, names: Iterable[str]) -> None:
        """Note names that the user states and no passage need declare."""
        self._given.update(names)

    def settle(self) -> None:
        """Bring dictionary and links in line with what was added and removed."""
        appeared, vanished = self._update_names()
        stale = set(self._fresh)
        if len(self._fresh) < self._db.execute("SELECT count(*) FROM passage").fetchone()[0]:
            stale.update(self._passages_with(appeared))
        stale.update(self._linked_to(vanished))
        self._gazetteer.add(appeared)
        self._gazetteer.discard(vanished)
        for passage in sorted(stale):
            self._relink(passage, self._mentions(passage))
        self._db.executemany(
            "UPDATE name SET df = df + ?, total = total + ?, upper = upper + ? WHERE id = ?",
            [(*change, name) for name, change in self._changes.items() if any(change)],
        )
        self._db.executemany("DELETE FROM name WHERE name = ?", [(name,) for name in vanished])
        counted = [(count, key) for key, count in self._counted.items() if count]
        self._db.executemany("UPDATE meta SET value = value + ? WHERE key = ?", counted)

    def _insert(self, passage: Passage, digest: str) -> int:
        if "\0" in passage.node_id + passage.doc_id:
            raise StoreError(f"a NUL character in node id {passage.node_id!r} or document id {passage.doc_id!r}")
        cursor = self._db.execute(
            "INSERT INTO passage (node_id, doc_id, title, lead, text, node, digest, doc_hash, long)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                passage.node_id, passage.doc_id, passage.title, passage.lead, passage.text, passage.node, digest,
                passage.doc_hash, passage.long,
            ),
        )  # fmt: skip
        number = cursor.lastrowid
        assert number is not None  # an INSERT into a rowid table sets it
        self._counted["long"] += passage.long
        indexed = (number, *_words(passage.title, passage.text))
        self._db.execute("INSERT INTO word (rowid, title, text) VALUES (?, ?, ?)", indexed)
        fields = [(number, key, *element) for key, field in passage.metadata.items() for element in row_values(field)]
        self._db.executemany("INSERT INTO field VALUES (?, ?, ?, ?)", fields)
        insert_facts(self._db, passage.facts, number)
        ends = [name for fact in passage.facts for name in fact_names(fact)]
        names = {*passage.names, *title_names(passage.title if passage.lead else ""), *ends}
        self._db.executemany("INSERT INTO declared VALUES (?, ?)", [(number, name) for name in names])
        self._uses.update(names)
        return number

    def _update_names(self) -> tuple[list[str], list[str]]:
        changed = {name: change for name, change in self._uses.items() if change}
        self._db.executemany(
            "INSERT INTO name (name, uses) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET uses = uses + excluded.uses",
            changed.items(),
        )
        self._db.executemany(
            "INSERT INTO name (name, given) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET given = 1 WHERE given = 0",
            [(name,) for name in sorted(self._given)],
        )
        gone = "SELECT name FROM name WHERE uses = 0 AND given = 0 AND name IN (SELECT value FROM json_each(?))"
        vanished = [row[0] for row in self._db.execute(gone, (json.dumps(list(changed)),))]
        appeared = {name for name in (*changed, *self._given) if name not in self._gazetteer}
        return sorted(appeared.difference(vanished)), vanished

    def _passages_with(self, names: Iterable[str]) -> Iterator[int]:
        remaining = iter(names)
        while phrases := [f'"{name}"' for name in islice(remaining, _PHRASES_PER_SEARCH)]:
            for row in self._db.execute("SELECT rowid FROM word WHERE word MATCH ?", (" OR ".join(phrases),)):
                yield row[0]

    def _linked_to(self, names: Sequence[str]) -> list[int]:
        sql = (
            "SELECT DISTINCT passage_id FROM link JOIN name ON name.id = name_id"
            " WHERE name.name IN (SELECT value FROM json_each(?))"
        )
        return [row[0] for row in self._db.execute(sql, (json.dumps(names),))]

    def _mentions(self, passage: int) -> dict[str, Mention]:
        row = self._db.execute("SELECT title, lead, text FROM passage WHERE id = ?", (passage,)).fetchone()
        heading, text = row[0] if row[1] else "", row[2]
        found = mentions(text, heading, title_names(heading), self._gazetteer)
        facts = "SELECT subject, relation, object FROM fact WHERE passage_id = ? ORDER BY subject, relation, object"
        for subject, relation, target in self._db.execute(facts, (passage,)):
            for name, surface in zip(fact_names(Fact(subject, relation, target)), (subject, target), strict=False):
                found.setdefault(name, Mention(surface, 0, 0))
        return found

    def _relink(self, passage: int, found: Mapping[str, Mention]) -> None:
        """Make a passage's links what they should be, touching only those that differ."""
        columns = "name_id, total, upper, titled, surface"
        rows = self._db.execute(f"SELECT {columns} FROM link WHERE passage_id = ?", (passage,))
        old = {name: (total, upper, titled, surface) for name, total, upper, titled, surface in rows}
        ids = self._ids_of(found)
        new = {ids[name]: (m.total, m.upper, int(m.titled), m.surface) for name, m in found.items()}
        gone = [(name, link) for name, link in old.items() if new.get(name) != link]
        come = [(name, link) for name, link in new.items() if old.get(name) != link]
        self._db.executemany(
            "DELETE FROM link WHERE passage_id = ? AND name_id = ?", [(passage, name) for name, _ in gone]
        )
        self._db.executemany(
            f"INSERT INTO link (passage_id, {columns}) VALUES (?, ?, ?, ?, ?, ?)",
            [(passage, name, *link) for name, link in come],
        )
        for sign, links in ((-1, gone), (1, come)):
            for name, (total, upper, _, _) in links:
                before = self._changes.get(name, (0, 0, 0))
                self._changes[name] = (before[0] + sign, before[1] + sign * total, before[2] + sign * upper)
                self._counted["total"] += sign * total
                self._counted["upper"] += sign * upper

    def _ids_of(self, names: Iterable[str]) -> Mapping[str, int]:
        unknown = [name for name in names if name not in self._ids]
        if unknown:
            sql = "SELECT name, id FROM name WHERE name IN (SELECT value FROM json_each(?))"
            self._ids.update(self._db.execute(sql, (json.dumps(unknown),)).fetchall())
        return self._ids


def insert_facts(connection: sqlite3.Connection, facts: Sequence[Fact], passage: int) -> None:
    """Write facts of one passage (or of none); of a statement from several sources one stays, whatever the order."""
    rows = []
    for fact in facts:
        subject, target = fact_names(fact) or (normalise(fact.subject), normalise(fact.object))
        rows.append((fact.subject, fact.relation, fact.object, fact.source, subject, target, passage))
    connection.executemany(
        "INSERT INTO fact (subject, relation, object, source, subject_name, object_name, passage_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (passage_id, subject, relation, object)"
        " DO UPDATE SET source = excluded.source WHERE excluded.source < source",
        rows,
    )


def _words(*texts: str) -> list[str]:
    return [" ".join(words(text).texts) for text in texts]
