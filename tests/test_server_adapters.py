"""Loads, leases and unloads of adapters on a server, under threads."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from llama_index_hybridmem.errors import RemoteModelError
from llama_index_hybridmem.llms.remote.residents import ServerAdapters


class Shelf:
    """A server's adapters: counts what is done, fails where it is told to, holds a load until it is let go."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.loads: Counter[str] = Counter()
        self.unloads: list[str] = []
        self.failures = 0
        self.gate = threading.Event()
        self.gate.set()
        self.lock = threading.Lock()

    def load(self, name: str, path: str) -> bool:
        """Puts it there."""
        self.gate.wait()
        with self.lock:
            self.loads[name] += 1
            if self.failures:
                self.failures -= 1
                raise RemoteModelError("out of memory")
            if name in self.there:
                return False
            self.there.add(name)
            return True

    def unload(self, name: str) -> None:
        """Takes it away."""
        with self.lock:
            self.unloads.append(name)
            self.there.remove(name)


def test_twenty_callers_one_load() -> None:
    """All wait for the one load that is under way."""
    shelf = Shelf()
    adapters = ServerAdapters(shelf)
    shelf.gate.clear()
    with ThreadPoolExecutor(20) as pool:
        taken = [pool.submit(adapters.take, "a", "/a") for _ in range(20)]
        shelf.gate.set()
        assert {one.result().name for one in taken} == {"a"}
    assert shelf.loads == {"a": 1}


def test_a_failed_load_fails_all_who_wait_and_none_after() -> None:
    """The error reaches everybody; the next call tries again."""
    shelf = Shelf()
    adapters = ServerAdapters(shelf)
    shelf.failures = 1
    shelf.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        taken = [pool.submit(adapters.take, "a", "/a") for _ in range(4)]
        while len(adapters._residents) == 0 or adapters._residents["a"].users < 4:
            pass
        shelf.gate.set()
        assert all(isinstance(one.exception(), RemoteModelError) for one in taken)
    adapters.take("a", "/a")
    assert shelf.there == {"a"}


def test_a_refused_adapter_never_reaches_the_server() -> None:
    """The check runs before the load."""

    def refuse() -> None:
        raise ValueError("of another base")

    shelf = Shelf()
    adapters = ServerAdapters(shelf)
    with pytest.raises(ValueError, match="of another base"):
        adapters.take("a", "/a", refuse)
    assert not shelf.loads
    assert adapters.names() == []


def test_a_moved_reference_unloads_the_old_after_its_last_call() -> None:
    """Two calls are under way: the first one out leaves the adapter there."""
    shelf = Shelf()
    adapters = ServerAdapters(shelf)
    adapters.point("brand", "brand@1")
    one, two = adapters.take("brand@1", "/1"), adapters.take("brand@1", "/1")
    adapters.point("brand", "brand@2")
    new = adapters.take("brand@2", "/2")
    adapters.give(one)
    adapters.settle()
    assert shelf.there == {"brand@1", "brand@2"}
    adapters.give(two)
    adapters.settle()
    assert shelf.there == {"brand@2"}
    adapters.give(new)
    adapters.settle()
    assert shelf.there == {"brand@2"}


def test_an_idle_old_version_goes_at_once() -> None:
    """Nobody has to come by."""
    shelf = Shelf()
    adapters = ServerAdapters(shelf)
    adapters.point("brand", "brand@1")
    adapters.give(adapters.take("brand@1", "/1"))
    adapters.point("brand", "brand@2")
    adapters.settle()
    assert shelf.unloads == ["brand@1"]


def test_what_another_reference_means_stays() -> None:
    """`brand@prod` still stands for what `brand` stood for."""
    shelf = Shelf()
    adapters = ServerAdapters(shelf)
    for reference in ("brand", "brand@prod"):
        adapters.point(reference, "brand@1")
    adapters.give(adapters.take("brand@1", "/1"))
    adapters.point("brand", "brand@2")
    adapters.settle()
    assert shelf.unloads == []
    adapters.point("brand@prod", "brand@2")
    adapters.settle()
    assert shelf.unloads == ["brand@1"]


def test_what_others_loaded_is_not_ours_to_unload() -> None:
    """It was there before."""
    shelf = Shelf()
    shelf.there.add("brand@1")
    adapters = ServerAdapters(shelf)
    adapters.point("brand", "brand@1")
    adapters.give(adapters.take("brand@1", "/1"))
    adapters.point("brand", "brand@2")
    adapters.settle()
    assert shelf.there == {"brand@1"}


def test_the_longest_unused_makes_room() -> None:
    """Of two places, the one whose adapter was used last stays."""
    shelf = Shelf()
    adapters = ServerAdapters(shelf, limit=2)
    for name in ("a", "b", "a", "c"):
        adapters.give(adapters.take(name, name))
    adapters.settle()
    assert shelf.there == {"a", "c"}


def test_what_is_in_use_is_not_pushed_out() -> None:
    """Over the limit while they are used, and down to it after."""
    shelf = Shelf()
    adapters = ServerAdapters(shelf, limit=1)
    one, two = adapters.take("a", "a"), adapters.take("b", "b")
    assert shelf.there == {"a", "b"}
    adapters.give(one)
    adapters.settle()
    assert shelf.there == {"b"}
    adapters.give(two)
    adapters.settle()
    assert shelf.there == {"b"}


def test_a_lost_adapter_is_loaded_again() -> None:
    """The server was started anew."""
    shelf = Shelf()
    adapters = ServerAdapters(shelf)
    held = adapters.take("a", "/a")
    shelf.there.clear()
    adapters.forget(held)
    adapters.give(held)
    adapters.take("a", "/a")
    assert shelf.loads == {"a": 2}
    assert shelf.there == {"a"}


def test_an_unload_that_fails_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody's answer fails of it."""

    class Stuck(Shelf):
        def unload(self, name: str) -> None:
            raise RemoteModelError("the server says 500")

    adapters = ServerAdapters(Stuck())
    adapters.point("brand", "brand@1")
    adapters.give(adapters.take("brand@1", "/1"))
    with caplog.at_level(logging.WARNING):
        adapters.point("brand", "brand@2")
        adapters.settle()
    assert "stays on the server: the server says 500" in caplog.text


def test_loads_and_unloads_of_one_name_never_cross() -> None:
    """Eight threads flip two references to and fro: who holds an adapter finds it on the server, always."""
    shelf = Shelf()
    adapters = ServerAdapters(shelf, limit=2)
    missing: list[str] = []

    def work(seed: int) -> None:
        for step in range(60):
            name = f"brand@{(seed + step) % 3}"
            adapters.point(f"ref{seed % 2}", name)
            held = adapters.take(name, name)
            if name not in shelf.there:
                missing.append(name)
            adapters.give(held)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    adapters.settle()
    assert missing == []
