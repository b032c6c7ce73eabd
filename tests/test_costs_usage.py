"""Token counts from every shape that providers give them, from tensors and from texts; who is paid for a model."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem import LoraHuggingFaceLLM, MiniLMEmbedding
from llama_index_hybridmem.costs.tokens.providers import _CLASSES, LOCAL, provider_of, reports_usage_in_streams
from llama_index_hybridmem.costs.tokens.usage import (
    _DIALECTS,
    _PLACES,
    Usage,
    estimate_tokens,
    read_usage,
    tensor_usage,
)
from llama_index_hybridmem.llms.responses import Responses
from llama_index_hybridmem.llms.serving.request import Options, Piece, Request, Result, Token

CHAT = {
    "prompt_tokens": 1200,
    "completion_tokens": 300,
    "total_tokens": 1500,
    "prompt_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 100},
    "completion_tokens_details": {"reasoning_tokens": 200},
}
RESPONSES = {
    "input_tokens": 1200,
    "output_tokens": 300,
    "input_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 100},
    "output_tokens_details": {"reasoning_tokens": 200},
}
OPENAI = Usage(input=1200, output=300, cached_read=1024, cached_write=100, reasoning=200)
LITELLM = {**CHAT, "prompt_tokens_details": {"cached_tokens": 1024}, "cache_creation_input_tokens": 100}
ANTHROPIC = {
    "input_tokens": 100,
    "output_tokens": 300,
    "cache_read_input_tokens": 1000,
    "cache_creation_input_tokens": 500,
    "output_tokens_details": {"thinking_tokens": 250},
}
CLAUDE = Usage(input=1600, output=300, cached_read=1000, cached_write=500, reasoning=250)
CONVERSE = {"inputTokens": 100, "outputTokens": 300, "cacheReadInputTokens": 1000, "cacheWriteInputTokens": 500}
GOOGLE = {
    "prompt_token_count": 1000,
    "tool_use_prompt_token_count": 50,
    "cached_content_token_count": 800,
    "candidates_token_count": 40,
    "thoughts_token_count": 60,
    "total_token_count": 1150,
}
GEMINI = Usage(input=1050, output=100, cached_read=800, reasoning=60)
COHERE = {"billed_units": {"input_tokens": 12.0, "output_tokens": 7.0}, "tokens": {"input_tokens": 80.0}}
SHAPES: dict[str, tuple[Any, Usage]] = {
    "OpenAI chat": ({"usage": CHAT}, OPENAI),
    "OpenAI responses": ({"usage": RESPONSES}, OPENAI),
    "OpenAI responses, last event": ({"type": "response.completed", "response": {"usage": RESPONSES}}, OPENAI),
    "LiteLLM before Anthropic": ({"usage": LITELLM}, OPENAI),
    "Groq, last chunk": ({"x_groq": {"usage": CHAT}, "usage": None}, OPENAI),
    "Mistral, last event": ({"data": {"usage": CHAT}}, OPENAI),
    "Anthropic": ({"usage": ANTHROPIC}, CLAUDE),
    "Anthropic without a cache": ({"usage": {"input_tokens": 9, "output_tokens": 3}}, Usage(9, 3)),
    "Bedrock": ({"usage": CONVERSE}, Usage(1600, 300, cached_read=1000, cached_write=500)),
    "Bedrock, last chunk": ({"metadata": {"usage": CONVERSE}}, Usage(1600, 300, cached_read=1000, cached_write=500)),
    "Google": ({"usage_metadata": GOOGLE}, GEMINI),
    "Google that only thought": (
        {"usage_metadata": {**GOOGLE, "candidates_token_count": None}},
        Usage(1050, 60, cached_read=800, reasoning=60),
    ),
    "Ollama": ({"model": "any", "prompt_eval_count": 26, "eval_count": 259, "eval_duration": 10**9}, Usage(26, 259)),
    "Cohere": ({"meta": COHERE}, Usage(12, 7)),
    "Cohere, last event": ({"response": {"meta": COHERE}}, Usage(12, 7)),
    "nested cache larger than the input": (
        {"usage": {**CHAT, "prompt_tokens": 76}},
        Usage(1200, 300, cached_read=1024, cached_write=100, reasoning=200),
    ),
    "reasoning larger than the output": ({"usage": {**CHAT, "completion_tokens": 100}}, OPENAI),
}


def as_object(value: Any) -> Any:
    """The same with attributes in place of keys."""
    if not isinstance(value, dict):
        return value
    return SimpleNamespace(**{name: as_object(one) for name, one in value.items()})


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape: str) -> None:
    """Every provider's counts are read from keys, from attributes, from a dict of objects, and from kwargs."""
    raw, expected = SHAPES[shape]
    half = {name: as_object(value) for name, value in raw.items()}
    assert [read_usage(one, None) for one in (raw, as_object(raw), half)] == [expected] * 3
    assert read_usage(None, raw) == expected


@pytest.mark.parametrize(
    ("shape", "provider", "flavor"),
    [
        ("OpenAI chat", "openai", "chat"),
        ("OpenAI responses", "openai", "responses"),
        ("Anthropic", "anthropic", "default"),
        ("Bedrock", "aws", "default"),
    ],
)
def test_same_as_genai_prices(shape: str, provider: str, flavor: str) -> None:
    """What is read is what genai-prices reads, whose prices are for such counts."""
    genai_prices = pytest.importorskip("genai_prices", reason="needs the extra 'prices'")
    raw, mine = SHAPES[shape]
    theirs = genai_prices.extract_usage(raw, provider_id=provider, api_flavor=flavor).usage
    assert (theirs.input_tokens, theirs.output_tokens) == (mine.input, mine.output)
    assert (theirs.cache_read_tokens, theirs.cache_write_tokens) == (mine.cached_read, mine.cached_write)


def test_own_model() -> None:
    """Our own model's last piece is read, its reused tokens as cached ones; a piece before it has no counts."""
    result = Result("Yes", (Token(1, -0.1, 2.0), Token(2, -0.2, 1.0)), "stop", prompt_tokens=40, reused_tokens=32)
    tokenizer = SimpleNamespace(decode=lambda ids: "x")
    responses = Responses(Request(prompt=(), options=Options()), "tiny", None, tokenizer)
    last = responses.completion(Piece("Yes", "s", result))
    assert read_usage(last.raw, last.additional_kwargs) == Usage(input=40, output=2, cached_read=32)
    assert read_usage(responses.completion(Piece("Ye", "Ye")).raw, {}) is None


def test_raw_comes_before_kwargs() -> None:
    """Integrations repeat totals in the kwargs; the fuller counts of `raw` are read, and the kwargs only without."""
    totals = {"prompt_tokens": 1200, "completion_tokens": 300, "total_tokens": 1500}
    assert read_usage({"usage": CHAT}, totals) == OPENAI
    assert read_usage({"usage": None}, totals) == Usage(1200, 300)
    assert read_usage(None, {"usage": RESPONSES}) == OPENAI


class Trap:
    """An object that raises whatever is read of it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class BrokenMapping(dict[str, Any]):
    """A mapping that raises whatever is looked up."""

    def get(self, *_: Any) -> Any:
        """Raises."""
        raise OSError("gone")


@pytest.mark.parametrize(
    "raw",
    [
        None,
        "usage",
        7,
        math.nan,
        [],
        {"usage": "12"},
        {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}},
        {"usage": {"prompt_tokens": True, "completion_tokens": 3}},
        {"usage": {"prompt_tokens": -1, "completion_tokens": 3}},
        {"usage": {"prompt_tokens": math.nan, "completion_tokens": math.inf}},
        {"usage": {"prompt_tokens": 1.5, "completion_tokens": 3}},
        {"usage": {"prompt_tokens": "12", "completion_tokens": "3"}},
        {"usage": {"prompt_tokens": 12}},
        {"eval_count": 259},
        {"usage_metadata": {"prompt_token_count": 12, "total_token_count": 12}},
        Trap(),
        {"usage": Trap()},
        BrokenMapping(),
        SimpleNamespace(usage=BrokenMapping(prompt_tokens=3, completion_tokens=4)),
    ],
    ids=lambda raw: type(raw).__name__,  # pytest would ask the trap for its name
)
def test_no_usage(raw: object) -> None:
    """What has no whole counts of input and output has none at all, and nothing is raised."""
    assert read_usage(raw, None) is None
    assert read_usage(None, {"stop_reason": raw, "usage": raw}) is None


NAMES = [name for dialect in _DIALECTS for names in dialect for name in ([names] if isinstance(names, str) else names)]
PARTS = sorted({part for path in (*NAMES, *_PLACES) for part in path.split(".")})
LEAVES = st.none() | st.booleans() | st.integers(-5, 10**6) | st.floats() | st.text(max_size=3)
JUNK = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(PARTS), inner, max_size=12),
    max_leaves=40,
)


@st.composite
def usages(draw: st.DrawFn) -> dict[str, Any]:
    """Something like a usage object: most names of one dialect, some of all, most with counts."""
    names = {name for name in NAMES if name and draw(st.integers(0, 9)) == 0}
    for part in draw(st.sampled_from(_DIALECTS)):
        names.update((part,) if isinstance(part, str) else part)
    usage: dict[str, Any] = {}
    for name in sorted(names - {""}):
        *outer, last = name.split(".")
        inner = usage.setdefault(outer[0], {}) if outer else usage
        if isinstance(inner, dict):
            inner[last] = draw(LEAVES if draw(st.integers(0, 9)) == 0 else st.integers(0, 1000))
    return {"usage": usage}


@given(usages(), JUNK)
def test_any_usage(raw: dict[str, Any], kwargs: Any) -> None:
    """However the counts contradict each other, none is negative, and no part is larger than its whole."""
    usage = read_usage(raw, kwargs)
    assert usage == read_usage(as_object(raw), kwargs)
    if usage is not None:
        counts = (usage.input, usage.output, usage.cached_read, usage.cached_write, usage.reasoning)
        assert all(type(count) is int and count >= 0 for count in counts)
        assert usage.input or usage.output
        assert usage.cached_read + usage.cached_write <= usage.input
        assert usage.reasoning <= usage.output
        assert usage.source == "reported"


@given(JUNK, JUNK)
def test_any_junk(raw: Any, kwargs: Any) -> None:
    """Whatever comes, nothing is raised, and what comes out is a count or nothing."""
    usage = read_usage(raw, kwargs)
    assert usage is None or min(usage.input, usage.output) >= 0
    assert tensor_usage(raw, 5) is None


def test_tensor() -> None:
    """HuggingFaceLLM's tensor holds the prompt and the answer; what is no such tensor has no counts."""
    raw = {"model_output": np.zeros((1, 17))}
    assert tensor_usage(raw, 5) == Usage(input=5, output=12, source="extracted")
    assert tensor_usage(raw, 17) == Usage(input=17, output=0, source="extracted")
    nonsense = [(raw, 18), (raw, -1), ({"model_output": np.zeros((2, 17))}, 5), ({"model_output": np.zeros(17)}, 5)]
    nonsense += [(None, 5), ({"model_output": "text"}, 5), ({"usage": CHAT}, 5), (Trap(), 5)]
    nonsense += [({"model_output": SimpleNamespace(shape=shape)}, 0) for shape in ((1, 0), (1, True), [1, 17], (1, -3))]
    assert [tensor_usage(*one) for one in nonsense] == [None] * len(nonsense)


def test_estimate() -> None:
    """A quarter of the bytes, rounded up: English near four characters a token, Chinese near one."""
    assert [estimate_tokens(text) for text in ("", "a", "four", "fives")] == [0, 1, 1, 2]
    assert estimate_tokens("記憶" * 100) == 150
    assert estimate_tokens("\ud800") == 1  # half a character, as a stream cut in the middle has it


@given(st.text(), st.text())
def test_estimate_adds_up(one: str, other: str) -> None:
    """A text is never less than its parts minus the rounding, and no text but the empty one is free."""
    both = estimate_tokens(one + other)
    assert estimate_tokens(one) + estimate_tokens(other) - 1 <= both <= estimate_tokens(one) + estimate_tokens(other)
    assert (both == 0) == (one + other == "")


def test_providers() -> None:
    """Own models and those of own machines are local; OpenAILike may call anybody; each class has one provider."""
    names = (LoraHuggingFaceLLM.class_name(), MiniLMEmbedding.class_name(), "Ollama_llm", "RemoteLoraLLM")
    assert {provider_of(name) for name in names} == {LOCAL}
    assert [provider_of(name) for name in ("GenAI", "OpenAILike", "custom_llm", "")] == ["google", None, None, None]
    listed = [name for names in _CLASSES.values() for name in names.split()]
    assert len(listed) == len(set(listed))


def test_providers_are_those_of_genai_prices() -> None:
    """Every provider but "local" is one that genai-prices has prices for."""
    data = pytest.importorskip("genai_prices.data_snapshot", reason="needs the extra 'prices'")
    assert set(_CLASSES) - {LOCAL} <= {provider.id for provider in data.get_snapshot().providers}


def test_silent_streams() -> None:
    """Only the OpenAI family is asked for counts by an argument; an unknown class is not told to pass it."""
    assert not any(map(reports_usage_in_streams, ("openai_llm", "azure_openai_llm", "OpenAILike", "litellm_llm")))
    assert all(map(reports_usage_in_streams, ("openai_responses_llm", "Anthropic_LLM", "Ollama_llm", "Groq", "own")))
