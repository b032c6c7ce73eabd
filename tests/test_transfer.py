"""Graphs copied whole: from store to store and back everything is equal, whatever stopped it half-way."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from test_graph_store import ENDS, FACTS, PASSAGES, dump

from llama_index_hybridmem.graph.stores.base import Fact, Passage, PortableGraphStore
from llama_index_hybridmem.graph.stores.sqlite import SqliteGraphStore


def exported(store: PortableGraphStore, limit: int) -> list[Passage]:
    """Every passage of a store, in pages."""
    found: list[Passage] = []
    while page := store.export_passages(found[-1].node_id if found else None, limit):
        found += page
    return found


# -- what a store gives back ------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    st.lists(PASSAGES, max_size=6, unique_by=lambda one: one.node_id),
    st.lists(ENDS, max_size=2),
    st.lists(FACTS, max_size=2),
    st.integers(1, 4),
)
def test_what_a_store_gives_back_makes_the_same_store(
    passages: list[Passage], names: list[str], facts: list[Fact], limit: int
) -> None:
    """Passages, names and facts written into an empty store make every table equal, and are given back the same."""
    first, second = SqliteGraphStore(), SqliteGraphStore()
    first.upsert(passages)
    first.add_names(names)
    first.add_facts(facts)
    found = exported(first, limit)
    second.upsert(found)
    second.add_names(first.stated()[0])
    second.add_facts(first.stated()[1])
    assert dump(second) == dump(first)
    assert exported(second, 3) == found
    assert second.stated() == first.stated()
