"""Keys and values of earlier prompts, for requests that begin alike; knows no model and no requests.

An entry serves only the adapter that computed it: keys and values of another adapter give wrong logits and no error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Layers = list[tuple["Tensor", "Tensor"]]
"""Keys and values of every layer, each (rows, heads, tokens, width)."""


@dataclass(frozen=True)
class _Entry:
    weights: str | None
    ids: tuple[int, ...]
    layers: Layers


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids two sequences begin with alike."""
    length = min(len(first), len(second))
    return next((place for place in range(length) if first[place] != second[place]), length)


class PrefixStore:
    """The most recently used prefixes, least recently used dropped first. Not thread-safe.

    Args:
        tokens: kept at most, over all entries; 0 keeps none.
        shortest: tokens from which on reuse pays; looking up and copying costs about as much as computing these.
    """

    def __init__(self, tokens: int, shortest: int = 16) -> None:
        self.tokens = tokens
        self.shortest = shortest
        self._entries: list[_Entry] = []

    def find(self, weights: str | None, ids: Sequence[int]) -> tuple[int, Layers]:
        """Find the longest known beginning, the last id left out: its logits are what is asked for.

        Args:
            weights: hash of the adapter's tensors, None for the base.
            ids: a prompt.

        Returns:
            Its length, and views of its keys and values; 0 and none where nothing fits.
        """
        fitting = [entry for entry in self._entries if entry.weights == weights]
        lengths = [min(common(entry.ids, ids), len(ids) - 1) for entry in fitting]
        length = max(lengths, default=0)
        if length < self.shortest:
            return 0, []
        entry = fitting[lengths.index(length)]
        self._entries.remove(entry)
        self._entries.append(entry)
        return length, [(keys[:, :, :length], values[:, :, :length]) for keys, values in entry.layers]

    def keep(self, weights: str | None, ids: Sequence[int], layers: Layers) -> None:
        """Keep a prefix; one that it begins with is no longer needed.

        Args:
            weights: hash of the adapter's tensors, None for the base.
            ids: one per token in the layers.
            layers: of one row.
        """
        if not self.shortest <= len(ids) <= self.tokens:
            return
        covered = [one for one in self._entries if one.weights == weights and common(one.ids, ids) == len(one.ids)]
        for entry in covered:
            self._entries.remove(entry)
        self._entries.append(_Entry(weights, tuple(ids), layers))
        while sum(len(entry.ids) for entry in self._entries) > self.tokens:
            self._entries.pop(0)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
