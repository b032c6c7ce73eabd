"""Adapter folders written by hand, in milliseconds and without torch; knows nothing of the package that is tested."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

HIDDEN, RANK = 64, 2  # of the tiny models in tests/models.py
MODULE = "model.layers.0.self_attn.q_proj"


def write_adapter(
    folder: Path, value: float = 0.5, *, config: Mapping[str, Any] | None = None, hidden: int = HIDDEN
) -> Path:
    """Writes what PEFT's `save_pretrained` writes for a LoRA of one module; another value is another adapter."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    said = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 4, "target_modules": [MODULE]}
    (folder / "adapter_config.json").write_text(json.dumps({**said, **(config or {})}))
    tensors = {"A": np.full((RANK, hidden), value, np.float32), "B": np.full((hidden, RANK), value, np.float32)}
    named = {f"base_model.model.{MODULE}.lora_{part}.weight": tensor for part, tensor in tensors.items()}
    save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder
