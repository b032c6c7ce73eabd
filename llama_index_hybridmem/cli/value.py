"""`hybridmem value`: what the graph path is worth, from one run with it and one without."""

from __future__ import annotations

from datetime import date, datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigurationError
from .options import Json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..costs.report.tables import Table


def value(
    traces: Annotated[Path, typer.Argument(metavar="TRACES.jsonl", help="Of both runs, tagged with run and question.")],
    judgements: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Lines of {"question": …, "run": …, "correct": 0…1, "class": …}.'),
    ] = None,
    with_graph: Annotated[str, typer.Option("--with", metavar="RUN", help="The run with the graph.")] = "with-graph",
    without_graph: Annotated[str, typer.Option("--without", metavar="RUN", help="The other.")] = "without-graph",
    queries_per_month: Annotated[float | None, typer.Option(min=1, help="All of them.")] = None,
    share_sent: Annotated[float, typer.Option(min=0.0001, max=1, help="Of them, to the graph path.")] = 1.0,
    worth: Annotated[float | None, typer.Option(min=0.000001, help="Of one more right answer.")] = None,
    rent: Annotated[float | None, typer.Option(min=0, help="Of the graph database, a month; 0 for none.")] = None,
    build_compute: Annotated[float | None, typer.Option(min=0, help="Models and machines, once.")] = None,
    upkeep_compute: Annotated[float | None, typer.Option(min=0, help="Models and machines, a month.")] = None,
    build_hours: Annotated[float | None, typer.Option(min=0, help="Of people, once.")] = None,
    upkeep_hours: Annotated[float | None, typer.Option(min=0, help="Of people, a month.")] = None,
    hourly_rate: Annotated[float | None, typer.Option(min=0, help="What an hour of them costs.")] = None,
    months: Annotated[int, typer.Option(min=1, help="Over which building is spread.")] = 12,
    as_of: Annotated[
        datetime | None, typer.Option(metavar="DATE", formats=["%Y-%m-%d"], help="Of these figures; else today.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write a page, too.")] = None,
    as_json: Json = False,
) -> None:
    """Say what the graph path is worth: the right answers it adds against the money it takes.

    The same questions, asked with and without it. All amounts are in the currency of the traces; what is not given
    is not counted, and named. See docs/what-is-a-graph-worth.md.
    """
    from ..costs.exporters.reading import read_traces
    from ..costs.value import value as weighed
    from ..costs.worth.fixed import Fixed
    from ..costs.worth.judged import judged, pair
    from ..costs.worth.judgements import read_judgements
    from ..costs.worth.tables import tables
    from ..costs.worth.words import class_verdicts, verdict
    from . import screen

    if output is not None:
        _check(output, traces, judgements)
    said = [] if judgements is None else read_judgements(judgements)
    read = read_traces(traces)
    pairs = pair(judged(read, said), with_graph, without_graph)
    if read.skipped:
        screen.aside().print(f"{read.skipped:,} lines of {traces} were no trace, left out", style="dim", markup=False)
    fixed = Fixed(
        as_of=as_of.date() if as_of is not None else _today(),
        monthly_rent=rent,
        build_compute=build_compute,
        upkeep_compute_monthly=upkeep_compute,
        build_hours=build_hours,
        upkeep_hours_monthly=upkeep_hours,
        hourly_rate=hourly_rate,
        months=months,
    )
    report = weighed(
        pairs, fixed, queries_per_month=queries_per_month, share_sent=share_sent, worth_per_correct=worth, seed=seed
    )
    if output is not None:
        from ..costs.worth.page import page
        from ..disk import atomic_write_text

        atomic_write_text(output, page(report, source=f"From {traces}.", made=_today().isoformat()))
    if as_json:
        screen.write_json({"verdict": verdict(report), **report.to_json()})
        return
    shown = screen.page()
    for sentence in (verdict(report), *class_verdicts(report)):
        shown.print(sentence, markup=False)
    for table in tables(report):
        shown.print()
        shown.print(_drawn(table))
        if table.note:
            shown.print(table.note, style="dim", markup=False)


def _check(output: Path, *read: Path | None) -> None:
    """Fail before long files are read: a missing library, a page in place of what is read."""
    from ..disk import make_folder
    from ..extras import require

    require("the page of hybridmem value", "report", "jinja2", "matplotlib")
    if any(given is not None and given.resolve() == output.resolve() for given in read):
        raise ConfigurationError(f"-o {output} would overwrite what is read; name another file, such as value.html")
    make_folder(output.parent)


def _today() -> date:
    return datetime.now(timezone.utc).date()


def _drawn(table: Table) -> RenderableType:
    from rich.table import Table as Drawn
    from rich.text import Text

    drawn = Drawn(box=None, padding=(0, 2, 0, 0), header_style="dim", title=table.title, title_justify="left")
    for name in table.columns:
        drawn.add_column(name.removeprefix("#"), justify="right" if name.startswith("#") else "left")
    for row in table.rows:
        drawn.add_row(*map(Text, row))
    return drawn
