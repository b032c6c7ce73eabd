"""The stores an index stands on: embedded ones in its folder or in memory, or given ones; knows no documents."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from .errors import ConfigurationError, StoreMismatchError
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


_WRITTEN_BY = ("replace", "delete", "await_writes", "export_passages")
_LOOKED_AT = 8
"""Passages by which two stores are told to belong together."""


def _name(store: object) -> str:
    tenant = getattr(store, "tenant", None)
    name = str(getattr(store, "collection_name", None) or getattr(store, "name", None) or type(store).__name__)
    return f"{name}/{tenant}" if isinstance(tenant, str) else name


@dataclass(frozen=True)
class Given:
    """Stores that an app brings along, on servers say, and closes itself.

    Attributes:
        vector: None: embedded.
        graph: None: embedded.
    """

    vector: PointVectorStore | None = None
    graph: PortableGraphStore | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot stand in for an embedded store."""
        if self.vector is not None and not isinstance(self.vector, PointVectorStore):
            raise ConfigurationError(
                f"vector_store takes a QdrantServerVectorStore, not a {type(self.vector).__name__}; an app that has a "
                "vector index of its own uses HybridMemoryIndex.from_existing"
            )
        if self.graph is not None and not all(hasattr(self.graph, method) for method in _WRITTEN_BY):
            raise ConfigurationError(
                f"graph_store takes a Neo4jGraphStore, not a {type(self.graph).__name__}; an existing property graph "
                "is asked through EntityGraphRetriever(PropertyGraphMemory(…))"
            )

    @property
    def served(self) -> dict[str, str]:
        """Which memories lie elsewhere than in the index's folder, and under which name."""
        stores = {"vector": self.vector, "graph": self.graph}
        return {memory: _name(store) for memory, store in stores.items() if store is not None}

    def check_alike(self) -> None:
        """Refuse a vector store that does not hold what the graph holds.

        Raises:
            StoreMismatchError: passages of the graph that the vector store does not know.
        """
        if self.vector is None or self.graph is None:
            return
        some = self.graph.sample(_LOOKED_AT)
        missing = set(some) - {node.node_id for node in self.vector.get_nodes(some)} if some else set()
        if missing:
            raise StoreMismatchError(
                f"{_name(self.vector)!r} lacks nodes that the graph {_name(self.graph)!r} has, {sorted(missing)[0]!r} "
                "say: is it the right collection? hybridmem migrate copies vectors"
            )

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
