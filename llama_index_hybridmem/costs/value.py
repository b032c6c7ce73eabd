"""What a graph is worth: the answers it adds against the money it takes, with intervals; pure, judges no answer.

On the same questions, asked with and without the graph path: the gain in right answers, what each extra one costs, how
likely that is worth it at any price, and from how many queries a month on. Intervals are paired bootstraps (Efron 1979)
over questions; few questions have none. The cost of an extra answer is the incremental cost-effectiveness ratio of
health economics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np

from llama_index_hybridmem.costs.worth.answer_cost import AnswerCost, by_route, by_run
from llama_index_hybridmem.costs.worth.balance import Balance, Point, Setting, balance, curve_end
from llama_index_hybridmem.costs.worth.fixed import NOT_STATED, Fixed, Monthly
from llama_index_hybridmem.costs.worth.judged import Pairs
from llama_index_hybridmem.costs.worth.paired import Numbers, Verdict, around, needed_pairs, resampled, verdict
from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.statistics import Interval

UNPRICED = "pairs with an unpriced answer, left out of the costs"
MOST_CLASSES = 20
_CLOUD = 300  # resamples kept for the picture


@dataclass(frozen=True)
class Money:
    """What the gain costs, on the pairs whose two answers have a price.

    Attributes:
        pairs: how many.
        difference: of one query's cost, with the graph path less without.
        without_hours: gain against compute and rent; of a class: if its questions alone went to the graph.
        with_hours: the same with the hours of people; None when they are not stated.
        cloud: some resamples, each (gain, cost difference of a query); none of too few pairs.
    """

    pairs: int
    difference: Interval
    without_hours: Balance
    with_hours: Balance | None
    cloud: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Comparison:
    """The two runs on all questions, or on those of one class.

    Below the least number of pairs an interval has no ends: they are −∞ and ∞.

    Attributes:
        question_class: its name; None for all questions.
        pairs: questions that both runs answered.
        with_graph: share of right answers with the graph path, 0 … 1.
        without_graph: the same without.
        gain: the first less the second, question by question.
        differ: questions answered differently.
        verdict: whether the gain is shown, and in which direction.
        needed: how many paired questions would show a difference of this size, four times in five; None when it is
            shown already, or 0.
        level: of the gain's interval; the classes share 5 % of error, because each of them is another look.
        seconds: that the graph path adds to an answer; None when a latency is missing.
        money: None when no pair has both costs.
    """

    question_class: str | None
    pairs: int
    with_graph: Interval
    without_graph: Interval
    gain: Interval
    differ: int
    verdict: Verdict
    needed: int | None
    level: float
    seconds: Interval | None
    money: Money | None


@dataclass(frozen=True)
class ValueReport:
    """What a graph is worth.

    Attributes:
        with_graph: name of the run with the graph path.
        without_graph: name of the other.
        everything: all questions.
        classes: each class, where there are two or more.
        runs: cost of the right answers of each run.
        routes: the same by route, where a run took a route.
        monthly: the fixed costs.
        queries_per_month: in all; None when not given.
        share_sent: of them, those that go the graph path.
        worth: of an extra right answer; None when not given.
        currency: of all money.
        counted: what was left out, and how often.
    """

    with_graph: str
    without_graph: str
    everything: Comparison
    classes: tuple[Comparison, ...]
    runs: tuple[AnswerCost, ...]
    routes: tuple[AnswerCost, ...]
    monthly: Monthly
    queries_per_month: float | None
    share_sent: float
    worth: float | None
    currency: str
    counted: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON: money as text, days in ISO form, null for an end that is infinite."""
        return {"schema": 1, **_plain(asdict(self))}


def value(
    pairs: Pairs,
    fixed: Fixed | None = None,
    *,
    queries_per_month: float | None = None,
    share_sent: float = 1.0,
    worth_per_correct: float | None = None,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = 2000,
    least: int = 30,
) -> ValueReport:
    """Weigh the graph path's gain against its cost.

    Args:
        pairs: the same questions with and without the graph path.
        fixed: what the graph costs besides its queries; None when nobody stated it.
        queries_per_month: all of them; without it fixed costs cannot be spread.
        share_sent: of them, those that go the graph path, above 0 … 1.
        worth_per_correct: what an extra right answer is worth.
        seed: of the bootstrap.
        level: of the intervals.
        resamples: how often the questions are drawn anew.
        least: below so many pairs nothing is shown, and below so many answers no cost per right one is given.

    Raises:
        ConfigurationError: no pairs, more than 20 classes, or an argument out of range.
    """
    if not len(pairs):
        raise ConfigurationError("no pair of answers, so there is nothing to weigh")
    setting = Setting(queries_per_month, share_sent, worth_per_correct, seed, level, resamples, least)
    _check(setting)
    monthly = fixed.monthly() if fixed is not None else NOT_STATED
    everything = _compare(None, pairs, monthly, setting)
    unpriced = len(pairs) - (0 if everything.money is None else everything.money.pairs)
    arms = (pairs.with_graph, pairs.without_graph)
    return ValueReport(
        pairs.with_graph[0].arm,
        pairs.without_graph[0].arm,
        everything,
        _classes(pairs, monthly, setting),
        tuple(by_run(rows, setting) for rows in arms),
        tuple(cost for rows in arms for cost in by_route(rows, setting)),
        monthly,
        queries_per_month,
        share_sent,
        worth_per_correct,
        pairs.currency,
        {**pairs.counted, **({UNPRICED: unpriced} if unpriced else {})},
    )


def _check(setting: Setting) -> None:
    if setting.queries is not None and not (math.isfinite(setting.queries) and setting.queries > 0):
        raise ConfigurationError(f"queries_per_month: above 0, not {setting.queries}")
    if not 0 < setting.share <= 1:
        raise ConfigurationError(f"share_sent: above 0 and at most 1, not {setting.share}")
    if setting.worth is not None and not (math.isfinite(setting.worth) and setting.worth > 0):
        raise ConfigurationError(f"worth_per_correct: above 0, not {setting.worth}")


def _classes(pairs: Pairs, monthly: Monthly, setting: Setting) -> tuple[Comparison, ...]:
    names = pairs.classes()
    if len(names) < 2:
        return ()
    if len(names) > MOST_CLASSES:
        raise ConfigurationError(
            f"{len(names)} classes of questions, as {names[0]!r} and {names[1]!r}: each is another look, and so many "
            f"show nothing; make it {MOST_CLASSES} at most"
        )
    found = []
    for name in names:
        own = pairs.of_class(name)
        share = setting.share * len(own) / len(pairs)
        level = 1 - (1 - setting.level) / len(names)
        found.append(_compare(name, own, monthly, replace(setting, share=share, level=level)))
    return tuple(found)


def _compare(name: str | None, pairs: Pairs, monthly: Monthly, setting: Setting) -> Comparison:
    columns = _answers(pairs)
    change = columns[:, 2]
    with_graph, without_graph, gain, *seconds = _intervals(columns, setting)
    differ = int(np.count_nonzero(change))
    said = verdict(gain, len(pairs), differ, setting.least)
    enough = None if said != "not shown" else needed_pairs(change, setting.level)
    return Comparison(
        name,
        len(pairs),
        with_graph,
        without_graph,
        gain,
        differ,
        said,
        None if enough is None else max(enough, setting.least),
        setting.level,
        seconds[0] if seconds else None,
        _money(pairs, monthly, setting),
    )


def _answers(pairs: Pairs) -> Numbers:
    """Right with, right without, gain, and where every latency is known the seconds added."""
    one, other = (np.array([row.correct for row in rows]) for rows in (pairs.with_graph, pairs.without_graph))
    added = [
        with_.latency_s - without.latency_s
        for with_, without in zip(pairs.with_graph, pairs.without_graph, strict=True)
        if with_.latency_s is not None and without.latency_s is not None
    ]
    return np.column_stack([one, other, one - other, *([added] if len(added) == len(pairs) else [])])


def _intervals(columns: Numbers, setting: Setting) -> list[Interval]:
    means = resampled(columns, setting.seed, setting.resamples)
    found = zip(columns.mean(axis=0), means.T, strict=True)
    return [around(float(mean), draws, len(columns), setting.least, setting.level) for mean, draws in found]


def _money(pairs: Pairs, monthly: Monthly, setting: Setting) -> Money | None:
    columns = _priced(pairs)
    if not len(columns):
        return None
    means = resampled(columns, setting.seed, setting.resamples)
    less, more = monthly.total(hours=False), monthly.total(hours=True)
    end = curve_end(columns, more, setting)
    size, enough = len(columns), len(columns) >= setting.least
    return Money(
        size,
        around(float(columns[:, 1].mean()), means[:, 1], size, setting.least, setting.level),
        balance(columns, means, less, end, setting),
        None if monthly.hours is None else balance(columns, means, more, end, setting),
        tuple((float(gained), float(cost)) for gained, cost in means[:: max(1, len(means) // _CLOUD)] if enough),
    )


def _priced(pairs: Pairs) -> Numbers:
    """Gain and cost difference of every question whose two answers have a price."""
    rows = [
        (one.correct - other.correct, float(one.cost - other.cost))
        for one, other in zip(pairs.with_graph, pairs.without_graph, strict=True)
        if one.cost is not None and other.cost is not None
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def _plain(found: Any) -> Any:
    if isinstance(found, Mapping):
        return {key: _plain(each) for key, each in found.items()}
    if isinstance(found, Point):
        return found._asdict()
    if isinstance(found, list | tuple):
        return [_plain(each) for each in found]
    if isinstance(found, Decimal):
        return format(found.normalize(), "f")
    if isinstance(found, date):
        return found.isoformat()
    return None if isinstance(found, float) and not math.isfinite(found) else found
