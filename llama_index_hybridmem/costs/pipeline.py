"""The thread that makes traces of finished queries, keeps the last ones, and hands each on to the exporters.

The app's threads only put a query into a queue. Whatever goes wrong here is counted and logged once, and reaches
neither the app nor another exporter.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import Any

from llama_index_hybridmem.costs.exporting import Exporter
from llama_index_hybridmem.costs.making import Maker
from llama_index_hybridmem.costs.trace import QueryTrace, pack, unpack
from llama_index_hybridmem.costs.tracking.running import Running
from llama_index_hybridmem.errors import told

logger = logging.getLogger(__name__)

PAUSE_S = 0.05
"""How long the thread gathers queries before it works again, so that a busy app wakes it rarely."""

BACKLOG = 20_000
"""Finished queries that wait at most, where an exporter is slow; more are dropped, and counted."""

Step = Callable[[], None]


class Pipeline:
    """Takes finished queries from any thread.

    Args:
        maker: makes the traces.
        exporters: get them, in order.
        keep: traces kept in memory; older ones are let go, and counted.
    """

    def __init__(self, maker: Maker, exporters: Sequence[Exporter], keep: int) -> None:
        self._maker = maker
        self._exporters = [(_numbered(place, exporters), exporter) for place, exporter in enumerate(exporters)]
        self._ring: deque[bytes] = deque(maxlen=keep)
        self._queue: SimpleQueue[Running | Step] = SimpleQueue()
        self._hurry = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self.made = self.dropped = self.failed = self.evicted = 0
        self.last_error: str | None = None
        self._exported: dict[str, list[Any]] = {name: [0, 0, None] for name, _ in self._exporters}
        self.notes = tuple(partial(self._noted, name, exporter) for name, exporter in self._exporters)
        weakref.finalize(self, self._queue.put, _nothing)  # wakes the thread, which then ends
        _PIPELINES.add(self)

    def finish(self, query: Running) -> None:
        """Take a query that is over; returns at once."""
        if self._queue.qsize() > BACKLOG:
            self.dropped += 1
            return
        self._queue.put(query)
        self.ready()

    def ready(self) -> None:
        """See to it that the thread is there: at the first query, and after a fork."""
        if self._thread is None or not self._thread.is_alive():
            self._start()

    def later(self, step: Step) -> None:
        """Take a step to be done soon; takes no lock, so that the garbage collector may call it."""
        self._queue.put(step)

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything that was taken so far is done; False when that took longer."""
        if threading.current_thread() is self._thread:
            return False
        self.ready()
        for _ in range(2):  # what the first round did may have finished further queries
            done = threading.Event()
            self._queue.put(done.set)
            self._hurry.set()
            if not done.wait(timeout_s):
                return False
        return True

    def traces(self) -> list[QueryTrace]:
        """The last traces, oldest first."""
        return [unpack(packed) for packed in list(self._ring)]

    def clear(self) -> None:
        """Let all kept traces go."""
        self._ring.clear()

    def close(self) -> None:
        """Have the exporters write what is left; twice is fine."""
        for name, exporter in self._exporters:
            self._guarded(name, exporter.close)

    def health(self) -> dict[str, Any]:
        """Say how it stands, JSON-safe."""
        return {
            "traces": self.made,
            "kept": len(self._ring),
            "evicted": self.evicted,
            "waiting": self._queue.qsize(),
            "dropped": self.dropped,
            "failed": self.failed,
            "last_error": self.last_error,
            "exporters": {
                name: {"exported": done, "failed": failed, "last_error": error}
                for name, (done, failed, error) in self._exported.items()
            },
        }

    def _start(self) -> None:
        # not waiting: whoever holds it starts the thread, and the garbage collector may have called from within
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._thread is None or not self._thread.is_alive():
                arguments = (weakref.ref(self), self._queue, self._hurry)
                self._thread = threading.Thread(target=_work, args=arguments, name="hybridmem-costs", daemon=True)
                self._thread.start()
        finally:
            self._starting.release()

    def forked(self) -> None:
        """Begin anew in a child process, where the thread and whatever it held do not exist."""
        self._queue, self._hurry, self._starting = SimpleQueue(), threading.Event(), threading.Lock()
        self._thread = None

    def do(self, item: Running | Step) -> None:
        """Make a query's trace, or do a step."""
        try:
            if isinstance(item, Running):
                self._take(item)
            else:
                item()
        except Exception as error:  # noqa: BLE001 - the thread must go on, whatever a query was made of
            self.failed += 1
            if self.last_error is None:
                logger.warning("a query could not be counted", exc_info=True)
            self.last_error = told(error)

    def _take(self, query: Running) -> None:
        finished = self._maker(query)
        if finished is None:
            return
        self.made += 1
        self.evicted += len(self._ring) == self._ring.maxlen
        self._ring.append(pack(finished.trace))
        for (name, exporter), note in zip(self._exporters, query.notes, strict=True):
            if self._guarded(name, partial(exporter.export, replace(finished, context=note))):
                self._exported[name][0] += 1

    def _noted(self, name: str, exporter: Exporter) -> Any:
        """What an exporter notes when a query begins."""
        noted: list[Any] = []
        self._guarded(name, lambda: noted.append(exporter.context()))
        return noted[0] if noted else None

    def _guarded(self, name: str, step: Step) -> bool:
        """Do a step of an exporter, whose faults stay its own."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - neither the app nor another exporter may suffer
            count = self._exported[name]
            if not count[1]:
                logger.warning("exporter %s failed; further failures are only counted", name, exc_info=True)
            count[1] += 1
            count[2] = told(error)
            return False
        return True


def _work(pipeline: weakref.ref[Pipeline], queue: SimpleQueue[Running | Step], hurry: threading.Event) -> None:
    """Work until the pipeline is gone."""
    while True:
        item = queue.get()
        while True:
            if (at_work := pipeline()) is None:
                return
            at_work.do(item)
            del at_work, item
            if queue.empty():
                break
            item = queue.get()
        hurry.wait(PAUSE_S)
        hurry.clear()


def _numbered(place: int, exporters: Sequence[Exporter]) -> str:
    """An exporter's name, with a number from the second one of its name on."""
    name = exporters[place].name
    before = sum(exporter.name == name for exporter in exporters[:place])
    return f"{name} {before + 1}" if before else name


def _nothing() -> None:
    """A step that only wakes the thread."""


_PIPELINES: weakref.WeakSet[Pipeline] = weakref.WeakSet()


def _at_exit() -> None:
    for pipeline in list(_PIPELINES):
        pipeline.flush(2.0)
        pipeline.close()


def _after_fork() -> None:
    for pipeline in list(_PIPELINES):
        pipeline.forked()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
