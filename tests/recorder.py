"""Keeps the events that LlamaIndex's instrumentation sends during a test; knows nothing of what they mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index_instrumentation import get_dispatcher


class Recorder(BaseEventHandler):
    """Keeps every event."""

    seen: list[Any] = []

    @classmethod
    def class_name(cls) -> str:
        """Return the class name."""
        return "Recorder"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """Keep it."""
        self.seen.append(event)

    def of(self, kind: type[BaseEvent]) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.seen if isinstance(event, kind)]


@contextmanager
def recorded() -> Iterator[Recorder]:
    """All events fired within the block."""
    root, recorder = get_dispatcher(), Recorder(seen=[])
    root.add_event_handler(recorder)
    try:
        yield recorder
    finally:
        root.event_handlers.remove(recorder)
