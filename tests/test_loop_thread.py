"""Tests of the event loop on a thread of our own: limits, patience, the end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Iterator

import pytest

from llama_index_hybridmem.loop_thread import LoopThread


@pytest.fixture
def loop_thread() -> Iterator[LoopThread]:
    """One that is closed at the end, and has no thread then."""
    one = LoopThread("hybridmem-test")
    yield one
    one.close()
    assert "hybridmem-test" not in [thread.name for thread in threading.enumerate()]


def test_values_and_errors_come_back(loop_thread: LoopThread) -> None:
    """As if the coroutine had been awaited here."""

    async def work(value: int) -> str:
        if not value:
            raise LookupError("none")
        return threading.current_thread().name

    assert loop_thread.run(work(1), 5) == "hybridmem-test"
    with pytest.raises(LookupError, match="none"):
        loop_thread.run(work(0), None)


def test_at_its_limit_a_coroutine_is_cancelled(loop_thread: LoopThread) -> None:
    """The caller gets a TimeoutError, the coroutine a CancelledError."""
    ended = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    with pytest.raises(TimeoutError, match="no answer within 0.02 s"):
        loop_thread.run(hang(), 0.02)
    assert ended.wait(10)


def test_whoever_has_less_patience_leaves_it_alone(loop_thread: LoopThread) -> None:
    """The caller is told at once, the coroutine has its full time, and the loop serves others meanwhile."""
    go, done = threading.Event(), threading.Event()

    async def work() -> None:
        while not go.is_set():
            await asyncio.sleep(0.001)
        done.set()

    async def name() -> str:
        return "next"

    began = time.monotonic()
    with pytest.raises(TimeoutError, match="no answer within 0.02 s"):
        loop_thread.run(work(), 600, patience_s=0.02)
    with pytest.raises(TimeoutError, match="no answer within 0 s"):
        loop_thread.run(asyncio.sleep(600), 600, patience_s=0)
    assert time.monotonic() - began < 60
    assert loop_thread.run(name(), 5) == "next"
    go.set()
    assert done.wait(10)


def test_close_ends_what_was_left_alone() -> None:
    """Nothing runs on after it."""
    loop_thread, ended = LoopThread("hybridmem-test"), threading.Event()

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        loop_thread.run(hang(), 600, patience_s=0.05)
    loop_thread.close()
    assert ended.is_set()


def test_after_close_nothing_starts_anew() -> None:
    """A call that comes too late is refused, and its coroutine leaves no warning."""
    loop_thread = LoopThread("hybridmem-test")
    loop_thread.run(asyncio.sleep(0), 5)
    loop_thread.close()
    loop_thread.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop_thread.run(asyncio.sleep(0), 5)
    assert "hybridmem-test" not in [thread.name for thread in threading.enumerate()]


def test_without_a_thread_the_call_fails_at_once_and_the_next_one_may_work(
    loop_thread: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system gives no more threads, nobody waits for one."""

    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        with pytest.raises(RuntimeError, match="can't start"):
            loop_thread.run(asyncio.sleep(0), 600)
    assert loop_thread.run(asyncio.sleep(0, "now"), 5) == "now"


def test_whoever_calls_while_it_closes_is_told(loop_thread: LoopThread) -> None:
    """Each call is answered, cancelled or refused; none waits for a loop that is gone."""
    stop = threading.Event()
    outcome: list[str] = []

    def call() -> None:
        while not stop.is_set():
            try:
                loop_thread.run(asyncio.sleep(0), 60)
            except (RuntimeError, concurrent.futures.CancelledError) as error:
                outcome.append(type(error).__name__)
                return

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    time.sleep(0.02)
    loop_thread.close()
    for caller in callers:
        caller.join(30)
    stop.set()
    assert len(outcome) == 8
