"""What a store on a server was made with, as its points carry it; keeps nothing and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import qdrant_edge as edge

from ..errors import StoreMismatchError
from .files import Settings
from .points import TENANT, WEIGHED
from .server_collection import TENANTS, Collection
from .server_wire import for_server
from .writing import Wish


def settings_of(collection: Collection, wish: Wish, tenant: str | None) -> Settings | None:
    """Read the settings of a store off one of its points.

    Args:
        collection: where its points are.
        wish: what it is to be like.
        tenant: whose it is; None: the collection is one store.

    Returns:
        None while there are no points.

    Raises:
        StoreMismatchError: it is not like that, is no store of ours, or is shared by tenants though none is given, or
            not shared though one is.
    """
    described = collection.describe()
    if described is None:
        return None
    dimension = collection.dimension(described)
    anyone = _carried(collection, None)
    if anyone is not None and (TENANT in anyone) != (tenant is not None):
        base = collection.name.removesuffix(TENANTS)
        kind = f"is shared by tenants: open {base!r} with tenant=" if tenant is None else "is not shared by tenants"
        raise StoreMismatchError(f"collection {collection.name!r} {kind}, or take another collection_name")
    own = anyone if anyone is None or tenant is None else _carried(collection, only(tenant))
    if own is None:
        return None
    found = Settings(dimension, *_weighed(collection, own), collection.number_fields(described))
    wish.check(found, f"collection {collection.name!r}")
    return found


def only(tenant: str) -> edge.Filter:
    """A tenant's points."""
    return edge.Filter(must=[edge.FieldCondition(TENANT, match=edge.MatchAny([tenant]))])


def _carried(collection: Collection, condition: edge.Filter | None) -> dict[str, Any] | None:
    """What one point carries beside its node; None where there is no point."""
    condition_there = for_server(condition)
    page, _ = collection.ask("scroll", scroll_filter=condition_there, limit=1, with_payload=[WEIGHED, TENANT])
    return dict(page[0].payload or {}) if page else None


def _weighed(collection: Collection, carried: Mapping[str, Any]) -> tuple[str, float]:
    weighed = carried.get(WEIGHED)
    if not isinstance(weighed, Mapping):
        raise StoreMismatchError(
            f"collection {collection.name!r} holds points that were not written by QdrantServerVectorStore; read them "
            "with LlamaIndex's QdrantVectorStore, or take another collection"
        )
    return str(weighed["language"]), float(weighed["average_length"])
