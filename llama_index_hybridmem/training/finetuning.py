"""From questions and a store to a judged candidate in one call that goes on where it was; decides nothing itself.

What it leaves: ``finetune.json`` (what was asked: a second call must ask the same), ``dataset/`` (of
`export.dataset.export_dataset`), ``run/`` (of `train.train`), ``answers/``, and ``verdict.json``, written last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index_hybridmem.disk import FolderLock, make_folder
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.export.asking import Asked, read_asked
from llama_index_hybridmem.export.options import ExportOptions
from llama_index_hybridmem.export.shards import keep, read_object, write_object
from llama_index_hybridmem.llms.adapters.names import check_name
from llama_index_hybridmem.llms.adapters.registry import AdapterRegistry
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
from llama_index_hybridmem.training.from_store import Source, Told, set_from
from llama_index_hybridmem.training.general import probes as general_probes
from llama_index_hybridmem.training.measuring import ABSTAIN, MEASURED
from llama_index_hybridmem.training.probes import Probe
from llama_index_hybridmem.training.recipe import Recipe
from llama_index_hybridmem.training.report import held_back
from llama_index_hybridmem.training.rows import TrainingSet
from llama_index_hybridmem.training.runs import CANDIDATE, Trained, train
from llama_index_hybridmem.training.trainer import Progress
from llama_index_hybridmem.training.verdict import MARGIN

if TYPE_CHECKING:
    from llama_index_hybridmem.noise.profile import Profile

ASKED, DATASET, RUN = "finetune.json", "dataset", "run"


def finetune(
    train_data: Path | str | Sequence[Asked],
    store: Source,
    base: Path | str,
    out: Path | str,
    *,
    top_k: int = 5,
    recipe: Recipe | None = None,
    options: ExportOptions | None = None,
    profile: Profile | None = None,
    registry: AdapterRegistry | Path | str | None = None,
    name: str | None = None,
    few_rows: bool = False,
    facts: bool = False,
    general: Sequence[Example] | None = None,
    probes: Sequence[Probe] | None = None,
    measure: int = MEASURED,
    margin: float = MARGIN,
    told: Told | None = None,
) -> Candidate:
    """Retrieve, break, train and judge; called again, go on where it was, and repeat nothing that is done.

    Args:
        train_data: questions with answers, see `export.asking.read_asked`.
        store: what retrieves, or a function that opens it, called only while passages are collected: see
            `from_store.Source`.
        base: see `bases.locate`.
        out: a new folder, or one to go on with.
        top_k: passages in a prompt.
        recipe: default `Recipe()`; of the methods lora and qlora.
        options: of the set; ``top_k`` is set by the argument.
        profile: the noise; default `noise.defaults.default_profile`.
        registry: where the adapter is added, as a candidate; None: it only lies in ``out``.
        name: the adapter's in the registry; default: the name of ``out``.
        few_rows: train on fewer than 100 rows, too.
        facts: train although many answers have facts that their sources do not have.
        general: rows for `Recipe.replay`; default: those that come with the package.
        probes: of what may be forgotten; default: those that come with the package, () for none.
        measure: held-back rows that are asked, at most.
        margin: what the candidate may be worse by.
        told: how far each step is.

    Returns:
        the candidate, judged against the base and, if the registry has one, the promoted version. A verdict changes
        nothing: whoever reads it promotes, or does not.

    Raises:
        IngestError: the questions cannot be read; names the line.
        ConfigurationError: other options than the folder's, or too few rows.
        AdapterRefusedError: the promoted version is another base's.
        TrainingError: see `train.train`.
        StoreError: disk full, or another process works in the folder.
        MissingExtraError: a library is missing.
    """
    recipe, out = recipe or Recipe(), Path(out)
    options = replace(options or ExportOptions(), top_k=top_k)
    known = registry if isinstance(registry, AdapterRegistry) or registry is None else AdapterRegistry(registry)
    name = name or out.resolve().name
    check_method(recipe)
    if known is not None:
        check_name(name)
        if (version := promoted(known, name)) is not None:
            check_promoted(known, version, base)
    asked = read_asked(train_data) if isinstance(train_data, str | Path) else list(train_data)
    settings = {
        "base": locate(base)[0],
        "name": name,
        "questions": fingerprint_of(asked),
        "options": options.to_json(),
        "profile": None if profile is None else profile.hash,
        "recipe": recipe.to_json(),
        "measure": measure,
        "margin": margin,
        "probes": None if probes is None else len(probes),
    }
    make_folder(out)
    with FolderLock(out):
        keep(out / ASKED, settings, "a fine-tuning", "Name a new folder, or ask as before")
        rows = set_from(store, asked, out / DATASET, options, profile, name, told)
        made = train(
            rows, base, out / RUN, recipe, general=general, few_rows=few_rows, facts=facts, progress=of_step(told)
        )
        tried = tuple(general_probes()) if probes is None else probes
        return _judged(out, made, rows, base, known, name, tried, measure, margin, told)


def _judged(
    out: Path,
    made: Trained,
    rows: TrainingSet,
    base: Path | str,
    registry: AdapterRegistry | None,
    name: str,
    probes: Sequence[Probe],
    measure: int,
    margin: float,
    told: Told | None,
) -> Candidate:
    if (out / VERDICT).is_file():
        report = read_object(out / VERDICT)
        return Candidate(out, made.weights, report["version"], report)
    asked, version = held_back(rows, measure), promoted(registry, name)
    adapters = {} if version is None else {PROMOTED: version.folder}
    answered = ask_all(
        base, {**adapters, CANDIDATE: made.weights}, asked, probes, out / ANSWERS, abstain_of(rows), answering(told)
    )
    judged = verdicts(answered, asked, margin, version)
    deciding = judged.get(PROMOTED, judged[BASE])
    report = {
        "passed": deciding.passed,
        "against": deciding.against,
        "verdicts": {each: verdict.to_json() for each, verdict in judged.items()},
        "scores": summaries(answered, asked),
        "rows": {"train": len(rows.train), "dev": len(rows.dev), "test": len(rows.test), "asked": len(asked)},
        "warnings": list(made.report["warnings"]),
    }
    report["version"] = added(registry, name, made, report)
    write_object(out / VERDICT, report)
    return Candidate(out, made.weights, report["version"], report)


def added(registry: AdapterRegistry | None, name: str, made: Trained, report: Mapping[str, Any]) -> str | None:
    """Add an adapter to a registry as its candidate, and what was found of it; gives the version's name.

    Args:
        registry: None: it is not added.
        name: of the adapter.
        made: by the training.
        report: its "passed" and "against" go with the version.

    Raises:
        AdapterRefusedError: a check failed.
    """
    if registry is None:
        return None
    verdict = {each: report[each] for each in ("passed", "against")}
    lineage = {**made.report["lineage"], "verdict": verdict}
    return registry.add(made.weights, name, aliases=(CANDIDATE,), lineage=lineage).id


def abstain_of(rows: TrainingSet) -> Sequence[str]:
    """Give the wordings of abstention of a set."""
    return ABSTAIN if rows.wording is None else rows.wording.abstain


def of_step(told: Told | None) -> Progress | None:
    """Tell of training steps."""
    return None if told is None else lambda done, total, losses: told("training", done, total, losses)


def answering(told: Told | None) -> Callable[[int, int], None] | None:
    """Tell of answers."""
    return None if told is None else lambda done, total: told("answering", done, total, {})


def fingerprint_of(asked: Sequence[Asked]) -> str:
    """Name questions by a hash of all that is known of them."""
    rows = [{**asdict(each), "gold": sorted(each.gold)} for each in asked]
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode("ascii")).hexdigest()
