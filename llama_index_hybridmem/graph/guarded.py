"""A semantic memory that may fail, hang or be late without taking the graph search with it; knows no store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ..branches import Call, run
from ..breaker import Breaker
from ..deadlines import seconds_left, within
from ..errors import RetrievalError, told
from ..filters import Filter
from .candidates import Embedding, SemanticMemory
from .semantic import QueriedVectorStore

T = TypeVar("T")

SHARE = 0.5
"""Of the time that is left, what a call may take: the walk over words and names must still fit behind it."""
_NAME = "vectors"


class GuardedMemory:
    """Asks another memory with a share of the time that is left; whatever goes wrong there is a RetrievalError.

    A server that does not answer is not waited for each time: a breaker skips it, as it skips a store.

    Args:
        memory: a store of ours, which ends its calls in time by itself, or a `QueriedVectorStore` over a foreign one,
            which gets a thread that can be left behind.
    """

    def __init__(self, memory: SemanticMemory) -> None:
        self._memory = memory
        self._breaker = Breaker(name=f"{_NAME} in the graph search")
        self._foreign = isinstance(memory, QueriedVectorStore)

    def search_dense(self, embedding: Embedding, top_k: int, filters: Filter | None = None) -> list[tuple[str, float]]:
        """Find the nearest nodes."""
        return self._ask(lambda: self._memory.search_dense(embedding, top_k, filters))

    def search_sparse(self, text: str, top_k: int, filters: Filter | None = None) -> list[tuple[str, float]]:
        """Rank by keywords."""
        return self._ask(lambda: self._memory.search_sparse(text, top_k, filters))

    def score_dense(self, embedding: Embedding, node_ids: Sequence[str]) -> dict[str, float]:
        """Compare the given nodes."""
        return self._ask(lambda: self._memory.score_dense(embedding, node_ids))

    def _ask(self, call: Callable[[], T]) -> T:
        left = seconds_left()
        share = None if left is None else SHARE * left
        if self._foreign and share is not None:
            outcome = run({_NAME: Call(call, share, self._breaker)})[_NAME]
            if outcome.error is not None:
                raise _lost(outcome.error) from outcome.error
            return outcome.value  # type: ignore[return-value]  # an outcome without an error holds the call's own value
        if not self._breaker.admit(call):
            raise self._breaker.refusal(_NAME)
        try:
            with within(share):
                value = call()
        except BaseException as error:
            self._breaker.ended(call, error)
            if isinstance(error, Exception):  # a boundary: any library may stand behind it
                raise _lost(error) from error
            raise
        self._breaker.ended(call, None)
        return value


def _lost(error: BaseException) -> RetrievalError:
    return error if isinstance(error, RetrievalError) else RetrievalError(told(error))
