"""A node as a point: metadata under the names that we, or LlamaIndex, write beside it, is metadata and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from injection_zoo import NAMES
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from qdrant_places import places
from vector_nodes import make_node, small_store, unit

from llama_index_hybridmem.vector.migration import migrate
from llama_index_hybridmem.vector.point_store import PointVectorStore
from llama_index_hybridmem.vector.points import OURS, payload
from llama_index_hybridmem.vector.store import QdrantEdgeVectorStore

OPENINGS = ["embedded", "server", "tenant"]
VALUES: list[Any] = ["x", 3, [], {"language": "klingon", "average_length": "long"}]

Opener = Callable[[], PointVectorStore]


@pytest.fixture(params=OPENINGS)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Opens one and the same store, as one process after another would."""
    if request.param == "embedded":
        yield lambda: QdrantEdgeVectorStore(tmp_path / "store")
        return
    for place in places("client"):
        yield lambda place=place: place.store(tenant="acme" if request.param == "tenant" else None)


@pytest.mark.parametrize("value", VALUES, ids=["text", "number", "list", "mapping"])
def test_metadata_under_names_of_ours_is_metadata(opened: Opener, value: Any) -> None:
    """It comes back whole, is found and filtered on, and neither hides the node nor closes the store to the next."""
    everything = make_node("all", "flash page", unit(99), "d2", dict.fromkeys(OURS, value))
    nodes = [make_node(f"n{i}", "flash page", unit(i), "d1", {key: value}) for i, key in enumerate(sorted(OURS))]
    wanted = {node.node_id: node.metadata for node in [*nodes, everything]}
    with closing(opened()) as store:
        store.add([everything])
    with closing(opened()) as store:
        store.add(nodes)
        assert {node.node_id: node.metadata for node in store.get_nodes()} == wanted
        for mode in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.SPARSE):
            asked = VectorStoreQuery(query_embedding=unit(1), query_str="flash", similarity_top_k=99, mode=mode)
            assert {node.node_id: node.metadata for node in store.query(asked).nodes or ()} == wanted
        for i, key in enumerate(sorted(OURS) if isinstance(value, str) else ()):
            found = store.get_nodes(filters={"key": key, "value": value})  # type: ignore[arg-type]  # ours is taken, too
            assert {node.node_id for node in found} == {f"n{i}", "all"}, key
        store.reindex_sparse()
        store.delete("d1")
        assert [node.node_id for node in store.get_nodes()] == ["all"]


def test_it_moves_to_a_server(tmp_path: Path) -> None:
    """A copy of such nodes is whole, and belongs to whom it was copied for."""
    for place in places("client"):
        with small_store() as embedded, place.store() as server:
            embedded.add([make_node("a", "flash", unit(1), "d1", dict.fromkeys(OURS, "x"))])
            assert migrate(embedded, server, tmp_path / "journal").points == 1
            assert server.get_nodes() == embedded.get_nodes()


def test_no_name_of_the_zoo_changes_what_we_write_beside_a_node() -> None:
    """Whatever a document calls its fields: our keys are ours, and only there where we write them."""
    plain = payload(make_node("a", "flash", unit(1)), 1)
    assert set(NAMES) >= OURS
    for name in NAMES:
        odd = payload(make_node("a", "flash", unit(1), None, {name: "x"}), 1)
        assert odd.keys() & OURS == plain.keys()
        changed = {key for key in plain if odd[key] != plain[key]}
        assert changed <= {"_hm_terms", "_node_content"}
