"""A program that ends while the model writes: in a process of its own, which takes seconds to start."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(os.environ.get("HYBRIDMEM_SOAK") != "1", reason="it starts a process: run by make soak"),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")),
        reason="needs the extra 'lora'",
    ),
]


def test_an_exit_in_the_midst_of_an_answer_is_clean(llama_folder: Path) -> None:
    """A program may end while a stream is open: the engine stops first, so nothing aborts."""
    program = (
        "import sys\n"
        "from llama_index_hybridmem import LoraHuggingFaceLLM\n"
        "llm = LoraHuggingFaceLLM.from_pretrained(sys.argv[1], max_new_tokens=400)\n"
        "stream = llm.stream_complete('Who are you?', stop_ids=[], logits_processor=lambda ids, row: row * 0)\n"
        "next(stream)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(llama_folder)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
