"""What an app's present HuggingFaceLLM is set to, as fields of ours; knows that class's attributes only."""

from __future__ import annotations

from typing import Any

from llama_index.core.llms import LLM

from llama_index_hybridmem.errors import ConfigurationError

_DEFAULTS = {  # of `generate` in transformers 4.56 to 5
    "do_sample": False,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 50,
    "repetition_penalty": 1.0,
    "num_beams": 1,
    "num_return_sequences": 1,
}
_MEANINGLESS = {"pad_token_id", "use_cache", "return_dict_in_generate"}


def fields_of(llm: LLM) -> dict[str, Any]:
    """Fields of `LoraHuggingFaceLLM` that make it answer as the given LLM does.

    Args:
        llm: a HuggingFaceLLM of llama-index-llms-huggingface.

    Returns:
        ``model``, ``tokenizer``, prompts, limits and sampling; its callback manager too.

    Raises:
        ConfigurationError: it is another class, or generates in a way that we cannot (beam search).
    """
    model, tokenizer = getattr(llm, "_model", None), getattr(llm, "_tokenizer", None)
    if model is None or tokenizer is None or not hasattr(llm, "generate_kwargs"):
        raise ConfigurationError(
            f"wrap() takes a HuggingFaceLLM, which holds a model and a tokenizer; {type(llm).__name__} does not. "
            "Give these as LoraHuggingFaceLLM(model=…, tokenizer=…)"
        )
    known: Any = llm
    return {
        "model": model,
        "tokenizer": tokenizer,
        "context_window": known.context_window,
        "max_new_tokens": known.max_new_tokens,
        "is_chat_model": known.is_chat_model,
        "system_prompt": known.system_prompt or None,
        "query_wrapper_prompt": known.query_wrapper_prompt,
        "messages_to_prompt": _own(known.messages_to_prompt, known),
        "completion_to_prompt": known.completion_to_prompt,
        "output_parser": known.output_parser,
        "pydantic_program_mode": known.pydantic_program_mode,
        "callback_manager": known.callback_manager,
        **_generation(known),
    }


def _own(function: Any, llm: Any) -> Any:
    """A user's function; None for the LLM's own method, which renders the chat template as we do, but doubles BOS."""
    return None if getattr(function, "__self__", None) is llm else function


def _generation(llm: Any) -> dict[str, Any]:
    """How it generates: what it says, else what the model's own generation config does, else what transformers does."""
    said = {name: value for name, value in llm.generate_kwargs.items() if value is not None}
    if unknown := sorted(set(said) - {*_DEFAULTS, *_MEANINGLESS, "eos_token_id"}):
        raise ConfigurationError(f"generate_kwargs of the wrapped LLM ask for what we do not do: {', '.join(unknown)}")
    config = getattr(llm._model, "generation_config", None)
    own = {name: value for name in _DEFAULTS if (value := getattr(config, name, None)) is not None}
    chosen: dict[str, Any] = {**_DEFAULTS, **own, **said}
    if max(chosen["num_beams"], chosen["num_return_sequences"]) > 1:
        raise ConfigurationError("the wrapped LLM searches with beams, or writes several answers; we write one")
    ends = said.get("eos_token_id", [])
    fields = {
        "stop_ids": [*llm.stopping_ids, *(ends if isinstance(ends, list | tuple) else [ends])],
        "repetition_penalty": chosen["repetition_penalty"],
        "temperature": 0.0,
    }
    if chosen["do_sample"]:
        fields |= {name: chosen[name] for name in ("temperature", "top_p", "top_k")}
    return fields
