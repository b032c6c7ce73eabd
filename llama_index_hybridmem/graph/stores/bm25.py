"""BM25 over plain words, with the numbers of SQLite's FTS5, so that both graph stores score alike; knows no store.

The formula is FTS5's own (its documentation, "The bm25() function"): Robertson's with k1 = 1.2 and b = 0.75, and an idf
that is never below a millionth.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

_K1 = 1.2
_B = 0.75
_LEAST_IDF = 1e-6


def bm25(words: Sequence[str], length: int, frequencies: Mapping[str, int], passages: int, total_length: int) -> float:
    """Score one passage for a question.

    Args:
        words: of the passage, title and text.
        length: how many there are.
        frequencies: the question's words, each with the number of passages that have it.
        passages: in the store.
        total_length: words in the store.

    Returns:
        0 when it has none of the question's words.
    """
    counted = Counter(words)
    norm = _K1 * (1 - _B + _B * length * passages / max(total_length, 1))
    score = 0.0
    for term, df in frequencies.items():
        if count := counted[term]:
            idf = max(math.log((passages - df + 0.5) / (df + 0.5)), _LEAST_IDF) if passages > df else _LEAST_IDF
            score += idf * count * (_K1 + 1) / (count + norm)
    return score
