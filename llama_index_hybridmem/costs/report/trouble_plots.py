"""The plots of what went wrong, and of how far the figures can be trusted; knows no trace."""

from __future__ import annotations

from collections.abc import Sequence

from llama_index_hybridmem.costs.figures.model_use import UNKNOWN, Counted, PriceUsed
from llama_index_hybridmem.costs.figures.summary import Summary, Trouble
from llama_index_hybridmem.costs.report import wording
from llama_index_hybridmem.costs.report.names import by_route, not_all, route_name
from llama_index_hybridmem.costs.report.plots import Plot, first, plot
from llama_index_hybridmem.costs.report.rows import Row, Stack, bars, stacks
from llama_index_hybridmem.costs.report.tables import STALE_DAYS, is_stale

_MOST = 7
_SOURCES = (("reported", "one"), ("extracted", "three"), ("estimated", "four"), (UNKNOWN, "five"))
_KINDS = {"llm": "language models", "embedding": "embeddings", "rerank": "rerankers"}


def endings(summary: Summary) -> Plot | None:
    """Draw how many queries did not end well, and how; nothing when all did."""
    bad = {status: count for status, count in summary.queries.statuses.items() if status != "ok"}
    if not bad:
        return None
    whole = summary.queries.n
    rows = [
        Row(wording.ending(status), count / whole, wording.share(count / whole), wording.queries(count), colour="two")
        for status, count in bad.items()
    ]
    failed = sum(bad.values())
    said = f"{wording.count(failed)} of {wording.queries(whole)} ({wording.share(failed / whole)}) did not end well."
    note = "abandoned: a stream closed early. never read: a stream that nobody read."
    kept = note if bad.keys() & {"abandoned", "never_consumed"} else ""
    return plot("endings", "Did not end well", said, bars(rows), kept)


def endings_by_route(summary: Summary) -> Plot | None:
    """Draw which share of each route's queries did not end well; nothing for one route, or when all did."""
    bad = [(group, group.n - group.statuses.get("ok", 0)) for group in summary.routes]
    if len(bad) < 2 or not any(failed for _, failed in bad):
        return None
    worst = sorted(bad, key=lambda each: -each[1] / each[0].n)
    rows = [_share_row(route_name(group), failed, group.n) for group, failed in worst[: _MOST + 1]]
    group, failed = worst[0]
    said = f"Most often a query {by_route(group)} does not end well: {wording.share(failed / group.n)} of them."
    return plot("endings-by-route", "Did not end well, by route", said, bars(rows), not_all(len(rows), summary).strip())


def price_ages(summary: Summary) -> Plot | None:
    """Draw how old the prices are; nothing where none says when it was read."""
    dated = sorted(
        (price for price in summary.prices if price.age_days is not None), key=lambda one: -(one.age_days or 0)
    )
    if not dated:
        return None
    rows = [_age_row(price) for price in dated[: _MOST + 1]]
    oldest = dated[0]
    said = f"The oldest price was read {wording.counted(oldest.age_days or 0, 'day')} before the last trace."
    without = len(summary.prices) - len(dated)
    said += f" {wording.counted(without, 'source')} of prices without a date." if without else ""
    whole = max(float(STALE_DAYS), *(row.value or 0.0 for row in rows))
    note = f"Full width: {whole:.0f} days. From {STALE_DAYS} days on a price counts as stale."
    return plot("price-ages", "Age of the prices", said, bars(rows, whole), note)


def degraded(summary: Summary) -> Plot | None:
    """Draw how many queries had to do without which store; nothing when none had to."""
    if not summary.degraded:
        return None
    shown, others = first(summary.degraded, _MOST)
    rows = [_trouble_row(each, summary.queries.n) for each in shown]
    if others:
        count = sum(each.n for each in others)
        rows.append(Row(f"{len(others):,} others", count / summary.queries.n, wording.count(count), colour="five"))
    part, worst = summary.queries.degraded, summary.degraded[0]
    said = (
        f"{wording.share(part / summary.queries.n)} of {wording.queries(summary.queries.n)} were answered without a "
        f"store, most often without {wording.said(worst.name)}."
    )
    return plot("degraded", "Answered without a store", said, bars(rows))


def tokens_by_source(summary: Summary) -> Plot | None:
    """Draw who counted the tokens of each kind of model."""
    rows = [row for kind in dict.fromkeys(one.kind for one in summary.counted) for row in _token_rows(summary, kind)]
    if not rows:
        return None
    found = {one.source for one in summary.counted}
    legend = [(name, colour) for name, colour in _SOURCES if name in found]
    return plot("tokens", "Tokens, by who counted them", _token_sentence(summary.counted), stacks(rows, legend), _WHO)


_WHO = (
    "reported: by the provider. extracted: read off what the model returned. estimated: counted from the text. "
    "unknown: nobody counted."
)


def _token_rows(summary: Summary, kind: str) -> list[Stack]:
    """Tokens in and out, and the calls, which can be drawn where nobody counted their tokens."""
    of_kind = {one.source: one for one in summary.counted if one.kind == kind}
    found = {one.source for one in summary.counted}
    sources = [name for name, _ in _SOURCES if name in found]
    name = _KINDS.get(kind, kind)
    rows = []
    for what in ("input", "output"):
        amounts = [getattr(of_kind[source], what) or 0 if source in of_kind else 0 for source in sources]
        if sum(amounts):
            parts = tuple(amount / sum(amounts) for amount in amounts)
            rows.append(Stack(f"{name}, {what}", parts, f"{wording.tokens(sum(amounts))} tokens"))
    calls = [of_kind[source].calls if source in of_kind else 0 for source in sources]
    if not sum(calls):
        return rows
    parts = tuple(number / sum(calls) for number in calls)
    return [*rows, Stack(f"{name}, calls", parts, wording.counted(sum(calls), "call"))]


def _token_sentence(counted: Sequence[Counted]) -> str:
    calls = sum(one.calls for one in counted)
    models = [one for one in counted if one.kind == "llm"] or list(counted)
    what = "language models'" if models[0].kind == "llm" else "models'"
    known = sum((one.input or 0) + (one.output or 0) for one in models)
    given = sum((one.input or 0) + (one.output or 0) for one in models if one.source == "reported")
    missing = sum(one.calls for one in counted if one.source == UNKNOWN)
    told = (
        f"The provider reported {wording.share(given / known)} of the {what} tokens"
        if known
        else "No token was counted"
    )
    if not missing:
        return f"{told}."
    return f"{told}; {wording.count(missing)} of {wording.counted(calls, 'call')} have no counts at all."


def _share_row(name: str, part: int, whole: int) -> Row:
    note = f"{wording.count(part)} of {wording.count(whole)}"
    return Row(name, part / whole, wording.share(part / whole), note, colour="two")


def _age_row(price: PriceUsed) -> Row:
    days = price.age_days or 0
    told = wording.counted(days, "day")
    return Row(wording.name(price.source), float(days), told, colour="two" if is_stale(price) else "three")


def _trouble_row(trouble: Trouble, whole: int) -> Row:
    return Row(
        wording.name(trouble.name),
        trouble.n / whole,
        wording.share(trouble.share),
        wording.queries(trouble.n),
        colour="two",
    )
