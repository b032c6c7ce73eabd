"""What the report says, question by question: its figures, plots and tables; knows no HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llama_index_hybridmem.costs.figures.spread import TOO_FEW, Spread
from llama_index_hybridmem.costs.figures.summary import Summary
from llama_index_hybridmem.costs.report import tables, wording
from llama_index_hybridmem.costs.report.cost_plots import (
    cost_by_model,
    cost_by_purpose,
    cost_by_route,
    cost_by_tenant,
    spent_by_route,
    unpriced_share,
)
from llama_index_hybridmem.costs.report.month_plot import budget_curve
from llama_index_hybridmem.costs.report.plots import Plot
from llama_index_hybridmem.costs.report.tables import Table
from llama_index_hybridmem.costs.report.time_plots import latency_by_route, latency_curve, time_split, waterfalls
from llama_index_hybridmem.costs.report.trouble_plots import (
    degraded,
    endings,
    endings_by_route,
    price_ages,
    tokens_by_source,
)

_ASKED_NOTHING = "No query was asked."

Draw = Callable[[Summary], "Plot | None"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure that stands out: "$0.0042", what it is, and what belongs to it."""

    name: str
    told: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report.

    Attributes:
        title: the question that it answers.
        lead: the answer in a sentence or two.
        plots: side by side where there is room.
        tables: below them; those without rows are left out.
        markup: HTML or SVG that stands in the page as it is, below the rest: whoever writes it has escaped it.
    """

    title: str
    lead: str = ""
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    markup: str = ""


def headline(summary: Summary) -> str:
    """Say in a sentence what the report is about."""
    if summary.first is None or summary.last is None:
        return "There are no traces to report on."
    when = wording.period(summary.first, summary.last)
    asked = wording.queries(summary.queries.n) if summary.queries.n else "No queries"
    if summary.phase != "query":
        asked += f" of the phase {wording.said(summary.phase)}"
    others = summary.traces - summary.queries.n
    besides = f", and {wording.counted(others, 'other trace')}" if others else ""
    return f"{asked}{besides}. {when}."


def figures(summary: Summary) -> list[Figure]:
    """Choose the six figures that come first."""
    asked, currency = summary.queries, summary.currency
    spent, cost, latency = summary.spending, asked.cost, asked.latency
    troubled = asked.n - asked.statuses.get("ok", 0)
    calls, unpriced = (sum(getattr(use, what) for use in summary.models) for what in ("calls", "unpriced"))
    told = wording.at_least(spent.known, bool(spent.unpriced), currency)
    return [
        Figure("Spent", told, _spent_note(summary)),
        Figure("A query, on average", wording.money(cost.mean if cost else None, currency), _mean_note(summary)),
        Figure(
            "Answered within",
            wording.seconds(latency.p50 if latency else None),
            _latency_note(latency, asked.n),
        ),
        Figure(
            "Retrieval's share",
            wording.share(asked.split.retrieval if asked.split else None),
            f"of the latency; language model {wording.share(asked.split.model)}" if asked.split else "",
        ),
        Figure(
            "Did not end well",
            wording.share(troubled / asked.n if asked.n else None),
            f"{wording.queries(troubled)}; {wording.count(asked.degraded)} lacked a store" if asked.n else "",
        ),
        Figure(
            "Calls without a price",
            wording.share(unpriced / calls if calls else None),
            f"{wording.count(unpriced)} of {wording.counted(calls, 'call')}" if calls else "no model was called",
        ),
    ]


def sections(summary: Summary, extra: Sequence[Section] = ()) -> list[Section]:
    """Answer the questions in the order in which a reader asks them; extra sections stand before the last."""
    if not summary.traces:
        return list(extra)
    return [_cost(summary), _time(summary), _causes(summary), _trouble(summary), *extra, _trust(summary)]


def _cost(summary: Summary) -> Section:
    lead = "" if summary.spending.known else "No call has a price, so that nothing is known of what was spent."
    if summary.spending.known == 0:
        lead = "Nothing was spent: no call of a model costs anything."
    return Section(
        "What did it cost?",
        lead,
        _plots(summary, cost_by_route, cost_by_purpose, budget_curve),
        [tables.route_costs(summary), tables.ledgers(summary)],
    )


def _time(summary: Summary) -> Section:
    latency = summary.queries.latency
    lead = "" if latency else _ASKED_NOTHING
    if summary.queries.n and not latency:
        lead = "No query ended well, so that there is no latency to speak of."
    stages = waterfalls(summary)
    if len(summary.routes) > len(stages) > 0:
        lead = f"Stage by stage stand the {len(stages)} most used of {len(summary.routes):,} routes."
    plots = [*_plots(summary, latency_curve, latency_by_route, time_split), *stages]
    found = [tables.route_latencies(summary), tables.stages(summary)] if latency else []
    return Section("How long did it take, and where?", lead, plots, found)


def _causes(summary: Summary) -> Section:
    others = [tables.group(summary, by) for by in summary.groups if by != "route"]
    return Section(
        "Who and what caused it?",
        "" if summary.models else "No language model, embedding model or reranker was called.",
        _plots(summary, spent_by_route, cost_by_tenant, cost_by_model),
        [tables.tenants(summary), tables.models(summary), *others],
    )


def _trouble(summary: Summary) -> Section:
    plots = _plots(summary, endings, endings_by_route, degraded)
    asked = summary.queries
    lead = "" if asked.n else _ASKED_NOTHING
    if asked.n and not plots:
        lead = "Nothing: every query ended well, with all of its stores."
    elif asked.answered:
        lead = _abstained(asked.abstained, asked.answered)
    found = [
        tables.by_route(summary),
        tables.troubles("Queries that did not end well", summary.errors, "error"),
        tables.troubles("Stores that were missing", summary.degraded, "store"),
    ]
    return Section("What went wrong?", lead, plots, found)


def _abstained(abstained: int, answered: int) -> str:
    """Of those that say; an engine that names no kind of answer may have found none, too."""
    of_them = f"of the {wording.queries(answered)} that say what kind of answer they gave"
    if answered == 1:
        return f"The one query that says what kind of answer it gave found {'none' if abstained else 'one'}."
    part = f" ({wording.share(abstained / answered)})" if abstained else ""
    return f"{wording.count(abstained) if abstained else 'None'} {of_them} found no answer in the sources{part}."


def _trust(summary: Summary) -> Section:
    said = [] if summary.models else ["No model was called, so that nothing was counted or priced."]
    if summary.models and not any(use.unpriced for use in summary.models):
        said.append("Every call has a price.")
    if summary.cached_share is not None:
        cached = wording.share(summary.cached_share)
        said.append(f"{cached} of the language models' input was read from the provider's cache.")
    old = [price for price in summary.prices if tables.is_stale(price)]
    if old:
        said.append(f"{wording.counted(len(old), 'price')} of {len(summary.prices):,} may be out of date.")
    return Section(
        "How far can these figures be trusted?",
        " ".join(said),
        _plots(summary, tokens_by_source, unpriced_share, price_ages),
        [tables.prices(summary)],
    )


def _plots(summary: Summary, *draw: Draw) -> list[Plot]:
    """Those that have something to show."""
    return [drawn for each in draw if (drawn := each(summary)) is not None]


def _latency_note(latency: Spread[float] | None, asked: int) -> str:
    if latency is None:
        return "no query ended well" if asked else "no queries"
    if latency.n < TOO_FEW:
        return f"half of {wording.queries(latency.n)}; too few to say more"
    return f"half of them; 95 of 100 within {wording.seconds(latency.p95)}"


def _spent_note(summary: Summary) -> str:
    spent = summary.spending
    if spent.known is None:
        return "nothing has a price" if summary.traces else ""
    asked = summary.queries.spending.known
    part = "none" if asked is None else wording.money(asked, summary.currency)
    return f"{part} of it by queries" if summary.ledgers else "all by queries"


def _mean_note(summary: Summary) -> str:
    cost = summary.queries.cost
    if cost is None:
        return "no query has a price" if summary.queries.n else "no queries"
    if not cost.p99:
        return "no call costs anything"
    if cost.mean_range is None:
        return f"{wording.queries(cost.n)}: too few for a range"
    low, high = (wording.money(end, summary.currency) for end in (cost.mean_range.low, cost.mean_range.high))
    return f"{low} to {high} with 95 % confidence"
