"""Tests of where an index's stores come from: embedded ones opened and closed here, given ones left to their owner."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_index_hybridmem.errors import ConfigurationError, StoreClosedError, StoreLockedError
from llama_index_hybridmem.graph.stores.neo4j.store import Neo4jGraphStore
from llama_index_hybridmem.graph.stores.sqlite import SqliteGraphStore
from llama_index_hybridmem.manifest import GRAPH, Manifest
from llama_index_hybridmem.parts import Given, open_parts
from llama_index_hybridmem.vector.store import QdrantEdgeVectorStore


@pytest.fixture
def manifest() -> Manifest:
    """Of an index with vectors of eight numbers."""
    return Manifest(encoder={"name": "none", "dimension": 8}, language="english")


def test_without_stores_both_are_embedded_and_closed_here(manifest: Manifest, tmp_path: Path) -> None:
    """In the folder, or in memory."""
    for folder in (tmp_path, None):
        parts = open_parts(folder, manifest, Given())
        assert folder is None or (folder / GRAPH).exists()
        assert isinstance(parts.vector, QdrantEdgeVectorStore)
        assert isinstance(parts.graph, SqliteGraphStore)
        parts.close()
        with pytest.raises(StoreClosedError):
            parts.graph.stats()


def test_a_given_store_is_not_closed_and_makes_no_files(manifest: Manifest, tmp_path: Path) -> None:
    """It is the app's."""
    graph = SqliteGraphStore()
    parts = open_parts(tmp_path, manifest, Given(graph=graph))
    assert parts.graph is graph
    parts.close()
    assert graph.passage_count == 0
    assert not (tmp_path / GRAPH).exists()
    graph.close()


def test_what_was_opened_is_closed_when_the_next_cannot_be(manifest: Manifest, tmp_path: Path) -> None:
    """A graph file that is a folder: the lock on the vectors is free again."""
    (tmp_path / GRAPH).mkdir()
    with pytest.raises(Exception, match=GRAPH) as caught:
        open_parts(tmp_path, manifest, Given())
    assert not isinstance(caught.value, StoreLockedError)
    (tmp_path / GRAPH).rmdir()
    open_parts(tmp_path, manifest, Given()).close()


def test_only_stores_that_can_be_divided_have_tenants() -> None:
    """A store without partitions would mix them; without given stores there is nothing to divide."""
    with pytest.raises(ConfigurationError, match="SqliteGraphStore has no tenants"):
        Given(graph=SqliteGraphStore()).tenant("acme")
    assert Given().tenant("acme") == Given()
    root = Neo4jGraphStore("bolt://127.0.0.1:1")
    given = Given(graph=root)
    tenant = given.tenant("acme").graph
    assert isinstance(tenant, Neo4jGraphStore)
    assert tenant.bolt is root.bolt
    assert tenant.schema != root.schema
    assert "graph" in given.served
    assert "vector" not in given.served
    root.close()
