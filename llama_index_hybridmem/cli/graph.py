"""`hybridmem graph …`: a name and what hangs on it, shown and drawn; graphs copied between stores and servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigurationError, RetrievalError
from .graph_places import Server, bolt, opened, place
from .options import Json

if TYPE_CHECKING:
    from ..graph.stores.base import PortableGraphStore
    from ..graph.transfer import Copied, Step

app = typer.Typer(no_args_is_help=True, help="Look at the entity graph, or move it to Neo4j and back.")

PASSWORD = "NEO4J_PASSWORD"
_TRIPLES = (".csv", ".json", ".jsonl", ".ndjson")
_ADDRESS = "neo4j://USER@HOST:PORT/DATABASE"

PasswordEnv = Annotated[
    str, typer.Option("--password-env", metavar="NAME", help="The environment variable with the server's password.")
]
InDatabase = Annotated[
    str, typer.Option("--graph", metavar="NAME", help="Which of our graphs in that database, where it has several.")
]
Tenant = Annotated[
    str | None,
    typer.Option("--tenant", metavar="NAME", help="Whose part of the graph, on both sides; see docs/graph-cli.md."),
]
NameProperty = Annotated[
    list[str] | None,
    typer.Option(
        "--name-property", metavar="KEY", help="Of a foreign graph's nodes: name, title, id unless given; repeatable."
    ),
]
Foreign = Annotated[
    bool, typer.Option("--foreign", help="Read the server's other nodes, though a graph of ours is there, too.")
]


@app.command()
def show(
    entity: Annotated[str, typer.Argument(metavar="ENTITY", help="A name, in any case.")],
    store: Annotated[str, typer.Option("--store", "-s", "--from", metavar="PLACE", help=f"A store, or {_ADDRESS}.")],
    hops: Annotated[int, typer.Option(min=1, max=2, help="2: also what is beside the strongest names beside it.")] = 1,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the neighbourhood as SVG.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="The same as a page, with its tables.")] = None,
    graph: InDatabase = "main",
    tenant: Tenant = None,
    name_property: NameProperty = None,
    foreign: Foreign = False,
    password_env: PasswordEnv = PASSWORD,
    as_json: Json = False,
) -> None:
    """Show what the graph knows of a name: spellings, facts, names in the same passages, passages.

    Another process may have the store open. A foreign graph in Neo4j is read whole, into memory, to be shown.
    """
    from ..disk import atomic_write_text
    from ..graph import page
    from ..graph.portrait import portrait
    from ..graph.spelling import similar_names
    from . import screen
    from .portrait_view import view

    where = place(store, graph, password_env, tenant=tenant)
    with screen.results_only(), _readable(where, name_property, foreign or _is_theirs(where, tenant)) as found:
        known = portrait(found, entity, hops=hops)
        if known is None:
            raise RetrievalError(_unknown(entity, similar_names(found, entity)))
    for file, written in ((svg, page.svg), (html, page.html)):
        if file is not None:
            atomic_write_text(file, written(known))
    if as_json:
        screen.write_json(asdict(known))
    else:
        screen.page().print(view(known))


@app.command("import")
def import_(
    source: Annotated[
        str, typer.Option("--from", metavar="PLACE", help=f"{_ADDRESS}, a CSV or JSON file of triples, or a store.")
    ],
    target: Annotated[str, typer.Option("--to", metavar="STORE", help="A store's folder.")],
    graph: InDatabase = "main",
    tenant: Tenant = None,
    name_property: NameProperty = None,
    foreign: Foreign = False,
    password_env: PasswordEnv = PASSWORD,
    as_json: Json = False,
) -> None:
    """Bring a graph into a store: one of ours in Neo4j whole, any other graph there as facts and names, or triples.

    What is there already stays, and the same command again changes nothing. Stop it at any time: it goes on from there.
    """
    from ..graph.facts import read_facts
    from ..graph.transfer import copy, take_over

    into = place(target, tenant=tenant)
    if isinstance(into, Server):
        raise ConfigurationError("--to names a store's folder; into a server goes hybridmem graph export")
    if "://" not in source and Path(source).suffix.lower() in _TRIPLES:
        facts = read_facts(source)
        with opened(into, new=True) as ours:
            _report(take_over(ours, facts=facts), source, target, as_json)
        return
    where = place(source, graph, password_env, tenant=tenant)
    if isinstance(where, Server) and (foreign or _is_theirs(where, tenant)):
        with opened(into, new=True) as ours, _progress(None) as step:
            copied = _take_over(where, ours, name_property, step)
    else:
        with (
            opened(where) as theirs,
            opened(into, new=True) as ours,
            _progress(theirs) as step,
        ):
            copied = copy(theirs, ours, step=step)
    _report(copied, source, target, as_json)


@app.command()
def export(
    source: Annotated[str, typer.Option("--from", metavar="STORE", help="A store's folder.")],
    target: Annotated[str, typer.Option("--to", metavar="PLACE", help=f"{_ADDRESS}, or another store.")],
    graph: InDatabase = "main",
    tenant: Tenant = None,
    password_env: PasswordEnv = PASSWORD,
    as_json: Json = False,
) -> None:
    """Copy a store's graph to a Neo4j server, where Neo4jGraphStore gives the same rankings from it.

    What is there already stays, and the same command again changes nothing. Stop it at any time: it goes on from there.
    """
    from ..graph.transfer import copy

    where, into = (place(named, graph, password_env, tenant=tenant) for named in (source, target))
    with opened(where) as ours, opened(into, new=True) as theirs, _progress(ours) as step:
        copied = copy(ours, theirs, step=step)
    _report(copied, source, target, as_json)


@contextmanager
def _readable(where: Path | Server, names: list[str] | None, foreign: bool) -> Iterator[PortableGraphStore]:
    """A graph of ours as it stands; a foreign one taken over into memory."""
    if isinstance(where, Server) and foreign:
        from ..graph.stores.sqlite import SqliteGraphStore

        store = SqliteGraphStore()
        try:
            with _progress(None) as step:
                _take_over(where, store, names, step)
            yield store
        finally:
            store.close()
        return
    with opened(where) as found:
        yield found


def _is_theirs(where: Path | Server, tenant: str | None) -> bool:
    """Whether a place is a server without the graph of ours that is asked for; a tenant's is never taken for theirs."""
    if isinstance(where, Path):
        return False
    line = bolt(where)
    try:
        found = {row[0] for row in line.read("MATCH (s:HybridmemStore) RETURN s.name")}
    finally:
        line.close()
    if where.store not in found and (found or tenant is not None):
        wanted = repr(where.store) if tenant is None else f"of tenant {tenant!r}"
        there = f"graphs there: {', '.join(sorted(found)) or 'none'}"
        raise ConfigurationError(f"no graph {wanted} in {where}; {there}; what others wrote: --foreign")
    return not found


def _take_over(where: Server, target: PortableGraphStore, names: list[str] | None, step: Step) -> Copied:
    from ..graph.foreign import NAMES, Foreign
    from ..graph.transfer import take_over

    line = bolt(where)
    try:
        graph = Foreign(line.read, source=where.database or "neo4j", names=names or NAMES)
        if graph.is_empty():
            raise ConfigurationError(f"nothing in {where}: neither a graph of ours named {where.store!r} nor any other")
        return take_over(target, facts=graph.facts(), names=graph.entities(), passages=graph.chunks(), step=step)
    finally:
        line.close()


@contextmanager
def _progress(source: PortableGraphStore | None) -> Iterator[Step]:
    """A bar over passages written and compared; without a source, how many so far."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from . import screen

    console = screen.aside()
    columns = (TextColumn("passages"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        total = 2 * source.passage_count if source is not None else None
        task = progress.add_task("passages", total=total)
        yield lambda count: progress.advance(task, count)


def _report(copied: Copied, source: str, target: str, as_json: bool) -> None:
    from rich.table import Table

    from . import screen

    if as_json:
        screen.write_json(asdict(copied))
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    brought = f"{copied.passages:,} passages, {copied.names:,} stated names, {copied.facts:,} stated facts"
    table.add_row("Brought", brought)
    table.add_row("There now", ", ".join(f"{count:,} {key}" for key, count in copied.totals.items()))
    if copied.others:
        table.add_row("", f"{copied.others:,} passages of them are of elsewhere, and were left alone")
    screen.page().print(table)


def _unknown(entity: str, similar: list[str]) -> str:
    meant = f"; did you mean {', '.join(similar)}?" if similar else ""
    return f"the graph knows no name {entity!r}{meant}"
