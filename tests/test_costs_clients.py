"""What real clients of real APIs hand on of the token counts, over HTTP: `read_usage` finds it all."""

from __future__ import annotations

import ast
import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from servers.usage_server import ANTHROPIC, OLLAMA, OPENAI, usage_server

from llama_index_hybridmem.costs.tokens.providers import HOW_TO_STREAM_USAGE, provider_of, reports_usage_in_streams
from llama_index_hybridmem.costs.tokens.usage import Usage, read_usage

CHAT = [ChatMessage(role="user", content="What is six times seven?")]
WHOLE = ("chat", "achat", "complete", "acomplete")
STREAMED = ("stream_chat", "astream_chat", "stream_complete", "astream_complete")
_ARGUMENT, _, _VALUE = HOW_TO_STREAM_USAGE.partition("=")
WITH_USAGE = {_ARGUMENT: ast.literal_eval(_VALUE)}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server that counts the same tokens whatever it is asked."""
    with usage_server() as url:
        yield url


@pytest.fixture(scope="module")
def terse_server() -> Iterator[str]:
    """The same, but an Anthropic stream names the cache in its first event only."""
    with usage_server(repeats_cache=False) as url:
        yield url


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One loop for all asynchronous calls: a client's connections belong to the loop that opened them."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def once(make: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a client once for each address and way to stream: reading certificates takes longer than all else."""

    @functools.cache
    @functools.wraps(make)
    def made(url: str, asks: bool = False) -> Any:
        return make(url, **WITH_USAGE) if asks else make(url)

    return made


@once
def openai(url: str, **more: Any) -> Any:
    """A chat model of OpenAI's."""
    module = pytest.importorskip("llama_index.llms.openai", reason="needs llama-index-llms-openai")
    return module.OpenAI(model="gpt-4o-mini", api_base=f"{url}/v1", api_key="none", **more)


@once
def old_openai(url: str, **more: Any) -> Any:
    """A model of OpenAI's that completes texts; with max_tokens it fetches no tokenizer."""
    module = pytest.importorskip("llama_index.llms.openai", reason="needs llama-index-llms-openai")
    model = "gpt-3.5-turbo-instruct"
    return module.OpenAI(model=model, api_base=f"{url}/v1", api_key="none", max_tokens=400, **more)


@once
def responses(url: str, **more: Any) -> Any:
    """A model behind OpenAI's responses."""
    module = pytest.importorskip("llama_index.llms.openai", reason="needs llama-index-llms-openai")
    return module.OpenAIResponses(model="gpt-4o-mini", api_base=f"{url}/v1", api_key="none", **more)


@once
def openai_like(url: str, **more: Any) -> Any:
    """A chat model of somebody's who speaks like OpenAI."""
    module = pytest.importorskip("llama_index.llms.openai_like", reason="needs llama-index-llms-openai-like")
    return module.OpenAILike(model="any", api_base=f"{url}/v1", api_key="none", is_chat_model=True, **more)


@once
def old_openai_like(url: str, **more: Any) -> Any:
    """A model of somebody's who completes texts like OpenAI."""
    module = pytest.importorskip("llama_index.llms.openai_like", reason="needs llama-index-llms-openai-like")
    return module.OpenAILike(model="any", api_base=f"{url}/v1", api_key="none", is_chat_model=False, **more)


@once
def anthropic(url: str) -> Any:
    """A model of Anthropic's."""
    module = pytest.importorskip("llama_index.llms.anthropic", reason="needs llama-index-llms-anthropic")
    return module.Anthropic(model="claude-sonnet-4-5", base_url=url, api_key="none")


@once
def ollama(url: str) -> Any:
    """A model under Ollama."""
    module = pytest.importorskip("llama_index.llms.ollama", reason="needs llama-index-llms-ollama")
    return module.Ollama(model="any", base_url=url, context_window=2048)


def usage(llm: Any, method: str, loop: asyncio.AbstractEventLoop) -> Usage | None:
    """What `read_usage` makes of the last response of one call."""
    asked = CHAT if method.endswith("chat") else "What is six times seven?"
    answer = getattr(llm, method)(asked)
    last = loop.run_until_complete(_alast(answer)) if method.startswith("a") else _last(answer)
    return read(last)


def read(response: Any) -> Usage | None:
    """Reads a response as the handler does; the answer to a text has no message."""
    message = getattr(response, "message", response)
    return read_usage(response.raw, {**message.additional_kwargs, **response.additional_kwargs})


def _last(answer: Any) -> ChatResponse | CompletionResponse:
    return list(answer)[-1] if isinstance(answer, Iterator) else answer


async def _alast(answer: Any) -> ChatResponse | CompletionResponse:
    answer = await answer
    return [one async for one in answer][-1] if isinstance(answer, AsyncIterator) else answer


@pytest.mark.parametrize("method", WHOLE)
@pytest.mark.parametrize("make", [openai, old_openai, responses, openai_like, old_openai_like])
def test_whole_answer_of_openai(make: Callable[..., Any], method: str, server: str, loop: Any) -> None:
    """A whole answer brings all counts, with the cached and the reasoning ones inside."""
    assert usage(make(server), method, loop) == OPENAI


@pytest.mark.parametrize("method", STREAMED)
@pytest.mark.parametrize("make", [openai, old_openai, openai_like, old_openai_like])
def test_stream_of_openai_asked_for_counts(make: Callable[..., Any], method: str, server: str, loop: Any) -> None:
    """A stream brings all counts when it was asked for them as `HOW_TO_STREAM_USAGE` says."""
    assert usage(make(server, asks=True), method, loop) == OPENAI


@pytest.mark.parametrize("method", STREAMED)
@pytest.mark.parametrize("make", [openai, old_openai, openai_like, old_openai_like])
def test_stream_of_openai_not_asked_for_counts(make: Callable[..., Any], method: str, server: str, loop: Any) -> None:
    """A stream that was not asked for counts has none, and that is not zero."""
    llm = make(server)
    assert usage(llm, method, loop) is None
    assert not reports_usage_in_streams(llm.class_name())


@pytest.mark.parametrize("method", STREAMED)
def test_stream_of_responses(method: str, server: str, loop: Any) -> None:
    """A stream of OpenAI's responses brings its counts unasked, in its last event."""
    llm = responses(server)
    assert usage(llm, method, loop) == OPENAI
    assert reports_usage_in_streams(llm.class_name())


@pytest.mark.parametrize("method", WHOLE + STREAMED)
def test_anthropic(method: str, server: str, loop: Any) -> None:
    """Anthropic counts the cache beside the input; here it is in it, of whole answers and of streams."""
    assert usage(anthropic(server), method, loop) == ANTHROPIC


@pytest.mark.parametrize("method", STREAMED)
def test_anthropic_that_names_the_cache_once(method: str, terse_server: str, loop: Any) -> None:
    """Where only the first event of a stream names the cache, LlamaIndex drops it, and 1,500 of 1,600 go unseen."""
    assert usage(anthropic(terse_server), method, loop) == Usage(input=100, output=300)


def test_anthropic_broken_off(server: str) -> None:
    """Before its end a stream of Anthropic's has the input without its cache, and next to nothing of the output."""
    stream = anthropic(server).stream_chat(CHAT)
    assert read(next(stream)) == Usage(input=100, output=1)
    assert [read(one) for one in stream][-1] == ANTHROPIC


@pytest.mark.parametrize("method", WHOLE + STREAMED)
def test_ollama(method: str, server: str, loop: Any) -> None:
    """Ollama's counts are those of its last line."""
    assert usage(ollama(server), method, loop) == OLLAMA


def test_providers_of_real_classes(server: str) -> None:
    """The table of class names knows the real ones, and does not guess whom an OpenAILike calls."""
    makers = (openai, responses, anthropic, ollama, openai_like)
    named = [provider_of(make(server).class_name()) for make in makers]
    assert named == ["openai", "openai", "anthropic", "local", None]
