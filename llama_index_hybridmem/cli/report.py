"""`hybridmem report`: what the queries in files of traces cost and where their time went, as tables, page or JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigurationError
from .options import Json

if TYPE_CHECKING:
    from ..costs.figures.summary import Summary
    from ..costs.trace import QueryTrace


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
    as_json: Json = False,
) -> None:
    """Say what queries cost, where their time went and what went wrong, from their traces.

    Without -o as tables. The page is one file that loads nothing: send it, print it, open it anywhere.
    """
    from ..costs.exporters.reading import read_traces
    from ..costs.figures.summary import summarise
    from . import screen
    from .report_view import view

    allowed, found = _amount(limit), read_traces(traces)
    if output is not None:
        _check(output, traces)
    with _progress(found) as read:
        summary = summarise(read, by=by or (), limit=allowed)
    if found.skipped:
        screen.aside().print(f"{found.skipped:,} lines that are no traces were left out", style="yellow")
    if output is not None:
        _write(output, summary, traces)
    if as_json:
        screen.write_json(summary.to_json())
    elif output is not None:
        screen.page().print(f"{output}: {summary.traces:,} traces", soft_wrap=True, markup=False)
    else:
        screen.page().print(view(summary))


def _amount(written: str | None) -> Decimal | None:
    try:
        return None if written is None else Decimal(written)
    except InvalidOperation as error:
        raise ConfigurationError(f"--limit is an amount such as 250 or 12.50, not {written!r}") from error


def _check(output: Path, traces: Sequence[str]) -> None:
    """Fail before a long file is read, not after: a missing library, a page in place of the traces."""
    from ..disk import make_folder
    from ..extras import require

    require("the page of hybridmem report", "report", "jinja2", "matplotlib")
    if any(Path(given).resolve() == output.resolve() for given in traces):
        raise ConfigurationError(f"-o {output} would overwrite the traces; name another file, such as report.html")
    make_folder(output.parent)


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
