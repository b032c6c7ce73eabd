"""Ports for servers that are killed and started again."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """A loopback port below those that outgoing connections get: nobody takes it while its server is down."""
    for port in random.Random().sample(range(20_000, 32_000), 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("none of a hundred ports between 20000 and 32000 is free")
