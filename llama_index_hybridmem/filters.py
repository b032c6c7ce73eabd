"""One small tree of metadata filters: parse it, evaluate it; knows no store and no LlamaIndex class.

``evaluate`` is the reference: whatever a store pushes down into its engine must agree with it, exactly.

A field's *elements* are what the operators look at. A missing field, None or NaN has none; a list or tuple has its
scalar members; a scalar is one element. Elements come in three kinds, bool, number (int or float) and str; two kinds
never compare equal and are never ordered against each other, so ``True`` is not ``1`` and ``"10"`` is not ``10``.

    ==  contains                          some element equals the value
    !=                                    no element does (a missing field passes)
    >  >=  <  <=                          some element of the value's kind is ordered so (numbers, or strings by code
                                          point; bool never)
    in  any                               some element is in the list
    nin                                   none is (a missing field passes)
    all                                   every listed value is an element
    text_match  text_match_insensitive    some string element contains the value (the second: both lower-cased)
    is_empty                              there are no elements; the filter's own value is ignored

Keys are literal names of top-level metadata fields: dots and brackets are part of the name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeAlias, cast

from .errors import FilterError

Scalar: TypeAlias = "str | int | float | bool"
Kind = Literal["bool", "number", "str"]

MAX_DEPTH = 64  # far deeper than anyone writes by hand, far shallower than Python's own recursion limit


class Op(str, Enum):
    """The comparisons, spelt as LlamaIndex's ``FilterOperator`` spells them."""

    EQ = "=="
    NE = "!="
    GT = ">"
    GTE = ">="
    LT = "<"
    LTE = "<="
    IN = "in"
    NIN = "nin"
    ANY = "any"
    ALL = "all"
    CONTAINS = "contains"
    TEXT_MATCH = "text_match"
    TEXT_MATCH_INSENSITIVE = "text_match_insensitive"
    IS_EMPTY = "is_empty"


LIST_OPS = frozenset({Op.IN, Op.NIN, Op.ANY, Op.ALL})
TEXT_OPS = frozenset({Op.TEXT_MATCH, Op.TEXT_MATCH_INSENSITIVE})
ORDER: Mapping[Op, Callable[[Any, Any], bool]] = {
    Op.GT: operator.gt,
    Op.GTE: operator.ge,
    Op.LT: operator.lt,
    Op.LTE: operator.le,
}


@dataclass(frozen=True)
class Condition:
    """One comparison of one metadata field.

    Attributes:
        key: the field's literal name.
        op: the comparison.
        value: a scalar, a tuple of scalars for the list operators, None for ``is_empty``.
    """

    key: str
    op: Op
    value: Scalar | tuple[Scalar, ...] | None = None


@dataclass(frozen=True)
class Group:
    """Filters under one connective: ``and`` all, ``or`` any, ``not`` none of them; empty, it restricts nothing."""

    kind: Literal["and", "or", "not"]
    parts: tuple[Filter, ...]


Filter: TypeAlias = "Condition | Group"


def parse(value: object) -> Filter | None:
    """Read a filter from any of its written forms, and check it.

    Args:
        value: None; a ``Condition`` or ``Group``; a LlamaIndex ``MetadataFilters`` or ``MetadataFilter`` (recognised by
            their attributes); or the same as plain JSON: ``{"condition": "and", "filters": [...]}`` and
            ``{"key": ..., "operator": "==", "value": ...}``, where ``condition`` defaults to ``and``, ``operator`` to
            ``==``. A scalar given to a list operator counts as a list of one.

    Returns:
        The tree, or None for None.

    Raises:
        FilterError: anything else; the message names the place, as in ``filters[0].filters[2]``.
    """
    return None if value is None else _parse(value, "filters", 0)


def evaluate(filter: Filter | None, metadata: Mapping[str, object]) -> bool:
    """Whether metadata passes a filter, by the rules in this module's docstring.

    Args:
        filter: the tree; None passes everything.
        metadata: one node's metadata.
    """
    if filter is None:
        return True
    if isinstance(filter, Condition):
        return _holds(filter, elements(metadata.get(filter.key)))
    if not filter.parts:
        return True
    passed = (evaluate(part, metadata) for part in filter.parts)
    if filter.kind == "and":
        return all(passed)
    return any(passed) if filter.kind == "or" else not any(passed)


def visible_fields(metadata: Mapping[str, object], ref_doc_id: str | None) -> dict[str, object]:
    """What filters see of a node: its metadata, and under it the id of the document that it came from.

    LlamaIndex's own stores let a user filter on ``doc_id``, ``ref_doc_id`` and ``document_id`` without having put them
    into the metadata; a field that the metadata does have under such a name wins.
    """
    source = {} if ref_doc_id is None else dict.fromkeys(("document_id", "doc_id", "ref_doc_id"), ref_doc_id)
    return {**source, **metadata}


def elements(field: object) -> list[Scalar]:
    """The scalars that the operators compare, in order (see the module's docstring)."""
    members = field if isinstance(field, (list, tuple)) else (field,)
    return [member for member in members if isinstance(member, (str, int, float)) and member == member]


def kind(scalar: Scalar) -> Kind:
    """The kind of a scalar; bool is not a number here."""
    if isinstance(scalar, bool):
        return "bool"
    return "str" if isinstance(scalar, str) else "number"


def keys(filter: Filter | None) -> set[str]:
    """The metadata fields that a filter reads."""
    if filter is None:
        return set()
    if isinstance(filter, Condition):
        return {filter.key}
    return set().union(*(keys(part) for part in filter.parts))


def _holds(condition: Condition, found: list[Scalar]) -> bool:
    op, value = condition.op, condition.value
    if op is Op.IS_EMPTY:
        return not found
    if op in LIST_OPS:
        return _holds_list(op, _listed(value), found)
    if op in TEXT_OPS:
        return _holds_text(op, value, found)
    if op in ORDER:
        return any(_ordered(op, element, value) for element in found)
    present = any(_equal(element, value) for element in found)
    return not present if op is Op.NE else present


def _holds_list(op: Op, wanted: Iterable[Scalar], found: list[Scalar]) -> bool:
    hits = (any(_equal(element, value) for element in found) for value in wanted)
    if op is Op.ALL:
        return all(hits)
    return not any(hits) if op is Op.NIN else any(hits)


def _holds_text(op: Op, value: object, found: list[Scalar]) -> bool:
    texts = [element for element in found if isinstance(element, str)]
    if not isinstance(value, str):
        return False
    if op is Op.TEXT_MATCH:
        return any(value in text for text in texts)
    return any(value.lower() in text.lower() for text in texts)


def _equal(element: Scalar, value: object) -> bool:
    return isinstance(value, (str, int, float)) and kind(element) == kind(value) and element == value


def _ordered(op: Op, element: Scalar, value: object) -> bool:
    if not isinstance(value, (str, int, float)) or kind(element) != kind(value) or kind(value) == "bool":
        return False
    return ORDER[op](element, value)


def _listed(value: object) -> tuple[Scalar, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else cast("tuple[Scalar, ...]", (value,))


def _parse(value: object, place: str, depth: int) -> Filter:
    if depth > MAX_DEPTH:
        raise FilterError(f"{place}: nested deeper than {MAX_DEPTH} levels")
    fields = _fields(value, place)
    if "key" in fields:
        return _condition(fields, place)
    parts = fields["filters"]
    if isinstance(parts, (str, Mapping)) or not isinstance(parts, Iterable):
        raise FilterError(f"{place}: 'filters' must be a list, got {type(parts).__name__}")
    connective = _plain(fields.get("condition")) or "and"
    if connective not in ("and", "or", "not"):
        raise FilterError(f"{place}: unknown condition {connective!r}; known: and, or, not")
    read = tuple(
        _parse(part, f"{place}[{i}]" if depth == 0 else f"{place}.filters[{i}]", depth + 1)
        for i, part in enumerate(parts)
    )
    return Group(connective, read)


def _fields(value: object, place: str) -> Mapping[str, object]:
    """Any written form as the fields of a plain JSON filter."""
    if isinstance(value, Condition):
        return {"key": value.key, "operator": value.op, "value": value.value}
    if isinstance(value, Group):
        return {"condition": value.kind, "filters": value.parts}
    if not isinstance(value, Mapping):
        names = ("condition", "filters", "key", "operator", "value")
        value = {name: getattr(value, name) for name in names if hasattr(value, name)}
    allowed = {"key", "operator", "value"} if "key" in value else {"condition", "filters"}
    if not value or not set(value) <= allowed or not {"key", "filters"} & set(value):
        raise FilterError(
            f"{place}: not a filter; a filter has 'key', 'operator' and 'value', or 'filters' and 'condition'"
        )
    return value


def _condition(fields: Mapping[str, object], place: str) -> Condition:
    key, name = fields["key"], _plain(fields.get("operator", Op.EQ))
    if not isinstance(key, str):
        raise FilterError(f"{place}: the key must be a string, got {type(key).__name__}")
    if not isinstance(name, str) or name not in Op._value2member_map_:
        raise FilterError(f"{place}: unknown operator {name!r}; known: {', '.join(op.value for op in Op)}")
    op, value = Op(name), fields.get("value")
    if op is Op.IS_EMPTY:
        return Condition(key, op)
    if op in LIST_OPS:
        return Condition(key, op, tuple(_scalar(member, place, op) for member in _listed(value)))
    if op in TEXT_OPS and not isinstance(value, str):
        raise FilterError(f"{place}: {op.value} takes a string, got {type(value).__name__}")
    return Condition(key, op, _scalar(value, place, op))


def _scalar(value: object, place: str, op: Op) -> Scalar:
    if value is None:
        raise FilterError(f"{place}: {op.value} needs a value; to find missing fields use is_empty")
    if not isinstance(value, (str, int, float)) or value != value:
        raise FilterError(f"{place}: {op.value} compares strings, numbers and booleans, got {value!r}")
    return value


def _plain(value: object) -> object:
    """An enum member's value; anything else as it is."""
    return value.value if isinstance(value, Enum) else value
