"""One thread answers for all: the right adapter for each request, whatever else happens at the same time."""

from __future__ import annotations

import asyncio
import copy
import gc
import importlib.util
import logging
import random
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from models import HELD_OUT, Voice

from llama_index_hybridmem.bells import LoopBell, ThreadBell
from llama_index_hybridmem.errors import (
    CancelledGenerationError,
    ConfigurationError,
    EngineBusyError,
    EngineClosedError,
    GenerationError,
)
from llama_index_hybridmem.llms.adapters.files import open_adapter
from llama_index_hybridmem.llms.adapters.version import AdapterVersion, version_of
from llama_index_hybridmem.llms.serving import engine as engine_room
from llama_index_hybridmem.llms.serving.engine import Engine, engine_of
from llama_index_hybridmem.llms.serving.options import EngineOptions
from llama_index_hybridmem.llms.serving.request import Options, Piece, Request, Result, blocking

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "peft")),
    reason="needs the extra 'lora', and PEFT to train adapters",
)
LIMIT_S = 60.0  # a hang, not a measure: nothing here takes seconds


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Models this small are slower on several cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Base:
    """The tiny Llama, loaded once; every engine on it is closed before the next."""

    model: Any
    tokenizer: Any

    def ids(self, text: str) -> tuple[int, ...]:
        """A user's message as the template has it."""
        chat = [{"role": "user", "content": text}]
        return tuple(self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False))


@pytest.fixture(scope="module")
def llama(llama_folder: Path) -> Base:
    """The tiny Llama."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(llama_folder, dtype="float32")
    return Base(model.eval(), AutoTokenizer.from_pretrained(llama_folder))


@pytest.fixture(scope="module")
def plain(llama_voices: Mapping[str, Voice]) -> dict[str, AdapterVersion]:
    """Six adapters that share batches."""
    return {name: version(name, voice.folder) for name, voice in llama_voices.items()}


@pytest.fixture(scope="module")
def exotic(exotic_voices: Mapping[str, Voice]) -> dict[str, AdapterVersion]:
    """DoRA, a head of its own, LoRA on the embeddings."""
    return {name: version(name, voice.folder) for name, voice in exotic_voices.items()}


def version(name: str, folder: Path) -> AdapterVersion:
    """An adapter where it lies."""
    files = open_adapter(folder)
    return version_of(files, name, made_for=files.made_for)


@pytest.fixture
def engine(llama: Base) -> Iterator[Engine]:
    """An engine with the settings of the house; the model has no hook left behind it."""
    with engine_on(llama) as made:
        yield made


@contextmanager
def engine_on(base: Base, **settings: Any) -> Iterator[Engine]:
    """An engine that leaves no lease, no waiting request and no hook."""
    made = Engine(base.model, base.tokenizer, EngineOptions(**settings))
    try:
        yield made
        assert settled(lambda: (made.stats().leases, made.stats().waiting, made.stats().running) == (0, 0, 0))
    finally:
        made.close()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in base.model.modules())


def settled(fact: Callable[[], bool]) -> bool:
    """Whether something becomes true before long."""
    end = time.monotonic() + LIMIT_S
    while not fact() and time.monotonic() < end:
        time.sleep(0.001)
    return fact()


def admit(engine: Engine, request: Request) -> Request:
    """Put a request into the queue, waiting for room."""
    blocking(engine.admit(request, ThreadBell()))
    return request


def answer(engine: Engine, request: Request) -> Result:
    """Ask as a caller of a blocking method does."""
    try:
        return blocking(admit(engine, request).ticket.last())
    finally:
        engine.cancel(request)


def outcome(request: Request) -> Result | Exception:
    """What became of an admitted request."""
    try:
        return blocking(request.ticket.last())
    except Exception as error:  # noqa: BLE001 - whatever it ended with
        return error


@contextmanager
def held(engine: Engine) -> Iterator[None]:
    """The engine's thread stands still within the block, so that all that is asked in it starts at once."""
    gate, reached = threading.Event(), threading.Event()

    def stand() -> None:
        reached.set()
        gate.wait(LIMIT_S)

    engine.call(stand)
    assert reached.wait(LIMIT_S)
    try:
        yield
    finally:
        gate.set()


def together(engine: Engine, requests: Sequence[Request]) -> list[Result | Exception]:
    """What becomes of requests that all wait before the first starts."""
    with held(engine):
        for request in requests:
            admit(engine, request)
    return [outcome(request) for request in requests]


def ids_of(result: Result | Exception) -> list[int]:
    """The tokens of an answer; an error is raised."""
    if isinstance(result, Exception):
        raise result
    return [token.id for token in result.tokens]


def asked(base: Base, text: str, adapter: AdapterVersion | None = None, **options: Any) -> Request:
    """A greedy request for a dozen tokens."""
    return Request(base.ids(text), Options(**{"max_new_tokens": 24, **options}), adapter)


def said(adapter: AdapterVersion) -> str:
    """What an adapter answers, whatever the prompt."""
    return f"{adapter.name} says hello"


def from_threads(count: int, work: Callable[[int], None]) -> None:
    """Run work(0), work(1), … in threads; the first error is raised, and a hang is one."""
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert not any(thread.is_alive() for thread in threads), "a caller hangs"
    for error in errors:
        raise error


# -- the right adapter ---------------------------------------------------------------------------------------------


def test_four_threads_get_their_own_adapters(
    llama: Base, plain: Mapping[str, AdapterVersion], exotic: Mapping[str, AdapterVersion]
) -> None:
    """120 requests of four threads over nine adapters and the base: not one answer of another's weights."""
    everybody: list[AdapterVersion | None] = [*plain.values(), *exotic.values(), None, None]
    with engine_on(llama, slots=9) as engine:
        base_says = {text: answer(engine, asked(llama, text)).text for text in HELD_OUT}

        def client(number: int) -> None:
            chance = random.Random(number)
            for _ in range(30):
                adapter, text = chance.choice(everybody), chance.choice(HELD_OUT)
                expected = base_says[text] if adapter is None else said(adapter)
                assert answer(engine, asked(llama, text, adapter)).text == expected

        from_threads(4, client)


async def test_tasks_and_streams_get_their_own_adapters(
    llama: Base, plain: Mapping[str, AdapterVersion], engine: Engine
) -> None:
    """Sixty tasks at once, every other a stream whose pieces join to its answer, on one event loop."""

    async def client(number: int) -> None:
        adapter = list(plain.values())[number % 6]
        request = replace(asked(llama, HELD_OUT[number % 5], adapter), stream=number % 2 == 0)
        await engine.admit(request, LoopBell())
        pieces: list[Piece] = []
        while (piece := await request.ticket.next()) is not None:
            pieces.append(piece)
        assert "".join(piece.delta for piece in pieces) == pieces[-1].text == said(adapter)
        assert (len(pieces) > 1) == request.stream

    await asyncio.wait_for(asyncio.gather(*(client(number) for number in range(60))), LIMIT_S)


def test_eviction_under_load(llama: Base, plain: Mapping[str, AdapterVersion]) -> None:
    """Two slots for six adapters, four threads: each answer is right, and both slots stay in use."""
    with engine_on(llama, slots=2) as engine:

        def client(number: int) -> None:
            chance = random.Random(number)
            for _ in range(12):
                adapter = chance.choice(list(plain.values()))
                assert answer(engine, asked(llama, chance.choice(HELD_OUT), adapter)).text == said(adapter)

        from_threads(4, client)
        assert len(engine.stats().loaded) == 2


def test_names_that_begin_alike_are_two_adapters(
    llama: Base, llama_voices: Mapping[str, Voice], engine: Engine
) -> None:
    """tenant1 and tenant10, and the same name with other weights: what is loaded goes by its hash."""
    for _ in range(2):
        for name, voice in (("tenant10", "acme"), ("tenant1", "bravo"), ("tenant1", "cairn")):
            adapter = version(name, llama_voices[voice].folder)
            assert answer(engine, asked(llama, "x", adapter)).text == f"{voice} says hello"


def test_a_joining_request_changes_nobodys_answer(
    llama: Base, plain: Mapping[str, AdapterVersion], engine: Engine
) -> None:
    """Rows that join an answer under way get the tokens, and log-probabilities, that they get alone; so does it."""
    requests = [
        asked(llama, HELD_OUT[4], None, max_new_tokens=40),
        asked(llama, HELD_OUT[0], plain["acme"]),
        asked(llama, HELD_OUT[1], plain["cairn"], temperature=1.0, seed=4),
        asked(llama, HELD_OUT[3], plain["delta"], temperature=1.0, seed=5, top_p=0.9),
    ]
    alone = [answer(engine, copy_of(request)) for request in requests]
    first = admit(engine, replace(copy_of(requests[0]), stream=True))
    blocking(first.ticket.next())
    found = [outcome(admit(engine, copy_of(request))) for request in requests[1:]]
    for mixed, solo in zip([outcome(first), *found], alone, strict=True):
        assert isinstance(mixed, Result)
        assert (mixed.text, ids_of(mixed)) == (solo.text, ids_of(solo))
        pairs = zip(mixed.tokens, solo.tokens, strict=True)
        assert all(one.logprob == pytest.approx(two.logprob, abs=1e-3) for one, two in pairs)


def copy_of(request: Request) -> Request:
    """The same request, not yet asked."""
    return Request(request.prompt, request.options, request.adapter)


def test_short_and_long_prompts_together_are_as_alone(
    llama: Base, plain: Mapping[str, AdapterVersion], engine: Engine
) -> None:
    """One token beside two hundred, padded or not, adapters mixed: tokens as alone."""
    prompts = [llama.ids("x" * length) for length in (1, 3, 50, 60, 200)]
    prompts.append((5,))
    requests = [
        Request(prompt, Options(max_new_tokens=12), adapter)
        for prompt, adapter in zip(prompts, [None, *plain.values()], strict=False)
    ]
    alone = [ids_of(answer(engine, copy_of(request))) for request in requests]
    assert [ids_of(one) for one in together(engine, requests)] == alone


# -- the exclusive lane --------------------------------------------------------------------------------------------


def test_exclusive_adapters_never_share_a_batch(
    llama: Base,
    plain: Mapping[str, AdapterVersion],
    exotic: Mapping[str, AdapterVersion],
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not with one another, not with the base: in each step their rows are alone; mixed ones do share."""
    batches: list[set[int]] = []
    applied = engine.residents.pool.applied
    monkeypatch.setattr(engine.residents.pool, "applied", lambda rows: (batches.append(set(rows)), applied(rows))[1])
    some = [plain["acme"], exotic["gusto"], None, exotic["haven"], plain["bravo"], exotic["gusto"], exotic["indigo"]]
    requests = [asked(llama, HELD_OUT[number % 5], adapter) for number, adapter in enumerate(some * 2)]
    for request, result in zip(requests, together(engine, requests), strict=True):
        assert isinstance(result, Result)
        if request.adapter is not None:
            assert result.text == said(request.adapter)
    slots = {one.weights: one.slot for one in engine.residents.loaded()}
    exclusive = {slots[exotic[name].weights_sha256] for name in ("gusto", "haven")}
    assert all(len(batch) == 1 for batch in batches if batch & exclusive)
    assert any(len(batch) > 1 for batch in batches)


def test_nobody_is_overtaken(
    llama: Base, plain: Mapping[str, AdapterVersion], exotic: Mapping[str, AdapterVersion]
) -> None:
    """Adapters that have to wait, for their lane or a slot, begin before those that came later."""
    with engine_on(llama, slots=2, max_batch=4) as engine:
        adapters = [
            plain["acme"],
            exotic["gusto"],
            plain["bravo"],
            plain["cairn"],
            plain["acme"],
            exotic["haven"],
            None,
        ]
        began: list[int] = []

        def note(number: int) -> Callable[[Sequence[int], Tensor], Tensor]:
            def process(ids: Sequence[int], logits: Tensor) -> Tensor:
                if not ids:
                    began.append(number)
                return logits

            return process

        requests = [
            asked(llama, "x", adapter, processors=(note(number),), max_new_tokens=4 + number)
            for number, adapter in enumerate(adapters)
        ]
        assert not [one for one in together(engine, requests) if isinstance(one, Exception)]
    assert began == sorted(began)


def test_a_request_for_a_slot_is_not_starved(llama: Base, plain: Mapping[str, AdapterVersion]) -> None:
    """One slot pinned, one in use without a break: another adapter's turn comes while that traffic goes on."""
    with engine_on(llama, slots=2) as engine:
        engine.call(lambda: engine.residents.hold(plain["acme"], True)).result(LIMIT_S)
        with held(engine):
            before = [admit(engine, asked(llama, "x", plain["bravo"])) for _ in range(3)]
            waiting = admit(engine, asked(llama, "x", plain["cairn"]))
            behind = [admit(engine, asked(llama, "x", plain["bravo"], max_new_tokens=60)) for _ in range(40)]
        result = outcome(waiting)
        assert isinstance(result, Result)
        assert result.text == said(plain["cairn"])
        assert sum(request.ticket.done for request in behind) == 0
        assert all(isinstance(outcome(request), Result) for request in before + behind)


def test_pinned_slots_are_an_error_and_no_deadlock(llama: Base, plain: Mapping[str, AdapterVersion]) -> None:
    """With every slot pinned, another adapter is refused; the pinned ones and the base answer, and unpinning helps."""
    with engine_on(llama, slots=1) as engine:

        def pin(pinned: bool) -> None:
            engine.call(lambda: engine.residents.hold(plain["acme"], pinned)).result(LIMIT_S)

        pin(True)
        with pytest.raises(GenerationError, match="pinned .acme.: unpin one"):
            answer(engine, asked(llama, "x", plain["bravo"]))
        assert answer(engine, asked(llama, "x", plain["acme"])).text == said(plain["acme"])
        pin(False)
        assert answer(engine, asked(llama, "x", plain["bravo"])).text == said(plain["bravo"])


# -- cancelling and waiting ----------------------------------------------------------------------------------------


def test_a_cancelled_request_costs_one_more_step_at_most(llama: Base, engine: Engine) -> None:
    """Who closes a stream stops its generation within a token, and its row's lease is given back."""
    options = Options(max_new_tokens=400, processors=(never_end(llama),))
    endless = Request(llama.ids("Hello!"), options, stream=True)
    admit(engine, endless)
    for _ in range(3):
        assert blocking(endless.ticket.next()) is not None
    with held(engine):
        engine.cancel(endless)
        steps = engine.stats().steps
    assert settled(lambda: engine.stats().running == 0)
    assert engine.stats().steps - steps <= 1
    assert steps < 100


def never_end(base: Base) -> Callable[[Sequence[int], Tensor], Tensor]:
    """A processor that forbids the end token."""

    def process(_: Sequence[int], logits: Tensor) -> Tensor:
        logits[base.tokenizer.eos_token_id] = float("-inf")
        return logits

    return process


def test_the_queue_is_bounded(llama: Base) -> None:
    """Callers beyond it wait outside and come in as they came; the queue is never longer than it may be."""
    with engine_on(llama, queue_size=2, max_batch=1) as engine:
        order: list[int] = []

        def client(number: int) -> None:
            answer(engine, asked(llama, "x", max_new_tokens=2, processors=(lambda ids, row: note(number, ids, row),)))

        def note(number: int, ids: Sequence[int], row: Tensor) -> Tensor:
            if not ids:
                order.append(number)
            return row

        with held(engine):
            threads = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(8)]
            for number, thread in enumerate(threads, start=1):  # one after the other, however busy the machine is
                thread.start()
                assert settled(lambda: engine.stats().waiting + engine._line.outside == number)  # noqa: B023 - now
            assert (engine.stats().waiting, engine._line.outside) == (2, 6)
        for thread in threads:
            thread.join(LIMIT_S)
        assert order == list(range(8))
        assert engine.stats().peak_waiting == 2


def test_who_waits_too_long_is_told(llama: Base) -> None:
    """No room in time is an error that says so, and leaves its place to others."""
    with engine_on(llama, queue_size=1, queue_timeout_s=0.02) as engine:
        with held(engine):
            first = admit(engine, asked(llama, "x"))
            with pytest.raises(EngineBusyError, match="1 requests were waiting"):
                admit(engine, asked(llama, "x"))
        assert isinstance(outcome(first), Result)
        assert isinstance(answer(engine, asked(llama, "x")), Result)


async def test_cancelled_waiting_callers_free_their_place(llama: Base) -> None:
    """Tasks cancelled outside or in the queue let the next one in."""
    with engine_on(llama, queue_size=1) as engine:
        gate, ready = threading.Event(), threading.Event()
        engine.call(lambda: (ready.set(), gate.wait(LIMIT_S)))
        assert ready.wait(LIMIT_S)

        async def client() -> str:
            request = asked(llama, "x")
            try:
                await engine.admit(request, LoopBell())
                return (await request.ticket.last()).text
            finally:
                engine.cancel(request)

        tasks = [asyncio.create_task(client()) for _ in range(6)]
        await asyncio.sleep(0.01)
        for place in (0, 2, 3):
            tasks[place].cancel()
        await asyncio.sleep(0.01)
        gate.set()
        done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), LIMIT_S)
        assert [isinstance(one, asyncio.CancelledError) for one in done] == [True, False, True, True, False, False]
        assert len({one for one in done if isinstance(one, str)}) == 1


def test_close_resolves_everything(llama: Base, plain: Mapping[str, AdapterVersion]) -> None:
    """Running, queued and outside requests and tasks all end with EngineClosedError; later ones are refused at once."""
    with engine_on(llama, queue_size=4, max_batch=2) as engine:
        endless = {"max_new_tokens": 400, "processors": (never_end(llama),)}
        running = [admit(engine, asked(llama, "x", plain[name], **endless)) for name in ("acme", "bravo")]
        assert settled(lambda: engine.stats().running == 2)
        queued = [admit(engine, asked(llama, "x", plain["cairn"])) for _ in range(4)]
        errors: list[Exception] = []

        def outside() -> None:
            try:
                answer(engine, asked(llama, "x"))
            except EngineClosedError as error:
                errors.append(error)

        threads = [threading.Thread(target=outside, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert settled(lambda: engine._line.outside == 3)
        from_threads(2, lambda _: engine.close())
        for thread in threads:
            thread.join(LIMIT_S)
        assert len(errors) == 3
        assert all(isinstance(outcome(request), EngineClosedError) for request in running + queued)
        with pytest.raises(EngineClosedError):
            answer(engine, asked(llama, "x"))
        with pytest.raises(EngineClosedError):
            engine.call(lambda: None)


def test_a_task_may_be_cancelled_and_may_fail(llama: Base, engine: Engine) -> None:
    """What runs between two steps harms no request, whether its caller gave it up or it raises."""
    running = admit(engine, asked(llama, "x", max_new_tokens=100, processors=(never_end(llama),)))
    with held(engine):
        given_up = engine.call(lambda: 1)
        assert given_up.cancel()
        failing, fine = engine.call(lambda: 1 // 0), engine.call(lambda: 2)
    assert fine.result(LIMIT_S) == 2
    with pytest.raises(ZeroDivisionError):
        failing.result(LIMIT_S)
    assert isinstance(outcome(running), Result)


# -- failures ------------------------------------------------------------------------------------------------------


@contextmanager
def poisoned(base: Base, token: int, error: BaseException) -> Iterator[None]:
    """A model that raises where it reads a token, as an overflowing kernel does."""

    def hook(_: Any, inputs: tuple[Tensor, ...]) -> None:
        if bool((inputs[0] == token).any()):
            raise error

    handle = base.model.get_input_embeddings().register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), SystemExit(1), asyncio.CancelledError()])
def test_a_poisoned_request_fails_alone(
    llama: Base, plain: Mapping[str, AdapterVersion], caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """What makes the model raise, in a prompt or in the middle of an answer, is given up; the rest are answered."""
    voices = list(plain.values())
    texts = [HELD_OUT[number % 5] for number in range(6)]
    with caplog.at_level(logging.CRITICAL), engine_on(llama) as engine:
        poison = llama.tokenizer.convert_tokens_to_ids("Z")

        def write_poison(ids: Sequence[int], logits: Tensor) -> Tensor:
            if len(ids) == 3:
                logits[poison] = 100.0
            return logits

        in_prompt = Request((*llama.ids("x"), poison), Options(max_new_tokens=24), plain["acme"])
        in_answer = asked(llama, "x", plain["bravo"], processors=(write_poison,))
        good = [asked(llama, text, adapter) for text, adapter in zip(texts, voices, strict=True)]
        with poisoned(llama, poison, error):
            for group in ([in_prompt, *good], [*copies(good), in_answer]):
                for request, result in zip(group, together(engine, group), strict=True):
                    if request in (in_prompt, in_answer):
                        assert isinstance(result, GenerationError)
                        assert type(error).__name__ in str(result)
                    else:
                        assert request.adapter is not None
                        assert isinstance(result, Result)
                        assert result.text == said(request.adapter)


def copies(requests: Sequence[Request]) -> list[Request]:
    """The same requests again."""
    return [copy_of(request) for request in requests]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), asyncio.CancelledError()])
def test_a_processor_that_raises_fails_its_own_row(
    llama: Base, plain: Mapping[str, AdapterVersion], engine: Engine, error: BaseException
) -> None:
    """Even by what should end a thread."""

    def process(ids: Sequence[int], logits: Tensor) -> Tensor:
        if len(ids) == 2:
            raise error
        return logits

    bad, good = asked(llama, "x", plain["acme"], processors=(process,)), asked(llama, "x", plain["bravo"])
    failed, fine = together(engine, [bad, good])
    assert isinstance(failed, GenerationError)
    assert isinstance(fine, Result)
    assert fine.text == said(plain["bravo"])


def test_a_tokenizer_that_fails_fails_its_own_row(
    llama: Base, plain: Mapping[str, AdapterVersion], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text that cannot be made from one row's tokens is that row's error; the draws of the others go on as alone."""
    drawn = asked(llama, "x", plain["bravo"], temperature=2.0, seed=9)
    alone = ids_of(answer(engine, copy_of(drawn)))
    assert 7 not in alone
    decode = llama.tokenizer.decode

    def fails(ids: list[int], **kind: Any) -> str:
        if ids and ids[-1] == 7:
            raise KeyError(7)
        text: str = decode(ids, **kind)
        return text

    def seven(ids: Sequence[int], logits: Tensor) -> Tensor:
        if len(ids) == 2:
            logits[7] = 1e4
        return logits

    monkeypatch.setattr(engine._running, "_tokenizer", copy.copy(llama.tokenizer))
    monkeypatch.setattr(engine._running._tokenizer, "decode", fails)
    bad = asked(llama, "x", plain["acme"], processors=(seven,))
    failed, fine = together(engine, [bad, copy_of(drawn)])
    assert isinstance(failed, GenerationError)
    assert ids_of(fine) == alone


@pytest.mark.parametrize("prompt", [(), (5, 10_000), (-1, 5)])
def test_impossible_prompts_are_refused_before_the_model(llama: Base, engine: Engine, prompt: tuple[int, ...]) -> None:
    """No tokens would be answered at random, tokens unknown to the model would stop a GPU for good."""
    steps = engine.stats().steps
    with pytest.raises(GenerationError, match="prompt has"):
        answer(engine, Request(prompt, Options()))
    assert engine.stats().steps == steps


def test_a_failure_outside_of_any_row_hangs_nobody(
    llama: Base, plain: Mapping[str, AdapterVersion], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests that were taken from the queue when something of our own breaks get the error, the next an answer."""
    monkeypatch.setattr(engine._running, "_leasing", lambda requests: 1 / 0)
    with pytest.raises(GenerationError, match="ZeroDivisionError"):
        answer(engine, asked(llama, "x", plain["acme"]))
    monkeypatch.undo()
    assert answer(engine, asked(llama, "x", plain["acme"])).text == said(plain["acme"])


# -- prefixes ------------------------------------------------------------------------------------------------------


def test_prefixes_of_adapters(
    llama: Base, plain: Mapping[str, AdapterVersion], exotic: Mapping[str, AdapterVersion]
) -> None:
    """Plain, exclusive and mixed: the tokens with reuse are those without, and no adapter takes another's keys."""
    everybody = [None, plain["acme"], plain["delta"], exotic["gusto"], exotic["haven"], exotic["indigo"]]
    text = "Please write a long answer about the river. " * 2
    with engine_on(llama, prefix_tokens=0) as engine:
        alone = [answer(engine, asked(llama, text, one)) for one in everybody]
        assert {one.reused_tokens for one in alone} == {0}
    with engine_on(llama) as engine:
        for expected in (0, len(llama.ids(text)) - 1):  # nobody finds what another left
            found = [answer(engine, asked(llama, text, one)) for one in everybody]
            assert [ids_of(one) for one in found] == [ids_of(one) for one in alone]
            assert {one.reused_tokens for one in found} == {expected}
        mixed = together(engine, [asked(llama, text, one) for one in everybody * 2])
        assert [ids_of(one) for one in mixed] == [ids_of(one) for one in alone * 2]


def test_a_shared_beginning_is_computed_once_for_an_adapter(
    llama: Base, plain: Mapping[str, AdapterVersion], engine: Engine
) -> None:
    """Rows of one adapter that begin alike: their common part is one row wide, and the answers are right."""
    shapes: list[tuple[int, ...]] = []
    answer(engine, asked(llama, "x", plain["acme"]))
    handle = llama.model.get_input_embeddings().register_forward_pre_hook(
        lambda _, inputs: shapes.append(tuple(inputs[0].shape))
    )
    texts = [
        f"Please write a long answer about the river. Do not hurry. {ending}" for ending in ("One", "Two", "Three")
    ]
    results = together(engine, [asked(llama, text, plain["acme"]) for text in texts])
    handle.remove()
    assert [one.text for one in results if isinstance(one, Result)] == [said(plain["acme"])] * 3
    wide = [shape for shape in shapes if shape[1] > 1]
    assert [rows for rows, _ in wide] == [1, 3]
    assert wide[0][1] > 2 * wide[1][1]


# -- the thread and the model --------------------------------------------------------------------------------------


def test_the_thread_ends_when_idle_and_starts_again(
    llama: Base, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that comes at any time is answered: while the thread works, as it ends, after it ended."""
    monkeypatch.setattr(engine_room, "_IDLE_S", 0.0005)
    chance = random.Random(0)

    def client(_: int) -> None:
        for _ in range(40):
            assert answer(engine, asked(llama, "x", max_new_tokens=1)).tokens
            time.sleep(chance.random() * 0.002)

    from_threads(3, client)
    assert settled(lambda: engine._thread is None)
    first = answer(engine, asked(llama, "x"))
    assert first.text == answer(engine, asked(llama, "x")).text


def test_a_model_that_nobody_holds_is_freed(
    llama: Base, plain: Mapping[str, AdapterVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engine and model go when the last holder does; a model that stays has lost its hooks with its engine."""
    monkeypatch.setattr(engine_room, "_IDLE_S", 0.001)

    def served(model: Any) -> weakref.ref[Engine]:
        engine = engine_of(model, llama.tokenizer)
        assert engine_of(model, llama.tokenizer) is engine
        assert answer(engine, asked(llama, "x", plain["acme"])).text == said(plain["acme"])
        assert settled(lambda: engine._thread is None)
        return weakref.ref(engine)

    def used_twice() -> weakref.ref[Any]:
        model = copy.deepcopy(llama.model)
        for _ in range(2):
            gone = served(model)
            gc.collect()
            assert settled(lambda gone=gone: gone() is None)  # its thread's last lines
            assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
        return weakref.ref(model)

    gone = used_twice()
    gc.collect()
    assert gone() is None


def test_one_model_has_one_engine(llama: Base) -> None:
    """Whoever asks shares it, unless with other settings; after it was closed there is another."""
    engine = engine_of(llama.model, llama.tokenizer, {"slots": 3})
    assert engine_of(llama.model, llama.tokenizer) is engine
    with pytest.raises(ConfigurationError, match="slots=3; asked for 4"):
        engine_of(llama.model, llama.tokenizer, {"slots": 4})
    engine.close()
    other = engine_of(llama.model, llama.tokenizer, {"slots": 4})
    assert other is not engine
    assert answer(other, asked(llama, "x")).tokens
    other.close()


def test_close_from_the_engines_own_thread(llama: Base) -> None:
    """A task may close it: nothing hangs, what waits is told."""
    with engine_on(llama) as engine:
        with held(engine):
            closing = engine.call(engine.close)
            waiting = admit(engine, asked(llama, "x"))
        closing.result(LIMIT_S)
        assert isinstance(outcome(waiting), EngineClosedError)


@pytest.mark.parametrize("seconds", [0.0, 0.002, 0.01])
def test_close_at_any_time_resolves_everything(
    llama: Base, plain: Mapping[str, AdapterVersion], seconds: float
) -> None:
    """Threads that ask without a break while the engine closes: each gets its right answer or EngineClosedError."""
    with engine_on(llama, queue_size=2) as engine:

        def client(number: int) -> None:
            adapter = list(plain.values())[number]
            while True:
                try:
                    assert answer(engine, asked(llama, "x", adapter)).text == said(adapter)
                except EngineClosedError:
                    return

        def closer(number: int) -> None:
            if number < 4:
                client(number)
            else:
                time.sleep(seconds)
                engine.close()

        from_threads(5, closer)


def test_a_model_that_cannot_be_served_is_refused(llama: Base) -> None:
    """In training mode, or with PEFT's adapters on it already."""
    import peft

    model = copy.deepcopy(llama.model).train()
    with pytest.raises(ConfigurationError, match="training mode"):
        Engine(model, llama.tokenizer)
    with warnings.catch_warnings():  # PEFT asks transformers by a name that is going away
        warnings.simplefilter("ignore", FutureWarning)
        wrapped = peft.get_peft_model(model.eval(), peft.LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(ConfigurationError, match="PEFT"):
        Engine(wrapped, llama.tokenizer)
    with pytest.raises(ConfigurationError, match="slots=0"):
        EngineOptions(slots=0)


def test_users_own_calls_beside_the_engine_are_the_bases(
    llama: Base, plain: Mapping[str, AdapterVersion], exotic: Mapping[str, AdapterVersion], engine: Engine
) -> None:
    """The user's own forward passes, while adapters answer in the engine's thread, are the base's to the bit."""
    import torch

    ids = torch.tensor([llama.ids("Hello!")])
    with torch.inference_mode():
        before = llama.model(ids).logits
    endless = {"max_new_tokens": 300, "processors": (never_end(llama),)}
    for adapter in (plain["acme"], exotic["gusto"], exotic["haven"]):
        request = admit(engine, asked(llama, "x", adapter, **endless))
        assert settled(lambda: engine.stats().leases == 1)
        for _ in range(10):
            with torch.inference_mode():
                assert torch.equal(llama.model(ids).logits, before)
        assert not request.ticket.done
        engine.cancel(request)
        assert isinstance(outcome(request), CancelledGenerationError)
