"""The plans that a Neo4j server makes of the store's statements, over a store of some size."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from servers.neo4j.server import Neo4jAddress
from test_graph_store import ANY_NAME, passage
from test_neo4j_store import OPEN, check_view, told

from llama_index_hybridmem.graph.search import GraphSearch
from llama_index_hybridmem.graph.stores.base import Fact
from llama_index_hybridmem.graph.stores.bolt import Bolt, Transaction
from llama_index_hybridmem.graph.stores.neo4j.store import Neo4jGraphStore


@pytest.fixture
def graph(neo4j: Neo4jAddress) -> Iterator[Neo4jGraphStore]:
    """An empty store in an empty database."""
    user, password = neo4j.auth or (None, None)
    one = Neo4jGraphStore(neo4j.uri, username=user, password=password, database=neo4j.database, timeout_s=60)
    yield one
    one.close()


WHOLE = ("MATCH (p:P) RETURN p.doc_id", "MATCH (n:N) WHERE n.given", "MATCH (n:N) RETURN n.name", "DETACH DELETE x",
         "count(DISTINCT p.doc_key)")  # fmt: skip
"""What asks for all there is, on purpose."""


@pytest.mark.skipif(os.environ.get("HYBRIDMEM_SOAK") != "1", reason="800 passages on a server: run by make soak")
def test_every_statement_finds_what_it_asks_for_by_an_index(
    graph: Neo4jGraphStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a store of some size no plan looks through all passages, names, facts or words, nor is anything deprecated."""
    seen: dict[str, dict[str, Any]] = {}
    for owner, name in ((Bolt, "read"), (Transaction, "run")):
        monkeypatch.setattr(owner, name, watched(getattr(owner, name), seen))
    chance = random.Random(6)
    titles = [f"Name{i} Of{i % 7}" for i in range(200)]
    many = []
    for i in range(800):
        one, other = chance.choices(titles, k=2)
        text = f"so {one} met {other} " + " ".join(f"word{chance.randrange(200)}" for _ in range(8))
        facts = (Fact(one, "met", other),)
        many.append(passage(f"n{i}", text, chance.choice(titles), f"d{i // 5}", facts=facts, metadata={"open": True}))
    graph.upsert(many)
    asked = Neo4jGraphStore(graph.bolt, max_held_names=0)
    for store in (graph, asked):
        store.replace(["z"], [passage("z", "A new Zed Dylan met Ozz", "Zed", "z", facts=(Fact("Zed", "met", "Ozz"),))])
        store.delete(doc_ids=["z"])
        store.add_facts([Fact("Name1 Of1", "knows", "Name2 Of2")])
    told(graph)
    for keep in (None, OPEN):
        GraphSearch(graph).search("Where did Name5 Of5 meet Name9 Of2 at word3?", keep=keep)
        check_view(graph.view("Name5 Of5", keep), graph, np.arange(5), np.arange(5), ANY_NAME, keep)
    assert len(seen) > 40
    assert {cypher: scans for cypher, parameters in seen.items() if (scans := scanned(graph, cypher, parameters))} == {}


def watched(call: Any, seen: dict[str, dict[str, Any]]) -> Any:
    """The same call; its statements are noted."""

    def noting(self: Any, cypher: str, parameters: Any = None, **options: Any) -> Any:
        seen.setdefault(cypher, dict(parameters or {}))
        return call(self, cypher, parameters, **options)

    return noting


def scanned(graph: Neo4jGraphStore, cypher: str, parameters: dict[str, Any]) -> list[str]:
    """What a plan looks through as a whole."""
    plain = cypher
    for letter, label in graph.schema.labels.items():
        plain = plain.replace(label, letter)
    if cypher.startswith(("SHOW", "CREATE", "CALL db.await")) or any(part in plain for part in WHOLE):
        return []

    async def explained(line: Any) -> Any:
        driver = await line.driver()
        async with driver.session(database=graph.bolt.database, notifications_min_severity="INFORMATION") as session:
            return await (await session.run(f"EXPLAIN {cypher}", parameters)).consume()

    summary = graph.bolt._run(explained, 30)
    notes = [note["title"] for note in summary.notifications or () if "cartesian" not in note["title"]]
    return [
        *notes,
        *(operator for operator in operators(summary.plan) if "Scan" in operator and "Index" not in operator),
    ]


def operators(plan: dict[str, Any]) -> Iterator[str]:
    """The names of a plan's steps."""
    yield plan["operatorType"].split("@")[0]
    for child in plan.get("children", ()):
        yield from operators(child)
