"""A Qdrant client of either kind, asked from threads: each call under a limit; knows no collection and no point."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ..deadlines import seconds_left
from ..errors import StoreClosedError
from ..extras import require
from ..loop_thread import LoopThread

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient, QdrantClient

TIMEOUT_S, WRITE_TIMEOUT_S = 5.0, 60.0
_WRITES = frozenset(
    "upsert delete batch_update_points create_collection create_payload_index set_payload update_vectors".split()
)
_TAKES_TIMEOUT = frozenset("query_batch_points scroll retrieve count upsert delete batch_update_points".split())


class Client(Protocol):
    """A client that threads can ask."""

    is_local: bool
    """Whether it is the client's local mode: no server, no indexes."""

    def ask(self, method: str, arguments: Mapping[str, Any]) -> Any:
        """Call a method of the client.

        Raises:
            TimeoutError: it took longer than it may.
            Exception: whatever the client raises.
        """

    def close(self) -> None:
        """Close what we opened; a client that the app gave stays open."""


class AppClient:
    """A blocking client of the app's. It keeps its own timeout, cut to the seconds that the work under way has left.

    Args:
        client: its own local mode is asked by one thread at a time, which is all it can do.
    """

    def __init__(self, client: QdrantClient) -> None:
        self._client = client
        self.is_local = is_local(client)
        self._lock = threading.RLock()

    def ask(self, method: str, arguments: Mapping[str, Any]) -> Any:
        """Call a method of the client; see `Client.ask`."""
        if self.is_local:
            with self._lock:
                return getattr(self._client, method)(**arguments)
        limit = seconds_left()
        if limit is not None and method in _TAKES_TIMEOUT:
            arguments = {**arguments, "timeout": math.ceil(_checked(limit))}  # the client takes whole seconds
        return getattr(self._client, method)(**arguments)

    def close(self) -> None:
        """Nothing: the client is the app's."""


class LoopClient:
    """An async client on a loop thread of ours: a call that is late is cancelled, and ends. Connects with the first.

    Args:
        make: makes the client, or anything with async methods and a `close`.
        timeout_s: seconds a read has, less where `deadlines.seconds_left` says so.
        write_timeout_s: seconds a write has.
        is_local: whether that is the client's local mode.
        ours: whether to close it.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        timeout_s: float = TIMEOUT_S,
        write_timeout_s: float = WRITE_TIMEOUT_S,
        *,
        is_local: bool = False,
        ours: bool = True,
    ) -> None:
        self.is_local = is_local
        self._make = make
        self._limits = timeout_s, write_timeout_s
        self._ours = ours
        self._lock = threading.Lock()
        self._line: _Line | None = None
        self._closed = False

    def ask(self, method: str, arguments: Mapping[str, Any]) -> Any:
        """Call a method of the client; see `Client.ask`."""
        limit, left = self._limits[method in _WRITES], seconds_left()
        limit = limit if left is None else min(limit, _checked(left))
        return self._connected().ask(method, arguments, limit)

    def close(self) -> None:
        """End the thread, and with it the connections."""
        with self._lock:
            self._closed = True
            line, self._line = self._line, None
        if line is not None:
            line.close()

    def _connected(self) -> _Line:
        with self._lock:
            if self._closed:
                raise StoreClosedError("this Qdrant client is closed")
            if self._line is None or self._line.pid != os.getpid():  # a fork has our memory, not our threads
                self._line = _Line(self._make, self._ours)
            return self._line


class _Line:
    """A client and its thread, for as long as somebody holds it."""

    def __init__(self, make: Callable[[], Any], ours: bool) -> None:
        self.pid = os.getpid()
        holder: list[Any] = []
        self._make, self._holder = make, holder

        async def farewell() -> None:
            for client in holder if ours else ():
                await client.close()

        self._thread = LoopThread("hybridmem-qdrant", farewell)
        self._end = weakref.finalize(self, _stop, self._thread, self.pid)

    def ask(self, method: str, arguments: Mapping[str, Any], limit: float) -> Any:
        return self._thread.run(self._call(method, arguments), limit)

    def close(self) -> None:
        self._end.detach()
        self._thread.close()

    async def _call(self, method: str, arguments: Mapping[str, Any]) -> Any:
        if not self._holder:  # made on its loop, which is where it belongs
            self._holder.append(self._make())
        return await getattr(self._holder[0], method)(**arguments)


def client_of(
    *,
    url: str | None = None,
    api_key: str | None = None,
    client: QdrantClient | None = None,
    aclient: AsyncQdrantClient | None = None,
    timeout_s: float = TIMEOUT_S,
    write_timeout_s: float = WRITE_TIMEOUT_S,
    options: Mapping[str, Any] | None = None,
) -> Client:
    """Give the client for whatever the app has: an address, a blocking client, an async one, or both.

    An async client that speaks to a server is bound to the app's event loop, so another with its settings is made here.
    Of both that one is asked, as its calls can be cancelled.
    """
    asked_as_it_is = aclient is not None and (is_local(aclient) or not hasattr(aclient, "init_options"))
    if client is not None and (aclient is None or asked_as_it_is):
        return AppClient(client)
    limits = timeout_s, write_timeout_s
    if asked_as_it_is:
        return LoopClient(lambda: aclient, *limits, is_local=is_local(aclient), ours=False)
    settings = (
        dict(aclient.init_options) if aclient is not None else {"url": url, "api_key": api_key, **(options or {})}
    )
    settings["timeout"] = math.ceil(max(timeout_s, write_timeout_s))  # ours are shorter; the client's own is 5 s
    settings["check_compatibility"] = False  # it would ask the server before anybody wants to know anything

    def make() -> AsyncQdrantClient:
        from qdrant_client import AsyncQdrantClient

        return AsyncQdrantClient(**settings)

    require("a Qdrant server", "qdrant", "qdrant_client")
    return LoopClient(make, *limits)


def is_local(client: Any) -> bool:
    """Whether a client is in its local mode: in memory or in a folder, without a server."""
    return type(getattr(client, "_client", None)).__name__ in ("QdrantLocal", "AsyncQdrantLocal")


def _checked(left: float) -> float:
    if left <= 0:
        raise TimeoutError("no time left for this call")
    return left


def _stop(thread: LoopThread, pid: int) -> None:
    if os.getpid() == pid:
        thread.stop()
