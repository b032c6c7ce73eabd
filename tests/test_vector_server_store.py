"""The store on a Qdrant server, held against the embedded one: the same nodes give the same hits and scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core import VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import BasePydanticVectorStore, VectorStoreQuery, VectorStoreQueryMode
from qdrant_places import KINDS, Place, places
from test_vector_filters import node, records, trees
from vector_nodes import DIMENSION, corpus, make_node, small_store, text, unit

from llama_index_hybridmem.errors import (
    ConfigurationError,
    InvalidVectorError,
    StoreClosedError,
    StoreError,
    StoreMismatchError,
)
from llama_index_hybridmem.filters import Condition, Filter, Op, evaluate, visible_fields
from llama_index_hybridmem.vector.server import QdrantServerVectorStore
from llama_index_hybridmem.vector.server_wire import for_server
from llama_index_hybridmem.vector.store import QdrantEdgeVectorStore

NODES = corpus(40)
QUESTION = unit(1000)
WINDOWS = {"n3": [unit(2001), QUESTION, unit(2002)], "n5": [unit(2003)]}
MODES = ["default", "sparse", "text_search", "hybrid", "mmr"]

Pair = tuple[QdrantServerVectorStore, QdrantEdgeVectorStore]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A place for a store, of each kind."""
    yield from places(request.param)


@pytest.fixture
def store(place: Place) -> Iterator[QdrantServerVectorStore]:
    """An empty store."""
    with place.store() as store:
        yield store


@pytest.fixture(scope="module", params=KINDS)
def both(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Forty nodes, two of them with windows, on a server and embedded, for the tests that only read."""
    for place in places(request.param):
        with small_store() as embedded, place.store() as server:
            for store in (server, embedded):
                store.add(NODES, window_embeddings=WINDOWS)
            yield server, embedded


def asked(mode: str, **query: Any) -> VectorStoreQuery:
    """A question in a mode; of BM25 all, as many nodes score alike and either engine may leave out another one."""
    top_k = 12 if mode in ("default", "mmr") else 40
    fields: dict[str, Any] = {"query_embedding": QUESTION, "query_str": "flash memory page", "similarity_top_k": top_k}
    return VectorStoreQuery(mode=VectorStoreQueryMode(mode), **{**fields, **query})


def hits(store: BasePydanticVectorStore, query: VectorStoreQuery, **options: Any) -> dict[str, float]:
    """What a query finds, with scores, in order."""
    result = store.query(query, **options)
    assert [found.node_id for found in result.nodes or ()] == result.ids
    return dict(zip(result.ids or (), result.similarities or (), strict=True))


def assert_alike(there: dict[str, float], here: dict[str, float]) -> None:
    """The same hits with the same scores in the same order, but for those that score alike up to rounding."""
    assert there == pytest.approx(here, abs=1e-5)
    assert [round(here[node_id], 4) for node_id in there] == [round(score, 4) for score in here.values()]


# -- the same as the embedded store -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_finds_what_the_embedded_store_finds(both: Pair, mode: str) -> None:
    """In every mode, the same nodes in the same order with the same scores."""
    assert_alike(*(hits(store, asked(mode)) for store in both))


@pytest.mark.parametrize("mode", MODES)
def test_restricted_by_filter_nodes_and_documents(both: Pair, mode: str) -> None:
    """Filters, node ids and document ids restrict every mode alike, with the same scores."""
    for restriction in (
        {"filters": {"filters": [{"key": "number", "operator": ">", "value": 20}]}},
        {"filters": {"filters": [{"key": "even", "value": True}]}},
        {"node_ids": ["n1", "n2", "n30", "unknown"]},
        {"doc_ids": ["d1", "d4"]},
    ):
        there, here = (hits(store, asked(mode, **restriction)) for store in both)
        assert_alike(there, here)
        assert len(here) < 40


def test_serves_the_graph_search(both: Pair) -> None:
    """Its three searches by plain vectors and texts give what the embedded store's give."""
    answers = []
    for store in both:
        dense = store.search_dense(QUESTION, 10, {"key": "even", "value": True})
        sparse = store.search_sparse("flash memory", 40)
        scored = store.score_dense(QUESTION, ["n3", "n7", "unknown"])
        answers.append((dense, sparse, scored))
    for there, here in zip(*answers, strict=True):
        assert dict(there) == pytest.approx(dict(here), abs=1e-5)


def test_a_long_node_scores_as_its_best_window(both: Pair) -> None:
    """A window that is the question makes its node the best, with cosine 1."""
    for store in both:
        assert store.search_dense(QUESTION, 1) == [("n3", pytest.approx(1.0, abs=1e-6))]
        assert store.stats()["points_with_windows"] == 2


def test_gives_back_the_same_nodes(both: Pair) -> None:
    """Nodes come back whole: text, metadata, relationships; all, by id and by filter."""
    there, here = both
    written = {"key": "number", "operator": "in", "value": [1, 2, 3]}
    for arguments in ((None, None), (["n9", "n1", "gone"], None), (None, written), (["n1", "n9"], written)):
        found, expected = (store.get_nodes(*arguments) for store in (there, here))
        order = {one.node_id: number for number, one in enumerate(expected)}
        assert sorted(found, key=lambda one: order[one.node_id]) == expected


def test_describes_itself_alike(both: Pair) -> None:
    """The figures that both have are the same."""
    there, here = (store.stats() for store in both)
    for name in ("points", "points_with_windows", "dimension", "language", "average_length", "average_length_now"):
        assert there[name] == pytest.approx(here[name]) if isinstance(here[name], float) else there[name] == here[name]
    assert there["reindex_sparse_advised"] is False


@pytest.fixture(scope="module", params=[kind for kind in KINDS if kind != "aclient"])
def filtered(request: pytest.FixtureRequest) -> Iterator[Callable[[Sequence[TextNode], Filter], set[str]]]:
    """Gives what a store finds with a filter, by reading and by searching; one store for all examples."""
    for place in places(request.param):
        with place.store(indexed_fields=["x", "a.b", "list[0]", "ü"]) as store:

            def ask(nodes: Sequence[TextNode], tree: Filter, store: QdrantServerVectorStore = store) -> set[str]:
                store.delete_nodes([f"n{number}" for number in range(20)])
                store.add(nodes)
                found = {one.node_id for one in store.get_nodes(filters=tree)}  # type: ignore[arg-type]  # ours, too
                assert {node_id for node_id, _ in store.search_dense([1.0, 1.0], 50, tree)} == found
                return found

            yield ask


@settings(max_examples=60)
@given(st.lists(records, min_size=1, max_size=6), trees)
def test_filters_mean_what_the_evaluator_says(
    filtered: Callable[[Sequence[TextNode], Filter], set[str]], metadata: list[dict[str, Any]], tree: Filter
) -> None:
    """Every operator and nesting, on missing keys, lists, mixed kinds, odd names and numbers beyond 64 bits."""
    nodes = [node(i, fields, f"d{i}" if i % 2 else None) for i, fields in enumerate(metadata)]
    passing = {one.node_id for one in nodes if evaluate(tree, visible_fields(one.metadata, one.ref_doc_id))}
    assert filtered(nodes, tree) == passing


def test_number_ranges_are_told_to_a_server_that_has_an_index(place: Place) -> None:
    """With a number index a range goes over the wire as one, and finds the same; local mode has none and is read."""
    from llama_index_hybridmem.vector.conditions import translate

    pushed = translate(Condition("number", Op.GTE, 30), ["number"])
    assert pushed.exact
    condition = for_server(pushed.condition)
    with place.store() as store:
        store.add(NODES)
        indexed = store.stats()["number_fields"]
        assert ("number" in indexed) is (place.kind == "url")
        found = store.client.ask(
            "scroll", {"collection_name": place.collection, "scroll_filter": condition, "limit": 50}
        )
        assert {point.payload["number"] for point in found[0]} == set(range(30, 40))


# -- writing ----------------------------------------------------------------------------------------------------------


def test_any_node_id_and_replacement(store: QdrantServerVectorStore) -> None:
    """Ids need not be UUIDs; a node with a known id replaces the old one, its windows included."""
    first = [make_node(node_id, "flash", unit(1)) for node_id in ("a/b", "ü", "1", "x' OR 1=1 --")]
    assert store.add(first, window_embeddings={"ü": [QUESTION]}) == ["a/b", "ü", "1", "x' OR 1=1 --"]
    store.add([make_node("ü", "row", unit(2))])
    assert store.stats()["points"] == 4
    assert store.get_nodes(["ü"])[0].get_content() == "row"
    assert store.score_dense(QUESTION, ["ü"])["ü"] < 0.99
    assert store.stats()["points_with_windows"] == 0


def test_deletes_exactly(store: QdrantServerVectorStore) -> None:
    """By document, by ids, by filter, by both; unknown ones are no error; clear leaves an empty store."""
    store.add(NODES)
    store.delete("d0")
    store.delete("unknown")
    store.delete_nodes(["n3", "unknown"])
    store.delete_nodes(filters={"key": "number", "operator": ">=", "value": 35})  # type: ignore[arg-type]  # ours
    store.delete_nodes(["n4", "n5"], {"key": "even", "value": True})  # type: ignore[arg-type]  # ours is taken, too
    left = {one.node_id for one in store.get_nodes()}
    assert left == {f"n{i}" for i in range(40)} - {f"n{i}" for i in (0, 1, 2, 3, 4, 35, 36, 37, 38, 39)}
    with pytest.raises(ConfigurationError, match="clear"):
        store.delete_nodes()
    store.clear()
    assert store.get_nodes() == []
    assert store.stats()["points"] == 0
    assert hits(store, asked("hybrid")) == {}


def test_an_empty_store_answers(store: QdrantServerVectorStore) -> None:
    """Before anything was added every question has the answer that there is nothing."""
    assert hits(store, asked("default")) == {}
    assert store.search_sparse("word", 3) == []
    assert store.score_dense(QUESTION, ["a"]) == {}
    assert store.get_nodes(["a"]) == []
    store.delete("d1")
    store.clear()
    assert store.add([]) == []


def test_refuses_bad_vectors_before_anything_is_written(store: QdrantServerVectorStore) -> None:
    """A vector that is missing, of another length or not finite refuses the whole batch."""
    store.add(NODES[:2])
    for bad in (None, [1.0] * (DIMENSION + 1), [float("nan")] * DIMENSION):
        with pytest.raises(InvalidVectorError):
            store.add([*NODES[2:4], make_node("bad", "word", bad)])
    with pytest.raises(InvalidVectorError):
        store.search_dense([1.0], 3)
    assert store.stats()["points"] == 2


def test_in_an_ordinary_app(place: Place) -> None:
    """VectorStoreIndex writes to it, reads from it in a keyword mode, and deletes from it."""
    with place.store() as store:
        index = VectorStoreIndex.from_vector_store(store, embed_model=MockEmbedding(embed_dim=4))
        index.insert_nodes([make_node("a", "memory cell", document="d1"), make_node("b", "flash page", document="d2")])
        found = index.as_retriever(similarity_top_k=1, vector_store_query_mode="sparse").retrieve("pages of flash")
        assert [(hit.node_id, hit.node.get_content()) for hit in found] == [("b", "flash page")]
        index.delete_ref_doc("d2")
        assert [one.node_id for one in store.get_nodes()] == ["a"]


async def test_from_an_event_loop(place: Place) -> None:
    """Its async methods do what the blocking ones do, whichever client it was given."""
    store = place.store()
    await store.async_add(NODES)
    result = await store.aquery(asked("hybrid"))
    assert result.ids == list(hits(store, asked("hybrid")))
    await store.adelete("d0")
    assert len(await store.aget_nodes()) == 37
    await store.aclear()
    assert await store.aget_nodes() == []
    store.close()


def test_threads_fill_a_new_store_at_once(store: QdrantServerVectorStore) -> None:
    """Eight threads that all find nothing make one store of it, with one average length, and lose nothing."""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda start: store.add(corpus(5, start)), range(0, 40, 5)))
        found = list(threads.map(lambda _: list(hits(store, asked("default"))), range(8)))
    assert {one.node_id for one in store.get_nodes()} == {f"n{i}" for i in range(40)}
    assert all(one == found[0] for one in found)
    pages, _ = store.client.ask("scroll", {"collection_name": store.collection_name, "limit": 50})
    assert len({str(point.payload["_hm_weighed"]) for point in pages}) == 1


# -- what others know -------------------------------------------------------------------------------------------------


def test_what_was_measured_is_found_by_the_next_process(place: Place) -> None:
    """The average length and language of the first add hold for a store that is opened later, and for its scores."""
    with place.store(language="german") as first:
        first.add(NODES)
        measured = first.stats()["average_length"]
        expected = hits(first, asked("sparse"))
    with place.store() as second:
        second.add([make_node("long", " ".join(text(i) for i in range(20)), unit(9))])
        assert second.stats()["average_length"] == measured
        assert second.stats()["language"] == "german"
        assert second.stats()["average_length_now"] > measured
        second.delete_nodes(["long"])
        assert hits(second, asked("sparse")) == pytest.approx(expected, abs=1e-6)


def test_weighed_anew_for_everybody(place: Place) -> None:
    """reindex_sparse measures the average length anew; a store that is open elsewhere goes on with it."""
    with place.store(average_length=100.0) as one, place.store() as other:
        one.add(NODES)
        other.add([make_node("x", "flash", unit(5))])
        one.reindex_sparse()
        assert one.stats()["average_length"] == pytest.approx(one.stats()["average_length_now"])
        other.add([make_node("y", "flash", unit(6))])
        assert other.stats()["average_length"] == one.stats()["average_length"]
        scores = dict(other.search_sparse("flash", 50))
        assert scores["x"] == pytest.approx(scores["y"])


def test_another_dimension_or_language_is_refused(place: Place) -> None:
    """A store that is not what it was opened as says so with the first call, and writes nothing."""
    with place.store() as store:
        store.add(NODES[:3])
    with place.store(dimension=DIMENSION + 1) as store, pytest.raises(StoreMismatchError, match="dimension"):
        store.get_nodes()
    with place.store(language="german") as store, pytest.raises(StoreMismatchError, match="language"):
        store.add(NODES[3:])


def test_what_another_store_wrote_is_refused(place: Place) -> None:
    """A collection of another layout, or points without our keys, are refused: filters would find nothing in them."""
    from qdrant_client import models

    with place.store() as store:
        cosine = models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE)
        store.client.ask("create_collection", {"collection_name": place.collection, "vectors_config": cosine})
        with pytest.raises(StoreMismatchError, match="QdrantVectorStore"):
            store.add(NODES[:1])
        store.client.ask("delete_collection", {"collection_name": place.collection})
        store.add(NODES[:1])
        store.clear()
        foreign = models.PointStruct(id=5, vector={"text-dense": NODES[0].embedding}, payload={"x": 1})
        store.client.ask("upsert", {"collection_name": place.collection, "points": [foreign]})
        with pytest.raises(StoreMismatchError, match="not written by"):
            store.add(NODES[:1])


def test_a_dropped_collection_is_an_empty_store(place: Place) -> None:
    """When somebody drops the collection under an open store it finds nothing, and the next add makes a new one."""
    with place.store() as store:
        store.add(NODES)
        store.client.ask("delete_collection", {"collection_name": place.collection})
        assert hits(store, asked("default")) == {}
        assert store.get_nodes() == []
        store.add(NODES[:2])
        assert len(store.get_nodes()) == 2


# -- tenants ----------------------------------------------------------------------------------------------------------


def test_tenants_share_a_collection_and_nothing_else(place: Place) -> None:
    """Same node ids for all, hits and scores of each as in a store of its own, deletes that stay at home."""
    with place.store(tenant="a") as a, small_store() as alone:
        b = a.for_tenant("b")
        b.add([make_node(f"n{i}", "flash flash memory " * 9, unit(i + 500), "d1", {"number": i}) for i in range(30)])
        for store in (a, alone):
            store.add(NODES, window_embeddings=WINDOWS)
        for mode in MODES:
            assert_alike(hits(a, asked(mode)), hits(alone, asked(mode)))
        assert a.stats()["average_length"] == alone.stats()["average_length"]
        assert a.score_dense(QUESTION, ["n3"]) == pytest.approx(alone.score_dense(QUESTION, ["n3"]))
        a.delete("d1")
        b.delete_nodes(["n0"])
        assert (len(a.get_nodes()), len(b.get_nodes())) == (37, 29)
        b.clear()
        assert (len(a.get_nodes()), len(b.get_nodes())) == (37, 0)
        assert [one.get_content() for one in a.get_nodes(["n7"])] == [NODES[7].get_content()]


@pytest.mark.parametrize("tenant_first", [False, True])
def test_a_store_and_its_tenants_are_side_by_side(place: Place, tenant_first: bool) -> None:
    """Whichever is filled first: same ids, hits and scores of each as alone, deletes that stay at home."""
    others = [make_node(f"n{i}", text(i + 500, 30), unit(i + 500), "d1", {"number": i}) for i in range(30)]
    with place.store() as root, small_store() as alone, small_store() as alone_too:
        acme = root.for_tenant("acme")
        fill = [lambda: root.add(NODES, window_embeddings=WINDOWS), lambda: acme.add(others)]
        for step in fill[::-1] if tenant_first else fill:
            step()
        alone.add(NODES, window_embeddings=WINDOWS)
        alone_too.add(others)
        for mode in MODES:
            assert_alike(hits(root, asked(mode)), hits(alone, asked(mode)))
            assert_alike(hits(acme, asked(mode)), hits(alone_too, asked(mode)))
        assert root.stats()["average_length"] == alone.stats()["average_length"]
        acme.delete("d1")
        assert (len(root.get_nodes()), acme.get_nodes()) == (40, [])
        acme.add(others[:1])
        root.clear()
    with place.store() as root, place.store(tenant="acme") as acme:  # as the next process has them
        assert root.get_nodes() == []
        assert [one.node_id for one in acme.get_nodes()] == ["n0"]
        assert root.for_tenant("acme").get_nodes() == acme.get_nodes()
        assert root.for_tenant("bravo").get_nodes() == []
        root.add(NODES[:3])
        assert len(root.get_nodes()) == 3
        assert root.stats()["collection"] == place.collection != acme.stats()["collection"]


def test_the_tenants_collection_is_not_opened_without_a_tenant(place: Place) -> None:
    """Under its own name it says whose it is and reads nothing of anybody's; nor are tenants put among other nodes."""
    theirs = f"{place.collection}-tenants"
    with place.store(tenant="a") as a, QdrantServerVectorStore(theirs, **place.options) as nobody:
        a.add(NODES[:3])
        for call in (nobody.get_nodes, lambda: hits(nobody, asked("default")), lambda: nobody.add(NODES[3:4])):
            with pytest.raises(StoreMismatchError, match=f"open '{place.collection}' with tenant="):
                call()
        a.clear()
        nobody.add(NODES[:3])
        with pytest.raises(StoreMismatchError, match="is not shared by tenants"):
            a.add(NODES[:3])


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(str.strip)


@pytest.fixture(scope="module")
def crowd() -> Iterator[QdrantServerVectorStore]:
    """A store in a collection of tenants, for all examples."""
    for place in places(KINDS[-1]):
        with place.store(tenant="x") as store:
            yield store


@settings(max_examples=25)
@given(st.lists(names, min_size=2, max_size=2, unique=True), trees, st.lists(records, min_size=2, max_size=4))
def test_no_filter_reaches_another_tenant(
    crowd: QdrantServerVectorStore, tenants: list[str], tree: Filter, metadata: list[dict[str, Any]]
) -> None:
    """Whatever the filter and however the tenants are called, each finds its own nodes and only those."""
    for number, tenant in enumerate(tenants):
        store = crowd.for_tenant(tenant)
        store.add([node(i, {**fields, "whose": number}, "d1") for i, fields in enumerate(metadata)])
    for number, tenant in enumerate(tenants):
        store = crowd.for_tenant(tenant)
        found = store.get_nodes(filters=tree)  # type: ignore[arg-type]  # ours is taken, too
        assert {one.metadata["whose"] for one in found} <= {number}
        assert {node_id for node_id, _ in store.search_dense([1.0, 0.0], 99, tree)} == {one.node_id for one in found}
        assert len(store.search_sparse("word", 99)) == len(metadata)
    for tenant in tenants:
        crowd.for_tenant(tenant).clear()


@pytest.mark.parametrize("name", ["", "  ", "x" * 129, "half \ud800"])
def test_unusable_tenants_are_refused(name: str) -> None:
    """A tenant's name is text that a server can keep."""
    with pytest.raises(ConfigurationError):
        QdrantServerVectorStore("c", url="http://localhost:1", tenant=name)


# -- how it is made ---------------------------------------------------------------------------------------------------


def test_settings_of_a_new_collection_are_passed_on(place: Place) -> None:
    """Layout, quantisation, replication, shards, disk and graph are what the collection is created with."""
    from qdrant_client import models

    given: dict[str, Any] = {}
    quantization = models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8))
    hnsw = models.HnswConfigDiff(m=8)
    with place.store(
        on_disk=True,
        hnsw_config=hnsw,
        quantization_config=quantization,
        replication_factor=2,
        write_consistency_factor=2,
        shard_number=3,
    ) as store:
        ask = store.client.ask

        def noting(method: str, arguments: dict[str, Any]) -> Any:
            if method == "create_collection":
                given.update(arguments)
            return ask(method, arguments)

        store.client.ask = noting
        store.add(NODES[:2])
    assert given["collection_name"] == place.collection
    assert all(vectors.on_disk and vectors.size == DIMENSION for vectors in given["vectors_config"].values())
    assert given["vectors_config"].keys() == {"text-dense", "text-windows"}
    assert given["sparse_vectors_config"]["text-sparse-new"].modifier == models.Modifier.IDF
    assert (given["hnsw_config"], given["quantization_config"]) == (hnsw, quantization)
    assert (given["replication_factor"], given["write_consistency_factor"], given["shard_number"]) == (2, 2, 3)


def test_arguments_that_cannot_be_are_refused() -> None:
    """No address or two, credentials in it, or a setting that no collection has."""
    for wrong in (
        {},
        {"url": "http://x", "aclient": object()},
        {"url": "http://me:secret@x"},
        {"url": "x", "shards": 1},
    ):
        with pytest.raises(ConfigurationError):
            QdrantServerVectorStore("c", **wrong)


def test_a_key_is_not_told() -> None:
    """The API key is in no representation and in nothing that is serialised."""
    with QdrantServerVectorStore("c", url="https://localhost:1", api_key="s3cret") as store:
        assert "s3cret" not in f"{store!r} {store} {store.to_dict()} {vars(store)}"


def test_closed_is_closed(place: Place) -> None:
    """After close every call says so, a client of the app's is still open, and closing twice is fine."""
    store = place.store()
    store.add(NODES[:2])
    store.close()
    store.close()
    with pytest.raises(StoreClosedError):
        store.get_nodes()
    with pytest.raises(StoreError):
        store.add(NODES[:2])
    with place.store() as again:
        assert len(again.get_nodes()) == 2
