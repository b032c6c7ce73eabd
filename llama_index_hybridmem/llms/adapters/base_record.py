"""Records what a base model is, so that adapters can be held to it; knows nothing of adapters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.extras import require
from llama_index_hybridmem.llms.adapters.compatibility import BaseRecord
from llama_index_hybridmem.llms.adapters.fingerprints import sample_places, template_sha256, vocabulary_sha256
from llama_index_hybridmem.llms.adapters.layout import ModuleShape

if TYPE_CHECKING:
    import torch

SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)


def record_of(model: Any, tokenizer: Any) -> BaseRecord:
    """Records a model in memory, quantised or not; some milliseconds, no weight is copied.

    Args:
        model: a model of transformers, such as a LlamaForCausalLM.
        tokenizer: its tokenizer.
    """
    weights = dict(model.named_parameters(remove_duplicate=False))
    return _record(model, tokenizer, _quantization(model), weights.get)


def record_of_folder(path: Path) -> tuple[BaseRecord, dict[str, ModuleShape], dict[str, tuple[int, ...]]]:
    """Records a model that lies in a folder, without loading it.

    Args:
        path: a folder with config.json, safetensors files and a tokenizer.

    Returns:
        The record, the modules and the parameters, as ``record_of``, ``modules_of`` and ``parameters_of`` give them.

    Raises:
        ConfigurationError: it holds no model that transformers knows, or no safetensors.
        MissingExtraError: the extra ``lora`` is not installed.
    """
    require("Reading a base model", "lora", "torch", "transformers", "safetensors")
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    path = Path(path)
    if not path.is_dir():  # else transformers asks the Hub for a model of that name
        raise ConfigurationError(f"no folder {path} with a base model")
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
        with ExitStack() as opened:
            record = _record(model, tokenizer, _quantization(model), _from_files(path, opened))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ConfigurationError(f"{path} holds no base model with safetensors and a tokenizer: {error}") from error
    return record, modules_of(model), parameters_of(model)


def modules_of(model: Any) -> dict[str, ModuleShape]:
    """The linear and embedding modules of a model, by name and in its order; quantised ones with their true sizes."""
    found = {}
    for name, module in model.named_modules():
        shape = _shape(module)
        if shape is not None:
            found[name] = shape
    return found


def _shape(module: Any) -> ModuleShape | None:
    """A module's shape by the names that torch, bitsandbytes, GPTQ and others share; GPT-2's Conv1D has its own."""
    for inward, outward, kind in (
        ("in_features", "out_features", "linear"),
        ("num_embeddings", "embedding_dim", "embedding"),
    ):
        sizes = getattr(module, inward, None), getattr(module, outward, None)
        if type(sizes[0]) is int and type(sizes[1]) is int:
            return ModuleShape(sizes[0], sizes[1], kind)  # type: ignore[arg-type]
    if type(module).__name__ == "Conv1D":
        return ModuleShape(*module.weight.shape)
    return None


def parameters_of(model: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of a model's parameters that hold plain numbers, tied ones under each of their names."""
    named = model.named_parameters(remove_duplicate=False)
    return {name: tuple(weight.shape) for name, weight in named if _is_plain(weight)}


def _is_plain(weight: Any) -> bool:
    """Whether a weight is neither packed by a quantiser nor of whole numbers."""
    return bool(weight.is_floating_point()) and not hasattr(weight, "quant_state")


def _record(
    model: Any, tokenizer: Any, quantization: str | None, weight: Callable[[str], torch.Tensor | None]
) -> BaseRecord:
    """The record of a model whose weights come from ``weight``."""
    config = model.config.get_text_config()
    read = {name: _sample(tensor) for name in _sampled(model) if (tensor := weight(name)) is not None}
    plain = {name: values for name, values in read.items() if values is not None}
    template = getattr(tokenizer, "chat_template", None)
    return BaseRecord(
        name=str(getattr(model.config, "_name_or_path", "") or ""),
        revision=getattr(model.config, "_commit_hash", None),
        model_type=str(model.config.model_type),
        sizes={name: value for name in SIZES if type(value := getattr(config, name, None)) is int},
        dtype=next((str(values.dtype) for values in plain.values()), "").removeprefix("torch."),
        quantization=quantization,
        samples={name: tuple(values.float().tolist()) for name, values in plain.items()},
        samples_sha256=_sha256(plain),
        tokenizer_sha256=vocabulary_sha256(tokenizer.get_vocab().items()),
        chat_template_sha256=None if template is None else template_sha256(_as_text(template)),
        special_tokens={name: getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "pad")},
    )


def _as_text(template: Any) -> str:
    """A tokenizer's chat template; of several under names, all of them."""
    return template if isinstance(template, str) else json.dumps(template, sort_keys=True)


def _sampled(model: Any) -> Iterator[str]:
    """Names of the weights to sample: the embeddings, the first and last norm, the first and last linear weight."""
    weights = {name: weight for name, weight in model.named_parameters() if name.endswith("weight")}
    linear = [f"{name}.weight" for name, shape in modules_of(model).items() if shape.kind == "linear"]
    norms = [name for name, weight in weights.items() if weight.dim() == 1]
    embeddings = [f"{name}.weight" for name, shape in modules_of(model).items() if shape.kind == "embedding"]
    in_layers = linear[:-1] or linear  # the last is the output embedding, where there are others
    chosen = [*embeddings[:1], *norms[:1], *norms[-1:], *in_layers[:1], *in_layers[-1:], *linear[-1:]]
    yield from (name for name in dict.fromkeys(chosen) if name in weights)


def _sample(weight: torch.Tensor) -> torch.Tensor | None:
    """Some values of a weight on the CPU, evenly spread; None where it has no plain numbers in memory."""
    import torch

    if weight.is_meta or not _is_plain(weight) or weight.numel() == 0:
        return None
    places = torch.tensor(sample_places(weight.numel()), device=weight.device)
    return weight.detach().flatten()[places].cpu()


def _sha256(samples: Mapping[str, torch.Tensor]) -> str:
    """A hash over sampled values in their own dtype."""
    import torch

    digest = hashlib.sha256()
    for name, values in sorted(samples.items()):
        digest.update(f"{name} {values.dtype}\n".encode())
        digest.update(values.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _quantization(model: Any) -> str | None:
    """What quantises a model: "4bit" and "8bit" by bitsandbytes, else the method's name."""
    config = getattr(model.config, "quantization_config", None)
    if config is None:
        return None
    read = config if isinstance(config, Mapping) else config.to_dict()
    for name in ("4bit", "8bit"):
        if read.get(f"load_in_{name}") or read.get(f"_load_in_{name}"):
            return name
    return str(read.get("quant_method", "unknown"))


def _from_files(path: Path, opened: ExitStack) -> Callable[[str], torch.Tensor | None]:
    """Reads single weights out of a folder's safetensors files, which stay open until ``opened`` closes."""
    from safetensors import safe_open

    index = path / "model.safetensors.index.json"
    names = (
        sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else ["model.safetensors"]
    )
    files = [opened.enter_context(safe_open(str(path / name), framework="pt")) for name in names]
    holder = {key: file for file in files for key in file.keys()}  # noqa: SIM118 (no mapping)
    return lambda name: holder[name].get_tensor(name) if name in holder else None
