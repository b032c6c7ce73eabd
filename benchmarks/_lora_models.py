"""Base models and random adapters that `lora.py` measures with; knows nothing of how.

Random weights: routing errors show exactly and speed is that of any weights; nothing here says how good an answer is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM
from transformers import PreTrainedTokenizerFast as FastTokenizer

MEDIUM = {
    "vocab_size": 2048,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "max_position_embeddings": 2048,
}
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANK = 16


def medium(folder: Path, **sizes: int) -> Path:
    """Write a random Llama of 193M parameters whose tokens are the words w0 to w2047; nothing ends an answer early."""
    known = MEDIUM | sizes
    words = {f"w{number}": number for number in range(known["vocab_size"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    FastTokenizer(tokenizer_object=tokenizer).save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**known, bos_token_id=None, eos_token_id=None)).save_pretrained(folder)
    return folder


def load(folder: Path, dtype: str, device: str) -> tuple[Any, Any]:
    """Load a base as HF users do, with no token that ends an answer: every arm writes equally many.

    Args:
        folder: the model.
        dtype: float32, bfloat16, or 4bit (NF4, computed in bfloat16).
        device: as torch names it.
    """
    options: dict[str, Any] = {"dtype": torch.bfloat16 if dtype == "4bit" else getattr(torch, dtype)}
    if dtype == "4bit":
        four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}
        options |= {"quantization_config": BitsAndBytesConfig(**four), "device_map": {"": device}}
    model = AutoModelForCausalLM.from_pretrained(folder, **options)
    if dtype != "4bit":
        model.to(device)
    model.generation_config.eos_token_id = model.config.eos_token_id = None
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = None
    return model.eval(), tokenizer


def prompts(tokenizer: Any, count: int, tokens: int, seed: int) -> list[str]:
    """Give texts of exactly so many tokens: words of the tokenizer, drawn evenly."""
    draw = torch.Generator().manual_seed(seed)
    own = [number for number in range(len(tokenizer)) if _is_word(tokenizer, number)] if len(tokenizer) < 4096 else None
    texts = []
    for _ in range(count):
        if own is None:  # a real vocabulary: numbers are one token a digit
            digits = torch.randint(0, 10, (tokens,), generator=draw).tolist()
            texts.append("".join(str(digit) for digit in digits))
        else:
            places = torch.randint(0, len(own), (tokens,), generator=draw).tolist()
            texts.append(" ".join(tokenizer.convert_ids_to_tokens([own[place] for place in places])))
    return texts


def _is_word(tokenizer: Any, number: int) -> bool:
    return str(tokenizer.convert_ids_to_tokens(number)).startswith("w")


def write_adapters(base: Path, root: Path, count: int) -> dict[str, Path]:
    """Write adapters of rank 16 on all linear layers, as PEFT saves them, with random A and B; by name."""
    from peft import LoraConfig
    from safetensors.torch import save_file

    shapes = _shapes(base)
    folders = {}
    for number in range(count):
        draw = torch.Generator().manual_seed(1000 + number)
        tensors = {}
        for module, (out_features, in_features) in shapes.items():
            key = f"base_model.model.{module}.lora_"
            tensors[f"{key}A.weight"] = torch.randn(RANK, in_features, generator=draw) / in_features**0.5
            tensors[f"{key}B.weight"] = torch.randn(out_features, RANK, generator=draw) * 0.05
        folder = folders[f"a{number:02d}"] = root / f"a{number:02d}"
        config = LoraConfig(
            r=RANK,
            lora_alpha=2 * RANK,
            target_modules=list(LINEAR),
            task_type="CAUSAL_LM",
            base_model_name_or_path=str(base),
            inference_mode=True,
        )
        config.save_pretrained(folder)
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folders


def _shapes(base: Path) -> dict[str, tuple[int, int]]:
    from transformers import AutoConfig

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))
    return {
        name: tuple(module.weight.shape) for name, module in model.named_modules() if name.rpartition(".")[2] in LINEAR
    }
