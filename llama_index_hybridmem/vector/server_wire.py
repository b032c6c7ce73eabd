"""Conditions and vectors in the words of a Qdrant server; asks nothing.

Elsewhere our code speaks of them in the embedded engine's classes, which mean the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import qdrant_edge as edge

if TYPE_CHECKING:
    from qdrant_client import models


@dataclass(frozen=True)
class ServerRecord:
    """A point as it was read: see `base.Record`."""

    id: UUID
    payload: dict[str, Any] | None
    vector: Any = None


def for_server(condition: edge.Filter | None) -> models.Filter | None:
    """A condition in the server's classes."""
    from qdrant_client import models

    if condition is None:
        return None
    return models.Filter(must=_all(condition.must), should=_all(condition.should), must_not=_all(condition.must_not))


def vectors_for_server(vectors: Any) -> dict[str, Any]:
    """A point's vectors, a mapping by name, in the server's classes."""
    from qdrant_client import models

    return {
        name: models.SparseVector(indices=vector.indices, values=vector.values)
        if isinstance(vector, edge.SparseVector)
        else vector
        for name, vector in vectors.items()
    }


def vectors_from_server(vectors: Any) -> dict[str, Any] | None:
    """A point's vectors, a mapping by name or None, as we speak of them."""
    if vectors is None:
        return None
    return {
        name: edge.SparseVector(list(vector.indices), list(vector.values)) if hasattr(vector, "indices") else vector
        for name, vector in vectors.items()
    }


def is_ours(point: object) -> bool:
    """Whether a point's id is a UUID, as all of ours are; a server takes integers, too."""
    try:
        UUID(str(point))
    except ValueError:
        return False
    return not isinstance(point, int)


def _all(conditions: Iterable[edge.ConditionType] | None) -> list[models.Condition] | None:
    return None if conditions is None else [_one(condition) for condition in conditions]


def _one(condition: edge.ConditionType) -> models.Condition:
    from qdrant_client import models

    if isinstance(condition, edge.Filter):
        return for_server(condition) or models.Filter()
    if isinstance(condition, edge.HasIdCondition):
        return models.HasIdCondition(has_id=sorted(str(point) for point in condition.point_ids))
    if isinstance(condition, edge.HasVectorCondition):
        return models.HasVectorCondition(has_vector=condition.vector)
    assert isinstance(condition, edge.FieldCondition), "no other conditions are made here"
    if condition.range is not None:
        limits = {name: getattr(condition.range, name) for name in ("gt", "gte", "lt", "lte")}
        return models.FieldCondition(key=condition.key, range=models.Range(**limits))
    assert isinstance(condition.match, edge.MatchAny), "no other matches are made here"
    return models.FieldCondition(key=condition.key, match=models.MatchAny(any=condition.match.value))
