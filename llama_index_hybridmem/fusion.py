"""Merges ranked lists of ids from several stores into one; pure, knows nothing of nodes, stores or queries.

Two ways. ``rrf`` looks at ranks only and needs no comparable scores: the default. ``by_score`` keeps how far apart the
hits of one store are, and pays for it by trusting each store's scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .errors import ConfigurationError


@dataclass(frozen=True)
class Fused:
    """One merged hit.

    Attributes:
        id: what was ranked.
        score: the fused score, larger is better; comparable within one fusion only.
        ranks: store to rank there, 1 is best; stores that did not find it are absent.
    """

    id: str
    score: float
    ranks: dict[str, int]


def rrf(
    rankings: Mapping[str, Sequence[str]], weights: Mapping[str, float] | None = None, k: float = 60
) -> list[Fused]:
    """Weighted reciprocal rank fusion: an id's score is the sum over stores of ``weight / (k + rank)``.

    Args:
        rankings: store to its ids, best first; of a repeated id the first counts.
        weights: store to weight, 0 or more; a store that is not named weighs 1.
        k: how flat the first ranks are; 60 is the value of Cormack, Clarke and Büttcher (SIGIR 2009).

    Returns:
        Every id once, best first. Ties: the better single rank, then the smaller id; the stores' order plays no part.

    Raises:
        ConfigurationError: a negative or non-finite weight or ``k``.
    """
    if not (math.isfinite(k) and k >= 0):
        raise ConfigurationError(f"rrf needs a finite k of 0 or more, not {k}")
    weighed = _weighed(rankings, weights)
    ranks = _ranks({store: dict.fromkeys(ids) for store, ids in rankings.items()})
    return _best_first(
        Fused(id_, math.fsum(weighed[store] / (k + rank) for store, rank in found.items()), found)
        for id_, found in ranks.items()
    )


def by_score(
    rankings: Mapping[str, Sequence[tuple[str, float | None]]], weights: Mapping[str, float] | None = None
) -> list[Fused]:
    """Weighted mean of each store's scores, stretched per store to 0 (its worst hit) … 1 (its best).

    A hit whose score is missing or not finite gets a stand-in by rank, ``1 - (rank - 1) / n``, never 0; so does every
    hit of a store that scores them all alike, since then the order is all it tells.

    Args:
        rankings: store to (id, score) pairs, best first, larger scores better; of a repeated id the first counts.
        weights: store to weight, 0 or more; a store that is not named weighs 1.

    Returns:
        Every id once, best first, scores in 0 … 1. Ties as in ``rrf``.

    Raises:
        ConfigurationError: a negative or non-finite weight.
    """
    weighed = _weighed(rankings, weights)
    first = {store: _first_scores(pairs) for store, pairs in rankings.items()}
    stretched = {store: _stretched(scores) for store, scores in first.items()}
    total = math.fsum(weighed.values()) or 1.0
    return _best_first(
        Fused(id_, math.fsum(weighed[store] * stretched[store][id_] for store in found) / total, found)
        for id_, found in _ranks(first).items()
    )


def _weighed(rankings: Mapping[str, object], weights: Mapping[str, float] | None) -> dict[str, float]:
    """Return every store's weight, checked."""
    weighed = {store: float((weights or {}).get(store, 1.0)) for store in rankings}
    for store, weight in weighed.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise ConfigurationError(f"the weight of {store!r} must be finite and 0 or more, not {weight}")
    return weighed


def _ranks(found: Mapping[str, Iterable[str]]) -> dict[str, dict[str, int]]:
    """Return id to store to rank."""
    ranks: dict[str, dict[str, int]] = {}
    for store, ids in found.items():
        for rank, id_ in enumerate(ids, start=1):
            ranks.setdefault(id_, {})[store] = rank
    return ranks


def _first_scores(pairs: Sequence[tuple[str, float | None]]) -> dict[str, float | None]:
    """Return id to score at its first place; a score that is not finite is no score."""
    first: dict[str, float | None] = {}
    for id_, score in pairs:
        first.setdefault(id_, float(score) if score is not None and math.isfinite(score) else None)
    return first


def _stretched(scores: Mapping[str, float | None]) -> dict[str, float]:
    """Stretch one store's scores to 0 … 1, with the stand-in by rank where there is nothing to stretch."""
    known = [score for score in scores.values() if score is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    # Halved before subtracting, so that the span of the largest floats stays finite.
    span = high / 2 - low / 2
    return {
        id_: (score / 2 - low / 2) / span if score is not None and span > 0 else 1 - (rank - 1) / len(scores)
        for rank, (id_, score) in enumerate(scores.items(), start=1)
    }


def _best_first(fused: Iterable[Fused]) -> list[Fused]:
    return sorted(fused, key=lambda hit: (-hit.score, min(hit.ranks.values()), hit.id))
