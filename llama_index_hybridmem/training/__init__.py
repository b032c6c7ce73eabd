"""LoRA training on exported records: `train`, `finetune`, `improve` and the `Recipe`, each loaded on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_index_hybridmem.training.finetuning import finetune
    from llama_index_hybridmem.training.improving import improve
    from llama_index_hybridmem.training.recipe import Recipe
    from llama_index_hybridmem.training.runs import train

__all__ = ["Recipe", "finetune", "improve", "train"]

_HOMES = {"Recipe": "recipe", "finetune": "finetuning", "improve": "improving", "train": "runs"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
