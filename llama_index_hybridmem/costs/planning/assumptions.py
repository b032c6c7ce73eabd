"""What an estimate takes for granted, each figure as a range with the reason; pure, knows no corpus and no price.

Those of LlamaIndex's `PropertyGraphIndex` were measured with its defaults (llama-index-core 0.14.25): 20 chunks of 512
tokens, a model that gave ten triplets for each, one call a chunk of 112 tokens more than the chunk, 13 tokens of output
and 72 more tokens embedded a triplet (1,233 against 512 a chunk in all), one more call a question.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mark = Literal["measured", "assumed"]


@dataclass(frozen=True)
class Range:
    """The least, the usual and the most."""

    low: float
    typical: float
    high: float

    def __mul__(self, other: Range | float) -> Range:
        by = other if isinstance(other, Range) else constant(other)
        return Range(self.low * by.low, self.typical * by.typical, self.high * by.high)

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.typical + other.typical, self.high + other.high)


@dataclass(frozen=True)
class Input:
    """A figure that goes in.

    Attributes:
        name: what it is.
        value: its range.
        mark: how it is known.
        source: who measured it, or why it is assumed.
    """

    name: str
    value: Range
    mark: Mark
    source: str


def constant(value: float) -> Range:
    """Give a figure without a range."""
    return Range(value, value, value)


TOKENIZER = Input("model's tokens per token counted", Range(0.9, 1, 1.1), "assumed", "tokenizers differ")
QUESTION = Input("tokens of a question", Range(8, 15, 40), "assumed", "one sentence")
ANSWER = Input("tokens of an answer", Range(50, 150, 400), "assumed", "a paragraph; reasoning writes far more")
TEMPLATE = Input("tokens of the prompt around", Range(35, 35, 300), "measured", "LlamaIndex's; high end assumed")
TRIPLETS = Input("triplets of a chunk", Range(3, 10, 15), "assumed", "LlamaIndex asks for ten at most")
EXTRACTION = Input("tokens of the triplet prompt", constant(112), "measured", "PropertyGraphIndex")
WRITTEN = Input("tokens written a triplet", constant(13), "measured", "PropertyGraphIndex: 130 for ten")
EMBEDDED = Input("tokens embedded a triplet", constant(72), "measured", "PropertyGraphIndex: 721 for ten")
SYNONYMS = Input("tokens of the synonym prompt", constant(80), "measured", "PropertyGraphIndex")
KEYWORDS = Input("tokens of the synonyms", Range(20, 40, 80), "assumed", "ten at most")
FACTS = Input("tokens of facts in the prompt", Range(0, 300, 1500), "assumed", "none … thirty paths")
NAMES_S = Input("graph: CPU s a million tokens", Range(2, 3, 10), "measured", "3 on one vCPU; ends assumed")
ENCODER_S = Input("encoder: s a million tokens", Range(60, 230, 500), "measured", "MiniLM on one vCPU; ends assumed")
