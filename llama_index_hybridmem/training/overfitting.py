"""Whether the losses of a run show that it went wrong: overfitted, learned nothing, broke; pure, knows no trainer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal

DEV_POINTS = 3
"""Measurements of the dev loss below which nothing is said of overfitting."""
RISE = 0.02
"""Relative rise of the dev loss above its lowest from which on it has turned up; less is the noise of few dev rows. A
choice."""
FALL = 0.02
"""Relative fall of the train loss below which nothing was learned. A choice."""
_LEAST = 1e-6  # nats: below it a loss is 0, and no share of it means anything
_FEW = 8  # losses below which their first and last quarter are too few to compare

Point = tuple[int, float]
Line = Mapping[str, Any]


@dataclass(frozen=True)
class Overfitting:
    """What the losses of a run say.

    Attributes:
        best_step: of the lowest dev loss; None: no dev loss was measured.
        best_loss: there, in nats per token.
        last_loss: the last dev loss, in nats per token.
        rise: last minus best, in nats per token.
        relative: rise as a share of the best.
        overfitted: whether the dev loss turned up after ``best_step`` while the train loss fell on; None: fewer than
            three dev losses, so it cannot be told.
        warnings: what went wrong, in sentences.
    """

    best_step: int | None = None
    best_loss: float | None = None
    last_loss: float | None = None
    rise: float | None = None
    relative: float | None = None
    overfitted: bool | None = None
    warnings: tuple[str, ...] = ()

    @property
    def warning(self) -> str | None:
        """The gravest warning; None if there is none."""
        return self.warnings[0] if self.warnings else None

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {**asdict(self), "warnings": list(self.warnings)}


def overfitting(lines: Iterable[Line]) -> Overfitting:
    """Judge the losses of a run.

    Args:
        lines: of losses.jsonl: ``step`` with ``loss`` or ``dev_loss``; of two for a step the later counts, as a resumed
            run writes them.
    """
    rows = list(lines)
    train, dev = points(rows, "loss"), points(rows, "dev_loss")
    warnings = [*_broken(rows), *_idle(train)]
    if not dev:
        return Overfitting(warnings=tuple(warnings))
    best_step, best = min(dev, key=lambda each: (each[1], each[0]))
    last = dev[-1][1]
    rise = last - best
    relative = rise / max(best, _LEAST)
    turned = None
    if len(dev) >= DEV_POINTS:
        turned = relative >= RISE and _fell_on(train, best_step)
    if turned:
        warnings.append(
            f"Overfitted: the dev loss was lowest at step {best_step:,} ({best:.3f}) and is {relative:.0%} higher at "
            f"the end ({last:.3f}), while the train loss fell on. Fewer epochs, more rows or a smaller rank help."
        )
    return Overfitting(best_step, best, last, rise, relative, turned, tuple(warnings))


def points(lines: Iterable[Line], name: Literal["loss", "dev_loss"]) -> list[Point]:
    """Give the finite losses of one kind, as (step, nats per token) in the order of the steps."""
    found = {int(each["step"]): each[name] for each in lines if name in each and _number(each.get("step"))}
    return sorted((step, float(loss)) for step, loss in found.items() if _number(loss))


def _broken(lines: Sequence[Line]) -> list[str]:
    """Name the first loss that is no number."""
    for each in lines:
        for name in ("loss", "dev_loss"):
            if name in each and not _number(each[name]):
                return [f"The {name.replace('_', ' ')} at step {each.get('step')} is not finite: lower the rate."]
    return []


def _idle(train: Sequence[Point]) -> list[str]:
    """Compare the losses of the first and the last quarter of the steps."""
    quarter = len(train) // 4
    if len(train) < _FEW:
        return []
    first, last = (fmean(loss for _, loss in part) for part in (train[:quarter], train[-quarter:]))
    if last <= first * (1 - FALL):
        return []
    return [f"The train loss did not fall ({first:.3f} at first, {last:.3f} at the end): nothing was learned."]


def _fell_on(train: Sequence[Point], step: int) -> bool:
    """Whether the losses after a step are lower than as many before it, whose noise is then alike."""
    before, after = [loss for at, loss in train if at <= step], [loss for at, loss in train if at > step]
    if not before or not after:
        return False
    many = min(len(before), len(after))
    return fmean(after[-many:]) < fmean(before[-many:])


def stretch(lines: Iterable[Line]) -> tuple[int, int] | None:
    """Give the steps in which a run overfitted: from that of the lowest dev loss to the last; None if it did not."""
    rows = list(lines)
    found = overfitting(rows)
    dev = points(rows, "dev_loss")
    if not found.overfitted or found.best_step is None:
        return None
    return found.best_step, dev[-1][0]


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
