"""BM25 as sparse vectors, the same for Qdrant Edge and for a Qdrant server; knows no store and no node."""

from __future__ import annotations

from collections.abc import Iterable

import qdrant_edge as edge

from ..errors import ConfigurationError

AVERAGE_LENGTH = 256.0
"""Qdrant's own default. Measure yours: on passages of 60 terms a fitting value is worth 2 points of recall@5."""

_COUNTING_K = 1e9  # with k this large and b = 0, BM25's saturated weight of a term is its plain count


class Bm25Encoder:
    """Encodes texts for a sparse vector whose collection carries the IDF modifier; the engine supplies the IDF.

    Its two methods fit LlamaIndex's ``QdrantVectorStore(sparse_doc_fn=encoder.embed_documents,
    sparse_query_fn=encoder.embed_queries, sparse_config=SparseVectorParams(modifier=Modifier.IDF))``, so that hybrid
    search on a server needs no other model.

    Args:
        language: of the stemmer and the stop words, a name or ISO code that Qdrant knows ("english", "de").
        average_length: terms per document after stop words; `average` measures it.

    Raises:
        ConfigurationError: an unknown language, or a length that is not positive.
    """

    def __init__(self, language: str = "english", average_length: float = AVERAGE_LENGTH) -> None:
        self.language = language
        self.average_length = float(average_length)
        try:
            self._weights = edge.Bm25(edge.Bm25Config(language=language, avg_len=self.average_length))
            self._counts = edge.Bm25(edge.Bm25Config(language=language, k=_COUNTING_K, b=0.0))
        except ValueError as error:
            raise ConfigurationError(f"no BM25 for language {language!r}, average {average_length}: {error}") from error

    def embed_documents(self, texts: list[str]) -> tuple[list[list[int]], list[list[float]]]:
        """Weigh the terms of texts that are to be found.

        Args:
            texts: the texts.

        Returns:
            Per text the term ids, and in the same order their saturated, length-normalised frequencies. A text
            without terms gives two empty lists.
        """
        return _columns(self._weights.embed_document(text) for text in texts)

    def embed_queries(self, texts: list[str]) -> tuple[list[list[int]], list[list[float]]]:
        """Give the distinct terms of questions, each with weight 1.

        Args:
            texts: the questions.

        Returns:
            Per text the term ids and their weights.
        """
        return _columns(self._weights.embed_query(text) for text in texts)

    def length(self, text: str) -> int:
        """Count a text's terms, as BM25 counts them: after stop words, repeats included."""
        return round(sum(self._counts.embed_document(text).values))

    def average(self, texts: Iterable[str]) -> float:
        """Measure the average length of texts, at least 1; of none, the default."""
        lengths = [self.length(text) for text in texts]
        return max(sum(lengths) / len(lengths), 1.0) if lengths else AVERAGE_LENGTH

    def with_average(self, average_length: float) -> Bm25Encoder:
        """Give an encoder of the same language for another average length."""
        return Bm25Encoder(self.language, average_length)


def _columns(vectors: Iterable[edge.SparseVector]) -> tuple[list[list[int]], list[list[float]]]:
    found = list(vectors)
    return [list(vector.indices) for vector in found], [list(vector.values) for vector in found]
