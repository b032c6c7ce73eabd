"""The tables of the report, as text in cells; knows no HTML and no terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from llama_index_hybridmem.costs.figures.groups import Group
from llama_index_hybridmem.costs.figures.model_use import PriceUsed
from llama_index_hybridmem.costs.figures.spread import TOO_FEW, TOO_FEW_FOR_P95, Range, Spread
from llama_index_hybridmem.costs.figures.summary import Account, Summary, Trouble
from llama_index_hybridmem.costs.report import wording
from llama_index_hybridmem.costs.report.names import model_name, route_name, tenant_name

STALE_DAYS = 180
"""A price read longer before the last trace is worth another look."""

_MOST = 20
_FEW = "too few"


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        title: what it lists.
        columns: their headings; one that begins with "#" holds figures, and is written without it.
        rows: texts, a cell for each column.
        note: how to read it.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    note: str = ""


def route_costs(summary: Summary) -> Table:
    """What the queries of each route cost."""
    columns = (
        "route",
        "#queries",
        "#share",
        "#spent",
        "#mean",
        "#95 % range",
        "#half below",
        "#95 of 100 below",
        "#unpriced",
    )
    note = (
        "Mean and percentiles of the queries whose every model call has a price. 95 % range: where the mean lies "
        f"(bootstrap). Too few: below {TOO_FEW} of them."
    )
    return Table("Cost by route", columns, [_cost_cells(group, summary.currency) for group in summary.routes], note)


def route_latencies(summary: Summary) -> Table:
    """How long the queries of each route took."""
    columns = (
        "route",
        "#answered",
        "#p50",
        "#p90",
        "#p95",
        "#95 % range",
        "#p99",
        "#first token p50",
        "#first token p95",
    )
    note = (
        "Of queries that ended well. 95 % range: where the true p95 lies. Too few: below "
        f"{TOO_FEW_FOR_P95} of them for that range, below {TOO_FEW} for any percentile above p50."
    )
    return Table("Latency by route", columns, [_latency_cells(group) for group in summary.routes], note)


def ledgers(summary: Summary) -> Table:
    """What was paid for besides queries."""
    rows = [_account_cells(wording.name(each.name or wording.NONE), each, summary.currency) for each in summary.ledgers]
    note = "Kept out of every figure per query."
    return Table("Besides the queries", ("ledger", "#traces", "#spent", "#unpriced", "#time"), rows, note)


def tenants(summary: Summary) -> Table:
    """What each tenant's traces cost."""
    named = any(each.name is not None for each in summary.tenants)
    shown = summary.tenants[:_MOST] if named else ()
    rows = [_account_cells(tenant_name(each), each, summary.currency) for each in shown]
    more = len(summary.tenants) - len(shown)
    note = (
        f"The {_MOST} dearest of {wording.counted(len(summary.tenants), 'tenant')}; --json has all."
        if named and more
        else ""
    )
    return Table("Tenants", ("tenant", "#traces", "#spent", "#unpriced", "#time"), rows, note)


def models(summary: Summary) -> Table:
    """Every model, adapter and provider."""
    numbers = ("calls", "tokens in", "cached", "out", "cost", "unpriced", "uncounted", "failed", "p50", "p95")
    columns = ("model", "provider", "kind", *(f"#{number}" for number in numbers))
    rows = [
        (
            model_name(use),
            wording.name(use.provider or wording.NONE),
            use.kind,
            wording.count(use.calls),
            wording.tokens(use.input),
            wording.tokens(use.cached_read),
            wording.tokens(use.output),
            wording.money(use.cost, summary.currency),
            wording.count(use.unpriced),
            wording.count(use.uncounted),
            wording.count(use.failed),
            *_times(use.latency)[:3:2],
        )
        for use in summary.models[:_MOST]
    ]
    return Table("Models", columns, rows, "All traces, whatever they were made for.")


def stages(summary: Summary) -> Table:
    """What the stages of all queries took."""
    rows: list[tuple[str, ...]] = [
        (
            wording.name(each.name),
            wording.count(each.n),
            wording.seconds(each.mean_s),
            wording.share(each.share),
            wording.seconds(each.cpu_s),
            f"{each.calls:.1f}",
        )
        for each in summary.queries.stages[:_MOST]
    ]
    rows += _elsewhere(summary)
    note = (
        "Of queries that ended well. Mean and CPU: of those that had the stage, stages inside it left out. Share: of "
        "the time of all; stages side by side add up to more. elsewhere: in no stage, at least."
    )
    return Table("Stages", ("stage", "#queries", "#mean", "#share", "#CPU", "#calls"), rows, note)


def _elsewhere(summary: Summary) -> list[tuple[str, ...]]:
    """The time that no stage accounts for, where there are stages."""
    split, latency = summary.queries.split, summary.queries.latency
    if split is None or latency is None or not split.elsewhere:
        return []
    mean = wording.seconds(split.elsewhere * latency.mean)
    return [("elsewhere", wording.count(latency.n), mean, wording.share(split.elsewhere), wording.NONE, wording.NONE)]


def group(summary: Summary, by: str) -> Table:
    """The queries grouped by something else than the route."""
    rows = [
        (
            wording.name(each.name) if each.name is not None else wording.NONE,
            wording.count(each.n),
            wording.at_least(each.spending.known, bool(each.spending.unpriced), summary.currency),
            _mean(each, summary.currency),
            *_times(each.latency)[:3:2],
            wording.share(1 - each.statuses.get("ok", 0) / each.n),
            wording.share(each.degraded / each.n),
        )
        for each in summary.groups[by][:_MOST]
    ]
    columns = (by.removeprefix("tags."), "#queries", "#spent", "#mean cost", "#p50", "#p95", "#not ok", "#degraded")
    return Table(f"Queries by {columns[0]}", columns, rows)


def troubles(title: str, found: Iterable[Trouble], what: str) -> Table:
    """What went wrong, with the most frequent reasons."""
    rows = [
        (wording.ending(each.name), wording.count(each.n), wording.share(each.share), _reasons(each))
        for each in list(found)[:_MOST]
    ]
    return Table(title, (what, "#queries", "#share", "most often"), rows)


def by_route(summary: Summary) -> Table:
    """How the queries of each route ended."""
    rows = [
        (
            route_name(each),
            wording.count(each.n),
            wording.share(1 - each.statuses.get("ok", 0) / each.n),
            wording.share(each.degraded / each.n),
            wording.share(each.abstained / each.answered if each.answered else None),
            wording.share(each.spending.unpriced / each.n),
        )
        for each in summary.routes
    ]
    note = "abstained: of the queries that ended well and say what kind of answer they gave."
    return Table("By route", ("route", "#queries", "#not ok", "#degraded", "#abstained", "#unpriced"), rows, note)


def prices(summary: Summary) -> Table:
    """Where the prices come from, and how old they are."""
    rows = [
        (
            wording.name(each.source),
            wording.count(each.calls),
            wording.money(each.cost, summary.currency),
            each.read or "no date",
            _age(each),
        )
        for each in summary.prices[:_MOST]
    ]
    note = f"Age at the last trace. Stale: older than {STALE_DAYS} days." if rows else ""
    return Table("Prices", ("source", "#calls priced", "#cost", "#read", "#age"), rows, note)


def is_stale(price: PriceUsed) -> bool:
    """Tell whether a price is worth another look; those of a price book say so themselves."""
    return (price.age_days or 0) > STALE_DAYS or price.source.endswith(", stale")


def _cost_cells(group: Group, currency: str) -> tuple[str, ...]:
    cost = group.cost
    return (
        route_name(group),
        wording.count(group.n),
        wording.share(group.share),
        wording.at_least(group.spending.known, bool(group.spending.unpriced), currency),
        _mean(group, currency),
        wording.NONE if cost is None else _money_range(cost.mean_range, currency),
        wording.NONE if cost is None else wording.money(cost.p50, currency),
        wording.NONE if cost is None else _FEW if cost.n < TOO_FEW else wording.money(cost.p95, currency),
        wording.count(group.spending.unpriced),
    )


def _latency_cells(group: Group) -> tuple[str, ...]:
    latency = group.latency
    p50, p90, p95, p99 = _times(latency)
    answered = wording.count(0 if latency is None else latency.n)
    known = wording.NONE if latency is None else _seconds_range(latency.p95_range)
    return route_name(group), answered, p50, p90, p95, known, p99, *_times(group.first_token)[:3:2]


def _mean(group: Group, currency: str) -> str:
    return wording.money(None if group.cost is None else group.cost.mean, currency)


def _times(spread: Spread[float] | None) -> tuple[str, str, str, str]:
    """The four percentiles; of few values the half alone."""
    if spread is None:
        return (wording.NONE,) * 4
    p50 = wording.seconds(spread.p50)
    if spread.n < TOO_FEW:
        return p50, _FEW, _FEW, _FEW
    p90, p95, p99 = (wording.seconds(each) for each in (spread.p90, spread.p95, spread.p99))
    return p50, p90, p95, p99


def _account_cells(name: str, account: Account, currency: str) -> tuple[str, ...]:
    spent = wording.at_least(account.spending.known, bool(account.spending.unpriced), currency)
    return (
        name,
        wording.count(account.traces),
        spent,
        wording.count(account.spending.unpriced),
        wording.seconds(account.wall_s),
    )


def _money_range(found: Range[Decimal] | None, currency: str) -> str:
    return _FEW if found is None else f"{wording.money(found.low, currency)} – {wording.money(found.high, currency)}"


def _seconds_range(found: Range[float] | None) -> str:
    return _FEW if found is None else f"{wording.seconds(found.low)} – {wording.seconds(found.high)}"


def _reasons(trouble: Trouble) -> str:
    return "; ".join(f"{wording.clean(text)} ({count:,})" for text, count in trouble.reasons) or wording.NONE


def _age(price: PriceUsed) -> str:
    days = wording.NONE if price.age_days is None else wording.counted(price.age_days, "day")
    return f"{days}, stale" if is_stale(price) else days
