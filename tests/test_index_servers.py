"""An index over stores on servers: the same code, the same answers, and what is given stays the app's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import SOAK
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.graph_stores import SimplePropertyGraphStore
from llama_index.core.schema import Document
from llama_index.core.vector_stores import SimpleVectorStore
from servers.neo4j.server import Neo4jAddress

from llama_index_hybridmem import HybridMemoryIndex
from llama_index_hybridmem.disk import Journal
from llama_index_hybridmem.encoder import resolve_encoder
from llama_index_hybridmem.errors import ConfigurationError, StoreClosedError, StoreMismatchError, StoreUnavailableError
from llama_index_hybridmem.graph.stores.base import Passage
from llama_index_hybridmem.graph.stores.neo4j.store import Neo4jGraphStore
from llama_index_hybridmem.graph.transfer import copy
from llama_index_hybridmem.sample import documents_folder
from llama_index_hybridmem.vector.migration import migrate
from llama_index_hybridmem.vector.point_store import PointVectorStore
from llama_index_hybridmem.vector.server import QdrantServerVectorStore

qdrant_client = pytest.importorskip("qdrant_client", reason="needs the extra 'qdrant'")

QUESTIONS = [
    "In which Texas town was the engineer born who had the idea for US patent 3,387,286?",
    "What bandwidth does one HBM3 stack have?",
    "Which investor led the purchase of the company that made the 1103?",
]


@pytest.fixture
def graph(neo4j: Neo4jAddress) -> Iterator[Neo4jGraphStore]:
    """An empty graph store on a real server."""
    user, password = neo4j.auth or (None, None)
    store = Neo4jGraphStore(neo4j.uri, username=user, password=password, database=neo4j.database, timeout_s=30)
    yield store
    store.close()


@pytest.fixture
def vectors() -> Iterator[QdrantServerVectorStore]:
    """An empty collection in the client's local mode, which speaks as a server does."""
    client = qdrant_client.QdrantClient(":memory:")
    store = QdrantServerVectorStore("nodes", client=client)
    yield store
    store.close()
    client.close()


def sample() -> list[Document]:
    """Some documents of the sample, with their titles."""
    files = sorted(documents_folder().glob("*.md"))[:10]
    return [Document(text=file.read_text(encoding="utf-8"), doc_id=file.name) for file in files]


def found(index: HybridMemoryIndex) -> list[list[tuple[str, float]]]:
    """What each question finds, with scores that leave the last digits to the engines."""
    retriever = index.as_retriever(deadline_s=None)
    return [
        [(hit.node.node_id, round(hit.score or 0.0, 6)) for hit in retriever.retrieve(question)]
        for question in QUESTIONS
    ]


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="the sample on servers, twelve seconds: run by make soak")
def test_an_index_that_moves_to_servers_finds_what_it_found(
    graph: Neo4jGraphStore, vectors: QdrantServerVectorStore, tmp_path: Path
) -> None:
    """Copied to Neo4j and Qdrant, then added to: the nodes, order and scores of the index that stayed in its folder."""
    encoder, documents = resolve_encoder(None), sample()
    here, there = tmp_path / "here", tmp_path / "there"
    served = {"vector_store": vectors, "graph_store": graph, "embed_model": encoder}
    with HybridMemoryIndex.from_documents(documents[1:], persist_dir=here, embed_model=encoder) as embedded:
        assert isinstance(embedded.vector_store, PointVectorStore)
        migrate(embedded.vector_store, vectors, tmp_path / "journal")
        copy(embedded.graph_store, graph)
        with HybridMemoryIndex.from_documents(documents[1:], persist_dir=there, **served) as index:
            assert index.refresh_ref_docs(documents) == [True] + [False] * (len(documents) - 1)
            embedded.insert(documents[0])
            assert found(index) == found(embedded)
            assert index.ref_doc_info.keys() == embedded.ref_doc_info.keys()
    assert {path.name for path in there.iterdir()} == {"manifest.json"}
    with HybridMemoryIndex.open(there, **served) as again:
        again.delete_ref_doc(documents[0].doc_id)
        assert documents[0].doc_id not in again.ref_doc_info
    for other in ({}, {"vector_store": vectors}, {**served, "graph_store": graph.tenant("other")}):
        with pytest.raises(ConfigurationError, match="graph_store 'main' and vector_store 'nodes', not with"):
            HybridMemoryIndex.open(there, **{"embed_model": encoder, **other})
    with pytest.raises(StoreClosedError):
        again.as_retriever()


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="twelve seconds with a server: run by make soak")
def test_given_stores_are_divided_among_tenants_and_left_open(
    graph: Neo4jGraphStore, vectors: QdrantServerVectorStore
) -> None:
    """Documents of the index and of its tenants lie apart on both servers; closing the index closes neither store."""
    encoder, own = MockEmbedding(8), [Document(text="The Green Lantern opened in Bonn.", doc_id="root")]
    with HybridMemoryIndex.from_documents(own, vector_store=vectors, graph_store=graph, embed_model=encoder) as index:
        index.tenant("acme").insert(Document(text="The Blue Lantern opened in Oslo.", doc_id="a"))
        index.tenant("'}) DETACH").insert(Document(text="The Red Lantern opened in Rome.", doc_id="b"))
        assert index.tenant("acme").ref_doc_info.keys() == {"a"}
        assert index.ref_doc_info.keys() == {"root"}
        retrieved = {
            name: [hit.node.ref_doc_id for hit in one.as_retriever(deadline_s=None).retrieve("Which Lantern opened?")]
            for name, one in (("root", index), ("a", index.tenant("acme")), ("b", index.tenant("'}) DETACH")))
        }
        assert retrieved == {name: [name] for name in ("root", "a", "b")}
        index.insert(Document(text="The Grey Lantern opened in Nice.", doc_id="late"))
        assert index.ref_doc_info.keys() == {"root", "late"}
    assert graph.passage_count == 2
    assert len(vectors.get_nodes()) == 2
    assert graph.tenant("acme").documents().keys() == {"a"}
    assert [node.text for node in vectors.for_tenant("acme").get_nodes()] == ["The Blue Lantern opened in Oslo."]


def test_an_unfinished_ingest_waits_for_its_server(
    graph: Neo4jGraphStore, vectors: QdrantServerVectorStore, tmp_path: Path
) -> None:
    """With a document on its way and the graph's server down, the index opens, refuses writes, and forgets nothing."""
    encoder, document = MockEmbedding(8), Document(text="The Blue Lantern opened in Oslo.", doc_id="a")
    served = {"persist_dir": tmp_path, "vector_store": vectors, "embed_model": encoder}
    HybridMemoryIndex.from_documents([document], graph_store=graph, **served).close()
    Journal(tmp_path / "journal.jsonl").append({"documents": ["a"]})
    graph.delete(doc_ids=["a"])  # as a process that was killed before the graph had it would leave it
    down = Neo4jGraphStore("bolt://127.0.0.1:9")
    with HybridMemoryIndex.open(graph_store=down, **served) as index, pytest.raises(StoreUnavailableError):
        index.insert(document)
    down.close()
    assert vectors.get_nodes()
    with HybridMemoryIndex.open(graph_store=graph, **served) as index:
        assert not vectors.get_nodes()
        index.insert(document)
    Journal(tmp_path / "journal.jsonl").append({"documents": ["a"]})
    vectors.clear()  # as a write that failed half-way, and was not taken back, would leave it
    with HybridMemoryIndex.from_documents([], graph_store=graph, **served):
        assert vectors.get_nodes()


def test_a_cleared_store_is_empty_and_never_looks_like_an_earlier_one(graph: Neo4jGraphStore) -> None:
    """`clear` leaves version and numbers going up, so that no other process takes what it holds for current."""
    other = Neo4jGraphStore(graph.bolt)
    for store, name in ((graph, "Ada Lovelace"), (other, "Grace Hopper"), (graph, "Alan Turing")):
        store.clear()
        store.upsert([Passage("n", "d", name, f"{name} wrote programs.", names=(name.lower(),))])
        number = store.passage_ids(["n"])["n"]
        assert [link.name.name for link in store.names_in(np.asarray([number]))[number]] == [name.lower()]
    assert graph.stats() == other.stats()
    assert graph.stats()["passages"] == 1


def test_stores_that_do_not_belong_together_are_refused(
    graph: Neo4jGraphStore, vectors: QdrantServerVectorStore
) -> None:
    """A graph whose vectors lie elsewhere would answer alone, and no store of another kind can stand in for ours."""
    graph.upsert([Passage("n", "d", "Ada", "Ada wrote programs.")])
    with pytest.raises(StoreMismatchError, match="'nodes' lacks nodes that the graph 'main' has"):
        HybridMemoryIndex.from_documents([], vector_store=vectors, graph_store=graph, embed_model=MockEmbedding(8))
    for wrong in ({"graph_store": SimplePropertyGraphStore()}, {"vector_store": SimpleVectorStore()}):
        with pytest.raises(ConfigurationError, match=f"not a {type(next(iter(wrong.values()))).__name__}"):
            HybridMemoryIndex.from_documents([], embed_model=MockEmbedding(8), **wrong)
