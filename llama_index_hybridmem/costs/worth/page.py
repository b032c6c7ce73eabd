"""What a graph is worth as a page that loads nothing, or as sections of another; knows no traces."""

from __future__ import annotations

from functools import partial

from llama_index_hybridmem import extras
from llama_index_hybridmem.costs.report.page import compose
from llama_index_hybridmem.costs.report.plots import Plot
from llama_index_hybridmem.costs.report.sections import Figure, Section
from llama_index_hybridmem.costs.value import ValueReport
from llama_index_hybridmem.costs.worth import tables, words
from llama_index_hybridmem.costs.worth.plots import cost_per_correct, gains, net_benefit, plane, probability

TITLE = "What the graph is worth"

_NOTES = (
    "Intervals are paired bootstraps over questions and hold 95 %, those of the classes all together. A gain whose "
    "interval holds 0 is not shown, and has no price. Nothing unknown is counted as zero."
)
_LIMITS = (
    "The costs are bills; the gain is an estimate from the questions that were asked, and holds for questions like "
    "them. It says nothing of answers that a judge took for right, of questions that nobody thought of, or of the "
    "graph that could be built with other settings."
)


def sections(report: ValueReport) -> list[Section]:
    """Give the parts of the page: gain, money, limits; they fit into `report.page.render`, too."""
    gained: list[Plot | None] = [gains(report), cost_per_correct(report)]
    paid = [plane(report), net_benefit(report), probability(report)]
    classes = " ".join(words.class_verdicts(report))
    return [
        Section(
            "Does the graph answer more questions right?",
            f"{words.gain_verdict(report)} {classes}".strip(),
            [each for each in gained if each is not None],
            [tables.answers(report), tables.classes(report)],
        ),
        Section(
            "Is that worth what it costs?",
            words.money_verdict(report),
            [each for each in paid if each is not None],
            [tables.balance(report), tables.month(report)],
        ),
        Section("What do these figures not say?", _LIMITS, (), [tables.counted(report)]),
    ]


def figures(report: ValueReport) -> list[Figure]:
    """Choose what stands out: the gain, the price of an extra answer, the volume, the chance."""
    everything, money = report.everything, partial(words.amount, currency=report.currency)
    gain = Figure("Right answers gained", words.gained(everything.gain.mean), _gain_note(report))
    if everything.money is None:
        return [gain]
    name, last = words.balances(everything.money)[-1]
    price, volume = last.per_extra_correct, last.volume
    found = [gain, Figure("An extra right answer", money(price.value.mean) if price.value else "not shown", name)]
    if report.worth is not None and volume.value is not None:
        at = f"queries a month, at {money(report.worth)} an answer, {name}"
        found.append(Figure("Pays from", words.count(volume.value.mean), at))
    if last.probability is not None and report.queries_per_month is not None:
        at = f"at {report.queries_per_month:,.0f} queries a month"
        found.append(Figure("Probability that it pays", words.likely(last.probability), at))
    return found


def page(report: ValueReport, *, source: str = "", made: str = "") -> str:
    """Write the page.

    Args:
        report: what was found.
        source: where the traces come from, as text.
        made: when, as text; without it the same report gives the same bytes.

    Raises:
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    extras.require("the page of hybridmem value", "report", "jinja2", "matplotlib")
    shown, parts = figures(report), sections(report)
    return compose(TITLE, words.verdict(report), shown, parts, notes=_NOTES, source=source, made=made)


def _gain_note(report: ValueReport) -> str:
    found = report.everything
    return f"points, on {found.pairs:,} paired questions; {words.SAID[found.verdict]}"
