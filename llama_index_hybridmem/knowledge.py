"""Reads what users bring along, triples and existing indexes, into facts and nodes; writes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from llama_index.core.graph_stores.types import PropertyGraphStore
from llama_index.core.indices.vector_store.base import VectorStoreIndex
from llama_index.core.schema import BaseNode

from .errors import ConfigurationError
from .graph.facts import read_facts
from .graph.nodes import facts_from_property_graph
from .graph.stores.base import Fact

Triples = str | Path | PropertyGraphStore | Iterable[Fact | tuple[str, str, str]]
"""A CSV file (subject, relation, object), a LlamaIndex property graph, or the triples themselves."""


def facts_of(triples: Triples) -> list[Fact]:
    """Read triples from wherever they are.

    Raises:
        IngestError: a CSV file that cannot be read; names file and line.
        ConfigurationError: a triple that does not have three filled parts.
    """
    if isinstance(triples, str | Path):
        return read_facts(triples)
    if isinstance(triples, PropertyGraphStore):
        return facts_from_property_graph(triples)
    return [triple if isinstance(triple, Fact) else _fact(triple, place) for place, triple in enumerate(triples)]


def _fact(triple: object, place: int) -> Fact:
    parts = list(triple) if isinstance(triple, list | tuple) else []
    if len(parts) != 3 or not all(isinstance(part, str) and part.strip() for part in parts):
        raise ConfigurationError(
            f"triples[{place}]: expected (subject, relation, object), three strings, not {triple!r}"
        )
    subject, relation, target = parts
    return Fact(subject, relation, target, source="user")


def nodes_of(vector_index: VectorStoreIndex) -> list[BaseNode]:
    """List the nodes of an existing index, from its docstore or else its vector store.

    Raises:
        ConfigurationError: neither can hand them back.
    """
    stored = list(vector_index.docstore.docs.values())
    if stored:
        return stored
    try:
        return list(vector_index.vector_store.get_nodes())
    except NotImplementedError as error:
        raise ConfigurationError(
            f"{type(vector_index.vector_store).__name__} cannot list its nodes and the index has no docstore; "
            "add the documents with HybridMemoryIndex.from_documents instead"
        ) from error
