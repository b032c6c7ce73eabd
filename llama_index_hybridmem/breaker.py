"""Keeps calls away from a server that does not answer, and tries when it does again; knows no thread and no store.

A call that hangs costs a thread, a call that only ends at its deadline costs every query that deadline. So after a few
of either the rest is skipped, and from time to time one single call is let through to see.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from .errors import (
    BranchTimeoutError,
    BreakerOpenError,
    ConfigurationError,
    StoreAccessError,
    StoreUnavailableError,
    told,
)

logger = logging.getLogger(__name__)

State = Literal["closed", "open", "half-open"]

UNANSWERED = (BranchTimeoutError, StoreUnavailableError, ConnectionError, TimeoutError, asyncio.TimeoutError)
"""Endings that say that a server does not answer."""
ANSWERED = (StoreAccessError,)
"""Errors that are a server's answer; every other one says nothing about it."""
_DOUBLINGS = 7
"""The wait between tries grows to at most 2 ** 7 times: a server hung for a day costs threads by the dozen."""


class Breaker:
    """Says which calls to one store are made and which are skipped.

    Closed, every call is made, however many at once. It opens when as many calls as its limit hang (they were abandoned
    and have not come back), or when that many in a row were late or found no server. Open, calls are skipped. After
    ``retry_s`` it is half-open: one call is let through. An answer closes it, be it that the password is wrong; another
    miss opens it again. A hanging call that comes back with an answer makes it half-open at once. For every hanging
    call beyond the limit the wait doubles.

    Thread-safe. A call is named by any object that its caller holds on to.

    Args:
        limit: calls that hang, or missed in a row, before it opens (default 4: a hung server costs four threads, not
            one per query).
        retry_s: seconds from its opening to the next try (default 5).
        name: the store's, for the log.
        clock: seconds, monotonic.

    Raises:
        ConfigurationError: a value out of range.
    """

    def __init__(
        self,
        limit: int = 4,
        *,
        retry_s: float = 5.0,
        name: str = "a store",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if limit < 1:
            raise ConfigurationError(f"a breaker's limit is at least 1, not {limit}")
        if not (math.isfinite(retry_s) and retry_s > 0):
            raise ConfigurationError(f"retry_s is finite and above 0, not {retry_s}")
        self.limit = limit
        self.retry_s = retry_s
        self._name, self._clock = name, clock
        self._lock = threading.Lock()
        self._hanging = 0
        self._misses = 0
        self._opened: float | None = None  # since when; None while closed
        self._probe: object | None = None  # the one call let through while half-open
        self._cause: str | None = None

    @property
    def hanging(self) -> int:
        """How many abandoned calls have not come back."""
        return self._hanging

    @property
    def state(self) -> State:
        """Where it stands: "closed", "open" or "half-open"."""
        with self._lock:
            return self._state()

    @property
    def is_open(self) -> bool:
        """Whether all calls are skipped."""
        return self.state == "open"

    def health(self) -> dict[str, Any]:
        """Describe it, JSON-safe.

        Returns:
            state; hanging (calls); misses (calls in a row); retry_in_s (seconds to the next try, 0 while one is due or
            under way, None while closed); error (the last miss, None when there was none since the last success).
        """
        with self._lock:
            return {
                "state": self._state(),
                "hanging": self._hanging,
                "misses": self._misses,
                "retry_in_s": self._retry_in_s(),
                "error": self._cause,
            }

    def refusal(self, store: str) -> BreakerOpenError:
        """Say why a call to the store is skipped now."""
        with self._lock:
            return BreakerOpenError(store, self._hanging, self._misses, self._retry_in_s() or 0.0, self._cause)

    def admit(self, call: object) -> bool:
        """Say whether to make a call; one that is made must be reported by ``ended`` or ``abandoned``."""
        with self._lock:
            state = self._state()
            if state == "half-open" and self._probe is None:
                self._probe = call
                return True
            return state == "closed"

    def ended(self, call: object, error: BaseException | None) -> None:
        """Report how a call ended; a late one by its BranchTimeoutError, a good one by None."""
        with self._lock:
            was_open = self._opened is not None
            if isinstance(error, UNANSWERED):
                self._miss(call, error)
            elif error is None or isinstance(error, ANSWERED):
                self._misses, self._opened, self._cause = 0, None, None
            self._release(call)
            is_open = self._opened is not None
        self._tell(was_open, is_open)

    def abandoned(self, call: object, error: BaseException | None) -> None:
        """Report a call that nobody waits for any more but that still hangs; None: its caller was cancelled."""
        with self._lock:
            was_open = self._opened is not None
            self._hanging += 1
            if error is not None:
                self._miss(call, error)
            elif self._hanging >= self.limit and not was_open:
                self._opened = self._clock()
            self._release(call)
            is_open = self._opened is not None
        self._tell(was_open, is_open)

    def came_back(self, error: BaseException | None) -> None:
        """Report that an abandoned call has ended after all: with an answer (None) it is time for a try."""
        with self._lock:
            self._hanging -= 1
            if (error is None or isinstance(error, ANSWERED)) and self._opened is not None:
                self._opened = -math.inf

    def _miss(self, call: object, error: BaseException) -> None:
        self._misses += 1
        self._cause = told(error)
        too_many = self._misses >= self.limit or self._hanging >= self.limit
        if call is self._probe or (self._opened is None and too_many):
            self._opened = self._clock()

    def _release(self, call: object) -> None:
        """Let another call try: this one, if it was trying, has said what it could."""
        if call is self._probe:
            self._probe = None

    def _state(self) -> State:
        if self._opened is None:
            return "closed"
        return "half-open" if self._retry_in_s() == 0.0 else "open"

    def _retry_in_s(self) -> float | None:
        if self._opened is None:
            return None
        if self._probe is not None:
            return 0.0
        beyond = min(max(self._hanging - self.limit, 0), _DOUBLINGS)
        return max(0.0, self._opened + self.retry_s * (1 << beyond) - self._clock())

    def _tell(self, was_open: bool, is_open: bool) -> None:
        if is_open and not was_open:
            logger.warning("%s", self.refusal(self._name))
        elif was_open and not is_open:
            logger.info("%s answers again", self._name)
