"""What an app's present HuggingFaceLLM is set to, as fields of ours; knows that class's attributes only."""

from __future__ import annotations

from typing import Any

from llama_index.core.llms import LLM

from llama_index_hybridmem.errors import ConfigurationError

_SAMPLING = {"temperature", "top_p", "top_k", "repetition_penalty"}
_MEANINGLESS = {"pad_token_id", "use_cache", "num_beams", "num_return_sequences", "return_dict_in_generate"}


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
        "stop_ids": list(known.stopping_ids),
        "system_prompt": known.system_prompt or None,
        "query_wrapper_prompt": known.query_wrapper_prompt,
        "messages_to_prompt": _own(known.messages_to_prompt, known),
        "completion_to_prompt": known.completion_to_prompt,
        "output_parser": known.output_parser,
        "pydantic_program_mode": known.pydantic_program_mode,
        "callback_manager": known.callback_manager,
        **_sampling(known.generate_kwargs),
    }


def _own(function: Any, llm: Any) -> Any:
    """A user's function; None for the LLM's own method, which renders the chat template as we do, but doubles BOS."""
    return None if getattr(function, "__self__", None) is llm else function


def _sampling(generate: dict[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in generate.items() if name in _SAMPLING}
    fields["temperature"] = fields.get("temperature", 1.0) if generate.get("do_sample") else 0.0
    other = set(generate) - _SAMPLING - _MEANINGLESS - {"do_sample", "max_new_tokens"}
    beams = max(generate.get("num_beams") or 1, generate.get("num_return_sequences") or 1)
    if other or beams > 1:
        named = ", ".join(sorted(other)) or "beam search"
        raise ConfigurationError(f"generate_kwargs of the wrapped LLM ask for what we do not do: {named}")
    return fields
