"""Shares the seconds in which a model is busy among the calls running just then; knows no clock and no model."""

from __future__ import annotations

import threading
from math import inf

from llama_index_hybridmem.errors import ConfigurationError


class Meter:
    """Gives each of n calls that run at once 1/n of the time, so that the shares add up to the time anything ran.

    It keeps one sum, the virtual time: it runs at 1/n of the real time, and a call's share is what it advanced between
    the call's start and its stop. So a start and a stop cost the same however many calls run, and no interval is kept
    (`sharing.busy_time` is the same from a list of intervals). Safe to share between threads.

    Every start needs one stop, also of a call that failed: one that is never stopped keeps taking its share.
    """

    __slots__ = ("_active", "_at", "_lock", "_virtual")

    def __init__(self) -> None:
        self._lock = threading.RLock()  # as the garbage collector may end a call on a thread that holds it
        self._active = 0
        self._at = -inf
        self._virtual = 0.0

    @property
    def active(self) -> int:
        """How many calls run."""
        return self._active

    def start(self, now: float) -> float:
        """Begin a call.

        Args:
            now: seconds of a clock that never goes back (``time.perf_counter()``). Threads may hand theirs over out of
                order: a time before the latest one seen counts as that one.

        Returns:
            The virtual time, for `stop`.
        """
        with self._lock:
            if now > self._at:
                if self._active:
                    self._virtual += (now - self._at) / self._active
                self._at = now
            self._active += 1
            return self._virtual

    def stop(self, begun: float, now: float) -> float:
        """End a call.

        Args:
            begun: what `start` returned.
            now: as for `start`.

        Returns:
            Its share of the busy time, in seconds.

        Raises:
            ConfigurationError: no call runs.
        """
        with self._lock:
            if not self._active:
                raise ConfigurationError("stop() without a start(): no call runs on this meter")
            if now > self._at:
                self._virtual += (now - self._at) / self._active
                self._at = now
            self._active -= 1
            return self._virtual - begun
