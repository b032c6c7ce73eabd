"""One line of a ledger: money or people's time spent on a phase; pure, knows no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Literal, get_args

from llama_index_hybridmem.costs.prices.money import Amount, exactly
from llama_index_hybridmem.costs.prices.row import Level, PriceRow
from llama_index_hybridmem.errors import ConfigurationError

Phase = Literal["ingest", "graph_build", "graph_upkeep", "training", "dataset", "evaluation", "query"]
"""What something was paid for; each phase is a ledger of its own."""

PHASES: tuple[Phase, ...] = get_args(Phase)

PERSON_HOUR = "person-hour"
_DECIMALS = ("amount", "quantity", "hours", "rate")
_COUNTS = ("queries", "unpriced", "input_tokens", "output_tokens")
_TEXTS = ("phase", "what", "currency", "unit", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something spent: an amount of money, or hours of people, never both in one entry.

    Attributes:
        phase: the ledger it belongs to, one of `PHASES`.
        at: when, with a time zone; of traces, the start of the last one.
        what: in a few words.
        amount: of money; None when nobody knows it, or when it is hours. Of traces, the sum of their priced calls.
        currency: of amount and rate.
        unit: of the quantity ("GB-month").
        quantity: how many of them; None when that means nothing.
        source: where the price comes from, with its date.
        hours: person-hours.
        rate: of one of them; None leaves them hours.
        queries: traces behind the entry.
        unpriced: things in it that have no price: calls of traces, or 1 for an amount that nobody knows.
        input_tokens: of its language model calls, as far as they were counted.
        output_tokens: see input_tokens.
        wall_s: seconds that its queries took.

    Raises:
        ConfigurationError: an unknown phase; no time zone; a negative number; both an amount and hours.
    """

    phase: str
    at: datetime
    what: str
    amount: Decimal | None = None
    currency: str = "USD"
    unit: str | None = None
    quantity: Decimal | None = None
    source: str = ""
    hours: Decimal | None = None
    rate: Decimal | None = None
    queries: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    wall_s: float = 0.0

    def __post_init__(self) -> None:
        checked_phase(self.phase)
        if self.at.tzinfo is None:
            raise ConfigurationError(f"at: {self.at} has no time zone; say which, timezone.utc as a rule")
        for name in (*_DECIMALS, *_COUNTS, "wall_s"):
            value = getattr(self, name)
            if value is not None:
                exactly(value, name)
        if self.hours is not None and self.amount is not None:
            raise ConfigurationError("hours: people's time is no amount of money; give a rate, or make two entries")
        if self.hours is None and self.rate is not None:
            raise ConfigurationError("rate: there are no hours that it could price")
        if self.hours is None and self.amount is None and not self.unpriced:
            object.__setattr__(self, "unpriced", 1)

    @classmethod
    def of_price(
        cls, phase: str, at: datetime, what: str, row: PriceRow, quantity: Amount, level: Level = "typical"
    ) -> Entry:
        """Make an entry from a price: rent, machine time, a training run, people's time.

        Args:
            phase: the ledger it belongs to.
            at: when.
            what: in a few words.
            row: the price (`PriceBook.row`); one per person-hour gives hours with a rate.
            quantity: how many of its unit.
            level: which of its amounts.

        Raises:
            ConfigurationError: see the class.
        """
        many = exactly(quantity, "quantity")
        common: dict[str, Any] = {"phase": phase, "at": at, "what": what, "currency": row.currency, "unit": row.unit}
        common |= {"quantity": many, "source": row.origin}
        if row.unit == PERSON_HOUR:
            return cls(**common, hours=many, rate=row.amount(level))
        return cls(**common, amount=many * row.amount(level))

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types; amounts are texts, so that no digit is lost."""
        decimals = {name: getattr(self, name) for name in _DECIMALS}
        return {
            "at": self.at.astimezone(timezone.utc).isoformat(),
            **{name: getattr(self, name) for name in (*_TEXTS, *_COUNTS, "wall_s")},
            **{name: None if value is None else str(value) for name, value in decimals.items()},
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any], place: str) -> Entry:
        """Read what `to_json` wrote.

        Args:
            fields: those that it does not know are left alone.
            place: names it in errors.

        Raises:
            ConfigurationError: it is no entry; names the place and the field.
        """
        try:
            own: dict[str, Any] = {name: fields[name] for name in _TEXTS}
            own |= {name: int(fields[name]) for name in _COUNTS}
            own |= {name: None if fields[name] is None else exactly(fields[name], name) for name in _DECIMALS}
            return cls(at=datetime.fromisoformat(fields["at"]), wall_s=float(fields["wall_s"]), **own)
        except KeyError as error:
            raise ConfigurationError(f"{place}: no entry of a ledger, it lacks {error}") from error
        except (TypeError, ValueError) as error:  # a ConfigurationError too: it gets the place
            raise ConfigurationError(f"{place}: {error}") from error


def checked_phase(phase: str) -> Phase:
    """Take a phase as one of `PHASES`.

    Raises:
        ConfigurationError: it is none.
    """
    for known in PHASES:
        if phase == known:
            return known
    raise ConfigurationError(f"phase: unknown {phase!r}; one of {', '.join(PHASES)}")
