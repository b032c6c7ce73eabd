"""Token counts of one model call, read from wherever an integration puts them; pure, knows no prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

Source = Literal["reported", "extracted", "estimated"]
"""Who counted: the provider, we from what the model returned, or we from the text."""

BYTES_A_TOKEN = 4
"""Of UTF-8; see `estimate_tokens`."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call.

    Attributes:
        input: all tokens of the prompt, cached ones included.
        output: all tokens written, reasoning included.
        cached_read: of the input, those read from the provider's cache.
        cached_write: of the input, those written to it.
        reasoning: of the output, those not shown.
        source: who counted.
    """

    input: int
    output: int
    cached_read: int = 0
    cached_write: int = 0
    reasoning: int = 0
    source: Source = "reported"


class _Dialect(NamedTuple):
    """What one kind of API calls its counts; a dot leads into a nested object.

    Attributes:
        input: names whose counts add up to all tokens of the prompt; the first is always there.
        output: names whose counts add up to all tokens written; one is always there.
        cached_read: of the input.
        cached_write: of the input.
        reasoning: of the output.
        marks: one of these is there, too; they tell it from a dialect further down that has the same first name.
    """

    input: tuple[str, ...]
    output: tuple[str, ...]
    cached_read: str = ""
    cached_write: str = ""
    reasoning: str = ""
    marks: tuple[str, ...] = ()

    def read(self, usage: object) -> Usage | None:
        """The counts of a usage object; None when it speaks another dialect or has only zeros."""
        if _count(usage, self.input[0]) is None or (self.marks and not _counts(usage, self.marks)):
            return None
        inputs, outputs = _counts(usage, self.input), _counts(usage, self.output)
        parts = (_count(usage, name) or 0 for name in (self.cached_read, self.cached_write, self.reasoning))
        cached_read, cached_write, reasoning = parts
        if not outputs or not any(inputs + outputs):
            return None
        return Usage(
            input=_whole(sum(inputs), cached_read + cached_write),
            output=_whole(sum(outputs), reasoning),
            cached_read=cached_read,
            cached_write=cached_write,
            reasoning=reasoning,
        )


_CACHE = ("cache_read_input_tokens", "cache_creation_input_tokens")
_THINKING = "output_tokens_details.thinking_tokens"
_DIALECTS = (
    _Dialect(  # LiteLLM, before a model that writes to a cache: LiteLLM has added the cache to the prompt
        ("prompt_tokens",),
        ("completion_tokens",),
        "prompt_tokens_details.cached_tokens",
        "cache_creation_input_tokens",
        "completion_tokens_details.reasoning_tokens",
        marks=("cache_creation_input_tokens",),
    ),
    _Dialect(  # OpenAI's chat and completions, and who speaks like it: Mistral, Groq, vLLM, our own models
        ("prompt_tokens",),
        ("completion_tokens",),
        "prompt_tokens_details.cached_tokens",
        "prompt_tokens_details.cache_write_tokens",
        "completion_tokens_details.reasoning_tokens",
    ),
    # Anthropic counts the cache beside the input
    _Dialect(("input_tokens", *_CACHE), ("output_tokens",), *_CACHE, _THINKING, marks=(*_CACHE, _THINKING)),
    _Dialect(  # OpenAI's responses; Cohere, and Anthropic without a cache, in as far as they go
        ("input_tokens",),
        ("output_tokens",),
        "input_tokens_details.cached_tokens",
        "input_tokens_details.cache_write_tokens",
        "output_tokens_details.reasoning_tokens",
    ),
    _Dialect(  # Bedrock's Converse counts the cache beside the input, too
        ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"),
        ("outputTokens",),
        "cacheReadInputTokens",
        "cacheWriteInputTokens",
    ),
    _Dialect(  # Google counts thoughts beside the answer, and what its own tools read beside the prompt
        ("prompt_token_count", "tool_use_prompt_token_count"),
        ("candidates_token_count", "thoughts_token_count"),
        "cached_content_token_count",
        reasoning="thoughts_token_count",
    ),
    _Dialect(("prompt_eval_count",), ("eval_count",)),  # Ollama
)

_PLACES = (
    "usage",
    "response.usage",  # an event of OpenAI's responses
    "usage_metadata",  # Google
    "metadata.usage",  # a chunk of Bedrock's Converse
    "data.usage",  # an event of Mistral
    "x_groq.usage",  # the last chunk of Groq
    "meta.billed_units",  # Cohere; what it bills comes before what it counted
    "response.meta.billed_units",
    "meta.tokens",
    "",  # the object itself: Ollama, and where an integration spreads the counts over `additional_kwargs`
)


def read_usage(raw: object, additional_kwargs: Mapping[str, object] | None) -> Usage | None:
    """Read what a provider reports.

    Whether a provider counts cached tokens in the input or beside it, here they are in it; likewise reasoning in the
    output. A part that is larger than its whole was counted beside it, too, and is added. What a stream reported before
    it broke off counts as reported, though its output is then too small.

    Args:
        raw: `raw` of a LlamaIndex response; of a stream, of its last one. Anything else is fine.
        additional_kwargs: of the response and of its message, together.

    Returns:
        The counts; None when there are none, or only zeros, as in the chunks of a stream before its last.
    """
    found = (_read(_dig(holder, place)) for holder, place in product((raw, additional_kwargs), _PLACES))
    return next((usage for usage in found if usage is not None), None)


def tensor_usage(raw: object, prompt_tokens: int) -> Usage | None:
    """Count what LlamaIndex's `HuggingFaceLLM` wrote: its `raw` is the prompt's tokens and the answer's, in one tensor.

    Args:
        raw: `raw` of its response, ``{"model_output": tensor}``.
        prompt_tokens: how many of them were the prompt's.

    Returns:
        The counts; None when that is no such tensor, or one shorter than the prompt.
    """
    shape = _dig(raw, "model_output.shape")
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[0] != 1:
        return None
    whole, prompt = _whole_number(shape[1]), _whole_number(prompt_tokens)
    if not whole or prompt is None or whole < prompt:
        return None
    return Usage(input=prompt, output=whole - prompt, source="extracted")


def estimate_tokens(text: str) -> int:
    """Estimate a text's tokens without a tokenizer: a quarter of its bytes in UTF-8, rounded up.

    English has one byte a character and about four characters a token. Scripts with three bytes a character, such as
    Chinese and Japanese, come out near one token a character, about what tokenizers make of them; a quarter of the
    characters would be three times lower.
    """
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_A_TOKEN)


def _read(usage: object) -> Usage | None:
    if usage is None:
        return None
    return next((read for dialect in _DIALECTS if (read := dialect.read(usage)) is not None), None)


def _whole(whole: int, part: int) -> int:
    return whole if part <= whole else whole + part


def _counts(usage: object, names: tuple[str, ...]) -> list[int]:
    return [count for name in names if (count := _count(usage, name)) is not None]


def _count(usage: object, name: str) -> int | None:
    return _whole_number(_dig(usage, name)) if name else None


def _whole_number(value: object) -> int | None:
    """A count as it should be; Cohere's client gives whole numbers as floats."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _dig(source: object, path: str) -> object:
    for name in path.split(".") if path else ():
        source = _field(source, name)
    return source


def _field(source: object, name: str) -> object:
    try:
        return source.get(name) if isinstance(source, (dict, Mapping)) else getattr(source, name, None)
    except Exception:  # noqa: BLE001 - of a foreign object: what cannot be read is not reported
        return None
