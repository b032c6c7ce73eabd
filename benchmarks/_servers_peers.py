"""The others over one graph: `neo4j-graphrag`'s retrievers and LlamaIndex's property graph; knows nothing of ours.

All of them read the graph that `_servers_their_graph.write` wrote. Each is tuned a little, on the very questions that
it is measured with, which favours it; `CANDIDATES` says what was tried.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import neo4j
from _servers_place import Address
from _servers_their_graph import COLLECTION, VECTORS, WORDS, property_graph_store
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.indices.property_graph import PropertyGraphIndex, VectorContextRetriever
from llama_index.core.llms import MockLLM
from llama_index.core.schema import QueryBundle
from neo4j_graphrag.embeddings.base import Embedder
from neo4j_graphrag.retrievers import HybridCypherRetriever, QdrantNeo4jRetriever, VectorCypherRetriever
from neo4j_graphrag.types import RetrieverResultItem
from qdrant_client import QdrantClient

Ask = Callable[[str, Sequence[float] | None], list[str]]
"""A question, and its vector or None to have it encoded; gives passage ids, best first."""

TOP_N = 10
MAX_DF = 50
EFFECTIVE_SEARCH_RATIO = 10  # at 1 the index itself costs 6 points of recall@5: it is approximate and quantised


@dataclass(frozen=True)
class Arm:
    """One way of retrieving.

    Attributes:
        name: as the tables call it.
        ask: asks it.
        settings: what it was set up with.
        close: releases its connections.
    """

    name: str
    ask: Ask
    settings: Mapping[str, object] = field(default_factory=dict)
    close: Callable[[], None] = lambda: None


class GraphragEncoder(Embedder):
    """Our encoder as neo4j-graphrag takes one."""

    def __init__(self, encoder: BaseEmbedding) -> None:
        super().__init__()
        self._encoder = encoder

    def embed_query(self, text: str) -> list[float]:
        """Encode a question."""
        return self._encoder.get_query_embedding(text)


# -- neo4j-graphrag --------------------------------------------------------------------------------------------------

STEPS = {
    "entity": "MATCH (e)<-[:MENTIONS]-(node:Chunk)",
    "relation": f"""MATCH (e)-[said]-(other:__Entity__) WHERE type(said) <> 'MENTIONS'
      WITH DISTINCT seed, score, df, other WHERE COUNT {{ (other)<-[:MENTIONS]-() }} <= {MAX_DF}
      MATCH (other)<-[:MENTIONS]-(node:Chunk)""",
}
"""From an entity of a found passage to further passages: those that have it, or those that have what it relates to."""

SCORES = {
    "cosine": "vector.similarity.cosine(node.embedding, $query_vector) + $weight * near",
    "rank": "own + $weight * near",
}
"""A passage's score: its own similarity, where the query vector reaches Cypher, or what the search before it gave."""


def retrieval_query(step: str, scored: str, weight: float) -> str:
    """Write the Cypher that goes on from the passages found: to their entities that are in few passages, and on.

    Among several ways to a passage the best counts; a sum over them was worse.
    """
    return f"""
    WITH collect({{node: node, score: score}}) AS seeds
    CALL (seeds) {{
      UNWIND seeds AS seed
      RETURN seed.node AS node, seed.score AS own, 0.0 AS near
      UNION ALL
      UNWIND seeds AS seed
      WITH seed.node AS seed, seed.score AS score
      MATCH (seed)-[:MENTIONS]->(e:__Entity__)
      WITH seed, score, e, COUNT {{ (e)<-[:MENTIONS]-() }} AS df
      WHERE 1 < df <= {MAX_DF}
      {STEPS[step]}
      WHERE node <> seed
      RETURN node, 0.0 AS own, score / df AS near
    }}
    WITH node, max(own) AS own, max(near) AS near
    WITH node, {SCORES[scored].replace("$weight", str(weight))} AS score
    ORDER BY score DESC LIMIT {TOP_N}
    RETURN node.id AS id, node.text AS text, score
    """


def _item(record: neo4j.Record) -> RetrieverResultItem:
    return RetrieverResultItem(content=record["text"], metadata={"id": record["id"]})


def _ids(found: Any) -> list[str]:
    return [item.metadata["id"] for item in found.items]


def words(question: str) -> str:
    """Leave what Lucene's query language does not read as an operator."""
    return re.sub(r"\b(AND|OR|NOT)\b|[^\w\s]", " ", question)


class Graphrag:
    """Makes neo4j-graphrag's three retrievers over one driver."""

    def __init__(self, address: Address, encoder: BaseEmbedding, qdrant: QdrantClient) -> None:
        self._driver = neo4j.GraphDatabase.driver(
            address.uri, auth=address.auth, notifications_min_severity="OFF", max_connection_pool_size=32
        )
        self._database = address.database
        self._encoder = GraphragEncoder(encoder)
        self._qdrant = qdrant

    def close(self) -> None:
        """Close the driver."""
        self._driver.close()

    def vector(self, step: str, top_k: int, weight: float) -> Ask:
        """Make a VectorCypherRetriever."""
        retriever = VectorCypherRetriever(
            self._driver,
            VECTORS,
            retrieval_query(step, "cosine", weight),
            embedder=self._encoder,
            result_formatter=_item,
            neo4j_database=self._database,
        )

        def ask(question: str, vector: Sequence[float] | None) -> list[str]:
            asked = {"query_text": question} if vector is None else {"query_vector": vector}
            return _ids(retriever.search(**asked, top_k=top_k, effective_search_ratio=EFFECTIVE_SEARCH_RATIO))

        return ask

    def hybrid(self, step: str, scored: str, ranker: str, top_k: int, weight: float) -> Ask:
        """Make a HybridCypherRetriever."""
        retriever = HybridCypherRetriever(
            self._driver,
            VECTORS,
            WORDS,
            retrieval_query(step, scored, weight),
            embedder=self._encoder,
            result_formatter=_item,
            neo4j_database=self._database,
        )
        alpha = 0.5 if ranker == "linear" else None

        def ask(question: str, vector: Sequence[float] | None) -> list[str]:
            # Encoded here, from the question as it is; the retriever would encode what Lucene gets.
            encoded = self._encoder.embed_query(question) if vector is None else vector
            found = retriever.search(
                query_text=words(question),
                query_vector=encoded,
                top_k=top_k,
                effective_search_ratio=EFFECTIVE_SEARCH_RATIO,
                ranker=ranker,
                alpha=alpha,
            )
            return _ids(found)

        return ask

    def qdrant(self, step: str, top_k: int, weight: float) -> Ask:
        """Make a QdrantNeo4jRetriever; the query vector does not reach its Cypher, so further passages go by links."""
        retriever = QdrantNeo4jRetriever(
            driver=self._driver,
            client=self._qdrant,
            collection_name=COLLECTION,
            id_property_neo4j="id",
            embedder=self._encoder,
            retrieval_query=retrieval_query(step, "rank", weight),
            result_formatter=_item,
            neo4j_database=self._database,
            node_label_neo4j="Chunk",
        )

        def ask(question: str, vector: Sequence[float] | None) -> list[str]:
            asked = {"query_text": question} if vector is None else {"query_vector": vector}
            return _ids(retriever.search(**asked, top_k=top_k))

        return ask


# -- LlamaIndex ------------------------------------------------------------------------------------------------------


class LlamaIndexGraph:
    """Makes `PropertyGraphIndex` with `VectorContextRetriever` over its own store."""

    def __init__(self, address: Address, encoder: BaseEmbedding) -> None:
        self._store = property_graph_store(address)
        self._encoder = encoder

    def close(self) -> None:
        """Close the driver."""
        self._store.close()

    def context(self, top_k: int, path_depth: int, limit: int) -> Ask:
        """Make the retriever."""
        index = PropertyGraphIndex.from_existing(
            self._store, embed_model=self._encoder, llm=MockLLM(), embed_kg_nodes=False, use_async=False
        )
        context = VectorContextRetriever(
            self._store,
            embed_model=self._encoder,
            similarity_top_k=top_k,
            path_depth=path_depth,
            limit=limit,
            include_text=True,
        )
        retriever = index.as_retriever(sub_retrievers=[context])

        def ask(question: str, vector: Sequence[float] | None) -> list[str]:
            bundle = QueryBundle(question, embedding=None if vector is None else list(vector))
            return list(dict.fromkeys(found.node.node_id for found in retriever.retrieve(bundle)))

        return ask


# -- tuning ----------------------------------------------------------------------------------------------------------

CANDIDATES: dict[str, list[dict[str, Any]]] = {
    "VectorCypherRetriever": [
        {"step": step, "top_k": top_k, "weight": weight}
        for step, top_k, weight in product(STEPS, (5, 10), (0.05, 0.1, 0.2))
    ],
    "HybridCypherRetriever": [
        {"step": step, "scored": scored, "ranker": ranker, "top_k": 5, "weight": weight}
        for step, ranker, (scored, weight) in product(
            STEPS, ("naive", "linear"), (("cosine", 0.1), ("rank", 1.0), ("rank", 1.5))
        )
    ],
    "QdrantNeo4jRetriever": [
        {"step": step, "top_k": top_k, "weight": weight}
        for step, top_k, weight in product(STEPS, (5, 10), (1.0, 1.5, 2.0))
    ],
    "LlamaIndex VectorContextRetriever": [
        {"top_k": top_k, "path_depth": depth, "limit": limit}
        for top_k, depth, limit in product((4, 20, 40), (1, 2), (30, 100))
    ],
}
"""What is tried for each; the best recall@5 is the one reported."""


def makers(graphrag: Graphrag, llama: LlamaIndexGraph) -> Iterator[tuple[str, Callable[..., Ask]]]:
    """Name what makes each of the others from settings."""
    yield "VectorCypherRetriever", graphrag.vector
    yield "HybridCypherRetriever", graphrag.hybrid
    yield "QdrantNeo4jRetriever", graphrag.qdrant
    yield "LlamaIndex VectorContextRetriever", llama.context
