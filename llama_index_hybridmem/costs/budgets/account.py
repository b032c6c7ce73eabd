"""What may be spent, what is, and what is promised to calls under way: a budget's arithmetic; pure, knows no calls.

A call first reserves the most that it can cost, and settles for what it did cost when it has ended. So what is spent
and what is reserved never exceed a limit together, however many calls are under way at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from typing import Any, Literal

from llama_index_hybridmem.errors import BudgetExceededError

LimitName = Literal["query", "tenant", "day"]
"""Of what a limit is."""

_ARITHMETIC = Context(prec=50, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])


def exactly_here() -> AbstractContextManager[Context]:
    """Reckon with 50 digits within a block: the app's own decimal context may round to a few, or trap."""
    return localcontext(_ARITHMETIC)


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be spent; None for no limit.

    Attributes:
        unit: of the amounts: a currency, or ``tokens``.
        query: by one query.
        tenant: by one tenant on one day.
        day: by everybody on one day.
    """

    unit: str
    query: Decimal | None = None
    tenant: Decimal | None = None
    day: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """A share of a limit is spent.

    Attributes:
        limit: which one, ``query``, ``tenant`` or ``day``.
        tenant: whose, where it is a tenant's.
        spent: so far.
        limit_value: what may be spent.
        share: of it that was reached, as given to the budget.
        at: when, Unix seconds.
    """

    limit: LimitName
    tenant: str | None
    spent: Decimal
    limit_value: Decimal
    share: float
    at: float


class Account:
    """What one limit allows, to one query, to one tenant's day or to a day.

    Attributes:
        name: of the limit.
        limit: None for none.
        tenant: whose it is; None unless it is a tenant's.
        spent: by calls that have ended.
        reserved: for calls under way.
        told: how many of the shares that alert were reached.
    """

    __slots__ = ("limit", "name", "reserved", "spent", "tenant", "told")

    def __init__(self, name: LimitName, limit: Decimal | None, tenant: str | None = None) -> None:
        self.name, self.limit, self.tenant = name, limit, tenant
        self.spent = self.reserved = Decimal(0)
        self.told = 0

    @property
    def left(self) -> Decimal | None:
        """What may still be reserved; None without a limit."""
        return None if self.limit is None else max(self.limit - self.spent - self.reserved, Decimal(0))

    def reached(self, shares: Sequence[float]) -> Iterator[tuple[float, Decimal]]:
        """Give the shares, in ascending order, that are reached and were not before, with the limit."""
        while (
            self.limit is not None
            and self.told < len(shares)
            and self.spent >= self.limit * Decimal(str(shares[self.told]))
        ):
            self.told += 1
            yield shares[self.told - 1], self.limit


class Reservation:
    """What one call may spend, on every account that it concerns.

    Attributes:
        amount: the most that it can cost.
        accounts: which it is reserved on.
        open: whether the call has not settled yet.
    """

    __slots__ = ("accounts", "amount", "open")

    def __init__(self, accounts: tuple[Account, ...]) -> None:
        self.accounts = accounts
        self.amount = Decimal(0)
        self.open = True


class Accounts:
    """All accounts of one budget. Threads take turns with them, within `exactly_here`.

    A call counts for the day on which it began, and so do its alerts; the accounts of a day go with it, and that of a
    query with the query. A clock that is set back does not bring yesterday's accounts back.

    Args:
        limits: see `Limits`.
        shares: of a limit that alert, in ascending order.

    Attributes:
        calls: that were allowed.
        refused: calls that were not.
        open: calls that have not settled yet.
        overdrawn: calls that cost more than they had reserved.
        excess: how much more, all of them together.
        unknown: calls that were charged what they had reserved, for nobody knows what they cost.
    """

    def __init__(self, limits: Limits, shares: Sequence[float] = ()) -> None:
        self.limits, self._shares = limits, tuple(shares)
        self.calls = self.refused = self.open = self.overdrawn = self.unknown = 0
        self.excess = Decimal(0)
        self.day = date.min
        self._begin(date.min)

    def _begin(self, day: date) -> None:
        self.day = day
        self.everybody = Account("day", self.limits.day)
        self.tenants: dict[str | None, Account] = {}

    def turn(self, day: date) -> None:
        """Go on to a day; an earlier one changes nothing."""
        if day > self.day:
            self._begin(day)

    def tenant(self, tenant: str | None) -> Account:
        """The account of a tenant's day."""
        return self.tenants.setdefault(tenant, Account("tenant", self.limits.tenant, tenant))

    def reserve(self, amount: Decimal, tenant: str | None = None, query: Account | None = None) -> Reservation:
        """Allow a call, today.

        Args:
            amount: the most that it can cost.
            tenant: who asks; calls without one share an account.
            query: the account of its query; None where queries have no limit.

        Raises:
            BudgetExceededError: it could exceed a limit; nothing has changed then.
        """
        accounts = [self.everybody]
        if self.limits.tenant is not None:
            accounts.insert(0, self.tenant(tenant))
        if query is not None:
            accounts.insert(0, query)
        reservation = Reservation(tuple(accounts))
        self.grow(reservation, amount)
        self.calls += 1
        self.open += 1
        return reservation

    def grow(self, reservation: Reservation, amount: Decimal) -> None:
        """Make a reservation as large as this, if it is smaller.

        Raises:
            BudgetExceededError: that could exceed a limit; nothing has changed then.
        """
        more = amount - reservation.amount
        if more <= 0:
            return
        for account in reservation.accounts:
            if account.limit is not None and account.limit < account.spent + account.reserved + more:
                self.refused += 1
                so_far = (account.name, account.limit, account.spent, account.reserved)
                raise BudgetExceededError(*so_far, more, self.limits.unit, account.tenant)
        for account in reservation.accounts:
            account.reserved += more
        reservation.amount = amount

    def settle(self, reservation: Reservation, cost: Decimal | None, at: float) -> list[Alert]:
        """Spend what a call did cost in place of what was reserved for it; once more changes nothing.

        Args:
            reservation: of the call.
            cost: of the call; None when nobody knows: then it is charged what it had reserved.
            at: Unix seconds, for the alerts.

        Returns:
            The alerts that this sets off.
        """
        if not reservation.open:
            return []
        reservation.open = False
        self.open -= 1
        self.unknown += cost is None
        charged = reservation.amount if cost is None else cost
        for account in reservation.accounts:
            account.reserved -= reservation.amount
            account.spent += charged
        if charged > reservation.amount:
            self.overdrawn += 1
            self.excess += charged - reservation.amount
        return [
            Alert(account.name, account.tenant, account.spent, limit, share, at)
            for account in reservation.accounts
            for share, limit in account.reached(self._shares)
        ]

    def restore(self, amount: Decimal, tenant: str | None) -> None:
        """Spend what was spent today before a restart; alerts that it set off are not repeated."""
        accounts = [self.everybody, *([self.tenant(tenant)] if self.limits.tenant is not None else [])]
        for account in accounts:
            account.spent += amount
            for _ in account.reached(self._shares):
                pass

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types; amounts are texts, so that no digit is lost."""
        limits = {name: getattr(self.limits, name) for name in ("query", "tenant", "day")}
        return {
            "unit": self.limits.unit,
            "day": self.day.isoformat(),
            "limits": {name: _text(limit) for name, limit in limits.items()},
            "spent": _text(self.everybody.spent),
            "reserved": _text(self.everybody.reserved),
            "tenants": [
                {"tenant": account.tenant, "spent": _text(account.spent), "reserved": _text(account.reserved)}
                for account in self.tenants.values()
            ],
            "calls": self.calls,
            "open": self.open,
            "refused": self.refused,
            "overdrawn": self.overdrawn,
            "excess": _text(self.excess),
            "unknown": self.unknown,
        }


def _text(amount: Decimal | None) -> str | None:
    """Without an exponent, which sums that come to nothing print with."""
    return None if amount is None else f"{amount.normalize():f}"
