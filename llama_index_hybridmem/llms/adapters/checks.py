"""Every check of an adapter's files that needs no forward pass, in order; loads no model and knows no registry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index_hybridmem.errors import AdapterRefusedError, ConfigurationError
from llama_index_hybridmem.extras import require
from llama_index_hybridmem.llms.adapters.base_record import modules_of, parameters_of, record_of, record_of_folder
from llama_index_hybridmem.llms.adapters.compatibility import check_base, lay_out
from llama_index_hybridmem.llms.adapters.files import AdapterFiles, read_tensors

if TYPE_CHECKING:
    from llama_index_hybridmem.llms.adapters.compatibility import BaseRecord, ModuleShape


@dataclass(frozen=True)
class Base:
    """What an adapter is checked against.

    Attributes:
        record: what tells this base from others.
        modules: names and shapes of what LoRA can stand on.
        parameters: names and shapes of all weights.
    """

    record: BaseRecord
    modules: Mapping[str, ModuleShape]
    parameters: Mapping[str, tuple[int, ...]]


def base_of(base: Path | str | tuple[Any, Any]) -> Base:
    """Describe a base, without loading its weights where it is a folder.

    Args:
        base: a model's folder, or a model in memory and its tokenizer.

    Raises:
        ConfigurationError: it is neither, or the folder holds no model.
        MissingExtraError: torch or transformers is not installed.
    """
    if isinstance(base, tuple):
        model, tokenizer = base
        return Base(record_of(model, tokenizer), modules_of(model), parameters_of(model))
    if not isinstance(base, Path | str):
        raise ConfigurationError(f"a base is a model's folder, or (model, tokenizer), not {type(base).__name__}")
    return Base(*record_of_folder(Path(base).resolve()))


def static_checks(files: AdapterFiles, base: Base | None, also_known_as: Sequence[str] = ()) -> Iterator[str]:
    """Run the checks, giving a line for each that is passed.

    Args:
        files: opened, so readable, without pickles, and with a configuration that can be served.
        base: None checks the files alone.
        also_known_as: further names of the base.

    Raises:
        AdapterRefusedError: at the first check that fails; names file, key and what to do.
        MissingExtraError: torch is not installed, which the values need.
    """
    yield f"files: safetensors with a whole header, {len(files.shapes)} tensors, no pickle"
    kind = "served alone" if files.config.exclusive else "served in mixed batches"
    yield f"configuration: rank {files.config.r}, alpha {files.config.alpha:g}, nothing that changes the base, {kind}"
    if base is not None:
        place = str(files.folder)
        check_base(
            files.made_for,
            base.record,
            files.config,
            place,
            also_known_as,
            tokenizer_sha256=files.tokenizer_sha256,
            chat_template_sha256=files.chat_template_sha256,
        )
        yield f"base: {_compared(files, base)}"
        layout = lay_out(files.config, files.shapes, base.modules, base.parameters, place)
        yield f"keys and shapes: {len(layout.parts)} modules, {len(layout.saved)} whole weights, every tensor used once"
    else:
        _check_ranks(files)
        yield "not compared with any base: base, keys and shapes are checked where one is named"
    require("Checking an adapter's values", "lora", "torch", "safetensors")
    read_tensors(files)
    yield "values: all finite"


def _check_ranks(files: AdapterFiles) -> None:
    """The ranks that the configuration names are those of the tensors: that needs no base."""
    for key, shape in files.shapes.items():
        module, found, _ = key.removeprefix("base_model.model.").partition(".lora_A.")
        if found and shape[0] != files.config.rank(module):
            problem = f"rank {shape[0]} where adapter_config.json says {files.config.rank(module)}"
            advice = "Copy the adapter's two files again from where it was trained: they belong together"
            raise AdapterRefusedError(files.weights, key, problem, advice)


def _compared(files: AdapterFiles, base: Base) -> str:
    if files.made_for is not None:
        return f"architecture, weights, tokenizer and template are those of {base.record.name}"
    if files.config.base_name is not None:
        return f"the name agrees with {base.record.name}; no record of the training's base to compare"
    return f"taken to be {base.record.name}: the files name none"
