"""Tool calls in an answer: every family's way of writing them, whatever else the model writes, and which templates."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index_hybridmem.llms.tool_calls import ToolCall, parse_tool_calls, takes_tools

NAMES = ["weather", "add"]
PARIS = {"city": "Paris", "days": [1, 2], "why": 'for "fun" }</tool_call>'}
CALL = ToolCall("call00000", "weather", PARIS)

FAMILIES = {
    "hermes": lambda calls: "\n".join(f"<tool_call>\n{written(call)}\n</tool_call>" for call in calls),
    "llama": lambda calls: "; ".join(written(call, "parameters") for call in calls),
    "llama lines": lambda calls: "\n".join(written(call, "parameters") for call in calls),
    "llama marked": lambda calls: "<|python_tag|>" + ";".join(written(call, "parameters") for call in calls),
    "mistral": lambda calls: f"[TOOL_CALLS] [{', '.join(written(call) for call in calls)}]",
    "mistral unmarked": lambda calls: f" [{', '.join(written(call) for call in calls)}]",
    "fenced": lambda calls: "\n".join(f"```json\n{written(call)}\n```" for call in calls),
    "strings": lambda calls: "".join(
        f"<tool_call>{json.dumps({'name': call.name, 'arguments': json.dumps(call.arguments)})}</tool_call>"
        for call in calls
    ),
}


def written(call: ToolCall, key: str = "arguments") -> str:
    """The object that a model writes."""
    return json.dumps({"name": call.name, key: call.arguments}, ensure_ascii=False)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
CALLS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.dictionaries(st.text(), PLAIN, max_size=2)), min_size=1, max_size=3
)
FRAGMENTS = st.sampled_from(
    '<tool_call> </tool_call> <|python_tag|> [TOOL_CALLS] ```json ``` { } [ ] " : , ; \n name arguments weather '
    '{"name":"weather","arguments": {} {"name":"add","parameters":{"a":1}} NaN \\ud800'.split(" ")
)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=20)
@given(asked=CALLS)
def test_calls_of_every_family_come_back(family: str, asked: list[tuple[str, dict[str, Any]]]) -> None:
    """One call or several, written as a family writes them, are read with nothing left over."""
    calls = [ToolCall(f"call{place:05}", name, arguments) for place, (name, arguments) in enumerate(asked)]
    assert parse_tool_calls(FAMILIES[family](calls), NAMES) == ("", calls)


@given(st.text() | st.lists(FRAGMENTS | st.text(max_size=3)).map("".join))
def test_no_text_is_an_error(text: str) -> None:
    """Whatever a model writes is read without an exception, and stays as it is where no call is found."""
    rest, calls = parse_tool_calls(text, NAMES)
    assert calls or rest == text
    assert all(call.name in NAMES for call in calls)
    assert len({call.id for call in calls}) == len(calls)
    json.dumps([call.arguments for call in calls], ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize("family", ["hermes", "mistral", "fenced", "llama marked"])
def test_text_around_calls_stays(family: str) -> None:
    """A model may explain itself before and after a call; the call alone leaves the text."""
    assert parse_tool_calls(f"Let me see.\n{FAMILIES[family]([CALL])}", NAMES) == ("Let me see.", [CALL])
    assert parse_tool_calls(f"{FAMILIES[family]([CALL])}\nWait.", NAMES) == ("Wait.", [CALL])


def test_a_call_may_lack_its_closing_tag_at_the_end() -> None:
    """Models stop right behind the object, or begin the next call there."""
    assert parse_tool_calls(f"<tool_call>\n{written(CALL)}\n", NAMES) == ("", [CALL])
    _, calls = parse_tool_calls(f"<tool_call>{written(CALL)}\n<tool_call>{written(CALL)}</tool_call>", NAMES)
    assert [call.name for call in calls] == ["weather", "weather"]
    assert parse_tool_calls(f"```json\n{written(CALL)}", NAMES) == ("", [CALL])


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "weather", "arguments": {"city": "Par',
        '<tool_call>{"name": "launch", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": "{}, {}"}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {"a": NaN}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {"a": 1e999}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {"a": "\\ud800"}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": "{\\"a\\": NaN}"}</tool_call>',
        '<tool_call>{"name": ["weather"], "arguments": {}}</tool_call>',
        '<tool_call>{"name": "weather"}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {}} or so</tool_call>',
        '[TOOL_CALLS] [{"name": "add", "arguments": {}}, {"name": "launch", "arguments": {}}]',
        "[TOOL_CALLS] []",
        '{"name": "weather", "parameters": {}} is what I would call',
        'I would call {"name": "weather", "parameters": {}}',
        '{"name": "weather", "parameters": {}}; {"name": "add", "para',
        '```python\n{"name": "weather", "parameters": {}}\n```',
        "<tool_call>" + "[" * 100_000,
        "[" * 100_000,
        '<tool_call>{"name": "add", "arguments": {"a": ' + "9" * 5000 + "}}",
        " " * 100_000,
        "",
    ],
)
def test_what_is_no_whole_call_stays_text(text: str) -> None:
    """Cut off, unknown, of the wrong kind, not plain JSON, or amid text without a marker: the text is unchanged."""
    assert parse_tool_calls(text, NAMES) == (text, [])


def test_the_good_calls_of_an_answer_count() -> None:
    """A malformed call in tags of its own does not take its neighbour along."""
    broken = '<tool_call>{"name": "weather", </tool_call>'
    assert parse_tool_calls(f"{broken}\n<tool_call>{written(CALL)}</tool_call>", NAMES) == (broken, [CALL])


def test_lines_may_break_within_strings() -> None:
    """JSON forbids it, models do it."""
    _, calls = parse_tool_calls('<tool_call>{"name": "add", "arguments": {"text": "a\nb"}}</tool_call>', NAMES)
    assert calls[0].arguments == {"text": "a\nb"}


def test_ids_are_the_models_or_the_places() -> None:
    """An id that the model gave is kept once; the others come from the place, in letters and digits, never twice."""
    ids = ["call00000", "", "x", "x", 7, "\ud800"]
    calls = [{"name": "add", "arguments": {}, "id": given} for given in ids]
    _, found = parse_tool_calls(f"[TOOL_CALLS] {json.dumps(calls)}", NAMES)
    assert [call.id for call in found] == ["call00000", "call00001", "x", "call00002", "call00003", "call00004"]


@pytest.mark.parametrize(
    ("template", "takes"),
    [
        (None, False),
        ("", False),
        ("{% if tools %}{{ tools | tojson }}{% endif %}", True),
        ("{%- if not tools is defined %}{%- set tools = none %}{%- endif %}", True),
        ("{% generation %}{{ '}}' ~ tools[0] }}{% endgeneration %}", True),
        ("{# don't {{ tools }} #}I use tools, don't you {{ messages }}", False),
        ("{{ message['tools'] }} {{ message.tools }} {{ 'no tools' }} {{ my_tools }}", False),
        ("{{ 'it\\'s tools' }} {{ tools_in_user_message }}", False),
        ("{{ 'unclosed }} tools", False),
        ({"default": "{{ messages }}", "tool_use": "{{ tools }}"}, True),
        ({"default": "{{ tools }}"}, True),
        ({"default": "{{ messages }}", "rag": "{{ tools }}"}, False),
        ([{"name": "default", "template": ""}, {"name": "tool_use", "template": "{{ tools }}"}], True),
    ],
)
def test_a_template_takes_tools_where_it_reads_them(template: Any, takes: bool) -> None:
    """The variable `tools` in a tag counts; the word in text, strings, comments and attributes does not."""
    assert takes_tools(template) is takes
