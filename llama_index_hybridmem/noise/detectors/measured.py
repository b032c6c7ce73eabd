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
    "105 questions on documentation",
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
    "foreign": 2,
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
    "conflict": Errors(0.8321, 0.9991, 679, 3420),
    "duplicate": Errors(0.8928, 0.9988, 4048, 3420),
    "encoding": Errors(0.8595, 1.0000, 847, 3420),
    "gold_removed": Errors(0.2953, 0.9810, 684, 684),
    "html": Errors(0.9927, 0.9997, 684, 3420),
    "irrelevant": Errors(0.6240, 0.9526, 2048, 3420),
    "language": Errors(0.9588, 1.0000, 656, 3420),
    "layout": Errors(0.9698, 0.9924, 2052, 3420),
    "markdown": Errors(0.9038, 1.0000, 291, 3420),
    "metadata": Errors(0.6304, 0.9994, 1653, 3420),
    "ocr": Errors(0.9327, 0.9997, 684, 3420),
    "order": Errors(0.9795, 1.0000, 684, 684),
    "stale": Errors(0.9882, 1.0000, 678, 3420),
    "truncation": Errors(0.8772, 0.9868, 2736, 3420),
}
# end of figures


def errors() -> DetectorErrors:
    """Give sensitivity and specificity of each kind's detectors; `Errors.usable` says whether a rate can be corrected.

    Kinds without a detector, or whose damage cannot be made on the measured texts, are left out.
    """
    return _ERRORS
