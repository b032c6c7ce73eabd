"""How a score grows with the rows trained on, and what more rows would buy at most; pure, trains nothing.

The curve is a power law towards a ceiling, score(n) = c - a n^-b: the form that learning curves of neural networks were
found to follow (Hestness et al. 2017, arXiv 1712.00409) and the usual one in the survey of Viering and Loog (arXiv
2103.10948), which warns that not all do. So the ceiling is given as a bound, and where the points cannot bear it, no
figure is given at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.statistics import Z95, Interval

LEVEL = 0.95
"""Share of the resampled curves that lie below the bound."""
SIZES = 3
"""Numbers of rows needed: a curve with three unknowns is drawn through fewer in any way one likes."""
EXPONENTS = (0.1, 2.0)
"""Least and greatest b. Hestness et al. report 0.07 to 0.35, over many more rows than a fine-tune has; theory knows 0.5
and 1. Below 0.1 a curve cannot be told from one without a ceiling."""
LEAST_ERROR = 0.005
"""Standard error below which no point is believed to be known: half a point between runs is ordinary."""
RESAMPLES = 2000

_GRID = np.geomspace(*EXPONENTS, 40)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """A measured score.

    Attributes:
        rows: trained on.
        score: 0 to 1.
        low: lower end of its 95 % interval.
        high: upper end.
    """

    rows: int
    score: float
    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse what is no score.

        Raises:
            ConfigurationError: names the rows and the values.
        """
        if self.rows < 1 or not 0 <= self.low <= self.score <= self.high <= 1:
            told = f"{self.score!r:.20} ({self.low!r:.20} to {self.high!r:.20}) of {self.rows!r:.20} rows"
            raise ConfigurationError(f"learning curve: a score of 0 to 1 inside its interval, of 1 row or more: {told}")


@dataclass(frozen=True)
class Fit:
    """score(n) = ceiling - a n^-b.

    Attributes:
        ceiling: what the score tends to, at most 1.
        a: 0 or more.
        b: one of `EXPONENTS` or between.
    """

    ceiling: float
    a: float
    b: float

    def at(self, rows: float) -> float:
        """Give the score at so many rows."""
        return float(self.ceiling - self.a * rows**-self.b)


@dataclass(frozen=True)
class LearningCurve:
    """How the score grows with the rows.

    Attributes:
        points: measured, by their rows.
        fit: through them; None: it cannot be told.
        at_most: what any number of further rows would buy, as a share (0.01 is a point): 95 of 100 resampled curves
            stay below it; None: it cannot be told.
        doubling: what twice the rows would buy, with its 95 % interval; None: it cannot be told.
        reason: why it cannot be told; "" if it can.
    """

    points: tuple[Point, ...]
    fit: Fit | None = None
    at_most: float | None = None
    doubling: Interval | None = None
    reason: str = ""

    def sentence(self) -> str:
        """Say what more rows would buy."""
        if self.at_most is None or self.doubling is None:
            return f"What more data would buy cannot be told: {self.reason}."
        gain, rows = self.doubling, self.points[-1].rows
        return (
            f"More data would buy at most {100 * self.at_most:.1f} points (with 95 % confidence, if the curve keeps "
            f"its form); doubling the {rows:,} rows about {100 * gain.mean:.1f} ({100 * gain.low:.1f} to "
            f"{100 * gain.high:.1f})."
        )

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {**asdict(self), "points": [asdict(each) for each in self.points], "sentence": self.sentence()}


def learning_curve(measured: Iterable[Point], seed: int = 0, resamples: int = RESAMPLES) -> LearningCurve:
    """Fit the curve and bound what is left to gain.

    The bound is a parametric bootstrap: each score is drawn anew from its interval (and, of several runs with as many
    rows, the runs are drawn anew), and a curve is fitted to each draw. Of single runs the interval knows nothing of
    the differences between seeds: then the bound is too low by as much.

    Args:
        measured: scores on the same questions; several of as many rows are runs with other seeds.
        seed: of the bootstrap, 0 or more.
        resamples: curves that are fitted.
    """
    points = tuple(sorted(measured, key=lambda each: (each.rows, each.score)))
    sizes = sorted({each.rows for each in points})
    if len(sizes) < SIZES:
        return LearningCurve(points, reason=f"it takes {SIZES} numbers of rows, not {len(sizes)}")
    rows = np.array([each.rows for each in points], dtype=np.float64)
    scores, errors = np.array([each.score for each in points]), _errors(points)
    drawn = _drawn(rows, scores, errors, np.random.default_rng(seed), resamples)
    if reason := _not_rising(rows, drawn, errors):
        return LearningCurve(points, reason=reason)
    (ceiling, a, b), curves = (_fitted(rows, each, errors) for each in (scores[None, :], drawn))
    fit = Fit(float(ceiling[0]), float(a[0]), float(b[0]))
    most = float(np.quantile(_left(curves, rows[-1]), LEVEL))
    return LearningCurve(points, fit, max(most, fit.ceiling - fit.at(sizes[-1])), _doubled(fit, curves, sizes[-1]))


Curves = tuple[Floats, Floats, Floats]  # ceilings, as, bs


def _left(curves: Curves, rows: float) -> Floats:
    """What each curve has still to gain."""
    _, a, b = curves
    return np.asarray(a * rows**-b, dtype=np.float64)


def _doubled(fit: Fit, curves: Curves, rows: int) -> Interval:
    gains = _left(curves, rows) - _left(curves, 2.0 * rows)
    low, high = np.quantile(gains, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    gain = fit.at(2 * rows) - fit.at(rows)
    return Interval(gain, min(gain, float(low)), max(gain, float(high)))


def _errors(points: Sequence[Point]) -> Floats:
    """Standard errors, by the width of the intervals."""
    halves = [(each.high - each.low) / 2 / Z95 for each in points]
    return np.array([max(half, LEAST_ERROR) for half in halves])


def _drawn(rows: Floats, scores: Floats, errors: Floats, draws: np.random.Generator, resamples: int) -> Floats:
    """Scores as they might have been, a line for each resample."""
    chosen = np.empty((resamples, len(rows)), dtype=np.int64)
    for size in np.unique(rows):
        (same,) = np.nonzero(rows == size)
        chosen[:, same] = same[draws.integers(0, len(same), (resamples, len(same)))]
    noise = draws.normal(size=chosen.shape) * errors[chosen]
    return np.asarray(np.clip(scores[chosen] + noise, 0, 1))


def _not_rising(rows: Floats, drawn: Floats, errors: Floats) -> str:
    """Why no curve of this form runs through the points; "" if one may."""
    weights = errors**-2.0
    steps = np.log(rows) - np.average(np.log(rows), weights=weights)
    slopes = drawn @ (weights * steps)
    if np.mean(slopes > 0) < LEVEL:
        return "the score does not rise with the rows by more than its noise"
    means = np.stack([drawn[:, rows == size].mean(axis=1) for size in np.unique(rows)], axis=1)
    best = int(means.mean(axis=0).argmax())
    if np.mean(means[:, -1] < means[:, best]) >= LEVEL:
        return f"the score falls again after {np.unique(rows)[best]:,.0f} rows"
    return ""


def _fitted(rows: Floats, scores: Floats, errors: Floats) -> Curves:
    """Fit a curve to each line of scores by weighted least squares.

    For a given exponent the curve is a straight line in n^-b, with its best values in closed form; so the exponents of
    a grid are tried, and no search can end in the wrong valley.
    """
    weights = errors**-2.0
    weights /= weights.sum()
    best = np.full(len(scores), math.inf)
    found = [np.zeros(len(scores)) for _ in range(3)]
    for b in _GRID:
        ceiling, a = _line(rows**-b, scores, weights)
        missed = ((scores - ceiling[:, None] + a[:, None] * rows**-b) ** 2) @ weights
        better = missed < best - 1e-15
        for kept, new in zip(found, (ceiling, a, np.full(len(scores), b)), strict=True):
            kept[better] = new[better]
        best[better] = missed[better]
    return found[0], found[1], found[2]


def _line(x: Floats, scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Ceiling (0 to 1) and a (0 or more) of the best line ceiling - a x; at a limit, the best on it."""
    middle, mean = x @ weights, scores @ weights
    a = np.maximum(0.0, -((scores - mean[:, None]) @ (weights * (x - middle))) / (weights @ (x - middle) ** 2))
    ceiling = mean + a * middle
    over = ceiling > 1
    a = np.where(over, ((1 - scores) @ (weights * x)) / (weights @ x**2), a)
    return np.where(over, 1.0, ceiling), a
