"""Where a query that was judged is run: a Neo4j over Bolt, or a property graph store; knows no language model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from llama_index.core.graph_stores.types import PropertyGraphStore

from .. import branches
from ..breaker import Breaker
from ..deadlines import seconds_left, within
from ..errors import (
    BranchTimeoutError,
    BreakerOpenError,
    ConfigurationError,
    CypherRefusedError,
    StoreError,
    StoreUnavailableError,
    told,
)
from .cypher_rows import schema_text
from .stores.bolt import Bolt
from .stores.foreign_errors import in_our_terms

logger = logging.getLogger(__name__)

T = TypeVar("T")

SHARE = 0.5
"""Of the time that is left, what reading the whole graph for its schema may take: its names must still fit behind."""

_INDEXES = (
    "SHOW INDEXES YIELD name, type, labelsOrTypes, properties WHERE type = 'FULLTEXT' "
    "RETURN name, labelsOrTypes, properties"
)


@dataclass(frozen=True)
class Table:
    """What a query gave.

    Attributes:
        columns: their names.
        rows: the values, in column order.
    """

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


class CypherSource(Protocol):
    """What a query is put to."""

    def schema(self) -> str:
        """Describe the graph."""

    def run(self, cypher: str, parameters: Mapping[str, object], rows: int) -> Table:
        """Run a query and give its first rows.

        Raises:
            CypherRefusedError: the server takes it for one that writes.
            StoreUnavailableError: the server is down, frozen or too slow.
            StoreAccessError: it refuses us.
            StoreError: of this class itself: it refuses the query, and says why.
        """


def source_of(given: object, timeout_s: float) -> CypherSource:
    """Find out how to ask what a user gave.

    Raises:
        ConfigurationError: it takes no Cypher.
    """
    if isinstance(given, Bolt):
        return _BoltSource(given, timeout_s)
    if isinstance(given, PropertyGraphStore) and given.supports_structured_queries:
        return _StoreSource(given, timeout_s)
    raise ConfigurationError(
        f"{type(given).__name__} takes no Cypher: give a Bolt, or a property graph store with structured queries"
    )


class _BoltSource:
    """A Neo4j, asked in READ sessions; it parses each query and says what it does before it is run."""

    def __init__(self, bolt: Bolt, timeout_s: float) -> None:
        self._bolt = bolt
        self._timeout_s = timeout_s

    def schema(self) -> str:
        left = seconds_left()
        try:
            with within(None if left is None else SHARE * left):
                return self._whole()
        except StoreUnavailableError as error:  # it reads the whole graph: a large one takes longer than we have
            logger.warning("the schema is read without properties' owners and types: %s", told(error))
            return self._names()

    def _whole(self) -> str:
        nodes = self._rows("CALL db.schema.nodeTypeProperties() YIELD nodeLabels, propertyName, propertyTypes")
        links = self._rows("CALL db.schema.relTypeProperties() YIELD relType, propertyName, propertyTypes")
        [(_, drawn)] = self._rows("CALL db.schema.visualization() YIELD nodes, relationships")
        pairs = [(str(link.start_node["name"]), link.type, str(link.end_node["name"])) for link in drawn]
        return schema_text(nodes, links, pairs, self._indexes())

    def _names(self) -> str:
        nodes = [([label], None, None) for (label,) in self._rows("CALL db.labels() YIELD label")]
        types = "CALL db.relationshipTypes() YIELD relationshipType"
        links = [(kind, None, None) for (kind,) in self._rows(types)]
        keys = [key for (key,) in self._rows("CALL db.propertyKeys() YIELD propertyKey")]
        return f"{schema_text(nodes, links, (), self._indexes())}\nProperties of any of these: {', '.join(keys)}"

    def _indexes(self) -> list[list[Any]]:
        try:
            return self._rows(_INDEXES)
        except StoreError as error:  # a user who only reads may not be allowed to see them, and needs none
            logger.info("full-text indexes are left out of the schema: %s", told(error))
            return []

    def _rows(self, cypher: str) -> list[list[Any]]:
        return self._bolt.read(cypher, timeout_s=self._timeout_s)

    def run(self, cypher: str, parameters: Mapping[str, object], rows: int) -> Table:
        asked = self._bolt.ask(cypher, parameters, rows=rows, timeout_s=self._timeout_s)
        if asked.does != "r":
            problem = f"the server takes it for a statement of type {asked.does!r}, which may write"
            raise CypherRefusedError(cypher, problem)
        return Table(asked.columns, asked.rows)


class _StoreSource:
    """A property graph store of LlamaIndex: it opens its own sessions, which may write.

    No call of it can be ended from outside, so it is asked on threads that are left behind after the limit; a breaker
    keeps them few.
    """

    def __init__(self, store: PropertyGraphStore, timeout_s: float) -> None:
        self._store = store
        self._timeout_s = timeout_s
        self._breaker = Breaker(name=type(store).__name__)

    def schema(self) -> str:
        return self._asked(self._store.get_schema_str)

    def run(self, cypher: str, parameters: Mapping[str, object], rows: int) -> Table:
        found = self._asked(lambda: self._store.structured_query(cypher, param_map=dict(parameters)))
        records = list(found or ())[:rows]
        if not all(isinstance(record, Mapping) for record in records):
            values = [list(record) if isinstance(record, (list, tuple)) else [record] for record in records]
            width = max(map(len, values), default=0)
            padded = [[*row, *[None] * (width - len(row))] for row in values]
            return Table(tuple(f"column {number}" for number in range(1, width + 1)), padded)
        columns = tuple(dict.fromkeys(str(key) for record in records for key in record))
        return Table(columns, [[record.get(column) for column in columns] for record in records])

    def _asked(self, ask: Callable[[], T]) -> T:
        def asked() -> T:
            with in_our_terms(self._store):
                return ask()

        left, name = seconds_left(), type(self._store).__name__
        limit_s = self._timeout_s if left is None else min(self._timeout_s, left)
        outcome = branches.run({name: branches.Call(asked, limit_s, self._breaker)})[name]
        if isinstance(outcome.error, (BranchTimeoutError, BreakerOpenError)):
            raise StoreUnavailableError(f"{outcome.error}: is its server up?") from outcome.error
        if outcome.error is not None:
            raise outcome.error
        return outcome.value  # type: ignore[return-value]  # an outcome without an error holds the call's own value
