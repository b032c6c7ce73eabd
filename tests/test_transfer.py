"""Graphs copied whole: from store to store and back everything is equal, whatever stopped it half-way."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from injection_zoo import NAMES
from servers.neo4j.server import Neo4jAddress, Neo4jServer
from test_graph_store import ENDS, FACTS, PASSAGES, dump, passage

from llama_index_hybridmem import sample
from llama_index_hybridmem.errors import IngestError, StoreError, StoreMismatchError, StoreUnavailableError
from llama_index_hybridmem.graph import transfer
from llama_index_hybridmem.graph.cypher_rows import readable
from llama_index_hybridmem.graph.facts import read_facts
from llama_index_hybridmem.graph.foreign import Foreign
from llama_index_hybridmem.graph.portrait import portrait
from llama_index_hybridmem.graph.search import GraphSearch
from llama_index_hybridmem.graph.stores.base import Fact, Passage, PortableGraphStore
from llama_index_hybridmem.graph.stores.bolt import Bolt
from llama_index_hybridmem.graph.stores.neo4j.store import Neo4jGraphStore
from llama_index_hybridmem.graph.stores.sqlite import SqliteGraphStore
from llama_index_hybridmem.graph.transfer import copy, take_over


def exported(store: PortableGraphStore, limit: int = 500) -> list[Passage]:
    """Every passage of a store, in pages."""
    found: list[Passage] = []
    while page := store.export_passages(found[-1].node_id if found else None, limit):
        found += page
    return found


def on(server: Neo4jAddress, **options: Any) -> Neo4jGraphStore:
    """A store on a server of the tests."""
    username, password = server.auth or (None, None)
    known = {"username": username, "password": password, "database": server.database}
    return Neo4jGraphStore(server.uri, **known, timeout_s=30, **options)


DOCUMENTS = ("core-memory", "dov-frohman", "dram-cell", "dram-refresh", "robert-dennard")


def fill(store: PortableGraphStore) -> None:
    """Some documents of the sample, a passage a paragraph, with everything a passage can have; and what is stated."""
    passages = []
    for path in (sample.documents_folder() / f"{stem}.md" for stem in DOCUMENTS):
        title, *paragraphs = path.read_text(encoding="utf-8").split("\n\n")
        for place, text in enumerate(paragraphs):
            node_id, name = f"{path.stem}:{place}", title.strip("# ")
            facts = (Fact(name, "is told of in", "Memory Chips", node_id, "kg_extractors"),) if place == 1 else ()
            metadata = {
                "place": place,
                "tags": ["a", 2, True, 0.1],
                "one": ["x"],
                "long": len(text) > 300,
                "none": None,
            }
            kept: dict[str, Any] = {"metadata": metadata, "facts": facts, "doc_hash": f"hash of {path.stem}"}
            text, doc_id = text.strip(), path.stem
            passages.append(passage(node_id, text, name, doc_id, lead=place == 0, long=place == 2, node="{}", **kept))
    store.upsert(passages)
    store.add_names(["refresh", "Sense amplifier"])
    store.add_facts([Fact("Robert Dennard", "invented", "DRAM", source="f.csv"), Fact("DRAM", "needs", "refresh")])


@pytest.fixture(scope="module")
def full() -> Iterator[SqliteGraphStore]:
    """An embedded store with the sample in it, read by the tests and never written to."""
    with closing(SqliteGraphStore()) as store:
        fill(store)
        yield store


@pytest.fixture
def empty() -> Iterator[SqliteGraphStore]:
    """An empty embedded store."""
    with closing(SqliteGraphStore()) as store:
        yield store


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


# -- between embedded stores ------------------------------------------------------------------------------------------


def test_a_copy_is_equal_and_changes_nothing_the_second_time(full: SqliteGraphStore, empty: SqliteGraphStore) -> None:
    """Every table is equal; the same copy again leaves even the version, and says the same."""
    told: list[int] = []
    copied = copy(full, empty, step=told.append)
    assert dump(empty) == dump(full)
    assert sum(told) == 2 * full.passage_count
    assert (copied.passages, copied.others) == (full.passage_count, 0)
    before = empty._database.rows("SELECT * FROM meta")
    assert copy(full, empty) == copied
    assert empty._database.rows("SELECT * FROM meta") == before


def test_what_only_the_target_has_stays(full: SqliteGraphStore, empty: SqliteGraphStore) -> None:
    """Passages, names and facts of the target are left alone, and counted; a passage of the same id is replaced."""
    old = exported(full)[0]
    empty.upsert([passage("mine", "Ada met Bob."), passage(old.node_id, "something else")])
    empty.add_facts([Fact("Ada", "met", "Bob")])
    copied = copy(full, empty)
    assert copied.others == 1
    assert copied.totals["passages"] == full.passage_count + 1
    assert Fact("Ada", "met", "Bob") in empty.stated()[1]
    assert old in exported(empty)


def test_a_copy_proves_that_all_arrived(full: SqliteGraphStore) -> None:
    """A store that loses, changes or miscounts something is found out."""

    class Forgetful(SqliteGraphStore):
        def upsert(self, passages: Any) -> None:
            super().upsert(passages[1:])

    class Careless(SqliteGraphStore):
        def upsert(self, passages: Any) -> None:
            super().upsert([passage(one.node_id, "other") for one in passages])

    class Deaf(SqliteGraphStore):
        def add_facts(self, facts: Any) -> None:
            """Drop them."""

    class Miscounting(SqliteGraphStore):
        def stats(self) -> dict[str, int]:
            return {**super().stats(), "links": 1}

    for kind, said in (
        (Forgetful, "1 passages are missing"),
        (Careless, "differ"),
        (Deaf, "stated"),
        (Miscounting, "1 links"),
    ):
        with closing(kind()) as target, pytest.raises(StoreMismatchError, match=said):
            copy(full, target)


KILLED = """
import os, signal, sys
from llama_index_hybridmem.graph import transfer
from llama_index_hybridmem.graph.stores.sqlite import SqliteGraphStore
transfer.PAGE, done = 7, []
def step(count):
    done.append(count)
    if sum(done) > 30:
        os.kill(os.getpid(), signal.SIGKILL)
transfer.copy(SqliteGraphStore(sys.argv[1]), SqliteGraphStore(sys.argv[2]), step=step)
"""


def test_a_killed_copy_goes_on_from_there(full: SqliteGraphStore, tmp_path: Path) -> None:
    """After kill -9 in the midst of it the target has whole batches, and the same copy makes it equal."""
    with closing(SqliteGraphStore(tmp_path / "a.sqlite")) as source:
        copy(full, source)
        arguments = [sys.executable, "-c", KILLED, str(source.path), str(tmp_path / "b.sqlite")]
        assert subprocess.run(arguments, env={**os.environ}, check=False).returncode == -signal.SIGKILL
        with closing(SqliteGraphStore(tmp_path / "b.sqlite")) as target:
            assert target.passage_count == 35
            copy(source, target)
            assert dump(target) == dump(full)


# -- to Neo4j and back ------------------------------------------------------------------------------------------------


def questions() -> list[str]:
    """Some of the sample's."""
    return ["Who invented DRAM?", "What did Robert Dennard work on?", "How often is DRAM refreshed?", "Toshiba NAND"]


def rankings(store: PortableGraphStore) -> list[list[tuple[str, float]]]:
    """What the graph search finds, with scores as far as arithmetic's order does not show."""
    search = GraphSearch(store)
    found = [search.search(question, top_k=8).found for question in questions()]
    return [[(each.passage.node_id, round(each.score, 9)) for each in one] for one in found]


def test_to_neo4j_and_back_everything_is_equal(
    full: SqliteGraphStore, empty: SqliteGraphStore, neo4j: Neo4jAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts, rankings and portraits are the same in Neo4j; back in an embedded store every table is."""
    monkeypatch.setattr(transfer, "PAGE", 20)
    with closing(on(neo4j)) as server:
        there = copy(full, server)
        assert copy(full, server) == there
        assert there.totals == {key: full.stats()[key] for key in there.totals}
        assert exported(server) == exported(full)
        assert rankings(server) == rankings(full)
        assert portrait(server, "DRAM", hops=2) == portrait(full, "DRAM", hops=2)
        assert copy(server, empty).totals == there.totals
    assert dump(empty) == dump(full)


def mean(name: str) -> Passage:
    """A passage with one string wherever a string goes."""
    facts = (Fact(name, name, name),)
    return passage(f"n{name}", f"Intel {name} Ada", name, f"d{name}", metadata={name: name}, facts=facts)


def test_strings_of_the_zoo_arrive_as_strings(empty: SqliteGraphStore, neo4j: Neo4jAddress) -> None:
    """Ids, titles, texts, metadata, facts and names that mean harm to some database come back as they were."""
    harmless = [name for name in NAMES if "\0" not in name and name.encode(errors="ignore").decode() == name]
    with closing(SqliteGraphStore()) as first, closing(on(neo4j)) as server:
        first.upsert([mean(name) for name in harmless])
        first.add_names(harmless)
        first.add_facts([Fact(name, name, f"Ada {name}", source=name) for name in harmless])
        copy(first, server)
        copy(server, empty)
        assert dump(empty) == dump(first)
        assert portrait(server, "Ada", hops=2) == portrait(first, "Ada", hops=2)


@pytest.mark.soak
@pytest.mark.skipif(os.environ.get("HYBRIDMEM_SOAK") != "1", reason="a server is killed and started: run by make soak")
def test_a_server_that_dies_amid_a_copy(
    full: SqliteGraphStore, fragile_neo4j: Neo4jServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy ends with one error; when the server is back, the same copy goes on and is whole."""
    monkeypatch.setattr(transfer, "PAGE", 10)

    def dying(count: int) -> None:
        if server.passage_count > 20:
            fragile_neo4j.kill()

    with closing(on(fragile_neo4j)) as server:
        with pytest.raises(StoreUnavailableError):
            copy(full, server, step=dying)
        fragile_neo4j.restart()
        assert 20 < server.passage_count < full.passage_count
        assert copy(full, server).totals["links"] == full.stats()["links"]
        assert exported(server) == exported(full)


# -- somebody's own graph ---------------------------------------------------------------------------------------------


def foreign(server: Neo4jAddress, **options: Any) -> tuple[Bolt, Foreign]:
    """A reading of what is on a server."""
    username, password = server.auth or (None, None)
    line = Bolt(server.uri, username=username, password=password, database=server.database, timeout_s=30)
    return line, Foreign(line.read, "theirs", **options)


def taken_over(server: Neo4jAddress, target: SqliteGraphStore, **options: Any) -> transfer.Copied:
    """Take a server's graph over."""
    line, graph = foreign(server, **options)
    with closing(line):
        return take_over(target, facts=graph.facts(), names=graph.entities(), passages=graph.chunks())


def test_a_graph_of_any_labels_becomes_facts_and_names(empty: SqliteGraphStore, neo4j: Neo4jAddress) -> None:
    """Relations read as facts, with readable words; nodes are named by name, title or id; unnamed ones passed over."""
    neo4j.query("""
        CREATE (a:Person {name: 'Ada Lovelace'})-[:`WORKED_WITH`]->(b:`Odd ```
          {title: 'Charles Babbage', name: 3})
        CREATE (b)-[:`designed the`]->(:Machine {id: 'Analytical Engine'})
        CREATE (a)-[:CEO]->(:Nothing {weight: 3})
        CREATE (:Person {name: '  '})-[:KNOWS]->(a)
        CREATE (:Person {name: 'Alone'})
    """)
    copied = taken_over(neo4j, empty)
    assert [str(fact) for fact in empty.stated()[1]] == [
        "Ada Lovelace → worked with → Charles Babbage", "Charles Babbage → designed the → Analytical Engine",
    ]  # fmt: skip
    assert {fact.source for fact in empty.stated()[1]} == {"theirs"}
    assert empty.stated()[0] == ["ada lovelace", "alone", "analytical engine", "charles babbage"]
    assert (copied.passages, copied.names, copied.facts) == (0, 4, 2)
    assert taken_over(neo4j, empty) == copied


def test_further_names_of_a_node_are_facts(empty: SqliteGraphStore, neo4j: Neo4jAddress) -> None:
    """Aliases tie what is asked about under one name to what is told under the other."""
    neo4j.query("""
        CREATE (a:Company {name: 'Northwind Devices', aliases: ['ND', 'northwind devices', '']})
        CREATE (:Company {title: 'Orbit', also_known_as: 'The Sawmill; Orb'})
        CREATE (:Company {aliases: ['Nobody']})
        CREATE (:Chunk {id: 'c', text: 'A sawmill is where Northwind Devices began.'})-[:MENTIONS]->(a)
    """)
    copied = taken_over(neo4j, empty)
    assert sorted(str(fact) for fact in empty.stated()[1]) == [
        "Northwind Devices → also known as → ND",
        "Orbit → also known as → Orb",
        "Orbit → also known as → The Sawmill",
    ]
    assert {"nd", "orb", "the sawmill"} <= set(empty.stated()[0])
    [found] = GraphSearch(empty).search("Who leads ND?").found
    assert found.passage.node_id == "c"
    assert taken_over(neo4j, empty) == copied


def test_names_come_from_the_property_that_is_asked_for(empty: SqliteGraphStore, neo4j: Neo4jAddress) -> None:
    """Another order of name properties, whatever characters they have."""
    neo4j.query("CREATE (:A {name: 'n1', `the ``label`: 'Ada'})-[:KNOWS]->(:A {name: 'n2', `the ``label`: 'Bob'})")
    taken_over(neo4j, empty, names=["the `label"])
    assert [str(fact) for fact in empty.stated()[1]] == ["Ada → knows → Bob"]


@pytest.mark.filterwarnings("ignore:The `dict` method is deprecated")  # LlamaIndex's store calls it
def test_a_graph_of_llamaindex_becomes_passages_with_facts(empty: SqliteGraphStore, neo4j: Neo4jAddress) -> None:
    """Chunks become passages with the facts that were read from them; entities names; other facts are stated."""
    pytest.importorskip("llama_index.graph_stores.neo4j", reason="needs the extra 'neo4j'")
    from llama_index.core.graph_stores.types import EntityNode, Relation
    from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
    from llama_index.graph_stores.neo4j import Neo4jPropertyGraphStore

    username, password = neo4j.auth or ("neo4j", "none")
    graph = Neo4jPropertyGraphStore(username, password, neo4j.uri, database=neo4j.database)
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc-1", hash="h")}
    texts = {"c1": "Ada Lovelace worked with Charles Babbage.", "c2": "Babbage designed the engine."}
    nodes = [
        TextNode(id_=key, text=text, metadata={"year": 1843}, relationships=source, embedding=[0.1] * 40)
        for key, text in texts.items()
    ]
    graph.upsert_llama_nodes(nodes)
    ada, babbage = "Ada Lovelace", "Charles Babbage"
    graph.upsert_nodes([EntityNode(name=name, properties={"triplet_source_id": "c1"}) for name in (ada, babbage)])
    relations = [("WORKED_WITH", ada, babbage, "c1"), ("ADMIRED", babbage, ada, "gone")]
    graph.upsert_relations(
        [
            Relation(label=label, source_id=one, target_id=other, properties={"triplet_source_id": chunk})
            for label, one, other, chunk in relations
        ]
    )
    graph.close()
    asyncio.run(graph._async_driver.close())  # which its own close leaves open
    copied = taken_over(neo4j, empty)
    found = {one.node_id: one for one in exported(empty)}
    assert {key: one.text for key, one in found.items()} == texts
    assert {one.doc_id for one in found.values()} == {"doc-1"}
    assert found["c1"].metadata["year"] == 1843
    assert [str(fact) for fact in found["c1"].facts] == ["Ada Lovelace → worked with → Charles Babbage"]
    assert [str(fact) for fact in empty.stated()[1]] == ["Charles Babbage → admired → Ada Lovelace"]
    assert "ada lovelace" in empty.stated()[0]
    assert (copied.passages, copied.facts) == (2, 1)
    assert all(not isinstance(value, list) for one in found.values() for value in one.metadata.values())
    before = dump(empty)
    assert taken_over(neo4j, empty) == copied
    assert dump(empty) == before


def test_a_graph_of_ours_is_not_foreign(full: SqliteGraphStore, neo4j: Neo4jAddress) -> None:
    """What a Neo4jGraphStore wrote is left aside when the database is read as somebody's own."""
    with closing(on(neo4j)) as server:
        server.upsert(exported(full)[:3])
    line, graph = foreign(neo4j)
    with closing(line):
        assert graph.is_empty()
        neo4j.query("CREATE (:A {name: 'Ada'})-[:KNOWS]->(:A {name: 'Bob'})")
        assert not graph.is_empty()
        assert [str(fact) for fact in graph.facts()] == ["Ada → knows → Bob"]
        assert list(graph.entities()) == ["Ada", "Bob"]


def test_large_graphs_are_read_in_pages(
    empty: SqliteGraphStore, neo4j: Neo4jAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost or doubled where one page ends and the next begins."""
    monkeypatch.setattr("llama_index_hybridmem.graph.foreign._PAGE", 7)
    neo4j.query(
        "UNWIND range(1, 50) AS i CREATE (:Chunk {id: 'c' + i, text: 'Text ' + i})-[:HAS]->(:E {name: 'Name ' + i})"
    )
    links = "MATCH (a:E {name: 'Name ' + i}), (b:E {name: 'Name ' + (i + 1)}) CREATE (a)-[:NEXT]->(b)"
    neo4j.query(f"UNWIND range(1, 49) AS i {links}")
    copied = taken_over(neo4j, empty)
    assert (copied.passages, copied.names, copied.facts) == (50, 50, 49)


def scans(server: Neo4jAddress, cypher: str, parameters: Any) -> bool:
    """Whether a statement looks through the whole graph, by the server's own plan."""
    from neo4j import GraphDatabase

    def operators(plan: dict[str, Any]) -> set[str]:
        return {plan["operatorType"].split("@")[0]}.union(*map(operators, plan.get("children", ())))

    with GraphDatabase.driver(server.uri, auth=server.auth) as driver, driver.session(database=server.database) as s:
        plan = s.run(f"EXPLAIN {cypher}", dict(parameters)).consume().plan
    assert plan is not None
    return any(operator.endswith("Scan") for operator in operators(plan))


def test_a_graph_is_looked_through_once_for_each_kind(neo4j: Neo4jAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pages there are: every further read seeks its rows by their ids."""
    monkeypatch.setattr("llama_index_hybridmem.graph.foreign._PAGE", 5)
    neo4j.query("""
        UNWIND range(1, 20) AS i
        CREATE (a:E {name: 'A' + i, alias: 'Z' + i})-[:NEXT]->(:E {name: 'B' + i})
        CREATE (:Chunk {id: 'c' + i, text: 'Text ' + i})-[:HAS]->(a)
    """)
    scanning: list[bool] = []

    def read(cypher: str, parameters: Any) -> list[list[Any]]:
        scanning.append(scans(neo4j, cypher, parameters))
        return line.read(cypher, parameters)

    line, graph = foreign(neo4j)
    graph = replace(graph, read=read)
    with closing(line):
        assert len(list(graph.chunks())) == 20
        assert scanning == [True, False, False, False, False]
        assert len(list(graph.entities())) == 40
        assert len(list(graph.facts())) == 40
        assert (scanning.count(True), scanning.count(False)) == (4, 4 + 8 + 4 + 4)


# -- triples ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '[["Ada", "met", "Bob"], {"subject": "Bob", "relation": "met", "object": "Ada", "x": 1}]'),
        ("a.jsonl", '["Ada", "met", "Bob"]\n\n{"subject": "Bob", "relation": "met", "object": "Ada"}\n'),
    ],
)
def test_triples_may_be_json(tmp_path: Path, name: str, text: str) -> None:
    """A list or a line each; arrays or objects."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_facts(tmp_path / name) == [
        Fact("Ada", "met", "Bob", source=name),
        Fact("Bob", "met", "Ada", source=name),
    ]


@pytest.mark.parametrize(
    "text", ["", "3", "[1]", '[["a", "b"]]', '[["a", "b", 3]]', '[["a", " ", "c"]]', "[" * 100_000]
)
def test_other_json_is_refused(tmp_path: Path, text: str) -> None:
    """With the place, and what was expected."""
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(IngestError, match=r"a\.json"):
        read_facts(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("relation", "words"),
    [
        ("ACQUIRED_BY", "acquired by"),
        ("OWNS", "owns"),
        ("HAS_PART_2", "has part 2"),
        ("CEO", "CEO"),
        ("isPartOf", "isPartOf"),
        ("Works_At", "Works_At"),
        ("_X", "_X"),
        ("GEHÖRT_ZU", "gehört zu"),
        ("IS A", "is a"),
    ],
)
def test_shouted_relations_are_spoken(relation: str, words: str) -> None:
    """Only what is plainly capitals and underscores is changed."""
    assert readable(relation) == words


def test_a_take_over_proves_that_all_arrived() -> None:
    """A store that loses passages is found out."""

    class Forgetful(SqliteGraphStore):
        def upsert(self, passages: Any) -> None:
            """Drop them."""

    with closing(Forgetful()) as target, pytest.raises(StoreError, match="1 passages are missing"):
        take_over(target, facts=[], passages=[passage("a", "Ada")])
