"""The tracker that an app installs: follows every query, counts every model call once, says what each cost.

It is three things in one: handlers on LlamaIndex's instrumentation, a `BaseCallbackHandler` for apps that still pass
one, and the way to the traces. What it does with them is elsewhere.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.span import active_span_id

from llama_index_hybridmem.branches import in_thread
from llama_index_hybridmem.costs.bills.entry import checked_phase
from llama_index_hybridmem.costs.exporting import Exporter
from llama_index_hybridmem.costs.making import Maker
from llama_index_hybridmem.costs.pipeline import Pipeline
from llama_index_hybridmem.costs.prices.book import PriceBook
from llama_index_hybridmem.costs.tokens.counting import Counter
from llama_index_hybridmem.costs.trace import QueryTrace
from llama_index_hybridmem.costs.tracking.listeners import Events, Faults, Spans
from llama_index_hybridmem.costs.tracking.running import Running
from llama_index_hybridmem.costs.tracking.tracker import Tracker
from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.tags import tagged


class CostLatencyHandler(BaseCallbackHandler):
    """Measures what every query cost and where its time went.

    One line installs it: ``CostLatencyHandler().install()``, or ``with CostLatencyHandler().attach() as handler:``.
    It then sees every query of the process, whatever the engine: sync, async, threads, streams read late or elsewhere,
    chat engines, agents, workflows. Passed in a `CallbackManager` instead, it installs itself with the first query and
    keeps the traces of those queries only that reach that manager. A call is counted once, however it is installed.

    Args:
        prices: what calls cost; default `PriceBook()`.
        exporters: take every finished query, on a thread of the handler's own.
        keep: traces kept in memory (`traces`); older ones are let go, and counted.
        tokenizer: text to tokens, for calls whose tokens nobody reports; default: the model's own where it has one,
            else a token for every four bytes.
        max_open: queries that may be under way at once; beyond, the oldest is finished as it stands.
        clock: Unix seconds.

    Raises:
        ConfigurationError: ``keep`` or ``max_open`` below 1; prices or an exporter that are none.
    """

    def __init__(
        self,
        prices: PriceBook | None = None,
        exporters: Sequence[Exporter] = (),
        *,
        keep: int = 10_000,
        tokenizer: Callable[[str], Sequence[Any]] | None = None,
        max_open: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__([], [])
        if keep < 1 or max_open < 1:
            raise ConfigurationError(f"keep and max_open are at least 1, not {keep} and {max_open}")
        if prices is not None and not isinstance(prices, PriceBook):
            raise ConfigurationError(f"prices is a PriceBook, not {prices!r}; of a file: PriceBook.from_file(…)")
        for exporter in exporters:
            if not callable(getattr(exporter, "export", None)) or not hasattr(exporter, "name"):
                raise ConfigurationError(f"{exporter!r} is no exporter; a file is JsonlTraces({exporter!r})")
        self.prices = prices or PriceBook()
        self._counter = Counter(tokenizer)
        self._pipeline = Pipeline(Maker(self.prices, self._counter), exporters, keep)
        self.tracker = Tracker(
            self._finished,
            self._pipeline.later,
            self._counter.settle,
            ready=self._pipeline.ready,
            max_open=max_open,
            clock=clock,
        )
        self.tracker.notes = self._pipeline.notes
        self._faults = Faults()
        self._events = Events(on=self.tracker.on_event, faults=self._faults)
        self._spans = Spans(tracker=self.tracker, faults=self._faults)
        self._lock = threading.Lock()
        self._blocks = 0
        self._is_kept = self._is_off = False
        self._by_callback = False
        self._seen_by_callback: set[str] = set()

    # -- installing ------------------------------------------------------------------------------------------------

    def install(self) -> CostLatencyHandler:
        """Begin to measure every query of this process; once more changes nothing.

        Returns:
            The handler itself.
        """
        with self._lock:
            self._is_kept, self._is_off, self._by_callback = True, False, False
            self._add()
        return self

    def uninstall(self) -> None:
        """End it, for callback managers, too, until it is installed again; open queries are finished as they stand."""
        with self._lock:
            self._is_kept, self._is_off = False, True
            self._take_away()
        self.tracker.stop()

    @contextmanager
    def attach(self) -> Iterator[CostLatencyHandler]:
        """Measure within a block; blocks may overlap, and what is installed already stays so."""
        with self._lock:
            self._blocks += 1
            self._add()
        try:
            yield self
        finally:
            with self._lock:
                self._blocks -= 1
                is_last = not (self._blocks or self._is_kept or self._by_callback)
                if is_last:
                    self._take_away()
            if is_last:
                self.tracker.stop()

    @property
    def installed(self) -> bool:
        """Whether it stands on LlamaIndex's instrumentation."""
        return any(each is self._spans for each in get_dispatcher().span_handlers)

    def _take_away(self) -> None:
        root = get_dispatcher()
        root.span_handlers[:] = [each for each in root.span_handlers if each is not self._spans]
        root.event_handlers[:] = [each for each in root.event_handlers if each is not self._events]

    def _add(self) -> None:
        if not self.installed:
            root = get_dispatcher()
            root.add_span_handler(self._spans)
            root.add_event_handler(self._events)

    # -- what a query is for ---------------------------------------------------------------------------------------

    def tags(self, **tags: str | None) -> AbstractContextManager[None]:
        """Tag the queries of a block: ``tenant``, ``user``, ``run``, ``phase``, or any other name.

        Args:
            **tags: text; None takes a tag of an outer block away.

        Raises:
            ConfigurationError: an unknown phase.
        """
        if (phase := tags.get("phase")) is not None:
            checked_phase(phase)
        return tagged(**tags)

    @contextmanager
    def query(self, name: str = "query") -> Iterator[None]:
        """Measure a block of one's own, several calls perhaps, as one query; its answer is the last engine's.

        Args:
            name: what the trace calls it.
        """
        id_ = f"{name}-{uuid.uuid4()}"
        token = active_span_id.set(id_)
        self.tracker.block(id_, name, token.old_value if isinstance(token.old_value, str) else None)
        try:
            yield
        except BaseException as error:
            self._spans.span_drop(id_, None, None, error)
            raise
        else:
            self._spans.span_exit(id_, None, None, None)
        finally:
            active_span_id.reset(token)

    # -- what came of it -------------------------------------------------------------------------------------------

    def traces(self, timeout_s: float = 10.0) -> list[QueryTrace]:
        """Give the traces in memory, oldest first, those of all finished queries included.

        Args:
            timeout_s: seconds to wait for the thread that makes them.
        """
        self.flush(timeout_s)
        return self._pipeline.traces()

    async def atraces(self, timeout_s: float = 10.0) -> list[QueryTrace]:
        """`traces`, with the event loop free."""
        return await in_thread(self.traces, timeout_s)

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until every finished query is a trace and with the exporters; False when that took longer."""
        return self._pipeline.flush(timeout_s)

    def clear(self) -> None:
        """Let all traces in memory go."""
        self.flush()
        self._pipeline.clear()

    def close(self) -> None:
        """Uninstall, wait for the last traces, and have the exporters write what is left."""
        self.uninstall()
        self.flush()
        self._pipeline.close()

    async def aclose(self) -> None:
        """`close`, with the event loop free."""
        await in_thread(self.close)

    def health(self) -> dict[str, Any]:
        """Say how the measuring goes, JSON-safe; LlamaIndex swallows what a handler raises, so ask here.

        Returns:
            installed; open (queries under way), forced (finished early for lack of room), faults (errors in our own
            handlers, with the last one), traces (made so far), kept, evicted, waiting, dropped, failed, last_error,
            exporters (name to exported, failed, last_error), silent_streams (models whose streams report no tokens),
            tokenizer_failures.
        """
        return {
            "installed": self.installed,
            "open": len(self.tracker.queries.open),
            "forced": self.tracker.forced,
            "faults": self._faults.count,
            "last_fault": self._faults.last,
            **self._pipeline.health(),
            "silent_streams": sorted(self._counter.silent),
            "tokenizer_failures": self._counter.failed,
        }

    def _finished(self, query: Running) -> None:
        seen = query.id in self._seen_by_callback
        self._seen_by_callback.discard(query.id)
        if seen or self._blocks or not self._by_callback:
            self._pipeline.finish(query)

    # -- a callback handler, for apps that pass one ----------------------------------------------------------------

    def on_event_start(
        self, event_type: Any, payload: dict[str, Any] | None = None, event_id: str = "", parent_id: str = "", **_: Any
    ) -> str:
        """LlamaIndex calls this; the instrumentation does the counting."""
        self._called_back()
        return event_id

    def on_event_end(
        self, event_type: Any, payload: dict[str, Any] | None = None, event_id: str = "", **_: Any
    ) -> None:
        """LlamaIndex calls this; the instrumentation does the counting."""

    def start_trace(self, trace_id: str | None = None) -> None:
        """LlamaIndex calls this when a query begins."""
        self._called_back()

    def end_trace(self, trace_id: str | None = None, trace_map: dict[str, list[str]] | None = None) -> None:
        """LlamaIndex calls this when a query ends."""

    def _called_back(self) -> None:
        """Mark the running query as one of ours; the first of all began before anything was installed."""
        span = active_span_id.get()
        with self._lock:
            if self._is_off:
                return
            if not self._is_kept:
                self._by_callback = True
                self._add()
        if self._by_callback:
            self.tracker.adopt(span)
            if (query := self.tracker.queries.at(span)) is not None:
                self._seen_by_callback.add(query.id)
