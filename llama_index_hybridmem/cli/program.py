"""The program with its subcommands; knows nothing of what they do."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from . import (
    adapters,
    ask,
    audit,
    costs,
    dataset,
    demo,
    evaluate,
    finetune,
    graph,
    improve,
    ingest,
    migrate,
    noise,
    optimize,
    reindex,
    report,
    stats,
    train,
    value,
)

# Plain help: drawn by rich it takes 0.3 s of CPU, plain a third of that.
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def hybridmem(
    debug: Annotated[bool, typer.Option("--debug", help="Log to standard error, and show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Hybrid memory: documents in vector, keyword and graph memory, asked side by side."""
    if debug:
        logging.basicConfig(stream=sys.stderr, level=logging.INFO)


app.command()(ingest.ingest)
app.command()(ask.ask)
app.command()(stats.stats)
app.command("eval")(evaluate.evaluate)
app.command()(optimize.optimize)
app.command()(reindex.reindex)
app.command()(migrate.migrate)
app.command()(demo.demo)
app.command()(report.report)
app.command()(value.value)
app.command()(train.train)
app.command()(finetune.finetune)
app.command()(improve.improve)
app.add_typer(adapters.app, name="adapters")
app.add_typer(graph.app, name="graph")
app.add_typer(costs.app, name="costs")
app.add_typer(audit.app, name="audit")
app.add_typer(noise.app, name="noise")
app.add_typer(dataset.app, name="dataset")
