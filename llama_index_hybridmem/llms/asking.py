"""From a prompt and keyword arguments to a request: settings, adapter, options, token ids; knows no way to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from llama_index.core.base.llms.generic_utils import messages_to_prompt as generic_messages_to_prompt
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.llms.llm import default_completion_to_prompt

from llama_index_hybridmem.errors import (
    AdapterRefusedError,
    ConfigurationError,
    HybridMemoryError,
    UnknownAdapterError,
    told,
)
from llama_index_hybridmem.llms.adapters.files import CONFIG_FILE
from llama_index_hybridmem.llms.adapters.folders import FolderAdapters
from llama_index_hybridmem.llms.adapters.registry import AdapterRegistry, Adapters
from llama_index_hybridmem.llms.adapters.version import AdapterVersion
from llama_index_hybridmem.llms.call_options import options_of
from llama_index_hybridmem.llms.choosing import ChoosingLLM
from llama_index_hybridmem.llms.copy_paths import Unit
from llama_index_hybridmem.llms.copy_text import sources_in
from llama_index_hybridmem.llms.copying import ABSTAIN, CopyConstraint
from llama_index_hybridmem.llms.loading import Base
from llama_index_hybridmem.llms.prompting import Overflow, continued, fitted, in_template, last_said, with_system
from llama_index_hybridmem.llms.rendering import encode, render
from llama_index_hybridmem.llms.responses import Responses
from llama_index_hybridmem.llms.sending import Asked
from llama_index_hybridmem.llms.serving.engine import Engine, engine_of
from llama_index_hybridmem.llms.serving.options import EngineOptions
from llama_index_hybridmem.llms.serving.request import Options, Request
from llama_index_hybridmem.llms.serving.running import end_ids
from llama_index_hybridmem.llms.tenancy import open_to_all, own_adapters
from llama_index_hybridmem.llms.tool_messages import offered

Prompt: TypeAlias = str | Sequence[ChatMessage]

_SAMPLING = ("max_new_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop", "stop_ids")
_COPYING = ("copy_from", "copy_also", "copy_unit")
_ENGINE = [option.name for option in fields(EngineOptions)]


class AskingLLM(ChoosingLLM):
    """The settings of `LoraHuggingFaceLLM`, documented there, and what they make of a prompt."""

    path: str = Field(default="", description="Model folder or hub name; empty for a model given as an object.")
    revision: str | None = Field(default=None, description="On the hub.")
    dtype: str = Field(default="float32", description="Type of the weights in memory.")
    device: str = Field(default="cpu", description="The torch device that computes.")
    device_map: str = Field(default="", description="Of accelerate, as JSON.")
    quantization: str = Field(default="", description="4bit, 8bit, or a BitsAndBytesConfig as JSON.")
    model_name: str = Field(default="", description="What metadata and events call the base.")
    adapters: str | dict[str, str] | None = Field(default=None, description="A registry's folder, or folders by name.")
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
    copy_from: Literal["off", "prompt"] = Field(default="off", description="Copy answers from what the prompt shows.")
    copy_also: list[str] = Field(default_factory=lambda: [ABSTAIN], description="Texts written instead of a copy.")
    copy_unit: Unit = Field(default="span", description="What is copied: one stretch, or words in any order.")
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
    def base_model(self) -> str:
        """What the base is called, whichever adapter answers."""
        return self._name

    def answering(self) -> AdapterVersion | None:
        """The adapter that answers here, where a call names none; None for the base.

        Raises:
            UnknownAdapterError: there is none of that name, and that is an error.
            AdapterRefusedError: its files failed a check, and that is an error.
        """
        return self._found(self._chosen(None))[0]

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

    def _ask(self, prompt: Prompt, verbatim: bool, stream: bool, call: dict[str, Any]) -> Asked:
        """Everything that can be said before the engine: adapter, options, token ids."""
        tools = offered(call.pop("tools", None), call.pop("tool_choice", None))
        system = call.pop("system_prompt", None)
        reference = self._chosen(call.pop("adapter", None))
        version, fallback = self._found(reference)
        own = {name: getattr(self, name) for name in (*_SAMPLING, *_COPYING)}
        options = options_of(call, version.defaults if version else {}, own)
        ids = self._ids(prompt, verbatim, version, system, tools)
        if options.copy_from != "off":
            options = self._copying(options, prompt, tools)
        engine = self.engine()
        starts = len(ids) > 0 and ids[0] == engine.tokenizer.bos_token_id
        ids = fitted(ids, options.max_new_tokens, self._window(), self.overflow, kept=int(starts))
        request = Request(tuple(ids), options, version, self.on_missing_adapter, fallback, stream)
        names = [tool["function"]["name"] for tool in tools]
        return Asked(engine, request, Responses(request, self._name, reference, engine.tokenizer, names))

    def _copying(self, options: Options, prompt: Prompt, tools: Sequence[Any]) -> Options:
        """Options with the processor that lets nothing be written but what `copy_from` holds."""
        if tools:
            raise ConfigurationError('a call of a tool cannot be copied: give copy_from="off" where tools are on offer')
        loaded = self._base.loaded()
        sources, marks = list(options.copy_from), len(options.copy_from)
        if options.copy_from == "prompt":
            sources, marks = sources_in(last_said(prompt))
        constraint = CopyConstraint(
            loaded.tokenizer,
            sources,
            also=options.copy_also,
            unit=options.copy_unit,
            marks=marks,
            ends=(end_ids(loaded.model, loaded.tokenizer) | options.stop_ids) or None,
        )
        return replace(options, processors=(*options.processors, constraint))

    def _chosen(self, asked: str | None) -> str | None:
        """The adapter that answers here: the call's, this view's, or the tenant's."""
        try:
            return super()._chosen(asked)
        except UnknownAdapterError as error:
            raise UnknownAdapterError(error.reference, self._visible()) from error

    def _visible(self) -> list[str]:
        """The adapters that this context may know of: its tenant's own, and everybody's."""
        names = [] if self._adapters is None else self._adapters.names()
        return names if self.tenants is None else [*own_adapters(self.tenants), *open_to_all(names, self.tenants)]

    def _answer_tokens(self) -> int:
        """Tokens of an answer at most, as the adapter has it: LlamaIndex keeps so much of the window free."""
        try:
            version = self._found(self._chosen(None))[0]
        except HybridMemoryError:
            version = None
        return int((version.defaults if version else {}).get("max_new_tokens", self.max_new_tokens))

    def _found(self, reference: str | None) -> tuple[AdapterVersion | None, str | None]:
        """The adapter, or why the base answers in its place."""
        if reference is None:
            return None, None
        try:
            version = self._version(reference)
            if self.on_missing_adapter == "base" and self._adapters is not None:
                self._adapters.verify(version)  # a prompt made for an adapter that cannot answer is not the base's
            return version, None
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
            raise UnknownAdapterError(reference, self._visible()) from error

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


def adapters_of(given: Any) -> tuple[Adapters | None, str | dict[str, str] | None]:
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
    folder = Path(given)
    if (folder / CONFIG_FILE).is_file():
        raise ConfigurationError(f"{folder} is an adapter, not a registry of them: adapters={{'{folder.name}': …}}")
    if not folder.is_dir():
        raise ConfigurationError(f"no registry of adapters at {folder}: make it with AdapterRegistry(…).add(…)")
    return AdapterRegistry(folder), str(given)
