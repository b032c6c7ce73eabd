"""BM25 as sparse vectors: weights by the formula, lengths, languages."""

from __future__ import annotations

import pytest

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.vector.sparse import AVERAGE_LENGTH, Bm25Encoder


def test_weights_are_bm25_of_the_measured_average() -> None:
    """A term's weight is tf·(k+1) / (tf + k·(1-b+b·length/average)) with k=1.2, b=0.75."""
    encoder = Bm25Encoder(average_length=60.0)
    (_,), (values,) = encoder.embed_documents(["Hello hello world"])
    norm = 1.2 * (1 - 0.75 + 0.75 * 3 / 60)
    assert sorted(values) == pytest.approx([2.2 / (1 + norm), 2 * 2.2 / (2 + norm)])


def test_a_query_holds_each_term_once() -> None:
    """Query weights are 1, and a question meets a document's terms whatever the case and ending."""
    encoder = Bm25Encoder()
    (indices,), (values,) = encoder.embed_queries(["Cells cell memory"])
    assert values == [1.0, 1.0]
    assert set(indices) == set(encoder.embed_documents(["the memory of a cell"])[0][0])


def test_no_terms_no_vector() -> None:
    """Empty text and bare stop words give empty lists, one for each text, in order."""
    assert Bm25Encoder().embed_documents(["", "the the", "cell"])[0][:2] == [[], []]
    assert Bm25Encoder().embed_documents([]) == ([], [])


@pytest.mark.parametrize("count", [0, 1, 7, 500])
def test_length_counts_repeats(count: int) -> None:
    """Length is the number of terms after stop words, repeats included."""
    assert Bm25Encoder().length("the cell " * count + "and memory") == count + 1


def test_average_of_texts() -> None:
    """The average is the mean length, at least 1; of no texts Qdrant's default."""
    encoder = Bm25Encoder()
    assert encoder.average(["memory cell", "dynamic random access memory"]) == 3.0
    assert encoder.average(["", "the"]) == 1.0
    assert encoder.average([]) == AVERAGE_LENGTH


def test_languages() -> None:
    """A language brings its stemmer and stop words; an unknown one is refused, so is a length that is none."""
    german = Bm25Encoder("german")
    assert german.embed_queries(["die Häuser"])[0] == german.embed_queries(["Haus"])[0]
    with pytest.raises(ConfigurationError, match="klingon"):
        Bm25Encoder("klingon")
    for length in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigurationError):
            Bm25Encoder(average_length=length)
