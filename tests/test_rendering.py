"""Messages become token ids: one start token, templates of several families, tools, and what templates refuse."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, CitableBlock, ImageBlock, TextBlock, ThinkingBlock
from llama_index.core.base.llms.types import ToolCallBlock as Call
from llama_index.core.tools import FunctionTool

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.llms.rendering import encode, render, tool_specs, turns
from llama_index_hybridmem.llms.tool_calls import parse_tool_calls, takes_tools

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("tokenizers", "transformers")),
    reason="needs the extra 'lora'",
)
PLAIN = (
    "<s>{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
HERMES = """
{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}
{% endif %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools><|im_end|>
{% endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}<|im_start|>user
<tool_response>{{ m.content }}</tool_response><|im_end|>
{% elif not (tools and m.role == 'system') %}<|im_start|>{{ m.role }}
{{ m.content }}
{%- for call in m.tool_calls %}
<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>
{%- endfor %}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
LLAMA = """{{ bos_token }}
{%- if tools is not none %}<tools>{{ tools | tojson }}</tools>{% endif %}
{%- for m in messages %}
{%- if 'tool_calls' in m %}
{%- if m.tool_calls | length != 1 %}{{ raise_exception('a single call only') }}{% endif %}
{%- set call = m.tool_calls[0].function %}[assistant]{"name": "{{ call.name }}", "parameters": {{
call.arguments | tojson }}}<end>
{%- elif m.role == 'tool' %}[ipython]{{ m.name }} gives {{ m.content }}<end>
{%- else %}[{{ m.role }}]{{ m.content }}<end>
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}[assistant]{% endif %}"""
STERN = """{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}
{%- for m in messages %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('take turns') }}{% endif %}[{{ m.role }}]
{{- m.content }}{% endfor %}"""


def tokenizer(template: Any = None, bos: str | None = "<s>", adds: str = "<s> $A") -> Any:
    """Over bytes; `adds` is what it puts around a text by itself, as Llama's puts <s> in front."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_ = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_.decoder = decoders.ByteLevel()
    bytes_.add_special_tokens(["<s>", "</s>"])
    bytes_.post_processor = processors.TemplateProcessing(
        single=adds, special_tokens=[("<s>", 256), ("</s>", 257)][: 2 if "/" in adds else 1]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bytes_, bos_token=bos, eos_token="</s>", chat_template=template, name_or_path="tiny"
    )
    fast.model_max_length = 512
    return fast


def message(role: str, content: Any, **additional: Any) -> ChatMessage:
    """A message, with additional keyword arguments as frameworks put them."""
    return ChatMessage(role=role, content=content, additional_kwargs=additional)


def shown(given: Any, *arguments: Any, **options: Any) -> str:
    """The text that the model reads."""
    text: str = given.decode(render(given, *arguments, **options))
    return text


def weather(city: str) -> str:
    """Tells the weather."""
    return f"sunny in {city}"


USER = [message("user", "Hi")]
SYSTEM = message("system", "Be brief.")
TWO_CALLS = message(
    "assistant",
    [
        TextBlock(text="Let me see."),
        Call(tool_call_id="a", tool_name="weather", tool_kwargs={"city": "Paris"}),
        Call(tool_call_id="b", tool_name="weather", tool_kwargs='{"city": "Rome"}'),
    ],
)
TALK = [*USER, TWO_CALLS, message("tool", "rain", tool_call_id="b"), message("tool", "sun", tool_call_id="a")]


@pytest.mark.parametrize("adds", ["$A", "<s> $A", "<s> $A </s>"])
@pytest.mark.parametrize("bos", ["<s>", None])
def test_a_template_is_all_that_is_read(adds: str, bos: str | None) -> None:
    """The template's start token stands once, whatever the tokenizer adds to texts and whether it names one."""
    given = tokenizer(PLAIN, bos, adds)
    assert shown(given, USER) == "<s>[user]Hi</s>[assistant]"
    assert shown(given, USER, add_generation_prompt=False) == "<s>[user]Hi</s>"
    ids = render(given, USER)
    assert type(ids) is list
    assert {type(number) for number in ids} == {int}


@pytest.mark.parametrize(
    ("adds", "text", "read"),
    [
        ("$A", "Hi", "Hi"),
        ("$A", "<s>Hi", "<s>Hi"),
        ("<s> $A", "Hi", "<s>Hi"),
        ("<s> $A", "<s>Hi", "<s>Hi"),
        ("<s> $A", "<s><s>Hi", "<s>Hi"),
        ("<s> $A </s>", "Hi", "<s>Hi"),
        ("<s> $A </s>", "Hi</s>", "<s>Hi</s></s>"),
        ("<s> $A", "", "<s>"),
        ("<s> $A </s>", "", "<s>"),
        ("$A", "", ""),
    ],
)
def test_a_verbatim_text_starts_once_and_does_not_end(adds: str, text: str, read: str) -> None:
    """One start token where the text or the tokenizer has one, and no end token of the tokenizer's behind it."""
    given = tokenizer(adds=adds)
    assert given.decode(encode(given, text)) == read


def test_a_tokenizer_without_a_start_token_encodes() -> None:
    """Qwen's has none: the text is all there is, and a start token of another family is text like any other."""
    given = tokenizer(bos=None, adds="$A")
    assert given.decode(encode(given, "Hi")) == "Hi"
    assert shown(given, USER) == "user: Hi\nassistant:"


def test_without_a_template_roles_are_lines() -> None:
    """A base model still reads a chat, tool calls included."""
    given = tokenizer()
    assert shown(given, [SYSTEM, *USER]) == "<s>system: Be brief.\nuser: Hi\nassistant:"
    assert shown(given, USER, add_generation_prompt=False) == "<s>user: Hi"
    assert 'assistant: Let me see.\n{"name": "weather", "arguments": {"city": "Paris"}}' in shown(given, TALK)


def test_long_prompts_are_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    """What does not fit the window is dealt with by whoever generates, not by a line in the log."""
    with caplog.at_level(logging.WARNING):
        logging.getLogger("transformers").addHandler(caplog.handler)
        for template in (None, PLAIN):
            assert len(render(tokenizer(template), [message("user", "long " * 200)])) > 1000
        assert len(encode(tokenizer(), "long " * 200)) == 1001
        logging.getLogger("transformers").removeHandler(caplog.handler)
    assert caplog.records == []


def test_roles_have_the_names_that_templates_know() -> None:
    """LlamaIndex's other roles become system, assistant and tool."""
    roles = ["system", "developer", "user", "assistant", "chatbot", "model", "tool", "function"]
    expected = ["system", "system", "user", "assistant", "assistant", "assistant", "tool", "tool"]
    assert [turn["role"] for turn in turns([message(role, "x") for role in roles])] == expected


def test_contents_are_their_texts() -> None:
    """Text blocks are joined as LlamaIndex joins them, citable ones included; thoughts and nothing are no text."""
    citable = CitableBlock(title="t", source="s", content=[TextBlock(text="two")])
    blocks = [TextBlock(text="one"), ThinkingBlock(content="hm"), citable]
    assert turns([message("user", blocks), ChatMessage(role="assistant")]) == [
        {"role": "user", "content": "one\ntwo"},
        {"role": "assistant", "content": ""},
    ]


def test_images_are_refused() -> None:
    """A model that reads text must not answer as if it had seen the picture."""
    with pytest.raises(ConfigurationError, match="reads text only.*image"):
        turns([message("user", [TextBlock(text="What is it?"), ImageBlock(url="http://x.org/cat.png")])])


def openai_call(arguments: Any, **others: Any) -> dict[str, Any]:
    """A call as OpenAI writes it."""
    return {"type": "function", "function": {"name": "weather", "arguments": arguments}, **others}


def test_tool_calls_become_dicts_and_answers_know_their_tool() -> None:
    """From blocks and from OpenAI's form alike; a tool's answer gets the name of the call it belongs to."""
    from_blocks = turns(TALK)
    theirs = [openai_call('{"city": "Paris"}', id="a"), openai_call({"city": "Rome"}, id="b")]
    assert turns([*USER, message("assistant", "Let me see.", tool_calls=theirs), *TALK[2:]]) == from_blocks
    expected = [openai_call({"city": city}, id=name) for name, city in (("a", "Paris"), ("b", "Rome"))]
    assert from_blocks[1] == {"role": "assistant", "content": "Let me see.", "tool_calls": expected}
    assert from_blocks[2] == {"role": "tool", "content": "rain", "tool_call_id": "b", "name": "weather"}
    assert "tool_calls" not in from_blocks[0]


def test_a_message_with_both_forms_has_its_calls_once() -> None:
    """LlamaIndex's OpenAI writes blocks and the old form into the same message."""
    both = ChatMessage(
        role="assistant", blocks=TWO_CALLS.blocks, additional_kwargs={"tool_calls": [openai_call("{}", id="a")]}
    )
    assert turns([both]) == turns([TWO_CALLS])


@pytest.mark.parametrize(
    ("arguments", "read"), [("", {}), ("{}", {}), ('{"a": 1}', {"a": 1}), ("[1]", "[1]"), ("{broken", "{broken")]
)
def test_arguments_of_other_models_are_read(arguments: str, read: Any) -> None:
    """A text that spells an object becomes it; any other is shown as it was written."""
    (turn,) = turns([message("assistant", None, tool_calls=[openai_call(arguments)])])
    assert turn["tool_calls"] == [openai_call(read)]


def test_a_call_of_an_unknown_form_is_refused() -> None:
    """Not silently left out of the chat."""
    with pytest.raises(ConfigurationError, match="OpenAI's form"):
        turns([message("assistant", None, tool_calls=[{"tool": "weather"}])])


def test_tools_have_their_own_name_and_any_length() -> None:
    """OpenAI's limits on names and descriptions are not a local model's."""
    tool = FunctionTool.from_defaults(weather, name="weather in [city]", description="long " * 300)
    (spec,) = tool_specs([tool])
    assert spec["type"] == "function"
    assert spec["function"]["name"] == "weather in [city]"
    assert spec["function"]["description"].startswith("long")
    assert spec["function"]["parameters"]["properties"]["city"]["type"] == "string"


def test_hermes_shows_tools_and_several_calls() -> None:
    """Tools, calls and answers stand where the family expects them, and our reader reads the calls back."""
    text = shown(tokenizer(HERMES), [SYSTEM, *TALK], tool_specs([FunctionTool.from_defaults(weather)]))
    assert text.startswith('<|im_start|>system\nBe brief.\n<tools>{"type": "function", "function": {"name": "weather"')
    _, calls = parse_tool_calls(text, ["weather"])
    assert [call.arguments for call in calls] == [{"city": "Paris"}, {"city": "Rome"}]
    assert text.endswith("<tool_response>sun</tool_response><|im_end|>\n<|im_start|>assistant\n")


def test_llama_gets_one_call_per_turn() -> None:
    """Where a template takes a single call only, each call gets its turn with its own tool's answer behind it."""
    assert shown(tokenizer(LLAMA), TALK) == (
        '<s>[user]Hi<end>[assistant]{"name": "weather", "parameters": {"city": "Paris"}}<end>'
        '[ipython]weather gives sun<end>[assistant]{"name": "weather", "parameters": {"city": "Rome"}}<end>'
        "[ipython]weather gives rain<end>[assistant]"
    )


def test_no_tools_are_none() -> None:
    """Some templates ask whether tools are none, and would show an empty list."""
    assert "<tools>" not in shown(tokenizer(LLAMA), USER, tools=[])


def test_a_refused_system_turn_is_told_by_the_user() -> None:
    """Its text stands at the head of the first user's turn, or becomes one."""
    given = tokenizer(STERN)
    assert shown(given, [SYSTEM, *USER]) == "<s>[user]Be brief.\n\nHi"
    assert shown(given, [SYSTEM, message("assistant", "Yes?")]) == "<s>[user]Be brief.[assistant]Yes?"
    assert shown(given, USER) == "<s>[user]Hi"


def test_a_template_that_fails_names_itself_and_its_reasons() -> None:
    """With the reason for the chat as it was given and that for its other form."""
    with pytest.raises(ConfigurationError, match="template of tiny failed: no system; take turns"):
        render(tokenizer(STERN), [SYSTEM, *USER, *USER])
    for broken in ("{{ 1 / 0 }}", "{{ messages.x.y }}", "{{ 'a' + 1 }}", "{% if %}"):
        with pytest.raises(ConfigurationError, match="template of tiny failed: .+"):
            render(tokenizer(broken), USER)
    with pytest.raises(ConfigurationError, match="template of tiny failed: "):
        render(tokenizer(PLAIN), [])


def test_tools_are_not_left_out_in_silence() -> None:
    """Where the model would never see them, they are refused."""
    specs = tool_specs([FunctionTool.from_defaults(weather)])
    with pytest.raises(ConfigurationError, match="tiny takes no tools"):
        render(tokenizer(PLAIN), USER, specs)
    with pytest.raises(ConfigurationError, match="tiny has no chat template"):
        render(tokenizer(), USER, specs)


def test_named_templates_and_templates_of_a_call() -> None:
    """A tokenizer may have several templates, of which tools get their own; a call may bring one."""
    given = tokenizer({"default": PLAIN, "tool_use": HERMES})
    assert takes_tools(given.chat_template)
    assert shown(given, USER) == "<s>[user]Hi</s>[assistant]"
    assert "<tools>" in shown(given, USER, tool_specs([FunctionTool.from_defaults(weather)]))
    assert shown(given, USER, chat_template="tool_use").startswith("<|im_start|>user")
    assert shown(tokenizer(), USER, chat_template="{{ messages[0].content }}!") == "Hi!"
    with pytest.raises(ConfigurationError, match="tiny has no chat template to take: .*no default"):
        render(tokenizer({"rag": PLAIN}), USER)
