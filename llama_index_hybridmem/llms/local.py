"""One base model of transformers and its LoRA adapters as a LlamaIndex LLM; knows nothing of retrieval.

All eight methods share one way to encode a prompt, one engine and one way to answer. The adapter is chosen per call,
by a view (`with_adapter`), or by the tenant of the context, and is the right one whatever else runs at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

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
from llama_index.core.llms import LLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools import BaseTool

from llama_index_hybridmem.bells import LoopBell, ThreadBell
from llama_index_hybridmem.branches import in_thread
from llama_index_hybridmem.errors import ConfigurationError, GenerationError
from llama_index_hybridmem.llms.asking import AskingLLM, Prompt, adapters_of
from llama_index_hybridmem.llms.call_options import unknown_option
from llama_index_hybridmem.llms.existing_llm import fields_of
from llama_index_hybridmem.llms.loading import Base, Loaded, Source, as_text, dtype_name
from llama_index_hybridmem.llms.rendering import tool_specs
from llama_index_hybridmem.llms.sending import Asked, astream, last, stream
from llama_index_hybridmem.llms.serving.engine import EngineStats
from llama_index_hybridmem.llms.serving.request import Piece, blocking
from llama_index_hybridmem.llms.tool_calls import takes_tools
from llama_index_hybridmem.llms.tool_messages import selections_in, with_one_call


class LoraHuggingFaceLLM(AskingLLM):
    """A base model whose LoRA adapters are chosen per call, safe to share between threads, tasks and tenants.

    Greedy by default, so that the same prompt gives the same answer. Keyword arguments of a call: ``adapter``, and
    `max_new_tokens` (or ``max_tokens``), `temperature`, `top_p`, `top_k`, `repetition_penalty`, `seed`, `stop`,
    `stop_ids`, ``top_logprobs``, ``logits_processor``, `system_prompt`, `copy_from` (texts that the answer is copied
    from, or "prompt"), `copy_also`, `copy_unit` (`copying.CopyConstraint`); any other is refused. ``response.raw`` is
    JSON-safe: usage, finish reason, model, adapter and version, mean and least log-probability, top-2 margins, seed.

    Args:
        model: a causal language model of transformers, in eval mode; instead see `from_pretrained` and `wrap`.
        tokenizer: its tokenizer.
        adapters: a registry, its folder, or folders of adapters by name; None for the base alone.
        adapter: answers where a call names none: ``"brand"``, ``"brand@prod"``, ``"brand@1a2b3c4d"``; ``"base"`` for
            the base where a view or the tenant would have an adapter.
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
        copy_from: "prompt" has every answer copied from the sources that the prompt shows (`copy_text.sources_in`);
            "off" (default) leaves it free.
        copy_also: texts that may be written instead ("Not in the sources.").
        copy_unit: "span" for one stretch of a source (default), "word" for words of the sources in any order.
        slots: adapters in memory at a time (8), as the further ones a setting of `EngineOptions`; one model has one
            engine, whose settings the first to use it makes.

    Raises:
        ConfigurationError: an argument cannot be used as given.
        MissingExtraError: torch or transformers is not installed.
    """

    def __init__(self, model: Any = None, tokenizer: Any = None, *, adapters: Any = None, **settings: Any) -> None:
        known, kept = adapters_of(adapters)
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
            num_output=self._answer_tokens(),
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
        if resident is None and pinned:
            raise GenerationError(f"every slot is in use: {', '.join(self.stats().loaded)}; raise slots")

    def stats(self) -> EngineStats:
        """What the engine of the base is doing."""
        return self.engine().stats()

    def close(self) -> None:
        """Stop the engine, for all that share the model; the model is as it was before. The next call starts anew."""
        if self._base.engine is not None:
            self._base.engine.close()

    # -- one way to answer -----------------------------------------------------------------------------------------

    def _answer(self, prompt: Prompt, verbatim: bool, call: dict[str, Any]) -> tuple[Asked, Piece]:
        asked = self._ask(prompt, verbatim, False, call)
        return asked, blocking(last(asked, ThreadBell()))

    async def _aanswer(self, prompt: Prompt, verbatim: bool, call: dict[str, Any]) -> tuple[Asked, Piece]:
        asked = await in_thread(self._ask, prompt, verbatim, False, call)
        return asked, await last(asked, LoopBell())

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answers a text: as a user's message where there is a chat template, verbatim where `formatted`."""
        asked, piece = self._answer(prompt, formatted, kwargs)
        return asked.responses.completion(piece)

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """`complete` as it is written; the last response has `raw` and `logprobs`."""
        asked = self._ask(prompt, formatted, True, kwargs)
        return stream(asked, asked.responses.completion)

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answers a chat; with ``tools=`` (`rendering.tool_specs`), calls of them stand in the message as blocks."""
        asked, piece = self._answer(messages, False, kwargs)
        return asked.responses.chat(piece)

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """`chat` as it is written; the last response has `raw`, `logprobs` and tool calls."""
        asked = self._ask(messages, False, True, kwargs)
        return stream(asked, asked.responses.chat)

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """`complete`, with the event loop free."""
        asked, piece = await self._aanswer(prompt, formatted, kwargs)
        return asked.responses.completion(piece)

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """`stream_complete`, with the event loop free."""
        asked = await in_thread(self._ask, prompt, formatted, True, kwargs)
        return astream(asked, asked.responses.completion)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """`chat`, with the event loop free."""
        asked, piece = await self._aanswer(messages, False, kwargs)
        return asked.responses.chat(piece)

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """`stream_chat`, with the event loop free."""
        asked = await in_thread(self._ask, messages, False, True, kwargs)
        return astream(asked, asked.responses.chat)

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
