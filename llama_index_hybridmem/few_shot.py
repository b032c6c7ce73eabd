"""Worked examples for the prompt: always the same, or those nearest to the question; knows no stores and no answers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import QueryBundle

from .branches import in_thread
from .errors import ConfigurationError

logger = logging.getLogger(__name__)

Example = tuple[str, str]
"""A question and its answer."""


class FewShot:
    """Picks worked examples for a question.

    Args:
        examples: (question, answer) pairs.
        top_k: how many; None for all of them, in the given order.
        embed_model: measures nearness; needed when fewer than all are picked.

    Raises:
        ConfigurationError: top_k below 1, or nearest examples without an embedding model.
    """

    def __init__(
        self, examples: Sequence[Example] = (), top_k: int | None = None, embed_model: BaseEmbedding | None = None
    ) -> None:
        if top_k is not None and top_k < 1:
            raise ConfigurationError(f"few_shot_top_k is at least 1, not {top_k}")
        self._examples = [(str(question), str(answer)) for question, answer in examples]
        self._top_k = len(self._examples) if top_k is None else top_k
        self.nearest = self._top_k < len(self._examples)
        if self.nearest and embed_model is None:
            raise ConfigurationError("few_shot_top_k needs an embedding model: give embed_model=")
        self._embed_model = embed_model
        self._vectors: npt.NDArray[np.float64] | None = None
        self._lock = threading.Lock()

    def pick(self, query: QueryBundle) -> list[Example]:
        """Return the examples for a question, the nearest last: beside the question they help small models most."""
        if not self.nearest or self._embed_model is None:
            return self._examples
        try:
            closeness = self._closeness(query, self._embed_model)
        except Exception:  # noqa: BLE001 - examples help an answer; none should fail for want of the nearest
            logger.warning("the nearest examples could not be found; taking the first %d", self._top_k, exc_info=True)
            return self._examples[: self._top_k]
        return [self._examples[place] for place in np.argsort(closeness, kind="stable")[-self._top_k :]]

    async def apick(self, query: QueryBundle) -> list[Example]:
        """As `pick`, off the event loop where it has to embed."""
        return await in_thread(self.pick, query) if self.nearest else self._examples

    def _closeness(self, query: QueryBundle, embed_model: BaseEmbedding) -> npt.NDArray[np.float64]:
        """Return each example's similarity to the question; the examples are embedded at the first use."""
        with self._lock:
            if self._vectors is None:
                questions = [question for question, _ in self._examples]
                vectors = np.asarray([embed_model.get_query_embedding(question) for question in questions], dtype=float)
                self._vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        vector = embed_model.get_agg_embedding_from_queries(list(query.embedding_strs))
        closeness: npt.NDArray[np.float64] = self._vectors @ np.asarray(vector, dtype=float)
        return closeness
