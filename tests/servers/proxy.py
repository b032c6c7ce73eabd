"""A TCP proxy that breaks connections on command; it knows bytes and no protocol."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, get_args

from servers.ports import free_port

Mode = Literal["pass", "refuse", "drop", "slow", "silent"]
# What SO_LINGER makes of closing: the other side sees a reset, or an orderly end after all that was written.
_RESET, _ORDERLY = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)


class TcpProxy:
    """Stands before a server on loopback; a context manager, after which no thread and no socket is left.

    `mode` may be set at any time and holds for open connections too:

    - "pass": as if it were not there. Where the server itself is down, connections are reset.
    - "refuse": nobody listens; open connections are reset.
    - "drop": answers are cut after `drop_after` bytes, counted from the change or from the connection's start.
    - "slow": each chunk, there and back, comes `delay_s` late.
    - "silent": connections are accepted and nothing moves; what was said meanwhile goes on its way afterwards.

    A driver that asks the server for its address goes past a proxy: use `bolt://`, not `neo4j://`.

    Args:
        target_port: of the server.
        delay_s: of "slow".
        drop_after: bytes of "drop".
    """

    def __init__(self, target_port: int, *, delay_s: float = 0.05, drop_after: int = 20) -> None:
        self.port = free_port()
        self.delay_s, self.drop_after = delay_s, drop_after
        self.accepted = 0  # connections so far
        self._target = target_port
        self._mode: Mode = "pass"
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="tcp-proxy")

    def __enter__(self) -> TcpProxy:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    @property
    def mode(self) -> Mode:
        """What it does with connections."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"no mode of the proxy: {mode!r}")
        asyncio.run_coroutine_threadsafe(self._switch(mode), self._loop).result()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over, self._changed = asyncio.Event(), asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._listen()
        self._started.set()
        await self._over.wait()
        await self._hang_up()

    async def _switch(self, mode: Mode) -> None:
        self._mode = mode
        self._changed.set()  # wakes whoever waits in the mode before
        self._changed = asyncio.Event()
        if mode == "refuse":
            await self._hang_up()
        elif self._listener is None:
            self._listen()

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._accept, self._listener)

    async def _hang_up(self) -> None:
        """Listens no more and resets what is open."""
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        client, _ = listener.accept()
        self.accepted += 1
        connection = self._loop.create_task(self._connect(client))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        connection.add_done_callback(lambda _: client.close())  # also where it was cancelled before it began

    async def _connect(self, client: socket.socket) -> None:
        """One connection from its start to its end; one side's failure is the other side's, by a reset."""
        with socket.socket() as server, suppress(OSError):
            for one in (client, server):
                one.setblocking(False)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            await self._hold()
            await self._loop.sock_connect(server, ("127.0.0.1", self._target))
            if await _first(self._ask(client, server), self._answer(server, client)):
                for one in (client, server):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ORDERLY)

    async def _ask(self, client: socket.socket, server: socket.socket) -> bool:
        """From the client to the server; whether that ended in order."""
        while chunk := await self._loop.sock_recv(client, 65536):
            await self._hold()
            await self._loop.sock_sendall(server, chunk)
        return True

    async def _answer(self, server: socket.socket, client: socket.socket) -> bool:
        """From the server to the client; whether that ended in order."""
        left = self.drop_after
        while chunk := await self._loop.sock_recv(server, 65536):
            await self._hold()
            left = left - len(chunk) if self._mode == "drop" else self.drop_after
            await self._loop.sock_sendall(client, chunk[: len(chunk) + min(left, 0)])
            if left <= 0:
                return False
        return True

    async def _hold(self) -> None:
        """Waits as long as the mode wants a chunk to wait."""
        if self._mode == "slow":
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self.delay_s)
        while self._mode == "silent":
            await self._changed.wait()


async def _first(*ways: Coroutine[Any, Any, bool]) -> bool:
    """What the first to end says; the others end with it."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return all(task.result() for task in done)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
