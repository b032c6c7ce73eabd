"""A budget's accounts for many threads, and for the garbage collector; knows no calls and no prices."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal

from llama_index_hybridmem.costs.budgets.account import Accounts, Alert, Reservation, exactly_here

logger = logging.getLogger(__name__)


class Books:
    """Gives the accounts to one thread at a time, and tells of alerts when nobody has them.

    A call may end because the garbage collector closes a forgotten stream, in the midst of anything, the
    accounts' own arithmetic included. So settling never waits: it leaves a note, and counts the notes unless somebody
    has the accounts, who counts them when done.

    Args:
        accounts: nobody else uses them.
        today: gives the day.
        on_alert: may use the books; what it raises is logged once and counted. None for nobody.

    Attributes:
        alerts_failed: how often it raised.
    """

    def __init__(self, accounts: Accounts, today: Callable[[], date], on_alert: Callable[[Alert], None] | None) -> None:
        self._accounts, self._today, self._on_alert = accounts, today, on_alert
        self._lock = threading.Lock()
        self._notes: deque[tuple[Reservation, Decimal | None, float]] = deque()
        self._alerts: deque[Alert] = deque()
        self._has_warned = False
        self.alerts_failed = 0

    @contextmanager
    def open(self) -> Iterator[Accounts]:
        """Give the accounts as of now, and within the block their arithmetic."""
        try:
            with self._lock, exactly_here():
                self._count()
                self._accounts.turn(self._today())
                yield self._accounts
        finally:
            self._catch_up()

    def settle(self, reservation: Reservation, cost: Decimal | None, at: float) -> None:
        """Settle a call, see `Accounts.settle`; never waits."""
        self._notes.append((reservation, cost, at))
        self._catch_up()

    def _catch_up(self) -> None:
        while self._notes and self._lock.acquire(blocking=False):
            try:
                with exactly_here():
                    self._count()
            finally:
                self._lock.release()
        self._tell()

    def _count(self) -> None:
        while self._notes:
            self._alerts.extend(self._accounts.settle(*self._notes.popleft()))

    def _tell(self) -> None:
        if self._accounts.overdrawn and not self._has_warned:
            self._has_warned = True
            logger.warning("a call cost more than was reserved for it; Budget.to_json() counts such calls")
        while self._alerts:
            try:
                alert = self._alerts.popleft()
            except IndexError:  # another thread tells it
                return
            self._alert(alert)

    def _alert(self, alert: Alert) -> None:
        if self._on_alert is None:
            return
        try:
            self._on_alert(alert)
        except Exception:  # noqa: BLE001 - an alert must not break the call that set it off
            if not self.alerts_failed:
                logger.warning("on_alert of a budget failed; further failures are only counted", exc_info=True)
            self.alerts_failed += 1
