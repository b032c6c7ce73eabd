"""From a training set to an adapter in the registry, in one call that goes on where it was; decides nothing itself.

What a run leaves in its folder: ``train.json`` (what was asked: a second call must ask the same), ``losses.jsonl``,
``adapter/`` (or ``model/``, trained whole), ``report.json`` (written last: with it the run is done), ``report.html``.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llama_index_hybridmem.disk import FolderLock, atomic_write_text, make_folder, on_disk
from llama_index_hybridmem.errors import DISTRIBUTION
from llama_index_hybridmem.example import Example, digest
from llama_index_hybridmem.export.shards import keep, read_object, write_object
from llama_index_hybridmem.llms.adapters.files import open_adapter
from llama_index_hybridmem.llms.adapters.registry import AdapterRegistry, AdapterVersion
from llama_index_hybridmem.training.admission import admit, model_written
from llama_index_hybridmem.training.bases import locate, open_base, precision
from llama_index_hybridmem.training.checkpoints import CHECKPOINTS, keep_adapter, keep_model
from llama_index_hybridmem.training.general import general_rows
from llama_index_hybridmem.training.overfitting import overfitting
from llama_index_hybridmem.training.page import page
from llama_index_hybridmem.training.recipe import Recipe
from llama_index_hybridmem.training.replay import mixed
from llama_index_hybridmem.training.rows import TrainingSet, read_set
from llama_index_hybridmem.training.trainer import Fit, Progress, fit, is_first

ASKED, LOSSES, REPORT, PAGE, ADAPTER, MODEL = (
    "train.json",
    "losses.jsonl",
    "report.json",
    "report.html",
    "adapter",
    "model",
)
BASE_RECORD = "hybridmem.json"
CANDIDATE = "candidate"
"""The alias of a version that was trained and not yet promoted."""
VERSIONS = ("torch", "transformers", "peft", "trl", "datasets", "accelerate")


@dataclass(frozen=True)
class Trained:
    """What a run made.

    Attributes:
        folder: of the run.
        weights: the adapter's folder below it, or the whole model's.
        version: the adapter in the registry; None without one.
        report: what report.json says.
    """

    folder: Path
    weights: Path
    version: AdapterVersion | None
    report: Mapping[str, Any]


def train(
    data: Path | str | TrainingSet,
    base: Path | str,
    out: Path | str,
    recipe: Recipe | None = None,
    *,
    registry: AdapterRegistry | Path | str | None = None,
    name: str | None = None,
    start: Path | str | None = None,
    general: Sequence[Example] | None = None,
    few_rows: bool = False,
    facts: bool = False,
    progress: Progress | None = None,
) -> Trained:
    """Train an adapter, or go on with a run that was killed; a finished run is not made again.

    On a CPU the same call gives the same bytes, however often it was killed and called again.

    Args:
        data: an export's folder, a JSONL file of rows, see `rows.read_set`; or a set that was read.
        base: ``smollm2``, a model's folder, or a name on a hub of models.
        out: folder of the run; a new one, or one to go on with.
        recipe: default `Recipe()`.
        registry: where the adapter is added, as a candidate; None: it only lies in ``out``.
        name: the adapter's in the registry; default: the training set's.
        start: folder of an adapter to train further instead of a new one.
        general: rows for `Recipe.replay`; default: those that come with the package.
        few_rows: train on fewer than 100 rows, too.
        facts: train although many answers have facts that their sources do not have.
        progress: told after each step.

    Raises:
        ConfigurationError: data that should not be trained on, an unknown base, or a folder with another run.
        TrainingError: see `trainer.fit`; what was trained stays, and the same call goes on from it.
        AdapterRefusedError: the adapter did not pass the registry's checks.
        StoreError: disk full, or read-only; or another process trains in the folder.
        MissingExtraError: a library is missing.
    """
    recipe, out = recipe or Recipe(), Path(out)
    rows = data if isinstance(data, TrainingSet) else read_set(data)
    warnings = admit(
        len(rows.train),
        rows.facts_in_targets,
        few_rows_allowed=few_rows,
        facts_allowed=facts,
        model_share=model_written(rows.train),
    )
    learned = mixed(rows.train, general_or_own(general, recipe), recipe.replay, recipe.seed)
    asked = _asked(rows, learned, base, recipe, start)
    weights = out / (MODEL if recipe.method == "full" else ADAPTER)
    if not is_first():  # it computes with the first one, and writes nothing
        fit(open_base(base, recipe, start=start), learned, rows.dev, recipe, out)
        return Trained(out, weights, None, {})
    make_folder(out)
    with FolderLock(out):
        keep(out / ASKED, asked, "a training run", "Name a new folder, or ask as before")
        if (out / REPORT).is_file():
            report: Mapping[str, Any] = read_object(out / REPORT)
        else:
            report = _run(rows, learned, base, recipe, out, start, asked, warnings, progress)
        added = _register(registry, name or rows.name, weights, recipe, report)
    return Trained(out, weights, added, report)


def general_or_own(given: Sequence[Example] | None, recipe: Recipe) -> Sequence[Example]:
    """Give the rows that are replayed: those that are given, or the package's where any are wanted."""
    if given is not None or not recipe.replay:
        return given or ()
    return tuple(general_rows(recipe.seed))


def _asked(
    rows: TrainingSet, learned: Sequence[Example], base: Path | str, recipe: Recipe, start: Path | str | None
) -> dict[str, Any]:
    """What decides a run's bytes, but for the machine."""
    started = None if start is None else _sha256(Path(start) / "adapter_model.safetensors")
    return {
        "base": locate(base)[0],
        "data": {"name": rows.name, "rows": digest(learned), "dev": digest(rows.dev), **rows.made_of},
        "recipe": recipe.to_json(),
        "start": started,
    }


def _run(
    rows: TrainingSet,
    learned: Sequence[Example],
    base: Path | str,
    recipe: Recipe,
    out: Path,
    start: Path | str | None,
    asked: Mapping[str, Any],
    warnings: Sequence[str],
    progress: Progress | None,
) -> dict[str, Any]:
    opened = open_base(base, recipe, start=start)
    begun = time.perf_counter()
    found = fit(opened, learned, rows.dev, recipe, out, progress)
    seconds = time.perf_counter() - begun
    if recipe.method == "full":
        keep_model(found.folder, out / MODEL, opened.tokenizer)
    else:
        keep_adapter(found.folder, out / ADAPTER, opened.name)
        assert opened.record is not None, "it was not opened empty"
        write_object(out / ADAPTER / BASE_RECORD, {"base": opened.record.to_json()})
    judged = overfitting(found.losses)
    left = [f"{found.left_out} rows are longer than max_length and were left out."] if found.left_out else []
    report = {
        "name": rows.name,
        "recipe": recipe.to_json(),
        "data": _counted(rows, learned, found),
        "warnings": [*judged.warnings, *warnings, *left],
        "losses": list(found.losses),
        "kept_step": found.kept_step,
        "steps": found.steps,
        "planned_steps": found.planned,
        "seconds": round(seconds, 1),
        "lineage": _lineage(rows, asked, recipe, found),
    }
    atomic_write_text(out / LOSSES, "".join(json.dumps(line) + "\n" for line in found.losses))
    atomic_write_text(out / PAGE, page(report))
    write_object(out / REPORT, report)
    with on_disk(out):
        shutil.rmtree(out / CHECKPOINTS)
    return report


def _counted(rows: TrainingSet, learned: Sequence[Example], found: Fit) -> dict[str, Any]:
    return {
        "train": len(rows.train),
        "replayed": len(learned) - len(rows.train),
        "dev": len(rows.dev),
        "test": len(rows.test),
        "facts_in_targets": rows.facts_in_targets,
        "longest": found.longest,
        "tokens": found.tokens,
    }


def _lineage(rows: TrainingSet, asked: Mapping[str, Any], recipe: Recipe, found: Fit) -> dict[str, Any]:
    """What the adapter was made from, for whoever finds it in a registry."""
    import torch

    return {
        **asked,
        "recipe_sha256": recipe.hash,
        "kept_step": found.kept_step,
        "precision": precision(recipe),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "threads": torch.get_num_threads(),
        "wording": None if rows.wording is None else rows.wording.to_json(),
        "versions": {
            DISTRIBUTION: version(DISTRIBUTION),
            "python": platform.python_version(),
            **{name: version(name) for name in VERSIONS},
        },
    }


def _register(
    registry: AdapterRegistry | Path | str | None, name: str, weights: Path, recipe: Recipe, report: Mapping[str, Any]
) -> AdapterVersion | None:
    """Add what can be served; a whole model and virtual tokens cannot, and stay where they are."""
    if registry is None or recipe.method not in ("lora", "qlora"):
        return None
    known = registry if isinstance(registry, AdapterRegistry) else AdapterRegistry(registry)
    for there in known.versions(name) if name in known.names() else ():  # another candidate may stand by now
        if there.lineage == report["lineage"] and there.weights_sha256 == open_adapter(weights).sha256:
            return there
    return known.add(weights, name, aliases=(CANDIDATE,), lineage=report["lineage"])


def _sha256(path: Path) -> str:
    with on_disk(path):
        return hashlib.sha256(path.read_bytes()).hexdigest()
