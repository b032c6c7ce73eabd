"""What a call may cost at most, and what it did, in the unit of a budget; knows no limits and no accounts."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from llama_index_hybridmem.costs.budgets.account import exactly_here
from llama_index_hybridmem.costs.budgets.bounds import goes_on, most_input, most_output, real_calls, used
from llama_index_hybridmem.costs.prices.book import PriceBook
from llama_index_hybridmem.costs.prices.row import HOUR
from llama_index_hybridmem.costs.tokens.providers import provider_of
from llama_index_hybridmem.costs.tokens.usage import Usage
from llama_index_hybridmem.costs.trace import ModelCall
from llama_index_hybridmem.costs.tracking.running import Call
from llama_index_hybridmem.errors import BudgetError, ConfigurationError

TOKENS = "tokens"
"""The unit of a budget that is no currency."""


class Pricing:
    """Tells costs.

    Args:
        prices: what tokens and hours cost.
        unit: `TOKENS`, or the currency of the prices.
        output_tokens: of an answer, at most, where neither call nor LLM says.
        seconds: that a call keeps its machine busy, at most, where the model is priced by the hour.
        media_tokens: of an image, a sound, a video or a document in a prompt, at most.

    Raises:
        ConfigurationError: the prices are in another currency, or one of the numbers is not above 0.
    """

    def __init__(
        self,
        prices: PriceBook,
        unit: str,
        output_tokens: int | None,
        seconds: float | None,
        media_tokens: int | None,
    ) -> None:
        if unit not in (TOKENS, prices.currency):
            raise ConfigurationError(f"unit: {unit!r}; the prices are in {prices.currency}: take that, or {TOKENS!r}")
        for name, value in (("output_tokens", output_tokens), ("seconds", seconds), ("media_tokens", media_tokens)):
            if value is not None and value <= 0:
                raise ConfigurationError(f"{name}: {value} must be above 0")
        self._prices, self._unit = prices, unit
        self._output_tokens, self._seconds, self._media_tokens = output_tokens, seconds, media_tokens

    def check(self, llm: Any) -> None:
        """Refuse an LLM whose answers have no limit.

        Raises:
            ConfigurationError: says what to give.
        """
        if most_output(llm, {}, self._output_tokens) is None:
            raise ConfigurationError(
                f"{_named(llm)} ({type(llm).__name__}) does not say how long its answers may be, so nothing can be "
                "reserved for them; give the budget output_tokens=, the most of one answer, or the LLM max_tokens"
            )

    def most(self, call: Call, at: datetime) -> Decimal:
        """Bound what a call can cost.

        Raises:
            BudgetError: there is no bound, or no price.
        """
        read = most_input(call.instance, call.prompt, call.options, self._media_tokens)
        if read is None:
            raise BudgetError(
                "the prompt holds an image, a sound, a video or a document, and nothing bounds its tokens; "
                "give the budget media_tokens"
            )
        written = most_output(call.instance, call.options, self._output_tokens)
        if written is None:
            raise BudgetError("nothing bounds the answer's tokens; give the budget output_tokens= or the LLM a limit")
        return Decimal(read + written) if self._unit == TOKENS else self._dearest(call, read, written, at)

    def cost(self, call: Call, at: datetime) -> Decimal | None:
        """Tell what a call that has ended did cost; None when nobody knows.

        A call that came to nothing costs nothing, but for the time of a machine that is paid by the hour. One that
        wraps others, as an LLM does that asks further ones, costs what they do.
        """
        total = Decimal(0)
        with exactly_here():
            for each in real_calls(call):
                cost = None if goes_on(each) else self._known(_as_model_call(each, used(each), each.busy_s), at)
                if cost is None:
                    return None
                total += cost
        return total

    def restored(self, call: ModelCall, at: datetime) -> Decimal | None:
        """Tell what a call of an earlier trace did cost; None when nobody knows."""
        return call.cost if call.cost is not None and self._unit != TOKENS else self._known(call, at)

    def _known(self, call: ModelCall, at: datetime) -> Decimal | None:
        if self._unit != TOKENS:
            cost = self._priced([call], at)
        else:
            cost = None if call.usage is None else Decimal(call.usage.input + call.usage.output)
        return Decimal(0) if cost is None and call.usage is None and call.status != "ok" else cost

    def _dearest(self, call: Call, read: int, written: int, at: datetime) -> Decimal:
        """The dearest that so many tokens can be: writing the prompt to a cache may cost more than reading it."""
        seconds = self._busy_s(call)
        usages = (Usage(read, written), Usage(read, written, cached_write=read))
        most = self._priced((_as_model_call(call, usage, seconds) for usage in usages), at)
        if most is None:
            raise BudgetError(f"no price for {_model(call)}: add a row to the price book, or use unit={TOKENS!r}")
        return most

    def _busy_s(self, call: Call) -> float:
        """The seconds to reserve; they only matter where a model is priced by them."""
        by_hour = self._prices.row("llm", provider_of(call.class_name), _model(call), HOUR) is not None
        if by_hour and self._seconds is None:
            raise BudgetError(
                f"{_model(call)} is priced by the hour of its machine: give the budget seconds, the most that one call "
                f"takes, or use unit={TOKENS!r}"
            )
        return self._seconds or 0.0

    def _priced(self, calls: Iterable[ModelCall], at: datetime) -> Decimal | None:
        """The highest of the calls' costs; None where one has no price."""
        amounts = []
        with exactly_here():
            for call in calls:
                priced = self._prices.cost(call, at)
                if priced is None:
                    return None
                amounts.append(priced.amount)
            return max(amounts)


def _as_model_call(call: Call, usage: Usage | None, busy_s: float) -> ModelCall:
    return ModelCall(
        kind=call.kind,
        model=_model(call),
        provider=provider_of(call.class_name),
        adapter=None,
        streamed=call.streamed,
        status=call.status,
        started_s=0.0,
        wall_s=call.ended - call.began,
        first_token_s=None,
        busy_s=busy_s,
        usage=usage,
    )


def _model(call: Call) -> str:
    return call.model or call.class_name


def _named(llm: Any) -> str:
    """What a model is called, before any call of it."""
    names = (getattr(llm, name, None) for name in ("base_model", "model", "model_name"))
    return str(next(filter(None, names), None) or llm.metadata.model_name)
