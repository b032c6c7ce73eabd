"""Reads a LlamaIndex PropertyGraphStore as entities, chunks and relations; knows no folding of names and no walk.

Two ways: Cypher with parameters, page by page, for the stores whose labels and properties are those that LlamaIndex's
`PropertyGraphIndex` writes (Neo4j, Memgraph, FalkorDB); `get` and `get_triplets` for every other. Vectors stay there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, TypeAlias

from llama_index.core.graph_stores.simple_labelled import SimplePropertyGraphStore
from llama_index.core.graph_stores.types import (
    KG_SOURCE_REL,
    TRIPLET_SOURCE_KEY,
    ChunkNode,
    EntityNode,
    LabelledNode,
    PropertyGraphStore,
    Relation,
    Triplet,
)

from ...errors import ConfigurationError

ALIASES = ("aliases", "alias", "also_known_as")
MENTIONS = "MENTIONS"
STRUCTURE = (KG_SOURCE_REL, "PARENT", "CHILD", "PREVIOUS", "NEXT")
"""What `ImplicitPathExtractor` ties chunks by; where they lead from a chunk to an "entity", that is a document."""

PAGE = 1_000
"""Entities or chunks asked for at a time."""
_CYPHER_STORES = ("Neo4j", "Memgraph", "FalkorDB")
_PROPERTY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ALIAS_ENDS = re.compile(r"[;|\n]")


@dataclass(frozen=True)
class Entity:
    """A node that has a name. `chunks`: the ids of its source chunks, as far as they stand in its own properties."""

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    chunks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chunk:
    """A piece of text. `text` is "" where the graph holds only its id."""

    id: str
    text: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Statement:
    """A relation between two entities, by their ids. `chunks`: the ids of the chunks it was read from."""

    source: str
    label: str
    target: str
    chunks: tuple[str, ...] = ()
    properties: Mapping[str, Any] = field(default_factory=dict)


Mention: TypeAlias = "tuple[str, str]"
"""(chunk id, entity id)."""


class Reader(Protocol):
    """One reading of a graph; `size` and what follows it in this order."""

    def counts(self) -> tuple[int, ...] | None:
        """Count nodes and relations; None where that is not cheap."""

    def size(self, limit: int) -> int:
        """Count nodes and relations in any case, by reading them if need be; it may stop beyond the limit."""

    def entities(self) -> Iterator[Entity]:
        """List every entity, each once."""

    def mentions(self) -> Iterator[Mention]:
        """List which chunk mentions which entity, as far as relations say so."""

    def statements(self) -> Iterator[Statement]:
        """List every relation between entities."""

    def chunks(self) -> Iterator[Chunk]:
        """List every chunk that is a node of its own."""


def reader_of(store: PropertyGraphStore, aliases: Sequence[str], mentions: str, cypher: bool | None) -> Reader:
    """Choose how to read a store.

    Args:
        store: any property graph store.
        aliases: the properties that hold further names of an entity.
        mentions: the relation from a chunk to an entity in it.
        cypher: whether `structured_query` takes Cypher over LlamaIndex's labels; None: as we know the store's class.
    """
    if cypher is None:
        known = any(kind.__name__.startswith(_CYPHER_STORES) for kind in type(store).__mro__)
        cypher = known and store.supports_structured_queries
    return CypherReader(store, aliases, mentions) if cypher else PlainReader(store, aliases, mentions)


def checked_property(name: str) -> str:
    """Return a property or relation name that may stand in Cypher; there is no parameter for those."""
    if not _PROPERTY.fullmatch(name):
        raise ConfigurationError(f"{name!r} is no name of a property or relation: letters, digits and _ only")
    return name


class CypherReader:
    """Reads with Cypher that Neo4j, Memgraph and FalkorDB share.

    Rows are flat, never collected: LlamaIndex's stores drop lists of 128 and more values from what a query returns.
    """

    def __init__(self, store: PropertyGraphStore, aliases: Sequence[str], mentions: str) -> None:
        self._store = store
        self._aliases = [checked_property(name) for name in aliases]
        self._mentions = checked_property(mentions)
        projected = any(kind.__name__.startswith("Memgraph") for kind in type(store).__mro__)
        self._properties = "properties(c)" if projected else "c{.*, embedding: NULL}"
        self._bounds: list[tuple[str, str]] = []  # ids (after, up to) of each page of entities

    def counts(self) -> tuple[int, ...]:
        """Count entities, chunks and relations."""
        counted = ("MATCH (n:`__Entity__`)", "MATCH (n:`Chunk`)", "MATCH ()-[n]->()")
        return tuple(self._rows(f"{pattern} RETURN count(n) AS n")[0]["n"] for pattern in counted)

    def size(self, limit: int) -> int:
        """Sum the counts."""
        return sum(self.counts())

    def entities(self) -> Iterator[Entity]:
        """List every entity that is no document."""
        named = "".join(f", e.`{name}` AS alias_{i}" for i, name in enumerate(self._aliases))
        documents = {row["id"] for row in self._rows(
            f"MATCH (c:`Chunk`)-[:{'|'.join(STRUCTURE)}]->(e:`__Entity__`) RETURN DISTINCT e.id AS id"
        )}  # fmt: skip
        cypher = (
            f"MATCH (e:`__Entity__`) WHERE e.id > $after RETURN e.id AS id, e.name AS name,"
            f" e.`{TRIPLET_SOURCE_KEY}` AS chunks{named} ORDER BY e.id LIMIT {PAGE}"
        )
        for after, page in self._pages(cypher):
            self._bounds.append((after, page[-1]["id"]))
            for row in page:
                if row["id"] not in documents:
                    aliases = alias_names(row.get(f"alias_{i}") for i in range(len(self._aliases)))
                    name = str(row.get("name") or row["id"])
                    yield Entity(row["id"], name, aliases, strings(row.get("chunks")))

    def mentions(self) -> Iterator[Mention]:
        """Follow the relation for mentions, in either direction."""
        cypher = (
            f"MATCH (c)-[:`{self._mentions}`]-(e:`__Entity__`) WHERE e.id > $after AND e.id <= $upto"
            " AND c.id IS NOT NULL AND NOT c:`__Entity__` RETURN c.id AS chunk, e.id AS entity"
        )
        for row in self._by_bounds(cypher):
            yield str(row["chunk"]), row["entity"]

    def statements(self) -> Iterator[Statement]:
        """Follow every other relation between entities."""
        cypher = (
            "MATCH (e:`__Entity__`)-[r]->(t:`__Entity__`) WHERE e.id > $after AND e.id <= $upto AND t.id IS NOT NULL"
            " RETURN e.id AS source, type(r) AS label, t.id AS target, properties(r) AS properties"
        )
        for row in self._by_bounds(cypher):
            properties = row.get("properties") or {}
            chunks = strings(properties.get(TRIPLET_SOURCE_KEY))
            yield Statement(row["source"], row["label"], row["target"], chunks, properties)

    def chunks(self) -> Iterator[Chunk]:
        """List the nodes with the label Chunk."""
        cypher = (
            f"MATCH (c:`Chunk`) WHERE c.id > $after RETURN c.id AS id, c.text AS text, {self._properties}"
            f" AS properties ORDER BY c.id LIMIT {PAGE}"
        )
        for _, page in self._pages(cypher):
            for row in page:
                yield Chunk(row["id"], str(row.get("text") or ""), row.get("properties") or {})

    def _pages(self, cypher: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        after = ""
        while page := self._rows(cypher, after=after):
            yield after, page
            after = page[-1]["id"]

    def _by_bounds(self, cypher: str) -> Iterator[dict[str, Any]]:
        for after, upto in self._bounds:
            yield from self._rows(cypher, after=after, upto=upto)

    def _rows(self, cypher: str, **parameters: object) -> list[dict[str, Any]]:
        return list(self._store.structured_query(cypher, param_map=parameters) or ())


class PlainReader:
    """Reads with `get` and `get_triplets`, never with empty ids, which some stores take for "everything"."""

    def __init__(self, store: PropertyGraphStore, aliases: Sequence[str], mentions: str) -> None:
        self._store = store
        self._aliases = aliases
        self._mentions = mentions
        self._nodes: dict[str, LabelledNode] = {}
        self._triplets: list[Triplet] = []

    def counts(self) -> tuple[int, ...] | None:
        """Count nodes and relations where the store is in memory."""
        if not isinstance(self._store, SimplePropertyGraphStore):
            return None
        graph = self._store.graph
        return len(graph.nodes), len(graph.relations)

    def size(self, limit: int) -> int:
        """Read nodes and relations, and keep them for what follows; beyond the limit no more are asked for."""
        if (counts := self.counts()) is not None and sum(counts) > limit:
            return sum(counts)
        self._nodes = {node.id: node for node in self._store.get()}
        self._triplets = list(islice(self._read_triplets(), max(0, limit + 1 - len(self._nodes))))
        return len(self._nodes) + len(self._triplets)

    def entities(self) -> Iterator[Entity]:
        """List every entity that is no document."""
        documents = {
            target.id
            for source, relation, target in self._triplets
            if relation.label in STRUCTURE and isinstance(source, ChunkNode) and not isinstance(target, ChunkNode)
        }
        for node in self._nodes.values():
            if not isinstance(node, ChunkNode) and node.id not in documents:
                name = node.name if isinstance(node, EntityNode) else node.id
                aliases = alias_names(node.properties.get(key) for key in self._aliases)
                yield Entity(node.id, name, aliases, strings(node.properties.get(TRIPLET_SOURCE_KEY)))

    def mentions(self) -> Iterator[Mention]:
        """Follow the relation for mentions, in either direction."""
        for source, relation, target in self._triplets:
            if relation.label == self._mentions:
                if isinstance(source, ChunkNode) and not isinstance(target, ChunkNode):
                    yield source.id, target.id
                elif isinstance(target, ChunkNode) and not isinstance(source, ChunkNode):
                    yield target.id, source.id

    def statements(self) -> Iterator[Statement]:
        """List every relation between entities."""
        for source, relation, target in self._triplets:
            if not isinstance(source, ChunkNode) and not isinstance(target, ChunkNode):
                chunks = strings(relation.properties.get(TRIPLET_SOURCE_KEY))
                yield Statement(source.id, relation.label, target.id, chunks, relation.properties)

    def chunks(self) -> Iterator[Chunk]:
        """List the chunk nodes."""
        for node in self._nodes.values():
            if isinstance(node, ChunkNode):
                yield Chunk(node.id, node.text, node.properties)

    def _read_triplets(self) -> Iterator[Triplet]:
        if isinstance(self._store, SimplePropertyGraphStore):
            yield from _simple_triplets(self._store)
            return
        seen: set[tuple[str, str, str, tuple[str, ...]]] = set()
        ids = iter(self._nodes)
        while batch := list(islice(ids, PAGE)):
            for source, relation, target in self._store.get_triplets(ids=batch):
                key = (source.id, relation.label, target.id, strings(relation.properties.get(TRIPLET_SOURCE_KEY)))
                if key not in seen:
                    seen.add(key)
                    yield self._nodes.get(source.id, source), relation, self._nodes.get(target.id, target)


def _simple_triplets(store: SimplePropertyGraphStore) -> Iterator[Triplet]:
    """Read LlamaIndex's graph in memory at once: its `get_triplets` walks the whole graph for every id asked for."""
    graph = store.graph
    nodes: Mapping[str, LabelledNode] = dict(graph.nodes)
    relations: Iterable[Relation] = list(graph.relations.values())
    held = set(graph.triplets)
    for relation in relations:
        source, target = nodes.get(relation.source_id), nodes.get(relation.target_id)
        if source is not None and target is not None and (source.id, relation.id, target.id) in held:
            yield source, relation, target


def strings(value: object) -> tuple[str, ...]:
    """Read a property that holds one string, several, or none."""
    values = value if isinstance(value, (list, tuple, set, frozenset)) else (value,)
    return tuple(dict.fromkeys(str(one) for one in values if one is not None and one != ""))


def alias_names(values: Iterable[object]) -> tuple[str, ...]:
    """Read names from properties: lists, or strings with ; | or line ends between the names."""
    found = (part.strip() for value in values for text in strings(value) for part in _ALIAS_ENDS.split(text))
    return tuple(dict.fromkeys(name for name in found if name))
