"""The plot of spending, month by month, with the limit and the straight line to the month's end; knows no trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from llama_index_hybridmem.costs.figures.spending import Month
from llama_index_hybridmem.costs.figures.summary import Summary
from llama_index_hybridmem.costs.report import wording
from llama_index_hybridmem.costs.report.drawing import WIDTH, Drawing, Point
from llama_index_hybridmem.costs.report.plots import Plot, plot
from llama_index_hybridmem.costs.report.rows import ticks

_TOP, _BOTTOM, _HEIGHT = 14.0, 176.0, 196.0
_SMALL = 11.0
_MOST_LABELLED = 6


def budget_curve(summary: Summary) -> Plot | None:
    """Draw what was spent by when; nothing while nothing is known to be spent."""
    if not any(month.known for month in summary.months):
        return None
    field = _field(summary)
    drawing = Drawing(_HEIGHT)
    _grid(drawing, field, summary.currency)
    _dates(drawing, field, summary.months)
    for month in summary.months:
        _curve(drawing, field, month)
    _earlier(drawing, field, summary)
    _outlook(drawing, field, summary)
    _limit(drawing, field, summary)
    note = "Calendar months, UTC. Dotted: the pace so far, drawn on; it is no forecast." if summary.outlook else ""
    return plot("budget", "Spent, month by month", month_sentence(summary), drawing, note or "Calendar months, UTC.")


@dataclass(frozen=True, slots=True)
class _Field:
    start: float
    end: float
    highest: float

    def x(self, when: float) -> float:
        return (when - self.start) / (self.end - self.start) * WIDTH

    def y(self, spent: Decimal | float) -> float:
        return _BOTTOM - float(spent) / self.highest * (_BOTTOM - _TOP - 12)


def _field(summary: Summary) -> _Field:
    months = summary.months
    heights = [float(month.known) for month in months]
    if summary.outlook is not None:
        heights.append(float(summary.outlook.projected))
    if summary.limit is not None:
        heights.append(float(summary.limit))
    return _Field(months[0].start, months[-1].end, max(heights))


def _grid(drawing: Drawing, field: _Field, currency: str) -> None:
    values = ticks(field.highest, 5)
    for value, told in zip(values, wording.scale_money(values, currency), strict=True):
        drawing.line([(0, field.y(value)), (WIDTH, field.y(value))], "line", 0.8)
        if value:
            drawing.text(0, field.y(value) - 3, told, size=10, colour="dim")


def _dates(drawing: Drawing, field: _Field, months: Sequence[Month]) -> None:
    below = _BOTTOM + 14
    if len(months) == 1:
        drawing.text(0, below, wording.day(months[0].start, year=False), size=_SMALL, colour="dim")
        last = wording.day(months[0].end - 1)
        drawing.text(WIDTH, below, last, size=_SMALL, colour="dim", anchor="right")
        return
    room, upto = 46.0, float("-inf")
    for month in months:
        x = field.x(month.start)
        drawing.line([(x, _BOTTOM), (x, _BOTTOM + 4)], "line", 0.8)
        if x >= upto and x + room <= WIDTH + 8:
            drawing.text(x, below, month.name, size=_SMALL, colour="dim")
            upto = x + room + 8


def _curve(drawing: Drawing, field: _Field, month: Month) -> None:
    """Steps, from nothing: money is spent at moments."""
    points = [(field.x(month.curve[0][0]), _BOTTOM)]
    for when, spent in month.curve:
        points += [(field.x(when), points[-1][1]), (field.x(when), field.y(spent))]
    drawing.area([*points, (points[-1][0], _BOTTOM)], "one")
    drawing.line(points, "one", 2)
    drawing.dot(*points[-1], 3, "one")


def _earlier(drawing: Drawing, field: _Field, summary: Summary) -> None:
    """What earlier months came to, while there is room to write it."""
    if len(summary.months) > _MOST_LABELLED:
        return
    for month in summary.months[:-1]:
        x, told = field.x(month.curve[-1][0]), wording.money(month.known, summary.currency)
        anchor = "left" if x < 50 else "right"
        drawing.text(x, field.y(month.known) - 6, told, size=_SMALL, colour="dim", anchor=anchor)


def _outlook(drawing: Drawing, field: _Field, summary: Summary) -> None:
    """What the last month came to, and the line to its end."""
    month, outlook = summary.months[-1], summary.outlook
    now = field.x(month.curve[-1][0]), field.y(month.known)
    _spent(drawing, field, summary, now)
    if outlook is None or field.x(month.end) - now[0] < 12:
        return
    end = field.x(month.end), field.y(outlook.projected)
    drawing.line([now, end], "one", 1.6, (2, 3))
    if end[0] - now[0] > 70 and now[1] - end[1] > 14:
        below = 18 if _is_near_limit(field, summary, end[1]) else -6
        told = wording.money(outlook.projected, summary.currency)
        drawing.text(end[0], end[1] + below, told, anchor="right", colour="dim")


def _spent(drawing: Drawing, field: _Field, summary: Summary, now: Point) -> None:
    """Beside the curve's end: above, to its left, or below, to its right, where the limit's line is in the way."""
    told = wording.money(summary.months[-1].known, summary.currency)
    has_room = now[0] + 6 + wording.width(told) < WIDTH
    if has_room and (now[0] < 70 or _is_near_limit(field, summary, now[1])):
        drawing.text(now[0] + 6, now[1] + 14, told, bold=True)
    else:
        drawing.text(now[0] - 6, now[1] - 6, told, anchor="right", bold=True)


def _is_near_limit(field: _Field, summary: Summary, y: float) -> bool:
    return summary.limit is not None and y - 20 < field.y(summary.limit) < y + 2


def _limit(drawing: Drawing, field: _Field, summary: Summary) -> None:
    if summary.limit is None:
        return
    y = field.y(summary.limit)
    drawing.line([(0, y), (WIDTH, y)], "two", 1.4, (6, 4))
    told = f"limit {wording.round_money(summary.limit, summary.currency)}"
    month = summary.months[0]
    early = month.reached is not None and field.x(month.reached) < 64 + wording.width(told, _SMALL)
    if early:  # written where no curve is
        drawing.text(WIDTH, y + 14, told, size=_SMALL, colour="two", anchor="right", bold=True)
    else:
        drawing.text(64, y - 4, told, size=_SMALL, colour="two", bold=True)


def month_sentence(summary: Summary) -> str:
    """Say what the last month came to, and where it goes; there must be one."""
    month, currency = summary.months[-1], summary.currency
    spent = wording.money(month.known, currency)
    upto = f"was spent in {wording.month(month.name)} up to {wording.day(month.curve[-1][0], year=False)}"
    said = f"At least {spent} {upto}" if summary.spending.unpriced else f"{spent} {upto}"
    if summary.outlook is not None:
        said += f"; at that pace the month ends at {wording.money(summary.outlook.projected, currency)}"
    return f"{said}." if summary.limit is None else f"{said}. {_against_limit(summary, month)}"


def _against_limit(summary: Summary, month: Month) -> str:
    limit = wording.round_money(summary.limit or Decimal(0), summary.currency)
    if month.reached is not None:
        return f"The limit of {limit} was reached on {wording.day(month.reached, year=False)}."
    if summary.outlook is not None and summary.outlook.reaches is not None:
        return f"The limit of {limit} would be reached on {wording.day(summary.outlook.reaches, year=False)}."
    return f"The limit of {limit} is not reached."
