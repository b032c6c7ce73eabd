"""What a model answers before and after training, and how good that is; trains nothing and writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index_hybridmem.example import Example
from llama_index_hybridmem.extras import require
from llama_index_hybridmem.llms.adapters.folders import FolderAdapters
from llama_index_hybridmem.statistics import paired_difference
from llama_index_hybridmem.training.asking import answers
from llama_index_hybridmem.training.bases import locate
from llama_index_hybridmem.training.scores import Score, Summary, score, summarise

if TYPE_CHECKING:
    from llama_index_hybridmem.llms.local import LoraHuggingFaceLLM

MEASURED = 64
"""Rows that are asked by default: at about a second each on a CPU a minute, and an interval of about .1."""
SHOWN = 8
CLEAN = "clean"
ABSTAIN = ("Not in the sources.",)

Done = Callable[[int, int], None]


@dataclass(frozen=True)
class Measured:
    """Answers and what they are worth.

    Attributes:
        answers: one for each example.
        scores: of them.
        overall: all of them together.
        kinds: those of each kind of noise, "clean" being those without any.
    """

    answers: tuple[str, ...]
    scores: tuple[Score, ...]
    overall: Summary
    kinds: Mapping[str, Summary]


def opened(base: Path | str, adapters: Mapping[str, Path], **settings: Any) -> LoraHuggingFaceLLM:
    """Serve a base with adapters that lie in folders.

    Args:
        base: see `bases.locate`.
        adapters: name to folder.
        **settings: of `LoraHuggingFaceLLM`.
    """
    require("measuring an adapter", "lora", "torch", "transformers", "peft")
    from llama_index_hybridmem.llms.local import LoraHuggingFaceLLM

    known: dict[str, Any] = {"is_chat_model": True, "adapters": FolderAdapters(adapters)}
    return LoraHuggingFaceLLM.from_pretrained(locate(base)[1], **(known | settings))


def measured(
    llm: Any,
    examples: Sequence[Example],
    abstain: Sequence[str] = ABSTAIN,
    *,
    adapter: str | None = None,
    done: Done | None = None,
    **options: Any,
) -> Measured:
    """Ask a model and score what it says, up to the end of its first line where one is expected.

    Args:
        llm: see `asking.answers`.
        examples: what is asked.
        abstain: wordings of abstention.
        adapter: name of the one that answers; None: the base.
        done: told after each answer.
        **options: of each call.
    """
    said = answers(llm, examples, done=done, adapter=adapter, **options)
    said = [cut(answer, each) for answer, each in zip(said, examples, strict=True)]
    scores = [score(answer, each, abstain) for answer, each in zip(said, examples, strict=True)]
    groups: dict[str, list[int]] = {}
    for place, each in enumerate(examples):
        for kind in sorted(each.kinds) or [CLEAN]:
            groups.setdefault(kind, []).append(place)
    kinds = {
        kind: summarise([scores[place] for place in places], [examples[place] for place in places])
        for kind, places in sorted(groups.items())
    }
    return Measured(tuple(said), tuple(scores), summarise(scores, examples), kinds)


def cut(answer: str, example: Example) -> str:
    """Leave the first line of an answer of which one line is expected: small models run on behind it."""
    text = answer.strip()
    return text if "\n" in example.completion.strip() else text.partition("\n")[0].strip()


def before_and_after(
    base: Path | str,
    weights: Path,
    examples: Sequence[Example],
    abstain: Sequence[str] = ABSTAIN,
    done: Done | None = None,
) -> dict[str, Any]:
    """Compare an adapter with its base on the same rows.

    Args:
        base: see `bases.locate`.
        weights: the adapter's folder.
        examples: never trained on.
        abstain: wordings of abstention.
        done: told after each answer.

    Returns:
        plain JSON types: "scores" (before, after, difference with its 95 % interval; by kind) and "answers", some of
        them beside each other.
    """
    llm = opened(base, {"trained": weights})
    rows = 2 * len(examples)
    both = []
    for turn, adapter in enumerate((None, "trained")):
        told = None if done is None else lambda n, _, turn=turn: done(turn * len(examples) + n, rows)
        both.append(measured(llm, examples, abstain, adapter=adapter, done=told))
    return {"scores": _scores(*both), "answers": _beside(examples, *both)}


def _scores(before: Measured, after: Measured) -> dict[str, Any]:
    gained = paired_difference([each.right for each in after.scores], [each.right for each in before.scores], 0)
    return {
        "before": before.overall.to_json(),
        "after": after.overall.to_json(),
        "difference": {"mean": gained.mean, "low": gained.low, "high": gained.high},
        "kinds": {
            kind: {"before": each.to_json(), "after": after.kinds[kind].to_json()}
            for kind, each in before.kinds.items()
        },
    }


def _beside(examples: Sequence[Example], before: Measured, after: Measured) -> list[dict[str, Any]]:
    """Rows to look at, from the beginning, the middle and the end, whatever became of them."""
    step = max(1, len(examples) // SHOWN)
    return [
        {
            "question": examples[place].prompt[-1]["content"].rpartition("Question: ")[2],
            "expected": examples[place].answer,
            "before": before.answers[place],
            "after": after.answers[place],
            "kinds": sorted(examples[place].kinds),
        }
        for place in range(0, len(examples), step)
    ][:SHOWN]
