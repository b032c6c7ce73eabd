"""The plots of what a graph is worth, as SVG for the report's page; knows no traces.

Drawn with the report's own sheet: a phone's width, light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from llama_index_hybridmem.costs.report.drawing import WIDTH, Drawing
from llama_index_hybridmem.costs.report.plots import Plot, plot
from llama_index_hybridmem.costs.report.rows import Row, bars, draw_legend, ticks
from llama_index_hybridmem.costs.report.wording import shortened, width
from llama_index_hybridmem.costs.value import Comparison, ValueReport
from llama_index_hybridmem.costs.worth import words
from llama_index_hybridmem.costs.worth.answer_cost import AnswerCost
from llama_index_hybridmem.costs.worth.balance import Balance, Point
from llama_index_hybridmem.costs.worth.paired import says_nothing

_TOP, _BOTTOM = 26.0, 196.0
_SMALL = 11.0
_COLOURS = ("one", "two")  # without hours of people, with them


def plots(report: ValueReport) -> list[Plot]:
    """Draw what there is to draw: gains, cost of a right answer, the plane, net benefit, probability."""
    found = (gains(report), cost_per_correct(report), plane(report), net_benefit(report), probability(report))
    return [each for each in found if each is not None]


def gains(report: ValueReport) -> Plot:
    """Draw the gain on all questions and on each class, with its interval, around 0."""
    shown: list[Comparison] = [report.everything, *report.classes]
    far = max(0.01, *(abs(end) for each in shown for end in _reach(each)))
    drawing = Drawing(38.0 * len(shown) + 16)
    middle = WIDTH / 2
    drawing.line([(middle, 0), (middle, 38.0 * len(shown))], "line")
    for place, each in enumerate(shown):
        _gain_row(drawing, 38.0 * place, each, middle, middle * 0.98 / far)
    drawing.text(0, drawing.height - 4, "graph worse", size=_SMALL, colour="dim")
    drawing.text(WIDTH, drawing.height - 4, "graph better", size=_SMALL, colour="dim", anchor="right")
    note = "Lines: intervals. Where one crosses the middle, no gain is shown."
    return plot("gains", "Right answers gained, in points", _gains_sentence(shown), drawing, note)


def _gain_row(drawing: Drawing, top: float, found: Comparison, middle: float, scale: float) -> None:
    colour = "dim" if found.verdict == "not shown" else "one"
    told = words.points(found.gain)
    name = shortened(f"{words.class_name(found)}, {found.pairs:,} pairs", WIDTH - width(told) - 10)
    drawing.text(0, top + 12, name)
    drawing.text(WIDTH, top + 12, told, anchor="right", bold=found.verdict != "not shown")
    y, low, mean, high = top + 23, *(middle + scale * end for end in _reach(found))
    drawing.line([(low, y), (high, y)], colour, 2)
    drawing.dot(mean, y, 4, colour)


def _reach(found: Comparison) -> tuple[float, float, float]:
    """Low, mean and high; the mean alone where there is no interval."""
    gain = found.gain
    return (gain.mean, gain.mean, gain.mean) if says_nothing(gain) else (gain.low, gain.mean, gain.high)


def _gains_sentence(found: Sequence[Comparison]) -> str:
    told = [f"{words.class_name(each)} {words.gained(each.gain.mean)}, {words.SAID[each.verdict]}" for each in found]
    return f"{'; '.join(told)}."


def cost_per_correct(report: ValueReport) -> Plot | None:
    """Draw what a right answer cost in each run and on each route."""
    shown = [cost for cost in (*report.runs, *report.routes) if cost.per_correct.value is not None]
    if not shown:
        return None
    rows = [_cost_row(report, cost) for cost in (*report.runs, *report.routes)]
    return plot(
        "cost-per-correct",
        "Cost of a right answer",
        f"{'; '.join(f'{words.cost_name(report, cost)}: {_cost_told(report, cost)}' for cost in shown)}.",
        bars(rows),
        "Models only; the wrong answers are paid for, too. Thin lines: intervals.",
    )


def plane(report: ValueReport) -> Plot | None:
    """Draw resamples of a month: extra right answers against extra cost; below the line it is worth it."""
    money, asked = report.everything.money, report.queries_per_month
    if money is None or asked is None or not money.cloud:
        return None
    name, last = words.balances(money)[-1]
    sent, fixed = asked * report.share_sent, float(last.fixed)
    cloud = [(sent * gained, fixed + sent * more) for gained, more in money.cloud[::2]]
    field = _Field.around([1.05 * x for x, _ in cloud], [1.1 * y for _, y in cloud])
    drawing = Drawing(_BOTTOM + 34)
    _axes(drawing, field, _plain_number, partial(words.amount, currency=report.currency))
    for x, y in cloud:
        drawing.dot(field.x(x), field.y(y), 1.4, "one")
    if report.worth is not None:
        _worth_line(drawing, field, report)
    drawing.text(WIDTH, _BOTTOM + 30, "right answers gained a month", size=_SMALL, colour="dim", anchor="right")
    drawing.text(0, 12, "cost added a month", size=_SMALL, colour="dim")
    sentence = f"{asked:,.0f} queries a month, {name}: each dot is a month as the questions, drawn anew, would have it."
    note = (
        "Below and right of the dashed line an extra answer costs less than it is worth."
        if report.worth is not None
        else ""
    )
    return plot("plane", "Gain and cost together", sentence, drawing, note)


def net_benefit(report: ValueReport) -> Plot | None:
    """Draw what a month gains or loses over the worth of a right answer."""
    curves = _curves(report)
    if not curves:
        return None
    points = [point for _, curve in curves for point in curve]
    field = _Field.around([point.worth for point in points], [end for p in points for end in (p.low, p.high)])
    drawing = Drawing(_BOTTOM + 34)
    money = partial(words.amount, currency=report.currency)
    _axes(drawing, field, money, money)
    for (_, curve), colour in zip(curves, _COLOURS, strict=False):
        corners = [(point.worth, point.low) for point in curve] + [(point.worth, point.high) for point in curve[::-1]]
        drawing.area([(field.x(x), field.y(y)) for x, y in corners], colour)
        drawing.line([(field.x(point.worth), field.y(point.net)) for point in curve], colour, 2)
    draw_legend(drawing, [(name, colour) for (name, _), colour in zip(curves, _COLOURS, strict=False)])
    drawing.text(WIDTH, _BOTTOM + 30, "worth of an extra right answer", size=_SMALL, colour="dim", anchor="right")
    note = "Bands: 95 % intervals. Above 0 the graph pays."
    return plot("net-benefit", "Net benefit of a month", _benefit_sentence(report), drawing, note)


def probability(report: ValueReport) -> Plot | None:
    """Draw how likely the graph pays over the worth of a right answer."""
    curves = _curves(report)
    if not curves:
        return None
    field = _Field(0.0, curves[0][1][-1].worth, 0.0, 1.0)
    drawing = Drawing(_BOTTOM + 34)
    _axes(drawing, field, partial(words.amount, currency=report.currency), lambda share: f"{share:.0%}")
    for (_, curve), colour in zip(curves, _COLOURS, strict=False):
        drawing.line([(field.x(point.worth), field.y(point.probability)) for point in curve], colour, 2)
    draw_legend(drawing, [(name, colour) for (name, _), colour in zip(curves, _COLOURS, strict=False)])
    drawing.text(WIDTH, _BOTTOM + 30, "worth of an extra right answer", size=_SMALL, colour="dim", anchor="right")
    asked = f"{report.queries_per_month:,.0f} queries a month"
    sentence = f"Share of the resamples in which the graph's net benefit is above 0, at {asked}."
    return plot("probability", "How likely it pays", sentence, drawing)


@dataclass(frozen=True, slots=True)
class _Field:
    left: float
    right: float
    bottom: float
    top: float

    @classmethod
    def around(cls, xs: Sequence[float], ys: Sequence[float]) -> _Field:
        """All of them, and 0."""
        left, right, bottom, top = min(0.0, *xs), max(0.0, *xs), min(0.0, *ys), max(0.0, *ys)
        return cls(left, right if right > left else left + 1, bottom, top if top > bottom else bottom + 1)

    def x(self, value: float) -> float:
        return (value - self.left) / (self.right - self.left) * WIDTH

    def y(self, value: float) -> float:
        return _BOTTOM - (value - self.bottom) / (self.top - self.bottom) * (_BOTTOM - _TOP)


def _axes(drawing: Drawing, field: _Field, across: words.Format, up: words.Format) -> None:
    """Thin lines and round values; the lines of 0 are stronger."""
    for value in _round_values(field.bottom, field.top):
        drawing.line([(0, field.y(value)), (WIDTH, field.y(value))], "line", 0.8 if value else 1.6)
        drawing.text(0, field.y(value) - 3, up(value), size=10, colour="dim")
    for value in _round_values(field.left, field.right):
        x = field.x(value)
        drawing.line([(x, _TOP if not value else _BOTTOM), (x, _BOTTOM + 4)], "line", 0.8)
        anchor = "left" if x < 20 else "right" if x > WIDTH - 20 else "center"
        drawing.text(x, _BOTTOM + 15, across(value), size=10, colour="dim", anchor=anchor)


def _round_values(low: float, high: float) -> list[float]:
    """Round values between two ends, 0 among them."""
    step = ticks(max(high, -low))[1]
    return [step * place for place in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _worth_line(drawing: Drawing, field: _Field, report: ValueReport) -> None:
    worth = report.worth or 0.0
    steepest = min(field.right, field.top / worth)
    start = max(field.left, field.bottom / worth)
    ends = [(field.x(x), field.y(worth * x)) for x in (start, steepest)]
    drawing.line(ends, "two", 1.4, (6, 4))


def _curves(report: ValueReport) -> list[tuple[str, Sequence[Point]]]:
    money = report.everything.money
    if money is None:
        return []
    return [(name, each.curve) for name, each in words.balances(money) if each.curve]


def _benefit_sentence(report: ValueReport) -> str:
    money = report.everything.money
    told = [] if money is None else [(name, each) for name, each in words.balances(money)]
    shown = partial(words.amount, currency=report.currency)
    return " ".join(f"{name.capitalize()}: {_break_even(each, shown)}." for name, each in told)


def _break_even(found: Balance, shown: words.Format) -> str:
    price = found.per_extra_correct
    if price.value is None:
        return f"from which worth on it pays cannot be told, because {price.why}"
    return f"it pays from {words.spread(price.value, shown)} for an extra right answer on"


def _cost_row(report: ValueReport, cost: AnswerCost) -> Row:
    found, colour = cost.per_correct.value, "one" if cost.run == report.with_graph else "five"
    ends = None if found is None or math.isinf(found.high) else (found.low, found.high)
    note = f"{cost.answers:,} answers"
    return Row(
        words.cost_name(report, cost),
        None if found is None else found.mean,
        _cost_told(report, cost),
        note,
        ends,
        colour,
    )


def _cost_told(report: ValueReport, cost: AnswerCost) -> str:
    found = cost.per_correct
    return found.why or "" if found.value is None else words.amount(found.value.mean, report.currency)


def _plain_number(value: float) -> str:
    """A round number in full, however small: "2,000", "0.5"."""
    return f"{Decimal(f'{value:.3g}'):,f}".replace("-", "−")
