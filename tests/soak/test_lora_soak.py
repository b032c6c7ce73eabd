"""Ten thousand requests to one base model at once: threads, an event loop, streams, cancels, reloads, poison."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from models import HELD_OUT, PAIRS, Voice

from llama_index_hybridmem.errors import (
    AdapterRefusedError,
    ContextOverflowError,
    GenerationError,
    UnknownAdapterError,
)
from llama_index_hybridmem.llms.adapters.registry import AdapterRegistry
from llama_index_hybridmem.llms.local import LoraHuggingFaceLLM
from llama_index_hybridmem.llms.serving.engine import EngineStats

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("peft", "torch", "transformers", "safetensors")),
    reason="needs the extra 'lora'",
)

REQUESTS = 10_000
THREADS, TASKS = 24, 24
QUEUE, SLOTS = 16, 4
PATIENCE_S = 1200.0
"""A watchdog, not a limit: what is not done by then hangs."""
POISONED = 50  # one in so many
BAD_TOKEN, BAD_ID = "\x00", 188  # the model fails at it, and with it the whole batch that it is in
PROMPTS = (*HELD_OUT, *(ask for ask, _ in PAIRS[:5]))
LIMIT = 12
PLAIN, EXCLUSIVE = ("acme", "bravo", "cairn", "delta", "ember"), ("gusto", "haven")
FLIPPED = "brand"  # a name whose version changes all the time
SEEDS = 3


class Poison(Exception):
    """What a caller's own code raises."""


def _raise(_: Any, __: Any) -> Any:
    raise Poison


def _derail(written: Sequence[int], logits: Any) -> Any:
    """Makes the model write what it cannot read, in the midst of a batch."""
    if written:
        logits[BAD_ID] = 1e9
    return logits


@dataclass(frozen=True)
class Plan:
    """One request, drawn from its number.

    Attributes:
        adapter: by name; None for the base.
        prompt: what is asked.
        way: which method of the LLM.
        leaves_after: pieces of a stream that are read before it is closed, or milliseconds before a task is
            cancelled; None for a reader that stays.
        seed: of a sampled answer; None for a greedy one.
        poison: what is wrong with it; "" for nothing.
    """

    adapter: str | None
    prompt: str
    way: str
    leaves_after: int | None
    seed: int | None
    poison: str

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of the call."""
        chosen: dict[str, Any] = {"adapter": self.adapter}
        if self.seed is not None:
            chosen |= {"adapter": None, "temperature": 1.0, "seed": self.seed}
        if self.poison == "processor":
            chosen["logits_processor"] = [_raise]
        if self.poison == "step":
            chosen["logits_processor"] = [_derail]
        return chosen

    @property
    def asked(self) -> str:
        """The prompt, poisoned if it is."""
        return {"token": BAD_TOKEN + self.prompt, "length": self.prompt + "x" * 600}.get(self.poison, self.prompt)


def plan(number: int) -> Plan:
    """The request of a number."""
    chance = random.Random(number)
    poison = (
        chance.choice(("step", "step", "token", "processor", "length", "unknown", "refused"))
        if number % POISONED == 7
        else ""
    )
    asked = chance.choice([*PLAIN, *PLAIN, FLIPPED, None] if chance.random() < 0.92 else EXCLUSIVE)
    adapter = {"unknown": "nobody", "refused": "broken"}.get(poison, asked)
    return Plan(
        adapter=adapter,
        prompt=chance.choice(PROMPTS),
        way=chance.choice(("complete", "chat", "stream_complete", "stream_chat")),
        leaves_after=chance.randint(1, 4) if not poison and chance.random() < 0.15 else None,
        seed=chance.randrange(SEEDS) if not poison and chance.random() < 0.1 else None,
        poison=poison,
    )


ENDS: Mapping[str, type[Exception]] = {
    "processor": GenerationError,
    "token": GenerationError,
    "step": GenerationError,
    "length": ContextOverflowError,
    "unknown": UnknownAdapterError,
    "refused": AdapterRefusedError,
}


class Judge:
    """Compares what came with what each adapter says alone."""

    def __init__(self, llm: LoraHuggingFaceLLM, voices: Mapping[str, Voice], versions: Mapping[str, str]) -> None:
        self.says: dict[tuple[str | None, int | None, str], str] = {}
        for prompt in PROMPTS:
            self.says |= {(name, None, prompt): voice.says for name, voice in voices.items()}
            for seed, options in ((None, {}), *((seed, {"temperature": 1.0, "seed": seed}) for seed in range(SEEDS))):
                self.says[None, seed, prompt] = llm.complete(prompt, **options).text
        self.versions = versions
        self.ends: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._lock = threading.Lock()

    def note(self, number: int, end: str, complaint: str = "") -> None:
        """Count an end; a complaint fails the test."""
        with self._lock:
            self.ends[end] += 1
            if complaint:
                self.wrong.append(f"request {number}: {complaint}")

    def whole(self, number: int, made: Plan, text: str, raw: Any) -> None:
        """Check a whole answer: its text, and who it says has answered."""
        who = None if made.seed is not None else made.adapter
        if who == FLIPPED:
            who = self.versions[raw["adapter"]["version"]]
        elif (said := (raw["adapter"] or {}).get("name")) != who:
            return self.note(number, "wrong", f"asked for {who}, {said} signed")
        expected = self.says[who, made.seed, made.prompt]
        if made.poison:
            return self.note(number, "wrong", f"poisoned with {made.poison}, and answered {text!r}")
        return self.note(number, "right", "" if text == expected else f"{who}: {text!r} in place of {expected!r}")

    def part(self, number: int, made: Plan, text: str) -> None:
        """Check what a reader that left had seen."""
        if made.adapter == FLIPPED and made.seed is None:
            mine = [self.says[voice, None, made.prompt] for voice in self.versions.values()]
        else:
            mine = [self.says[None if made.seed is not None else made.adapter, made.seed, made.prompt]]
        right = any(each.startswith(text) for each in mine)
        self.note(number, "left", "" if right else f"{made.adapter}: began {text!r}")

    def failed(self, number: int, made: Plan, error: BaseException) -> None:
        """Check that only a poisoned request fails, and with its own error."""
        fits = made.poison in ENDS and isinstance(error, ENDS[made.poison])
        self.note(number, "poisoned" if fits else "wrong", "" if fits else f"{made}: {error!r}")


def from_thread(llm: LoraHuggingFaceLLM, judge: Judge, made: Plan, number: int) -> None:
    """Make a request as a thread does."""
    asked: Any = made.asked if "complete" in made.way else [ChatMessage(role="user", content=made.asked)]
    try:
        answer = getattr(llm, made.way)(asked, **made.options)
        if "stream" in made.way:
            answer = _read(answer, made.leaves_after)
    except Exception as error:  # noqa: BLE001 - the judge decides
        return judge.failed(number, made, error)
    return _judged(judge, number, made, answer)


def _read(pieces: Iterator[Any], leaves_after: int | None) -> Any:
    seen = []
    for piece in pieces:
        seen.append(piece)
        if len(seen) == leaves_after:
            break
    pieces.close()  # type: ignore[attr-defined]
    return seen[-1]


async def from_loop(llm: LoraHuggingFaceLLM, judge: Judge, made: Plan, number: int) -> None:
    """Make a request as a task on an event loop does."""
    asked: Any = made.asked if "complete" in made.way else [ChatMessage(role="user", content=made.asked)]
    task = asyncio.ensure_future(_answer(getattr(llm, f"a{made.way}"), asked, made))
    if made.leaves_after is not None and "stream" not in made.way:
        await asyncio.sleep(made.leaves_after / 1000)
        task.cancel()
    try:
        answer = await task
    except asyncio.CancelledError:
        return judge.note(number, "left")
    except Exception as error:  # noqa: BLE001 - the judge decides
        return judge.failed(number, made, error)
    return _judged(judge, number, made, answer)


async def _answer(method: Callable[..., Any], asked: Any, made: Plan) -> Any:
    answer = await method(asked, **made.options)
    return await _aread(answer, made.leaves_after) if "stream" in made.way else answer


async def _aread(pieces: AsyncIterator[Any], leaves_after: int | None) -> Any:
    seen = []
    async for piece in pieces:
        seen.append(piece)
        if len(seen) == leaves_after:
            break
    await pieces.aclose()  # type: ignore[attr-defined]
    return seen[-1]


def _judged(judge: Judge, number: int, made: Plan, answer: Any) -> None:
    text = answer.text if "complete" in made.way else answer.message.content or ""
    if answer.raw is None:
        judge.part(number, made, text)
    else:
        judge.whole(number, made, text, answer.raw)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Shows a measured figure on the terminal."""

    def show(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n  {line}\n")

    return show


@pytest.fixture
def registry(
    llama_voices: dict[str, Voice], exotic_voices: dict[str, Voice], llama_folder: Path, tmp_path: Path
) -> AdapterRegistry:
    """Seven adapters, two of them exclusive, a name with two versions, and one whose file was damaged since."""
    registry = AdapterRegistry(tmp_path / "registry")
    for name in (*PLAIN, *EXCLUSIVE):
        registry.add((llama_voices | exotic_voices)[name].folder, name, base=llama_folder)
    for voice in (llama_voices["fjord"], exotic_voices["indigo"]):
        registry.add(voice.folder, FLIPPED, base=llama_folder)
    weights = registry.add(llama_voices["acme"].folder, "broken").folder / "adapter_model.safetensors"
    damaged = weights.read_bytes()[:-4] + b"\x00\x00\xc0\x7f"  # the last value is not a number
    weights.unlink()
    weights.write_bytes(damaged)
    return registry


@pytest.fixture
def llm(registry: AdapterRegistry, llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoraHuggingFaceLLM]:
    """The small Llama with far fewer slots than adapters and a short queue, failing at one token."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(llama_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    assert tokenizer(BAD_TOKEN, add_special_tokens=False)["input_ids"] == [BAD_ID]
    forward = model.forward

    @functools.wraps(forward)
    def failing(*args: Any, **kwargs: Any) -> Any:
        if (kwargs["input_ids"] == BAD_ID).any():
            raise RuntimeError("the model cannot read this")
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", failing)
    llm = LoraHuggingFaceLLM(
        model=model,
        tokenizer=tokenizer,
        adapters=registry,
        max_new_tokens=LIMIT,
        slots=SLOTS,
        queue_size=QUEUE,
        queue_timeout_s=PATIENCE_S,
    )
    yield llm
    llm.close()


def base_logits(llm: LoraHuggingFaceLLM) -> Any:
    """What the base computes for a fixed prompt."""
    import torch

    with torch.inference_mode():
        return llm.engine().model(input_ids=torch.arange(3, 40)[None]).logits


@contextmanager
def flipping(registry: AdapterRegistry) -> Iterator[None]:
    """Lets a name stand for its other version again and again, as a deployment does."""
    over = threading.Event()

    def flip() -> None:
        for version in cycle(registry.versions(FLIPPED)):
            registry.alias(FLIPPED, "latest", version.id)
            if over.wait(0.05):
                return

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def on_loop(ask: Callable[[int], Coroutine[Any, Any, None]], numbers: Iterable[int]) -> None:
    """Makes requests on an event loop, so many at a time."""
    room = asyncio.Semaphore(TASKS)

    async def one(number: int) -> None:
        async with room:
            await ask(number)

    await asyncio.wait_for(asyncio.gather(*map(one, numbers)), PATIENCE_S)


def until_idle(llm: LoraHuggingFaceLLM) -> EngineStats:
    """Waits for rows whose readers left to be noticed."""
    deadline = time.monotonic() + PATIENCE_S
    while (stats := llm.stats()).waiting or stats.running or stats.leases:
        assert time.monotonic() < deadline, f"the engine never came to rest: {stats}"
        time.sleep(0.01)
    return stats


def test_every_request_gets_its_own_adapter(
    llm: LoraHuggingFaceLLM,
    registry: AdapterRegistry,
    llama_voices: dict[str, Voice],
    exotic_voices: dict[str, Voice],
    volume: Callable[[int], int],
    say: Callable[[str], None],
) -> None:
    """No wrong adapter, no hang, a bounded queue; poison harms its own request; then nothing is left over."""
    voices = llama_voices | exotic_voices
    before = base_logits(llm)
    versions = dict(zip((one.id for one in registry.versions(FLIPPED)), ("indigo", "fjord"), strict=True))
    judge = Judge(llm, voices, versions)
    steps, count = llm.stats().steps, volume(REQUESTS)

    def in_thread(number: int) -> None:
        from_thread(llm, judge, plan(number), number)

    with flipping(registry), ThreadPoolExecutor(THREADS) as pool:
        threads = [pool.submit(in_thread, number) for number in range(0, count, 2)]
        asyncio.run(on_loop(lambda n: from_loop(llm, judge, plan(n), n), range(1, count, 2)))
        for future in threads:
            future.result(PATIENCE_S)

    stats = until_idle(llm)
    assert judge.wrong == []
    assert judge.ends.total() == count
    assert judge.ends["poisoned"] == len(range(7, count, POISONED))
    assert judge.ends["right"] > count / 2
    assert judge.ends["left"] > 0
    assert 0 < stats.peak_waiting <= QUEUE
    assert len(stats.loaded) <= SLOTS
    llm.close()
    assert before.equal(base_logits(llm))
    say(f"{count} requests: {dict(judge.ends)}, {stats.steps - steps} steps, longest queue {stats.peak_waiting}")
