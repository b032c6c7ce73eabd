"""A finished run's report, and what is measured afterwards and added to it; knows no command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llama_index_hybridmem.disk import atomic_write_text
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.export.shards import read_object, write_object
from llama_index_hybridmem.training.general import general_rows
from llama_index_hybridmem.training.growing import Told, grow
from llama_index_hybridmem.training.measuring import ABSTAIN, Done, before_and_after
from llama_index_hybridmem.training.page import page
from llama_index_hybridmem.training.recipe import Recipe
from llama_index_hybridmem.training.rows import TrainingSet
from llama_index_hybridmem.training.runs import PAGE, REPORT, Trained
from llama_index_hybridmem.training.scaling import measure_scales

PARTS = "parts"
_GENERAL = 32
"""General rows asked at each scale."""


def held_back(rows: TrainingSet, count: int) -> tuple[Example, ...]:
    """Give rows that were never trained on, spread over the set: test's, where there are none dev's.

    Args:
        rows: the set.
        count: at most; fewer where there are fewer.
    """
    known = rows.test or rows.dev
    step = max(1, -(-len(known) // count)) if count else 1
    return known[::step][:count]


def add_scores(
    made: Trained, base: Path | str, rows: TrainingSet, asked: Sequence[Example], done: Done | None = None
) -> Mapping[str, Any]:
    """Answer rows before and after, and add what it is worth."""
    return _added(made.folder, before_and_after(base, made.weights, asked, _abstain(rows), done))


def add_curve(
    made: Trained,
    base: Path | str,
    rows: TrainingSet,
    sizes: Sequence[int],
    recipe: Recipe,
    asked: Sequence[Example],
    general: Sequence[Example] | None = None,
    told: Told | None = None,
) -> Mapping[str, Any]:
    """Train on parts of the set, and add the learning curve."""
    curve = grow(rows, base, made.folder / PARTS, sizes, recipe, asked, general=general, told=told)
    return _added(made.folder, {"learning_curve": curve.to_json()})


def add_scales(
    made: Trained, base: Path | str, rows: TrainingSet, asked: Sequence[Example], done: Done | None = None
) -> Mapping[str, Any]:
    """Measure the adapter at several scales, and add which to use."""
    general = general_rows(1)[:_GENERAL]
    curve = measure_scales(base, made.weights, asked, general, abstain=_abstain(rows), done=done)
    return _added(made.folder, {"scaling_curve": curve.to_json()})


def _abstain(rows: TrainingSet) -> Sequence[str]:
    return ABSTAIN if rows.wording is None else rows.wording.abstain


def _added(folder: Path, parts: Mapping[str, Any]) -> Mapping[str, Any]:
    report = {**read_object(folder / REPORT), **parts}
    write_object(folder / REPORT, report)
    atomic_write_text(folder / PAGE, page(report))
    return report
