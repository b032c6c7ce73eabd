"""Tests of calls under deadlines on own threads."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from llama_index_hybridmem.branches import Call, Outcome, arun, in_thread, run
from llama_index_hybridmem.breaker import Breaker
from llama_index_hybridmem.deadlines import seconds_left, within
from llama_index_hybridmem.errors import (
    BranchTimeoutError,
    BreakerOpenError,
    ConfigurationError,
    StoreUnavailableError,
)

Runner = Callable[[Mapping[str, Call[Any]]], "dict[str, Outcome[Any]]"]


def run_on_a_loop(calls: Mapping[str, Call[Any]]) -> dict[str, Outcome[Any]]:
    """Call ``arun`` the way a sync program would."""
    return asyncio.run(arun(calls))


@pytest.fixture(params=[run, run_on_a_loop], ids=["sync", "async"])
def fly(request: pytest.FixtureRequest) -> Runner:
    """Both ways in: what holds for one holds for the other."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """An event that hanging calls wait for; opened at the end so that no thread outlives its test for long."""
    event = threading.Event()
    yield event
    event.set()


def no_server() -> None:
    """A call that finds none."""
    raise StoreUnavailableError("nobody there")


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll for at most 10 s: a thread needs a moment to come back."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "the condition never came true"
        time.sleep(0.002)


def test_values_come_back_by_name_in_the_order_given(fly: Runner) -> None:
    """Outcomes are keyed by name, in the calls' order, whichever ends first."""
    calls = {"slow": Call(lambda: time.sleep(0.02) or 1), "quick": Call(lambda: 2)}
    outcomes = fly(calls)
    assert [(o.name, o.status, o.value, o.error) for o in outcomes.values()] == [
        ("slow", "ok", 1, None),
        ("quick", "ok", 2, None),
    ]
    assert outcomes["slow"].latency_s >= 0.015


def test_no_calls_no_outcomes(fly: Runner) -> None:
    """Nothing to do is not an error and does not wait."""
    assert fly({}) == {}


def test_calls_run_side_by_side(fly: Runner) -> None:
    """Three calls that wait for one another can only end when they run at the same time."""
    together = threading.Barrier(3)
    outcomes = fly({name: Call(lambda: together.wait(10), deadline_s=10) for name in "abc"})
    assert {o.status for o in outcomes.values()} == {"ok"}


def test_a_runtime_error_stays_that_error(fly: Runner) -> None:
    """A RuntimeError (CUDA out of memory) is the branch's own outcome, not a story about nested event loops."""
    boom = RuntimeError("CUDA out of memory")

    def fail() -> None:
        raise boom

    outcomes = fly({"gpu": Call(fail), "fine": Call(lambda: "here")})
    assert outcomes["gpu"].status == "failed"
    assert outcomes["gpu"].error is boom
    assert outcomes["fine"].value == "here"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration(1), GeneratorExit()])
def test_even_exits_are_outcomes(fly: Runner, error: BaseException) -> None:
    """A branch that calls sys.exit neither ends the process nor keeps the others waiting."""

    def leave() -> None:
        raise error

    assert fly({"a": Call(leave)})["a"].error is error


def test_a_late_call_is_named_and_left_behind(fly: Runner, gate: threading.Event) -> None:
    """At its deadline a call is late, whatever the others do, and counted until it comes back."""
    breaker = Breaker()
    outcomes = fly({"hung": Call(gate.wait, deadline_s=0.02, breaker=breaker), "fine": Call(lambda: 1)})
    error = outcomes["hung"].error
    assert isinstance(error, BranchTimeoutError)
    assert (error.store, error.deadline_s) == ("hung", 0.02)
    assert outcomes["hung"].status == "late"
    assert outcomes["fine"].status == "ok"
    assert breaker.hanging == 1
    gate.set()
    wait_until(lambda: breaker.hanging == 0)


def test_a_deadline_is_the_calls_own_even_when_another_waits_longer(fly: Runner) -> None:
    """A call that ends after its deadline, while a longer one is awaited, is late all the same."""
    calls = {
        "late": Call(lambda: time.sleep(0.06), deadline_s=0.02),
        "long": Call(lambda: time.sleep(0.15), deadline_s=10),
    }
    assert [o.status for o in fly(calls).values()] == ["late", "ok"]


async def test_a_call_that_ended_late_is_late_even_when_nobody_looked_in_time() -> None:
    """A held GIL or a blocked loop wakes the waiting side late: what counts is when the call itself ended."""
    flight = asyncio.ensure_future(
        arun(
            {
                "late": Call(lambda: time.sleep(0.05), deadline_s=0.01),
                "in time": Call(lambda: time.sleep(0.01), deadline_s=0.15),
            }
        )
    )
    await asyncio.sleep(0)
    time.sleep(0.2)
    assert [outcome.status for outcome in (await flight).values()] == ["late", "ok"]


def test_no_deadline_means_no_limit(fly: Runner) -> None:
    """deadline_s None waits as long as it takes."""
    assert fly({"a": Call(lambda: time.sleep(0.05) or "done", deadline_s=None)})["a"].value == "done"


def test_the_breaker_opens_at_four_and_closes_when_one_comes_back(fly: Runner) -> None:
    """Four hanging calls open the breaker: the fifth is skipped without a thread; one return closes it again."""
    breaker, gates = Breaker(), [threading.Event() for _ in range(4)]
    for held in gates:
        fly({"db": Call(held.wait, deadline_s=0.005, breaker=breaker)})
    called = []
    skipped = fly({"db": Call(lambda: called.append(1), breaker=breaker)})["db"]
    assert skipped.status == "skipped"
    assert isinstance(skipped.error, BreakerOpenError)
    assert (skipped.error.store, skipped.error.hanging) == ("db", 4)
    assert not called
    gates[0].set()
    wait_until(lambda: not breaker.is_open)
    assert fly({"db": Call(lambda: "back", breaker=breaker)})["db"].value == "back"
    for held in gates:
        held.set()
    wait_until(lambda: breaker.hanging == 0)


def test_calls_that_end_late_by_themselves_open_the_breaker_too(fly: Runner) -> None:
    """Nothing hangs, yet each call cost its whole deadline: the fifth is skipped; a late error is no sign of life."""
    breaker = Breaker()

    def end_at_the_deadline() -> None:
        time.sleep(seconds_left() or 0)
        no_server()

    for _ in range(4):
        assert fly({"db": Call(end_at_the_deadline, deadline_s=0.01, breaker=breaker)})["db"].status == "late"
    wait_until(lambda: breaker.hanging == 0)
    assert breaker.health()["misses"] == 4
    assert breaker.is_open


def test_a_call_that_ends_as_its_flight_is_given_up_is_reported_once(fly: Runner) -> None:
    """A probe that lands while nobody looks frees the breaker for the next one."""
    breaker = Breaker(limit=1, retry_s=0.001)
    for _ in range(50):
        fly({"db": Call(lambda: time.sleep(0.002), deadline_s=0.002, breaker=breaker)})
    wait_until(lambda: breaker.hanging == 0)
    wait_until(lambda: fly({"db": Call(lambda: 1, breaker=breaker)})["db"].status == "ok")
    assert breaker.state == "closed"


async def test_a_cancelled_query_leaves_no_probe_behind(gate: threading.Event) -> None:
    """A query that tried a store again and was cancelled lets the next one try."""
    breaker = Breaker(limit=1, retry_s=0.001)
    await arun({"db": Call(no_server, breaker=breaker)})
    await asyncio.sleep(0.01)
    started = threading.Event()
    trying = asyncio.ensure_future(arun({"db": Call(lambda: started.set() or gate.wait(), breaker=breaker)}))
    await in_thread(started.wait)
    assert (await arun({"db": Call(lambda: 1, breaker=breaker)}))["db"].status == "skipped"
    trying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trying
    assert breaker.hanging == 1
    assert (await arun({"db": Call(lambda: 1, breaker=breaker)}))["db"].status == "ok"
    gate.set()
    await in_thread(wait_until, lambda: breaker.hanging == 0)


async def test_what_a_branch_calls_knows_how_long_it_may_take() -> None:
    """``seconds_left`` inside a branch, on a thread or on the loop, is what its deadline leaves; None without one."""
    assert seconds_left() is None

    async def native() -> float | None:
        return seconds_left()

    calls = {
        "thread": Call(seconds_left, deadline_s=30),
        "loop": Call(lambda: None, native=native, deadline_s=30),
        "free": Call(seconds_left),
        "after": Call(lambda _: seconds_left(), deadline_s=30, after="thread"),
    }
    for outcomes in (await arun(calls), await in_thread(run, {**calls, "loop": Call(seconds_left, deadline_s=30)})):
        left = {name: outcome.value for name, outcome in outcomes.items()}
        assert left.pop("free") is None
        assert all(29 < seconds <= 30 for seconds in left.values())
    with within(0.5):
        tight = await arun({"a": Call(seconds_left, deadline_s=30), "b": Call(seconds_left)})
    assert all(outcome.value <= 0.5 for outcome in tight.values()), "an earlier deadline above stays"


def test_context_variables_are_visible_in_a_branch_and_do_not_leak_out(fly: Runner) -> None:
    """A branch sees the caller's context (tags, active span); what it sets stays its own."""
    tag: contextvars.ContextVar[str] = contextvars.ContextVar("tag", default="unset")

    def read_and_set() -> str:
        seen = tag.get()
        tag.set("from the branch")
        return seen

    token = tag.set("from the caller")
    try:
        outcomes = fly({"a": Call(read_and_set), "b": Call(read_and_set)})
        assert [o.value for o in outcomes.values()] == ["from the caller"] * 2
        assert tag.get() == "from the caller"
    finally:
        tag.reset(token)


def test_threads_are_daemons_and_named(fly: Runner) -> None:
    """Only daemon threads are left behind at exit; the name tells whose they are."""
    thread = fly({"graph": Call(threading.current_thread)})["graph"].value
    assert thread.daemon
    assert thread.name == "hybridmem-graph"


def test_a_call_that_waits_for_another_gets_its_outcome(fly: Runner) -> None:
    """``after`` starts a call when the named one has ended, well or badly, and hands over the outcome."""

    def fail() -> str:
        raise ValueError("no")

    calls: dict[str, Call[Any]] = {
        "good": Call(lambda: 20),
        "bad": Call(fail),
        "double": Call(lambda outcome: outcome.value * 2, after="good"),
        "told": Call(lambda outcome: str(outcome.error), after="bad"),
        "chained": Call(lambda outcome: outcome.value + 2, after="double"),
    }
    assert [fly(calls)[name].value for name in ("double", "told", "chained")] == [40, "no", 42]


def test_a_waiting_call_starts_after_a_skipped_one_and_has_its_full_deadline(
    fly: Runner, gate: threading.Event
) -> None:
    """A predecessor's lateness is not charged to the follower; a skipped predecessor releases it at once."""
    open_breaker = Breaker(limit=1)
    run({"x": Call(gate.wait, deadline_s=0.005, breaker=open_breaker)})
    calls: dict[str, Call[Any]] = {
        "skipped": Call(lambda: 1, breaker=open_breaker),
        "late": Call(gate.wait, deadline_s=0.2),
        "a": Call(lambda outcome: outcome.status, after="skipped"),
        "b": Call(lambda outcome: outcome.status, after="late", deadline_s=0.19),
    }
    outcomes = fly(calls)
    assert (outcomes["a"].value, outcomes["b"].value) == ("skipped", "late")


@pytest.mark.parametrize("after", ["later", "nobody", "a"])
def test_waiting_for_a_call_not_listed_before_is_refused(fly: Runner, after: str) -> None:
    """Order excludes cycles; a wrong name is an error, not a wait for ever."""
    with pytest.raises(ConfigurationError, match="no call listed before it"):
        fly({"a": Call(lambda _: 1, after=after), "later": Call(lambda: 1)})


def test_no_thread_to_be_had_is_the_calls_failure(fly: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system refuses a thread, that branch fails with the reason; nothing hangs."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "hybridmem-b":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    outcomes = fly({"a": Call(lambda: 1), "b": Call(lambda: 2)})
    assert outcomes["a"].value == 1
    assert str(outcomes["b"].error) == "can't start new thread"


async def test_the_loop_keeps_turning_while_branches_block() -> None:
    """Blocking calls in ``arun`` leave the event loop free."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.ensure_future(tick())
    await arun({"a": Call(lambda: time.sleep(0.2))})
    ticking.cancel()
    assert ticks >= 5


async def test_cancelling_returns_at_once_and_counts_what_hangs(gate: threading.Event) -> None:
    """A cancelled ``arun`` raises CancelledError now; its thread is counted until it comes back."""
    breaker, started = Breaker(), threading.Event()

    def hang() -> None:
        started.set()
        gate.wait()

    flight = asyncio.ensure_future(arun({"hung": Call(hang, breaker=breaker)}))
    await in_thread(started.wait)
    flight.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flight
    assert breaker.hanging == 1
    gate.set()
    await in_thread(wait_until, lambda: breaker.hanging == 0)


async def test_a_native_call_runs_on_the_loop_and_is_cancelled_when_late() -> None:
    """``native`` is awaited on the caller's loop under the deadline; a late one is cancelled and uncounted."""
    breaker, cancelled = Breaker(), []

    async def where() -> int:
        await asyncio.sleep(0)
        return threading.get_ident()

    async def hang() -> int:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return 0

    outcomes = await arun(
        {
            "native": Call(lambda: 0, native=where, deadline_s=10),
            "hung": Call(lambda: 0, native=hang, deadline_s=0.02, breaker=breaker),
        }
    )
    assert outcomes["native"].value == threading.get_ident()
    assert outcomes["hung"].status == "late"
    await asyncio.sleep(0.01)
    assert cancelled == [True]
    assert breaker.hanging == 0


async def test_a_native_call_fails_as_itself_and_waits_like_others() -> None:
    """Errors, self-cancellation and ``after`` mean the same for a native call."""

    async def fail() -> int:
        raise RuntimeError("native")

    async def leave() -> int:
        raise asyncio.CancelledError

    async def follow(outcome: Outcome[int]) -> int:
        return -1 if outcome.error else 1

    outcomes = await arun(
        {
            "fail": Call(lambda: 0, native=fail),
            "leave": Call(lambda: 0, native=leave),
            "follow": Call(lambda _: 0, native=follow, after="fail"),
        }
    )
    assert isinstance(outcomes["fail"].error, RuntimeError)
    assert isinstance(outcomes["leave"].error, asyncio.CancelledError)
    assert outcomes["follow"].value == -1


def test_sync_run_ignores_native() -> None:
    """Without a loop the plain function is called."""

    async def native() -> str:
        return "native"

    assert run({"a": Call(lambda: "plain", native=native)})["a"].value == "plain"


async def test_in_thread_returns_raises_and_carries_context() -> None:
    """``in_thread`` is one awaited call on an own daemon thread: same value, same error, same context."""
    tag: contextvars.ContextVar[int] = contextvars.ContextVar("tag")
    tag.set(7)

    def work(a: int, *, b: int) -> tuple[int, int, bool]:
        return a + b, tag.get(), threading.current_thread().daemon

    assert await in_thread(work, 1, b=2) == (3, 7, True)
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)


def test_neither_asyncio_run_nor_the_exit_waits_for_an_abandoned_call() -> None:
    """A real process whose two branches sleep 60 s ends long before, sync and async."""
    program = """
        import asyncio, time
        from llama_index_hybridmem.branches import Call, arun, in_thread, run
        calls = {"hung": Call(lambda: time.sleep(60), deadline_s=0.05), "fine": Call(lambda: 1)}
        assert [o.status for o in run(calls).values()] == ["late", "ok"]
        assert [o.status for o in asyncio.run(arun(calls)).values()] == ["late", "ok"]

        async def cancelled():
            try:
                await asyncio.wait_for(in_thread(time.sleep, 60), 0.05)
            except asyncio.TimeoutError:
                print("returned")

        asyncio.run(cancelled())
    """
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=50
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("returned\n", "", 0)
    assert time.monotonic() - began < 30
