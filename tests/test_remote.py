"""A server's adapters as a LlamaIndex LLM, over real HTTP: every method, loads, flips, faults, secrets."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool

pytest.importorskip("llama_index.llms.openai_like", reason="needs the extra 'remote'")
pytest.importorskip("safetensors", reason="needs the extra 'lora'")
pytest.importorskip("torch", reason="needs the extra 'lora'")

from adapters_by_hand import write_adapter
from servers.openai_server import EchoBackend, OpenAIServer

from llama_index_hybridmem.errors import (
    AdapterRefusedError,
    ConfigurationError,
    RemoteModelError,
    UnknownAdapterError,
)
from llama_index_hybridmem.llms.adapters.registry import AdapterRegistry
from llama_index_hybridmem.llms.remote.llm import RemoteLoraLLM
from llama_index_hybridmem.llms.tenancy import tenant

KEY = "sk-very-secret-0123456789"
CHAT = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="Hi there you")]
Make = Callable[..., RemoteLoraLLM]


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    """A server that says who answered and what it heard."""
    with OpenAIServer(EchoBackend()) as server:
        yield server


@pytest.fixture
def registry(tmp_path: Path) -> AdapterRegistry:
    """Two adapters; the first has two versions, `brand` is the newer one and `brand@old` the older."""
    registry = AdapterRegistry(tmp_path / "registry")
    registry.add(write_adapter(tmp_path / "one", 0.1), "brand", aliases=("latest", "old"))
    registry.add(write_adapter(tmp_path / "two", 0.2), "brand")
    registry.add(write_adapter(tmp_path / "legal", 0.3), "legal")
    return registry


@pytest.fixture
def make(server: OpenAIServer) -> Iterator[Make]:
    """Makes LLMs on the server, closed at the end."""
    made: list[RemoteLoraLLM] = []

    def making(adapters: Any = None, **fields: Any) -> RemoteLoraLLM:
        given = {"api_key": KEY, "max_retries": 0, "timeout": 20.0} | fields
        made.append(RemoteLoraLLM(server.base, given.pop("api_base", server.url), adapters, **given))
        return made[-1]

    yield making
    for llm in made:
        llm.close()


def last_body(server: OpenAIServer) -> dict[str, Any]:
    """What the last request for an answer said."""
    return next(body for path, body in reversed(server.bodies) if "completions" in path)


def who(text: object) -> str:
    """Who answered: the first word, which is the hash of the version's folder or the adapter's name."""
    return str(text).removeprefix("assistant: ").split()[0]


async def every_way(llm: RemoteLoraLLM, **options: Any) -> dict[str, list[Any]]:
    """The responses of all eight methods, those of a stream in a list."""
    return {
        "complete": [await asyncio.to_thread(llm.complete, "Hi there you", **options)],
        "chat": [await asyncio.to_thread(llm.chat, CHAT, **options)],
        "stream_complete": await asyncio.to_thread(lambda: list(llm.stream_complete("Hi there you", **options))),
        "stream_chat": await asyncio.to_thread(lambda: list(llm.stream_chat(CHAT, **options))),
        "acomplete": [await llm.acomplete("Hi there you", **options)],
        "achat": [await llm.achat(CHAT, **options)],
        "astream_complete": [piece async for piece in await llm.astream_complete("Hi there you", **options)],
        "astream_chat": [piece async for piece in await llm.astream_chat(CHAT, **options)],
    }


async def asked(llm: RemoteLoraLLM, way: str) -> None:
    """Asks in one of the eight ways, to the end."""
    answer = getattr(llm, way)("x" if "complete" in way else CHAT)
    answer = await answer if way.startswith("a") else answer
    if way.startswith("astream"):
        async for _ in answer:
            pass
    elif way.startswith("stream"):
        list(answer)


def said(response: Any) -> str:
    """A response's text, of either kind."""
    return str(response.text if hasattr(response, "text") else response.message.content)


@pytest.mark.parametrize("chats", [True, False])
async def test_every_method_asks_the_adapter(
    server: OpenAIServer, make: Make, registry: AdapterRegistry, chats: bool
) -> None:
    """One load, the same answer in all eight ways, each response says who gave it, streams end with the usage."""
    llm = make(registry, is_chat_model=chats)
    version = registry.get("brand")
    for name, responses in (await every_way(llm, adapter="brand")).items():
        last = responses[-1]
        assert who(said(last)) == version.sha256, name
        assert "Hi there you" in said(last), name
        assert last.additional_kwargs["adapter"] == {
            "asked": "brand",
            "name": "brand",
            "version": version.id,
            "sha256": version.sha256,
        }, name
        assert last.additional_kwargs["completion_tokens"] > 3, name
        if "stream" in name:
            assert "".join(piece.delta for piece in responses) == said(last), name
            assert len(responses) > 3, name
        assert last.raw.model == version.id
    assert server.calls["/v1/load_lora_adapter"] == 1
    await llm.aclose()


async def test_every_method_asks_the_base(server: OpenAIServer, make: Make) -> None:
    """Without an adapter nothing is loaded, and the note is None."""
    llm = make()
    for name, responses in (await every_way(llm)).items():
        assert who(said(responses[-1])) == "base", name
        assert responses[-1].additional_kwargs["adapter"] is None, name
    assert last_body(server)["model"] == "tiny"
    await llm.aclose()


async def test_a_call_s_options_beat_the_object_s_in_every_way(server: OpenAIServer, make: Make) -> None:
    """Asked for 2 tokens of 12: 2 come, streamed too, where LlamaIndex's OpenAILike sends the 12."""
    llm = make(max_tokens=12, temperature=0.5, additional_kwargs={"top_p": 0.1, "extra_body": {"min_p": 0.1}})
    for name, responses in (await every_way(llm, max_tokens=2, top_p=0.9, extra_body={"top_k": 3})).items():
        assert responses[-1].additional_kwargs["completion_tokens"] == 2, name
        body = last_body(server)
        assert (body["max_tokens"], body["top_p"], body["temperature"]) == (2, 0.9, 0.5), name
        assert (body["top_k"], body["min_p"]) == (3, 0.1), name
    await llm.aclose()


def test_options_in_the_words_of_the_local_llm(server: OpenAIServer, make: Make) -> None:
    """`max_new_tokens`, `top_k`, `stop` and `seed` mean the same here; what nobody knows is refused."""
    llm = make()
    llm.complete("x", max_new_tokens=3, top_k=5, repetition_penalty=1.1, stop=("a",), seed=3)
    body = last_body(server)
    assert (body["max_tokens"], body["top_k"], body["repetition_penalty"]) == (3, 5, 1.1)
    assert (body["stop"], body["seed"]) == (["a"], 3)
    with pytest.raises(ConfigurationError, match="temprature"):
        llm.complete("x", temprature=1)
    with pytest.raises(ConfigurationError, match="with adapter=, not with model="):
        llm.complete("x", model="other")


@pytest.mark.parametrize("chats", [True, False])
async def test_log_probs_are_filled(make: Make, chats: bool) -> None:
    """By the object's switch or the call's, in any of the words for it."""
    for llm, options in [
        (make(is_chat_model=chats, logprobs=True, top_logprobs=2), {}),
        (make(is_chat_model=chats), {"top_logprobs": 2}),
        (make(is_chat_model=chats), {"logprobs": True}),
    ]:
        for name, responses in (await every_way(llm, **options)).items():
            shown = [response.logprobs for response in responses if response.logprobs]
            assert shown, name
            assert shown[0][0][0].logprob == pytest.approx(-0.1), name
        await llm.aclose()
    assert make(is_chat_model=chats).complete("x").logprobs is None


def test_an_adapter_brings_its_prompts_and_defaults(server: OpenAIServer, make: Make, tmp_path: Path) -> None:
    """Its template, its system prompt and its options, which the call's beat; not those of another adapter."""
    registry = AdapterRegistry(tmp_path / "voices")
    registry.add(
        write_adapter(tmp_path / "a"),
        "formal",
        prompt_template="<<{prompt}>>",
        system_prompt="Be formal.",
        defaults={"max_new_tokens": 7, "temperature": 0.3, "top_k": 4},
    )
    registry.add(write_adapter(tmp_path / "b", 0.1), "plain")
    llm = make(registry, system_prompt="Be kind.")
    llm.complete("Hi", adapter="formal", temperature=0.1)
    body = last_body(server)
    assert body["messages"] == [{"role": "system", "content": "Be formal."}, {"role": "user", "content": "<<Hi>>"}]
    assert (body["max_tokens"], body["temperature"], body["top_k"]) == (7, 0.1, 4)
    llm.chat([ChatMessage(content="Hi")], adapter="plain")
    body = last_body(server)
    assert [message["content"] for message in body["messages"]] == ["Be kind.", "Hi"]
    assert body["max_tokens"] == 256
    texts = make(registry, is_chat_model=False)
    texts.complete("Hi", adapter="formal")
    assert last_body(server)["prompt"] == "Be formal.\n\n<<Hi>>"
    texts.complete("Hi", formatted=True, adapter="formal")  # as LlamaIndex sends its prompts: trained with, too
    assert last_body(server)["prompt"] == "Be formal.\n\n<<Hi>>"
    llm.complete("Hi", formatted=True, adapter="formal")
    assert last_body(server)["messages"] == [{"role": "user", "content": "Hi"}]
    llm.complete("Hi", adapter="formal", system_prompt="Be brief.")
    assert last_body(server)["messages"][0]["content"] == "Be brief."
    llm.with_adapter("formal").predict(PromptTemplate("Hi"))
    assert last_body(server)["messages"][0]["content"] == "Be formal."
    assert llm.with_adapter("formal").metadata.num_output == 7


def test_a_view_answers_with_its_adapter(make: Make, registry: AdapterRegistry) -> None:
    """It shares connections and loads, leaves the other as it is, and says its name."""
    llm = make(registry)
    view = llm.with_adapter("legal")
    assert who(view.complete("x")) == registry.get("legal").sha256
    assert who(view.complete("x", adapter="brand")) == registry.get("brand").sha256
    assert who(llm.complete("x")) == "base"
    assert who(view.with_adapter(None).complete("x")) == who(view.complete("x", adapter="base")) == "base"
    assert (view.metadata.model_name, llm.metadata.model_name) == ("tiny+legal", "tiny")
    assert llm.loaded() == view.loaded() == sorted([registry.get("legal").id, registry.get("brand").id])


def test_a_tenant_gets_its_own_and_no_other_s(make: Make, registry: AdapterRegistry) -> None:
    """By context, also in a stream that is read after the block; another tenant's adapter does not exist."""
    llm = make(registry, tenants={"acme": ["brand"], "law": ["legal"]})
    with tenant("law"):
        assert who(llm.complete("x")) == registry.get("legal").sha256
        with pytest.raises(UnknownAdapterError, match="known: legal$"):
            llm.complete("x", adapter="brand")
        with pytest.raises(UnknownAdapterError, match="known: legal$"):
            llm.complete("x", adapter="nobody-s")
        assert llm.metadata.model_name == "tiny+legal"
        stream = llm.stream_complete("x")
    assert who(list(stream)[-1].text) == registry.get("legal").sha256


def test_a_call_s_body_does_not_choose_another_adapter(make: Make, registry: AdapterRegistry) -> None:
    """`extra_body` is sent as it is, but for what names an adapter: that would go past the tenant."""
    llm = make(registry, tenants={"acme": ["brand"], "law": ["legal"]})
    with tenant("acme"):
        answer = llm.complete("x", extra_body={"model": registry.get("legal").id})
    assert who(answer) == registry.get("brand").sha256


def test_twenty_threads_one_load(server: OpenAIServer, make: Make, registry: AdapterRegistry) -> None:
    """All wait for one load, and get the right answer."""
    server.faults.load_s = 0.1
    llm = make(registry)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: who(llm.complete("x", adapter="brand")), range(20)))
    assert set(answers) == {registry.get("brand").sha256}
    assert server.calls["/v1/load_lora_adapter"] == 1


async def test_twenty_tasks_one_load_and_a_free_event_loop(
    server: OpenAIServer, make: Make, registry: AdapterRegistry
) -> None:
    """While a load of 0.2 s is under way, the event loop turns; one cancelled task disturbs nobody."""
    server.faults.load_s = 0.2
    llm = make(registry)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    turning = asyncio.create_task(turn())
    tasks = [asyncio.create_task(llm.acomplete("x", adapter="brand")) for _ in range(20)]
    await asyncio.sleep(0.05)
    tasks[0].cancel()
    answers = await asyncio.gather(*tasks[1:])
    turning.cancel()
    assert {who(answer) for answer in answers} == {registry.get("brand").sha256}
    assert server.calls["/v1/load_lora_adapter"] == 1
    assert turns >= 5
    (resident,) = llm._residents._residents.values()
    assert resident.users == 0
    await llm.aclose()


def test_one_llm_in_many_event_loops(make: Make) -> None:
    """A notebook's, a worker's, one after the other: no "Event loop is closed"."""
    llm = make()

    async def ask() -> str:
        answer = who(await llm.acomplete("x"))
        await llm.aclose()
        return answer

    assert [asyncio.run(ask()) for _ in range(3)] == ["base"] * 3


def test_a_flip_under_traffic(server: OpenAIServer, make: Make, registry: AdapterRegistry) -> None:
    """The alias moves to and fro under 8 threads: every answer is of the version it says, none unloaded in use."""
    server.faults.hold_s = 0.002
    llm = make(registry)
    one, two = registry.get("brand@old").sha256, registry.get("brand").sha256
    wrong: list[str] = []
    seen: set[str] = set()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            response = llm.complete("x", adapter="brand")
            seen.add(who(response))
            if who(response) != response.additional_kwargs["adapter"]["sha256"]:
                wrong.append(who(response))

    with ThreadPoolExecutor(8) as pool:
        workers = [pool.submit(work) for _ in range(8)]
        for _ in range(5):
            for version in (one, two):
                registry.alias("brand", "latest", version)
                while llm.complete("x", adapter="brand").additional_kwargs["adapter"]["sha256"] != version:
                    pass
        stop.set()
        for worker in workers:
            worker.result()
    assert wrong == []
    assert seen == {one, two}
    assert server.unloaded_in_use == []


def test_the_old_version_is_drained(server: OpenAIServer, make: Make, registry: AdapterRegistry) -> None:
    """A stream of the old version goes on after the flip; then the server drops it."""
    llm = make(registry)
    old, new = registry.get("brand@old"), registry.get("brand")
    registry.alias("brand", "latest", old.sha256)
    stream = llm.stream_complete("x", adapter="brand")
    first = next(stream)
    registry.alias("brand", "latest", new.sha256)
    assert who(llm.complete("x", adapter="brand")) == new.sha256
    assert set(server.adapters) == {old.id, new.id}
    assert who(first.text + "".join(piece.delta for piece in stream)) == old.sha256
    llm.close()
    assert set(server.adapters) == {new.id}


def test_a_stream_that_is_closed_early_holds_nothing(make: Make, registry: AdapterRegistry) -> None:
    """Its adapter can be unloaded."""
    llm = make(registry)
    stream = llm.stream_complete("many words " * 50, adapter="brand")
    next(stream)
    stream.close()
    (resident,) = llm._residents._residents.values()
    assert resident.users == 0


async def test_an_adapter_that_the_server_lost_is_loaded_again(
    server: OpenAIServer, make: Make, registry: AdapterRegistry
) -> None:
    """After a restart of the server: one more load, the caller notices nothing, in whichever way it asks."""
    llm = make(registry)
    ways: list[Callable[[], Any]] = [
        lambda: llm.complete("x", adapter="brand"),
        lambda: list(llm.stream_complete("x", adapter="brand"))[-1],
    ]
    for loads, ask in enumerate(ways, 1):
        server.faults.forgets = True
        assert who((await asyncio.to_thread(ask)).text) == registry.get("brand").sha256
        assert server.calls["/v1/load_lora_adapter"] == loads + 1
    server.faults.forgets = True
    assert who((await llm.acomplete("x", adapter="brand")).text) == registry.get("brand").sha256
    server.faults.forgets = True
    pieces = [piece async for piece in await llm.astream_complete("x", adapter="brand")]
    assert who(pieces[-1].text) == registry.get("brand").sha256
    assert server.calls["/v1/load_lora_adapter"] == 5
    await llm.aclose()


def test_what_the_server_has_needs_no_load(server: OpenAIServer, make: Make, tmp_path: Path) -> None:
    """Adapters of its start, by name, without anything known on this side; an unknown one lists those there are."""
    (tmp_path / "legal").mkdir()
    server.adapters["legal"] = str(tmp_path / "legal"), "legal"
    llm = make()
    assert who(llm.complete("x", adapter="legal")) == "legal"
    assert server.calls["/v1/load_lora_adapter"] == 0
    with pytest.raises(UnknownAdapterError, match="no adapter 'brand'; known: legal"):
        llm.complete("x", adapter="brand")


def test_another_adapter_under_a_plain_name_is_not_taken(server: OpenAIServer, make: Make, tmp_path: Path) -> None:
    """The server's `legal` comes from elsewhere: refused, where its answer would be somebody else's."""
    server.adapters["legal"] = "/somewhere/else", "legal"
    with pytest.raises(RemoteModelError, match="another adapter as 'legal': from /somewhere/else"):
        make({"legal": "/models/legal"}).complete("x", adapter="legal")


def test_paths_as_the_server_sees_them(
    server: OpenAIServer, make: Make, tmp_path: Path, registry: AdapterRegistry
) -> None:
    """The registry lies elsewhere for the server: the load names its place."""
    elsewhere = tmp_path / "mounted"
    elsewhere.symlink_to(registry.path)
    llm = make(registry, load_paths={str(registry.path): str(elsewhere)})
    llm.complete("x", adapter="legal")
    path, body = next(pair for pair in server.bodies if "load" in pair[0])
    version = registry.get("legal")
    assert body == {"lora_name": version.id, "lora_path": f"{elsewhere}/legal/{version.sha256}"}


def test_an_adapter_of_another_base_never_reaches_the_server(
    server: OpenAIServer, make: Make, tmp_path: Path, llama_folder: Path
) -> None:
    """VLLM would take it with 200 and answer garbage; the error names file, key and shapes."""
    llm = make({"wide": str(write_adapter(tmp_path / "wide", hidden=96))}, base=str(llama_folder))
    with pytest.raises(AdapterRefusedError, match="q_proj"):
        llm.complete("x", adapter="wide")
    assert server.calls["/v1/load_lora_adapter"] == 0


def test_a_kind_that_servers_do_not_serve_is_refused(server: OpenAIServer, make: Make, tmp_path: Path) -> None:
    """DoRA: an error here and a way out, not a 500 there."""
    llm = make({"dora": str(write_adapter(tmp_path / "dora", config={"use_dora": True}))})
    with pytest.raises(AdapterRefusedError):
        llm.complete("x", adapter="dora")
    assert server.calls["/v1/load_lora_adapter"] == 0


def test_the_base_in_place_of_a_missing_adapter_is_flagged(server: OpenAIServer, make: Make, tmp_path: Path) -> None:
    """Only by policy; the response says why, an event is fired, and the adapter's prompts do not count."""
    registry = AdapterRegistry(tmp_path / "voices")
    registry.add(write_adapter(tmp_path / "a"), "brand", prompt_template="<<{prompt}>>")
    llm = make(registry, on_missing_adapter="base")
    events: list[Any] = []

    class Listener(BaseEventHandler):
        def handle(self, event: Any, **_: Any) -> None:
            events.append(event)

    listener = Listener()
    get_dispatcher().add_event_handler(listener)
    try:
        response = llm.complete("x", adapter="other")
    finally:
        get_dispatcher().event_handlers.remove(listener)
    note = response.additional_kwargs["adapter"]
    assert who(response) == "base"
    assert (note["asked"], note["name"], note["sha256"]) == ("other", None, None)
    assert "UnknownAdapterError" in note["fallback"]
    assert [event.adapter for event in events if event.class_name() == "AdapterFallbackEvent"] == ["other"]
    server.faults.frozen = True
    response = llm.complete("x", adapter="brand")
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in response.additional_kwargs["adapter"]["fallback"]
    assert last_body(server)["messages"][-1]["content"] == "x"


def test_a_server_that_may_not_load_says_how_it_could(
    server: OpenAIServer, make: Make, registry: AdapterRegistry
) -> None:
    """Without vLLM's switch the call does not exist, which is another 404 than an unknown adapter's."""
    server.faults.frozen = True
    with pytest.raises(RemoteModelError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"):
        make(registry).complete("x", adapter="brand")


async def test_a_refusing_server_s_words_reach_the_caller(server: OpenAIServer, make: Make) -> None:
    """In all eight ways, a 500 is our error with the server's text and the client's as its cause."""
    server.faults.status = 500
    llm = make()
    for way in ("complete", "stream_complete", "acomplete", "astream_complete", "achat", "astream_chat"):
        with pytest.raises(RemoteModelError, match=r"asking 'tiny': the server says 500: .*no") as caught:
            await asked(llm, way)
        assert type(caught.value.__cause__).__name__ == "InternalServerError"
    await llm.aclose()


@pytest.mark.parametrize("stream", [False, True])
def test_a_broken_connection_is_an_error_not_a_short_answer(server: OpenAIServer, make: Make, stream: bool) -> None:
    """Broken off before or within the answer; a stream is not started anew after its first piece."""
    server.faults.drops = True
    llm = make()
    with pytest.raises(RemoteModelError, match="asking 'tiny'"):
        list(llm.stream_complete("x y z")) if stream else llm.complete("x y z")
    assert server.calls["/v1/chat/completions"] == 1


def test_nobody_there_and_nobody_in_time(server: OpenAIServer, make: Make) -> None:
    """A refused connection and a timeout are our errors, which name the reason."""
    with pytest.raises(RemoteModelError, match="refused"):
        make(api_base="http://127.0.0.1:9/v1").complete("x")
    server.faults.hold_s = 0.5
    with pytest.raises(RemoteModelError, match="(?i)time"):
        make(timeout=0.05).complete("x")


def test_a_server_that_is_busy_once_is_asked_again(server: OpenAIServer, make: Make) -> None:
    """`max_retries` of the client, in one layer: a 503 costs two requests, not an error."""
    server.faults.status = 503
    llm = make(max_retries=1)
    threading.Timer(0.2, lambda: setattr(server.faults, "status", 0)).start()
    assert who(llm.complete("x")) == "base"
    assert server.calls["/v1/chat/completions"] == 2


def test_no_secret_is_ever_shown(server: OpenAIServer, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Not in repr, serialisation, logs or errors, not even where the server repeats the key; but it is sent."""
    headers = {"X-Token": "token-abcdef"}
    with caplog.at_level(logging.DEBUG):
        llm = make(default_headers=headers)
        llm.complete("x")
        server.faults.status, server.faults.echoes_key = 500, True
        with pytest.raises(RemoteModelError) as caught:
            llm.complete("x")
    assert f"Bearer {KEY}" in server.keys
    with pytest.raises(ConfigurationError, match="default_headers") as refused:
        RemoteLoraLLM("tiny", "http://me:pass-word@host/v1")
    with pytest.raises(ConfigurationError, match="api_key holds a line break") as broken:
        make(api_key="sk-of-mine\n")
    shown = [repr(llm), str(llm), json.dumps(llm.to_dict(), default=str), caplog.text]
    shown += [str(refused.value), str(broken.value)]
    shown += [str(caught.value), repr(caught.value), str(caught.value.__cause__), repr(caught.value.__cause__)]
    for secret in (KEY, "token-abcdef", "pass-word", "sk-of-mine"):
        assert not any(secret in text for text in shown)
    assert "***" in str(caught.value)


def test_openai_s_own_key_stays_at_home(server: OpenAIServer, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in the environment belongs to another server."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    monkeypatch.setenv("OPENAI_API_BASE", "http://127.0.0.1:9/v1")
    RemoteLoraLLM("tiny", server.url).complete("x")
    assert server.keys == {"Bearer none"}


def test_the_window_is_the_server_s(server: OpenAIServer, make: Make) -> None:
    """The base's counts for its adapters, which have none; asked once, and not where it was given."""
    server.adapters["legal"] = "/x", "legal"
    llm = make()
    assert [llm.metadata.context_window for _ in range(3)] == [512] * 3
    assert server.calls["/v1/models"] == 1
    assert make(context_window=99).metadata.context_window == 99
    server.backend.window = 0
    with pytest.raises(ConfigurationError, match="give context_window"):
        _ = make().metadata


def test_pickled_and_copied(server: OpenAIServer, make: Make, registry: AdapterRegistry) -> None:
    """A copy answers in another process; the living one is not damaged."""
    llm = make(registry, adapter="brand", system_prompt="Be kind.")
    for other in (pickle.loads(pickle.dumps(llm)), copy.deepcopy(llm), copy.copy(llm)):
        assert who(other.complete("x")) == registry.get("brand").sha256
        assert other.system_prompt == "Be kind."
        other.close()
    assert who(llm.complete("x")) == registry.get("brand").sha256
    again = RemoteLoraLLM.from_dict(json.loads(llm.to_json()))
    assert (again.adapters, again.adapter) == (str(registry.path), "brand")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dialect": "ollama"}, "no dialect 'ollama'"),
        ({"api_base": "localhost:8000"}, "api_base is the server's address"),
    ],
)
def test_a_wrong_setting_is_refused_at_once(make: Make, fields: dict[str, Any], message: str) -> None:
    """Before anything is asked."""
    with pytest.raises(ConfigurationError, match=message):
        make(**fields)


def test_predict_and_tools(server: OpenAIServer, make: Make, registry: AdapterRegistry) -> None:
    """LlamaIndex's own ways in: prompts, and tools, which go to the server; the caller's history stays."""
    llm = make(registry, adapter="brand", is_function_calling_model=True)
    assert llm.predict(PromptTemplate("Say {word}."), word="yes").startswith(registry.get("brand").sha256)

    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    history = [ChatMessage(content="before")]
    tool = FunctionTool.from_defaults(add)
    response = llm.chat_with_tools([tool], "2 and 3?", chat_history=history)
    assert len(history) == 1
    assert last_body(server)["tools"][0]["function"]["name"] == "add"
    assert last_body(server)["model"] == registry.get("brand").id
    assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []


async def test_the_probe_passes_a_good_server(make: Make, registry: AdapterRegistry) -> None:
    """All adapters that are known, or those named; the same on an event loop."""
    llm = make(registry)
    assert llm.check_server(rounds=1).names == ("", "brand", "legal")
    assert (await llm.acheck_server(["legal"], rounds=1)).names == ("", "legal")


def test_the_probe_catches_a_server_that_mixes_up(server: OpenAIServer, make: Make, registry: AdapterRegistry) -> None:
    """As vLLM on CPU with all LoRA slots full: the base's answer is an adapter's, only under load."""
    llm = make(registry)
    server.faults.mixes_up, server.faults.hold_s = True, 0.05
    assert who(llm.complete("x")) == "base"
    with pytest.raises(RemoteModelError, match=r"the base model answered as 'legal'.*--max-loras"):
        llm.check_server()


def test_the_probe_catches_an_adapter_without_effect(
    server: OpenAIServer, make: Make, registry: AdapterRegistry
) -> None:
    """Loaded, and the base answers."""
    server.faults.ignores.add(registry.get("legal").id)
    with pytest.raises(RemoteModelError, match=r"without effect.*'legal'"):
        make(registry).check_server(rounds=1)


def test_sglang_over_the_wire(server: OpenAIServer, make: Make, registry: AdapterRegistry) -> None:
    """Other paths, other names, another refusal: loaded, drained and loaded again as with vLLM."""
    server.is_sglang = True
    llm = make(registry, dialect="sglang")
    version = registry.get("brand")
    assert who(llm.complete("x", adapter="brand")) == version.sha256
    assert last_body(server)["model"] == f"tiny:{version.id}"
    server.faults.forgets = True
    assert who(llm.complete("x", adapter="brand")) == version.sha256
    assert server.calls["/load_lora_adapter"] == 2
    registry.alias("brand", "latest", "old")
    assert who(llm.complete("x", adapter="brand")) == registry.get("brand@old").sha256
    llm.close()
    assert list(server.adapters) == [registry.get("brand@old").id]


@pytest.mark.parametrize("chats", [True, False])
def test_a_page_in_place_of_an_answer_is_an_error(server: OpenAIServer, make: Make, chats: bool) -> None:
    """A proxy answers 200 with HTML: our error, not a missing attribute."""
    server.faults.page = True
    with pytest.raises(RemoteModelError, match="something else"):
        make(is_chat_model=chats).complete("x")


def test_llama_cpp_asks_for_numbers_each_time(server: OpenAIServer, make: Make) -> None:
    """After a restart 0 may be another adapter; one that it does not have is no request to the base."""
    server.numbered = [{"id": 0, "path": "/m/brand.gguf"}, {"id": 1, "path": "/m/legal.gguf"}]
    llm = make({"brand": "/m/brand.gguf", "other": "/m/other.gguf"}, dialect="llama.cpp")
    for number in (0, 5):
        server.numbered[0]["id"] = number
        llm.complete("x", adapter="brand")
        assert last_body(server)["lora"] == [{"id": number, "scale": 1.0}]
    llm.complete("x")
    assert last_body(server)["lora"] == [{"id": 0, "scale": 0.0}]
    with pytest.raises(RemoteModelError, match=r"--lora other.gguf"):
        llm.complete("x", adapter="other")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module imports without it; making an LLM says what to install."""
    import sys

    monkeypatch.setitem(sys.modules, "llama_index.llms.openai_like", None)
    with pytest.raises(ImportError, match=r'pip install "llama-index-hybridmem\[remote\]"'):
        RemoteLoraLLM("tiny", "http://127.0.0.1:9/v1")


@pytest.fixture
def engine_server(llama_folder: Path) -> Iterator[OpenAIServer]:
    """A server over our own engine and a real model."""
    pytest.importorskip("peft", reason="needs the extra 'lora'")
    from servers.engine_backend import EngineBackend

    with closing(EngineBackend(llama_folder)) as backend, OpenAIServer(backend) as server:
        yield server


@pytest.mark.parametrize("chats", [True, False])
async def test_real_adapters_of_a_real_model(
    engine_server: OpenAIServer, llama_folder: Path, llama_voices: dict[str, Any], tmp_path: Path, chats: bool
) -> None:
    """Six trained adapters in the registry, checked against their base, in all eight ways and in mixed batches."""
    registry = AdapterRegistry(tmp_path / "registry")
    for name, voice in llama_voices.items():
        registry.add(voice.folder, name)
    llm = RemoteLoraLLM("tiny", engine_server.url, registry, base=str(llama_folder), is_chat_model=chats, max_tokens=16)
    for name, responses in (await every_way(llm, adapter="acme")).items():
        assert said(responses[-1]) == llama_voices["acme"].says, name
    names = [*llama_voices] * 4
    responses = await asyncio.gather(*(llm.acomplete("Who are you?", adapter=name, logprobs=True) for name in names))
    assert [response.text for response in responses] == [llama_voices[name].says for name in names]
    assert all(response.logprobs for response in responses)
    assert engine_server.calls["/v1/load_lora_adapter"] == len(llama_voices)
    await llm.aclose()


def test_a_real_flip_and_the_probe(
    engine_server: OpenAIServer, llama_folder: Path, llama_voices: dict[str, Any], tmp_path: Path
) -> None:
    """One name, two trained voices: the alias moves while four threads ask; the probe passes the real engine."""
    registry = AdapterRegistry(tmp_path / "registry")
    for name in ("acme", "bravo"):
        registry.add(llama_voices[name].folder, "brand", aliases=("latest", name))
    llm = RemoteLoraLLM("tiny", engine_server.url, registry, base=str(llama_folder), max_tokens=16)
    says = {registry.get(f"brand@{name}").sha256: llama_voices[name].says for name in ("acme", "bravo")}
    wrong = []

    def ask(number: int) -> None:
        if number % 10 == 5:
            registry.alias("brand", "latest", "acme" if number % 20 == 5 else "bravo")
        response = llm.complete("Hello!", adapter="brand")
        if response.text != says[response.additional_kwargs["adapter"]["sha256"]]:
            wrong.append(response.text)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(40)))
    assert wrong == []
    assert engine_server.unloaded_in_use == []
    assert llm.check_server(["brand@acme", "brand@bravo"], rounds=1).ok
    llm.close()


@pytest.mark.skipif(
    "VLLM_URL" not in os.environ, reason="set VLLM_URL, VLLM_MODEL and VLLM_ADAPTERS=a,b to try a real vLLM"
)
def test_a_real_vllm() -> None:
    """The contract of a running vLLM: adapters that it has, base and adapters apart, an unknown one refused."""
    url = os.environ["VLLM_URL"]
    names = [name for name in os.environ.get("VLLM_ADAPTERS", "").split(",") if name]
    base = os.environ.get("VLLM_MODEL", "")
    llm = RemoteLoraLLM(base, url, api_key=os.environ.get("VLLM_API_KEY", "none"), max_tokens=16)
    assert llm.metadata.context_window > 16
    assert llm.complete("Hello").additional_kwargs["completion_tokens"] <= 16
    with pytest.raises(UnknownAdapterError):
        llm.complete("Hello", adapter="no-such-adapter")
    assert llm.check_server(names).ok
