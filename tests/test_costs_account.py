"""The arithmetic of a budget: nothing is ever spent and reserved beyond a limit, and the sums come out."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llama_index_hybridmem.costs.budgets.account import Account, Accounts, Limits, Reservation
from llama_index_hybridmem.errors import BudgetError, BudgetExceededError, HybridMemoryError

TODAY = date(2026, 11, 21)
AMOUNT = st.integers(0, 60).map(lambda cents: Decimal(cents) / 100)
LIMIT = st.none() | st.integers(1, 300).map(lambda cents: Decimal(cents) / 100)


def accounts(shares: tuple[float, ...] = (), **limits: str) -> Accounts:
    """Accounts of today, in USD."""
    made = Accounts(Limits("USD", **{name: Decimal(limit) for name, limit in limits.items()}), shares)
    made.turn(TODAY)
    return made


class AnyOrder(RuleBasedStateMachine):
    """Calls of four queries and three tenants that begin, grow and end in any order, and across midnights."""

    @initialize(query=LIMIT, tenant=LIMIT, day=LIMIT)
    def begin(self, query: Decimal | None, tenant: Decimal | None, day: Decimal | None) -> None:
        """A budget with any of the limits."""
        self.books = Accounts(Limits("USD", query, tenant, day))
        self.books.turn(TODAY)
        self.queries = [Account("query", query) for _ in range(4)]
        self.accounts = list(self.queries)
        self.under_way: list[Reservation] = []
        self.expected: defaultdict[int, Decimal] = defaultdict(Decimal)

    @rule(most=AMOUNT, whose=st.sampled_from(["acme", "bravo", None]), place=st.integers(0, 3))
    def reserve(self, most: Decimal, whose: str | None, place: int) -> None:
        """A call begins, unless it may not."""
        query = self.queries[place] if self.books.limits.query is not None else None
        with told_why():
            self.under_way.append(self.books.reserve(most, whose, query))
            self.accounts += [each for each in self.under_way[-1].accounts if each not in self.accounts]

    @precondition(lambda self: self.under_way)
    @rule(most=AMOUNT, place=st.integers(0, 9))
    def grow(self, most: Decimal, place: int) -> None:
        """A call turns out larger, unless it may not."""
        with told_why():
            self.books.grow(self.under_way[place % len(self.under_way)], most)

    @precondition(lambda self: self.under_way)
    @rule(cost=st.none() | AMOUNT, place=st.integers(0, 9))
    def settle(self, cost: Decimal | None, place: int) -> None:
        """A call ends within what it reserved, or nobody knows how."""
        reservation = self.under_way.pop(place % len(self.under_way))
        cost = None if cost is None else min(cost, reservation.amount)
        self.books.settle(reservation, cost, 0.0)
        for account in reservation.accounts:
            self.expected[id(account)] += reservation.amount if cost is None else cost

    @rule()
    def midnight(self) -> None:
        """The next day."""
        self.books.turn(self.books.day + timedelta(days=1))

    @invariant()
    def nothing_is_exceeded(self) -> None:
        """Never, on any account; and each has spent and reserved what its calls did."""
        for account in self.accounts:
            assert account.limit is None or account.spent + account.reserved <= account.limit
            assert account.spent == self.expected[id(account)]
            assert account.reserved == sum(each.amount for each in self.under_way if account in each.accounts)
        assert self.books.open == len(self.under_way)
        assert not self.books.overdrawn


@contextmanager
def told_why() -> Iterator[None]:
    """A refusal is one because it would have exceeded the limit that it names."""
    try:
        yield
    except BudgetExceededError as error:
        why = error
    else:
        return
    assert why.limit_value is not None
    assert why.spent + why.reserved + why.needed > why.limit_value


TestAnyOrder = AnyOrder.TestCase


@given(st.lists(st.tuples(AMOUNT, AMOUNT), max_size=20))
def test_what_was_not_reserved_is_counted(pairs: list[tuple[Decimal, Decimal]]) -> None:
    """A call that costs more than it reserved is charged in full, and counted with the excess."""
    books = accounts(day="1000")
    for reserved, cost in pairs:
        books.settle(books.reserve(reserved), cost, 0.0)
    assert books.everybody.spent == sum((cost for _, cost in pairs), Decimal(0))
    assert books.overdrawn == sum(cost > reserved for reserved, cost in pairs)
    assert books.excess == sum((max(cost - reserved, Decimal(0)) for reserved, cost in pairs), Decimal(0))


def test_a_refusal_says_why_and_changes_nothing() -> None:
    """The error holds the limit that lacks, and the accounts are as they were."""
    books = accounts(tenant="1.00", day="5")
    books.settle(books.reserve(Decimal("0.40"), "acme"), Decimal("0.30"), 0.0)
    under_way = books.reserve(Decimal("0.50"), "acme")
    before = books.to_json()
    with pytest.raises(
        BudgetExceededError, match=r"tenant 'acme' today is 1 USD: 0\.3 are spent, 0\.5 reserved"
    ) as caught:
        books.reserve(Decimal("0.21"), "acme")
    error = caught.value
    assert (error.limit, error.tenant, error.unit) == ("tenant", "acme", "USD")
    assert (error.limit_value, error.spent) == (Decimal("1.00"), Decimal("0.30"))
    assert (error.reserved, error.needed) == (Decimal("0.50"), Decimal("0.21"))
    assert books.to_json() == {**before, "refused": 1}
    with pytest.raises(BudgetExceededError):
        books.grow(under_way, Decimal("0.71"))
    assert under_way.amount == Decimal("0.50")
    books.grow(under_way, Decimal("0.70"))
    assert under_way.amount == Decimal("0.70")
    assert books.reserve(Decimal("1"), "bravo").open


def test_a_refusal_says_when_waiting_may_do() -> None:
    """Only while calls are under way: what is spent does not come back."""
    books = accounts(day="1")
    under_way = books.reserve(Decimal("0.5"))
    with pytest.raises(BudgetExceededError, match="or try again when the calls under way have ended"):
        books.reserve(Decimal("0.6"))
    books.settle(under_way, Decimal("0.5"), 0.0)
    with pytest.raises(BudgetExceededError, match="a smaller prompt or max_tokens needs less$"):
        books.reserve(Decimal("0.6"))


def test_the_error_is_none_that_llamaindex_swallows() -> None:
    """Refine and compact take ValueError, TypeError and pydantic's ValidationError, a ValueError, for bad answers."""
    assert issubclass(BudgetExceededError, BudgetError)
    assert issubclass(BudgetError, HybridMemoryError)
    assert not issubclass(BudgetError, ValueError | TypeError)


def test_a_limit_may_be_spent_to_the_last_digit() -> None:
    """Equal to the limit is within it; a millionth of a millionth more is not."""
    books = accounts(day="0.3")
    for _ in range(3):
        books.settle(books.reserve(Decimal("0.1")), Decimal("0.1"), 0.0)
    assert books.everybody.left == 0
    with pytest.raises(BudgetExceededError):
        books.reserve(Decimal("0.000000000001"))


def test_a_call_settles_once() -> None:
    """A second end changes nothing, whatever it says."""
    books = accounts(day="1")
    reservation = books.reserve(Decimal("0.5"))
    books.settle(reservation, Decimal("0.2"), 0.0)
    assert books.settle(reservation, Decimal("0.9"), 0.0) == []
    assert (books.everybody.spent, books.open) == (Decimal("0.2"), 0)


def test_a_cost_that_nobody_knows_is_what_was_reserved() -> None:
    """Unknown is never 0."""
    books = accounts(day="1")
    books.settle(books.reserve(Decimal("0.5")), None, 0.0)
    assert (books.everybody.spent, books.unknown, books.overdrawn) == (Decimal("0.5"), 1, 0)


def test_a_new_day_begins_with_nothing_spent() -> None:
    """What began yesterday is charged to yesterday; a clock that is set back brings no old account back."""
    books = accounts(tenant="1", day="1")
    late = books.reserve(Decimal("0.9"), "acme")
    books.turn(TODAY + timedelta(days=1))
    fresh = books.reserve(Decimal("1"), "acme")
    books.settle(late, Decimal("0.8"), 0.0)
    assert (books.everybody.spent, books.everybody.reserved) == (0, 1)
    books.turn(TODAY)
    assert books.day == TODAY + timedelta(days=1)
    with pytest.raises(BudgetExceededError):
        books.reserve(Decimal("0.1"), "acme")
    books.settle(fresh, Decimal("0.5"), 0.0)
    assert books.tenants["acme"].spent == Decimal("0.5")


def test_shares_alert_once_in_order() -> None:
    """Each share alerts once for each account; one step may reach several."""
    books = accounts((0.5, 0.8), tenant="1", day="4")
    first = books.settle(books.reserve(Decimal("0.9"), "acme"), Decimal("0.85"), 7.0)
    assert [(each.limit, each.tenant, each.share, each.spent, each.at) for each in first] == [
        ("tenant", "acme", 0.5, Decimal("0.85"), 7.0),
        ("tenant", "acme", 0.8, Decimal("0.85"), 7.0),
    ]
    assert books.settle(books.reserve(Decimal("0.1"), "acme"), Decimal("0.1"), 8.0) == []
    second = books.settle(books.reserve(Decimal("1"), "bravo"), Decimal("0.5"), 9.0)
    assert [(each.limit, each.tenant) for each in second] == [("tenant", "bravo")]
    books.settle(books.reserve(Decimal("1"), "carl"), Decimal("0.55"), 9.0)
    assert books.everybody.told == 1
    books.turn(TODAY + timedelta(days=1))
    assert len(books.settle(books.reserve(Decimal("1"), "acme"), Decimal("1"), 10.0)) == 2


def test_what_was_spent_before_does_not_alert_again() -> None:
    """A restart counts what was spent, and is silent about shares that were reached then."""
    books = accounts((0.5, 0.8), tenant="1", day="1")
    books.restore(Decimal("0.6"), "acme")
    alerts = books.settle(books.reserve(Decimal("0.3"), "acme"), Decimal("0.3"), 0.0)
    assert [(each.limit, each.share) for each in alerts] == [("tenant", 0.8), ("day", 0.8)]
    assert books.calls == 1


def test_it_is_told_as_json() -> None:
    """Amounts are texts, to the last digit; a missing limit is null."""
    books = accounts(tenant="1.50", day="9")
    books.settle(books.reserve(Decimal("0.5"), "acme"), Decimal("0.123456789012"), 0.0)
    books.reserve(Decimal("0.25"))
    said = json.loads(json.dumps(books.to_json()))
    assert said == {
        "unit": "USD",
        "day": "2026-11-21",
        "limits": {"query": None, "tenant": "1.5", "day": "9"},
        "spent": "0.123456789012",
        "reserved": "0.25",
        "tenants": [
            {"tenant": "acme", "spent": "0.123456789012", "reserved": "0"},
            {"tenant": None, "spent": "0", "reserved": "0.25"},
        ],
        "calls": 2,
        "open": 1,
        "refused": 0,
        "overdrawn": 0,
        "excess": "0",
        "unknown": 0,
    }
