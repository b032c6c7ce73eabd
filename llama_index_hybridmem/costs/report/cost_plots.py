"""The plots of what was spent, and by whom: routes, ledgers, tenants, models, what has no price; knows no trace."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from llama_index_hybridmem.costs.figures.groups import Group
from llama_index_hybridmem.costs.figures.spending import most_first
from llama_index_hybridmem.costs.figures.spread import TOO_FEW
from llama_index_hybridmem.costs.figures.summary import Account, Summary
from llama_index_hybridmem.costs.report import wording
from llama_index_hybridmem.costs.report.names import by_route, model_name, not_all, route_name, tenant_name
from llama_index_hybridmem.costs.report.plots import Plot, first, plot
from llama_index_hybridmem.costs.report.rows import Row, bars

_MOST = 8


def cost_by_route(summary: Summary) -> Plot | None:
    """Draw the mean cost of a query of each route, with its range."""
    known = [group for group in summary.routes if group.cost is not None and group.cost.mean]
    if not known:
        return None
    shown = sorted(summary.routes, key=lambda group: -(group.cost.mean if group.cost else Decimal(-1)))[: _MOST + 1]
    rows = [_cost_row(group, summary.currency) for group in shown]
    note = f"Thin line: where the mean lies with 95 % confidence; none below {TOO_FEW} queries."
    sentence = _cost_sentence(summary, known)
    return plot("cost-by-route", "Cost of a query, by route", sentence, bars(rows), note + not_all(len(rows), summary))


def cost_by_purpose(summary: Summary) -> Plot | None:
    """Draw what was spent on queries and on each ledger beside them; nothing where there are queries alone."""
    whole = summary.spending.known
    if not whole or not summary.ledgers:
        return None
    asked = summary.queries
    spent = [("queries", asked.spending.known, wording.queries(asked.n), "one")] if asked.n else []
    shown, others = first(summary.ledgers, _MOST)
    for each in shown:
        name = wording.name(each.name or wording.NONE)
        spent.append((name, each.spending.known, wording.counted(each.traces, "trace"), "three"))
    if others:
        spent.append((f"{len(others):,} others", _together(others), "", "five"))
    rows = [_money_row(name, cost, whole, summary.currency, note, colour) for name, cost, note, colour in spent]
    part, known = _part(asked.spending.known, whole), wording.money(whole, summary.currency)
    sentence = f"{part} of the {known} that is known went to answering queries." if asked.n else "No query was asked."
    return plot("cost-by-purpose", "What it was spent on", sentence, bars(rows))


def spent_by_route(summary: Summary) -> Plot | None:
    """Draw what the queries of each route cost together; nothing for one route alone."""
    whole = summary.queries.spending.known
    if not whole or len(summary.routes) < 2:
        return None
    ordered = sorted(summary.routes, key=lambda group: most_first(group.spending))[: _MOST + 1]
    rows = [
        _money_row(route_name(group), group.spending.known, whole, summary.currency, wording.queries(group.n))
        for group in ordered
    ]
    dearest = ordered[0]
    sentence = (
        f"{_part(dearest.spending.known, whole)} of what queries cost is that of queries {by_route(dearest)}, "
        f"{wording.share(dearest.share)} of all."
    )
    return plot("spent-by-route", "Spent by route", sentence, bars(rows), not_all(len(rows), summary).strip())


def cost_by_tenant(summary: Summary) -> Plot | None:
    """Draw what each tenant's traces cost, the dearest first, the others together."""
    whole = summary.spending.known
    dearest = next((each for each in summary.tenants if each.name is not None and each.spending.known), None)
    if not whole or dearest is None:
        return None
    shown, others = first(summary.tenants, _MOST)
    rows = [_account_row(tenant_name(each), each, whole, summary.currency) for each in shown]
    if others:
        rows.append(_money_row(f"{len(others):,} others", _together(others), whole, summary.currency, colour="five"))
    sentence = (
        f"{wording.said(tenant_name(dearest))} caused {wording.money(dearest.spending.known, summary.currency)} of the "
        f"{wording.money(whole, summary.currency)} that is known, {_part(dearest.spending.known, whole)}."
    )
    untagged = next((each.spending.known for each in summary.tenants if each.name is None), None)
    if untagged:
        sentence += f" {_part(untagged, whole)} is tagged with no tenant."
    return plot("cost-by-tenant", "Cost by tenant", sentence, bars(rows))


def cost_by_model(summary: Summary) -> Plot | None:
    """Draw what each model cost."""
    whole = summary.spending.known
    if not whole:
        return None
    shown, others = first(summary.models, _MOST)
    rows = [
        _money_row(model_name(use), use.cost, whole, summary.currency, wording.counted(use.calls, "call"))
        for use in shown
    ]
    if others:
        together = sum((use.cost or Decimal(0) for use in others), Decimal(0))
        rows.append(_money_row(f"{len(others):,} others", together, whole, summary.currency, colour="five"))
    dearest = shown[0]
    sentence = f"{wording.said(model_name(dearest))} took {_part(dearest.cost, whole)} of what is known to be spent."
    return plot("cost-by-model", "Cost by model", sentence, bars(rows))


def unpriced_share(summary: Summary) -> Plot | None:
    """Draw which models have calls without a price; nothing when every call has one."""
    missing = sorted((use for use in summary.models if use.unpriced), key=lambda use: -use.unpriced)
    if not missing:
        return None
    shown, others = first(missing, _MOST)
    rows = [_unpriced_row(model_name(use), use.unpriced, use.calls) for use in shown]
    if others:
        calls = sum(use.calls for use in others)
        rows.append(_unpriced_row(f"{len(others):,} others", sum(use.unpriced for use in others), calls))
    unpriced, calls = sum(use.unpriced for use in missing), sum(use.calls for use in summary.models)
    sentence = (
        f"{wording.count(unpriced)} of {wording.counted(calls, 'call')} ({wording.share(unpriced / calls)}) have no "
        f"price; what they cost is in no sum of this page."
    )
    return plot("unpriced", "Calls without a price, by model", sentence, bars(rows, whole=1.0))


def _cost_row(group: Group, currency: str) -> Row:
    if group.cost is None:
        return Row(route_name(group), None, "no price", wording.queries(group.n))
    known = group.cost.mean_range
    ends = None if known is None else (float(known.low), float(known.high))
    told = wording.money(group.cost.mean, currency)
    return Row(route_name(group), float(group.cost.mean), told, wording.queries(group.cost.n), ends)


def _cost_sentence(summary: Summary, known: Sequence[Group]) -> str:
    means = sorted((group.cost.mean, by_route(group)) for group in known if group.cost is not None)
    (least, cheap), (most, dear) = means[0], means[-1]
    whose = f" {dear}" if len(summary.routes) > 1 else ""
    said = f"A query{whose} costs {wording.money(most, summary.currency)} on average"
    if len(means) > 1:
        cheaper = f"one {cheap} ({wording.money(least, summary.currency)})"
        said += f", {most / least:.0f} times as much as {cheaper}" if least and most > 2 * least else f", {cheaper}"
    missing = summary.queries.spending.unpriced
    left_out = "has no price and is left out" if missing == 1 else "have no price and are left out"
    return f"{said}." + (f" {wording.queries(missing)} {left_out}." if missing else "")


def _account_row(name: str, account: Account, whole: Decimal, currency: str) -> Row:
    return _money_row(name, account.spending.known, whole, currency, wording.counted(account.traces, "trace"))


def _money_row(
    name: str, cost: Decimal | None, whole: Decimal, currency: str, note: str = "", colour: str = "one"
) -> Row:
    if cost is None:
        return Row(name, None, "no price", note)
    told = f"{wording.money(cost, currency)} · {wording.share(float(cost / whole))}"
    return Row(name, float(cost), told, note, colour=colour)


def _together(accounts: Sequence[Account]) -> Decimal:
    return sum((each.spending.known or Decimal(0) for each in accounts), Decimal(0))


def _unpriced_row(name: str, unpriced: int, calls: int) -> Row:
    told = f"{wording.count(unpriced)} of {wording.count(calls)}"
    return Row(name, unpriced / calls, told, wording.share(unpriced / calls), colour="two")


def _part(cost: Decimal | None, whole: Decimal) -> str:
    return wording.share(float((cost or Decimal(0)) / whole))
