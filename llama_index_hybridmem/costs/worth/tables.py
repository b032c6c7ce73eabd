"""What a graph is worth, in tables of text for a terminal or a page; pure, computes nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from llama_index_hybridmem.costs.report.tables import Table
from llama_index_hybridmem.costs.report.wording import NONE, name, seconds
from llama_index_hybridmem.costs.value import ValueReport
from llama_index_hybridmem.costs.worth import words
from llama_index_hybridmem.costs.worth.answer_cost import AnswerCost
from llama_index_hybridmem.costs.worth.balance import Balance
from llama_index_hybridmem.costs.worth.paired import says_nothing
from llama_index_hybridmem.statistics import Interval

Row = tuple[str, ...]


def tables(report: ValueReport) -> list[Table]:
    """Give all tables that have a row: answers, the month's costs, the balance, classes, what was left out."""
    found = [answers(report), month(report), balance(report), classes(report), counted(report)]
    return [table for table in found if table.rows]


def answers(report: ValueReport) -> Table:
    """What the answers of each run and route cost."""
    shares = (report.everything.with_graph, report.everything.without_graph)
    runs = [_run(report, cost, words.points(share, "")) for cost, share in zip(report.runs, shares, strict=True)]
    routes = [_run(report, cost, "") for cost in report.routes]
    header = ("answered by", "#answers", "#right, per cent", "#cost per right answer", "#unpriced")
    note = "Models only; the wrong answers are paid for, too. Over the paired questions."
    if says_nothing(report.everything.gain):
        note += " Too few: so few pairs have no interval."
    return Table("Right answers", header, (*runs, *routes), note)


def _run(report: ValueReport, cost: AnswerCost, share: str) -> Row:
    per = words.figure(cost.per_correct, partial(words.amount, currency=report.currency))
    return words.cost_name(report, cost), f"{cost.answers:,}", share, per, f"{cost.unpriced:,}"


def month(report: ValueReport) -> Table:
    """What the graph costs, part by part, and the time it takes."""
    monthly, money = report.monthly, partial(words.amount, currency=report.currency)
    parts = (
        ("a month of compute: building, upkeep", monthly.compute),
        ("a month of rent", monthly.rent),
        ("a month of people: building, cleaning, upkeep", monthly.hours),
    )
    rows: list[Row] = [(name, "not stated" if part is None else money(part)) for name, part in parts]
    found = report.everything.money
    if found is not None:
        rows += _measured(report, "models of a query, with less without", found.difference, money)
    if report.everything.seconds is not None:
        rows += _measured(report, "time of an answer, with less without", report.everything.seconds, _seconds)
    as_of = "" if monthly.as_of is None else f"As of {monthly.as_of}."
    return Table("What the graph costs", ("", "#cost"), rows, as_of)


def _measured(report: ValueReport, what: str, found: Interval, as_text: words.Format) -> list[Row]:
    """A figure and, in a row of its own, its interval: both on one line are too wide for a phone."""
    mean, name = as_text(found.mean), f"its {report.everything.level:.0%} interval"
    if says_nothing(found):
        return [(what, mean), (name, words.TOO_FEW)]
    low, high = as_text(found.low), as_text(found.high)
    return [(what, mean)] if mean == low == high else [(what, mean), (name, f"{low} to {high}")]


def balance(report: ValueReport) -> Table:
    """Gain against cost, without and with hours of people."""
    found = report.everything.money
    if found is None:
        return Table("Gain against cost", (), ())
    named, money = words.balances(found), partial(words.amount, currency=report.currency)

    def row(name: str, told: Callable[[Balance], str]) -> Row:
        return name, *(told(each) for _, each in named)

    rows = [
        row("cost a month more than without", lambda each: words.spread(each.extra, money)),
        row("cost of an extra right answer", lambda each: words.figure(each.per_extra_correct, money)),
    ]
    if report.worth is not None:
        worth = money(report.worth)
        rows += [
            row(f"net benefit a month at {worth}", lambda each: words.spread(each.net, money)),
            row("probability that it is above 0", lambda each: words.likely(each.probability)),
            row(f"queries a month to break even at {worth}", lambda each: words.figure(each.volume, words.count)),
        ]
    return Table("Gain against cost", ("", *(f"#{name}" for name, _ in named)), rows, _volume_note(report))


def _volume_note(report: ValueReport) -> str:
    if report.queries_per_month is None:
        return "No queries per month were given, so fixed costs are spread over none."
    return f"{report.queries_per_month:,.0f} queries a month, {report.share_sent:.0%} of them to the graph path."


def classes(report: ValueReport) -> Table:
    """The same for each class of questions; no rows without classes."""
    money = partial(words.amount, currency=report.currency)
    rows: list[Row] = []
    for each in report.classes:
        last = None if each.money is None else words.balances(each.money)[-1][1]
        price = "unpriced" if last is None else words.figure(last.per_extra_correct, money)
        volume = NONE if last is None or last.volume.value is None else words.spread(last.volume.value, words.count)
        gain = f"{words.points(each.gain)}, {words.SAID[each.verdict]}"
        rows.append((words.class_name(each), f"{each.pairs:,}", gain, price, volume))
    hours = report.monthly.hours is not None
    header: Row = (
        "class",
        "#pairs",
        "#gain, points",
        "#cost of an extra right answer",
        "#queries a month to break even",
    )
    note = (
        f"As if its questions alone went to the graph, {words.HOURS[hours]}. "
        f"{len(report.classes)} classes are as many looks: the intervals hold 95 % all together."
    )
    return Table("By class of question", header, rows, note)


def counted(report: ValueReport) -> Table:
    """What was left out, and how often."""
    rows = [(name(reason), f"{count:,}") for reason, count in report.counted.items()]
    return Table("Left out, or taken for wrong", ("", "#how many"), rows)


def _seconds(value: float) -> str:
    return f"{'−' * (value < 0)}{seconds(abs(value))}"
