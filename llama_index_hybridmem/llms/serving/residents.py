"""Which adapters lie in a model's slots: checked, loaded, probed, leased, evicted; knows no batch and no queue.

Not thread-safe: the engine's thread owns it. What a running row leases is neither evicted nor replaced; what is loaded
is known by the hash of its tensors, never by its name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llama_index_hybridmem.errors import AdapterRefusedError
from llama_index_hybridmem.llms.adapters.base_record import modules_of, parameters_of, record_of
from llama_index_hybridmem.llms.adapters.compatibility import BaseRecord, check_base
from llama_index_hybridmem.llms.adapters.files import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    check_copies,
    open_adapter,
    read_tensors,
)
from llama_index_hybridmem.llms.adapters.folders import state_of
from llama_index_hybridmem.llms.adapters.layout import Layout, lay_out
from llama_index_hybridmem.llms.serving.slots import BASE, SlotPool

if TYPE_CHECKING:
    from torch import Tensor

    from llama_index_hybridmem.llms.adapters.files import AdapterFiles
    from llama_index_hybridmem.llms.adapters.version import AdapterVersion

logger = logging.getLogger(__name__)

_KNOWN_PER_SLOT = 8  # checks are remembered for so many adapters per slot; others are checked again when they come


@dataclass
class Resident:
    """A loaded adapter.

    Attributes:
        name: under which it was asked for first.
        weights: hash of its tensors.
        slot: where they lie.
        leases: rows that use it now.
        pinned: never evicted.
        used: when it was leased last, counted in leases.
    """

    name: str
    weights: str
    slot: int
    leases: int = 0
    pinned: bool = False
    used: int = 0


class Residents:
    """The adapters that one model holds.

    Args:
        model: a transformers model, unchanged but for forward hooks.
        tokenizer: its tokenizer.
        slots: adapters at the same time.
        names: further names of the base that an adapter's config may give.
        logits: the model's logits for a prompt of one row, all positions; for the probe.
    """

    def __init__(
        self, model: Any, tokenizer: Any, slots: int, names: Sequence[str], logits: Callable[[list[int]], Tensor]
    ) -> None:
        self.pool = SlotPool(model, slots)
        self._model = model
        self._tokenizer = tokenizer
        self._names = set(names)
        self._logits = logits
        self._loaded: dict[str, Resident] = {}
        self._checked: dict[str, tuple[tuple[object, ...], AdapterFiles, Layout]] = {}
        self._probed: set[str] = set()
        self._clock = 0

    @cached_property
    def record(self) -> BaseRecord:
        """What adapters must have been made for."""
        return record_of(self._model, self._tokenizer)

    def also_called(self, names: Sequence[str]) -> None:
        """Further names of the base that an adapter's config may give."""
        self._names |= set(names)

    def loaded(self) -> list[Resident]:
        """The adapters in the slots, least recently used first."""
        return sorted(list(self._loaded.values()), key=lambda one: one.used)

    def lease(self, version: AdapterVersion) -> Resident | None:
        """Hold an adapter in its slot, loading it where it is not; None while every slot is leased or pinned.

        Raises:
            AdapterRefusedError: its files failed a check; the model is as it was.
        """
        if version.sha256 not in self._checked:  # also if its weights are loaded: another record may come with them
            self.checked(version)
        resident = self._loaded.get(version.weights_sha256) or self._load(version)
        if resident is None:
            return None
        self._clock += 1
        resident.used = self._clock
        resident.leases += 1
        return resident

    def release(self, resident: Resident) -> None:
        """Give a lease back."""
        resident.leases -= 1

    def hold(self, version: AdapterVersion, pinned: bool) -> Resident | None:
        """Load an adapter and pin it, or unpin it where it is loaded; None while every slot is leased or pinned.

        Raises:
            AdapterRefusedError: see `lease`.
        """
        if not pinned:
            known = self._loaded.get(version.weights_sha256)
            if known is not None:
                known.pinned = False
            return known
        resident = self.lease(version)
        if resident is not None:
            resident.pinned = True
            self.release(resident)
        return resident

    def evict(self, weights: str) -> bool:
        """Free an adapter's slot; False while it is leased, True also when it was not loaded."""
        resident = self._loaded.get(weights)
        if resident is None:
            return True
        if resident.leases:
            return False
        self.pool.free(resident.slot)
        del self._loaded[weights]
        return True

    def close(self) -> None:
        """Give the slots back and take the hooks off the model."""
        self._loaded.clear()
        self.pool.close()

    def _load(self, version: AdapterVersion) -> Resident | None:
        """Fill a slot; nobody has to leave one for files that are refused."""
        if (slot := self._free_slot()) is None and self._idle() is None:
            return None
        files, layout = self.checked(version)
        tensors = read_tensors(files)
        check_copies(files, tensors, layout, self.record)
        if slot is None and (idle := self._idle()) is not None:
            logger.debug("adapter %s leaves its slot", idle.name)
            self.evict(idle.weights)
            slot = idle.slot
        assert slot is not None
        try:
            self.pool.load(slot, layout, tensors)
            if files.sha256 not in self._probed:
                self._probe(files, slot, [*self._probe_ids, *self._changed_ids(layout, tensors)])
        except BaseException:
            self.pool.free(slot)
            raise
        resident = self._loaded[version.weights_sha256] = Resident(version.name, version.weights_sha256, slot)
        return resident

    def _free_slot(self) -> int | None:
        taken = {resident.slot for resident in self._loaded.values()}
        return next((slot for slot in range(self.pool.size) if slot not in taken), None)

    def _idle(self) -> Resident | None:
        """The adapter that has to leave next, if any may."""
        return next((one for one in self.loaded() if not one.leases and not one.pinned), None)

    def checked(self, version: AdapterVersion) -> tuple[AdapterFiles, Layout]:
        """Run every check that needs no values; once, as long as the files stay as they are.

        Raises:
            AdapterRefusedError: one failed.
        """
        stamp = tuple(state_of(version.folder / name) for name in (CONFIG_FILE, WEIGHTS_FILE))
        known = self._checked.get(version.sha256)
        if known is None or None in stamp or known[0] != stamp:
            known = self._checked[version.sha256] = (stamp, *self._check(version))
            while len(self._checked) > _KNOWN_PER_SLOT * self.pool.size:
                del self._checked[next(iter(self._checked))]
        return known[1:]

    def _check(self, version: AdapterVersion) -> tuple[AdapterFiles, Layout]:
        files = open_adapter(version.folder)
        place = str(version.folder)
        if files.sha256 != version.weights_sha256:
            advice = "Immutable versions are not edited: add the new files to the registry as a new version"
            raise AdapterRefusedError(place, None, f"the files changed since they were added as {version.id}", advice)
        made_for = version.made_for or files.made_for
        beside = {
            "tokenizer_sha256": version.tokenizer_sha256 or files.tokenizer_sha256,
            "chat_template_sha256": version.chat_template_sha256 or files.chat_template_sha256,
        }
        check_base(made_for, self.record, files.config, place, sorted(self._names), **beside)
        return files, lay_out(files.config, files.shapes, self._modules, self._parameters, str(files.weights))

    @cached_property
    def _modules(self) -> Any:
        return modules_of(self._model)

    @cached_property
    def _parameters(self) -> Any:
        return parameters_of(self._model)

    def _probe(self, files: AdapterFiles, slot: int, ids: list[int]) -> None:
        """Does it change the logits, and to finite ones? Two passes of one shape are equal to the bit if not."""
        import torch

        with self.pool.applied([BASE]):
            base = self._logits(ids)
        with self.pool.applied([slot]):
            changed = self._logits(ids)
        place = str(files.folder)
        if not bool(torch.isfinite(changed).all()):
            advice = "Train it again with a lower learning rate, or check the scaling (lora_alpha / r)"
            raise AdapterRefusedError(place, None, "the model's logits are not finite under this adapter", advice)
        if torch.equal(base, changed):
            advice = "Was it saved before training, or from a model without the adapter? Save the trained one again"
            raise AdapterRefusedError(place, None, "it does not change the model's logits at all", advice)
        self._probed.add(files.sha256)

    def _changed_ids(self, layout: Layout, tensors: Mapping[str, Tensor]) -> Iterator[int]:
        """Ids whose embeddings the adapter changes most: it may change those of a few tokens only."""
        for part in layout.parts:
            if part.kind == "embedding":
                yield int(tensors[part.a].abs().amax(0).argmax())
        own = self._model.get_input_embeddings().weight
        for name, key in layout.saved.items():
            if self._model.get_parameter(name) is own:
                yield int((tensors[key].to(own) - own).abs().amax(1).argmax())

    @cached_property
    def _probe_ids(self) -> list[int]:
        """Eight ids, spread over the vocabulary."""
        size = int(self._model.get_input_embeddings().weight.shape[0])
        return [place * size // 8 for place in range(8)]
