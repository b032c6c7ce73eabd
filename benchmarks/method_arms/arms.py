"""Which methods are compared and on how much; pure, trains nothing.

Each differs in one thing from `GROUND`, the plain adapter without replay, so that what a method forgets is its own. The
adapter's factor, alpha / rank or alpha / sqrt(rank), is 2 in all of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llama_index_hybridmem.example import Example, digest
from llama_index_hybridmem.sample.behaviours.tickets import tickets
from llama_index_hybridmem.training.recipe import Recipe

GROUND = "lora r16"
ARMS: Mapping[str, Mapping[str, Any]] = {
    GROUND: {},
    "lora r4": {"rank": 4, "alpha": 8.0},
    "rslora r64": {"rank": 64, "alpha": 16.0, "rslora": True},
    "lora r16, attention only": {"targets": ("q_proj", "k_proj", "v_proj", "o_proj")},
    "qlora r16": {"method": "qlora"},
    "full": {"method": "full"},
    "prompt, 20 tokens": {"method": "prompt"},
    "lora r16, KL .1": {"kl": 0.1},
    "lora r16, replay .1": {"replay": 0.1},
    "lora r16, replay .3": {"replay": 0.3},
}
FEW = (GROUND, "qlora r16", "full", "prompt, 20 tokens")
"""What a quick run takes: each way to train and each way to ask once."""


@dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes:
        rows: tickets that are learned.
        asked: tickets that are asked.
        probes: of each skill, spread over its 30; None for all.
        epochs: see `Recipe`.
        max_steps: see `Recipe`.
    """

    rows: int
    asked: int
    probes: int | None = None
    epochs: float = 1.0
    max_steps: int | None = None


QUICK = Size(rows=48, asked=8, probes=6, max_steps=6)
HOUR = Size(rows=240, asked=96)


@dataclass(frozen=True)
class Job:
    """One method and one seed, to be run in processes of their own.

    Attributes:
        arm: of `ARMS`.
        seed: of the tickets that are learned and of the training; the tickets that are asked are always the same.
        size: of the run.
        out: where everything is kept.
    """

    arm: str
    seed: int
    size: Size
    out: Path

    @property
    def recipe(self) -> Recipe:
        """How it is trained: the defaults, but for what the arm is; the last step is kept, no dev rows are asked."""
        plain = {"replay": 0.0, "evaluations": 1, "patience": 0}
        sized = {"epochs": self.size.epochs, "max_steps": self.size.max_steps, "seed": self.seed}
        return Recipe(**{**plain, **sized, **ARMS[self.arm]})

    @property
    def rows(self) -> list[Example]:
        """What is learned."""
        return tickets(self.size.rows, self.seed, "train")

    @property
    def folder(self) -> Path:
        """Where this job is kept: another one for other rows or another recipe."""
        decided = json.dumps([self.recipe.hash, digest(self.rows)])
        name = re.sub(r"[^a-z0-9]+", "-", self.arm.lower())
        return self.out / f"{name}-{self.seed}-{hashlib.sha256(decided.encode()).hexdigest()[:8]}"

    def to_json(self) -> dict[str, Any]:
        """Give what names it in a line."""
        return {"arm": self.arm, "seed": self.seed, "changed": dict(ARMS[self.arm]), "size": asdict(self.size)}
