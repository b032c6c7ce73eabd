"""Ours over the same passages and triples: Qdrant Edge beside Neo4j, beside SQLite, and over the others' own graph."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from _servers_corpus import Corpus
from _servers_peers import TOP_N, Arm
from _servers_place import Address
from _servers_their_graph import property_graph_store
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import QueryBundle

from llama_index_hybridmem import EntityGraphRetriever, HybridMemoryIndex
from llama_index_hybridmem.graph.stores.base import GraphStore
from llama_index_hybridmem.graph.stores.bolt import Bolt
from llama_index_hybridmem.graph.stores.neo4j.store import Neo4jGraphStore
from llama_index_hybridmem.graph.stores.property_graph import PropertyGraphMemory

_BATCH = 500


class TimedBolt(Bolt):
    """A connection that counts its reads and the seconds they took.

    Attributes:
        reads: statements so far.
        seconds: spent in them so far, as the caller waits.
    """

    reads = 0
    seconds = 0.0

    def read(self, *args: Any, **kwargs: Any) -> list[list[Any]]:
        """Run one statement."""
        began = time.perf_counter()
        try:
            return super().read(*args, **kwargs)
        finally:
            self.reads += 1
            self.seconds += time.perf_counter() - began


def embedded(corpus: Corpus, encoder: BaseEmbedding, folder: Path) -> HybridMemoryIndex:
    """Build the embedded index: Qdrant Edge for vectors and keywords, SQLite for the graph."""
    index = HybridMemoryIndex.from_documents([], persist_dir=folder, embed_model=encoder)
    index.insert_nodes(list(corpus.nodes), facts=corpus.facts)
    index.optimize()
    return index


def graph_store(address: Address, store: str, bolt: type[Bolt] = Bolt) -> Neo4jGraphStore:
    """Connect our store."""
    user, password = address.auth or (None, None)
    return Neo4jGraphStore(
        bolt(address.uri, username=user, password=password, database=address.database, timeout_s=60), store=store
    )


def write(address: Address, store: str, corpus: Corpus) -> float:
    """Write the graph into Neo4j; returns seconds."""
    passages = corpus.passages()
    graph = graph_store(address, store)
    began = time.perf_counter()
    for start in range(0, len(passages), _BATCH):
        graph.upsert(passages[start : start + _BATCH])
    seconds = time.perf_counter() - began
    close(graph)
    return seconds


def close(graph: Neo4jGraphStore) -> None:
    """Close a store and the connection that was given to it."""
    graph.close()
    graph.bolt.close()


def arms(address: Address, store: str, index: HybridMemoryIndex, encoder: BaseEmbedding) -> Iterator[Arm]:
    """List ours; "hops=2" is the default of the retriever."""
    for hops in (2, 1):
        graph = graph_store(address, store)
        settings = {"hops": hops, "vectors": "Qdrant Edge", "graph": "Neo4j"}
        yield asking(f"ours, hops={hops}", graph, index, encoder, hops, settings, lambda graph=graph: close(graph))
    foreign = property_graph_store(address)
    memory = PropertyGraphMemory(foreign, vector_store=index.vector_store, check_s=None)
    memory.refresh()

    def close_both() -> None:
        memory.close()
        foreign.close()

    settings = {"hops": 2, "vectors": "Qdrant Edge", "graph": "the others' graph, read into memory"}
    yield asking("ours, PropertyGraphMemory", memory, index, encoder, 2, settings, close_both)
    settings = {"hops": 2, "vectors": "Qdrant Edge", "graph": "SQLite"}
    yield asking("ours, embedded", index.graph_store, index, encoder, 2, settings)


def asking(
    name: str,
    graph: object,
    index: HybridMemoryIndex,
    encoder: BaseEmbedding,
    hops: int,
    settings: Mapping[str, object],
    close: object = lambda: None,
) -> Arm:
    """Make an arm of a graph store and the index's vectors."""
    store: GraphStore = graph  # type: ignore[assignment]  # the reading half is all that a retriever asks for
    retriever = EntityGraphRetriever(
        store, vector_store=index.vector_store, embed_model=encoder, similarity_top_k=TOP_N, hops=hops
    )

    def ask(question: str, vector: Sequence[float] | None) -> list[str]:
        bundle = QueryBundle(question, embedding=None if vector is None else list(vector))
        return [found.node.node_id for found in retriever.retrieve(bundle)]

    return Arm(name, ask, settings, close)  # type: ignore[arg-type]
