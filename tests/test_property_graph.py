"""Tests of memory over property graphs that apps have already: in LlamaIndex's own store and in a real Neo4j."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fake_llm import ScriptedLLM
from fakes import WordsEmbedding
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core import PropertyGraphIndex, VectorStoreIndex
from llama_index.core.graph_stores import SimplePropertyGraphStore
from llama_index.core.graph_stores.types import ChunkNode, EntityNode, LabelledNode, PropertyGraphStore, Relation
from llama_index.core.indices.property_graph import ImplicitPathExtractor
from llama_index.core.schema import (
    BaseNode,
    MetadataMode,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
    TransformComponent,
)
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import SimpleVectorStore
from servers.proxy import TcpProxy

from llama_index_hybridmem.deadlines import within
from llama_index_hybridmem.errors import (
    ConfigurationError,
    StoreAccessError,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
)
from llama_index_hybridmem.graph.cypher_rows import readable
from llama_index_hybridmem.graph.retriever import EntityGraphRetriever
from llama_index_hybridmem.graph.stores.base import Fact, GraphStore
from llama_index_hybridmem.graph.stores.property_graph import PropertyGraphMemory
from llama_index_hybridmem.graph.stores.property_graph_contents import name_key
from llama_index_hybridmem.graph.stores.property_graph_loader import HANGING_LIMIT
from llama_index_hybridmem.query_engine import HybridRouterQueryEngine
from llama_index_hybridmem.vector.store import QdrantEdgeVectorStore

if TYPE_CHECKING:
    from servers.neo4j.server import Neo4jAddress

# LlamaIndex's Neo4j store writes with a deprecated method of pydantic's.
pytestmark = pytest.mark.filterwarnings("ignore:The `dict` method is deprecated")

Triple = tuple[str, str, str]

# The question names the Zephyr; only a relation of its page names the maker; only the maker's page names the founder.
QUESTION = "Who founded the company behind the Zephyr?"
TEXTS = {
    "zephyr": "The Zephyr is a handheld of 1994.",
    "northwind": "It all began in 1987 in a disused sawmill.",
    "umea": "A river town in the north, with a large university.",
    "orbit": "The Orbit reads cartridges of 4 MB.",
    "review": "A critic praised the Zephyr for its screen.",
}
TRIPLES: dict[str, list[Triple]] = {
    "zephyr": [("Zephyr", "MADE_BY", "Northwind Devices")],
    "northwind": [("Mara Lindqvist", "FOUNDED", "Northwind Devices"), ("Northwind Devices", "BASED_IN", "Umeå")],
    "umea": [("Umeå", "LIES_IN", "Sweden")],
    "orbit": [("Orbit", "RIVAL_OF", "Zephyr")],
}
ALIASES = {"Northwind Devices": ["ND", "The Sawmill Company"]}


def node_id(key: str) -> str:
    """A UUID, as Qdrant wants it."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, key))


class RuleExtractor(TransformComponent):
    """Finds the triples above, and names that stand in a text, as a `kg_extractors` of an app would."""

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Leave entities and relations in the metadata."""
        names = sorted({end for triples in TRIPLES.values() for triple in triples for end in (triple[0], triple[2])})
        for node in nodes:
            triples = TRIPLES.get(node.metadata["key"], [])
            text = node.get_content(metadata_mode=MetadataMode.NONE)
            ends = {end for subject, _, target in triples for end in (subject, target)}
            found = [name for name in names if name in ends or name in text]
            node.metadata["nodes"] = [EntityNode(name=n, properties=_aliases(n)) for n in found]
            node.metadata["relations"] = [Relation(source_id=s, label=r, target_id=t) for s, r, t in triples]
        return nodes


def _aliases(name: str) -> dict[str, Any]:
    return {"aliases": ALIASES[name]} if name in ALIASES else {}


def nodes() -> list[TextNode]:
    """The texts as nodes of two documents."""
    found = []
    for key, text in TEXTS.items():
        tenant = "b" if key in ("orbit", "review") else "a"
        node = TextNode(id_=node_id(key), text=text, metadata={"key": key, "title": key, "tenant": tenant})
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"document {tenant}", hash="abc")
        found.append(node)
    return found


def fill(store: PropertyGraphStore) -> PropertyGraphStore:
    """Fill a store as an app does."""
    PropertyGraphIndex(
        nodes(),
        property_graph_store=store,
        kg_extractors=[RuleExtractor(), ImplicitPathExtractor()],
        embed_kg_nodes=False,
        use_async=False,
    )
    return store


def simple(
    chunks: Sequence[ChunkNode] = (), entities: Sequence[EntityNode] = (), relations: Sequence[Relation] = ()
) -> SimplePropertyGraphStore:
    """A graph by hand."""
    store = SimplePropertyGraphStore()
    store.upsert_nodes([*chunks, *entities])
    store.upsert_relations(list(relations))
    return store


def facts_only(*triples: Triple, **properties: Any) -> SimplePropertyGraphStore:
    """A graph without any chunk."""
    ends = {end for subject, _, target in triples for end in (subject, target)}
    relations = [Relation(source_id=s, label=r, target_id=t, properties=dict(properties)) for s, r, t in triples]
    return simple(entities=[EntityNode(name=end) for end in sorted(ends)], relations=relations)


def ask(memory: GraphStore, question: str, **fields: Any) -> dict[str, dict[str, Any]]:
    """What is found, best first: the node's key or text, and why."""
    found = EntityGraphRetriever(memory, **fields).retrieve(question)
    return {
        one.node.metadata.get("key") or one.node.get_content(MetadataMode.NONE): one.node.metadata["hybridmem"]
        for one in found
    }


def names_of(memory: GraphStore, passage: str) -> set[str]:
    """The names of one passage."""
    numbers = np.fromiter(memory.passage_ids([passage]).values(), np.int64)
    return {link.name.name for links in memory.names_in(numbers).values() for link in links}


@pytest.fixture(name="neo4j_store")
def _neo4j_store(neo4j: Neo4jAddress) -> Iterator[PropertyGraphStore]:
    with closing(connected(neo4j.uri, neo4j)) as store:
        yield store
        asyncio.run(store._async_driver.close())  # which the store forgets


def connected(uri: str, neo4j: Neo4jAddress) -> Any:
    """LlamaIndex's store, told to fail fast."""
    from llama_index.graph_stores.neo4j import Neo4jPropertyGraphStore

    user, password = neo4j.auth or ("neo4j", "any")
    return Neo4jPropertyGraphStore(
        user, password, uri, neo4j.database, refresh_schema=False, max_transaction_retry_time=0, connection_timeout=1
    )


@pytest.fixture(scope="module", name="readings")
def _readings() -> Iterator[dict[str, PropertyGraphMemory]]:
    """What was read of the app's graph, once per store: a reading needs the store no more."""
    readings: dict[str, PropertyGraphMemory] = {}
    yield readings
    for memory in readings.values():
        memory.close()


@pytest.fixture(name="memory", params=["simple", "neo4j"])
def _memory(request: pytest.FixtureRequest, readings: dict[str, PropertyGraphMemory]) -> PropertyGraphMemory:
    if request.param not in readings:
        store = SimplePropertyGraphStore() if request.param == "simple" else request.getfixturevalue("neo4j_store")
        readings[request.param] = PropertyGraphMemory(fill(store), check_s=None)
        readings[request.param].refresh()
    return readings[request.param]


@pytest.fixture(name="plain")
def _plain() -> PropertyGraphMemory:
    """The same over LlamaIndex's store in memory alone."""
    return PropertyGraphMemory(fill(SimplePropertyGraphStore()))


# -- what is linked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling",
    ["Umeå", "umeå", "UMEÅ", "Umea\u030a", "Umeå's", "Umea", "ＵＭＥＡ"],
    ids=["exact", "lower", "upper", "decomposed", "possessive", "no accent", "full width"],
)
def test_a_name_is_found_however_it_is_typed(spelling: str, memory: PropertyGraphMemory) -> None:
    """Case, accents, width and possessives make no difference, and no language model is asked."""
    found = ask(memory, f"Tell me about {spelling}")
    assert set(list(found)[:2]) == {"umea", "northwind"}


@pytest.mark.parametrize("alias", ["ND", "nd", "the sawmill company"])
def test_a_name_is_found_by_its_aliases(alias: str, memory: PropertyGraphMemory) -> None:
    """Aliases stand for the entity that has them: same passages, same facts."""
    known = memory.find_names([alias.lower(), "northwind devices"])
    assert known[alias.lower()] == known["northwind devices"]
    assert {"zephyr", "northwind"} == set(list(ask(memory, f"What does {alias} make?"))[:2])


def test_aliases_are_read_from_lists_strings_and_chosen_properties() -> None:
    """Lists, and strings with ; | or line ends between the names; `aliases=` says where."""
    given = {"aliases": ["One Ltd", "Uno"], "alias": "Eins; Een | Un", "nickname": "Solo"}
    store = simple(entities=[EntityNode(name="First Company", properties=given)])
    told = ["one ltd", "uno", "eins", "een", "un", "solo"]
    assert set(PropertyGraphMemory(store).find_names(told)) == set(told) - {"solo"}
    assert set(PropertyGraphMemory(store, aliases=["nickname"]).find_names(told)) == {"solo"}


def test_a_shared_alias_goes_to_the_name_with_most_passages_and_never_hides_a_name() -> None:
    """An entity of that name is meant before any alias; among aliases the entity most written of is."""
    chunks = [ChunkNode(id_=str(i), text=f"text {i}") for i in range(3)]
    entities = [
        EntityNode(name="Idlewild", properties={"alias": "JFK; Orly", "triplet_source_id": ["0"]}),
        EntityNode(name="John Kennedy", properties={"alias": "JFK", "triplet_source_id": ["1", "2"]}),
        EntityNode(name="Orly"),
    ]
    memory = PropertyGraphMemory(simple(chunks, entities))
    assert {spelled: name.name for spelled, name in memory.find_names(["jfk", "orly"]).items()} == {
        "jfk": "john kennedy",
        "orly": "orly",
    }


def test_entities_of_one_folded_name_are_one_name() -> None:
    """However they are spelt they tie their passages together; a name without letters stays a name of its own."""
    chunks = [ChunkNode(id_=str(i), text=f"text {i}") for i in range(4)]
    spelt = ["ACME", "Acme", "acme's", "!!!"]
    entities = [EntityNode(name=n, properties={"triplet_source_id": str(i)}) for i, n in enumerate(spelt)]
    memory = PropertyGraphMemory(simple(chunks, entities))
    assert memory.find_names(["acme"])["acme"].df == 3
    assert names_of(memory, "3") == {"!!!"}


def test_an_entity_has_several_chunks(memory: PropertyGraphMemory) -> None:
    """Mentions, the entity's own source and the sources of its relations are links, each once."""
    zephyr = memory.find_names(["zephyr"])["zephyr"]
    links = memory.links_of_names(np.asarray([zephyr.id]))
    passages = set(memory.node_ids(links.passages).values())
    assert {node_id("zephyr"), node_id("orbit"), node_id("review")} == passages
    assert zephyr.df == len(links.passages) == 3
    assert [one for one, titled in zip(links.passages, links.titled, strict=True) if titled] == [
        memory.passage_ids([node_id("zephyr")])[node_id("zephyr")]
    ]


def test_lists_of_chunks_on_entities_and_relations_are_links() -> None:
    """A property may hold one chunk id or many; a relation's fact is read from each."""
    chunks = [ChunkNode(id_=one, text=f"text {one}") for one in "abcd"]
    entities = [EntityNode(name="X", properties={"triplet_source_id": ["a", "b"]}), EntityNode(name="Y")]
    relations = [Relation(source_id="X", label="KNOWS", target_id="Y", properties={"triplet_source_id": ["c", "d"]})]
    relations += [Relation(source_id="d", label="MENTIONS", target_id="Y")]
    memory = PropertyGraphMemory(simple(chunks, entities, relations))
    assert {one: names_of(memory, one) for one in "abcd"} == {"a": {"x"}, "b": {"x"}, "c": {"x", "y"}, "d": {"x", "y"}}
    numbers = np.fromiter(memory.passage_ids(["c", "d"]).values(), np.int64)
    about = memory.facts_about(np.asarray([], np.int64), numbers, 5)
    assert [fact for fact, _ in about] == [Fact("X", "knows", "Y", one, "property graph") for one in "cd"]


def test_documents_are_no_names(memory: PropertyGraphMemory) -> None:
    """What `ImplicitPathExtractor` ties chunks to is a document or another chunk, and no fact."""
    assert memory.find_names(["document a", "document b"]) == {}
    assert memory.passage_count == len(TEXTS)
    assert set(memory.documents()) == {"document a", "document b"}
    assert set(memory.document_node_ids("document b")) == {node_id("orbit"), node_id("review")}


# -- what is found ----------------------------------------------------------------------------------------------------


def test_two_hops_over_relations(memory: PropertyGraphMemory) -> None:
    """The founder's page shares no word with the question and is found over the maker, with facts and path."""
    found = ask(memory, QUESTION)
    assert list(found)[0] == "zephyr"
    assert "northwind" in list(found)[:3]
    assert found["zephyr"]["path"] == {"from": "question", "names": ["Zephyr"]}
    assert found["zephyr"]["facts"] == ["Zephyr → made by → Northwind Devices"]
    assert found["northwind"]["path"] == {"from": node_id("zephyr"), "title": "zephyr", "names": ["Northwind Devices"]}
    assert "Mara Lindqvist → founded → Northwind Devices" in found["northwind"]["facts"]


def test_nodes_come_back_as_they_went_in(memory: PropertyGraphMemory) -> None:
    """Text, metadata, id and source document are the app's own; nothing of the graph is among them."""
    found = EntityGraphRetriever(memory).retrieve(QUESTION)
    first = found[0].node
    metadata = {key: value for key, value in first.metadata.items() if key != "hybridmem"}
    assert (first.node_id, first.ref_doc_id) == (node_id("zephyr"), "document a")
    assert metadata == {"key": "zephyr", "title": "zephyr", "tenant": "a"}
    assert first.get_content(MetadataMode.NONE) == TEXTS["zephyr"]


def test_chunks_are_those_of_the_vector_store(memory: PropertyGraphMemory) -> None:
    """With vectors over the same node ids the second hop runs, and both memories speak of the same nodes."""
    model = WordsEmbedding()
    with closing(QdrantEdgeVectorStore()) as vectors:
        vectors.add([n.model_copy(update={"embedding": model.get_text_embedding(n.text)}) for n in nodes()])
        found = ask(memory, QUESTION, vector_store=vectors, embed_model=model)
    assert {"zephyr", "northwind"} <= set(list(found)[:3])
    assert found["zephyr"]["notes"] == []


def test_texts_come_from_other_stores_where_the_graph_has_ids_only(caplog: pytest.LogCaptureFixture) -> None:
    """The docstore is asked first, then the vector store; what nobody has is left out, counted, and its facts stay."""
    entities = [EntityNode(name=n, properties={"triplet_source_id": node_id(n)}) for n in ("Zephyr", "Orbit", "Lost")]
    relation = Relation(
        source_id="Lost", label="KNOWS", target_id="Orbit", properties={"triplet_source_id": node_id("Lost")}
    )
    store = simple(entities=entities, relations=[relation])
    docstore = SimpleDocumentStore()
    docstore.add_documents([TextNode(id_=node_id("Zephyr"), text="from the docstore", metadata={"key": "zephyr"})])
    with closing(QdrantEdgeVectorStore()) as vectors, caplog.at_level(logging.WARNING):
        node = TextNode(id_=node_id("Orbit"), text="from the vector store", metadata={"key": "orbit"})
        vectors.add([node.model_copy(update={"embedding": [1.0, 0.0]})])
        found = ask(PropertyGraphMemory(store, docstore=docstore, vector_store=vectors), "Zephyr, Orbit and Lost")
    assert set(found) == {"zephyr", "orbit", "Lost → knows → Orbit"}
    assert "1 chunks left out" in caplog.text


def test_a_vector_store_that_gives_no_nodes_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """It is said that a docstore would help."""
    store = simple(entities=[EntityNode(name="Zephyr", properties={"triplet_source_id": "somewhere"})])
    assert ask(PropertyGraphMemory(store, vector_store=SimpleVectorStore()), "Zephyr") == {}
    assert "pass docstore=" in caplog.text


def test_a_graph_without_chunks_answers_with_its_facts() -> None:
    """Each fact is a small passage: found by its names, walked over, with its provenance."""
    memory = PropertyGraphMemory(facts_only(*(triple for triples in TRIPLES.values() for triple in triples)))
    found = ask(memory, QUESTION)
    assert "Zephyr → made by → Northwind Devices" in found
    assert found["Mara Lindqvist → founded → Northwind Devices"]["path"]["names"] == ["Northwind Devices"]
    assert found["Zephyr → made by → Northwind Devices"]["facts"] == ["Zephyr → made by → Northwind Devices"]
    assert memory.documents() == {}


def test_facts_of_a_graph_with_chunks_are_found_though_no_chunk_has_them() -> None:
    """A relation that somebody added by hand stands beside the chunks."""
    store = fill(SimplePropertyGraphStore())
    store.upsert_nodes([EntityNode(name="Mara Lindqvist"), EntityNode(name="Lund")])
    store.upsert_relations([Relation(source_id="Mara Lindqvist", label="BORN_IN", target_id="Lund")])
    assert "Mara Lindqvist → born in → Lund" in ask(PropertyGraphMemory(store), "Where was Mara Lindqvist born?")


def test_an_empty_graph_answers_nothing() -> None:
    """No entity, no chunk: no node, no error."""
    memory = PropertyGraphMemory(SimplePropertyGraphStore())
    assert ask(memory, QUESTION) == {}
    assert (memory.passage_count, memory.capital_share, memory.long_share) == (0, 1.0, 0.0)
    assert memory.sample(5) == []


async def test_it_serves_in_the_query_engine(memory: PropertyGraphMemory) -> None:
    """`from_stores` takes the retriever as its graph; sync and async answer from both memories, facts in metadata."""
    index = VectorStoreIndex(nodes(), embed_model=WordsEmbedding())
    graph = EntityGraphRetriever(memory)
    llm = ScriptedLLM(reply="Mara Lindqvist")
    engine = HybridRouterQueryEngine.from_stores(vector=index, graph=graph, llm=llm, deadline_s=None)
    for response in (await asyncio.to_thread(engine.query, QUESTION), await engine.aquery(QUESTION)):
        noted = response.metadata["hybridmem"]
        assert {name: store["status"] for name, store in noted["stores"].items()} == {"vector": "ok", "graph": "ok"}
        assert "Zephyr → made by → Northwind Devices" in [fact["text"] for fact in noted["facts"]]
        assert {node_id("zephyr"), node_id("northwind")} <= {one.node.node_id for one in response.source_nodes}


# -- tenants ----------------------------------------------------------------------------------------------------------


def test_nothing_outside_the_filter_appears_or_carries_mass(memory: PropertyGraphMemory) -> None:
    """Tenant b's pages are not found by a, nor does the walk go over them."""
    only_a = {"key": "tenant", "value": "a"}
    assert set(ask(memory, "What is the Orbit, rival of the Zephyr?", filters=only_a)) <= {
        "zephyr",
        "northwind",
        "umea",
    }
    only_b = {"key": "tenant", "value": "b"}
    assert set(ask(memory, "Who founded what the Orbit rivals, near Umeå?", filters=only_b)) <= {"orbit", "review"}


def test_facts_without_a_chunk_obey_filters() -> None:
    """They carry the properties of their relation, or those of their chunk where only its text is missing."""
    store = facts_only(("Zephyr", "MADE_BY", "Northwind"), tenant="a")
    textless = ChunkNode(id_="gone", text="", properties={"tenant": "b"})
    store.upsert_nodes([textless, EntityNode(name="Orbit")])
    store.upsert_relations(
        [
            Relation(source_id="Orbit", label="RIVALS", target_id="Zephyr", properties={"triplet_source_id": "gone"}),
            Relation(source_id="Zephyr", label="PLEASED", target_id="Orbit"),
        ]
    )
    memory = PropertyGraphMemory(store)
    for tenant, fact in (("a", "Zephyr → made by → Northwind"), ("b", "Orbit → rivals → Zephyr")):
        assert set(ask(memory, "Zephyr, Orbit, Northwind", filters={"key": "tenant", "value": tenant})) == {fact}
    assert len(ask(memory, "Zephyr, Orbit, Northwind")) == 3


@given(seed=st.integers(0, 10**6))
def test_a_walk_stays_inside_its_tenant(seed: int) -> None:
    """In any graph a tenant finds the same nodes with the same scores as if the others' passages had other names."""
    rng = random.Random(seed)
    names = [f"Name{i}" for i in range(6)]
    chunks = [ChunkNode(id_=f"c{i}", text=f"word{i}", properties={"tenant": "ab"[i % 2]}) for i in range(10)]
    mentions = [(f"c{i}", rng.choice(names)) for i in range(10) for _ in range(2)]
    entities = [EntityNode(name=name) for name in names]
    store = simple(chunks, entities, [Relation(source_id=c, label="MENTIONS", target_id=n) for c, n in mentions])
    for tenant in "ab":
        found = EntityGraphRetriever(
            PropertyGraphMemory(store), filters={"key": "tenant", "value": tenant}, similarity_top_k=20
        ).retrieve(f"{names[0]} and {names[1]}")
        assert {one.node.metadata["tenant"] for one in found} <= {tenant}
        sources = {(one.node.metadata["hybridmem"]["path"] or {}).get("from", "question") for one in found}
        assert sources - {"question"} <= {chunk.id for chunk in chunks if chunk.properties["tenant"] == tenant}


# -- fresh and stale --------------------------------------------------------------------------------------------------


def eventually(holds: Callable[[], bool]) -> bool:
    """Wait for a background thread, long enough for a busy machine."""
    end = time.monotonic() + 30
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


def test_changes_are_seen_in_the_background_and_on_refresh() -> None:
    """New counts are noticed beside the questions; what leaves the counts alone waits for `refresh`."""
    store = facts_only(("Zephyr", "MADE_BY", "Northwind"))
    memory = PropertyGraphMemory(store, check_s=0.0)
    assert memory.find_names(["zephyr", "orbit"]).keys() == {"zephyr"}
    store.upsert_relations([Relation(source_id="Orbit", label="RIVALS", target_id="Zephyr")])
    assert eventually(lambda: memory.find_names(["orbit"]).keys() == {"orbit"})
    store.graph.nodes["Orbit"].properties["alias"] = "Circle"
    assert memory.find_names(["circle"]) == {}
    memory.refresh()
    assert memory.find_names(["circle"]).keys() == {"circle"}


def test_without_check_only_refresh_reads_again() -> None:
    """`check_s=None`: one reading until told otherwise."""
    store = facts_only(("Zephyr", "MADE_BY", "Northwind"))
    memory = PropertyGraphMemory(store, check_s=None)
    assert memory.passage_count == 1
    store.upsert_relations([Relation(source_id="Orbit", label="RIVALS", target_id="Zephyr")])
    assert memory.passage_count == 1
    memory.refresh()
    assert memory.passage_count == 2


def test_numbers_survive_a_refresh_and_are_never_used_twice() -> None:
    """A search that began before a refresh goes on with the same passages and names."""
    store = fill(SimplePropertyGraphStore())
    memory = PropertyGraphMemory(store)
    before = memory.passage_ids([node_id(key) for key in TEXTS]), memory.find_names(["zephyr", "sweden"])
    del store.graph.nodes[node_id("umea")]
    store.upsert_llama_nodes([TextNode(id_=node_id("new"), text="new")])
    memory.refresh()
    after = memory.passage_ids([node_id(key) for key in TEXTS]), memory.find_names(["zephyr", "sweden"])
    assert after[0] == {node: number for node, number in before[0].items() if node != node_id("umea")}
    assert {name.id for name in after[1].values()} == {name.id for name in before[1].values()}
    assert memory.passage_ids([node_id("new")])[node_id("new")] > max(before[0].values())


# -- what goes wrong --------------------------------------------------------------------------------------------------


class ServiceUnavailable(Exception):
    """Called as the drivers call it."""


class Moody(SimplePropertyGraphStore):
    """A store that is not LlamaIndex's own in memory: reads through `get` and `get_triplets`, fails or hangs on demand.

    Attributes:
        error: raised by every call.
        gate: calls wait for it.
        asked: ids of each `get_triplets`.
    """

    def __init__(self, filled: SimplePropertyGraphStore) -> None:
        super().__init__(filled.graph)
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[list[str]] = []

    def get(self, properties: dict[str, Any] | None = None, ids: list[str] | None = None) -> list[LabelledNode]:
        """Everything, after the gate."""
        self.gate.wait()
        if self.error is not None:
            raise self.error
        return super().get(properties, ids)


class Foreign(PropertyGraphStore):
    """Any other store without structured queries."""

    def __init__(self, moody: Moody) -> None:
        self.moody = moody

    def get(self, properties: dict[str, Any] | None = None, ids: list[str] | None = None) -> list[LabelledNode]:
        """As the moody store."""
        assert ids is None or ids
        return self.moody.get(properties, ids)

    def get_triplets(
        self, entity_names: Any = None, relation_names: Any = None, properties: Any = None, ids: Any = None
    ) -> Any:
        """As the moody store; empty ids would mean everything."""
        assert ids
        assert not entity_names
        self.moody.asked.append(ids)
        return self.moody.get_triplets(ids=ids)

    def get_rel_map(self, *args: Any, **kwargs: Any) -> Any:
        """Not needed."""
        raise NotImplementedError

    upsert_nodes = upsert_relations = delete = structured_query = vector_query = get_rel_map


@pytest.fixture(name="moody")
def _moody() -> Iterator[Moody]:
    store = Moody(fill(SimplePropertyGraphStore()))  # type: ignore[arg-type]
    yield store
    store.gate.set()


def test_any_store_is_read_by_get_and_get_triplets(moody: Moody, plain: PropertyGraphMemory) -> None:
    """Without structured queries the same is read, in batches of ids that are never empty."""
    foreign = PropertyGraphMemory(Foreign(moody))
    assert list(ask(foreign, QUESTION)) == list(ask(plain, QUESTION))
    assert foreign.stats() == plain.stats()
    assert moody.asked
    empty = PropertyGraphMemory(Foreign(Moody(SimplePropertyGraphStore())))
    assert ask(empty, QUESTION) == {}


def test_a_store_that_fails_at_first_is_asked_again(moody: Moody) -> None:
    """Its error comes as one of ours, names the store, and the next question tries anew."""
    memory = PropertyGraphMemory(Foreign(moody))
    moody.error = ServiceUnavailable("no route")
    with pytest.raises(StoreUnavailableError, match="Foreign cannot be reached: ServiceUnavailable: no route"):
        ask(memory, QUESTION)
    moody.error = ConnectionError("no route to redis://ada:s3cret@h")
    with pytest.raises(StoreUnavailableError, match="redis://[*]+@h"):
        memory.refresh()
    moody.error = type("AuthenticationError", (ConnectionError,), {})("as of Redis")
    with pytest.raises(StoreAccessError, match="Foreign refuses us: AuthenticationError: as of Redis"):
        memory.refresh()
    moody.error = KeyError("odd")
    with pytest.raises(StoreError, match="KeyError: 'odd'"):
        memory.refresh()
    moody.error = None
    assert "zephyr" in ask(memory, QUESTION)


def test_a_store_that_fails_later_costs_freshness_only(moody: Moody) -> None:
    """Questions are answered from the last reading; `refresh` says what is wrong."""
    memory = PropertyGraphMemory(Foreign(moody))
    assert "zephyr" in ask(memory, QUESTION)
    moody.error = ServiceUnavailable("gone")
    with pytest.raises(StoreUnavailableError):
        memory.refresh()
    assert "zephyr" in ask(memory, QUESTION)


def test_a_hanging_store_stops_nobody_who_has_a_reading(moody: Moody) -> None:
    """While a refresh hangs, questions go on; the refresh itself ends at its limit; then all is well again."""
    memory = PropertyGraphMemory(Foreign(moody))
    memory.refresh()
    moody.gate.clear()
    for _ in range(3):
        with pytest.raises(StoreUnavailableError, match=r"not read within 0\.01 s"):
            memory.refresh(timeout_s=0.01)
        assert "zephyr" in ask(memory, QUESTION)
    moody.gate.set()
    memory.refresh()
    assert "zephyr" in ask(memory, QUESTION)


def test_a_hanging_store_without_a_reading_costs_the_deadline(moody: Moody) -> None:
    """The first question waits as long as its deadline says; the reading goes on and serves the next."""
    memory = PropertyGraphMemory(Foreign(moody))
    moody.gate.clear()
    with within(0.05), pytest.raises(StoreUnavailableError, match=r"call refresh\(\) at start"):
        ask(memory, QUESTION)
    moody.gate.set()
    assert "zephyr" in ask(memory, QUESTION)


def test_readings_left_behind_do_not_overtake(moody: Moody) -> None:
    """A reading that began before another and ends after it changes nothing."""
    memory = PropertyGraphMemory(Foreign(moody), check_s=None)
    moody.gate.clear()
    with pytest.raises(StoreUnavailableError):
        memory.refresh(timeout_s=0.01)
    moody.gate.set()
    memory.refresh()
    threads = [thread for thread in threading.enumerate() if thread.name == "hybridmem-property-graph"]
    for thread in threads:
        thread.join(30)
    assert "zephyr" in ask(memory, QUESTION)


def test_refreshing_a_hanging_store_costs_a_few_threads_at_most(moody: Moody) -> None:
    """Readings that do not come back are counted; beyond the limit `refresh` says so at once, until they are back."""
    memory = PropertyGraphMemory(Foreign(moody), check_s=None)
    memory.refresh()
    moody.gate.clear()
    for _ in range(HANGING_LIMIT + 1):
        with pytest.raises(StoreUnavailableError, match="not read within"):
            memory.refresh(timeout_s=0.01)
    threads = [thread for thread in threading.enumerate() if thread.name == "hybridmem-property-graph"]
    for _ in range(3):
        with pytest.raises(StoreUnavailableError, match="5 earlier readings have not come back"):
            memory.refresh(timeout_s=0.01)
    assert len(threads) == HANGING_LIMIT + 1
    assert "zephyr" in ask(memory, QUESTION)
    moody.gate.set()
    for thread in threads:
        thread.join(30)
    memory.refresh()
    assert memory._loader._hanging == 0


def test_a_reading_that_is_just_over_does_not_count_as_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    """However close a refresh comes to the end of the reading before: it is under way, or over, and nothing between."""
    memory = PropertyGraphMemory(facts_only(("A", "KNOWS", "B")), check_s=None)
    ending, refreshing, set_result = threading.Event(), threading.Event(), futures.Future.set_result

    def slowly(future: futures.Future[Any], result: Any) -> None:
        ending.set()
        refreshing.wait(0.5)
        set_result(future, result)

    monkeypatch.setattr(futures.Future, "set_result", slowly)
    first = threading.Thread(target=lambda: memory.passage_count)
    first.start()
    assert ending.wait(30)
    memory.refresh()
    refreshing.set()
    first.join(30)
    assert memory._loader._hanging == 0


def test_the_graph_is_not_written_to(plain: PropertyGraphMemory) -> None:
    """Every writing method says what to do instead."""
    for write in (
        lambda: plain.upsert([]),
        lambda: plain.replace([], []),
        lambda: plain.delete(node_ids=["x"]),
        lambda: plain.add_names(["x"]),
        lambda: plain.add_facts([]),
    ):
        with pytest.raises(StoreError, match="read, not written"):
            write()


def test_closed_is_closed_and_the_store_stays_open() -> None:
    """Further calls raise; the user's store goes on."""
    store = fill(SimplePropertyGraphStore())
    memory = PropertyGraphMemory(store)
    memory.refresh()
    memory.close()
    memory.close()
    for call in (lambda: memory.passage_count, memory.refresh):
        with pytest.raises(StoreClosedError):
            call()
    assert store.get()


def test_arguments_that_cannot_be_used_are_refused_at_once() -> None:
    """No property graph store; a graph beyond the limit."""
    with pytest.raises(ConfigurationError, match="PropertyGraphStore, not str"):
        PropertyGraphMemory("bolt://localhost")  # type: ignore[arg-type]
    with pytest.raises(StoreError, match=r"beyond max_size \(2\)"):
        PropertyGraphMemory(facts_only(("A", "KNOWS", "B")), max_size=2).refresh()
    for name in ("a`b", "", "x y", "n) DETACH DELETE n //"):
        with pytest.raises(ConfigurationError, match="no name of a property"):
            PropertyGraphMemory(SimplePropertyGraphStore(), aliases=[name], cypher=True)


def test_max_size_holds_for_stores_without_counts(moody: Moody, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted by reading it is read no further than the limit, and a graph just within it is read whole."""
    monkeypatch.setattr("llama_index_hybridmem.graph.stores.property_graph_reading.PAGE", 1)
    nodes_, relations = len(moody.graph.nodes), len(moody.graph.relations)
    with pytest.raises(StoreError, match=rf"{nodes_} or more nodes and relations are beyond max_size \(3\)"):
        PropertyGraphMemory(Foreign(moody), max_size=3).refresh()
    assert moody.asked == []
    with pytest.raises(StoreError, match="beyond max_size"):
        PropertyGraphMemory(Foreign(moody), max_size=nodes_ + 1).refresh()
    assert 0 < len(moody.asked) < nodes_
    whole = PropertyGraphMemory(Foreign(moody), max_size=nodes_ + relations)
    assert whole.stats() == PropertyGraphMemory(Foreign(moody)).stats()


def test_a_damaged_node_content_is_read_as_plain_properties(caplog: pytest.LogCaptureFixture) -> None:
    """A chunk whose serialised node cannot be read keeps its text, its metadata and its document."""
    properties = {"_node_content": "{broken", "tenant": "a", "doc_id": "d1", "when": object()}
    chunk = ChunkNode(id_="c", text="of the Zephyr", properties=properties)
    store = simple([chunk], [EntityNode(name="Zephyr", properties={"triplet_source_id": "c"})])
    (found,) = EntityGraphRetriever(PropertyGraphMemory(store), filters={"key": "tenant", "value": "a"}).retrieve(
        "Zephyr"
    )
    assert (found.node.node_id, found.node.ref_doc_id, found.node.get_content(MetadataMode.NONE)) == (
        "c", "d1", "of the Zephyr",
    )  # fmt: skip
    assert "cannot be read" in caplog.text


# -- against a plain reading ------------------------------------------------------------------------------------------

_names = st.sampled_from(["Ada", "ADA", "Bo Li", "bo li", "Çelik", "Dora's", "E9", "???"])
_chunk_ids = st.sampled_from(["c0", "c1", "c2", "c3", "lost"])
_sources = st.one_of(st.none(), _chunk_ids, st.lists(_chunk_ids, max_size=3))


@given(
    entities=st.dictionaries(_names, _sources, max_size=6),
    relations=st.lists(st.tuples(_names, st.sampled_from(["KNOWS", "PART_OF"]), _names, _sources), max_size=8),
    mentions=st.lists(st.tuples(st.sampled_from(["c0", "c1", "c2"]), _names), max_size=6),
)
def test_it_says_what_a_plain_reading_of_the_graph_says(
    entities: dict[str, Any], relations: list[tuple[str, str, str, Any]], mentions: list[tuple[str, str]]
) -> None:
    """In any small graph: the same names, the same links, the same facts."""
    store = simple(
        [ChunkNode(id_=f"c{i}", text=f"text of {i}") for i in range(4)],
        [EntityNode(name=n, properties=_source(s)) for n, s in entities.items()],
        [
            *(Relation(source_id=s, label=r, target_id=t, properties=_source(c)) for s, r, t, c in relations),
            *(Relation(source_id=c, label="MENTIONS", target_id=n) for c, n in mentions),
        ],
    )
    links, facts = plainly_read(store)
    memory = PropertyGraphMemory(store)
    all_names = {name_key(node.id) for node in store.get() if isinstance(node, EntityNode)}
    assert set(memory.find_names(sorted(all_names))) == all_names
    chunks = memory.passage_ids(["c0", "c1", "c2", "c3"])
    assert {(chunk, name) for chunk in chunks for name in names_of(memory, chunk)} == links
    every = np.arange(1, memory.passage_count + 1)
    told = Counter((str(fact), fact.node_id if fact.node_id in chunks else None) for fact, _ in memory.facts_about(
        np.asarray([], np.int64), every, 1000
    ))  # fmt: skip
    assert set(told) == facts


def _source(chunks: Any) -> dict[str, Any]:
    return {} if chunks is None else {"triplet_source_id": chunks}


def plainly_read(store: SimplePropertyGraphStore) -> tuple[set[tuple[str, str]], set[tuple[str, str | None]]]:
    """Links (chunk, name) and facts (statement, its chunk), relation by relation."""
    known = {node.id for node in store.get() if isinstance(node, ChunkNode)}
    links: set[tuple[str, str]] = set()
    facts: set[tuple[str, str | None]] = set()

    def chunks_of(properties: dict[str, Any]) -> list[str]:
        value = properties.get("triplet_source_id") or []
        return [one for one in ([value] if isinstance(value, str) else value) if one in known]

    for node in store.get():
        if isinstance(node, EntityNode):
            links |= {(chunk, name_key(node.name)) for chunk in chunks_of(node.properties)}
    for subject, relation, target in store.graph.get_triplets():
        if isinstance(subject, ChunkNode):
            links.add((subject.id, name_key(target.id)))
            continue
        statement = f"{subject.id} → {readable(relation.label)} → {target.id}"
        for chunk in chunks_of(relation.properties):
            links |= {(chunk, name_key(subject.id)), (chunk, name_key(target.id))}
            facts.add((statement, chunk))
        if not chunks_of(relation.properties):
            facts.add((statement, None))
    return links, facts


# -- a real Neo4j -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["neo4j"], indirect=True)
def test_neo4j_says_the_same_as_the_store_in_memory(memory: PropertyGraphMemory, plain: PropertyGraphMemory) -> None:
    """The app's graph in either store has the same passages, facts and names, and gives the same answer."""
    same = ("passages", "facts", "documents", "names")
    assert {key: memory.stats()[key] for key in same} == {key: plain.stats()[key] for key in same}
    assert set(ask(memory, QUESTION)) == set(ask(plain, QUESTION))


def test_neo4j_in_many_pages_and_with_long_lists(
    neo4j_store: PropertyGraphStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages join without gaps; LlamaIndex drops lists of 128 and more from rows, so a hub's links come row by row."""
    monkeypatch.setattr("llama_index_hybridmem.graph.stores.property_graph_reading.PAGE", 7)
    chunks = [ChunkNode(id_=f"c{i:03}", text=f"text {i}") for i in range(200)]
    entities = [EntityNode(name=f"Entity {i}") for i in range(20)]
    mentions = [Relation(source_id=c.id, label="MENTIONS", target_id="Entity 3") for c in chunks]
    around = [Relation(source_id=f"Entity {i}", label="NEXT", target_id=f"Entity {(i + 1) % 20}") for i in range(20)]
    neo4j_store.upsert_nodes([*chunks, *entities])
    neo4j_store.upsert_relations([*mentions, *around])
    memory = PropertyGraphMemory(neo4j_store)
    assert memory.find_names(["entity 3"])["entity 3"].df == 200 + 2
    counted = memory.stats()
    assert (counted["names"], counted["passages"], counted["facts"]) == (20, 200 + 20, 20)


def test_neo4j_takes_any_name_as_a_name(neo4j_store: PropertyGraphStore) -> None:
    """Quotes, backticks and Cypher in names are found as they are; nothing is executed."""
    wicked = ["Robert'); MATCH (n) DETACH DELETE n; //", 'Say "hi"', "`tick`", "{$x}", "a\nb", "\u202eabc", "'" * 9]
    neo4j_store.upsert_nodes([EntityNode(name=name) for name in [*wicked, "Safe"]])
    neo4j_store.upsert_relations(
        [Relation(source_id=EntityNode(name=n).id, label="KNOWS", target_id="Safe") for n in wicked]
    )
    memory = PropertyGraphMemory(neo4j_store)
    for name in wicked:
        assert any(name in fact for found in ask(memory, name + " Safe").values() for fact in found["facts"]), name
    assert memory.stats()["names"] == len({name_key(name) for name in wicked}) + 1


def test_a_neo4j_that_goes_away_costs_freshness_only(neo4j: Neo4jAddress, neo4j_store: PropertyGraphStore) -> None:
    """Refused connections: questions are answered from the last reading, and changes are seen when it is back."""
    fill(neo4j_store)
    with (
        TcpProxy(int(neo4j.uri.rpartition(":")[2])) as proxy,
        closing(connected(f"bolt://127.0.0.1:{proxy.port}", neo4j)) as store,
    ):
        memory = PropertyGraphMemory(store)
        memory.refresh()
        proxy.mode = "refuse"
        with pytest.raises(StoreUnavailableError, match="ServiceUnavailable"):
            memory.refresh(timeout_s=30)
        assert "zephyr" in ask(memory, QUESTION)
        proxy.mode = "pass"
        neo4j_store.upsert_nodes([EntityNode(name="Newcomer")])
        memory.refresh(timeout_s=30)
        assert memory.find_names(["newcomer"]).keys() == {"newcomer"}
        asyncio.run(store._async_driver.close())
