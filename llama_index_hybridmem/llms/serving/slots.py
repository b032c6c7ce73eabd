"""LoRA weights in preallocated slots of a model, another one for each row of a batch; knows no files and no requests.

Why not PEFT: its choice of adapter is global state of the model, its per-call hooks stay behind when a call fails, and
loading slows with every adapter there is. Here one forward hook per module, set once, adds what the rows' slots hold::

    output += (x Aᵀ, zero where the row's slot is another) Bᵀ

with the A and B of all slots in the batch side by side, so a mixed batch costs two small products a module whatever the
number of adapters in it. A row without an adapter gets exact zeros, a batch without any the untouched output.

The hooks act in the thread that called `applied`, and nowhere else: a user's own calls of the model stay as they were.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llama_index_hybridmem.errors import ConfigurationError, GenerationError
from llama_index_hybridmem.llms.serving.layers import Delta, Override, adapted, dense, twin_of, width_of

if TYPE_CHECKING:
    from torch import Tensor

    from llama_index_hybridmem.llms.adapters.layout import Layout, LoraPart

BASE = -1
"""The slot of a row without an adapter."""


@dataclass
class _Bank:
    """One module's places for all slots: A (slots, rank, in) and B (slots, out, rank), B with the scaling in it."""

    a: Tensor
    b: Tensor

    @property
    def rank(self) -> int:
        return int(self.a.shape[1])


@dataclass(frozen=True)
class _Slot:
    """What lies in a slot: every module's rank, and the overrides of an exclusive adapter."""

    ranks: Mapping[str, int]
    overrides: Mapping[str, Override]


class SlotPool:
    """A model's adapter slots. Not thread-safe: one thread loads, frees and runs the model.

    A module's places are made when the first adapter needs the module, for all slots at once, and made anew only when
    an adapter of a higher rank comes: after that, loading is a copy, however many adapters are loaded.

    Args:
        model: a transformers model; gets one forward hook per module that an adapter changes, until `close`.
        slots: adapters that can be loaded at the same time.
    """

    def __init__(self, model: Any, slots: int) -> None:
        if slots < 1:
            raise ConfigurationError(f"slots={slots}; at least 1 is needed to load an adapter")
        self.size = slots
        self._model = model
        self._modules = dict(model.named_modules())
        self._banks: dict[str, _Bank] = {}
        self._hooks: dict[str, Any] = {}
        self._slots: dict[int, _Slot] = {}
        self._stacks: tuple[tuple[int, ...], dict[str, tuple[Tensor, Tensor, Tensor]]] = ((), {})
        self._deltas: dict[str, Delta] = {}
        self._thread: int | None = None
        self._width = 0  # tokens a row of the batch at hand

    def load(self, slot: int, layout: Layout, tensors: Mapping[str, Tensor]) -> None:
        """Fill a slot.

        Args:
            slot: from 0; whatever lay there is gone.
            layout: how the tensors map onto the model.
            tensors: as read from the adapter's file.
        """
        import torch

        self.free(slot)
        with torch.inference_mode():
            for part in layout.parts:
                bank = self._bank(part)
                bank.a[slot, : part.rank].copy_(tensors[part.a])
                bank.b[slot, :, : part.rank].copy_(tensors[part.b]).mul_(part.scaling)
            overrides = {**self._saved(layout, tensors), **self._gains(slot, layout, tensors)}
        for module in overrides:
            self._hook(module)
        self._slots[slot] = _Slot({part.module: part.rank for part in layout.parts}, overrides)

    def free(self, slot: int) -> None:
        """Empty a slot; an empty one is fine."""
        if self._slots.pop(slot, None) is not None:
            self._stacks = ((), {})

    def close(self) -> None:
        """Take the hooks off the model and give the memory back."""
        for handle in self._hooks.values():
            handle.remove()
        for own in (self._hooks, self._banks, self._slots, self._deltas):
            own.clear()
        self._stacks = ((), {})

    def nbytes(self) -> int:
        """Bytes of memory that all places take."""
        return sum(bank.a.nbytes + bank.b.nbytes for bank in list(self._banks.values()))  # asked from any thread

    @contextmanager
    def applied(self, rows: Sequence[int]) -> Iterator[None]:
        """Let every row of the model's batches see its slot, within this block and this thread.

        Args:
            rows: a slot per row, `BASE` for none; an exclusive adapter stands in all of them.

        Raises:
            GenerationError: an exclusive adapter stands beside another row, where it would answer wrongly.
        """
        used = tuple(sorted({slot for slot in rows if slot != BASE}))
        self._deltas = self._plan(used, rows) if used else {}
        self._thread = threading.get_ident()
        try:
            yield
        finally:
            self._thread, self._deltas = None, {}

    def _plan(self, used: tuple[int, ...], rows: Sequence[int]) -> dict[str, Delta]:
        import torch

        if self._stacks[0] != used:
            self._stacks = (used, self._stacked(used))
        alone = len(used) == 1 and BASE not in rows
        if not alone and any(self._slots[slot].overrides for slot in used):
            raise GenerationError("an exclusive adapter cannot share a batch")
        overrides = self._slots[used[0]].overrides if alone else {}
        masks: dict[tuple[int, ...], Tensor] = {}
        deltas = {}
        for module, (a, b, owners) in self._stacks[1].items():
            hidden = None
            if not alone:
                key = (id(owners), a.device.index or 0)
                if key not in masks:
                    row_slots = torch.tensor(rows, device=a.device)
                    masks[key] = (row_slots[:, None] != owners[None, :])[:, None, :]
                hidden = masks[key]
            deltas[module] = Delta(a, b, hidden, overrides.get(module))
        for module, override in overrides.items():
            deltas.setdefault(module, Delta(None, None, None, override))
        return deltas

    def _stacked(self, used: tuple[int, ...]) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Every module's A and B of these slots, one below (beside) the other, and which slot each column is of."""
        import torch

        shared: dict[Any, Tensor] = {}
        stacks = {}
        for module, bank in self._banks.items():
            ranks = [(slot, self._slots[slot].ranks[module]) for slot in used if module in self._slots[slot].ranks]
            if not ranks:
                continue
            layout = (tuple(ranks), bank.a.device)
            if layout not in shared:
                owners = [slot for slot, rank in ranks for _ in range(rank)]
                shared[layout] = torch.tensor(owners, device=bank.a.device)
            if len(ranks) == 1:
                slot, rank = ranks[0]
                stacks[module] = (bank.a[slot, :rank], bank.b[slot, :, :rank], shared[layout])
            else:
                a = torch.cat([bank.a[slot, :rank] for slot, rank in ranks])
                b = torch.cat([bank.b[slot, :, :rank] for slot, rank in ranks], dim=1)
                stacks[module] = (a, b, shared[layout])
        return stacks

    def _bank(self, part: LoraPart) -> _Bank:
        """The module's places, made or widened where they do not do."""
        import torch

        bank = self._banks.get(part.module)
        if bank is not None and bank.rank >= part.rank:
            return bank
        weight = self._modules[part.module].weight
        if weight.device.type == "meta":
            raise GenerationError(
                f"{part.module} is offloaded, and an adapter cannot follow it: keep the base in memory"
            )
        # a quantised weight is packed into integers: its products come in the model's own type
        kind = {"device": weight.device, "dtype": weight.dtype if weight.is_floating_point() else self._model.dtype}
        inner, outer = width_of(part, self._modules[part.module])
        wider = _Bank(
            torch.zeros(self.size, part.rank, inner, **kind), torch.zeros(self.size, outer, part.rank, **kind)
        )
        if bank is not None:
            wider.a[:, : bank.rank].copy_(bank.a)
            wider.b[:, :, : bank.rank].copy_(bank.b)
        self._banks[part.module] = wider
        self._stacks = ((), {})
        self._hook(part.module)
        return wider

    def _saved(self, layout: Layout, tensors: Mapping[str, Tensor]) -> dict[str, Override]:
        """Modules that the adapter brings whole."""
        found: dict[str, dict[str, Tensor]] = {}
        for parameter, key in layout.saved.items():
            module, _, name = parameter.rpartition(".")
            own = self._modules[module].get_parameter(name)
            found.setdefault(module, {})[name] = tensors[key].to(own.device, own.dtype, copy=True)
        return {module: Override(twin_of(self._modules[module], weights)) for module, weights in found.items()}

    def _gains(self, slot: int, layout: Layout, tensors: Mapping[str, Tensor]) -> dict[str, Override]:
        """DoRA: the module's whole weight is scaled to a learned length, row by row (arXiv 2402.09353, eq. 5)."""
        import torch

        gains = {}
        for part in layout.parts:
            if part.magnitude is None:
                continue
            module, bank = self._modules[part.module], self._banks[part.module]
            delta = bank.b[slot, :, : part.rank].float() @ bank.a[slot, : part.rank].float()
            length = torch.linalg.norm(dense(module, self._model.dtype).float() + delta, dim=1)
            gain = tensors[part.magnitude].flatten().to(length) / length
            bank.b[slot, :, : part.rank].mul_(gain[:, None].to(bank.b.dtype))
            gains[part.module] = Override(gain=gain.to(bank.b.dtype))
        return gains

    def _hook(self, module: str) -> None:
        if not self._hooks:
            self._hooks[""] = self._model.get_input_embeddings().register_forward_pre_hook(self._measure)
        if module not in self._hooks:
            self._hooks[module] = self._modules[module].register_forward_hook(self._guarded(module), with_kwargs=True)

    def _measure(self, _: Any, inputs: tuple[Tensor, ...]) -> None:
        if self._thread == threading.get_ident() and inputs:
            self._width = int(inputs[0].shape[-1])

    def _guarded(self, module: str) -> Callable[..., Tensor | None]:
        def hook(layer: Any, args: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> Tensor | None:
            if self._thread != threading.get_ident():
                return None
            delta = self._deltas.get(module)
            return None if delta is None else adapted(layer, args, named, output, delta, self._width)

        return hook
