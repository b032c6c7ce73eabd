"""What a run will need: by hand for a small case, against measured runs, and in words; pure."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.training.estimates import Estimate, Load, Memory, Shape, estimate
from llama_index_hybridmem.training.recipe import Method

TINY = Shape(1000, 100, layers=2, width=4, intermediate=8, vocabulary=50, heads=2, bytes_per_parameter=4.0)
LOAD = Load(rows=10, mean_tokens=6.0, longest_tokens=6, completion_tokens=2.0, epochs=2.0, batch=4, micro_batch=2)
SMOLLM2 = Shape(134_515_008 + 4_884_480, 4_884_480, 30, 576, 1536, 49_152, 9, 4.0)
WHOLE = replace(SMOLLM2, parameters=134_515_008, trainable=134_515_008)


def step(rows: int, tokens: int) -> Load:
    """One step of rows of one length, 20 tokens of each learned."""
    return Load(rows, tokens, tokens, 20, 1.0, rows, rows)


def test_a_small_run_by_hand() -> None:
    """Three steps an epoch (the last is short), 120 tokens, and every term of operations and bytes."""
    found = estimate(TINY, LOAD, "lora", 1e3, 2)
    assert (found.steps, found.tokens) == (6, 120)
    body, attention = 4 * (900 - 50 * 4), 3 * 4 * 2 * 6 * 4
    assert found.flops == 120 * (body + attention + 6 * 100) + 20 * 2 * 6 * 50 * 4
    assert found.seconds == pytest.approx(found.flops / 1e3 / 0.2)
    assert found.memory_bytes == Memory(
        weights=1000 * 4 + 1000 * 2,
        gradients=400,
        optimizer=800,
        activations=12 * 2 * (8 * 4 + 4 * 8) * 2 * 3.2,
        logits=4 * 50 * (2 + 8),
    )


def test_training_whole_costs_half_as_much_again() -> None:
    """Backward is twice the forward pass instead of once: 6 N a token, 4 N with frozen weights."""
    frozen = replace(SMOLLM2, trainable=1000, parameters=134_516_008)
    ratio = estimate(WHOLE, step(1, 32), "full", 1e9, 4).flops / estimate(frozen, step(1, 32), "lora", 1e9, 4).flops
    assert 1.4 < ratio < 1.55


@pytest.mark.parametrize(
    ("shape", "load", "method", "rate", "width", "seconds", "gigabytes"),
    [
        (SMOLLM2, step(4, 450), "lora", 214e9, 2, 21.5, 6.19),
        (SMOLLM2, step(2, 450), "lora", 90e9, 4, 12.0, 5.22),
        (SMOLLM2, step(1, 450), "lora", 203e9, 2, 4.4, 3.00),
        (WHOLE, step(1, 256), "full", 84e9, 4, 6.2, 3.72),
        (SMOLLM2, step(4, 450), "lora", 1184e9, 2, 6.0, 7.0),
    ],
    ids=["bf16 4 rows", "fp32 2 rows", "bf16 1 row", "fp32 whole", "bf16 110 steps, quiet machine"],
)
def test_measured_runs_are_met(
    shape: Shape, load: Load, method: Method, rate: float, width: int, seconds: float, gigabytes: float
) -> None:
    """A step's CPU seconds within a factor of 1.5, the most memory within 1.3: real runs, one thread."""
    found = estimate(shape, load, method, rate, width)
    assert 1 / 1.5 < found.seconds / seconds < 1.5
    assert 1 / 1.3 < found.memory_bytes.total / 1e9 / gigabytes < 1.3


def test_a_cap_of_steps_caps_the_work() -> None:
    """Half of the steps are half of the tokens, operations and seconds; the memory stays."""
    whole, half = estimate(TINY, LOAD, "lora", 1e3, 4), estimate(TINY, LOAD, "lora", 1e3, 4, max_steps=3)
    assert half.steps == 3
    assert half.flops == pytest.approx(whole.flops / 2)
    assert half.memory_bytes == whole.memory_bytes
    assert estimate(TINY, LOAD, "lora", 1e3, 4, max_steps=99) == whole


def test_padding_lies_between_the_mean_and_the_longest() -> None:
    """Alone a row is not padded; of four evenly spread lengths the longest is three fifths of the way up."""
    load = replace(LOAD, mean_tokens=100, longest_tokens=200)
    assert replace(load, micro_batch=1).padded_tokens == 100
    assert replace(load, micro_batch=4).padded_tokens == pytest.approx(160)
    skewed = replace(load, longest_tokens=5000, micro_batch=4)
    assert skewed.padded_tokens == pytest.approx(100 * (1 + 1 / 2 + 1 / 3 + 1 / 4))


def test_four_bits_hold_less() -> None:
    """A base of 4 bits takes a seventh of its fp32 weights; nothing is copied to smaller numbers."""
    bits = estimate(replace(SMOLLM2, bytes_per_parameter=0.56), step(1, 64), "qlora", 1e9, 2).memory_bytes
    held = estimate(SMOLLM2, step(1, 64), "lora", 1e9, 4).memory_bytes
    assert bits.weights == pytest.approx(134_515_008 * 0.56 + 4_884_480 * 4)
    assert bits.weights < held.weights / 5


@pytest.mark.parametrize(
    ("trainable", "parameters", "seconds", "words"),
    [
        (3_700_000, 138_200_000, 720, "3.7 M of 138 M parameters (2.7 %), about 4.1 GB, about 12 minutes"),
        (11_500, 1_235_000_000, 0.2, "12 k of 1.2 G parameters (0.00093 %), about 4.1 GB, about 1 second"),
        (900, 900, 10_800, "all 900 parameters, about 4.1 GB, about 3 hours"),
        (20_000_000, 40_000_000, 5 * 86_400, "20 M of 40 M parameters (50 %), about 4.1 GB, about 5 days"),
    ],
)
def test_in_words(trainable: int, parameters: int, seconds: float, words: str) -> None:
    """Parameters, memory and time as one says them."""
    found = Estimate(1, 1, 1.0, seconds, Memory(1.1e9, 5e8, 5e8, 1e9, 0.0), parameters, trainable)
    assert found.in_words == words
    assert found.to_json()["in_words"] == words


@pytest.mark.parametrize("place", ["shape", "load"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_what_is_not_above_zero_is_refused(place: str, value: float) -> None:
    """The field is named."""
    whole: dict[str, tuple[Any, str]] = {"shape": (TINY, "layers"), "load": (LOAD, "rows")}
    what, field = whole[place]
    with pytest.raises(ConfigurationError, match=f"{place}, {field}"):
        replace(what, **{field: value})


def test_what_cannot_be_is_refused() -> None:
    """More trained than there is, a mean above the longest, unknown methods, numbers of 3 bytes, no rate."""
    with pytest.raises(ConfigurationError, match="trainable"):
        replace(TINY, trainable=1001)
    with pytest.raises(ConfigurationError, match="mean_tokens"):
        replace(LOAD, mean_tokens=7.0)
    known: dict[str, Any] = {"method": "lora", "flops_per_s": 1e9, "compute_bytes": 4}
    for wrong in ({"method": "dora"}, {"compute_bytes": 3}, {"flops_per_s": 0.0}):
        with pytest.raises(ConfigurationError, match="estimate"):
            estimate(TINY, LOAD, **{**known, **wrong})


@given(
    st.integers(1, 10**6),
    st.integers(1, 4096),
    st.floats(0.1, 10),
    st.integers(1, 64),
    st.sampled_from(get_args(Method)),
)
def test_more_is_never_cheaper(rows: int, tokens: int, epochs: float, micro: int, method: Method) -> None:
    """Longer rows need more time and memory; all of it is plain JSON."""
    load = Load(rows, tokens, tokens, 1.0, epochs, 64, micro)
    one = estimate(TINY, load, method, 1e9, 4)
    two = estimate(TINY, replace(load, mean_tokens=2.0 * tokens, longest_tokens=2 * tokens), method, 1e9, 4)
    assert two.seconds > one.seconds
    assert two.memory_bytes.total > one.memory_bytes.total
    json.dumps(one.to_json(), allow_nan=False)
