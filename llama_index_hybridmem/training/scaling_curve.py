"""How much of an adapter to use: enough for its task, little enough for what the base could do; pure, asks no model.

Between a model and its fine-tuned self there is often one that keeps the gain and forgets less (WiSE-FT, arXiv
2109.01903); with an adapter it is had by scaling what the adapter adds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.statistics import Interval, bootstrap_interval, paired_difference

MARGIN = 0.01
"""Share (0.01 is a point) of what the base could do that may be lost for the task."""


@dataclass(frozen=True)
class Point:
    """The scores at a scale, of each question, in the same order at all scales.

    Attributes:
        scale: of the adapter; 0 is the base, 1 the adapter as it was trained.
        task: 0 to 1, on questions of what it was trained for.
        general: 0 to 1, on what the base shall still do; () if that was not asked.
    """

    scale: float
    task: Sequence[float]
    general: Sequence[float] = ()


@dataclass(frozen=True)
class Scale:
    """What is known of a scale.

    Attributes:
        scale: of the adapter.
        task: mean score on the task, with its 95 % interval.
        gained: task score minus the base's, question by question.
        general: mean score on general questions; None: not asked.
        lost: the base's general score minus this one's, question by question; None: not asked.
        missing: the best admitted scale's task score minus this one's, question by question.
        admitted: whether no more than the margin is lost.
    """

    scale: float
    task: Interval
    gained: Interval
    general: Interval | None
    lost: Interval | None
    missing: Interval
    admitted: bool


@dataclass(frozen=True)
class ScalingCurve:
    """Scores by scale, and the scale to use.

    Attributes:
        scales: by their size.
        recommended: the smallest that does no worse on the task than the best one, beyond the noise between them, of
            those that lose no more than the margin; 0: the adapter is of no proven use.
        best: the scale of the best task score among them.
        margin: share of general questions that may be lost.
    """

    scales: tuple[Scale, ...]
    recommended: float
    best: float
    margin: float

    def sentence(self) -> str:
        """Say which scale, and why."""
        chosen = next(each for each in self.scales if each.scale == self.recommended)
        if not self.recommended:
            return f"Leave the adapter out: {self._why_not()}."
        told = f"Use {self.recommended:g} of the adapter: {_points(chosen.gained)} on the task over the base"
        if self.recommended != self.best:
            told += f", not provably less than the most, {_points(self._at(self.best).gained)} at {self.best:g}"
        if chosen.lost is None:
            return f"{told}; what it costs elsewhere was not measured."
        told += f"; {_points(chosen.lost, -1)} on general questions"
        refused = [f"{each.scale:g}" for each in self.scales if not each.admitted]
        lose = f" ({', '.join(refused)} would lose more than {100 * self.margin:g})" if refused else ""
        return f"{told}{lose}."

    def _why_not(self) -> str:
        if all(each.admitted for each in self.scales):
            return "at no scale does it gain more on the task than noise"
        return f"what gains on the task loses more on general questions than {100 * self.margin:g} in 100"

    def _at(self, scale: float) -> Scale:
        return next(each for each in self.scales if each.scale == scale)

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {**asdict(self), "scales": [asdict(each) for each in self.scales], "sentence": self.sentence()}


def scaling_curve(measured: Iterable[Point], margin: float = MARGIN, seed: int = 0) -> ScalingCurve:
    """Choose a scale.

    A scale is as good as the best one unless the 95 % interval of their paired difference lies above 0. Whether too
    much is lost is judged by the mean, which few questions know badly: `Scale.lost` has its interval.

    Args:
        measured: scales with their scores, 0 (the base) among them.
        margin: share of general questions that may be lost, 0 or more.
        seed: of the bootstrap.

    Raises:
        ConfigurationError: no scale 0, a scale twice, or scores that do not belong to the same questions.
    """
    points = sorted(measured, key=lambda each: each.scale)
    _check(points, margin)
    base = points[0]
    lost = [_difference(base.general, each.general, seed) for each in points]
    admitted = [each is None or each.mean <= margin + 1e-9 for each in lost]
    fit = [each for each, may in zip(points, admitted, strict=True) if may]
    best = max(fit, key=lambda each: (sum(each.task), -each.scale))
    missing = {each.scale: paired_difference(best.task, each.task, seed) for each in points}
    scales = tuple(
        Scale(
            each.scale,
            bootstrap_interval(each.task, seed),
            paired_difference(each.task, base.task, seed),
            bootstrap_interval(each.general, seed) if each.general else None,
            loss,
            missing[each.scale],
            may,
        )
        for each, loss, may in zip(points, lost, admitted, strict=True)
    )
    recommended = next(each.scale for each in fit if missing[each.scale].low <= 0)
    return ScalingCurve(scales, recommended, best.scale, margin)


def _difference(a: Sequence[float], b: Sequence[float], seed: int) -> Interval | None:
    return paired_difference(a, b, seed) if a else None


def _check(points: Sequence[Point], margin: float) -> None:
    scales = [each.scale for each in points]
    if not scales or scales[0] != 0 or len(set(scales)) < len(scales):
        shown = ", ".join(f"{scale:g}" for scale in scales) or "none"
        raise ConfigurationError(f"adapter scaling: different scales from 0 (the base) up are needed, not {shown}")
    if not margin >= 0:
        raise ConfigurationError(f"adapter scaling, margin: a share of 0 or more, not {margin!r:.40}")
    if len({(len(each.task), len(each.general)) for each in points}) > 1 or not points[0].task:
        raise ConfigurationError("adapter scaling: every scale must be asked the same questions, one or more")


def _points(of: Interval, sign: int = 1) -> str:
    low, high = sorted((sign * of.low, sign * of.high))
    return f"{100 * sign * of.mean + 0.0:+.1f} points ({100 * low + 0.0:+.1f} to {100 * high + 0.0:+.1f})"
