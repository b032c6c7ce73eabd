"""`hybridmem finetune`: from questions and a store to a judged adapter, in one command; decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .naming import by_option
from .options import Json, Store
from .train import BASE_HELP, steps

if TYPE_CHECKING:
    from ..export.options import ExportOptions
    from ..noise.profile import Profile
    from ..training.candidates import Candidate
    from ..training.recipe import Recipe

TopK = Annotated[int, typer.Option(min=1, help="Passages in a prompt.")]
ProfileFile = Annotated[
    str, typer.Option(metavar="FILE|default", help="The noise; of a file that `hybridmem noise profile` wrote.")
]
Split = Annotated[str, typer.Option(metavar="TRAIN,DEV,TEST", help="Shares of the documents.")]
Epochs = Annotated[float, typer.Option(help="Times that each row is seen.")]
MaxSteps = Annotated[int | None, typer.Option(help="Steps at most.")]
Rank = Annotated[int, typer.Option(help="Of the adapter.")]
Rate = Annotated[float | None, typer.Option(help="Default: what suits the method.")]
Method = Annotated[str, typer.Option(help="lora, or qlora (base in 4 bits).")]
MaxLength = Annotated[
    int | None, typer.Option(metavar="TOKENS", help="Leave out longer rows; default: as long as the longest.")
]
Replay = Annotated[float, typer.Option(help="Share of general rows, so that nothing is forgotten.")]
Seed = Annotated[int, typer.Option(help="The same seed on the same CPU, the same bytes.")]
Measure = Annotated[int, typer.Option(min=0, metavar="ROWS", help="Held-back rows that are asked, at most.")]
Margin = Annotated[float, typer.Option(help="What the candidate may be worse by, as a share of right answers.")]
Forgetting = Annotated[
    bool, typer.Option("--forgetting/--no-forgetting", help="Ask 210 probes of seven skills before and after.")
]
FewRows = Annotated[bool, typer.Option("--few-rows", help="Go on with fewer than 100, too.")]
Facts = Annotated[bool, typer.Option("--facts", help="Train although many answers have facts that their sources lack.")]


def finetune(
    base: Annotated[str, typer.Option(metavar="NAME|DIR", help=BASE_HELP)],
    train_data: Annotated[Path, typer.Option(metavar="FILE", help="Questions with answers, .jsonl or .csv.")],
    store: Store,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="A new folder, or one to go on with.")],
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
    registry: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Add the adapter to it, as NAME@candidate.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The adapter's; default: the name of --out.")] = None,
    measure: Measure = 64,
    margin: Margin = 0.01,
    forgetting: Forgetting = True,
    few_rows: FewRows = False,
    facts: Facts = False,
    as_json: Json = False,
) -> None:
    """Make a training set from a store, train an adapter, judge it.

    Killed and called again it goes on where it was. The verdict is against the base and, if the registry has one, the
    promoted version; it changes nothing: the adapter is a candidate until you promote it.
    """
    from ..training.finetuning import finetune as tuned
    from . import screen
    from .store import open_index

    with by_option(splits="--split"):
        recipe = recipe_of(method, rank, learning_rate, epochs, max_steps, max_length, replay, seed)
        options = options_of(split, seed, top_k)
    with screen.results_only(), step_bars() as told:
        made = tuned(
            train_data,
            lambda: open_index(store, warm=True),
            base,
            out,
            top_k=top_k,
            recipe=recipe,
            options=options,
            profile=profile_of(profile),
            registry=registry,
            name=name,
            few_rows=few_rows,
            facts=facts,
            probes=None if forgetting else (),
            measure=measure,
            margin=margin,
            told=told,
        )
    tell(made, as_json)


def recipe_of(
    method: str,
    rank: int,
    learning_rate: float | None,
    epochs: float,
    max_steps: int | None,
    max_length: int | None,
    replay: float,
    seed: int,
) -> Recipe:
    """Give the recipe that options ask for; alpha is twice the rank, as by default."""
    from ..training.recipe import Recipe

    return Recipe(
        method=method,  # type: ignore[arg-type]  # it says itself what there is
        rank=rank,
        alpha=2.0 * rank,
        learning_rate=learning_rate,
        epochs=epochs,
        max_steps=max_steps,
        max_length=max_length,
        replay=replay,
        seed=seed,
    )


def options_of(split: str, seed: int, top_k: int) -> ExportOptions:
    """Give an export's options."""
    from ..export.options import ExportOptions
    from .dataset import shares

    return ExportOptions(seed=seed, top_k=top_k, splits=shares(split))


def profile_of(name: str) -> Profile | None:
    """Read a profile; None for the default one."""
    from ..noise.profiles import load

    return None if name == "default" else load(name)


@contextmanager
def step_bars() -> Iterator[Callable[[str, int, int, Mapping[str, float]], None]]:
    """A bar for each step, one after another."""
    with ExitStack() as stack:
        shown: dict[str, Any] = {}

        def told(step: str, done: int, total: int, losses: Mapping[str, float]) -> None:
            if step not in shown:
                stack.close()
                shown[step] = stack.enter_context(steps(step))
            shown[step](done, total, losses)

        yield told


def tell(made: Candidate, as_json: bool) -> None:
    """Print a candidate."""
    from . import screen
    from .finetune_view import candidate_told

    if as_json:
        screen.write_json({"folder": str(made.folder), "weights": str(made.weights), **made.report})
        return
    page = screen.page()
    for part in candidate_told(made):
        page.print(part, soft_wrap=True)
