"""Puts nodes into a graph store from within an ingestion pipeline; decides nothing about names or ranking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.schema import BaseNode, TransformComponent

from ..branches import in_thread
from .entities import Extractor
from .nodes import to_passage
from .stores.base import GraphStore


class EntityGraphTransform(TransformComponent):
    """Adds every node that passes to an entity graph and hands the nodes on unchanged.

    Use it in an `IngestionPipeline` after the splitter. A pipeline with a cache skips transformations whose input it
    has seen: the graph's place is part of this one's key, so another store is filled; after deleting from a store by
    hand, clear the pipeline's cache, too.

    Args:
        graph_store: where passages, names and links go.
        use_titles: whether `metadata["title"]` is a name.
        extract_entities: proposes names for a text (any callable, `str` to names) in place of capitalised spans.
    """

    use_titles: bool = Field(default=True, description="Whether titles are names.")
    place: str = Field(default="", description="Where the graph store lies; part of a pipeline's cache key.")

    _graph_store: GraphStore = PrivateAttr()
    _extract: Extractor | None = PrivateAttr()

    def __init__(
        self,
        graph_store: GraphStore,
        *,
        use_titles: bool = True,
        extract_entities: Extractor | None = None,
        **kwargs: Any,
    ) -> None:
        place = str(getattr(graph_store, "path", None) or uuid4())  # what is in memory is filled anew by each process
        fields: dict[str, Any] = {"use_titles": use_titles, "place": place}
        super().__init__(**(fields | kwargs))
        self._graph_store = graph_store
        self._extract = extract_entities

    @classmethod
    def class_name(cls) -> str:
        """Name of the class, as LlamaIndex records it."""
        return "EntityGraphTransform"

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Add nodes to the graph, in one transaction; returns the same nodes."""
        self._graph_store.upsert([to_passage(n, use_titles=self.use_titles, extract=self._extract) for n in nodes])
        return nodes

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Do the same on a thread of our own: the event loop goes on."""
        return await in_thread(self, nodes, **kwargs)
