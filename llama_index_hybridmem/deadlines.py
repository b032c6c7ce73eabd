"""How long the work under way may still take, told down the call stack; knows no thread and no store.

A branch sets it where it starts; whatever speaks to a server below it asks, and never waits longer. Context variables
carry it, so that it holds for what runs under a copy of the caller's context and for nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ends: ContextVar[float | None] = ContextVar("hybridmem_deadline", default=None)


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Give what runs inside so many seconds, or what is left of an earlier deadline if less; None: no change."""
    if seconds is None:
        yield
        return
    known = _ends.get()
    end = time.monotonic() + seconds
    token = _ends.set(end if known is None else min(known, end))
    try:
        yield
    finally:
        _ends.reset(token)


def seconds_left() -> float | None:
    """Say how many seconds are left, 0 when none are; None without a deadline."""
    end = _ends.get()
    return None if end is None else max(0.0, end - time.monotonic())
