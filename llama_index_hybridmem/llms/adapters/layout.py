"""Maps the tensors of an adapter's file onto the modules of a base, exactly; knows names and shapes, no numbers.

PEFT loads what fits and keeps silent about the rest: an adapter of a deeper base, or half of one, answers like a
working one. Here every tensor is used once and every module that the configuration names has its tensors, else
the adapter is refused.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from llama_index_hybridmem.errors import AdapterRefusedError
from llama_index_hybridmem.llms.adapters.config import AdapterConfig

PREFIX = "base_model.model."
ALL_LINEAR = "all-linear"
_KEY = re.compile(
    r"base_model\.model\.(?P<module>.+)\."
    r"(?P<role>lora_A\.weight|lora_B\.weight|lora_embedding_A|lora_embedding_B|lora_magnitude_vector|base_layer\.weight)"
)
_ROLES = {
    "linear": ("lora_A.weight", "lora_B.weight"),
    "embedding": ("lora_embedding_A", "lora_embedding_B"),
}
_MAGNITUDE, _COPY = "lora_magnitude_vector", "base_layer.weight"
_OTHER_BASE = "Serve it on the base that it was trained on"
_OWN_CONFIG = "Use the adapter_config.json that was saved with these weights"
_INCOMPLETE = "The file is incomplete; save the adapter again with save_pretrained"


@dataclass(frozen=True)
class ModuleShape:
    """A module of the base that can take a LoRA part.

    Attributes:
        in_features: values in; of an embedding, the size of its vocabulary.
        out_features: values out; of an embedding, the length of a vector.
        kind: what it computes. GPT-2's Conv1D counts as linear.
    """

    in_features: int
    out_features: int
    kind: Literal["linear", "embedding"] = "linear"


@dataclass(frozen=True)
class LoraPart:
    """What one module of the base gets: ``output += scaling * B(A(input))``.

    Attributes:
        module: the module's name in the base, such as "model.layers.0.self_attn.q_proj".
        a: key of A in the file, of shape (rank, in_features).
        b: key of B in the file, of shape (out_features, rank).
        rank: rows of A.
        scaling: alpha / rank, or alpha / sqrt(rank).
        magnitude: key of DoRA's norms, of shape (out_features,).
        kind: as the module's.
    """

    module: str
    a: str
    b: str
    rank: int
    scaling: float
    magnitude: str | None = None
    kind: Literal["linear", "embedding"] = "linear"


@dataclass(frozen=True)
class Layout:
    """How a file's tensors map onto the base; each is used exactly once.

    Attributes:
        parts: one per adapted module, in the order of the base.
        saved: parameters that the adapter replaces as a whole, such as "lm_head.weight", to the tensor's key.
        copies: parameters of the base that PEFT saved unchanged beside LoRA on an embedding, to the tensor's key. They
            are compared with the base where both are known, and never loaded.
    """

    parts: tuple[LoraPart, ...]
    saved: Mapping[str, str] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)


def lay_out(
    config: AdapterConfig,
    tensors: Mapping[str, tuple[int, ...]],
    modules: Mapping[str, ModuleShape],
    parameters: Mapping[str, tuple[int, ...]],
    place: str,
) -> Layout:
    """Maps a file's tensors onto a base.

    Args:
        config: the adapter's configuration.
        tensors: the file's keys and shapes.
        modules: the base's modules by name, in its order.
        parameters: the base's parameters by name, those of tied modules under each of their names.
        place: the file, for messages.

    Raises:
        AdapterRefusedError: a tensor that the base has no place for, is missing or has another shape; names it.
    """
    tied = _tied(config, modules)
    lora, saved = _sorted_out(config, tensors, parameters, tied, place)
    parts = [
        _part(config, name, shape, lora.pop(name), tensors, place) for name, shape in modules.items() if name in lora
    ]
    for name, roles in lora.items():
        raise AdapterRefusedError(place, next(iter(roles.values())), f"the base has no module {name}", _OTHER_BASE)
    if not parts and not saved:
        raise AdapterRefusedError(place, None, "it holds no weights of an adapter", _INCOMPLETE)
    _check_targets(config, {part.module for part in parts}, modules, tied, place)
    _check_saved(config, saved, parameters, place)
    return Layout(tuple(parts), saved, _copies(tensors, parameters, place))


def _tied(config: AdapterConfig, modules: Mapping[str, ModuleShape]) -> set[str]:
    """Modules that ``ensure_weight_tying`` adapts with the one it names: those that share the size of an embedding."""
    if not config.ensure_weight_tying:
        return set()
    sizes = {name: {shape.in_features, shape.out_features} for name, shape in modules.items()}
    embeddings = [sizes[name] for name, shape in modules.items() if shape.kind == "embedding"]
    return {name for name, size in sizes.items() if size in embeddings}


def _sorted_out(
    config: AdapterConfig,
    tensors: Mapping[str, tuple[int, ...]],
    parameters: Mapping[str, tuple[int, ...]],
    tied: set[str],
    place: str,
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """LoRA's tensors as module -> role -> key, and whole parameters as name -> key."""
    lora: dict[str, dict[str, str]] = defaultdict(dict)
    saved = {}
    for key, shape in tensors.items():
        if match := _KEY.fullmatch(key):
            lora[match["module"]][match["role"]] = key
            continue
        name = key.removeprefix(PREFIX)
        replaces = _is_saved(config, name) or (config.modules_to_save and name.removesuffix(".weight") in tied)
        if name == key or not replaces:
            advice = "Remove it from the file, or save the adapter again with PEFT's save_pretrained"
            raise AdapterRefusedError(place, key, "no part of LoRA, and modules_to_save does not name it", advice)
        _check_shape(place, key, shape, parameters.get(name), name)
        saved[name] = key
    return dict(lora), saved


def _check_shape(place: str, key: str, shape: tuple[int, ...], wanted: tuple[int, ...] | None, name: str) -> None:
    """A tensor that stands for a whole parameter of the base has its shape."""
    if wanted is None:
        problem = f"the base has no parameter {name} that could be replaced (none of that name, or it is quantised)"
        raise AdapterRefusedError(place, key, problem, _OTHER_BASE)
    if shape != wanted:
        raise AdapterRefusedError(place, key, f"its shape is {shape}, the base's {wanted}", _OTHER_BASE)


def _part(
    config: AdapterConfig,
    name: str,
    shape: ModuleShape,
    roles: dict[str, str],
    tensors: Mapping[str, tuple[int, ...]],
    place: str,
) -> LoraPart:
    """One module's tensors, complete and of the right shapes."""
    rank = config.rank(name)
    role_a, role_b = _ROLES[shape.kind]
    wanted: dict[str, tuple[int, ...]] = {role_a: (rank, shape.in_features), role_b: (shape.out_features, rank)}
    if config.use_dora:
        wanted[_MAGNITUDE] = (shape.out_features,)
    for role in wanted:
        if role not in roles:
            problem = f"missing, though {next(iter(roles.values()))} is there"
            raise AdapterRefusedError(place, f"{PREFIX}{name}.{role}", problem, _INCOMPLETE)
    for role, key in roles.items():
        if role in wanted and tensors[key] != wanted[role]:
            raise _wrong_shape(place, key, tensors[key], wanted[role], rank)
        if role not in wanted and role != _COPY:
            problem = f"of another kind of adapter than {shape.kind} LoRA with use_dora={config.use_dora}"
            raise AdapterRefusedError(place, key, problem, _OWN_CONFIG)
    return LoraPart(name, roles[role_a], roles[role_b], rank, config.scaling(name), roles.get(_MAGNITUDE), shape.kind)


def _wrong_shape(
    place: str, key: str, shape: tuple[int, ...], wanted: tuple[int, ...], rank: int
) -> AdapterRefusedError:
    """The likeliest reason for a wrong shape, and what to do."""
    advice = _OTHER_BASE
    if shape == wanted[::-1]:
        advice = "It is transposed; save the adapter again with PEFT's save_pretrained"
    elif rank not in shape:
        advice = f"adapter_config.json says rank {rank}; use the one that was saved with these weights"
    return AdapterRefusedError(place, key, f"its shape is {shape} instead of {wanted}", advice)


def _copies(
    tensors: Mapping[str, tuple[int, ...]], parameters: Mapping[str, tuple[int, ...]], place: str
) -> dict[str, str]:
    """Copies of the base's own embeddings, which PEFT saves beside LoRA on them."""
    copies = {}
    for key, shape in tensors.items():
        if (match := _KEY.fullmatch(key)) and match["role"] == _COPY:
            name = f"{match['module']}.weight"
            _check_shape(place, key, shape, parameters.get(name), name)
            copies[name] = key
    return copies


def _check_targets(
    config: AdapterConfig, present: set[str], modules: Mapping[str, ModuleShape], tied: set[str], place: str
) -> None:
    """The configuration names exactly the modules that the file holds."""
    if config.target_modules is None:
        return
    for name, shape in modules.items():
        named = _is_target(config, name, shape)
        if named and name not in present:
            problem = "missing, though target_modules names its module"
            raise AdapterRefusedError(place, f"{PREFIX}{name}.{_ROLES[shape.kind][0]}", problem, _INCOMPLETE)
        if name in present and not named and name not in tied:
            raise AdapterRefusedError(place, f"{PREFIX}{name}", "target_modules does not name it", _OWN_CONFIG)


def _is_target(config: AdapterConfig, name: str, shape: ModuleShape) -> bool:
    """Whether the configuration names a module, by the rules of PEFT 0.21's check_target_module_exists."""
    if _matches(config.exclude_modules, name):
        return False
    if any(re.match(rf"(^|.*\.){re.escape(one)}($|\..*)", name) for one in config.modules_to_save):
        return False
    targets = config.target_modules
    if isinstance(targets, str) and targets.lower() == ALL_LINEAR:  # every linear module of the layers, not the head
        return shape.kind == "linear" and re.search(r"\.\d+\.", name) is not None
    if isinstance(targets, str) or name in (targets or ()):
        return _matches(targets, name)
    return _matches(targets, name) and _in_layers(config, name)


def _matches(targets: tuple[str, ...] | str | None, name: str) -> bool:
    """Whether a name is one of some, ends with one after a dot, or is what a regular expression describes."""
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == one or name.endswith(f".{one}") for one in targets or ())


def _in_layers(config: AdapterConfig, name: str) -> bool:
    """Whether a module stands in one of the layers that ``layers_to_transform`` lists."""
    if config.layers_to_transform is None:
        return True
    before = [rf"(?:^|.*?\.){pattern}" for pattern in config.layers_pattern] or [r".*?\.[^.]*"]
    found = (re.match(rf"{pattern}\.(?P<layer>\d+)\.", name) for pattern in before)
    layer = next((int(match["layer"]) for match in found if match), None)
    return layer in config.layers_to_transform


def _is_saved(config: AdapterConfig, parameter: str) -> bool:
    """Whether a parameter lies in a module that ``modules_to_save`` names; PEFT compares the ends of names."""
    path = parameter.split(".")[:-1]
    above = [".".join(path[:length]) for length in range(1, len(path) + 1)]
    return any(module.endswith(one) for module in above for one in config.modules_to_save)


def _check_saved(
    config: AdapterConfig, saved: Mapping[str, str], parameters: Mapping[str, tuple[int, ...]], place: str
) -> None:
    """Every parameter that ``modules_to_save`` names is in the file."""
    for name in parameters:
        if name not in saved and _is_saved(config, name):
            raise AdapterRefusedError(place, f"{PREFIX}{name}", "missing, though modules_to_save names it", _INCOMPLETE)
    for one in config.modules_to_save:
        if not any(_is_saved(AdapterConfig(1, 1.0, modules_to_save=(one,)), name) for name in saved):
            raise AdapterRefusedError(place, one, "modules_to_save names it, the base has none", _OTHER_BASE)
