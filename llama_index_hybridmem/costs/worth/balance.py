"""Gain against cost: price of an extra right answer, net benefit, break-even volume; pure, knows no questions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

import numpy as np

from llama_index_hybridmem.costs.worth.paired import Figure, Numbers, around, interval, ratio, verdict
from llama_index_hybridmem.statistics import Interval

NOT_SHOWN = "the gain is not shown"
WORSE = "fewer right answers"
NO_VOLUME = "needs the queries per month"
NO_WORTH = "needs an answer's worth"
TOO_FEW = "fewer than {} priced pairs"

_POINTS = 41
_FALLBACK = 1.0  # the curve's end where the questions suggest none


class Point(NamedTuple):
    """A month's net benefit if an extra right answer is worth so much.

    Attributes:
        worth: of an extra right answer.
        net: extra right answers times their worth, less the extra cost.
        low: lower end of its interval.
        high: upper end.
        probability: that it is above 0.
    """

    worth: float
    net: float
    low: float
    high: float
    probability: float


@dataclass(frozen=True)
class Balance:
    """Gain against cost, with or without the hours of people.

    Attributes:
        fixed: per month, what was stated.
        extra: cost per month, fixed and for queries, over the run without graph; None without a volume.
        per_extra_correct: cost of one more right answer, below 0 where the graph path saves money; also the worth from
            which on it pays.
        volume: queries per month from which on it pays, at the worth given; infinite where it never does.
        net: net benefit of a month at that worth and the volume given; None when one of them is not given.
        probability: that it is above 0; None as `net`.
        curve: net benefit over the worth of an answer; empty without a volume, and as all of these below the least
            number of pairs.
    """

    fixed: Decimal
    extra: Interval | None
    per_extra_correct: Figure
    volume: Figure
    net: Interval | None
    probability: float | None
    curve: tuple[Point, ...]


@dataclass(frozen=True)
class Setting:
    """What the figures hold for.

    Attributes:
        queries: per month, all of them; None when not given.
        share: of them, those that go the graph path.
        worth: of an extra right answer; None when not given.
        seed: of the bootstrap.
        level: of the intervals.
        resamples: how often the questions are drawn anew.
        least: pairs below which nothing is shown.
    """

    queries: float | None
    share: float
    worth: float | None
    seed: int
    level: float
    resamples: int
    least: int


def balance(columns: Numbers, means: Numbers, fixed: Decimal, top: float, setting: Setting) -> Balance:
    """Weigh one against the other.

    Args:
        columns: a row per question, (gain, cost difference).
        means: their resampled means.
        fixed: cost per month that does not depend on the queries.
        top: where the curve ends.
        setting: volume, worth and the rest.
    """
    gain, more = columns.mean(axis=0)
    gains, mores = means.T
    monthly, sent = float(fixed), None if setting.queries is None else setting.queries * setting.share
    worth, level = setting.worth, setting.level
    extra = None
    if sent is not None:
        point, draws = monthly + sent * float(more), monthly + sent * mores
        extra = around(point, draws, len(columns), setting.least, level)
    if len(columns) < setting.least:
        few = Figure(None, TOO_FEW.format(setting.least))
        return Balance(fixed, extra, few, few, None, None, ())
    curve = () if sent is None else tuple(_curve(columns, means, monthly, sent, top, level))
    net, chance = None, None
    if sent is not None and worth is not None:
        draws = sent * (worth * gains - mores) - monthly
        net = interval(sent * float(worth * gain - more) - monthly, draws, level)
        chance = float((draws > 0).mean())
    return Balance(
        fixed,
        extra,
        _per_extra(columns, means, monthly, sent, setting),
        _volume(worth, np.array([gain, more]), means, monthly, setting),
        net,
        chance,
        curve,
    )


def curve_end(columns: Numbers, fixed: Decimal, setting: Setting) -> float:
    """Where a curve should end: past the worth given, and at three times the price of an extra answer; rounded up."""
    gain, more = columns.mean(axis=0)
    end = 2 * (setting.worth or 0.0)
    if gain > 0:
        spread = 0.0 if setting.queries is None else float(fixed) / (setting.queries * setting.share)
        end = max(end, 3 * (more + spread) / gain)
    if end <= 0:
        return _FALLBACK
    unit = 10.0 ** math.floor(math.log10(end))
    return next(step * unit for step in (1, 2, 5, 10) if step * unit >= end * (1 - 1e-9))


def _curve(columns: Numbers, means: Numbers, fixed: float, sent: float, top: float, level: float) -> list[Point]:
    gain, more = columns.mean(axis=0)
    worths = np.linspace(0, top, _POINTS)
    draws = sent * (worths[:, None] * means[:, 0] - means[:, 1]) - fixed
    lows, highs = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=1)
    nets, chances = sent * (worths * gain - more) - fixed, (draws > 0).mean(axis=1)
    return [Point(*map(float, row)) for row in zip(worths, nets, lows, highs, chances, strict=True)]


def _per_extra(columns: Numbers, means: Numbers, fixed: float, sent: float | None, setting: Setting) -> Figure:
    gain, more = map(float, columns.mean(axis=0))
    likely = interval(gain, means[:, 0], setting.level)
    said = verdict(likely, len(columns), int(np.count_nonzero(columns[:, 0])), setting.least)
    if said != "better":
        return Figure(None, WORSE if said == "worse" else NOT_SHOWN)
    if sent is None and fixed:
        return Figure(None, NO_VOLUME)
    each = fixed / sent if sent is not None else 0.0
    return Figure(interval((each + more) / gain, ratio(each + means[:, 1], means[:, 0]), setting.level))


def _volume(worth: float | None, mean: Numbers, means: Numbers, fixed: float, setting: Setting) -> Figure:
    if worth is None:
        return Figure(None, NO_WORTH)
    point, draws = (
        ratio(np.array(fixed / setting.share), worth * each[..., 0] - each[..., 1]) for each in (mean, means)
    )
    return Figure(interval(float(point), draws, setting.level))
