"""The detectors' error rates as they were measured when they were shipped; pure, knows no detector.

`benchmarks/noise_detectors.py` measures them and writes the figures below. They hold for English prose and Markdown
with short tables, and for damage as our operators make it. What a detector misses in other damage, or takes for damage
in other texts, it was not asked: for a corpus of another sort, measure with `confusion.confusion` on its own clean
passages.
"""

from __future__ import annotations

from collections.abc import Mapping

from llama_index_hybridmem.noise.confusion import DetectorErrors, Errors

# figures, written by the benchmark
MEASURED = "2026-11-22"
"""When."""

MEASURED_ON: tuple[str, ...] = (
    "95 questions on sample documents",
    "102 questions on documentation",
    "150 questions on SQuAD paragraphs",
    "150 questions on SQuAD paragraphs, held out",
    "99 questions on HotpotQA paragraphs",
    "85 questions on MuSiQue paragraphs",
)
"""On what: clean passages, and the same damaged by every operator once."""

VERSIONS: Mapping[str, int] = {
    "blanks": 1,
    "broken_fence": 1,
    "broken_table": 1,
    "conflicting_values": 1,
    "cut": 1,
    "dangling_link": 1,
    "duplicates": 1,
    "foreign": 1,
    "heading_inside": 1,
    "hyphens": 1,
    "list_inside": 1,
    "lost_signs": 1,
    "markup": 1,
    "metadata_gap": 1,
    "metadata_origin": 1,
    "metadata_shape": 1,
    "metadata_time": 1,
    "metadata_words": 1,
    "misread": 1,
    "mojibake": 1,
    "other_language": 1,
    "out_of_order": 1,
    "page_furniture": 1,
    "stale_pairs": 1,
    "unanswerable": 1,
}
"""Of the detectors then."""

UNSEEN: tuple[str, ...] = (
    "heading_collapsed",
    "truncate_tokens",
)
"""Operators whose damage they do not see; no sensitivity counts it."""

_ERRORS: DetectorErrors = {
    "conflict": Errors(0.8343, 0.9991, 676, 3405),
    "duplicate": Errors(0.8947, 0.9988, 4037, 3405),
    "encoding": Errors(0.8587, 1.0000, 842, 3405),
    "gold_removed": Errors(0.2966, 0.9809, 681, 681),
    "html": Errors(0.9838, 0.9997, 681, 3405),
    "irrelevant": Errors(0.8614, 0.9521, 2035, 3405),
    "language": Errors(0.9522, 1.0000, 649, 3405),
    "layout": Errors(0.9648, 0.9924, 2043, 3405),
    "markdown": Errors(0.9067, 1.0000, 268, 3405),
    "metadata": Errors(0.6327, 0.9994, 1647, 3405),
    "ocr": Errors(0.9295, 0.9997, 681, 3405),
    "order": Errors(0.9853, 1.0000, 681, 681),
    "stale": Errors(0.9852, 1.0000, 676, 3405),
    "truncation": Errors(0.8814, 0.9868, 2724, 3405),
}
# end of figures


def errors() -> DetectorErrors:
    """Give sensitivity and specificity of each kind's detectors; `Errors.usable` says whether a rate can be corrected.

    Kinds without a detector, or whose damage cannot be made on the measured texts, are left out.
    """
    return _ERRORS
