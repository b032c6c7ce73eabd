"""Our filter tree in the engine's terms, with the honesty to say where the engine cannot follow; asks nothing itself.

``translate`` gives a condition that every wanted point fulfils. Where it is not ``exact``, other points do so too, and
the caller has to evaluate the filter on what it finds. That is so for text matches, for the order of strings, and for
numbers of a field without a number index.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import qdrant_edge as edge

from ..filters import LIST_OPS, ORDER, Condition, Filter, Group, Op, Scalar, kind
from .points import OURS, TERMS, WINDOWS, extreme, extreme_term, presence_term, term

NOTHING = edge.Filter(must_not=[edge.Filter()])
WITH_WINDOWS = edge.Filter(must=[edge.HasVectorCondition(WINDOWS)])
EXACT_TO = 2.0**53
"""From here on the engine's floats do not tell neighbouring integers apart."""


@dataclass(frozen=True)
class Pushed:
    """A filter as the engine takes it.

    Attributes:
        condition: what all wanted points fulfil; None: every point may be wanted.
        exact: whether only wanted points fulfil it.
    """

    condition: edge.Filter | None
    exact: bool


def translate(filter: Filter | None, number_fields: Collection[str] = ()) -> Pushed:
    """Push a filter down as far as the engine follows ``filters.evaluate``.

    Args:
        filter: the tree; None wants everything.
        number_fields: fields that have a number index.
    """
    if filter is None:
        return Pushed(None, True)
    if isinstance(filter, Condition):
        return _condition(filter, number_fields)
    parts = [translate(part, number_fields) for part in filter.parts]
    if not parts:
        return Pushed(None, True)
    return {"and": _all, "or": _any, "not": _none}[filter.kind](parts)


def unindexed(filter: Filter, number_fields: Collection[str]) -> set[str]:
    """The fields on which a filter orders numbers, that have no number index and could have one."""
    if isinstance(filter, Group):
        return set().union(*(unindexed(part, number_fields) for part in filter.parts))
    value, key = filter.value, filter.key
    ordered = filter.op in ORDER and isinstance(value, (int, float)) and kind(value) == "number"
    return {key} if ordered and key not in number_fields and can_index(key) else set()


def field_path(key: str) -> str:
    """A metadata key as the engine's path to that one field, dots and brackets being part of the name."""
    return f'"{key}"'


def can_index(key: str) -> bool:
    """Whether the engine can be pointed at this field of the metadata."""
    return '"' not in key and "\\" not in key and key not in OURS


def with_terms(wanted: Iterable[str]) -> edge.Filter:
    """Points with any of these terms."""
    return edge.Filter(must=[edge.FieldCondition(TERMS, match=edge.MatchAny(list(wanted)))])


def _all(parts: list[Pushed]) -> Pushed:
    conditions: list[edge.ConditionType] = [part.condition for part in parts if part.condition is not None]
    return Pushed(edge.Filter(must=conditions) if conditions else None, all(part.exact for part in parts))


def _any(parts: list[Pushed]) -> Pushed:
    exact = all(part.exact for part in parts)
    conditions: list[edge.ConditionType] = [part.condition for part in parts if part.condition is not None]
    if len(conditions) < len(parts):
        return Pushed(None, exact or any(part.exact for part in parts if part.condition is None))
    return Pushed(edge.Filter(should=conditions), exact)


def _none(parts: list[Pushed]) -> Pushed:
    # What is not exact covers too much, so its opposite would leave out wanted points: it says nothing here.
    refused: list[edge.ConditionType] = [part.condition or edge.Filter() for part in parts if part.exact]
    return Pushed(edge.Filter(must_not=refused) if refused else None, all(part.exact for part in parts))


def _condition(condition: Condition, number_fields: Collection[str]) -> Pushed:
    key, op, value = condition.key, condition.op, condition.value
    if op is Op.IS_EMPTY:
        return Pushed(edge.Filter(must_not=[with_terms([presence_term(key)])]), True)
    if op in LIST_OPS or op in (Op.EQ, Op.NE, Op.CONTAINS):
        listed = value if isinstance(value, tuple) else (value,)
        return _equality(op, [term(key, scalar) for scalar in listed if scalar is not None])
    if op in ORDER and value is not None and not isinstance(value, tuple):
        if kind(value) == "bool":
            return Pushed(NOTHING, True)
        if kind(value) == "number" and key in number_fields and not extreme(value):
            return _number_range(key, op, value)
    return Pushed(with_terms([presence_term(key)]), False)


def _equality(op: Op, wanted: list[str]) -> Pushed:
    if op is Op.ALL:
        return Pushed(edge.Filter(must=[with_terms([one]) for one in wanted]) if wanted else None, True)
    found = with_terms(wanted)
    return Pushed(edge.Filter(must_not=[found]) if op in (Op.NE, Op.NIN) else found, True)


def _number_range(key: str, op: Op, value: Scalar) -> Pushed:
    bound = float(value)
    exact = abs(bound) < EXACT_TO
    upward = op in (Op.GT, Op.GTE)
    if exact:
        limits = edge.RangeFloat(**{op.name.lower(): bound})
    else:  # strictly above a rounded bound may be equal to it as a float
        limits = edge.RangeFloat(gte=bound) if upward else edge.RangeFloat(lte=bound)
    beyond = with_terms([extreme_term(key, 1 if upward else -1)])
    return Pushed(edge.Filter(should=[edge.FieldCondition(field_path(key), range=limits), beyond]), exact)
