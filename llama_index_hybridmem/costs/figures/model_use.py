"""Which models were called, what they counted and what was paid for them; pure, knows traces and no prices."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from decimal import Decimal

from llama_index_hybridmem.costs.figures.spread import Spread, seconds
from llama_index_hybridmem.costs.trace import ModelCall, QueryTrace

UNKNOWN = "unknown"
"""In place of a source: nobody counted."""

_DATE = re.compile(r"\b(\d{4})-(\d{2})-(\d{2})\b")


@dataclass(frozen=True, slots=True)
class ModelUse:
    """The calls of one model, by kind, provider and adapter.

    Attributes:
        kind: as of `ModelCall`, as the next three.
        model: see kind.
        provider: see kind.
        adapter: see kind.
        calls: how many; as many as an entry sums.
        failed: of these, those that raised; a stream that was given up or never read is no failure of the model.
        unpriced: of these, those without a price.
        uncounted: of these, those without token counts.
        input: tokens of the counted ones, cached ones included; None when none is counted.
        output: see input.
        cached_read: of the input, those read from the provider's cache.
        cost: of the priced ones; None when none is priced.
        latency: seconds of the calls that ended "ok", without ranges; of calls summed in one entry, their mean; None
            without any.
        first_token_s: median seconds to the first token of the streamed ones; None without any.
        busy_s: seconds that the model was busy with them.
    """

    kind: str
    model: str | None
    provider: str | None
    adapter: str | None
    calls: int
    failed: int
    unpriced: int
    uncounted: int
    input: int | None
    output: int | None
    cached_read: int | None
    cost: Decimal | None
    latency: Spread[float] | None
    first_token_s: float | None
    busy_s: float


@dataclass(frozen=True, slots=True)
class Counted:
    """The calls of one kind whose tokens one source counted.

    Attributes:
        kind: ``llm``, ``embedding`` or ``rerank``.
        source: ``reported``, ``extracted``, ``estimated``, or `UNKNOWN`.
        calls: how many.
        input: tokens; None when unknown, as the next two.
        output: see input.
        cached_read: see input.
    """

    kind: str
    source: str
    calls: int
    input: int | None
    output: int | None
    cached_read: int | None


@dataclass(frozen=True, slots=True)
class PriceUsed:
    """A source of prices.

    Attributes:
        source: as the calls name it.
        calls: priced by it.
        cost: of those.
        read: the last date (ISO 8601) that the source names; None when it names none.
        age_days: from that date to the last trace; None without a date.
    """

    source: str
    calls: int
    cost: Decimal
    read: str | None
    age_days: int | None


@dataclass(slots=True)
class _Calls:
    calls: int = 0
    failed: int = 0
    unpriced: int = 0
    uncounted: int = 0
    input: int = 0
    output: int = 0
    cached_read: int = 0
    cost: Decimal = Decimal(0)
    busy_s: float = 0.0
    wall_s: list[float] = field(default_factory=list)
    first_token_s: list[float] = field(default_factory=list)

    def add(self, call: ModelCall) -> None:
        self.calls += call.count
        self.failed += call.count if call.status == "error" else 0
        self.unpriced += call.count if call.cost is None else 0
        self.uncounted += call.count if call.usage is None else 0
        self.busy_s += call.busy_s
        if call.usage is not None:
            self.input += call.usage.input
            self.output += call.usage.output
            self.cached_read += call.usage.cached_read
        if call.cost is not None:
            self.cost += call.cost
        if call.status == "ok":
            self.wall_s.append(call.wall_s / max(call.count, 1))
        if call.first_token_s is not None:
            self.first_token_s.append(call.first_token_s)

    def tokens(self) -> tuple[int, int, int] | tuple[None, None, None]:
        """Input, output and cached; nothing when nobody counted."""
        return (self.input, self.output, self.cached_read) if self.uncounted < self.calls else (None, None, None)


@dataclass(slots=True)
class Callbook:
    """Adds up the model calls of traces, one trace after the other."""

    _models: dict[tuple[str, str | None, str | None, str | None], _Calls] = field(default_factory=dict)
    _sources: dict[tuple[str, str], _Calls] = field(default_factory=dict)
    _prices: dict[str, _Calls] = field(default_factory=dict)

    def add(self, trace: QueryTrace) -> None:
        """Count one trace's calls."""
        for call in trace.calls:
            source = UNKNOWN if call.usage is None else call.usage.source
            self._models.setdefault((call.kind, call.model, call.provider, call.adapter), _Calls()).add(call)
            self._sources.setdefault((call.kind, source), _Calls()).add(call)
            if call.cost is not None:
                self._prices.setdefault(call.price or UNKNOWN, _Calls()).add(call)

    def models(self) -> tuple[ModelUse, ...]:
        """Give every model, the one that cost most first, then the one called most."""
        used = [_model(*key, calls) for key, calls in self._models.items()]
        return tuple(sorted(used, key=lambda use: (-(use.cost or 0), -use.calls, str(use.model), str(use.adapter))))

    def counted(self) -> tuple[Counted, ...]:
        """Give the counts by who counted, language models first."""
        order = ("llm", "reported", "extracted", "estimated", UNKNOWN)
        found = [Counted(kind, source, each.calls, *each.tokens()) for (kind, source), each in self._sources.items()]
        return tuple(sorted(found, key=lambda one: (one.kind != "llm", one.kind, order.index(one.source))))

    def prices(self, last: float) -> tuple[PriceUsed, ...]:
        """Give every source of prices, the one that priced most first; `last` is the last trace's end, Unix seconds."""
        day = datetime.fromtimestamp(last, timezone.utc).date()
        found = [_price(source, each, day) for source, each in self._prices.items()]
        return tuple(sorted(found, key=lambda price: (-price.cost, price.source)))


def cached_share(counted: Iterable[Counted]) -> float | None:
    """Of the language models' counted input tokens, the share read from a cache; None when none were counted."""
    known = [(one.input, one.cached_read or 0) for one in counted if one.kind == "llm" and one.input is not None]
    whole = sum(tokens for tokens, _ in known)
    return sum(cached for _, cached in known) / whole if whole else None


def _model(kind: str, model: str | None, provider: str | None, adapter: str | None, each: _Calls) -> ModelUse:
    read, written, cached = each.tokens()
    first = seconds(each.first_token_s, ranges=False)
    return ModelUse(
        kind=kind,
        model=model,
        provider=provider,
        adapter=adapter,
        calls=each.calls,
        failed=each.failed,
        unpriced=each.unpriced,
        uncounted=each.uncounted,
        input=read,
        output=written,
        cached_read=cached,
        cost=each.cost if each.unpriced < each.calls else None,
        latency=seconds(each.wall_s, ranges=False),
        first_token_s=None if first is None else first.p50,
        busy_s=each.busy_s,
    )


def _price(source: str, each: _Calls, day: date) -> PriceUsed:
    read = max(filter(None, (_day(*found) for found in _DATE.findall(source))), default=None)
    age = None if read is None else max(0, (day - read).days)
    return PriceUsed(source, each.calls, each.cost, None if read is None else read.isoformat(), age)


def _day(year: str, month: str, day: str) -> date | None:
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None  # digits that only look like a date
