"""How LlamaIndex's instrumentation reaches the tracker: two handlers whose faults are counted; knows no queries."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler
from pydantic import ConfigDict, Field

from llama_index_hybridmem.costs.tracking.tracker import Tracker
from llama_index_hybridmem.errors import told

logger = logging.getLogger(__name__)


class Faults:
    """Counts what goes wrong in our own handlers, since LlamaIndex swallows it."""

    def __init__(self) -> None:
        self.count = 0
        self.last: str | None = None

    def add(self, error: Exception) -> None:
        """Count one, and log the first."""
        if not self.count:
            logger.warning("a query is not fully measured: a fault in CostLatencyHandler", exc_info=True)
        self.count += 1
        self.last = told(error)


class Events(BaseEventHandler):
    """What LlamaIndex tells of events; plain fields, which pydantic reads fast."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    on: dict[type, Callable[[Any], None]]
    faults: Faults

    @classmethod
    def class_name(cls) -> str:
        """Return the class name."""
        return "CostLatencyHandler.events"

    def handle(self, event: Any, **kwargs: Any) -> None:
        """Hand an event to whoever takes its kind."""
        step = self.on.get(type(event))
        if step is not None:
            try:
                step(event)
            except Exception as error:  # noqa: BLE001 - counted, since LlamaIndex would swallow it
                self.faults.add(error)


class Spans(BaseSpanHandler[Any]):
    """What LlamaIndex tells of spans."""

    tracker: Tracker = Field(exclude=True, repr=False)
    faults: Faults

    def __init__(self, tracker: Tracker, faults: Faults) -> None:
        super(BaseSpanHandler, self).__init__(tracker=tracker, faults=faults)
        self._lock = None

    @classmethod
    def class_name(cls) -> str:
        """Return the class name."""
        return "CostLatencyHandler.spans"

    def span_enter(
        self, id_: str, bound_args: Any, instance: Any = None, parent_id: str | None = None, tags: Any = None, **_: Any
    ) -> None:
        """A span began."""
        try:
            self.tracker.enter(id_, bound_args, instance, parent_id, tags)
        except Exception as error:  # noqa: BLE001 - counted, since LlamaIndex would swallow it
            self.faults.add(error)

    def span_exit(self, id_: str, bound_args: Any, instance: Any = None, result: Any = None, **_: Any) -> None:
        """A span ended."""
        try:
            self.tracker.leave(id_, result, None, bound_args)
        except Exception as error:  # noqa: BLE001 - counted, since LlamaIndex would swallow it
            self.faults.add(error)

    def span_drop(
        self, id_: str, bound_args: Any, instance: Any = None, err: BaseException | None = None, **_: Any
    ) -> None:
        """A span raised."""
        try:
            self.tracker.leave(id_, None, err or RuntimeError("dropped"), bound_args)
        except Exception as error:  # noqa: BLE001 - counted, since LlamaIndex would swallow it
            self.faults.add(error)

    def new_span(self, *_: Any, **__: Any) -> None:
        """Nothing: LlamaIndex's own book-keeping is not used."""

    def prepare_to_exit_span(self, *_: Any, **__: Any) -> None:
        """Nothing: LlamaIndex's own book-keeping is not used."""

    def prepare_to_drop_span(self, *_: Any, **__: Any) -> None:
        """Nothing: LlamaIndex's own book-keeping is not used."""
