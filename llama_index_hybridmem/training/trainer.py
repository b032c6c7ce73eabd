"""Runs TRL on examples: steps, checkpoints, dev losses, going on after a kill; knows no folder of data and no registry.

On a CPU the same examples, recipe, versions and number of threads give the same bytes, be the run killed and resumed or
not: checkpoints hold optimiser, schedule and random numbers, and one that was not written to its end is not used.
"""

from __future__ import annotations

import logging
import math
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index_hybridmem.errors import ConfigurationError, TrainingError
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.extras import require
from llama_index_hybridmem.training.bases import Base, adapter_config, precision, without_others_news
from llama_index_hybridmem.training.checkpoints import CHECKPOINTS, checkpoint, finish_checkpoint, whole_checkpoint
from llama_index_hybridmem.training.loss import answer_trainer
from llama_index_hybridmem.training.recipe import Recipe

if TYPE_CHECKING:
    from transformers import TrainerCallback
    from trl.trainer.sft_config import SFTConfig

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, Mapping[str, float]], None]
"""(steps done, of how many, the last losses): called after each step."""


@dataclass(frozen=True)
class Fit:
    """What a run came to.

    Attributes:
        folder: of the checkpoint that is kept: the one with the lowest dev loss, without dev rows the last.
        kept_step: its number.
        steps: that were taken.
        planned: that would have been, had it not stopped early.
        losses: a line for each step and each evaluation: step, epoch, loss and rate, or dev_loss.
        longest: tokens of the longest row.
        tokens: of all rows together.
        left_out: rows longer than ``max_length``, which were not trained on.
    """

    folder: Path
    kept_step: int
    steps: int
    planned: int
    losses: tuple[dict[str, float], ...]
    longest: int
    tokens: int
    left_out: int


def fit(
    base: Base,
    train: Sequence[Example],
    dev: Sequence[Example],
    recipe: Recipe,
    folder: Path,
    progress: Progress | None = None,
) -> Fit:
    """Train; called again after a kill, go on from the last whole checkpoint.

    Args:
        base: its model is changed by it: adapted, or trained itself.
        train: rows to learn.
        dev: rows to watch; none: no dev loss, no early end.
        recipe: how.
        folder: checkpoints go below it.
        progress: told after each step.

    Raises:
        ConfigurationError: a row is longer than the model's window, or no row is left.
        TrainingError: the loss became no finite number, or a checkpoint cannot be gone on from.
        MissingExtraError: TRL or datasets is not installed.
    """
    require("training", "train", "trl", "datasets")
    train, longest, tokens, left_out = _measured(base, train, recipe)
    with _randomness(recipe.seed), without_others_news():
        trainer = _trainer(base, train, dev, recipe, folder, progress)
        _run(trainer, folder)
    losses = _losses(trainer.state.log_history)
    if not all(math.isfinite(value) for line in losses for value in line.values()):
        raise TrainingError(f"the loss became no finite number: lower the learning rate of {recipe.rate:g}")
    kept = kept_step(losses, trainer.state.global_step)
    return Fit(
        checkpoint(folder, kept),
        kept,
        trainer.state.global_step,
        trainer.state.max_steps,
        losses,
        longest,
        tokens,
        left_out,
    )


def kept_step(losses: Sequence[Mapping[str, float]], last: int) -> int:
    """Give the step with the lowest dev loss, the earliest of several; without any, the last step."""
    watched = [(line["dev_loss"], int(line["step"])) for line in losses if "dev_loss" in line]
    return min(watched)[1] if watched else last


def _measured(base: Base, rows: Sequence[Example], recipe: Recipe) -> tuple[list[Example], int, int, int]:
    """The rows that fit, tokens of the longest and of all, and how many do not fit."""
    lengths = [row_tokens(base.tokenizer, row) for row in rows]
    window = getattr(base.model.config, "max_position_embeddings", None) or math.inf
    window -= recipe.virtual_tokens if recipe.method == "prompt" else 0
    longest_allowed = min(recipe.max_length or math.inf, window)
    kept = [row for row, length in zip(rows, lengths, strict=True) if length <= longest_allowed]
    if recipe.max_length is None and len(kept) < len(rows):
        raise ConfigurationError(
            f"a row has {max(lengths)} tokens, more than the {window} that {base.name} reads: export with fewer or "
            "shorter passages, or give max_length to leave such rows out"
        )
    if not kept:
        raise ConfigurationError(f"every row is longer than max_length={recipe.max_length} tokens")
    fitting = [length for length in lengths if length <= longest_allowed]
    return kept, max(fitting), sum(fitting), len(rows) - len(kept)


def row_tokens(tokenizer: Any, row: Example) -> int:
    """How many tokens a row has in the model's own template."""
    turns = [*map(dict, row.prompt), {"role": "assistant", "content": row.completion}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


@contextmanager
def _randomness(seed: int) -> Iterator[None]:
    """A run's own random numbers; the caller's go on afterwards where they were. Tiny numbers count as 0 meanwhile.

    Without the latter single steps took 20 to 40 s on a CPU instead of 2.
    """
    import numpy as np
    import torch
    from transformers import set_seed

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    flushed = torch.set_flush_denormal(True)
    set_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if flushed:
            torch.set_flush_denormal(False)


def _run(trainer: Any, folder: Path) -> None:
    start = whole_checkpoint(folder)
    if start is not None:
        logger.info("going on from %s", start)
    try:
        trainer.train(resume_from_checkpoint=None if start is None else str(start))
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise TrainingError(f"training stopped: {error}") from error


def _trainer(
    base: Base, train: Sequence[Example], dev: Sequence[Example], recipe: Recipe, folder: Path, told: Progress | None
) -> Any:
    import datasets
    from peft import PeftModel
    from transformers import PrinterCallback

    rows = {name: [each.row() for each in part] for name, part in (("train", train), ("dev", dev))}
    per_epoch = -(-len(train) // recipe.batch_size)
    steps = min(recipe.max_steps or math.inf, math.ceil(recipe.epochs * per_epoch))
    every = max(1, min(per_epoch, int(steps)) // recipe.evaluations)
    with _without_bars():
        trainer = answer_trainer()(
            model=base.model,
            args=_arguments(recipe, folder, int(steps), every, bool(dev)),
            train_dataset=datasets.Dataset.from_list(rows["train"]),
            eval_dataset=datasets.Dataset.from_list(rows["dev"]) if dev else None,
            processing_class=base.tokenizer,
            peft_config=None if isinstance(base.model, PeftModel) else adapter_config(recipe),
            callbacks=[_watching(recipe, folder, told)],
            kl=recipe.kl,
        )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(recipe: Recipe, folder: Path, steps: int, every: int, watched: bool) -> SFTConfig:
    import torch
    from trl.trainer.sft_config import SFTConfig

    on_gpu = torch.cuda.is_available()
    checkpointing: Any = {_checkpointing(): on_gpu}  # on a CPU it costs a third more time, and memory is not scarce
    return SFTConfig(
        output_dir=str(folder / CHECKPOINTS),
        learning_rate=recipe.rate,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=max(1, round(recipe.warmup * steps)) if recipe.warmup else 0,
        max_steps=steps,
        per_device_train_batch_size=min(recipe.micro_batch, recipe.batch_size),
        per_device_eval_batch_size=min(recipe.micro_batch, recipe.batch_size),
        gradient_accumulation_steps=max(1, recipe.batch_size // (recipe.micro_batch * processes())),
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        max_length=None,  # what is too long was left out, and counted
        packing=False,
        eval_strategy="steps" if watched else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        logging_steps=1,
        bf16=precision(recipe) == "bf16",
        use_cpu=not on_gpu,
        **checkpointing,
        seed=recipe.seed,
        data_seed=recipe.seed,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=on_gpu,
    )


def processes() -> int:
    """How many processes train together, as accelerate and torchrun say it; 1 without them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one of them that writes."""
    return os.environ.get("RANK", "0") == "0"


def _checkpointing() -> str:
    """What transformers calls computing activations anew in the backward pass; renamed in 5."""
    from transformers import TrainingArguments

    names = {each.name for each in fields(TrainingArguments)}
    return "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"


def _watching(recipe: Recipe, folder: Path, told: Progress | None) -> TrainerCallback:
    """Tells the progress, marks whole checkpoints, keeps the best and the last, and ends what gets no better."""
    from transformers import TrainerCallback

    class Watching(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            _end_with_a_checkpoint(args, state, control)

        def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            _tell(state, told)

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if is_over(_losses(state.log_history), recipe.patience):
                control.should_training_stop = control.should_save = True

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                last = int(state.global_step)
                finish_checkpoint(folder, last, {last, kept_step(_losses(state.log_history), last)})

    return Watching()


def _end_with_a_checkpoint(args: Any, state: Any, control: Any) -> None:
    if state.global_step >= state.max_steps:
        control.should_evaluate = control.should_evaluate or args.eval_strategy != "no"
        control.should_save = True


def _tell(state: Any, told: Progress | None) -> None:
    if told is not None and state.is_world_process_zero:
        last = {name: value for line in _losses(state.log_history) for name, value in line.items()}
        told(state.global_step, state.max_steps, last)


def is_over(losses: Sequence[Mapping[str, float]], patience: int) -> bool:
    """Tell whether the dev loss was measured so many times after its lowest; patience 0 never ends a run."""
    best = kept_step(losses, 0)
    return 0 < patience <= sum(line["step"] > best for line in losses if "dev_loss" in line)


def _losses(history: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], ...]:
    """The trainer's log as lines of step, epoch and loss."""
    lines: list[dict[str, float]] = []
    for each in history:
        at = {"step": each["step"], "epoch": each["epoch"]}
        if "loss" in each:
            lines.append({**at, "loss": each["loss"], "rate": each["learning_rate"]})
        elif "eval_loss" in each:
            lines.append({**at, "dev_loss": each["eval_loss"]})
    return tuple(lines)


@contextmanager
def _without_bars() -> Iterator[None]:
    """The data sets' own progress bars are not shown: they tell of milliseconds."""
    import datasets

    shown = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not shown:
            datasets.enable_progress_bars()
