"""Hand-written stand-ins: an embedding that needs no model, for tests that are not about meaning."""

from __future__ import annotations

import hashlib
import math
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding

from llama_index_hybridmem.graph.entities import terms


class WordsEmbedding(BaseEmbedding):
    """Adds up a fixed pseudo-random vector per word: texts with words in common are close, nothing else is."""

    dimension: int = 32
    symmetric: bool = True

    def __init__(self, **fields: Any) -> None:
        super().__init__(**({"model_name": "words"} | fields))

    @classmethod
    def class_name(cls) -> str:
        """Name for LlamaIndex."""
        return "WordsEmbedding"

    def _vector(self, text: str) -> list[float]:
        total = [1e-3] * self.dimension
        for term in terms(text):
            digest = hashlib.sha256(term.encode()).digest()
            total = [sum_ + (digest[i % 32] - 127.5) / 128 for i, sum_ in enumerate(total)]
        length = math.sqrt(sum(value * value for value in total))
        return [value / length for value in total]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._vector(text)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._vector(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._vector(query)


class BrokenEmbedding(WordsEmbedding):
    """Fails whatever it is asked."""

    def _vector(self, text: str) -> list[float]:
        raise RuntimeError("the encoder is broken")
