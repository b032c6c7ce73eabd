"""Handlers on LlamaIndex's instrumentation that pass on what they are told; know nobody who listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler
from llama_index_instrumentation import get_dispatcher
from pydantic import PrivateAttr

Hear = Callable[..., Any]


class Spans(BaseSpanHandler[Any]):
    """Passes on what it is told of spans."""

    _enter: Hear = PrivateAttr()
    _leave: Hear = PrivateAttr()

    def __init__(self, enter: Hear, leave: Hear) -> None:
        super().__init__()
        self._enter, self._leave = enter, leave

    def span_enter(
        self, id_: str, bound_args: Any, instance: Any = None, parent_id: str | None = None, tags: Any = None, **_: Any
    ) -> None:
        self._enter(id_, bound_args, instance, parent_id, tags)

    def span_exit(self, id_: str, bound_args: Any, instance: Any = None, result: Any = None, **_: Any) -> None:
        self._leave(id_, bound_args, instance, result)

    def new_span(self, *_: Any, **__: Any) -> None: ...

    def prepare_to_exit_span(self, *_: Any, **__: Any) -> None: ...

    def prepare_to_drop_span(self, *_: Any, **__: Any) -> None: ...


class Events(BaseEventHandler):
    """Passes events on."""

    _hear: Hear = PrivateAttr()

    def __init__(self, hear: Hear) -> None:
        super().__init__()
        self._hear = hear

    def handle(self, event: Any, **_: Any) -> None:
        self._hear(event)


@contextmanager
def hearing(enter: Hear, leave: Hear, event: Hear) -> Iterator[None]:
    """Stand on LlamaIndex's instrumentation within a block."""
    root, spans, events = get_dispatcher(), Spans(enter, leave), Events(event)
    root.add_span_handler(spans)
    root.add_event_handler(events)
    try:
        yield
    finally:
        root.span_handlers.remove(spans)
        root.event_handlers.remove(events)
