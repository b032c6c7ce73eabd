"""The entity graph as a LlamaIndex retriever; ranks nothing itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.schema import NodeWithScore, QueryBundle

from ..branches import in_thread
from ..filters import parse
from .nodes import to_node
from .question import Found
from .search import GraphSearch
from .semantic import semantic_memory
from .stores.base import GraphReads
from .walk import DEFAULTS, WalkSettings

logger = logging.getLogger(__name__)

METADATA_KEY = "hybridmem"


class EntityGraphRetriever(BaseRetriever):
    """Finds passages through the names they share, without any model beyond an encoder, or none.

    Each node comes with `metadata["hybridmem"]`: the facts read from it and the path that led to it.

    Args:
        graph_store: the graph.
        vector_store: vector and keyword memory over the same nodes; `QdrantEdgeVectorStore` serves best, any LlamaIndex
            vector store will do; None: words and names alone.
        embed_model: encodes the question, and in the second hop what was found; None: as without a vector store.
        similarity_top_k: nodes handed back (default 10).
        hops: 2 (default) asks again with what the first walk found; 1 is about half the time.
        filters: anything `filters.parse` takes; nodes outside neither appear nor carry mass.
        budget_s: seconds a query should take; when half are gone after the first walk, the second hop is left out.
        settings: the numbers of the method.
        callback_manager: LlamaIndex's.

    Raises:
        FilterError: a malformed filter.
    """

    needs_embedding = False
    """Tells `HybridRetriever` that a failed encoder does not fail this branch."""

    def __init__(
        self,
        graph_store: GraphReads,
        *,
        vector_store: object | None = None,
        embed_model: BaseEmbedding | None = None,
        similarity_top_k: int = 10,
        hops: int = 2,
        filters: object = None,
        budget_s: float | None = None,
        settings: WalkSettings = DEFAULTS,
        callback_manager: CallbackManager | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(callback_manager=callback_manager, **kwargs)
        self._embed_model = embed_model
        self.similarity_top_k = similarity_top_k
        self.hops = hops
        self._keep = parse(filters)
        self._budget_s = budget_s
        memory = semantic_memory(vector_store, graph_store) if vector_store is not None else None
        encode = self._encode if embed_model is not None else None
        self._search = GraphSearch(graph_store, memory, encode, settings=settings)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        embedding, notes = self._embedding(query_bundle)
        answer = self._search.search(
            query_bundle.query_str,
            embedding,
            top_k=self.similarity_top_k,
            hops=self.hops,
            keep=self._keep,
            budget_s=self._budget_s,
        )
        return [_with_provenance(found, [*notes, *answer.notes]) for found in answer.found]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await in_thread(self._retrieve, query_bundle)

    def _embedding(self, query_bundle: QueryBundle) -> tuple[Sequence[float] | None, list[str]]:
        """Give the question's vector, and a note when the encoder failed."""
        if query_bundle.embedding is not None or self._embed_model is None or not query_bundle.embedding_strs:
            return query_bundle.embedding, []
        try:
            return self._embed_model.get_agg_embedding_from_queries(query_bundle.embedding_strs), []
        except Exception as error:  # noqa: BLE001  # any encoder; the graph works on words and names, too
            logger.warning("graph search goes on without vectors: the encoder failed: %s", error)
            return None, [f"vectors left out: the encoder failed: {type(error).__name__}: {error}"]

    def _encode(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        assert self._embed_model is not None  # only handed on where there is one
        if getattr(self._embed_model, "symmetric", False):  # questions and passages are encoded alike: one batch
            return self._embed_model.get_text_embedding_batch(list(texts))
        return [self._embed_model.get_query_embedding(text) for text in texts]


def _with_provenance(found: Found, notes: Sequence[str]) -> NodeWithScore:
    node = to_node(found.passage)
    why = {"facts": [str(fact) for fact in found.facts], "path": found.path, "notes": list(notes)}
    node.metadata[METADATA_KEY] = why
    for hidden in (node.excluded_llm_metadata_keys, node.excluded_embed_metadata_keys):
        if METADATA_KEY not in hidden:
            hidden.append(METADATA_KEY)
    return NodeWithScore(node=node, score=found.score)
