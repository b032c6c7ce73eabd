"""Reads a LoRA adapter's configuration by a list of what we know to serve; knows no files, no torch and no PEFT.

A key that changes nothing at inference is accepted with any value, a key that we compute is read and checked, and every
other key is refused by name unless it is empty: what we do not know may change the answer, or the base for everybody.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from llama_index_hybridmem.errors import AdapterRefusedError

# The largest rank that vLLM takes is 512; above it an adapter is a file by mistake, or an attack on the memory.
MAX_RANK = 1024
# Scalings in use lie between 0.1 and 16 (alpha is one or two times r, with rsLoRA up to sqrt(r) times that).
MAX_SCALING = 64.0
# A regular expression of a stranger runs on every module's name: short, few repetitions, nothing nested.
MAX_PATTERN = 1000
MAX_REPETITIONS = 5

_INERT = frozenset(
    "auto_mapping corda_config ensure_weight_tying eva_config fan_in_fan_out inference_mode loftq_config lora_dropout "
    "lora_ga_config megatron_core merge_weights qalora_group_size revision runtime_config".split()
)
_READ = frozenset(
    "alpha_pattern base_model_name_or_path bias exclude_modules init_lora_weights layers_pattern layers_to_transform "
    "lora_alpha modules_to_save peft_type peft_version r rank_pattern target_modules task_type use_dora "
    "use_rslora".split()
)
_RETRAIN = "Train it again as plain LoRA, without this setting"
_ADVICE = {
    "alora_invocation_tokens": "aLoRA switches on in the middle of a prompt, and without its tokens it is the base; "
    + _RETRAIN,
    "arrow_config": "Arrow mixes several adapters by token; serve one of them, or train one on all their data",
    "bias": "Biases belong to the base, which all adapters share; train it again with bias='none'",
    "kasa_config": "KaSA removes part of the base's weights, which all adapters share; " + _RETRAIN,
    "layer_replication": "It changes the layers of the base, which all adapters share; build that deeper model as a "
    "base of its own and train on it",
    "lora_bias": "Train it again with lora_bias=False",
    "target_parameters": "LoRA on bare parameters, such as a mixture's experts, cannot be mixed in a batch; "
    "train it again with target_modules",
    "trainable_token_indices": "Train it again without new tokens, or with modules_to_save=['embed_tokens']",
}
_UNKNOWN = (
    "Its effect is not known here; remove the key if it only served the training, or train it again as plain LoRA"
)
# They leave the base's weights as they are, so that the saved A and B are the whole difference.
_PLAIN_INITIALISERS = ("eva", "gaussian", "mica", "orthogonal")
_CONVERT = (
    "It moves part of the base's weights into the adapter; save it again with PEFT's save_pretrained(..., "
    "path_initial_model_for_weight_conversion=...), which makes plain LoRA of it, or train with init_lora_weights=True"
)
_Number = TypeVar("_Number", int, float)
_EMPTY: tuple[Any, ...] = (None, False, "", [], {})


@dataclass(frozen=True)
class AdapterConfig:
    """What of adapter_config.json decides how an adapter computes.

    Attributes:
        r: rank of A and B where ``rank_pattern`` has no other.
        alpha: numerator of the scaling where ``alpha_pattern`` has no other.
        use_rslora: the scaling is alpha / sqrt(r) instead of alpha / r.
        use_dora: the weights' norms are learned, too.
        rank_pattern: regular expression on the end of a module's name to its rank.
        alpha_pattern: the same to its alpha.
        target_modules: ends of the adapted modules' names, one regular expression on whole names, or None: what the
            file holds.
        exclude_modules: modules that ``target_modules`` does not mean, in the same form.
        layers_to_transform: numbers of the adapted layers, None: all.
        layers_pattern: what stands before the layer's number in a name; empty: anything.
        modules_to_save: ends of the names of modules that the adapter replaces as a whole.
        ensure_weight_tying: the output embedding is adapted with the input embedding, though not named.
        base_name: the base as the trainer named it.
        peft_version: the PEFT that saved it.
    """

    r: int
    alpha: float
    use_rslora: bool = False
    use_dora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    target_modules: tuple[str, ...] | str | None = None
    exclude_modules: tuple[str, ...] | str | None = None
    layers_to_transform: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    modules_to_save: tuple[str, ...] = ()
    ensure_weight_tying: bool = False
    base_name: str | None = None
    peft_version: str | None = None

    @property
    def exclusive(self) -> bool:
        """Whether it cannot share a batch with other adapters: DoRA, or whole modules of its own."""
        return self.use_dora or bool(self.modules_to_save)

    def rank(self, module: str) -> int:
        """The rank of a module's A and B, as PEFT finds it: the first pattern that matches, else ``r``."""
        return _by_pattern(self.rank_pattern, module, self.r)

    def scaling(self, module: str) -> float:
        """What B·A is multiplied with: alpha / r, or alpha / sqrt(r) for rsLoRA (arXiv 2312.03732)."""
        rank = self.rank(module)
        return _by_pattern(self.alpha_pattern, module, self.alpha) / (math.sqrt(rank) if self.use_rslora else rank)


def _by_pattern(patterns: Mapping[str, _Number], module: str, otherwise: _Number) -> _Number:
    """The value of the first pattern that matches the end of a name after a dot, as in PEFT's get_pattern_key."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return otherwise


def read_config(value: Any, place: str) -> AdapterConfig:
    """Reads a parsed adapter_config.json.

    Args:
        value: what the JSON file holds.
        place: the file, for messages.

    Raises:
        AdapterRefusedError: a key that we do not serve, or a value that cannot be; names the key and what to do.
    """
    if not isinstance(value, Mapping):
        raise AdapterRefusedError(place, None, "it holds no JSON object", "Save the adapter again with save_pretrained")
    read = _Reader(value, place)
    read.refuse_what_we_do_not_serve()
    config = AdapterConfig(
        r=read.rank("r", value.get("r")),
        alpha=read.alpha("lora_alpha", value.get("lora_alpha")),
        use_rslora=read.flag("use_rslora"),
        use_dora=read.flag("use_dora"),
        rank_pattern={
            read.pattern("rank_pattern", key): read.rank("rank_pattern", rank)
            for key, rank in read.items("rank_pattern")
        },
        alpha_pattern={
            read.pattern("alpha_pattern", key): read.alpha("alpha_pattern", alpha)
            for key, alpha in read.items("alpha_pattern")
        },
        target_modules=read.modules("target_modules"),
        exclude_modules=read.modules("exclude_modules"),
        layers_to_transform=read.layers("layers_to_transform"),
        layers_pattern=tuple(read.pattern("layers_pattern", one) for one in read.names("layers_pattern")),
        modules_to_save=read.names("modules_to_save"),
        ensure_weight_tying=value.get("ensure_weight_tying") is True,
        base_name=read.text("base_model_name_or_path"),
        peft_version=read.text("peft_version"),
    )
    _check_scaling(config, place)
    return config


def _check_scaling(config: AdapterConfig, place: str) -> None:
    """Refuses a scaling that drowns the base."""
    for rank in {config.r, *config.rank_pattern.values()}:
        for alpha in {config.alpha, *config.alpha_pattern.values()}:
            scaling = AdapterConfig(rank, alpha, config.use_rslora).scaling("")
            if scaling > MAX_SCALING:
                key = "lora_alpha" if alpha == config.alpha else "alpha_pattern"
                problem = (
                    f"alpha {alpha:g} at rank {rank} multiplies the adapter by {scaling:g}, more than {MAX_SCALING:g}"
                )
                raise AdapterRefusedError(place, key, problem, "Restore the lora_alpha that it was trained with")


@dataclass(frozen=True)
class _Reader:
    """Single values out of a configuration, each checked for its type."""

    value: Mapping[str, Any]
    place: str

    def refuse(self, key: str, problem: str, advice: str) -> AdapterRefusedError:
        return AdapterRefusedError(self.place, key, problem, advice)

    def refuse_what_we_do_not_serve(self) -> None:
        """Raises at the first key or setting that would be served wrongly, or is not known."""
        kind, task = self.value.get("peft_type"), self.value.get("task_type")
        if kind != "LORA":
            raise self.refuse("peft_type", f"{_shown(kind)} is not LORA", "Only LoRA adapters are served; train one")
        if task not in (None, "CAUSAL_LM"):
            advice = "Only text generation is served; train it with task_type='CAUSAL_LM'"
            raise self.refuse("task_type", f"{_shown(task)} is not CAUSAL_LM", advice)
        initialiser = self.value.get("init_lora_weights", True)
        if not (initialiser is None or isinstance(initialiser, bool) or initialiser in _PLAIN_INITIALISERS):
            raise self.refuse("init_lora_weights", f"{_shown(initialiser)} changes the base model", _CONVERT)
        if self.value.get("bias", "none") not in (None, "none"):
            raise self.refuse("bias", f"{_shown(self.value['bias'])} is not 'none'", _ADVICE["bias"])
        for key, value in self.value.items():
            if key not in _INERT and key not in _READ and value not in _EMPTY:
                raise self.refuse(str(key), f"{_shown(value)} is not served", _ADVICE.get(key, _UNKNOWN))

    def rank(self, key: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_RANK:
            problem = f"{_shown(value)} is no rank from 1 to {MAX_RANK}"
            raise self.refuse(key, problem, "Restore the r that it was trained with, or train it again")
        return value

    def alpha(self, key: str, value: Any) -> float:
        number = not isinstance(value, bool) and isinstance(value, int | float)
        if not number or not 0 < value <= MAX_SCALING * MAX_RANK:
            problem = f"{_shown(value)} is no number above 0 and up to {MAX_SCALING * MAX_RANK:g}"
            raise self.refuse(key, problem, "Restore the lora_alpha that it was trained with")
        return float(value)

    def flag(self, key: str) -> bool:
        value = self.value.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.refuse(key, f"{_shown(value)} is not true or false", "Save it again with PEFT's save_pretrained")
        return bool(value)

    def text(self, key: str) -> str | None:
        value = self.value.get(key)
        if value is not None and not isinstance(value, str):
            raise self.refuse(key, f"{_shown(value)} is no text", "Save it again with PEFT's save_pretrained")
        return value or None

    def items(self, key: str) -> list[tuple[Any, Any]]:
        value = self.value.get(key) or {}
        if not isinstance(value, Mapping):
            raise self.refuse(key, f"{_shown(value)} is no object", "Save it again with PEFT's save_pretrained")
        return list(value.items())

    def names(self, key: str) -> tuple[str, ...]:
        value = self.value.get(key) or []
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) and one for one in value):
            raise self.refuse(key, f"{_shown(value)} is no list of names", "Save it again with PEFT's save_pretrained")
        return tuple(value)

    def modules(self, key: str) -> tuple[str, ...] | str | None:
        value = self.value.get(key)
        if isinstance(value, str):
            return self.pattern(key, value)
        return self.names(key) or None

    def layers(self, key: str) -> tuple[int, ...] | None:
        value = self.value.get(key)
        value = [value] if isinstance(value, int) else (value or [])
        if not isinstance(value, list | tuple) or not all(type(one) is int for one in value):
            raise self.refuse(key, f"{_shown(value)} is no list of layers", "Save it again with PEFT's save_pretrained")
        return tuple(value) or None

    def pattern(self, key: str, value: Any) -> str:
        """A regular expression that compiles and cannot keep the processor busy for long."""
        if not isinstance(value, str) or not value or not _harmless(value):
            problem = f"{_shown(value)} is no regular expression that is short and repeats no group"
            raise self.refuse(key, problem, "Write the modules' names instead")
        return value


def _harmless(pattern: str) -> bool:
    """Whether a regular expression compiles, is short, and repeats single characters only, a few times."""
    if len(pattern) > MAX_PATTERN or not re.fullmatch(r"[\w .\\()|\[\]^$?:*+{},\-]+", pattern, re.ASCII):
        return False
    # Repeated groups, back references, look-arounds and flags; [[, --, || are reserved in sets.
    if re.search(r"\)[*+?{]|\\\d|\(\?[^:]|\[\[|--|\|\||\(\||\|\)", pattern):
        return False
    if len(re.findall(r"[*+{]|(?<![(*+}])\?", pattern)) > MAX_REPETITIONS or pattern.count("[") > MAX_REPETITIONS:
        return False
    try:
        re.compile(rf"(.*\.)?({pattern})$")
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def _shown(value: Any) -> str:
    """A value for a message, cut to what one reads."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
