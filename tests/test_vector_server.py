"""What is kept in the embedded store can move to a Qdrant server; held against LlamaIndex's own Qdrant store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from vector_nodes import DIMENSION, corpus, small_store, text, unit

from llama_index_hybridmem.vector.sparse import Bm25Encoder

qdrant_client = pytest.importorskip("qdrant_client", reason="needs the extra 'qdrant'")
llama_qdrant = pytest.importorskip("llama_index.vector_stores.qdrant", reason="needs the extra 'qdrant'")
models = qdrant_client.models

NODES = [node.model_copy(update={"id_": str(uuid5(NAMESPACE_URL, node.node_id))}) for node in corpus(30)]  # as it must
QUESTION = unit(1000)
ENCODER = Bm25Encoder(average_length=11.0)


@pytest.fixture
def client() -> Iterator[object]:
    """A Qdrant in memory: the client's local mode, which speaks as a server does."""
    client = qdrant_client.QdrantClient(":memory:")
    yield client
    client.close()


def theirs(client: object, encoder: Bm25Encoder) -> object:
    """LlamaIndex's store over a collection, with our BM25 for its sparse vectors."""
    return llama_qdrant.QdrantVectorStore(
        collection_name="nodes",
        client=client,
        enable_hybrid=True,
        sparse_doc_fn=encoder.embed_documents,
        sparse_query_fn=encoder.embed_queries,
        sparse_config=models.SparseVectorParams(modifier=models.Modifier.IDF),
        index_doc_id=False,  # local mode would warn that it has no indexes
    )


def for_server(vectors: Any) -> dict[str, Any]:
    """The vectors of an embedded point in the client's classes."""
    sparse = vectors["text-sparse-new"]
    words = models.SparseVector(indices=sparse.indices, values=sparse.values)
    return {"text-dense": vectors["text-dense"], "text-sparse-new": words}


def asked(mode: VectorStoreQueryMode, question: str = "flash memory page") -> VectorStoreQuery:
    """One question in one mode."""
    return VectorStoreQuery(
        query_embedding=QUESTION, query_str=question, similarity_top_k=30, sparse_top_k=30, mode=mode, hybrid_top_k=30
    )


def test_our_bm25_fits_the_qdrant_store(client: object) -> None:
    """Given our encoder, LlamaIndex's store does sparse and hybrid search, and scores as the embedded store does."""
    store = theirs(client, ENCODER)
    store.add(NODES)  # type: ignore[attr-defined]
    with small_store(average_length=ENCODER.average_length) as ours:
        ours.add(NODES)
        for mode in (VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.DEFAULT):
            found, expected = store.query(asked(mode)), ours.query(asked(mode))  # type: ignore[attr-defined]
            there = dict(zip(found.ids, found.similarities, strict=True))
            here = dict(zip(expected.ids or [], expected.similarities or [], strict=True))
            # The server gives nodes without any of the words a score of 0; the embedded engine leaves them out.
            assert {k: v for k, v in there.items() if v > 0 or k in here} == pytest.approx(here, abs=1e-4)
    assert store.query(asked(VectorStoreQueryMode.HYBRID)).ids  # type: ignore[attr-defined]


def test_points_move_to_a_server_unchanged(client: object) -> None:
    """Copied point by point, a collection is read, searched and deleted from by LlamaIndex's store; any ids."""
    with small_store(average_length=ENCODER.average_length) as ours:
        ours.add([*NODES[:20], *corpus(10, 20)])
        expected = ours.query(asked(VectorStoreQueryMode.DEFAULT))
        words = ours.query(asked(VectorStoreQueryMode.SPARSE))
        assert ours.client is not None
        client.create_collection(  # type: ignore[attr-defined]
            "nodes",
            vectors_config={"text-dense": models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE)},
            sparse_vectors_config={"text-sparse-new": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        )
        points = [
            models.PointStruct(id=str(record.id), payload=record.payload, vector=for_server(record.vector))
            for page in ours._shard.pages(None)
            for record in ours.client.retrieve([one.id for one in page], True, True)
        ]
        client.upsert("nodes", points)  # type: ignore[attr-defined]
    store = theirs(client, ENCODER)
    dense = store.query(asked(VectorStoreQueryMode.DEFAULT))  # type: ignore[attr-defined]
    assert [node.node_id for node in dense.nodes] == expected.ids
    assert [node.get_content() for node in dense.nodes] == [node.get_content() for node in expected.nodes or []]
    assert dense.similarities == pytest.approx(expected.similarities, abs=1e-5)
    sparse = store.query(asked(VectorStoreQueryMode.SPARSE))  # type: ignore[attr-defined]
    assert sparse.similarities[: len(words.ids or [])] == pytest.approx(words.similarities, abs=1e-4)
    store.delete("d1")  # type: ignore[attr-defined]
    left = store.query(asked(VectorStoreQueryMode.DEFAULT))  # type: ignore[attr-defined]
    assert len(left.nodes) == 27


def test_the_texts_of_this_test_have_terms() -> None:
    """What the tests above compare is not empty."""
    assert ENCODER.length(text(1)) > 5
