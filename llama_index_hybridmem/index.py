"""Documents in; retriever, engines and one store on disk out: assembles the parts and ranks nothing itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.graph_stores.types import PropertyGraphStore
from llama_index.core.indices.vector_store.base import VectorStoreIndex
from llama_index.core.llms import LLM
from llama_index.core.schema import BaseNode, Document, TransformComponent
from llama_index.core.storage.docstore.types import RefDocInfo
from llama_index.core.utils import get_tqdm_iterable
from llama_index.core.vector_stores.types import BasePydanticVectorStore

from .branches import in_thread
from .disk import Journal, make_folder
from .encoder import encoder_identity, resolve_encoder
from .errors import ConfigurationError, StoreClosedError
from .graph.entities import Extractor
from .graph.nodes import facts_from_property_graph
from .graph.stores.base import Fact, PortableGraphStore
from .graph.stores.sqlite import SqliteGraphStore
from .ingestion import DOCUMENTS_PER_BATCH, IndexVectors, Ingestion, PointVectors, batches, checked, owned
from .knowledge import Triples, facts_of, nodes_of
from .manifest import FILE, GRAPH, VECTOR, Manifest, check_parts, tenant_folder
from .memories import DEADLINE_S, RETRIEVER_ARGUMENTS, memory_stores
from .merging import Mode
from .parts import Given, open_parts
from .splitter import StructureSplitter
from .vector.point_store import PointVectorStore
from .vector.store import QdrantEdgeVectorStore

if TYPE_CHECKING:
    from .evaluation import EvaluationReport
    from .query_engine import HybridRouterQueryEngine
    from .retriever import HybridRetriever


class HybridMemoryIndex:
    """Vector, keyword and graph memory over the same documents.

    Make one with `from_documents`, `open` or `from_existing`. With a folder, one process owns it at a time, and what
    `insert` and its kin have returned from survives the death of the process. Safe to share between threads. Close
    it, or use it as a context manager.
    """

    def __init__(
        self,
        vector_index: VectorStoreIndex,
        graph_store: PortableGraphStore,
        embed_model: BaseEmbedding,
        manifest: Manifest,
        *,
        folder: Path | None = None,
        given: Given | None = None,
        closing: Callable[[], None] | None = None,
        transformations: Sequence[TransformComponent] | None = None,
        kg_extractors: Sequence[TransformComponent] = (),
        extract_entities: Extractor | None = None,
    ) -> None:
        """Take built parts; the class methods build them."""
        self.vector_store: BasePydanticVectorStore = vector_index.vector_store
        self.graph_store = graph_store
        self.embed_model = embed_model
        self.manifest = manifest
        self.folder = folder
        self.vector_index = vector_index
        splitter = StructureSplitter(embed_model, max_tokens=manifest.chunk_tokens or 200)
        self._transformations = [*(transformations if transformations is not None else [splitter]), *kg_extractors]
        self._options = {
            "transformations": transformations,
            "kg_extractors": kg_extractors,
            "extract_entities": extract_entities,
        }
        self._given = given or Given()
        self._closing = closing if closing is not None else graph_store.close
        self._tenants: dict[str, HybridMemoryIndex] = {}
        self._lock = threading.RLock()
        self._opening = threading.Lock()
        self._closed = False
        store = self.vector_store
        self._ours = isinstance(store, PointVectorStore)
        self._ingestion = Ingestion(
            PointVectors(store) if isinstance(store, PointVectorStore) else IndexVectors(vector_index),
            graph_store,
            embed_model,
            journal=Journal(folder / "journal.jsonl") if folder is not None and self._ours else None,
            use_titles=manifest.use_titles,
            extract=extract_entities,
        )
        self._ingestion.mend_if_reachable()

    # -- making one ---------------------------------------------------------------------------------------------------

    @classmethod
    def from_documents(
        cls,
        documents: Sequence[Document],
        *,
        persist_dir: str | Path | None = None,
        vector_store: PointVectorStore | None = None,
        graph_store: PortableGraphStore | None = None,
        embed_model: str | BaseEmbedding | None = None,
        language: str = "english",
        chunk_tokens: int = 200,
        use_titles: bool = True,
        transformations: Sequence[TransformComponent] | None = None,
        kg_extractors: Sequence[TransformComponent] = (),
        extract_entities: Extractor | None = None,
        entities: Iterable[str] = (),
        triples: Triples | None = None,
        show_progress: bool = False,
    ) -> HybridMemoryIndex:
        """Index documents; into a folder that has a store already, add them to it.

        Args:
            documents: LlamaIndex documents; unchanged ones of an earlier run cost nothing.
            persist_dir: the store's folder; None keeps it until `close`. With stores on servers it keeps what makes
                a killed ingest whole again, and what the stores were built with.
            vector_store: a `QdrantServerVectorStore` in place of the embedded store; yours to close.
            graph_store: a `Neo4jGraphStore` in place of the embedded store; yours to close.
            embed_model: None or "minilm" for the default encoder, any LlamaIndex embedding, or a Hugging Face name.
            language: of stemming and stop words in the keyword memory.
            chunk_tokens: most word pieces a node has, title and section included; MiniLM reads 256.
            use_titles: whether `metadata["title"]` is a name in the graph.
            transformations: cut documents into nodes in place of `StructureSplitter`.
            kg_extractors: LlamaIndex's extractors of triples; what they find joins the graph.
            extract_entities: proposes names for a text in place of capitalised spans.
            entities: names you know of.
            triples: facts you know of: a CSV file (subject, relation, object), tuples, or a LlamaIndex property graph.
            show_progress: show a progress bar.

        Raises:
            StoreLockedError: another process owns the folder.
            StoreMismatchError: the folder was built with another encoder.
        """
        encoder = resolve_encoder(embed_model)
        options: dict[str, Any] = {
            "transformations": transformations, "kg_extractors": kg_extractors, "extract_entities": extract_entities,
        }  # fmt: skip
        given = Given(vector_store, graph_store)
        folder = Path(persist_dir) if persist_dir is not None else None
        if folder is not None and (folder / FILE).exists():
            index = cls._reopen(folder, encoder, given, options)
        else:
            given.check_alike()  # a folder knows its stores by name, and mends what a killed ingest left
            chunked = chunk_tokens if transformations is None else None
            identity = encoder_identity(encoder)
            manifest = Manifest(identity, language, chunked, use_titles, served=given.served)
            index = cls._create(folder, encoder, manifest, given, options)
        try:
            index.add_knowledge(entities=entities, triples=triples)
            index.refresh_ref_docs(documents, show_progress=show_progress)
        except BaseException:
            index.close()
            raise
        return index

    @classmethod
    def open(
        cls,
        persist_dir: str | Path,
        *,
        vector_store: PointVectorStore | None = None,
        graph_store: PortableGraphStore | None = None,
        embed_model: str | BaseEmbedding | None = None,
        **options: Any,
    ) -> HybridMemoryIndex:
        """Open a store; whatever a killed process left half-written is finished or undone first.

        Args:
            persist_dir: the store's folder.
            vector_store: the store on a server that it was made with, if it was.
            graph_store: the same for the graph.
            embed_model: the encoder it was built with (default: MiniLM).
            **options: `transformations`, `kg_extractors`, `extract_entities`, as for `from_documents`.

        Raises:
            ConfigurationError: no store there, or made with other stores on servers.
            StoreLockedError: another process owns it.
            StoreMismatchError: built with another encoder or version.
            StoreDamagedError: its files cannot be read.
        """
        Manifest.read(Path(persist_dir))  # before the encoder is loaded
        return cls._reopen(Path(persist_dir), resolve_encoder(embed_model), Given(vector_store, graph_store), options)

    @classmethod
    def _reopen(
        cls, folder: Path, encoder: BaseEmbedding, given: Given, options: Mapping[str, Any]
    ) -> HybridMemoryIndex:
        manifest = Manifest.read(folder)
        manifest.check_encoder(encoder_identity(encoder, manifest.encoder.get("dimension")), folder)
        manifest.check_served(given.served, folder)
        check_parts(folder, given.served)
        return cls._assemble(folder, encoder, manifest, given, options)

    @classmethod
    def from_existing(
        cls,
        *,
        vector_index: VectorStoreIndex,
        persist_dir: str | Path | None = None,
        graph_store: PortableGraphStore | None = None,
        property_graph_store: PropertyGraphStore | None = None,
        use_titles: bool = True,
        extract_entities: Extractor | None = None,
        show_progress: bool = False,
    ) -> HybridMemoryIndex:
        """Add an entity graph to an app that keeps its vector store.

        The nodes are read from the index's docstore or its vector store, once; inserts and deletes made here from
        then on reach both. Keyword memory is the graph store's own word index.

        Args:
            vector_index: the app's index; its embedding model is used.
            persist_dir: where the graph is kept; None: in memory.
            graph_store: keeps the graph in place of `persist_dir`, a `Neo4jGraphStore` say; yours to close.
            property_graph_store: facts to take over.
            use_titles: whether `metadata["title"]` is a name.
            extract_entities: proposes names for a text in place of capitalised spans.
            show_progress: show a progress bar.

        Raises:
            ConfigurationError: the index can hand back no nodes.
        """
        folder = Path(persist_dir) if persist_dir is not None else None
        if folder is not None:
            make_folder(folder)
        encoder: BaseEmbedding = vector_index._embed_model
        manifest = Manifest(encoder_identity(encoder), chunk_tokens=None, use_titles=use_titles)
        closing = None if graph_store is None else (lambda: None)
        graph = graph_store or SqliteGraphStore(folder / GRAPH if folder is not None else None)
        index = cls(
            vector_index, graph, encoder, manifest, folder=folder, closing=closing, extract_entities=extract_entities
        )
        try:
            index._adopt(nodes_of(vector_index), property_graph_store, show_progress)
        except BaseException:
            index.close()
            raise
        return index

    @classmethod
    def _create(
        cls,
        folder: Path | None,
        encoder: BaseEmbedding,
        manifest: Manifest,
        given: Given,
        options: Mapping[str, Any],
    ) -> HybridMemoryIndex:
        if folder is None:
            return cls._assemble(None, encoder, manifest, given, options)
        # Now, though the first vectors may come much later: see `check_parts`.
        make_folder(folder / VECTOR if given.vector is None else folder)
        index = cls._assemble(folder, encoder, manifest, given, options)
        manifest.write(folder)  # last: a folder without it is no store yet
        return index

    @classmethod
    def _assemble(
        cls,
        folder: Path | None,
        encoder: BaseEmbedding,
        manifest: Manifest,
        given: Given,
        options: Mapping[str, Any],
    ) -> HybridMemoryIndex:
        parts = open_parts(folder, manifest, given)
        try:
            vectors = VectorStoreIndex.from_vector_store(parts.vector, embed_model=encoder)
            return cls(
                vectors, parts.graph, encoder, manifest, folder=folder, given=given, closing=parts.close, **options
            )
        except BaseException:
            parts.close()
            raise

    # -- writing ------------------------------------------------------------------------------------------------------

    def insert(self, document: Document) -> None:
        """Add a document, or replace the one with its id."""
        self._write(checked([document]))

    def insert_nodes(self, nodes: Sequence[BaseNode], *, facts: Mapping[str, Sequence[Fact]] | None = None) -> None:
        """Add nodes as they are; all nodes of a source document are replaced by those given for it.

        Args:
            nodes: left as they are; long ones get window vectors.
            facts: by node id, what you know each node to say.
        """
        for some in batches(list(owned(nodes).items())):
            members = [node for _, group in some for node in group]
            with self._lock:
                self._open()._ingestion.write([doc_id for doc_id, _ in some], members, facts or {})

    def update_ref_doc(self, document: Document, **_: Any) -> None:
        """Replace a document."""
        self._write(checked([document]))

    def delete_ref_doc(self, ref_doc_id: str, **_: Any) -> None:
        """Remove a document from every memory; an unknown id is no error."""
        with self._lock:
            self._open()._ingestion.remove([ref_doc_id])

    def refresh_ref_docs(self, documents: Sequence[Document], *, show_progress: bool = False, **_: Any) -> list[bool]:
        """Add new and changed documents, leave unchanged ones alone; of several with one id the last counts.

        Returns:
            for each document, whether it was written.

        Raises:
            IngestError: a document that no store can keep; none is written then.
        """
        known = self._open().graph_store.documents()
        latest = {document.doc_id: document for document in checked(documents)}
        stale = [
            latest[document.doc_id] is document and known.get(document.doc_id) != document.hash
            for document in documents
        ]
        wanted = [document for document, changed in zip(documents, stale, strict=True) if changed]
        total = -(-len(wanted) // DOCUMENTS_PER_BATCH)
        for some in get_tqdm_iterable(batches(wanted), show_progress and bool(wanted), "Indexing", total=total):
            self._write(some)
        return stale

    def add_knowledge(self, *, entities: Iterable[str] = (), triples: Triples | None = None) -> None:
        """Add names and facts that you know of; see `from_documents`."""
        names = list(entities)
        if names:
            self._open().graph_store.add_names(names)
        if triples is not None:
            self._open().graph_store.add_facts(facts_of(triples))

    async def ainsert(self, document: Document) -> None:
        """Add a document from an event loop, on a thread of ours."""
        await in_thread(self.insert, document)

    async def adelete_ref_doc(self, ref_doc_id: str) -> None:
        """Remove a document from an event loop, on a thread of ours."""
        await in_thread(self.delete_ref_doc, ref_doc_id)

    async def arefresh_ref_docs(self, documents: Sequence[Document]) -> list[bool]:
        """Add new and changed documents from an event loop, on a thread of ours."""
        return await in_thread(self.refresh_ref_docs, documents)

    def _write(self, documents: Sequence[Document]) -> None:
        nodes: Sequence[BaseNode] = list(documents)
        for transformation in self._transformations:
            nodes = transformation(nodes)
        with self._lock:
            self._open()._ingestion.write([document.doc_id for document in documents], nodes, {})

    def _adopt(self, nodes: Sequence[BaseNode], graph: PropertyGraphStore | None, show_progress: bool) -> None:
        groups = list(owned(nodes).items())
        facts = facts_from_property_graph(graph) if graph is not None else []
        by_node: dict[str, list[Fact]] = {}
        for fact in facts:
            by_node.setdefault(fact.node_id or "", []).append(fact)
        known = {node.node_id for node in nodes}
        for some in get_tqdm_iterable(list(batches(groups)), show_progress, "Linking"):
            self._ingestion.link([doc_id for doc_id, _ in some], [node for _, group in some for node in group], by_node)
        self.graph_store.add_facts([fact for fact in facts if fact.node_id not in known])

    # -- reading ------------------------------------------------------------------------------------------------------

    def as_retriever(
        self,
        *,
        similarity_top_k: int = 10,
        stores: Sequence[str] = ("vector", "keyword", "graph"),
        weights: Mapping[str, float] | None = None,
        mode: Mode = "rrf",
        filters: object = None,
        hops: int = 2,
        deadline_s: float | None = DEADLINE_S,
        **kwargs: Any,
    ) -> HybridRetriever:
        """Give the memories side by side, fused.

        Args:
            similarity_top_k: nodes handed back.
            stores: which memories to ask.
            weights: by memory, in place of the defaults (`memories.WEIGHTS`).
            mode: "rrf" fuses by rank, "score" by score.
            filters: anything `filters.parse` takes; every memory applies it.
            hops: of the graph search; 1 is faster.
            deadline_s: seconds each memory has; None: no limit.
            **kwargs: for `HybridRetriever`.
        """
        from .retriever import HybridRetriever

        named = memory_stores(self._open(), stores, similarity_top_k, weights or {}, filters, hops, deadline_s)
        return HybridRetriever(
            named, mode=mode, similarity_top_k=similarity_top_k, embed_model=self.embed_model, **kwargs
        )

    def as_query_engine(self, llm: LLM | None = None, **kwargs: Any) -> HybridRouterQueryEngine:
        """Give the router engine over this index; arguments of `as_retriever` and of `from_defaults` may be mixed."""
        from .query_engine import HybridRouterQueryEngine

        retriever = self.as_retriever(**{key: kwargs.pop(key) for key in list(kwargs) if key in RETRIEVER_ARGUMENTS})
        return HybridRouterQueryEngine.from_defaults(
            retriever,
            llm=llm,
            frequencies=self.graph_store.document_frequencies,
            corpus_size=lambda: self.graph_store.passage_count,
            counted_by="graph",
            **kwargs,
        )

    def as_chat_engine(self, llm: LLM | None = None, *, engine: Mapping[str, Any] | None = None, **kwargs: Any) -> Any:
        """Give a chat engine over this index; `engine` holds arguments of `as_query_engine`."""
        return self.as_query_engine(llm, **(engine or {})).as_chat_engine(**kwargs)

    def evaluate(self, questions: Any, **kwargs: Any) -> EvaluationReport:
        """Measure retrieval on your own questions; see `evaluation.evaluate`."""
        from .evaluation import evaluate

        return evaluate(self, questions, **kwargs)

    # -- looking after ------------------------------------------------------------------------------------------------

    @property
    def ref_doc_info(self) -> dict[str, RefDocInfo]:
        """Node ids of every document."""
        graph = self._open().graph_store
        return {doc_id: RefDocInfo(node_ids=graph.document_node_ids(doc_id)) for doc_id in graph.documents()}

    def tenant(self, name: str) -> HybridMemoryIndex:
        """Give a tenant's own partition: own documents, dictionary and frequencies, same encoder and settings.

        Nothing that is added to one partition changes any result or score of another.

        Raises:
            ConfigurationError: an unusable name, or a tenant of a tenant, or of an index made by `from_existing`.
        """
        if not self._ours:
            raise ConfigurationError("an index over an existing vector store has no tenants; make one index for each")
        with self._opening:  # not the writers' lock, which may be held while a server works
            self._open()
            found = self._tenants.get(name)
            if found is None or found._closed:
                found = self._tenants[name] = self._open_tenant(name)
            return found

    def _open_tenant(self, name: str) -> HybridMemoryIndex:
        place = tenant_folder(self.folder or Path(), name)  # checks the name in memory, too
        given = self._given.tenant(name)
        manifest = replace(self.manifest, served=given.served)
        if self.folder is None:
            return self._create(None, self.embed_model, manifest, given, self._options)
        if (place / FILE).exists():
            return self._reopen(place, self.embed_model, given, self._options)
        return self._create(place, self.embed_model, manifest, given, self._options)

    def stats(self) -> dict[str, Any]:
        """Describe the store, JSON-safe: counts, bytes, encoder, drift of the keyword statistics."""
        graph = self._open().graph_store
        vectors = self.vector_store.stats() if isinstance(self.vector_store, PointVectorStore) else {}
        return {
            "folder": str(self.folder) if self.folder is not None else None,
            "encoder": self.manifest.encoder,
            "language": self.manifest.language,
            "graph": graph.stats(),
            "vector": vectors,
        }

    def optimize(self, *, child: bool = False) -> None:
        """Build the vector store's search index; see `QdrantEdgeVectorStore.optimize` for what it holds up meanwhile.

        Args:
            child: do it in a child process, with the store closed here meanwhile.
        """
        if isinstance(self.vector_store, QdrantEdgeVectorStore):
            with self._lock:
                if child:
                    self.vector_store.optimize_in_child()
                else:
                    self.vector_store.optimize()

    def reindex_sparse(self) -> None:
        """Measure the average length anew and rewrite the keyword vectors with it."""
        if isinstance(self.vector_store, PointVectorStore):
            with self._lock:
                self.vector_store.reindex_sparse()

    def close(self) -> None:
        """Close every store that the index has made, those of tenants included; closing twice is fine."""
        with self._lock, self._opening:
            self._closed = True
            for partition in self._tenants.values():
                partition.close()
            self._closing()

    def __enter__(self) -> HybridMemoryIndex:
        """Use as a context manager that closes the index."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _open(self) -> HybridMemoryIndex:
        if self._closed:
            raise StoreClosedError(f"the index {self.folder or 'in memory'} is closed")
        return self
