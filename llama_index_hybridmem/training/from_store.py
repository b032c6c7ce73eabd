"""A training set from what a store retrieves for questions, made once; knows no model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.indices.base import BaseIndex

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.export.asking import Asked
from llama_index_hybridmem.export.dataset import export_dataset
from llama_index_hybridmem.export.describing import CARD
from llama_index_hybridmem.export.options import ExportOptions
from llama_index_hybridmem.training.rows import TrainingSet, read_set

if TYPE_CHECKING:
    from llama_index_hybridmem.index import HybridMemoryIndex
    from llama_index_hybridmem.noise.profile import Profile

Source = Any
"""A hybrid memory, any index of LlamaIndex, any retriever, or a function that opens one of them (``with opened()``)."""
Told = Callable[[str, int, int, Mapping[str, float]], None]
"""Told how far a step is: "asking" (the store), "writing", "training", "answering"; done, of how many; losses."""


def set_from(
    source: Source,
    asked: Sequence[Asked],
    folder: Path,
    options: ExportOptions,
    profile: Profile | None,
    name: str,
    told: Told | None = None,
) -> TrainingSet:
    """Ask a store, make a set of it and read it; the store is not opened again when the set is there.

    Args:
        source: what retrieves.
        asked: the questions.
        folder: of the set.
        options: how it is made.
        profile: the noise; None: the default one.
        name: of the set.
        told: how far it is.

    Raises:
        ConfigurationError: a folder with another set, or no question became a row to train on.
        StoreError: the store is in use or damaged, or the disk full; what is done stays.
    """
    if not (folder / CARD).is_file():  # written last
        progress = None if told is None else lambda step, done, total: told(step, done, total, {})
        with _opened(source) as found:
            export_dataset(found, asked, folder, options, profile, progress=progress)
    rows = replace(read_set(folder), name=name)
    if not rows.train:
        raise ConfigurationError(
            f"{folder}: none of {len(asked):,} questions became a row to train on; its {CARD} says what was left out"
        )
    return rows


@contextmanager
def _opened(source: Source) -> Iterator[HybridMemoryIndex | BaseIndex[Any] | BaseRetriever]:
    if isinstance(source, BaseRetriever) or hasattr(source, "as_retriever"):
        yield source
    else:
        with cast("AbstractContextManager[HybridMemoryIndex]", source()) as index:
            yield index
