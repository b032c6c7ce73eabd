"""Handlers on LlamaIndex's instrumentation that pass on what they are told; know nobody who listens.

They keep it in fields of theirs: pydantic takes a microsecond or more to find a private attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler
from llama_index_instrumentation import get_dispatcher

Hear = Callable[..., Any]


class Spans(BaseSpanHandler[Any]):
    """Passes on what it is told of spans."""

    enter: Hear
    leave: Hear

    def span_enter(
        self, id_: str, bound_args: Any, instance: Any = None, parent_id: str | None = None, tags: Any = None, **_: Any
    ) -> None:
        self.enter(id_, bound_args, instance, parent_id, tags)

    def span_exit(self, id_: str, bound_args: Any, instance: Any = None, result: Any = None, **_: Any) -> None:
        self.leave(id_, bound_args, instance, result)

    def new_span(self, *_: Any, **__: Any) -> None: ...

    def prepare_to_exit_span(self, *_: Any, **__: Any) -> None: ...

    def prepare_to_drop_span(self, *_: Any, **__: Any) -> None: ...


class Events(BaseEventHandler):
    """Passes events on."""

    hear: Hear

    def handle(self, event: Any, **_: Any) -> None:
        self.hear(event)


@contextmanager
def hearing(enter: Hear, leave: Hear, event: Hear) -> Iterator[None]:
    """Stand on LlamaIndex's instrumentation within a block."""
    root, spans, events = get_dispatcher(), Spans(enter=enter, leave=leave), Events(hear=event)
    root.add_span_handler(spans)
    root.add_event_handler(events)
    try:
        yield
    finally:
        root.span_handlers.remove(spans)
        root.event_handlers.remove(events)
