"""How much of an adapter to use: its answers at several scales, on its task and on what the base could do before.

The scale multiplies what the adapter adds to each layer, as alpha does (WiSE-FT, arXiv 2109.01903: between a model and
its fine-tuned self there is often one that keeps the gain and loses less). It is measured on copies of the adapter with
another alpha, so that serving needs nothing new; knows no registry.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from llama_index_hybridmem.disk import atomic_write_text, on_disk
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.training.measuring import ABSTAIN, Done, measured, opened
from llama_index_hybridmem.training.scaling_curve import Point, ScalingCurve, scaling_curve

SCALES = (0.25, 0.5, 0.75, 1.0, 1.25)


def scale_adapter(folder: Path, scale: float, target: Path) -> Path:
    """Copy an adapter so that its effect is multiplied.

    Args:
        folder: as PEFT writes it.
        scale: 0 or more; 1 leaves it as it is.
        target: a new folder.

    Raises:
        StoreError: it cannot be written.
    """
    with on_disk(target):
        shutil.copytree(folder, target)
        place = target / "adapter_config.json"
        settings = json.loads(place.read_text("utf-8"))
    settings["lora_alpha"] = settings["lora_alpha"] * scale
    settings["alpha_pattern"] = {name: alpha * scale for name, alpha in (settings.get("alpha_pattern") or {}).items()}
    atomic_write_text(place, json.dumps(settings, indent=2, sort_keys=True) + "\n")
    return target


def measure_scales(
    base: Path | str,
    weights: Path,
    task: Sequence[Example],
    general: Sequence[Example],
    *,
    scales: Sequence[float] = SCALES,
    abstain: Sequence[str] = ABSTAIN,
    done: Done | None = None,
) -> ScalingCurve:
    """Measure an adapter at several scales, 0 (the base) among them.

    Args:
        base: see `bases.locate`.
        weights: the adapter's folder.
        task: rows of what it was trained for, never trained on.
        general: rows of what the base shall still do.
        scales: above 0.
        abstain: wordings of abstention.
        done: told after each scale.
    """
    with tempfile.TemporaryDirectory() as made:
        folders = {
            f"scale-{place}": scale_adapter(weights, scale, Path(made) / str(place))
            for place, scale in enumerate(scales)
        }
        llm = opened(base, folders)
        points = []
        for place, scale in enumerate((0.0, *scales)):
            adapter = f"scale-{place - 1}" if place else None
            on_task = measured(llm, task, abstain, adapter=adapter)
            on_general = measured(llm, general, abstain, adapter=adapter)
            points.append(
                Point(
                    scale, tuple(each.right for each in on_task.scores), tuple(each.right for each in on_general.scores)
                )
            )
            if done is not None:
                done(place + 1, len(scales) + 1)
    return scaling_curve(points)
