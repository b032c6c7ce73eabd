"""Requests that wait, in the order they came: a bounded queue, and callers outside of it; knows no model.

Not thread-safe: the engine's lock is held around every call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from llama_index_hybridmem.bells import Bell
from llama_index_hybridmem.llms.serving.request import Request


class WaitingLine:
    """First come, first served, also outside.

    Args:
        size: requests in the queue at most.

    Attributes:
        peak: the longest the queue ever was.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.peak = 0
        self._queue: deque[Request] = deque()
        self._outside: dict[Request, Bell] = {}
        self._taken = 0  # may come back: their places are kept

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def outside(self) -> int:
        """How many callers wait for room."""
        return len(self._outside)

    def add(self, request: Request, bell: Bell) -> None:
        """Put a request at the end; its bell rings when it is in the queue."""
        self._outside[request] = bell
        self.call_in()

    def is_outside(self, request: Request) -> bool:
        """Whether a request has not come in yet."""
        return request in self._outside

    def leave(self, request: Request) -> bool:
        """Give up waiting outside; whether it did."""
        return self._outside.pop(request, None) is not None

    def remove(self, request: Request) -> None:
        """Take a request out, wherever it waits; one that does not is fine."""
        self.leave(request)
        if request in self._queue:
            self._queue.remove(request)
            self.call_in()

    def call_in(self) -> None:
        """Let in who waits outside longest, as far as there is room."""
        while self._outside and len(self._queue) + self._taken < self.size:
            request = next(iter(self._outside))
            bell = self._outside.pop(request)
            self._queue.append(request)
            bell.ring()
        self.peak = max(self.peak, len(self._queue))

    def first(self, count: int) -> list[Request]:
        """The requests in front; those that were cancelled are dropped."""
        self._queue = deque(request for request in self._queue if not request.ticket.done)
        return [request for _, request in zip(range(count), self._queue, strict=False)]

    def take(self, count: int) -> list[Request]:
        """The requests in front; their places are kept until `put_back`."""
        self._taken = count
        return [self._queue.popleft() for _ in range(count)]

    def put_back(self, requests: Sequence[Request]) -> None:
        """Put those of the taken that cannot start in front again, in their order; the others' places are free."""
        self._taken = 0
        self._queue.extendleft(reversed(requests))
        self.call_in()

    def empty(self) -> list[Request]:
        """Everybody leaves."""
        everybody = [*self._queue, *self._outside]
        self._queue.clear()
        self._outside.clear()
        return everybody
