"""Budgets over real engines: never exceeded, each real call reserved once and settled for what it did cost."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import pickle
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import date, datetime, timezone
from decimal import ROUND_DOWN, Context, Decimal, Inexact, getcontext, localcontext
from itertools import product
from types import SimpleNamespace
from typing import Any, ClassVar
from weakref import WeakSet

import pytest
from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.agent.workflow import ReActAgent
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import ChatMessage, CompletionResponse, ImageBlock, TextBlock
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.memory import ChatMemoryBuffer
from llama_index_instrumentation.span import active_span_id
from pydantic import PrivateAttr
from truthful import Native, Wrapped, number_in

from llama_index_hybridmem.costs.budgets.account import Account, Alert
from llama_index_hybridmem.costs.budgets.budget import Budget
from llama_index_hybridmem.costs.handler import CostLatencyHandler
from llama_index_hybridmem.costs.prices.book import PriceBook
from llama_index_hybridmem.costs.prices.row import HOUR, INPUT, OUTPUT, WRITTEN, PriceRow
from llama_index_hybridmem.errors import BudgetError, BudgetExceededError, ConfigurationError

DAY_S = 86_400
NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc).timestamp()
INDEX = VectorStoreIndex.from_documents([Document(text="The cat sat on the mat.")], embed_model=MockEmbedding(8))


def reads(number: int) -> int:
    """Tokens of a prompt of query n, fewer than its bytes."""
    return 100 + number


def writes(number: int) -> int:
    """Tokens of an answer to query n, fewer than `max_tokens`."""
    return 1000 + number


def tokens(*numbers: int) -> int:
    """Of all calls of these queries."""
    return sum(reads(number) + writes(number) for number in numbers)


def usage(number: int) -> dict[str, Any]:
    """What a call of query n reports."""
    return {"usage": {"prompt_tokens": reads(number), "completion_tokens": writes(number)}}


class Modest(Native):
    """Uses no more than can be foreseen; says what the budget had reserved while it was asked."""

    max_tokens: int = 1100
    watch: Callable[[], None] | None = None

    def _raw(self, prompt: str) -> dict[str, Any] | None:
        return usage(number_in(prompt)) if self.reports else None

    def _ask(self) -> None:
        if self.watch is not None:
            self.watch()
        super()._ask()


class ModestWrapped(Wrapped):
    """The same, with six of its eight methods made by LlamaIndex."""

    max_tokens: int = 1100

    def _raw(self, prompt: str) -> dict[str, Any] | None:
        return usage(number_in(prompt)) if self.reports else None


class Asking(Wrapped):
    """Asks another LLM, as often as it is told, one after the other or at once, with words of its own in front."""

    max_tokens: int = 1100
    inner: Any = None
    times: int = 2
    at_once: bool = False
    preface: str = ""

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer what the other answers last."""
        prompt = self.preface + prompt
        if self.at_once:
            streams = [self.inner.stream_complete(prompt, formatted=True) for _ in range(self.times)]
            answers = [list(stream)[-1] for stream in streams]
        else:
            answers = [self.inner.complete(prompt, formatted=True) for _ in range(self.times)]
        return CompletionResponse(text=answers[-1].text)


class Limiter:
    """A rate limiter that counts."""

    def __init__(self) -> None:
        self.asked = 0

    def acquire(self, num_tokens: int = 0) -> None:
        """Let it pass."""
        self.asked += 1

    async def async_acquire(self, num_tokens: int = 0) -> None:
        """Let it pass."""
        self.asked += 1


def row(unit: str, amount: str, model: str = "truthful") -> PriceRow:
    """A price of a language model."""
    price = Decimal(amount)
    return PriceRow("llm", "*", model, unit, price, price, price, "USD", "a test", date(2026, 11, 21))


PRICES = PriceBook([row(INPUT, "2"), row(OUTPUT, "10"), row(HOUR, "36", "our own")], only_rows=True)


@pytest.fixture
def handler() -> Iterator[CostLatencyHandler]:
    """A tracker that is taken off at the end, with nothing left open."""
    made = CostLatencyHandler(PRICES)
    yield made
    made.uninstall()
    assert made.health()["open"] == 0
    assert made.health()["faults"] == 0


def engine(llm: Any, mode: str = "compact", streaming: bool = False) -> Any:
    """A query engine over one document."""
    return INDEX.as_query_engine(llm=llm, response_mode=mode, streaming=streaming)


def settled(budget: Budget, spent: int | str | Decimal, calls: int) -> None:
    """So much is spent, by so many calls, and nothing is reserved any more."""
    said = budget.to_json()
    assert (Decimal(said["spent"]), said["calls"]) == (Decimal(spent), calls)
    assert (Decimal(said["reserved"]), said["open"], said["overdrawn"], said["unknown"]) == (0, 0, 0, 0)


def within(budget: Budget, limit: int) -> Callable[[], None]:
    """A check, for within a call, that the limit holds at this moment."""

    def check() -> None:
        said = budget.to_json()
        assert Decimal(said["spent"]) + Decimal(said["reserved"]) <= limit
        assert said["open"] >= 1

    return check


# -- never exceeded ------------------------------------------------------------------------------------------------


def numbers_of(answers: list[Any]) -> list[int]:
    """The queries that were answered; all others were refused, and for nothing else."""
    assert all(isinstance(each, BudgetExceededError) for each in answers if isinstance(each, BaseException))
    return [number_in(f"query {str(each).split()[-1]}") for each in answers if not isinstance(each, BaseException)]


def test_fifty_tasks_never_exceed_a_day(handler: CostLatencyHandler) -> None:
    """Of 50 queries at once only those are made that fit, the others raise; the sum is exact, as in the traces."""
    budget = Budget(handler, per_day=20_000, unit="tokens")
    llm = Modest(pause_s=0.001, watch=within(budget, 20_000))
    guarded = engine(budget.guard(llm))

    async def ask() -> list[Any]:
        return await asyncio.gather(*(guarded.aquery(f"query {n}") for n in range(50)), return_exceptions=True)

    answered = numbers_of(asyncio.run(ask()))
    assert 20_000 // 1_900 <= len(answered) <= 20_000 // 1_100  # reserved, and used, by a call
    settled(budget, tokens(*answered), len(answered))
    assert budget.to_json()["refused"] == 50 - len(answered)
    assert sum(sum(trace.tokens()) for trace in handler.traces()) == tokens(*answered)


def test_sixteen_threads_never_exceed_a_day(handler: CostLatencyHandler) -> None:
    """Threads that begin and end calls at the same time find the limit at the same place."""
    budget = Budget(handler, per_day=40_000, unit="tokens")
    guarded = engine(budget.guard(ModestWrapped()))

    def ask(number: int) -> Any:
        try:
            return guarded.query(f"query {number}")
        except BudgetExceededError as error:
            return error

    with ThreadPoolExecutor(16) as pool:
        answered = numbers_of(list(pool.map(ask, range(60))))
    assert 40_000 // 1_900 <= len(answered) <= 40_000 // 1_100  # reserved, and used, by a call
    settled(budget, tokens(*answered), len(answered))


def test_streams_read_late_are_charged_when_they_are_read(handler: CostLatencyHandler) -> None:
    """An answer that nobody reads yet has cost nothing; read in any order, the sum is exact."""
    budget = Budget(handler, per_day=100_000, unit="tokens")
    guarded = engine(budget.guard(Modest()), streaming=True)
    streams = [guarded.query(f"query {number}") for number in range(20)]
    settled(budget, 0, 0)
    random.Random(6).shuffle(streams)
    assert {str(stream) for stream in streams} == {f"this is the answer {number}" for number in range(20)}
    settled(budget, tokens(*range(20)), 20)


def test_a_limit_of_a_query_holds_for_its_calls_together(handler: CostLatencyHandler) -> None:
    """The second call of a query is refused where the first one left too little; the next query may ask again."""
    budget = Budget(handler, per_query=2_300, unit="tokens")
    asking = budget.guard(Modest())
    for number in range(2):
        with handler.query():
            asking.complete(f"query {number}")
            with pytest.raises(BudgetExceededError, match="this query") as caught:
                asking.complete(f"query {number}")
        assert (caught.value.limit, caught.value.spent) == ("query", tokens(number))
    settled(budget, tokens(0, 1), 2)
    assert budget.remaining() is None


class Watched(Account):
    """An account that can be seen to be gone."""

    __slots__ = ("__weakref__",)
    alive: ClassVar[WeakSet[Account]] = WeakSet()

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        self.alive.add(self)


def test_nothing_is_kept_of_finished_queries(handler: CostLatencyHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    """After any number of queries there is no account of a query left."""
    monkeypatch.setattr("llama_index_hybridmem.costs.budgets.budget.Account", Watched)
    budget = Budget(handler, per_query=5_000, unit="tokens")
    guarded = engine(budget.guard(Modest(watch=lambda: seen.append(len(Watched.alive)))))
    seen: list[int] = []
    for number in range(20):
        guarded.query(f"query {number}")
        handler.flush()
    gc.collect()
    assert min(seen) > 0
    assert not Watched.alive


# -- once per real call --------------------------------------------------------------------------------------------

METHODS = [f"{how}{stream}{what}" for how in ("", "a") for stream in ("", "stream_") for what in ("chat", "complete")]


def call(llm: Any, method: str, number: int = 7, **options: Any) -> None:
    """Asks by one of the eight methods, and reads it to the end."""
    prompt = [ChatMessage(content=f"query {number}")] if method.endswith("chat") else f"query {number}"

    async def awaited() -> None:
        answer = await getattr(llm, method)(prompt, **options)
        if "stream" in method:
            async for _ in answer:
                pass

    if method.startswith("a"):
        asyncio.run(awaited())
    else:
        answer = getattr(llm, method)(prompt, **options)
        for _ in answer if "stream" in method else ():
            pass


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [Modest, ModestWrapped])
def test_a_real_call_reserves_once(handler: CostLatencyHandler, kind: type[Wrapped], method: str) -> None:
    """Whether a method is the model's own or made of another one, there is one reservation, settled exactly."""
    budget = Budget(handler, per_query=1_500, per_day=1_500, unit="tokens")
    call(budget.guard(kind()), method)
    settled(budget, tokens(7), 1)


@pytest.mark.parametrize("at_once", [False, True])
def test_calls_inside_a_guarded_llm_count_each(handler: CostLatencyHandler, at_once: bool) -> None:
    """Of three calls one takes over what the LLM that makes them has reserved; the others reserve for themselves."""
    budget = Budget(handler, per_day=10_000, unit="tokens")
    llm = Asking(inner=budget.guard(Modest()), times=3, at_once=at_once)
    budget.guard(llm).complete("query 7")
    settled(budget, tokens(7, 7, 7), 3)


def test_what_is_taken_over_is_as_large_as_the_larger_call(handler: CostLatencyHandler) -> None:
    """A longer prompt inside reserves the difference, or is refused; an LLM without a guard between changes nothing."""
    preface, held = "x" * 500, list[str]()
    budget = Budget(handler, per_day=2_000, unit="tokens")
    inner = budget.guard(Modest(watch=lambda: held.append(budget.to_json()["reserved"])))
    between = Asking(inner=inner, times=1, preface=preface)
    budget.guard(Asking(inner=between, times=1)).complete("query 7")
    assert held == [str(128 + 507 + 1100 + len("True"))]  # formatted=True is an argument, too
    settled(budget, tokens(7), 1)
    small = Budget(handler, per_day=1_500, unit="tokens")
    with pytest.raises(BudgetExceededError) as caught:
        small.guard(Asking(inner=small.guard(inner), preface=preface)).complete("query 7")
    assert (caught.value.reserved, caught.value.needed) == (128 + 7 + 1100, 504)
    settled(small, 0, 1)


def test_what_has_settled_is_not_taken_over(handler: CostLatencyHandler) -> None:
    """A call within one whose end came first, by force, reserves for itself."""
    budget = Budget(handler, per_day=10_000, unit="tokens")
    inner = budget.guard(Modest())
    most = budget._pricing.most

    class Ended(Asking):
        @llm_completion_callback()
        def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
            outer = handler.tracker.queries.call_at(active_span_id.get())
            assert outer is not None
            budget._pricing.most = lambda *of: (outer.on_end(outer), most(*of))[1]  # type: ignore[method-assign,misc]
            return super().complete(prompt)

    budget.guard(Ended(inner=inner, times=1)).complete("query 7")
    assert budget.to_json()["calls"] == 2


def test_an_unguarded_llm_inside_a_guarded_one_is_charged(handler: CostLatencyHandler) -> None:
    """The outer LLM is charged for what it asks, however often: what was not foreseen is counted."""
    budget = Budget(handler, per_day=10_000, unit="tokens")
    budget.guard(Asking(inner=Modest(), times=2)).complete("query 7")
    said = budget.to_json()
    assert (said["calls"], said["spent"], said["overdrawn"]) == (1, str(tokens(7, 7)), 1)


def test_guards_of_one_budget_reserve_once_those_of_two_both(handler: CostLatencyHandler) -> None:
    """A guard in a guard changes nothing; another budget keeps its own count of the same call."""
    one, other = Budget(handler, per_day=2_000, unit="tokens"), Budget(handler, per_day=1, unit="USD")
    llm = other.guard(one.guard(one.guard(Modest())))
    call(llm, "chat")
    settled(one, tokens(7), 1)
    settled(other, Decimal(reads(7) * 2 + writes(7) * 10) / 1_000_000, 1)
    with pytest.raises(BudgetExceededError):
        call(llm, "chat")
    settled(one, tokens(7), 1)
    settled(other, Decimal(reads(7) * 2 + writes(7) * 10) / 1_000_000, 2)


# -- the error reaches whoever asked -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "streaming"),
    [*product(["compact", "refine", "tree_summarize", "simple_summarize"], [False, True]), ("accumulate", False)],
)
def test_engines_raise_it(handler: CostLatencyHandler, mode: str, streaming: bool) -> None:
    """No response mode turns it into an empty answer, sync or async; the model is not asked."""
    budget = Budget(handler, per_day=100, unit="tokens")
    llm = budget.guard(Modest())
    guarded = engine(llm, mode, streaming)
    with pytest.raises(BudgetExceededError):
        str(guarded.query("query 7"))

    async def ask() -> None:
        response = await guarded.aquery("query 7")
        async for _ in response.async_response_gen():
            pass

    with pytest.raises(BudgetExceededError):
        asyncio.run(ask())
    assert llm.calls == 0
    settled(budget, 0, 0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # LlamaIndex's agents use what its workflows deprecate
def test_agents_raise_it(handler: CostLatencyHandler) -> None:
    """A workflow's step hands it on."""
    budget = Budget(handler, per_day=100, unit="tokens")
    agent = ReActAgent(llm=budget.guard(Modest(is_chat=True)), tools=[])

    async def ask() -> None:
        await agent.run("query 7", memory=ChatMemoryBuffer.from_defaults(token_limit=4000))

    with pytest.raises(BudgetExceededError):
        asyncio.run(ask())
    settled(budget, 0, 0)


def test_chat_engines_raise_it(handler: CostLatencyHandler) -> None:
    """Also where the stream is written down by a thread."""
    budget = Budget(handler, per_day=100, unit="tokens")
    memory = ChatMemoryBuffer.from_defaults(token_limit=4000)
    chat = SimpleChatEngine.from_defaults(llm=budget.guard(Modest(is_chat=True)), memory=memory)
    with pytest.raises(BudgetExceededError):
        chat.chat("query 7")
    with pytest.raises(BudgetExceededError):
        chat.stream_chat("query 7")


def test_a_refused_call_is_known_to_cost_nothing(handler: CostLatencyHandler) -> None:
    """The trace of a refused query says why, and that it is not unpriced."""
    budget = Budget(handler, per_day="0.000001")
    with pytest.raises(BudgetExceededError):
        budget.guard(Modest()).complete("query 7")
    (trace,) = handler.traces()
    assert (trace.status, trace.cost) == ("error", 0)
    assert (trace.error or "").startswith("BudgetExceededError: the limit for today is 0.000001 USD")


# -- what a call did cost ------------------------------------------------------------------------------------------


def test_money_is_exact(handler: CostLatencyHandler) -> None:
    """By the handler's prices, to the last digit, as in the traces."""
    budget = Budget(handler, per_day=1)
    guarded = engine(budget.guard(Modest()))
    for number in range(10):
        guarded.query(f"query {number}")
    expected = sum(Decimal(reads(n) * 2 + writes(n) * 10) / 1_000_000 for n in range(10))
    settled(budget, expected, 10)
    costs = [call.cost for trace in handler.traces() for call in trace.calls if call.kind == "llm"]
    assert sum(cost for cost in costs if cost is not None) == expected
    assert budget.remaining() == 1 - expected


def test_a_call_that_fails_costs_nothing(handler: CostLatencyHandler) -> None:
    """Before its first token it is released."""
    budget = Budget(handler, per_day=2_000, unit="tokens")
    for method in METHODS:
        with pytest.raises(RuntimeError, match="the model is down"):
            call(budget.guard(ModestWrapped(fails=True)), method)
    settled(budget, 0, len(METHODS))


def test_a_stream_that_breaks_is_charged_for_what_came(handler: CostLatencyHandler) -> None:
    """The prompt, and the text so far, are estimated from their bytes; what was written is not free."""
    budget = Budget(handler, per_day=2_000, unit="tokens")
    llm = budget.guard(Modest(breaks_after=2))
    with pytest.raises(RuntimeError, match="the stream broke"):
        call(llm, "stream_complete")
    settled(budget, len("query 7") // 4 + 1 + len("this is ") // 4, 1)


class EarlyCounts(Modest):
    """Reports tokens with its first chunk, as Anthropic's streams do, and breaks off after some text."""

    def _parts(self, prompt: str) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
        raw = {"usage": {"prompt_tokens": 150, "completion_tokens": 1}}
        yield "x", "x", raw
        yield "x" * 400, "x" * 399, raw
        raise RuntimeError("the stream broke")


def test_what_a_broken_stream_reported_is_too_little(handler: CostLatencyHandler) -> None:
    """The prompt counts as reported, the answer at least as its text."""
    budget = Budget(handler, per_day=2_000, unit="tokens")
    llm = budget.guard(EarlyCounts())
    with pytest.raises(RuntimeError, match="the stream broke"):
        call(llm, "stream_chat")
    assert budget.spent() == 150 + 100


class Pieces(Modest):
    """Streams its text in pieces only, as some integrations do."""

    def _parts(self, prompt: str) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
        for _, delta, _ in super()._parts(prompt):
            yield "", delta, None


@pytest.mark.parametrize("method", ["stream_complete", "astream_chat"])
def test_a_stream_in_pieces_is_charged_for_all_of_them(handler: CostLatencyHandler, method: str) -> None:
    """At its end, and where it breaks off: what was written is in the pieces, and the last response holds no text."""
    budget = Budget(handler, per_day=4_000, unit="tokens")
    call(budget.guard(Pieces()), method)
    frame = 4 * method.endswith("chat")
    settled(budget, frame + 2 + len("this is the answer 7") // 4, 1)
    with pytest.raises(RuntimeError, match="the stream broke"):
        call(budget.guard(Pieces(breaks_after=2)), method)
    settled(budget, 2 * (frame + 2) + len("this is the answer 7") // 4 + len("this is ") // 4, 2)


class EarlyCountsInPieces(EarlyCounts):
    """The same in pieces."""

    def _parts(self, prompt: str) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
        for _, delta, raw in super()._parts(prompt):
            yield "", delta, raw


def test_a_broken_stream_in_pieces_costs_at_least_its_pieces(handler: CostLatencyHandler) -> None:
    """Although it reported a count early."""
    budget = Budget(handler, per_day=2_000, unit="tokens")
    with pytest.raises(RuntimeError, match="the stream broke"):
        call(budget.guard(EarlyCountsInPieces()), "stream_complete")
    assert budget.spent() == 150 + 100


def test_a_stream_that_is_closed_is_charged_for_what_came(handler: CostLatencyHandler) -> None:
    """Closed early by hand, or forgotten."""
    budget = Budget(handler, per_day=4_000, unit="tokens")
    llm = budget.guard(Modest())
    stream = llm.stream_complete("query 7")
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    settled(budget, 2 + 2, 1)
    stream = llm.stream_complete("query 7")
    next(stream)
    del stream
    gc.collect()
    settled(budget, 4 + 4, 2)


def test_streams_that_nobody_read_are_released(handler: CostLatencyHandler) -> None:
    """A stream that is gone before its first token cost nothing, async ones too."""
    budget = Budget(handler, per_day=4_000, unit="tokens")
    llm = budget.guard(Modest())

    async def forget() -> None:
        await llm.astream_chat([ChatMessage(content="query 7")])

    llm.stream_complete("query 7")
    asyncio.run(forget())
    gc.collect()
    handler.flush()
    settled(budget, 0, 2)


def test_a_cancelled_call_is_released(handler: CostLatencyHandler) -> None:
    """A task that is cancelled amid its call leaves no reservation."""
    budget = Budget(handler, per_day=2_000, unit="tokens")
    guarded = engine(budget.guard(Modest(pause_s=60)))

    async def cancel() -> None:
        task = asyncio.ensure_future(guarded.aquery("query 7"))
        while budget.to_json()["open"] == 0:
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    settled(budget, 0, 1)


class Silent(Modest):
    """Streams nothing."""

    @llm_chat_callback()
    def stream_chat(self, messages: Any, **kwargs: Any) -> Any:
        """Answer with no token."""
        return (each for each in ())


def test_an_answer_of_nothing_is_not_free(handler: CostLatencyHandler) -> None:
    """A stream that ends well without a token was a call, of which nobody knows the cost."""
    budget = Budget(handler, per_day=2_000, unit="tokens")
    call(budget.guard(Silent()), "stream_chat")
    said = budget.to_json()
    assert (said["spent"], said["unknown"], said["open"]) == (str(128 + 2 * 16 + 7 + 1100), 1, 0)


def test_tokens_in_a_tensor_are_counted(handler: CostLatencyHandler) -> None:
    """LlamaIndex's HuggingFaceLLM gives the tokens of prompt and answer in one tensor."""

    class Tensors(Modest):
        def _raw(self, prompt: str) -> dict[str, Any] | None:
            return {"model_output": SimpleNamespace(shape=(1, 17))}

    budget = Budget(handler, per_day=2_000, unit="tokens")
    budget.guard(Tensors()).complete("query 7")
    settled(budget, 17, 1)


def test_a_query_of_very_many_calls_is_exact(handler: CostLatencyHandler) -> None:
    """The tracker lets the texts of such calls go as they end; their counts stay."""
    budget = Budget(handler, per_query=1_000_000, unit="tokens")
    llm = budget.guard(Modest())
    with handler.query():
        for number in range(110):
            llm.complete(f"query {number % 10}")
    settled(budget, 11 * tokens(*range(10)), 110)


def test_tokens_that_nobody_reports_are_estimated(handler: CostLatencyHandler) -> None:
    """A token for every four bytes, of the prompt and of the answer."""
    budget = Budget(handler, per_day=2_000, unit="tokens")
    budget.guard(Modest(reports=False)).complete("query 7")
    settled(budget, 2 + 2, 1)


def test_a_call_beyond_what_could_be_foreseen_is_counted(
    handler: CostLatencyHandler, caplog: pytest.LogCaptureFixture
) -> None:
    """A model that reports more than its prompt has bytes is charged in full; the budget says so, and warns once."""
    budget = Budget(handler, per_day=1_000_000, unit="tokens", output_tokens=1_000)
    llm = budget.guard(Native())
    llm.complete("query 7")
    llm.complete("query 7")
    said = budget.to_json()
    assert (said["spent"], said["overdrawn"]) == (str(2 * 51_014), 2)
    assert int(said["excess"]) > 2 * 48_000
    assert [each.message.split(";")[0] for each in caplog.records] == ["a call cost more than was reserved for it"]


def test_a_call_that_nobody_saw_the_end_of_is_charged_as_reserved(handler: CostLatencyHandler) -> None:
    """Taking the handler off amid calls gives nothing back: a stream that is half read, or unread, may go on."""
    budget = Budget(handler, per_day=10_000, unit="tokens")
    llm = budget.guard(Modest())
    half, unread = llm.stream_complete("query 7"), llm.stream_complete("query 8")
    next(half)
    reserved = budget.to_json()["reserved"]
    handler.uninstall()
    said = budget.to_json()
    assert (said["spent"], said["open"], said["unknown"]) == (reserved, 0, 2)
    assert len([*half, *unread]) == 9
    with pytest.raises(BudgetError, match="CostLatencyHandler did not see this call"):
        llm.complete("query 9")


# -- prices --------------------------------------------------------------------------------------------------------


def test_a_model_without_a_price_is_not_asked(handler: CostLatencyHandler) -> None:
    """Unknown is not 0: the error names the model and what to do; in tokens it is asked."""
    budget = Budget(handler, per_day=1)
    llm = Modest(name="nameless")
    with pytest.raises(BudgetError, match="no price for nameless: add a row"):
        engine(budget.guard(llm)).query("query 7")
    assert llm.calls == 0
    settled(budget, 0, 0)
    in_tokens = Budget(handler, per_day=2_000, unit="tokens")
    engine(in_tokens.guard(llm)).query("query 7")
    settled(in_tokens, tokens(7), 1)


def test_a_model_paid_by_the_hour_reserves_seconds(handler: CostLatencyHandler) -> None:
    """Without `seconds` it is refused; with them it reserves so much of an hour, and is charged its busy time."""
    llm = Modest(name="our own")
    with pytest.raises(BudgetError, match="our own is priced by the hour"):
        Budget(handler, per_day=1).guard(llm).complete("query 7")
    budget = Budget(handler, per_day=1, seconds=50)  # 36 USD an hour are 0.01 a second
    held: list[str] = []
    llm.watch = lambda: held.append(budget.to_json()["reserved"])
    budget.guard(llm).complete("query 7")
    assert [Decimal(each) for each in held] == [Decimal("0.5")]
    busy_s = handler.traces()[-1].calls[0].busy_s
    assert budget.spent() == handler.traces()[-1].cost == round(Decimal(str(busy_s)) / 100, 12)
    with pytest.raises(BudgetExceededError):
        Budget(handler, per_day=1, seconds=101).guard(llm).complete("query 7")


def test_a_model_with_an_adapter_costs_what_its_base_does(handler: CostLatencyHandler) -> None:
    """Our LLMs call themselves base+adapter, and name the base in `base_model`; a plus in another's name stays."""

    class Adapted(Modest):
        @property
        def base_model(self) -> str:
            return "truthful"

    budget = Budget(handler, per_day=1)
    budget.guard(Adapted(name="truthful+acme")).complete("query 7")
    settled(budget, Decimal(reads(7) * 2 + writes(7) * 10) / 1_000_000, 1)
    with pytest.raises(BudgetError, match=r"no price for truthful\+acme"):
        budget.guard(Modest(name="truthful+acme")).complete("query 7")


@pytest.mark.parametrize("context", [Context(prec=3), Context(prec=3, rounding=ROUND_DOWN, traps=[Inexact])])
def test_the_arithmetic_is_not_the_app_s(handler: CostLatencyHandler, context: Context) -> None:
    """An app that reckons with three digits, or traps rounding, gets the same sums, and keeps its own context."""
    seen: list[int] = []
    limits = {"per_query": 60_000, "per_tenant": 60_000, "per_day": 60_000}
    budget = Budget(handler, **limits, unit="tokens", alert_at=(0.1, 0.6789), on_alert=lambda _: seen.append(digits()))
    money = Budget(handler, per_day=1)
    llm = money.guard(budget.guard(Modest(watch=lambda: seen.append(digits()))))
    with localcontext(context), handler.tags(tenant="acme"):
        for number in range(10):
            llm.complete(f"query {number}")
            said = budget.to_json()
            assert (said["spent"], said["reserved"]) == (str(tokens(*range(number + 1))), "0")
        assert budget.remaining("acme") == Decimal(60_000 - tokens(*range(10)))
        priced = sum(reads(n) * 2 + writes(n) * 10 for n in range(10))
        assert money.to_json()["spent"] == f"0.{priced:06}".rstrip("0")
        assert digits() == 3
        restored = Budget(handler, per_day=60_000, unit="tokens", clock=lambda: handler.traces()[-1].started)
        restored.resume(handler.traces())
        assert restored.to_json()["spent"] == str(tokens(*range(10)))
    assert set(seen) == {3}
    assert len(seen) >= 10 + 1


def digits() -> int:
    """Of the decimal context here."""
    return getcontext().prec


def test_writing_to_a_cache_may_be_the_dearest() -> None:
    """The reservation is for the dearest sort of input that the book knows."""
    prices = PriceBook([row(INPUT, "1"), row(WRITTEN, "100"), row(OUTPUT, "1")], only_rows=True)
    handler = CostLatencyHandler(prices)
    budget = Budget(handler, per_day=1)
    held: list[str] = []
    llm = Modest(watch=lambda: held.append(budget.to_json()["reserved"]))
    budget.guard(llm).complete("query 7")
    handler.uninstall()
    assert Decimal(held[0]) == (Decimal(128 + 7) * 100 + 1100) / 1_000_000


def test_an_option_of_the_call_bounds_its_answer(handler: CostLatencyHandler) -> None:
    """`max_tokens` of the call counts before the LLM's own."""
    budget = Budget(handler, per_day=1_200, unit="tokens")
    llm = budget.guard(Modest(max_tokens=1_190))
    with pytest.raises(BudgetExceededError):
        llm.complete("query 0")
    llm.complete("query 0", max_tokens=1_000)
    settled(budget, tokens(0), 1)


class Odd:
    """An argument that does not print."""

    def __repr__(self) -> str:
        raise TypeError("it does not print")


def test_a_call_without_a_bound_is_not_made(handler: CostLatencyHandler) -> None:
    """An image, an LLM that no longer says how long its answers may be, an argument that does not print."""
    budget = Budget(handler, per_day=10_000, unit="tokens")
    llm = budget.guard(Modest())
    image = [ChatMessage(content=[TextBlock(text="query 7"), ImageBlock(url="https://example.com/cat.png")])]
    with pytest.raises(BudgetError, match="give the budget media_tokens"):
        llm.chat(image)
    with pytest.raises(BudgetError, match="cannot be told: TypeError"):
        llm.complete("query 7", odd=Odd())
    llm.max_tokens = -1
    with pytest.raises(BudgetError, match="nothing bounds the answer's tokens"):
        llm.complete("query 7")
    assert llm.calls == 0
    Budget(handler, per_day=10_000, unit="tokens", media_tokens=1_600).guard(Modest()).chat(image)


# -- the caller's object -------------------------------------------------------------------------------------------


def test_guarding_leaves_the_original_alone(handler: CostLatencyHandler) -> None:
    """The copy asks the budget, then the limiter; the original asks its limiter only."""
    budget, limiter = Budget(handler, per_day=2_000, unit="tokens"), Limiter()
    llm = Modest(rate_limiter=limiter)
    guarded = budget.guard(llm)
    assert llm.rate_limiter is limiter
    assert type(guarded) is Modest
    for method in ("complete", "achat"):
        call(guarded, method)
        with pytest.raises(BudgetExceededError):
            call(guarded, method)
        budget = Budget(handler, per_day=2_000, unit="tokens")
        guarded = budget.guard(llm)
    assert limiter.asked == 2  # refused calls do not wait for it
    for _ in range(3):
        llm.complete("query 7")
    assert limiter.asked == 5


def test_enforcing_ends_with_the_block(handler: CostLatencyHandler) -> None:
    """Within the block the same object asks the budget; afterwards its very limiter is back, errors or not."""
    budget, limiter = Budget(handler, per_day=1_500, unit="tokens"), Limiter()
    for before in (limiter, None):
        llm = Modest(rate_limiter=before)
        with suppress(ZeroDivisionError), budget.enforce(llm) as same, budget.enforce(llm):
            assert same is llm
            assert llm.rate_limiter is not before
            raise ZeroDivisionError
        assert llm.rate_limiter is before
    llm = Modest(rate_limiter=limiter)
    with budget.enforce(llm), budget.enforce(llm):
        llm.complete("query 7")
        with pytest.raises(BudgetExceededError):
            llm.complete("query 7")
    llm.complete("query 7")
    assert limiter.asked == 2
    settled(budget, tokens(7), 1)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_blocks_that_overlap_end_in_any_order(handler: CostLatencyHandler, first: int) -> None:
    """Threads leave their blocks when they please: each takes its own guard off, and the last one leaves none."""
    budgets, limiter = [Budget(handler, per_day=10_000, unit="tokens") for _ in range(3)], Limiter()
    llm = Modest(rate_limiter=limiter)
    blocks = [ExitStack() for _ in budgets]
    for block, budget in zip(blocks, budgets, strict=True):
        block.enter_context(budget.enforce(llm))
    llm.complete("query 7")
    order = [first, *(place for place in range(3) if place != first)]
    for done, place in enumerate(order):
        blocks[place].close()
        llm.complete("query 7")
        assert [budgets[each].to_json()["calls"] for each in order] == [
            *(1 + each for each in range(done + 1)),
            *[done + 2] * (2 - done),
        ]
    assert llm.rate_limiter is limiter


@pytest.mark.parametrize("own", [Limiter(), None])
def test_a_limiter_set_within_the_block_stays(handler: CostLatencyHandler, own: Limiter | None) -> None:
    """The app has the last word: the blocks take their own guards off, and nothing else."""
    budget = Budget(handler, per_day=1_500, unit="tokens")
    llm = Modest(rate_limiter=Limiter())
    with budget.enforce(llm):
        llm.rate_limiter = own
        with budget.enforce(llm):
            assert llm.rate_limiter is not own
        assert llm.rate_limiter is own
    assert llm.rate_limiter is own


def test_copies_of_a_guarded_llm_are_guarded(handler: CostLatencyHandler) -> None:
    """In this process by the same budget; a pickled one refuses, for no budget reaches another process."""
    budget = Budget(handler, per_day=1_500, unit="tokens")
    guarded = budget.guard(Modest())
    copy.deepcopy(guarded).complete("query 7")
    settled(budget, tokens(7), 1)
    with pytest.raises(BudgetExceededError):
        guarded.model_copy().complete("query 7")
    with pytest.raises(BudgetError, match="guarded in another process"):
        pickle.loads(pickle.dumps(guarded)).complete("query 7")


# -- whose and when ------------------------------------------------------------------------------------------------


def test_tenants_have_limits_of_their_own(handler: CostLatencyHandler) -> None:
    """One tenant's spending takes nothing from another's; those without a tag share one; the day is everybody's."""
    budget = Budget(handler, per_tenant=1_500, per_day=3_500, unit="tokens")
    guarded = engine(budget.guard(Modest()))
    for tenant in ("acme", "bravo"):
        with handler.tags(tenant=tenant):
            guarded.query("query 7")
            with pytest.raises(BudgetExceededError, match=f"'{tenant}'") as caught:
                guarded.query("query 7")
        assert (caught.value.limit, caught.value.tenant) == ("tenant", tenant)
        assert budget.spent(tenant) == tokens(7)
        assert budget.remaining(tenant) == min(1_500 - tokens(7), budget.remaining() or 0)
    with pytest.raises(BudgetExceededError) as caught:
        guarded.query("query 7")
    assert caught.value.limit == "day"
    assert budget.spent("nobody") == 0
    assert [each["tenant"] for each in budget.to_json()["tenants"]] == ["acme", "bravo", None]


def test_a_day_begins_at_midnight_of_utc(handler: CostLatencyHandler) -> None:
    """The limit is whole again; a call that began before midnight is yesterday's."""
    now = [NOON + DAY_S / 2 - 1]
    budget = Budget(handler, per_tenant=1_500, per_day=1_500, unit="tokens", clock=lambda: now[0])
    llm = budget.guard(Modest())
    late = llm.stream_complete("query 7")
    with pytest.raises(BudgetExceededError):
        llm.complete("query 8")
    assert budget.to_json()["day"] == "2026-11-21"
    now[0] += 1
    assert budget.remaining() == 1_500
    assert len(list(late)) == 5
    assert (budget.spent(), budget.to_json()["day"]) == (0, "2026-11-22")
    llm.complete("query 8")
    settled(budget, tokens(8), 2)


def test_a_restart_goes_on_where_the_day_stood(handler: CostLatencyHandler) -> None:
    """Today's traces count, by tenant; yesterday's do not; in money and in tokens."""
    now = [NOON]
    before = CostLatencyHandler(PRICES, clock=lambda: now[0])
    with before.attach():
        for tenant, number in (("acme", 1), ("acme", 2), (None, 3)):
            with before.tags(tenant=tenant):
                engine(Modest()).query(f"query {number}")
        now[0] -= DAY_S
        engine(Modest()).query("query 4")
    traces = before.traces()
    alerts: list[Alert] = []
    budget = Budget(
        handler,
        per_tenant=4_000,
        per_day=8_000,
        unit="tokens",
        alert_at=(0.5, 0.8),
        on_alert=alerts.append,
        clock=lambda: NOON + 60,
    )
    assert budget.resume(traces) == 0
    assert (budget.spent(), budget.spent("acme")) == (tokens(1, 2, 3), tokens(1, 2))
    assert alerts == []
    with handler.tags(tenant="acme"):
        budget.guard(Modest()).complete("query 5")
    assert [(each.limit, each.share) for each in alerts] == [("tenant", 0.8), ("day", 0.5)]
    money = Budget(handler, per_day=1, clock=lambda: NOON + 60)
    assert money.resume(traces) == 0
    assert money.spent() == sum(Decimal(reads(n) * 2 + writes(n) * 10) / 1_000_000 for n in (1, 2, 3))


def test_a_call_after_midnight_counts_for_its_own_day(handler: CostLatencyHandler) -> None:
    """Of a query that began yesterday, what was asked today."""
    with handler.attach():
        Modest().complete("query 1")
    (trace,) = handler.traces()
    midnight = NOON + DAY_S / 2
    across = replace(trace, started=midnight - 5, calls=(trace.calls[0], replace(trace.calls[0], started_s=10.0)))
    budget = Budget(handler, per_day=9_000, unit="tokens", clock=lambda: midnight + 60)
    budget.resume([across])
    assert budget.spent() == tokens(1)


def test_a_restart_says_what_it_cannot_count(handler: CostLatencyHandler, caplog: pytest.LogCaptureFixture) -> None:
    """A call of a model without a price is left out and told of; failed and refused ones cost nothing."""
    with handler.attach():
        engine(Modest(name="nameless")).query("query 1")
        with pytest.raises(RuntimeError):
            engine(Modest(fails=True)).query("query 2")
        with pytest.raises(BudgetExceededError):
            Budget(handler, per_day="0.000001").guard(Modest()).complete("query 3")
        engine(Modest()).query("query 4")
    budget = Budget(handler, per_day=1)
    assert budget.resume(handler.traces()) == 1
    assert budget.spent() == Decimal(reads(4) * 2 + writes(4) * 10) / 1_000_000
    assert "1 calls of today are not in the budget" in caplog.text
    euros = CostLatencyHandler(PriceBook(only_rows=True, currency="EUR"))
    with euros.attach(), pytest.raises(ConfigurationError, match="in USD, the prices are in EUR"):
        Budget(euros, per_day=1, unit="EUR").resume(handler.traces())


# -- alerts --------------------------------------------------------------------------------------------------------


def test_alerts_come_once(handler: CostLatencyHandler) -> None:
    """Once for each share, account and day, and outside of the accounts: who is told may ask the budget."""
    told: list[tuple[Alert, Decimal]] = []
    now = [NOON]
    budget = Budget(
        handler,
        per_tenant=4_000,
        unit="tokens",
        alert_at=(0.9, 0.25),
        on_alert=lambda alert: told.append((alert, budget.spent())),
        clock=lambda: now[0],
    )
    llm = budget.guard(Modest())
    for _ in range(2):
        with handler.tags(tenant="acme"):
            for _ in range(3):
                with suppress(BudgetExceededError):
                    llm.complete("query 0")
        now[0] += DAY_S
    assert [(alert.share, alert.at, alert.spent, spent) for alert, spent in told] == [
        (0.25, NOON, 1100, 1100),
        (0.25, NOON + DAY_S, 1100, 1100),
    ]
    with handler.tags(tenant="bravo"):
        for _ in range(2):
            llm.complete("query 0")
    assert [alert.tenant for alert, _ in told] == ["acme", "acme", "bravo"]
    assert told[0][0] == Alert("tenant", "acme", Decimal(1100), Decimal(4000), 0.25, NOON)


def test_an_alert_that_fails_breaks_nothing(handler: CostLatencyHandler, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once and counted; the call has its answer and its trace."""
    failing = Budget(handler, per_query=3_000, unit="tokens", alert_at=(0.1,), on_alert=lambda _: 1 / 0)
    llm = failing.guard(Modest())
    assert str(llm.complete("query 7")) == str(llm.complete("query 7")) == "answer 7"
    assert failing.to_json()["alerts_failed"] == 2
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert len(handler.traces()) == 2


# -- robust --------------------------------------------------------------------------------------------------------


def test_the_garbage_collector_may_settle_amid_the_accounts(handler: CostLatencyHandler) -> None:
    """A stream that is closed while its own thread has the accounts waits for nothing, and is counted afterwards."""
    alerts: list[Alert] = []
    budget = Budget(handler, per_day=3_000, unit="tokens", alert_at=(0.001,), on_alert=alerts.append)
    stream = budget.guard(Modest()).stream_complete("query 7")
    next(stream)

    def close_within() -> None:
        with budget._books.open():
            stream.close()  # type: ignore[attr-defined]

    thread = threading.Thread(target=close_within, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert [alert.spent for alert in alerts] == [4]
    settled(budget, 4, 1)


def test_a_call_that_ends_while_it_is_admitted_is_settled(
    handler: CostLatencyHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler taken off between the two leaves no reservation; the call may be made, so it is charged as such."""
    budget = Budget(handler, per_day=5_000, unit="tokens")
    most = budget._pricing.most
    monkeypatch.setattr(budget._pricing, "most", lambda *of: (handler.uninstall(), most(*of))[1])
    budget.guard(Modest()).complete("query 7")
    said = budget.to_json()
    assert (said["open"], said["unknown"], said["spent"]) == (0, 1, str(128 + 7 + 1100))


def test_a_response_that_cannot_be_read_is_charged_as_reserved(
    handler: CostLatencyHandler, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault in telling the cost is logged once, counted, and gives nothing away; the query is traced all the same."""
    budget = Budget(handler, per_day=5_000, unit="tokens")
    llm = budget.guard(Modest())
    monkeypatch.setattr(budget._pricing, "cost", lambda *_: 1 / 0)
    for _ in range(2):
        llm.complete("query 7")
    said = budget.to_json()
    assert (said["faults"], said["unknown"], said["open"]) == (2, 2, 0)
    assert Decimal(said["spent"]) == 2 * (128 + 7 + 1100)
    assert len(caplog.records) == 1
    assert len(handler.traces()) == 2


# -- what is refused at once ---------------------------------------------------------------------------------------


class Endless(Wrapped):
    """Says nothing of how long its answers may be."""

    _unused: int = PrivateAttr(default=0)


@contextmanager
def without_limiters(kind: type[Any]) -> Iterator[None]:
    """An LLM as of a LlamaIndex that has no rate limiters."""
    field = kind.__pydantic_fields__.pop("rate_limiter")
    try:
        yield
    finally:
        kind.__pydantic_fields__["rate_limiter"] = field


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "without a limit"),
        ({"per_day": 0}, "per_day: 0 must be above 0"),
        ({"per_query": "much"}, "per_query: 'much' is no number"),
        ({"per_tenant": -1}, "per_tenant: -1"),
        ({"per_day": 1, "unit": "EUR"}, "unit: 'EUR'; the prices are in USD"),
        ({"per_day": 1, "alert_at": (1.5,)}, "alert_at: 1.5"),
        ({"per_day": 1, "alert_at": 0.8}, r"alert_at: 0\.8; give several numbers, or one as \(0\.8,\)"),
        ({"per_day": 1, "alert_at": "most"}, "alert_at: 'most'; give several numbers"),
        ({"per_day": 1, "alert_at": (0.5, float("nan"))}, "alert_at: nan"),
        ({"per_day": 1, "output_tokens": 0}, "output_tokens: 0"),
        ({"per_day": 1, "seconds": -1}, "seconds: -1"),
        ({"per_day": 1, "media_tokens": 0}, "media_tokens: 0"),
    ],
)
def test_a_budget_that_cannot_be(handler: CostLatencyHandler, settings: dict[str, Any], message: str) -> None:
    """The error names the argument."""
    with pytest.raises(ConfigurationError, match=message):
        Budget(handler, **settings)
    assert not handler.installed


def test_an_llm_that_cannot_be_guarded(handler: CostLatencyHandler) -> None:
    """Without a limit to its answers, without rate limiters, or none at all: the error says what to do."""
    budget = Budget(handler, per_day=1)
    assert handler.installed
    for guarding in (budget.guard, lambda llm: budget.enforce(llm).__enter__()):
        with pytest.raises(ConfigurationError, match=r"truthful \(Endless\) does not say.*output_tokens=.*max_tokens"):
            guarding(Endless())
        with pytest.raises(ConfigurationError, match="a budget guards language models, not MockEmbedding"):
            guarding(MockEmbedding(8))  # type: ignore[type-var]
        with without_limiters(Endless), pytest.raises(ConfigurationError, match=r"llama-index-core 0\.14\.16"):
            guarding(Endless())
    Budget(handler, per_day=1, output_tokens=10).guard(Endless())


def test_tenants_without_a_limit_are_not_counted(handler: CostLatencyHandler) -> None:
    """Asked for, they are an error, not 0."""
    budget = Budget(handler, per_day=1)
    for asking in (budget.spent, budget.remaining):
        with pytest.raises(ConfigurationError, match="give it per_tenant"):
            asking("acme")
