"""The chunks of a property graph as passages, their texts from wherever those are; knows no names and no walk."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.schema import BaseNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.storage.docstore.types import BaseDocumentStore
from llama_index.core.vector_stores.types import BasePydanticVectorStore
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from ...filters import visible_fields
from ..nodes import to_passage
from .base import Passage
from .property_graph_reading import Chunk

logger = logging.getLogger(__name__)

LONG_CHARACTERS = 1_200
"""Beyond it a passage counts as longer than an encoder reads: some 256 word pieces of English."""

_BATCH = 500
_DOCUMENT = ("ref_doc_id", "doc_id", "document_id")
_NOT_METADATA = frozenset({"id", "text", "embedding", "_node_content", "_node_type", *_DOCUMENT})


@dataclass(frozen=True)
class FoundChunks:
    """What is known of a graph's chunks.

    Attributes:
        passages: those with a text, by id.
        metadata: what filters see of those without, by id.
    """

    passages: Mapping[str, Passage]
    metadata: Mapping[str, Mapping[str, object]]


class ChunkTexts:
    """Makes passages of chunks; where the graph holds only ids, the texts come from other stores, by node id.

    Args:
        docstore: asked first.
        vector_store: asked for what is still missing; must be able to give nodes by id.
    """

    def __init__(
        self, docstore: BaseDocumentStore | None = None, vector_store: BasePydanticVectorStore | None = None
    ) -> None:
        self._docstore = docstore
        self._vector_store = vector_store

    def find(self, chunks: Iterable[Chunk], linked: Collection[str]) -> FoundChunks:
        """Make passages of the graph's chunks and of those that it only names.

        Args:
            chunks: as the graph has them.
            linked: ids of the chunks that something in the graph refers to.
        """
        nodes = {chunk.id: node_of(chunk) for chunk in chunks}
        texts = {chunk_id: node for chunk_id, node in nodes.items() if _text(node)}
        missing = [chunk_id for chunk_id in linked if chunk_id not in texts]
        for source in (self._from_docstore, self._from_vector_store):
            for node in source(missing):
                texts[node.node_id] = node
            missing = [chunk_id for chunk_id in missing if chunk_id not in texts]
        metadata = {chunk_id: visible_fields(node.metadata, node.ref_doc_id) for chunk_id, node in nodes.items()}
        passages = {chunk_id: _passage(node) for chunk_id, node in texts.items()}
        return FoundChunks(passages, {chunk_id: metadata[chunk_id] for chunk_id in missing if chunk_id in metadata})

    def _from_docstore(self, ids: Sequence[str]) -> Iterator[BaseNode]:
        docstore = self._docstore
        return _asked(lambda batch: docstore.get_nodes(batch, raise_error=False), ids) if docstore else iter(())

    def _from_vector_store(self, ids: Sequence[str]) -> Iterator[BaseNode]:
        vectors = self._vector_store
        try:
            yield from _asked(lambda batch: vectors.get_nodes(node_ids=batch), ids) if vectors else ()
        except NotImplementedError:
            logger.warning("%s gives no nodes by id: pass docstore=", type(vectors).__name__)


def node_of(chunk: Chunk) -> BaseNode:
    """Rebuild the node that LlamaIndex wrote into the graph, or make one of what stands there."""
    if chunk.properties.get("_node_content"):
        try:
            node = metadata_dict_to_node(dict(chunk.properties), text=chunk.text)
            if node.node_id == chunk.id:
                return node
        except (ValueError, TypeError) as error:  # pydantic's and json's errors are ValueErrors
            logger.warning("chunk %s: its _node_content cannot be read: %s", chunk.id, error)
    made = TextNode(id_=chunk.id, text=chunk.text, metadata=plain_metadata(chunk.properties))
    for document in (str(chunk.properties[key]) for key in _DOCUMENT if chunk.properties.get(key)):
        if document != "None":  # as LlamaIndex writes "no document"
            made.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=document)
    return made


def plain_metadata(properties: Mapping[str, Any]) -> dict[str, object]:
    """Take over a graph's properties as metadata: what JSON holds as it is, dates and points as text."""
    return {key: _plain(value) for key, value in properties.items() if key not in _NOT_METADATA and value is not None}


def serialised(node: BaseNode) -> str:
    """Write a node without its text, as a passage carries it."""
    payload = node_to_metadata_dict(node, remove_text=True)
    return json.dumps({key: payload[key] for key in ("_node_content", "_node_type")}, ensure_ascii=False)


def _asked(ask: Callable[[list[str]], Iterable[BaseNode]], ids: Sequence[str]) -> Iterator[BaseNode]:
    for start in range(0, len(ids), _BATCH):
        batch = list(ids[start : start + _BATCH])
        yield from (node for node in ask(batch) if node.node_id in batch and _text(node))


def _text(node: BaseNode) -> str:
    return node.get_content()


def _passage(node: BaseNode) -> Passage:
    return to_passage(node, extract=lambda text: (), long=len(_text(node)) > LONG_CHARACTERS)


def _plain(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value if isinstance(value, (str, int, float, bool)) else str(value)
