"""What a run leaves on disk: checkpoints, which count only when whole, and weights that are kept; knows no trainer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llama_index_hybridmem.disk import atomic_write_text, on_disk
from llama_index_hybridmem.errors import TrainingError

CHECKPOINTS, COMPLETE = "checkpoints", "complete"
WEIGHTS = ("adapter_config.json", "adapter_model.safetensors")


def checkpoint(folder: Path, step: int) -> Path:
    """Give the folder of a run's checkpoint."""
    return folder / CHECKPOINTS / f"checkpoint-{step}"


def whole_checkpoint(folder: Path) -> Path | None:
    """Find a run's last checkpoint that was written to its end; what a kill left unfinished is removed."""
    found = sorted(
        (folder / CHECKPOINTS).glob("checkpoint-*"), key=lambda each: int(each.name.rpartition("-")[2]), reverse=True
    )
    for each in found:
        if (each / COMPLETE).exists():
            return each
        shutil.rmtree(each, ignore_errors=True)  # of several processes another one may be at it
    return None


def finish_checkpoint(folder: Path, last: int, kept: set[int]) -> None:
    """Mark a run's newest checkpoint as whole, then remove those that are needed no more."""
    atomic_write_text(checkpoint(folder, last) / COMPLETE, "")
    for each in (folder / CHECKPOINTS).glob("checkpoint-*"):
        if int(each.name.rpartition("-")[2]) not in kept:
            (each / COMPLETE).unlink(missing_ok=True)
            shutil.rmtree(each)


def keep_adapter(source: Path, target: Path, base: str) -> None:
    """Copy a checkpoint's adapter into a folder that appears whole.

    Args:
        source: the checkpoint.
        target: the folder; one that is there is replaced.
        base: what the adapter shall call its base: where that lies on this machine is nobody's to learn.

    Raises:
        TrainingError: the checkpoint has none.
        StoreError: it cannot be written.
    """
    with _appearing(target) as unfinished:
        for name in WEIGHTS:
            if not (source / name).is_file():
                raise TrainingError(f"{source} has no {name}")
            shutil.copy2(source / name, unfinished / name)
        settings = json.loads((unfinished / WEIGHTS[0]).read_text("utf-8"))
        settings["base_model_name_or_path"] = base
        if isinstance(settings.get("target_modules"), list):  # PEFT writes a set, in another order each time
            settings["target_modules"].sort()
        atomic_write_text(unfinished / WEIGHTS[0], json.dumps(settings, indent=2, sort_keys=True) + "\n")


def keep_model(source: Path, target: Path, tokenizer: Any) -> None:
    """Copy a checkpoint's whole model, with its tokenizer, into a folder that appears whole.

    Raises:
        StoreError: it cannot be written.
    """
    with _appearing(target) as unfinished:
        for each in source.iterdir():
            if each.suffix == ".safetensors" or each.name.endswith("config.json") or "index.json" in each.name:
                shutil.copy2(each, unfinished / each.name)
        tokenizer.save_pretrained(unfinished)


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A folder that is filled under another name and then takes its own, whole."""
    unfinished = target.with_name(f".{target.name}.tmp")
    with on_disk(target):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        yield unfinished
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)
