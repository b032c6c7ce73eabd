"""`--traces FILE`: what each query of a command cost, appended to a file; knows no subcommand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..costs.handler import CostLatencyHandler

Traces = Annotated[
    Path | None,
    typer.Option("--traces", metavar="FILE", help="Append what each query cost; `hybridmem report FILE` reads it."),
]


@contextmanager
def measured(file: Path | None) -> Iterator[CostLatencyHandler | None]:
    """Measure the queries of a block; without a file nothing is measured."""
    if file is None:
        yield None
        return
    from ..costs.exporters.jsonl import JsonlTraces
    from ..costs.handler import CostLatencyHandler
    from ..disk import make_folder, on_disk

    make_folder(file.parent)
    with on_disk(file), file.open("ab"):  # a place that cannot be written to is told before anything is asked
        pass
    handler = CostLatencyHandler(exporters=[JsonlTraces(file)])
    try:
        with handler.attach():
            yield handler
    finally:
        handler.close()
