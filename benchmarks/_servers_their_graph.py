"""The graph that the others read, written as LlamaIndex writes one; asks no questions.

LlamaIndex's `Neo4jPropertyGraphStore` writes it: chunks with their vectors, entities with theirs, MENTIONS from each
chunk to its entities, and the triples as relations. neo4j-graphrag's indexes over the chunks are added, and Qdrant's
local mode holds the same vectors.
"""

from __future__ import annotations

from _servers_corpus import Corpus
from _servers_place import Address
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.graph_stores.types import TRIPLET_SOURCE_KEY, EntityNode, Relation
from llama_index.graph_stores.neo4j import Neo4jPropertyGraphStore
from neo4j_graphrag.indexes import create_fulltext_index, create_vector_index
from qdrant_client import QdrantClient
from qdrant_client.models import Distance, PointStruct, VectorParams

VECTORS, WORDS, COLLECTION = "bench_chunk_vectors", "bench_chunk_words", "chunks"


def write(address: Address, corpus: Corpus, encoder: BaseEmbedding) -> QdrantClient:
    """Write the graph, make the indexes, and give Qdrant's local mode the vectors."""
    store = property_graph_store(address, create_indexes=True)
    store.upsert_llama_nodes(list(corpus.nodes))
    entities, relations = _graph(corpus, encoder)
    store.upsert_nodes([*entities])
    store.upsert_relations(relations)
    size = len(corpus.nodes[0].embedding or ())
    create_vector_index(store.client, VECTORS, "Chunk", "embedding", size, "cosine", neo4j_database=address.database)
    create_fulltext_index(store.client, WORDS, "Chunk", ["text", "title"], neo4j_database=address.database)
    store.structured_query("CALL db.awaitIndexes(300)")
    store.close()
    return _qdrant(corpus)


def property_graph_store(address: Address, *, create_indexes: bool = False) -> Neo4jPropertyGraphStore:
    """Connect LlamaIndex's store; its schema refresh would ask once per kind of relation, of which there are 5,000."""
    user, password = address.auth or ("", "")
    return Neo4jPropertyGraphStore(
        user, password, address.uri, database=address.database, refresh_schema=False, create_indexes=create_indexes
    )


def _graph(corpus: Corpus, encoder: BaseEmbedding) -> tuple[list[EntityNode], list[Relation]]:
    """Every entity once per passage that has it, so that each passage mentions its entities, and the relations."""
    said = [(node_id, fact) for node_id, facts in corpus.facts.items() for fact in facts]
    pairs = dict.fromkeys((name, node_id) for node_id, fact in said for name in (fact.subject, fact.object))
    names = list(dict.fromkeys(name for name, _ in pairs))
    vectors = dict(zip(names, encoder.get_text_embedding_batch(names), strict=True))
    entities = [
        EntityNode(name=name, embedding=vectors[name], properties={TRIPLET_SOURCE_KEY: node_id})
        for name, node_id in pairs
    ]
    ids = {entity.name: entity.id for entity in entities}
    relations = [
        Relation(
            label=fact.relation,
            source_id=ids[fact.subject],
            target_id=ids[fact.object],
            properties={TRIPLET_SOURCE_KEY: node_id},
        )
        for node_id, fact in said
    ]
    return entities, relations


def _qdrant(corpus: Corpus) -> QdrantClient:
    client = QdrantClient(":memory:")
    size = len(corpus.nodes[0].embedding or ())
    client.create_collection(COLLECTION, vectors_config=VectorParams(size=size, distance=Distance.COSINE))
    points = [
        PointStruct(id=number, vector=node.embedding or [], payload={"id": node.node_id})
        for number, node in enumerate(corpus.nodes)
    ]
    client.upload_points(COLLECTION, points)
    return client
