"""What a graph is worth, in plain sentences and short figures; pure, computes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal

from llama_index_hybridmem.costs.report.wording import NONE, money, name
from llama_index_hybridmem.costs.value import Comparison, Money, ValueReport
from llama_index_hybridmem.costs.worth.answer_cost import AnswerCost
from llama_index_hybridmem.costs.worth.balance import Balance
from llama_index_hybridmem.costs.worth.paired import LEAST_DIFFERENT, Figure, Verdict, says_nothing
from llama_index_hybridmem.statistics import Interval

HOURS = {False: "without hours of people", True: "with hours of people"}
"""Names of the two balances."""

_ENDLESS = 100_000  # questions that nobody will judge

SAID: dict[Verdict, str] = {"better": "shown", "worse": "a loss, shown", "not shown": "not shown"}
"""A verdict in a word or two."""

TOO_FEW = "too few"
"""Stands for the interval of a figure that rests on too few questions to have one."""

Format = Callable[[float], str]


def verdict(report: ValueReport) -> str:
    """Say in a few sentences what was found, the gain first; "not shown" where the interval says so."""
    return f"{gain_verdict(report)} {money_verdict(report)}"


def gain_verdict(report: ValueReport) -> str:
    """Say whether the graph answers more questions right."""
    return _gain_sentence(report.everything, "The graph's gain")


def money_verdict(report: ValueReport) -> str:
    """Say what a gained answer costs, how likely it is worth that, and what nobody stated."""
    found, missing = report.everything.money, [part for part in report.monthly.not_stated if part != "hours"]
    if found is None:
        return "No pair of answers is priced, so nothing can be said of the costs."
    told = [_price_sentence(report, hours, each) for hours, each in balances(found)]
    hours, last = balances(found)[-1]
    if last.probability is not None:
        told.append(_chance(report, hours, last))
    if missing:
        told.append(f"Not stated, and so in no figure: the graph's {' and '.join(missing)}.")
    return " ".join(filter(None, told))


def class_verdicts(report: ValueReport) -> list[str]:
    """Say the same of the gain on each class of questions."""
    return [_gain_sentence(each, f"The gain on {class_name(each)} questions") for each in report.classes]


def gained(share: float) -> str:
    """A difference of two shares in points, with its sign."""
    return _signed(100 * share, "+.1f")


def points(found: Interval, sign: str = "+") -> str:
    """A share, or a difference of two, in per cent points with its interval."""
    if says_nothing(found):
        return f"{_signed(100 * found.mean, f'{sign}.1f')} ({TOO_FEW})"
    mean, low, high = (_signed(100 * each, f"{sign}.1f") for each in (found.mean, found.low, found.high))
    return f"{mean} ({low} to {high})"


def amount(value: float | Decimal, currency: str) -> str:
    """Money as the reports write it; "∞" without end."""
    number = float(value)
    return money(Decimal(f"{number:.10g}"), currency) if math.isfinite(number) else "∞"


def count(value: float) -> str:
    """A number of questions or queries, to two digits that count; "never" without end."""
    if not math.isfinite(value):
        return "never"
    digits = 1 - math.floor(math.log10(value)) if value >= 1 else 0
    return f"{round(value, min(digits, 0)):,.0f}"


def spread(found: Interval | None, as_text: Format) -> str:
    """A value with its interval, where the two differ as written; a dash for none."""
    if found is None:
        return NONE
    if says_nothing(found):
        return f"{as_text(found.mean)} ({TOO_FEW})"
    mean, low, high = (as_text(each) for each in (found.mean, found.low, found.high))
    return mean if low == mean == high else f"{mean} ({low} to {high})"


def figure(found: Figure, as_text: Format) -> str:
    """A figure with its interval, or in its place the reason why there is none."""
    return found.why or NONE if found.value is None else spread(found.value, as_text)


def cost_name(report: ValueReport, cost: AnswerCost) -> str:
    """A run's name, or with one of its routes."""
    run, route = name(cost.run), "no route" if cost.route is None else name(cost.route)
    return run if any(cost is each for each in report.runs) else f"{run}: {route}"


def class_name(found: Comparison) -> str:
    """The class of a comparison, or that it is of all questions."""
    return "all" if found.question_class is None else name(found.question_class)


def balances(found: Money) -> list[tuple[str, Balance]]:
    """The balances there are, named."""
    named = [(HOURS[False], found.without_hours)]
    return named if found.with_hours is None else [*named, (HOURS[True], found.with_hours)]


def _gain_sentence(found: Comparison, subject: str) -> str:
    if says_nothing(found.gain):
        told = f"{gained(found.gain.mean)} points on {_pairs(found)}, too few to say more"
        return f"{subject} is not shown: {told}{_needed(found)}."
    mean, low, high = (_signed(100 * each, "+.1f") for each in (found.gain.mean, found.gain.low, found.gain.high))
    told = f"{mean} points, interval {low} to {high}, on {_pairs(found)}"
    if found.verdict == "better":
        return f"{subject} is shown: {told}."
    if found.verdict == "worse":
        return f"{subject} is a loss, and that is shown: {told}."
    few = f", {found.differ or 'none'} of them answered differently" if found.differ < LEAST_DIFFERENT else ""
    return f"{subject} is not shown: {told}{few}{_needed(found)}."


def _pairs(found: Comparison) -> str:
    return f"{found.pairs:,} paired question{'' if found.pairs == 1 else 's'}"


def _needed(found: Comparison) -> str:
    if found.needed is None:
        return ""
    size = "gain" if found.gain.mean > 0 else "loss"
    if found.needed > _ENDLESS:
        return f"; so small a {size} would take more than {_ENDLESS:,}"
    return f"; about {count(found.needed)} would show a {size} of that size four times in five"


def _price_sentence(report: ValueReport, hours: str, found: Balance) -> str:
    price = found.per_extra_correct.value
    if price is None:
        return ""
    if price.mean <= 0:
        return f"The graph answers more and costs less, {hours}."
    return f"An extra right answer costs {spread(price, lambda value: amount(value, report.currency))} {hours}."


def _chance(report: ValueReport, hours: str, found: Balance) -> str:
    at = f"At {amount(report.worth or 0, report.currency)} for one and {report.queries_per_month:,.0f} queries a month"
    pays = f"{at} the graph pays with a probability of {likely(found.probability)} {hours}"
    volume = found.volume.value
    if volume is None or not math.isfinite(volume.mean):
        return f"{pays}; by these answers it never breaks even."
    return (
        f"{pays}; it breaks even at {count(volume.mean)} queries a month ({count(volume.low)} to {count(volume.high)})."
    )


def likely(probability: float | None) -> str:
    """A probability in per cent, never 0 nor 100, which no sample shows; a dash for none."""
    if probability is None:
        return NONE
    if 0.01 <= probability <= 0.99:
        return f"{probability:.0%}"
    return "over 99%" if probability > 0.5 else "under 1%"


def _signed(value: float, form: str) -> str:
    return f"{round(value, 1) + 0.0:{form}}".replace("-", "−")  # + 0.0: no "−0.0"
