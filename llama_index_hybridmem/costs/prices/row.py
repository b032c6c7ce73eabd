"""One dated price: for what, per which unit, from where, and how sure; pure, knows no table and no call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Literal, get_args

from llama_index_hybridmem.costs.prices.money import exactly
from llama_index_hybridmem.errors import ConfigurationError

Level = Literal["low", "typical", "high"]
"""Which amount of a row counts."""

LEVELS: tuple[Level, ...] = get_args(Level)

INPUT, CACHED = "1M input tokens", "1M cached tokens"
WRITTEN, OUTPUT = "1M cache-write tokens", "1M output tokens"
SEARCH, HOUR = "search", "hour"

CALL_UNITS = (INPUT, CACHED, WRITTEN, OUTPUT, SEARCH, HOUR)
"""Of a model: its tokens, a rerank call, or an hour of the machine that runs it."""

CALLED = ("llm", "embedding", "rerank")
"""Kinds that are billed by the call."""

UNITS: Mapping[str, tuple[str, ...]] = {
    "llm": CALL_UNITS,
    "embedding": CALL_UNITS,
    "rerank": CALL_UNITS,
    "machine": (HOUR, "vCPU-hour"),
    "database": ("month", "GB-month", HOUR),
    "training": ("1M training tokens", HOUR),
    "person": ("person-hour",),
}
"""What a kind of row may be priced by."""


@dataclass(frozen=True, slots=True)
class PriceRow:
    """A price.

    Attributes:
        kind: ``llm``, ``embedding`` or ``rerank`` for calls; ``machine``, ``database``, ``training`` or ``person`` for
            what nobody bills per call.
        provider: who is paid, a pattern as file names have them; ``*`` for anybody.
        model: the model, plan or machine, a pattern too; case does not count in either.
        unit: what the amounts are for, one of `UNITS` of the kind. A model priced by tokens has a row for each sort.
            ``hour`` is an hour of the machine that runs a model.
        low: the least that one may have to pay.
        typical: what counts unless another level is asked for.
        high: the most.
        currency: of the amounts.
        source: where they stand, in a few words ("neo4j.com/pricing").
        read_on: when they stood there.
        note: what else one should know; "assumed" where nobody says so, "secondary" where it is second-hand.

    Raises:
        ConfigurationError: names the field.
    """

    kind: str
    provider: str
    model: str
    unit: str
    low: Decimal
    typical: Decimal
    high: Decimal
    currency: str
    source: str
    read_on: date
    note: str = ""

    def __post_init__(self) -> None:
        self._check_types()
        for name in ("provider", "model", "currency", "source"):
            if not getattr(self, name).strip():
                raise ConfigurationError(f"{name}: must not be empty")
        if self.kind not in UNITS:
            raise ConfigurationError(f"kind: unknown {self.kind!r}; one of {', '.join(UNITS)}")
        if self.unit not in UNITS[self.kind]:
            raise ConfigurationError(
                f"unit: {self.kind} has none of {self.unit!r}; one of {', '.join(UNITS[self.kind])}"
            )
        for level in LEVELS:
            exactly(self.amount(level), level)
        if not self.low <= self.typical <= self.high:
            raise ConfigurationError(f"typical: {self.typical} must lie between low {self.low} and high {self.high}")

    def _check_types(self) -> None:
        for name in ("kind", "provider", "model", "unit", "currency", "source", "note"):
            if not isinstance(getattr(self, name), str):
                raise ConfigurationError(f"{name}: a text is expected, not {getattr(self, name)!r}")
        for level in LEVELS:
            if not isinstance(self.amount(level), Decimal):
                raise ConfigurationError(f"{level}: a Decimal is expected, not {self.amount(level)!r}")
        if not isinstance(self.read_on, date) or isinstance(self.read_on, datetime):
            raise ConfigurationError(f"read_on: a date without a time is expected, not {self.read_on!r}")

    @property
    def offer(self) -> tuple[str, str, str]:
        """What the row is a price of: rows of one offer belong together."""
        return self.kind, self.provider, self.model

    @property
    def origin(self) -> str:
        """Source and date, for whoever shows a figure that rests on this row."""
        return f"{self.source}, read {self.read_on.isoformat()}"

    def amount(self, level: Level = "typical") -> Decimal:
        """Give the amount of a level."""
        return {"low": self.low, "typical": self.typical, "high": self.high}[level]

    def stale(self, on: date, after_days: int) -> bool:
        """Tell whether the price was read more than so many days before a date."""
        return on - self.read_on > timedelta(days=after_days)
