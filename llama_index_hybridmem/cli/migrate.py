"""`hybridmem migrate`: a store's vectors to a Qdrant server, and back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigurationError
from .options import Json

if TYPE_CHECKING:
    from ..vector.migration import Migration, Progress
    from ..vector.server import QdrantServerVectorStore

KEY = "QDRANT_API_KEY"
COLLECTION = "hybridmem"
TIMEOUT_S = 120.0
"""Seconds a read or write has: nobody waits for an answer, and a page of points with windows may have 40 MB."""


def migrate(
    store: Annotated[Path | None, typer.Argument(metavar="STORE", help="The store's folder, with --to URL.")] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="URL|DIR", help="The server; with --from, a folder.")
    ] = None,
    source: Annotated[str | None, typer.Option("--from", metavar="URL", help="The server to copy from.")] = None,
    collection: Annotated[str, typer.Option(metavar="NAME", help="On the server.")] = COLLECTION,
    tenant: Annotated[str | None, typer.Option(metavar="NAME", help="A tenant of the store there.")] = None,
    api_key_env: Annotated[
        str, typer.Option(metavar="VAR", help="The environment variable that holds the server's API key.")
    ] = KEY,
    merge: Annotated[bool, typer.Option("--merge", help="Copy into a target that holds points already.")] = False,
    as_json: Json = False,
) -> None:
    """Copy a store's vectors to a Qdrant server, or back.

    STORE --to URL, or --from URL --to DIR; keywords and windows go along. Nothing is embedded anew, and what is copied
    stays where it was. Stop it at any time: the same command goes on from there. At the end every point is read back
    and compared. The entity graph stays in the folder: hybridmem graph moves that.
    """
    from . import screen

    folder, url = _ends(store, source, to)
    remote = open_server(url, collection, tenant, os.environ.get(api_key_env))
    with screen.results_only(), remote, _progress() as progress:
        report = _copied(folder, remote, back=source is not None, merge=merge, progress=progress)
    if as_json:
        screen.write_json({**asdict(report), "folder": str(folder), "collection": collection, "tenant": tenant})
    else:
        screen.page().print(_told(report, folder, f"{url}, collection {collection}", back=source is not None))


def open_server(url: str, collection: str, tenant: str | None, api_key: str | None) -> QdrantServerVectorStore:
    """Open a store on a server."""
    from ..vector.server import QdrantServerVectorStore

    return QdrantServerVectorStore(
        collection, url=url, api_key=api_key, tenant=tenant, timeout_s=TIMEOUT_S, write_timeout_s=TIMEOUT_S
    )


def vector_folder(folder: Path) -> Path:
    """Where a folder's vectors are: a part of an index, or the folder itself where it is no index."""
    from ..manifest import FILE, VECTOR

    return folder / VECTOR if (folder / FILE).is_file() else folder


def _ends(store: Path | None, source: str | None, to: str | None) -> tuple[Path, str]:
    """The folder and the server's address, whichever way it goes."""
    if to is None or (store is None) == (source is None):
        raise ConfigurationError("say what to copy where: STORE --to URL, or --from URL --to DIR")
    folder, url = (store, to) if store is not None else (Path(to), source)
    assert folder is not None, "one of both is given"
    assert url is not None, "one of both is given"
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"expected a server's address, http://…:6333 say, not {url!r}")
    if store is not None and not vector_folder(store).is_dir():
        raise ConfigurationError(f"no store in {store}")
    return folder, url


def _copied(folder: Path, remote: QdrantServerVectorStore, *, back: bool, merge: bool, progress: Progress) -> Migration:
    from ..vector.migration import JOURNAL, migrate
    from ..vector.store import QdrantEdgeVectorStore

    place = vector_folder(folder)
    place.mkdir(parents=True, exist_ok=True)
    with QdrantEdgeVectorStore(place) as local:
        source, target = (remote, local) if back else (local, remote)
        return migrate(source, target, place / JOURNAL, merge=merge, progress=progress)


def _told(report: Migration, folder: Path, server: str, *, back: bool) -> str:
    ends = f"{server} → {folder}" if back else f"{folder} → {server}"
    parts = [f"{report.points:,} points, each read back and equal; checksum {report.checksum}"]
    parts += [f"{report.resumed:,} of them by an earlier run"] if report.resumed else []
    parts += [f"{report.repaired:,} copied once more"] if report.repaired else []
    parts += [f"{report.others:,} others in the target"] if report.others else []
    return f"{ends}\n{'; '.join(parts)}"


@contextmanager
def _progress() -> Iterator[Any]:
    """A bar on standard error, for as long as it takes."""
    from rich.progress import Progress

    from . import screen

    console = screen.aside()
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def step(doing: str, done: int, total: int) -> None:
            if doing not in tasks:
                tasks[doing] = bar.add_task(doing, total=total)
            bar.update(tasks[doing], completed=done)

        yield step
