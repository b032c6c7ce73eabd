"""Known beginnings of prompts: the longest of the same adapter is found, memory is bounded, old ones go first."""

from __future__ import annotations

import importlib.util

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.llms.serving.prefixes import Layers, PrefixStore, common

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the extra 'lora'")

IDS = st.lists(st.integers(0, 2), max_size=12)
WEIGHTS = st.sampled_from([None, "a", "b"])


def layers(ids: list[int]) -> Layers:
    """Keys and values that tell which ids they are of."""
    import torch

    own = torch.tensor([float(one) for one in ids]).view(1, 1, -1, 1)
    return [(own, -own)]


@given(IDS, IDS)
def test_common_is_the_longest_shared_beginning(first: list[int], second: list[int]) -> None:
    """Equal up to there, and different or at an end behind it."""
    length = common(first, second)
    assert first[:length] == second[:length]
    assert length in (len(first), len(second)) or first[length] != second[length]


@given(st.lists(st.tuples(WEIGHTS, IDS), max_size=10), WEIGHTS, IDS, st.integers(0, 20), st.integers(1, 3))
def test_what_is_found_was_computed_for_these_ids_and_this_adapter(
    kept: list[tuple[str | None, list[int]]], weights: str | None, ids: list[int], tokens: int, shortest: int
) -> None:
    """The layers are those of the prompt's beginning under its own adapter; never all of it, never too short."""
    store = PrefixStore(tokens, shortest)
    for own, each in kept:
        store.keep(own, each, layers(each))
        assert sum(len(entry.ids) for entry in store._entries) <= tokens
    length, found = store.find(weights, ids)
    assert length == 0 or shortest <= length < len(ids)
    assert [keys.flatten().tolist() for keys, _ in found] == ([ids[:length]] if length else [])
    assert [values.flatten().tolist() for _, values in found] == ([[-one for one in ids[:length]]] if length else [])
    if length:
        assert any(own == weights and each[:length] == ids[:length] for own, each in kept)


def test_the_longest_is_found() -> None:
    """Of two that fit, the one that saves more."""
    store = PrefixStore(100, 2)
    for ids in ([1, 2, 3, 9], [1, 2, 8]):
        store.keep(None, ids, layers(ids))
    assert store.find(None, [1, 2, 3, 4, 5])[0] == 3


def test_adapters_share_nothing() -> None:
    """Keys and values of one adapter are wrong for another and for the base."""
    store = PrefixStore(100, 2)
    store.keep("a", [1, 2, 3], layers([1, 2, 3]))
    assert store.find("b", [1, 2, 3, 4]) == store.find(None, [1, 2, 3, 4]) == (0, [])


def test_the_least_recently_used_goes_first() -> None:
    """Being found counts as use."""
    store = PrefixStore(6, 2)
    for ids in ([1, 1, 1], [2, 2, 2]):
        store.keep(None, ids, layers(ids))
    store.find(None, [1, 1, 1, 1])
    store.keep(None, [3, 3, 3], layers([3, 3, 3]))
    assert [store.find(None, [one] * 4)[0] for one in (1, 2, 3)] == [3, 0, 3]


def test_a_longer_one_replaces_its_own_beginning() -> None:
    """A chat that goes on keeps one entry, not one per turn."""
    store = PrefixStore(7, 2)
    for ids in ([5, 5, 5], [1, 2], [1, 2, 3], [1, 2, 3, 4]):
        store.keep(None, ids, layers(ids))
    assert store.find(None, [5, 5, 5, 5])[0] == 3


def test_nothing_is_kept_where_nothing_may_be() -> None:
    """A store of 0 tokens is always empty, and a cleared one too."""
    store = PrefixStore(0)
    store.keep(None, list(range(20)), layers(list(range(20))))
    assert store.find(None, list(range(30))) == (0, [])
    store = PrefixStore(100)
    store.keep(None, list(range(20)), layers(list(range(20))))
    store.clear()
    assert store.find(None, list(range(30))) == (0, [])
