"""Hard limits on what queries may spend, kept by a guard in front of the language model; makes no traces.

LlamaIndex swallows what an instrumentation handler raises, so a handler cannot stop a call. A rate limiter can: it is
asked before each call, in the caller's context, and what it raises reaches the caller.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, TypeVar

from llama_index.core.base.llms.base import BaseLLM
from llama_index_instrumentation.span import active_span_id

from llama_index_hybridmem.costs.budgets.account import (
    Account,
    Accounts,
    Alert,
    Limits,
    Reservation,
)
from llama_index_hybridmem.costs.budgets.books import Books
from llama_index_hybridmem.costs.budgets.guard import Hold, chain, hold_around, hold_of, unchain
from llama_index_hybridmem.costs.budgets.price import Pricing
from llama_index_hybridmem.costs.handler import CostLatencyHandler
from llama_index_hybridmem.costs.prices.money import Amount, exactly
from llama_index_hybridmem.costs.tokens.usage import Usage
from llama_index_hybridmem.costs.trace import QueryTrace
from llama_index_hybridmem.costs.tracking.running import Call
from llama_index_hybridmem.errors import BudgetError, ConfigurationError

logger = logging.getLogger(__name__)

LLM = TypeVar("LLM", bound=BaseLLM)


class Budget:
    """Hard limits per query, per tenant and day, and per day, for the language models that it guards.

    Before each real call the most that it can cost is reserved, and when it has ended, what it did cost is spent in
    its place. What is spent and reserved never exceeds a limit together; a call that could is refused, at once, with a
    `BudgetExceededError`. Days are those of UTC, and a call counts for the day on which it began. Queries get a tenant
    by ``handler.tags(tenant=...)``; those without one share a limit. One budget is of one process.

    The most that a call can cost is its prompt's bytes, of which a token has at least one, with a frame for each
    message, and as many tokens of an answer as the call (``max_tokens=``) or the LLM allows. What it did cost is what
    the provider reports, else a token for every four bytes.

    Args:
        handler: what follows the calls, and whose prices count; it is installed if it is not.
        per_query: limit of a query, all its calls together.
        per_tenant: limit of a tenant's day.
        per_day: limit of a day, all tenants together.
        unit: of the limits, the currency of the handler's prices or ``tokens``, those of prompt and answer together.
        output_tokens: of an answer, at most, for LLMs that do not say.
        seconds: that a call keeps its machine busy, at most, for models priced by the hour of their machine; without
            it their calls are refused, unless the unit is ``tokens``.
        media_tokens: of an image, a sound, a video or a document in a prompt, at most; without it such prompts are
            refused.
        alert_at: shares of a limit; each alerts once for each query, tenant's day and day.
        on_alert: is told when so much is spent, on the thread on which the call ended. What it raises is logged once,
            and counted.
        clock: Unix seconds.

    Raises:
        ConfigurationError: no limit; a limit, a share or a bound that cannot be; another currency than the prices'.
    """

    def __init__(
        self,
        handler: CostLatencyHandler,
        *,
        per_query: Amount | None = None,
        per_tenant: Amount | None = None,
        per_day: Amount | None = None,
        unit: str = "USD",
        output_tokens: int | None = None,
        seconds: float | None = None,
        media_tokens: int | None = None,
        alert_at: Sequence[float] = (0.8,),
        on_alert: Callable[[Alert], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        given = {"per_query": per_query, "per_tenant": per_tenant, "per_day": per_day}
        limits = [None if value is None else _limit(value, name) for name, value in given.items()]
        if not any(limits):
            raise ConfigurationError("a budget without a limit: give per_query, per_tenant or per_day")
        shares = _shares(alert_at)
        self._pricing = Pricing(handler.prices, unit, output_tokens, seconds, media_tokens)
        self._limits = Limits(unit, *limits)
        self._books = Books(Accounts(self._limits, shares), lambda: self._now().date(), on_alert)
        self._handler, self._clock = handler, clock
        self._currency = handler.prices.currency
        self._faults = 0
        if not handler.installed:
            handler.install()

    # -- guarding --------------------------------------------------------------------------------------------------

    def guard(self, llm: LLM) -> LLM:
        """Give a copy of an LLM that asks this budget before each call, and then the rate limiter it has.

        Args:
            llm: stays as it is, unguarded.

        Raises:
            ConfigurationError: it is no LLM, LlamaIndex is too old, or its answers have no limit.
        """
        self._check(llm)
        guarded = llm.model_copy()
        chain(guarded, self._admit)
        return guarded

    @contextmanager
    def enforce(self, llm: LLM) -> Iterator[LLM]:
        """Have an LLM ask this budget within a block, before the rate limiter it has, which is then put back.

        One that the app sets within the block stays after it; from then on this budget is not asked.

        A stream that is read after the block may call the model after it, too: read it within, or use `guard`.

        Args:
            llm: is changed in its ``rate_limiter`` and in nothing else.

        Raises:
            ConfigurationError: see `guard`.
        """
        self._check(llm)
        guard = chain(llm, self._admit)
        try:
            yield llm
        finally:
            unchain(llm, guard)

    def _check(self, llm: Any) -> None:
        if not isinstance(llm, BaseLLM):
            raise ConfigurationError(f"a budget guards language models, not {type(llm).__name__}")
        if "rate_limiter" not in type(llm).model_fields:
            raise ConfigurationError("a budget needs rate limiters, of llama-index-core 0.14.16 or later; update it")
        self._pricing.check(llm)

    # -- how it stands ---------------------------------------------------------------------------------------------

    def spent(self, tenant: str | None = None) -> Decimal:
        """Give what was spent today.

        Args:
            tenant: by whom; None for everybody together.

        Raises:
            ConfigurationError: a tenant, where tenants have no limit: nothing is kept of them then.
        """
        with self._books.open() as accounts:
            return (accounts.everybody if tenant is None else self._of(tenant, accounts)).spent

    def remaining(self, tenant: str | None = None) -> Decimal | None:
        """Give what may still be reserved today, by a tenant or, for None, by everybody; None without such a limit.

        Raises:
            ConfigurationError: see `spent`.
        """
        with self._books.open() as accounts:
            both = [accounts.everybody, *([] if tenant is None else [self._of(tenant, accounts)])]
            return min((account.left for account in both if account.left is not None), default=None)

    def to_json(self) -> dict[str, Any]:
        """Say how it stands, JSON-safe, with amounts as texts.

        Returns:
            unit, day, limits, spent and reserved (today), tenants (today's); and since the budget was made: calls,
            open (under way), refused, overdrawn (calls that cost more than was reserved), excess (by how much),
            unknown (calls charged as reserved, for nobody knows their cost), alerts_failed, faults.
        """
        with self._books.open() as accounts:
            return {**accounts.to_json(), "alerts_failed": self._books.alerts_failed, "faults": self._faults}

    def resume(self, traces: Iterable[QueryTrace]) -> int:
        """Count what was spent today before a restart; once, before the first call.

        Args:
            traces: of any time; only today's calls of language models count, those of models without a guard, too.

        Returns:
            How many of them were left out because nobody knows what they cost.

        Raises:
            ConfigurationError: a trace in another currency.
        """
        unknown = 0
        for trace in traces:
            if trace.currency != self._currency:
                raise ConfigurationError(f"trace {trace.id}: in {trace.currency}, the prices are in {self._currency}")
            unknown += self._resume(trace)
        if unknown:
            logger.warning("%d calls of today are not in the budget: nobody knows what they cost", unknown)
        return unknown

    def _resume(self, trace: QueryTrace) -> int:
        unknown = 0
        with self._books.open() as accounts:
            for call in trace.calls:
                at = datetime.fromtimestamp(trace.started + call.started_s, timezone.utc)
                if call.kind != "llm" or at.date() != accounts.day:
                    continue
                cost = self._pricing.restored(call, at)
                if cost is None:
                    unknown += 1
                else:
                    accounts.restore(cost, trace.tenant)
        return unknown

    def _of(self, tenant: str, accounts: Accounts) -> Account:
        if self._limits.tenant is None:
            raise ConfigurationError("this budget has no limit for tenants; give it per_tenant")
        return accounts.tenants.get(tenant) or Account("tenant", self._limits.tenant, tenant)

    # -- calls -----------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Reserve for the call that is about to be made in this context."""
        call = self._handler.tracker.queries.call_at(active_span_id.get())
        if call is None:
            raise BudgetError("the CostLatencyHandler did not see this call; install it and leave it installed")
        if hold_of(call, self) is not None:  # by another guard of this budget, just now
            return
        try:
            hold = self._reserve(call)
        except Exception as error:
            call.usage = Usage(0, 0)  # it is not made, and the trace need not wonder what it cost
            if isinstance(error, BudgetError):
                raise
            raise BudgetError(f"what the call may cost cannot be told: {type(error).__name__}") from error
        if call.done:  # the handler was taken off, just now
            hold(call)

    def _reserve(self, call: Call) -> Hold:
        most = self._pricing.most(call, self._now())
        query, tenant = call.query, call.query.tags.get("tenant")
        with self._books.open() as accounts:
            outer = hold_around(call, self)
            if outer is not None and outer.reservation is not None:
                accounts.grow(outer.reservation, most)
                reservation, outer.reservation = outer.reservation, None
            else:
                own = None
                if self._limits.query is not None:
                    own = query.spent_by_budget.setdefault(self, Account("query", self._limits.query))
                reservation = accounts.reserve(most, None if tenant is None else str(tenant), own)
            hold = call.on_end = Hold(self, self._end, reservation, call.on_end)
        return hold

    def _end(self, call: Call, reservation: Reservation) -> None:
        """Settle a call; the garbage collector may come here in the midst of anything."""
        now = self._now()
        try:
            cost = self._pricing.cost(call, now)
        except Exception:  # noqa: BLE001 - the query must go on, whatever a response is made of
            if not self._faults:
                logger.warning("the cost of a call could not be told; it is charged as reserved", exc_info=True)
            self._faults += 1
            cost = None
        self._books.settle(reservation, cost, now.timestamp())

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), timezone.utc)


def _limit(value: Amount, name: str) -> Decimal:
    amount = exactly(value, name)
    if amount <= 0:
        raise ConfigurationError(f"{name}: {value} must be above 0; without a limit, leave it out")
    return amount


def _shares(given: Iterable[float]) -> list[float]:
    """Put shares of a limit in ascending order, each once."""
    try:
        shares = sorted({float(share) for share in given})
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"alert_at: {given!r}; give several numbers, or one as (0.8,)") from error
    for share in shares:
        if not 0 < share <= 1:
            raise ConfigurationError(f"alert_at: {share} is no share of a limit; give numbers above 0, up to 1")
    return shares
