"""Counts round trips to a server on the wire; knows bytes and no protocol.

A round trip begins whenever a client speaks after the server has: what is sent ahead without waiting costs nothing.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType

_CHUNK = 65_536


class Wire:
    """Stands before a server and passes everything on; a context manager.

    Args:
        host: of the server.
        port: of the server.

    Attributes:
        trips: round trips so far.
        received: bytes that the server sent so far.
    """

    def __init__(self, host: str, port: int) -> None:
        self.trips = self.received = 0
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    @property
    def port(self) -> int:
        """Where it listens, on loopback."""
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Wire:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in [self._listener, *self._sockets]:
            with suppress(OSError):  # closed by the other side already
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets += [client, server]
                spoke = ["server"]
                for args in ((client, server, "client", spoke), (server, client, "server", spoke)):
                    self._threads.append(threading.Thread(target=self._pass_on, args=args, daemon=True))
                    self._threads[-1].start()

    def _pass_on(self, source: socket.socket, target: socket.socket, who: str, spoke: list[str]) -> None:
        with suppress(OSError):  # either side hung up
            while chunk := source.recv(_CHUNK):
                with self._lock:
                    if who == "server":
                        self.received += len(chunk)
                    elif spoke[0] == "server":
                        self.trips += 1
                    spoke[0] = who
                target.sendall(chunk)
            target.shutdown(socket.SHUT_WR)
