"""A model server with many LoRA adapters as a LlamaIndex LLM; knows no weights and no tokenizer.

What LlamaIndex's OpenAILike, which carries the requests, does not do: an adapter per call, checked on this side and
loaded once however many ask, names on the server that never change their meaning, a call's own options before the
object's also in streams, one event per call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback

from llama_index_hybridmem.branches import in_thread
from llama_index_hybridmem.errors import RemoteModelError
from llama_index_hybridmem.llms.remote.asking import RemoteAskingLLM
from llama_index_hybridmem.llms.remote.check import OPTIONS, PROMPTS, check, probe_of
from llama_index_hybridmem.llms.remote.conformance import Conformance, Probe
from llama_index_hybridmem.llms.remote.requests import as_chat, as_completion

if TYPE_CHECKING:
    from llama_index.core.llms.llm import ToolSelection
    from llama_index.core.tools.types import BaseTool


class RemoteLoraLLM(RemoteAskingLLM):
    """One base model on a server and its LoRA adapters, chosen per call with ``adapter=``.

    An adapter of a registry is called ``brand@1a2b3c4d`` on the server, a name that never changes its meaning: moving
    an alias makes new calls take the new version, and the old one is unloaded after its last call. It is loaded with
    the first call that asks for it. Safe to share between threads, tasks and event loops; pickles and copies without
    connections.

    Options of a call beat the adapter's defaults, those beat this object's. They are those of `LoraHuggingFaceLLM` and
    OpenAI's API; ``extra_body`` is sent as it is.

    ``raw`` is the server's answer. ``additional_kwargs["adapter"]`` says who answered: name, sha256 and what was
    asked, with ``fallback`` where the base answered instead; None for the base model.

    Args:
        base_model: the base model's name on the server.
        api_base: the server's address, as a rule with ``/v1``.
        adapters: an `AdapterRegistry` or its folder; or name to folder, on this machine or as the server sees it; None
            for whatever the server has.
        adapter: of calls that do not say; None for the base model.
        dialect: "vllm", "sglang", "lorax", "tgi", "ray" or "llama.cpp".
        base: folder of the base model on this machine: adapters are checked against it before the server loads them.
            Without it only their own files are checked, and an adapter of another base goes through.
        on_missing_adapter: "raise"; or "base": the base model answers where an adapter is unknown, refused or cannot be
            loaded, and the answer says so.
        load_paths: local folder to the same folder as the server sees it; empty where both see the same files.
        max_loaded: adapters of ours that stay loaded; None for no limit. vLLM: its ``--max-cpu-loras``.
        tenants: tenant to its adapters' names, see `tenancy.tenant`.
        api_key: sent as it is; OpenAI's environment variables are not looked at.
        context_window: tokens of prompt and answer; None asks the server, when it is first needed.
        is_chat_model: whether chats go to ``/chat/completions``; False writes them into one text.
        is_function_calling_model: whether the server parses tool calls.
        max_tokens: of an answer; None leaves it to the server (vLLM: 16 for completions).
        temperature: 0 is greedy.
        logprobs: whether answers carry log-probabilities.
        top_logprobs: how many per token.
        timeout: seconds for an answer, or for its next piece.
        max_retries: of requests that met a full or broken server.
        default_headers: sent with each request.
        additional_kwargs: further options of each request.

    Raises:
        MissingExtraError: llama-index-llms-openai-like is not installed.
        ConfigurationError: no address, or no such dialect.
    """

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex serialises it."""
        return "RemoteLoraLLM"

    def loaded(self) -> list[str]:
        """Names on the server of the adapters that are loaded as far as this object knows."""
        return self._residents.names()

    def close(self) -> None:
        """Waits for the unloads under way and closes the connections; a later call opens new ones."""
        self._residents.settle()
        self._clients.close()

    async def aclose(self) -> None:
        """`close`, with the connections of the running event loop."""
        await in_thread(self._residents.settle)
        await self._clients.aclose()

    def check_server(
        self, adapters: Sequence[str] = (), prompts: Sequence[str] = PROMPTS, rounds: int = 3
    ) -> Conformance:
        """Probes whether the server keeps base and adapters apart: each alone, then all at once, greedy.

        Made for the start of an app: it costs ``(1 + rounds) * (1 + adapters) * prompts`` answers of 16 tokens.

        Args:
            adapters: whom to ask beside the base model; empty takes all that are known here.
            prompts: on which the adapters answer differently than the base does.
            rounds: how often all are asked at once.

        Raises:
            RemoteModelError: it mixes them up, or one has no effect; says which and what to do.
        """
        verdict = check(self._probe, list(adapters) or self._calls.names(), prompts, rounds)
        if not verdict.ok:
            raise RemoteModelError(str(verdict))
        return verdict

    async def acheck_server(
        self, adapters: Sequence[str] = (), prompts: Sequence[str] = PROMPTS, rounds: int = 3
    ) -> Conformance:
        """`check_server` on threads of its own."""
        return await in_thread(self.check_server, adapters, prompts, rounds)

    def _probe(self, name: str, prompt: str) -> Probe:
        return probe_of(self._calls.run(name or None, self._build(prompt, False, OPTIONS), as_completion))

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answers a text: as a user's message where the model chats, else as it is; untouched where `formatted`."""
        return self._calls.run(self._asked(kwargs), self._build(prompt, formatted, kwargs), as_completion)

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """`complete` as it is written; the last response has the usage."""
        return self._calls.stream(self._asked(kwargs), self._build(prompt, formatted, kwargs), as_completion)

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answers a chat."""
        return self._calls.run(self._asked(kwargs), self._build(messages, False, kwargs), as_chat)

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """`chat` as it is written; the last response has the usage."""
        return self._calls.stream(self._asked(kwargs), self._build(messages, False, kwargs), as_chat)

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """`complete` without blocking the event loop."""
        return await self._calls.arun(self._asked(kwargs), self._build(prompt, formatted, kwargs), as_completion)

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """`stream_complete` without blocking the event loop."""
        return self._calls.astream(self._asked(kwargs), self._build(prompt, formatted, kwargs), as_completion)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """`chat` without blocking the event loop."""
        return await self._calls.arun(self._asked(kwargs), self._build(messages, False, kwargs), as_chat)

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """`stream_chat` without blocking the event loop."""
        return self._calls.astream(self._asked(kwargs), self._build(messages, False, kwargs), as_chat)

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        history = list(chat_history or [])  # OpenAILike appends to what it is given
        return self._clients.sync()._prepare_chat_with_tools(
            tools, user_msg, history, verbose, allow_parallel_tool_calls, tool_required, **kwargs
        )

    def get_tool_calls_from_response(self, response: ChatResponse, *args: Any, **kwargs: Any) -> list[ToolSelection]:
        """The tools that an answer calls, and their arguments."""
        return self._clients.sync().get_tool_calls_from_response(response, *args, **kwargs)

    def __reduce__(self) -> Any:
        fields = {name: getattr(self, name) for name in type(self).model_fields if name != "callback_manager"}
        return _again, ({**fields, "adapters": self._given},)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> RemoteLoraLLM:
        return self.model_copy()


def _again(fields: dict[str, Any]) -> RemoteLoraLLM:
    return RemoteLoraLLM(**fields)
