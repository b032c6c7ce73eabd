"""Draws a summary of traces for a terminal, 80 columns wide; knows no file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table as Drawn
from rich.text import Text

from ..costs.figures.summary import Summary
from ..costs.report import tables
from ..costs.report.month_plot import month_sentence
from ..costs.report.sections import figures, headline
from ..costs.report.tables import Table

_MODELS = ("model", "#calls", "#tokens in", "#out", "#cost", "#unpriced", "#p50")
_NOTE = "Latencies: queries that ended well. Mean cost: priced queries. ≥: calls without a price come to it."


def view(summary: Summary) -> RenderableType:
    """Draw the figures, and the tables that have something to say."""
    return Group(*_parts(summary))


def _parts(summary: Summary) -> Iterator[RenderableType]:
    yield Text(headline(summary))
    if not summary.traces:
        yield Text("CostLatencyHandler(exporters=[JsonlTraces(PATH)]) writes them.", "dim")
        return
    grid = Drawn.grid(padding=(0, 2))
    grid.add_column(style="dim")
    for figure in figures(summary):
        grid.add_row(Text(figure.name), Text(figure.told, "bold"), Text(figure.note))
    yield grid
    if any(month.known for month in summary.months):
        yield Text()
        yield Text(month_sentence(summary))
    for table in _tables(summary):
        if table.rows:
            yield Text()
            yield _drawn(table)
    yield Text()
    yield Text(_NOTE, "dim")


def _tables(summary: Summary) -> Iterator[Table]:
    for by in summary.groups:
        yield tables.group(summary, by)
    yield tables.ledgers(summary)
    yield tables.tenants(summary)
    yield _narrowed(tables.models(summary), _MODELS)
    yield tables.troubles("Did not end well", summary.errors, "error")
    yield tables.troubles("Missing stores", summary.degraded, "store")
    yield tables.prices(summary)


def _narrowed(table: Table, columns: Sequence[str]) -> Table:
    places = [table.columns.index(column) for column in columns]
    return Table(table.title, tuple(columns), [[row[place] for place in places] for row in table.rows])


def _drawn(table: Table) -> RenderableType:
    drawn = Drawn(box=None, padding=(0, 2, 0, 0), header_style="dim", title=table.title, title_justify="left")
    drawn.title_style = "bold"
    for place, column in enumerate(table.columns):
        is_number = column.startswith("#")
        name = Text(column.removeprefix("#"))
        justify: JustifyMethod = "right" if is_number else "left"
        least = None if place else 12  # long names break, figures do not
        drawn.add_column(name, justify=justify, no_wrap=is_number, overflow="fold", min_width=least)
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))
    return drawn
