"""Turns the value of --llm into a LlamaIndex LLM; knows nothing of questions. Keys come from the environment only."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, MissingExtraError
from ..extras import require

if TYPE_CHECKING:
    from llama_index.core.llms import LLM

KNOWN = "smollm2, huggingface:NAME, openai:MODEL, ollama:MODEL, openai-like:URL,MODEL or none"
_PATIENCE_S = 300.0  # LlamaIndex's Ollama gives up after 30 s, in which a CPU loads no larger model


def resolve(value: str | None, *, max_tokens: int | None = None) -> LLM | None:
    """Make the language model that --llm names; None for None and "none".

    Args:
        value: see `KNOWN`.
        max_tokens: of an answer, for models that run here; None for their own default.

    Raises:
        ConfigurationError: unknown form, a missing key, or a missing LlamaIndex integration.
        MissingExtraError: a missing extra of ours.
    """
    if value is None or value == "none":
        return None
    kind, _, name = value.partition(":")
    if kind not in _MAKERS or (kind == "smollm2") != (name == ""):
        raise ConfigurationError(f"--llm {value!r} is not understood; known: {KNOWN}")
    return _MAKERS[kind](name, {} if max_tokens is None else {"max_new_tokens": max_tokens})


def _smollm2(_: str, limits: dict[str, Any]) -> LLM:
    from ..llms.smollm2 import smollm2

    return smollm2(**limits)


def _huggingface(name: str, limits: dict[str, Any]) -> LLM:
    require(f"--llm huggingface:{name}", "lora", "torch", "transformers")
    from ..llms.local import LoraHuggingFaceLLM

    return LoraHuggingFaceLLM.from_pretrained(name, overflow="middle", **limits)


def _openai(name: str, _: dict[str, Any]) -> LLM:
    try:
        from llama_index.llms.openai import OpenAI
    except ImportError as error:
        raise _missing("openai") from error
    if not os.environ.get("OPENAI_API_KEY"):
        raise ConfigurationError("--llm openai:… needs an API key in the environment variable OPENAI_API_KEY")
    llm: LLM = OpenAI(model=name)
    return llm


def _ollama(name: str, _: dict[str, Any]) -> LLM:
    try:
        from llama_index.llms.ollama import Ollama
    except ImportError as error:
        raise _missing("ollama") from error
    llm: LLM = Ollama(model=name, request_timeout=_PATIENCE_S)
    return llm


def _openai_like(name: str, _: dict[str, Any]) -> LLM:
    url, comma, model = name.rpartition(",")
    if not comma or not model or not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"--llm openai-like:{name}: expected openai-like:http://host:8000/v1,MODEL")
    try:
        from llama_index.llms.openai_like import OpenAILike
    except ImportError as error:
        raise MissingExtraError("--llm openai-like:…", "remote") from error
    # A key of its own: OPENAI_API_KEY is not for any server that happens to be named here.
    key = os.environ.get("HYBRIDMEM_API_KEY") or "none"
    llm: LLM = OpenAILike(model=model, api_base=url, api_key=key, is_chat_model=True)
    return llm


def _missing(name: str) -> ConfigurationError:
    """Of an integration of LlamaIndex's that no extra of ours brings."""
    package = f"llama-index-llms-{name}"
    return ConfigurationError(f"--llm {name}:… needs the package {package}: pip install {package}")


_MAKERS: dict[str, Callable[[str, dict[str, Any]], LLM]] = {
    "smollm2": _smollm2,
    "huggingface": _huggingface,
    "openai": _openai,
    "ollama": _ollama,
    "openai-like": _openai_like,
}
