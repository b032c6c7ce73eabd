"""What a right answer costs, by run and route: the wrong ones are paid for, too; pure, knows no fixed costs.

The expected cost of a right answer is called cost-of-pass in "Cost-of-Pass" (2504.13359).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from llama_index_hybridmem.costs.worth.balance import Setting
from llama_index_hybridmem.costs.worth.judged import Judged
from llama_index_hybridmem.costs.worth.paired import Figure, interval, ratio, resampled


@dataclass(frozen=True)
class AnswerCost:
    """What the right answers of a run cost, models only.

    Attributes:
        run: its name.
        route: of the answers; None for all of the run, or those without a route.
        answers: how many.
        unpriced: how many of them have no cost; they are in no sum.
        correct: right answers among the priced ones.
        cost: of the priced ones, the wrong ones too; None when there is none.
        per_correct: cost by right answers.
    """

    run: str
    route: str | None
    answers: int
    unpriced: int
    correct: float
    cost: Decimal | None
    per_correct: Figure


def by_run(rows: Sequence[Judged], setting: Setting) -> AnswerCost:
    """Take all answers of one run together.

    Args:
        rows: one or more, of one run.
        setting: seed, level and least number of answers.
    """
    return _cost(rows, None, setting)


def by_route(rows: Iterable[Judged], setting: Setting) -> list[AnswerCost]:
    """Take the answers of one run apart by route; none where all took the same, or no answer took one."""
    found: dict[str | None, list[Judged]] = {}
    for row in rows:
        found.setdefault(row.route, []).append(row)
    if len(found) < 2:
        return []
    return [_cost(found[route], route, setting) for route in sorted(found, key=str)]


def _cost(rows: Sequence[Judged], route: str | None, setting: Setting) -> AnswerCost:
    priced = [(row.cost, row.correct) for row in rows if row.cost is not None]
    total = sum((cost for cost, _ in priced), Decimal(0)) if priced else None
    correct = sum(correct for _, correct in priced)
    per_correct = _per_correct(np.array(priced, dtype=np.float64), setting) if priced else Figure(None, "unpriced")
    return AnswerCost(rows[0].arm, route, len(rows), len(rows) - len(priced), correct, total, per_correct)


def _per_correct(columns: np.ndarray[tuple[int, ...], np.dtype[np.float64]], setting: Setting) -> Figure:
    if len(columns) < setting.least:
        return Figure(None, f"fewer than {setting.least} priced answers")
    if not columns[:, 1].any():
        return Figure(None, "no right answer among them")
    means = resampled(columns, setting.seed, setting.resamples)
    cost, correct = map(float, columns.mean(axis=0))
    return Figure(interval(cost / correct, ratio(means[:, 0], means[:, 1]), setting.level))
