"""Tests of bills that are split by use, and of busy time shared among overlapping calls."""

from __future__ import annotations

import itertools
import random
import threading
import time
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.costs.bills.sharing import busy_time, share_machine, share_rent
from llama_index_hybridmem.costs.tracking.meter import Meter
from llama_index_hybridmem.errors import ConfigurationError

SECONDS = st.floats(0, 1e6)
BUSY = st.dictionaries(st.sampled_from("abcdefgh"), SECONDS)
PRICE = st.decimals(0, 1000, places=5)
INTERVALS = st.lists(st.tuples(SECONDS, SECONDS).map(lambda pair: (min(pair), max(pair))), max_size=12)


def union(intervals: list[tuple[float, float]]) -> float:
    """Length of the union, cut at every end: the slow and plain way."""
    cuts = sorted({moment for pair in intervals for moment in pair})
    return sum(b - a for a, b in pairwise(cuts) if any(start <= a and b <= end for start, end in intervals))


def test_a_machine_is_paid_by_those_who_kept_it_busy_and_the_rest_is_idle() -> None:
    """Of an hour at 2.00, 900 s and 450 s cost 0.50 and 0.25; the other 2,250 s are idle."""
    shares = share_machine({"a": 900, "b": 450}, 3600, "2.00")
    assert shares.allocated == {"a": Decimal("0.5"), "b": Decimal("0.25")}
    assert (shares.idle, shares.bill, shares.load) == (Decimal("1.25"), Decimal(2), 0.375)
    assert share_machine([("a", 450), ("b", 450), ("a", 450)], 3600, 2) == shares


def test_several_machines_have_several_windows() -> None:
    """Two machines for an hour hold two hours of busy time and cost twice."""
    shares = share_machine({"a": 3600}, 3600, "1.5", machines=2)
    assert (shares.allocated["a"], shares.idle, shares.bill) == (Decimal("1.5"), Decimal("1.5"), Decimal(3))


def test_more_use_than_time_splits_the_bill_in_proportion() -> None:
    """Models that share a GPU may be busy at once: the bill stays what it is, and the load says so."""
    shares = share_machine({"encoder": 3600, "llm": 3600 * 3}, 3600, 4)
    assert shares.allocated == {"encoder": Decimal(1), "llm": Decimal(3)}
    assert (shares.idle, shares.bill, shares.load) == (0, Decimal(4), 4.0)


@given(BUSY, st.floats(1, 1e7), PRICE, st.integers(1, 4))
def test_the_shares_of_a_machine_add_up_to_its_bill(
    busy: dict[str, float], window_s: float, per_hour: Decimal, machines: int
) -> None:
    """To the last digit, whatever the numbers; nobody pays less than nothing, and idle only what is left."""
    shares = share_machine(busy, window_s, per_hour, machines)
    assert sum(shares.allocated.values()) + shares.idle == shares.bill
    assert min([*shares.allocated.values(), shares.idle]) >= 0
    if shares.load <= 1:
        for key, seconds in busy.items():
            assert abs(shares.allocated[key] - per_hour * Decimal(seconds) / 3600) < Decimal("1e-6")


@given(BUSY, PRICE, st.randoms(use_true_random=False))
def test_the_order_of_the_uses_changes_nothing(busy: dict[str, float], per_hour: Decimal, order: random.Random) -> None:
    """Entries in another order give each key the same, but for who gets the last digit of a tie."""
    parts = list(busy.items()) * 2
    first = share_machine(parts, 1e6, per_hour)
    order.shuffle(parts)
    second = share_machine(parts, 1e6, per_hour)
    assert (second.bill, second.load) == (first.bill, first.load)
    assert all(abs(second.allocated[key] - first.allocated[key]) <= Decimal("1e-12") for key in busy)


def test_a_rent_is_borne_by_whoever_used_the_database() -> None:
    """A day's part of the month's rent, three quarters of it for three quarters of the queries; nothing is idle."""
    shares = share_rent({"graph": 30, "hybrid": 90, "vector": 0}, "365", 24 * 3600)
    assert shares.allocated == {"graph": Decimal(3), "hybrid": Decimal(9), "vector": Decimal(0)}
    assert (shares.idle, shares.bill) == (0, Decimal(12))


@pytest.mark.parametrize("uses", [{}, {"graph": 0}])
def test_a_database_that_nobody_used_is_idle(uses: dict[str, float]) -> None:
    """Its rent is due all the same, and is nobody's."""
    shares = share_rent(uses, "65.00")
    assert (shares.idle, shares.bill, shares.load) == (Decimal(65), Decimal(65), 0.0)
    assert set(shares.allocated.values()) <= {Decimal(0)}


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 9)), PRICE, st.floats(1, 1e8))
def test_the_shares_of_a_rent_add_up(uses: dict[str, int], monthly: Decimal, window_s: float) -> None:
    """To the last digit; with any use at all, nothing is idle, and who did not use it pays nothing."""
    shares = share_rent(uses, monthly, window_s)
    assert all(shares.allocated[key] == 0 for key, used in uses.items() if not used)
    assert sum(shares.allocated.values()) + shares.idle == shares.bill
    assert shares.idle == 0 or not any(uses.values())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: share_machine({"a": -1}, 1, 1), "'a': -1"),
        (lambda: share_machine({"a": float("nan")}, 1, 1), "'a': nan"),
        (lambda: share_machine({}, 0, 1), "window_s"),
        (lambda: share_machine({}, 1, 1, machines=0), "machines"),
        (lambda: share_machine({}, 1, "free"), "per_hour: 'free'"),
        (lambda: share_rent({"a": 1}, "-5"), "monthly"),
        (lambda: share_rent({"a": 1}, 5, float("inf")), "window_s"),
        (lambda: busy_time([(0, 1), (2, 1)]), "interval 1"),
        (lambda: busy_time([(0, float("nan"))]), "interval 0"),
        (lambda: Meter().stop(0, 1), "no call runs"),
    ],
)
def test_what_cannot_be_split_is_refused(call: object, message: str) -> None:
    """The error names the key, the argument or the interval."""
    with pytest.raises(ConfigurationError, match=message):
        call()  # type: ignore[operator]


def test_overlapping_calls_share_the_time_they_overlap() -> None:
    """0-10 alone for 4 s and with another for 6 s is busy for 7 s, the other, alone until 12, for 5."""
    assert busy_time([(0, 10), (4, 12)]) == [7.0, 5.0]
    assert busy_time([(0, 1), (1, 3), (5, 5)]) == [1.0, 2.0, 0.0]
    assert busy_time([]) == []


@given(INTERVALS, st.randoms(use_true_random=False))
def test_busy_times_add_up_to_the_union(intervals: list[tuple[float, float]], order: random.Random) -> None:
    """Each within its own length, the sum the union's, in any order of the intervals."""
    shares = busy_time(intervals)
    assert sum(shares) == pytest.approx(union(intervals), rel=1e-9, abs=1e-6)
    for share, (start, end) in zip(shares, intervals, strict=True):
        assert 0 <= share <= (end - start) + 1e-6
    places = list(range(len(intervals)))
    order.shuffle(places)
    assert busy_time([intervals[place] for place in places]) == [shares[place] for place in places]


@given(INTERVALS)
def test_a_meter_gives_live_what_the_sweep_gives_afterwards(intervals: list[tuple[float, float]]) -> None:
    """Starts and stops in the order of their times give every call the share that the list of intervals does."""
    moments = [(end, 1, place) for place, (_, end) in enumerate(intervals)]
    moments += [(start, 0, place) for place, (start, _) in enumerate(intervals)]
    meter, begun, shares = Meter(), {}, dict.fromkeys(range(len(intervals)), 0.0)
    for now, is_end, place in sorted(moments):  # a start before an end of the same moment: none is left out
        if is_end:
            shares[place] = meter.stop(begun[place], now)
        else:
            begun[place] = meter.start(now)
    assert list(shares.values()) == pytest.approx(busy_time(intervals), rel=1e-9, abs=1e-6)
    assert meter.active == 0


def test_a_meter_takes_a_late_clock_reading_as_the_latest_one() -> None:
    """A thread that read the clock before another but came after it neither gains nor loses time twice."""
    meter = Meter()
    first = meter.start(10.0)
    second = meter.start(9.0)
    assert meter.stop(first, 14.0) == 2.0
    assert meter.stop(second, 13.0) == 2.0
    third = meter.start(12.0)
    assert meter.stop(third, 15.0) == 1.0


class Yielding(float):
    """A time that lets the other threads run in the middle of every subtraction."""

    def __sub__(self, other: float) -> float:
        """The difference, late."""
        time.sleep(0)
        return float(self) - other


def test_threads_share_one_meter() -> None:
    """However the threads interleave, the shares add up to the time between the first start and the last stop."""
    meter, ticks, shares = Meter(), itertools.count(1), []
    whole = meter.start(0.0)

    def work() -> None:
        for _ in range(500):
            begun = meter.start(Yielding(next(ticks)))
            shares.append(meter.stop(begun, Yielding(next(ticks))))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shares.append(meter.stop(whole, 4001.0))
    assert meter.active == 0
    assert sum(shares) == pytest.approx(4001.0)
