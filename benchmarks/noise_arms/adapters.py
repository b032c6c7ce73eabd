"""Trains the clean and the noisy arm: the same questions, exported with and without noise; knows no test row.

Every seed draws questions, noise and weights anew, so that the spread over seeds is that of the whole procedure.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from llama_index_hybridmem.export.exporter import export
from llama_index_hybridmem.export.options import ExportOptions
from llama_index_hybridmem.export.record import Draft
from llama_index_hybridmem.training.recipe import Recipe
from noise_arms.damage import ABSTAINING, CLEAN, NOISY, WORDING
from noise_arms.questions import TOP_K, Questions

PROFILES = {"clean": CLEAN, "noisy": NOISY}
DONE = "trained.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """How adapters are trained.

    Attributes:
        folder: for exports and adapters.
        base: the model's folder.
        rows: questions of each arm and seed, dev rows included; fewer where there are not so many.
        recipe: of all of them, but for the seed.
    """

    folder: Path
    base: Path
    rows: int
    recipe: Recipe

    def adapter(self, kind: str, seed: int, sources: Sequence[Questions]) -> tuple[Path, dict[str, Any]]:
        """Train an adapter, unless it is there.

        Args:
            kind: of `PROFILES`.
            seed: of its questions, its noise and its weights.
            sources: of questions, each gets an equal share of the rows while it has them.

        Returns:
            the adapter's folder, and what training it took.
        """
        from llama_index_hybridmem.training.runs import train

        place = self.folder / f"{self.rows}-{self.recipe.hash[:8]}" / f"{kind}-{seed}"
        found = place / DONE
        if found.exists():
            return place / "out" / "adapter", json.loads(found.read_text(encoding="utf-8"))
        made = self._export(kind, seed, sources, place / "rows")
        began, cpu = time.perf_counter(), time.process_time()
        train(place / "rows", str(self.base), place / "out", _seeded(self.recipe, seed), few_rows=True)
        spent = {"seconds": round(time.perf_counter() - began, 1), "cpu_s": round(time.process_time() - cpu, 1)}
        told = {**made, **spent, **_losses(place / "out" / "losses.jsonl")}
        found.write_text(json.dumps(told), encoding="utf-8")
        return place / "out" / "adapter", told

    def _export(self, kind: str, seed: int, sources: Sequence[Questions], folder: Path) -> dict[str, Any]:
        options = ExportOptions(
            seed,
            top_k=TOP_K,
            abstain_share=ABSTAINING,
            wording=WORDING,
            splits={"train": 0.9, "dev": 0.1, "test": 0.0},
            fitted=False,
        )
        told = export(drawn(sources, self.rows, seed), folder, options, PROFILES[kind])
        return {"rows": dict(told.splits), "abstained": told.abstained}


def drawn(sources: Sequence[Questions], rows: int, seed: int) -> list[Draft]:
    """Draw training questions, from each source the same number while it has them."""
    found: list[Draft] = []
    for left, each in zip(range(len(sources), 0, -1), sorted(sources, key=lambda one: len(one.train)), strict=True):
        share = min(len(each.train), (rows - len(found)) // left)
        found += Random(f"{seed}:{each.name}:rows").sample(list(each.train), share)
    Random(f"{seed}:rows").shuffle(found)
    return found


def _seeded(recipe: Recipe, seed: int) -> Recipe:
    return Recipe.from_json({**recipe.to_json(), "seed": seed})


def _losses(path: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    told = [each for each in lines if "loss" in each]
    return {"steps": max((each["step"] for each in lines), default=0), "loss": told[-1]["loss"] if told else None}
