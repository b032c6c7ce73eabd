"""Estimates, prices and repriced traces for the terminal; computes nothing."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..costs.report.wording import NONE, counted, money, tokens

if TYPE_CHECKING:
    from rich.table import Table

    from ..costs.planning.assumptions import Range
    from ..costs.planning.estimate import Cost, Estimate
    from ..costs.planning.work import Phase
    from ..costs.prices.book import PriceBook
    from ..costs.prices.repricing import Repriced

_NUMBERS = ("calls", "tokens in", "out", "cost", "from … to", "typical", "value")
_PHASES: dict[Phase, str] = {"build": "Building once", "month": "A month of questions"}


def sentence(found: Estimate) -> str:
    """Say what it comes to; where a price is missing, that nobody knows."""
    corpus, parts = found.corpus, []
    size = (
        f"{counted(corpus.documents, 'document')}, {tokens(corpus.tokens)} tokens, {counted(corpus.chunks, 'chunk')}."
    )
    for phase, name in _PHASES.items():
        if any(line.work.phase == phase for line in found.lines):
            parts.append(f"{name}: {_total(found, phase)}.")
    return " ".join([size, *parts])


def lines(found: Estimate) -> Table:
    """Every kind of work with its tokens and its cost."""
    table = _table("What it takes", "work", "calls", "tokens in", "out", "cost", "from … to")
    for line in found.lines:
        work = line.work
        took = (_many(work.input, work.calls), _many(work.output, work.calls))
        if work.kind == "machine" and work.seconds is not None:
            took = (f"{work.seconds.typical:.2g} s", NONE)
        calls = f"{work.calls:,}" if work.kind == "llm" else NONE
        _add(table, work.name, calls, *took, *_cost_cells(line.cost, found.currency))
    return table


def origins(found: Estimate) -> str:
    """Where the prices come from, model by model."""
    told = dict.fromkeys(f"{line.work.model}: {line.price}" for line in found.lines)
    return f"Prices. {'. '.join(told)}."


def inputs(found: Estimate) -> Table:
    """Every figure that went in, and how it is known."""
    table = _table("What that rests on", "figure", "value", "low … high", "known", "by")
    for each in found.inputs:
        low, typical, high = (f"{value:,.6g}" for value in (each.value.low, each.value.typical, each.value.high))
        _add(table, each.name, typical, NONE if low == high else f"{low} … {high}", each.mark, each.source)
    return table


def rows(book: PriceBook, kind: str, provider: str | None, model: str | None, now: datetime) -> list[dict[str, Any]]:
    """The rows that price a model, or all; else what genai-prices says of 1,000 tokens in and out."""
    old = set(book.stale(now.date()))
    asked = book.rows if model is None else book.lookup(kind, provider, model)
    found = [
        {
            "kind": row.kind,
            "provider": row.provider,
            "model": row.model,
            "unit": row.unit,
            **{level: str(row.amount(level)) for level in ("low", "typical", "high")},
            "currency": row.currency,
            "source": row.source,
            "read_on": row.read_on.isoformat(),
            "stale": row in old,
            "note": row.note,
        }
        for row in asked
    ]
    return found if found or model is None else _by_call(book, kind, provider, model, now)


def price_table(found: list[dict[str, Any]]) -> Table:
    """Rows of prices; stale ones say so."""
    table = _table("Prices", "what", "unit", "typical", "low to high", "from")
    for row in found:
        source = f"{row['source']}, {row['read_on']}" if row["read_on"] else row["source"]
        notes = "; ".join(filter(None, ["STALE" if row["stale"] else "", row["note"]]))
        around = NONE if row["low"] == row["high"] else f"{row['low']} to {row['high']}"
        what = f"{row['kind']} {row['provider']}/{row['model']}"
        _add(table, what, row["unit"], f"{row['typical']} {row['currency']}", around, f"{source}. {notes}".strip())
    return table


def unpriced(kind: str, provider: str | None, model: str | None) -> str:
    """Say that nobody knows a price."""
    who = "" if provider else "; name its --provider, so that genai-prices can be asked"
    return f"No price of {kind} {provider or '*'}/{model}: its calls stay unpriced{who}."


def repriced(found: Repriced, output: Path) -> str:
    """Say what the other prices make of it."""
    before, after = money(found.before, found.currency), money(found.after, found.currency)
    if found.currencies_before - {found.currency}:
        before = f"{found.before} in {', '.join(sorted(found.currencies_before))}"
    return (
        f"{counted(found.traces, 'trace')} written to {output}: {after}, before {before}. "
        f"Calls without a price: {found.unpriced_after:,}, before {found.unpriced_before:,}."
    )


def _by_call(book: PriceBook, kind: str, provider: str | None, model: str, now: datetime) -> list[dict[str, Any]]:
    """What the book makes of a call of 1,000 tokens, taken a thousand times: short calls are in the lowest tier."""
    from ..costs.prices.row import INPUT, OUTPUT
    from ..costs.tokens.usage import Usage
    from ..costs.trace import ModelCall

    found = []
    for unit, usage in ((INPUT, Usage(1000, 0)), (OUTPUT, Usage(0, 1000))):
        call = ModelCall(kind, model, provider, None, False, "ok", 0.0, 0.0, None, 0.0, usage)
        priced = None if kind == "embedding" and unit == OUTPUT else book.cost(call, now)
        if priced is not None:
            amount = f"{(priced.amount * 1000).normalize():f}"
            levels = dict.fromkeys(("low", "typical", "high"), amount)
            names = {"kind": kind, "provider": provider, "model": model, "unit": unit, "currency": priced.currency}
            found.append({**names, **levels, "source": priced.source, "read_on": None, "stale": False, "note": ""})
    return found


def _total(found: Estimate, phase: Phase) -> str:
    total = found.totals[phase]
    if total is not None:
        return _cost(total, found.currency)
    lines = [line for line in found.lines if line.work.phase == phase]
    models = dict.fromkeys(line.work.model for line in lines if line.cost is None)
    known = f"; the rest {_cost(found.known[phase], found.currency)}" if any(line.cost for line in lines) else ""
    return f"unknown, because {', '.join(models)} has no price{known}"


def _cost(cost: Cost, currency: str) -> str:
    typical, around = _cost_cells(cost, currency)
    return typical if around == NONE else f"{typical} ({around.replace('…', 'to')})"


def _cost_cells(cost: Cost | None, currency: str) -> tuple[str, str]:
    if cost is None:
        return "unpriced", NONE
    low, typical, high = (money(amount, currency) for amount in (cost.low, cost.typical, cost.high))
    return typical, NONE if low == high else f"{low} … {high}"


def _many(each: Range, calls: int) -> str:
    return tokens(round(each.typical * calls)) if each.typical else NONE


def _add(table: Table, *cells: str) -> None:
    """Add a row of texts as they are: square brackets in a name are no markup."""
    from rich.text import Text

    table.add_row(*map(Text, cells))


def _table(title: str, *header: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title=title, title_justify="left")
    for name in header:
        table.add_column(name, justify="right" if name in _NUMBERS else "left", no_wrap=name in _NUMBERS)
    return table
