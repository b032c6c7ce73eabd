"""Places for stores on a Qdrant server: the client's local mode by either client, and a real server by QDRANT_URL."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from llama_index_hybridmem.vector.server import QdrantServerVectorStore

qdrant_client = pytest.importorskip("qdrant_client", reason="needs the extra 'qdrant'")

URL = os.environ.get("QDRANT_URL")
KINDS = ["client", "aclient", *(["url"] if URL else [])]

OpenStore = Callable[..., QdrantServerVectorStore]


@dataclass(frozen=True)
class Place:
    """Where a store can be made, and how to get at what it writes.

    Attributes:
        kind: "client" and "aclient" are the local mode, "url" is a real server.
        options: what a store is opened with.
        collection: a name that nobody else has.
    """

    kind: str
    options: dict[str, Any]
    collection: str

    def store(self, **options: Any) -> QdrantServerVectorStore:
        """Open a store; several are several processes' as far as they can tell."""
        return QdrantServerVectorStore(self.collection, **self.options, **options)


def places(kind: str) -> Iterator[Place]:
    """A place for the length of a test, empty at first and gone afterwards."""
    collection = f"test-{uuid4()}"
    if kind == "url":
        yield Place(kind, {"url": URL}, collection)
        client = qdrant_client.QdrantClient(url=URL, check_compatibility=False)
        for name in (collection, f"{collection}-tenants"):
            client.delete_collection(name)
        client.close()
    elif kind == "aclient":
        aclient = qdrant_client.AsyncQdrantClient(":memory:")
        yield Place(kind, {"aclient": aclient}, collection)
        asyncio.run(aclient.close())
    else:
        client = qdrant_client.QdrantClient(":memory:")
        yield Place(kind, {"client": client}, collection)
        client.close()
