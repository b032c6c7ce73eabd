"""What is said to a model before it is tokens: system prompt, an adapter's template, what to do when it is too long.

Knows no tokenizer and no engine.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llama_index_hybridmem.errors import ConfigurationError, ContextOverflowError

logger = logging.getLogger(__name__)

Overflow = Literal["raise", "middle", "start"]


def with_system(
    messages: Sequence[ChatMessage], system: str | None, instead_of: str | None = None
) -> list[ChatMessage]:
    """Messages under a system prompt, in one system turn; one that has it already is left as it is.

    Args:
        messages: the chat.
        system: None or empty for none.
        instead_of: a system turn of just this text makes room for it: LlamaIndex puts the LLM's own there itself.
    """
    if not system:
        return list(messages)
    first = messages[0] if messages and messages[0].role is MessageRole.SYSTEM else None
    if first is not None and first.content == instead_of:
        first, messages = None, messages[1:]
    if first is None:
        return [ChatMessage(role=MessageRole.SYSTEM, content=system), *messages]
    said = first.content or ""
    both = said if system in said else f"{system}\n\n{said}"
    return [ChatMessage(role=MessageRole.SYSTEM, content=both), *messages[1:]]


def continued(text: str, system: str | None, template: str | None) -> str:
    """A text that is continued rather than answered, in a template and under a system prompt, unless it has them."""
    head = f"{system}\n\n" if system else ""
    text = text.removeprefix(head)
    start, _, end = (template or "{prompt}").partition("{prompt}")
    if not (text.startswith(start) and text.endswith(end)):
        text = f"{start}{text}{end}"
    return text if system and system in text else head + text


def in_template(messages: Sequence[ChatMessage], template: str | None) -> list[ChatMessage]:
    """Messages with the user's last text put into a template, where ``{prompt}`` stands."""
    last = next((place for place in reversed(range(len(messages))) if messages[place].role is MessageRole.USER), None)
    if template is None or last is None:
        return list(messages)
    text = template.replace("{prompt}", messages[last].content or "")
    return [*messages[:last], ChatMessage(role=MessageRole.USER, content=text), *messages[last + 1 :]]


def last_said(prompt: str | Sequence[ChatMessage]) -> str:
    """A text as it is, or the last text of a chat's user; "" where it has none."""
    if isinstance(prompt, str):
        return prompt
    return next((each.content or "" for each in reversed(prompt) if each.role is MessageRole.USER), "")


def fitted(ids: list[int], new_tokens: int, window: int, overflow: Overflow, kept: int = 0) -> list[int]:
    """Token ids that leave room for the answer.

    Args:
        ids: the prompt.
        new_tokens: kept for the answer.
        window: tokens that the model reads and writes together.
        overflow: "raise"; "middle" cuts the middle out (instructions stand at the start, questions at the end);
            "start" keeps the end.
        kept: tokens at the start that are not cut, a start token.

    Raises:
        ContextOverflowError: the prompt is too long, and is not to be cut.
        ConfigurationError: the answer alone fills the window.
    """
    room = window - new_tokens
    if room < 1:
        raise ConfigurationError(f"max_new_tokens={new_tokens} leaves no room for a prompt in {window} tokens")
    if len(ids) <= room:
        return ids
    if overflow == "raise":
        raise ContextOverflowError(len(ids), new_tokens, window)
    logger.warning("a prompt of %d tokens lost its %s: %d fit beside the answer", len(ids), overflow, room)
    head = max(room // 4, kept) if overflow == "middle" else kept
    return ids[:head] + ids[len(ids) - (room - head) :]
