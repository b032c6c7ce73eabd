"""One base model of transformers and its LoRA adapters as a LlamaIndex LLM; knows nothing of retrieval.

All eight methods share one way to encode a prompt, one engine and one way to answer. The adapter is chosen per call,
by a view (`with_adapter`), or by the tenant of the context, and is the right one whatever else runs at the same time.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, TypeVar

from llama_index.core.base.llms.generic_utils import messages_to_prompt as generic_messages_to_prompt
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.llms import LLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection, default_completion_to_prompt
from llama_index.core.tools import BaseTool

from llama_index_hybridmem.bells import LoopBell, ThreadBell
from llama_index_hybridmem.branches import in_thread
from llama_index_hybridmem.errors import (
    AdapterRefusedError,
    ConfigurationError,
    GenerationError,
    UnknownAdapterError,
    told,
)
from llama_index_hybridmem.llms.adapter_version import AdapterVersion
from llama_index_hybridmem.llms.call_options import options_of, unknown_option
from llama_index_hybridmem.llms.engine import Engine, EngineOptions, EngineStats, engine_of
from llama_index_hybridmem.llms.existing_llm import fields_of
from llama_index_hybridmem.llms.folder_adapters import FolderAdapters
from llama_index_hybridmem.llms.loading import Base, Loaded, Source, as_text, dtype_name
from llama_index_hybridmem.llms.prompting import Overflow, continued, fitted, in_template, with_system
from llama_index_hybridmem.llms.registry import AdapterRegistry, Adapters
from llama_index_hybridmem.llms.rendering import encode, render, tool_specs
from llama_index_hybridmem.llms.request import Piece, Request, blocking
from llama_index_hybridmem.llms.responses import Responses
from llama_index_hybridmem.llms.tenancy import adapter_for, own_adapters
from llama_index_hybridmem.llms.tool_calls import takes_tools
from llama_index_hybridmem.llms.tool_messages import offered, selections_in, with_one_call

Prompt: TypeAlias = str | Sequence[ChatMessage]
R = TypeVar("R", CompletionResponse, ChatResponse)

_SAMPLING = ("max_new_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop", "stop_ids")
_ENGINE = [option.name for option in fields(EngineOptions)]


@dataclass(frozen=True)
class _Asked:
    """One call on its way: to the engine, and back as responses."""

    engine: Engine
    request: Request
    responses: Responses


class LoraHuggingFaceLLM(FunctionCallingLLM):
    """A base model whose LoRA adapters are chosen per call, safe to share between threads, tasks and tenants.

    Greedy by default, so that the same prompt gives the same answer. Keyword arguments of a call: ``adapter``, and
    `max_new_tokens` (or ``max_tokens``), `temperature`, `top_p`, `top_k`, `repetition_penalty`, `seed`, `stop`,
    `stop_ids`, ``top_logprobs``, ``logits_processor``, `system_prompt`; any other is refused. ``response.raw`` is
    JSON-safe: usage, finish reason, model, adapter and version, mean and least log-probability, top-2 margins, seed.

    Args:
        model: a causal language model of transformers, in eval mode; instead see `from_pretrained` and `wrap`.
        tokenizer: its tokenizer.
        adapters: a registry, its folder, or folders of adapters by name; None for the base alone.
        adapter: answers where a call names none: ``"brand"``, ``"brand@prod"``, ``"brand@1a2b3c4d"``.
        tenants: adapters by tenant (`tenancy.tenant`), its own first; those are nobody else's.
        on_missing_adapter: "raise", or "base" to answer without an adapter that is unknown or refused; the response
            says so in ``raw["adapter"]["fallback"]``.
        overflow: what happens to a prompt that leaves no room for the answer: "raise", or lose its "middle" or "start".
        also_known_as: further names of the base that adapters may give.
        model_name: what metadata, events and prices call the base; empty takes its path.
        context_window: tokens of prompt and answer; None takes the model's own.
        is_chat_model: whether there is a chat template; None looks, which loads the model. Where it is False,
            `complete` has its text continued, in no user's message.
        is_function_calling_model: whether the template shows tools; None looks, which loads the model.
        slots: adapters in memory at a time (8), as the further ones a setting of `EngineOptions`; one model has one
            engine, whose settings the first to use it makes.

    Raises:
        ConfigurationError: an argument cannot be used as given.
        MissingExtraError: torch or transformers is not installed.
    """

    path: str = Field(default="", description="Model folder or hub name; empty for a model given as an object.")
    revision: str | None = Field(default=None, description="On the hub.")
    dtype: str = Field(default="float32", description="Type of the weights in memory.")
    device: str = Field(default="cpu", description="The torch device that computes.")
    device_map: str = Field(default="", description="Of accelerate, as JSON.")
    quantization: str = Field(default="", description="4bit, 8bit, or a BitsAndBytesConfig as JSON.")
    model_name: str = Field(default="", description="What metadata and events call the base.")
    adapters: str | dict[str, str] | None = Field(default=None, description="A registry's folder, or folders by name.")
    adapter: str | None = Field(default=None, description="Answers where a call names none.")
    tenants: dict[str, list[str]] | None = Field(default=None, description="Adapters by tenant, its own first.")
    on_missing_adapter: Literal["raise", "base"] = Field(default="raise", description="Where an adapter is missing.")
    overflow: Overflow = Field(default="raise", description="Where a prompt is too long.")
    also_known_as: list[str] = Field(default_factory=list, description="Further names of the base.")
    max_new_tokens: int = Field(default=256, gt=0, description="Tokens generated at most.")
    temperature: float = Field(default=0.0, ge=0.0, description="0 is greedy.")
    top_p: float = Field(default=1.0, gt=0.0, le=1.0, description="Share of probability drawn from.")
    top_k: int = Field(default=0, ge=0, description="Likeliest tokens drawn from; 0 is all.")
    repetition_penalty: float = Field(default=1.0, gt=0.0, description="1 is none.")
    seed: int | None = Field(default=None, description="Of the draws; None takes another one each time.")
    stop: list[str] = Field(default_factory=list, description="Texts that end an answer.")
    stop_ids: list[int] = Field(default_factory=list, description="Further tokens that end an answer.")
    context_window: int | None = Field(default=None, gt=1, description="Tokens of prompt and answer together.")
    is_chat_model: bool | None = Field(default=None, description="Whether there is a chat template; None looks.")
    is_function_calling_model: bool | None = Field(default=None, description="Whether it shows tools; None looks.")
    slots: int | None = Field(default=None, description="Adapters in memory at a time.")
    max_batch: int | None = Field(default=None, description="Requests computed together.")
    batch_tokens: int | None = Field(default=None, description="Tokens of a batch at most.")
    batch_wait_s: float | None = Field(default=None, description="Seconds to wait for company.")
    queue_size: int | None = Field(default=None, description="Requests that wait at most.")
    queue_timeout_s: float | None = Field(default=None, description="Seconds to wait for room in the queue.")
    prefix_tokens: int | None = Field(default=None, description="Tokens of prompts kept for reuse.")

    _base: Base = PrivateAttr()
    _adapters: Adapters | None = PrivateAttr(default=None)

    def __init__(self, model: Any = None, tokenizer: Any = None, *, adapters: Any = None, **settings: Any) -> None:
        known, kept = _adapters_of(adapters)
        if unknown := sorted(set(settings) - set(type(self).model_fields)):
            raise unknown_option(unknown[0], ["model", "tokenizer", *type(self).model_fields], type(self).__name__)
        for name in ("device_map", "quantization"):
            settings[name] = as_text(settings.get(name))
        settings["dtype"] = dtype_name(settings.get("dtype", "float32"))
        super().__init__(adapters=kept, **settings)
        self._adapters = known
        if model is not None and tokenizer is not None:
            self._base = Base(given=Loaded(model, tokenizer))
        elif self.path and model is None and tokenizer is None:
            source = {one.name: getattr(self, one.name) for one in fields(Source)}
            self._base = Base(Source(**source))
        else:
            raise ConfigurationError("give model= and tokenizer=, or use from_pretrained(…) with a folder or hub name")

    @classmethod
    def from_pretrained(cls, path: str, *, lazy: bool = False, **settings: Any) -> LoraHuggingFaceLLM:
        """Load a base model; all that name the same one share its weights.

        Args:
            path: a model folder or a name on the Hugging Face hub.
            lazy: load it with the first call that needs it, instead of now.
            **settings: ``revision``; ``dtype`` ("float32", right on any CPU; "bfloat16" on a GPU; "auto"); ``device``;
                ``device_map`` of accelerate; ``quantization`` "4bit", "8bit" or a `BitsAndBytesConfig`; and the
                arguments of the class.

        Raises:
            MissingExtraError: torch, transformers, accelerate or bitsandbytes is not installed.
            ConfigurationError: the model cannot be loaded.
        """
        llm = cls(path=str(path), **settings)
        if not lazy:
            llm._base.loaded()
        return llm

    @classmethod
    def wrap(cls, llm: LLM, **settings: Any) -> LoraHuggingFaceLLM:
        """Take the model, tokenizer, prompts and settings of an app's HuggingFaceLLM, which stays as it is.

        Args:
            llm: of llama-index-llms-huggingface.
            **settings: arguments of the class, which win over what the LLM says.

        Raises:
            ConfigurationError: it is no HuggingFaceLLM, or it generates in a way that we cannot.
        """
        return cls(**{**fields_of(llm), **settings})

    def with_adapter(self, adapter: str | None) -> LoraHuggingFaceLLM:
        """A view that answers with an adapter; it shares everything else, and costs next to nothing.

        Args:
            adapter: a reference; None for the base or the tenant's own.
        """
        return self.model_copy(update={"adapter": adapter})

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex serialises it."""
        return "LoraHuggingFaceLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex asks of a model; loads it only where window or templates were not given."""
        calls = self.is_function_calling_model
        return LLMMetadata(
            context_window=self._window(),
            num_output=self.max_new_tokens,
            is_chat_model=self._chats(),
            is_function_calling_model=takes_tools(self._template()) if calls is None else calls,
            model_name=self._name if (adapter := self._shown()) is None else f"{self._name}+{adapter}",
        )

    def pin(self, adapter: str, pinned: bool = True) -> None:
        """Load an adapter now, and keep it in its slot until it is unpinned.

        Raises:
            UnknownAdapterError: there is none of that name.
            AdapterRefusedError: its files failed a check.
            GenerationError: every slot is in use.
        """
        version = self._version(adapter)
        engine = self.engine()
        resident = engine.call(lambda: engine.residents.hold(version, pinned)).result()
        if resident is None:
            raise GenerationError(f"every slot is in use: {', '.join(self.stats().loaded)}; raise slots")

    def stats(self) -> EngineStats:
        """What the engine of the base is doing."""
        return self.engine().stats()

    def close(self) -> None:
        """Stop the engine, for all that share the model; the model is as it was before. The next call starts anew."""
        if self._base.engine is not None:
            self._base.engine.close()

    def engine(self) -> Engine:
        """The engine of the base, started if it is not."""
        engine: Engine | None = self._base.engine
        if engine is None or engine.closed:
            loaded = self._base.loaded()
            wanted = {name: getattr(self, name) for name in _ENGINE if getattr(self, name) is not None}
            engine = engine_of(loaded.model, loaded.tokenizer, wanted, [self._name, *self.also_known_as])
            self._base.engine = engine
        return engine

    @property
    def _name(self) -> str:
        return self.model_name or self._base.name

    def _window(self) -> int:
        if self.context_window is not None:
            return self.context_window
        config = self._base.loaded().model.config
        return int(getattr(config.get_text_config(decoder=True), "max_position_embeddings", None) or 4096)

    def _template(self) -> Any:
        """The chat template, or several by name; None where there is none."""
        return self._base.loaded().tokenizer.chat_template

    def _chats(self) -> bool:
        return bool(self._template()) if self.is_chat_model is None else self.is_chat_model

    # -- one way to ask --------------------------------------------------------------------------------------------

    def _ask(self, prompt: Prompt, verbatim: bool, stream: bool, call: dict[str, Any]) -> _Asked:
        """Everything that can be said before the engine: adapter, options, token ids."""
        tools = offered(call.pop("tools", None), call.pop("tool_choice", None))
        system = call.pop("system_prompt", None)
        reference = self._chosen(call.pop("adapter", None))
        version, fallback = self._found(reference)
        own = {name: getattr(self, name) for name in _SAMPLING}
        options = options_of(call, version.defaults if version else {}, own)
        ids = self._ids(prompt, verbatim, version, system, tools)
        ids = fitted(ids, options.max_new_tokens, self._window(), self.overflow)
        engine = self.engine()
        request = Request(tuple(ids), options, version, self.on_missing_adapter, fallback, stream)
        names = [tool["function"]["name"] for tool in tools]
        return _Asked(engine, request, Responses(request, self._name, reference, engine.tokenizer, names))

    def _chosen(self, asked: str | None) -> str | None:
        """The adapter that answers here: the call's, this view's, or the tenant's."""
        return adapter_for(asked or self.adapter, self.tenants)

    def _shown(self) -> str | None:
        """The adapter that answers here, for metadata, which must not fail: engines are built outside of any tenant."""
        try:
            return self._chosen(None)
        except ConfigurationError:
            return self.adapter

    def _found(self, reference: str | None) -> tuple[AdapterVersion | None, str | None]:
        """The adapter, or why the base answers in its place."""
        if reference is None:
            return None, None
        try:
            return self._version(reference), None
        except (UnknownAdapterError, AdapterRefusedError) as error:
            if self.on_missing_adapter == "raise":
                raise
            return None, told(error)

    def _version(self, reference: str) -> AdapterVersion:
        if self._adapters is None:
            raise UnknownAdapterError(reference, [])
        try:
            return self._adapters.get(reference)
        except UnknownAdapterError as error:
            if self.tenants is None:
                raise
            raise UnknownAdapterError(reference, own_adapters(self.tenants)) from error

    def _ids(
        self, prompt: Prompt, verbatim: bool, version: AdapterVersion | None, system: str | None, tools: list[Any]
    ) -> list[int]:
        tokenizer = self._base.loaded().tokenizer
        template = version.prompt_template if version else None
        system = system or (version.system_prompt if version else None)
        if isinstance(prompt, str):
            text = self._text(prompt, verbatim, system, template)
            if text is not None:
                return encode(tokenizer, text)
            prompt = [ChatMessage(role="user", content=self._wrapped(prompt))]
        messages = in_template(with_system(prompt, system or self.system_prompt, self.system_prompt), template)
        if self.messages_to_prompt not in (None, generic_messages_to_prompt):
            return encode(tokenizer, self.messages_to_prompt(messages))
        return render(tokenizer, messages, tools)

    def _text(self, prompt: str, verbatim: bool, system: str | None, template: str | None) -> str | None:
        """What is read of a text as it stands; None where it becomes a user's message.

        LlamaIndex sends its prompts to a model without a chat template as verbatim texts, under the system prompt of
        the LLM: these get what the adapter was trained with, too.
        """
        wording = self.completion_to_prompt or default_completion_to_prompt
        formats = wording is not default_completion_to_prompt
        if verbatim:
            if formats or self._chats():
                return prompt
            rest = prompt.removeprefix(f"{self.system_prompt}\n\n") if system else prompt
            return continued(rest, system, template)
        system, text = system or self.system_prompt, self._wrapped(prompt)
        if formats:
            return continued(wording(continued(text, None, template)), system, None)
        return continued(text, system, template) if self.is_chat_model is False else None

    def _wrapped(self, prompt: str) -> str:
        return prompt if self.query_wrapper_prompt is None else self.query_wrapper_prompt.format(query_str=prompt)

    # -- one way to answer -----------------------------------------------------------------------------------------

    def _answer(self, prompt: Prompt, verbatim: bool, call: dict[str, Any]) -> tuple[_Asked, Piece]:
        asked = self._ask(prompt, verbatim, False, call)
        return asked, blocking(_last(asked, ThreadBell()))

    async def _aanswer(self, prompt: Prompt, verbatim: bool, call: dict[str, Any]) -> tuple[_Asked, Piece]:
        asked = await in_thread(self._ask, prompt, verbatim, False, call)
        return asked, await _last(asked, LoopBell())

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answers a text: as a user's message where there is a chat template, verbatim where `formatted`."""
        asked, piece = self._answer(prompt, formatted, kwargs)
        return asked.responses.completion(piece)

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """`complete` as it is written; the last response has `raw` and `logprobs`."""
        asked = self._ask(prompt, formatted, True, kwargs)
        return _stream(asked, asked.responses.completion)

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answers a chat; with ``tools=`` (`rendering.tool_specs`), calls of them stand in the message as blocks."""
        asked, piece = self._answer(messages, False, kwargs)
        return asked.responses.chat(piece)

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """`chat` as it is written; the last response has `raw`, `logprobs` and tool calls."""
        asked = self._ask(messages, False, True, kwargs)
        return _stream(asked, asked.responses.chat)

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """`complete`, with the event loop free."""
        asked, piece = await self._aanswer(prompt, formatted, kwargs)
        return asked.responses.completion(piece)

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """`stream_complete`, with the event loop free."""
        asked = await in_thread(self._ask, prompt, formatted, True, kwargs)
        return _astream(asked, asked.responses.completion)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """`chat`, with the event loop free."""
        asked, piece = await self._aanswer(messages, False, kwargs)
        return asked.responses.chat(piece)

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """`stream_chat`, with the event loop free."""
        asked = await in_thread(self._ask, messages, False, True, kwargs)
        return _astream(asked, asked.responses.chat)

    # -- tools -----------------------------------------------------------------------------------------------------

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
        """The messages and tools of a call; a template cannot require a call, so `tool_required` changes nothing."""
        asked = ChatMessage(role="user", content=user_msg) if isinstance(user_msg, str) else user_msg
        messages = [*(chat_history or []), *([asked] if asked is not None else [])]
        return {"messages": messages, "tools": tool_specs(tools) or None, **kwargs}

    def _validate_chat_with_tools_response(
        self, response: ChatResponse, tools: Sequence[BaseTool], allow_parallel_tool_calls: bool = False, **kwargs: Any
    ) -> ChatResponse:
        """One call only, unless several were allowed."""
        return response if allow_parallel_tool_calls else with_one_call(response)

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The tool calls of an answer.

        Raises:
            GenerationError: there is none, and that is an error.
        """
        return selections_in(response, error_on_no_tool_call)

    # -- copies ----------------------------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> LoraHuggingFaceLLM:
        return self.model_copy()

    def __reduce__(self) -> Any:
        settings = {name: getattr(self, name) for name in type(self).model_fields if name != "callback_manager"}
        settings["adapters"] = self._adapters if self.adapters is None else self.adapters
        return _again, (type(self), self._base, settings)


def _again(kind: type[LoraHuggingFaceLLM], base: Base, settings: dict[str, Any]) -> LoraHuggingFaceLLM:
    """An unpickled LLM; its model is loaded when it is needed."""
    llm = kind(**settings)
    llm._base = base
    return llm


def _adapters_of(given: Any) -> tuple[Adapters | None, str | dict[str, str] | None]:
    """Adapters by name, and how they are kept in a serialised LLM."""
    if given is None:
        return None, None
    if isinstance(given, Mapping):
        folders = {str(name): str(folder) for name, folder in given.items()}
        return FolderAdapters(folders), folders
    if isinstance(given, AdapterRegistry):
        return given, str(given.path)
    if hasattr(given, "get") and hasattr(given, "names"):
        return given, None
    return AdapterRegistry(given), str(given)


async def _last(asked: _Asked, bell: ThreadBell | LoopBell) -> Piece:
    """The whole answer; whoever stops waiting stops the generation."""
    try:
        await asked.engine.admit(asked.request, bell)
        result = await asked.request.ticket.last()
    finally:
        asked.engine.cancel(asked.request)
    return Piece(result.text, result.text, result)


def _stream(asked: _Asked, as_response: Callable[[Piece], R]) -> Generator[R, None, None]:
    try:
        blocking(asked.engine.admit(asked.request, ThreadBell()))
        while (piece := blocking(asked.request.ticket.next())) is not None:
            yield as_response(piece)
    finally:
        asked.engine.cancel(asked.request)


async def _astream(asked: _Asked, as_response: Callable[[Piece], R]) -> AsyncGenerator[R, None]:
    try:
        await asked.engine.admit(asked.request, LoopBell())
        while (piece := await asked.request.ticket.next()) is not None:
            yield as_response(piece)
    finally:
        asked.engine.cancel(asked.request)
