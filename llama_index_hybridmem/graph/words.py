"""Keyword search over the graph store's own words, for apps whose vector store has none."""

from __future__ import annotations

from typing import Any

import numpy as np
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle

from ..branches import in_thread
from ..filters import parse
from .entities import terms
from .nodes import to_node
from .stores.base import GraphReads


class WordRetriever(BaseRetriever):
    """Ranks passages by BM25 over plain words, without stemming.

    Args:
        graph_store: holds the words.
        similarity_top_k: nodes handed back (default 10).
        filters: anything `filters.parse` takes.
    """

    def __init__(
        self, graph_store: GraphReads, *, similarity_top_k: int = 10, filters: object = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.similarity_top_k = similarity_top_k
        self._graph_store = graph_store
        self._keep = parse(filters)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        store = self._graph_store
        scored = store.keyword_scores(terms(query_bundle.query_str), self.similarity_top_k, self._keep)
        numbers = store.passage_ids([node_id for node_id, _ in scored])
        stored = store.load(np.fromiter(numbers.values(), dtype=np.int64))
        found = {passage.node_id: passage for passage in stored.values()}
        return [
            NodeWithScore(node=to_node(found[node_id]), score=score) for node_id, score in scored if node_id in found
        ]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await in_thread(self._retrieve, query_bundle)
