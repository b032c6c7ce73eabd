"""A judged candidate for a terminal; knows no command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .dataset_view import plain

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from ..training.candidates import Candidate

_SIGNS = {"+": "green", "-": "red", "?": "yellow"}


def candidate_told(made: Candidate) -> Iterator[RenderableType]:
    """Say what was trained on, what each answered, the verdicts, and where the candidate is."""
    report = made.report
    for reason, count in report.get("failures", {}).items():
        yield plain(f"{count:,} failures: {reason}", "dim")
    yield plain("rows: " + ", ".join(f"{count:,} {kind}" for kind, count in report["rows"].items() if count))
    for warning in report["warnings"]:
        yield plain(f"! {warning}", "yellow")
    yield _scores(report["scores"])
    if len(report.get("rounds", {})) > 1:
        yield _rounds(report["rounds"])
    for verdict in report["verdicts"].values():
        first, *lines = verdict["lines"]
        yield plain(first, "bold")
        for line in lines:
            yield plain(f"  {line}", _SIGNS.get(line[:1], ""))
    yield plain(f"weights: {made.weights}")
    if made.version is not None:
        name = made.version.partition("@")[0]
        yield plain(
            f"registry: {made.version}, called {name}@candidate; to promote it: hybridmem adapters alias "
            f"{made.version} prod"
        )
    yield plain(f"report: {made.folder / 'verdict.json'}")


def _scores(scores: Mapping[str, Any]) -> RenderableType:
    table = _table("who", "rows", "right", "F1", "abstains rightly", "wrongly")
    for name, each in scores.items():
        cells = (each["right"] and each["right"]["mean"], each["f1"])
        shares = (each[kind] and each[kind]["mean"] for kind in ("abstained", "falsely_abstained"))
        table.add_row(name, str(each["n"]), *map(_percent, (*cells, *shares)))
    return table


def _rounds(rounds: Mapping[str, Any]) -> RenderableType:
    names = list(next(iter(rounds.values())))
    table = _table("right in round", "rows", *names)
    for name, said in rounds.items():
        shares = (said[each]["right"] and said[each]["right"]["mean"] for each in names)
        table.add_row(name, str(said[names[0]]["n"]), *map(_percent, shares))
    return table


def _table(first: str, *others: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first, no_wrap=True)
    for each in others:
        table.add_column(each, justify="right")
    return table


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}"
