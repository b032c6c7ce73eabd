"""Writes a metadata filter as SQL over the `field` table, one row per scalar metadata element; runs nothing.

The meaning is that of `filters.evaluate`; a property test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...errors import FilterError
from ...filters import LIST_OPS, TEXT_OPS, Condition, Filter, Group, Op, elements, kind

_ORDER = {Op.GT: ">", Op.GTE: ">=", Op.LT: "<", Op.LTE: "<="}
_NEGATED = {Op.NE: Op.EQ, Op.NIN: Op.IN}
_NEVER = "0"

Sql = tuple[str, list[object]]


def row_values(field: object) -> Iterator[tuple[str, object]]:
    """Yield (kind, value) for every element of a metadata field, as they stand in the table."""
    return map(_kind, elements(field))


def to_sql(keep: Filter, passage: str) -> Sql:
    """Write a filter as a boolean SQL expression and its parameters.

    Args:
        keep: the filter.
        passage: SQL expression of the passage id, such as "link.passage_id".

    Raises:
        FilterError: an operator that this store does not know.
    """
    return _group(keep, passage) if isinstance(keep, Group) else _condition(keep, passage)


def _group(group: Group, passage: str) -> Sql:
    parts = [to_sql(part, passage) for part in group.parts]
    joined, values = _combined(parts, "AND" if group.kind == "and" else "OR")
    return f"NOT {joined}" if group.kind == "not" and parts else joined, values


def _combined(parts: Sequence[Sql], connective: str) -> Sql:
    if not parts:
        return "1", []
    return _joined([sql for sql, _ in parts], connective), [value for _, values in parts for value in values]


def _joined(parts: Sequence[str], connective: str) -> str:
    """Nest evenly: SQLite refuses expressions deeper than 1000, and takes a long chain for a deep one."""
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    return f"({_joined(parts[:half], connective)} {connective} {_joined(parts[half:], connective)})"


def _condition(condition: Condition, passage: str) -> Sql:
    op, value = condition.op, condition.value
    if op is Op.IS_EMPTY:
        sql, parameters = _exists(passage, condition.key, "1", [])
        return f"NOT {sql}", parameters
    if op in _NEGATED:
        sql, parameters = _condition(Condition(condition.key, _NEGATED[op], value), passage)
        return f"NOT {sql}", parameters
    if op is Op.ALL:
        return _combined([_exists(passage, condition.key, *_test(Op.EQ, item)) for item in _listed(value)], "AND")
    return _exists(passage, condition.key, *_test(op, value))


def _test(op: Op, value: object) -> Sql:
    """Write what one element must be."""
    if op in LIST_OPS:
        return _among(_listed(value))
    if op in (Op.EQ, Op.CONTAINS):
        return _among((value,))
    if op in TEXT_OPS:
        found = "instr(value, ?)" if op is Op.TEXT_MATCH else "instr(lowered(value), lowered(?))"
        return (f"kind = 'text' AND {found} > 0", [value]) if isinstance(value, str) else (_NEVER, [])
    if op in _ORDER:
        name, plain = _kind(value)
        return (f"kind = ? AND value {_ORDER[op]} ?", [name, plain]) if name in ("number", "text") else (_NEVER, [])
    raise FilterError(f"the graph store does not know the filter operator {op!r}")


def _among(values: Sequence[object]) -> Sql:
    by_kind: dict[str, list[object]] = {}
    for name, value in map(_kind, values):
        by_kind.setdefault(name, []).append(value)
    by_kind.pop("", None)
    tests = [f"(kind = '{name}' AND value IN ({', '.join('?' * len(found))}))" for name, found in by_kind.items()]
    return f"({' OR '.join(tests) or _NEVER})", [value for found in by_kind.values() for value in found]


def _exists(passage: str, key: str, test: str, parameters: list[object]) -> Sql:
    sql = f"EXISTS (SELECT 1 FROM field WHERE field.passage_id = {passage} AND field.key = ? AND {test})"
    return sql, [key, *parameters]


def _kind(value: object) -> tuple[str, object]:
    """Give kind and value as they stand in the table; "" for what no element can equal."""
    if not isinstance(value, (str, int, float)) or value != value:
        return "", None
    if isinstance(value, str):
        return "text", value
    return ("bool", int(value)) if kind(value) == "bool" else ("number", _stored_number(value))


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, (list, tuple)) else (value,)


def _stored_number(number: int | float) -> int | float:
    """Fit a number into SQLite; integers beyond 64 bits become the nearest float."""
    if isinstance(number, float) or -(2**63) <= number < 2**63:
        return number
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")
