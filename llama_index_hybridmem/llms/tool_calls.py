"""Reads the tool calls that a model wrote into its answer; knows no model, no tokenizer and no tool.

Models of different families write the same call differently: Qwen and Hermes between ``<tool_call>`` tags, Llama 3 as
a bare object or behind ``<|python_tag|>``, Mistral as a list behind ``[TOOL_CALLS]``, and many in a fenced block. What
is not a whole call of a known tool is text: a model that stumbles must not make its caller stumble.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Template: TypeAlias = "str | Mapping[str, str] | Sequence[Mapping[str, str]]"

# What a call stands behind, by family, and what must follow it there. Tokenizers drop Llama's and Mistral's markers
# as special tokens, so an answer that is nothing but calls needs none; amid other text a bare object is no call.
_FAMILIES = {
    "tagged": (r"<tool_call>", r"\s*(?:</tool_call>|\Z|(?=<tool_call>))"),
    "llama": (r"<\|python_tag\|>", ""),
    "mistral": (r"\[TOOL_CALLS\]", ""),
    "fenced": (r"```json\b", r"\s*(?:```|\Z)"),
    "bare": (r"\A", r"\s*\Z"),
}
_MARKERS = ("<tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "```json")
_OPENERS = re.compile("|".join(f"(?P<{family}>{opener})" for family, (opener, _) in _FAMILIES.items()))
_CLOSERS = {family: re.compile(closer) for family, (_, closer) in _FAMILIES.items()}
_GAP = re.compile(r"\s*(?:[;,]\s*)?(?=[{\[])")  # before a call, or between two
_JSON = json.JSONDecoder(strict=False)  # models break lines within strings

_STRING = r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\""
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_EXPRESSION = re.compile(rf"\{{[{{%](?:{_STRING}|(?![%}}]\}})[^'\"])*[%}}]\}}", re.DOTALL)
_TOOLS = re.compile(rf"{_STRING}|(?<![\w.])(?P<tools>tools)\b", re.DOTALL)


@dataclass(frozen=True)
class ToolCall:
    """A tool that the model wants called.

    Attributes:
        id: what the tool's answer refers to; unlike that of every other call in the same answer.
        name: one of the tools on offer.
        arguments: by name; plain JSON.
    """

    id: str
    name: str
    arguments: dict[str, Any]


def parse_tool_calls(text: str, names: Collection[str]) -> tuple[str, list[ToolCall]]:
    """Takes the tool calls out of an answer; never raises.

    Args:
        text: what the model wrote, special tokens left out or not.
        names: of the tools on offer; a call of another one stays text.

    Returns:
        The text around the calls, unchanged where there are none, and the calls in their order. A call without an id
        of its own gets one from its place in the answer: ``"call00000"``, ``"call00001"``, …
    """
    found: list[ToolCall] = []
    around, end = [], 0
    for opener in _OPENERS.finditer(text):
        if opener.start() < end:
            continue  # it stands within a call that has been read
        calls, after = _read(text, opener.end(), _CLOSERS[str(opener.lastgroup)], names)
        if calls:
            around.append(text[end : opener.start()])
            found += calls
            end = after
    if not found:
        return text, []
    return "".join([*around, text[end:]]).strip(), _told_apart(found)


def before_calls(text: str) -> str:
    """What of an unfinished answer is surely no tool call: for a stream, whose readers should not see one.

    Args:
        text: the answer so far.

    Returns:
        The text before the first thing that begins, or may begin, a call; nothing of an answer that begins as an object
        or a list.
    """
    if text.lstrip()[:1] in ("{", "["):
        return ""
    found = [place for marker in _MARKERS if (place := text.find(marker)) >= 0]
    if found:
        return text[: min(found)]
    longest = max(map(len, _MARKERS))
    for length in range(min(longest, len(text)), 0, -1):
        if any(marker.startswith(text[-length:]) for marker in _MARKERS):
            return text[:-length]
    return text


def takes_tools(chat_template: Template | None) -> bool:
    """Whether a chat template shows tools to the model.

    Args:
        chat_template: Jinja source, or several by name (``{"default": …, "tool_use": …}``, or the list of
            ``{"name": …, "template": …}`` that it is written as in files), of which transformers takes ``tool_use``
            for a chat with tools.

    Returns:
        Whether it reads the variable ``tools`` (not a string or an attribute of that name).
    """
    if not chat_template:
        return False
    if isinstance(chat_template, str):
        tags = _EXPRESSION.findall(_COMMENT.sub("", chat_template))
        return any(word["tools"] for tag in tags for word in _TOOLS.finditer(tag))
    if not isinstance(chat_template, Mapping):
        chat_template = {one["name"]: one["template"] for one in chat_template}
    return takes_tools(chat_template.get("tool_use") or chat_template.get("default"))


def _read(text: str, start: int, closer: re.Pattern[str], names: Collection[str]) -> tuple[list[ToolCall], int]:
    """The calls from `start` on and where they end; none where what must close them is missing."""
    found: list[ToolCall] = []
    while gap := _GAP.match(text, start):
        try:
            value, after = _JSON.raw_decode(text, gap.end())
        except (ValueError, RecursionError):
            break
        calls = _calls(value, names)
        if not calls:
            break
        found += calls
        start = after
    closed = closer.match(text, start)
    return (found, closed.end()) if closed else ([], start)


def _calls(value: Any, names: Collection[str]) -> list[ToolCall]:
    """One call or a list of them; none if any is not one, since half a list is not what the model meant."""
    calls = [_call(one, names) for one in (value if isinstance(value, list) else [value])]
    whole = [call for call in calls if call is not None]
    return whole if len(whole) == len(calls) else []


def _call(value: Any, names: Collection[str]) -> ToolCall | None:
    if not isinstance(value, dict):
        return None
    name, given = value.get("name"), value.get("id")
    arguments = _arguments(value.get("arguments", value.get("parameters")))
    if not isinstance(name, str) or name not in names or arguments is None:
        return None
    return ToolCall(given if isinstance(given, str) and _is_plain(given) else "", name, arguments)


def _arguments(value: Any) -> dict[str, Any] | None:
    """An object, or the object that a string spells."""
    if isinstance(value, str):
        try:
            value = _JSON.decode(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) and _is_plain(value) else None


def _is_plain(value: Any) -> bool:
    """Whether it can be written as JSON again: no NaN, no infinity, no half of a character."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


def _told_apart(calls: list[ToolCall]) -> list[ToolCall]:
    """The calls with an id each; nine letters and digits, as the templates of Mistral demand."""
    given = {call.id for call in calls}
    free = (name for number in range(2 * len(calls)) if (name := f"call{number:05}") not in given)
    taken: set[str] = set()
    named = []
    for call in calls:
        name = call.id if call.id and call.id not in taken else next(free)
        taken.add(name)
        named.append(ToolCall(name, call.name, call.arguments))
    return named
