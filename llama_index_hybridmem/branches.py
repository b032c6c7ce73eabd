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
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

from .bells import Bell, LoopBell, ThreadBell
from .breaker import Breaker
from .deadlines import within
from .errors import BranchTimeoutError, ConfigurationError

logger = logging.getLogger(__name__)

T = TypeVar("T")
Status = Literal["ok", "failed", "late", "skipped"]


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call to make.

    Attributes:
        function: what to run on an own thread, under a copy of the caller's context. No argument, or, with ``after``,
            the ``Outcome`` of that call, whatever it was.
        deadline_s: seconds it has, counted from its own start; None for no limit. What it calls can ask
            ``deadlines.seconds_left``.
        breaker: says whether it is made at all, and learns how it ended; None to make it always.
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
        started_s: seconds from the start of the first call to that of this one.
    """

    name: str
    status: Status
    value: T | None = None
    error: BaseException | None = None
    latency_s: float = 0.0
    started_s: float = 0.0


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
    began = time.perf_counter()
    try:
        while waiting or flying:
            _start_ready(waiting, flying, outcomes, bell)
            if flying:
                await bell.wait(min(flight.seconds_left() for flight in flying.values()))
            for name, flight in list(flying.items()):
                if (outcome := flight.settle()) is not None:
                    outcomes[name] = replace(outcome, started_s=flight.started - began)
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
        flight = _Flight(name, call, bell)
        if call.breaker is not None and not call.breaker.admit(flight):
            outcomes[name] = Outcome(name, "skipped", error=call.breaker.refusal(name))
        else:
            flying[name] = flight
            flight.start(() if call.after is None else (outcomes[call.after],))


class _Flight(Generic[T]):
    """One call under way. A lock decides whether it landed or was abandoned first; it is never both."""

    def __init__(self, name: str, call: Call[T], bell: Bell) -> None:
        self._name, self._call, self._bell = name, call, bell
        self._lock = threading.Lock()
        self._task: asyncio.Task[T] | None = None
        self._value: T | None = None
        self._error: BaseException | None = None
        self._late: BranchTimeoutError | None = None
        self._landed_s: float | None = None
        self._abandoned = False
        self.started = time.perf_counter()

    def start(self, arguments: tuple[Outcome[T], ...]) -> None:
        native = self._call.native if self._bell.on_loop else None
        if native is not None:
            self._task = asyncio.ensure_future(self._awaited(native, arguments))
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
            with within(self._rest_s()):
                value = self._call.function(*arguments)
        except BaseException as error:  # noqa: BLE001 - a thread's boundary: whatever it is, the waiting side gets it
            self._land(None, error)
        else:
            self._land(value, None)

    async def _awaited(self, native: Callable[..., Awaitable[T]], arguments: tuple[Outcome[T], ...]) -> T:
        with within(self._rest_s()):
            return await native(*arguments)

    def _rest_s(self) -> float | None:
        """How much of the deadline is left; below 0 when it has passed, None without one."""
        if self._call.deadline_s is None:
            return None
        return self.started + self._call.deadline_s - time.perf_counter()

    def _task_done(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self._land(None, asyncio.CancelledError(f"{self._name} cancelled itself"))
        elif (error := task.exception()) is not None:
            self._land(None, error)
        else:
            self._land(task.result(), None)

    def _land(self, value: T | None, error: BaseException | None) -> None:
        with self._lock:
            landed_s = time.perf_counter() - self.started
            self._value, self._error = value, error
            self._late = self._timeout(landed_s)
            abandoned, self._landed_s = self._abandoned, landed_s
        breaker = self._call.breaker
        if not abandoned:
            if breaker is not None:
                breaker.ended(self, self._late or error)
            self._bell.ring()
            return
        logger.info("%s came back %.1f s after its start, too late (%r)", self._name, landed_s, error)
        if breaker is not None:
            breaker.came_back(error)

    def seconds_left(self) -> float:
        rest_s = 0.0 if self._landed_s is not None else self._rest_s()
        return threading.TIMEOUT_MAX if rest_s is None else min(max(0.0, rest_s), threading.TIMEOUT_MAX)

    def settle(self) -> Outcome[T] | None:
        """Return the outcome, or None while the call still has time."""
        now_s = time.perf_counter() - self.started
        with self._lock:
            landed_s = self._landed_s
        if landed_s is not None:
            if self._late is not None:
                return Outcome(self._name, "late", error=self._late, latency_s=landed_s)
            status: Status = "ok" if self._error is None else "failed"
            return Outcome(self._name, status, self._value, self._error, landed_s)
        late = self._timeout(now_s)
        if late is None or not self.abandon(late):
            return None
        return Outcome(self._name, "late", error=late, latency_s=now_s)

    def _timeout(self, seconds: float) -> BranchTimeoutError | None:
        """The error of a call that has taken so long; None while it is in time."""
        deadline_s = self._call.deadline_s
        return BranchTimeoutError(self._name, deadline_s) if deadline_s is not None and seconds > deadline_s else None

    def abandon(self, late: BranchTimeoutError | None = None) -> bool:
        """Stop waiting for the call, which counts as hanging from now on; False when it has just landed."""
        with self._lock:
            if self._landed_s is not None:
                return False
            self._abandoned = True
            if self._call.breaker is not None:
                self._call.breaker.abandoned(self, late)
        if self._task is not None:
            self._task.cancel()
        return True
