"""Reads somebody's own graph in Neo4j: relations as facts, named nodes as names, chunks as passages; writes nothing.

Whatever its labels: no label and no property name of theirs becomes part of a statement, all of them are parameters.
It reads in READ sessions, page by page, in time that grows with the graph and no faster; it knows no store of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llama_index.core.graph_stores.types import TRIPLET_SOURCE_KEY
from llama_index.core.vector_stores.utils import metadata_dict_to_node

from ..errors import StoreError
from .cypher_rows import is_vector, readable
from .entities import declared_names, is_short, normalise
from .nodes import to_passage
from .stores.base import Fact, Passage
from .stores.property_graph_reading import ALIASES, alias_names

NAMES = ("name", "title", "id")
"""Properties that a node's name is looked for in, in this order."""
CHUNKS = ("Chunk",)
ALSO = "also known as"
"""The relation between a node's name and its further names."""
_TEXTS = ("text", "content", "page_content")
_OURS = "Hybridmem"
_PAGE = 2_000

# What is left aside throughout: nodes of a Neo4jGraphStore, ours.
_FOREIGN = "none(l IN labels({0}) WHERE l STARTS WITH $ours)"
_IS_CHUNK = "any(l IN labels({0}) WHERE l IN $chunk_labels) AND any(k IN $texts WHERE {0}[k] IS NOT NULL)"
_ENTITY = f"{_FOREIGN} AND NOT ({_IS_CHUNK})"


@dataclass(frozen=True)
class _Kind:
    """What is read in one go: first the ids of all of it, in one look at the whole graph, then page by page.

    The rows of a page are sought by their ids, so a page costs what is on it. Everything comes as one list: the driver
    takes ten times as long for as many rows.

    Attributes:
        ids: gives one row, the list of element ids.
        page: gives one row, a list of lists for the ids in `$page`, an id first.
    """

    ids: str
    page: str


_NAMED = f"{_ENTITY.format('a')} AND any(k IN $names WHERE a[k] IS NOT NULL)"
_RELATIONS = _Kind(
    f"MATCH (a)-[r]->(b) WHERE {_ENTITY.format('a')} AND {_ENTITY.format('b')} RETURN collect(elementId(r))",
    "MATCH (a)-[r]->(b) WHERE elementId(r) IN $page"
    " RETURN collect([elementId(r), [k IN $names | a[k]], type(r), [k IN $names | b[k]], r[$source]])",
)
_ENTITIES = _Kind(
    f"MATCH (a) WHERE {_NAMED} RETURN collect(elementId(a))",
    "MATCH (a) WHERE elementId(a) IN $page RETURN collect([elementId(a), [k IN $names | a[k]]])",
)
_ALIASED = _Kind(
    f"MATCH (a) WHERE {_NAMED} AND any(k IN $aliases WHERE a[k] IS NOT NULL) RETURN collect(elementId(a))",
    "MATCH (a) WHERE elementId(a) IN $page"
    " RETURN collect([elementId(a), [k IN $names | a[k]], [k IN $aliases | a[k]]])",
)
_CHUNKS = _Kind(
    f"MATCH (c) WHERE {_FOREIGN.format('c')} AND {_IS_CHUNK.format('c')} RETURN collect(elementId(c))",
    f"MATCH (c) WHERE elementId(c) IN $page OPTIONAL MATCH (c)--(a) WHERE {_ENTITY.format('a')}"
    " WITH c, collect([k IN $names | a[k]]) AS near RETURN collect([elementId(c), properties(c), near])",
)

Read = Callable[[str, Mapping[str, object]], list[list[Any]]]
"""Runs one statement that reads, as `Bolt.read` does."""


@dataclass(frozen=True)
class Foreign:
    """Somebody's graph.

    Args:
        read: runs a statement.
        source: what facts name as where they come from.
        names: properties that a node's name is looked for in, in this order.
        chunk_labels: of nodes that are texts.
        aliases: properties that hold further names of a node, as a list or with ; between them.
    """

    read: Read
    source: str
    names: Sequence[str] = NAMES
    chunk_labels: Sequence[str] = CHUNKS
    aliases: Sequence[str] = ALIASES

    def is_empty(self) -> bool:
        """Whether there is no node but ours."""
        return not self.read(f"MATCH (a) WHERE {_FOREIGN.format('a')} RETURN 1 LIMIT 1", {"ours": _OURS})

    def facts(self) -> Iterator[Fact]:
        """Read every relation between named nodes as a fact, with the chunk it came from where the relation says it.

        LlamaIndex writes that as `triplet_source_id`. Relations with an end that has no name are passed over. Further
        names of a node are facts as well, "Northwind Devices → also known as → ND": they tie the names to each other.
        """
        for row in self._rows(_RELATIONS):
            _, subject, relation, target, chunk = row
            ends = _first(subject), _first(target)
            if all(ends):
                yield Fact(ends[0], readable(relation), ends[1], chunk if isinstance(chunk, str) else None, self.source)
        for _, names, spellings in self._rows(_ALIASED):
            if name := _first(names):
                known = normalise(name)
                others = (alias for alias in alias_names(spellings) if normalise(alias) not in ("", known))
                yield from (Fact(name, ALSO, alias, source=self.source) for alias in others)

    def entities(self) -> Iterator[str]:
        """Read the name of every node that has one and is no chunk."""
        for _, names in self._rows(_ENTITIES):
            if (name := _first(names)) and is_short(normalise(name)):
                yield name

    def chunks(self) -> Iterator[Passage]:
        """Read every chunk with a text as a passage that declares the names of the nodes it is tied to."""
        for number, properties, names in self._rows(_CHUNKS):
            passage = _passage(number, properties)
            if passage is not None:
                near = [normalise(name) for found in names if (name := _first(found))]
                kept = [name for name in near if name and is_short(name)]
                yield replace(passage, names=tuple(dict.fromkeys([*passage.names, *kept])))

    def _rows(self, kind: _Kind) -> Iterator[list[Any]]:
        """Read all of one kind, in the order of its ids; what was removed meanwhile is missing."""
        given = {
            "ours": _OURS, "names": list(self.names), "chunk_labels": list(self.chunk_labels), "texts": list(_TEXTS),
            "source": TRIPLET_SOURCE_KEY, "aliases": list(self.aliases),
        }  # fmt: skip
        [[ids]] = self.read(kind.ids, given)
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            [[rows]] = self.read(kind.page, {**given, "page": page})
            found = {row[0]: row for row in rows}
            yield from (found[each] for each in page if each in found)


def _first(values: Sequence[object]) -> str:
    """The first value that is a text with a word in it."""
    return next((" ".join(value.split()) for value in values if isinstance(value, str) and normalise(value)), "")


def _passage(number: str, properties: dict[str, Any]) -> Passage | None:
    text = next((found for key in _TEXTS if isinstance(found := properties.get(key), str) and found.strip()), "")
    if not text:
        return None
    if isinstance(properties.get("_node_content"), str):  # of LlamaIndex: the node as it was
        try:
            return to_passage(metadata_dict_to_node(properties, text=text))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"chunk {properties.get('id')!r} holds a node that LlamaIndex cannot read: {error}"
            ) from error
    title = properties.get("title") if isinstance(properties.get("title"), str) else ""
    node_id = str(properties.get("id") or number)
    kept = {key: value for key, value in properties.items() if key not in (*_TEXTS, "id") and not is_vector(value)}
    return Passage(
        node_id=node_id,
        doc_id=str(properties.get("doc_id") or properties.get("ref_doc_id") or node_id),
        title=str(title),
        text=text,
        names=tuple(declared_names(text, str(title))),
        metadata=kept,
    )
