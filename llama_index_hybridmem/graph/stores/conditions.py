"""Writes a metadata filter as SQL over the `field` table, one row per scalar metadata element; knows no database and runs nothing.

The meaning is that of `filters.evaluate`; a property test holds the two together.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from ...errors import FilterError
from ...filters import Condition, Filter, Group, Op

_ORDER = {Op.GT: ">", Op.GTE: ">=", Op.LT: "<", Op.LTE: "<="}
_NEGATED = {Op.NE: Op.EQ, Op.NIN: Op.IN}

Sql = tuple[str, list[object]]


def to_sql(keep: Filter, passage: str) -> Sql:
    """Write a filter as a boolean SQL expression and its parameters.

    Args:
        keep: the filter.
        passage: SQL expression of the passage id, such as "link.passage_id".
    """
    return _group(keep, passage) if isinstance(keep, Group) else _condition(keep, passage)


def _group(group: Group, passage: str) -> Sql:
    parts = [to_sql(part, passage) for part in group.parts]
    if not parts:
        return "1", []
    joined = (" AND " if group.kind == "and" else " OR ").join(sql for sql, _ in parts)
    values = [value for _, parameters in parts for value in parameters]
    return (f"NOT ({joined})" if group.kind == "not" else f"({joined})"), values


def _condition(condition: Condition, passage: str) -> Sql:
    op, value = condition.op, condition.value
    if op is Op.IS_EMPTY:
        sql, values = _exists(passage, condition.key, "1", [])
        return f"NOT {sql}", values
    if op in _NEGATED:
        sql, values = _condition(Condition(condition.key, _NEGATED[op], value), passage)
        return f"NOT {sql}", values
    if op is Op.ALL:
        return _group(Group("and", tuple(Condition(condition.key, Op.EQ, item) for item in _items(value))), passage)
    test, parameters = _test(op, value)
    return _exists(passage, condition.key, test, parameters)


def _test(op: Op, value: object) -> Sql:
    if op in (Op.EQ, Op.CONTAINS):
        return "value = ? AND kind = ?", list(reversed(_kind(value)))
    if op in (Op.IN, Op.ANY):
        pairs = [_kind(item) for item in _items(value)]
        tests = " OR ".join(["(kind = ? AND value = ?)"] * len(pairs))
        return (f"({tests})" if pairs else "0"), [part for pair in pairs for part in pair]
    if op in _ORDER:
        kind, plain = _kind(value)
        return (f"kind = ? AND value {_ORDER[op]} ?", [kind, plain]) if kind != "bool" else ("0", [])
    if op is Op.TEXT_MATCH:
        return "kind = 'text' AND instr(value, ?) > 0", [value]
    if op is Op.TEXT_MATCH_INSENSITIVE:
        return "kind = 'text' AND instr(lowered(value), lowered(?)) > 0", [value]
    raise FilterError(f"the graph store does not know the filter operator {op!r}")


def _exists(passage: str, key: str, test: str, parameters: list[object]) -> Sql:
    sql = f"EXISTS (SELECT 1 FROM field WHERE field.passage_id = {passage} AND field.key = ? AND {test})"
    return sql, [key, *parameters]


def _kind(value: object) -> list[object]:
    if isinstance(value, bool):
        return ["bool", int(value)]
    if isinstance(value, int) and abs(value) >= 2**63:
        return ["number", float(value)]
    if isinstance(value, int | float):
        return ["number", value]
    if isinstance(value, str):
        return ["text", value]
    raise FilterError(f"a filter value must be a string, a number or a list of them, not {json.dumps(value, default=str)}")


def _items(value: object) -> Sequence[object]:
    if isinstance(value, list | tuple):
        return value
    raise FilterError(f"this filter operator takes a list, not {value!r}")
