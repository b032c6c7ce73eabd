"""All generated questions in their order, each text once; pure, opens no file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from llama_index_hybridmem.sample.asking.pairs import comparisons, two_hops
from llama_index_hybridmem.sample.asking.question import Question, folded
from llama_index_hybridmem.sample.asking.sheets import Material
from llama_index_hybridmem.sample.asking.singles import singles
from llama_index_hybridmem.sample.asking.splitting import split_documents
from llama_index_hybridmem.sample.asking.unanswerable import twins

T = TypeVar("T")
SEED = 11
"""Of the shipped file: with it, the test part has questions of every kind."""


def generate(material: Material, seed: int = SEED) -> list[dict[str, Any]]:
    """Make the rows of a file of questions.

    Args:
        material: the sample's.
        seed: the same one, the same rows.

    Returns:
        rows with id, question, kind (single, comparison, two_hop, unanswerable), expected_sources (file stems),
        answer (as a source writes it, or null), answerable, quotes (verbatim), domain, phrasing (its id), split (train,
        dev or test, by document) and, for an unanswerable one, twin_of (the id of the question that it resembles).

    Raises:
        ConfigurationError: a document does not say an answer.
    """
    splits = split_documents(material.facts, seed)
    asked = _distinct(singles(material, splits, seed), lambda each: each.question)
    made = [single.question for single in asked]
    made += comparisons(material, splits, seed)
    made += two_hops(material, splits, seed)
    made += twins(material, asked, splits)
    made = _distinct(made, lambda each: each)
    rows = {question.key: question.row(number) for number, question in enumerate(made, start=1)}
    for row in rows.values():
        if "twin_of" in row:
            row["twin_of"] = rows[row["twin_of"]]["id"]
    return list(rows.values())


def _distinct(items: Iterable[T], asked: Callable[[T], Question]) -> list[T]:
    """The first of each text."""
    found: dict[str, T] = {}
    for each in items:
        found.setdefault(folded(asked(each).text), each)
    return list(found.values())
