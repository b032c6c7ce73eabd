"""How a model is trained: method, sizes, rates, seeds; pure, knows no data, no model and no trainer.

The defaults were chosen from short runs of small models on a CPU (docs/training.md): TRL's own learning rate of 2e-5
teaches an adapter nothing, and adapters on all linear layers learn more than on queries and values alone.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from llama_index_hybridmem.errors import ConfigurationError

Method = Literal["lora", "qlora", "full", "prompt"]
Schedule = Literal["linear", "cosine", "constant"]
Precision = Literal["auto", "bf16", "fp32"]
METHODS: tuple[Method, ...] = get_args(Method)

LEARNING_RATES: Mapping[Method, float] = {"lora": 4e-4, "qlora": 4e-4, "full": 4e-5, "prompt": 1e-2}
"""What `Recipe.learning_rate` stands for when it is None; adapters want about ten times the rate of full training."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        method: ``lora`` (default), ``qlora`` (LoRA on a base of 4 bits), ``full`` (all weights), ``prompt`` (virtual
            tokens in front of the prompt, arXiv 2104.08691).
        rank: of the adapter's matrices.
        alpha: the adapter's effect is scaled by alpha / rank, or by alpha / sqrt(rank) with ``rslora``.
        rslora: see alpha (arXiv 2312.03732); useful from rank 64 up.
        dropout: on the adapter's input while training.
        targets: the linear layers that are adapted, by the last part of their names; ("all-linear",) for all.
        virtual_tokens: of the method ``prompt``.
        learning_rate: at its highest; None: what suits the method, `LEARNING_RATES`.
        schedule: how it falls after the warm-up.
        warmup: share of the steps in which it rises.
        epochs: times that each row is seen.
        max_steps: steps at most, whatever the epochs say; None for no limit.
        batch_size: rows per step.
        micro_batch: rows computed at once; memory grows with it, the result (but for rounding) does not change.
        max_length: tokens of prompt and completion; None: what the longest row needs, so that none is cut.
        weight_decay: of AdamW.
        max_grad_norm: gradients are clipped to it.
        replay: general rows mixed in, as a share of all rows, so that the model keeps what it knew.
        kl: weight of the KL divergence from the base on the completion's tokens (arXiv 2512.22337); 0 for none.
        evaluations: how often in an epoch the loss on the dev rows is measured.
        patience: evaluations without a better dev loss after which training stops; 0: never.
        precision: of the products, beside weights in fp32: ``bf16``, ``fp32``, or ``auto``: bf16 where it is native.
        seed: of everything that is drawn; 0 or more.

    Raises:
        ConfigurationError: a value out of range; names it.
    """

    method: Method = "lora"
    rank: int = 16
    alpha: float = 32.0
    rslora: bool = False
    dropout: float = 0.0
    targets: tuple[str, ...] = ("all-linear",)
    virtual_tokens: int = 20
    learning_rate: float | None = None
    schedule: Schedule = "linear"
    warmup: float = 0.05
    epochs: float = 2.0
    max_steps: int | None = None
    batch_size: int = 8
    micro_batch: int = 4
    max_length: int | None = None
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    replay: float = 0.1
    kl: float = 0.0
    evaluations: int = 4
    patience: int = 3
    precision: Precision = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what nothing can be trained with."""
        _one_of("method", self.method, METHODS)
        _one_of("schedule", self.schedule, get_args(Schedule))
        _one_of("precision", self.precision, get_args(Precision))
        for name, least in _WHOLE.items():
            if not (name in _OPTIONAL and getattr(self, name) is None):
                _whole(name, getattr(self, name), least)
        for name, (above, below) in _NUMBERS.items():
            if not (name in _OPTIONAL and getattr(self, name) is None):
                _number(name, getattr(self, name), above, below)
        if not self.targets or not all(isinstance(each, str) and each for each in self.targets):
            raise ConfigurationError(f"targets: names of layers, not {self.targets!r:.60}")
        if self.kl and self.method not in ("lora", "qlora"):
            raise ConfigurationError(f"kl: only an adapter has its base beside it, unlike the method {self.method}")
        if self.batch_size % self.micro_batch and self.micro_batch < self.batch_size:
            raise ConfigurationError(f"batch_size: {self.batch_size} is no multiple of micro_batch={self.micro_batch}")

    @property
    def rate(self) -> float:
        """The learning rate that is meant."""
        return LEARNING_RATES[self.method] if self.learning_rate is None else self.learning_rate

    @property
    def hash(self) -> str:
        """SHA-256 of all values."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode("ascii")).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {**asdict(self), "targets": list(self.targets)}

    @classmethod
    def from_json(cls, row: Any, place: str = "a recipe") -> Recipe:
        """Read what `to_json` gave; what is left out has its default.

        Raises:
            ConfigurationError: this is no recipe; names the place and the field.
        """
        known = {each.name for each in fields(cls)}
        if not isinstance(row, Mapping) or not row.keys() <= known:
            unknown = sorted(map(str, row.keys() - known)) if isinstance(row, Mapping) else [f"{row!r:.40}"]
            raise ConfigurationError(f"{place}: no recipe; not understood: {', '.join(unknown)}")
        given: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in row.items()}
        try:
            return cls(**given)
        except ConfigurationError as error:
            raise ConfigurationError(f"{place}: {error}") from error


_WHOLE = {
    "rank": 1,
    "virtual_tokens": 1,
    "batch_size": 1,
    "micro_batch": 1,
    "evaluations": 1,
    "max_steps": 1,
    "max_length": 1,
    "patience": 0,
    "seed": 0,
}
_NUMBERS = {  # whether 0 is too little, and what is too much
    "alpha": (True, math.inf),
    "epochs": (True, math.inf),
    "max_grad_norm": (True, math.inf),
    "learning_rate": (True, math.inf),
    "kl": (False, math.inf),
    "weight_decay": (False, math.inf),
    "dropout": (False, 1.0),
    "warmup": (False, 1.0),
    "replay": (False, 1.0),
}
_OPTIONAL = {"max_steps", "max_length", "learning_rate"}


def _one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigurationError(f"{name}: no {value!r:.40}; there are {', '.join(known)}")


def _whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(f"{name}: a whole number of at least {least}, not {value!r:.40}")


def _number(name: str, value: object, above: bool, below: float) -> None:
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not (math.isfinite(number) and (number > 0 if above else number >= 0) and number < below):
        limits = ("above 0" if above else "of 0 or more") + (f" and below {below:g}" if below < math.inf else "")
        raise ConfigurationError(f"{name}: a number {limits}, not {value!r:.40}")
