"""The noise profile of an app of which nothing is known yet; pure, measures nothing.

Every rate says where it comes from, and what is a guess says "assumed". Rates differ tenfold between sources of text:
take this one to begin with, and measure your own as soon as there are traces or an index.
"""

from __future__ import annotations

from llama_index_hybridmem.noise.kinds import Kind
from llama_index_hybridmem.noise.profile import KindRate, Profile

_SPLITTER = "389 Markdown documents of four open projects cut by LlamaIndex's SentenceSplitter, 1024/200 tokens"
_LISTS = "nine sets of passages as they were retrieved (RGB, RetrievalQA, RAMDocs, NoMIRACL)"

_MILD = (0.0, 0.1, 0.2, 0.4, 0.8)
"""Assumed quartiles of a severity: most damage is slight."""

_KINDS: dict[Kind, KindRate] = {
    "truncation": KindRate(
        0.053,
        0.04,
        0.143,
        severity=_MILD,
        operators={"truncate_chunk": 0.5, "truncate_head": 0.3, "truncate_sentence": 0.2},
        source=f"measured: 5.3 % of 816 chunks begin in mid-sentence ({_SPLITTER}), 14.3 % with 256/20; how they end "
        "was not counted. Search engines' snippets and passages of 100 words are cut far more often (23 to 84 % at the "
        "end). Shares of the operators and severity: assumed",
    ),
    "markdown": KindRate(
        0.125,
        0.104,
        0.24,
        severity=_MILD,
        operators={
            "fence_unclosed": 0.4,
            "fence_orphaned": 0.3,
            "table_header_lost": 0.2,
            "heading_collapsed": 0.05,
            "list_collapsed": 0.05,
        },
        source=f"measured: 12.5 % of 816 chunks have an odd number of code fences ({_SPLITTER}), 24.0 % with 256/20; "
        "of those with table rows 17.5 % have lost the table's header. For documents without Markdown it is 0. Shares "
        "of the operators and severity: assumed",
    ),
    "duplicate": KindRate(
        0.03,
        0.005,
        0.101,
        operators={"near_duplicate": 0.7, "duplicate": 0.3},
        source=f"measured: 0.5 to 10.1 % of the passages nearly repeat another of their list, median 3.0 %, in "
        f"{_LISTS}. Shares of the operators: assumed",
    ),
    "encoding": KindRate(
        0.004,
        0.0,
        0.008,
        severity=_MILD,
        source="measured: at most 0.8 % in sets of passages as they were retrieved; the rate between 0 and that is "
        "assumed",
    ),
    "layout": KindRate(
        0.05,
        0.0,
        0.112,
        severity=_MILD,
        source="measured: page furniture ('[ edit ]' and its like) in 11.2 % of RAMDocs' passages; the rate for other "
        "documents is assumed",
    ),
    "gold_removed": KindRate(
        0.2,
        0.1,
        0.3,
        source="assumed: 10 to 30 % of the questions find nothing that answers them. Measured: 1.8 to 70 % by the "
        "source of the passages (RAMDocs, RGB, RetrievalQA)",
    ),
    "distractor": KindRate(
        0.2,
        0.1,
        0.4,
        source="assumed. Measured: 63 to 93 % of RetrievalQA's passages do not contain the answer, so a list "
        "brings many by itself; hard ones teach more than random ones (arXiv 2505.06914)",
    ),
    "irrelevant": KindRate(0.1, 0.0, 0.3, source="assumed: one passage in ten is about something else"),
    "html": KindRate(0.02, 0.0, 0.1, severity=_MILD, source="assumed; 0 for documents that never were web pages"),
    "ocr": KindRate(
        0.02,
        0.0,
        0.1,
        severity=_MILD,
        source="assumed, for a corpus with some pages read by OCR. Of such pages far more are hurt: 25 to 43 % of "
        "OHR-Bench's are below .8 in likeness to their true text, which counts differences of markup, too",
    ),
    "metadata": KindRate(
        0.05,
        0.0,
        0.15,
        severity=_MILD,
        source="assumed: wrong or empty titles, sources and pages are reported, not counted",
    ),
    "stale": KindRate(
        0.03,
        0.0,
        0.1,
        source="assumed: stores that keep older versions are reported (HoH, arXiv 2503.04800), not counted",
    ),
    "conflict": KindRate(
        0.03,
        0.0,
        0.1,
        source="assumed. Counted per question only: a conflict between what a model knows and what it found in 19.2 % "
        "(Astute RAG, arXiv 2410.07176)",
    ),
    "counterfactual": KindRate(0.02, 0.0, 0.1, source="assumed: false statements in one's own documents are rare"),
    "order": KindRate(0.1, 0.0, 0.3, severity=_MILD, source="assumed: retrievers without a reranker err in the order"),
}


def default_profile() -> Profile:
    """Give a profile for an app without traces.

    Returns:
        rates with the place where each was measured, or "assumed"; wrong languages are left out, as they only occur
        where documents have several. The lower end of ``truncation`` and ``markdown`` is that of Wilson's 95 %
        interval, the upper one what a splitter of smaller chunks does.
    """
    return Profile(dict(_KINDS), source="default: nothing of this app was measured")
