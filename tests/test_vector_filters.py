"""The store's filters: whatever the engine is told or has to be read, the answer is that of the pure evaluator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from vector_nodes import small_store

from llama_index_hybridmem.filters import Condition, Filter, Group, Op, evaluate, visible_fields
from llama_index_hybridmem.vector.conditions import translate
from llama_index_hybridmem.vector.store import QdrantEdgeVectorStore

KEYS = ["x", "y", "a.b", "list[0]", 'say "x"', "", "doc_id", "_hm_terms", "ü"]
NUMBERS = [0, -0.0, 1, 1.0, 2, -3, 0.5, 2**53, 2**53 + 1, float(2**53), 2**63, 2**70, 10**400, -(10**400), -1e300]
TEXTS = ["", "a", "ab", "A", "Ä", "ä", "ẞ", "1", "true", "b\x00c"]

scalars = st.one_of(st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(TEXTS))
asked = st.one_of(
    scalars, st.just(float("inf"))
)  # LlamaIndex stores an infinite number as null, but one may ask for it
values = st.one_of(scalars, st.none(), st.lists(st.one_of(scalars, st.none()), max_size=3), st.just({"deep": 1}))
records = st.dictionaries(st.sampled_from(KEYS), values, max_size=5)

LISTED = [Op.IN, Op.NIN, Op.ANY, Op.ALL]
TEXTUAL = [Op.TEXT_MATCH, Op.TEXT_MATCH_INSENSITIVE]
SCALAR = [Op.EQ, Op.NE, Op.GT, Op.GTE, Op.LT, Op.LTE, Op.CONTAINS]
conditions = st.one_of(
    st.builds(Condition, st.sampled_from(KEYS), st.sampled_from(SCALAR), asked),
    st.builds(Condition, st.sampled_from(KEYS), st.sampled_from(LISTED), st.lists(asked, max_size=3).map(tuple)),
    st.builds(Condition, st.sampled_from(KEYS), st.sampled_from(TEXTUAL), st.sampled_from(TEXTS)),
    st.builds(Condition, st.sampled_from(KEYS), st.just(Op.IS_EMPTY)),
)
trees: st.SearchStrategy[Filter] = st.recursive(
    conditions,
    lambda part: st.builds(Group, st.sampled_from(["and", "or", "not"]), st.lists(part, max_size=3).map(tuple)),
    max_leaves=6,
)


def node(number: int, metadata: Mapping[str, Any], document: str | None = None) -> TextNode:
    """A node with one-hot vector and the given metadata."""
    source = {} if document is None else {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document)}
    return TextNode(
        id_=f"n{number}", text="word", metadata=dict(metadata), embedding=[1.0, number], relationships=source
    )


@pytest.fixture(scope="module")
def store() -> Iterator[QdrantEdgeVectorStore]:
    """One store for all examples, each of which replaces its content."""
    with small_store(indexed_fields=["x", "a.b", "list[0]", "ü"]) as store:
        yield store


@pytest.fixture(scope="module")
def answers(store: QdrantEdgeVectorStore) -> Callable[[Sequence[TextNode], Filter], tuple[set[str], set[str]]]:
    """Gives what the store finds, by reading and by searching, and what the pure evaluator lets pass."""

    def ask(nodes: Sequence[TextNode], tree: Filter) -> tuple[set[str], set[str]]:
        known = [f"n{number}" for number in range(20)]
        store.delete_nodes(known)
        store.add(nodes)
        found = {one.node_id for one in store.get_nodes(filters=tree)}  # type: ignore[arg-type]  # ours is taken, too
        assert {node_id for node_id, _ in store.search_dense([1.0, 1.0], 50, tree)} == found
        return found, {n.node_id for n in nodes if evaluate(tree, visible_fields(n.metadata, n.ref_doc_id))}

    return ask


@settings(max_examples=120)
@given(st.lists(records, min_size=1, max_size=6), trees)
@example([{"x": 2**53 + 1}, {"x": 2**53}, {"x": float(2**53)}], Condition("x", Op.GT, 2**53))
@example([{"x": 2**53 + 1}, {"x": 2**53}], Condition("x", Op.LTE, 2**53 + 1))
@example([{"x": 1}, {"x": True}, {"x": "1"}, {"x": 1.0}], Condition("x", Op.EQ, 1))
@example([{"x": 10**400}, {"x": 5}], Condition("x", Op.GT, 1))
@example([{"x": "ÄB"}, {"x": "äb"}, {}], Group("not", (Condition("x", Op.TEXT_MATCH_INSENSITIVE, "ä"),)))
@example([{"doc_id": "mine"}, {}], Condition("doc_id", Op.EQ, "d1"))
@example([{"x": {"deep": 1}}, {"x": [None]}, {"x": []}, {}], Condition("x", Op.IS_EMPTY))
def test_store_agrees_with_the_evaluator(
    answers: Callable[[Sequence[TextNode], Filter], tuple[set[str], set[str]]],
    metadata: list[dict[str, Any]],
    tree: Filter,
) -> None:
    """Every operator and nesting, on missing keys, lists, mixed kinds, odd names and numbers beyond 64 bits."""
    nodes = [node(i, fields, f"d{i}" if i % 2 else None) for i, fields in enumerate(metadata)]
    found, expected = answers(nodes, tree)
    assert found == expected


METADATA = [{"year": 2000 + i, "name": f"N{i}", "tags": ["a", "b"][: i % 3]} for i in range(9)]


@pytest.fixture(params=["indexed", "not indexed", "optimized"])
def years(request: pytest.FixtureRequest) -> Iterator[QdrantEdgeVectorStore]:
    """A store with a number field that has an index from the start, has none, or gets it by optimize()."""
    with small_store() as store:
        store.add([node(99, {} if request.param != "indexed" else {"year": 0})])
        store.add([node(i, fields) for i, fields in enumerate(METADATA)])
        if request.param == "optimized":
            store.search_dense([1.0, 0.0], 3, {"key": "year", "operator": ">", "value": 1})
            store.optimize()
        assert ("year" in store.stats()["number_fields"]) is (request.param != "not indexed")
        yield store


def test_a_number_index_changes_no_answer(years: QdrantEdgeVectorStore) -> None:
    """Numbers are compared the same with an index, without one, and with one that optimize() made."""
    written = {
        "filters": [{"key": "year", "operator": ">=", "value": 2003}, {"key": "year", "operator": "<", "value": 2006.5}]
    }
    assert {node_id for node_id, _ in years.search_dense([1.0, 0.0], 50, written)} == {"n3", "n4", "n5", "n6"}


def test_exact_where_the_engine_can_follow() -> None:
    """Equality is pushed down on any field, numbers where there is an index; text and order of strings are read."""
    exact: list[Filter] = [
        Condition("any.key", Op.EQ, "x"),
        Condition("any.key", Op.NIN, (1, True)),
        Condition("k", Op.IS_EMPTY),
        Condition("year", Op.GT, 3),
        Group("not", (Condition("k", Op.ALL, ("a",)),)),
    ]
    read: list[Filter] = [
        Condition("k", Op.GT, 3),
        Condition("year", Op.GT, "3"),
        Condition("year", Op.GT, 2**60),
        Condition("k", Op.TEXT_MATCH, "x"),
        Group("not", (Condition("k", Op.TEXT_MATCH, "x"),)),
    ]
    assert [translate(one, ["year"]).exact for one in exact] == [True] * len(exact)
    assert [translate(one, ["year"]).exact for one in read] == [False] * len(read)
    assert translate(read[-1]).condition is None


def test_what_was_read_is_forgotten_with_the_next_write() -> None:
    """A filter that is answered by reading sees nodes that came, changed and went since it was last asked."""
    wanted = {"key": "name", "operator": "text_match", "value": "N"}
    with small_store() as store:
        store.add([node(1, {"name": "N1"}), node(2, {"name": "x"})])
        assert store.search_dense([1.0, 0.0], 9, wanted)[0][0] == "n1"
        store.add([node(2, {"name": "N2"}), node(1, {"name": "x"})])
        assert [node_id for node_id, _ in store.search_dense([1.0, 0.0], 9, wanted)] == ["n2"]
        store.delete_nodes(["n2"])
        assert store.search_dense([1.0, 0.0], 9, wanted) == []
        store.clear()
        assert store.search_dense([1.0, 0.0], 9, wanted) == []


def test_one_and_true_are_two_filters() -> None:
    """Python holds 1 and True for equal; what was read for the one is not handed out for the other."""
    with small_store() as store:
        store.add([node(1, {"v": True, "t": "x"}), node(2, {"v": 1, "t": "x"})])
        text = Condition("t", Op.TEXT_MATCH, "x")
        for value, expected in ((True, "n1"), (1, "n2"), (True, "n1")):
            tree = Group("and", (text, Condition("v", Op.EQ, value)))
            assert [node_id for node_id, _ in store.search_dense([1.0, 0.0], 9, tree)] == [expected]
