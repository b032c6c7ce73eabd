"""`hybridmem stats`: what a store holds, and whether it wants looking after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .options import Json, Store


def stats(store: Store, as_json: Json = False) -> None:
    """Show what a store holds, and whether it wants looking after."""
    from rich.table import Table

    from . import screen
    from .store import open_index

    with screen.results_only(), open_index(store) as index:
        found = index.stats()
    if as_json:
        screen.write_json(found)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    for name, value in _flat(found):
        table.add_row(name, value)
    screen.page().print(table)


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Nested values as "graph names", "1,024"."""
    for key, value in values.items():
        name = f"{above}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} ")
        elif isinstance(value, int) and not isinstance(value, bool):
            yield name, f"{value:,}"
        else:
            yield name, f"{value:.3g}" if isinstance(value, float) else str(value)
