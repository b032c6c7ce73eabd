"""What one layer of a model gives with adapters on it, row by row; knows no slots, no files and no models."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from llama_index_hybridmem.llms.adapters.layout import LoraPart


@dataclass(frozen=True)
class Override:
    """What an exclusive adapter does to a module beside adding: a twin of other weights, or DoRA's gain."""

    twin: Any = None
    gain: Tensor | None = None


@dataclass(frozen=True)
class Delta:
    """What one module adds in the batch at hand: A and B side by side, and where a row must not see a column."""

    a: Tensor | None
    b: Tensor | None
    hidden: Tensor | None
    override: Override | None


def adapted(
    layer: Any, args: tuple[Any, ...], named: dict[str, Any], output: Tensor, delta: Delta, width: int
) -> Tensor:
    """A module's output as the rows' adapters have it.

    Args:
        layer: linear, embedding, or whatever an exclusive adapter brings whole.
        args: what it was called with; x or the ids first.
        named: likewise, by name.
        output: what it gave: (rows, tokens, out), or (rows * tokens, out).
        delta: what the adapters change.
        width: tokens a row.
    """
    import torch.nn.functional as functional

    if (override := delta.override) is not None:
        output = _overridden(layer, args, named, output, override)
    if delta.a is None:
        return output
    x = args[0] if args else next(iter(named.values()))
    if _is_embedding(layer):  # the ids choose columns of A; Gemma's embeddings scale what they give
        inner = functional.embedding(x, delta.a.t()) * getattr(layer, "embed_scale", 1.0)
    else:
        inner = functional.linear(x.to(delta.a.dtype), delta.a)
    return _added(output, inner, delta, width)


def _added(output: Tensor, inner: Tensor, delta: Delta, width: int) -> Tensor:
    assert delta.b is not None
    if (hidden := delta.hidden) is not None:
        if inner.dim() == 2:  # OPT and routers of experts put all rows' tokens into one
            hidden = hidden.expand(-1, width, -1).flatten(0, 1)
        inner = inner.masked_fill(hidden, 0)  # not a product: zero times infinity would reach other rows
    flat, columns = output.reshape(-1, output.shape[-1]), inner.reshape(-1, inner.shape[-1])
    if flat.dtype != columns.dtype:
        return output + (inner @ delta.b.t()).to(output.dtype)
    return flat.addmm(columns, delta.b.t()).view_as(output)


def _overridden(layer: Any, args: tuple[Any, ...], named: dict[str, Any], output: Tensor, override: Override) -> Tensor:
    if override.twin is not None:
        own: Tensor = type(override.twin).forward(override.twin, *args, **named)
        return own
    if override.gain is None:
        return output
    bias = getattr(layer, "bias", None)
    return output * override.gain if bias is None else (output - bias) * override.gain + bias


def twin_of(module: Any, weights: Mapping[str, Tensor]) -> Any:
    """A module with other weights, whatever it computes; weights exchanged in place would reach other threads."""
    twin = copy.copy(module)
    twin._parameters = {**module._parameters, **weights}
    twin.__dict__.pop("forward", None)  # accelerate's, which is bound to the module itself
    return twin


def _is_embedding(module: Any) -> bool:
    return hasattr(module, "num_embeddings")


def width_of(part: LoraPart, module: Any) -> tuple[int, int]:
    """Columns of A and rows of B."""
    if part.kind == "embedding":
        return int(module.num_embeddings), int(module.embedding_dim)
    if hasattr(module, "in_features"):
        return int(module.in_features), int(module.out_features)
    inner, outer = module.weight.shape  # Conv1D of GPT-2 keeps its weight the other way round
    return int(inner), int(outer)


def dense(module: Any, dtype: Any) -> Tensor:
    """A linear layer's weight, (out, in); of a quantised one, what it makes of the unit vectors.

    Not by unpacking: bitsandbytes packs 4 bits anew when a CPU first computes with them, and unpacks that wrongly.
    """
    import torch

    if module.weight.is_floating_point():
        weight: Tensor = module.weight if hasattr(module, "in_features") else module.weight.t()
        return weight
    units = torch.eye(module.in_features, dtype=dtype, device=module.weight.device)
    columns: Tensor = module.forward(units)
    return (columns if module.bias is None else columns - module.bias).t()
