"""What a graph database hands back, made readable and safe for JSON, and its schema as text; knows no database.

Values are told apart by what they have (labels, a type, an ISO form), so no driver is needed to read them. Vectors are
left out, whatever the property is called, and everything is cut to a size that a language model can be given.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

TEXT_LIMIT = 4_000
LIST_LIMIT = 200
SCHEMA_LIMIT = 12_000
VECTOR_LENGTH = 32
"""Numbers from which on a list is an embedding."""
_LONGEST_ACRONYM = 3
_VECTOR_TYPES = ["DoubleArray"], ["FloatArray"]


def plain(value: object) -> Any:
    """Give a value as JSON can hold it: numbers, texts, lists and maps as they are, the rest in reading form."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if (read := _read(value)) is not None:
        return read
    if isinstance(value, Mapping):
        return _map(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return _list(list(value))
    return _cut(str(value))


def shown(value: object) -> str:
    """Give a value for reading: (:Person {name: Mara}), [1, 2], 2020-01-31."""
    form = plain(value)
    if isinstance(form, str):
        return form
    if isinstance(form, dict):
        return f"{{{', '.join(f'{key}: {shown(item)}' for key, item in form.items())}}}"
    if isinstance(form, list):
        return f"[{', '.join(map(shown, form))}]"
    return json.dumps(form)


def row_text(row: Mapping[str, object]) -> str:
    """Give a row as "column: value" lines."""
    return "\n".join(f"{column}: {shown(value)}" for column, value in row.items())


def as_json(value: object) -> str:
    """Give a plain value as JSON, the same for the same value."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def is_vector(value: object) -> bool:
    """Whether a property is an embedding, which nobody reads and nobody filters by."""
    return (
        isinstance(value, (list, tuple))
        and len(value) >= VECTOR_LENGTH
        and all(isinstance(number, float) for number in value)
    )


def readable(relation: str) -> str:
    """Write a relation's type as words where it is plainly shouted: "ACQUIRED_BY" as "acquired by"; "CEO" stays."""
    core = relation.strip("_")
    shouted = core.isupper() and ("_" in core or len(core) > _LONGEST_ACRONYM)
    return " ".join(core.replace("_", " ").split()).lower() if shouted else relation


def _read(value: Any) -> str | None:
    """Give a node, a relationship, a path, a date, a duration, a point or bytes for reading; None for the rest."""
    if isinstance(value, (bytes, bytearray)):
        return f"({len(value)} bytes)"
    if hasattr(value, "labels"):
        return f"({''.join(f':{label}' for label in sorted(value.labels))}{_properties(value)})"
    if hasattr(value, "nodes") and hasattr(value, "relationships"):
        return _path(list(value.nodes), list(value.relationships))
    if isinstance(value, Mapping) and (kind := getattr(value, "type", None)) is not None:
        return f"[:{kind}{_properties(value)}]"
    for form in ("iso_format", "isoformat"):
        if hasattr(value, form):
            return str(getattr(value, form)())
    return str(value) if hasattr(value, "srid") else None


def _path(nodes: Sequence[Any], relationships: Sequence[Any]) -> str:
    if len(nodes) != len(relationships) + 1:  # as a path of two dimensions or of a foreign driver may be
        return _cut(", ".join(map(shown, [*nodes, *relationships])))
    steps = [shown(nodes[0])]
    for node, link, following in zip(nodes, relationships, nodes[1:], strict=False):
        forwards = getattr(link, "start_node", node) == node
        steps.append(f"-{shown(link)}->" if forwards else f"<-{shown(link)}-")
        steps.append(shown(following))
    return _cut("".join(steps))


def _properties(value: Any) -> str:
    held = value if isinstance(value, Mapping) else getattr(value, "properties", {})
    return f" {shown(dict(held.items()))}" if held else ""  # a node is a mapping itself


def _map(held: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): plain(value) for key, value in sorted(held.items(), key=_by_name) if not is_vector(value)}


def _by_name(item: tuple[Any, Any]) -> str:
    return str(item[0])


def _list(values: list[Any]) -> Any:
    if is_vector(values):
        return f"({len(values)} numbers)"
    more = [f"… {len(values) - LIST_LIMIT} more"] if len(values) > LIST_LIMIT else []
    return [*map(plain, values[:LIST_LIMIT]), *more]


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]}…"


# The schema


def named(name: str) -> str:
    """Give a label, type or property as Cypher wants it written."""
    if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        return name
    return "`" + name.replace("`", "``").replace("\n", " ") + "`"


def schema_text(
    nodes: Iterable[Sequence[Any]],
    relationships: Iterable[Sequence[Any]],
    links: Iterable[tuple[str, str, str]],
    indexes: Iterable[Sequence[Any]] = (),
) -> str:
    """Describe a graph in the form of its own patterns.

    Args:
        nodes: labels, property, types of its values: a row per property (None where there is none).
        relationships: the same, a relationship's type in place of the labels.
        links: label, type, label: what is linked to what.
        indexes: name, labels, properties of the full-text indexes.

    Returns:
        A line per kind of node, of relationship and of link; cut at `SCHEMA_LIMIT` characters.
    """
    of_type = {str(kind).strip(":`"): text for kind, text in _described(relationships)}
    lines = ["Nodes:", *(f"({':'.join(['', *map(named, labels)])}{text})" for labels, text in _described(nodes))]
    lines += ["Relationships:", *(f"[:{named(kind)}{text}]" for kind, text in sorted(of_type.items()))]
    lines += ["Links:", *(f"(:{named(a)})-[:{named(kind)}]->(:{named(b)})" for a, kind, b in sorted(set(links)))]
    full_text = [f"{name} (of {shown(labels)}, properties {shown(held)})" for name, labels, held in indexes]
    return _bounded([*lines, *(["Full-text indexes:", *full_text] if full_text else [])])


def _described(rows: Iterable[Sequence[Any]]) -> list[tuple[Any, str]]:
    """Join the rows of one kind into (kind, " {name: String, born: Long}")."""
    described = []
    for kind, properties in groupby(sorted(rows, key=lambda row: (str(row[0]), str(row[1]))), key=lambda row: row[0]):
        held = [
            f"{named(name)}: {' or '.join(types or ['?'])}"
            for _, name, types in properties
            if name is not None and types not in _VECTOR_TYPES
        ]
        described.append((kind, f" {{{', '.join(held)}}}" if held else ""))
    return described


def _bounded(lines: list[str]) -> str:
    """Keep whole lines up to the limit and say how many are left out."""
    size = 0
    for place, line in enumerate(lines):
        size += len(line) + 1
        if size > SCHEMA_LIMIT:
            return "\n".join([*lines[:place], f"… {len(lines) - place} more lines"])
    return "\n".join(lines)
