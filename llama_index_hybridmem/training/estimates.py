"""What a training run will need, before it runs: steps, seconds, memory; pure, knows no model and measures nothing.

The formulas are the usual ones (each has its source), the three constants that they leave open were set by short runs
of SmolLM2-135M on one CPU thread. Against those runs, and one of 110 steps on a quiet machine, time came out within a
factor of 1.5 and memory within 1.3; on a GPU neither was checked. Measuring the dev loss and saving are not counted.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.training.recipe import METHODS, Method

UTILISATION = {2: 0.2, 4: 0.4}
"""Bytes of a number computed with to the share of a large matrix product's rate that training reaches: measured 0.14 to
0.28 in bf16, 0.35 to 0.46 in fp32. The faster the products, the more the work between them weighs."""
KEPT_WHOLE, KEPT_ADAPTED = 1.6, 3.2
"""What is held for the backward pass, in units of the 8 h + 4 i numbers a token and layer that theory keeps, trained
whole or with adapters beside each layer. Measured, the allocator's waste included: 1.6, and 3.0 to 3.7."""
LIBRARIES = 1.0e9
"""Bytes of torch, transformers and TRL themselves. Measured on Linux, without a GPU."""
_TILE, _TILE_WIDTH = 4096, 32768  # tokens and words whose logits TRL 1.16 holds at a time


@dataclass(frozen=True)
class Shape:
    """The size of a model.

    Attributes:
        parameters: all, an adapter's included; input and output embeddings are taken to be one.
        trainable: those that are trained.
        layers: of the transformer.
        width: of the hidden state.
        intermediate: width inside the MLP, taken to be gated.
        vocabulary: tokens it knows.
        heads: of the attention; its scores are taken not to be kept, so they do not matter for memory.
        bytes_per_parameter: of the frozen ones as they are held: 4, 2, or 0.56 in 4 bits with its scales.
    """

    parameters: int
    trainable: int
    layers: int
    width: int
    intermediate: int
    vocabulary: int
    heads: int
    bytes_per_parameter: float = 4.0

    def __post_init__(self) -> None:
        """Refuse what no model has.

        Raises:
            ConfigurationError: names the field.
        """
        _above_zero("shape", asdict(self))
        if self.trainable > self.parameters:
            raise ConfigurationError(f"shape, trainable: {self.trainable:,} of {self.parameters:,} parameters")


@dataclass(frozen=True)
class Load:
    """What it is trained on.

    Attributes:
        rows: in an epoch, replayed ones included.
        mean_tokens: of prompt and completion.
        longest_tokens: of the longest row.
        completion_tokens: mean of those that are learned.
        epochs: times that each row is seen.
        batch: rows per step.
        micro_batch: rows computed at once; they are padded to the longest of them.
    """

    rows: int
    mean_tokens: float
    longest_tokens: int
    completion_tokens: float
    epochs: float
    batch: int
    micro_batch: int

    def __post_init__(self) -> None:
        """Refuse what cannot be trained on.

        Raises:
            ConfigurationError: names the field.
        """
        _above_zero("load", asdict(self))
        if self.mean_tokens > self.longest_tokens:
            raise ConfigurationError(f"load, mean_tokens: {self.mean_tokens:g} above longest_tokens")

    @property
    def padded_tokens(self) -> float:
        """Tokens of a row as computed, padding included.

        The mean of the longest of m rows is (m - 1) / (m + 1) of the way to the greatest length where lengths are
        spread evenly, and the harmonic number of m times the mean where they are exponential: the lower is taken.
        """
        m = min(self.micro_batch, self.rows)
        even = self.mean_tokens + (self.longest_tokens - self.mean_tokens) * (m - 1) / (m + 1)
        return min(even, self.mean_tokens * math.fsum(1 / place for place in range(1, m + 1)))


@dataclass(frozen=True)
class Memory:
    """Bytes at the most.

    Attributes:
        weights: and their copies in the numbers that are computed with, where these are smaller.
        gradients: of what is trained.
        optimizer: AdamW's two means of each trained number, in fp32.
        activations: kept for the backward pass, of a micro-batch of the longest rows.
        logits: of the tile that is computed at a time.
        libraries: what the program takes without a model.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    libraries: float = LIBRARIES

    @property
    def total(self) -> float:
        """All of it."""
        return math.fsum(asdict(self).values())

    def to_json(self) -> dict[str, int]:
        """Give whole bytes, with the total."""
        return {name: round(value) for name, value in {**asdict(self), "total": self.total}.items()}


@dataclass(frozen=True)
class Estimate:
    """What a run will need.

    Attributes:
        steps: of the optimizer.
        tokens: computed, padding included.
        flops: floating-point operations.
        seconds: of training alone.
        memory_bytes: at the most.
        parameters: of the model, all.
        trainable: those that are trained.
    """

    steps: int
    tokens: int
    flops: float
    seconds: float
    memory_bytes: Memory
    parameters: int
    trainable: int

    @property
    def in_words(self) -> str:
        """As "3.7 M of 138 M parameters (2.7 %), about 4.1 GB, about 12 minutes"."""
        all_, some = _count(self.parameters), _count(self.trainable)
        whole = self.trainable == self.parameters
        share = f"{100 * self.trainable / self.parameters:.2g} %"
        trained = f"all {all_} parameters" if whole else f"{some} of {all_} parameters ({share})"
        return f"{trained}, about {self.memory_bytes.total / 1e9:.1f} GB, about {duration(self.seconds)}"

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {**asdict(self), "memory_bytes": self.memory_bytes.to_json(), "in_words": self.in_words}


def estimate(
    shape: Shape, load: Load, method: Method, flops_per_s: float, compute_bytes: int, max_steps: int | None = None
) -> Estimate:
    """Estimate what a run will need.

    Args:
        shape: of the model.
        load: of the rows.
        method: see `recipe.Recipe`.
        flops_per_s: of a large matrix product in the numbers that are computed with, measured on this machine.
        compute_bytes: of such a number: 2 (bf16) or 4 (fp32).
        max_steps: steps at most; None for no limit.

    Raises:
        ConfigurationError: an unknown method, or a value that is not above 0.
    """
    if method not in METHODS or compute_bytes not in UTILISATION:
        raise ConfigurationError(f"estimate: no method {method!r:.20}, or {compute_bytes!r:.20} is neither 2 nor 4")
    _above_zero("estimate", {"flops_per_s": flops_per_s, "max_steps": max_steps or 1})
    planned = math.ceil(math.ceil(load.rows / load.batch) * load.epochs)
    steps = planned if max_steps is None else min(planned, max_steps)
    seen = load.rows * load.epochs * steps / planned
    tokens = seen * load.padded_tokens
    flops = tokens * _flops(shape, load, method) + seen * load.completion_tokens * _head_flops(shape, method)
    seconds = flops / (flops_per_s * UTILISATION[compute_bytes])
    memory = _memory(shape, load, method, compute_bytes)
    return Estimate(steps, round(tokens), flops, seconds, memory, shape.parameters, shape.trainable)


def _flops(shape: Shape, load: Load, method: Method) -> float:
    """Operations for a token, without the output layer.

    Forward 2 N (Kaplan et al. 2020, arXiv 2001.08361, 2.1), and 4 T h a layer for the attention's products with T
    tokens; backward twice as much where all is trained, once where the weights are frozen and only the gradients of
    the activations are needed; the adapter's own weights always 6.
    """
    adapter = 0 if method == "full" else shape.trainable
    body = max(0, shape.parameters - adapter - shape.vocabulary * shape.width)
    attention = 4.0 * shape.layers * load.padded_tokens * shape.width
    return (6 if method == "full" else 4) * body + 3 * attention + 6 * adapter


def _head_flops(shape: Shape, method: Method) -> float:
    """Operations for a token that is learned: TRL computes logits for these alone, and again on the way back."""
    return (8 if method == "full" else 6) * float(shape.vocabulary * shape.width)


def _memory(shape: Shape, load: Load, method: Method, compute_bytes: int) -> Memory:
    """Bytes at the most.

    Mixed precision keeps weights, gradients and 8 bytes of AdamW for each trained number (Rajbhandari et al. 2019,
    arXiv 1910.02054, 3.1). Activations after Korthikanti et al. 2022 (arXiv 2205.05198, 4.1) without dropout and with
    a gated MLP: 5 h in the attention, h + 4 i in the MLP, 2 h in the norms; scores are recomputed, not kept.
    """
    held = shape.bytes_per_parameter if method == "full" else 4.0
    frozen = shape.parameters - shape.trainable
    weights = frozen * shape.bytes_per_parameter + shape.trainable * held
    if compute_bytes < shape.bytes_per_parameter:
        weights += shape.parameters * compute_bytes
    tokens = load.longest_tokens * min(load.micro_batch, load.rows)
    kept = KEPT_WHOLE if method == "full" else KEPT_ADAPTED
    activations = tokens * shape.layers * (8 * shape.width + 4 * shape.intermediate) * compute_bytes * kept
    learned = min(load.completion_tokens * load.micro_batch, _TILE)
    logits = learned * min(shape.vocabulary, _TILE_WIDTH) * (compute_bytes + 8)  # and two copies in fp32
    return Memory(weights, shape.trainable * held, shape.trainable * 8.0, float(activations), float(logits))


def _above_zero(what: str, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ConfigurationError(f"{what}, {name}: a number above 0, not {value!r:.40}")


def _count(number: int) -> str:
    for size, sign in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.{1 if number < 10 * size else 0}f}{sign}"
    return str(number)


def duration(seconds: float) -> str:
    """Say how long something takes, as "12 minutes"."""
    for size, name, until in ((1, "second", 100), (60, "minute", 100 * 60), (3600, "hour", 48 * 3600)):
        if seconds < until:
            many = seconds / size
            shown = f"{max(1, many):.0f}" if many >= 10 or size == 1 else f"{many:.2g}"
            return f"{shown} {name}{'' if shown == '1' else 's'}"
    return f"{seconds / 86400:.2g} days"
