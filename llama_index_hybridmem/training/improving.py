"""From new reviewed failures to a judged candidate, round after round; promotes nothing.

What a workspace holds: ``improve.json`` (what all rounds share), and of each round in ``rounds/0001/`` and so on:
``failures.jsonl``, ``round.json`` (how it is made), ``dataset/``, ``run/``, ``answers/`` and ``verdict.json``, written
last. A round starts from the version that is promoted when it begins, learns its new rows and as many earlier ones,
and is asked the held-back rows of all rounds, so that a loss that grows slowly is seen, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index_hybridmem.disk import FolderLock, make_folder
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.export.asking import Asked
from llama_index_hybridmem.export.checks import FEWEST
from llama_index_hybridmem.export.options import ExportOptions
from llama_index_hybridmem.export.shards import keep, read_object, write_object
from llama_index_hybridmem.llms.adapters.names import check_name
from llama_index_hybridmem.llms.adapters.registry import AdapterRegistry, AdapterVersion
from llama_index_hybridmem.training.bases import locate
from llama_index_hybridmem.training.candidates import (
    ANSWERS,
    BASE,
    PROMOTED,
    VERDICT,
    Candidate,
    ask_all,
    check_method,
    check_promoted,
    promoted,
    summaries,
    verdicts,
)
from llama_index_hybridmem.training.failures import Failures, origins, read_failures
from llama_index_hybridmem.training.finetuning import abstain_of, added, answering, fingerprint_of, of_step
from llama_index_hybridmem.training.from_store import Source, Told, set_from
from llama_index_hybridmem.training.general import probes as general_probes
from llama_index_hybridmem.training.measuring import MEASURED
from llama_index_hybridmem.training.over_rounds import by_round, since_then
from llama_index_hybridmem.training.probes import Probe
from llama_index_hybridmem.training.recipe import Recipe
from llama_index_hybridmem.training.rounds import (
    DATASET,
    RUN,
    Part,
    Round,
    begin,
    current,
    earlier_parts,
    learned,
    part_of,
)
from llama_index_hybridmem.training.runs import CANDIDATE, Trained, train
from llama_index_hybridmem.training.verdict import MARGIN, together

if TYPE_CHECKING:
    from llama_index_hybridmem.noise.profile import Profile

SHARED, MADE = "improve.json", "round.json"
EARLIER_ROWS = 1.0
"""Earlier rows for each new one: half of what is learned, as in experience replay (arXiv 1811.11682, where a half did
best and the exact share mattered little)."""
EARLIER = "earlier rounds"


@dataclass(frozen=True)
class Improving:
    """How rounds are made.

    Attributes:
        recipe: of the training; of the methods lora and qlora.
        options: of the sets. Seed and splits stay those of the first round: by them a document's questions are trained
            on, or asked, in every round.
        profile: the noise; None: the default one.
        first: the set that the first version was trained on, replayed and asked like a round's.
        earlier: rows of earlier rounds for each new one.
        fewest: new failures that a round takes; 1 with ``few_rows``.
        few_rows: a round with fewer, too.
        facts: train although many answers have facts that their sources do not have.
        general: rows for `Recipe.replay`; None: those that come with the package.
        probes: of what may be forgotten; None: those that come with the package, () for none.
        measure: held-back rows that are asked of each round, at most.
        margin: what a candidate may be worse by.
    """

    recipe: Recipe = Recipe()
    options: ExportOptions = ExportOptions()
    profile: Profile | None = None
    first: Path | str | None = None
    earlier: float = EARLIER_ROWS
    fewest: int = FEWEST
    few_rows: bool = False
    facts: bool = False
    general: Sequence[Example] | None = None
    probes: Sequence[Probe] | None = None
    measure: int = MEASURED
    margin: float = MARGIN


def improve(
    failures: Path | str,
    store: Source,
    base: Path | str,
    workspace: Path | str,
    *,
    registry: AdapterRegistry | Path | str,
    name: str,
    how: Improving | None = None,
    told: Told | None = None,
) -> Candidate:
    """Make a round of new failures; called again after a kill, go on with it.

    Args:
        failures: reviewed ones, see `failures.read_failures`; those that were learned from before are passed over, so
            a file that grows will do.
        store: what retrieves, or a function that opens it, see `from_store.Source`.
        base: see `bases.locate`.
        workspace: folder of all rounds.
        registry: holds the promoted version (``prod``, else ``latest``), which is trained further, and gets the
            candidate; with none promoted a new adapter is trained.
        name: of the adapter there.
        how: default `Improving()`.
        told: how far each step is.

    Returns:
        the candidate, judged against the promoted version (else the base) and against what earlier candidates said.
        It is not promoted: that is for whoever reads the verdict.

    Raises:
        IngestError: the failures cannot be read; names file and line.
        ConfigurationError: nothing new, too few, or another base, name, seed or splits than the workspace's.
        AdapterRefusedError: the promoted version is another base's, or damaged.
        TrainingError: see `train.train`.
        StoreError: disk full, or another process works in the workspace.
        MissingExtraError: a library is missing.
    """
    how, workspace = how or Improving(), Path(workspace)
    check_method(how.recipe)
    check_name(name)
    known = registry if isinstance(registry, AdapterRegistry) else AdapterRegistry(registry)
    given = read_failures(failures)
    shared = {
        "base": locate(base)[0],
        "name": name,
        "seed": how.options.seed,
        "splits": dict(how.options.splits),
    }
    make_folder(workspace)
    with FolderLock(workspace):
        keep(workspace / SHARED, shared, "rounds", "Name a new workspace, or ask as before")
        this = begin(workspace, given.asked, 1 if how.few_rows else how.fewest)
        return _round(this, given, store, base, workspace, known, name, how, told)


def _round(
    this: Round,
    given: Failures,
    store: Source,
    base: Path | str,
    workspace: Path,
    registry: AdapterRegistry,
    name: str,
    how: Improving,
    told: Told | None,
) -> Candidate:
    asked = this.failures
    start = _start(this, registry, name, base)
    keep(this.folder / MADE, _made(asked, start, how), "a round", "Ask as before, or remove the folder")
    new = set_from(store, asked, this.folder / DATASET, how.options, how.profile, name, told)
    parts = current([*earlier_parts(workspace, how.first, how.measure), part_of(this.name, new, how.measure)])
    rows, counts = learned(parts, new, how.earlier, how.recipe.seed)
    rows = replace(rows, made_of={**rows.made_of, "round": this.name, "failures": fingerprint_of(asked)})
    made = train(
        rows,
        base,
        this.folder / RUN,
        how.recipe,
        start=None if start is None else start.folder,
        general=how.general,
        few_rows=True,  # it is the new failures that must be enough
        facts=how.facts,
        progress=of_step(told),
    )
    report = {"round": this.name, "failures": {**origins(asked), **given.left_out}, "rows": counts}
    return _judged(this, made, parts, workspace, start, base, abstain_of(new), registry, name, how, report, told)


def _start(this: Round, registry: AdapterRegistry, name: str, base: Path | str) -> AdapterVersion | None:
    """The version that is promoted, or was when the round was begun, checked against the base."""
    place = this.folder / MADE
    if place.is_file():
        reference = read_object(place)["start"]
        start = None if reference is None else registry.get(f"{name}@{reference}")
    else:
        start = promoted(registry, name)
    if start is not None:
        check_promoted(registry, start, base)
    return start


def _made(asked: Sequence[Asked], start: AdapterVersion | None, how: Improving) -> dict[str, Any]:
    """What decides a round, but for the rounds before it."""
    return {
        "failures": fingerprint_of(asked),
        "start": None if start is None else start.sha256,
        "options": how.options.to_json(),
        "profile": None if how.profile is None else how.profile.hash,
        "recipe": how.recipe.to_json(),
        "earlier": how.earlier,
        "measure": how.measure,
        "margin": how.margin,
        "probes": None if how.probes is None else len(how.probes),
    }


def _judged(
    this: Round,
    made: Trained,
    parts: Sequence[Part],
    workspace: Path,
    start: AdapterVersion | None,
    base: Path | str,
    abstain: Sequence[str],
    registry: AdapterRegistry,
    name: str,
    how: Improving,
    report: dict[str, Any],
    told: Told | None,
) -> Candidate:
    asked = [each for part in parts for each in part.held_back]
    probes = tuple(general_probes()) if how.probes is None else how.probes
    adapters = {} if start is None else {PROMOTED: start.folder}
    answered = ask_all(
        base,
        {**adapters, CANDIDATE: made.weights},
        asked,
        probes,
        this.folder / ANSWERS,
        abstain,
        answering(told),
    )
    judged = verdicts(answered, asked, how.margin, start)
    deciding = judged.get(PROMOTED, judged[BASE])
    since = since_then(parts[:-1], workspace, answered[CANDIDATE], asked, abstain, how.margin)
    if since is not None:
        judged[EARLIER] = since
    report |= {
        "passed": together(each.passed for each in (deciding, since) if each is not None),
        "against": deciding.against,
        "verdicts": {each: verdict.to_json() for each, verdict in judged.items()},
        "scores": summaries(answered, asked),
        "rounds": by_round(parts, answered, asked),
        "warnings": list(made.report["warnings"]),
    }
    report["version"] = added(registry, name, made, report)
    write_object(this.folder / VERDICT, report)
    return Candidate(this.folder, made.weights, report["version"], report)
