"""Where the sample corpus lies: documents, facts and questions on memory chips; knows nothing of indexes or models.

The texts were written for this package, true to the best of its authors' knowledge, with rough figures where sources
differ. They are there for the demo, the tests and first experiments, and are no reference for anything else.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["documents_folder", "facts_path", "generated_path", "questions_path"]

_HERE = Path(__file__).resolve().parent


def documents_folder() -> Path:
    """Return the folder with the Markdown documents, one subject each; every one ends with a table of its facts."""
    return _HERE / "documents"


def questions_path() -> Path:
    """Return the JSON lines of questions.

    Each has id, question, kind (single, comparison, two_hop, unanswerable or no_retrieval), expected_sources (document
    file stems; for two_hop in the order of the hops) and answer (a short string as it stands in a source, or null).
    """
    return _HERE / "questions.jsonl"


def facts_path() -> Path:
    """Return the CSV of all facts: entity, attribute, value, unit (may be empty) and document (its file stem)."""
    return _HERE / "facts.csv"


def generated_path() -> Path:
    """Return the JSON lines of questions made from the facts, as `python -m llama_index_hybridmem.sample.asking` does.

    Each has what those of `questions_path` have (kinds single, comparison, two_hop, unanswerable), and answerable,
    quotes (verbatim), domain, phrasing (its id), split (train, dev or test, by document) and, where nothing answers,
    twin_of (the id of the question that it resembles).
    """
    return _HERE / "generated.jsonl"
