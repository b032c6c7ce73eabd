"""The filter tree: what it accepts, and the reference semantics that every store is held to."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index_hybridmem.errors import FilterError
from llama_index_hybridmem.filters import Condition, Filter, Group, Op, elements, evaluate, keys, parse, visible_fields

METADATA = {
    "color": "red",
    "year": 2020,
    "price": 9.5,
    "flag": True,
    "tags": ["a", "b", 3],
    "empty": [],
    "none": None,
    "a.b": "dotted",
}


def holds(key: str, op: str, value: object = None) -> bool:
    """Evaluate one written condition on METADATA."""
    return evaluate(parse({"key": key, "operator": op, "value": value}), METADATA)


@pytest.mark.parametrize(
    ("key", "op", "value", "expected"),
    [
        ("color", "==", "red", True),
        ("color", "==", "Red", False),
        ("missing", "==", "red", False),
        ("tags", "==", "a", True),
        ("color", "!=", "red", False),
        ("missing", "!=", "red", True),
        ("tags", "!=", "a", False),
        ("year", ">", 2019, True),
        ("year", ">", 2020, False),
        ("year", ">=", 2020.0, True),
        ("price", "<", 10, True),
        ("price", "<=", 9.5, True),
        ("missing", "<", 10, False),
        ("color", ">", "blue", True),
        ("color", "<", "blue", False),
        ("color", ">", 1, False),
        ("year", ">", "1", False),
        ("tags", ">", 2, True),
        ("color", "in", ["red", "green"], True),
        ("color", "in", [], False),
        ("tags", "any", ["z", "b"], True),
        ("missing", "in", ["red"], False),
        ("color", "nin", ["red"], False),
        ("missing", "nin", ["red"], True),
        ("color", "nin", [], True),
        ("tags", "all", ["a", 3], True),
        ("tags", "all", ["a", "z"], False),
        ("missing", "all", [], True),
        ("tags", "contains", "b", True),
        ("color", "contains", "red", True),
        ("color", "contains", "re", False),
        ("color", "text_match", "re", True),
        ("color", "text_match", "RE", False),
        ("tags", "text_match", "a", True),
        ("year", "text_match", "20", False),
        ("color", "text_match_insensitive", "RE", True),
        ("empty", "is_empty", None, True),
        ("none", "is_empty", None, True),
        ("missing", "is_empty", None, True),
        ("color", "is_empty", None, False),
        ("a.b", "==", "dotted", True),
        ("a", "is_empty", None, True),
    ],
)
def test_every_operator(key: str, op: str, value: object, expected: bool) -> None:
    """Each operator's truth table on fields that are there, missing, lists, or of another kind."""
    assert holds(key, op, value) is expected


def test_kinds_never_mix() -> None:
    """True is not 1, "1" is not 1, but 1 is 1.0; a bool is never ordered."""
    assert not holds("flag", "==", 1)
    assert holds("flag", "==", True)
    assert not holds("year", "==", "2020")
    assert holds("year", "==", 2020.0)
    assert not holds("flag", ">=", True)
    assert not holds("flag", ">", 0)
    assert not evaluate(Condition("n", Op.EQ, float(2**53)), {"n": 2**53 + 1})


def test_elements_of_a_field() -> None:
    """None, NaN and nested things are no elements; a list gives its scalars, a scalar itself."""
    assert elements(None) == elements([]) == elements({"a": 1}) == elements(float("nan")) == []
    assert elements("x") == ["x"]
    assert elements(("x", None, [1], 2)) == ["x", 2]


@pytest.mark.parametrize(
    ("connective", "expected"),
    [("and", (True, False, False)), ("or", (True, True, False)), ("not", (False, False, True))],
)
def test_connectives(connective: str, expected: tuple[bool, bool, bool]) -> None:
    """And is all, or is any, not is none of the parts, on two, one and no true part."""
    true, false = {"key": "color", "value": "red"}, {"key": "color", "value": "blue"}
    pairs = ([true, true], [true, false], [false, false])
    results = tuple(evaluate(parse({"condition": connective, "filters": pair}), METADATA) for pair in pairs)
    assert results == expected


@pytest.mark.parametrize("connective", ["and", "or", "not"])
def test_an_empty_group_restricts_nothing(connective: str) -> None:
    """Whatever its connective, a group without parts passes every node, and so does None."""
    assert evaluate(parse({"condition": connective, "filters": []}), METADATA)
    assert evaluate(None, METADATA)


def test_llamaindex_filters_are_read() -> None:
    """MetadataFilters, nested and with its enums, reads as the same tree as its JSON dump and as our own classes."""
    types = pytest.importorskip("llama_index.core.vector_stores.types")
    theirs = types.MetadataFilters(
        condition=types.FilterCondition.OR,
        filters=[
            types.MetadataFilter(key="color", value="red"),
            types.MetadataFilters(
                condition=types.FilterCondition.NOT,
                filters=[types.MetadataFilter(key="year", value=[1, 2], operator=types.FilterOperator.IN)],
            ),
            types.MetadataFilter(key="none", value=None, operator=types.FilterOperator.IS_EMPTY),
        ],
    )
    ours = Group(
        "or",
        (
            Condition("color", Op.EQ, "red"),
            Group("not", (Condition("year", Op.IN, (1, 2)),)),
            Condition("none", Op.IS_EMPTY),
        ),
    )
    assert parse(theirs) == parse(theirs.model_dump()) == parse(theirs.model_dump(mode="json")) == parse(ours) == ours


def test_every_llamaindex_operator_is_known() -> None:
    """Our operators and connectives are exactly those of the installed LlamaIndex."""
    types = pytest.importorskip("llama_index.core.vector_stores.types")
    assert {op.value for op in Op} == {op.value for op in types.FilterOperator}
    assert {c.value for c in types.FilterCondition} == {"and", "or", "not"}


@dataclass
class LooksLikeAFilter:
    """A foreign class with LlamaIndex's attributes."""

    key: str = "color"
    operator: str = "in"
    value: list[str] = field(default_factory=lambda: ["red"])


def test_duck_typed_and_scalar_list() -> None:
    """Any object with the right attributes is read; a scalar for a list operator is a list of one."""
    assert parse(LooksLikeAFilter()) == Condition("color", Op.IN, ("red",))
    assert parse({"key": "color", "operator": "in", "value": "red"}) == Condition("color", Op.IN, ("red",))
    assert parse(None) is None


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ({"filters": [{"key": "a", "operator": "like", "value": 1}]}, r"filters\[0\]: unknown operator 'like'"),
        ({"filters": [{"filters": [{"key": "a"}]}]}, r"filters\[0\].filters\[0\]: == needs a value"),
        ({"condition": "xor", "filters": []}, "unknown condition 'xor'"),
        ({"filters": "abc"}, "must be a list"),
        ({"key": 3, "value": 1}, "key must be a string"),
        ({"key": "a", "value": {"x": 1}}, "compares strings"),
        ({"key": "a", "value": [1]}, "compares strings"),
        ({"key": "a", "operator": "in", "value": [[1]]}, "compares strings"),
        ({"key": "a", "operator": "in", "value": None}, "needs a value"),
        ({"key": "a", "operator": ">", "value": float("nan")}, "compares strings"),
        ({"key": "a", "operator": "text_match", "value": 3}, "takes a string"),
        ({"key": "a", "operator": ["=="], "value": 3}, "unknown operator"),
        ({"key": "a", "value": 1, "extra": 2}, "not a filter"),
        ({}, "not a filter"),
        ("color == red", "not a filter"),
        ([{"key": "a", "value": 1}], "not a filter"),
        (Condition("a", Op.EQ, None), "needs a value"),
    ],
)
def test_malformed_filters_are_refused(written: object, place: str) -> None:
    """Whatever is no filter raises FilterError and names the place."""
    with pytest.raises(FilterError, match=place):
        parse(written)


def test_endless_nesting_is_refused() -> None:
    """A filter nested past the limit is an error of ours, not a RecursionError."""
    written: dict[str, object] = {"filters": []}
    for _ in range(500):
        written = {"filters": [written]}
    with pytest.raises(FilterError, match="nested deeper"):
        parse(written)


def test_source_document_is_visible() -> None:
    """A node's document id can be filtered on, unless its metadata says something else under that name."""
    assert visible_fields({"doc_id": 7}, "d1") == {"doc_id": 7, "ref_doc_id": "d1", "document_id": "d1"}
    assert visible_fields({"a": 1}, None) == {"a": 1}


def test_keys_of_a_filter() -> None:
    """The fields a filter reads are found through every nesting."""
    assert keys(None) == set()
    assert keys(Group("or", (Condition("a", Op.EQ, 1), Group("not", (Condition("b", Op.IS_EMPTY),))))) == {"a", "b"}


scalars = st.one_of(
    st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, 1.0, -2.0]), st.sampled_from(["", "a", "ab"])
)
conditions = st.one_of(
    st.builds(
        Condition,
        st.sampled_from("xyz"),
        st.sampled_from([Op.EQ, Op.NE, Op.GT, Op.GTE, Op.LT, Op.LTE, Op.CONTAINS]),
        scalars,
    ),
    st.builds(
        Condition,
        st.sampled_from("xyz"),
        st.sampled_from([Op.IN, Op.NIN, Op.ANY, Op.ALL]),
        st.lists(scalars, max_size=3).map(tuple),
    ),
)
trees: st.SearchStrategy[Filter] = st.recursive(
    conditions,
    lambda part: st.builds(Group, st.sampled_from(["and", "or", "not"]), st.lists(part, max_size=3).map(tuple)),
    max_leaves=6,
)
fields = st.dictionaries(
    st.sampled_from("xyz"), st.one_of(st.none(), scalars, st.lists(scalars, max_size=3)), max_size=3
)
negations = {Op.EQ: Op.NE, Op.IN: Op.NIN}


@settings(max_examples=100, deadline=None)
@given(trees, fields)
def test_laws(tree: Filter, metadata: dict[str, object]) -> None:
    """Parsing changes nothing; not is the complement of a single part; NE and NIN are complements of EQ and IN."""
    assert parse(tree) == tree
    assert evaluate(Group("not", (tree,)), metadata) is not evaluate(tree, metadata)
    if isinstance(tree, Condition) and tree.op in negations:
        opposite = Condition(tree.key, negations[tree.op], tree.value)
        assert evaluate(opposite, metadata) is not evaluate(tree, metadata)
