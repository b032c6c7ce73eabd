"""A graph store on a Neo4j server: writes in transactions, reads in single statements; ranks nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ....errors import StoreMismatchError
from ....filters import Filter
from ...entities import Gazetteer, is_short, normalise
from ..base import Fact, ForesightedView, Passage
from ..bolt import Bolt, Transaction
from ..linking import Dictionary, HeldDictionary, Linker, Row, digest, fact_rows, stated_names
from .reads import MARKS, Neo4jReads
from .schema import VERSION, Schema, tenant_store
from .tables import NO_PASSAGE, AskedDictionary, Neo4jTables
from .view import Neo4jView


class Neo4jGraphStore(Neo4jReads):
    """Names, links and facts on a Neo4j server, ranked as by the embedded store.

    Nothing is asked of the server before the first call. Writers of any number of processes take turns; readers wait
    for nobody. Safe to share between threads. Needs Neo4j 5.23 or later, no APOC; the user may create indexes and
    constraints, or has called `ensure_schema` as one who may.

    Args:
        uri: `bolt://…` or `neo4j://…`; or a `Bolt` of your own, which is then yours to close.
        username: None: no authentication.
        password: its password.
        database: None: the user's home database.
        store: a letter, then letters, digits and underscores; several stores live in one database side by side.
        timeout_s: seconds that a read has; the deadline of a branch holds, too.
        write_timeout_s: seconds that each statement of a write has.
        max_held_names: up to so many names are held in memory while writing; of more, those in the texts at hand are
            looked up.
        **driver_options: for the driver, see `Bolt`.

    Raises:
        MissingExtraError: the driver is not installed.
        ConfigurationError: no URI of a Neo4j server, or an unusable store name.
    """

    def __init__(
        self,
        uri: str | Bolt,
        *,
        username: str | None = None,
        password: str | None = None,
        database: str | None = None,
        store: str = "main",
        timeout_s: float = 5.0,
        write_timeout_s: float = 60.0,
        max_held_names: int = 1_000_000,
        **driver_options: Any,
    ) -> None:
        self._owns = isinstance(uri, str)
        if isinstance(uri, str):
            limits = {"timeout_s": timeout_s, "write_timeout_s": write_timeout_s}
            uri = Bolt(uri, username=username, password=password, database=database, **limits, **driver_options)
        super().__init__(uri, Schema(store))
        self._max_held_names = max_held_names
        self._known: tuple[int, Gazetteer] | None = None  # version of the store, dictionary as of then

    @property
    def path(self) -> str:
        """Where the store lies; part of a pipeline's cache key."""
        return f"{self.bolt.uri}/{self.bolt.database or ''}#{self.schema.store}"

    @property
    def name(self) -> str:
        """The store's name within its database."""
        return self.schema.store

    def tenant(self, name: str) -> Neo4jGraphStore:
        """Give a tenant's own store on the same connection: nothing in one changes any result or score of another."""
        store = tenant_store(self.schema.store, name)
        return Neo4jGraphStore(self.bolt, store=store, max_held_names=self._max_held_names)

    # -- writing ------------------------------------------------------------------------------------------------------

    def ensure_schema(self) -> None:
        """Make the indexes and constraints that are missing; every write looks after them by itself."""
        cypher = "SHOW INDEXES YIELD name WHERE name IN $names RETURN count(*)"
        names = self.schema.index_names
        limit_s = self.bolt.write_timeout_s  # a server that was just started takes its time
        if self.bolt.read(cypher, {"names": names}, timeout_s=limit_s)[0][0] < len(names):
            self.bolt.schema([*self.schema.statements(), "CALL db.awaitIndexes(60)"])

    def upsert(self, passages: Sequence[Passage]) -> None:
        """Add or replace passages by node id in one transaction; unchanged ones are left alone."""
        self.replace((), passages)

    def replace(self, doc_ids: Iterable[str], passages: Sequence[Passage]) -> None:
        """Make the given passages all there is of the given documents, in one transaction; unchanged ones stay."""
        latest = {passage.node_id: passage for passage in passages}
        digests = {node_id: digest(passage) for node_id, passage in latest.items()}
        with self._writing() as (tables, linker):
            rows = tables.find(latest, doc_ids)
            same = {node_id for _, node_id, found in rows if digests.get(node_id) == found}
            linker.remove(number for number, node_id, _ in rows if node_id not in same)
            linker.add([Row.of(one, digests[node_id]) for node_id, one in latest.items() if node_id not in same])

    def delete(self, *, node_ids: Iterable[str] = (), doc_ids: Iterable[str] = ()) -> None:
        """Remove passages by node id or document id in one transaction; unknown ids are ignored."""
        with self._writing() as (tables, linker):
            linker.remove([row[0] for row in tables.find(node_ids, doc_ids)])

    def await_writes(self) -> None:
        """Wait until no write is under way any more, also one whose end a lost connection has kept from us."""
        with self.bolt.writing() as transaction:
            self._lock(transaction)

    def add_names(self, names: Iterable[str]) -> None:
        """Add names the user knows of; they are linked to every passage, old or new, that has them."""
        with self._writing() as (_, linker):
            linker.give(name for raw in names if (name := normalise(raw)) and is_short(name))

    def add_facts(self, facts: Sequence[Fact]) -> None:
        """Add statements that belong to no passage; ends written as names join the dictionary."""
        with self._writing() as (tables, linker):
            tables.insert_facts((NO_PASSAGE, row) for row in fact_rows(facts))
            linker.give(name for fact in facts for name in stated_names(fact))

    def clear(self) -> None:
        """Remove all that the store holds, in one transaction; its indexes stay, and its numbers are not used again."""
        with self.bolt.writing() as transaction:
            self._lock(transaction)
            for label in self.schema.labels.values():
                transaction.run(f"MATCH (x:{label}) DETACH DELETE x")
            counts = ", ".join(f"s.{count} = 0" for count in ("total", "upper", "long", "length"))
            cypher = f"MATCH (s:HybridmemStore {{name: $store}}) SET s.version = s.version + 1, {counts}"
            transaction.run(cypher, {"store": self.schema.store})

    @contextmanager
    def _writing(self) -> Iterator[tuple[Neo4jTables, Linker]]:
        self.ensure_schema()
        with self.bolt.writing() as transaction:
            marks = self._lock(transaction)
            tables = Neo4jTables(transaction, self.schema, self._search)
            dictionary, held = self._dictionary(marks[0], tables)
            self._known = None  # what follows puts it ahead of the store, until that is committed
            linker = Linker(tables, dictionary)
            yield tables, linker
            linker.settle()
            if tables.changed:
                tables.count({"version": 1})
        if held is not None:
            self._known = marks[0] + tables.changed, held

    def _search(self, cypher: str, parameters: Mapping[str, object]) -> list[list[Any]]:
        return self.bolt.read(cypher, parameters, timeout_s=self.bolt.write_timeout_s, current=True)

    def _dictionary(self, version: int, tables: Neo4jTables) -> tuple[Dictionary, Gazetteer | None]:
        if tables.name_count() > self._max_held_names:
            return AskedDictionary(tables), None
        known = self._known
        gazetteer = known[1] if known is not None and known[0] == version else Gazetteer(tables.names())
        return HeldDictionary(gazetteer), gazetteer

    def _lock(self, transaction: Transaction) -> list[Any]:
        """Take the store for this transaction, when whoever has it is done; gives its marks.

        A version begins at the time, so that a store wiped by hand and made anew never looks like the one before.
        """
        lock = (
            "MERGE (s:HybridmemStore {name: $store}) ON CREATE SET s.version = timestamp(), s.schema = $schema,"
            " s.total = 0, s.upper = 0, s.long = 0, s.length = 0, s.next = 1 SET s.version = s.version"
            f" RETURN {MARKS}"
        )
        marks = transaction.run(lock, {"store": self.schema.store, "schema": VERSION})[0]
        if marks[1] != VERSION:
            raise StoreMismatchError(
                f"the store {self.schema.store!r} has schema {marks[1]}, this version reads {VERSION}; ingest anew"
            )
        return marks

    # -- reading ------------------------------------------------------------------------------------------------------

    def view(self, question: str, keep: Filter | None) -> ForesightedView:
        """Open a view for one question, which makes fewer trips; see `base.ForesightedStore`."""
        return Neo4jView(self, question, keep)

    def close(self) -> None:
        """Close the connection, unless it is a `Bolt` of yours; further calls raise StoreClosedError. Twice is fine."""
        if self._owns:
            self.bolt.close()
