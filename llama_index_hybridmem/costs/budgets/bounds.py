"""How many tokens a call may use at most, and how many it did; knows no prices and no limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from llama_index_hybridmem.costs.tokens.counting import by_bytes, reported_usage
from llama_index_hybridmem.costs.tokens.usage import Usage, tensor_usage
from llama_index_hybridmem.costs.tracking.running import Call

FRAME = 16
"""Tokens that a template puts around a message or a part of one, at most; Llama 3 and ChatML take 5."""

PROMPT_FRAME = 128
"""Tokens around the whole prompt: beginning of text, opening of the answer, a template's own system message."""

TOOLS_FRAME = 1024
"""Tokens with which a provider explains tools to a model; Anthropic names up to 530 ("Tool use pricing", 2024)."""

_LIMITS = (
    "max_tokens",
    "max_new_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens_to_sample",
    "num_predict",
)
"""What integrations call the most tokens of an answer."""

_FURTHER = ("additional_kwargs", "generate_kwargs", "model_kwargs", "generation_config")
"""Fields of an LLM with further arguments of every call."""

_SENT_ALONG = ("system_prompt", "instructions", "additional_kwargs")
"""Fields of an LLM that some integrations send with every prompt."""

_MEDIA = ("image", "audio", "video", "document")


def most_input(llm: Any, prompt: Any, options: Mapping[str, Any], media_tokens: int | None) -> int | None:
    """Bound the tokens of a prompt from above, without a tokenizer.

    A token of a byte-level tokenizer stands for one byte of UTF-8 or more, so bytes bound tokens; frames come on top.
    Tools and other arguments of the call count as they print.

    Args:
        llm: the model.
        prompt: a text, or chat messages.
        options: keyword arguments of the call.
        media_tokens: of an image, a sound, a video or a document in a message, at most.

    Returns:
        None when there is one and `media_tokens` is not given: nothing here bounds it.
    """
    if isinstance(prompt, str):
        sizes: Iterator[int | None] = iter([_bytes(prompt)])
    else:
        sizes = (size for message in prompt or () for size in _message(message, media_tokens))
    whole = PROMPT_FRAME + (TOOLS_FRAME if options.get("tools") else 0)
    for size in sizes:
        if size is None:
            return None
        whole += size
    whole += sum(_printed(value) for name, value in options.items() if name != "prompt" and value is not None)
    return whole + sum(_printed(value) for name in _SENT_ALONG if (value := getattr(llm, name, None)))


def most_output(llm: Any, options: Mapping[str, Any], otherwise: int | None) -> int | None:
    """Bound the tokens of an answer from above, by what the call says, or else the LLM.

    An LLM with `max_new_tokens` writes on a machine of one's own; LlamaIndex's integrations of that kind do not look
    at the call's arguments, so the larger limit counts there. An adapter of ours may have a limit of its own, which
    `metadata.num_output` tells.

    Args:
        llm: the model.
        options: keyword arguments of the call.
        otherwise: where neither says.
    """
    asked, own = list(_numbers(options, _LIMITS)), _own_limits(llm)
    if asked and hasattr(llm, "max_new_tokens"):
        asked += own
    most = max(asked or own, default=otherwise)
    answers = max([1, *_numbers(options, ["n"]), *_numbers(getattr(llm, "additional_kwargs", None), ["n"])])
    return None if most is None else most * answers


def used(call: Call) -> Usage | None:
    """Count the tokens of a call that has ended: as read, as reported, or estimated from the texts.

    What a stream reported before it broke off knows little of its output, so at least its text counts.

    Returns:
        None when nothing came.
    """
    if call.last is None:
        return call.usage  # type: ignore[no-any-return]
    reported = reported_usage(call.last)
    if reported is not None and call.status == "ok":
        return reported
    estimated = by_bytes(call)
    if reported is not None:
        return replace(reported, output=max(reported.output, estimated.output))
    return tensor_usage(getattr(call.last, "raw", None), estimated.input) or estimated


def goes_on(call: Call) -> bool:
    """Whether a call that counts as ended may still use tokens: the tracker was taken off, or short of room."""
    if call.status not in ("abandoned", "never_consumed"):
        return False
    if not call.streamed:
        return True
    stream = call.watch() if call.watch is not None else None
    return stream is not None and not (getattr(stream, "gi_running", False) or getattr(stream, "ag_running", False))


def real_calls(call: Call) -> list[Call]:
    """The calls inside a call that reached a model; itself, where none did."""
    if not call.wraps:
        return [call]
    return [each for each in call.query.calls if not each.wraps and _is_inside(each, call)] or [call]


def _is_inside(call: Call, outer: Call) -> bool:
    around = call.outer
    while around is not None and around is not outer:
        around = around.outer
    return around is outer


def _own_limits(llm: Any) -> list[int]:
    found = list(_numbers({name: getattr(llm, name, None) for name in _LIMITS}, _LIMITS))
    for name in _FURTHER:
        found += _numbers(getattr(llm, name, None), _LIMITS)
    return [*found, llm.metadata.num_output] if found else []


def _numbers(holder: Any, names: Iterable[str]) -> Iterator[int]:
    if isinstance(holder, Mapping):
        yield from (holder[name] for name in names if _is_count(holder.get(name)))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _message(message: Any, media_tokens: int | None) -> Iterator[int | None]:
    yield FRAME + (_printed(message.additional_kwargs) if message.additional_kwargs else 0)
    for block in message.blocks:
        yield from _block(block, media_tokens)


def _block(block: Any, media_tokens: int | None) -> Iterator[int | None]:
    if block.block_type in _MEDIA:
        yield None if media_tokens is None else FRAME + media_tokens
    elif block.block_type == "text":
        yield FRAME + _bytes(block.text)
    elif block.block_type in ("citable", "citation"):
        yield FRAME + _bytes(block.title) + _bytes(block.source)
        for inner in block.nested_blocks:
            yield from _block(inner, media_tokens)
    else:
        yield FRAME + _printed(block)


def _printed(value: Any) -> int:
    schema = getattr(value, "model_json_schema", None) if isinstance(value, type) else None
    return _bytes(repr(value if schema is None else schema()))


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
