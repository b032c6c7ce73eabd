"""`hybridmem noise …`: how retrieved text is broken, measured from a store or from traces; decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigurationError
from .options import Json

if TYPE_CHECKING:
    from rich.table import Table

    from ..noise.confusion import DetectorErrors
    from ..noise.kinds import Kind
    from ..noise.profile import Profile

app = typer.Typer(no_args_is_help=True, help="How broken is retrieved text? Measure it, list its kinds.")


@app.command()
def profile(
    source: Annotated[
        Path, typer.Argument(metavar="STORE|TRACES", help="A store's folder, or a file of RetrievalTraces.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.json", help="Where the profile is written.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Chunks of a store to look at; 20,000 if not given.")
    ] = None,
    complete: Annotated[
        bool, typer.Option("--complete", help="Kinds that cannot be measured: as the default profile has them.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure how often each kind of noise occurs, corrected for the detectors' errors.

    Of a store its chunks are looked at, of traces what queries got; no language model is asked, nothing is changed.
    """
    from ..noise.defaults import default_profile
    from ..noise.profiles import save
    from . import screen
    from .output import place_for

    place = None if output is None else place_for(output, "noise.json", [source])
    with screen.results_only():
        found = _of_store(source, sample) if source.is_dir() else _of_traces(source, sample)
    if complete:
        found = found.completed(default_profile())
    if place is not None:
        save(found, place)
    _tell(found, as_json)
    if place is not None:
        screen.aside().print(f"Written to {output}", markup=False, soft_wrap=True)


@app.command()
def show(
    file: Annotated[Path, typer.Argument(metavar="PROFILE.json", help="As `hybridmem noise profile -o` wrote it.")],
    as_json: Json = False,
) -> None:
    """Show a profile that was written before."""
    from ..noise.profiles import load

    _tell(load(file), as_json)


@app.command()
def kinds(as_json: Json = False) -> None:
    """List the kinds of noise, the operators that make them, and the detectors that find them, with their errors."""
    from ..noise.detectors.measured import errors
    from . import screen

    rows = list(_kinds(errors()))
    if as_json:
        screen.write_json(rows)
        return
    page = screen.page()
    for row in rows:
        page.print(_kind_view(row))
        page.print()


def _of_store(folder: Path, sample: int | None) -> Profile:
    from ..noise.profiles import SAMPLE, from_index
    from .store import open_index

    with open_index(folder) as index, _progress("chunks") as step:
        return from_index(index, sample=sample or SAMPLE, progress=step)


def _of_traces(file: Path, sample: int | None) -> Profile:
    from ..noise.profiles import from_traces

    if sample is not None:
        raise ConfigurationError("--sample is for stores; of traces every query is looked at")
    with _progress("queries") as step:
        return from_traces(file, progress=step)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on standard error over what was looked at."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from . import screen

    console = screen.aside()
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _tell(found: Profile, as_json: bool) -> None:
    from ..noise.kinds import LIST_KINDS
    from . import screen
    from .dataset_view import plain

    if as_json:
        screen.write_json(found.to_json())
        return
    page = screen.page()
    if found.passages:
        queries = f" of {found.questions:,} queries" if found.questions else ""
        page.print(f"{found.passages:,} passages{queries} looked at")
        page.print()
    page.print(_profile_view(found))
    page.print()
    of_queries = [kind for kind in found.kinds if kind in LIST_KINDS]
    if of_queries:
        page.print(f"Shares are of passages; of {' and '.join(sorted(of_queries))}, of queries.", style="dim")
    page.print(plain(f"{found.source[:1].upper()}{found.source[1:]}.", "dim"))
    if found.together:
        pairs = sorted(found.together.items(), key=lambda item: -abs(item[1]))[:5]
        told = ", ".join(f"{pair.replace('|', ' and ')} {value:+.2f}" for pair, value in pairs)
        page.print(plain(f"Together in a passage (correlation): {told}.", "dim"))


def _profile_view(found: Profile) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("kind", "share %", "95 % interval", "found %", "severity", "mostly"):
        table.add_column(name, justify="left" if name in ("kind", "mostly") else "right", no_wrap=name != "mostly")
    for kind, each in sorted(found.kinds.items(), key=lambda item: (-item[1].rate, item[0])):
        table.add_row(
            kind,
            f"{100 * each.rate:.1f}",
            f"{100 * each.low:.1f} to {100 * each.high:.1f}",
            "–" if each.seen is None else f"{100 * each.seen:.1f}",
            "–" if each.seen == 0 else f"{each.severity[2]:.2f}",
            max(each.operators, key=lambda name: each.operators[name]) if each.operators else "–",
        )
    return table


def _kinds(rates: DetectorErrors) -> Iterator[dict[str, Any]]:
    from ..noise.detectors.catalog import detectors
    from ..noise.kinds import KINDS, LIST_KINDS
    from ..noise.operators.catalog import operators

    for kind in KINDS:
        yield {
            "kind": kind,
            "of": "queries" if kind in LIST_KINDS else "passages",
            "operators": [{"name": each.name, "about": each.about} for each in operators(kind)],
            "detectors": [
                {"name": each.name, "version": each.version, "about": each.about} for each in detectors(kind)
            ],
            "errors": _errors(rates, kind),
        }


def _errors(rates: DetectorErrors, kind: Kind) -> dict[str, float] | None:
    known = rates.get(kind)
    return None if known is None else {"sensitivity": known.sensitivity, "specificity": known.specificity}


def _kind_view(row: dict[str, Any]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    errors = row["errors"]
    told = (
        ""
        if errors is None
        else f", found in {_percent(errors['sensitivity'])} of those that have it and in "
        + (f"{_percent(1 - errors['specificity'])} of those that have not")
    )
    table.add_row(Text(row["kind"], "bold"), Text(f"of {row['of']}{told}", "dim"))
    for each in row["operators"]:
        table.add_row(f"  {each['name']}", Text(each["about"]))
    names = ", ".join(each["name"] for each in row["detectors"])
    table.add_row(Text("  found by", "dim"), Text(names or "no detector", "dim"))
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
