"""The embedded store's tables as the linker writes them: SQL inside one transaction; decides nothing about links."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from ..entities import words
from .conditions import row_values
from .linking import Change, FactRow, LinkRow, Removed, Row, Written

_PHRASES_PER_SEARCH = 64
_AMONG = "IN (SELECT value FROM json_each(?))"


class SqliteTables:
    """See `linking.Tables`.

    Args:
        connection: within a write transaction.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._ids: dict[str, int] = {}  # of names, as far as they were asked for

    def insert(self, rows: Sequence[Row]) -> list[int]:
        """Insert passages without their links; returns their new numbers."""
        return [self._insert(row) for row in rows]

    def remove(self, passages: Sequence[int]) -> Removed:
        """Delete passages, whose links are gone already, with their facts."""
        gone = json.dumps(passages)
        rows = self._db.execute(f"SELECT id, title, text, long FROM passage WHERE id {_AMONG}", (gone,)).fetchall()
        indexed = [
            (number, *(" ".join(words(part).texts) for part in (title, text))) for number, title, text, _ in rows
        ]
        self._db.executemany("INSERT INTO word (word, rowid, title, text) VALUES ('delete', ?, ?, ?)", indexed)
        declared = self._db.execute(f"SELECT name FROM declared WHERE passage_id {_AMONG}", (gone,))
        removed = Removed(Counter(row[0] for row in declared), sum(row[3] for row in rows))
        for table in ("field", "declared", "fact"):
            self._db.execute(f"DELETE FROM {table} WHERE passage_id {_AMONG}", (gone,))
        self._db.execute(f"DELETE FROM passage WHERE id {_AMONG}", (gone,))
        return removed

    def passage_count(self) -> int:
        """Count the passages."""
        return int(self._db.execute("SELECT count(*) FROM passage").fetchone()[0])

    def change_names(self, uses: Mapping[str, int], given: Collection[str]) -> tuple[list[str], list[str]]:
        """Change how many passages declare each name, and mark those the user gave; see `linking.Tables`."""
        touched = json.dumps([*uses, *given])
        known = {row[0] for row in self._db.execute(f"SELECT name FROM name WHERE name {_AMONG}", (touched,))}
        self._db.executemany(
            "INSERT INTO name (name, uses) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET uses = uses + excluded.uses",
            uses.items(),
        )
        self._db.executemany(
            "INSERT INTO name (name, given) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET given = 1 WHERE given = 0",
            [(name,) for name in sorted(given)],
        )
        gone = f"SELECT name FROM name WHERE uses = 0 AND given = 0 AND name {_AMONG}"
        vanished = [row[0] for row in self._db.execute(gone, (touched,))]
        return sorted({*uses, *given}.difference(known, vanished)), vanished

    def passages_with(self, names: Sequence[str]) -> set[int]:
        """Find the passages that have one of the names, a sequence of words, in title or text."""
        found: set[int] = set()
        for start in range(0, len(names), _PHRASES_PER_SEARCH):
            query = " OR ".join(f'"{name}"' for name in names[start : start + _PHRASES_PER_SEARCH])
            found.update(row[0] for row in self._db.execute("SELECT rowid FROM word WHERE word MATCH ?", (query,)))
        return found

    def linked_to(self, names: Sequence[str]) -> set[int]:
        """Find the passages linked to one of the names."""
        sql = f"SELECT DISTINCT passage_id FROM link JOIN name ON name.id = name_id WHERE name.name {_AMONG}"
        return {row[0] for row in self._db.execute(sql, (json.dumps(names),))}

    def written(self, passages: Sequence[int]) -> dict[int, Written]:
        """Read what links are computed from."""
        wanted = (json.dumps(passages),)
        facts: dict[int, list[tuple[str, str, str]]] = {}
        sql = f"SELECT passage_id, subject, relation, object FROM fact WHERE passage_id {_AMONG}"
        for number, *fact in self._db.execute(sql, wanted):
            facts.setdefault(number, []).append((fact[0], fact[1], fact[2]))
        rows = self._db.execute(f"SELECT id, title, lead, text FROM passage WHERE id {_AMONG}", wanted)
        return {
            number: Written(title if lead else "", text, tuple(facts.get(number, ())))
            for number, title, lead, text in rows
        }

    def links_of(self, passages: Sequence[int]) -> dict[int, dict[str, LinkRow]]:
        """Read the links of passages, by name; passages without links are missing."""
        found: dict[int, dict[str, LinkRow]] = {}
        sql = (
            "SELECT passage_id, name.id, name.name, link.total, link.upper, titled, surface FROM link"
            f" JOIN name ON name.id = name_id WHERE passage_id {_AMONG}"
        )
        for passage, number, name, *link in self._db.execute(sql, (json.dumps(passages),)):
            self._ids[name] = number
            found.setdefault(passage, {})[name] = (link[0], link[1], link[2], link[3])
        return found

    def relink(self, gone: Sequence[tuple[int, str]], come: Sequence[tuple[int, str, LinkRow]]) -> None:
        """Delete and insert links; a link that changes is in both."""
        ids = self._ids_of({*(name for _, name in gone), *(name for _, name, _ in come)})
        self._db.executemany(
            "DELETE FROM link WHERE passage_id = ? AND name_id = ?", [(passage, ids[name]) for passage, name in gone]
        )
        self._db.executemany(
            "INSERT INTO link (passage_id, name_id, total, upper, titled, surface) VALUES (?, ?, ?, ?, ?, ?)",
            [(passage, ids[name], *link) for passage, name, link in come],
        )

    def count_mentions(self, changes: Mapping[str, Change]) -> None:
        """Change what is counted of each name."""
        ids = self._ids_of(changes)
        self._db.executemany(
            "UPDATE name SET df = df + ?, total = total + ?, upper = upper + ? WHERE id = ?",
            [(*change, ids[name]) for name, change in changes.items()],
        )

    def forget_names(self, names: Sequence[str]) -> None:
        """Delete names that nothing is linked to any more."""
        self._db.executemany("DELETE FROM name WHERE name = ?", [(name,) for name in names])

    def count(self, changes: Mapping[str, int]) -> None:
        """Change what is counted over the whole store."""
        rows = [(change, key) for key, change in changes.items()]
        self._db.executemany("UPDATE meta SET value = value + ? WHERE key = ?", rows)

    def insert_facts(self, rows: Iterable[FactRow], passage: int) -> None:
        """Write facts of one passage, or of none; of a statement from several sources the first by name stays."""
        self._db.executemany(
            "INSERT INTO fact (subject, relation, object, source, subject_name, object_name, passage_id)"
            f" VALUES (?, ?, ?, ?, ?, ?, {int(passage)}) ON CONFLICT (passage_id, subject, relation, object)"
            " DO UPDATE SET source = excluded.source WHERE excluded.source < source",
            rows,
        )

    def _insert(self, row: Row) -> int:
        passage = row.passage
        cursor = self._db.execute(
            "INSERT INTO passage (node_id, doc_id, title, lead, text, node, digest, doc_hash, long)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                passage.node_id, passage.doc_id, passage.title, passage.lead, passage.text, passage.node, row.digest,
                passage.doc_hash, passage.long,
            ),
        )  # fmt: skip
        number = cursor.lastrowid
        assert number is not None  # an INSERT into a rowid table sets it
        indexed = (number, row.title_words, row.text_words)
        self._db.execute("INSERT INTO word (rowid, title, text) VALUES (?, ?, ?)", indexed)
        fields = [(number, key, *element) for key, field in passage.metadata.items() for element in row_values(field)]
        self._db.executemany("INSERT INTO field VALUES (?, ?, ?, ?)", fields)
        self.insert_facts(row.facts, number)
        self._db.executemany("INSERT INTO declared VALUES (?, ?)", [(number, name) for name in row.declared])
        return number

    def _ids_of(self, names: Iterable[str]) -> Mapping[str, int]:
        unknown = [name for name in names if name not in self._ids]
        if unknown:
            sql = f"SELECT name, id FROM name WHERE name {_AMONG}"
            self._ids.update(self._db.execute(sql, (json.dumps(unknown),)).fetchall())
        return self._ids
