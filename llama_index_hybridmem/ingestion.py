"""Writes documents into both memories so that each is there wholly or not at all; splits nothing and answers nothing.

The graph's transaction is the acknowledgement. Vectors go first, then the graph commits, then vectors that the graph no
longer knows are removed; a journal names the documents on their way. So after a crash one rule mends everything: for
each document in the journal, the graph is right, and the vector store is made to agree with it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.indices.vector_store.base import VectorStoreIndex
from llama_index.core.schema import BaseNode, Document, MetadataMode, NodeRelationship, ObjectType, RelatedNodeInfo
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters

from .disk import Journal
from .errors import IngestError, StoreDamagedError, StoreUnavailableError, told
from .graph.entities import Extractor
from .graph.nodes import to_node, to_passage, without_graph
from .graph.stores.base import Fact, GraphStore
from .splitter import window_texts
from .vector.point_store import PointVectorStore

logger = logging.getLogger(__name__)

T = TypeVar("T")
DOCUMENTS_PER_BATCH = 32
"""Documents acknowledged together: enough to encode in full batches, few enough to lose little time to a crash."""


Windows = Mapping[str, list[list[float]]]
"""Node id to the vectors of a long node's windows."""


class Vectors(Protocol):
    """The vector side of an ingestion."""

    windows: bool
    """Whether it takes window vectors."""

    def add(self, nodes: Sequence[BaseNode], windows: Windows) -> None:
        """Add or replace nodes that carry their embeddings."""

    def drop(self, node_ids: list[str]) -> None:
        """Remove nodes."""

    def node_ids(self, doc_id: str) -> list[str]:
        """List the nodes of a document."""


class PointVectors:
    """Our own vector stores."""

    windows = True

    def __init__(self, store: PointVectorStore) -> None:
        self._store = store

    def add(self, nodes: Sequence[BaseNode], windows: Windows) -> None:
        """See `Vectors`."""
        self._store.add(list(nodes), window_embeddings=windows)

    def drop(self, node_ids: list[str]) -> None:
        """See `Vectors`."""
        self._store.delete_nodes(node_ids)

    def node_ids(self, doc_id: str) -> list[str]:
        """See `Vectors`."""
        wanted = MetadataFilters(filters=[MetadataFilter(key="doc_id", value=doc_id, operator=FilterOperator.EQ)])
        return [node.node_id for node in self._store.get_nodes(filters=wanted)]


class IndexVectors:
    """An app's own vector index, kept in step through its own methods."""

    windows = False

    def __init__(self, index: VectorStoreIndex) -> None:
        self._index = index

    def add(self, nodes: Sequence[BaseNode], windows: Windows) -> None:
        """See `Vectors`."""
        self._index.insert_nodes(list(nodes))

    def drop(self, node_ids: list[str]) -> None:
        """See `Vectors`."""
        self._index.delete_nodes(node_ids, delete_from_docstore=True)

    def node_ids(self, doc_id: str) -> list[str]:
        """See `Vectors`; such an index is not mended, so nobody asks."""
        raise NotImplementedError


class Ingestion:
    """Puts nodes into vector memory and a graph store together.

    Args:
        vectors: holds the vectors and keywords.
        graph_store: holds names and links; its commit is the acknowledgement.
        embed_model: encodes nodes, and windows of long ones.
        journal: names the documents on their way; None: nothing to mend (memory, or somebody else's vector store).
        use_titles: whether titles are names.
        extract: proposes names in place of capitalised spans.
    """

    def __init__(
        self,
        vectors: Vectors,
        graph_store: GraphStore,
        embed_model: BaseEmbedding,
        *,
        journal: Journal | None = None,
        use_titles: bool = True,
        extract: Extractor | None = None,
    ) -> None:
        self._vectors = vectors
        self._graph_store = graph_store
        self._embed_model = embed_model
        self._journal = journal
        self._use_titles = use_titles
        self._extract = extract
        self._touched: set[str] = set()  # node ids of a write that is not settled
        self._unmended = journal is not None

    def write(self, doc_ids: Sequence[str], nodes: Sequence[BaseNode], facts: Mapping[str, Sequence[Fact]]) -> None:
        """Make the given nodes all there is of the given documents, in both stores; or, when it raises, in neither.

        Args:
            doc_ids: the documents; nodes they had before and have no longer go.
            nodes: left as they are.
            facts: by node id, beside those that extractors left in a node's metadata.

        Raises:
            IngestError: an id that no store can keep.
        """
        _check_ids([*doc_ids, *(node.node_id for node in nodes)])
        self._settle()
        before = {node_id for doc_id in doc_ids for node_id in self._graph_store.document_node_ids(doc_id)}
        if self._journal is not None:
            self._journal.append({"documents": list(doc_ids)})
        clean = [without_graph(node) for node in nodes]
        windows = self._window_embeddings(clean)
        self._touched = before | {node.node_id for node in nodes}
        try:
            self._add_vectors(clean, windows)
            self.link(doc_ids, nodes, facts, long=windows)
            self._drop_vectors(before - {node.node_id for node in nodes})
        except BaseException:
            self._take_back()
            raise
        self._settled()

    def _take_back(self) -> None:
        """Undo a failed write as far as the failure allows."""
        try:
            self._settle()
        except Exception:  # noqa: BLE001 - the write's own error is the one to raise, and whatever writes next tries again
            logger.exception("a failed write is not taken back yet; the next write, or the next opening, will")

    def _settle(self) -> None:
        """Bring the vector store in line with the graph after a write that failed; nothing to do after any other.

        A lost connection may have left open whether a commit of ours went through.
        """
        if self._unmended:
            self.mend()
        if self._touched:
            self._graph_store.await_writes()
            known = self._graph_store.passage_ids(sorted(self._touched))
            self._drop_vectors(self._touched - known.keys())
            self._restore(list(known))
            self._settled()

    def _settled(self) -> None:
        self._touched = set()
        if self._journal is not None:
            self._journal.clear()

    def link(
        self,
        doc_ids: Sequence[str],
        nodes: Sequence[BaseNode],
        facts: Mapping[str, Sequence[Fact]],
        *,
        long: Collection[str] = (),
    ) -> None:
        """Write the graph alone; see `write`. `long` holds the ids of nodes longer than the encoder reads."""
        passages = [
            to_passage(node, use_titles=self._use_titles, extract=self._extract, long=node.node_id in long)
            for node in nodes
        ]
        self._graph_store.replace(doc_ids, [replace(p, facts=(*p.facts, *facts.get(p.node_id, ()))) for p in passages])

    def remove(self, doc_ids: Sequence[str]) -> None:
        """Remove documents from both stores."""
        self.write(doc_ids, (), {})

    def mend(self) -> list[str]:
        """Bring the vector store in line with the graph for every document that was on its way; returns their ids."""
        if self._journal is None:
            return []
        self._unmended = True
        doc_ids = list(dict.fromkeys(doc_id for entry in self._journal.entries() for doc_id in _documents(entry)))
        if doc_ids:
            self._graph_store.await_writes()
        for doc_id in doc_ids:
            logger.warning("document %s was on its way when the last process ended; mending", doc_id)
            known = self._graph_store.document_node_ids(doc_id)
            self._drop_vectors(set(self._vectors.node_ids(doc_id)) - set(known))
            self._restore(known)
        self._journal.clear()
        self._unmended = False
        return doc_ids

    def mend_if_reachable(self) -> None:
        """Do as `mend`, or leave it to the next write where a server is down: questions can be asked meanwhile."""
        try:
            self.mend()
        except StoreUnavailableError as error:
            logger.warning("an unfinished ingest is mended by the next write: %s", told(error))

    def _restore(self, node_ids: Sequence[str]) -> None:
        numbers = self._graph_store.passage_ids(node_ids)
        stored = self._graph_store.load(np.fromiter(numbers.values(), dtype=np.int64))
        nodes = [to_node(passage) for passage in stored.values()]
        self._add_vectors(nodes, self._window_embeddings(nodes))

    def _add_vectors(self, nodes: Sequence[BaseNode], windows: Windows) -> None:
        if not nodes:
            return
        texts = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        vectors = self._embed_model.get_text_embedding_batch(texts)
        embedded = [node.model_copy(update={"embedding": vector}) for node, vector in zip(nodes, vectors, strict=True)]
        self._vectors.add(embedded, windows)

    def _drop_vectors(self, node_ids: Iterable[str]) -> None:
        gone = list(node_ids)
        if gone:
            self._vectors.drop(gone)

    def _window_embeddings(self, nodes: Sequence[BaseNode]) -> dict[str, list[list[float]]]:
        if not self._vectors.windows:
            return {}
        texts = {node.node_id: found for node in nodes if (found := window_texts(node, self._embed_model))}
        flat = [text for found in texts.values() for text in found]
        vectors = iter(self._embed_model.get_text_embedding_batch(flat) if flat else [])
        return {node_id: list(islice(vectors, len(found))) for node_id, found in texts.items()}


def _documents(entry: object) -> list[str]:
    doc_ids = entry.get("documents") if isinstance(entry, dict) else None
    if not isinstance(doc_ids, list) or not all(isinstance(doc_id, str) for doc_id in doc_ids):
        raise StoreDamagedError(f"the journal of documents on their way holds a line that is not ours: {entry!r:.200}")
    return doc_ids


def checked(documents: Sequence[Document]) -> Sequence[Document]:
    """Refuse documents that no store can keep, before anything is written.

    Raises:
        IngestError: an id that no store can keep, or half a character (a lone surrogate) in the text.
    """
    _check_ids([document.doc_id for document in documents])
    for document in documents:
        try:
            _ = document.hash  # made from the UTF-8 of text and metadata
        except UnicodeEncodeError as error:
            raise IngestError(
                f"document {document.doc_id!r} holds a lone surrogate, which no file can keep: {error}"
            ) from error
    return documents


def _check_ids(ids: Iterable[str]) -> None:
    for given in ids:
        if not given or "\0" in given or given.encode(errors="ignore").decode() != given:
            raise IngestError(f"an id must not be empty nor hold a NUL or a lone surrogate: {given!r:.200}")


def owned(nodes: Sequence[BaseNode]) -> dict[str, list[BaseNode]]:
    """Group nodes by source document; one without a source becomes its own (a copy carries the link)."""
    groups: dict[str, list[BaseNode]] = {}
    for node in nodes:
        if node.ref_doc_id is None:
            source = RelatedNodeInfo(node_id=node.node_id, node_type=ObjectType.DOCUMENT, hash=node.hash)
            node = node.model_copy(update={"relationships": {**node.relationships, NodeRelationship.SOURCE: source}})
        groups.setdefault(node.ref_doc_id or node.node_id, []).append(node)
    return groups


def batches(items: Sequence[T], size: int = DOCUMENTS_PER_BATCH) -> Iterator[Sequence[T]]:
    """Cut a sequence into runs of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
