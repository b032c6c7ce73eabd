"""Trains on parts of a set, each within the next, and measures what each more brings; knows no registry."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.export.shards import read_object, write_object
from llama_index_hybridmem.training.learning_curve import LearningCurve, Point, learning_curve
from llama_index_hybridmem.training.measuring import ABSTAIN, measured, opened
from llama_index_hybridmem.training.recipe import Recipe
from llama_index_hybridmem.training.rows import TrainingSet
from llama_index_hybridmem.training.runs import train
from llama_index_hybridmem.training.trainer import Progress

SCORED = "scored.json"
Told = Callable[[int], Progress]
"""Rows of the part that is trained on, to who is told of its steps."""


def grow(
    rows: TrainingSet,
    base: Path | str,
    out: Path,
    sizes: Sequence[int],
    recipe: Recipe,
    asked: Sequence[Example],
    *,
    general: Sequence[Example] | None = None,
    told: Told | None = None,
) -> LearningCurve:
    """Measure the learning curve; called again, go on where it was.

    Args:
        rows: the whole set.
        base: see `bases.locate`.
        out: folder for a run of each size.
        sizes: rows to train on; those above the set's own count as all of it.
        recipe: of each run.
        asked: rows never trained on, by which each run is scored.
        general: see `train.train`.
        told: who is told of each run's steps.

    Raises:
        ConfigurationError: no size, or no rows to score by.
        TrainingError: see `train.train`.
    """
    if not sizes or min(sizes) < 1 or not asked:
        raise ConfigurationError("a learning curve needs sizes of 1 row or more, and rows to score by: dev or test")
    points = []
    for size in sorted({min(size, len(rows.train)) for size in sizes}):
        part, folder = replace(rows, train=part_of(rows.train, size)), out / f"rows-{size}"
        progress = None if told is None else told(size)
        made = train(part, base, folder, recipe, general=general, few_rows=True, facts=True, progress=progress)
        points.append(_scored(folder, base, made.weights, rows, asked, size))
    return learning_curve(points, recipe.seed)


def part_of(rows: Sequence[Example], size: int) -> tuple[Example, ...]:
    """Give so many rows, chosen by their ids, in their order: each part holds all smaller ones."""
    chosen = sorted(rows, key=lambda each: hashlib.sha256(each.id.encode("utf-8", "replace")).digest())[:size]
    kept = {each.id for each in chosen}
    return tuple(each for each in rows if each.id in kept)


def _scored(
    folder: Path, base: Path | str, weights: Path, rows: TrainingSet, asked: Sequence[Example], size: int
) -> Point:
    place = folder / SCORED
    if not place.exists():
        abstain = ABSTAIN if rows.wording is None else rows.wording.abstain
        found = measured(opened(base, {"trained": weights}), asked, abstain, adapter="trained").overall.right
        assert found is not None, "there are rows"
        write_object(place, {"score": found.mean, "low": found.low, "high": found.high})
    known: dict[str, Any] = read_object(place)
    return Point(size, known["score"], known["low"], known["high"])
