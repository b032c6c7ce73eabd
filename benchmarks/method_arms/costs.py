"""Trains one method in the process that it is called in, and says what that took; knows no answer and no score.

A fresh process for each: its peak of memory is the method's own.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from llama_index_hybridmem.training.recipe import Recipe
from llama_index_hybridmem.training.rows import TrainingSet
from method_arms.arms import Job

BASE = "smollm2"


def trained(job: Job, folder: Path) -> dict[str, Any]:
    """Estimate, then train from the beginning, and measure.

    Args:
        job: what is trained.
        folder: of the run; what a stopped one left there is removed, so that the seconds are those of a whole run.

    Returns:
        plain JSON types: what was estimated and what was measured; seconds of training alone, CPU seconds with opening
        the model.
    """
    from llama_index_hybridmem.training.plan import plan
    from llama_index_hybridmem.training.runs import train

    shutil.rmtree(folder, ignore_errors=True)
    rows = TrainingSet("tickets", tuple(job.rows))
    planned = plan(rows, BASE, job.recipe).to_json()
    before, cpu = peak_mb(), time.process_time()
    found = train(rows, BASE, folder, job.recipe, few_rows=True)
    report = found.report
    told = [line["loss"] for line in report["losses"] if "loss" in line]
    return {
        "weights": found.weights.name,
        "trainable": planned["trainable"],
        "parameters": planned["parameters"],
        "steps": report["steps"],
        "rows": report["data"]["train"] + report["data"]["replayed"],
        "tokens": report["data"]["tokens"],
        "seconds": report["seconds"],
        "cpu_s": round(time.process_time() - cpu, 1),
        "load": round(os.getloadavg()[0], 1),
        "peak_mb": peak_mb(),
        "peak_before_mb": before,
        "gpu_peak_mb": gpu_peak_mb(),
        "weights_mb": round(sum(each.stat().st_size for each in found.weights.iterdir()) / 1e6, 1),
        "estimated_s": round(planned["seconds"], 1),
        "estimated_mb": round(planned["memory_bytes"]["total"] / 1e6),
        "first_loss": round(told[0], 3),
        "last_loss": round(told[-1], 3),
        "precision": report["lineage"]["precision"],
    }


def peak_mb() -> float:
    """Resident megabytes of this process at the highest so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6)  # bytes there, kibibytes on Linux


def gpu_peak_mb() -> float | None:
    """Megabytes on the GPU at the highest so far; None without one."""
    import torch

    return round(torch.cuda.max_memory_allocated() / 1e6) if torch.cuda.is_available() else None


def is_bf16() -> bool:
    """Whether this machine trains in bf16; answers are computed in the same."""
    from llama_index_hybridmem.training.bases import precision

    return precision(Recipe()) == "bf16"
