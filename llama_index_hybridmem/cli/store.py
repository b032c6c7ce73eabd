"""Opens a store with the encoder it was built with, so that only ingest need be told; knows no terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..index import HybridMemoryIndex


def open_index(folder: Path, *, warm: bool = False) -> HybridMemoryIndex:
    """Open a store.

    Args:
        folder: the store's.
        warm: load the encoder now, so that the first question's time and deadlines are its own.

    Raises:
        ConfigurationError: no store there.
        StoreError: owned by another process, damaged, or built with another version.
        MissingExtraError: its encoder needs an extra.
    """
    from ..index import HybridMemoryIndex
    from ..manifest import FILE, Manifest

    if not (folder / FILE).is_file():
        raise ConfigurationError(f"no store in {folder}; make one: hybridmem ingest PATH --store {folder}")
    index = HybridMemoryIndex.open(folder, embed_model=Manifest.read(folder).encoder["name"])
    if warm:
        warm_up(index)
    return index


def warm_up(index: HybridMemoryIndex) -> None:
    """Load an index's encoder."""
    try:
        index.embed_model.get_query_embedding("warm-up")
    except BaseException:
        index.close()
        raise


def unindexed(vectors: Mapping[str, Any]) -> int:
    """Points that a search compares one by one, by the vector store's stats, where an indexed point counts twice."""
    return max(0, 2 * int(vectors.get("points", 0)) - int(vectors.get("indexed_vectors", 0)))
