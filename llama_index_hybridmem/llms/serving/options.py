"""How one model is shared, as its users may set it; knows no engine."""

from __future__ import annotations

from dataclasses import dataclass, fields

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.llms.serving.batching import Limits


@dataclass(frozen=True)
class EngineOptions:
    """How one model is shared.

    Attributes:
        slots: adapters that lie in memory at the same time.
        max_batch: rows computed together.
        batch_tokens: rows times the longest prompt and answer, at most; bounds the memory of keys and values.
        batch_wait_s: seconds that an idle engine waits for company before it starts.
        queue_size: requests that wait, at most; further callers wait outside.
        queue_timeout_s: seconds that a caller waits for room in the queue.
        prefix_tokens: tokens whose keys and values are kept for prompts that begin alike; 0 for none.
    """

    slots: int = 8
    max_batch: int = 8
    batch_tokens: int = 16_384
    batch_wait_s: float = 0.004
    queue_size: int = 256
    queue_timeout_s: float = 60.0
    prefix_tokens: int = 4_096

    def __post_init__(self) -> None:
        for setting in fields(self):
            value, least = getattr(self, setting.name), int(setting.name in ("slots", "max_batch", "queue_size"))
            if value < least:
                raise ConfigurationError(f"{setting.name}={value}; it is at least {least}")

    @property
    def limits(self) -> Limits:
        """What a batch may hold."""
        return Limits(self.max_batch, self.batch_tokens, self.slots)
