"""The embedded vector store as LlamaIndex sees it: writing, reading, and every query mode."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.core.vector_stores.utils import node_to_metadata_dict
from vector_nodes import DIMENSION, corpus, cosines, make_node, ranked, small_store, unit

from llama_index_hybridmem.errors import ConfigurationError, FilterError, InvalidVectorError
from llama_index_hybridmem.vector.points import own_node_id, point_id
from llama_index_hybridmem.vector.store import QdrantEdgeVectorStore

NODES = corpus(40)
QUESTION = unit(1000)
UUIDS = [str(UUID(int=2**100 + 10)), str(UUID(int=2**101 + 11)).upper(), UUID(int=2**102 + 12).hex]


@pytest.fixture(scope="module")
def shared() -> Iterator[QdrantEdgeVectorStore]:
    """Forty nodes, for the tests that only read."""
    with small_store() as store:
        store.add(NODES)
        yield store


@pytest.fixture
def store() -> Iterator[QdrantEdgeVectorStore]:
    """An empty store."""
    with small_store() as store:
        yield store


def ask(
    store: QdrantEdgeVectorStore, mode: str = "default", options: Mapping[str, Any] | None = None, **query: Any
) -> list[str]:
    """The ids a query finds, checked against its nodes."""
    asked = {"query_embedding": QUESTION, "query_str": "flash memory", "similarity_top_k": 5, **query}
    result = store.query(VectorStoreQuery(mode=VectorStoreQueryMode(mode), **asked), **(options or {}))
    assert result.nodes is not None
    assert result.ids == [node.node_id for node in result.nodes]
    assert result.similarities is not None
    assert len(result.similarities) == len(result.ids)
    return result.ids


# -- writing ----------------------------------------------------------------------------------------------------------


def test_is_a_llamaindex_vector_store(store: QdrantEdgeVectorStore) -> None:
    """It is what LlamaIndex takes for one, stores text, and serialises its settings but no content."""
    assert isinstance(store, BasePydanticVectorStore)
    assert store.stores_text
    assert store.to_dict()["class_name"] == "QdrantEdgeVectorStore"


def test_in_an_ordinary_app(tmp_path: Path) -> None:
    """VectorStoreIndex writes to it and reads from it, deletes from it, and finds all of it again later."""
    embed = MockEmbedding(embed_dim=4)
    with QdrantEdgeVectorStore(tmp_path / "store") as store:
        index = VectorStoreIndex.from_vector_store(store, embed_model=embed)
        index.insert_nodes([make_node("a", "memory cell", document="d1"), make_node("b", "flash page", document="d2")])
        found = index.as_retriever(similarity_top_k=1, vector_store_query_mode="sparse").retrieve("pages of flash")
        assert [(hit.node_id, hit.node.get_content()) for hit in found] == [("b", "flash page")]
        index.delete_ref_doc("d2")
    with QdrantEdgeVectorStore(tmp_path / "store") as store:
        index = VectorStoreIndex.from_vector_store(store, embed_model=embed)
        assert [hit.node_id for hit in index.as_retriever(similarity_top_k=5).retrieve("x")] == ["a"]


def test_nodes_come_back_whole(store: QdrantEdgeVectorStore) -> None:
    """Text, metadata, relationships and templates survive; what was handed in is left as it was."""
    node = make_node(
        "a", "Zelle ü\n", unit(1), "d1", {"n": 1, "big": 2**70, "list": [1, "x", None], "deep": {"k": [True]}}
    )
    node.excluded_embed_metadata_keys = ["n"]
    before = node.model_copy(deep=True)
    store.add([node])
    assert node == before
    (found,) = store.get_nodes(["a"])
    assert found == node.model_copy(update={"embedding": None})


def test_adding_a_known_id_replaces_the_node(store: QdrantEdgeVectorStore) -> None:
    """Text, vector, windows and metadata of the older one are gone; the last of two in one call stays."""
    store.add([make_node("a", "flash", unit(1), "d1", {"k": "old"})], window_embeddings={"a": [unit(2)]})
    store.add([make_node("a", "other", unit(3)), make_node("a", "fuse", unit(4), "d2", {"k": "new"})])
    assert [node.get_content() for node in store.get_nodes()] == ["fuse"]
    assert store.search_sparse("flash", 5) == []
    assert store.search_dense(unit(2), 5)[0][1] == pytest.approx(
        cosines([make_node("a", "", unit(4))], unit(2))["a"], abs=1e-6
    )
    assert store.get_nodes(filters=MetadataFilters(filters=[MetadataFilter(key="k", value="old")])) == []
    assert store.stats()["points"] == 1


@pytest.mark.parametrize("node_id", [*UUIDS, "n1", "", "ä b/c", "123", str(UUID(int=7)), str(point_id("hashed"))])
def test_any_node_id(store: QdrantEdgeVectorStore, node_id: str) -> None:
    """Ids that are UUIDs are the points' own; any other works as well, in every way of asking."""
    store.add([make_node(node_id, "flash", unit(1)), make_node("other", "fuse", unit(2))])
    assert store.search_dense(unit(1), 1)[0][0] == node_id
    assert store.search_sparse("flash", 1)[0][0] == node_id
    assert list(store.score_dense(unit(1), [node_id])) == [node_id]
    assert [node.node_id for node in store.get_nodes([node_id])] == [node_id]
    store.delete_nodes([node_id])
    assert [node.node_id for node in store.get_nodes()] == ["other"]


def test_point_ids() -> None:
    """A UUID in its usual spelling is the point's id; two spellings of one UUID are two nodes."""
    node_id = str(uuid4())
    assert str(point_id(node_id)) == node_id == own_node_id(point_id(node_id))
    derived = point_id(node_id.upper())
    assert derived != UUID(node_id)
    assert derived == point_id(node_id.upper())
    assert own_node_id(derived) is None


def test_delete_removes_one_document_exactly(store: QdrantEdgeVectorStore) -> None:
    """All nodes of the document go and no other, also where a name looks like another, or like none."""
    for i, document in enumerate(["d1", "d1", "d10", "D1", "None", None]):
        store.add(
            [make_node(f"n{i}", embedding=unit(i), document=document, metadata={"doc_id": "d1"} if i == 5 else {})]
        )
    store.delete("d1")
    assert {node.node_id for node in store.get_nodes()} == {"n2", "n3", "n4", "n5"}
    store.delete("None")
    store.delete("unknown")
    assert {node.node_id for node in store.get_nodes()} == {"n2", "n3", "n5"}


def test_delete_nodes(store: QdrantEdgeVectorStore) -> None:
    """By ids, by filters, by both at once; with neither it refuses, since clear() is the word for all."""
    store.add(corpus(10))
    even = MetadataFilters(filters=[MetadataFilter(key="number", value=6, operator=FilterOperator.GTE)])
    store.delete_nodes(["n1", "n7", "unknown"], even)
    store.delete_nodes(["n2"])
    store.delete_nodes(filters=even)
    assert sorted(node.node_id for node in store.get_nodes()) == ["n0", "n1", "n3", "n4", "n5"]
    store.delete_nodes([])
    with pytest.raises(ConfigurationError, match="clear"):
        store.delete_nodes()
    assert store.stats()["points"] == 5


def test_more_nodes_than_one_call_takes(store: QdrantEdgeVectorStore) -> None:
    """Adds, scans and deletes go on past the size of one engine call."""
    nodes = corpus(600)
    assert store.add(nodes) == [node.node_id for node in nodes]
    assert len(store.get_nodes()) == 600
    store.delete_nodes([node.node_id for node in nodes[:500]])
    assert store.stats()["points"] == 100


def test_clear_starts_anew(tmp_path: Path) -> None:
    """After clear() nothing is found, here and after reopening, and the next vectors may be of another length."""
    with QdrantEdgeVectorStore(tmp_path) as store:
        store.add(corpus(3), window_embeddings={"n0": [unit(5)]})
        store.clear()
        assert store.get_nodes() == []
        assert store.search_dense(QUESTION, 5) == []
    with QdrantEdgeVectorStore(tmp_path) as store:
        assert store.stats()["points"] == 0
        store.add(corpus(2, dimension=3))
        assert len(store.search_dense([1.0, 0.0, 0.0], 5)) == 2


def test_get_nodes_in_order(shared: QdrantEdgeVectorStore) -> None:
    """Given ids come in their order, once, without the unknown; with filters only those that pass."""
    wanted = ["n5", "n2", "unknown", "n9", "n2"]
    assert [node.node_id for node in shared.get_nodes(wanted)] == ["n5", "n2", "n9"]
    odd = MetadataFilters.model_validate({"filters": [{"key": "number", "operator": "<", "value": 6}]})
    assert [node.node_id for node in shared.get_nodes(wanted, odd)] == ["n5", "n2"]
    assert shared.get_nodes([]) == []


def test_an_empty_store_answers(store: QdrantEdgeVectorStore) -> None:
    """Before the first add every question has an answer: nothing."""
    for mode in ("default", "sparse", "hybrid", "mmr"):
        assert ask(store, mode) == []
    assert (
        ask(store, filters=MetadataFilters(filters=[MetadataFilter(key="a", value="b", operator=FilterOperator.GT)]))
        == []
    )
    assert store.score_dense(QUESTION, ["a"]) == {}
    assert store.get_nodes() == []
    assert store.stats()["points"] == 0
    assert store.client is None
    store.delete("d")
    store.delete_nodes(["a"])
    for change in (store.clear, store.optimize, store.optimize_in_child, store.reindex_sparse, store.persist):
        change()
    assert store.add([]) == []


# -- reading ----------------------------------------------------------------------------------------------------------


def test_dense_is_the_true_order(shared: QdrantEdgeVectorStore) -> None:
    """Default mode gives cosines, exact and in order."""
    expected = cosines(NODES, QUESTION)
    found = shared.search_dense(QUESTION, 7)
    assert [node_id for node_id, _ in found] == ranked(expected)[:7] == ask(shared, similarity_top_k=7)
    assert [score for _, score in found] == pytest.approx([expected[node_id] for node_id, _ in found], abs=1e-6)
    assert len(shared.search_dense(QUESTION, 10**9)) == len(NODES)
    assert shared.search_dense(QUESTION, 0) == []


def test_sparse_is_bm25(shared: QdrantEdgeVectorStore) -> None:
    """Sparse and text_search rank by BM25 over the store; sparse_top_k counts before similarity_top_k."""
    found = shared.search_sparse("erase the flash", 50)
    texts = {node.node_id: node.get_content().split() for node in NODES}
    assert {node_id for node_id, _ in found} == {k for k, words in texts.items() if {"erase", "flash"} & set(words)}
    for mode in ("sparse", "text_search"):
        first = ask(shared, mode, query_str="erase the flash")
        assert [dict(found)[node_id] for node_id in first] == [score for _, score in found[:5]]
    assert len(ask(shared, "sparse", query_str="erase flash", sparse_top_k=2)) == 2
    assert ask(shared, "sparse", query_str="the of") == []


def test_rare_words_weigh_more(store: QdrantEdgeVectorStore) -> None:
    """The engine's inverse document frequency is at work: the one rare word beats the one that all have."""
    store.add([make_node(f"n{i}", "memory", unit(i)) for i in range(9)] + [make_node("rare", "memory fuse", unit(9))])
    (first, best), (_, second) = store.search_sparse("memory fuse", 2)
    assert first == "rare"
    assert best > 5 * second


@pytest.mark.parametrize("optimized", [False, True])
def test_keyword_scores_have_no_past(optimized: bool) -> None:
    """After changes and deletes every score is that of a store that only ever held what is left."""
    nodes = corpus(700 if optimized else 60, dimension=4096 if optimized else DIMENSION)
    with small_store(average_length=11.0) as store, small_store(average_length=11.0) as fresh:
        store.add(nodes)
        if optimized:  # so many floats that there is something to optimize
            store.optimize()
            assert store.stats()["segments"] > 1
        store.add([make_node(node.node_id, "flash " * 9, node.embedding) for node in nodes[:20]])
        store.add(nodes[:20])
        store.delete_nodes([node.node_id for node in nodes[30:]])
        fresh.add(nodes[:30])
        expected = dict(fresh.search_sparse("flash memory page", 30))
        assert dict(store.search_sparse("flash memory page", 30)) == pytest.approx(expected)


def test_keywords_see_what_the_encoder_sees(store: QdrantEdgeVectorStore) -> None:
    """Metadata that stands in the embedded text can be found by its words, excluded metadata cannot."""
    node = make_node("a", "text", unit(1), metadata={"title": "Flash", "secret": "fuse"})
    node.excluded_embed_metadata_keys = ["secret"]
    store.add([node])
    assert store.search_sparse("flash", 5) != []
    assert store.search_sparse("fuse", 5) == []


def test_hybrid_weighs_both(shared: QdrantEdgeVectorStore) -> None:
    """Alpha 0 is BM25 alone, 1 dense alone, between them both; the top_k of each side and of the whole are heeded."""
    dense, sparse = ask(shared), ask(shared, "sparse")
    assert ask(shared, "hybrid", alpha=0.0) == sparse
    assert ask(shared, "hybrid", alpha=0.0, query_embedding=None) == sparse
    assert ask(shared, "hybrid", alpha=1.0, query_str=None) == dense
    both = ask(shared, "hybrid", hybrid_top_k=40, sparse_top_k=3)
    assert set(both) == set(dense) | set(sparse[:3])
    assert len(ask(shared, "hybrid", similarity_top_k=4, sparse_top_k=10)) == 4
    assert {both[0], both[1]} == {dense[0], sparse[0]}


def test_mmr_trades_nearness_for_difference(store: QdrantEdgeVectorStore) -> None:
    """Threshold 1 is the dense order; lower ones pass over what repeats the first hit."""
    near = [make_node("a", embedding=[1.0, 0.1, 0.0]), make_node("b", embedding=[1.0, 0.11, 0.0])]
    store.add([*near, make_node("c", embedding=[0.8, 0.0, 0.6]), make_node("far", embedding=[-1.0, 0.0, 0.0])])
    asked: dict[str, Any] = {"query_embedding": [1.0, 0.0, 0.0], "similarity_top_k": 2}
    assert ask(store, "mmr", {"mmr_threshold": 1.0}, **asked) == ["a", "b"]
    assert ask(store, "mmr", {"mmr_threshold": 0.4, "mmr_prefetch_k": 3}, **asked) == ["a", "c"]
    assert ask(store, "mmr", {"mmr_prefetch_factor": 1, "mmr_threshold": 0.0}, **asked) == ["a", "b"]
    assert ask(store, "mmr", mmr_threshold=1.0, **asked) == ["a", "b"]


def test_restricted_to_nodes_and_documents(shared: QdrantEdgeVectorStore) -> None:
    """node_ids, doc_ids and filters restrict together, in every mode; empty lists do not, as LlamaIndex means them."""
    even = MetadataFilters.model_validate({"filters": [{"key": "number", "operator": "in", "value": [3, 4, 9]}]})
    for mode in ("default", "sparse", "hybrid", "mmr"):
        asked: dict[str, Any] = {"query_str": "memory cell flash row", "similarity_top_k": 40}
        assert set(ask(shared, mode, doc_ids=["d1", "d2"], **asked)) <= {"n3", "n4", "n5", "n6", "n7", "n8"}
        assert set(ask(shared, mode, node_ids=["n3", "n6"], **asked)) <= {"n3", "n6"}
        assert set(ask(shared, mode, node_ids=["n3", "n5"], doc_ids=["d1"], filters=even, **asked)) <= {"n3"}
        assert set(ask(shared, mode, node_ids=[], doc_ids=[], **asked)) == set(ask(shared, mode, **asked))
    assert ask(shared, doc_ids=["d1"], filters=even, similarity_top_k=9) in (["n3", "n4"], ["n4", "n3"])


def test_a_node_scores_as_its_best_window(store: QdrantEdgeVectorStore) -> None:
    """Among nodes with and without windows each counts with the best of its vectors, in search and in given scores."""
    nodes = corpus(60)
    windows = {f"n{i}": [unit(100 + i), unit(200 + i)] for i in range(0, 60, 2)}
    store.add(nodes, window_embeddings={**windows, "n1": []})
    expected = cosines(nodes, QUESTION)
    for node_id, vectors in windows.items():
        best = max(cosines([make_node("w", "", vector)], QUESTION)["w"] for vector in vectors)
        expected[node_id] = max(expected[node_id], best)
    for top_k in (1, 5, 60):
        found = store.search_dense(QUESTION, top_k)
        assert [node_id for node_id, _ in found] == ranked(expected)[:top_k]
        assert dict(found) == pytest.approx({node_id: expected[node_id] for node_id, _ in found}, abs=1e-6)
    assert store.score_dense(QUESTION, ["n4", "n1", "unknown"]) == pytest.approx(
        {"n4": expected["n4"], "n1": expected["n1"]}, abs=1e-6
    )
    assert store.stats()["points_with_windows"] == 30


def test_windows_are_known_again_after_reopening(tmp_path: Path) -> None:
    """A store opened anew still scores by windows."""
    with QdrantEdgeVectorStore(tmp_path) as store:
        store.add([make_node("a", embedding=[1.0, 0.0])], window_embeddings={"a": [[0.0, 1.0]]})
    with QdrantEdgeVectorStore(tmp_path) as store:
        assert store.search_dense([0.0, 1.0], 1) == [("a", 1.0)]


def test_filters_of_llamaindex(shared: QdrantEdgeVectorStore) -> None:
    """LlamaIndex's own filter classes reach the engine, nested; a malformed one is refused."""
    filters = MetadataFilters.model_validate(
        {
            "condition": "and",
            "filters": [
                {"key": "even", "operator": "!=", "value": 1},
                {"condition": "not", "filters": [{"key": "number", "operator": ">", "value": 3}]},
            ],
        }
    )
    assert set(ask(shared, filters=filters, similarity_top_k=40)) == {"n0", "n1", "n2", "n3"}
    with pytest.raises(FilterError, match="operator"):
        shared.search_dense(QUESTION, 3, {"key": "number", "operator": "~", "value": 3})


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["semantic_hybrid", "svm", "logistic_regression", "linear_regression"])
def test_other_modes_are_refused(shared: QdrantEdgeVectorStore, mode: str) -> None:
    """A mode that the store does not have is an error that names those it has, not a silent default."""
    with pytest.raises(ConfigurationError, match="text_search, hybrid, mmr"):
        ask(shared, mode)


@pytest.mark.parametrize(
    ("mode", "query", "options", "message"),
    [
        ("default", {"query_embedding": None}, {}, "query_embedding"),
        ("sparse", {"query_str": None}, {}, "query_str"),
        ("hybrid", {"query_str": None}, {}, "query_str"),
        ("hybrid", {"alpha": 1.5}, {}, "alpha"),
        ("hybrid", {"alpha": float("nan")}, {}, "alpha"),
        ("mmr", {}, {"mmr_threshold": 2}, "mmr_threshold"),
        ("default", {}, {"qdrant_filters": 1}, "unknown query arguments"),
    ],
)
def test_incomplete_queries_are_refused(
    shared: QdrantEdgeVectorStore, mode: str, query: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    """What a mode needs and has not got, or does not know, is named."""
    with pytest.raises(ConfigurationError, match=message):
        ask(shared, mode, options, **query)


BAD_VECTORS = [[0.0, float("nan")] * 4, [float("inf")] * 8, [1e300] * 8, [1.0] * 7, [], [[1.0] * 8]]


@pytest.mark.parametrize("vector", BAD_VECTORS)
def test_unusable_vectors_are_refused(store: QdrantEdgeVectorStore, vector: Any) -> None:
    """NaN, infinity (also only in 32 bits) and wrong lengths, in questions, nodes and windows; nothing is written."""
    store.add(corpus(2))
    with pytest.raises(InvalidVectorError, match="query's vector"):
        store.search_dense(vector, 3)
    with pytest.raises(InvalidVectorError, match="query's vector"):
        store.score_dense(vector, ["n0"])
    with pytest.raises(InvalidVectorError, match="node bad"):
        store.add([*corpus(1, start=5), TextNode.model_construct(id_="bad", embedding=vector)])
    with pytest.raises(InvalidVectorError, match="window of node n5"):
        store.add(corpus(1, start=5), window_embeddings={"n5": [unit(1), vector]})
    assert store.stats()["points"] == 2


def test_a_missing_embedding_is_refused(store: QdrantEdgeVectorStore) -> None:
    """A node without a vector is named, and nothing is written."""
    with pytest.raises(InvalidVectorError, match="node n5 has no embedding"):
        store.add([*corpus(2), make_node("n5")])
    assert store.get_nodes() == []


def test_a_first_vector_of_another_length_than_announced(tmp_path: Path) -> None:
    """The dimension given to the constructor holds for the first vector and the first question."""
    with QdrantEdgeVectorStore(tmp_path / "none", dimension=3) as store:
        with pytest.raises(InvalidVectorError):
            store.search_dense([1.0], 3)
        with pytest.raises(InvalidVectorError):
            store.add(corpus(1))
    assert not (tmp_path / "none").exists()


def test_windows_of_strangers_are_refused(store: QdrantEdgeVectorStore) -> None:
    """Windows for a node that is not being added are a mistake of the caller's."""
    with pytest.raises(ConfigurationError, match="stranger"):
        store.add(corpus(1), window_embeddings={"stranger": [unit(1)]})


def test_text_that_is_no_text(store: QdrantEdgeVectorStore) -> None:
    """Half a surrogate pair is refused with the node's id."""
    with pytest.raises(ConfigurationError, match="node broken"):
        store.add([*corpus(1), make_node("broken", "\ud800", unit(1))])
    assert store.get_nodes() == []
    with pytest.raises(ConfigurationError, match="node broken"):
        store.add([make_node("broken", "text", unit(1), metadata={"key": "\ud800"})])


# -- looking after ----------------------------------------------------------------------------------------------------


def test_payload_is_that_of_llamaindex(store: QdrantEdgeVectorStore) -> None:
    """Every key that LlamaIndex's Qdrant store writes stands there with the same value, beside three of ours."""
    node = make_node("a", "flash", unit(1), "d1", {"year": 1984})
    store.add([node])
    assert store.client is not None
    (record,) = store.client.retrieve([point_id("a")], True, True)
    expected = node_to_metadata_dict(node, remove_text=False, flat_metadata=False)
    assert record.payload is not None
    assert {key: record.payload[key] for key in expected} == expected
    assert set(record.payload) - set(expected) == {"_hm_node_id", "_hm_length", "_hm_terms"}
    assert set(record.vector or ()) == {"text-dense", "text-sparse-new"}


def test_average_length_is_measured_once_and_mended(tmp_path: Path) -> None:
    """The first add sets it, it is kept, drift is told, and reindexing gives the scores of a store built at once."""
    short, long = corpus(5), [make_node(f"l{i}", "memory cell flash row " * 20, unit(i)) for i in range(20)]
    with QdrantEdgeVectorStore(tmp_path) as store:
        store.add(short)
        first = store.stats()
        assert first["average_length"] == first["average_length_now"]
        assert not first["reindex_sparse_advised"]
        store.add(long)
        drifted = store.stats()
        assert drifted["average_length"] == first["average_length"]
        assert drifted["average_length_now"] > 2 * first["average_length"]
        assert drifted["reindex_sparse_advised"]
    with QdrantEdgeVectorStore(tmp_path) as store, small_store() as fresh:
        assert store.stats()["average_length"] == first["average_length"]
        store.reindex_sparse()
        assert not store.stats()["reindex_sparse_advised"]
        fresh.add([*short, *long])
        assert dict(store.search_sparse("flash row", 25)) == pytest.approx(dict(fresh.search_sparse("flash row", 25)))
        assert dict(store.search_dense(QUESTION, 25)) == pytest.approx(dict(fresh.search_dense(QUESTION, 25)))


def test_average_length_can_be_given() -> None:
    """A given average length is used as it is; one that is no length is refused before anything is made."""
    with small_store(average_length=60.0) as store:
        store.add(corpus(3))
        assert store.stats()["average_length"] == 60.0
    with small_store(average_length=0.0) as store, pytest.raises(ConfigurationError):
        store.add(corpus(3))


async def test_async_twins_do_the_same(store: QdrantEdgeVectorStore) -> None:
    """Every async method does what its blocking twin does, many at once, off the event loop."""
    nodes = corpus(30)
    await asyncio.gather(*(store.async_add(nodes[i : i + 10]) for i in (0, 10, 20)))
    query = VectorStoreQuery(query_embedding=QUESTION, similarity_top_k=5)
    answers = await asyncio.gather(*(store.aquery(query) for _ in range(8)))
    assert all(answer.ids == ask(store) for answer in answers)
    assert [node.node_id for node in await store.aget_nodes(["n3"])] == ["n3"]
    await store.adelete("d1")
    await store.adelete_nodes(["n0"])
    assert store.stats()["points"] == 26
    await store.aclear()
    assert store.stats()["points"] == 0


def test_language_of_the_store() -> None:
    """The language given is the one that words are cut by."""
    with small_store(language="german") as store:
        store.add([make_node("a", "zwei Häuser", unit(1))])
        assert store.search_sparse("Haus", 1)[0][0] == "a"


def test_dimension_is_that_of_the_first_vector(store: QdrantEdgeVectorStore) -> None:
    """Nothing has to be said about dimensions."""
    store.add(corpus(1))
    assert store.stats()["dimension"] == DIMENSION
