"""What one run of `lora.py` measures with, and how a figure is written; knows no model."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Setting:
    """What one run measures with."""

    base: Path
    adapters: dict[str, Path]
    device: str
    tokens: int
    prompt: int
    rounds: int

    def say(self, dtype: str, row: str, **found: Any) -> None:
        """Print a row."""
        print(json.dumps({"base": self.base.name, "dtype": dtype, "row": row, **found}), flush=True)

    def spent(self, call: Callable[[], Any]) -> tuple[Any, float]:
        """Run a call; its result and the CPU seconds of the process, or on a GPU those of the clock."""
        clock = time.process_time if self.device == "cpu" else _synchronized
        began = clock()
        return call(), clock() - began


def _synchronized() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def judged(value: float, goal: float | None) -> dict[str, Any]:
    """Say whether a goal was met; nothing where there is none."""
    return {} if goal is None else {"goal": goal, "met": value <= goal}
