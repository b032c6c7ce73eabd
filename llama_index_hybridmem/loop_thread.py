"""An event loop on a daemon thread of our own, for async clients called from threads; knows nothing of what it runs.

Async clients are bound to one loop, and only their calls can be cancelled: against a frozen server a sync client hung
for 40 s whatever its timeouts, an async one came back when it was told to.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

_GRACE_S = 1.0
"""What a cancelled coroutine has for cleaning up before its caller stops waiting for it, too."""


class LoopThread:
    """Runs coroutines for other threads, each under a limit. The thread starts with the first one and ends on `close`.

    Args:
        name: of the thread.
        farewell: what runs last on the loop, closing a client say; it has a second.
    """

    def __init__(self, name: str, farewell: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        self._name = name
        self._farewell = farewell
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None, *, patience_s: float | None = None) -> T:
        """Run a coroutine and wait for it; from any thread but this one.

        Args:
            coroutine: what to run.
            timeout_s: seconds it has; then it is cancelled. None: no limit.
            patience_s: seconds the caller waits, where that is less; it then goes on alone. None: to the end.

        Raises:
            TimeoutError: it took longer.
            RuntimeError: after `close`, or there is no thread to be had.
        """
        wait_s = timeout_s + _GRACE_S if patience_s is None and timeout_s is not None else patience_s
        limited = _limited(coroutine, timeout_s)
        try:
            future = self._scheduled(limited)
        except RuntimeError:  # closed by another thread this moment, or no thread to be had
            limited.close()
            coroutine.close()
            raise
        try:
            return future.result(wait_s)
        except (asyncio.TimeoutError, concurrent.futures.TimeoutError) as error:  # three classes before Python 3.11
            raise TimeoutError(f"no answer within {timeout_s if patience_s is None else patience_s} s") from error
        finally:
            if patience_s is None:
                future.cancel()  # left by an exception of the waiting thread, KeyboardInterrupt say

    def close(self) -> None:
        """Cancel what runs, end the thread and wait for that a little; twice is fine."""
        thread = self.stop()
        if thread is not None and thread is not threading.current_thread():
            thread.join(2 * _GRACE_S)

    def stop(self) -> threading.Thread | None:
        """Do as `close` without waiting: for finalizers, which run on any thread. Returns the thread."""
        with self._lock:
            self._closed = True
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
            if loop is not None:
                loop.call_soon_threadsafe(loop.stop)
        return thread

    def _scheduled(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Queue a coroutine; under the lock, so that none comes after the loop's end and is waited for in vain."""
        with self._lock:
            if self._closed:
                raise RuntimeError(f"the loop of {self._name!r} is closed")
            if self._loop is None:
                self._start()
            assert self._loop is not None
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _start(self) -> None:
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_serve, args=(loop, self._farewell), name=self._name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            loop.close()
            raise
        self._loop = loop


async def _limited(coroutine: Coroutine[Any, Any, T], timeout_s: float | None) -> T:
    return await asyncio.wait_for(coroutine, timeout_s)


def _serve(loop: asyncio.AbstractEventLoop, farewell: Callable[[], Coroutine[Any, Any, None]] | None) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(asyncio.sleep(0))  # what was queued last begins: a coroutine that never did warns
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        if farewell is not None:
            loop.run_until_complete(_last(farewell()))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(_last(loop.shutdown_default_executor()))  # its threads look up host names
    finally:
        loop.close()


async def _last(farewell: Coroutine[Any, Any, None]) -> None:
    try:
        await asyncio.wait_for(farewell, _GRACE_S)
    except Exception as error:  # noqa: BLE001 - any client; a frozen server does not say goodbye, its sockets go all the same
        logger.info("a connection was not closed in order: %s: %s", type(error).__name__, error)
