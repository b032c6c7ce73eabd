"""A Qdrant server as a LlamaIndex vector store that keeps what the embedded store keeps, and finds what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode

from ..errors import ConfigurationError
from ..extras import require
from .conditions import can_index
from .point_store import PointVectorStore
from .server_client import TIMEOUT_S, WRITE_TIMEOUT_S, Client, client_of
from .server_collection import TENANTS, Collection, Creation
from .server_points import ServerPoints
from .writing import Windows, Wish

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient, QdrantClient

_CREATION = frozenset(
    "quantization_config replication_factor write_consistency_factor shard_number on_disk_payload optimizers_config "
    "wal_config strict_mode_config".split()
)


class QdrantServerVectorStore(PointVectorStore):
    """What `QdrantEdgeVectorStore` is, on a server that many processes share: the same hits with the same scores.

    Dense, BM25, hybrid and MMR search, windows of long nodes, any node ids, and filters that mean the same on every
    field. Nothing is asked of the server before the first call. Points are laid out as LlamaIndex's `QdrantVectorStore`
    lays them out, which can read them; what was written by that one is refused here, as it lacks what our filters need.

    Give `url`, or a client of yours: blocking, async or both. Its methods can be called from threads and from event
    loops whichever it is.

    Args:
        collection_name: made by the first `add` where it is not there. Tenants share another, its name and `-tenants`,
            so that a store and its tenants can be there side by side, and neither weighs in the other's scores.
        url: of the server, `http://localhost:6333` say.
        api_key: of the server; never shown or serialised.
        client: a blocking client.
        aclient: an async client; where it speaks to a server, another with its settings is made, since it belongs to
            your event loop. Of both clients this one is asked, as its calls can be cancelled.
        tenant: whose nodes these are, in the collection that tenants share; every read, write and delete names it, and
            neither hits nor scores depend on what others have stored. Keyword search by tenant needs Qdrant 1.19.
        dimension: floats per vector; None: that of the store, or of the first vector.
        language: of BM25's stemmer and stop words; None: that of the store, or English.
        average_length: BM25 terms per node that keyword vectors are weighed with, in a new store; None: measured on the
            first `add`. Say it where several processes start to fill a store at once.
        indexed_fields: metadata fields whose numbers are compared by `<` and `>`, indexed when the store is made. So
            are those of the first nodes, except a tenant's.
        timeout_s: seconds a read has, less where the work under way has less left. A blocking client keeps its own.
        write_timeout_s: seconds a write has.
        on_disk: whether a new collection keeps its vectors on disk.
        hnsw_config: of a new collection; None: Qdrant's defaults, in a collection of tenants a graph for each tenant.
        client_options: for the client that `url` is asked with, such as `prefer_grpc`.
        **creation: of a new collection, as Qdrant's `create_collection` takes them: `quantization_config`,
            `replication_factor`, `write_consistency_factor`, `shard_number`, `on_disk_payload`, `optimizers_config`,
            `wal_config`, `strict_mode_config`.

    Raises:
        ConfigurationError: an argument that cannot be.
        MissingExtraError: the client is not installed.
    """

    collection_name: str
    url: str | None = None
    tenant: str | None = None
    dimension: int | None = None
    language: str | None = None
    average_length: float | None = None
    indexed_fields: tuple[str, ...] = ()

    _server: Client = PrivateAttr()
    _creation: Creation = PrivateAttr()
    _here: ServerPoints = PrivateAttr()
    _borrowed: bool = PrivateAttr(default=False)

    def __init__(
        self,
        collection_name: str,
        *,
        url: str | None = None,
        api_key: str | None = None,
        client: QdrantClient | None = None,
        aclient: AsyncQdrantClient | None = None,
        tenant: str | None = None,
        dimension: int | None = None,
        language: str | None = None,
        average_length: float | None = None,
        indexed_fields: Sequence[str] = (),
        timeout_s: float = TIMEOUT_S,
        write_timeout_s: float = WRITE_TIMEOUT_S,
        on_disk: bool | None = None,
        hnsw_config: Any = None,
        client_options: dict[str, Any] | None = None,
        **creation: Any,
    ) -> None:
        require("QdrantServerVectorStore", "qdrant", "qdrant_client")
        _check_address(url, client, aclient)
        if unknown := sorted(set(creation) - _CREATION):
            raise ConfigurationError(f"unknown arguments {unknown}; of a new collection: {sorted(_CREATION)}")
        fields: dict[str, Any] = {
            "collection_name": collection_name,
            "url": url,
            "tenant": checked_tenant(tenant),
            "dimension": dimension,
            "language": language,
            "average_length": average_length,
            "indexed_fields": tuple(filter(can_index, indexed_fields)),
        }
        super().__init__(**fields)
        self._creation = Creation(on_disk, hnsw_config, creation)
        self._server = client_of(
            url=url,
            api_key=api_key,
            client=client,
            aclient=aclient,
            timeout_s=timeout_s,
            write_timeout_s=write_timeout_s,
            options=client_options,
        )
        self._attach()

    @classmethod
    def class_name(cls) -> str:
        """Name it for LlamaIndex's serialisation."""
        return "QdrantServerVectorStore"

    @property
    def client(self) -> Any:
        """What the server is asked through; calls past this store name no tenant."""
        return self._server

    def for_tenant(self, tenant: str) -> QdrantServerVectorStore:
        """Give the store of a tenant, of this store or beside this tenant, over the same connection.

        It is the one that `tenant=` opens under the same `collection_name`. The connection closes with this store.
        """
        other = self.model_copy(update={"tenant": checked_tenant(tenant)})
        other._borrowed = True
        other._attach()
        return other

    def add(self, nodes: Sequence[BaseNode], *, window_embeddings: Windows | None = None, **kwargs: Any) -> list[str]:
        """Add nodes, or replace those with their ids; see `PointVectorStore.add`. Each batch is in when it returns."""
        self._here.refresh()  # what other processes have made of the store since we looked
        return super().add(nodes, window_embeddings=window_embeddings, **kwargs)

    def stats(self) -> dict[str, Any]:
        """Describe the store, JSON-safe; reads a number from every point. `QdrantEdgeVectorStore.stats` has the words.

        `indexed_vectors` and `segments` are the whole collection's, also of a tenant's store.
        """
        self._here.refresh()
        settings = self._here.settings
        about = {"collection": self._here.collection.name, "tenant": self.tenant}
        described = self._here.collection.describe()
        if settings is None or described is None:
            return {**about, "points": 0, "dimension": self.dimension, "language": self.language or "english"}
        return {
            **about,
            "points": self._here.count(),
            "points_with_windows": self._searcher.count_windows(),
            "indexed_vectors": described.indexed_vectors_count or 0,
            "segments": described.segments_count,
            "dimension": settings.dimension,
            "language": settings.language,
            "number_fields": list(settings.number_fields),
            **self._average_stats(settings.average_length),
        }

    def close(self) -> None:
        """Refuse further calls, and close the connection unless it is the app's; twice is fine."""
        super().close()
        if not self._borrowed:
            self._server.close()

    def __enter__(self) -> QdrantServerVectorStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _attach(self) -> None:
        shared = self.tenant is not None
        name = self.collection_name + TENANTS if shared else self.collection_name
        collection = Collection(self._server, name, self._creation, tenants=shared)
        wish = Wish(self.dimension, self.language, self.average_length, self.indexed_fields)
        self._here = ServerPoints(collection, wish, self.tenant)
        self._hold(self._here, wish)

    def _dimension(self) -> int | None:
        return self.dimension


def checked_tenant(tenant: str | None) -> str | None:
    """A tenant's name that a server can keep.

    Raises:
        ConfigurationError: an empty or overlong one, or one that is no text.
    """
    if tenant is None:
        return None
    if not isinstance(tenant, str) or not tenant.strip() or len(tenant) > 128:
        raise ConfigurationError(f"a tenant's name has 1 to 128 characters, not {tenant!r}")
    try:
        tenant.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"a tenant's name is text, not {tenant!r}") from error
    return tenant


def _check_address(url: str | None, client: object, aclient: object) -> None:
    if (url is None) == (client is None and aclient is None):
        raise ConfigurationError("give url, or client and aclient or one of them")
    if url is not None and "@" in url.split("://")[-1].split("/")[0]:
        raise ConfigurationError("the URL holds a user's name or password: give api_key instead")
