"""Keeps the newest result of a slow call that may fail or hang, and makes it again beside the work; knows no graph.

Readers get what was loaded last and never wait for a reload; only where there is nothing yet do they wait, as long as
their deadline allows. No lock is held while the foreign call runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ...deadlines import seconds_left
from ...errors import StoreClosedError, StoreUnavailableError

logger = logging.getLogger(__name__)

R = TypeVar("R")
T = TypeVar("T")

HANGING_LIMIT = 4
"""Abandoned loads that may hang at the same time; Python cannot stop a thread."""


@dataclass
class _Attempt(Generic[T]):
    """One load, on a thread of its own."""

    number: int
    began_s: float
    done: Future[T] = field(default_factory=Future)


class Loader(Generic[R, T]):
    """Loads something, hands it out, and loads it again when it has changed.

    Args:
        name: what is loaded, for messages.
        state: tells cheaply whether it has changed; gives None where that cannot be told.
        load: the slow and foreign part.
        build: makes what is handed out of what was loaded and what was handed out before, None at first; one at a time.
        check_s: seconds between two looks at `state`, taken only while somebody reads; None: never.
        timeout_s: seconds a load may take; then it is left behind and another may begin.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        name: str,
        state: Callable[[], Hashable | None],
        load: Callable[[], R],
        build: Callable[[R, T | None], T],
        *,
        check_s: float | None,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._state, self._load, self._build = name, state, load, build
        self._check_s, self._timeout_s, self._clock = check_s, timeout_s, clock
        self._building = threading.Lock()
        self._lock = threading.Lock()  # guards what follows, for moments only
        self._value: T | None = None
        self._known: Hashable | None = None  # the state as of the value
        self._number = 0  # of the attempt that brought the value
        self._attempts = 0
        self._checked_s = 0.0
        self._attempt: _Attempt[T] | None = None  # the one under way
        self._hanging = 0  # left behind and not yet over
        self._closed = False

    def value(self) -> T:
        """Give what was loaded last.

        Raises:
            StoreClosedError: after `close`.
            StoreUnavailableError: there is nothing yet, and the caller's deadline is over.
            Exception: there is nothing yet, and loading failed with this.
        """
        with self._lock:
            self._check_open()
            value = self._value
            due = self._check_s is not None and self._clock() - self._checked_s >= self._check_s
        if value is None:
            return self._awaited(self._begin(only_if_changed=False), seconds_left())
        if due:
            self._begin(only_if_changed=True)
        return value

    def reload(self, timeout_s: float | None = None) -> T:
        """Load anew and wait for it; a load that is under way does not count, it may have begun before a change.

        Raises:
            StoreUnavailableError: too many loads have not come back, or this one has not in time.
        """
        with self._lock:
            self._check_open()
            if self._attempt is not None and self._hanging >= HANGING_LIMIT:
                raise StoreUnavailableError(
                    f"{self._name} is not read again: {self._hanging + 1} earlier readings have not come back"
                )
            self._leave_behind()
        return self._awaited(self._begin(only_if_changed=False), timeout_s)

    def close(self) -> None:
        """Let go of what was loaded; a load under way ends unseen."""
        with self._lock:
            self._closed, self._value, self._attempt = True, None, None

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosedError(f"{self._name} is closed")

    def _awaited(self, attempt: _Attempt[T], timeout_s: float | None) -> T:
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        if not wait([attempt.done], timeout=limit_s).done:
            raise StoreUnavailableError(f"{self._name} was not read within {limit_s:.3g} s; call refresh() at start")
        return attempt.done.result()

    def _begin(self, *, only_if_changed: bool) -> _Attempt[T]:
        """Start a load, unless one is under way."""
        with self._lock:
            now_s = self._clock()
            running = self._attempt
            if running is not None:
                if now_s - running.began_s < self._timeout_s or self._hanging >= HANGING_LIMIT:
                    return running
                self._leave_behind()
            self._checked_s = now_s
            self._attempts += 1
            self._attempt = attempt = _Attempt[T](self._attempts, now_s)
        work = threading.Thread(
            target=self._work, args=(attempt, only_if_changed), name="hybridmem-property-graph", daemon=True
        )
        try:
            work.start()
        except RuntimeError as error:  # no thread to be had
            self._settle(attempt, None, error)
        return attempt

    def _leave_behind(self) -> None:
        if self._attempt is not None:
            self._hanging += 1
            self._attempt = None

    def _work(self, attempt: _Attempt[T], only_if_changed: bool) -> None:
        value, error = None, None
        try:
            value = self._loaded(attempt, only_if_changed)
        except BaseException as raised:  # noqa: BLE001 - a thread's boundary: whoever waits gets it
            error = raised
            logger.warning("%s could not be read: %s", self._name, raised)
        self._settle(attempt, value, error)

    def _settle(self, attempt: _Attempt[T], value: T | None, error: BaseException | None) -> None:
        """End an attempt, in one step for everybody who looks: until then it is under way, or counted as hanging."""
        with self._lock:
            if self._attempt is attempt:
                self._attempt = None
            elif not self._closed:
                self._hanging -= 1
            if error is not None:
                attempt.done.set_exception(error)
            else:
                attempt.done.set_result(value)  # type: ignore[arg-type]  # without an error there is a value

    def _loaded(self, attempt: _Attempt[T], only_if_changed: bool) -> T:
        state = self._state()
        with self._lock:
            value, unchanged = self._value, state is None or state == self._known
        if only_if_changed and value is not None and unchanged:
            return value
        loaded = self._load()
        with self._building:
            if self._value is not None and attempt.number < self._number:
                return self._value  # a later load was faster
            built = self._build(loaded, self._value)
            with self._lock:
                if not self._closed:
                    self._value, self._known, self._number = built, state, attempt.number
            return built
