"""The stores an index stands on: embedded ones in its folder or in memory, or given ones; knows no documents."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from .errors import ConfigurationError
from .graph.stores.base import PortableGraphStore
from .graph.stores.sqlite import SqliteGraphStore
from .manifest import GRAPH, VECTOR, Manifest
from .vector.point_store import PointVectorStore
from .vector.store import QdrantEdgeVectorStore


@runtime_checkable
class _TenantVectors(Protocol):
    def for_tenant(self, tenant: str) -> PointVectorStore: ...


@runtime_checkable
class _TenantGraph(Protocol):
    def tenant(self, name: str) -> PortableGraphStore: ...


@dataclass(frozen=True)
class Given:
    """Stores that an app brings along, on servers say, and closes itself.

    Attributes:
        vector: None: embedded.
        graph: None: embedded.
    """

    vector: PointVectorStore | None = None
    graph: PortableGraphStore | None = None

    @property
    def served(self) -> tuple[str, ...]:
        """Which memories lie elsewhere than in the index's folder."""
        return tuple(name for name, store in (("vector", self.vector), ("graph", self.graph)) if store is not None)

    def tenant(self, name: str) -> Given:
        """Give a tenant's own partitions of the same stores.

        Raises:
            ConfigurationError: a store that cannot be divided.
        """
        for store, kind in ((self.vector, _TenantVectors), (self.graph, _TenantGraph)):
            if store is not None and not isinstance(store, kind):
                raise ConfigurationError(f"a {type(store).__name__} has no tenants; give each an index of its own")
        vector = self.vector.for_tenant(name) if isinstance(self.vector, _TenantVectors) else None
        graph = self.graph.tenant(name) if isinstance(self.graph, _TenantGraph) else None
        return Given(vector, graph)


@dataclass(frozen=True)
class Parts:
    """Both stores of an index.

    Attributes:
        vector: vectors and keywords.
        graph: names, links and facts.
        close: closes those that are not given.
    """

    vector: PointVectorStore
    graph: PortableGraphStore
    close: Callable[[], None]


def open_parts(folder: Path | None, manifest: Manifest, given: Given) -> Parts:
    """Open the embedded stores that are not given, in a folder or in memory.

    Raises:
        StoreLockedError: another process owns the folder.
        StoreMismatchError: built with another dimension or language.
        StoreDamagedError: files that cannot be read.
    """
    with ExitStack() as opened:
        vector, graph = given.vector, given.graph
        if vector is None:
            vector = QdrantEdgeVectorStore(
                folder / VECTOR if folder is not None else None,
                dimension=manifest.encoder["dimension"],
                language=manifest.language,
            )
            opened.callback(vector.close)
        if graph is None:
            graph = SqliteGraphStore(folder / GRAPH if folder is not None else None)
            opened.callback(graph.close)
        return Parts(vector, graph, opened.pop_all().close)
