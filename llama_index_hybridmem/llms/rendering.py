"""Turns LlamaIndex messages into the token ids that a model reads, with a transformers tokenizer; knows no model.

A chat goes through the tokenizer's chat template once, which writes the start token itself; without a template it
becomes ``role: content`` lines. Templates differ in what they refuse: a system turn (Gemma) or several tool calls in
one turn (Llama 3) are put in another form where the template does not take them as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.llms.tool_calls import takes_tools

if TYPE_CHECKING:
    from llama_index.core.base.llms.types import ChatMessage
    from llama_index.core.tools import BaseTool

Turn: TypeAlias = dict[str, Any]

# the names that templates know for LlamaIndex's other roles
_ROLES = {"developer": "system", "chatbot": "assistant", "model": "assistant", "function": "tool"}
_SILENT = {"tool_call", "thinking", "cache"}  # blocks without words for the model


def render(
    tokenizer: Any,
    messages: Sequence[ChatMessage],
    tools: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = True,
    chat_template: str | None = None,
) -> list[int]:
    """A chat's token ids.

    Args:
        tokenizer: of transformers.
        messages: the chat; a completion is a chat of one user's message.
        tools: what `tool_specs` gives, None or empty for none.
        add_generation_prompt: whether the assistant's turn begins at the end, so that the model writes it.
        chat_template: Jinja source, or the name of one of the tokenizer's templates; None takes the tokenizer's own.

    Raises:
        ConfigurationError: the template fails, or takes no tools though there are some; a message holds more than
            text.
    """
    said = turns(messages)
    if chat_template or getattr(tokenizer, "chat_template", None):
        return _templated(tokenizer, said, [dict(tool) for tool in tools or ()], add_generation_prompt, chat_template)
    if tools:
        raise ConfigurationError(f"{_name(tokenizer)} has no chat template to show tools with")
    lines = [f"{turn['role']}: {_with_calls(turn)}" for turn in said]
    return encode(tokenizer, "\n".join([*lines, "assistant:"] if add_generation_prompt else lines))


def encode(tokenizer: Any, text: str) -> list[int]:
    """A verbatim text's token ids, to be continued by a model.

    The start token stands in front once where the text has it or the tokenizer adds it; an end token that the
    tokenizer adds is left out, since nothing can be continued behind it.

    Args:
        tokenizer: of transformers.
        text: as the model is to read it.
    """
    ids = list(tokenizer(text, verbose=False)["input_ids"])
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    while start is not None and ids[:2] == [start, start]:
        del ids[0]
    if end is not None and ids[1:][-1:] == [end] and not text.endswith(tokenizer.eos_token):
        del ids[-1]
    return ids


def turns(messages: Sequence[ChatMessage]) -> list[Turn]:
    """What `apply_chat_template` takes.

    Args:
        messages: with text, tool calls (as blocks, or OpenAI's in ``additional_kwargs["tool_calls"]``) and tools'
            answers (role ``tool``).

    Returns:
        One turn per message: ``role``, ``content`` (text), ``tool_calls`` where there are some, each with
        ``function`` (``name`` and ``arguments``, a dict) and an ``id`` if it has one, and with a tool's answer
        ``name`` and ``tool_call_id`` as far as they are known.

    Raises:
        ConfigurationError: a message holds an image, sound or a file, or a tool call that is not in OpenAI's form.
    """
    called: dict[Any, str] = {}
    return [_turn(message, called) for message in messages]


def tool_specs(tools: Sequence[BaseTool]) -> list[dict[str, Any]]:
    """Tools as templates take them: OpenAI's JSON schema of a function, under the tool's own name.

    Args:
        tools: of LlamaIndex.
    """
    specs = []
    for tool in tools:
        spec = tool.metadata.to_openai_tool(skip_length_check=True)  # the limit is OpenAI's, and so are its names
        specs.append({**spec, "function": {**spec["function"], "name": tool.metadata.get_name()}})
    return specs


def _turn(message: ChatMessage, called: dict[Any, str]) -> Turn:
    """One message; `called` gathers the names of the tools called so far, by the calls' ids."""
    role = _ROLES.get(message.role.value, message.role.value)
    turn: Turn = {"role": role, "content": "\n".join(_texts(message.blocks))}
    if calls := _calls(message):
        called.update({call["id"]: call["function"]["name"] for call in calls if "id" in call})
        turn["tool_calls"] = calls
    if role == "tool":
        identifier = message.additional_kwargs.get("tool_call_id")
        name = message.additional_kwargs.get("name") or called.get(identifier)
        known = {"name": name, "tool_call_id": identifier}
        turn.update({key: value for key, value in known.items() if value is not None})
    return turn


def _texts(blocks: Iterable[Any]) -> Iterator[str]:
    for block in blocks:
        if block.block_type == "text":
            yield block.text
        elif block.block_type in {"citable", "citation"}:
            yield from _texts(block.content if block.block_type == "citable" else [block.cited_content])
        elif block.block_type not in _SILENT:
            raise ConfigurationError(f"the model reads text only, and a message holds a block of {block.block_type}")


def _calls(message: ChatMessage) -> list[dict[str, Any]]:
    """The calls in a message, from its blocks or as OpenAI's, of which some messages have both."""
    blocks: list[Any] = [block for block in message.blocks if block.block_type == "tool_call"]
    if blocks:
        return [_call(block.tool_call_id, block.tool_name, block.tool_kwargs) for block in blocks]
    calls = []
    for call in message.additional_kwargs.get("tool_calls") or ():
        body = call if isinstance(call, Mapping) else call.model_dump()
        try:
            calls.append(_call(body.get("id"), body["function"]["name"], body["function"]["arguments"]))
        except (KeyError, TypeError) as error:
            raise ConfigurationError(f"a tool call in a message is not in OpenAI's form: {body}") from error
    return calls


def _call(identifier: str | None, name: str, arguments: Any) -> dict[str, Any]:
    if isinstance(arguments, str):
        arguments = _read(arguments)
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return call if identifier is None else {"id": identifier, **call}


def _read(arguments: str) -> Any:
    """The object that a text spells; another model's text that spells none is shown as it stands."""
    try:
        value = json.loads(arguments or "{}")
    except ValueError:
        return arguments
    return value if isinstance(value, dict) else arguments


def _with_calls(turn: Turn) -> str:
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in turn.get("tool_calls", [])]
    return "\n".join([turn["content"], *calls] if turn["content"] else calls)


def _templated(
    tokenizer: Any, said: list[Turn], tools: list[dict[str, Any]], add_generation_prompt: bool, template: str | None
) -> list[int]:
    """Through the template, in the first form of the chat that it takes."""
    from jinja2 import TemplateError

    problems: list[Exception] = []
    try:
        template = tokenizer.get_chat_template(template, tools or None)
    except ValueError as error:
        raise ConfigurationError(f"{_name(tokenizer)} has no chat template to take: {error}") from error
    if tools and not takes_tools(template):
        raise ConfigurationError(f"the chat template of {_name(tokenizer)} takes no tools")
    options = {"add_generation_prompt": add_generation_prompt, "tokenizer_kwargs": {"verbose": False}}
    for form in _forms(said):
        try:
            ids = tokenizer.apply_chat_template(
                form, tools=tools or None, chat_template=template, tokenize=True, return_dict=False, **options
            )
            return list(ids)
        # a template is a program that somebody wrote: it fails as programs do
        except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            problems.append(error)
    reasons = "; ".join(dict.fromkeys(str(problem) for problem in problems))
    raise ConfigurationError(f"the chat template of {_name(tokenizer)} failed: {reasons}") from problems[0]


def _forms(said: list[Turn]) -> list[list[Turn]]:
    """The chat as it is, then without what some templates refuse."""
    forms = [said]
    for form in (_folded(said), _one_by_one(said), _one_by_one(_folded(said))):
        if form not in forms:
            forms.append(form)
    return forms


def _folded(said: list[Turn]) -> list[Turn]:
    """With the system's text at the head of the first user's turn, as Gemma's makers advise."""
    system = [turn["content"] for turn in said if turn["role"] == "system"]
    rest = [turn for turn in said if turn["role"] != "system"]
    if not system:
        return said
    place = next((number for number, turn in enumerate(rest) if turn["role"] == "user"), None)
    if place is None:
        return [{"role": "user", "content": "\n\n".join(system)}, *rest]
    user = {**rest[place], "content": "\n\n".join([*system, rest[place]["content"]])}
    return [*rest[:place], user, *rest[place + 1 :]]


def _one_by_one(said: list[Turn]) -> list[Turn]:
    """With every tool call in a turn of its own, and its tool's answer behind it."""
    told: list[Turn] = []
    for turn in said:
        calls = turn.get("tool_calls", [])
        if len(calls) > 1:
            told += [{**turn, "content": "", "tool_calls": [call]} for call in calls]
            told[-len(calls)]["content"] = turn["content"]
        else:
            told.insert(_place(told, turn), turn)
    return told


def _place(told: list[Turn], turn: Turn) -> int:
    """Behind the call that a tool's turn answers, else at the end."""
    asked = turn.get("tool_call_id")
    for place in range(len(told), 0, -1) if asked is not None else ():
        if any(call.get("id") == asked for call in told[place - 1].get("tool_calls", [])):
            return place
    return len(told)


def _name(tokenizer: Any) -> str:
    return str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
