"""`hybridmem dataset validate`: every row and record of a training set checked, each problem with its place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Json

if TYPE_CHECKING:
    from ..export.validating import Validation

_WRONG = 1


def validate(
    path: Annotated[Path, typer.Argument(metavar="FOLDER|FILE", help="An export's folder, or one of its files.")],
    format_: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="Of a file's rows; of a folder, the only one checked."),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="NAME|DIR", help="The model's; without one tokens are estimated.")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=1, metavar="TOKENS", help="Rows that are longer are problems.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a training set before it is trained on.

    Every record's answer is looked up in its passages, as it was when the label was given; every row is held against
    its format's schema and, in a folder, against what its record gives. Exit code 1 when something is wrong.
    """
    from ..export.validating import validate as checked
    from . import screen

    with screen.results_only():
        found = checked(path, format_, tokenizer, max_length)
    if as_json:
        screen.write_json(found.to_json())
    else:
        _say(found)
    if not found.ok:
        raise typer.Exit(_WRONG)


def _say(found: Validation) -> None:
    from . import screen
    from .dataset_view import plain

    page = screen.page()
    for each in found.problems:
        page.print(plain(f"{each.place}: {each.what}"), soft_wrap=True)
    if found.wrong > len(found.problems):
        page.print(f"… and {found.wrong - len(found.problems):,} more")
    rows = ", ".join(f"{name} {n:,}" for name, n in found.rows.items()) or "none"
    verdict = "nothing wrong" if found.ok else f"{found.wrong:,} problem{'' if found.wrong == 1 else 's'}"
    page.print(f"{found.records:,} records; rows: {rows}; {verdict}.")
