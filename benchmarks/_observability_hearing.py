"""Handlers on LlamaIndex's instrumentation that pass on what they are told; know nobody who listens.

They are classes made for the purpose: pydantic takes a microsecond and more to find a private attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler
from llama_index_instrumentation import get_dispatcher

Hear = Callable[..., Any]


def handlers(enter: Hear, leave: Hear, event: Hear) -> tuple[BaseSpanHandler[Any], BaseEventHandler]:
    """Give a span handler and an event handler.

    Args:
        enter: is told id, arguments, instance, parent's id and tags of a span.
        leave: is told id, arguments, instance and result of a span.
        event: is told an event.
    """

    class Spans(BaseSpanHandler[Any]):
        def span_enter(
            self, id_: str, bound_args: Any, instance: Any = None, parent_id: Any = None, tags: Any = None, **_: Any
        ) -> None:
            enter(id_, bound_args, instance, parent_id, tags)

        def span_exit(self, id_: str, bound_args: Any, instance: Any = None, result: Any = None, **_: Any) -> None:
            leave(id_, bound_args, instance, result)

        def new_span(self, *_: Any, **__: Any) -> None: ...

        def prepare_to_exit_span(self, *_: Any, **__: Any) -> None: ...

        def prepare_to_drop_span(self, *_: Any, **__: Any) -> None: ...

    class Events(BaseEventHandler):
        def handle(self, event_: Any, **_: Any) -> None:
            event(event_)

    return Spans(), Events()


@contextmanager
def hearing(enter: Hear, leave: Hear, event: Hear) -> Iterator[None]:
    """Stand on LlamaIndex's instrumentation within a block; see `handlers`."""
    root, (spans, events) = get_dispatcher(), handlers(enter, leave, event)
    root.add_span_handler(spans)
    root.add_event_handler(events)
    try:
        yield
    finally:
        root.span_handlers.remove(spans)
        root.event_handlers.remove(events)
