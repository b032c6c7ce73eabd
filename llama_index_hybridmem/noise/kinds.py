"""The kinds of noise in retrieved context, each kept apart everywhere; pure, knows no operator and no detector.

A kind is what a profile has a rate of, a report a line and an evaluation a score. Noise training pays for some kinds
and not for others, so a mean over kinds says little.
"""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal[
    "truncation",
    "markdown",
    "html",
    "ocr",
    "encoding",
    "layout",
    "language",
    "metadata",
    "duplicate",
    "stale",
    "counterfactual",
    "conflict",
    "irrelevant",
    "distractor",
    "order",
    "gold_removed",
]
"""Of one passage: ``truncation`` (cut at either end), ``markdown`` (broken structure), ``html`` (tags, entities),
``ocr`` (misread signs), ``encoding`` (mojibake, lost signs), ``layout`` (blanks, hyphenation, page furniture),
``language`` (not the question's), ``metadata`` (missing, wrong, swapped), ``duplicate`` (of another passage, nearly or
wholly), ``stale`` (an older version), ``counterfactual`` (a false statement), ``conflict`` (disagrees with another
passage), ``irrelevant`` (about something else), ``distractor`` (about something close that does not answer).
Of the whole list: ``order`` (not by relevance), ``gold_removed`` (nothing in it answers)."""

KINDS: tuple[Kind, ...] = get_args(Kind)

FALSE_KINDS: tuple[Kind, ...] = ("stale", "conflict", "counterfactual")
"""Kinds that say something else than the truth: without it beside them, nobody could know."""

LIST_KINDS: frozenset[Kind] = frozenset({"order", "gold_removed"})
"""Kinds that a question has or has not; all others a passage has or has not."""
