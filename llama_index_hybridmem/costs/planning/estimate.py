"""What building memory of a corpus and asking it would cost, before anything runs; pure, knows no file.

Low is few tokens at the lowest price, high many at the highest. A model of which no price is known makes the total
unknown, not smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any, Protocol, get_args

from llama_index_hybridmem.costs.planning.assumptions import Input
from llama_index_hybridmem.costs.planning.work import Corpus, Phase, Plan, Work, inputs, works
from llama_index_hybridmem.costs.prices.money import rounded
from llama_index_hybridmem.costs.prices.row import HOUR, LEVELS, Level, PriceRow
from llama_index_hybridmem.costs.prices.tariffs import Priced
from llama_index_hybridmem.costs.tokens.usage import Usage
from llama_index_hybridmem.costs.trace import ModelCall

PHASES: tuple[Phase, ...] = get_args(Phase)

BY_THE_HOUR = "unpriced: paid by the hour of its machine; ask some questions and read their traces"
NO_PRICE = "unpriced: no price known; give rows of your own"


class Prices(Protocol):
    """What is needed of a `PriceBook`."""

    currency: str

    def cost(self, call: ModelCall, at: datetime) -> Priced | None:
        """Price a call; None when nobody knows."""

    def lookup(self, kind: str, provider: str | None, model: str | None) -> tuple[PriceRow, ...]:
        """Give the rows that price something."""


@dataclass(frozen=True)
class Cost:
    """An amount of money as a range."""

    low: Decimal
    typical: Decimal
    high: Decimal


@dataclass(frozen=True)
class Line:
    """One kind of work, priced.

    Attributes:
        work: what is done.
        cost: None when unpriced.
        price: where the price comes from, with its date; without one, why.
    """

    work: Work
    cost: Cost | None
    price: str


@dataclass(frozen=True)
class Estimate:
    """What it would cost.

    Attributes:
        corpus: what was measured.
        plan: what shall be done.
        inputs: every other figure that went in; prices stand in the lines.
        lines: kinds of work.
        totals: by phase; None where a line is unpriced.
        known: by phase, the sum of what is priced.
        currency: of all money.
        at: the moment whose prices count.
    """

    corpus: Corpus
    plan: Plan
    inputs: tuple[Input, ...]
    lines: tuple[Line, ...]
    totals: Mapping[Phase, Cost | None]
    known: Mapping[Phase, Cost]
    currency: str
    at: datetime

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON: money as text."""
        found: dict[str, Any] = _plain(asdict(self))
        return {"schema": 1, **found}


def estimate(corpus: Corpus, plan: Plan, prices: Mapping[Level, Prices], at: datetime) -> Estimate:
    """Estimate what a corpus costs.

    Args:
        corpus: see `planning.corpus.measure`.
        plan: what shall be built and asked.
        prices: a book for each level: ``{level: PriceBook(level=level) for level in LEVELS}``.
        at: the moment whose prices count.
    """
    lines = tuple(_line(work, prices, at) for work in works(corpus, plan))
    known = {phase: _sum(line.cost for line in lines if line.work.phase == phase) for phase in PHASES}
    unpriced = {line.work.phase for line in lines if line.cost is None}
    return Estimate(
        corpus,
        plan,
        tuple(inputs(corpus, plan)),
        lines,
        {phase: None if phase in unpriced else known[phase] for phase in PHASES},
        known,
        prices["typical"].currency,
        at,
    )


def _line(work: Work, prices: Mapping[Level, Prices], at: datetime) -> Line:
    rows = prices["typical"].lookup(work.kind, work.provider, work.model)
    if work.kind == "machine":
        return _machine_line(work, rows)
    if work.seconds is None and any(row.unit == HOUR for row in rows):
        return Line(work, None, BY_THE_HOUR)
    found = {level: prices[level].cost(_call(work, level), at) for level in LEVELS}
    amounts = [priced.amount * work.calls for priced in found.values() if priced is not None]
    typical = found["typical"]
    if typical is None or len(amounts) < len(LEVELS):
        return Line(work, None, NO_PRICE)
    return Line(work, Cost(*map(rounded, amounts)), typical.source)


def _machine_line(work: Work, rows: tuple[PriceRow, ...]) -> Line:
    """Time of a machine of one's own, at the first row's price of an hour."""
    if work.seconds is None or not rows:
        return Line(work, None, NO_PRICE)
    hours = {level: Decimal(str(getattr(work.seconds, level))) / 3600 for level in LEVELS}
    return Line(work, Cost(*(rounded(rows[0].amount(level) * hours[level]) for level in LEVELS)), rows[0].origin)


def _call(work: Work, level: Level) -> ModelCall:
    """One of the calls, as it would be traced."""
    tokens = attrgetter(level)
    usage = Usage(round(tokens(work.input)), round(tokens(work.output)), source="estimated")
    busy_s = 0.0 if work.seconds is None else float(tokens(work.seconds)) / work.calls
    return ModelCall(work.kind, work.model, work.provider, None, False, "ok", 0.0, 0.0, None, busy_s, usage)


def _sum(costs: Iterable[Cost | None]) -> Cost:
    priced = [cost for cost in costs if cost is not None]
    return Cost(*(sum((getattr(cost, level) for cost in priced), Decimal(0)) for level in LEVELS))


def _plain(found: Any) -> Any:
    if isinstance(found, Mapping):
        return {key: _plain(each) for key, each in found.items()}
    if isinstance(found, list | tuple):
        return [_plain(each) for each in found]
    if isinstance(found, Decimal):
        return format(found.normalize(), "f")
    return found.isoformat() if isinstance(found, datetime) else found
