"""Estimates, prices and repriced traces for the terminal; computes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..costs.report.wording import NONE, clean, counted, money, seconds, tokens

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from ..costs.planning.assumptions import Range
    from ..costs.planning.estimate import Cost, Estimate
    from ..costs.planning.work import Phase
    from ..costs.prices.book import PriceBook
    from ..costs.prices.repricing import Repriced
    from ..costs.prices.row import PriceRow
    from ..costs.prices.tariffs import Priced

_NUMBERS = ("calls", "tokens in", "out", "time", "cost", "from … to", "typical", "value", "low … high")
_LEAST = {"work": 16}  # columns that stay legible beside long ones
_SHOWN = 5  # prices in a sentence
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
    timed = any(line.work.seconds is not None for line in found.lines)
    table = _table(
        "What it takes", "work", "calls", "tokens in", "out", *(["time"] if timed else []), "cost", "from … to"
    )
    for line in found.lines:
        work = line.work
        took = [_many(work.input, work.calls), _many(work.output, work.calls)]
        if timed:
            took.append(seconds(None if work.seconds is None else work.seconds.typical))
        calls = f"{work.calls:,}" if work.kind == "llm" else NONE
        _add(table, work.name, calls, *took, *_cost_cells(line.cost, found.currency))
    return table


def not_installed(found: Estimate) -> str:
    """Say how a missing price could come, where the library that knows most is not there."""
    from ..costs.planning.estimate import NO_PRICE

    return _pip_line() if any(line.price == NO_PRICE for line in found.lines) else ""


def origins(found: Estimate) -> str:
    """Where the prices come from, model by model."""
    told = dict.fromkeys(f"{line.work.model}: {line.price}" for line in found.lines)
    return f"Prices. {'. '.join(told)}."


def inputs(found: Estimate) -> Table:
    """Every figure that went in, and how it is known."""
    table = _table("What that rests on", "figure", "value", "low … high", "known", "source")
    for each in found.inputs:
        low, typical, high = (f"{value:,.6g}" for value in (each.value.low, each.value.typical, each.value.high))
        _add(table, each.name, typical, NONE if low == high else f"{low} … {high}", each.mark, each.source)
    return table


def rows(
    book: PriceBook, kind: str | None, provider: str | None, model: str | None, now: datetime
) -> list[dict[str, Any]]:
    """The rows that price a model, or all; where no row does, what genai-prices says of a million tokens."""
    from ..costs.prices.row import CALLED, UNITS

    kinds = tuple(UNITS) if kind is None else (kind,)
    old, found = set(book.stale(now.date())), []
    if model is None:
        asked = [row for row in book.rows if row.kind in kinds and _of(row, provider)]
        return [_plain(row, row in old) for row in sorted(asked, key=lambda row: kinds.index(row.kind))]
    for each in book.providers() if provider is None else (provider,):
        known = [row for name in kinds for row in book.lookup(name, each, model)]
        found += [_plain(row, row in old) for row in known]
        if not any(row.kind in CALLED for row in known):
            found += _by_call(book, kind, each, model, now)
    return [row for place, row in enumerate(found) if row not in found[:place]]


def price_tables(found: list[dict[str, Any]]) -> Iterator[RenderableType]:
    """Rows of prices, a table for each kind, and at the end where they come from; stale ones say so."""
    from rich.table import Table

    numbers: dict[str, str] = {}
    for kind in dict.fromkeys(row["kind"] for row in found):
        table = _table(kind, "provider/model", "unit", "typical", "low … high", "by")
        table.padding = (0, 1, 0, 0)
        for row in (row for row in found if row["kind"] == kind):
            number = numbers.setdefault(_source(row), str(len(numbers) + 1))
            around = NONE if row["low"] == row["high"] else f"{row['low']} … {row['high']}"
            source = f"[{number}] STALE" if row["stale"] else f"[{number}]"
            name = clean(f"{row['provider']}/{row['model']}")
            _add(table, name, row["unit"], f"{row['typical']} {row['currency']}", around, source)
        yield table
    notes = Table.grid(padding=(0, 1))
    notes.add_column(justify="right", no_wrap=True)
    notes.add_column(overflow="fold")
    for told, number in numbers.items():
        _add(notes, f"[{number}]", clean(told))
    yield notes


def unpriced(kind: str | None, provider: str | None, model: str | None) -> str:
    """Say that nobody knows a price, and what to do."""
    what = f"{kind} " if kind else ""
    remedy = (
        "Look at its name and its --provider, or give a price: --prices FILE, in Python PriceBook().self_hosted(…)."
    )
    return " ".join(
        filter(
            None,
            (
                f"No price of {what}{provider or '*'}/{model or '*'}: its calls stay unpriced.",
                remedy,
                _pip_line(),
            ),
        )
    )


def repriced(found: Repriced, output: Path) -> str:
    """Say what the other prices make of it, and whose they are."""
    written = f"{counted(found.traces, 'trace')} written to {output}"
    if not found.calls:
        return f"{written}: no model was called in them."
    after = _sum(found.known_after, found.unpriced_after, found.currency)
    others = found.currencies_before - {found.currency}
    before = _sum(found.known_before, found.unpriced_before, " and ".join(sorted(others)) if others else found.currency)
    prices = sorted(found.prices, key=lambda price: -found.prices[price])
    told = [f"{price} ({counted(found.prices[price], 'call')})" for price in prices[:_SHOWN]]
    more = [f"{len(prices) - _SHOWN:,} more"] if len(prices) > _SHOWN else []
    return (
        f"{written}: {after}, before {before}. "
        f"Calls without a price: {found.unpriced_after:,}, before {found.unpriced_before:,}."
        + (f"\nPrices: {'; '.join([*told, *more])}." if told else "")
        + (f"\n{pip}." if found.unpriced_after and (pip := _pip_line()) else "")
    )


def _sum(known: Decimal | None, unpriced: int, currency: str) -> str:
    if known is None:
        return "nothing known"
    return f"at least {money(known, currency)}" if unpriced else money(known, currency)


def _pip_line() -> str:
    """Say how genai-prices is installed; nothing where it is."""
    from ..costs.prices.genai import HOW_TO_INSTALL, installed

    return "" if installed() else f"genai-prices, which knows most prices, is not installed: {HOW_TO_INSTALL}"


def _of(row: PriceRow, provider: str | None) -> bool:
    return provider is None or fnmatchcase(provider.lower(), row.provider.lower())


def _plain(row: PriceRow, stale: bool) -> dict[str, Any]:
    return {
        "kind": row.kind,
        "provider": row.provider,
        "model": row.model,
        "unit": row.unit,
        **{level: f"{row.amount(level):f}" for level in ("low", "typical", "high")},
        "currency": row.currency,
        "source": row.source,
        "read_on": row.read_on.isoformat(),
        "stale": stale,
        "note": row.note,
    }


def _source(row: dict[str, Any]) -> str:
    origin = f"{row['source']}, read {row['read_on']}" if row["read_on"] else row["source"]
    return f"{origin}. {row['note']}" if row["note"] else origin


def _by_call(book: PriceBook, kind: str | None, provider: str, model: str, now: datetime) -> list[dict[str, Any]]:
    """What the book makes of a call of 1,000 tokens, taken a thousand times: short calls are in the lowest tier.

    A model of no given kind that has no price for what it writes is taken for an encoder.
    """
    from ..costs.prices.row import INPUT, OUTPUT
    from ..costs.tokens.usage import Usage
    from ..costs.trace import ModelCall

    found = {}
    for unit, usage in ((INPUT, Usage(1000, 0)), (OUTPUT, Usage(0, 1000))):
        call = ModelCall(kind or "llm", model, provider, None, False, "ok", 0.0, 0.0, None, 0.0, usage)
        found[unit] = None if kind == "embedding" and unit == OUTPUT else book.cost(call, now)
    sort = kind or ("llm" if found[OUTPUT] is not None else "embedding")
    return [_per_million(priced, sort, provider, model, unit) for unit, priced in found.items() if priced is not None]


def _per_million(priced: Priced, kind: str, provider: str, model: str, unit: str) -> dict[str, Any]:
    amount = f"{(priced.amount * 1000).normalize():f}"
    levels = dict.fromkeys(("low", "typical", "high"), amount)
    names = {"kind": kind, "provider": provider, "model": model, "unit": unit, "currency": priced.currency}
    return {**names, **levels, "source": priced.source, "read_on": None, "stale": False, "note": ""}


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
        kept = (name in _NUMBERS and name != "from … to") or name in ("unit", "by")
        justify: Literal["left", "right"] = "right" if name in _NUMBERS else "left"
        table.add_column(name, justify=justify, no_wrap=kept, min_width=_LEAST.get(name), overflow="fold")
    return table
