"""Adapters that must be refused, one kind each: functions that break a good adapter's folder; knows no engine.

    for name, kind in ZOO.items():
        folder = kind.made_from(good, tmp_path / name)
        with pytest.raises(AdapterRefusedError, match=kind.message): ...

A good adapter is any that covers every layer of a base with plain LoRA, with a base of at least two layers.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
Tensors = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """One way for an adapter to be wrong.

    Attributes:
        spoil: breaks a folder in place.
        message: regular expression that the refusal matches, wherever the adapter is offered.
        found_by: "files" (open_adapter), "base" (check_base), "layout" (lay_out), "values" (read_tensors), or "probe":
            only a forward pass tells.
    """

    spoil: Callable[[Path], None]
    message: str
    found_by: str = "files"

    def made_from(self, good: Path, out: Path) -> Path:
        """Copies a good adapter to `out` and breaks the copy."""
        shutil.copytree(good, out)
        self.spoil(out)
        return out


def write_adapter(folder: Path, modules: Mapping[str, Any], base_name: str, rank: int = 4, seed: int = 0) -> Path:
    """Writes a plain adapter of random weights, as PEFT's save_pretrained would.

    Args:
        folder: a new folder.
        modules: names of linear modules to objects with `in_features` and `out_features`.
        base_name: for adapter_config.json.
        rank: of every module.
        seed: of the weights.
    """
    import torch

    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in modules.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.randn(rank, shape.in_features, generator=random)
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.randn(shape.out_features, rank, generator=random)
    folder.mkdir(parents=True)
    _save(folder, tensors)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "bias": "none"}
    targets = sorted({name.rpartition(".")[2] for name in modules})
    config |= {"base_model_name_or_path": base_name, "target_modules": targets, "init_lora_weights": True}
    (folder / CONFIG).write_text(json.dumps(config))
    return folder


def _load(folder: Path) -> Tensors:
    from safetensors.torch import load

    return load((folder / WEIGHTS).read_bytes())


def _save(folder: Path, tensors: Tensors) -> None:
    from safetensors.torch import save_file

    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, str(folder / WEIGHTS), {"format": "pt"})


def _setting(**changes: Any) -> Callable[[Path], None]:
    """Changes adapter_config.json."""

    def spoil(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(config | changes))

    return spoil


def _text(name: str, content: str) -> Callable[[Path], None]:
    """Writes a file."""
    return lambda folder: folder.joinpath(name).write_text(content) and None


def _tensors(change: Callable[[Tensors], Tensors]) -> Callable[[Path], None]:
    """Changes the tensors as a whole."""
    return lambda folder: _save(folder, change(_load(folder)))


def _each(change: Callable[[str, Any], Any]) -> Callable[[Path], None]:
    """Changes every tensor."""
    return _tensors(lambda tensors: {key: change(key, tensor) for key, tensor in tensors.items()})


def _first(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Changes the first tensor by name."""
    return _tensors(lambda tensors: tensors | {min(tensors): change(tensors[min(tensors)].clone())})


def _poison(value: float) -> Callable[[Path], None]:
    """Puts one bad number into the middle of a tensor."""

    def change(tensor: Any) -> Any:
        tensor.view(-1)[tensor.numel() // 2] = value
        return tensor

    return _first(change)


def _extra(key: str, *shape: int) -> Callable[[Path], None]:
    """Adds a tensor."""
    return _tensors(lambda tensors: {**tensors, key: next(iter(tensors.values())).new_zeros(shape)})


def _alpha_x100(folder: Path) -> None:
    """As by a typing error."""
    config = json.loads((folder / CONFIG).read_text())
    _setting(lora_alpha=100 * config["lora_alpha"])(folder)


def _rank_plus_one(folder: Path) -> None:
    """The configuration of another training run."""
    _setting(r=json.loads((folder / CONFIG).read_text())["r"] + 1)(folder)


def _half(tensors: Tensors) -> Tensors:
    """Whole pairs of the second half of the modules are lost."""
    modules = sorted({key.partition(".lora_")[0] for key in tensors})
    kept = modules[: len(modules) // 2]
    return {key: tensor for key, tensor in tensors.items() if key.partition(".lora_")[0] in kept}


def _deeper(tensors: Tensors) -> Tensors:
    """The layers of a base with two hundred more."""
    more = {key.replace(".0.", ".200.", 1): tensor.clone() for key, tensor in tensors.items() if ".0." in key}
    return tensors | more


def _a_transposed(key: str, tensor: Any) -> Any:
    return tensor.t() if ".lora_A." in key else tensor


def _wider(key: str, tensor: Any) -> Any:
    """A base of twice the hidden size."""
    import torch

    return torch.cat([tensor, tensor], dim=1 if ".lora_A." in key else 0)


def _no_effect(key: str, tensor: Any) -> Any:
    """Saved before the first step: every B is zero."""
    return tensor * 0 if ".lora_B." in key else tensor


def _truncated(folder: Path) -> None:
    path = folder / WEIGHTS
    os.truncate(path, path.stat().st_size * 2 // 3)


def _cut_in_header(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, 40)


def _header(change: Callable[[dict[str, Any]], str]) -> Callable[[Path], None]:
    """Writes another header over the same numbers."""

    def spoil(folder: Path) -> None:
        content = (folder / WEIGHTS).read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        text = change(json.loads(content[8 : 8 + length])).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])

    return spoil


def _lying_offsets(header: dict[str, Any]) -> str:
    """Two tensors in the same bytes."""
    first, second, *_ = [key for key in header if key != "__metadata__"]
    header[second]["data_offsets"] = header[first]["data_offsets"]
    header[second]["shape"] = header[first]["shape"]
    return json.dumps(header)


def _huge_shape(header: dict[str, Any]) -> str:
    """A tensor that would fill any memory."""
    key = next(key for key in header if key != "__metadata__")
    header[key]["shape"] = [1 << 30, 1 << 30]
    return json.dumps(header)


def _key_twice(header: dict[str, Any]) -> str:
    """Readers differ in which of the two they take."""
    key = next(key for key in header if key != "__metadata__")
    return json.dumps(header)[:-1] + f", {json.dumps(key)}: {json.dumps(header[key])}}}"


class _Code:
    """What a malicious pickle does when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.makedirs, ("the-pickle-was-read",))


def _only_pickle(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(_Code()))


def _pickle_renamed(folder: Path) -> None:
    """torch.save's zip archive under the name of the safetensors file."""
    with zipfile.ZipFile(folder / WEIGHTS, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(_Code()))


def _link_outside(folder: Path) -> None:
    """Somebody else's file, or the tenant's that is exchanged after the check."""
    outside = folder.parent / f"{folder.name}-outside.safetensors"
    shutil.move(folder / WEIGHTS, outside)
    (folder / WEIGHTS).symlink_to(outside)


def _other_tokenizer(folder: Path) -> None:
    vocabulary = {"model": {"type": "WordLevel", "vocab": {"yes": 0, "no": 1}}, "added_tokens": []}
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary))


def _record_of_another(folder: Path) -> None:
    base = {
        "name": "other",
        "revision": None,
        "model_type": "none-such",
        "sizes": {"hidden_size": 1},
        "dtype": "float32",
        "quantization": None,
        "samples": {"w": [0.0, 1.0]},
        "samples_sha256": "0",
        "tokenizer_sha256": "0",
        "chat_template_sha256": None,
        "special_tokens": {"bos": None, "eos": None, "pad": None},
    }
    (folder / "hybridmem.json").write_text(json.dumps({"base": base}))


def _integers(key: str, tensor: Any) -> Any:
    import torch

    return (tensor * 100).to(torch.int8)


_JSON = r"adapter_config\.json"
_TENSORS = r"adapter_model\.safetensors"
_CONVERT = r".*changes the base.*path_initial_model_for_weight_conversion"

ZOO: dict[str, Kind] = {
    # initialisers and settings that change the base for everybody
    "pissa": Kind(_setting(init_lora_weights="pissa"), rf"{_JSON}, init_lora_weights: 'pissa'{_CONVERT}"),
    "pissa-niter": Kind(_setting(init_lora_weights="pissa_niter_4"), rf"init_lora_weights: 'pissa_niter_4'{_CONVERT}"),
    "olora": Kind(_setting(init_lora_weights="olora"), rf"init_lora_weights: 'olora'{_CONVERT}"),
    "corda": Kind(_setting(init_lora_weights="corda"), rf"init_lora_weights: 'corda'{_CONVERT}"),
    "loftq": Kind(_setting(init_lora_weights="loftq", loftq_config={"loftq_bits": 4}), r"init_lora_weights: 'loftq'"),
    "lora-ga": Kind(_setting(init_lora_weights="lora_ga"), rf"init_lora_weights: 'lora_ga'{_CONVERT}"),
    "layer-replication": Kind(
        _setting(layer_replication=[[0, 2], [1, 2]]), rf"{_JSON}, layer_replication: .*a base of"
    ),
    "kasa": Kind(_setting(kasa_config={"beta": 1e-4}), r"kasa_config: .*the base.*Train it again"),
    "bias-all": Kind(_setting(bias="all"), rf"{_JSON}, bias: 'all' .*bias='none'"),
    # what is not plain LoRA on a language model
    "ia3": Kind(_setting(peft_type="IA3"), rf"{_JSON}, peft_type: 'IA3' .*train one"),
    "sequence-classification": Kind(_setting(task_type="SEQ_CLS"), rf"{_JSON}, task_type: 'SEQ_CLS' .*CAUSAL_LM"),
    "alora": Kind(_setting(alora_invocation_tokens=[1, 2]), rf"{_JSON}, alora_invocation_tokens: .*Train it again"),
    "target-parameters": Kind(
        _setting(target_parameters=["experts.gate_up_proj"]), r"target_parameters: .*target_modules"
    ),
    "trainable-tokens": Kind(_setting(trainable_token_indices=[3]), r"trainable_token_indices: .*modules_to_save"),
    "lora-bias": Kind(_setting(lora_bias=True), r"lora_bias: True .*lora_bias=False"),
    "arrow": Kind(_setting(arrow_config={"top_k": 2}), r"arrow_config: .*serve one of them"),
    "qalora": Kind(_setting(use_qalora=True), r"use_qalora: True .*plain LoRA"),
    "unknown-key": Kind(_setting(run_after_load="x.py"), rf"{_JSON}, run_after_load: 'x\.py' .*remove the key"),
    # numbers that cannot be
    "huge-rank": Kind(_setting(r=100_000), rf"{_JSON}, r: 100000 .*Restore the r"),
    "no-rank": Kind(_setting(r=0), rf"{_JSON}, r: 0 .*Restore the r"),
    "alpha-x100": Kind(_alpha_x100, rf"{_JSON}, lora_alpha: .*Restore the lora_alpha"),
    "alpha-nan": Kind(_setting(lora_alpha=math.nan), rf"{_JSON}, lora_alpha: nan .*Restore the lora_alpha"),
    "endless-pattern": Kind(_setting(target_modules="(a+)+b"), rf"{_JSON}, target_modules: .*names instead"),
    # files
    "no-config": Kind(lambda folder: (folder / CONFIG).unlink(), rf"{_JSON}: the file is missing.*Copy"),
    "config-not-json": Kind(_text(CONFIG, "r: 8"), rf"{_JSON}: no readable JSON .*Copy"),
    "config-not-an-object": Kind(_text(CONFIG, "[8, 16]"), rf"{_JSON}: it holds no JSON object.*save_pretrained"),
    "config-too-deep": Kind(_text(CONFIG, "[" * 200_000), rf"{_JSON}: no readable JSON .*Copy"),
    "no-folder": Kind(shutil.rmtree, r"no folder of that name.*save_pretrained"),
    "no-weights": Kind(lambda folder: (folder / WEIGHTS).unlink(), rf"{_TENSORS}: the file is missing.*Copy"),
    "empty-weights": Kind(lambda folder: os.truncate(folder / WEIGHTS, 0), rf"{_TENSORS}: 0 bytes.*Copy"),
    "only-pickle": Kind(_only_pickle, r"adapter_model\.bin: a pickle.*safe_serialization"),
    "pickle-renamed": Kind(_pickle_renamed, rf"{_TENSORS}: no safetensors file.*Copy"),
    "truncated": Kind(_truncated, rf"{_TENSORS}: \d+ bytes of numbers where the header says \d+.*Copy"),
    "cut-in-header": Kind(_cut_in_header, rf"{_TENSORS}: .*cut off in its header.*Copy"),
    "lying-offsets": Kind(_header(_lying_offsets), rf"{_TENSORS}, base_model\S+: its numbers start at byte.*Copy"),
    "huge-shape": Kind(_header(_huge_shape), rf"{_TENSORS}, base_model\S+: shape .* does not fill.*Copy"),
    "key-twice": Kind(_header(_key_twice), rf"{_TENSORS}: .*'base_model\S+ stands twice.*Copy"),
    "integers": Kind(_each(_integers), rf"{_TENSORS}, base_model\S+: its dtype is 'I8'.*float32"),
    "link-outside": Kind(_link_outside, rf"{_TENSORS}: a link that leads out of the folder.*cp -L"),
    "damaged-record": Kind(_text("hybridmem.json", '{"base": {"name": 3}}'), r"hybridmem\.json, base\.name: .*add"),
    # another base
    "other-base-name": Kind(
        _setting(base_model_name_or_path="org/another-model"), r"base_model_name_or_path: .*also_known_as", "base"
    ),
    "record-of-another-base": Kind(_record_of_another, r"model_type: made for a none-such.*Serve it on", "base"),
    "other-tokenizer": Kind(_other_tokenizer, r"tokenizer: .*another vocabulary.*Load the base with", "base"),
    "other-template": Kind(
        _text("chat_template.jinja", "{{ messages }}"), r"chat_template: .*another chat.*remove chat_template", "base"
    ),
    "other-hidden-size": Kind(_each(_wider), r"base_model\S+: its shape is .* instead of .*Serve it on", "layout"),
    "deeper-base": Kind(_tensors(_deeper), r"base_model\S+: the base has no module \S+200.*Serve it on", "layout"),
    # tensors
    "other-rank": Kind(_rank_plus_one, r"base_model\S+: its shape is .*says rank \d+; use the one", "layout"),
    "half-of-the-keys": Kind(_tensors(_half), r"base_model\S+: missing, though target_modules.*incomplete", "layout"),
    "a-without-b": Kind(
        _tensors(lambda tensors: {key: tensor for key, tensor in tensors.items() if key != max(tensors)}),
        r"base_model\S+\.lora_B\.weight: missing, though .*incomplete",
        "layout",
    ),
    "extra-key": Kind(
        _extra("base_model.model.lm_head.weight", 3, 3), r"base_model\.model\.lm_head\.weight: .*Remove it", "layout"
    ),
    "foreign-key": Kind(_extra("optimizer.state", 3), r"optimizer\.state: no part of LoRA.*Remove it", "layout"),
    "unnamed-module": Kind(
        _setting(target_modules=["q_proj"]), r"base_model\S+: target_modules does not name it.*Use the", "layout"
    ),
    "dora-without-norms": Kind(_setting(use_dora=True), r"lora_magnitude_vector: missing.*incomplete", "layout"),
    "head-missing": Kind(
        _setting(modules_to_save=["lm_head"]), r"lm_head\S*: missing, though modules_to_save.*incomplete", "layout"
    ),
    "transposed-a": Kind(_each(_a_transposed), r"base_model\S+lora_A\.weight: .*transposed; save", "layout"),
    "nan": Kind(_poison(math.nan), rf"{_TENSORS}, base_model\S+: it holds NaN.*earlier checkpoint", "values"),
    "infinite": Kind(_poison(-math.inf), rf"{_TENSORS}, base_model\S+: .*infinite.*earlier checkpoint", "values"),
    "no-effect": Kind(_each(_no_effect), r"does not change", "probe"),
}
