"""Tenants: nothing of one appears, is walked over or weighs in an answer for another; per store, filter and fusion.

Two ways to keep tenants apart, with two strengths. A *partition* (a store of its own, behind one server or in one
folder) shares nothing: answers are the same to the last bit, whatever others write. A *filter* over a shared store lets
no passage of another through and no mass over one, but counts are the store's: how rare a name or a word is, and what
an unrelated passage looks like, is learnt from everybody's.
"""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from fakes import WordsEmbedding
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from servers.neo4j.server import Neo4jAddress

from llama_index_hybridmem.filters import Filter, evaluate, parse
from llama_index_hybridmem.graph.nodes import to_passage
from llama_index_hybridmem.graph.retriever import EntityGraphRetriever
from llama_index_hybridmem.graph.stores.base import Fact, NameRule, Passage
from llama_index_hybridmem.graph.stores.neo4j.store import Neo4jGraphStore
from llama_index_hybridmem.graph.stores.sqlite import SqliteGraphStore
from llama_index_hybridmem.query_engine import HybridRouterQueryEngine
from llama_index_hybridmem.retriever import HybridRetriever, Store
from llama_index_hybridmem.vector.store import QdrantEdgeVectorStore

NAMES = ("Umeå", "Mara Lindqvist", "Northwind Devices", "Zephyr", "Halden Radio", "Orbit", "Tamsin", "Nuuk")
WORDS = ("founded", "console", "river", "maker", "sold", "the", "in", "city", "radio", "of")
MINE = {"key": "tenant", "operator": "==", "value": "a"}
MODEL = WordsEmbedding()

TEXTS = st.lists(st.sampled_from(NAMES + WORDS), min_size=2, max_size=10).map(" ".join)
CORPORA = st.lists(TEXTS, min_size=1, max_size=6)
FACTS = st.lists(st.tuples(st.sampled_from(NAMES), st.just("made"), st.sampled_from(NAMES)), max_size=3)
QUESTIONS = st.lists(st.sampled_from(NAMES + WORDS), min_size=1, max_size=6).map(" ".join)


def nodes_of(tenant: str, texts: Sequence[str]) -> list[TextNode]:
    """A tenant's nodes; ids tell whose they are."""
    return [
        TextNode(id_=f"{tenant}{i}", text=text, metadata={"title": text.split()[0], "tenant": tenant})
        for i, text in enumerate(texts)
    ]


def passages_of(tenant: str, texts: Sequence[str], facts: Sequence[tuple[str, str, str]] = ()) -> list[Passage]:
    """The same for a graph store, with facts read from the first."""
    first, *rest = map(to_passage, nodes_of(tenant, texts))
    return [replace(first, facts=tuple(Fact(*fact, node_id=first.node_id, source=tenant) for fact in facts)), *rest]


def embedded(nodes: Sequence[TextNode]) -> list[TextNode]:
    """The same with vectors."""
    return [node.model_copy(update={"embedding": MODEL.get_text_embedding(node.text)}) for node in nodes]


def answer(retriever: BaseRetriever, question: str) -> list[tuple[str, float | None, Any]]:
    """Everything that is told about what was found."""
    return [
        (each.node.node_id, each.score, each.node.metadata.get("hybridmem")) for each in retriever.retrieve(question)
    ]


# -- partitions -------------------------------------------------------------------------------------------------------


def check_partition(mine: Any, others: Any, seed: int) -> None:
    """Write as one tenant, ask, let the other write, change and delete: the answers stay as they were."""
    chance = random.Random(seed)

    def some() -> list[str]:
        return [" ".join(chance.choices(NAMES + WORDS, k=8)) for _ in range(6)]

    mine.upsert(passages_of("a", some(), [("Zephyr", "made", "Orbit")]))
    questions = [" ".join(chance.choices(NAMES + WORDS, k=4)) for _ in range(4)]
    retriever = EntityGraphRetriever(mine, similarity_top_k=10)
    before = [answer(retriever, question) for question in questions]
    words = mine.keyword_scores(WORDS, 10), mine.document_frequencies(WORDS), mine.sample(10)
    assert any(before)
    others.upsert(passages_of("b", some(), [("Zephyr", "made", "Nuuk")]))
    others.add_names(["river", "console"])
    others.add_facts([Fact("Zephyr", "stolen from", "Nuuk")])
    others.upsert(passages_of("a", some()))  # under the very ids that are mine
    for step in (lambda: others.delete(node_ids=["a0", "b1"]), lambda: None):
        step()
        assert [answer(retriever, question) for question in questions] == before
        assert (mine.keyword_scores(WORDS, 10), mine.document_frequencies(WORDS), mine.sample(10)) == words
    assert mine.passage_count == 6


def test_a_partition_in_neo4j_shares_nothing(neo4j: Neo4jAddress) -> None:
    """Two tenants of one database: rankings, scores, facts, paths and word counts of one ignore the other."""
    auth = dict(zip(("username", "password"), neo4j.auth, strict=True)) if neo4j.auth else {}
    root = Neo4jGraphStore(neo4j.uri, database=neo4j.database, timeout_s=30, **auth)  # type: ignore[arg-type]
    try:
        check_partition(root.tenant("acme"), root.tenant("Acme"), 0)
    finally:
        root.close()


@pytest.mark.parametrize("seed", range(3))
def test_a_partition_in_sqlite_is_a_file_of_its_own(seed: int) -> None:
    """So it holds by construction; the same check as for the server."""
    mine, others = SqliteGraphStore(), SqliteGraphStore()
    check_partition(mine, others, seed)
    mine.close()
    others.close()


# -- filters over a shared store --------------------------------------------------------------------------------------


class Watched:
    """A graph store that notes which passages it is asked about."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.asked: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in {"links_of_passages", "links_between", "names_in", "load", "facts_about", "node_ids"}:
            return method

        def noting(*args: Any) -> Any:
            passages = args[1] if name == "facts_about" else args[0]
            self.asked.update(np.asarray(passages).tolist())
            return method(*args)

        return noting


@dataclass
class Shared:
    """One graph and one vector store with the documents of two tenants, and the names that facts of ours tie."""

    graph: Any
    vectors: QdrantEdgeVectorStore
    ties: set[frozenset[str]]

    def close(self) -> None:
        """Close both."""
        self.graph.close()
        self.vectors.close()


def shared(graph: Any, mine: Sequence[str], theirs: Sequence[str], facts: Sequence[tuple[str, str, str]]) -> Shared:
    """Fill both."""
    vectors = QdrantEdgeVectorStore()
    vectors.add(embedded([*nodes_of("b", theirs), *nodes_of("a", mine)]))
    graph.upsert([*passages_of("b", theirs, facts), *passages_of("a", mine, facts[:1])])
    return Shared(graph, vectors, {frozenset((one.lower(), other.lower())) for one, _, other in facts[:1]})


def check_filtered(stores: Shared, question: str) -> None:
    """Ask under the filter: nothing of the other comes back, in whatever form, and no step leads over it."""
    graph = Watched(stores.graph)
    asked = EntityGraphRetriever(
        graph, vector_store=stores.vectors, embed_model=MODEL, similarity_top_k=20, filters=MINE
    )
    theirs = set(stores.graph.passage_ids([f"b{i}" for i in range(10)]).values())
    for node_id, _, why in answer(asked, question):
        assert node_id.startswith("a")
        assert why["path"] is None or why["path"]["from"] == "question" or why["path"]["from"].startswith("a")
    assert graph.asked.isdisjoint(theirs), "mass went over a passage of the other tenant"
    keep = parse(MINE)
    assert keep is not None
    check_reads(stores, keep, theirs)


def check_reads(stores: Shared, keep: Filter, theirs: set[int]) -> None:
    """Every read that takes a filter obeys it."""
    graph = stores.graph
    ids = [f"{tenant}{i}" for tenant in "ab" for i in range(10)]
    assert all(node_id.startswith("a") for node_id in graph.passage_ids(ids, keep))
    assert all(node_id.startswith("a") for node_id, _ in graph.keyword_scores(WORDS, 20, keep))
    names = graph.find_names([name.lower() for name in NAMES])
    numbers = np.asarray([name.id for name in names.values()], dtype=np.int64)
    assert theirs.isdisjoint(graph.links_of_names(numbers, keep).passages.tolist())
    texts = {name.id: name.name for name in names.values()}
    ties = graph.fact_links(numbers, NameRule(10**6, 0.0), keep)
    assert {frozenset((texts[one], texts[other])) for one, other, _ in ties} <= stores.ties


@given(CORPORA, CORPORA, FACTS, QUESTIONS)
@settings(max_examples=25)
def test_a_filter_in_the_embedded_stores_lets_nothing_of_another_through(
    mine: list[str], theirs: list[str], facts: list[tuple[str, str, str]], question: str
) -> None:
    """No node, path, fact or step of the walk; both hops, with vectors and keywords."""
    stores = shared(SqliteGraphStore(), mine, theirs, facts)
    try:
        check_filtered(stores, question)
    finally:
        stores.close()


def test_a_filter_in_neo4j_lets_nothing_of_another_through(neo4j: Neo4jAddress) -> None:
    """The same over the server, whose walk is one statement: what it hands back and what it leads over."""
    chance = random.Random(0)
    some = [[" ".join(chance.choices(NAMES + WORDS, k=8)) for _ in range(6)] for _ in "ab"]
    auth = dict(zip(("username", "password"), neo4j.auth, strict=True)) if neo4j.auth else {}
    graph = Neo4jGraphStore(neo4j.uri, database=neo4j.database, timeout_s=30, **auth)  # type: ignore[arg-type]
    stores = shared(graph, some[0], some[1], [("Zephyr", "made", "Nuuk"), ("Orbit", "made", "Umeå")])
    keep = parse(MINE)
    assert keep is not None
    try:
        theirs = set(graph.passage_ids([f"b{i}" for i in range(10)]).values())
        assert len(theirs) == 6
        check_reads(stores, keep, theirs)
        asked = EntityGraphRetriever(
            graph, vector_store=stores.vectors, embed_model=MODEL, similarity_top_k=20, filters=MINE
        )
        for _ in range(4):
            question = " ".join(chance.choices(NAMES + WORDS, k=4))
            for node_id, _, why in answer(asked, question):
                assert node_id.startswith("a")
                assert "from" not in (why["path"] or {}) or why["path"]["from"][0] in "aq"
    finally:
        stores.close()


# -- fusion and engine ------------------------------------------------------------------------------------------------


class Fixed(BaseRetriever):
    """Returns what it was given, whatever it is asked: a store that ignores filters."""

    def __init__(self, nodes: Sequence[NodeWithScore]) -> None:
        super().__init__()
        self.nodes = list(nodes)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self.nodes


RANKED = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(string.ascii_lowercase), st.floats(0, 1)),
    max_size=8,
    unique_by=lambda hit: hit[:2],
)


def hits(ranked: Sequence[tuple[str, str, float]]) -> list[NodeWithScore]:
    """Nodes of two tenants in a store's order."""
    return [
        NodeWithScore(node=TextNode(id_=tenant + name, text=name, metadata={"tenant": tenant}), score=score)
        for tenant, name, score in ranked
    ]


@given(st.lists(RANKED, min_size=1, max_size=3), st.sampled_from(["rrf", "score"]))
def test_fusion_weighs_no_node_of_another(lists: list[list[tuple[str, str, float]]], mode: Any) -> None:
    """Stores that ignore the filter are guarded before ranks are counted: fused as if they held one tenant only."""

    def fused(found: list[list[tuple[str, str, float]]]) -> list[tuple[str, float | None, Any]]:
        stores = [Store(f"s{i}", Fixed(hits(ranked)), filters=MINE, top_k=4) for i, ranked in enumerate(found)]
        return answer(HybridRetriever(stores, mode=mode), "q")

    alone = [[hit for hit in ranked if hit[0] == "a"] for ranked in lists]
    assert fused(lists) == fused(alone)
    assert all(node_id.startswith("a") for node_id, _, _ in fused(lists))


@given(RANKED)
def test_the_engine_shows_no_node_of_another(ranked: list[tuple[str, str, float]]) -> None:
    """Neither as a source nor in the text, though the retriever returned it."""
    engine = HybridRouterQueryEngine(Fixed(hits(ranked)), response_mode="no_text", filters=MINE, no_answer="llm")
    response = engine.query("q")
    assert all(each.node.metadata["tenant"] == "a" for each in response.source_nodes)


@given(QUESTIONS)
def test_vector_and_keyword_search_obey_the_filter(question: str) -> None:
    """Whatever is asked, in the embedded engine."""
    with QdrantEdgeVectorStore() as store:
        store.add(embedded([*nodes_of("a", ["Zephyr console", "Orbit"]), *nodes_of("b", ["Zephyr console", "Nuuk"])]))
        keep = parse(MINE)
        found = [*store.search_dense(MODEL.get_query_embedding(question), 10, keep)]
        found += store.search_sparse(question, 10, keep)
        assert {node_id for node_id, _ in found} <= {"a0", "a1"}
        assert all(evaluate(keep, node.metadata) for node in store.get_nodes([n for n, _ in found]))  # type: ignore[arg-type]
