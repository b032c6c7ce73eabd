"""Reads somebody's own graph in Neo4j: relations as facts, named nodes as names, chunks as passages; writes nothing.

Whatever its labels: no label and no property name of theirs becomes part of a statement, all of them are parameters.
It reads in READ sessions, page by page, and knows no store of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llama_index.core.graph_stores.types import TRIPLET_SOURCE_KEY
from llama_index.core.vector_stores.utils import metadata_dict_to_node

from ..errors import StoreError
from .entities import declared_names, is_short, normalise
from .nodes import to_passage
from .stores.base import Fact, Passage

NAMES = ("name", "title", "id")
"""Properties that a node's name is looked for in, in this order."""
CHUNKS = ("Chunk",)
_TEXTS = ("text", "content", "page_content")
_OURS = "Hybridmem"
_PAGE = 2_000
_VECTOR = 32
"""Numbers from which on a list is an embedding, and no metadata to filter by."""
_SCREAMING = re.compile(r"(?=.*_|.{4})[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*")

# What is left aside throughout: nodes of a Neo4jGraphStore, ours.
_FOREIGN = "none(l IN labels({0}) WHERE l STARTS WITH $ours)"
_IS_CHUNK = "any(l IN labels({0}) WHERE l IN $chunk_labels) AND any(k IN $texts WHERE {0}[k] IS NOT NULL)"
_ENTITY = f"{_FOREIGN} AND NOT ({_IS_CHUNK})"
_RELATIONS = (
    f"MATCH (a)-[r]->(b) WHERE elementId(r) > $after AND {_ENTITY.format('a')} AND {_ENTITY.format('b')}"
    " RETURN elementId(r), [k IN $names | a[k]], type(r), [k IN $names | b[k]], r[$source]"
    " ORDER BY elementId(r) LIMIT $limit"
)
_ENTITIES = (
    f"MATCH (a) WHERE elementId(a) > $after AND {_ENTITY.format('a')} AND any(k IN $names WHERE a[k] IS NOT NULL)"
    " RETURN elementId(a), [k IN $names | a[k]] ORDER BY elementId(a) LIMIT $limit"
)
_CHUNKS = (
    f"MATCH (c) WHERE elementId(c) > $after AND {_FOREIGN.format('c')} AND {_IS_CHUNK.format('c')}"
    " WITH c ORDER BY elementId(c) LIMIT $limit"
    f" OPTIONAL MATCH (c)--(a) WHERE {_ENTITY.format('a')}"
    " RETURN elementId(c), properties(c), collect([k IN $names | a[k]])"
    " ORDER BY elementId(c)"
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
    """

    read: Read
    source: str
    names: Sequence[str] = NAMES
    chunk_labels: Sequence[str] = CHUNKS

    def is_empty(self) -> bool:
        """Whether there is no node but ours."""
        return not self.read(f"MATCH (a) WHERE {_FOREIGN.format('a')} RETURN 1 LIMIT 1", {"ours": _OURS})

    def facts(self) -> Iterator[Fact]:
        """Read every relation between named nodes as a fact, with the chunk it came from where the relation says it.

        LlamaIndex writes that as `triplet_source_id`. Relations with an end that has no name are passed over.
        """
        for row in self._pages(_RELATIONS):
            _, subject, relation, target, chunk = row
            ends = _first(subject), _first(target)
            if all(ends):
                yield Fact(ends[0], readable(relation), ends[1], chunk if isinstance(chunk, str) else None, self.source)

    def entities(self) -> Iterator[str]:
        """Read the name of every node that has one and is no chunk."""
        for _, names in self._pages(_ENTITIES):
            if (name := _first(names)) and is_short(normalise(name)):
                yield name

    def chunks(self) -> Iterator[Passage]:
        """Read every chunk with a text as a passage that declares the names of the nodes it is tied to."""
        for number, properties, names in self._pages(_CHUNKS):
            passage = _passage(number, properties)
            if passage is not None:
                near = [normalise(name) for found in names if (name := _first(found))]
                kept = [name for name in near if name and is_short(name)]
                yield replace(passage, names=tuple(dict.fromkeys([*passage.names, *kept])))

    def _pages(self, cypher: str) -> Iterator[list[Any]]:
        given = {
            "ours": _OURS, "names": list(self.names), "chunk_labels": list(self.chunk_labels), "texts": list(_TEXTS),
            "source": TRIPLET_SOURCE_KEY, "limit": _PAGE,
        }  # fmt: skip
        after = ""
        while rows := self.read(cypher, {**given, "after": after}):
            yield from rows
            after = rows[-1][0]


def readable(relation: str) -> str:
    """Write a relation's type as words where it is plainly shouted: "ACQUIRED_BY" as "acquired by"; else as it is."""
    return relation.replace("_", " ").lower() if _SCREAMING.fullmatch(relation) else relation


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
    kept = {key: value for key, value in properties.items() if key not in (*_TEXTS, "id") and not _is_vector(value)}
    return Passage(
        node_id=node_id,
        doc_id=str(properties.get("doc_id") or properties.get("ref_doc_id") or node_id),
        title=str(title),
        text=text,
        names=tuple(declared_names(text, str(title))),
        metadata=kept,
    )


def _is_vector(value: object) -> bool:
    return isinstance(value, list) and len(value) >= _VECTOR and all(isinstance(each, float) for each in value)
