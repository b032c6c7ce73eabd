"""What was spent, by whom and in which month; pure, knows traces and no prices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from itertools import groupby

from llama_index_hybridmem.costs.trace import QueryTrace

_MOST_POINTS = 160  # of a month's curve: more than a picture of it can show
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Spending:
    """What some traces cost.

    Attributes:
        priced: traces of whose model calls every one has a price; those without any call are among them, and cost 0.
        unpriced: the others.
        total: what the priced ones cost; None when none is priced.
        known: `total` with the priced calls of the unpriced ones: at least so much was spent; None when nothing is
            known.
    """

    priced: int
    unpriced: int
    total: Decimal | None
    known: Decimal | None


@dataclass(slots=True)
class Purse:
    """Adds up what traces cost, one after the other."""

    priced: int = 0
    unpriced: int = 0
    total: Decimal = Decimal(0)
    partial: Decimal = Decimal(0)
    partly: bool = False

    def add(self, trace: QueryTrace) -> Decimal | None:
        """Count one, and give what it cost, if that is known."""
        cost = trace.cost
        if cost is None:
            self.unpriced += 1
            self.partial += trace.cost_known
            self.partly = self.partly or any(call.cost is not None for call in trace.calls)
        else:
            self.priced += 1
            self.total += cost
        return cost

    def counted(self) -> Spending:
        """Say what it came to."""
        known = self.total + self.partial if self.priced or self.partly else None
        return Spending(self.priced, self.unpriced, self.total if self.priced else None, known)


def most_first(spent: Spending) -> Decimal:
    """Sort what cost most to the front, and what nobody knows to the end."""
    return Decimal(1) if spent.known is None else -spent.known


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month (UTC) of spending.

    Attributes:
        name: "2026-11".
        start: its first moment, Unix seconds, as the next.
        end: the next month's first moment.
        known: what is known to be spent in it.
        curve: (when, spent in the month by then), in order; thinned, its last point is exact.
        reached: when the limit was reached; None when it was not, or there is none.
    """

    name: str
    start: float
    end: float
    known: Decimal
    curve: tuple[tuple[float, Decimal], ...]
    reached: float | None = None


@dataclass(frozen=True, slots=True)
class Outlook:
    """Where the last month goes if the pace of its traces stays what it was: a straight line, no forecast.

    Attributes:
        observed_s: seconds of that month that the traces cover.
        projected: known cost at the month's end.
        reaches: when the limit is reached at that pace, Unix seconds; None when not in that month, or already.
    """

    observed_s: float
    projected: Decimal
    reaches: float | None


@dataclass(slots=True)
class Diary:
    """Notes when money was spent, to draw it as a curve."""

    entries: list[tuple[float, Decimal]] = field(default_factory=list)

    def add(self, trace: QueryTrace) -> None:
        """Note what is known of one."""
        if trace.unpriced < len(trace.calls) or not trace.calls:
            self.entries.append((trace.started, trace.cost_known))

    def months(self, limit: Decimal | None) -> tuple[Month, ...]:
        """Cut the notes into calendar months, in order."""
        entries = sorted(self.entries)
        return tuple(_month(list(each), limit) for _, each in groupby(entries, key=lambda entry: _name(entry[0])))


def outlook(months: Sequence[Month], first: float, last: float, limit: Decimal | None) -> Outlook | None:
    """Draw the last month's line to its end.

    Args:
        months: of all traces.
        first: when the first trace of all began, Unix seconds.
        last: when the last one ended.
        limit: for a month; None without one.

    Returns:
        None for less than a day of traces, from which nothing follows.
    """
    if not months:
        return None
    month = months[-1]
    observed = min(last, month.end) - max(first, month.start)
    if observed < _DAY_S:
        return None
    pace = month.known / Decimal(observed)
    left = Decimal(max(month.end - last, 0.0))
    projected = (month.known + pace * left).quantize(Decimal("0.000001"))
    reaches = None
    if limit is not None and month.known < limit <= projected:
        reaches = last + float((limit - month.known) / pace)
    return Outlook(observed, projected, reaches)


def _month(entries: Sequence[tuple[float, Decimal]], limit: Decimal | None) -> Month:
    moment = datetime.fromtimestamp(entries[0][0], timezone.utc)
    start = datetime(moment.year, moment.month, 1, tzinfo=timezone.utc)
    end = datetime(moment.year + moment.month // 12, moment.month % 12 + 1, 1, tzinfo=timezone.utc)
    curve = list(_running(entries))
    reached = next((when for when, spent in curve if spent >= limit), None) if limit is not None else None
    thinned = [*curve[: -1 : -(-len(curve) // _MOST_POINTS)], curve[-1]]
    return Month(f"{start:%Y-%m}", start.timestamp(), end.timestamp(), curve[-1][1], tuple(thinned), reached)


def _running(entries: Iterable[tuple[float, Decimal]]) -> Iterable[tuple[float, Decimal]]:
    spent = Decimal(0)
    for when, cost in entries:
        spent += cost
        yield when, spent


def _name(when: float) -> str:
    return f"{datetime.fromtimestamp(when, timezone.utc):%Y-%m}"
