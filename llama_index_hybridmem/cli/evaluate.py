"""`hybridmem eval`: retrieval measured on the user's own questions, each memory on and off."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Json, Store

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..evaluation import EvaluationReport
    from ..statistics import Interval


def evaluate(
    store: Store,
    questions: Annotated[
        Path,
        typer.Argument(metavar="QUESTIONS.jsonl", help='Lines of {"question": …, "expected_sources": […]}.'),
    ],
    hops: Annotated[int, typer.Option(min=1, max=2, help="Of the graph search.")] = 2,
    as_json: Json = False,
) -> None:
    """Measure retrieval on your own questions.

    With each memory on and off: recall, all of the sources found, mean reciprocal rank, with intervals.
    expected_sources (or gold) names documents: ids, titles, file names with or without ending. Questions without any
    are counted and skipped.
    """
    from . import screen
    from .store import open_index

    with screen.results_only(), open_index(store, warm=True) as index:
        report = index.evaluate(questions, hops=hops)
    if as_json:
        screen.write_json(report.to_json())
        return
    page = screen.page()
    page.print(_table(report))
    page.print(
        f"{report.questions} questions ({report.skipped} without expected sources skipped). Per cent, with 95 % "
        "bootstrap intervals; gain: in recall@5 over hybrid, question by question."
    )


def _table(report: EvaluationReport) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("asked", no_wrap=True)
    names = list(report.arms[0].metrics)
    for name in [*names, "gain"]:
        table.add_column(name, justify="right")
    for arm in report.arms:
        gain = "–" if arm.gain is None else _interval(arm.gain, "+")
        table.add_row(arm.name, *(_interval(arm.metrics[name]) for name in names), gain)
    return table


def _interval(value: Interval, sign: str = "") -> str:
    """A share in per cent, its interval below it."""
    return f"{100 * value.mean:{sign}.1f}\n{100 * value.low:{sign}.0f}…{100 * value.high:{sign}.0f}"
