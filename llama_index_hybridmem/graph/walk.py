"""How passages are ranked over the graph: the signals and the arithmetic; knows no store, no encoder and no text.

The method in one paragraph. A *prior* scores each candidate passage against the question (dense, keyword, names in
common) and is sharpened, so that only the few best passages start the walk. The *walk* lets mass flow passage → name →
passage, so that a passage with little in common with the question is found through the names it shares with one that
has much. The *second hop* asks again with the question minus what the best passages already answer plus the names they
bring in; what those texts find, and how strongly their passage stood in the walk, is added, and the walk is run once
more with it. Where one passage alone covers the question, a *gate* closes the second hop. Last, the first ten are
picked so as to cover the question's words together.

All inputs are parallel arrays over the candidate passages. The constants are round on purpose; on public multi-hop sets
results are flat around them, as noted beside each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_TINY = 1e-5
"""Mass below this share of the largest counts as none; ln(1e-5) = -11.5 puts log-mass on [0, 1]."""


@dataclass(frozen=True)
class WalkSettings:
    """The numbers of the method.

    Attributes:
        coverage: weight of "names of the question that the passage has" in the prior.
        titles: weight of "names of the question that title the passage".
        sharpness: exponent on the prior. 1 loses over 10 points of recall@5 on MuSiQue, 8 to 16 are within 2.
        damping: share of mass that follows links; .6 to .9 are within 2 points.
        iterations: steps of the walk; by 12 the ranking stands still.
        name_share: share of starting mass on the question's names (passages : names = 2 : 1; 1 to 4 within 2 points).
        fact_share: share of a name's mass that follows facts, where it has any.
        expansions: passages whose names ask again; 2, 3, 4 and 6 differ by less than 1 point, each costs an encoding.
        path_exponent: how much the standing of the expanded passage counts; .1 to .5 alike.
        hop: weight of the second-hop score; .2 to .4 alike.
        title_hop: weight of "an expanded passage names this passage's title".
        rewalk: weight of the second-hop score in the prior of the second walk.
        gate_floor: share of the question covered by one passage at which the gate begins to close.
        gated_prior: weight of the prior where the gate is closed.
        cover: weight of newly covered question words when picking; it moves recall@2 more than recall@5.
        min_case: names written with capitals less often than this are common words; .3 to .8 alike.
        capital_guard: below this share of capitals in the whole corpus the case filter is off.
        tolerance: mass below which no link is followed; 3e-4 and 1e-5 differ by less than a point,
            at a third of the time.
        max_df_share, max_df_floor: names in more than max(floor, share x passages) tie everything together.
    """

    coverage: float = 0.25
    titles: float = 0.25
    sharpness: float = 10.0
    damping: float = 0.8
    iterations: int = 12
    name_share: float = 1 / 3
    fact_share: float = 0.3
    expansions: int = 4
    path_exponent: float = 0.25
    hop: float = 0.25
    title_hop: float = 0.1
    rewalk: float = 0.6
    gate_floor: float = 0.6
    gated_prior: float = 0.3
    cover: float = 0.4
    min_case: float = 0.5
    capital_guard: float = 0.05
    tolerance: float = 3e-4
    max_df_share: float = 0.05
    max_df_floor: int = 20


DEFAULTS = WalkSettings()


def scaled(values: Array, low: float | None = None) -> Array:
    """Scale to [0, 1]: `low` (default: the least value) becomes 0, the greatest 1; all zero when there is no spread."""
    if not len(values):
        return values
    floor = float(values.min()) if low is None else low
    spread = float(values.max()) - floor
    return np.clip((values - floor) / spread, 0.0, 1.0) if spread > 0 else np.zeros_like(values)


def keyword_weight(long_share: float) -> float:
    """Weigh BM25 in the prior by how much of the store one vector cannot hold.

    Args:
        long_share: share of passages longer than the encoder reads; 0 for a store of short chunks.

    Returns:
        .2 for short passages to 1 for long ones: 1 costs 1.2 points on short passages and is needed on long ones.
    """
    return 0.2 + 0.8 * long_share


def prior(dense: Array, keyword: Array, coverage: Array, titled: Array, weight: float, settings: WalkSettings) -> Array:
    """Score candidates against the question.

    Args:
        dense: cosine scaled by its background, in [0, 1].
        keyword: BM25 scaled, in [0, 1].
        coverage: idf share of the question's names that the passage has.
        titled: idf share of the question's names that title the passage.
        weight: see `keyword_weight`.
        settings: the numbers.

    Returns:
        shape (passages,), in [0, 1], the greatest 1.
    """
    total = dense + weight * keyword + settings.coverage * coverage + settings.titles * titled
    return scaled(total, 0.0)


def sharpened(values: Array, settings: WalkSettings) -> Array:
    """Turn a prior into starting mass that sums to 1 and sits on the few best passages."""
    mass = np.asarray(values**settings.sharpness, dtype=np.float64)
    total = float(mass.sum())
    return mass / total if total > 0 else mass


@dataclass(frozen=True)
class Neighbourhood:
    """The part of the graph that a walk runs on, `p` passages and `n` names.

    Attributes:
        out: shape (p, n); share of a passage's mass that goes to each name. A row may sum to less than 1.
        back: shape (n, p); share of a name's mass that goes to each passage. A row may sum to less than 1.
        facts: shape (n, n); share of a name's mass that follows facts; rows of names without facts are empty.
    """

    out: sparse.csr_array
    back: sparse.csr_array
    facts: sparse.csr_array | None = None


def walk(start: Array, names: Array, direct: Array, graph: Neighbourhood, settings: WalkSettings) -> Array:
    """Let mass flow from the starting passages and names until it settles.

    Args:
        start: shape (p,), sums to 1.
        names: shape (n,), starting mass of the question's names that are in the graph.
        direct: shape (p,), mass that the question's common words give straight to their passages; with `names` it sums
            to at most 1.
        graph: links, normalised.
        settings: the numbers.

    Returns:
        shape (p,): the mass each passage ends with.
    """
    share = settings.name_share if names.sum() + direct.sum() > 0 else 0.0
    to_passages = (1 - share) * start + share * direct
    to_names = share * names
    fact_share = _fact_shares(graph, settings)
    stuck = np.diff(graph.out.indptr) == 0  # passages without names: their mass starts again
    out, back = graph.out.T, graph.back.T  # once: building a transpose costs more than multiplying with it
    facts = graph.facts.T if graph.facts is not None else None
    passages, mass = to_passages, to_names
    for _ in range(settings.iterations):
        by_fact = mass * fact_share
        arriving = back @ (mass - by_fact) + passages[stuck].sum() * start
        moving = out @ passages + (facts @ by_fact if facts is not None else 0.0)
        passages = (1 - settings.damping) * to_passages + settings.damping * arriving
        mass = (1 - settings.damping) * to_names + settings.damping * moving
    return np.asarray(passages)


def _fact_shares(graph: Neighbourhood, settings: WalkSettings) -> Array:
    """Say which share of each name's mass follows facts: all of it where no passage has the name."""
    if graph.facts is None:
        return np.zeros(graph.back.shape[0])
    shares = np.where(np.diff(graph.back.indptr) > 0, settings.fact_share, 1.0)
    return np.asarray(shares * (np.diff(graph.facts.indptr) > 0))


def log_mass(mass: Array) -> Array:
    """Put mass on a log scale, the greatest 1 and none 0."""
    top = float(mass.max()) if len(mass) else 0.0
    return 1 + np.log(mass / top + _TINY) / -np.log(_TINY) if top > 0 else np.zeros_like(mass)


def standing(mass: Array, chosen: Sequence[int], settings: WalkSettings) -> Array:
    """Weigh the expanded passages by their place in the walk: shape (len(chosen),), the best 1."""
    top = float(mass.max()) if len(mass) else 0.0
    return (mass[list(chosen)] / top) ** settings.path_exponent if top > 0 else np.zeros(len(chosen))


def hop_scores(found: Array, floors: Array, weights: Array, chosen: Sequence[int]) -> tuple[Array, Array]:
    """Score what the second-hop texts find.

    Args:
        found: shape (passages, texts), cosine of each passage with each text.
        floors: shape (texts,), what an unrelated passage scores (5th percentile of a background sample).
        weights: shape (texts,), from `standing`.
        chosen: the passage each text comes from; it does not score by its own text.

    Returns:
        (shape (passages,): the best weighted score over the texts; shape (passages, texts): the scaled cosines).
    """
    columns = [scaled(found[:, k], float(floors[k])) for k in range(found.shape[1])]
    each = np.stack(columns, axis=1) if columns else np.zeros_like(found)
    for text, passage in enumerate(chosen):
        each[passage, text] = 0.0
    best: Array = (each * weights).max(axis=1, initial=0.0)
    return best, each


def title_hop_scores(named: Flags, each: Array, weights: Array) -> Array:
    """Score passages whose title an expanded passage names.

    Args:
        named: shape (passages, texts), whether the text's passage names the title.
        each: shape (passages, texts), from `hop_scores`.
        weights: shape (texts,).
    """
    best: Array = (named * weights * (0.5 + 0.5 * each)).max(axis=1, initial=0.0)
    return best


def openness(best_coverage: float, settings: WalkSettings) -> float:
    """Open the second hop (1) unless one passage covers the question's words by itself (0).

    Args:
        best_coverage: the greatest idf share of the question's words found in one passage.
        settings: the numbers.
    """
    closed = (best_coverage - settings.gate_floor) / (1 - settings.gate_floor)
    return 1.0 - min(max(closed, 0.0), 1.0)


@dataclass(frozen=True)
class Signals:
    """All that is known of each candidate, parallel arrays of shape (passages,)."""

    prior: Array
    first: Array
    second: Array
    hop: Array
    title_hop: Array


def combine(signals: Signals, opened: float, settings: WalkSettings) -> Array:
    """Add the signals up: both walks, the second hop as far as the gate is open, the prior as far as it is closed."""
    half = 0.5 * opened
    walked = (1 - half) * signals.first + half * signals.second
    hopped = settings.hop * signals.hop + settings.title_hop * signals.title_hop
    return walked + opened * hopped + (1 - opened) * settings.gated_prior * signals.prior


def pick(scores: Array, covers: Flags, weights: Array, count: int, settings: WalkSettings) -> tuple[list[int], Array]:
    """Order candidates, the first `count` so that together they cover the question.

    Args:
        scores: shape (passages,), best first is not required; ties keep the given order.
        covers: shape (passages, words), whether a passage has a word of the question.
        weights: shape (words,), idf of the words.
        count: how many to pick for coverage; the rest follow by score.
        settings: the numbers.

    Returns:
        (the order; what each was worth when its turn came: its score and the share of the question that it alone still
        covered, which never rises from one place to the next).
    """
    share = settings.cover * weights / weights.sum() if weights.sum() > 0 else weights
    left = np.ones(len(weights), dtype=bool)
    rest = scores.astype(np.float64)
    picked: list[int] = []
    values: list[float] = []
    for _ in range(min(count, len(scores))):
        worth = rest + covers @ (share * left)
        best = int(np.argmax(worth))
        picked.append(best)
        values.append(float(worth[best]))
        left &= ~covers[best]
        rest[best] = -np.inf
    later = [int(i) for i in np.argsort(-rest, kind="stable") if np.isfinite(rest[i])]
    return picked + later, np.asarray(values + rest[later].tolist())
