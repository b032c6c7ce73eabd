"""Where a query that was judged is run: a Neo4j over Bolt, or a property graph store; knows no language model."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from llama_index.core.graph_stores.types import PropertyGraphStore

from ..errors import ConfigurationError, CypherRefusedError, StoreError, StoreUnavailableError, told
from .cypher_rows import schema_text
from .stores.bolt import Bolt

logger = logging.getLogger(__name__)

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
        return _StoreSource(given)
    raise ConfigurationError(
        f"{type(given).__name__} takes no Cypher: give a Bolt, or a property graph store with structured queries"
    )


class _BoltSource:
    """A Neo4j, asked in READ sessions; it parses each query and says what it does before it is run."""

    def __init__(self, bolt: Bolt, timeout_s: float) -> None:
        self._bolt = bolt
        self._timeout_s = timeout_s

    def schema(self) -> str:
        try:
            nodes = self._rows("CALL db.schema.nodeTypeProperties() YIELD nodeLabels, propertyName, propertyTypes")
            links = self._rows("CALL db.schema.relTypeProperties() YIELD relType, propertyName, propertyTypes")
        except StoreUnavailableError as error:  # both read the whole graph: a large one takes them longer than we have
            logger.warning("the schema is read without properties' owners and types: %s", told(error))
            return self._names()
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
    """A property graph store of LlamaIndex: it opens its own sessions, which may write."""

    def __init__(self, store: PropertyGraphStore) -> None:
        self._store = store

    def schema(self) -> str:
        try:
            return self._store.get_schema_str()
        except Exception as error:
            raise _in_our_terms(self._store, error) from error

    def run(self, cypher: str, parameters: Mapping[str, object], rows: int) -> Table:
        try:
            found = self._store.structured_query(cypher, param_map=dict(parameters))
        except Exception as error:
            raise _in_our_terms(self._store, error) from error
        records = list(found or ())[:rows]
        if not all(isinstance(record, Mapping) for record in records):
            values = [list(record) if isinstance(record, (list, tuple)) else [record] for record in records]
            width = max(map(len, values), default=0)
            padded = [[*row, *[None] * (width - len(row))] for row in values]
            return Table(tuple(f"column {number}" for number in range(1, width + 1)), padded)
        columns = tuple(dict.fromkeys(str(key) for record in records for key in record))
        return Table(columns, [[record.get(column) for column in columns] for record in records])


def _in_our_terms(store: PropertyGraphStore, error: Exception) -> Exception:
    """Tell an error that is about the query, which asking again differently may mend, from the others."""
    if isinstance(error, StoreError):
        return error
    code = str(getattr(error, "code", None) or "")
    about_query = ".ClientError." in code and ".Security." not in code or type(error).__name__ == "ResponseError"
    kind = StoreError if about_query else StoreUnavailableError
    return kind(f"{type(store).__name__}: {told(error)}")
