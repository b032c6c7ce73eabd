"""Calls run side by side, each under its own deadline, on daemon threads of our own; knows nothing of retrieval.

Why not ``asyncio.to_thread`` or a ``ThreadPoolExecutor``: ``asyncio.run`` and the exit of the interpreter join their
threads, so one hanging server would keep the whole process alive. A daemon thread that misses its deadline is left
behind instead (Python cannot stop it), counted on its ``Breaker``, and nobody waits for it any more.

``run`` and ``arun`` share one body, the coroutine ``_fly``. It waits in one place only, at its bell: the threaded bell
blocks there and the coroutine never suspends, the loop's bell awaits.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from .bells import Bell, LoopBell, ThreadBell
from .errors import BranchTimeoutError, BreakerOpenError, ConfigurationError

logger = logging.getLogger(__name__)

T = TypeVar("T")
Status = Literal["ok", "failed", "late", "skipped"]


class Breaker:
    """Counts the calls to one store that were abandoned and still hang; open once there are too many.

    Thread-safe. Only abandoned calls count: a burst of calls that are all within their deadlines is let through.

    Args:
        limit: hanging calls that open the breaker (default 4: a hung server costs four threads, not one per query).
    """

    def __init__(self, limit: int = 4) -> None:
        if limit < 1:
            raise ConfigurationError(f"a breaker's limit is at least 1, not {limit}")
        self.limit = limit
        self._hanging = 0
        self._lock = threading.Lock()

    @property
    def hanging(self) -> int:
        """How many abandoned calls have not come back."""
        return self._hanging

    @property
    def is_open(self) -> bool:
        """Whether further calls are skipped; closes by itself as soon as one hanging call comes back."""
        return self._hanging >= self.limit

    def _count(self, change: int) -> None:
        with self._lock:
            self._hanging += change


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call to make.

    Attributes:
        function: what to run on an own thread, under a copy of the caller's context. No argument, or, with ``after``,
            the ``Outcome`` of that call, whatever it was.
        deadline_s: seconds it has, counted from its own start; None for no limit.
        breaker: where it is counted when it misses its deadline; None to count nowhere.
        native: an awaitable form of ``function``, preferred by ``arun``: it runs on the event loop and is cancelled
            when late. ``run`` always uses ``function``.
        after: name of a call listed earlier that must have ended before this one starts.
    """

    function: Callable[..., T]
    deadline_s: float | None = None
    breaker: Breaker | None = None
    native: Callable[..., Awaitable[T]] | None = None
    after: str | None = None


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """How one call ended.

    Attributes:
        name: the call's name.
        status: ``ok``, ``failed`` (it raised), ``late`` (it missed its deadline) or ``skipped`` (its breaker is open).
        value: what it returned; None unless ``ok``.
        error: what it raised, or why there is no answer; None when ``ok``.
        latency_s: seconds from its start to its end, or to its abandonment; 0 when skipped.
    """

    name: str
    status: Status
    value: T | None = None
    error: BaseException | None = None
    latency_s: float = 0.0


def run(calls: Mapping[str, Call[T]]) -> dict[str, Outcome[T]]:
    """Make all calls side by side and wait until each has ended or missed its deadline.

    Args:
        calls: name to call.

    Returns:
        Name to outcome, in the order of ``calls``. A call's own exception is an outcome, never raised here.

    Raises:
        ConfigurationError: an ``after`` names no call listed earlier.
    """
    try:
        _fly(calls, ThreadBell()).send(None)
    except StopIteration as done:
        outcomes: dict[str, Outcome[T]] = done.value
        return outcomes
    raise AssertionError("the threaded bell never suspends")


async def arun(calls: Mapping[str, Call[T]]) -> dict[str, Outcome[T]]:
    """Do what ``run`` does without blocking the event loop; cancelling it returns at once and abandons what runs.

    Args:
        calls: name to call.

    Returns:
        Name to outcome, in the order of ``calls``.

    Raises:
        ConfigurationError: an ``after`` names no call listed earlier.
    """
    return await _fly(calls, LoopBell())


async def in_thread(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Await one blocking call on an own daemon thread; its exception is raised as it is.

    Args:
        function: the blocking function.
        *args: its arguments.
        **kwargs: its keyword arguments.

    Returns:
        What ``function`` returns. When the awaiting task is cancelled, the thread runs on, unobserved.
    """
    outcome = (await arun({"call": Call(lambda: function(*args, **kwargs))}))["call"]
    if outcome.error is not None:
        raise outcome.error
    return outcome.value  # type: ignore[return-value]  # an outcome without an error holds the function's own value


async def _fly(calls: Mapping[str, Call[T]], bell: Bell) -> dict[str, Outcome[T]]:
    """The one body: start what can start, sleep until a call ends or is due, collect, repeat."""
    _check_order(calls)
    waiting, flying = dict(calls), dict[str, _Flight[T]]()
    outcomes: dict[str, Outcome[T]] = {}
    try:
        while waiting or flying:
            _start_ready(waiting, flying, outcomes, bell)
            if flying:
                await bell.wait(min(flight.seconds_left() for flight in flying.values()))
            for name, flight in list(flying.items()):
                if (outcome := flight.settle()) is not None:
                    outcomes[name] = outcome
                    del flying[name]
    finally:
        for flight in flying.values():  # only when cancelled or interrupted
            flight.abandon()
    return {name: outcomes[name] for name in calls}


def _check_order(calls: Mapping[str, Call[T]]) -> None:
    seen: set[str] = set()
    for name, call in calls.items():
        if call.after is not None and call.after not in seen:
            raise ConfigurationError(f"{name!r} waits for {call.after!r}, which is no call listed before it")
        seen.add(name)


def _start_ready(
    waiting: dict[str, Call[T]], flying: dict[str, _Flight[T]], outcomes: dict[str, Outcome[T]], bell: Bell
) -> None:
    """Start, in order, every waiting call whose predecessor has ended; skip those whose breaker is open."""
    for name, call in list(waiting.items()):
        if call.after is not None and call.after not in outcomes:
            continue
        del waiting[name]
        if call.breaker is not None and call.breaker.is_open:
            error = BreakerOpenError(name, call.breaker.hanging)
            outcomes[name] = Outcome(name, "skipped", error=error)
        else:
            arguments = () if call.after is None else (outcomes[call.after],)
            flying[name] = flight = _Flight(name, call, bell)
            flight.start(arguments)


class _Flight(Generic[T]):
    """One call under way. A lock decides whether it landed or was abandoned first; it is never both."""

    def __init__(self, name: str, call: Call[T], bell: Bell) -> None:
        self._name, self._call, self._bell = name, call, bell
        self._lock = threading.Lock()
        self._task: asyncio.Task[T] | None = None
        self._value: T | None = None
        self._error: BaseException | None = None
        self._landed_s: float | None = None
        self._abandoned = False
        self._started = time.perf_counter()

    def start(self, arguments: tuple[Outcome[T], ...]) -> None:
        native = self._call.native if self._bell.on_loop else None
        if native is not None:
            self._task = asyncio.ensure_future(_awaited(native, arguments))
            self._task.add_done_callback(self._task_done)
            return
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run, args=(self._work, arguments), name=f"hybridmem-{self._name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # no thread to be had: this call's failure, not everybody's
            self._land(None, error)

    def _work(self, arguments: tuple[Outcome[T], ...]) -> None:
        try:
            value = self._call.function(*arguments)
        except BaseException as error:  # noqa: BLE001 - a thread's boundary: whatever it is, the waiting side gets it
            self._land(None, error)
        else:
            self._land(value, None)

    def _task_done(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self._land(None, asyncio.CancelledError(f"{self._name} cancelled itself"))
        elif (error := task.exception()) is not None:
            self._land(None, error)
        else:
            self._land(task.result(), None)

    def _land(self, value: T | None, error: BaseException | None) -> None:
        with self._lock:
            self._landed_s = time.perf_counter() - self._started
            self._value, self._error = value, error
            abandoned = self._abandoned
        if not abandoned:
            self._bell.ring()
            return
        logger.info("%s came back %.1f s after its start, too late (%r)", self._name, self._landed_s, error)
        if self._call.breaker is not None:
            self._call.breaker._count(-1)

    def seconds_left(self) -> float:
        if self._landed_s is not None:
            return 0.0
        if self._call.deadline_s is None:
            return threading.TIMEOUT_MAX
        return min(max(0.0, self._started + self._call.deadline_s - time.perf_counter()), threading.TIMEOUT_MAX)

    def settle(self) -> Outcome[T] | None:
        """Return the outcome, or None while the call still has time."""
        now_s = time.perf_counter() - self._started
        deadline_s = self._call.deadline_s
        with self._lock:
            landed_s = self._landed_s
        if landed_s is None:
            if deadline_s is None or now_s < deadline_s or not self.abandon():
                return None
            return Outcome(self._name, "late", error=BranchTimeoutError(self._name, deadline_s), latency_s=now_s)
        if deadline_s is not None and landed_s > deadline_s:
            return Outcome(self._name, "late", error=BranchTimeoutError(self._name, deadline_s), latency_s=landed_s)
        status: Status = "ok" if self._error is None else "failed"
        return Outcome(self._name, status, self._value, self._error, landed_s)

    def abandon(self) -> bool:
        """Stop waiting for the call and count it as hanging; False when it has just landed."""
        with self._lock:
            if self._landed_s is not None:
                return False
            self._abandoned = True
            if self._call.breaker is not None:
                self._call.breaker._count(+1)
        if self._task is not None:
            self._task.cancel()
        return True


async def _awaited(native: Callable[..., Awaitable[T]], arguments: tuple[Outcome[T], ...]) -> T:
    return await native(*arguments)
