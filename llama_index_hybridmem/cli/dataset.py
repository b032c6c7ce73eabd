"""`hybridmem dataset …`: a training set from a store's own retrieval and its failures; decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ..errors import ConfigurationError
from .dataset_inspect import inspect
from .dataset_validate import validate
from .naming import by_option
from .options import LLM_HELP, Json

if TYPE_CHECKING:
    from llama_index.core.llms import LLM

    from ..export.asking import Asked
    from ..export.description import Description
    from ..export.exporter import Exported
    from ..export.options import ExportOptions
    from ..export.wording import Wording
    from ..index import HybridMemoryIndex
    from ..noise.profile import Profile

app = typer.Typer(no_args_is_help=True, help="Make a training set of broken context, look at it, check it.")
app.command()(inspect)
app.command()(validate)

_TRACES, _GENERATE = "traces:", "generate"


@app.command()
def export(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A new folder, or one to go on with.")],
    questions: Annotated[
        str,
        typer.Option(
            metavar="FILE|sample|generated|traces:FILE|generate",
            help="Yours as .jsonl or .csv, those of the sample documents (47 written, 1,600 generated), or from where.",
        ),
    ],
    store: Annotated[
        Path | None, typer.Option("--store", "-s", metavar="DIR", help="The store's folder; traces need none.")
    ] = None,
    profile: Annotated[
        str, typer.Option(metavar="FILE|default|measured", help="The noise: of a file, or of this store or traces.")
    ] = "default",
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="prompt-completion (default), messages, completion, alpaca, sharegpt, openai; may be repeated.",
        ),
    ] = None,
    layout: Annotated[str, typer.Option(help="Of the passages: numbered, plain, xml or raft.")] = "numbered",
    citation: Annotated[str, typer.Option(help="numbers, quotes or none.")] = "numbers",
    target: Annotated[str, typer.Option(help="answer, or reasoned: quote, reason, answer.")] = "answer",
    top_k: Annotated[int, typer.Option(help="Passages in the prompt.")] = 5,
    distractors: Annotated[int, typer.Option(help="Hard ones added to each question.")] = 0,
    p_gold: Annotated[
        float | None, typer.Option(help="Share of answered questions that keep their gold; else by the profile.")
    ] = None,
    abstain_share: Annotated[float | None, typer.Option(help="Share of records that abstain.")] = None,
    abstain: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="What is said then; may be repeated.")
    ] = None,
    split: Annotated[str, typer.Option(metavar="TRAIN,DEV,TEST", help="Shares of the documents.")] = "0.8,0.1,0.1",
    held_out_kind: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Noise that only test has; may be repeated.")
    ] = None,
    held_out_domain: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Questions that only test has; may be repeated.")
    ] = None,
    strength: Annotated[float, typer.Option(help="Multiplies the profile's rates; 0 makes a clean set.")] = 1.0,
    weigh: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND=N", help="Multiplies one kind's rate, 0 leaves it out; may be repeated."),
    ] = None,
    add_gold: Annotated[
        bool, typer.Option("--add-gold", help="Where no source was retrieved, put it in from the store.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed, the same bytes.")] = 0,
    num_proc: Annotated[int, typer.Option(min=1, help="Processes; the bytes are the same.")] = 1,
    ray: Annotated[bool, typer.Option("--ray", help="Make it on Ray's cluster, or on one of this machine.")] = False,
    parquet: Annotated[bool, typer.Option("--parquet", help="Write <format>/train.parquet and so on, too.")] = False,
    max_length: Annotated[
        int | None, typer.Option(min=1, metavar="TOKENS", help="The trainer's; longer rows are reported.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="NAME|DIR", help="The model's; without one tokens are estimated.")
    ] = None,
    llm: Annotated[str | None, typer.Option(metavar="NAME", help=f"For generate. {LLM_HELP}")] = None,
    count: Annotated[int, typer.Option(min=1, help="For generate: passages asked about.")] = 200,
    as_json: Json = False,
) -> None:
    """Write a training set: questions, what the store retrieves for them, damaged as a profile says.

    Answers that the damaged passages do not support become abstentions. Called again, it goes on where it was.
    """
    from ..export.dataset import check_extras, to_parquet
    from ..export.describing import describe
    from ..export.exporter import export as exported
    from ..export.options import ExportOptions
    from . import screen

    chosen: dict[str, Any] = {"formats": tuple(formats)} if formats else {}
    with by_option(held_out_kinds="--held-out-kind", formats="--format", splits="--split"):
        options = ExportOptions(
            seed=seed,
            top_k=top_k,
            distractors=distractors,
            p_gold=p_gold,
            abstain_share=abstain_share,
            wording=_wording(layout, citation, target, abstain),
            splits=shares(split),
            held_out_kinds=cast("Any", tuple(held_out_kind or ())),
            held_out_domains=tuple(held_out_domain or ()),
            strength=strength,
            **chosen,
        )
    gains = dict(map(_gain, weigh or ()))
    with screen.results_only():
        check_extras(ray, parquet)
        found = _collected(output, store, questions, profile, gains, options, add_gold, llm, count)
        with _progress("writing") as step:
            made = exported(None, output, options, found, num_proc=num_proc, ray=ray, progress=step)
        if parquet:
            to_parquet(output)
        told = describe(output, tokenizer, max_length)
    if as_json:
        screen.write_json({"export": made.to_json(), "description": told.to_json()})
    else:
        _tell(made, told)


def _wording(layout: str, citation: str, target: str, abstain: list[str] | None) -> Wording:
    from ..export.wording import Wording

    words: dict[str, Any] = {"abstain": tuple(abstain)} if abstain else {}
    return Wording(layout=cast("Any", layout), citation=cast("Any", citation), target=cast("Any", target), **words)


def shares(text: str) -> Any:
    """Read the shares of a set's parts, as ``0.8,0.1,0.1``."""
    from ..export.options import SPLITS

    parts = text.split(",")
    try:
        return dict(zip(SPLITS, map(float, parts), strict=True))
    except ValueError as error:
        raise ConfigurationError(f"--split: three shares are expected, as 0.8,0.1,0.1, not {text!r}") from error


def _gain(text: str) -> tuple[str, float]:
    kind, _, weight = text.partition("=")
    try:
        return kind, float(weight)
    except ValueError as error:
        raise ConfigurationError(f"--weigh: a kind and its weight are expected, as ocr=2, not {text!r}") from error


def _collected(
    output: Path,
    store: Path | None,
    questions: str,
    profile: str,
    gains: Mapping[str, float],
    options: ExportOptions,
    add_gold: bool,
    llm: str | None,
    count: int,
) -> Profile:
    """Leave drafts in the folder; gives the profile, which may be that of what they were made from."""
    from ..export.collecting import collect, collect_traces
    from ..export.dataset import of_index
    from .store import open_index

    if questions.startswith(_TRACES):
        file = Path(questions.removeprefix(_TRACES))
        found = _weighed(_profile(profile, file, None), gains)
        collect_traces(file, output, options)
        return found
    if store is None:
        raise ConfigurationError("--store DIR: which documents? (Only --questions traces:FILE needs none)")
    source = _model(llm) if questions == _GENERATE else _asked(questions)
    with open_index(store, warm=True) as index:
        found = _weighed(_profile(profile, None, index), gains)
        asked = source if isinstance(source, list) else _generated(index, output, source, llm, count)
        with _progress("asking") as step:
            collect(asked, folder=output, options=options, progress=step, **of_index(index, options, add_gold=add_gold))
    return found


def _asked(questions: str) -> list[Asked]:
    from ..export.asking import read_asked
    from ..sample import generated_path, questions_path

    shipped = {"sample": questions_path, "generated": generated_path}
    return read_asked(shipped[questions]() if questions in shipped else questions)


def _model(llm: str | None) -> LLM:
    from .llms import resolve

    model = resolve(llm)
    if model is None:
        raise ConfigurationError("--llm NAME: who shall generate questions?")
    return model


def _generated(index: HybridMemoryIndex, output: Path, model: LLM, llm: str | None, count: int) -> list[Asked]:
    from ..export.generating import generate
    from ..export.parts import Sample
    from ..export.shards import REPLIES, owned
    from ..noise.passages import to_passage
    from ..noise.profiles import nodes_of
    from . import screen

    sample = Sample(count)
    sample.add(map(to_passage, nodes_of(index)))
    with owned(output), _progress("generating") as step:
        found = generate(sample.passages(), model, output / REPLIES, progress=step)
    for reason, times in found.rejected.items():
        screen.aside().print(f"{times:,} replies not used: {reason}", style="dim", markup=False)
    if not found.questions:
        raise ConfigurationError(f"--llm {llm}: not one of its replies could be used; name a larger model")
    return list(found.questions)


def _profile(name: str, traces: Path | None, index: HybridMemoryIndex | None) -> Profile:
    from ..noise.defaults import default_profile
    from ..noise.profiles import from_index, from_traces, load

    if name == "default":
        return default_profile()
    if name != "measured":
        return load(name)
    return from_index(index) if traces is None else from_traces(traces)


def _weighed(profile: Profile, gains: Mapping[str, float]) -> Profile:
    try:
        return profile.weighted(gains)
    except ConfigurationError as error:
        raise ConfigurationError(f"--weigh: {error}") from error


def _tell(made: Exported, told: Description) -> None:
    from . import screen
    from .dataset_view import description, plain

    page = screen.page()
    splits = ", ".join(f"{n:,} {split}" for split, n in made.splits.items())
    page.print(plain(f"{made.records:,} records ({splits or 'none'}) in {made.folder}"), soft_wrap=True)
    for reason, times in sorted(made.left_out.items()):
        page.print(plain(f"left out {times:,}: {reason}", "dim"))
    for part in description(told):
        page.print(part)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from . import screen

    console = screen.aside()
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
