"""`hybridmem train`: an adapter from a training set, its losses and what it brought; decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from .naming import by_option
from .options import Json

if TYPE_CHECKING:
    from ..example import Example
    from ..training.recipe import Recipe
    from ..training.rows import TrainingSet
    from ..training.runs import Trained

BASE_HELP = "smollm2, a model's folder, or its name on a hub."


def train(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A folder of `dataset export`, or a JSONL file.")],
    base: Annotated[str, typer.Option(metavar="NAME|DIR", help=BASE_HELP)],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="A new folder, or a run to go on with.")],
    method: Annotated[str, typer.Option(help="lora, qlora (base in 4 bits), full or prompt.")] = "lora",
    rank: Annotated[int, typer.Option(help="Of the adapter.")] = 16,
    alpha: Annotated[float, typer.Option(help="Its effect is scaled by alpha / rank.")] = 32.0,
    rslora: Annotated[bool, typer.Option("--rslora", help="Scaled by alpha / sqrt(rank); for high ranks.")] = False,
    learning_rate: Annotated[float | None, typer.Option(help="Default: what suits the method.")] = None,
    epochs: Annotated[float, typer.Option(help="Times that each row is seen.")] = 2.0,
    max_steps: Annotated[int | None, typer.Option(help="Steps at most.")] = None,
    batch_size: Annotated[int, typer.Option(help="Rows per step.")] = 8,
    micro_batch: Annotated[int, typer.Option(help="Of these, computed at once: less needs less memory.")] = 4,
    max_length: Annotated[
        int | None, typer.Option(metavar="TOKENS", help="Leave out longer rows; default: as long as the longest.")
    ] = None,
    replay: Annotated[float, typer.Option(help="Share of general rows, so that nothing is forgotten.")] = 0.1,
    kl: Annotated[float, typer.Option(help="Weight of the distance from the base.")] = 0.0,
    patience: Annotated[int, typer.Option(help="Evaluations without a gain until it stops; 0: never.")] = 3,
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
    seed: Annotated[int, typer.Option(help="The same seed on the same CPU, the same bytes.")] = 0,
    registry: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Add the adapter to it, as NAME@candidate.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The adapter's; default: the training set's.")] = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="DIR|NAME@VERSION", help="Train it further; a name needs --registry."),
    ] = None,
    general: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rows for --replay; default: those of the package.")
    ] = None,
    few_rows: Annotated[bool, typer.Option("--few-rows", help="Train on fewer than 100 rows, too.")] = False,
    facts: Annotated[
        bool, typer.Option("--facts", help="Train although many answers have facts that their sources lack.")
    ] = False,
    learning_curve: Annotated[
        str | None, typer.Option(metavar="N,N,…", help="Train on so many rows, too, and say what more would bring.")
    ] = None,
    scaling: Annotated[bool, typer.Option("--scaling", help="Measure how much of the adapter to use.")] = False,
    measure: Annotated[
        int, typer.Option(min=0, metavar="ROWS", help="Held-back rows answered before and after; 0 for none.")
    ] = 64,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and train nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Train an adapter on a training set, and measure what it brought.

    Killed and called again it goes on where it was; on a CPU the adapter's bytes are the same as without the kill.
    """
    from ..training.recipe import Recipe
    from ..training.rows import read_set
    from . import screen
    from .train_view import plan_told, trained_told

    with by_option():
        recipe = Recipe(
            method=cast("Any", method),
            rank=rank,
            alpha=alpha,
            rslora=rslora,
            learning_rate=learning_rate,
            epochs=epochs,
            max_steps=max_steps,
            batch_size=batch_size,
            micro_batch=min(micro_batch, batch_size),
            max_length=max_length,
            replay=replay,
            kl=kl,
            patience=patience,
            precision=cast("Any", precision),
            seed=seed,
        )
        sizes = _sizes(learning_curve)
    with screen.results_only():
        rows = read_set(data)
        further = None if start is None else _start(start, registry)
        replayed = None if general is None else read_set(general).train
        if dry_run:
            from ..training.plan import plan

            found = plan(rows, base, recipe, replayed)
            told: Any = plan_told(found)
            report: Mapping[str, Any] = found.to_json()
        else:
            made = _train(rows, base, out, recipe, registry, name, further, replayed, few_rows, facts)
            if not made.report:  # one of several processes, which computed with the first
                return
            report = _measured(made, rows, base, recipe, sizes, scaling, measure, replayed)
            told = trained_told(made, report)
    if as_json:
        screen.write_json(report)
        return
    page = screen.page()
    for part in told:
        page.print(part, soft_wrap=True)


def _sizes(text: str | None) -> tuple[int, ...]:
    from ..errors import ConfigurationError

    try:
        found = tuple(int(each) for each in text.split(",")) if text else ()
    except ValueError as error:
        raise ConfigurationError(f"learning_curve: numbers of rows as 100,250,500, not {text!r}") from error
    if any(size < 1 for size in found):
        raise ConfigurationError("learning_curve: each size is 1 row or more")
    return found


def _start(start: str, registry: Path | None) -> Path:
    from ..errors import ConfigurationError
    from ..llms.adapters.registry import AdapterRegistry

    if Path(start).is_dir():
        return Path(start)
    if registry is None:
        raise ConfigurationError(f"--start {start}: no such folder; to name a version, give --registry, too")
    known = AdapterRegistry(registry)
    version = known.get(start)
    known.verify(version)
    return version.folder


def _train(
    rows: TrainingSet,
    base: str,
    out: Path,
    recipe: Recipe,
    registry: Path | None,
    name: str | None,
    start: Path | None,
    general: tuple[Example, ...] | None,
    few_rows: bool,
    facts: bool,
) -> Trained:
    from ..training.runs import train as trained

    with steps("training") as told:
        return trained(
            rows,
            base,
            out,
            recipe,
            registry=registry,
            name=name,
            start=start,
            general=general,
            few_rows=few_rows,
            facts=facts,
            progress=told,
        )


def _measured(
    made: Trained,
    rows: TrainingSet,
    base: str,
    recipe: Recipe,
    sizes: tuple[int, ...],
    scaling: bool,
    measure: int,
    general: tuple[Example, ...] | None,
) -> Mapping[str, Any]:
    """What was asked for and is not in the report yet."""
    from ..training.report import add_curve, add_scales, add_scores, held_back

    report, asked = made.report, held_back(rows, measure)
    if asked and "scores" not in report and recipe.method in ("lora", "qlora"):
        with bar("answering") as done:
            report = add_scores(made, base, rows, asked, done)
    if sizes and "learning_curve" not in report:
        with steps("training on parts") as told:
            report = add_curve(made, base, rows, sizes, recipe, asked, general, lambda size: told)
    if scaling and "scaling_curve" not in report:
        with bar("scaling") as done:
            report = add_scales(made, base, rows, asked, done)
    return report


@contextmanager
def steps(what: str) -> Iterator[Callable[[int, int, Mapping[str, float]], None]]:
    """A bar of steps with the last losses beside it, on standard error."""
    with _bar(what) as (progress, task):

        def told(done: int, total: int, losses: Mapping[str, float]) -> None:
            known = (f"{name.replace('_', ' ')} {losses[name]:.3f}" for name in ("loss", "dev_loss") if name in losses)
            progress.update(task, completed=done, total=total, note=", ".join(known))

        yield told


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error."""
    with _bar(what) as (progress, task):
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def _bar(what: str) -> Iterator[tuple[Any, Any]]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from . import screen

    console = screen.aside()
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress, progress.add_task(what, total=None, note="")
