"""A base model and its adapters as a LlamaIndex LLM, on a small trained Llama: methods, options, views, failures."""

from __future__ import annotations

import asyncio
import copy
import gc
import importlib.util
import json
import logging
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Settings
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from models import Voice
from recorder import Recorder, recorded

from llama_index_hybridmem.errors import (
    AdapterNameError,
    AdapterRefusedError,
    ConfigurationError,
    ContextOverflowError,
    GenerationError,
    MissingExtraError,
    UnknownAdapterError,
    UnknownTenantError,
)
from llama_index_hybridmem.events import AdapterFallbackEvent
from llama_index_hybridmem.llms import loading
from llama_index_hybridmem.llms.adapters.registry import AdapterRegistry
from llama_index_hybridmem.llms.local import LoraHuggingFaceLLM
from llama_index_hybridmem.llms.tenancy import tenant
from llama_index_hybridmem.query_engine import HybridRouterQueryEngine
from llama_index_hybridmem.routing.decision import Route
from llama_index_hybridmem.routing.table import RouteSettings

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("peft", "torch", "transformers", "safetensors")),
    reason="needs the extra 'lora'",
)
USER = [ChatMessage(role="user", content="Hello!")]
CHAT = [ChatMessage(role="system", content="Be brief."), *USER]
PLAIN = {  # LlamaIndex's own prompts do not fit into so small a window; it lays out some of them all the same
    "text_qa_template": PromptTemplate("{context_str}\n{query_str}"),
    "refine_template": PromptTemplate("{existing_answer}\n{context_msg}\n{query_str}"),
}


@pytest.fixture(scope="module")
def folders(llama_voices: dict[str, Voice]) -> dict[str, Path]:
    """The adapters' folders by name."""
    return {name: voice.folder for name, voice in llama_voices.items()}


@pytest.fixture(scope="module")
def served(llama_folder: Path, folders: dict[str, Path]) -> Iterator[LoraHuggingFaceLLM]:
    """The model, loaded once; its engine ends with the tests."""
    llm = LoraHuggingFaceLLM.from_pretrained(str(llama_folder), adapters=folders, max_new_tokens=12, model_name="tiny")
    yield llm
    llm.close()


@pytest.fixture
def llm(served: LoraHuggingFaceLLM) -> LoraHuggingFaceLLM:
    """A copy that a test may change; it shares weights and engine."""
    return served.model_copy()


def prompt_of(llm: LoraHuggingFaceLLM, prompt: Any, verbatim: bool = False, **call: Any) -> str:
    """What the model would read."""
    text: str = llm.engine().tokenizer.decode(llm._ask(prompt, verbatim, False, call).request.prompt)
    return text


def at_rest(llm: LoraHuggingFaceLLM) -> int:
    """Waits until the engine has let the last row go, which it does just after its answer; the length of the queue."""
    while llm.stats().running:
        pass
    return llm.stats().waiting


@contextmanager
def hooked(llm: LoraHuggingFaceLLM, hook: Callable[..., None]) -> Iterator[None]:
    """Runs a function before every call of the model, on the engine's thread."""
    handle = llm.engine().model.register_forward_pre_hook(lambda *_: hook())
    try:
        yield
    finally:
        handle.remove()


@dataclass
class Gate:
    """A logits processor that writes "a" for ever, one for each `open`.

    Attributes:
        letter: the id of the letter.
        calls: how many tokens it was asked for.
    """

    letter: int
    calls: int = 0
    _open: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __call__(self, written: Sequence[int], logits: Any) -> Any:
        """Waits until it is open."""
        self.calls += 1
        assert self._open.acquire(timeout=30)
        return force(self.letter, logits)

    def open(self, times: int) -> None:
        """Lets so many tokens through."""
        self._open.release(times)


def force(token: int, logits: Any) -> Any:
    """Logits that allow one token."""
    import torch

    return torch.full_like(logits, -100.0).index_fill(0, torch.tensor([token]), 0.0)


@pytest.fixture
def gate(llm: LoraHuggingFaceLLM) -> Iterator[Gate]:
    """Closed; lets everything through when the test ends."""
    gate = Gate(llm.engine().tokenizer("a", add_special_tokens=False)["input_ids"][0])
    yield gate
    gate.open(1000)


# --- eight methods, one answer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", [None, "acme"])
def test_every_way_gives_the_same_text(llm: LoraHuggingFaceLLM, adapter: str | None) -> None:
    """Complete, chat and their streams agree, and a stream's deltas join to its text; with and without an adapter."""
    view = llm.with_adapter(adapter)
    expected = view.complete("Hello!").text
    assert expected
    pieces = list(view.stream_complete("Hello!"))
    assert "".join(piece.delta or "" for piece in pieces) == pieces[-1].text == expected
    assert len(pieces) > 2
    assert view.chat(USER).message.content == expected
    chats = list(view.stream_chat(USER))
    assert "".join(piece.delta or "" for piece in chats) == chats[-1].message.content == expected


@pytest.mark.parametrize("adapter", [None, "bravo"])
async def test_every_async_way_gives_the_same_text(llm: LoraHuggingFaceLLM, adapter: str | None) -> None:
    """The async twins give what the sync calls give."""
    view = llm.with_adapter(adapter)
    expected = view.complete("Hello!").text
    assert (await view.acomplete("Hello!")).text == expected
    assert (await view.achat(USER)).message.content == expected
    assert "".join([piece.delta or "" async for piece in await view.astream_complete("Hello!")]) == expected
    assert "".join([piece.delta or "" async for piece in await view.astream_chat(USER)]) == expected


def test_template_is_rendered_once(llm: LoraHuggingFaceLLM) -> None:
    """A chat has one start token, a formatted prompt is taken verbatim, a plain one is a user's message."""
    user = "<|im_start|>user\nHello!</s>\n<|im_start|>assistant\n"
    assert prompt_of(llm, "Hello!") == prompt_of(llm, USER) == f"<s>{user}"
    assert prompt_of(llm, CHAT) == f"<s><|im_start|>system\nBe brief.</s>\n{user}"
    assert prompt_of(llm, "Hello!", verbatim=True) == "<s>Hello!"
    assert prompt_of(llm, f"<s>{user}", verbatim=True) == f"<s>{user}"


def test_without_template_roles_are_lines(llm: LoraHuggingFaceLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base model without a chat template still answers a chat."""
    monkeypatch.setattr(llm.engine().tokenizer, "chat_template", None)
    assert prompt_of(llm, USER) == "<s>user: Hello!\nassistant:"
    assert llm.metadata.is_chat_model is False
    assert llm.chat(USER).message.content


def test_a_model_said_not_to_chat_continues_texts(llm: LoraHuggingFaceLLM) -> None:
    """With is_chat_model=False a completion is the text itself, under the system prompt if there is one."""
    plain = llm.model_copy(update={"is_chat_model": False})
    assert prompt_of(plain, "Hello!") == "<s>Hello!"
    assert prompt_of(plain, "Hello!", system_prompt="Be brief.") == "<s>Be brief.\n\nHello!"
    assert plain.metadata.is_chat_model is False


def test_prompts_of_the_llm_are_heeded(llm: LoraHuggingFaceLLM) -> None:
    """A system prompt, a query wrapper, and functions that write the prompt, in the order of LlamaIndex."""
    under = llm.model_copy(update={"system_prompt": "Be brief."})
    assert prompt_of(under, USER) == prompt_of(under, "Hello!") == prompt_of(under, CHAT) == prompt_of(llm, CHAT)
    assert prompt_of(under, USER, system_prompt="Be kind.").count("Be kind.") == 1
    wrapped = llm.model_copy(update={"query_wrapper_prompt": PromptTemplate("Q: {query_str}")})
    assert prompt_of(wrapped, "Hello!") == prompt_of(llm, "Q: Hello!")
    wording = under.model_copy(update={"completion_to_prompt": lambda text: f"[{text}]"})
    assert prompt_of(wording, "Hello!") == "<s>Be brief.\n\n[Hello!]"
    lines = llm.model_copy(update={"messages_to_prompt": lambda messages: "|".join(str(each) for each in messages)})
    assert prompt_of(lines, CHAT) == "<s>system: Be brief.|user: Hello!"


def test_predict_asks_as_chat_does(llm: LoraHuggingFaceLLM) -> None:
    """LlamaIndex's predict and stream, which its synthesizers call, put the system prompt in once."""
    under = llm.model_copy(update={"system_prompt": "Be brief."})
    assert under.predict(PromptTemplate("Hello!")) == llm.chat(CHAT).message.content
    assert "".join(under.stream(PromptTemplate("Hello!"))) == llm.chat(CHAT).message.content


async def test_apredict_and_astream_too(llm: LoraHuggingFaceLLM) -> None:
    """The same from an event loop, with an adapter."""
    view = llm.with_adapter("cairn")
    assert await view.apredict(PromptTemplate("Hello!")) == "cairn says hello"
    assert "".join([piece async for piece in await view.astream(PromptTemplate("Hello!"))]) == "cairn says hello"


# --- what an answer says of itself -----------------------------------------------------------------------------------


def test_usage_is_counted_once_and_in_streams(llm: LoraHuggingFaceLLM) -> None:
    """Token counts stand in raw, on a stream's last piece only and the same there; LlamaIndex's counter adds up."""
    answer = llm.complete("Hello!")
    usage = answer.raw["usage"]
    assert usage["prompt_tokens"] == len(llm._ask("Hello!", False, False, {}).request.prompt)
    assert usage["completion_tokens"] == len(answer.logprobs or [])
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    *before, last = llm.stream_complete("Hello!")
    assert all(piece.raw is None for piece in before)
    assert last.raw["usage"]["total_tokens"] == last.additional_kwargs["total_tokens"] == usage["total_tokens"]
    counter = TokenCountingHandler()
    counted = llm.model_copy(update={"callback_manager": CallbackManager([counter])})
    for number, call in enumerate((counted.complete, counted.stream_complete), start=1):
        list(call("Hello!"))
        assert counter.total_llm_token_count == number * usage["total_tokens"]
    for number, chat in enumerate((counted.chat, counted.stream_chat), start=3):
        list(chat(USER))
        assert counter.total_llm_token_count == number * usage["total_tokens"]


async def test_async_calls_are_counted_once(llm: LoraHuggingFaceLLM) -> None:
    """No async method calls another counted method inside."""
    total = llm.complete("Hello!").raw["usage"]["total_tokens"]
    counter = TokenCountingHandler()
    counted = llm.model_copy(update={"callback_manager": CallbackManager([counter])})
    await counted.acomplete("Hello!")
    await counted.achat(USER)
    _ = [piece async for piece in await counted.astream_complete("Hello!")]
    _ = [piece async for piece in await counted.astream_chat(USER)]
    assert counter.total_llm_token_count == 4 * total


@pytest.mark.parametrize("adapter", [None, "delta"])
def test_raw_is_json_and_says_who_answered(llm: LoraHuggingFaceLLM, adapter: str | None) -> None:
    """Usage, finish reason, model, adapter and version, how sure, and the seed, in JSON for every kind of response."""
    view = llm.with_adapter(adapter)
    answers = [view.complete("Hello!"), view.chat(USER), [*view.stream_complete("Hello!")][-1]]
    for answer in [*answers, [*view.stream_chat(USER)][-1]]:
        raw = json.loads(answer.model_dump_json())["raw"]
        assert raw == json.loads(json.dumps(answer.raw))
        assert (raw["model"], raw["finish_reason"], type(raw["seed"])) == ("tiny", "stop", int)
        assert raw["logprob_min"] <= raw["logprob_mean"] <= 0
        assert 0 <= raw["margin_min"] <= raw["margin_mean"]
        if adapter is None:
            assert raw["adapter"] is None
        else:
            version = llm._version("delta")
            told = {"asked": "delta", "name": "delta", "version": version.id, "sha256": version.sha256}
            assert raw["adapter"] == answer.additional_kwargs["adapter"] == told


def test_logprobs_are_those_of_the_model(llm: LoraHuggingFaceLLM) -> None:
    """Greedy by hand gives the same tokens, log-probabilities and margins, with the likeliest others on demand."""
    import torch

    model, tokenizer = llm.engine().model, llm.engine().tokenizer
    answer = llm.complete("Who are you?", top_logprobs=3)
    ids = list(llm._ask("Who are you?", False, False, {}).request.prompt)
    margins, chosen = [], []
    for told in answer.logprobs or []:
        with torch.no_grad():
            expected = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        best = expected.topk(3)
        assert [each.logprob for each in told] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert [each.token for each in told] == [tokenizer.decode([token]) for token in best.indices]
        margins.append(float(best.values[0] - best.values[1]))
        chosen.append(float(best.values[0]))
        ids.append(int(best.indices[0]))
    assert answer.raw["logprob_mean"] == pytest.approx(sum(chosen) / len(chosen), abs=1e-4)
    assert answer.raw["logprob_min"] == pytest.approx(min(chosen), abs=1e-4)
    assert answer.raw["margin_min"] == pytest.approx(min(margins), abs=1e-4)
    assert answer.raw["margin_mean"] == pytest.approx(sum(margins) / len(margins), abs=1e-4)
    assert all(len(each) == 1 for each in llm.chat(USER).logprobs or [])
    assert [len(each) for each in llm.chat(USER, logprobs=True, top_logprobs=2).logprobs or []][0] == 2
    assert [len(each) for each in [*llm.stream_chat(USER, logprobs=2)][-1].logprobs or []][0] == 2


def test_half_a_character_waits(llm: LoraHuggingFaceLLM) -> None:
    """A character of several tokens is handed over whole, and a torn one at the end is not lost."""
    tokenizer = llm.engine().tokenizer
    wanted = tokenizer("a記憶", add_special_tokens=False)["input_ids"][:-1]

    def write(written: Sequence[int], logits: Any) -> Any:
        return force(wanted[len(written)], logits)

    pieces = list(llm.stream_complete("Hi", logits_processor=write, max_new_tokens=len(wanted)))
    assert [piece.delta for piece in pieces if piece.delta] == ["a", "記", "\ufffd"]
    assert pieces[-1].text == "a記\ufffd"
    torn = [each[0] for each in pieces[-1].logprobs or [] if "\ufffd" in each[0].token]
    assert torn
    assert all(each.bytes == [] for each in torn)


def test_events_are_json(llm: LoraHuggingFaceLLM, events: Recorder) -> None:
    """LlamaIndex's events of a call can be written down, with the model's and adapter's name in them."""
    llm.with_adapter("acme").chat(USER)
    list(llm.stream_complete("Hello!", adapter="bravo"))
    lines = [event.model_dump_json() for event in events.seen]
    assert {event.class_name() for event in events.seen} >= {"LLMChatEndEvent", "LLMCompletionEndEvent"}
    assert any('"tiny+acme"' in line for line in lines)
    assert any('"bravo says hello"' in line for line in lines)


@pytest.fixture
def events() -> Iterator[Recorder]:
    """All events fired during the test."""
    with recorded() as recorder:
        yield recorder


# --- options of a call -----------------------------------------------------------------------------------------------


def test_options_of_a_call_are_heeded(llm: LoraHuggingFaceLLM) -> None:
    """Limits, stop texts and tokens hold for the call; greedy unless asked otherwise; a seed repeats its draw."""
    assert llm.complete("Hello!", max_new_tokens=2).raw["usage"]["completion_tokens"] == 2
    assert llm.complete("Hello!", max_tokens=3).raw["usage"]["completion_tokens"] == 3
    assert llm.complete("Hello!", max_tokens=3).raw["finish_reason"] == "length"
    assert llm.complete("Hello!").text == llm.complete("Hello!").text
    drawn = [llm.complete("Hello!", temperature=3.0) for _ in range(6)]
    assert len({answer.text for answer in drawn}) > 1
    again = llm.complete("Hello!", temperature=3.0, seed=drawn[0].raw["seed"])
    assert again.text == drawn[0].text
    greedy = llm.complete("Hello!").text
    assert llm.complete("Hello!", temperature=3.0, top_k=1).text == greedy
    assert llm.complete("Hello!", temperature=3.0, top_p=1e-6).text == greedy
    assert llm.complete("Hello!", temperature=3.0, do_sample=False).text == greedy
    warm = llm.model_copy(update={"temperature": 0.7})
    for view, call, temperature in (
        (llm, {"do_sample": True}, 1.0),
        (warm, {"do_sample": True}, 0.7),
        (warm, {"do_sample": False}, 0.0),
        (warm, {"temperature": 0}, 0.0),
    ):
        assert view._ask("Hello!", False, False, dict(call)).request.options.temperature == temperature
    stopped = llm.complete("x", adapter="acme", stop=["says"])
    assert (stopped.text, stopped.raw["finish_reason"]) == ("acme ", "stop")
    assert llm.complete("x", adapter="acme", stop="hello").text == "acme says "


def test_stop_tokens_end_an_answer(llm: LoraHuggingFaceLLM) -> None:
    """A further end token stops the answer before max_new_tokens."""
    third = llm.engine().tokenizer("acme says hello", add_special_tokens=False)["input_ids"][2]
    answer = llm.complete("x", adapter="acme", stop_ids=[third])
    assert (answer.raw["usage"]["completion_tokens"], answer.raw["finish_reason"]) == (3, "stop")
    assert "acme says hello".startswith(answer.text)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"temprature": 1}, "unknown option 'temprature' of a call; did you mean 'temperature'"),
        ({"adaptor": "acme"}, "did you mean 'adapter'"),
        ({"num_beams": 2}, "unknown option 'num_beams' of a call; known: adapter, "),
        ({"max_tokens": 3, "max_new_tokens": 4}, "two names of one option: max_tokens"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "two names of one option: max_completion_tokens, max_tokens"),
        ({"max_new_tokens": "5"}, "max_new_tokens='5' should be a whole number"),
        ({"max_new_tokens": 0}, "max_new_tokens=0 should be"),
        ({"temperature": "hot"}, "temperature='hot' should be a number"),
        ({"temperature": -1}, "temperature=-1 should be"),
        ({"temperature": float("nan")}, "temperature=nan should be"),
        ({"top_p": 0}, "top_p=0 should be"),
        ({"top_k": 1.5}, "top_k=1.5 should be"),
        ({"seed": "x"}, "seed='x' should be"),
        ({"stop": [""]}, "should be texts that are not empty"),
        ({"stop": 5}, "should be texts"),
        ({"stop_ids": ["a"]}, "should be token ids"),
        ({"logprobs": "all"}, "top_logprobs='all' should be"),
        ({"top_logprobs": 21}, "top_logprobs=21 should be"),
        ({"logits_processor": 5}, "should be functions"),
    ],
)
def test_what_cannot_be_heeded_is_refused(llm: LoraHuggingFaceLLM, call: dict[str, Any], words: str) -> None:
    """An unknown option, with the nearest known one, and every value that cannot be, before the engine is asked."""
    steps = llm.stats().steps
    with pytest.raises(ConfigurationError, match=words):
        llm.complete("Hello!", **call)
    assert llm.stats().steps == steps


def test_unknown_settings_of_the_class_are_refused(llama_folder: Path) -> None:
    """A misspelt argument of the class does not vanish as it does in pydantic."""
    with pytest.raises(ConfigurationError, match="unknown option 'adaptors' of LoraHuggingFaceLLM.*'adapters'"):
        LoraHuggingFaceLLM(path=str(llama_folder), adaptors={})
    for half in ({}, {"model": object()}, {"path": str(llama_folder), "tokenizer": object()}):
        with pytest.raises(ConfigurationError, match="give model= and tokenizer="):
            LoraHuggingFaceLLM(**half)


def test_long_prompts_are_dealt_with_as_told(llm: LoraHuggingFaceLLM, caplog: pytest.LogCaptureFixture) -> None:
    """A prompt beyond the window is an error, or loses its middle or its start with a warning that says how much."""
    long = "START " + "river " * 900 + "END?"
    with pytest.raises(ContextOverflowError, match="512"):
        llm.complete(long)
    middle = llm.model_copy(update={"overflow": "middle"})
    with caplog.at_level(logging.WARNING):
        kept = prompt_of(middle, long)
    assert "lost its middle: 500 fit beside the answer" in caplog.text
    assert kept.startswith("<s><|im_start|>user\nSTART")
    assert kept.endswith("END?</s>\n<|im_start|>assistant\n")
    start = prompt_of(llm.model_copy(update={"overflow": "start"}), long)
    assert "START" not in start
    assert start.endswith("END?</s>\n<|im_start|>assistant\n")
    assert middle.complete(long).raw["usage"]["prompt_tokens"] == 500
    with pytest.raises(ConfigurationError, match="leaves no room"):
        llm.complete("Hi", max_new_tokens=512)


# --- failures, streams, threads --------------------------------------------------------------------------------------


def out_of_memory() -> None:
    """What a model may do."""
    raise RuntimeError("out of memory")


def test_failing_generation_raises_in_the_consumer(llm: LoraHuggingFaceLLM) -> None:
    """An error on the engine's thread ends the call or the stream with that error, and the model stays usable."""
    with hooked(llm, out_of_memory):
        for call in (lambda: llm.complete("Hi"), lambda: list(llm.stream_complete("Hi"))):
            with pytest.raises(GenerationError, match="out of memory") as caught:
                call()
            assert isinstance(caught.value.__cause__, RuntimeError)
    assert llm.complete("Hi").text


async def test_failing_async_generation_raises(llm: LoraHuggingFaceLLM) -> None:
    """The same in async calls and streams."""
    with hooked(llm, out_of_memory):
        with pytest.raises(GenerationError, match="out of memory"):
            await llm.achat(CHAT)
        with pytest.raises(GenerationError, match="out of memory"):
            async for _ in await llm.astream_chat(CHAT):
                pass


def test_a_stream_fails_behind_its_pieces(llm: LoraHuggingFaceLLM) -> None:
    """What was written before the error arrives."""

    def write(written: Sequence[int], logits: Any) -> Any:
        if len(written) > 2:
            raise ValueError("no more")
        return logits

    told: list[str] = []
    stream = llm.stream_complete("Who are you?", logits_processor=write)
    with pytest.raises(GenerationError, match="no more"):
        told.extend(piece.text for piece in stream)
    assert told
    assert llm.complete("Who are you?").text.startswith(told[-1])


def test_abandoned_stream_stops_within_a_token(llm: LoraHuggingFaceLLM, gate: Gate) -> None:
    """A consumer that leaves does not keep the model busy until max_new_tokens."""
    stream = llm.stream_complete("Hi", max_new_tokens=200, logits_processor=gate)
    gate.open(3)
    assert [next(stream).text for _ in range(3)] == ["a", "aa", "aaa"]
    while gate.calls < 4:
        pass  # the engine is about to write the fourth
    stream.close()
    gate.open(100)
    assert llm.complete("Hi").text
    assert (gate.calls, at_rest(llm)) == (4, 0)


async def test_closed_async_stream_stops_within_a_token(llm: LoraHuggingFaceLLM, gate: Gate) -> None:
    """The same for an async stream, closed or broken out of."""
    for number, explicit in enumerate((True, False), start=1):
        gate.open(1)
        stream = await llm.astream_chat(USER, max_new_tokens=200, logits_processor=gate)
        async for piece in stream:
            assert piece.message.content == "a"
            break
        while gate.calls < 2 * number:
            await asyncio.sleep(0.001)
        if explicit:
            await stream.aclose()
        del stream
        for _ in range(5):  # asyncio closes generators in callbacks of its own
            await asyncio.sleep(0)
        gate.open(1)
        assert (await llm.acomplete("Hi")).text
        assert gate.calls == 2 * number


async def test_a_cancelled_task_frees_the_engine(llm: LoraHuggingFaceLLM, gate: Gate) -> None:
    """Cancelling an acomplete, running or still waiting in the queue, stops its generation."""
    running = asyncio.ensure_future(llm.acomplete("Hi", max_new_tokens=200, logits_processor=gate))
    while gate.calls < 1:
        await asyncio.sleep(0.001)
    waiting = asyncio.ensure_future(llm.achat(USER, max_new_tokens=200, logits_processor=gate))
    while llm.stats().waiting < 1:
        await asyncio.sleep(0.001)
    for task in (waiting, running):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    gate.open(100)
    assert (await llm.acomplete("Hi")).text
    assert (gate.calls, at_rest(llm)) == (1, 0)


async def test_event_loop_stays_free(llm: LoraHuggingFaceLLM, gate: Gate) -> None:
    """While the model is busy the loop runs on, for whole answers and for streams."""

    async def drain() -> None:
        async for _ in await llm.astream_complete("Hi"):
            pass

    held = asyncio.ensure_future(llm.acomplete("Hi", max_new_tokens=2, logits_processor=gate))
    while gate.calls < 1:
        await asyncio.sleep(0.001)
    busy = [asyncio.ensure_future(work) for work in (llm.acomplete("Hi"), llm.achat(CHAT), drain())]
    await asyncio.sleep(0.02)
    assert not any(task.done() for task in [held, *busy])
    gate.open(2)  # only reached because the loop was free
    await asyncio.gather(held, *busy)


def test_threads_share_one_model(llm: LoraHuggingFaceLLM, folders: dict[str, Path]) -> None:
    """Concurrent calls, each with its adapter, get the answers that they get alone."""
    asked = [*folders, None] * 3
    alone = {name: llm.complete("Hello!", adapter=name).text for name in set(asked)}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: llm.complete("Hello!", adapter=name).text, asked))
    assert found == [alone[name] for name in asked]
    assert all(alone[name] == f"{name} says hello" for name in folders)


async def test_tasks_share_one_model(llm: LoraHuggingFaceLLM, folders: dict[str, Path]) -> None:
    """The same for tasks and their streams."""

    async def stream(name: str) -> str:
        return "".join([piece.delta or "" async for piece in await llm.astream_chat(USER, adapter=name)])

    found = await asyncio.gather(*(stream(name) for name in folders))
    assert list(found) == [f"{name} says hello" for name in folders]


# --- adapters --------------------------------------------------------------------------------------------------------


def test_an_adapter_per_call_and_per_view(llm: LoraHuggingFaceLLM) -> None:
    """The call's adapter wins over the view's; views are cheap, do not touch one another, and say what they are."""
    legal = llm.with_adapter("acme")
    assert legal.complete("Hello!").text == "acme says hello"
    assert legal.complete("Hello!", adapter="bravo@latest").text == "bravo says hello"
    assert legal.with_adapter(None).complete("Hello!").text == llm.complete("Hello!").text
    assert (legal.metadata.model_name, llm.metadata.model_name) == ("tiny+acme", "tiny")
    assert legal.engine() is llm.engine()


def test_adapters_from_a_registry(llama_folder: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    """A registry, or the path of one; versions by alias and by hash; an added version is served at once."""
    registry = AdapterRegistry(tmp_path / "adapters")
    first = registry.add(folders["acme"], "brand")
    registry.alias("brand", "prod", first.id)
    for adapters in (registry, tmp_path / "adapters", str(tmp_path / "adapters")):
        llm = LoraHuggingFaceLLM.from_pretrained(str(llama_folder), adapters=adapters, max_new_tokens=12)
        assert llm.complete("Hello!", adapter="brand").text == "acme says hello"
        assert llm.to_dict()["adapters"] == str(tmp_path / "adapters")
    second = registry.add(folders["bravo"], "brand")
    assert llm.complete("Hello!", adapter="brand").text == "bravo says hello"
    assert llm.complete("Hello!", adapter="brand@prod").text == "acme says hello"
    assert llm.complete("Hello!", adapter=second.id).raw["adapter"]["sha256"] == second.sha256
    with pytest.raises(UnknownAdapterError, match="brand@none-such"):
        llm.complete("Hello!", adapter="brand@none-such")


@pytest.fixture
def styled(llama_folder: Path, folders: dict[str, Path], tmp_path: Path) -> LoraHuggingFaceLLM:
    """A model whose adapter brings its own prompts and defaults."""
    registry = AdapterRegistry(tmp_path / "styled")
    registry.add(
        folders["acme"],
        "styled",
        prompt_template="### Ask: {prompt} ###",
        system_prompt="You are Acme.",
        defaults={"max_new_tokens": 3, "stop": ["hello"]},
    )
    return LoraHuggingFaceLLM.from_pretrained(
        str(llama_folder), adapters=registry, max_new_tokens=12, system_prompt="Be brief."
    )


def test_an_adapter_brings_prompts_and_defaults(styled: LoraHuggingFaceLLM) -> None:
    """Its system prompt takes the LLM's place, its template holds the last user's text, its defaults yield."""
    view = styled.with_adapter("styled")
    expected = prompt_of(
        styled.with_adapter(None),
        [ChatMessage(role="system", content="You are Acme."), ChatMessage(role="user", content="### Ask: Hello! ###")],
    ).replace("Be brief.\n\n", "")
    assert prompt_of(view, "Hello!") == prompt_of(view, USER) == expected
    assert view.complete("Hello!").raw["usage"]["completion_tokens"] == 3
    assert view.complete("Hello!", max_new_tokens=9).text == "acme says "
    seen = []
    view.engine()  # what predict, and so every synthesizer, sends
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LoraHuggingFaceLLM, "_answer", lambda self, prompt, *_: seen.append(prompt) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            view.predict(PromptTemplate("Hello!"))
    assert prompt_of(view, seen[0]) == expected


def test_an_adapters_prompts_reach_a_base_model(styled: LoraHuggingFaceLLM) -> None:
    """LlamaIndex sends a model without template verbatim texts: these get the adapter's template and system prompt."""
    view = styled.with_adapter("styled").model_copy(update={"is_chat_model": False})
    expected = "<s>You are Acme.\n\n### Ask: Hello! ###"
    assert prompt_of(view, "Hello!") == prompt_of(view, "Hello!", verbatim=True) == expected
    assert prompt_of(view, "Be brief.\n\nHello!", verbatim=True) == expected  # as predict puts it
    assert prompt_of(view, expected.removeprefix("<s>"), verbatim=True) == expected
    chatting = styled.with_adapter("styled")
    assert prompt_of(chatting, "Hello!", verbatim=True) == "<s>Hello!"


def test_unknown_adapters_are_errors(llm: LoraHuggingFaceLLM, llama_folder: Path) -> None:
    """A name that is not there lists those that are; what is no name at all is refused; the base does not answer."""
    with pytest.raises(UnknownAdapterError, match="no adapter 'zebra'; known: acme, bravo, "):
        llm.complete("Hello!", adapter="zebra")
    with pytest.raises(UnknownAdapterError):
        list(llm.with_adapter("zebra").stream_chat(USER))
    with pytest.raises(AdapterNameError):
        llm.complete("Hello!", adapter="../acme")
    with pytest.raises(UnknownAdapterError, match="known: none"):
        LoraHuggingFaceLLM.from_pretrained(str(llama_folder)).complete("Hello!", adapter="acme")


def test_the_base_answers_for_an_adapter_only_by_policy_and_says_so(
    llm: LoraHuggingFaceLLM, llama_folder: Path, qwen_voices: dict[str, Voice], tmp_path: Path, events: Recorder
) -> None:
    """on_missing_adapter="base" answers for unknown, unreadable and unfit adapters, flagged in raw and by an event."""
    adapters = {"alien": qwen_voices["jasper"].folder, "empty": tmp_path}
    strict = LoraHuggingFaceLLM.from_pretrained(str(llama_folder), adapters=adapters, max_new_tokens=12)
    lenient = strict.model_copy(update={"on_missing_adapter": "base", "model_name": "tiny"})
    expected = llm.complete("Hello!").text
    for name in ("alien", "empty", "zebra"):
        with pytest.raises(UnknownAdapterError if name == "zebra" else AdapterRefusedError):
            strict.complete("Hello!", adapter=name)
        answer = lenient.with_adapter(name).complete("Hello!")
        told = json.loads(json.dumps(answer.raw["adapter"]))
        assert (answer.text, told["asked"], told["name"], told["sha256"]) == (expected, name, None, None)
        assert told["fallback"]
    flagged = [event for event in events.seen if isinstance(event, AdapterFallbackEvent)]
    assert [event.adapter for event in flagged] == ["alien", "empty", "zebra"]


# --- tenants ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(llm: LoraHuggingFaceLLM) -> LoraHuggingFaceLLM:
    """Two tenants with adapters of their own, one with none; the other adapters are everybody's."""
    return llm.model_copy(update={"tenants": {"north": ["acme", "cairn"], "south": ["bravo"], "guest": []}})


def test_a_tenant_gets_its_own_adapter(shared: LoraHuggingFaceLLM) -> None:
    """The first is its default, the others on demand; public ones too; nobody and a guest get the base."""
    base = shared.complete("Hello!").text
    with tenant("north"):
        assert shared.complete("Hello!").text == "acme says hello"
        assert shared.complete("Hello!", adapter="cairn").text == "cairn says hello"
        assert shared.complete("Hello!", adapter="ember").text == "ember says hello"
        assert shared.with_adapter("fjord").complete("Hello!").text == "fjord says hello"
        assert shared.metadata.model_name == "tiny+acme"
        with tenant("south"):
            assert shared.complete("Hello!").text == "bravo says hello"
        with tenant(None):
            assert shared.complete("Hello!").text == base
    with tenant("guest"):
        assert shared.complete("Hello!").text == base
    assert shared.complete("Hello!").raw["adapter"] is None


def test_no_tenant_gets_or_hears_of_anothers_adapter(shared: LoraHuggingFaceLLM) -> None:
    """Another's adapter is refused in the words for one that does not exist, whatever the policy; so is a view."""
    lenient = shared.model_copy(update={"on_missing_adapter": "base"})
    with tenant("south"):
        for asked in ("acme", "zebra"):
            with pytest.raises(UnknownAdapterError) as caught:
                shared.complete("Hello!", adapter=asked)
            assert str(caught.value) == f"no adapter {asked!r}; known: bravo, delta, ember, fjord"
        for asked in ("acme", "acme@latest"):
            with pytest.raises(UnknownAdapterError):
                lenient.complete("Hello!", adapter=asked)
        with pytest.raises(UnknownAdapterError):
            list(shared.with_adapter("cairn").stream_chat(USER))
    with pytest.raises(UnknownAdapterError):
        shared.complete("Hello!", adapter="bravo")  # nobody's
    with tenant("west"), pytest.raises(UnknownTenantError, match="tenant 'west' is not among") as unknown:
        shared.complete("Hello!")
    assert "north" not in str(unknown.value)
    assert shared.metadata.model_name == "tiny"


def test_a_query_engine_lets_an_adapters_error_through(llm: LoraHuggingFaceLLM) -> None:
    """LlamaIndex takes a ValueError for a bad answer and says "Empty Response"; a missing adapter is not that."""
    for view, error in [
        (llm.with_adapter("leagl"), UnknownAdapterError),
        (llm.with_adapter("no name"), AdapterNameError),
        (llm.model_copy(update={"tenants": {"north": ["acme"]}}), UnknownTenantError),
    ]:
        view = view.model_copy(update={"context_window": 4096})  # what LlamaIndex's default prompts take
        synthesizer = get_response_synthesizer(llm=view, text_qa_template=PromptTemplate("{context_str} {query_str}"))
        with tenant("west"), pytest.raises(error):
            synthesizer.synthesize("Who?", [NodeWithScore(node=TextNode(text="Me."))])


def test_a_wrong_place_of_adapters_is_told_at_once(
    llama_folder: Path, folders: dict[str, Path], tmp_path: Path
) -> None:
    """One adapter's own folder, or none at all, is no registry."""
    with pytest.raises(ConfigurationError, match="is an adapter, not a registry"):
        LoraHuggingFaceLLM(path=str(llama_folder), adapters=str(folders["acme"]))
    with pytest.raises(ConfigurationError, match="no registry of adapters at"):
        LoraHuggingFaceLLM(path=str(llama_folder), adapters=str(tmp_path / "nowhere"))


def test_a_streamed_chat_never_shows_a_stop_text(llm: LoraHuggingFaceLLM) -> None:
    """Its deltas are the answer without the stop text and its beginning, and no text ever shrinks."""
    whole = llm.chat(USER, adapter="acme").message.content or ""
    stop = whole.split(" ", 1)[1]
    for pieces in (llm.stream_chat(USER, adapter="acme", stop=[stop]),):
        texts = [(piece.message.content or "", piece.delta or "") for piece in pieces]
        assert "".join(delta for _, delta in texts) == texts[-1][0] == whole.split(" ", 1)[0] + " "
        assert all(later.startswith(earlier) for (earlier, _), (later, _) in zip(texts, texts[1:], strict=False))


def test_unpinning_loads_nothing(llm: LoraHuggingFaceLLM) -> None:
    """An adapter that is not loaded has nothing to give back."""
    weights = llm._version("acme").weights_sha256
    assert llm.engine().call(lambda: llm.engine().residents.evict(weights)).result()
    llm.pin("acme", pinned=False)
    assert "acme" not in llm.stats().loaded
    llm.pin("acme")
    assert "acme" in llm.stats().loaded
    llm.pin("acme", pinned=False)


async def test_tenants_in_tasks_and_in_llamaindexs_threads(shared: LoraHuggingFaceLLM) -> None:
    """The context goes with tasks, asyncio.to_thread and the threads that LlamaIndex starts; streams keep theirs."""

    async def ask(name: str) -> str:
        with tenant(name):
            await asyncio.sleep(0)
            stream = await shared.astream_complete("Hello!")
        return "".join([piece.delta or "" async for piece in stream])

    assert await asyncio.gather(*map(ask, ["north", "south"] * 3)) == ["acme says hello", "bravo says hello"] * 3
    with tenant("south"):
        assert (await asyncio.to_thread(shared.complete, "Hello!")).text == "bravo says hello"
        chat = SimpleChatEngine.from_defaults(llm=shared, memory=ChatMemoryBuffer.from_defaults(llm=shared))
        assert "".join(chat.stream_chat("Hello!").response_gen) == "bravo says hello"
        assert str(await chat.achat("Hello!")) == "bravo says hello"
    # a pool of one's own does not inherit it: the base, no other tenant's
    with ThreadPoolExecutor(1) as pool, tenant("north"):
        assert pool.submit(lambda: shared.complete("Hello!").raw["adapter"]).result() is None


# --- LlamaIndex components -------------------------------------------------------------------------------------------


class Fixed(BaseRetriever):
    """Returns one passage for every question."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [NodeWithScore(node=TextNode(id_=self.text[:8], text=self.text), score=0.9)]


def test_a_view_serves_settings_and_query_engines(llm: LoraHuggingFaceLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view is an LLM like any other: in Settings and in two engines that share one model."""
    monkeypatch.setattr(Settings, "_llm", None)
    llm = llm.model_copy(update={"context_window": 1024})
    Settings.llm = llm.with_adapter("ember")
    plain = get_response_synthesizer(**PLAIN)
    engine = RetrieverQueryEngine(Fixed("The river is wide."), response_synthesizer=plain)
    assert str(engine.query("How wide is the river?")) == "ember says hello"
    other = get_response_synthesizer(llm=llm.with_adapter("fjord"), streaming=True, **PLAIN)
    stream = RetrieverQueryEngine(Fixed("The river is wide."), response_synthesizer=other).query("How wide?")
    assert "".join(stream.response_gen) == "fjord says hello"  # type: ignore[union-attr]  # it streams


async def test_every_route_has_an_adapter_of_its_own(llm: LoraHuggingFaceLLM) -> None:
    """The router's table gives each route a view; queries that run side by side are answered by the right one."""
    llm = llm.model_copy(update={"context_window": 1024})
    views = {Route.VECTOR: "acme", Route.GRAPH: "bravo", Route.PARAMETRIC: "cairn"}
    engine = HybridRouterQueryEngine.from_stores(
        vector=Fixed("The river is wide and slow."),
        graph=Fixed("The river is crossed by a bridge."),
        llm=llm,
        **PLAIN,
        routes={route: RouteSettings(llm=llm.with_adapter(name)) for route, name in views.items()},
        policy=lambda question: Route.GRAPH if "bridge" in question else Route.VECTOR,
    )
    questions = ["Is the river wide and slow?", "Is the river crossed by a bridge?"]
    assert [str(engine.query(question)) for question in questions] == ["acme says hello", "bravo says hello"]
    answers = await asyncio.gather(*(engine.aquery(question) for question in questions * 3))
    assert [str(answer) for answer in answers] == ["acme says hello", "bravo says hello"] * 3


# --- an app's present HuggingFaceLLM ---------------------------------------------------------------------------------


@pytest.fixture
def present(qwen_folder: Path) -> Iterator[Callable[..., Any]]:
    """Makes a HuggingFaceLLM as an app has it, on the tiny Qwen."""
    if importlib.util.find_spec("llama_index.llms.huggingface") is None:
        pytest.skip("needs llama-index-llms-huggingface")
    from llama_index.llms.huggingface import HuggingFaceLLM

    loaded = loading.load(loading.Source(str(qwen_folder)))
    made: list[LoraHuggingFaceLLM] = []

    def make(wrapped: Mapping[str, Any] | None = None, **settings: Any) -> Any:
        theirs = HuggingFaceLLM(
            model=loaded.model, tokenizer=loaded.tokenizer, context_window=512, max_new_tokens=8, **settings
        )
        ours = LoraHuggingFaceLLM.wrap(theirs, **(wrapped or {}))
        made.append(ours)
        return theirs, ours

    yield make
    for ours in made:
        ours.close()


def test_a_wrapped_llm_answers_as_before(present: Callable[..., Any], qwen_voices: dict[str, Voice]) -> None:
    """One changed line: the same answers, the same object left as it was, and adapters beside it."""
    theirs, ours = present({"adapters": {"jasper": qwen_voices["jasper"].folder}})
    before, hooks = theirs.to_dict(), len(theirs._model._forward_pre_hooks)
    for asked in ("Who are you?", "What do cats eat?"):
        assert ours.complete(asked).text == theirs.complete(asked).text
        assert ours.complete(asked, formatted=True).text == theirs.complete(asked, formatted=True).text
        assert ours.predict(PromptTemplate(asked)) == theirs.predict(PromptTemplate(asked))
        chat = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content=asked)]
        assert ours.chat(chat).message.content == theirs.chat(chat).message.content
    assert ours.complete("Hello!", adapter="jasper").text == "jasper says hello"
    assert (ours.metadata.context_window, ours.metadata.num_output) == (512, 8)
    assert ours.callback_manager is theirs.callback_manager
    theirs.complete("Hello!")
    ours.close()
    assert (theirs.to_dict(), len(theirs._model._forward_pre_hooks)) == (before, hooks)


def test_a_wrapped_llms_prompts_are_taken(present: Callable[..., Any]) -> None:
    """Query wrapper, functions, system prompt, chat flag and stop tokens; an argument of ours wins."""
    theirs, ours = present(
        query_wrapper_prompt="Q: {query_str}",
        completion_to_prompt=lambda text: f"{text}\nA:",
        messages_to_prompt=lambda messages: f"T: {messages[-1].content}",
        is_chat_model=True,
        stopping_ids=[5],
    )
    assert prompt_of(ours, "Hello!") == "Q: Hello!\nA:"
    assert ours.complete("Hello!").text == theirs.complete("Hello!").text
    assert prompt_of(ours, USER) == "T: Hello!"
    assert ours.chat(USER).message.content == theirs.chat(USER).message.content
    assert (ours.metadata.is_chat_model, ours.stop_ids) == (True, [5])
    _, ours = present({"system_prompt": "Be kind.", "max_new_tokens": 3}, system_prompt="Be brief.")
    assert (ours.system_prompt, ours.max_new_tokens) == ("Be kind.", 3)


def test_generate_kwargs_are_mapped_or_refused(present: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampling as the LLM or else the model's own generation config says; end tokens; what we cannot do is refused."""
    _, ours = present(generate_kwargs={"do_sample": True, "temperature": 0.7, "top_k": 5, "pad_token_id": 0})
    assert (ours.temperature, ours.top_k, ours.top_p) == (0.7, 5, 1.0)
    _, ours = present(generate_kwargs={"temperature": 0.7})  # transformers does not sample then
    assert ours.temperature == 0.0
    theirs, _ = present()
    third = theirs._tokenizer(theirs.complete("Hello!").text)["input_ids"][2]
    theirs, ours = present(generate_kwargs={"eos_token_id": [third, theirs._tokenizer.eos_token_id]})
    assert ours.complete("Hello!").raw["usage"]["completion_tokens"] == 3
    for refused in ({"num_beams": 4}, {"no_repeat_ngram_size": 2}, {"num_return_sequences": 2}):
        with pytest.raises(ConfigurationError, match="no_repeat_ngram_size|beams"):
            present(generate_kwargs=refused)
    monkeypatch.setattr(theirs._model.generation_config, "do_sample", True)
    monkeypatch.setattr(theirs._model.generation_config, "temperature", 0.6)
    _, ours = present()
    assert (ours.temperature, ours.top_k) == (0.6, 50)
    with pytest.raises(ConfigurationError, match="wrap.. takes a HuggingFaceLLM.*MockLLM does not"):
        LoraHuggingFaceLLM.wrap(MockLLM())


# --- loading ---------------------------------------------------------------------------------------------------------


def test_metadata_names_this_model(llm: LoraHuggingFaceLLM, llama_folder: Path, qwen_folder: Path) -> None:
    """Name, window, answer length and what the template can do are the model's own; the path stands for a name."""
    metadata = llm.metadata
    assert (metadata.model_name, metadata.context_window, metadata.num_output) == ("tiny", 512, 12)
    assert (metadata.is_chat_model, metadata.is_function_calling_model) == (True, False)
    assert LoraHuggingFaceLLM(path=str(llama_folder)).metadata.model_name == str(llama_folder)
    assert LoraHuggingFaceLLM(path=str(qwen_folder)).metadata.is_function_calling_model is True


def test_metadata_keep_room_for_what_the_adapter_writes(styled: LoraHuggingFaceLLM) -> None:
    """LlamaIndex leaves as much of the window free as the adapter's own default answer takes."""
    (name,) = styled._adapters.names() if styled._adapters else ()
    wanted = styled._version(name).defaults["max_new_tokens"]
    assert styled.with_adapter(name).metadata.num_output == wanted != styled.metadata.num_output


def test_the_word_base_asks_for_no_adapter(llm: LoraHuggingFaceLLM, shared: LoraHuggingFaceLLM) -> None:
    """A view and a tenant have an adapter of their own; one call can have the base nevertheless."""
    base = llm.complete("Who are you?").text
    view = llm.with_adapter("acme")
    assert view.complete("Who are you?").text != base
    assert view.complete("Who are you?", adapter="base").text == base
    with tenant("south"):
        assert shared.complete("Who are you?").text != base
        assert shared.complete("Who are you?", adapter="base").text == base


def test_a_cut_prompt_keeps_its_start_token(llm: LoraHuggingFaceLLM) -> None:
    """Cut at its start, a prompt still begins with the token that the model was trained to see first."""
    cut = llm.model_copy(update={"overflow": "start", "context_window": 32})
    start = llm.engine().tokenizer.bos_token_id
    prompt = cut._ask("word " * 200, False, False, {}).request.prompt
    assert (prompt[0], len(prompt)) == (start, 32 - 12)


def test_given_metadata_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With window and template given, an engine can be built before the weights are read."""
    monkeypatch.setattr(loading, "load", lambda *_: pytest.fail("loaded"))
    llm = LoraHuggingFaceLLM.from_pretrained(
        "somewhere", lazy=True, context_window=64, is_chat_model=True, is_function_calling_model=False
    )
    assert llm.metadata.context_window == 64


def test_how_a_model_is_loaded(llama_folder: Path, folders: dict[str, Path]) -> None:
    """In bfloat16, by its name or torch's object; with a device map; in the checkpoint's type; with a revision."""
    import torch

    for settings in (
        {"dtype": torch.bfloat16},
        {"dtype": "bfloat16"},
        {"device_map": "cpu"},
        {"device_map": {"": "cpu"}, "dtype": "auto", "revision": "main"},
    ):
        llm = LoraHuggingFaceLLM.from_pretrained(str(llama_folder), adapters=folders, max_new_tokens=12, **settings)
        wanted = torch.bfloat16 if "bfloat16" in str(settings) else torch.float32
        assert llm.engine().model.dtype is wanted
        assert llm.complete("Hello!", adapter="acme").text == "acme says hello"
        twin = LoraHuggingFaceLLM.from_dict(LoraHuggingFaceLLM.from_dict(llm.to_dict()).to_dict())
        assert twin.engine() is llm.engine()
        llm.close()


@pytest.mark.parametrize("kind", ["4bit", "8bit", "config"])
def test_quantised_bases_serve_adapters(llama_folder: Path, folders: dict[str, Path], kind: str) -> None:
    """4 and 8 bits, by name or by a BitsAndBytesConfig, which survives the LLM's dict."""
    pytest.importorskip("bitsandbytes", reason="needs the extra 'quantized'")
    from transformers import BitsAndBytesConfig

    given: Any = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4") if kind == "config" else kind
    llm = LoraHuggingFaceLLM.from_pretrained(str(llama_folder), adapters=folders, max_new_tokens=12, quantization=given)
    assert llm.engine().model.is_quantized
    assert llm.complete("Hello!", adapter="bravo").text == "bravo says hello"
    twin = LoraHuggingFaceLLM.from_dict(json.loads(llm.to_json()))
    assert twin.engine() is llm.engine()
    llm.close()


@pytest.fixture
def damaged(llama_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model with half its weights file."""
    for file in llama_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    return tmp_path


def test_unusable_model_is_named(damaged: Path, llama_folder: Path, tmp_path: Path) -> None:
    """A folder that is not there, damaged weights, an unknown type, device or map give one clear error each."""
    whole = {"path": str(llama_folder)}
    for settings in (
        {"path": str(tmp_path / "none")},
        {"path": str(damaged)},
        {**whole, "dtype": "float3"},
        {**whole, "device": "none-such"},
        {**whole, "device_map": "none-such"},
    ):
        with pytest.raises(ConfigurationError, match="could not be loaded"):
            LoraHuggingFaceLLM(**settings).complete("Hi")
    with pytest.raises(ConfigurationError, match="is no device map"):
        LoraHuggingFaceLLM(**whole, device_map=1.5)


def test_unknown_quantisation_is_refused(llama_folder: Path) -> None:
    """What is neither 4bit nor 8bit nor a configuration."""
    pytest.importorskip("bitsandbytes", reason="needs the extra 'quantized'")
    for wrong in ("16bit", "fp8", {"no_such": 1, "load_in_4bit": 3}):
        with pytest.raises(ConfigurationError, match="quantization is '4bit', '8bit'"):
            LoraHuggingFaceLLM.from_pretrained(str(llama_folder), quantization=wrong)


def test_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without transformers the first call gives the exact pip line."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r'pip install "llama-index-hybridmem\[lora\]"'):
        LoraHuggingFaceLLM(path="not loaded yet").complete("Hi")


# --- given models, copies, the engine --------------------------------------------------------------------------------


@pytest.fixture
def given(llama_folder: Path) -> loading.Loaded:
    """A model of the test's own."""
    return loading.load(loading.Source(str(llama_folder)))


def test_models_that_cannot_be_shared_are_refused_with_advice(given: loading.Loaded) -> None:
    """Training mode, where dropout changes answers, and a model that carries PEFT's adapters already."""
    import peft

    training = LoraHuggingFaceLLM(model=given.model.train(), tokenizer=given.tokenizer)
    with pytest.raises(ConfigurationError, match=r"training mode.*call model.eval\(\) first"):
        training.complete("Hi")
    given.model.eval()
    assert training.complete("Hi", max_new_tokens=2).text
    training.close()
    with warnings.catch_warnings():  # PEFT asks transformers by a name that is going away
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        config = peft.LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM")
        carrying = peft.get_peft_model(given.model, config)
    with pytest.raises(ConfigurationError, match=r"carries PEFT adapters already.*unload\(\).*adapters="):
        LoraHuggingFaceLLM(model=carrying.eval(), tokenizer=given.tokenizer).complete("Hi")


def test_copies_carry_no_weights(llm: LoraHuggingFaceLLM) -> None:
    """Repr, pickle, deepcopy and the dict round trip work, stay small and give the same answers."""
    view = llm.with_adapter("acme")
    view.complete("Hello!")
    assert "tiny" in repr(view)
    assert "tensor" not in repr(view)
    pickled = pickle.dumps(view)
    assert len(pickled) < 5000
    plain = json.loads(view.to_json())
    assert (plain["path"], plain["adapter"]) == (llm.path, "acme")
    twins = [pickle.loads(pickled), copy.deepcopy(view), copy.copy(view), LoraHuggingFaceLLM.from_dict(plain)]
    for twin in twins:
        assert twin.complete("Hello!").text == "acme says hello"
        assert twin.engine() is llm.engine()


def test_a_given_model_is_not_pickled_and_not_harmed(given: loading.Loaded, folders: dict[str, Path]) -> None:
    """Pickling says what to do instead and leaves the live object whole; copies share the model."""
    llm = LoraHuggingFaceLLM(model=given.model, tokenizer=given.tokenizer, adapters=folders, max_new_tokens=12)
    before = dict(llm.__dict__)
    with pytest.raises(ConfigurationError, match="cannot be pickled.*from_pretrained"):
        pickle.dumps(llm)
    assert llm.__dict__ == before
    assert llm.complete("Hello!", adapter="acme").text == "acme says hello"
    assert copy.deepcopy(llm).engine() is llm.engine()
    assert json.loads(llm.to_json())["path"] == ""
    again = LoraHuggingFaceLLM.from_dict(json.loads(llm.to_json()), model=given.model, tokenizer=given.tokenizer)
    assert again.engine() is llm.engine()
    assert len(repr(llm)) < 5000
    llm.close()


def test_close_and_again(given: loading.Loaded, folders: dict[str, Path]) -> None:
    """close() from any copy ends the engine and leaves the model as it was; the next call of any starts another."""
    import torch

    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        before = given.model(ids).logits
    llm = LoraHuggingFaceLLM(model=given.model, tokenizer=given.tokenizer, adapters=folders, max_new_tokens=12)
    view = llm.with_adapter("bravo")  # made before there is an engine
    assert view.complete("Hello!").text == "bravo says hello"
    first = view.engine()
    llm.close()
    llm.close()
    assert first.closed
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in given.model.modules())
    with torch.no_grad():
        assert torch.equal(given.model(ids).logits, before)
    assert view.complete("Hello!").text == "bravo says hello"
    assert llm.engine() is view.engine() is not first
    view.close()
    assert llm.engine().closed is False
    llm.close()


def test_two_llms_on_one_model_share_an_engine(given: loading.Loaded, folders: dict[str, Path]) -> None:
    """Different settings of the answers are fine; settings of the engine that contradict the first are refused."""
    objects = {"model": given.model, "tokenizer": given.tokenizer, "adapters": folders}
    one = LoraHuggingFaceLLM(**objects, slots=2, max_new_tokens=12)
    two = LoraHuggingFaceLLM(**objects, adapter="cairn", max_new_tokens=12)
    assert one.engine() is two.engine()
    assert two.complete("Hello!").text == "cairn says hello"
    assert one.stats().loaded == ("cairn",)
    with pytest.raises(ConfigurationError, match="slots=2; asked for 4"):
        LoraHuggingFaceLLM(**objects, slots=4).complete("Hello!")
    one.close()


def test_a_pinned_adapter_stays(given: loading.Loaded, folders: dict[str, Path]) -> None:
    """Two slots, one pinned: the others take turns in the second; with both pinned there is a clear error."""
    llm = LoraHuggingFaceLLM(model=given.model, tokenizer=given.tokenizer, adapters=folders, slots=2, max_new_tokens=12)
    llm.pin("acme")
    for name in ("bravo", "cairn", "bravo"):
        assert llm.complete("Hello!", adapter=name).text == f"{name} says hello"
        assert set(llm.stats().loaded) == {"acme", name}
    llm.pin("bravo")
    with pytest.raises(GenerationError, match="every slot is in use"):
        llm.pin("cairn")
    with pytest.raises(GenerationError, match="every adapter slot is pinned"):
        llm.complete("Hello!", adapter="cairn")
    llm.pin("bravo", pinned=False)
    assert llm.complete("Hello!", adapter="cairn").text == "cairn says hello"
    with pytest.raises(UnknownAdapterError):
        llm.pin("zebra")
    llm.close()


def test_equal_sources_share_weights_while_somebody_holds_them(llama_folder: Path) -> None:
    """Two LLMs of one folder have one model, however many others were loaded between; unused ones are freed."""
    one = LoraHuggingFaceLLM.from_pretrained(str(llama_folder))
    for name in ("a", "b", "c", "d", "e"):
        LoraHuggingFaceLLM.from_pretrained(str(llama_folder), revision=name)
    assert LoraHuggingFaceLLM.from_pretrained(str(llama_folder))._base.loaded() is one._base.loaded()
    gc.collect()
    assert not any(source.revision in {"a", "b", "c", "d", "e"} for source in loading._LOADED)
