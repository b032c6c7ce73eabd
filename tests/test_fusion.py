"""Tests of the pure fusion of rankings."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.fusion import Fused, by_score, rrf

IDS = st.sampled_from([f"n{number}" for number in range(8)])
RANKINGS = st.dictionaries(st.sampled_from(["vector", "keyword", "graph"]), st.lists(IDS, max_size=8), max_size=3)
SCORES = st.none() | st.floats(allow_nan=True, allow_infinity=True)
SCORED = st.dictionaries(
    st.sampled_from(["vector", "keyword", "graph"]), st.lists(st.tuples(IDS, SCORES), max_size=8), max_size=3
)
WEIGHTS = st.dictionaries(st.sampled_from(["vector", "keyword", "graph"]), st.floats(0, 100), max_size=3)


def ids(fused: list[Fused]) -> list[str]:
    """The order alone."""
    return [hit.id for hit in fused]


def test_rrf_is_the_published_sum() -> None:
    """The score is the sum of weight / (60 + rank); agreement beats one good rank."""
    fused = rrf({"a": ["x", "y"], "b": ["z", "y"]}, {"a": 1.0, "b": 2.0})
    assert ids(fused) == ["y", "z", "x"]
    assert fused[0].score == pytest.approx(1 / 62 + 2 / 62)
    assert fused[0].ranks == {"a": 2, "b": 2}
    assert fused[2].score == pytest.approx(1 / 61)


def test_rrf_weights_are_heard() -> None:
    """LlamaIndex's own RRF ignores its weights (run-llama/llama_index#21444); ours does not."""
    rankings = {"a": ["x"], "b": ["y"]}
    assert ids(rrf(rankings, {"a": 1, "b": 0})) == ["x", "y"]
    assert ids(rrf(rankings, {"a": 0, "b": 1})) == ["y", "x"]


def test_ties_go_to_the_better_rank_then_to_the_smaller_id() -> None:
    """Equal scores are ordered by a rule, not by which store came first."""
    assert ids(rrf({"a": ["q", "m"], "b": ["c", "m2"]})) == ["c", "q", "m", "m2"]
    assert ids(rrf({"a": ["low", "x"], "b": ["w", "v"]}, {"a": 0, "b": 0})) == ["low", "w", "v", "x"]


@settings(max_examples=60)
@given(RANKINGS, WEIGHTS, st.randoms(use_true_random=False))
def test_rrf_keeps_every_id_once_whatever_the_order_of_the_stores(
    rankings: dict[str, list[str]], weights: dict[str, float], shuffler: random.Random
) -> None:
    """Nothing is lost or doubled, scores fall, and shuffled stores give the same list to the last bit."""
    fused = rrf(rankings, weights)
    assert sorted(ids(fused)) == sorted({id_ for found in rankings.values() for id_ in found})
    assert all(first.score >= second.score for first, second in zip(fused, fused[1:], strict=False))
    stores = list(rankings)
    shuffler.shuffle(stores)
    assert rrf({store: rankings[store] for store in stores}, weights) == fused


@settings(max_examples=60)
@given(SCORED, WEIGHTS, st.randoms(use_true_random=False))
def test_by_score_stays_within_0_and_1_whatever_the_scores(
    rankings: dict[str, list[tuple[str, float | None]]], weights: dict[str, float], shuffler: random.Random
) -> None:
    """None, NaN, infinities and the largest floats are handled; scores lie in 0 … 1; order of stores plays no part."""
    fused = by_score(rankings, weights)
    assert sorted(ids(fused)) == sorted({id_ for found in rankings.values() for id_, _ in found})
    assert all(0 <= hit.score <= 1 + 1e-12 for hit in fused)
    stores = list(rankings)
    shuffler.shuffle(stores)
    assert by_score({store: rankings[store] for store in stores}, weights) == fused


def test_by_score_stretches_each_store_by_itself() -> None:
    """Cosines near 1 and BM25 scores near 20 count alike; the mean is weighted."""
    rankings = {"vector": [("x", 0.9), ("y", 0.8), ("z", 0.7)], "keyword": [("z", 20.0), ("y", 19.0), ("x", 0.0)]}
    fused = {hit.id: hit.score for hit in by_score(rankings)}
    assert fused == pytest.approx({"x": 0.5, "y": (0.5 + 0.95) / 2, "z": 0.5})
    weighted = {hit.id: hit.score for hit in by_score(rankings, {"vector": 3, "keyword": 1})}
    assert weighted["x"] == pytest.approx(0.75)


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_a_missing_score_is_not_zero(missing: float | None) -> None:
    """A hit without a usable score stands by its rank: the first of three counts fully."""
    fused = {hit.id: hit.score for hit in by_score({"graph": [("a", missing), ("b", 1.0), ("c", 0.5)]})}
    assert fused == pytest.approx({"a": 1.0, "b": 1.0, "c": 0.0})


def test_scores_all_alike_leave_the_order() -> None:
    """LlamaIndex's graph retrievers score everything 1.0: then the order is the information."""
    fused = by_score({"graph": [("b", 1.0), ("a", 1.0)]})
    assert [(hit.id, hit.score) for hit in fused] == [("b", 1.0), ("a", 0.5)]
    assert by_score({"graph": [("only", 0.0)]})[0].score == 1.0


def test_a_repeated_id_counts_where_it_stands_first() -> None:
    """A store that returns an id twice neither doubles it nor pushes others down."""
    assert rrf({"a": ["x", "x", "y"]}) == rrf({"a": ["x", "y"]})
    assert by_score({"a": [("x", 3.0), ("x", 0.0), ("y", 1.0)]}) == by_score({"a": [("x", 3.0), ("y", 1.0)]})


def test_nothing_found_is_an_empty_list() -> None:
    """No stores and empty stores are no error."""
    assert rrf({}) == by_score({}) == rrf({"a": []}) == by_score({"a": []}) == []


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_senseless_weights_are_refused(weight: float) -> None:
    """A negative or non-finite weight is named, not computed with."""
    with pytest.raises(ConfigurationError, match="weight of 'a'"):
        rrf({"a": ["x"]}, {"a": weight})
    with pytest.raises(ConfigurationError, match="weight of 'a'"):
        by_score({"a": [("x", 1.0)]}, {"a": weight})


@pytest.mark.parametrize("k", [-1, math.nan, math.inf])
def test_senseless_k_is_refused(k: float) -> None:
    """A negative or non-finite k has no ranking."""
    with pytest.raises(ConfigurationError, match="finite k"):
        rrf({"a": ["x"]}, k=k)
