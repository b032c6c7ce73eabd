"""One collection on a Qdrant server: made, checked, indexed and described; reads and writes no node.

Its layout is the embedded store's and that of LlamaIndex's Qdrant store with hybrid search. What a store was made with
is found again on its points, not beside them: any process that reads one point knows it, under any server version, and
each tenant has its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import StoreMismatchError
from .conditions import field_path
from .files import Settings
from .points import DENSE, SPARSE, TENANT, TERMS, WINDOWS
from .server_client import Client
from .server_errors import NoCollectionError, TakenError, guarded

if TYPE_CHECKING:
    from qdrant_client import models

SINCE = (1, 19)
"""The first server that counts document frequencies within a part of a collection, and takes a corpus to count in."""
TENANTS = "-tenants"
"""What the name of a collection of tenants has behind that of the store that they are tenants of."""
_DOCUMENT_KEYS = ("doc_id", "ref_doc_id", "document_id")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Creation:
    """How a new collection is made, as Qdrant's `create_collection` takes it.

    Attributes:
        on_disk: whether vectors stay on disk.
        hnsw_config: None: Qdrant's defaults; in a collection of tenants, a graph for each and none across them.
        options: `quantization_config`, `replication_factor`, `shard_number` and the like.
    """

    on_disk: bool | None = None
    hnsw_config: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)


class Collection:
    """A collection by name. Safe to share between threads; asks nothing before it is asked.

    Args:
        client: asked for everything.
        name: of the collection.
        creation: how to make it.
        tenants: whether tenants share it.
    """

    def __init__(self, client: Client, name: str, creation: Creation, *, tenants: bool) -> None:
        self.client = client
        self.name = name
        self.tenants = tenants
        self._creation = creation
        self._version: tuple[int, ...] | None = None

    def ask(self, method: str, **arguments: Any) -> Any:
        """Call a method of the client on this collection; errors as `server_errors.guarded` has them."""
        with guarded(f"collection {self.name!r}"):
            return self.client.ask(method, {"collection_name": self.name, **arguments})

    def describe(self) -> models.CollectionInfo | None:
        """What the server says of it; None where it is not there."""
        try:
            found: models.CollectionInfo = self.ask("get_collection")
        except NoCollectionError:
            return None
        return found

    def scopes_frequencies(self) -> bool:
        """Whether the server can count document frequencies within a part of the collection; asked once."""
        if self._version is None and not self.client.is_local:
            with guarded("Qdrant server"):
                said = str(self.client.ask("info", {}).version)
            self._version = tuple(int(number) for number in re.findall(r"\d+", said)[:2])
        return self._version is None or self._version >= SINCE

    def make(self, settings: Settings) -> Settings:
        """Make it, unless it is there, with its indexes.

        Returns:
            The settings as they came true: with the number indexes that there are.

        Raises:
            StoreMismatchError: it is there, with another layout.
        """
        described = self.describe()
        if described is None:
            with suppress(TakenError):  # by another process, just now
                self._create(settings.dimension)
            described = self.describe()
        assert described is not None, "made or found"
        dimension = self.dimension(described)
        if dimension != settings.dimension:
            raise StoreMismatchError(
                f"collection {self.name!r} has vectors of {dimension} floats, not {settings.dimension}: embed with the "
                "model it was built with, or take another collection"
            )
        if not self.client.is_local:  # local mode has no indexes, and says so in a warning
            self._index(described, settings.number_fields)
        return Settings(dimension, settings.language, settings.average_length, self.number_fields(self.describe()))

    def dimension(self, described: models.CollectionInfo) -> int:
        """Floats per vector.

        Raises:
            StoreMismatchError: its vectors are not ours.
        """
        vectors, sparse = described.config.params.vectors, described.config.params.sparse_vectors or {}
        named = vectors if isinstance(vectors, Mapping) else {}
        modifier = getattr(sparse.get(SPARSE), "modifier", None)
        if not {DENSE, WINDOWS} <= named.keys() or str(getattr(modifier, "value", modifier)) != "idf":
            raise StoreMismatchError(
                f"collection {self.name!r} was not made by QdrantServerVectorStore: it lacks {DENSE!r}, {WINDOWS!r} or "
                f"{SPARSE!r} with the IDF modifier. LlamaIndex's QdrantVectorStore may read it as it is"
            )
        return int(named[DENSE].size)

    def number_fields(self, described: models.CollectionInfo | None) -> tuple[str, ...]:
        """Metadata fields with a number index."""
        schema = described.payload_schema if described is not None else {}
        keys = [_own_key(path) for path, index in schema.items() if str(index.data_type.value) == "float"]
        return tuple(key for key in keys if key is not None)

    def _create(self, dimension: int) -> None:
        from qdrant_client import models

        several = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
        cosine: dict[str, Any] = {
            "size": dimension,
            "distance": models.Distance.COSINE,
            "on_disk": self._creation.on_disk,
        }
        hnsw = self._creation.hnsw_config
        if hnsw is None and self.tenants:
            hnsw = models.HnswConfigDiff(m=0, payload_m=16)
        self.ask(
            "create_collection",
            vectors_config={
                DENSE: models.VectorParams(**cosine),
                WINDOWS: models.VectorParams(**cosine, multivector_config=several),
            },
            sparse_vectors_config={SPARSE: models.SparseVectorParams(modifier=models.Modifier.IDF)},
            hnsw_config=hnsw,
            **self._creation.options,
        )

    def _index(self, described: models.CollectionInfo, number_fields: tuple[str, ...]) -> None:
        from qdrant_client import models

        keyword = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD)
        wanted: dict[str, Any] = dict.fromkeys((TERMS, *_DOCUMENT_KEYS), keyword)
        if self.tenants:
            wanted[TENANT] = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
        wanted |= dict.fromkeys(map(field_path, number_fields), models.PayloadSchemaType.FLOAT)
        for path, schema in wanted.items():
            if path not in described.payload_schema:
                self.ask("create_payload_index", field_name=path, field_schema=schema, wait=True)


def _own_key(path: str) -> str | None:
    """The metadata field that an index is on; None for a path into one, which we never make."""
    if path.startswith('"') and path.endswith('"') and path.count('"') == 2:
        return path[1:-1]
    return path if _PLAIN_KEY.fullmatch(path) else None
