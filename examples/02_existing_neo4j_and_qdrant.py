"""An app with a knowledge graph in Neo4j and documents in Qdrant gains hybrid memory; neither is ingested again.

    make servers                                          # or servers of your own
    export NEO4J_URI=bolt://localhost:7687 NEO4J_PASSWORD=only-on-this-machine QDRANT_URL=http://localhost:6333
    python examples/02_existing_neo4j_and_qdrant.py       # extras `encoder`, `files`, `neo4j` and `qdrant`

Graph and collection are made of the sample data and removed at the end; whatever else the servers hold is left alone.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from llama_index.core import SimpleDirectoryReader, StorageContext, VectorStoreIndex
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import BaseNode
from llama_index.graph_stores.neo4j import Neo4jPropertyGraphStore
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient

from llama_index_hybridmem import (
    EntityGraphRetriever,
    HybridRetriever,
    HybridRouterQueryEngine,
    MiniLMEmbedding,
    Neo4jGraphStore,
    PropertyGraphMemory,
)
from llama_index_hybridmem.sample import documents_folder, facts_path

NAME = "hybridmem-example-02"
NOBODY = "bolt://127.0.0.1:9"  # a port where no Neo4j listens
QUESTION = "Which investor led the purchase of the memory business of the company that presented BiCS in 2007?"
# Statements with the chunk each was read from, as a PropertyGraphIndex leaves them; LlamaIndex's own upsert needs APOC.
WRITE = """
UNWIND $facts AS fact
MERGE (a:__Node__:__Entity__ {id: $name + fact.entity}) SET a.name = fact.entity
MERGE (b:__Node__:__Entity__ {id: $name + fact.value}) SET b.name = fact.value
MERGE (a)-[said:$(fact.attribute)]->(b) SET said.triplet_source_id = fact.chunk
WITH a, b, fact MATCH (chunk:__Node__ {id: fact.chunk})
MERGE (chunk)-[:MENTIONS]->(a) MERGE (chunk)-[:MENTIONS]->(b)
"""
REMOVE = "MATCH (n:__Node__) WHERE n.id STARTS WITH $name OR n.id IN $chunks DETACH DELETE n"


@contextmanager
def app_graph(uri: str, nodes: Sequence[BaseNode]) -> Iterator[Neo4jPropertyGraphStore]:
    """The app's knowledge graph: its chunks, and what the sample documents' tables say of them."""
    user, password = os.environ.get("NEO4J_USERNAME", "neo4j"), os.environ.get("NEO4J_PASSWORD", "")
    database = os.environ.get("NEO4J_DATABASE", "neo4j")
    # Without the last three it reads the schema, for seconds, and waits a minute for a server that is down.
    graph = Neo4jPropertyGraphStore(
        user, password, uri, database, refresh_schema=False, max_transaction_retry_time=0, connection_timeout=2
    )
    first = {Path(node.metadata["file_name"]).stem: node.node_id for node in reversed(nodes)}
    with facts_path().open(encoding="utf-8", newline="") as file:
        facts = [{**row, "chunk": first[row["document"]]} for row in csv.DictReader(file) if not row["unit"]]
    try:
        graph.upsert_llama_nodes(list(nodes))
        graph.structured_query(WRITE, param_map={"facts": facts, "name": NAME})
        yield graph
    finally:
        graph.structured_query(REMOVE, param_map={"name": NAME, "chunks": [node.node_id for node in nodes]})
        graph.close()


@contextmanager
def app_vectors(url: str | None, nodes: Sequence[BaseNode], encoder: MiniLMEmbedding) -> Iterator[VectorStoreIndex]:
    """The app's documents in Qdrant."""
    client = QdrantClient(url) if url else QdrantClient(":memory:")
    store = QdrantVectorStore(NAME, client=client)
    try:
        context = StorageContext.from_defaults(vector_store=store)
        yield VectorStoreIndex(nodes, storage_context=context, embed_model=encoder)
    finally:
        client.delete_collection(NAME)
        client.close()


def hybrid(vectors: VectorStoreIndex, graph: PropertyGraphMemory | Neo4jGraphStore) -> HybridRouterQueryEngine:
    """What is new: both memories asked side by side, each under a deadline, and one answer."""
    encoder = vectors._embed_model
    relational = EntityGraphRetriever(graph, vector_store=vectors.vector_store, embed_model=encoder, similarity_top_k=4)
    stores = {"vector": vectors.as_retriever(similarity_top_k=4), "graph": relational}
    retriever = HybridRetriever(stores, weights={"graph": 2.0}, similarity_top_k=4)
    return HybridRouterQueryEngine(retriever, response_mode="no_text")  # sources and facts: no language model


def ask(title: str, engine: HybridRouterQueryEngine) -> None:
    """Ask the question, and show what the answer rests on."""
    response = engine.query(QUESTION)
    print(f"\n== {title}\n\n{response}\n")
    for rank, found in enumerate(response.source_nodes, start=1):
        why = found.node.metadata["hybridmem"]
        path = f", by way of {' and '.join(why['path']['names'])}" if why["path"] else ""
        print(f"[{rank}] {found.node.metadata['file_name']}: found by {' and '.join(why['stores'])}{path}")
    for reason in (response.metadata or {})["hybridmem"]["degraded"]:
        print(f"degraded: {reason.splitlines()[0]}")


def main(uri: str, url: str | None) -> None:
    """Set the app up, give it hybrid memory, then take Neo4j away."""
    documents = SimpleDirectoryReader(documents_folder()).load_data()
    nodes = SentenceSplitter(chunk_size=256, chunk_overlap=0).get_nodes_from_documents(documents)
    with app_vectors(url, nodes, MiniLMEmbedding()) as vectors, app_graph(uri, nodes) as graph:
        memory = PropertyGraphMemory(graph, vector_store=vectors.vector_store)
        memory.refresh()  # reads the graph now; else the first question waits for it
        ask("The app's own graph and vectors", hybrid(vectors, memory))
        memory.close()
        nowhere = Neo4jGraphStore(NOBODY)
        ask("The same question while Neo4j is down", hybrid(vectors, nowhere))
        nowhere.close()


if uri := os.environ.get("NEO4J_URI"):
    url = os.environ.get("QDRANT_URL")
    print("documents in", url or "qdrant-client's local mode, in this process: QDRANT_URL is not set")
    main(uri, url)
else:
    print(
        "This example needs a Neo4j: `make servers` starts one, then set NEO4J_URI and NEO4J_PASSWORD (see its head)."
    )
