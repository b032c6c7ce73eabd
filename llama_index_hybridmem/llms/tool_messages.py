"""Tool calls in LlamaIndex's messages: which tools are on offer, how calls stand in an answer; knows no model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.llms.llm import ToolSelection

from llama_index_hybridmem.errors import ConfigurationError, GenerationError
from llama_index_hybridmem.llms.tool_calls import ToolCall

_IN_OPENAI_FORM = "tool_calls"  # in additional_kwargs: LlamaIndex's streamed structured output looks nowhere else


def offered(tools: Sequence[Mapping[str, Any]] | None, choice: Any = None) -> list[Mapping[str, Any]]:
    """The tools that a call shows to the model.

    Args:
        tools: OpenAI's specifications of functions.
        choice: OpenAI's ``tool_choice``: "none" shows no tool, a name or ``{"function": {"name": …}}`` that one alone;
            "auto" and "required" show all, since a template cannot require a call.

    Raises:
        ConfigurationError: the choice is no tool on offer.
    """
    known = {tool["function"]["name"]: tool for tool in tools or ()}
    name = choice["function"]["name"] if isinstance(choice, Mapping) and "function" in choice else choice
    if name in (None, "auto", "required", "any"):
        return list(known.values())
    if name == "none":
        return []
    if not isinstance(name, str) or name not in known:
        raise ConfigurationError(f"tool_choice={choice!r} is no tool on offer: {', '.join(known) or 'none'}")
    return [known[name]]


def answer_of(text: str, calls: Sequence[ToolCall] = ()) -> ChatMessage:
    """The assistant's message: its text, and its calls as blocks and in OpenAI's form."""
    message = ChatMessage(role=MessageRole.ASSISTANT, blocks=[TextBlock(text=text)])
    for call in calls:
        block = ToolCallBlock(tool_call_id=call.id, tool_name=call.name, tool_kwargs=call.arguments)
        message.blocks.append(block)
    if calls:
        message.additional_kwargs[_IN_OPENAI_FORM] = [_openai(call) for call in calls]
    return message


def with_one_call(response: ChatResponse) -> ChatResponse:
    """The response with its first call only."""
    further = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)][1:]
    if further:
        response.message.blocks = [block for block in response.message.blocks if block not in further]
        del response.message.additional_kwargs[_IN_OPENAI_FORM][1:]
    return response


def selections_in(response: ChatResponse, required: bool) -> list[ToolSelection]:
    """The calls of a response, for LlamaIndex to make.

    Raises:
        GenerationError: there is none, and one is required.
    """
    calls = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
    if not calls and required:
        raise GenerationError(f"the model called no tool; it said: {(response.message.content or '')[:200]!r}")
    return [
        ToolSelection(tool_id=call.tool_call_id or "", tool_name=call.tool_name, tool_kwargs=call.tool_kwargs)
        for call in calls
        if isinstance(call.tool_kwargs, dict)
    ]


def _openai(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}
    return {"id": call.id, "type": "function", "function": function}
