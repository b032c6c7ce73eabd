"""A training run's report for a terminal; knows no command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .dataset_view import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..training.plan import Plan
    from ..training.runs import Trained


def plan_told(plan: Plan) -> Iterator[RenderableType]:
    """Say what a run would take."""
    yield plain(plan.in_words())
    for warning in plan.warnings:
        yield plain(f"! {warning}", "yellow")


def trained_told(made: Trained, report: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Say what a run made."""
    data = report["data"]
    watched = [line["dev_loss"] for line in report["losses"] if "dev_loss" in line]
    first = next((line["loss"] for line in report["losses"] if "loss" in line), None)
    yield plain(
        f"{data['train']:,} rows and {data['replayed']:,} general ones, {report['steps']} steps in "
        f"{report['seconds'] / 60:.1f} minutes; kept: step {report['kept_step']}"
    )
    if first is not None and watched:
        yield plain(f"loss at first {first:.3f}; on dev rows {watched[0]:.3f}, at best {min(watched):.3f}")
    for warning in report["warnings"]:
        yield plain(f"! {warning}", "yellow")
    if scores := report.get("scores"):
        yield _scores(scores)
    for part in ("learning_curve", "scaling_curve"):
        if part in report:
            yield plain(report[part]["sentence"])
    yield plain(f"weights: {made.weights}")
    if made.version is not None:
        yield plain(f"registry: {made.version.id}, called {made.version.name}@candidate until it is promoted")
    yield plain(f"report: {made.folder / 'report.html'}")


def _scores(scores: Mapping[str, Any]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("noise", no_wrap=True)
    for name in ("rows", "before", "after"):
        table.add_column(name, justify="right")
    for kind, both in scores["kinds"].items():
        table.add_row(kind, str(both["before"]["n"]), *(_share(both[when]) for when in ("before", "after")))
    gained = scores["difference"]
    spread = f"{100 * gained['mean']:+.0f}: {100 * gained['low']:+.0f} to {100 * gained['high']:+.0f}"
    after = f"{_share(scores['after'])} ({spread})"
    table.add_row("all", str(scores["before"]["n"]), _share(scores["before"]), after)
    return table


def _share(summary: Mapping[str, Any]) -> str:
    """Right answers: F1, and of rows that cannot be answered those that were not."""
    right = summary["right"]
    return "–" if right is None else f"{100 * right['mean']:.0f}"
