"""Copying with the tokenizer of a real model, if it was converted on this machine; too slow to load for every run."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_copying import check_drawn, check_natural, needs_lora, sources_drawn

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(os.environ.get("HYBRIDMEM_SOAK") != "1", reason="set HYBRIDMEM_SOAK=1 (make soak)"),
    needs_lora,
]


@cache
def real() -> Any:
    """SmolLM2's tokenizer."""
    from transformers import AutoTokenizer

    from llama_index_hybridmem.errors import MissingExtraError
    from llama_index_hybridmem.llms.smollm2 import model_folder

    try:
        return AutoTokenizer.from_pretrained(model_folder())
    except MissingExtraError as error:
        pytest.skip(str(error))


@given(sources_drawn, st.integers(0, 1000))
@settings(max_examples=300, deadline=None)
def test_random_logits_write_copies_with_a_real_tokenizer(sources: list[str], seed: int) -> None:
    """Whatever the model thinks, with 49,152 tokens to choose from."""
    check_drawn(real(), sources, seed)


def test_natural_tokens_are_allowed() -> None:
    """An answer may be written as the tokenizer cuts it."""
    check_natural(real())
