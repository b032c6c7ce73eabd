"""Nodes and stores that the tests of the vector store share."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

from llama_index_hybridmem.vector.store import QdrantEdgeVectorStore

DIMENSION = 8
WORDS = "memory cell row refresh charge sense latch bit page block erase wear flash oxide gate plate fuse".split()


@contextlib.contextmanager
def small_store(**options: Any) -> Iterator[QdrantEdgeVectorStore]:
    """A store for the length of a test, in shared memory where there is some: a busy disk costs a second per store."""
    memory = Path("/dev/shm")
    place = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
    with place as folder, QdrantEdgeVectorStore(Path(folder) / "store", **options) as store:
        yield store


def unit(seed: int, dimension: int = DIMENSION) -> list[float]:
    """A random vector of length 1, the same for the same seed; its floats are exact in 32 bits."""
    vector = np.random.default_rng(seed).standard_normal(dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32).tolist()  # type: ignore[no-any-return]


def text(seed: int, length: int = 12) -> str:
    """A random text of a few common and many rare words."""
    ranks = np.random.default_rng(seed).zipf(1.5, length) % len(WORDS)
    return " ".join(WORDS[rank] for rank in ranks)


def make_node(
    node_id: str,
    content: str = "word",
    embedding: Sequence[float] | None = None,
    document: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> TextNode:
    """A node, of a source document if one is named."""
    source = {} if document is None else {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document)}
    return TextNode(
        id_=node_id,
        text=content,
        embedding=None if embedding is None else list(embedding),
        metadata=dict(metadata or {}),
        relationships=source,
    )


def corpus(count: int, start: int = 0, dimension: int = DIMENSION) -> list[TextNode]:
    """Random nodes `n0`, `n1`, … in documents of three."""
    return [
        make_node(f"n{i}", text(i), unit(i, dimension), f"d{i // 3}", {"number": i, "even": i % 2 == 0})
        for i in range(start, start + count)
    ]


def cosines(nodes: Sequence[TextNode], query: Sequence[float]) -> dict[str, float]:
    """The cosine of every node with a query."""
    return {
        node.node_id: float(
            np.dot(node.embedding, query) / np.linalg.norm(node.embedding) / np.linalg.norm(query)  # type: ignore[arg-type]
        )
        for node in nodes
    }


def ranked(scores: Mapping[str, float]) -> list[str]:
    """Ids, best first, ties by id."""
    return sorted(scores, key=lambda node_id: (-scores[node_id], node_id))
