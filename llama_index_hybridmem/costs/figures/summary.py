"""What many traces come to: cost, latency and trouble by route, tenant and model; pure, reads no file.

Absent is not zero: what no trace knows is None. Latencies are those of queries that ended "ok", costs per query those
of queries whose every call has a price; both say of how many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from decimal import Decimal
from typing import Any

from llama_index_hybridmem.costs.figures.groups import Group, Grouping
from llama_index_hybridmem.costs.figures.model_use import Callbook, Counted, ModelUse, PriceUsed, cached_share
from llama_index_hybridmem.costs.figures.spending import Diary, Month, Outlook, Purse, Spending, most_first, outlook
from llama_index_hybridmem.costs.figures.spread import quantiles
from llama_index_hybridmem.costs.trace import QueryTrace
from llama_index_hybridmem.errors import ConfigurationError

OUTSIDE = "calls outside queries"
"""The ledger of model calls that no query made: documents embedded, a model asked on its own."""

FIELDS = ("route", "route_source", "kind", "name", "answer", "tenant", "user", "run")
"""What queries can be grouped by, besides ``tags.NAME``."""

_MOST_REASONS = 3
_LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class Account:
    """Traces that somebody pays for together: a tenant's, or a ledger's.

    Attributes:
        name: the tenant or phase; None for traces without a tenant; `OUTSIDE` for what its text says.
        traces: how many, queries among them.
        spending: what they cost.
        wall_s: seconds they took together.
    """

    name: str | None
    traces: int
    spending: Spending
    wall_s: float


@dataclass(frozen=True, slots=True)
class Trouble:
    """What went wrong with some queries.

    Attributes:
        name: the store that was missing, or the type of the error.
        n: queries.
        share: of all queries.
        reasons: the most frequent texts and how often, at most three.
    """

    name: str
    n: int
    share: float
    reasons: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything a report shows.

    Attributes:
        traces: all of them.
        currency: of all costs.
        first: when the first began, Unix seconds; None without traces.
        last: when the last one ended.
        limit: for a calendar month; None without one.
        phase: what `queries` are of.
        spending: of all traces, whatever they were made for.
        queries: those of the phase, without model calls that no query made.
        answered_within: percentiles 0 … 100 of the wall seconds of queries that ended "ok"; empty without any.
        begun_within: the same of the seconds to their first token, where they were streamed.
        groups: the queries by "route" and whatever else was asked for, largest group first.
        ledgers: all other traces, by phase; of the phase itself as "ingest" or `OUTSIDE`; the dearest first.
        tenants: all traces by tenant, the dearest first.
        models: all model calls.
        counted: all model calls by who counted their tokens.
        cached_share: of the language models' counted input, what was read from the provider's cache; None when unknown.
        prices: where the prices come from.
        months: spending by calendar month.
        outlook: where the last month goes; None where nothing can be said.
        degraded: queries that had to do without a store, by store.
        errors: queries that failed, by type of error.
    """

    traces: int
    currency: str
    first: float | None
    last: float | None
    limit: Decimal | None
    phase: str
    spending: Spending
    queries: Group
    answered_within: tuple[float, ...]
    begun_within: tuple[float, ...]
    groups: Mapping[str, tuple[Group, ...]]
    ledgers: tuple[Account, ...]
    tenants: tuple[Account, ...]
    models: tuple[ModelUse, ...]
    counted: tuple[Counted, ...]
    cached_share: float | None
    prices: tuple[PriceUsed, ...]
    months: tuple[Month, ...]
    outlook: Outlook | None
    degraded: tuple[Trouble, ...]
    errors: tuple[Trouble, ...]

    @property
    def routes(self) -> tuple[Group, ...]:
        """The queries by route; one group named None without a router."""
        return self.groups.get("route", ())

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types; costs are texts, so that no digit is lost."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)}


def summarise(
    traces: Iterable[QueryTrace],
    *,
    by: Sequence[str] = ("route",),
    limit: Decimal | None = None,
    phase: str = "query",
) -> Summary:
    """Add traces up, each read once; what is kept of a trace are a few numbers.

    Args:
        traces: in any order.
        by: what queries are grouped by, besides the route: `FIELDS`, or ``tags.NAME``.
        limit: what a calendar month may cost, in the currency of the traces.
        phase: whose traces are the queries; all others are ledgers. An experiment's are tagged "evaluation".

    Raises:
        ConfigurationError: nothing can be grouped by that, the limit is not above 0, or there are several currencies.
    """
    if limit is not None and not (limit.is_finite() and limit > 0):
        raise ConfigurationError(f"the limit for a month is an amount above 0, not {limit}")
    adding = _Adding({name: _reader(name) for name in dict.fromkeys(("route", *by))}, phase)
    for trace in traces:
        adding.add(trace)
    return adding.summary(limit)


@dataclass(slots=True)
class _Account:
    purse: Purse = field(default_factory=Purse)
    wall_s: float = 0.0

    def add(self, trace: QueryTrace) -> None:
        self.purse.add(trace)
        self.wall_s += trace.wall_s


class _Adding:
    """All sums at once."""

    def __init__(self, readers: Mapping[str, Callable[[QueryTrace], str | None]], phase: str) -> None:
        self._readers, self._phase = readers, phase
        self._first, self._last = float("inf"), float("-inf")
        self._all, self._queries = _Account(), Grouping()
        self._groups: dict[str, dict[str | None, Grouping]] = {name: {} for name in readers}
        self._ledgers: dict[str | None, _Account] = {}
        self._tenants: dict[str | None, _Account] = {}
        self._calls, self._diary = Callbook(), Diary()
        self._lost: dict[str, Counter[str]] = {}
        self._errors: dict[str, Counter[str]] = {}
        self._currencies: dict[str, None] = {}

    def add(self, trace: QueryTrace) -> None:
        self._first = min(self._first, trace.started)
        self._last = max(self._last, trace.started + trace.wall_s)
        if any(call.cost is not None for call in trace.calls):
            self._currencies[trace.currency] = None
        for each in (self._all, self._tenants.setdefault(trace.tenant, _Account()), self._calls, self._diary):
            each.add(trace)
        ledger = _ledger(trace, self._phase)
        if ledger is None:
            self._add_query(trace)
        else:
            self._ledgers.setdefault(ledger, _Account()).add(trace)

    def _add_query(self, trace: QueryTrace) -> None:
        self._queries.add(trace)
        for name, read in self._readers.items():
            self._groups[name].setdefault(read(trace), Grouping()).add(trace)
        for store, reason in {_parted(reason)[0]: reason for reason in trace.degraded}.items():
            self._lost.setdefault(store, Counter())[_parted(reason)[1]] += 1
        if trace.status != "ok":
            kind, reason = _parted(trace.error or trace.status)
            self._errors.setdefault(kind, Counter())[reason] += 1

    def summary(self, limit: Decimal | None) -> Summary:
        if len(self._currencies) > 1:
            found = ", ".join(sorted(self._currencies))
            raise ConfigurationError(f"costs in several currencies cannot be added: {found}; report each file alone")
        queries = self._queries.n
        months, counted = self._diary.months(limit), self._calls.counted()
        some = self._all.purse.priced + self._all.purse.unpriced
        return Summary(
            traces=some,
            currency=next(iter(self._currencies), "USD"),
            first=self._first if some else None,
            last=self._last if some else None,
            limit=limit,
            phase=self._phase,
            spending=self._all.purse.counted(),
            queries=self._queries.group(None, queries),
            answered_within=quantiles(self._queries.wall_s),
            begun_within=quantiles(self._queries.first_token_s),
            groups={name: _largest_first(each, queries) for name, each in self._groups.items()},
            ledgers=_accounts(self._ledgers),
            tenants=_accounts(self._tenants),
            models=self._calls.models(),
            counted=counted,
            cached_share=cached_share(counted),
            prices=self._calls.prices(self._last if some else 0.0),
            months=months,
            outlook=outlook(months, self._first, self._last, limit),
            degraded=_troubles(self._lost, queries),
            errors=_troubles(self._errors, queries),
        )


def _ledger(trace: QueryTrace, phase: str) -> str | None:
    """What a trace is accounted under; None for a query of the phase."""
    if trace.phase != phase:
        return trace.phase
    return {"llm": OUTSIDE, "embed": OUTSIDE, "ingest": "ingest"}.get(trace.kind)


def _reader(name: str) -> Callable[[QueryTrace], str | None]:
    if name.startswith("tags."):
        tag = name.removeprefix("tags.")
        return lambda trace: trace.tags.get(tag)
    if name not in FIELDS:
        raise ConfigurationError(f"queries are grouped by {', '.join(FIELDS)} or tags.NAME, not by {name!r}")

    def read(trace: QueryTrace) -> str | None:
        value: str | None = getattr(trace, name)
        return value

    return read


def _parted(reason: str) -> tuple[str, str]:
    """What comes before the first colon, and the rest: "graph", "BranchTimeoutError: no answer within 0.5 s"."""
    name, colon, rest = reason[:_LONGEST_REASON].partition(": ")
    return (name, rest) if colon else (reason[:_LONGEST_REASON], "")


def _largest_first(groups: Mapping[str | None, Grouping], queries: int) -> tuple[Group, ...]:
    made = [each.group(name, queries) for name, each in groups.items()]
    return tuple(sorted(made, key=lambda group: (-group.n, group.name or "")))


def _accounts(accounts: Mapping[str | None, _Account]) -> tuple[Account, ...]:
    counted = [(name, each.purse.counted(), each.wall_s) for name, each in accounts.items()]
    made = [Account(name, spent.priced + spent.unpriced, spent, wall_s) for name, spent, wall_s in counted]
    return tuple(sorted(made, key=lambda each: (most_first(each.spending), -each.traces, each.name or "")))


def _troubles(found: Mapping[str, Counter[str]], queries: int) -> tuple[Trouble, ...]:
    made = []
    for name, reasons in found.items():
        texts = tuple((text, count) for text, count in reasons.most_common(_MOST_REASONS) if text)
        made.append(Trouble(name, reasons.total(), reasons.total() / queries, texts))
    return tuple(sorted(made, key=lambda trouble: (-trouble.n, trouble.name)))


def _plain(value: Any) -> Any:
    """Turn dataclasses, mappings, tuples and decimals into what JSON has."""
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Decimal) else value
