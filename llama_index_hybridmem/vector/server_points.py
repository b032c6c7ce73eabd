"""One store's points in a collection on a Qdrant server, all or one tenant's; knows no node and no filter tree.

Of a tenant's store every search, scan, write and delete names the tenant; what a read by id brings is looked through.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import qdrant_edge as edge

from ..errors import StoreClosedError, StoreMismatchError, StoreUnavailableError
from .base import PointHits
from .files import Settings
from .points import DENSE, NODE_ID, SPARSE, TENANT, WEIGHED, WINDOWS, own_node_id, point_id
from .server_collection import SINCE, Collection
from .server_errors import NoCollectionError
from .server_settings import only, settings_of
from .server_wire import ServerRecord, for_server, is_ours, vectors_for_server, vectors_from_server
from .shard import PAGE, UPSERT, batches
from .writing import Wish

if TYPE_CHECKING:
    from qdrant_client import models

_KNOWN = 10_000
"""Node ids kept from the answers to searches until somebody asks for them."""
_IDS = 1000
"""Points per read by id."""


class ServerPoints:
    """The points of one store on a server, as `base.Points` has them. Safe to share between threads and processes.

    Args:
        collection: where they are.
        wish: what the store is to be like; refused with the first call where it is not so.
        tenant: whose they are; None: the collection is one store.
    """

    writes: int | None = None

    def __init__(self, collection: Collection, wish: Wish, tenant: str | None) -> None:
        self.lock = threading.RLock()
        self.collection = collection
        self._wish = wish
        self._tenant = tenant
        self._only: list[edge.ConditionType] = [] if tenant is None else [only(tenant)]
        self._settings: Settings | None = None
        self._names: dict[UUID, str] = {}
        self._closed = False

    @property
    def settings(self) -> Settings | None:
        """What it was made with, read from one of its points and then kept; None while there are none."""
        self.check()
        if self._settings is None:
            self._settings = settings_of(self.collection, self._wish, self._tenant)
        return self._settings

    @settings.setter
    def settings(self, settings: Settings | None) -> None:
        self._settings = settings

    def check(self) -> None:
        """Raise if the store was closed."""
        if self._closed:
            raise StoreClosedError(f"the vector store in collection {self.collection.name!r} is closed")

    def point_id(self, node_id: str) -> UUID:
        """The point of a node."""
        return point_id(node_id, self._tenant)

    def make(self, settings: Settings) -> None:
        """Make the collection with its indexes, unless it is there; settings of another process stand."""
        # A tenant's first nodes get no number index unasked: with many tenants there would be no end of them.
        fields = settings.number_fields if self._tenant is None else self._wish.indexed_fields
        settings = self.collection.make(replace(settings, number_fields=fields))
        self._settings = settings_of(self.collection, self._wish, self._tenant) or settings

    def amend(self, settings: Settings) -> None:
        """Note other settings; each point carries them already."""
        self._settings = settings

    def refresh(self) -> None:
        """Read the settings anew: another process may have weighed the terms anew, or dropped the collection."""
        found = settings_of(self.collection, self._wish, self._tenant)
        if found is not None or self.collection.describe() is None:
            self._settings = found  # else made, and the first node is on its way

    def noticed_windows(self) -> None:
        """Nothing: windows are always asked for, in the same round trip."""

    def close(self) -> None:
        """Refuse further calls; twice is fine. The connection is the store's."""
        self._closed = True

    # -- questions -----------------------------------------------------------------------------------------------------

    def nearest(self, vector: list[float], limit: int, condition: edge.Filter | None, exact: bool) -> list[PointHits]:
        """The nearest points by their own vectors and by their windows', in one round trip."""
        from qdrant_client import models

        params = models.SearchParams(exact=True) if exact and not self.collection.client.is_local else None
        kinds: dict[str, Any] = {DENSE: vector, WINDOWS: [vector]}
        return self._answers([self._request(kinds[name], name, limit, condition, params) for name in kinds])

    def keywords(self, indices: list[int], values: list[float], limit: int, condition: edge.Filter | None) -> PointHits:
        """The best points by BM25."""
        from qdrant_client import models

        params = self._living()
        query = models.SparseVector(indices=indices, values=values)
        (found,) = self._answers([self._request(query, SPARSE, limit, condition, params)])
        return [(point, score) for point, score in found if score > 0]  # local mode gives points without the words, too

    def diverse(
        self, vector: list[float], limit: int, condition: edge.Filter | None, relevance: float, candidates: int
    ) -> PointHits:
        """Points by maximal marginal relevance, as they were chosen."""
        from qdrant_client import models

        mmr = models.Mmr(diversity=1 - relevance, candidates_limit=candidates)
        query = models.NearestQuery(nearest=vector, mmr=mmr)
        (found,) = self._answers([self._request(query, DENSE, limit, condition, None)])
        return found

    def names(self, points: Sequence[UUID]) -> dict[UUID, str]:
        """The node ids of points; as a rule they came with the answer that named the points."""
        known = self._names
        found = {point: known[point] for point in points if point in known}
        missing = [point for point in points if point not in found]
        for record in self._by_id(missing, [NODE_ID, TENANT], False):
            found[record.id] = (record.payload or {})[NODE_ID]
        return found

    # -- reading -------------------------------------------------------------------------------------------------------

    def retrieve(self, ids: Sequence[UUID], vectors: bool = False) -> list[ServerRecord]:
        """Read points with their payload; those that are not there are left out."""
        return self._by_id(ids, True, vectors)

    def pages(
        self,
        condition: edge.Filter | None,
        payload: bool | list[str] = False,
        *,
        vectors: bool = False,
        start: UUID | None = None,
    ) -> Iterator[list[ServerRecord]]:
        """Scan the points under a condition, in the order of their ids."""
        offset: Any = str(start) if start is not None else None
        while True:
            try:
                page, offset = self.collection.ask(
                    "scroll",
                    scroll_filter=self._mine(condition),
                    limit=PAGE,
                    offset=offset,
                    with_payload=payload,
                    with_vectors=vectors,
                )
            except NoCollectionError:
                page, offset = [], None
            yield [self._record(record) for record in page if is_ours(record.id)]
            if offset is None:
                return

    def count(self, condition: edge.Filter | None = None) -> int:
        """Count the points under a condition."""
        try:
            return int(self.collection.ask("count", count_filter=self._mine(condition), exact=True).count)
        except NoCollectionError:
            return 0

    # -- writing -------------------------------------------------------------------------------------------------------

    def upsert(self, points: Iterable[edge.Point]) -> None:
        """Write points, a few per call; each call waits until they are in."""
        from qdrant_client import models

        mark = self._mark()
        for some in batches(points, UPSERT):
            made = [
                models.PointStruct(
                    id=str(point.id), vector=vectors_for_server(point.vector), payload={**(point.payload or {}), **mark}
                )
                for point in some
            ]
            self.collection.ask("upsert", points=made, wait=True)

    def revise(self, vectors: Iterable[tuple[UUID, dict[str, edge.NamedVector]]]) -> None:
        """Put other vectors in the place of points' present ones, and note what they were weighed with."""
        from qdrant_client import models

        for some in batches(vectors, UPSERT):
            changed = [models.PointVectors(id=str(point), vector=vectors_for_server(named)) for point, named in some]
            ids: list[int | str | UUID] = [str(point) for point, _ in some]
            operations = [
                models.UpdateVectorsOperation(update_vectors=models.UpdateVectors(points=changed)),
                models.SetPayloadOperation(set_payload=models.SetPayload(payload=self._mark(), points=ids)),
            ]
            self.collection.ask("batch_update_points", update_operations=operations, wait=True)

    def remove(self, condition: edge.Filter | None) -> None:
        """Remove the points under a condition, in one call."""
        from qdrant_client import models

        selector = models.FilterSelector(filter=self._mine(condition) or models.Filter())
        try:
            self.collection.ask("delete", points_selector=selector, wait=True)
        except NoCollectionError:
            self._settings = None

    def empty(self) -> None:
        """Remove all points; the collection stays as it was made."""
        self.remove(None)
        self._settings = None

    def _mine(self, condition: edge.Filter | None) -> models.Filter | None:
        """A condition, and the tenant's."""
        if not self._only:
            return for_server(condition)
        return for_server(edge.Filter(must=[*self._only, *([condition] if condition is not None else [])]))

    def _mark(self) -> dict[str, Any]:
        """What each point carries beside its node: what it was weighed with, and whose it is."""
        settings = self.settings
        if settings is None:
            raise StoreUnavailableError(f"collection {self.collection.name!r} was dropped while nodes were being added")
        weighed = {"language": settings.language, "average_length": settings.average_length}
        return {WEIGHED: weighed, **({} if self._tenant is None else {TENANT: self._tenant})}

    def _living(self) -> models.SearchParams | None:
        """Counts document frequencies among the store's living points, where the server can."""
        from qdrant_client import models

        if self.collection.scopes_frequencies():
            corpus = self._mine(None) or models.Filter()
            return models.SearchParams(idf=models.IdfCorpusParams(corpus=corpus))
        if self._tenant is None:
            return None
        raise StoreMismatchError(
            f"keyword search for one tenant needs Qdrant {'.'.join(map(str, SINCE))} or later: this server would weigh "
            "words by how many nodes of all tenants hold them"
        )

    def _request(
        self, query: Any, name: str, limit: int, condition: edge.Filter | None, params: models.SearchParams | None
    ) -> models.QueryRequest:
        from qdrant_client import models

        return models.QueryRequest(
            query=query,
            using=name,
            limit=limit,
            filter=self._mine(condition),
            params=params,
            with_payload=[NODE_ID],  # the names come with the hits: one round trip
        )

    def _answers(self, requests: list[models.QueryRequest]) -> list[PointHits]:
        try:
            answers = self.collection.ask("query_batch_points", requests=requests)
        except NoCollectionError:  # dropped under us: an empty store
            self._settings = None
            return [[] for _ in requests]
        found = [[hit for hit in answer.points if is_ours(hit.id)] for answer in answers]
        self._note({UUID(hit.id): hit.payload for hits in found for hit in hits})
        return [[(UUID(hit.id), hit.score) for hit in hits] for hits in found]

    def _note(self, payloads: Mapping[UUID, Mapping[str, Any] | None]) -> None:
        if len(self._names) > _KNOWN:
            self._names = {}
        named = {point: (payload or {}).get(NODE_ID) or own_node_id(point) for point, payload in payloads.items()}
        self._names.update({point: name for point, name in named.items() if name is not None})

    def _by_id(self, ids: Sequence[UUID], payload: bool | list[str], vectors: bool) -> list[ServerRecord]:
        found: list[ServerRecord] = []
        for some in batches(ids, _IDS):
            try:
                records = self.collection.ask(
                    "retrieve", ids=[str(point) for point in some], with_payload=payload, with_vectors=vectors
                )
            except NoCollectionError:
                return found
            mine = (record for record in records if (record.payload or {}).get(TENANT) == self._tenant)
            found += [self._record(record) for record in mine]
        return found

    def _record(self, record: models.Record) -> ServerRecord:
        payload = record.payload
        if payload is not None:
            payload = {key: value for key, value in payload.items() if key not in (WEIGHED, TENANT)}
        return ServerRecord(UUID(str(record.id)), payload, vectors_from_server(record.vector))
