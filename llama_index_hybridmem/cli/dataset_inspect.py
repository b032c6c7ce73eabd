"""`hybridmem dataset inspect`: records of a training set, with what was done to their passages to be seen."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigurationError
from .options import Json

if TYPE_CHECKING:
    from ..export.record import Record


def inspect(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="An export's folder.")],
    id_: Annotated[str | None, typer.Option("--id", metavar="ID", help="The record of this id.")] = None,
    count: Annotated[int, typer.Option("--n", min=1, help="How many.")] = 1,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Only records with this kind of noise.")] = None,
    split: Annotated[str | None, typer.Option(metavar="NAME", help="Only those of train, dev or test.")] = None,
    rendered: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="Show the row of this format: what the model reads.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show records with their damage.

    What was changed stands in brackets, ⟦…⟧ alone where something was lost; below each passage's name stands what was
    done to it.
    """
    from . import screen

    found = list(islice(_chosen(folder, id_, kind, split), count))
    if not found:
        asked = {"id": id_, "kind": kind, "split": split}
        told = ", ".join(f"{name} {value}" for name, value in asked.items() if value is not None)
        raise ConfigurationError(f"{folder} has no record{f' of {told}' if told else ''}")
    if rendered is not None:
        _write_rows(folder, found, rendered, as_json)
    elif as_json:
        screen.write_json([each.to_json() for each in found])
    else:
        _show(found)


def _chosen(folder: Path, id_: str | None, kind: str | None, split: str | None) -> Iterator[Record]:
    from ..export.describing import records
    from ..export.options import SPLITS
    from ..noise.kinds import KINDS

    for name, value, known in (("--kind", kind, KINDS), ("--split", split, SPLITS)):
        if value is not None and value not in known:
            raise ConfigurationError(f"{name}: no {value!r}; there are {', '.join(known)}")
    for _, record in records(folder):
        if id_ in (None, record.id) and split in (None, record.split) and (kind is None or kind in record.kinds()):
            yield record


def _write_rows(folder: Path, found: list[Record], name: str, as_json: bool) -> None:
    from ..export.exporter import read_options
    from ..export.formats import row
    from . import screen

    wording = read_options(folder).wording
    rows = [row(record, name, wording) for record in found]
    if as_json:
        screen.write_json(rows)
    else:
        for each in rows:
            _show_row(each)


def _show_row(row: dict[str, Any]) -> None:
    from ..export.lengths import parted
    from . import screen
    from .dataset_view import plain

    page = screen.page()
    for name, part in zip(("prompt", "completion"), parted(row), strict=True):
        turns = [{"role": name, "content": part}] if isinstance(part, str) else part
        for turn in turns:
            page.print(plain(turn["role"], "dim"))
            page.print(plain(turn["content"]), soft_wrap=True)
            page.print()


def _show(found: list[Record]) -> None:
    from . import screen
    from .dataset_view import record

    page = screen.page()
    for place, each in enumerate(found):
        if place:
            page.rule(style="dim")
        page.print(*record(each), sep="\n")
