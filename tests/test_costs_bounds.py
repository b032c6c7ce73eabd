"""How much a call may use at most: what no prompt's tokens exceed, and whose word counts for the answer's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from llama_index.core.llms import ChatMessage, ImageBlock, MockLLM, TextBlock
from llama_index.core.utils import get_tokenizer
from pydantic import BaseModel

from llama_index_hybridmem.costs.budgets.bounds import FRAME, PROMPT_FRAME, TOOLS_FRAME, most_input, most_output

PLAIN = MockLLM()
TOKENIZE = get_tokenizer()  # tiktoken's, of GPT-3.5 and GPT-4; LlamaIndex brings it along


def model(num_output: int = 256, **fields: Any) -> Any:
    """An LLM with such fields."""
    return SimpleNamespace(metadata=SimpleNamespace(num_output=num_output), **fields)


@given(st.text(alphabet=st.characters(), max_size=200))
@example("The cat sat on the mat. " * 20)
@example("猫坐在垫子上 🐈‍⬛ \ud83d")
@example("\x00\ufffd" * 50)
def test_bytes_bound_tokens(text: str) -> None:
    """No text has more tokens than the bound, whether as a prompt or as a message."""
    count = len(TOKENIZE(text.encode("utf-8", "replace").decode()))
    assert count <= (most_input(PLAIN, text, {}, None) or 0) - PROMPT_FRAME
    assert count <= (most_input(PLAIN, [ChatMessage(content=text)], {}, None) or 0) - PROMPT_FRAME - 2 * FRAME


def test_a_prompt_is_its_bytes_and_its_frames() -> None:
    """A frame for the whole, one for each message, one for each part of it."""
    assert most_input(PLAIN, "naïve", {}, None) == PROMPT_FRAME + 6
    messages = [ChatMessage(content="naïve"), ChatMessage(content=[TextBlock(text="a"), TextBlock(text="b")])]
    assert most_input(PLAIN, messages, {}, None) == PROMPT_FRAME + (2 * FRAME + 6) + (3 * FRAME + 2)


class Shape(BaseModel):
    """Of an answer."""

    a_field_with_quite_a_long_name: int


@pytest.mark.parametrize(
    ("options", "at_least"),
    [
        ({"tools": [{"name": "add", "description": "x" * 500}]}, TOOLS_FRAME + 500),
        ({"response_format": Shape}, len("a_field_with_quite_a_long_name")),
        ({"response_format": Shape.model_json_schema()}, len("a_field_with_quite_a_long_name")),
        ({"prompt": "x" * 500, "tools": None}, 0),
    ],
)
def test_what_a_call_sends_along_counts(options: dict[str, Any], at_least: int) -> None:
    """Tools and schemas of answers are tokens, too; the prompt, given by name, is not counted twice."""
    more = (most_input(PLAIN, "hello", options, None) or 0) - (most_input(PLAIN, "hello", {}, None) or 0)
    assert at_least <= more <= 2 * at_least + 200 * bool(at_least)


def test_what_an_llm_sends_along_counts() -> None:
    """Instructions that an LLM adds to every prompt."""
    alone = most_input(model(), "hello", {}, None)
    assert alone is not None
    assert most_input(model(instructions="x" * 500, additional_kwargs={}), "hello", {}, None) == alone + 502


def test_tool_calls_in_messages_count() -> None:
    """Whether LlamaIndex keeps them in a block or in `additional_kwargs`."""
    older = ChatMessage(role="assistant", additional_kwargs={"tool_calls": [{"arguments": "x" * 500}]})
    assert (most_input(PLAIN, [older], {}, None) or 0) > 500
    blocks = pytest.importorskip("llama_index.core.base.llms.types")
    newer = ChatMessage(role="assistant", content=[blocks.ToolCallBlock(tool_name="add", tool_kwargs={"a": "x" * 500})])
    assert (most_input(PLAIN, [newer], {}, None) or 0) > 500
    cited = blocks.CitableBlock(title="t" * 100, source="s" * 100, content=[TextBlock(text="x" * 300)])
    assert (most_input(PLAIN, [ChatMessage(content=[cited])], {}, None) or 0) > 500


def test_an_image_has_no_bound_of_its_own() -> None:
    """Nor a sound, a video, a document: without a number there is none, and with one that counts."""
    messages = [ChatMessage(content=[TextBlock(text="What is this?"), ImageBlock(url="https://example.com/cat.png")])]
    assert most_input(PLAIN, messages, {}, None) is None
    assert most_input(PLAIN, messages, {}, 1_600) == PROMPT_FRAME + FRAME + (FRAME + 13) + (FRAME + 1_600)


@pytest.mark.parametrize(
    ("llm", "options", "otherwise", "most"),
    [
        (model(), {}, None, None),
        (model(), {}, 50, 50),
        (model(), {"max_tokens": 20}, 50, 20),
        (model(max_tokens=512, num_output=512), {}, 50, 512),
        (model(max_tokens=512, num_output=512), {"max_tokens": 20}, 50, 20),
        (model(max_tokens=512, num_output=512), {"max_tokens": None}, 50, 512),
        (model(max_tokens=512, num_output=512), {"max_completion_tokens": 20, "max_tokens": 30}, 50, 30),
        (model(max_output_tokens=512, num_output=512), {}, None, 512),
        (model(max_tokens=None), {}, None, None),
        (model(max_tokens=-1, num_output=-1), {}, 50, 50),
        (model(max_tokens=100, additional_kwargs={"max_tokens": 900}, num_output=100), {}, None, 900),
        (model(additional_kwargs={"num_predict": 700}), {}, None, 700),
        (model(additional_kwargs={"num_predict": -1}), {}, None, None),
        (model(generate_kwargs={"max_new_tokens": 700}), {}, None, 700),
        (model(max_new_tokens=256), {"max_new_tokens": 20}, None, 256),
        (model(max_new_tokens=256), {"max_new_tokens": 300}, None, 300),
        (model(max_new_tokens=256, num_output=400), {}, None, 400),
        (model(max_tokens=100, num_output=100), {"n": 3}, None, 300),
        (model(max_tokens=300, num_output=300, additional_kwargs={"n": 2}), {}, None, 600),
        (model(max_tokens=True), {}, 50, 50),
    ],
)
def test_whose_word_counts_for_an_answer(llm: Any, options: dict[str, Any], otherwise: int | None, most: int) -> None:
    """The call's, else the LLM's, else the budget's; models on one's own machine may not look at the call's."""
    assert most_output(llm, options, otherwise) == most
