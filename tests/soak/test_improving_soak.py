"""Five rounds of improving in a row, each promoted, with a tiny model and real training: what was learned stays."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import WordsEmbedding
from llama_index.core.schema import Document
from models import tiny_qwen

from llama_index_hybridmem import HybridMemoryIndex
from llama_index_hybridmem.export.options import ExportOptions
from llama_index_hybridmem.export.wording import Wording
from llama_index_hybridmem.llms.adapters.registry import AdapterRegistry
from llama_index_hybridmem.training.candidates import Candidate
from llama_index_hybridmem.training.improving import EARLIER, Improving, improve
from llama_index_hybridmem.training.recipe import Recipe

pytestmark = [
    pytest.mark.skipif(os.environ.get("HYBRIDMEM_SOAK") != "1", reason="eight trainings: run by make soak"),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("trl", "peft")),
        reason="needs the extras 'lora' and 'train'",
    ),
]

KINDS = {"opal": "red", "beryl": "blue", "topaz": "green", "agate": "black", "jade": "white"}
"""Each round is about one kind of stone, all of one colour: who learns the last round alone says one colour to all."""
STONES, MARGIN = 24, 0.05
RECIPE = Recipe(
    rank=8,
    alpha=16,
    batch_size=8,
    micro_batch=8,
    max_steps=60,
    epochs=100,
    learning_rate=5e-3,
    evaluations=1,
    precision="fp32",
    replay=0,
    patience=0,
)
OPTIONS = ExportOptions(
    top_k=1,
    strength=0,
    wording=Wording(system="Read. {form}", citation="none", shown=()),
    splits={"train": 0.7, "dev": 0.0, "test": 0.3},
)


@pytest.fixture(scope="module", name="index")
def _index() -> Iterator[HybridMemoryIndex]:
    documents = [
        Document(text=f"The {kind} {n} is {colour}.", id_=f"{kind}-{n}")
        for kind, colour in KINDS.items()
        for n in range(STONES)
    ]
    with HybridMemoryIndex.from_documents(documents, embed_model=WordsEmbedding()) as index:
        yield index


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen(tmp_path_factory.mktemp("models") / "tiny")


def improved(index: HybridMemoryIndex, model: Path, folder: Path, earlier: float, rounds: int) -> list[Candidate]:
    """So many rounds, each candidate promoted whatever its verdict."""
    folder.mkdir()
    registry, made = AdapterRegistry(folder / "registry"), []
    for kind, colour in list(KINDS.items())[:rounds]:
        rows: list[dict[str, Any]] = [
            {
                "question": f"Which colour has the {kind} {n}?",
                "answer": colour,
                "expected_sources": [f"{kind}-{n}"],
                "reviewed": True,
            }
            for n in range(STONES)
        ]
        file = folder / f"{kind}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        how = Improving(RECIPE, OPTIONS, earlier=earlier, few_rows=True, probes=(), margin=MARGIN)
        made.append(improve(file, index, model, folder / "work", registry=registry, name="stones", how=how))
        registry.alias("stones", "prod", "candidate")
    return made


def right(made: Candidate, name: str) -> float:
    """Mean share of right answers of a candidate to a round's held-back rows."""
    found: float = made.report["rounds"][name]["candidate"]["right"]["mean"]
    return found


def test_five_rounds_in_a_row_lose_nothing_with_replay_and_much_without(
    index: HybridMemoryIndex, model: Path, tmp_path: Path
) -> None:
    """The mean over all rounds' held-back rows, after the last against each in its own; without: after three."""
    kept = improved(index, model, tmp_path / "with", 1.0, 5)
    lost = improved(index, model, tmp_path / "without", 0.0, 3)
    own, last = ended(kept)
    assert own > 0.8, "each round is learned"
    assert last >= max(own, right(kept[0], "0001")) - MARGIN
    forgot_own, forgot_last = ended(lost)
    assert forgot_last < forgot_own - 0.2, "without replay it would be lost"
    assert lost[-1].report["verdicts"][EARLIER]["passed"] is False, "and the verdict sees it"
    assert kept[-1].report["verdicts"][EARLIER]["passed"] is not False


def ended(made: list[Candidate]) -> tuple[float, float]:
    """What was right in each round's own rows when it was made, and what the last one has of them all."""
    names = [each.folder.name for each in made]
    own = [right(each, name) for each, name in zip(made, names, strict=True)]
    return sum(own) / len(own), sum(right(made[-1], name) for name in names) / len(names)
