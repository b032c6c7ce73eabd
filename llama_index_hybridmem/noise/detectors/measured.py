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
    "111 questions on documentation",
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
    "conflict": Errors(0.8377, 0.9991, 684, 3450),
    "duplicate": Errors(0.8905, 0.9988, 4084, 3450),
    "encoding": Errors(0.8597, 1.0000, 848, 3450),
    "gold_removed": Errors(0.2928, 0.9812, 690, 690),
    "html": Errors(0.9870, 0.9997, 690, 3450),
    "irrelevant": Errors(0.6156, 0.9539, 2068, 3450),
    "language": Errors(0.9482, 1.0000, 656, 3450),
    "layout": Errors(0.9667, 0.9925, 2070, 3450),
    "markdown": Errors(0.9088, 1.0000, 307, 3450),
    "metadata": Errors(0.6294, 0.9994, 1665, 3450),
    "ocr": Errors(0.9333, 0.9997, 690, 3450),
    "order": Errors(0.9841, 1.0000, 690, 690),
    "stale": Errors(0.9825, 1.0000, 684, 3450),
    "truncation": Errors(0.8768, 0.9870, 2760, 3450),
}
# end of figures


def errors() -> DetectorErrors:
    """Give sensitivity and specificity of each kind's detectors; `Errors.usable` says whether a rate can be corrected.

    Kinds without a detector, or whose damage cannot be made on the measured texts, are left out.
    """
    return _ERRORS
