"""Draws a summary of traces for a terminal, in the columns it has; knows no file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType, RenderResult
from rich.table import Table as Drawn
from rich.text import Text

from ..costs.figures.summary import Summary
from ..costs.report import tables
from ..costs.report.month_plot import month_sentence
from ..costs.report.sections import figures, headline
from ..costs.report.tables import Table

_MODELS = ("model", "#calls", "#tokens in", "#out", "#cost", "#unpriced", "#p50")
_STAGES = ("stage", "#queries", "#mean", "#share", "#CPU")
_NOTE = "Latencies: queries that ended well. Mean cost: priced queries. ≥: calls without a price come to it."
_SIDE_BY_SIDE = "Of queries that ended well. Stages side by side add up to more; elsewhere: in no stage."
_GAP = 2
_LEAST = 12  # columns of a text, which breaks; figures do not


def view(summary: Summary) -> RenderableType:
    """Draw the figures, and the tables that have something to say."""
    return Group(*_parts(summary))


def _parts(summary: Summary) -> Iterator[RenderableType]:
    yield Text(headline(summary))
    if not summary.traces:
        yield Text("CostLatencyHandler(exporters=[JsonlTraces(PATH)]) writes them.", "dim")
        return
    if not summary.queries.n and (phases := [each.name for each in summary.ledgers if each.name]):
        yield Text(f"--phase NAME reports on those of another phase: {', '.join(phases)}.", "dim")
    grid = Drawn.grid(padding=(0, _GAP))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for figure in figures(summary):
        grid.add_row(Text(figure.name), Text(figure.told, "bold"), Text(figure.note))
    yield grid
    if any(month.known for month in summary.months):
        yield Text()
        yield Text(month_sentence(summary))
    for table in shown(summary):
        yield Text()
        yield Blocks(table)
        if table.note:
            yield Text(table.note, "dim")
    yield Text()
    yield Text(_NOTE, "dim")


def shown(summary: Summary) -> list[Table]:
    """Give the tables that have rows, with the columns and notes that a terminal has room for."""
    return [table for table in _tables(summary) if table.rows]


def _tables(summary: Summary) -> Iterator[Table]:
    yield _bare(tables.group(summary, "route"))
    stages = replace(tables.stages(summary), title="Where the time went", note=_SIDE_BY_SIDE)
    yield _narrowed(stages, _STAGES)
    for by in summary.groups:
        if by != "route":
            yield _bare(tables.group(summary, by))
    yield _bare(tables.ledgers(summary))
    yield _bare(tables.tenants(summary))
    yield _bare(_narrowed(tables.models(summary), _MODELS))
    yield tables.troubles("Did not end well", summary.errors, "error")
    yield tables.troubles("Missing stores", summary.degraded, "store")
    yield _bare(tables.prices(summary))


def _bare(table: Table) -> Table:
    return replace(table, note="")


def _narrowed(table: Table, columns: Sequence[str]) -> Table:
    places = [table.columns.index(column) for column in columns]
    return replace(table, columns=tuple(columns), rows=[[row[place] for place in places] for row in table.rows])


@dataclass(frozen=True, slots=True)
class Blocks:
    """A table; columns that have no room follow below, beside the first one again, so that no figure is ever cut."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        least = [_least(self.table, place) for place in range(len(self.table.columns))]
        for number, places in enumerate(_blocks(least, options.max_width)):
            yield _drawn(self.table, places, least, title=self.table.title if number == 0 else None)


def _blocks(least: Sequence[int], room: int) -> list[list[int]]:
    """Part columns into as many blocks as it takes; the first column stands in each."""
    blocks, left = [[0]], room - least[0]
    for place, width in enumerate(least[1:], start=1):
        if left < width + _GAP and len(blocks[-1]) > 1:
            blocks.append([0])
            left = room - least[0]
        blocks[-1].append(place)
        left -= width + _GAP
    return blocks


def _least(table: Table, place: int) -> int:
    """Columns that a column needs: its longest figure, or enough of a text, and the longest word above it."""
    heading = max(map(cell_len, _heading(table.columns[place])))
    longest = max(cell_len(row[place]) for row in table.rows)
    return max(heading, longest if table.columns[place].startswith("#") else min(longest, _LEAST))


def _heading(column: str) -> list[str]:
    """Its words, which stand one under the other above figures."""
    return column[1:].split(" ") if column.startswith("#") else [column]


def _drawn(table: Table, places: Sequence[int], least: Sequence[int], title: str | None) -> RenderableType:
    drawn = Drawn(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim", title_justify="left")
    drawn.title, drawn.title_style = title, "bold"
    deepest = max(len(_heading(table.columns[place])) for place in places)
    for place in places:
        is_number = table.columns[place].startswith("#")
        justify: JustifyMethod = "right" if is_number else "left"
        words = _heading(table.columns[place])
        name = Text("\n".join([""] * (deepest - len(words)) + words))
        drawn.add_column(name, justify=justify, no_wrap=is_number, overflow="fold", min_width=least[place])
    for row in table.rows:
        drawn.add_row(*(Text(row[place]) for place in places))
    return drawn
