"""`hybridmem report`: what the queries in files of traces cost and where their time went, as tables, page or JSON."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigurationError
from .options import Json
from .output import place_for

if TYPE_CHECKING:
    from ..costs.figures.summary import Summary
    from ..costs.trace import QueryTrace

_NARROWEST = 60


def report(
    traces: Annotated[
        list[str],
        typer.Argument(metavar="TRACES.jsonl…", help="Files of traces, or patterns; with what rotation put aside."),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the report as one HTML page.")
    ] = None,
    limit: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="What a calendar month may cost, in the traces' currency.")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD", help="A further table: tenant, user, run, kind, … or tags.NAME; repeatable."),
    ] = None,
    phase: Annotated[
        str, typer.Option(metavar="NAME", help="Whose traces are the queries; an experiment's are tagged evaluation.")
    ] = "query",
    as_json: Json = False,
) -> None:
    """Show what queries cost and where their time went.

    Without -o as tables. What was done for another phase is billed, and kept out of every figure per query. The
    page is one file that loads nothing: send it, print it, open it anywhere.
    """
    from ..costs.exporters import reading
    from ..costs.figures.summary import summarise
    from . import screen

    allowed, found = _amount(limit), reading.read_traces(traces)
    place = None if output is None else _checked(output, traces)
    logging.getLogger(reading.__name__).addHandler(logging.NullHandler())  # speaks with -v; here lines are counted
    with _progress(found) as read:
        summary = summarise(read, by=by or (), limit=allowed, phase=phase)
    if found.skipped and not summary.traces:
        told = f"{', '.join(traces)}: no trace in {found.skipped:,} lines; name a file that JsonlTraces has written"
        screen.aside().print(told, markup=False, soft_wrap=True)
        raise typer.Exit(1)
    if found.skipped:
        screen.aside().print(f"{found.skipped:,} lines that are no traces were left out", style="yellow")
    if place is not None and summary.traces:
        _write(place, summary, traces)
    if as_json:
        screen.write_json(summary.to_json())
    else:
        _say(summary, output)


def _amount(written: str | None) -> Decimal | None:
    try:
        return None if written is None else Decimal(written)
    except InvalidOperation as error:
        raise ConfigurationError(f"--limit is an amount such as 250 or 12.50, not {written!r}") from error


def _checked(output: Path, traces: Sequence[str]) -> Path:
    """Give the file behind any links, or fail before a long file is read: no library, no folder, or the traces."""
    from ..extras import require

    require("the page of hybridmem report", "report", "jinja2", "matplotlib")
    return place_for(output, "report.html", map(Path, traces))


def _say(summary: Summary, output: Path | None) -> None:
    """Print the tables, or where the page is; in a narrow terminal no wider than that."""
    from rich.console import Console

    from . import screen
    from .report_view import view

    page = screen.page()
    if output is not None and summary.traces:
        page.print(f"{output}: {summary.traces:,} traces", soft_wrap=True, markup=False)
    else:
        page.print(view(summary), width=min(page.width, max(Console().width, _NARROWEST)))


def _write(output: Path, summary: Summary, traces: Sequence[str]) -> None:
    from ..costs.report.page import render
    from ..disk import atomic_write_text

    atomic_write_text(output, render(summary, source=f"From {', '.join(traces)}."))


@contextmanager
def _progress(traces: Iterable[QueryTrace]) -> Iterator[Iterable[QueryTrace]]:
    """The traces, counted on the terminal while they are read."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from . import screen

    console = screen.aside()
    columns = (TextColumn("traces"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress.track(traces)
