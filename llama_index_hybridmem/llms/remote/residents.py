"""Which adapters a model server has loaded for us: one load however many ask, no unload while one is in use.

Knows nothing of prompts and answers, nor how a server is spoken to.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from llama_index_hybridmem.errors import RemoteModelError

logger = logging.getLogger(__name__)


class Loader(Protocol):
    """What loads and unloads: a `ModelServer`."""

    def load(self, name: str, path: str) -> bool:
        """Whether this very call loaded it."""

    def unload(self, name: str) -> None:
        """Drops it."""


@dataclass
class Resident:
    """An adapter that the server has, or is about to have.

    Attributes:
        name: its name on the server.
        ready: done once it is loaded; holds the error if it could not be.
        users: calls that use it now.
        retired: whether it leaves with its last user.
        used: when it was last asked for, counted in calls.
    """

    name: str
    ready: Future[None] = field(default_factory=Future)
    users: int = 0
    retired: bool = False
    used: int = 0


class ServerAdapters:
    """The adapters of one server, shared by all threads and tasks of this process.

    Args:
        server: loads and unloads.
        limit: adapters of ours that stay loaded; further ones push out the one longest unused. None: no limit. One in
            use is never unloaded, so that more than `limit` are there while more than `limit` are in use.
    """

    def __init__(self, server: Loader, limit: int | None = None) -> None:
        self._server = server
        self._limit = limit
        self._lock = threading.Lock()
        self._residents: dict[str, Resident] = {}
        self._ours: set[str] = set()  # what others loaded is not ours to unload
        self._wires: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # one load or unload per name
        self._pointing: dict[str, str] = {}  # reference to the name on the server that it stood for last
        self._leaving: set[threading.Thread] = set()
        self._clock = 0

    def take(self, name: str, path: str, check: Callable[[], Any] = lambda: None) -> Resident:
        """Counts a call in and waits until the server has the adapter; the first to ask loads it.

        Args:
            name: its name on the server.
            path: its place as the server sees it.
            check: called once before a load; what it raises refuses the adapter.

        Raises:
            Exception: why it could not be loaded, for all who waited; the next call tries again.
        """
        with self._lock:
            self._clock += 1
            resident = self._residents.get(name)
            leads = resident is None
            if resident is None:
                resident = self._residents[name] = Resident(name)
            resident.users, resident.used, resident.retired = resident.users + 1, self._clock, False
            surplus = self._surplus() if leads else []
        if leads:
            self._bring(resident, path, check, surplus)
        try:
            resident.ready.result()
        except BaseException:
            self.give(resident)
            raise
        return resident

    def give(self, resident: Resident) -> None:
        """Counts a call out; the last one out of a retired adapter has it unloaded, on a thread of its own."""
        with self._lock:
            resident.users -= 1
            leaves = resident.users == 0 and (resident.retired or self._is_over())
            leaves = leaves and self._residents.get(resident.name) is resident
            if leaves:
                del self._residents[resident.name]
        if leaves:
            self._send_away(resident.name)

    def point(self, reference: str, name: str) -> None:
        """Notes what a reference stands for now; what it stood for before is unloaded after its last call."""
        with self._lock:
            before = self._pointing.get(reference)
            self._pointing[reference] = name
            if before in (None, name) or before in self._pointing.values():
                return
            resident = self._residents.get(before or "")
            if resident is None:
                return
            resident.retired = True
            if resident.users:
                return
            del self._residents[resident.name]
        self._send_away(resident.name)

    def forget(self, resident: Resident) -> None:
        """The server lost it, or another process unloaded it: the next call loads it again."""
        with self._lock:
            if self._residents.get(resident.name) is resident:
                del self._residents[resident.name]
            self._ours.discard(resident.name)

    def names(self) -> list[str]:
        """What is loaded or being loaded, as far as we know."""
        with self._lock:
            return sorted(self._residents)

    def settle(self, timeout_s: float | None = None) -> None:
        """Waits until the unloads under way are through, at most `timeout_s` seconds each."""
        with self._lock:
            leaving = list(self._leaving)
        for thread in leaving:
            thread.join(timeout_s)

    def _surplus(self) -> list[str]:
        """Takes out of the books what has to make room; the caller holds the lock."""
        idle = sorted((one for one in self._residents.values() if not one.users), key=lambda one: one.used)
        over = 0 if self._limit is None else len(self._residents) - self._limit
        out = [one.name for one in idle[: max(over, 0)]]
        for name in out:
            del self._residents[name]
        return out

    def _is_over(self) -> bool:
        return self._limit is not None and len(self._residents) > self._limit

    def _bring(self, resident: Resident, path: str, check: Callable[[], Any], surplus: list[str]) -> None:
        try:
            for name in surplus:
                self._drop(name)
            check()
            with self._wire(resident.name):
                if self._server.load(resident.name, path):
                    with self._lock:
                        self._ours.add(resident.name)
        except BaseException as error:  # noqa: BLE001 - whatever it is, those who wait get it, and so does the caller
            self.forget(resident)
            resident.ready.set_exception(error)
        else:
            resident.ready.set_result(None)

    def _send_away(self, name: str) -> None:
        def work() -> None:
            try:
                self._drop(name)
            finally:
                with self._lock:
                    self._leaving.discard(thread)

        thread = threading.Thread(target=work, daemon=True, name="hybridmem-unload")
        with self._lock:
            self._leaving.add(thread)
        thread.start()

    def _drop(self, name: str) -> None:
        with self._wire(name):
            with self._lock:
                if name in self._residents or name not in self._ours:  # asked for again meanwhile, or not ours
                    return
                self._ours.discard(name)
            try:
                self._server.unload(name)
            except RemoteModelError as error:
                logger.warning("an adapter that nobody uses stays on the server: %s", error)

    def _wire(self, name: str) -> threading.Lock:
        with self._lock:
            return self._wires[name]
