"""A causal language model of transformers as a LlamaIndex LLM; knows nothing of retrieval, prompts or adapters.

Greedy by default, so that the same prompt gives the same answer. The chat template is rendered to token ids once (no
second start token), options of a single call are heeded, token counts stand in ``raw["usage"]``, a failing stream
raises instead of hanging, and the async methods leave the event loop free: what LlamaIndex's HuggingFaceLLM does not.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, TypeVar

from llama_index.core.base.llms.generic_utils import (
    astream_completion_response_to_chat_response,
    completion_response_to_chat_response,
    stream_completion_response_to_chat_response,
)
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
from llama_index.core.bridge.pydantic import Field
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback

from llama_index_hybridmem.branches import in_thread
from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.llms.generation import Generation, Loaded, Piece, StreamedGeneration, load

logger = logging.getLogger(__name__)

G = TypeVar("G", bound=Generation)


class TransformersLLM(CustomLLM):
    """A model folder or hub name, loaded with transformers on the first call and shared by all objects that name it.

    Safe to share between threads: one generation at a time per model. Pickles, copies and serialises without weights.
    Keyword arguments of a call go to transformers' `generate`.

    Args:
        path: a model folder or a name on the Hugging Face hub.
        model_name: what metadata, events and prices call it; empty takes `path`.
        dtype: of the weights in memory; ``"float32"`` is right on any CPU, ``"bfloat16"`` on a GPU.
        device: a torch device.
        max_new_tokens: tokens generated at most; a call may give its own.
        temperature: 0 is greedy and repeatable.
        context_window: tokens of prompt and answer together; None takes the model's own.
        is_chat_model: whether the tokenizer has a chat template; None looks, which loads the model.

    Raises:
        MissingExtraError: torch or transformers is not installed (on the first call).
        ConfigurationError: the model cannot be loaded, or leaves no room for a prompt (on the first call).
    """

    path: str = Field(description="Model folder or hub name.")
    model_name: str = Field(default="", description="What metadata and events call the model.")
    dtype: str = Field(default="float32", description="Type of the weights in memory.")
    device: str = Field(default="cpu", description="The torch device that computes.")
    max_new_tokens: int = Field(default=256, gt=0, description="Tokens generated at most.")
    temperature: float = Field(default=0.0, ge=0.0, description="0 is greedy.")
    context_window: int | None = Field(default=None, gt=1, description="Tokens of prompt and answer together.")
    is_chat_model: bool | None = Field(default=None, description="Whether there is a chat template; None looks.")

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex serialises it."""
        return "TransformersLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex asks of a model; loads it only where window or template were not given."""
        return LLMMetadata(
            context_window=self._window(),
            num_output=self.max_new_tokens,
            is_chat_model=self._loaded().has_template if self.is_chat_model is None else self.is_chat_model,
            model_name=self.model_name or self.path,
        )

    def _window(self) -> int:
        return self.context_window or int(self._loaded().model.config.max_position_embeddings)

    def _loaded(self) -> Loaded:
        return load(self.path, self.dtype, self.device)

    def _begin(self, kind: type[G], prompt: str | Sequence[ChatMessage], verbatim: bool, options: dict[str, Any]) -> G:
        """A generation from a text (a user's message unless `verbatim`) or a chat, cut to the window."""
        loaded = self._loaded()
        if isinstance(prompt, str) and verbatim:
            ids = loaded.encode(prompt)
        else:
            messages = [ChatMessage(content=prompt)] if isinstance(prompt, str) else prompt
            ids = loaded.render([{"role": turn.role.value, "content": turn.content or ""} for turn in messages])
        settings = self._settings(**options)
        return kind(loaded, self._shortened(ids, settings["max_new_tokens"]), settings)

    def _settings(
        self,
        *,
        temperature: float | None = None,
        max_new_tokens: int | None = None,
        max_tokens: int | None = None,
        **others: Any,
    ) -> dict[str, Any]:
        heat = self.temperature if temperature is None else temperature
        # None, because a model's own generation_config may set them, and greedy search would warn of each
        greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        sampling = {"do_sample": True, "temperature": heat} if heat > 0 else greedy
        return {**sampling, **others, "max_new_tokens": max_new_tokens or max_tokens or self.max_new_tokens}

    def _shortened(self, ids: list[int], new_tokens: int) -> list[int]:
        """Drops the middle of a prompt that leaves no room: instructions stand at its start, questions at its end."""
        window = self._window()
        room = window - new_tokens
        if room < 1:
            raise ConfigurationError(f"max_new_tokens={new_tokens} leaves no room for a prompt in {window} tokens")
        if len(ids) <= room:
            return ids
        logger.warning(
            "a prompt of %d tokens was cut to %d and lost its middle: %s reads %d, of which %d are kept for the answer",
            *(len(ids), room, self.metadata.model_name, window, new_tokens),
        )
        head = room // 4
        return ids[:head] + ids[len(ids) - (room - head) :]

    def _answer(
        self, prompt: str | Sequence[ChatMessage], options: dict[str, Any], verbatim: bool = False
    ) -> CompletionResponse:
        return _response(self._begin(Generation, prompt, verbatim, options).run())

    def _stream(
        self, prompt: str | Sequence[ChatMessage], options: dict[str, Any], verbatim: bool = False
    ) -> CompletionResponseGen:
        stream = self._begin(StreamedGeneration, prompt, verbatim, options)
        try:
            while piece := stream.next():
                yield _response(piece)
        finally:
            stream.abandoned.set()

    async def _astream(
        self, prompt: str | Sequence[ChatMessage], options: dict[str, Any], verbatim: bool = False
    ) -> CompletionResponseAsyncGen:
        stream = await in_thread(self._begin, StreamedGeneration, prompt, verbatim, options)
        try:
            while piece := await in_thread(stream.next):
                yield _response(piece)
        finally:
            stream.abandoned.set()

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answers a text: as a user's message where there is a chat template, verbatim where `formatted`."""
        return self._answer(prompt, kwargs, formatted)

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """`complete` as it is written; the last response has the usage."""
        return self._stream(prompt, kwargs, formatted)

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answers a chat."""
        return completion_response_to_chat_response(self._answer(messages, kwargs))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """`chat` as it is written; the last response has the usage."""
        return stream_completion_response_to_chat_response(self._stream(messages, kwargs))

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """`complete` on a thread of its own."""
        return await in_thread(self._answer, prompt, kwargs, formatted)

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """`stream_complete` on threads of its own."""
        return self._astream(prompt, kwargs, formatted)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """`chat` on a thread of its own."""
        return completion_response_to_chat_response(await in_thread(self._answer, messages, kwargs))

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """`stream_chat` on threads of its own."""
        return astream_completion_response_to_chat_response(self._astream(messages, kwargs))


def _response(piece: Piece) -> CompletionResponse:
    raw = None if piece.usage is None else {"usage": piece.usage}
    return CompletionResponse(text=piece.text, delta=piece.delta, raw=raw)
