"""Splits bills that nobody sends per call, so that every unit of them is somebody's or idle; pure, knows no prices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import isfinite
from typing import Generic, TypeVar

from llama_index_hybridmem.costs.prices.money import PLACES, Amount, exactly, rounded
from llama_index_hybridmem.errors import ConfigurationError

MONTH_S = 730 * 3600
"""Seconds of a month in a rent: 8,760 hours a year by 12, as cloud price lists count it."""

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Shares(Generic[K]):
    """A bill, split: ``sum(allocated.values()) + idle == bill``, exactly.

    Attributes:
        allocated: what each key has to bear.
        idle: what nobody used.
        bill: all of it, rounded to 12 decimal places.
        load: used part of what was paid for. Above 1, more was used than the window holds: several models on one
            machine, or a window that is too short for the figures.
    """

    allocated: Mapping[K, Decimal]
    idle: Decimal
    bill: Decimal
    load: float


def share_machine(
    busy: Mapping[K, float] | Iterable[tuple[K, float]], window_s: float, per_hour: Amount, machines: int = 1
) -> Shares[K]:
    """Split what machines cost by the time each key kept them busy.

    Time that nobody used is idle. More use than the machines have time for is no error: models that share a machine may
    be busy at once. Then the bill, which stays what it is, is split in proportion and nothing is idle; `Shares.load`
    tells.

    Args:
        busy: seconds by key (a tenant, a route, a model), as `Meter` and `busy_time` give them; several entries of a
            key add up.
        window_s: seconds that the machines were paid for.
        per_hour: price of one machine.
        machines: how many.

    Raises:
        ConfigurationError: a negative or endless number; no window; no machine.
    """
    if machines < 1:
        raise ConfigurationError(f"machines: {machines} must be at least 1")
    seconds = _added(busy)
    capacity = _window(window_s) * machines
    bill = rounded(exactly(per_hour, "per_hour") * exactly(window_s, "window_s") * machines / 3600)
    return _split(bill, seconds, capacity)


def share_rent(
    uses: Mapping[K, float] | Iterable[tuple[K, float]], monthly: Amount, window_s: float = MONTH_S
) -> Shares[K]:
    """Split a rent, of a database as a rule, by use.

    A rented database has no capacity in queries, so whoever used it bears all of it, in proportion; it is idle only
    when nobody did.

    Args:
        uses: how often, or how many seconds, by key (a route, a tenant); several entries of a key add up.
        monthly: rent of 730 hours.
        window_s: seconds in which the uses were counted; the rent is taken for as long.

    Raises:
        ConfigurationError: a negative or endless number; no window.
    """
    counted = _added(uses)
    used = sum(counted.values(), Fraction(0))
    bill = rounded(exactly(monthly, "monthly") * exactly(window_s, "window_s") / MONTH_S)
    _window(window_s)
    return _split(bill, counted, used or Fraction(1))


def busy_time(intervals: Sequence[tuple[float, float]]) -> list[float]:
    """Share the time in which anything ran among what ran: while n intervals overlap, each gets 1/n.

    The same as `Meter` gives live.

    Args:
        intervals: start and end of each call, in seconds of one clock, in any order.

    Returns:
        Seconds, in the order of the intervals; their sum is the length of the union.

    Raises:
        ConfigurationError: an interval ends before it starts, or is no pair of finite numbers.
    """
    change: Counter[float] = Counter()
    for place, (start, end) in enumerate(intervals):
        if not (isfinite(start) and isfinite(end) and start <= end):
            raise ConfigurationError(f"interval {place}: {start} to {end} is none; the end comes last, both are finite")
        change[start] += 1
        change[end] -= 1
    shared: dict[float, float] = {}  # at each moment, what an interval that ran since the beginning would have got
    running, gained, before = 0, 0.0, 0.0
    for moment in sorted(change):
        if running:
            gained += (moment - before) / running
        shared[moment] = gained
        running += change[moment]
        before = moment
    return [shared[end] - shared[start] for start, end in intervals]


def _added(parts: Mapping[K, float] | Iterable[tuple[K, float]]) -> dict[K, Fraction]:
    """Add up by key, exactly, so that no order of the parts changes the sum."""
    added: dict[K, Fraction] = {}
    for key, part in parts.items() if isinstance(parts, Mapping) else parts:
        if not (isfinite(part) and part >= 0):
            raise ConfigurationError(f"{key!r}: {part!r} must be finite and not negative")
        added[key] = added.get(key, Fraction(0)) + Fraction(part)
    return added


def _window(window_s: float) -> Fraction:
    if not (isfinite(window_s) and window_s > 0):
        raise ConfigurationError(f"window_s: {window_s!r} must be finite and more than 0 seconds")
    return Fraction(window_s)


def _split(bill: Decimal, used: Mapping[K, Fraction], capacity: Fraction) -> Shares[K]:
    total = sum(used.values(), Fraction(0))
    *parts, idle = _apportioned(bill, [*used.values(), max(capacity - total, Fraction(0))])
    return Shares(dict(zip(used, parts, strict=True)), idle, bill, float(total / capacity))


def _apportioned(amount: Decimal, weights: Sequence[Fraction]) -> list[Decimal]:
    """Split by largest remainder: each part within one last decimal place of its exact share, the sum exact."""
    quanta = int(amount.scaleb(PLACES))
    total = sum(weights, Fraction(0))
    exact = [quanta * weight / total for weight in weights]
    whole = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda place: whole[place] - exact[place])
    for place in by_remainder[: quanta - sum(whole)]:
        whole[place] += 1
    return [Decimal(share).scaleb(-PLACES) for share in whole]
