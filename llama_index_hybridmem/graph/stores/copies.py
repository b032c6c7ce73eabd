"""Reads the embedded tables back as what was written into them, to be written elsewhere; knows no file and no store.

A page is one statement, so that it is as the tables were at one moment, whatever is written meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from .base import Fact, Passage
from .schema import NO_PASSAGE

Read = Callable[..., list[tuple[Any, ...]]]
"""Runs one SELECT with its parameters."""

_PAGE = """
WITH page AS (SELECT * FROM passage WHERE ? IS NULL OR node_id > ? ORDER BY node_id LIMIT ?)
SELECT 'passage' AS part, id, 0 AS place, node_id AS a, doc_id AS b, title AS c, text AS d, node AS e, doc_hash AS f,
  long AS g, lead AS h FROM page
UNION ALL SELECT 'name', passage_id, 0, name, 0, 0, 0, 0, 0, 0, 0
  FROM declared WHERE passage_id IN (SELECT id FROM page)
UNION ALL SELECT 'field', passage_id, rowid, key, kind, value, 0, 0, 0, 0, 0
  FROM field WHERE passage_id IN (SELECT id FROM page)
UNION ALL SELECT 'fact', passage_id, 0, subject, relation, object, source, 0, 0, 0, 0
  FROM fact WHERE passage_id IN (SELECT id FROM page)
ORDER BY part, place, a, b, c
"""


def export_passages(read: Read, after: str | None, limit: int) -> list[Passage]:
    """Give the passages whose node id comes after a given one, in the order of their node ids; see `GraphStore`."""
    parts: dict[str, dict[int, list[tuple[Any, ...]]]] = defaultdict(lambda: defaultdict(list))
    for part, passage, _, *cells in read(_PAGE, after, after, limit):
        parts[part][passage].append(tuple(cells))
    found = []
    for number, ((node_id, doc_id, title, text, node, doc_hash, long, lead),) in parts["passage"].items():
        found.append(
            Passage(
                node_id, doc_id, title, text,
                names=tuple(name for name, *_ in parts["name"][number]),
                metadata=_metadata(parts["field"][number]),
                facts=tuple(Fact(a, b, c, node_id, source) for a, b, c, source, *_ in parts["fact"][number]),
                node=node, doc_hash=doc_hash, long=bool(long), lead=bool(lead),
            )
        )  # fmt: skip
    return found


def stated(read: Read) -> tuple[list[str], list[Fact]]:
    """List what the user stated: names, and facts of no passage; both alphabetically."""
    names = [row[0] for row in read("SELECT name FROM name WHERE given ORDER BY name")]
    facts = (
        f"SELECT subject, relation, object, NULL, source FROM fact WHERE passage_id = {NO_PASSAGE}"
        " ORDER BY subject, relation, object"
    )
    return names, [Fact(*row) for row in read(facts)]


def _metadata(fields: list[tuple[Any, ...]]) -> dict[str, object]:
    """Metadata as filters see it: a list with one element is that element, an empty one is no field."""
    elements: dict[str, list[object]] = {}
    for key, kind, value, *_ in fields:
        elements.setdefault(key, []).append(bool(value) if kind == "bool" else value)
    return {key: values if len(values) > 1 else values[0] for key, values in elements.items()}
