"""What answers say about the arms: means, paired differences, goals; pure, knows no model and no file.

A value is `Score.right`: F1 where the sources answer, else whether the model abstained. Values of an arm's seeds are
averaged question by question; intervals are over questions, which are drawn anew whole, with all their kinds of noise.
What another seed would give is told by the spread, not by the interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_index_hybridmem.statistics import Interval
from llama_index_hybridmem.training.scores import Score, score, tokens
from noise_arms.damage import TRIALS, Asked, Trial

RESAMPLES = 2000
LEVEL = 0.95

GROUPS: Mapping[str, Callable[[Trial], bool]] = {
    "clean": lambda trial: trial.group == "clean",
    "all kinds": lambda trial: trial.group != "clean",
    "policy kinds": lambda trial: trial.group == "policy",
    "broken formats": lambda trial: trial.group == "formats",
    "kinds seen": lambda trial: trial.group != "clean" and trial.is_seen,
    "kinds not seen": lambda trial: not trial.is_seen,
}

PAIRS = (
    ("noisy", "clean"),
    ("noisy", "base"),
    ("clean", "base"),
    ("prompted", "base"),
    ("noisy", "prompted"),
    ("clean", "prompted"),
)


@dataclass(frozen=True)
class Goal:
    """What issue 8 asks for.

    Attributes:
        pair: of arms; the first is to be better.
        group: of kinds.
        points: by so many at least.
        is_low: whether the lower end of the interval must be above, not the mean reach it.
    """

    pair: tuple[str, str]
    group: str
    points: float
    is_low: bool = False

    def met(self, found: Interval) -> bool:
        """Whether it is reached."""
        return found.low > self.points / 100 if self.is_low else found.mean >= self.points / 100


GOALS = (
    Goal(("noisy", "base"), "all kinds", 21),
    Goal(("noisy", "clean"), "policy kinds", 10),
    Goal(("noisy", "clean"), "broken formats", 10),
    Goal(("noisy", "clean"), "all kinds", 0, is_low=True),
    Goal(("noisy", "clean"), "clean", -1),
)


@dataclass(frozen=True)
class Answered:
    """What one arm said to all test rows.

    Attributes:
        arm: its name.
        rows: the test rows.
        scores: seed to scores, one a row; arms that are not trained have one seed.
        said: seed to answers.
    """

    arm: str
    rows: Sequence[Asked]
    scores: Mapping[int, Sequence[Score]]
    said: Mapping[int, Sequence[str]]

    @classmethod
    def of(cls, arm: str, rows: Sequence[Asked], said: Mapping[int, Sequence[str]]) -> Answered:
        """Score answers."""
        scores = {
            seed: [score(answer, row.example) for answer, row in zip(answers, rows, strict=True)]
            for seed, answers in said.items()
        }
        return cls(arm, rows, scores, said)

    def values(self, seed: int | None = None) -> list[float]:
        """How right each row is; the mean over the seeds, or that of one."""
        chosen = list(self.scores.values()) if seed is None else [self.scores[seed]]
        return [sum(each.right for each in row) / len(row) for row in zip(*chosen, strict=True)]

    def trial(self, name: str, source: str | None) -> dict[str, Any] | None:
        """Sum up a kind, over all seeds; None without rows."""
        at = [n for n, row in enumerate(self.rows) if row.trial == name and source in (None, row.source)]
        if not at:
            return None
        pairs = [(scores[n], self.rows[n]) for scores in self.scores.values() for n in at]
        held = [found for found, row in pairs if row.example.answerable]
        lost = [found for found, row in pairs if not row.example.answerable]
        told = {
            "right": _mean([found.right for found, _ in pairs]),
            "f1": _mean([found.f1 for found in held]),
            "contained": _mean([found.contained for found in held]),
            "abstained": _mean([found.abstained for found in lost]),
            "falsely_abstained": _mean([found.abstained for found in held]),
            "lured": _mean([self._lured(seed, n) for seed in self.scores for n in at if self.rows[n].lure]),
        }
        return {"n": len(at), "unanswerable": sum(not self.rows[n].example.answerable for n in at), **told}

    def _lured(self, seed: int, at: int) -> bool:
        wanted, got = tokens(self.rows[at].lure or ""), tokens(self.said[seed][at])
        return any(got[start : start + len(wanted)] == wanted for start in range(len(got) - len(wanted) + 1))


def table(rows: Sequence[Asked], values: Sequence[float], group: str, source: str | None) -> NDArray[np.float64]:
    """Lay values out, a line for each question of a source and a column for each kind; nan where none was asked."""
    kinds = [trial.name for trial in TRIALS if GROUPS[group](trial)]
    chosen = [n for n, row in enumerate(rows) if row.trial in kinds and source in (None, row.source)]
    questions = {each: n for n, each in enumerate(dict.fromkeys((rows[n].source, rows[n].question) for n in chosen))}
    found = np.full((len(questions), len(kinds)), np.nan)
    for n in chosen:
        found[questions[rows[n].source, rows[n].question], kinds.index(rows[n].trial)] = values[n]
    return found[:, ~np.isnan(found).all(axis=0)]


def group_mean(found: NDArray[np.float64]) -> float | None:
    """Mean over kinds of their means, each kind counting alike; None of nothing."""
    return float(np.nanmean(found, axis=0).mean()) if found.size else None


def interval(found: NDArray[np.float64], seed: int = 0) -> Interval | None:
    """`group_mean` with its percentile bootstrap interval (Efron 1979) over questions, each with all its kinds."""
    middle = group_mean(found)
    if middle is None:
        return None
    draws, known = np.random.default_rng(seed), ~np.isnan(found)
    values = np.where(known, found, 0.0)
    means = []
    for _ in range(RESAMPLES):
        at = draws.integers(0, len(found), len(found))
        counts = known[at].sum(axis=0)
        there = counts > 0
        means.append((values[at].sum(axis=0)[there] / counts[there]).mean())
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(middle, float(low), float(high))


def difference(one: Answered, other: Answered, group: str, source: str | None) -> Interval | None:
    """How much more right one arm is than another on the same rows, from -1 to 1."""
    values = [a - b for a, b in zip(one.values(), other.values(), strict=True)]
    return interval(table(one.rows, values, group, source))


def by_seed(one: Answered, other: Answered, group: str, source: str | None) -> list[float]:
    """The difference for each seed of the first arm, to the other's same seed where there is one, else to its mean."""
    found = []
    for seed in one.scores:
        beside = other.values(seed) if len(other.scores) > 1 and seed in other.scores else other.values()
        values = [a - b for a, b in zip(one.values(seed), beside, strict=True)]
        middle = group_mean(table(one.rows, values, group, source))
        if middle is not None:
            found.append(middle)
    return found


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None
