"""The queries that are under way, by their spans, until they are over; knows no events and no models."""

from __future__ import annotations

import threading
from collections.abc import Callable

from llama_index_hybridmem.costs.tracking.running import Call, Running, Span


class OpenQueries:
    """Which query a span belongs to, and when it is over: it has returned, and no call or stream of it is open.

    A span leads to its query until then, not until its own end: a stream that is read late has children of spans that
    ended long ago.

    Args:
        finish: takes a query that is over; must not block, and may be called from any thread.

    Attributes:
        spans: span id to the span, or to the one around it whose time its own is.
        open: by query id, the oldest first.
        lock: for counters and sums that several threads of one query write.
    """

    def __init__(self, finish: Callable[[Running], None]) -> None:
        self._finish = finish
        self.spans: dict[str, Span] = {}
        self.open: dict[str, Running] = {}
        self.lock = threading.RLock()  # the garbage collector may close a stream on a thread that holds it

    def begin(self, query: Running, span: Span) -> None:
        """A query began with this span."""
        query.ids.add(span.id)
        self.spans[span.id] = span
        self.open[query.id] = query

    def at(self, id_: str | None) -> Running | None:
        """The query that a span belongs to; None for an unknown one."""
        span = self.spans.get(id_) if id_ else None
        return None if span is None else span.query

    def call_at(self, id_: str | None) -> Call | None:
        """The model call that a span is; None where it is none."""
        span = self.spans.get(id_) if id_ else None
        return span.call if span is not None and span.id == id_ else None

    def move(self, span: Span, query: Running) -> None:
        """Bring a span to the query it belongs to, from the one its reader happened to be in."""
        elsewhere = span.query
        elsewhere.ids.discard(span.id)
        query.ids.add(span.id)
        span.query = query
        if span.root:  # it seemed to begin a query, which is none
            span.root = False
            elsewhere.over = True
            self.open.pop(elsewhere.id, None)

    def close_if_over(self, query: Running) -> None:
        """Hand a query on if nothing of it is open any more."""
        if query.root_done and not query.open_calls and not query.streams:
            self.close(query)

    def close(self, query: Running) -> None:
        """Hand a query on, once."""
        with self.lock:
            if query.over:
                return
            query.over = True
        self.open.pop(query.id, None)
        for id_ in tuple(query.ids):
            self.spans.pop(id_, None)
        self._finish(query)
