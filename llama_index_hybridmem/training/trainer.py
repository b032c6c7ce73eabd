"""Runs TRL on examples: steps, checkpoints, dev losses, going on after a kill; knows no folder of data and no registry.

On a CPU the same examples, recipe, versions and number of threads give the same bytes, be the run killed and resumed or
not: checkpoints hold optimiser, schedule and random numbers, and one that was not written to its end is not used.
"""

from __future__ import annotations

import json
import logging
import math
import random
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index_hybridmem.disk import atomic_write_text, on_disk
from llama_index_hybridmem.errors import ConfigurationError, TrainingError
from llama_index_hybridmem.extras import require
from llama_index_hybridmem.training.bases import Base, adapter_config, precision
from llama_index_hybridmem.training.example import Example
from llama_index_hybridmem.training.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, Mapping[str, float]], None]
"""(steps done, of how many, the last losses): called after each step."""

CHECKPOINTS, COMPLETE, STATE = "checkpoints", "complete", "trainer_state.json"
WEIGHTS = ("adapter_config.json", "adapter_model.safetensors")
_IGNORED = -100  # label of what is not learned, as in torch


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
    with _randomness(recipe.seed), _without_others_news():
        trainer = _trainer(base, train, dev, recipe, folder, progress)
        _run(trainer, folder)
    losses = _losses(trainer.state.log_history)
    if not all(math.isfinite(value) for line in losses for value in line.values()):
        raise TrainingError(f"the loss became no finite number: lower the learning rate of {recipe.rate:g}")
    kept = kept_step(losses, trainer.state.global_step)
    return Fit(
        folder / CHECKPOINTS / f"checkpoint-{kept}",
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


def _run(trainer: SFTTrainer, folder: Path) -> None:
    start = _whole_checkpoint(folder)
    if start is not None:
        logger.info("going on from %s", start)
    try:
        trainer.train(resume_from_checkpoint=None if start is None else str(start))
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise TrainingError(f"training stopped: {error}") from error


def _whole_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint that was written to its end; what a kill left unfinished is removed."""
    found = sorted(
        (folder / CHECKPOINTS).glob("checkpoint-*"), key=lambda each: int(each.name.rpartition("-")[2]), reverse=True
    )
    for each in found:
        if (each / COMPLETE).exists():
            return each
        shutil.rmtree(each)
    return None


def _trainer(
    base: Base, train: Sequence[Example], dev: Sequence[Example], recipe: Recipe, folder: Path, told: Progress | None
) -> SFTTrainer:
    import datasets
    from transformers import PrinterCallback

    rows = {name: [each.row() for each in part] for name, part in (("train", train), ("dev", dev))}
    per_epoch = -(-len(train) // recipe.batch_size)
    steps = min(recipe.max_steps or math.inf, math.ceil(recipe.epochs * per_epoch))
    every = max(1, min(per_epoch, int(steps)) // recipe.evaluations)
    with _without_bars():
        trainer = _trainer_class()(
            model=base.model,
            args=_arguments(recipe, folder, int(steps), every, bool(dev)),
            train_dataset=datasets.Dataset.from_list(rows["train"]),
            eval_dataset=datasets.Dataset.from_list(rows["dev"]) if dev else None,
            processing_class=base.tokenizer,
            peft_config=adapter_config(recipe),
            callbacks=[_watching(recipe, told)],
            kl=recipe.kl,
        )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(recipe: Recipe, folder: Path, steps: int, every: int, watched: bool) -> SFTConfig:
    import torch
    from trl import SFTConfig

    on_gpu = torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(folder / CHECKPOINTS),
        learning_rate=recipe.rate,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=max(1, round(recipe.warmup * steps)) if recipe.warmup else 0,
        max_steps=steps,
        per_device_train_batch_size=min(recipe.micro_batch, recipe.batch_size),
        per_device_eval_batch_size=min(recipe.micro_batch, recipe.batch_size),
        gradient_accumulation_steps=recipe.accumulation,
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
        **{_checkpointing(): on_gpu},  # on a CPU it costs a third more time, and memory is not what is scarce
        seed=recipe.seed,
        data_seed=recipe.seed,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=on_gpu,
    )


def _checkpointing() -> str:
    """What transformers calls computing activations anew in the backward pass; renamed in 5."""
    from transformers import TrainingArguments

    names = {each.name for each in fields(TrainingArguments)}
    return "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"


def _trainer_class() -> Any:
    """TRL's trainer, with the output layer computed where something is learned, and with the divergence from the base.

    TRL computes logits of every token: on a model of 135M parameters half of a step's time on a CPU, for the few tokens
    of an answer.
    """
    from trl import SFTTrainer

    class AnswerTrainer(SFTTrainer):  # type: ignore[misc]  # TRL's classes are untyped
        def __init__(self, *args: Any, kl: float = 0.0, **kwargs: Any) -> None:
            self.kl = kl
            super().__init__(*args, **kwargs)

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            if return_outputs or getattr(model, "active_peft_config", None).__class__.__name__ == "PromptTuningConfig":
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            loss = answer_loss(model, inputs, num_items_in_batch, self.kl if model.training else 0.0)
            scale = self.accelerator.num_processes if num_items_in_batch is not None else 1
            return loss * scale if self.args.average_tokens_across_devices else loss

        def create_model_card(self, *args: Any, **kwargs: Any) -> None:  # the report says more
            return None

    return AnswerTrainer


def answer_loss(model: Any, inputs: Mapping[str, Tensor], count: Any = None, kl: float = 0.0) -> Tensor:
    """Mean negative log-likelihood of the learned tokens, and how far the model moved from its base on them.

    Args:
        model: of PEFT or transformers; its forward takes ``logits_to_keep``.
        inputs: input_ids, attention_mask and labels, each (rows, tokens).
        count: learned tokens of the whole step, over which the mean is taken; None: of these rows.
        kl: weight of KL(model || base), in nats a token (arXiv 2512.22337); the model must be an adapter's.
    """
    import torch
    import torch.nn.functional as functional

    labels = functional.pad(inputs["labels"], (0, 1), value=_IGNORED)[:, 1:]
    places = (labels != _IGNORED).any(0).nonzero()[:, 0]
    learned = labels[:, places]
    given = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"], "use_cache": False}
    logits = model(**given, logits_to_keep=places).logits.float()
    total = functional.cross_entropy(logits.flatten(0, 1), learned.flatten(), ignore_index=_IGNORED, reduction="sum")
    if kl:
        with torch.no_grad(), model.disable_adapter():
            before = model(**given, logits_to_keep=places).logits.float().log_softmax(-1)
        now = logits.log_softmax(-1)
        apart = (now.exp() * (now - before)).sum(-1)
        total = total + kl * (apart * (learned != _IGNORED)).sum()
    items = (learned != _IGNORED).sum() if count is None else torch.as_tensor(count, device=total.device)
    return total / items.clamp(min=1)


def _watching(recipe: Recipe, told: Progress | None) -> TrainerCallback:
    """Tells the progress, marks whole checkpoints, keeps the best and the last, and ends what gets no better."""
    from transformers import TrainerCallback

    class Watching(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step >= state.max_steps:
                control.should_evaluate = control.should_evaluate or args.eval_strategy != "no"
                control.should_save = True

        def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            losses = _losses(state.log_history)
            if told is not None and losses and state.is_world_process_zero:
                last = {name: value for line in losses for name, value in line.items()}
                told(state.global_step, state.max_steps, last)

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            losses = _losses(state.log_history)
            watched = [line["step"] for line in losses if "dev_loss" in line]
            best = kept_step(losses, 0)
            if recipe.patience and sum(step > best for step in watched) >= recipe.patience:
                control.should_training_stop = control.should_save = True

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                last, best = state.global_step, kept_step(_losses(state.log_history), state.global_step)
                _finish_checkpoint(Path(args.output_dir), last, {last, best})

    return Watching()


def _finish_checkpoint(folder: Path, last: int, kept: set[int]) -> None:
    """Mark a checkpoint as whole, then remove those that are needed no more."""
    atomic_write_text(folder / f"checkpoint-{last}" / COMPLETE, "")
    for each in folder.glob("checkpoint-*"):
        if int(each.name.rpartition("-")[2]) not in kept:
            (each / COMPLETE).unlink(missing_ok=True)
            shutil.rmtree(each)


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


def keep_adapter(fit: Fit, target: Path, base: str) -> None:
    """Copy the kept checkpoint's adapter into a folder that appears whole.

    Args:
        fit: what was trained.
        target: the folder; one that is there is replaced.
        base: what the adapter shall call its base: where that lies on this machine is nobody's to learn.

    Raises:
        TrainingError: the checkpoint has none.
        StoreError: it cannot be written.
    """
    unfinished = target.with_name(f".{target.name}.tmp")
    with on_disk(target):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for name in WEIGHTS:
            if not (fit.folder / name).is_file():
                raise TrainingError(f"{fit.folder} has no {name}")
            shutil.copy2(fit.folder / name, unfinished / name)
        settings = json.loads((unfinished / WEIGHTS[0]).read_text("utf-8"))
        settings["base_model_name_or_path"] = base
        if isinstance(settings.get("target_modules"), list):  # PEFT writes a set, in another order each time
            settings["target_modules"].sort()
        atomic_write_text(unfinished / WEIGHTS[0], json.dumps(settings, indent=2, sort_keys=True) + "\n")
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)


@contextmanager
def _without_others_news() -> Iterator[None]:
    """Libraries of different ages tell of each other's renamed options; nobody who trains can change that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


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
