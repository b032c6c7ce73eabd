"""What stands in front of a language model, and on each of its calls, for a budget; knows no prices and no limits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from llama_index_hybridmem.costs.budgets.account import Reservation
from llama_index_hybridmem.costs.tracking.running import Call
from llama_index_hybridmem.errors import BudgetError

_chaining = threading.Lock()


class Guard:
    """A rate limiter of LlamaIndex's that asks a budget before each call, and then the limiter that was there before.

    A copy is the guard itself, for a budget cannot be split; in another process it refuses every call.

    Args:
        admit: raises when the call that is about to be made in this context is too much.
        further: the limiter that was there before; None without one.
    """

    def __init__(self, admit: Callable[[], None], further: Any) -> None:
        self._admit, self.further = admit, further

    def acquire(self, num_tokens: int = 0) -> None:
        """LlamaIndex calls this before a call."""
        self._admit()
        if self.further is not None:
            self.further.acquire(num_tokens)

    async def async_acquire(self, num_tokens: int = 0) -> None:
        """LlamaIndex awaits this before a call."""
        self._admit()
        if self.further is not None:
            await self.further.async_acquire(num_tokens)

    def __deepcopy__(self, memo: dict[int, Any]) -> Guard:
        return self

    def __reduce__(self) -> Any:
        return Guard, (_refuse, None)


def _refuse() -> None:
    raise BudgetError("this LLM was guarded in another process, whose budget does not reach here; guard it here")


def unchain(llm: Any, guard: Guard) -> None:
    """Take a guard off an LLM, wherever in the chain it is by now: `enforce` blocks of two threads may overlap.

    Where it is there no more, the app has set another limiter meanwhile, and that one stays.
    """
    with _chaining:
        above = llm.rate_limiter
        if above is guard:
            llm.rate_limiter = guard.further
        while isinstance(above, Guard):
            if above.further is guard:
                above.further = guard.further
            above = above.further


def chain(llm: Any, admit: Callable[[], None]) -> Guard:
    """Put a guard on an LLM, in front of the limiter it has."""
    with _chaining:
        guard = llm.rate_limiter = Guard(admit, llm.rate_limiter)
        return guard


class Hold:
    """Stands on a call until it has ended, with what a budget has reserved for it.

    Args:
        owner: the budget.
        settle: is given the call and its reservation when it has ended.
        reservation: None once a call inside of this one has taken it over, being the real one.
        before: who else is told of the end.
    """

    __slots__ = ("before", "owner", "reservation", "settle")

    def __init__(
        self,
        owner: object,
        settle: Callable[[Call, Reservation], None],
        reservation: Reservation,
        before: Callable[[Call], None] | None,
    ) -> None:
        self.owner, self.settle, self.before = owner, settle, before
        self.reservation: Reservation | None = reservation

    def __call__(self, call: Call) -> None:
        """The call has ended."""
        if self.reservation is not None:
            self.settle(call, self.reservation)
        if self.before is not None:
            self.before(call)


def hold_of(call: Call, owner: object) -> Hold | None:
    """What a budget has put on a call."""
    step = call.on_end
    while isinstance(step, Hold) and step.owner is not owner:
        step = step.before
    return step if isinstance(step, Hold) else None


def hold_around(call: Call, owner: object) -> Hold | None:
    """The nearest call around this one that still has its reservation: LlamaIndex makes some methods out of others."""
    around = call.outer
    while around is not None:
        hold = hold_of(around, owner)
        if hold is not None and hold.reservation is not None and hold.reservation.open:
            return hold
        around = around.outer
    return None
