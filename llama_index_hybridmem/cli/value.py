"""`hybridmem value`: what the graph path is worth, from one run with it and one without."""

from __future__ import annotations

from datetime import date, datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigurationError
from .naming import by_option
from .options import Json
from .output import place_for

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..costs.report.tables import Table
    from ..costs.value import ValueReport
    from ..costs.worth.judged import Answers

_OPTIONS = {
    "monthly_rent": "--rent",
    "upkeep_compute_monthly": "--upkeep-compute",
    "upkeep_hours_monthly": "--upkeep-hours",
    "worth_per_correct": "--worth",
}
"""Options that are called otherwise than the fields they fill."""


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
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write a page instead.")] = None,
    as_json: Json = False,
) -> None:
    """Weigh the answers that the graph adds against its cost.

    The same questions, asked with and without it; which answers are right say --judgements, or tags "correct". All
    amounts are in the currency of the traces; what is not given is not counted, and named. See
    docs/what-is-a-graph-worth.md.
    """
    from ..costs.exporters.reading import read_traces
    from ..costs.value import value as weighed
    from ..costs.worth.fixed import Fixed
    from ..costs.worth.judged import judged, pair
    from ..costs.worth.judgements import read_judgements
    from . import screen

    place = None if output is None else _place(output, traces, judgements)
    said = [] if judgements is None else read_judgements(judgements)
    read = read_traces(traces)
    answers = judged(read, said)
    if not answers.rows and judgements is None:
        raise ConfigurationError(_unjudged(traces, answers))
    pairs = pair(answers, with_graph, without_graph)
    if read.skipped:
        screen.aside().print(f"{read.skipped:,} lines of {traces} were no trace, left out", style="dim", markup=False)
    with by_option(**_OPTIONS):
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
    if place is not None:
        _write(place, report, traces)
    _tell(report, output, as_json)


def _write(place: Path, report: ValueReport, traces: Path) -> None:
    from ..costs.worth.page import page
    from ..disk import atomic_write_text

    atomic_write_text(place, page(report, source=f"From {traces}.", made=_today().isoformat()))


def _tell(report: ValueReport, output: Path | None, as_json: bool) -> None:
    """As JSON, or where the page lies, or in tables."""
    from ..costs.report.wording import counted
    from ..costs.worth.tables import tables
    from ..costs.worth.words import class_verdicts, verdict
    from . import screen

    shown = screen.page()
    if as_json:
        screen.write_json({"verdict": verdict(report), **report.to_json()})
        return
    if output is not None:
        shown.print(f"{output}: {counted(report.everything.pairs, 'paired question')}", soft_wrap=True, markup=False)
        return
    for sentence in (verdict(report), *class_verdicts(report)):
        shown.print(sentence, markup=False)
    for table in tables(report):
        shown.print()
        shown.print(_drawn(table))
        if table.note:
            shown.print(table.note, style="dim", markup=False)


def _place(output: Path, *read: Path | None) -> Path:
    """Fail before long files are read: a missing library, a page in place of what is read."""
    from ..extras import require

    require("the page of hybridmem value", "report", "jinja2", "matplotlib")
    return place_for(output, "value.html", [each for each in read if each is not None])


def _unjudged(traces: Path, answers: Answers) -> str:
    told = "; ".join(f"{count:,} {reason}" for reason, count in answers.counted.items())
    return (
        f"no answer in {traces} is judged{f' ({told})' if told else ''}: give --judgements FILE, with a line "
        '{"question": …, "run": …, "correct": 0…1} for each, or tag each query with correct while it is asked'
    )


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
