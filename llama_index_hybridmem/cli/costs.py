"""`hybridmem costs …`: what building and asking would cost, which prices count, and old traces at other prices."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ..errors import ConfigurationError, IngestError
from .naming import by_option
from .options import Json

if TYPE_CHECKING:
    from llama_index.core.schema import Document

    from ..costs.planning.work import Graph, Plan
    from ..costs.prices.book import PriceBook
    from .files import Problem

app = typer.Typer(no_args_is_help=True, help="What it would cost, and by which prices.")

Prices = Annotated[Path | None, typer.Option("--prices", metavar="FILE.csv", help="Rows of your own; they win.")]


@app.command()
def estimate(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Files and folders, as for ingest.")],
    llm: Annotated[str, typer.Option(metavar="MODEL", help="The language model.")] = "gpt-4o-mini",
    provider: Annotated[str, typer.Option(help="Who is paid for it.")] = "openai",
    embedding: Annotated[str, typer.Option(metavar="MODEL", help="The encoder.")] = "text-embedding-3-small",
    embedding_provider: Annotated[str, typer.Option(help="Who is paid for it; local: this machine.")] = "openai",
    graph: Annotated[str, typer.Option(help="none, entities (no model), or llm (a call a chunk).")] = "none",
    queries_per_month: Annotated[int, typer.Option(min=0, help="Questions; 0 leaves asking out.")] = 0,
    top_k: Annotated[int, typer.Option(min=1, help="Chunks in the prompt.")] = 5,
    chunk: Annotated[int, typer.Option(min=1, help="Tokens that a chunk may have.")] = 512,
    prices: Prices = None,
    as_json: Json = False,
) -> None:
    """Say what memory of some documents would cost to build, and to ask; nothing is built, and no model is called.

    The documents are read, cut and counted. Every figure is a range, and says whether it was measured or is assumed.
    """
    from ..costs.planning.corpus import measure
    from ..costs.planning.estimate import estimate as estimated
    from ..costs.planning.work import Plan
    from ..costs.prices.row import LEVELS
    from . import costs_view, screen

    with by_option():
        plan = Plan(llm, provider, embedding, embedding_provider, cast("Graph", graph), queries_per_month, top_k)
    books = {level: _book(prices, level=level) for level in LEVELS}
    problems: list[Problem] = []
    with screen.results_only():
        corpus = measure(_documents(paths, problems), chunk)
    if not corpus.chunks:
        raise IngestError("; ".join(["no text to estimate from", *map(_told, problems[:3])]))
    found = estimated(corpus, plan, books, datetime.now(timezone.utc))
    for remark in filter(None, (_unasked(context, plan), costs_view.not_installed(found))):
        screen.aside().print(remark, markup=False, soft_wrap=True)
    if as_json:
        unread = [{"place": problem.place, "reason": problem.reason} for problem in problems]
        screen.write_json({**found.to_json(), "problems": unread})
        return
    for problem in problems:
        screen.aside().print(f"left out: {_told(problem)}", style="dim", markup=False)
    page = screen.page()
    page.print(costs_view.sentence(found), markup=False)
    for table in (costs_view.lines(found), costs_view.inputs(found)):
        page.print()
        page.print(table)
    page.print()
    page.print(costs_view.origins(found), style="dim", markup=False)


@app.command()
def prices(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="All rows if not given.")] = None,
    provider: Annotated[str | None, typer.Option(help="Who is paid for it; else everybody who has it.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="llm, embedding, rerank, machine, database, training or person; else all.")
    ] = None,
    own: Prices = None,
    as_json: Json = False,
) -> None:
    """Show the prices that count, with source and date; a model that nobody knows is unpriced, not free."""
    from ..costs.prices.row import UNITS
    from . import costs_view, screen

    if kind is not None and kind not in UNITS:
        raise ConfigurationError(f"--kind: unknown {kind!r}; one of {', '.join(UNITS)}")
    book = _book(own)
    rows = costs_view.rows(book, kind, provider, model, datetime.now(timezone.utc))
    if as_json:
        screen.write_json({"sources": list(book.sources()), "rows": rows})
        return
    page = screen.page()
    for part in costs_view.price_tables(rows) if rows else [costs_view.unpriced(kind, provider, model)]:
        page.print(part, markup=False)
        page.print()
    page.print(f"Asked in this order: {'; '.join(book.sources())}.", style="dim", markup=False)


@app.command()
def reprice(
    traces: Annotated[Path, typer.Argument(metavar="TRACES.jsonl", help="As the handler wrote them.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="A new file.")],
    as_model: Annotated[
        str | None, typer.Option(metavar="PROVIDER/MODEL", help="As if this language model had been asked.")
    ] = None,
    at: Annotated[
        datetime | None, typer.Option(metavar="DATE", formats=["%Y-%m-%d"], help="By the prices of that day.")
    ] = None,
    prices: Prices = None,
    as_json: Json = False,
) -> None:
    """Write traces anew with other prices: those of today's book, of another day, or of another model.

    Each call says in the new file whose price it has; as another model: "as PROVIDER/MODEL: …".
    """
    from ..costs.exporters.reading import read_traces
    from ..costs.prices.repricing import reprice_file
    from . import costs_view, screen

    named = None if as_model is None else _provider_and_model(as_model)
    when = None if at is None else at.replace(tzinfo=timezone.utc)
    read = read_traces(traces)
    found = reprice_file(read, output, _book(prices), named, when)
    if read.skipped:
        screen.aside().print(f"{read.skipped:,} lines were no trace, left out", style="dim")
    if as_json:
        screen.write_json({**found.to_json(), "skipped": read.skipped})
        return
    screen.page().print(costs_view.repriced(found, output), markup=False, soft_wrap=True)


def _book(file: Path | None, **settings: Any) -> PriceBook:
    from ..costs.prices.book import PriceBook

    if file is None:
        return PriceBook(**settings)
    if not file.is_file():
        raise ConfigurationError(f"--prices: no file {file}")
    return PriceBook.from_file(file, **settings)


def _documents(paths: list[Path], problems: list[Problem]) -> Iterator[Document]:
    from .files import Problem, find, read

    files, missing = find(paths)
    problems += missing
    for file in files:
        for document in read(file):
            if isinstance(document, Problem):
                problems.append(document)
            else:
                yield document


def _unasked(context: typer.Context, plan: Plan) -> str:
    """Say that a language model was named and nothing is asked of it."""
    given = context.get_parameter_source("llm")
    if plan.queries_per_month or plan.graph == "llm" or given is None or given.name == "DEFAULT":
        return ""
    return f"{plan.llm} is asked nothing, so it is in no figure: --queries-per-month N or --graph llm asks it"


def _told(problem: Problem) -> str:
    return f"{problem.place}: {problem.reason}"


def _provider_and_model(text: str) -> tuple[str, str]:
    provider, slash, model = text.partition("/")
    if not (provider and slash and model):
        raise ConfigurationError(f"--as-model: PROVIDER/MODEL, as anthropic/claude-haiku-4-5, not {text!r}")
    return provider, model
