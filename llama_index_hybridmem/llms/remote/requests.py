"""What goes into a request to a model server, and what its answer is given; knows no HTTP and no adapters' files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from llama_index.core.base.llms.generic_utils import messages_to_prompt as generic_messages_to_prompt
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, MessageRole
from llama_index.core.llms.llm import default_completion_to_prompt

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.llms.prompting import continued, in_template, with_system

if TYPE_CHECKING:
    from llama_index.core.llms.llm import LLM

    from llama_index_hybridmem.llms.adapters.version import AdapterVersion

R = TypeVar("R", ChatResponse, CompletionResponse)

_LOGPROBS = {"logprobs", "top_logprobs"}
_COPYING = {"copy_from", "copy_also", "copy_unit"}
_RENAMED = {"max_new_tokens": "max_tokens", "max_completion_tokens": "max_tokens", "stop_ids": "stop_token_ids"}
# What the servers understand and the OpenAI client does not: goes into the body as it is.
_IN_BODY = set(
    "top_k min_p repetition_penalty min_tokens ignore_eos stop_token_ids skip_special_tokens lora "
    "chat_template_kwargs".split()
)


@dataclass(frozen=True)
class Question:
    """What was called.

    Attributes:
        prompt: a user's text, or a chat.
        formatted: whether the text is a whole prompt already, to which nothing is added.
        options: of the call.
        chats: whether it goes to ``/chat/completions``.
    """

    prompt: str | Sequence[ChatMessage]
    formatted: bool
    options: Mapping[str, Any]
    chats: bool


@dataclass(frozen=True)
class Prompt:
    """What is sent.

    Attributes:
        content: a chat, or a text for ``/completions``.
        options: as the OpenAI client takes them.
    """

    content: Sequence[ChatMessage] | str
    options: dict[str, Any]


def request_options(layers: Sequence[Mapping[str, Any]], chat: bool) -> dict[str, Any]:
    """One call's options as the OpenAI client takes them.

    Args:
        layers: options by what they beat: a later layer beats an earlier one, and what is None in it does not count.
            In the words of OpenAI's API or of `LoraHuggingFaceLLM`.
        chat: whether it goes to ``/chat/completions``.

    Raises:
        ConfigurationError: the answer is to be copied from texts, which no server does.
    """
    _refuse_copying(layers)
    merged: dict[str, Any] = {}
    body: dict[str, Any] = {}
    for layer in layers:
        body |= layer.get("extra_body") or {}
        for key, value in layer.items():
            if value is not None and key != "extra_body":
                merged[_RENAMED.get(key, key)] = _plain(value)
    options = {key: value for key, value in merged.items() if key not in _IN_BODY | _LOGPROBS | _COPYING}
    body |= {key: value for key, value in merged.items() if key in _IN_BODY}
    return options | _logprob_options(merged, chat) | ({"extra_body": body} if body else {})


def _refuse_copying(layers: Sequence[Mapping[str, Any]]) -> None:
    asked = [layer["copy_from"] for layer in layers if layer.get("copy_from") is not None]
    if asked and asked[-1] != "off":
        raise ConfigurationError(
            "copy_from masks the logits of every token, which a model server does not let us do: use "
            'LoraHuggingFaceLLM, or give copy_from="off" and look at the answer with check_citations'
        )


def composed(
    llm: LLM, question: Question, layers: Sequence[Mapping[str, Any]], version: AdapterVersion | None
) -> Prompt:
    """A call as one adapter gets it: its template, its system prompt, its defaults.

    Args:
        llm: knows how a chat is written into a text, and has a system prompt where call and adapter have none.
        question: what was called.
        layers: options of every call, see `request_options`.
        version: the adapter; None for the base model, or where nothing is known of it.
    """
    given = dict(question.options)
    system = given.pop("system_prompt", None) or (version.system_prompt if version else None)
    template = version.prompt_template if version else None
    options = request_options([*layers, version.defaults if version else {}, given], question.chats)
    return Prompt(_content(llm, question, template, system), options)


def _content(llm: LLM, question: Question, template: str | None, system: str | None) -> Sequence[ChatMessage] | str:
    prompt = question.prompt
    if isinstance(prompt, str):
        if not question.chats:
            return _text(llm, prompt, question.formatted, template, system)
        if question.formatted:
            return [ChatMessage(content=prompt)]
        prompt = [ChatMessage(content=_wrapped(llm, prompt))]
    messages = in_template(with_system(prompt, system or llm.system_prompt, llm.system_prompt), template)
    return messages if question.chats else str((llm.messages_to_prompt or generic_messages_to_prompt)(messages))


def _text(llm: LLM, prompt: str, formatted: bool, template: str | None, system: str | None) -> str:
    """A text to be continued. LlamaIndex sends its own prompts so, as formatted, under the LLM's system prompt."""
    wording = llm.completion_to_prompt or default_completion_to_prompt
    if wording is default_completion_to_prompt:
        if not formatted:
            return continued(_wrapped(llm, prompt), system or llm.system_prompt, template)
        return continued(prompt.removeprefix(f"{llm.system_prompt}\n\n") if system else prompt, system, template)
    if formatted:
        return prompt
    return continued(wording(continued(_wrapped(llm, prompt), None, template)), system or llm.system_prompt, None)


def _wrapped(llm: LLM, prompt: str) -> str:
    return prompt if llm.query_wrapper_prompt is None else llm.query_wrapper_prompt.format(query_str=prompt)


def signed(response: R, note: Mapping[str, Any] | None) -> R:
    """The same response, which says in ``additional_kwargs["adapter"]`` who answered; log-probs from ``raw``."""
    response.additional_kwargs["adapter"] = None if note is None else dict(note)
    if response.logprobs is None:
        response.logprobs = _logprobs(response.raw)
    return response


def as_completion(response: ChatResponse | CompletionResponse) -> CompletionResponse:
    """A chat's answer as a completion, with everything that it carries."""
    if isinstance(response, CompletionResponse):
        return response
    return CompletionResponse(
        text=response.message.content or "",
        delta=response.delta,
        raw=response.raw,
        logprobs=response.logprobs,
        additional_kwargs=response.additional_kwargs,
    )


def as_chat(response: ChatResponse | CompletionResponse) -> ChatResponse:
    """A completion as a chat's answer, with everything that it carries."""
    if isinstance(response, ChatResponse):
        return response
    return ChatResponse(
        message=ChatMessage(role=MessageRole.ASSISTANT, content=response.text),
        delta=response.delta,
        raw=response.raw,
        logprobs=response.logprobs,
        additional_kwargs=response.additional_kwargs,
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | set | frozenset) else value


def _logprob_options(merged: Mapping[str, Any], chat: bool) -> dict[str, Any]:
    """`logprobs` is a switch for chats and a count for completions; a call may speak either way of both."""
    asked, top = merged.get("logprobs"), merged.get("top_logprobs")
    if asked is False or not (asked or top):
        return {}
    count = top or (0 if asked is True else asked)
    if not isinstance(count, int):
        raise ConfigurationError(f"top_logprobs is a whole number, not {count!r}")
    return {"logprobs": True, "top_logprobs": count} if chat else {"logprobs": max(1, count)}


def _logprobs(raw: Any) -> Any:
    from llama_index.llms.openai.utils import from_openai_completion_logprobs, from_openai_token_logprobs

    choices = getattr(raw, "choices", None)
    found = getattr(choices[0], "logprobs", None) if choices else None
    if found is None:
        return None
    if getattr(found, "content", None):
        return from_openai_token_logprobs(found.content)
    return from_openai_completion_logprobs(found) if getattr(found, "top_logprobs", None) else None
