"""Tests of the pure ranking over the graph, and of the local walk that stands for the one over the whole store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from llama_index_hybridmem.graph import neighbourhood, walk
from llama_index_hybridmem.graph.stores.base import Fact, NameRule, Passage
from llama_index_hybridmem.graph.stores.sqlite import SqliteGraphStore
from llama_index_hybridmem.graph.walk import DEFAULTS, Neighbourhood, Signals

EMPTY = np.zeros(0)
VALUES = st.lists(st.floats(-1, 1), max_size=8).map(np.asarray)
SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=8).map(np.asarray)
ANY_NAME = NameRule(max_df=100, min_case=0.0)


def spread_evenly(links: walk.Array) -> sparse.csr_array:
    """Each row's mass in equal shares to what it links."""
    degrees = links.sum(axis=1, keepdims=True)
    return sparse.csr_array(np.divide(links, degrees, out=np.zeros(links.shape), where=degrees > 0))


def graph_of(links: walk.Array, facts: walk.Array | None = None) -> Neighbourhood:
    """A whole store's graph from a passage–name incidence matrix."""
    return Neighbourhood(spread_evenly(links), spread_evenly(links.T), None if facts is None else spread_evenly(facts))


@st.composite
def incidences(draw: st.DrawFn) -> walk.Array:
    """Up to 6 passages with up to 5 names; some passages or names may have no link."""
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    bits = draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    return np.asarray(bits, dtype=float).reshape(rows, columns)


# -- signals ----------------------------------------------------------------------------------------------------------


@given(VALUES, st.none() | st.floats(-1, 1))
def test_scaled_values_lie_between_0_and_1(values: walk.Array, low: float | None) -> None:
    """The greatest is 1 unless there is no spread; nothing is NaN, whatever the floor."""
    result = walk.scaled(values, low)
    assert result.shape == values.shape
    assert np.all((result >= 0) & (result <= 1))
    assert len(values) == 0 or result.max() in (0.0, 1.0)


def test_values_without_spread_say_nothing() -> None:
    """Equal values, or all below the floor, are 0: no passage stands out."""
    assert walk.scaled(np.asarray([3.0, 3.0])).tolist() == [0, 0]
    assert walk.scaled(np.asarray([0.1, 0.2]), 0.5).tolist() == [0, 0]
    assert walk.scaled(EMPTY).tolist() == []


def test_keywords_weigh_more_where_vectors_see_less() -> None:
    """.2 in a store of short passages, 1 where every passage is longer than the encoder reads."""
    assert [walk.keyword_weight(share) for share in (0, 0.5, 1)] == pytest.approx([0.2, 0.6, 1.0])


def test_a_prior_adds_its_signals_and_its_greatest_is_1() -> None:
    """Dense, keyword, names and titles all count; zero signals give a zero prior."""
    zero, one = np.zeros(2), np.asarray([0.0, 1.0])
    for place in range(4):
        parts = [one if place == i else zero for i in range(4)]
        assert walk.prior(parts[0], parts[1], parts[2], parts[3], 0.2, DEFAULTS).tolist() == [0, 1]
    assert walk.prior(zero, zero, zero, zero, 1.0, DEFAULTS).tolist() == [0, 0]
    assert walk.prior(EMPTY, EMPTY, EMPTY, EMPTY, 1.0, DEFAULTS).tolist() == []


@given(SHARES)
def test_starting_mass_sums_to_1_and_sits_on_the_best(values: walk.Array) -> None:
    """A prior of a tenth of the best holds next to nothing; a zero prior holds nothing."""
    mass = walk.sharpened(values, DEFAULTS)
    assert mass.sum() == pytest.approx(1.0) or not values.any() or mass.sum() == 0
    assert np.all(mass[values <= values.max() / 10] <= 1e-9) or values.max() < 1e-3


def test_log_mass_is_1_for_the_greatest_and_finite_for_none() -> None:
    """The logarithm of nothing would be minus infinity."""
    assert walk.log_mass(np.asarray([2.0, 0.0])).tolist() == pytest.approx([1.0, 0.0], abs=1e-5)
    assert walk.log_mass(np.zeros(2)).tolist() == [0, 0]
    assert walk.log_mass(EMPTY).tolist() == []


def test_standing_is_relative_to_the_best_passage() -> None:
    """Expanded passages are weighed by their mass, the best 1; without mass they weigh nothing."""
    mass = np.asarray([0.5, 0.0, 0.25])
    assert walk.standing(mass, [0, 2], DEFAULTS).tolist() == pytest.approx([1.0, 0.5**0.25])
    assert walk.standing(np.zeros(2), [0, 1], DEFAULTS).tolist() == [0, 0]
    assert walk.standing(EMPTY, [], DEFAULTS).tolist() == []


def test_hop_scores_are_scaled_per_text_and_leave_out_the_texts_own_passage() -> None:
    """Each text has its own floor and its own best; a passage does not find itself."""
    found = np.asarray([[0.9, 0.2], [0.5, 0.3], [0.1, 0.1]])
    hop, each = walk.hop_scores(found, np.asarray([0.1, 0.1]), np.asarray([1.0, 0.5]), [0, 1])
    assert each.tolist() == [[0.0, pytest.approx(0.5)], [pytest.approx(0.5), 0.0], [0.0, 0.0]]
    assert hop.tolist() == [pytest.approx(0.25), pytest.approx(0.5), 0.0]
    hop, each = walk.hop_scores(np.zeros((2, 0)), EMPTY, EMPTY, [])
    assert hop.tolist() == [0, 0]


def test_title_hops_need_the_title_to_be_named() -> None:
    """A named title counts half, and up to whole the better its passage answers the text."""
    named = np.asarray([[True], [True], [False]])
    scores = walk.title_hop_scores(named, np.asarray([[0.0], [1.0], [1.0]]), np.asarray([0.8]))
    assert scores.tolist() == pytest.approx([0.4, 0.8, 0.0])


def test_the_gate_closes_where_one_passage_covers_the_question() -> None:
    """Open up to 60 % covered, closed at 100 %, linear between."""
    assert [walk.openness(share, DEFAULTS) for share in (0, 0.6, 0.8, 1.0)] == pytest.approx([1, 1, 0.5, 0])


def test_a_closed_gate_leaves_the_first_walk_and_the_prior() -> None:
    """Second-hop signals count as far as the gate is open, the prior as far as it is closed."""
    signals = Signals(*(np.asarray([value]) for value in (0.5, 0.6, 0.8, 1.0, 1.0)))
    assert walk.combine(signals, 0.0, DEFAULTS).tolist() == pytest.approx([0.6 + 0.3 * 0.5])
    assert walk.combine(signals, 1.0, DEFAULTS).tolist() == pytest.approx([0.7 + 0.25 + 0.1])


# -- picking ----------------------------------------------------------------------------------------------------------


@st.composite
def pools(draw: st.DrawFn) -> tuple[walk.Array, walk.Flags, walk.Array]:
    """Scores, words covered and their weights; passages or words may be none."""
    rows, columns = draw(st.integers(0, 7)), draw(st.integers(0, 4))
    scores = draw(st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.9]), min_size=rows, max_size=rows))
    bits = draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    weights = draw(st.lists(st.floats(0, 5), min_size=columns, max_size=columns))
    return np.asarray(scores, dtype=float), np.asarray(bits, dtype=bool).reshape(rows, columns), np.asarray(weights)


@given(pools(), st.integers(0, 8))
def test_picking_keeps_everything_and_its_worth_never_rises(
    pool: tuple[walk.Array, walk.Flags, walk.Array], count: int
) -> None:
    """Each passage comes once; whoever sorts by the scores handed back gets the same order."""
    scores, covers, weights = pool
    order, worth = walk.pick(scores, covers, weights, count, DEFAULTS)
    assert sorted(order) == list(range(len(scores)))
    assert len(worth) == len(order)
    assert np.all(np.diff(worth) <= 1e-12)


def test_picking_covers_the_question_together() -> None:
    """A passage with the words still missing overtakes better ones that repeat what is covered; beyond, scores rule."""
    scores = np.asarray([0.9, 0.8, 0.7])
    covers = np.asarray([[True, False], [True, False], [False, True]])
    assert walk.pick(scores, covers, np.asarray([1.0, 1.0]), 2, DEFAULTS)[0] == [0, 2, 1]
    assert walk.pick(scores, covers, np.asarray([1.0, 1.0]), 0, DEFAULTS)[0] == [0, 1, 2]
    assert walk.pick(scores, covers, np.asarray([1.0, 0.01]), 2, DEFAULTS)[0] == [0, 1, 2]


# -- the walk ---------------------------------------------------------------------------------------------------------


@given(incidences(), st.data())
def test_mass_is_neither_made_nor_lost(links: walk.Array, data: st.DataObject) -> None:
    """Where every name and passage is linked, passages end with just the share that the damping leaves them."""
    rows, columns = links.shape
    links[0, :] = 1
    links[:, 0] = 1
    start = walk.sharpened(1 + np.arange(rows, dtype=float), replace(DEFAULTS, sharpness=1))
    names = np.zeros(columns)
    names[data.draw(st.integers(0, columns - 1))] = 1.0
    numbers = replace(DEFAULTS, iterations=400)
    mass = walk.walk(start, names, np.zeros(rows), graph_of(links), numbers)
    share, damping = numbers.name_share, numbers.damping
    assert mass.sum() == pytest.approx(((1 - damping) * (1 - share) + damping) / (1 + damping))
    assert np.all(mass >= 0)


@given(incidences(), st.booleans(), st.booleans())
def test_a_walk_never_makes_mass(links: walk.Array, asked: bool, tied: bool) -> None:
    """Unlinked passages and names, facts, no names in the question: the passages together never hold more than 1."""
    rows, columns = links.shape
    facts = np.ones((columns, columns)) - np.eye(columns) if tied else None
    start = np.eye(rows)[0]
    names = np.eye(columns)[-1] if asked else np.zeros(columns)
    mass = walk.walk(start, names, np.zeros(rows), graph_of(links, facts), DEFAULTS)
    assert 0 <= mass.sum() <= 1 + 1e-9
    assert mass.sum() > 0


def test_mass_that_would_be_stuck_starts_again() -> None:
    """A passage without names hands its mass back to the start, instead of keeping or losing it."""
    links = np.asarray([[0.0], [1.0]])
    start = np.asarray([0.5, 0.5])
    mass = walk.walk(start, np.zeros(1), np.zeros(2), graph_of(links), DEFAULTS)
    without = walk.walk(np.asarray([0.0, 1.0]), np.zeros(1), np.zeros(2), graph_of(links), DEFAULTS)
    assert mass.sum() > without.sum()


def test_a_passage_is_found_through_a_name_it_shares() -> None:
    """Two steps from the start, nothing beyond the name in common; three passages on, less arrives."""
    chain = np.asarray([[1.0, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]])
    mass = walk.walk(np.eye(4)[0], np.zeros(3), np.zeros(4), graph_of(chain), DEFAULTS)
    assert mass[0] > mass[1] > mass[2] > mass[3] > 0


def test_a_questions_name_brings_mass_to_its_passages_and_a_common_word_only_directly() -> None:
    """`names` flow on through the graph, `direct` stays where it falls; both take the share of the question's names."""
    links = np.eye(2)
    named = walk.walk(np.eye(2)[0], np.eye(2)[1], np.zeros(2), graph_of(links), DEFAULTS)
    direct = walk.walk(np.eye(2)[0], np.zeros(2), np.eye(2)[1], graph_of(links), DEFAULTS)
    alone = walk.walk(np.eye(2)[0], np.zeros(2), np.zeros(2), graph_of(links), DEFAULTS)
    assert named[1] > 0
    assert direct[1] > 0
    assert alone[1] == 0


def test_mass_follows_facts_also_from_a_name_that_no_passage_has() -> None:
    """A stated fact ties the question's name to another; where no passage has the first, all its mass goes on."""
    links = np.asarray([[0.0, 0.0], [0.0, 1.0]])
    facts = np.asarray([[0.0, 1.0], [0.0, 0.0]])
    tied = walk.walk(np.eye(2)[0], np.eye(2)[0], np.zeros(2), graph_of(links, facts), DEFAULTS)
    loose = walk.walk(np.eye(2)[0], np.eye(2)[0], np.zeros(2), graph_of(links), DEFAULTS)
    assert loose[1] == 0
    assert tied[1] > 0.05


# -- the local walk ---------------------------------------------------------------------------------------------------


def stored(links: walk.Array, facts: list[tuple[int, int]]) -> SqliteGraphStore:
    """A store with the same passages, names and facts as an incidence matrix."""
    store = SqliteGraphStore()
    texts = [" and ".join(f"Name{column}" for column in np.flatnonzero(row)) for row in links]
    store.upsert(
        [Passage(f"p{i}", "doc", "", text, tuple(text.lower().split(" and "))) for i, text in enumerate(texts)]
    )
    store.add_facts([Fact(f"Name{one}", "knows", f"Name{other}") for one, other in facts])
    return store


def walked(store: SqliteGraphStore, start: Mapping[int, float], numbers: walk.WalkSettings) -> dict[str, float]:
    """Walk from some passages over the frontier that the settings allow."""
    frontier = neighbourhood.Frontier(store, ANY_NAME, None, numbers)
    frontier.grow(start, {})
    passages = sorted({*start, *frontier.passages()})
    graph, names = frontier.graph(passages)
    begin = np.asarray([start.get(passage, 0.0) for passage in passages])
    mass = walk.walk(begin, np.zeros(len(names)), np.zeros(len(passages)), graph, numbers)
    ids = store.node_ids(np.asarray(passages))
    return {ids[passage]: value for passage, value in zip(passages, mass.tolist(), strict=True)}


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=3), min_size=2, max_size=8), st.booleans())
def test_without_a_tolerance_the_local_walk_is_the_walk_over_the_whole_store(rows: list[list[int]], tied: bool) -> None:
    """What the frontier fetches step by step gives every passage the mass that the full matrices give it."""
    links = np.zeros((len(rows), 6))
    for row, columns in enumerate(rows):
        links[row, columns] = 1
    facts = [(0, 1), (2, 3)] if tied else []
    store = stored(links, facts)
    ids = store.passage_ids([f"p{row}" for row in range(len(rows))])
    numbers = replace(DEFAULTS, tolerance=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbourhood, "ROUNDS", 12)
        local = walked(store, {ids["p0"]: 1.0}, numbers)
    # A name of one passage ties nothing and takes no mass, unless the user stated it.
    links[:, [c for c in range(6) if links[:, c].sum() < 2 and not (tied and c < 4)]] = 0
    ties = np.zeros((6, 6))
    for one, other in facts:
        ties[one, other] = ties[other, one] = 1
    whole = walk.walk(np.eye(len(rows))[0], np.zeros(6), np.zeros(len(rows)), graph_of(links, ties), numbers)
    for row, value in enumerate(whole.tolist()):
        assert local.get(f"p{row}", 0.0) == pytest.approx(value, abs=1e-12)


def test_a_name_with_thousands_of_facts_does_not_bring_in_thousands_of_names() -> None:
    """Mass that would be spread below the tolerance is not followed, over facts as over links."""
    store = stored(np.eye(2), [(0, 1)])
    store.add_facts([Fact("Name0", "knows", f"Far{number}") for number in range(3000)])
    frontier = neighbourhood.Frontier(store, ANY_NAME, None, DEFAULTS)
    start = store.passage_ids(["p0"])["p0"]
    frontier.grow({start: 1.0}, {})
    graph, names = frontier.graph([start])
    assert len(names) < 10


def test_the_tolerance_loses_little_mass_and_reads_little_of_the_store() -> None:
    """With the default tolerance a walk over 300 passages ends within 6 % of the full one, with the same best ten."""
    generator = np.random.default_rng(7)
    links = np.zeros((300, 150))
    for row in links:
        row[generator.choice(150, size=4, replace=False)] = 1
    store = stored(links, [])
    start = store.passage_ids(["p0"])["p0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbourhood, "ROUNDS", 12)
        whole = walked(store, {start: 1.0}, replace(DEFAULTS, tolerance=0.0))
    local = walked(store, {start: 1.0}, DEFAULTS)
    assert sum(abs(local.get(key, 0.0) - value) for key, value in whole.items()) < 0.06
    best = [sorted(mass, key=lambda key: -mass[key])[:10] for mass in (local, whole)]
    assert set(best[0]) == set(best[1])
    assert len(local) < len(whole)
