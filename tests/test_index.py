"""HybridMemoryIndex: both memories or neither, across changes, crashes, tenants and existing apps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from fakes import WordsEmbedding
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core import VectorStoreIndex
from llama_index.core.graph_stores import SimplePropertyGraphStore
from llama_index.core.graph_stores.types import TRIPLET_SOURCE_KEY, EntityNode, Relation
from llama_index.core.schema import Document, NodeWithScore, TextNode

from llama_index_hybridmem.errors import (
    ConfigurationError,
    FilterError,
    IngestError,
    StoreClosedError,
    StoreDamagedError,
    StoreError,
    StoreLockedError,
    StoreMismatchError,
    UnknownRouteError,
)
from llama_index_hybridmem.graph.stores.sqlite import SqliteGraphStore
from llama_index_hybridmem.index import HybridMemoryIndex
from llama_index_hybridmem.vector.store import QdrantEdgeVectorStore

TESTS = Path(__file__).parent
TEXTS = {
    "dram": ("DRAM", "DRAM was invented by Robert Dennard at IBM. A cell holds one capacitor."),
    "dennard": ("Robert Dennard", "Robert Dennard grew up in Texas and worked in New York."),
    "texas": ("Texas", "Texas is a state whose capital is Austin."),
    "flash": ("Flash memory", "Flash memory was invented by Fujio Masuoka at Toshiba."),
}


def documents(*names: str) -> list[Document]:
    """Make the named documents, all of them by default."""
    return [
        Document(doc_id=name, text=TEXTS[name][1], metadata={"title": TEXTS[name][0], "year": len(name)})
        for name in names or TEXTS
    ]


def build(folder: Path | None = None, **options: Any) -> HybridMemoryIndex:
    """Index all documents with an encoder that needs no model."""
    return HybridMemoryIndex.from_documents(documents(), persist_dir=folder, embed_model=WordsEmbedding(), **options)


def titles(found: Sequence[NodeWithScore]) -> list[str]:
    """List the titles of what was found."""
    return [hit.node.metadata["title"] for hit in found]


def held(index: HybridMemoryIndex) -> tuple[set[str], set[str]]:
    """List the node ids that vector memory and graph memory hold."""
    graph = {node for info in index.ref_doc_info.values() for node in info.node_ids}
    return {node.node_id for node in index.vector_store.get_nodes()}, graph


@pytest.fixture(name="index", scope="module")
def _index() -> Iterator[HybridMemoryIndex]:
    with build() as index:
        yield index


def test_every_memory_answers_and_says_where_from(index: HybridMemoryIndex) -> None:
    """One retrieval asks vector, keyword and graph memory, and each node tells which of them found it."""
    found = index.as_retriever(similarity_top_k=4).retrieve("Who invented flash memory at Toshiba?")
    assert titles(found)[0] == "Flash memory"
    assert set(found[0].node.metadata["hybridmem"]["stores"]) == {"vector", "keyword", "graph"}


def test_one_memory_can_be_asked_alone(index: HybridMemoryIndex) -> None:
    """`stores=` chooses the memories; an unknown name is refused with those there are."""
    found = index.as_retriever(stores=("graph",)).retrieve("Where did Robert Dennard grow up?")
    assert set(found[0].node.metadata["hybridmem"]["stores"]) == {"graph"}
    with pytest.raises(UnknownRouteError, match="vector, keyword, graph"):
        index.as_retriever(stores=("graf",))


def test_filters_reach_every_memory(index: HybridMemoryIndex) -> None:
    """With a filter, no memory brings up a document outside it."""
    keep = {"filters": [{"key": "year", "operator": ">=", "value": 7}]}
    for stores in (("vector",), ("keyword",), ("graph",), ("vector", "keyword", "graph")):
        found = index.as_retriever(stores=stores, filters=keep, similarity_top_k=4).retrieve(
            "DRAM Robert Dennard Texas"
        )
        assert titles(found) == ["Robert Dennard"], stores
    with pytest.raises(FilterError, match="operator"):
        index.as_retriever(filters={"filters": [{"key": "year", "operator": "~", "value": 1}]})


def test_ingesting_again_writes_nothing(tmp_path: Path) -> None:
    """Unchanged documents are recognised by their hash, in the same process and after opening again."""
    with build(tmp_path) as index:
        assert index.refresh_ref_docs(documents()) == [False] * 4
    with HybridMemoryIndex.open(tmp_path, embed_model=WordsEmbedding()) as index:
        changed = [*documents("dram", "texas"), Document(doc_id="texas2", text="Texas borders Mexico.")]
        changed[0].set_content("DRAM needs refresh.")
        assert index.refresh_ref_docs(changed) == [True, False, True]
        vectors, graph = held(index)
        assert vectors == graph
        assert len(graph) == 5


def test_an_update_leaves_nothing_of_the_old_text(tmp_path: Path) -> None:
    """After update_ref_doc no memory knows the old names; after delete_ref_doc none knows the document."""
    with build(tmp_path) as index:
        before, _ = held(index)
        index.update_ref_doc(Document(doc_id="flash", text="Kioxia makes NAND.", metadata={"title": "Kioxia"}))
        vectors, graph = held(index)
        assert vectors == graph
        assert len(before - vectors) == 1
        assert index.graph_store.find_names(["fujio masuoka", "kioxia"]).keys() == {"kioxia"}
        index.delete_ref_doc("flash")
        index.delete_ref_doc("never there")
        vectors, graph = held(index)
        assert vectors == graph
        assert set(index.ref_doc_info) == {"dram", "dennard", "texas"}


def test_the_callers_documents_and_nodes_stay_as_they_are() -> None:
    """Indexing changes neither the documents nor nodes handed in."""
    docs = documents()
    before = [doc.model_dump() for doc in docs]
    nodes = [TextNode(id_="n1", text="SRAM uses six transistors."), TextNode(id_="n2", text="MRAM uses spin.")]
    kept = [node.model_dump() for node in nodes]
    with HybridMemoryIndex.from_documents(docs, embed_model=WordsEmbedding()) as index:
        index.insert_nodes(nodes)
        assert {"n1", "n2"} <= held(index)[0] & held(index)[1]
    assert [doc.model_dump() for doc in docs] == before
    assert [node.model_dump() for node in nodes] == kept


CRASH = """
    import os, signal, sys
    from fakes import WordsEmbedding
    from test_index import documents
    from llama_index.core.schema import Document
    from llama_index_hybridmem.graph.stores.sqlite import SqliteGraphStore
    from llama_index_hybridmem.index import HybridMemoryIndex
    from llama_index_hybridmem.vector.store import QdrantEdgeVectorStore

    folder, where = sys.argv[1:]
    index = HybridMemoryIndex.from_documents(documents(), persist_dir=folder, embed_model=WordsEmbedding())

    def die(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)

    if where == "before the graph":
        SqliteGraphStore.replace = die
    else:
        QdrantEdgeVectorStore.delete_nodes = die
    index.update_ref_doc(Document(doc_id="flash", text="Kioxia makes NAND.", metadata={"title": "Kioxia"}))
"""


@pytest.mark.parametrize(
    ("where", "survivor"),
    [("before the graph", "Flash memory"), ("after the graph", "Kioxia")],
    ids=["undone", "finished"],
)
def test_a_kill_between_the_two_writes_leaves_both_memories_agreeing(tmp_path: Path, where: str, survivor: str) -> None:
    """A change killed before the graph's commit is undone at open, one killed after it is finished."""
    command = [sys.executable, "-c", dedent(CRASH), str(tmp_path), where]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with HybridMemoryIndex.open(tmp_path, embed_model=WordsEmbedding()) as index:
        vectors, graph = held(index)
        assert vectors == graph
        assert len(graph) == 4
        found = {node.metadata["title"] for node in index.vector_store.get_nodes()}
        assert survivor in found
        assert len(found & {"Flash memory", "Kioxia"}) == 1


def test_one_process_owns_a_store(tmp_path: Path) -> None:
    """Opening a store that is open is refused; once closed it opens, and the closed object says so."""
    with build(tmp_path) as index, pytest.raises(StoreLockedError):
        HybridMemoryIndex.open(tmp_path, embed_model=WordsEmbedding())
    with pytest.raises(StoreClosedError):
        index.insert(documents("dram")[0])
    index.close()
    HybridMemoryIndex.open(tmp_path, embed_model=WordsEmbedding()).close()


def test_what_a_store_was_built_with_is_kept_and_checked(tmp_path: Path) -> None:
    """Another encoder, no store and a damaged manifest are refused by name, and a failed open frees the lock."""
    build(tmp_path, language="german").close()
    with pytest.raises(StoreMismatchError, match="other"):
        HybridMemoryIndex.open(tmp_path, embed_model=WordsEmbedding(model_name="other"))
    with HybridMemoryIndex.open(tmp_path, embed_model=WordsEmbedding()) as index:
        assert index.manifest.language == "german"
        assert index.stats()["encoder"]["name"] == "words"
        json.dumps(index.stats())
    with pytest.raises(ConfigurationError, match="no store in"):
        HybridMemoryIndex.open(tmp_path / "elsewhere", embed_model=WordsEmbedding())
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8")[:20], encoding="utf-8")
    with pytest.raises(StoreDamagedError, match=r"manifest\.json"):
        HybridMemoryIndex.open(tmp_path, embed_model=WordsEmbedding())


WORDS = ["dram", "flash", "Texas", "Toshiba", "IBM", "Robert Dennard", "refresh", "capacitor", "New York"]


@settings(max_examples=10)
@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join), min_size=1, max_size=4))
def test_a_tenants_documents_change_nothing_for_another(texts: list[str]) -> None:
    """Whatever one tenant adds, another tenant's results and scores stay the same to the last bit."""
    with HybridMemoryIndex.from_documents([], embed_model=WordsEmbedding()) as root:
        mine = root.tenant("acme")
        mine.refresh_ref_docs(documents())
        before = scored(mine)
        root.tenant("other").refresh_ref_docs([Document(doc_id=f"x{i}", text=text) for i, text in enumerate(texts)])
        assert scored(mine) == before


def scored(index: HybridMemoryIndex) -> dict[str, list[tuple[str, float | None, Any]]]:
    """Ask every memory; give ids, scores and provenance."""
    asked = {"all": ("vector", "keyword", "graph"), **{name: (name,) for name in ("vector", "keyword", "graph")}}
    question = "Where did the inventor of DRAM grow up, and who made flash memory at Toshiba?"
    return {
        name: [
            (hit.node.node_id, hit.score, hit.node.metadata["hybridmem"])
            for hit in index.as_retriever(stores=stores).retrieve(question)
        ]
        for name, stores in asked.items()
    }


def test_tenants_are_folders_of_their_own(tmp_path: Path) -> None:
    """Names that differ only in case never share a partition, path tricks are refused, partitions survive reopening."""
    with build(tmp_path) as index:
        index.tenant("Acme").insert(Document(doc_id="secret", text="Acme Secret Plan"))
        assert not index.tenant("acme").ref_doc_info
        assert "secret" not in index.ref_doc_info
        assert len(list((tmp_path / "tenants").iterdir())) == 2
        for name in ("", " ", "../up", "a/b", "a\\b", "x" * 200):
            with pytest.raises(ConfigurationError, match="tenant"):
                index.tenant(name)
    with HybridMemoryIndex.open(tmp_path, embed_model=WordsEmbedding()) as index:
        assert set(index.tenant("Acme").ref_doc_info) == {"secret"}


def test_known_names_and_triples_join_the_graph(tmp_path: Path) -> None:
    """Entities and triples given by the user link passages and stand beside them as readable facts."""
    triples = tmp_path / "triples.csv"
    triples.write_text("subject,relation,object\nRobert Dennard,won,Kyoto Prize\n", encoding="utf-8")
    with build(entities=["one capacitor"], triples=triples) as index:
        assert "one capacitor" in index.graph_store.find_names(["one capacitor"])
        found = index.as_retriever(stores=("graph",)).retrieve("What did Robert Dennard win?")
        assert "Robert Dennard → won → Kyoto Prize" in found[0].node.metadata["hybridmem"]["facts"]
    with pytest.raises(ConfigurationError, match=r"triples\[0\]"):
        build(triples=[("a", "b")])  # type: ignore[list-item]  # what a user may hand in by mistake
    triples.write_text("subject,relation,object\nA,,C\n", encoding="utf-8")
    with pytest.raises(IngestError, match="line 2"):
        build(triples=triples)


def test_an_app_keeps_its_vector_index(tmp_path: Path) -> None:
    """from_existing links the nodes of a plain VectorStoreIndex; inserts and deletes then reach both."""
    app = VectorStoreIndex.from_documents(documents(), embed_model=WordsEmbedding())
    graph = SimplePropertyGraphStore()
    ends = [EntityNode(name="Robert Dennard"), EntityNode(name="Kyoto Prize")]
    graph.upsert_nodes(ends)
    chunk = next(node for node in app.docstore.docs.values() if node.ref_doc_id == "dennard")
    source = {TRIPLET_SOURCE_KEY: chunk.node_id}
    graph.upsert_relations([Relation(label="won", source_id=ends[0].id, target_id=ends[1].id, properties=source)])
    with HybridMemoryIndex.from_existing(vector_index=app, persist_dir=tmp_path, property_graph_store=graph) as index:
        found = index.as_retriever(similarity_top_k=4).retrieve("Where did Robert Dennard grow up?")
        assert titles(found)[0] == "Robert Dennard"
        assert set(found[0].node.metadata["hybridmem"]["stores"]) == {"vector", "keyword", "graph"}
        assert found[0].node.metadata["hybridmem"]["facts"] == ["Robert Dennard → won → Kyoto Prize"]
        index.insert(Document(doc_id="sram", text="SRAM keeps a bit in six transistors.", metadata={"title": "SRAM"}))
        assert titles(app.as_retriever(similarity_top_k=1).retrieve("six transistors SRAM")) == ["SRAM"]
        index.delete_ref_doc("sram")
        assert "SRAM" not in titles(app.as_retriever(similarity_top_k=9).retrieve("six transistors SRAM"))
        with pytest.raises(ConfigurationError, match="tenants"):
            index.tenant("acme")


def test_evaluation_measures_every_memory(index: HybridMemoryIndex, tmp_path: Path) -> None:
    """evaluate() measures each memory alone and left out, with intervals; questions without sources are counted."""
    rows: list[Mapping[str, Any]] = [
        {"question": "Who invented DRAM at IBM?", "expected_sources": ["dram"]},
        {"question": "Which state has the capital Austin?", "gold": ["Texas"]},
        {"question": "Hi there!", "expected_sources": []},
    ]
    report = index.evaluate(rows)
    assert (report.questions, report.skipped) == (2, 1)
    arms = {arm.name: arm for arm in report.arms}
    memories = ("vector", "keyword", "graph")
    assert set(arms) == {"hybrid", *memories, *(f"hybrid without {name}" for name in memories)}
    assert arms["hybrid"].metrics["recall@5"].mean == 1.0
    assert arms["hybrid"].gain is None
    json.dumps(report.to_json())
    path = tmp_path / "questions.jsonl"
    path.write_text('{"question": "Who?"}\n{"question": 3}\n', encoding="utf-8")
    with pytest.raises(IngestError, match="line 2"):
        index.evaluate(path)


async def test_the_async_twins_do_the_same(tmp_path: Path) -> None:
    """ainsert, arefresh_ref_docs, adelete_ref_doc and aretrieve work from an event loop."""
    with HybridMemoryIndex.from_documents([], persist_dir=tmp_path, embed_model=WordsEmbedding()) as index:
        await index.ainsert(documents("dram")[0])
        assert await index.arefresh_ref_docs(documents()) == [False, True, True, True]
        await index.adelete_ref_doc("flash")
        found = await index.as_retriever().aretrieve("Where did Robert Dennard grow up?")
        assert titles(found)[0] == "Robert Dennard"
        assert "flash" not in index.ref_doc_info


@pytest.mark.parametrize("on_disk", [True, False])
@pytest.mark.parametrize("step", ["replace", "add", "delete_nodes"])
def test_a_write_that_raises_leaves_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, on_disk: bool
) -> None:
    """Whichever store fails in the middle of a write, both agree as soon as it is well, and no text is lost."""

    def full(*_: object, **__: object) -> None:
        raise StoreError("no space left")

    owner = SqliteGraphStore if step == "replace" else QdrantEdgeVectorStore
    with build(tmp_path if on_disk else None) as index:
        with monkeypatch.context() as patch:
            patch.setattr(owner, step, full)
            with pytest.raises(StoreError, match="no space left"):
                index.insert(Document(doc_id="flash", text="Kioxia makes NAND."))
        index.insert(Document(doc_id="next", text="SRAM needs no refresh."))
        vectors, graph = held(index)
        assert vectors == graph
        assert len(graph) == 5
        found = index.as_retriever(stores=("vector",), similarity_top_k=5).retrieve("Flash memory Kioxia NAND")
        about_flash = [hit.node.get_content() for hit in found if hit.node.ref_doc_id == "flash"]
        expected = "Kioxia makes NAND." if step == "delete_nodes" else TEXTS["flash"][1]
        assert about_flash == [expected]


def test_a_failed_write_is_taken_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the graph refuses, search does not bring up what the caller was told has failed."""

    def refuse(*_: object, **__: object) -> None:
        raise StoreError("refused")

    with build() as index:
        monkeypatch.setattr(SqliteGraphStore, "replace", refuse)
        with pytest.raises(StoreError, match="refused"):
            index.insert(Document(doc_id="new", text="SRAM needs no refresh."))
        vectors, graph = held(index)
        assert vectors == graph


def test_of_two_documents_with_one_id_the_last_counts() -> None:
    """A document id given twice in one call is one document: the later text, nothing of the earlier."""
    twice = [Document(doc_id="x", text="Alpha is first."), Document(doc_id="x", text="Beta is second.")]
    with HybridMemoryIndex.from_documents(twice, embed_model=WordsEmbedding()) as index:
        assert [node.get_content() for node in index.vector_store.get_nodes()] == ["Beta is second."]
        assert index.refresh_ref_docs(twice) == [False, False]


@pytest.mark.parametrize(
    "bad",
    [
        Document(doc_id="", text="An empty id."),
        Document(doc_id="a\0b", text="A NUL in the id."),
        Document(doc_id="a\udc00", text="Half a character in the id."),
        Document(doc_id="a", text="Half a character: \ud800."),
    ],
)
def test_a_document_no_store_can_keep_is_refused_before_anything_is_written(bad: Document) -> None:
    """Ids that are empty or hold NUL, and lone surrogates raise our error; the good ones beside are not in."""
    with build() as index:
        before = held(index)
        with pytest.raises(IngestError):
            index.refresh_ref_docs([Document(doc_id="good", text="A good one."), bad])
        with pytest.raises(IngestError):
            index.insert(bad)
        assert held(index) == before
        index.insert(Document(doc_id="good", text="A good one."))


def test_a_node_with_an_id_no_store_can_keep_is_refused() -> None:
    """insert_nodes refuses such ids, too, and the index goes on working."""
    with build() as index:
        for bad in ("", "a\0b", "a\udc00"):
            with pytest.raises(IngestError):
                index.insert_nodes([TextNode(id_=bad, text="Whatever.")])
        index.insert_nodes([TextNode(id_="good", text="Whatever.")])
        vectors, graph = held(index)
        assert vectors == graph


@pytest.mark.parametrize("line", ["{}", "[]", '{"documents": 3}', '{"documents": [3, null]}'])
def test_a_journal_that_is_not_ours_is_damage(tmp_path: Path, line: str) -> None:
    """A whole journal line of another shape is reported as damage, not as a KeyError."""
    build(tmp_path).close()
    (tmp_path / "journal.jsonl").write_text(line + "\n")
    with pytest.raises(StoreDamagedError, match="journal"):
        HybridMemoryIndex.open(tmp_path, embed_model=WordsEmbedding())


@pytest.mark.parametrize(
    "content",
    ['{"encoder": 3}', '{"encoder": {}, "language": 5}', '{"encoder": {}, "chunk_tokens": "x"}', "[" * 100_000],
)
def test_a_manifest_of_another_shape_is_damage(tmp_path: Path, content: str) -> None:
    """Valid JSON that is no manifest of ours is reported as damage."""
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(StoreDamagedError, match="manifest"):
        HybridMemoryIndex.open(tmp_path, embed_model=WordsEmbedding())


@pytest.mark.parametrize("part", ["graph.sqlite", "vector"])
def test_a_store_that_has_lost_a_memory_does_not_open_with_an_empty_one(tmp_path: Path, part: str) -> None:
    """Without the graph's file or the vectors' folder the store is damaged, not silently half."""
    build(tmp_path).close()
    (tmp_path / part).rename(tmp_path / "elsewhere")
    with pytest.raises(StoreDamagedError, match=part):
        HybridMemoryIndex.open(tmp_path, embed_model=WordsEmbedding())


def test_an_empty_store_opens_again(tmp_path: Path) -> None:
    """A store without documents has all its parts."""
    HybridMemoryIndex.from_documents([], persist_dir=tmp_path, embed_model=WordsEmbedding()).close()
    with HybridMemoryIndex.open(tmp_path, embed_model=WordsEmbedding()) as index:
        assert index.ref_doc_info == {}


def test_a_folder_that_cannot_be_made_is_our_error(tmp_path: Path) -> None:
    """A persist_dir below a file raises StoreError that names it, with the system's error as its cause."""
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="file") as caught:
            HybridMemoryIndex.from_documents([], persist_dir=place, embed_model=WordsEmbedding())
        assert isinstance(caught.value.__cause__, OSError)


def test_an_index_that_cannot_be_made_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When opening or adopting fails, the graph's file is closed again, too."""
    closed: list[Path | None] = []
    build(tmp_path / "store").close()
    (tmp_path / "store" / "journal.jsonl").write_text("{}\n")
    close = SqliteGraphStore.close

    def noted(store: SqliteGraphStore) -> None:
        closed.append(store.path)
        close(store)

    monkeypatch.setattr(SqliteGraphStore, "close", noted)
    with pytest.raises(StoreDamagedError):
        HybridMemoryIndex.open(tmp_path / "store", embed_model=WordsEmbedding())
    empty = VectorStoreIndex([], embed_model=WordsEmbedding())
    with pytest.raises(ConfigurationError, match="cannot list its nodes"):
        HybridMemoryIndex.from_existing(vector_index=empty, persist_dir=tmp_path / "adopted")
    assert closed == [tmp_path / "store" / "graph.sqlite", tmp_path / "adopted" / "graph.sqlite"]
