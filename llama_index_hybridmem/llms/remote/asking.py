"""The settings of a remote LLM, and what they make of a call before it is sent; knows no way to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, LLMMetadata
from llama_index.core.bridge.pydantic import Field, PrivateAttr

from llama_index_hybridmem.errors import ConfigurationError, HybridMemoryError
from llama_index_hybridmem.llms.choosing import ChoosingLLM
from llama_index_hybridmem.llms.remote.adapters import RemoteAdapters, adapters_of
from llama_index_hybridmem.llms.remote.calls import Build, RemoteCalls
from llama_index_hybridmem.llms.remote.clients import OpenAIClients
from llama_index_hybridmem.llms.remote.dialects import dialect_of
from llama_index_hybridmem.llms.remote.requests import Question, composed
from llama_index_hybridmem.llms.remote.residents import ServerAdapters
from llama_index_hybridmem.llms.remote.server import ModelServer


class RemoteAskingLLM(ChoosingLLM):
    """The settings of `RemoteLoraLLM`, documented there, and what they make of a prompt."""

    base_model: str = Field(description="The base model's name on the server.")
    api_base: str = Field(description="The server's address.")
    adapters: str | dict[str, str] | None = Field(default=None, description="A registry's folder, or name to folder.")
    dialect: str = Field(default="vllm", description="How the server is told which adapter answers.")
    base: str | None = Field(default=None, description="Folder of the base model here, to check adapters against.")
    load_paths: dict[str, str] = Field(default_factory=dict, description="Local folder to the server's view of it.")
    max_loaded: int | None = Field(default=None, gt=0, description="Adapters of ours that stay loaded.")
    api_key: str = Field(default="none", repr=False, exclude=True, description="Never shown or serialised.")
    context_window: int | None = Field(default=None, gt=0, description="Tokens of prompt and answer; None asks.")
    is_chat_model: bool = Field(default=True, description="Whether chats go to /chat/completions.")
    is_function_calling_model: bool = Field(default=False, description="Whether the server parses tool calls.")
    max_tokens: int | None = Field(default=256, gt=0, description="Tokens of an answer at most.")
    temperature: float = Field(default=0.0, ge=0.0, description="0 is greedy.")
    logprobs: bool = Field(default=False, description="Whether answers carry log-probabilities.")
    top_logprobs: int = Field(default=0, ge=0, description="How many log-probabilities per token.")
    timeout: float = Field(default=60.0, gt=0, description="Seconds for an answer or its next piece.")
    max_retries: int = Field(default=3, ge=0, description="Of requests that met a full or broken server.")
    default_headers: dict[str, str] | None = Field(default=None, repr=False, exclude=True, description="Never shown.")
    additional_kwargs: dict[str, Any] = Field(default_factory=dict, repr=False, description="Further options.")
    _given: Any = PrivateAttr(default=None)
    _clients: OpenAIClients = PrivateAttr()
    _server: ModelServer = PrivateAttr()
    _residents: ServerAdapters = PrivateAttr()
    _known: RemoteAdapters = PrivateAttr()
    _calls: RemoteCalls = PrivateAttr()

    def __init__(
        self,
        base_model: str,
        api_base: str,
        adapters: Any = None,
        *,
        http_client: Any = None,
        async_http_client: Any = None,
        **fields: Any,
    ) -> None:
        found, kept = adapters_of(adapters)
        super().__init__(base_model=base_model, api_base=api_base, adapters=kept, **fields)
        if not self.api_base.startswith(("http://", "https://")):
            raise ConfigurationError(f"api_base is the server's address, http://…/v1, not {api_base!r}")
        if "@" in self.api_base.split("://", 1)[1].split("/", 1)[0]:
            raise ConfigurationError("api_base holds a user's name or password: give it in default_headers or api_key")
        _check_secrets({"api_key": self.api_key, **(self.default_headers or {})})
        spoken = dialect_of(self.dialect)
        connection = {
            "api_key": self.api_key,
            "base_url": self.api_base,
            "timeout": self.timeout,
            "max_retries": self.max_retries,
            "default_headers": self.default_headers,
        }
        self._clients = OpenAIClients(
            base_model, self.is_chat_model, self.is_function_calling_model, connection, http_client, async_http_client
        )
        secrets = [self.api_key, *(self.default_headers or {}).values()]
        self._server = ModelServer(self._clients.client, spoken, secrets)
        self._residents = ServerAdapters(self._server, self.max_loaded)
        self._given = adapters
        self._known = RemoteAdapters(found, spoken, self.load_paths, self.base, base_model, self.tenants)
        self._calls = RemoteCalls(
            self._clients, self._server, self._known, self._residents, base_model, self.on_missing_adapter
        )

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex asks of a model; asks the server once where `context_window` was not given."""
        return LLMMetadata(
            context_window=self.context_window or self._server.window(self.base_model),
            num_output=self._answer_tokens() or -1,
            is_chat_model=self.is_chat_model,
            is_function_calling_model=self.is_function_calling_model,
            model_name=self.base_model if (adapter := self._shown()) is None else f"{self.base_model}+{adapter}",
        )

    def _asked(self, options: dict[str, Any]) -> str | None:
        """Takes the adapter out of a call's options; here, in the caller's context, since that has the tenant."""
        if "model" in options:
            raise ConfigurationError("the adapter of a call is named with adapter=, not with model=")
        return self._chosen(options.pop("adapter", None))

    def _answer_tokens(self) -> int | None:
        """Tokens of an answer at most, as the adapter has it: LlamaIndex keeps so much of the window free."""
        try:
            version = self._known.find(self._shown()).version
        except HybridMemoryError:
            version = None
        own: int | None = (version.defaults if version else {}).get("max_new_tokens")
        return self.max_tokens if own is None else own

    def _build(self, prompt: str | Sequence[ChatMessage], formatted: bool, given: Mapping[str, Any]) -> Build:
        """How this call looks for whichever adapter it gets."""
        own: dict[str, Any] = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        if self.logprobs:
            own |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        question = Question(prompt, formatted, given, self.is_chat_model)
        return lambda target: composed(self, question, [own, self.additional_kwargs], target.serves)


def _check_secrets(given: Mapping[str, str]) -> None:
    """What no header can have, a newline behind a key, is refused by its name before an error could show its value."""
    for name, value in given.items():
        if not (value.isascii() and value.isprintable()):
            raise ConfigurationError(f"{name} holds a line break or another character that no header can have")
