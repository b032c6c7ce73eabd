"""Tests of BM25 by hand: the numbers of SQLite's FTS5, whatever the words."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.graph.stores.bm25 import bm25

TEXTS = st.lists(st.lists(st.sampled_from("abcdef"), max_size=12), min_size=1, max_size=8)


def fts5(texts: list[list[str]], terms: list[str]) -> dict[int, float]:
    """The scores that SQLite gives, best is highest, by a text's place."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE VIRTUAL TABLE words USING fts5(text)")
    database.executemany("INSERT INTO words VALUES (?)", [(" ".join(text),) for text in texts])
    query = " OR ".join(f'"{term}"' for term in terms)
    found = database.execute("SELECT rowid - 1, -bm25(words) FROM words WHERE words MATCH ?", (query,)).fetchall()
    database.close()
    return dict(found)


@given(TEXTS, st.lists(st.sampled_from("abcdefz"), min_size=1, max_size=4, unique=True))
def test_scores_are_those_of_fts5(texts: list[list[str]], terms: list[str]) -> None:
    """Common and rare words, long and short texts, words that all texts have or none."""
    frequencies = Counter(word for text in texts for word in set(text))
    asked = {term: frequencies[term] for term in terms if frequencies[term]}
    total = sum(map(len, texts))
    ours = {i: bm25(text, len(text), asked, len(texts), total) for i, text in enumerate(texts)}
    theirs = fts5(texts, terms)
    assert {i for i, score in ours.items() if score} == theirs.keys()
    assert {i: ours[i] for i in theirs} == pytest.approx(theirs, abs=1e-9)


def test_counts_that_cannot_be_do_not_fail() -> None:
    """Read amid somebody's changes, frequencies may exceed the number of passages, and the store may be empty."""
    for passages, total in ((0, 0), (1, 0), (3, 9)):
        score = bm25(["a"], 1, {"a": 5}, passages, total)
        assert 0 < score < 1
        assert math.isfinite(score)
    assert bm25([], 0, {"a": 1}, 0, 0) == 0
