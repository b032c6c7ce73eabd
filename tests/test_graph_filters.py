"""Tests of filters in the graph store: SQL means what `filters.evaluate` means."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llama_index_hybridmem.filters import LIST_OPS, TEXT_OPS, Condition, Filter, Group, Op, evaluate
from llama_index_hybridmem.graph.stores.base import Fact, NameRule, Passage
from llama_index_hybridmem.graph.stores.sqlite import SqliteGraphStore

KEYS = st.sampled_from(["a", "b.c", "d[0]", "é'\""])
STRINGS = st.sampled_from(["", "x", "X", "xy", "10", "True", "é", "É", "İ", "%", "a\0b", "'; DROP TABLE field; --"])
NUMBERS = st.sampled_from([0, 1, -1, 10, 1.0, 1.5, -0.0, 2**53, 2**53 + 1, float(2**53), math.inf, -(2**63), 2**63 - 1])
SCALARS = st.one_of(st.booleans(), NUMBERS, STRINGS)
FIELDS = st.one_of(SCALARS, st.none(), st.just(math.nan), st.lists(SCALARS | st.none(), max_size=3), st.just({"x": 1}))
METADATA = st.dictionaries(KEYS, FIELDS, max_size=3)


def values_for(op: Op) -> st.SearchStrategy[Any]:
    """What an operator may be given; beside that, values that `parse` would refuse must not break the agreement."""
    if op in LIST_OPS:
        return st.lists(SCALARS | st.just(math.nan), max_size=3).map(tuple)
    return st.one_of(STRINGS, NUMBERS) if op in TEXT_OPS else SCALARS | st.just(math.nan)


CONDITIONS = st.sampled_from(Op).flatmap(lambda op: st.builds(Condition, KEYS, st.just(op), values_for(op)))
FILTERS: st.SearchStrategy[Filter] = st.recursive(
    CONDITIONS,
    lambda parts: st.builds(Group, st.sampled_from(["and", "or", "not"]), st.lists(parts, max_size=3).map(tuple)),
    max_leaves=6,
)


def kept(documents: list[dict[str, object]], keep: Filter) -> list[int]:
    """Which passages a filter leaves, by their place."""
    store = SqliteGraphStore()
    store.upsert([Passage(f"n{i}", "d", "", "text", metadata=metadata) for i, metadata in enumerate(documents)])
    found = store.passage_ids([f"n{i}" for i in range(len(documents))], keep)
    store.close()
    return sorted(int(node_id[1:]) for node_id in found)


@settings(max_examples=250)
@given(st.lists(METADATA, min_size=1, max_size=6), FILTERS)
@example([{"a": True}, {"a": 1}, {"a": "1"}], Condition("a", Op.EQ, 1))
@example([{"a": [1, 2]}, {"a": []}, {}], Condition("a", Op.ALL, ()))
@example([{"a": ["x", 1]}, {"a": "É"}], Condition("a", Op.TEXT_MATCH_INSENSITIVE, "é"))
def test_sql_keeps_what_the_reference_keeps(documents: list[dict[str, object]], keep: Filter) -> None:
    """Every operator, kind and nesting, missing keys, lists, NaN, odd keys: the store agrees with `evaluate`."""
    assert kept(documents, keep) == [i for i, metadata in enumerate(documents) if evaluate(keep, metadata)]


def test_numbers_beyond_64_bits_are_compared_as_floats() -> None:
    """The one place where the store is coarser than Python; it neither fails nor overflows."""
    documents: list[dict[str, object]] = [{"a": 2**70}, {"a": 10**400}, {"a": -(10**400)}, {"a": 1}]
    assert kept(documents, Condition("a", Op.EQ, 2**70)) == [0]
    assert kept(documents, Condition("a", Op.GT, 10**300)) == [1]
    assert kept(documents, Condition("a", Op.LT, 0)) == [2]


def test_long_lists_and_wide_groups_fit() -> None:
    """SQLite takes a chain of a thousand ORs for a tree a thousand levels deep, and refuses it."""
    documents: list[dict[str, object]] = [{"a": "n1999"}, {"a": "other"}, {"a": 1999}]
    many = tuple(f"n{i}" for i in range(2000))
    assert kept(documents, Condition("a", Op.IN, many)) == [0]
    assert kept(documents, Condition("a", Op.NIN, (*many, 1999))) == [1]
    assert kept(documents, Group("or", tuple(Condition("a", Op.EQ, name) for name in many))) == [0]
    assert kept(documents, Group("not", tuple(Condition("a", Op.EQ, name) for name in many))) == [1, 2]


def test_deep_nesting_fits() -> None:
    """SQLite's parser has a stack of 100 up to version 3.45: sixteen levels in the worst order stay below."""
    keep: Filter = Condition("a", Op.EQ, 1)
    for _ in range(16):
        keep = Group("not", (Condition("b", Op.EQ, 1), keep))
    assert kept([{"a": 1}, {"a": 2}], keep) == [i for i, m in enumerate([{"a": 1}, {"a": 2}]) if evaluate(keep, m)]


@pytest.fixture
def store() -> SqliteGraphStore:
    """Three passages that share a name; the middle one is secret and states a fact."""
    store = SqliteGraphStore()
    store.upsert(
        [
            Passage("open", "d", "", "so Ada met Bob", ("ada", "bob"), {"secret": False}),
            Passage("shut", "d", "", "so Ada met Cid", ("ada", "cid"), {"secret": True}, (Fact("Bob", "is", "Cid"),)),
            Passage("free", "d", "", "so Cid met Bob", ("cid", "bob"), {"secret": False}),
        ]
    )
    return store


OPEN = Condition("secret", Op.EQ, False)


def test_no_link_leads_to_a_filtered_out_passage(store: SqliteGraphStore) -> None:
    """Names are followed to the passages that pass, and to no others."""
    names = np.asarray([name.id for name in store.find_names(["ada", "bob", "cid"]).values()])
    shut = store.passage_ids(["shut"])["shut"]
    assert shut in store.links_of_names(names).passages
    assert shut not in store.links_of_names(names, OPEN).passages
    assert store.links_of_names(names, OPEN).passages.size == 4


def test_facts_of_filtered_out_passages_tie_nothing(store: SqliteGraphStore) -> None:
    """A fact carries mass between names; one that is read only in a hidden passage must not. Stated ones stay."""
    bob = np.asarray([store.find_names(["bob"])["bob"].id])
    rule = NameRule(100, 0.0)
    assert [df for _, _, df in store.fact_links(bob, rule)] == [2]
    assert store.fact_links(bob, rule, OPEN) == []
    store.add_facts([Fact("Bob", "knows", "Ada")])
    assert len(store.fact_links(bob, rule, OPEN)) == 1


def test_keywords_find_no_filtered_out_passage(store: SqliteGraphStore) -> None:
    """The filter holds inside the search: enough results come back, not the best few cut down."""
    assert [node_id for node_id, _ in store.keyword_scores(["cid", "ada"], 1)] == ["shut"]
    assert [node_id for node_id, _ in store.keyword_scores(["cid", "ada"], 1, OPEN)] == ["free"]
