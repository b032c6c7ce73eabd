"""A loop that makes training rows as RAFT's reference code does, to compare with; knows no noise and no provenance.

Per question: the oracle and k random chunks, or one more random chunk in place of the oracle with probability 1 - p;
shuffled, each in DOCUMENT tags, the question behind them; a row with the context, the oracle, the label and this
instruction. The label, which a language model writes there, is given here. Nothing is checked, and what was done to a
row is not told. Written from the procedure, not copied; unlike the original it is seeded, and holds no rows back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from uuid import UUID

DISTRACTORS = 4
P = 0.8


@dataclass(frozen=True)
class Asked:
    """A question with its oracle and its label.

    Attributes:
        question: as asked.
        oracle: the chunk that answers.
        label: what a language model wrote.
    """

    question: str
    oracle: str
    label: str


def raft(asked: Iterable[Asked], chunks: Sequence[str], path: Path, draw: Random) -> None:
    """Write the rows of some questions as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for each in asked:
            others = draw.sample(chunks, DISTRACTORS + 1)
            first = each.oracle if draw.random() < P else others[-1]
            documents = [first, *others[:-1]]
            draw.shuffle(documents)
            instruction = "".join(f"<DOCUMENT>{text}</DOCUMENT>\n" for text in documents) + each.question
            row = {
                "id": str(UUID(int=draw.getrandbits(128), version=4)),
                "type": "general",
                "question": each.question,
                "context": {"title": [["placeholder_title"] * len(documents)], "sentences": [documents]},
                "oracle_context": each.oracle,
                "cot_answer": each.label,
                "instruction": instruction,
            }
            file.write(json.dumps(row) + "\n")
