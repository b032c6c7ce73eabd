"""Tests of the graph in an ingestion pipeline, and of what becomes of nodes, triples and property graphs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from llama_index.core.graph_stores import SimplePropertyGraphStore
from llama_index.core.graph_stores.types import (
    KG_NODES_KEY,
    KG_RELATIONS_KEY,
    TRIPLET_SOURCE_KEY,
    ChunkNode,
    EntityNode,
    Relation,
)
from llama_index.core.indices.property_graph import ImplicitPathExtractor
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import BaseNode, Document, NodeRelationship, TextNode, TransformComponent

from llama_index_hybridmem.errors import ConfigurationError, IngestError
from llama_index_hybridmem.filters import Condition, Op
from llama_index_hybridmem.graph.facts import read_facts
from llama_index_hybridmem.graph.nodes import facts_from_property_graph, to_node, to_passage
from llama_index_hybridmem.graph.stores.base import Fact, StoredPassage
from llama_index_hybridmem.graph.stores.sqlite import SqliteGraphStore
from llama_index_hybridmem.graph.transform import EntityGraphTransform

DOCUMENTS = [
    Document(text="We visited Northwind Devices. They make the Zephyr.", doc_id="visit", metadata={"title": "A visit"}),
    Document(text="It was started by Mara Lindqvist.", doc_id="maker", metadata={"title": "Northwind Devices"}),
]


class Triples(TransformComponent):
    """A `kg_extractors` by hand: every text says that Mara Lindqvist founded Northwind Devices."""

    def __call__(self, nodes: list[BaseNode], **kwargs: object) -> list[BaseNode]:  # type: ignore[override]
        """Leave entities and a relation where LlamaIndex's extractors leave them."""
        for node in nodes:
            founder, company = EntityNode(name="Mara Lindqvist"), EntityNode(name="Northwind Devices")
            node.metadata[KG_NODES_KEY] = [founder, company]
            node.metadata[KG_RELATIONS_KEY] = [Relation(label="founded", source_id=founder.id, target_id=company.id)]
        return nodes


def facts_in(store: SqliteGraphStore) -> list[str]:
    """Every fact, as it is shown."""
    ids = np.arange(100)
    return [str(fact) for fact, _ in store.facts_about(ids, ids, 10)]


def read_back(store: SqliteGraphStore, node_id: str) -> StoredPassage:
    """A passage as stored."""
    number = store.passage_ids([node_id])[node_id]
    return store.load(np.asarray([number]))[number]


# -- the pipeline -----------------------------------------------------------------------------------------------------


def test_a_pipeline_fills_the_graph_and_its_nodes_pass_unchanged() -> None:
    """After the splitter, before any vector store: names link the two documents, the nodes are the splitter's."""
    store = SqliteGraphStore()
    splitter = SentenceSplitter(chunk_size=200, chunk_overlap=0, id_func=lambda i, node: f"{node.id_}-{i}")
    plain = IngestionPipeline(transformations=[splitter], disable_cache=True).run(documents=DOCUMENTS)
    pipeline = IngestionPipeline(transformations=[splitter, EntityGraphTransform(store)], disable_cache=True)
    assert pipeline.run(documents=DOCUMENTS) == plain
    assert store.documents().keys() == {"visit", "maker"}
    assert store.find_names(["northwind devices"])["northwind devices"].df == 2
    counts = store.stats()
    pipeline.run(documents=DOCUMENTS)
    assert store.stats() == counts


async def test_a_pipeline_runs_async_without_holding_the_loop() -> None:
    """`arun` writes on a thread of its own."""
    store = SqliteGraphStore()
    pipeline = IngestionPipeline(transformations=[SentenceSplitter(), EntityGraphTransform(store)])
    assert len(await pipeline.arun(documents=DOCUMENTS)) == 2
    assert store.passage_count == 2


def test_a_pipelines_cache_does_not_starve_another_store(tmp_path: Path) -> None:
    """What the cache skips for one file is done for another, and always for a store in memory, which starts empty."""
    cache = IngestionCache()
    on_disk = [SqliteGraphStore(tmp_path / name) for name in "ab"]
    for store in (*on_disk, SqliteGraphStore(), SqliteGraphStore()):
        steps = [SentenceSplitter(), EntityGraphTransform(store)]
        IngestionPipeline(transformations=steps, cache=cache).run(documents=DOCUMENTS)
        assert store.passage_count == 2
    for store in on_disk:
        store.close()


def test_the_transform_serialises_without_its_store() -> None:
    """LlamaIndex writes a transformation's fields into cache keys and pipeline files."""
    transform = EntityGraphTransform(SqliteGraphStore(), use_titles=False)
    assert json.loads(transform.to_json())["use_titles"] is False
    assert transform.class_name() == "EntityGraphTransform"


def test_a_transform_over_a_file_goes_to_worker_processes(tmp_path: Path) -> None:
    """`IngestionPipeline.run(num_workers=…)` pickles it: each worker opens the file."""
    store = SqliteGraphStore(tmp_path / "g")
    copy = pickle.loads(pickle.dumps(EntityGraphTransform(store, use_titles=False)))
    copy([TextNode(text="we saw Rome", metadata={"title": "Ada"})])
    assert store.find_names(["rome", "ada"]).keys() == {"rome"}
    store.close()
    with pytest.raises(ConfigurationError, match="another process"):
        pickle.dumps(SqliteGraphStore())


def test_titles_can_be_left_out_and_names_come_from_a_callable() -> None:
    """`use_titles` and `extract_entities` reach the store."""
    store = SqliteGraphStore()
    nodes = [TextNode(text="the floating gate", metadata={"title": "Gates"})]
    EntityGraphTransform(store, use_titles=False, extract_entities=lambda text: [text[4:]])(nodes)
    assert store.find_names(["floating gate", "gates"]).keys() == {"floating gate"}


# -- nodes ------------------------------------------------------------------------------------------------------------


def test_a_node_comes_back_as_it_went_in() -> None:
    """Id, text, metadata, relationships, templates and excluded keys; and a new object each time."""
    node = TextNode(
        id_="n", text="Über \n text", metadata={"title": "T", "tags": ["a", 1], "none": None}, start_char_idx=3,
        excluded_llm_metadata_keys=["tags"], text_template="{content}", metadata_template="{key}",
    )  # fmt: skip
    node.relationships[NodeRelationship.SOURCE] = Document(text="whole", doc_id="d").as_related_node_info()
    store = SqliteGraphStore()
    store.upsert([to_passage(node)])
    stored = read_back(store, "n")
    assert to_node(stored) == node
    assert to_node(stored) is not to_node(stored)
    assert store.documents() == {"d": Document(text="whole", doc_id="d").hash}


def test_filters_see_the_document_a_node_came_from() -> None:
    """As in LlamaIndex's own stores, `doc_id` can be filtered on without being in the metadata."""
    store = SqliteGraphStore()
    node = TextNode(id_="n", text="x", metadata={"title": "T"})
    node.relationships[NodeRelationship.SOURCE] = Document(text="whole", doc_id="d").as_related_node_info()
    store.upsert([to_passage(node), to_passage(TextNode(id_="m", text="y"))])
    assert store.passage_ids(["n", "m"], Condition("doc_id", Op.EQ, "d")).keys() == {"n"}
    assert store.passage_ids(["n", "m"], Condition("title", Op.EQ, "T")).keys() == {"n"}


def test_a_passage_made_by_hand_comes_back_as_a_text_node() -> None:
    """A store filled without LlamaIndex can be searched with it."""
    node = to_node(StoredPassage(1, "n", "T", "text", ""))
    assert (node.node_id, node.get_content(), node.metadata) == ("n", "text", {"title": "T"})


# -- triples ----------------------------------------------------------------------------------------------------------


def test_what_extractors_find_becomes_facts_of_the_passage() -> None:
    """Readable, with their passage; their ends join the names; the caller's nodes keep what the extractor left."""
    store = SqliteGraphStore()
    nodes = IngestionPipeline(
        transformations=[SentenceSplitter(), Triples(), EntityGraphTransform(store)], disable_cache=True
    ).run(documents=DOCUMENTS)
    assert facts_in(store) == ["Mara Lindqvist → founded → Northwind Devices"] * 2
    assert store.find_names(["mara lindqvist"])["mara lindqvist"].df == 2
    assert isinstance(nodes[0].metadata[KG_RELATIONS_KEY][0], Relation)
    assert KG_RELATIONS_KEY not in to_node(read_back(store, nodes[0].node_id)).metadata
    store.delete(doc_ids=["visit", "maker"])
    assert facts_in(store) == []


def test_triples_survive_a_pipelines_cache() -> None:
    """The cache turns relations into plain dicts; they are read all the same."""
    cache = IngestionCache()
    for _ in range(2):
        store = SqliteGraphStore()
        steps = [SentenceSplitter(), Triples(), EntityGraphTransform(store)]
        IngestionPipeline(transformations=steps, cache=cache).run(documents=DOCUMENTS)
        assert facts_in(store) == ["Mara Lindqvist → founded → Northwind Devices"] * 2


def test_implicit_paths_are_no_facts() -> None:
    """`ImplicitPathExtractor` relates chunks by their ids: true, but nothing to read or to walk along."""
    store = SqliteGraphStore()
    one, other = TextNode(id_="one", text="x"), TextNode(id_="other", text="y")
    one.relationships[NodeRelationship.NEXT] = other.as_related_node_info()
    one.relationships[NodeRelationship.SOURCE] = DOCUMENTS[0].as_related_node_info()
    steps = [ImplicitPathExtractor(), Triples(), ImplicitPathExtractor(), EntityGraphTransform(store)]
    nodes = IngestionPipeline(transformations=steps, disable_cache=True).run(nodes=[one, other])
    assert len(nodes[0].metadata[KG_RELATIONS_KEY]) == 3
    assert facts_in(store) == ["Mara Lindqvist → founded → Northwind Devices"] * 2


def test_a_property_graph_is_taken_over_with_its_chunks() -> None:
    """Entities by name, relations by label, the chunk where it is known; chunk nodes and source links stay out."""
    graph = SimplePropertyGraphStore()
    mara, maker = EntityNode(name="Mara"), EntityNode(name="Northwind", properties={TRIPLET_SOURCE_KEY: "n7"})
    graph.upsert_nodes([mara, maker, ChunkNode(text="chunk", id_="n7")])
    graph.upsert_relations(
        [
            Relation(label="founded", source_id=mara.id, target_id=maker.id, properties={TRIPLET_SOURCE_KEY: "n1"}),
            Relation(label="makes", source_id=maker.id, target_id=mara.id),
            Relation(label="HAS_SOURCE", source_id=mara.id, target_id="n7"),
        ]
    )
    assert set(facts_from_property_graph(graph)) == {
        Fact("Mara", "founded", "Northwind", "n1", "property graph"),
        Fact("Northwind", "makes", "Mara", "n7", "property graph"),
    }


def test_facts_are_read_from_csv(tmp_path: Path) -> None:
    """Columns by name in any order, a byte order mark, quotes and blanks as spreadsheets write them."""
    file = tmp_path / "facts.csv"
    file.write_text('\ufeffobject,note,subject,relation\n"Northwind, Ltd",x, Mara ,founded\n\n', encoding="utf-8")
    assert read_facts(file) == [Fact("Mara", "founded", "Northwind, Ltd", source="facts.csv")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"subject,object\na,b\n", "no column relation"),
        (b"", "no column subject, relation, object"),
        (b"subject,relation,object\na,b,c\nd,,f\n", "line 3"),
        (b"subject,relation,object\na,b\n", "line 2"),
        (b"subject,relation,object\n\xff,b,c\n", "cannot be read"),
        (b'subject,relation,object\n"a" x,b,c\n', "cannot be read"),
    ],
)
def test_a_bad_csv_is_named_with_its_line(content: bytes, message: str, tmp_path: Path) -> None:
    """One error of ours, with file and place."""
    (tmp_path / "facts.csv").write_bytes(content)
    with pytest.raises(IngestError, match=message) as raised:
        read_facts(tmp_path / "facts.csv")
    assert "facts.csv" in str(raised.value)


def test_a_missing_csv_is_an_error_of_ours(tmp_path: Path) -> None:
    """The place is named."""
    with pytest.raises(IngestError, match="nowhere"):
        read_facts(tmp_path / "nowhere.csv")
