"""What a call costs by the rows of one offer; pure, knows no table and asks nobody."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase

from llama_index_hybridmem.costs.prices.money import rounded
from llama_index_hybridmem.costs.prices.row import CACHED, CALLED, HOUR, INPUT, OUTPUT, SEARCH, WRITTEN, Level, PriceRow
from llama_index_hybridmem.costs.tokens.usage import Usage
from llama_index_hybridmem.costs.trace import ModelCall
from llama_index_hybridmem.errors import ConfigurationError

TOKENS = (INPUT, CACHED, WRITTEN, OUTPUT)


@dataclass(frozen=True, slots=True)
class Priced:
    """What a call cost.

    Attributes:
        amount: exact for tokens and searches, rounded to 12 places for machine time.
        currency: of the amount.
        source: the row or the library version that it comes from, with its date.
    """

    amount: Decimal
    currency: str
    source: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """A call's tokens by what each sort is priced as; they do not overlap, unlike those of `Usage`."""

    plain: int
    cached: int
    written: int
    output: int

    @classmethod
    def of(cls, usage: Usage) -> Tokens:
        """Take the cached tokens out of the input; counts that contradict one another never make it negative."""
        plain = max(usage.input - usage.cached_read - usage.cached_write, 0)
        return cls(plain, usage.cached_read, usage.cached_write, usage.output)


class Tariff:
    """The rows of one offer.

    Args:
        rows: of one kind, provider and model, one for each unit.

    Raises:
        ConfigurationError: a unit twice; tokens, searches and hours mixed; a language model's tokens priced in one
            direction only.
    """

    def __init__(self, rows: Iterable[PriceRow]) -> None:
        self.rows = tuple(rows)
        self.origin = "; ".join(dict.fromkeys(row.origin for row in self.rows))
        self._by_unit = {row.unit: row for row in self.rows}
        kind, provider, model = self.rows[0].offer
        name = f"{kind} {provider}/{model}"
        if len(self._by_unit) < len(self.rows):
            raise ConfigurationError(f"{name}: two prices for one unit; keep one, or make the model's pattern differ")
        if kind in CALLED:
            self._check(kind, name)

    def _check(self, kind: str, name: str) -> None:
        units = set(self._by_unit)
        if len(units) > 1 and not units <= set(TOKENS):
            raise ConfigurationError(f"{name}: priced by {', '.join(sorted(units))}; take tokens, searches or hours")
        needed = {INPUT, OUTPUT} if kind == "llm" else {INPUT}
        if units <= set(TOKENS) and not needed <= units:
            missing = ", ".join(sorted(needed - units))
            raise ConfigurationError(f"{name}: no price for {missing}; without it none of its calls can be priced")

    def matches(self, kind: str, provider: str, model: str) -> bool:
        """Tell whether a call, or a thing, is of this offer."""
        own, provider_pattern, model_pattern = self.rows[0].offer
        return (
            own == kind
            and fnmatchcase(provider.lower(), provider_pattern.lower())
            and fnmatchcase(model.lower(), model_pattern.lower())
        )

    def amount(self, call: ModelCall, level: Level) -> Decimal | None:
        """Price a call; None when its tokens are not known, or one sort of them has no price."""
        if HOUR in self._by_unit:
            return rounded(self._by_unit[HOUR].amount(level) * Decimal(str(call.busy_s)) / 3600)
        if SEARCH in self._by_unit:
            return self._by_unit[SEARCH].amount(level)
        return None if call.usage is None else self._of_tokens(Tokens.of(call.usage), level)

    def _of_tokens(self, tokens: Tokens, level: Level) -> Decimal | None:
        whole = self._by_unit[INPUT]
        millionths = tokens.plain * whole.amount(level)
        millionths += tokens.cached * self._by_unit.get(CACHED, whole).amount(level)
        millionths += tokens.written * self._by_unit.get(WRITTEN, whole).amount(level)
        if tokens.output:
            if OUTPUT not in self._by_unit:
                return None
            millionths += tokens.output * self._by_unit[OUTPUT].amount(level)
        return millionths.scaleb(-6)


def tariffs(rows: Iterable[PriceRow]) -> tuple[Tariff, ...]:
    """Put the rows of each offer together, in the order in which the offers first appear.

    Raises:
        ConfigurationError: see `Tariff`.
    """
    offers: dict[tuple[str, str, str], list[PriceRow]] = {}
    for row in rows:
        offers.setdefault(row.offer, []).append(row)
    return tuple(Tariff(group) for group in offers.values())
