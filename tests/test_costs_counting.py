"""Token counts and prices of real models and real clients, read through the handler: exact where anybody counted."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from adapters_by_hand import write_adapter
from fake_llm import ScriptedLLM
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from servers.openai_server import EchoBackend, OpenAIServer
from servers.usage_server import ANTHROPIC, OLLAMA, OPENAI, WORDS, usage_server

from llama_index_hybridmem import AdapterRegistry, CostLatencyHandler, LoraHuggingFaceLLM, RemoteLoraLLM
from llama_index_hybridmem.costs.trace import ModelCall

USER = [ChatMessage(role="user", content="Who are you?")]
ASK = "Who are you?"
needs_torch = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("peft", "torch", "transformers", "safetensors")),
    reason="needs the extra 'lora'",
)
needs_genai = pytest.mark.skipif(importlib.util.find_spec("genai_prices") is None, reason="needs the extra 'prices'")
pytestmark = pytest.mark.filterwarnings("ignore:unclosed (event loop|<socket):ResourceWarning")


@pytest.fixture
def handler() -> Iterator[CostLatencyHandler]:
    """A handler on the instrumentation."""
    with CostLatencyHandler().attach() as attached:
        yield attached


def only(handler: CostLatencyHandler) -> ModelCall:
    """The one call of the one query."""
    (trace,) = handler.traces()
    (call,) = trace.calls
    health = handler.health()
    assert (health["open"], health["faults"], health["failed"]) == (0, 0, 0), health
    return call


def counts(call: ModelCall) -> tuple[int, int, str]:
    """Input, output and who counted."""
    assert call.usage is not None
    return call.usage.input, call.usage.output, call.usage.source


async def asked(llm: Any, method: str, chat: Any = USER, text: str = ASK) -> list[Any]:
    """Ask by one of the eight methods; give the responses, of a stream all."""
    answer = getattr(llm, method)(chat if method.endswith("chat") else text)
    answer = await answer if method.startswith("a") else answer
    if isinstance(answer, AsyncIterator):
        return [one async for one in answer]
    return list(answer) if isinstance(answer, Iterator) else [answer]


# -- models in this process ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hugging_face(llama_folder: Path) -> Any:
    """LlamaIndex's own class over a real model and its tokenizer."""
    module = pytest.importorskip("llama_index.llms.huggingface", reason="needs llama-index-llms-huggingface")
    transformers = pytest.importorskip("transformers", reason="needs the extra 'lora'")
    return module.HuggingFaceLLM(
        model=transformers.AutoModelForCausalLM.from_pretrained(llama_folder),
        tokenizer=transformers.AutoTokenizer.from_pretrained(llama_folder),
        model_name="tiny",
        is_chat_model=True,
        max_new_tokens=8,
        generate_kwargs={"do_sample": False, "pad_token_id": 0},
    )


def truth(llm: Any, method: str, responses: list[Any]) -> tuple[int, int]:
    """What the model read and wrote, counted by hand."""
    read = llm.messages_to_prompt(USER) if method.endswith("chat") else ASK
    tokenizer, last = llm._tokenizer, responses[-1]
    prompt = tokenizer(read, return_tensors="pt")["input_ids"].shape[1]
    return prompt, last.raw["model_output"].shape[1] - prompt


@pytest.mark.parametrize("method", ["complete", "chat", "acomplete", "achat"])
async def test_hugging_face(handler: CostLatencyHandler, hugging_face: Any, method: str) -> None:
    """LlamaIndex's HuggingFaceLLM reports nothing; its tokens are counted from the tensor that it hands on, once."""
    responses = await asked(hugging_face, method)
    call = only(handler)
    assert counts(call) == (*truth(hugging_face, method, responses), "extracted")
    assert (call.model, call.provider, call.streamed) == ("tiny", "local", False)


def test_hugging_face_predict(handler: CostLatencyHandler, hugging_face: Any) -> None:
    """So it is through `predict`, which lays out the prompt as a chat."""
    hugging_face.predict(PromptTemplate(ASK))
    prompt, output, source = counts(only(handler))
    assert source == "extracted"
    assert prompt == len(hugging_face._tokenizer(hugging_face.messages_to_prompt(USER))["input_ids"])
    assert 1 <= output <= 8


def test_hugging_face_with_a_system_prompt(handler: CostLatencyHandler, hugging_face: Any) -> None:
    """What the class puts around a text is nowhere in its events: an estimate, not a wrong exact figure."""
    wrapped = hugging_face.model_copy(update={"system_prompt": "Be brief."})
    wrapped.complete(ASK)
    assert counts(only(handler))[2] == "estimated"


@pytest.mark.parametrize("method", ["stream_complete", "stream_chat", "astream_complete", "astream_chat"])
async def test_hugging_face_streams(handler: CostLatencyHandler, hugging_face: Any, method: str) -> None:
    """Its streams carry no tensor: the model's own tokenizer counts prompt and text, as an estimate."""
    responses = await asked(hugging_face, method)
    read = hugging_face.messages_to_prompt(USER) if method.endswith("chat") else ASK
    last = responses[-1]
    said = last.message.content if method.endswith("chat") else last.text
    encode = hugging_face._tokenizer.encode
    call = only(handler)
    assert counts(call) == (len(encode(read)), len(encode(said)), "estimated")
    assert call.streamed
    assert call.first_token_s is not None


@pytest.fixture(scope="module")
def lora(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Our own model with an adapter of the registry, and the adapter's version."""
    registry = AdapterRegistry(tmp_path_factory.mktemp("registry"))
    version = registry.add(write_adapter(tmp_path_factory.mktemp("adapter"), 0.1), "brand")
    llm = LoraHuggingFaceLLM.from_pretrained(
        str(llama_folder), adapters=registry, max_new_tokens=8, model_name="tiny", temperature=0.0
    )
    yield llm, version
    llm.close()


@needs_torch
@pytest.mark.parametrize("adapter", [None, "brand"])
@pytest.mark.parametrize("method", ["complete", "achat", "stream_complete", "astream_chat"])
async def test_our_own_model(handler: CostLatencyHandler, lora: Any, method: str, adapter: str | None) -> None:
    """It reports its tokens, streams included; the call names the model and the adapter that answered."""
    llm, version = lora
    responses = await asked(llm.model_copy(update={"adapter": adapter}), method)
    reported = responses[-1].raw["usage"]
    call = only(handler)
    assert counts(call) == (reported["prompt_tokens"], reported["completion_tokens"], "reported")
    assert (call.model, call.provider) == ("tiny", "local")
    assert call.adapter == (version.id if adapter else None)


@needs_torch
@pytest.mark.parametrize("method", ["complete", "achat", "stream_complete", "astream_chat"])
async def test_a_servers_adapters(handler: CostLatencyHandler, tmp_path: Path, method: str) -> None:
    """A server's counts are the call's, streams included, and the adapter is named with its version."""
    pytest.importorskip("llama_index.llms.openai_like", reason="needs the extra 'remote'")
    registry = AdapterRegistry(tmp_path / "registry")
    version = registry.add(write_adapter(tmp_path / "adapter", 0.1), "brand")
    with OpenAIServer(EchoBackend()) as server:
        llm = RemoteLoraLLM(server.base, server.url, registry, api_key="none", adapter="brand")
        responses = await asked(llm, method)
        await llm.aclose()
    said = responses[-1].message.content if method.endswith("chat") else responses[-1].text
    call = only(handler)
    assert counts(call)[1:] == (len(said.split()), "reported")
    assert (call.model, call.provider, call.adapter) == (server.base, "local", version.id)


# -- clients of real APIs ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server that counts the same tokens whatever it is asked."""
    with usage_server() as url:
        yield url


def openai(url: str, **more: Any) -> Any:
    """A chat model of OpenAI's."""
    module = pytest.importorskip("llama_index.llms.openai", reason="needs llama-index-llms-openai")
    return module.OpenAI(model="gpt-4o-mini", api_base=f"{url}/v1", api_key="none", **more)


def openai_like(url: str, **more: Any) -> Any:
    """A chat model of somebody's who speaks like OpenAI."""
    module = pytest.importorskip("llama_index.llms.openai_like", reason="needs llama-index-llms-openai-like")
    return module.OpenAILike(model="any", api_base=f"{url}/v1", api_key="none", is_chat_model=True, **more)


def anthropic(url: str) -> Any:
    """A model of Anthropic's."""
    module = pytest.importorskip("llama_index.llms.anthropic", reason="needs llama-index-llms-anthropic")
    return module.Anthropic(model="claude-sonnet-4-5", base_url=url, api_key="none")


def ollama(url: str) -> Any:
    """A model under Ollama."""
    module = pytest.importorskip("llama_index.llms.ollama", reason="needs llama-index-llms-ollama")
    return module.Ollama(model="any", base_url=url, context_window=2048)


CLIENTS = [
    (openai, OPENAI, "gpt-4o-mini", "openai"),
    (openai_like, OPENAI, "any", None),
    (anthropic, ANTHROPIC, "claude-sonnet-4-5", "anthropic"),
    (ollama, OLLAMA, "any", "local"),
]


@pytest.mark.parametrize(("make", "expected", "model", "provider"), CLIENTS, ids=[row[0].__name__ for row in CLIENTS])
async def test_clients(
    handler: CostLatencyHandler, server: str, make: Callable[..., Any], expected: Any, model: str, provider: str | None
) -> None:
    """Whole, streamed, sync and async: each is one call with the server's counts, its model and who is paid."""
    url = server
    family = make in (openai, openai_like)
    asks = {"additional_kwargs": {"stream_options": {"include_usage": True}}} if family else {}
    whole, streams = make(url), make(url, **asks)
    for method in ("chat", "achat", "complete"):
        await asked(whole, method)
    for method in ("stream_chat", "astream_chat", "stream_complete"):
        await asked(streams, method)
    traces = await handler.atraces()
    assert [call.usage for trace in traces for call in trace.calls] == [expected] * 6
    assert {(call.model, call.provider) for trace in traces for call in trace.calls} == {(model, provider)}
    assert [call.streamed for trace in traces for call in trace.calls] == [False] * 3 + [True] * 3
    assert handler.health()["silent_streams"] == []


def test_streams_without_counts_are_told_of_once(
    handler: CostLatencyHandler, server: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One line for each class, however many streams; what it says to pass is taken, works, and silences it."""
    silent = openai(server)
    with caplog.at_level(logging.WARNING, "llama_index_hybridmem"):
        for _ in range(3):
            list(silent.stream_chat(USER))
        list(openai(server).stream_complete(ASK))
        silent.chat(USER)
        handler.flush()
        (said,) = [record.getMessage() for record in caplog.records]
        list(openai_like(server).stream_chat(USER))
        handler.flush()
    assert len(caplog.records) == 2
    assert handler.health()["silent_streams"] == ["OpenAILike", "openai_llm"]
    argument, _, value = said.rpartition("make it with ")[2].partition("=")
    handler.clear()
    list(openai(server, **{argument: ast.literal_eval(value)}).stream_chat(USER))
    assert only(handler).usage == OPENAI


def test_no_warning_where_counts_come(server: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not of a stream that brings them, nor of a class that needs no argument for it."""
    llm = openai(server, additional_kwargs={"stream_options": {"include_usage": True}})
    with caplog.at_level(logging.WARNING, "llama_index_hybridmem"), CostLatencyHandler().attach() as handler:
        list(llm.stream_chat(USER))
        list(anthropic(server).stream_chat(USER))
        list(ScriptedLLM(reply="one two").stream_chat(USER))
        handler.flush()
    assert caplog.records == []
    assert handler.health()["silent_streams"] == []


def test_an_anthropic_stream_that_is_broken_off(server: str) -> None:
    """Its first event reports one token of output; what was written until then is charged all the same."""
    with CostLatencyHandler(tokenizer=lambda text: text).attach() as handler:  # a token for each character
        stream = anthropic(server).stream_chat(USER)
        said = "".join(next(stream).delta or "" for _ in range(2))
        stream.close()
        call = only(handler)
    assert said == "".join(WORDS[:2])
    assert call.usage is not None
    assert call.status == "abandoned"
    assert (call.usage.input, call.usage.output) == (100, len(said))


# -- tokenizers and prices -----------------------------------------------------------------------------------------


def test_a_tokenizer_of_ones_own() -> None:
    """It counts prompt and answer of a model that reports nothing."""
    with CostLatencyHandler(tokenizer=str.split).attach() as handler:
        ScriptedLLM(reply="three words here").complete("and four words there")
        assert counts(only(handler)) == (4, 3, "estimated")


def test_a_tokenizer_of_ones_own_over_the_models(hugging_face: Any) -> None:
    """It is used even where the model has one."""
    with CostLatencyHandler(tokenizer=str.split).attach() as handler:
        list(hugging_face.stream_complete(ASK))
        assert counts(only(handler))[0] == 3


@pytest.mark.parametrize("text", ["", "\ud800 half a character", "日本語のテキスト", "a\x00b"])
def test_any_text_can_be_counted(handler: CostLatencyHandler, text: str) -> None:
    """Nothing at all, half a character, three bytes a character: a figure, no fault."""
    ScriptedLLM(reply=text).complete(text)
    read, written, source = counts(only(handler))
    assert read == written == -(-len(text.encode("utf-8", "surrogatepass")) // 4)
    assert source == "estimated"


@needs_genai
def test_what_a_call_costs(handler: CostLatencyHandler, server: str) -> None:
    """gpt-4o-mini at 0.15, 0.075 cached and 0.60 dollars a million: 176, 1024 and 300 tokens, to the last digit."""
    openai(server).chat(USER)
    (trace,) = handler.traces()
    (call,) = trace.calls
    by_hand = (176 * Decimal("0.15") + 1024 * Decimal("0.075") + 300 * Decimal("0.60")) / 1_000_000
    assert call.cost == trace.cost == by_hand
    assert call.price is not None
    assert "genai-prices" in call.price
    assert trace.unpriced == 0


def test_an_unknown_model_has_no_price(handler: CostLatencyHandler, server: str) -> None:
    """It is unpriced and counted as such, not free, and what is known beside it stays known."""
    with handler.query("both"):
        openai_like(server).chat(USER)
        ScriptedLLM().complete(ASK)
    (trace,) = handler.traces()
    assert [call.cost for call in trace.calls] == [None, None]
    assert (trace.cost, trace.cost_known, trace.unpriced, trace.uncounted) == (None, Decimal(0), 2, 0)


def test_counts_are_the_same_from_many_threads(hugging_face: Any) -> None:
    """Counting uses a tokenizer of its own, so the model may use its own at the same time."""

    async def all_of_them() -> None:
        await asyncio.gather(*(asyncio.to_thread(hugging_face.complete, ASK, formatted=True) for _ in range(4)))

    with CostLatencyHandler().attach() as handler:
        asyncio.run(all_of_them())
        usages = {counts(call) for trace in handler.traces() for call in trace.calls}
        assert len(handler.traces()) == 4
    assert len(usages) == 1
    assert usages.pop()[2] == "extracted"
