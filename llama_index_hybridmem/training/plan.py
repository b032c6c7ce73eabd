"""What a run would take, before it runs: the model's shape without its weights, the rows' tokens; trains nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.training.admission import admit, model_written
from llama_index_hybridmem.training.bases import adapter_config, flops_per_s, open_base, precision, without_others_news
from llama_index_hybridmem.training.estimates import Estimate, Load, Shape, estimate
from llama_index_hybridmem.training.recipe import Recipe
from llama_index_hybridmem.training.replay import mixed
from llama_index_hybridmem.training.rows import TrainingSet
from llama_index_hybridmem.training.runs import general_or_own
from llama_index_hybridmem.training.trainer import row_tokens


@dataclass(frozen=True)
class Plan:
    """What a run would take.

    Attributes:
        estimate: parameters, steps, memory and time.
        rows: trained on, those that are replayed among them.
        longest: tokens of the longest row.
        warnings: about the data; also what would be refused without being told to go on.
    """

    estimate: Estimate
    rows: int
    longest: int
    warnings: tuple[str, ...]

    def in_words(self) -> str:
        """Say it in a sentence."""
        steps = f"{self.estimate.steps:,} steps over {self.rows:,} rows of up to {self.longest:,} tokens"
        return f"{steps}: {self.estimate.in_words}"

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {
            "rows": self.rows,
            "longest": self.longest,
            "warnings": list(self.warnings),
            **self.estimate.to_json(),
        }


def plan(rows: TrainingSet, base: Path | str, recipe: Recipe, general: Sequence[Example] | None = None) -> Plan:
    """Say what `train.train` would take, without loading the model's weights.

    Args:
        rows: the set.
        base: see `bases.locate`.
        recipe: how it would be trained.
        general: rows to replay; default: those of the package.

    Raises:
        ConfigurationError: no such base, or no rows.
        MissingExtraError: a library is missing.
    """
    learned = mixed(rows.train, general_or_own(general, recipe), recipe.replay, recipe.seed)
    opened = open_base(base, recipe, empty=True)
    model = opened.model
    total = model.num_parameters()
    lengths = [row_tokens(opened.tokenizer, row) for row in learned]
    lengths = [length for length in lengths if recipe.max_length is None or length <= recipe.max_length]
    if not lengths:
        raise ConfigurationError(f"every row is longer than max_length={recipe.max_length} tokens")
    answers = [len(opened.tokenizer(row.completion)["input_ids"]) for row in learned]
    load = Load(
        rows=len(lengths),
        mean_tokens=sum(lengths) / len(lengths),
        longest_tokens=max(lengths),
        completion_tokens=sum(answers) / len(answers),
        epochs=recipe.epochs,
        batch=recipe.batch_size,
        micro_batch=recipe.micro_batch,
    )
    added = _added(model, recipe)
    shape = Shape(
        parameters=total if recipe.method == "full" else total + added,
        trainable=total if recipe.method == "full" else added,
        bytes_per_parameter=0.55 if recipe.method == "qlora" else 4.0,  # 4 bits, scales and what stays whole
        **_sizes(model.config.get_text_config()),
    )
    found = estimate(
        shape, load, recipe.method, flops_per_s(), 2 if precision(recipe) == "bf16" else 4, recipe.max_steps
    )
    warned = admit(
        len(rows.train),
        rows.facts_in_targets,
        few_rows_allowed=True,
        facts_allowed=True,
        model_share=model_written(rows.train),
        max_model_share=1.0,
    )
    return Plan(found, len(lengths), max(lengths), tuple(warned))


def _added(model: Any, recipe: Recipe) -> int:
    """Parameters beside the model's own."""
    with without_others_news():
        from peft import get_peft_model

        config = adapter_config(recipe)
        return 0 if config is None else int(get_peft_model(model, config).get_nb_trainable_parameters()[0])


def _sizes(config: Any) -> Mapping[str, int]:
    width = int(config.hidden_size)
    return {
        "layers": int(config.num_hidden_layers),
        "width": width,
        "intermediate": int(getattr(config, "intermediate_size", None) or 4 * width),
        "vocabulary": int(config.vocab_size),
        "heads": int(config.num_attention_heads),
    }
