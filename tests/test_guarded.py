"""Tests of the semantic memory that may be lost: shares of time, errors, skipping."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from fakes import WordsEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import SimpleVectorStore, VectorStoreQuery, VectorStoreQueryResult

from llama_index_hybridmem.deadlines import seconds_left, within
from llama_index_hybridmem.errors import BreakerOpenError, RetrievalError, StoreUnavailableError
from llama_index_hybridmem.filters import Filter
from llama_index_hybridmem.graph.guarded import GuardedMemory
from llama_index_hybridmem.graph.nodes import to_passage
from llama_index_hybridmem.graph.retriever import EntityGraphRetriever
from llama_index_hybridmem.graph.semantic import semantic_memory
from llama_index_hybridmem.graph.stores.sqlite import SqliteGraphStore
from llama_index_hybridmem.retriever import HybridRetriever, Store, retrieval_report


class Ours:
    """A memory that notes what time it had, and fails if it is told to."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.had: list[float | None] = []

    def search_dense(
        self, embedding: Sequence[float], top_k: int, filters: Filter | None = None
    ) -> list[tuple[str, float]]:
        """As asked."""
        self.had.append(seconds_left())
        if self.error is not None:
            raise self.error
        return [("a", 1.0)]

    def search_sparse(self, text: str, top_k: int, filters: Filter | None = None) -> list[tuple[str, float]]:
        """As asked."""
        return self.search_dense([], top_k)

    def score_dense(self, embedding: Sequence[float], node_ids: Sequence[str]) -> dict[str, float]:
        """As asked."""
        return dict(self.search_dense([], 1))


class Hung(SimpleVectorStore):
    """A foreign store that hangs while its gate is shut."""

    _gate: threading.Event = PrivateAttr(default_factory=threading.Event)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """As asked, later."""
        self._gate.wait(60)
        return super().query(query, **kwargs)


@pytest.fixture
def graph() -> Iterator[SqliteGraphStore]:
    """An empty one."""
    store = SqliteGraphStore()
    yield store
    store.close()


def test_a_call_has_half_of_the_time_that_is_left() -> None:
    """Without a deadline it has no limit."""
    memory = Ours()
    guarded = GuardedMemory(memory)
    with within(60):
        assert guarded.search_dense([0.0], 1) == [("a", 1.0)]
        assert guarded.search_sparse("x", 1) == [("a", 1.0)]
    assert guarded.score_dense([0.0], ["a"]) == {"a": 1.0}
    *with_limit, without = memory.had
    assert all(29 < (had or 0) <= 30 for had in with_limit)
    assert without is None


def test_whatever_fails_is_one_error() -> None:
    """Any library's error becomes ours; what ends the program does not."""
    memory = Ours()
    guarded = GuardedMemory(memory)
    memory.error = OSError("broken pipe")
    with pytest.raises(RetrievalError, match="OSError: broken pipe"):
        guarded.search_dense([0.0], 1)
    memory.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        guarded.search_dense([0.0], 1)


def test_a_server_that_is_gone_is_skipped() -> None:
    """Four calls find it gone, the fifth does not ask."""
    memory = Ours()
    guarded = GuardedMemory(memory)
    memory.error = StoreUnavailableError("Qdrant at http://db:6333 did not answer within 1 s")
    for _ in range(4):
        with pytest.raises(RetrievalError, match="did not answer"):
            guarded.search_dense([0.0], 1)
    with pytest.raises(BreakerOpenError, match="vectors skipped"):
        guarded.search_dense([0.0], 1)
    assert len(memory.had) == 4


def test_a_foreign_store_that_hangs_is_left_behind(graph: SqliteGraphStore) -> None:
    """It knows no deadline: the call comes back without it, and after four it is not asked any more."""
    store = Hung()
    store.add([TextNode(id_="a", text="x", embedding=[1.0])])
    guarded = GuardedMemory(semantic_memory(store, graph))
    began = time.monotonic()
    try:
        for _ in range(4):
            with within(0.02), pytest.raises(RetrievalError, match="vectors did not answer within"):
                guarded.search_dense([1.0], 1)
        with within(0.02), pytest.raises(BreakerOpenError):
            guarded.search_dense([1.0], 1)
        assert time.monotonic() - began < 30
    finally:
        store._gate.set()
    end = time.monotonic() + 20
    while "hybridmem-vectors" in [thread.name for thread in threading.enumerate()]:
        assert time.monotonic() < end
        time.sleep(0.01)
    with within(20):
        assert guarded.search_dense([1.0], 1) == [("a", pytest.approx(1.0))]


def test_the_graph_answers_though_a_foreign_vector_store_hangs(graph: SqliteGraphStore) -> None:
    """Within its deadline, with words and names; when the store is back it is asked again."""
    node = TextNode(id_="a", text="The maker of the Zephyr was Northwind.", metadata={"title": "Zephyr"})
    graph.upsert([to_passage(node)])
    store, model = Hung(), WordsEmbedding()
    retriever = EntityGraphRetriever(graph, vector_store=store, embed_model=model)
    hybrid = HybridRetriever([Store("graph", retriever, deadline_s=2.0)])
    try:
        with retrieval_report() as report:
            (found,) = hybrid.retrieve("Who made the Zephyr?")
    finally:
        store._gate.set()
    assert found.node.node_id == "a"
    assert [outcome.status for outcome in report.outcomes] == ["ok"]
    assert retriever.retrieve("Who made the Zephyr?")[0].node.metadata["hybridmem"]["notes"] == []
