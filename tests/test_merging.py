"""Tests of merging nodes by chunk, with LlamaIndex's own property-graph retriever."""

from __future__ import annotations

import pytest
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.graph_stores import SimplePropertyGraphStore
from llama_index.core.graph_stores.types import TRIPLET_SOURCE_KEY, EntityNode, Relation
from llama_index.core.indices.property_graph import PGRetriever, VectorContextRetriever
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import (
    Document,
    IndexNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores import SimpleVectorStore

from llama_index_hybridmem.merging import Hit, merge, preambles, read_hits

MICRON = TextNode(id_="c1", text="Micron makes DRAM in Boise.", metadata={"tenant": "a"})
BOISE = TextNode(id_="c2", text="Boise is in Idaho.", metadata={"tenant": "a"})


class Words(BaseEmbedding):
    """Counts words into 32 places: near enough for texts that share words."""

    def _get_text_embedding(self, text: str) -> list[float]:
        places = [0.0] * 32
        for word in text.lower().split():
            places[sum(map(ord, word)) % 32] += 1.0
        return places

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def graph_retriever(**options: object) -> VectorContextRetriever:
    """LlamaIndex's own retriever over its own in-memory property graph of two chunks and three triplets."""
    graph, vectors, words = SimplePropertyGraphStore(), SimpleVectorStore(), Words()
    graph.upsert_llama_nodes([MICRON, BOISE])
    for subject, relation, target, chunk_id in (
        ("Micron", "MAKES", "DRAM", "c1"),
        ("Micron", "WORKS_IN", "Boise", "c1"),
        ("Boise", "IN", "Idaho", "c2"),
    ):
        source = {TRIPLET_SOURCE_KEY: chunk_id}
        graph.upsert_nodes([EntityNode(name=name, properties=source) for name in (subject, target)])
        graph.upsert_relations([Relation(label=relation, source_id=subject, target_id=target, properties=source)])
    for name in ("Micron", "Idaho"):
        entity = TextNode(id_=name, text=name, embedding=words.get_text_embedding(name))
        vectors.add([entity])
    return VectorContextRetriever(graph, embed_model=words, vector_store=vectors, **options)


def scored(*nodes: TextNode) -> list[NodeWithScore]:
    """Nodes with falling scores."""
    return [NodeWithScore(node=node, score=1.0 - place / 10) for place, node in enumerate(nodes)]


def merged(found: dict[str, dict[str, Hit]], top_n: int = 10) -> list[NodeWithScore]:
    """Merge with the defaults."""
    return merge(found, mode="rrf", weights={}, rrf_k=60, top_n=top_n)


def test_a_chunk_from_vector_and_property_graph_is_one_with_text_and_facts() -> None:
    """LlamaIndex writes facts into the chunk's text and keeps its id: ours keeps the text and moves the facts."""
    retriever = graph_retriever()
    found = retriever.retrieve("Micron Idaho")
    assert found[0].node.text.startswith("Here are some facts extracted from the provided text:")
    nodes = merged({"graph": read_hits(found, preambles(retriever)), "vector": read_hits(scored(MICRON))})
    assert [each.node.node_id for each in nodes] == ["c1", "c2"]
    assert nodes[0].node.text == MICRON.text
    assert set(nodes[0].node.metadata["hybridmem"]["facts"]) == {
        "Micron -> MAKES -> DRAM",
        "Micron -> WORKS_IN -> Boise",
    }
    assert nodes[0].node.metadata["hybridmem"]["stores"].keys() == {"graph", "vector"}
    assert nodes[1].node.text == BOISE.text, "the text comes back even where only the graph has the chunk"


@pytest.mark.parametrize("preamble", [None, "", "Known facts:\n"])
def test_other_preambles_are_undone_too(preamble: str | None) -> None:
    """A retriever told to write another preamble, or none, is read back as well."""
    retriever = graph_retriever()
    retriever._include_text_preamble = preamble
    hits = read_hits(retriever.retrieve("Micron Idaho"), preambles(retriever))
    assert {chunk_id: hit.text for chunk_id, hit in hits.items()} == {"c1": MICRON.text, "c2": BOISE.text}


@pytest.mark.parametrize("wrap", ["bare", "pg", "fusion"])
def test_bare_triplets_go_to_their_source_chunk(wrap: str) -> None:
    """Triplets without text are facts of the chunk they were read from, also inside PGRetriever and a fusion."""
    graph = graph_retriever(include_text=False)
    retriever: BaseRetriever = graph
    if wrap == "pg":
        retriever = PGRetriever([graph], use_async=False)
    elif wrap == "fusion":
        retriever = QueryFusionRetriever([graph], llm=MockLLM(), num_queries=1, use_async=False, similarity_top_k=9)
    hits = read_hits(retriever.retrieve("Micron Idaho"), preambles(retriever))
    assert hits.keys() == {"c1", "c2"}
    assert set(hits["c1"].facts) == {"Micron -> MAKES -> DRAM", "Micron -> WORKS_IN -> Boise"}
    chunk, alone = merged({"graph": hits, "vector": read_hits(scored(MICRON))})
    assert chunk.node.text == MICRON.text
    assert set(chunk.node.metadata["hybridmem"]["facts"]) == set(hits["c1"].facts)
    assert alone.node.text == "Boise -> IN -> Idaho", "without the chunk the triplet speaks for itself"
    assert alone.node.ref_doc_id == "c2"


def test_several_triplets_of_an_absent_chunk_are_one_node_with_all_of_them() -> None:
    """Three statements about one chunk neither fill three places nor lose two."""
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="c9")}
    triplets = [TextNode(text=f"A -> R{number} -> B", relationships=source) for number in range(3)]
    (node,) = merged({"graph": read_hits(scored(*triplets), ("",))})
    assert node.node.text == "A -> R0 -> B\nA -> R1 -> B\nA -> R2 -> B"
    assert node.node.metadata["hybridmem"]["stores"] == {"graph": {"rank": 1, "score": 1.0}}


def test_twenty_chunks_of_one_document_stay_twenty() -> None:
    """Chunks share their document as SOURCE; they are not merged by it, even when they look like triplets."""
    text = "\n\n".join(f"Step{number} -> next -> Step{number + 1}" for number in range(20))
    cut = SentenceSplitter(chunk_size=12, chunk_overlap=0, paragraph_separator="\n\n", include_metadata=False)
    chunks = cut.get_nodes_from_documents([Document(id_="d", text=text)])
    assert len(chunks) == 20
    assert {chunk.ref_doc_id for chunk in chunks} == {"d"}
    assert " -> next -> " in chunks[0].get_content()
    for known in ((), ("",), ("Here are some facts extracted from the provided text:\n\n",)):
        hits = read_hits([NodeWithScore(node=chunk, score=1.0) for chunk in chunks], known)
        assert len(merged({"vector": hits, "keyword": dict(reversed(hits.items()))}, top_n=99)) == 20


def test_only_a_graph_retrievers_nodes_are_taken_for_triplets() -> None:
    """From any other retriever a short text with arrows and a bare SOURCE stays what it is."""
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="d")}
    nodes = scored(
        *(TextNode(id_=f"n{number}", text="Water -> Steam -> Power", relationships=source) for number in "12")
    )
    assert read_hits(nodes).keys() == {"n1", "n2"}


def test_facts_paths_and_notes_of_several_stores_are_kept() -> None:
    """What our own graph retriever puts under "hybridmem" is merged, in order, without doubles."""
    graph = TextNode(id_="c1", text=MICRON.text)
    graph.metadata["hybridmem"] = {
        "facts": ["A → r → B"],
        "path": {"from": "c0", "names": ["Micron"]},
        "notes": ["one hop"],
    }
    other = TextNode(id_="c1", text=MICRON.text)
    other.metadata["hybridmem"] = {"facts": ["A → r → B", "B → r → C"], "path": ["c1"]}
    found = {"vector": read_hits(scored(MICRON)), "graph": read_hits(scored(graph)), "other": read_hits(scored(other))}
    note = merged(found)[0].node.metadata["hybridmem"]
    assert note["facts"] == ["A → r → B", "B → r → C"]
    assert note["path"] == {"from": "c0", "names": ["Micron"]}
    assert note["notes"] == ["one hop"]
    assert merged({"vector": read_hits(scored(BOISE))})[0].node.metadata["hybridmem"] == {
        "stores": {"vector": {"rank": 1, "score": 1.0}},
        "facts": [],
        "path": None,
    }


def test_the_note_reaches_neither_the_language_model_nor_the_encoder() -> None:
    """Where a chunk was found is for people and programs; what models read is unchanged."""
    (node,) = merged({"vector": read_hits(scored(MICRON))})
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        assert node.node.get_content(metadata_mode=mode) == MICRON.get_content(metadata_mode=mode)


def test_the_stores_nodes_are_untouched_and_share_nothing_that_a_caller_may_change() -> None:
    """Changing everything on a returned node changes nothing in the store."""
    original = TextNode(
        id_="c1",
        text="t",
        metadata={"list": [1], "hybridmem": {"facts": ["f"], "path": [["c0"]]}},
        embedding=[0.5],
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="d", metadata={"k": "v"})},
        excluded_llm_metadata_keys=["x"],
    )
    before = original.model_dump_json()
    (node,) = merged({"vector": read_hits(scored(original))})
    copied = node.node
    copied.metadata["list"].append(2)
    copied.metadata["hybridmem"]["path"][0].append("changed")
    copied.embedding.append(1.0)
    copied.excluded_llm_metadata_keys.append("y")
    copied.relationships[NodeRelationship.SOURCE].metadata["k"] = "changed"
    copied.set_content("changed")
    assert original.model_dump_json() == before


def test_an_object_behind_an_index_node_is_not_copied() -> None:
    """An IndexNode may lead to a whole retriever: the copy leads to the same one."""
    behind = object()
    (node,) = merged({"index": read_hits(scored(IndexNode(index_id="i", text="t", obj=behind)))})
    assert node.node.obj is behind


def test_missing_scores_are_kept_as_missing_and_fused_by_rank() -> None:
    """score=None crashes LlamaIndex's relative-score fusion; here it stands by its rank and stays None in the note."""
    unscored = [NodeWithScore(node=MICRON), NodeWithScore(node=BOISE)]
    nodes = merge({"live": read_hits(unscored)}, mode="score", weights={}, rrf_k=60, top_n=5)
    assert [(each.node.node_id, each.score) for each in nodes] == [("c1", 1.0), ("c2", 0.5)]
    assert nodes[0].node.metadata["hybridmem"]["stores"]["live"] == {"rank": 1, "score": None}


def test_reading_a_real_query_bundle_twice_gives_the_same() -> None:
    """The graph retriever's rewritten copies are read, never written: a second retrieval reads alike."""
    retriever = graph_retriever()
    first = read_hits(retriever.retrieve(QueryBundle("Micron")), preambles(retriever))
    merged({"graph": first})
    assert read_hits(retriever.retrieve(QueryBundle("Micron")), preambles(retriever)).keys() == first.keys()
