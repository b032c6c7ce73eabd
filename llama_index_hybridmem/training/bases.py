"""Opens a base model for training and measures what trains it; knows no data and no trainer."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.extras import require
from llama_index_hybridmem.llms.adapters.base_record import record_of
from llama_index_hybridmem.llms.adapters.files import open_adapter
from llama_index_hybridmem.llms.loading import no_progress_bar
from llama_index_hybridmem.llms.smollm2 import NAME as SMOLLM2
from llama_index_hybridmem.llms.smollm2 import model_folder
from llama_index_hybridmem.training.recipe import Recipe

if TYPE_CHECKING:
    from peft import PeftConfig

    from llama_index_hybridmem.llms.adapters.compatibility import BaseRecord

PACKAGED = "smollm2"
"""Names the small model that comes as a package (`llms.smollm2`)."""

_RATE_SIZE, _RATE_TRIES = 1024, 5


@dataclass(frozen=True)
class Base:
    """A base model in memory.

    Attributes:
        name: as a lineage and an adapter's configuration name it.
        model: of transformers.
        tokenizer: its own.
        record: what tells it from others, taken before anything was added to it; None of an empty one.
    """

    name: str
    model: Any
    tokenizer: Any
    record: BaseRecord | None = None


def locate(base: Path | str) -> tuple[str, str]:
    """Give a base's name and where transformers finds it.

    Args:
        base: ``smollm2``, a model's folder, or a name on a hub of models.
    """
    if str(base) == PACKAGED:
        return SMOLLM2, str(model_folder())
    folder = Path(base)
    return (folder.resolve().name, str(folder.resolve())) if folder.is_dir() else (str(base), str(base))


def open_base(base: Path | str, recipe: Recipe, *, start: Path | str | None = None, empty: bool = False) -> Base:
    """Load a model and its tokenizer.

    Args:
        base: see `locate`.
        recipe: of its method ``qlora`` the weights are loaded in four bits.
        start: folder of an adapter that the model gets, to be trained further; ours or one that was checked.
        empty: its shape alone, without weights; nothing can be computed with it.

    Raises:
        ConfigurationError: there is no such model, or it has no chat template.
        MissingExtraError: transformers, or bitsandbytes for ``qlora``, is not installed.
    """
    require("training", "lora", "torch", "transformers", "peft", "accelerate")
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    name, place = locate(base)
    try:
        with without_others_news():
            tokenizer = AutoTokenizer.from_pretrained(place)
            if empty:
                with torch.device("meta"):
                    model: Any = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(place))  # type: ignore[no-untyped-call]
            else:
                model = AutoModelForCausalLM.from_pretrained(place, **_loading(recipe))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"no base model {str(base)!r}: {error}") from error
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigurationError(f"{name} has no chat template: name an instruction-tuned model, or give it a template")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    record = None if empty else replace(record_of(model, tokenizer), name=name)  # a path is nobody's to learn
    if start is not None:
        model = _further(model, place, Path(start), recipe)
    return Base(name, model, tokenizer, record)


def _further(model: Any, place: str, start: Path, recipe: Recipe) -> Any:
    from peft import PeftModel

    if recipe.method not in ("lora", "qlora"):
        raise ConfigurationError(f"an adapter is trained further with lora or qlora, not {recipe.method}")
    open_adapter(start)  # refuses what is none, and pickles, before anything is loaded
    try:
        with without_others_news():
            adapted = PeftModel.from_pretrained(model, str(start), is_trainable=True)
    except (RuntimeError, ValueError, KeyError) as error:
        raise ConfigurationError(f"{start} cannot be trained further on this base: {error}") from error
    for config in adapted.peft_config.values():  # else PEFT looks for the base on a hub, by the name the adapter has
        config.base_model_name_or_path = place
    return adapted


def _loading(recipe: Recipe) -> Mapping[str, Any]:
    import torch

    if recipe.method != "qlora":
        return {"dtype": torch.float32}
    require("the method 'qlora'", "quantized", "bitsandbytes")
    from transformers import BitsAndBytesConfig

    compute = torch.bfloat16 if precision(recipe) == "bf16" else torch.float32
    return {
        "dtype": compute,
        "quantization_config": BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute,
        ),
    }


def precision(recipe: Recipe) -> str:
    """Resolve ``auto``: bf16 on a GPU or a processor that computes with it, else fp32."""
    import torch

    if recipe.precision != "auto":
        return recipe.precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "bf16" if native or getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)() else "fp32"


def adapter_config(recipe: Recipe) -> PeftConfig | None:
    """Give PEFT's configuration of a method; None for ``full``."""
    from peft import LoraConfig, PromptTuningConfig, PromptTuningInit, TaskType

    if recipe.method == "full":
        return None
    if recipe.method == "prompt":
        return PromptTuningConfig(
            task_type=TaskType.CAUSAL_LM,
            num_virtual_tokens=recipe.virtual_tokens,
            prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB,  # numbers of size 1 are far from any token's
        )
    targets = recipe.targets[0] if recipe.targets == ("all-linear",) else list(recipe.targets)
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=recipe.rank,
        lora_alpha=recipe.alpha,  # type: ignore[arg-type]  # PEFT computes with any number
        use_rslora=recipe.rslora,
        lora_dropout=recipe.dropout,
        target_modules=targets,
    )


def flops_per_s() -> float:
    """Measure how fast this process multiplies matrices, in bf16 or fp32 as training would: a tenth of a second."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = torch.bfloat16 if precision(Recipe()) == "bf16" else torch.float32
    left, right = (torch.ones(_RATE_SIZE, _RATE_SIZE, device=device, dtype=kind) for _ in range(2))
    best = 0.0
    for _ in range(_RATE_TRIES):
        begun = time.perf_counter()
        (left @ right).sum().item()  # waits for the device
        best = max(best, 2 * _RATE_SIZE**3 / (time.perf_counter() - begun))
    return best


@contextmanager
def without_others_news() -> Iterator[None]:
    """Libraries tell of each other's renamed options, of bars and of kernels; nobody who trains can change that."""
    told = logging.getLogger("bitsandbytes")
    level = told.level
    with warnings.catch_warnings(), no_progress_bar():
        warnings.simplefilter("ignore", FutureWarning)
        told.setLevel(logging.ERROR)
        try:
            yield
        finally:
            told.setLevel(level)
