"""Queries that have something in common, and what they come to; pure, knows traces and nothing of what they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from llama_index_hybridmem.costs.figures.spending import Purse, Spending
from llama_index_hybridmem.costs.figures.spread import Spread, money, seconds
from llama_index_hybridmem.costs.figures.waterfall import Split, StageTime, Stopwatch, Waterfall
from llama_index_hybridmem.costs.trace import QueryTrace


@dataclass(frozen=True, slots=True)
class Group:
    """Queries that have something in common.

    Attributes:
        name: what they have in common; None for those that have no such thing.
        n: how many.
        share: of all queries.
        statuses: how many ended how.
        latency: wall seconds of those that ended "ok"; None without any.
        first_token: seconds to the first token of those that ended "ok" and were streamed; None without any.
        spending: what they cost together.
        cost: what each cost, over the priced ones; None without any.
        tokens: input and output of their language model calls, as far as counted; None when none is.
        split: how the wall time of those that ended "ok" divides.
        stages: of the same.
        waterfall: of the same.
        degraded: how many had to do without a store.
        answered: of those that ended "ok", how many say what kind of answer they gave.
        abstained: of these, how many gave none.
    """

    name: str | None
    n: int
    share: float
    statuses: Mapping[str, int]
    latency: Spread[float] | None
    first_token: Spread[float] | None
    spending: Spending
    cost: Spread[Decimal] | None
    tokens: tuple[int, int] | None
    split: Split | None
    stages: tuple[StageTime, ...]
    waterfall: Waterfall | None
    degraded: int
    answered: int
    abstained: int


@dataclass(slots=True)
class Grouping:
    """Adds up queries, one after the other."""

    statuses: Counter[str] = field(default_factory=Counter)
    wall_s: list[float] = field(default_factory=list)
    first_token_s: list[float] = field(default_factory=list)
    purse: Purse = field(default_factory=Purse)
    costs: list[Decimal] = field(default_factory=list)
    tokens: list[int] = field(default_factory=lambda: [0, 0, 0])
    watch: Stopwatch = field(default_factory=Stopwatch)
    answers: Counter[str] = field(default_factory=Counter)
    degraded: int = 0

    def add(self, trace: QueryTrace) -> None:
        """Count one."""
        self.statuses[trace.status] += 1
        self.degraded += bool(trace.degraded)
        cost = self.purse.add(trace)
        if cost is not None:
            self.costs.append(cost)
        counts = (any(call.kind == "llm" and call.usage is not None for call in trace.calls), *trace.tokens())
        self.tokens = [one + other for one, other in zip(self.tokens, counts, strict=True)]
        if trace.status == "ok":
            self._add_ok(trace)

    def _add_ok(self, trace: QueryTrace) -> None:
        self.wall_s.append(trace.wall_s)
        self.watch.add(trace)
        if trace.first_token_s is not None:
            self.first_token_s.append(trace.first_token_s)
        if trace.answer is not None:
            self.answers[trace.answer] += 1

    @property
    def n(self) -> int:
        """How many there are."""
        return self.statuses.total()

    def group(self, name: str | None, queries: int) -> Group:
        """Say what they came to; `queries` is the number of all queries, in this group or not."""
        counted, *tokens = self.tokens
        return Group(
            name=name,
            n=self.n,
            share=self.n / queries if queries else 0.0,
            statuses=dict(self.statuses.most_common()),
            latency=seconds(self.wall_s),
            first_token=seconds(self.first_token_s),
            spending=self.purse.counted(),
            cost=money(self.costs),
            tokens=(tokens[0], tokens[1]) if counted else None,
            split=self.watch.split(),
            stages=self.watch.times(),
            waterfall=self.watch.waterfall(),
            degraded=self.degraded,
            answered=self.answers.total(),
            abstained=self.answers["abstained"],
        )
