"""What a graph costs whether it is asked or not: compute, rent and hours of people, dated; pure, knows no prices."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from llama_index_hybridmem.costs.prices.money import Amount, exactly, rounded
from llama_index_hybridmem.errors import ConfigurationError

_AMOUNTS = (
    "monthly_rent",
    "build_compute",
    "upkeep_compute_monthly",
    "build_hours",
    "upkeep_hours_monthly",
    "hourly_rate",
)


@dataclass(frozen=True)
class Monthly:
    """Fixed costs of one month; what was not stated is None and not in the sums.

    Attributes:
        compute: building, spread over the months it lasts, and upkeep.
        rent: of the graph database.
        hours: of people who build, clean and maintain the graph.
        as_of: the day for which the figures hold.
    """

    compute: Decimal | None
    rent: Decimal | None
    hours: Decimal | None
    as_of: date | None

    def total(self, *, hours: bool) -> Decimal:
        """Sum up what was stated.

        Args:
            hours: those of people, too.
        """
        parts = (self.compute, self.rent, self.hours if hours else None)
        return sum((part for part in parts if part is not None), Decimal(0))

    @property
    def not_stated(self) -> tuple[str, ...]:
        """Which of the three nobody stated."""
        return tuple(name for name in ("compute", "rent", "hours") if getattr(self, name) is None)


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """What a graph costs besides its queries; None is "not stated", which is not 0.

    Attributes:
        as_of: the day for which prices and hours hold.
        monthly_rent: of the graph database, per month; 0 for one in the process.
        build_compute: models and machines that built the graph, once.
        upkeep_compute_monthly: models and machines that keep it, per month.
        build_hours: of people, once: schema, extraction, cleaning.
        upkeep_hours_monthly: of people, per month.
        hourly_rate: what an hour of them costs.
        months: over which building is spread; 12 unless somebody knows better.

    Raises:
        ConfigurationError: an amount below 0 or not finite, hours without a rate, fewer than one month.
    """

    as_of: date
    monthly_rent: Amount | None = None
    build_compute: Amount | None = None
    upkeep_compute_monthly: Amount | None = None
    build_hours: Amount | None = None
    upkeep_hours_monthly: Amount | None = None
    hourly_rate: Amount | None = None
    months: int = 12

    def __post_init__(self) -> None:
        for name in _AMOUNTS:
            self._exact(name)
        if self.months < 1:
            raise ConfigurationError(f"months: building is spread over 1 or more, not {self.months}")
        if self.hourly_rate is None and not (self.build_hours is None and self.upkeep_hours_monthly is None):
            raise ConfigurationError("hourly_rate: hours of people are stated, but not what an hour costs")

    def monthly(self) -> Monthly:
        """Give the cost of one month."""
        rate = self._exact("hourly_rate")
        hours = self._per_month("build_hours", "upkeep_hours_monthly")
        return Monthly(
            self._per_month("build_compute", "upkeep_compute_monthly"),
            self._exact("monthly_rent"),
            None if hours is None or rate is None else rounded(hours * rate),
            self.as_of,
        )

    def _per_month(self, once: str, each: str) -> Decimal | None:
        first, monthly = self._exact(once), self._exact(each)
        if first is None and monthly is None:
            return None
        return rounded((first or Decimal(0)) / self.months + (monthly or Decimal(0)))

    def _exact(self, name: str) -> Decimal | None:
        stated = getattr(self, name)
        return None if stated is None else exactly(stated, name)


NOT_STATED = Monthly(None, None, None, None)
