"""How a finished thread wakes whoever waits for it, blocking or on an event loop; knows nothing of what is awaited."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Protocol

logger = logging.getLogger(__name__)


class Bell(Protocol):
    """Rung by a call that landed; ``wait`` returns when it was rung or after the given seconds."""

    on_loop: bool

    def ring(self) -> None:
        """Wake the waiting side; from any thread, any number of times."""

    async def wait(self, seconds: float) -> None:
        """Wait until rung since the last wait, or for so many seconds."""


class ThreadBell:
    """Blocks the waiting thread: its ``wait`` never suspends."""

    on_loop = False

    def __init__(self) -> None:
        self._rung = threading.Event()

    def ring(self) -> None:
        """Wake the waiting side; from any thread."""
        self._rung.set()

    async def wait(self, seconds: float) -> None:
        """Wait until rung since the last wait, or for so many seconds."""
        self._rung.wait(seconds)
        self._rung.clear()


class LoopBell:
    """Suspends the waiting task of the running event loop.

    Not by ``asyncio.wait_for``: before Python 3.12 that can swallow a cancellation which arrives with the result.
    """

    on_loop = True

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def ring(self) -> None:
        """Wake the waiting side; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._rung.set)
        except RuntimeError:  # the loop was closed under us: nobody waits any more
            logger.debug("a call ended after its event loop was closed")

    async def wait(self, seconds: float) -> None:
        """Wait until rung since the last wait, or for so many seconds."""
        alarm = self._loop.call_later(seconds, self._rung.set)
        try:
            await self._rung.wait()
        finally:
            alarm.cancel()
        self._rung.clear()
