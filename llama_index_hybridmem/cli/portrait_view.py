"""Draws the portrait of a name for a terminal; knows no store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ..graph.page import counted, provenance
from ..graph.portrait import Portrait

_MOST_FACTS, _MOST_NAMES, _MOST_PASSAGES, _MOST_FORMS = 20, 24, 5, 6


def view(portrait: Portrait) -> RenderableType:
    """Draw spellings, facts, names in the same passages and passages."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=10, style="dim")
    grid.add_column(ratio=1, overflow="fold")
    for label, content in _rows(portrait):
        grid.add_row(label, content)
    return grid


def _rows(portrait: Portrait) -> Iterator[tuple[str, RenderableType]]:
    yield "Name", Text.assemble((portrait.name, "bold cyan"), f"  in {counted(portrait.passages, 'passage')}")
    if portrait.common:
        yield "", Text("mostly written in lower case: a common word, which the search follows nowhere", "yellow")
    if portrait.passages_read < portrait.passages:
        yield "", Text(f"what follows is from the first {portrait.passages_read:,} of them", "yellow")
    forms = [f"{form} ({count:,})" for form, count in portrait.forms.items()]
    if forms:
        yield "Written", Text(", ".join(_first(forms, _MOST_FORMS)))
    facts = [f"{each.subject} → {each.relation} → {each.object}  ({provenance(each)})" for each in portrait.statements]
    if facts:
        yield "Facts", Text("\n".join(_first(facts, _MOST_FACTS)))
    yield from _names(portrait)
    for place, excerpt in enumerate(portrait.excerpts[:_MOST_PASSAGES]):
        title = (excerpt.title or excerpt.node_id, "bold" if excerpt.titled else "")
        yield "" if place else "Passages", Text.assemble(title, (f"  {excerpt.node_id}\n", "dim"), excerpt.text)


def _names(portrait: Portrait) -> Iterator[tuple[str, RenderableType]]:
    near = [each for each in portrait.near if each.beside == portrait.name]
    if near:
        yield "With", Text(", ".join(_first([f"{each.written} ({each.passages:,})" for each in near], _MOST_NAMES)))
    for first in near:
        further = [f"{each.written} ({each.passages:,})" for each in portrait.near if each.beside == first.name]
        if further:
            yield "", Text.assemble((f"{first.written}: ", "dim"), ", ".join(further))


def _first(items: Sequence[str], most: int) -> list[str]:
    more = [f"… and {len(items) - most:,} more"] if len(items) > most else []
    return [*items[:most], *more]
