"""`hybridmem improve`: a round of new reviewed failures, trained on top of the promoted version; decides nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .finetune import (
    Epochs,
    Facts,
    FewRows,
    Forgetting,
    Margin,
    MaxLength,
    MaxSteps,
    Measure,
    Method,
    ProfileFile,
    Rank,
    Rate,
    Replay,
    Seed,
    Split,
    TopK,
    options_of,
    profile_of,
    recipe_of,
    step_bars,
    tell,
)
from .naming import by_option
from .options import Json, Store
from .train import BASE_HELP


def improve(
    failures: Annotated[
        Path, typer.Argument(metavar="FAILURES", help='A .jsonl file of questions with answers and "reviewed".')
    ],
    store: Store,
    base: Annotated[str, typer.Option(metavar="NAME|DIR", help=BASE_HELP)],
    registry: Annotated[Path, typer.Option("--registry", "-r", metavar="DIR", help="Has the promoted version.")],
    name: Annotated[str, typer.Option("--name", "-n", help="The adapter's.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="WORKSPACE", help="Folder of all rounds.")],
    first: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The set that the first version was trained on.")
    ] = None,
    earlier: Annotated[float, typer.Option(min=0, help="Rows of earlier rounds for each new one.")] = 1.0,
    top_k: TopK = 5,
    profile: ProfileFile = "default",
    split: Split = "0.8,0.1,0.1",
    method: Method = "lora",
    rank: Rank = 16,
    learning_rate: Rate = None,
    epochs: Epochs = 2.0,
    max_steps: MaxSteps = None,
    max_length: MaxLength = None,
    replay: Replay = 0.1,
    seed: Seed = 0,
    measure: Measure = 64,
    margin: Margin = 0.01,
    forgetting: Forgetting = True,
    few_rows: FewRows = False,
    facts: Facts = False,
    as_json: Json = False,
) -> None:
    """Train the promoted adapter further on new reviewed failures.

    Failures that were learned from are passed over. The adapter is a candidate: you promote it, nothing else does.
    """
    from ..training.improving import Improving
    from ..training.improving import improve as improved
    from . import screen
    from .store import open_index

    with by_option(splits="--split"):
        how = Improving(
            recipe=recipe_of(method, rank, learning_rate, epochs, max_steps, max_length, replay, seed),
            options=options_of(split, seed, top_k),
            profile=profile_of(profile),
            first=first,
            earlier=earlier,
            few_rows=few_rows,
            facts=facts,
            probes=None if forgetting else (),
            measure=measure,
            margin=margin,
        )
    with screen.results_only(), step_bars() as told:
        made = improved(
            failures, lambda: open_index(store, warm=True), base, out, registry=registry, name=name, how=how, told=told
        )
    tell(made, as_json)
