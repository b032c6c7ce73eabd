"""Rows of what a model knew, mixed into what it learns."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.training.replay import mixed, of_earlier


def rows(count: int, name: str, answerable: bool | None = None, *kinds: str) -> list[Example]:
    """Rows with ids of their own."""
    return [
        Example(f"{name}{n}", ({"role": "user", "content": str(n)},), "x", None, answerable, frozenset(kinds))
        for n in range(count)
    ]


@given(st.integers(1, 200), st.integers(1, 40), st.floats(0, 0.95), st.integers(0, 3))
def test_the_share_is_met_and_the_order_stays(count: int, general: int, share: float, seed: int) -> None:
    """As many general rows as the share allows, each equally often but for one, among examples in their order."""
    examples = rows(count, "own")
    found = mixed(examples, rows(general, "general"), share, seed)
    replayed = [each for each in found if each.origin == "general"]
    assert [each for each in found if each.origin != "general"] == examples
    assert len(replayed) <= share * len(found) + 1e-6
    assert len(replayed) + 1 > share * (len(found) + 1) - 1e-6
    times = Counter(each.id.partition("#")[0] for each in replayed)
    assert max(times.values(), default=0) - (min(times.values()) if len(times) == general else 0) <= 1
    assert len({each.id for each in found}) == len(found)


def test_a_tenth_is_a_tenth() -> None:
    """Rounding of binary fractions takes no row away."""
    assert len(mixed(rows(90, "own"), rows(20, "general"), 0.1)) == 100
    assert len(mixed(rows(70, "own"), rows(50, "general"), 0.3)) == 100


def test_general_rows_are_spread_evenly() -> None:
    """Every tenth part of the order has its share."""
    found = mixed(rows(180, "own"), rows(50, "general"), 0.1, seed=4)
    parts = [sum(each.origin == "general" for each in found[at : at + 20]) for at in range(0, 200, 20)]
    assert parts == [2] * 10


def test_the_seed_chooses_the_rows() -> None:
    """The same seed the same rows, another seed others."""
    own, general = rows(90, "own"), rows(100, "general")
    assert mixed(own, general, 0.1, 1) == mixed(own, general, 0.1, 1)
    assert mixed(own, general, 0.1, 1) != mixed(own, general, 0.1, 2)


def test_no_share_changes_nothing() -> None:
    """Without replay no general rows are needed; with it they are."""
    own = rows(3, "own")
    assert mixed(own, [], 0) == own
    assert mixed([], rows(1, "general"), 0.5) == []
    with pytest.raises(ConfigurationError, match="needs general rows"):
        mixed(own, [], 0.1)


@pytest.mark.parametrize("share", [-0.1, 1.0, 7, float("nan")])
def test_no_share_is_out_of_range(share: float) -> None:
    """All rows cannot be general ones."""
    with pytest.raises(ConfigurationError, match="below 1"):
        mixed(rows(1, "own"), rows(1, "general"), share)


def test_earlier_rows_are_drawn_from_every_group() -> None:
    """Kinds and answerable keep their proportions; general rows stay out."""
    earlier = rows(60, "a", True, "ocr") + rows(30, "b", False, "ocr") + rows(10, "c", True)
    earlier += mixed(rows(1, "d"), rows(9, "general"), 0.9)[1:]
    found = of_earlier(earlier, 20, seed=3)
    assert Counter(each.id[0] for each in found) == {"a": 12, "b": 6, "c": 2}
    assert found == sorted(found, key=earlier.index)
    assert found == of_earlier(earlier, 20, seed=3) != of_earlier(earlier, 20, seed=4)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 80))
def test_so_many_earlier_rows_are_drawn_as_are_wanted(one: int, other: int, count: int) -> None:
    """Or all, and none twice."""
    earlier = rows(one, "a", True) + rows(other, "b", False)
    found = of_earlier(earlier, count)
    assert len({each.id for each in found}) == len(found) == min(count, one + other)


def test_a_negative_count_is_refused() -> None:
    """There is no such sample."""
    with pytest.raises(ConfigurationError, match="-1"):
        of_earlier([], -1)
