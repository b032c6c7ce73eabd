"""Writes a metadata filter as a Cypher condition over a passage's lists of elements; runs nothing.

The meaning is that of `filters.evaluate`; a property test holds the two together. (One thing differs: the server orders
texts by UTF-16, so that emoji come before U+E000 to U+FFFF.) Field names and values are parameters
throughout: a passage's fields are read as `p[$name]`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from ....errors import FilterError
from ....filters import LIST_OPS, TEXT_OPS, Condition, Filter, Group, Op, elements
from .schema import is_whole

_ORDER = {Op.GT: ">", Op.GTE: ">=", Op.LT: "<", Op.LTE: "<="}
_NEGATED = {Op.NE: Op.EQ, Op.NIN: Op.IN}
_KINDS = ("text", "bool", "int", "float")
_LONGEST_NAME = 200

Fields = dict[str, list[object]]


def fields_of(metadata: Mapping[str, object]) -> Fields:
    """Give the properties that hold a passage's metadata: per field and kind, the list of its elements."""
    found: Fields = {}
    for key, field in metadata.items():
        for element in elements(field):
            kind, value = _stored(element)
            found.setdefault(_property(kind, key), []).append(value)
    return found


class Conditions:
    """Collects the parameters of a statement while its condition is written.

    Attributes:
        parameters: names to values, for the statement.
    """

    def __init__(self) -> None:
        self.parameters: dict[str, object] = {}

    def write(self, keep: Filter | None, node: str) -> str:
        """Write a filter as a condition on a passage.

        Args:
            keep: the filter; None: "true".
            node: the passage's variable in the statement.

        Raises:
            FilterError: an operator that this store does not know.
        """
        if keep is None:
            return "true"
        return self._group(keep, node) if isinstance(keep, Group) else self._condition(keep, node)

    def _group(self, group: Group, node: str) -> str:
        parts = [self.write(part, node) for part in group.parts]
        joined = _joined(parts, "AND" if group.kind == "and" else "OR") if parts else "true"
        return f"NOT {joined}" if group.kind == "not" and parts else joined

    def _condition(self, condition: Condition, node: str) -> str:
        op, value = condition.op, condition.value
        if op is Op.IS_EMPTY:
            return f"NOT {self._some(condition.key, node, dict.fromkeys(_KINDS, 'true'))}"
        if op in _NEGATED:
            return f"NOT {self._condition(Condition(condition.key, _NEGATED[op], value), node)}"
        if op is Op.ALL:
            each = [self._some(condition.key, node, self._equal((item,))) for item in _listed(value)]
            return _joined(each, "AND") if each else "true"
        return self._some(condition.key, node, self._tests(op, value))

    def _tests(self, op: Op, value: object) -> dict[str, str]:
        """Write by kind what one element, `x`, must be."""
        if op in LIST_OPS:
            return self._equal(_listed(value))
        if op in (Op.EQ, Op.CONTAINS):
            return self._equal((value,))
        if op in TEXT_OPS:
            if not isinstance(value, str):
                return {}
            name = self._parameter(value if op is Op.TEXT_MATCH else value.lower())
            return {"text": f"{'x' if op is Op.TEXT_MATCH else 'toLower(x)'} CONTAINS {name}"}
        if op in _ORDER:
            kind, plain = _stored(value)
            test = f"x {_ORDER[op]} {self._parameter(plain)}"
            return (
                {"text": test} if kind == "text" else {"int": test, "float": test} if kind in ("int", "float") else {}
            )
        raise FilterError(f"the graph store does not know the filter operator {op!r}")

    def _equal(self, values: Sequence[object]) -> dict[str, str]:
        kinds: dict[str, list[object]] = {}
        for value in values:
            kind, plain = _stored(value)
            for each in ("int", "float") if kind in ("int", "float") else (kind,):
                kinds.setdefault(each, []).append(plain)
        kinds.pop("", None)
        return {kind: f"x IN {self._parameter(found)}" for kind, found in kinds.items()}

    def _some(self, key: str, node: str, tests: Mapping[str, str]) -> str:
        """Write that some element of a field passes the test of its kind."""
        parts = [
            f"any(x IN coalesce({node}[{self._parameter(_property(kind, key))}], []) WHERE {test})"
            for kind, test in tests.items()
        ]
        return _joined(parts, "OR") if parts else "false"

    def _parameter(self, value: object) -> str:
        name = f"keep{len(self.parameters)}"
        self.parameters[name] = value
        return f"${name}"


def _joined(parts: Sequence[str], connective: str) -> str:
    """Nest evenly: deep expressions overflow the stack of Neo4j's planner."""
    if len(parts) == 1:
        return f"({parts[0]})"
    half = len(parts) // 2
    return f"({_joined(parts[:half], connective)} {connective} {_joined(parts[half:], connective)})"


def _property(kind: str, key: str) -> str:
    """Name the property of a field; what no property name can be, or is overlong, is hashed."""
    if "\0" in key or len(key) > _LONGEST_NAME or not is_whole(key):
        key = f"#{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"
    return f"{kind}:{key}"


def _stored(value: object) -> tuple[str, object]:
    """Give kind and value as they stand in the lists; "" for what no element can equal."""
    if not isinstance(value, (str, int, float)) or value != value:
        return "", None
    if isinstance(value, (str, bool)):
        return ("text" if isinstance(value, str) else "bool"), value
    if isinstance(value, float):
        return "float", value
    if -(2**63) <= value < 2**63:
        return "int", value
    try:
        return "float", float(value)
    except OverflowError:
        return "float", float("inf") if value > 0 else float("-inf")


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, (list, tuple)) else (value,)
