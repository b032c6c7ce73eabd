"""Nodes into one store: checks them all before the first is written, makes the store, weighs and reweighs the terms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast
from uuid import UUID

import qdrant_edge as edge
from llama_index.core.schema import BaseNode, MetadataMode

from ..errors import ConfigurationError, InvalidVectorError, StoreMismatchError
from ..filters import elements, kind
from .base import Points, Record, content
from .conditions import can_index
from .files import Settings
from .points import DENSE, LENGTH, SPARSE, WINDOWS, payload, to_node
from .search import checked_vector
from .sparse import Bm25Encoder

NUMBER_FIELDS = 16
"""Fields of the first nodes that get a number index unasked: more than people filter on, and each costs a write."""

Windows = Mapping[str, Sequence[Sequence[float]]]


@dataclass(frozen=True)
class Wish:
    """What a new store is to be like, as far as its maker said.

    Attributes:
        dimension: None: that of the first vector.
        language: None: English.
        average_length: None: that of the first nodes.
        indexed_fields: fields that get a number index whatever the first nodes hold.
    """

    dimension: int | None = None
    language: str | None = None
    average_length: float | None = None
    indexed_fields: tuple[str, ...] = ()

    def check(self, settings: Settings, place: str) -> None:
        """Refuse a store that is there already and is not like this.

        Raises:
            StoreMismatchError: names both.
        """
        for name in ("dimension", "language"):
            asked, found = getattr(self, name), getattr(settings, name)
            if asked is not None and asked != found:
                raise StoreMismatchError(
                    f"{place} was built with {name} {found!r}, not {asked!r}; open it with that one, or build another"
                )


class Writer:
    """Writes nodes into a store. Safe to share between threads.

    Args:
        points: the store's; the first nodes make it.
        wish: what it is to be like then.
    """

    def __init__(self, points: Points, wish: Wish) -> None:
        self._points = points
        self._wish = wish
        self._encoder: Bm25Encoder | None = None

    def add(self, nodes: Sequence[BaseNode], windows: Windows) -> None:
        """Write nodes; one with a known id replaces what was there.

        Args:
            nodes: each with an embedding.
            windows: by node id, several vectors of a node that is longer than the encoder reads.

        Raises:
            InvalidVectorError: an embedding is missing, of another length, or not finite; nothing is written then.
            ConfigurationError: windows of a node that is not among these.
        """
        if strangers := sorted(set(windows) - {node.node_id for node in nodes}):
            raise ConfigurationError(f"windows of nodes that are not being added: {strangers[:5]}")
        dimension = self._dimension()
        for node in nodes:
            dimension = len(checked_vectors(node, windows, dimension)[DENSE])
        texts = [text_of(node) for node in nodes]
        self._make(nodes, texts, dimension or 0)
        self._points.upsert(self._made(nodes, texts, windows))

    def encoder(self) -> Bm25Encoder:
        """The encoder of the store as it is."""
        settings = self._points.settings
        if settings is None:
            return Bm25Encoder(self._wish.language or "english")
        known = self._encoder
        if known is None or (known.language, known.average_length) != (settings.language, settings.average_length):
            known = self._encoder = Bm25Encoder(settings.language, settings.average_length)
        return known

    def average_length(self) -> float | None:
        """The average number of terms of what is stored now; reads all points. None if there are none."""
        total = count = 0
        for record in self._records([LENGTH]):
            total, count = total + content(record)[LENGTH], count + 1
        return total / count if count else None

    def reweigh(self) -> float | None:
        """Measure the average length anew and weigh every point's terms by it.

        Returns:
            The new average; None if there are no points. A kill on the way leaves the old one in the settings, with
            some points at the new: do it again.
        """
        average = self.average_length()
        settings = self._points.settings
        if average is None or settings is None:
            return None
        changed = replace(settings, average_length=max(average, 1.0))
        with self._points.lock:
            self._points.settings = changed  # in memory: nodes that are added meanwhile are weighed by the new average
        encoder = self.encoder()
        self._points.revise((cast(UUID, record.id), weighed(encoder, record)) for record in self._records(True))
        self._points.amend(changed)
        return changed.average_length

    def _records(self, keys: bool | list[str]) -> Iterator[Record]:
        if self._points.settings is not None:
            for page in self._points.pages(None, keys):
                yield from page

    def _dimension(self) -> int | None:
        return self._points.settings.dimension if self._points.settings else self._wish.dimension

    def _make(self, nodes: Sequence[BaseNode], texts: Sequence[str], dimension: int) -> None:
        with self._points.lock:
            if self._points.settings is None:
                wish = self._wish
                encoder = Bm25Encoder(wish.language or "english")
                average = wish.average_length if wish.average_length is not None else encoder.average(texts)
                encoder.with_average(average)  # refuses what is no length, before anything is made
                fields = tuple(dict.fromkeys(filter(can_index, (*wish.indexed_fields, *number_fields(nodes)))))
                self._points.make(Settings(dimension, encoder.language, average, fields))
            # Another thread, or another process before us, may have made it of other vectors since they were checked.
            made = self._points.settings
            if made is None or made.dimension != dimension:
                raise InvalidVectorError(f"vectors of {dimension} floats do not fit the store: {made}")

    def _made(self, nodes: Sequence[BaseNode], texts: Sequence[str], windows: Windows) -> Iterator[edge.Point]:
        encoder, dimension = self.encoder(), self._dimension()
        for node, text in zip(nodes, texts, strict=True):
            vectors = {**checked_vectors(node, windows, dimension), SPARSE: sparse_vector(encoder, text)}
            yield edge.Point(self._points.point_id(node.node_id), vectors, payload(node, encoder.length(text)))


def checked_vectors(node: BaseNode, windows: Windows, dimension: int | None) -> dict[str, Any]:
    """A node's own vector and those of its windows, by the engine's names.

    Args:
        node: with an embedding.
        windows: by node id.
        dimension: floats per vector; None: as many as the node's own has.

    Raises:
        InvalidVectorError: one is missing, of another length, or not finite.
    """
    if node.embedding is None:
        raise InvalidVectorError(f"node {node.node_id} has no embedding: embed nodes before adding them")
    own = checked_vector(node.embedding, dimension, f"the embedding of node {node.node_id}")
    several = [
        checked_vector(one, len(own), f"a window of node {node.node_id}") for one in windows.get(node.node_id, ())
    ]
    return {DENSE: own, WINDOWS: several} if several else {DENSE: own}


def number_fields(nodes: Iterable[BaseNode]) -> list[str]:
    """The first metadata fields that hold numbers, in the order of their appearance."""
    found: dict[str, None] = {}
    for node in nodes:
        for key, field in node.metadata.items():
            if any(kind(scalar) == "number" for scalar in elements(field)):
                found[key] = None
                if len(found) == NUMBER_FIELDS:
                    return list(found)
    return list(found)


def weighed(encoder: Bm25Encoder, record: Record) -> dict[str, edge.NamedVector]:
    """The keyword vector of a stored node, by the engine's name, as an encoder weighs it."""
    return {SPARSE: sparse_vector(encoder, text_of(to_node(content(record))))}


def sparse_vector(encoder: Bm25Encoder, text: str) -> edge.SparseVector:
    """A text's BM25 vector as the engine takes it."""
    (indices,), (values,) = encoder.embed_documents([text])
    return edge.SparseVector(indices, values)


def text_of(node: BaseNode) -> str:
    """What keyword search sees of a node: what the embedding model sees.

    Raises:
        ConfigurationError: half a surrogate pair is no text, and the engine's message for it no help.
    """
    text = node.get_content(metadata_mode=MetadataMode.EMBED)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"node {node.node_id} cannot be stored: {error}") from error
    return text
