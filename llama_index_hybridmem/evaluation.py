"""Measures retrieval on the user's own questions, with each memory on and off; knows nothing of answers or models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import BaseNode

from .errors import IngestError
from .statistics import Interval, all_gold_at_k, bootstrap_interval, paired_difference, recall_at_k, reciprocal_rank

if TYPE_CHECKING:
    from .index import HybridMemoryIndex

KS = (2, 5, 10)
MEMORIES = ("vector", "keyword", "graph")
_SOURCE_KEYS = ("title", "file_name", "path", "file_path")


@dataclass(frozen=True)
class Question:
    """A question and where its answer stands.

    Attributes:
        question: the text.
        gold: what names the right sources: document ids, node ids, titles, or file names with or without ending.
    """

    question: str
    gold: frozenset[str]


@dataclass(frozen=True)
class Arm:
    """One way of retrieving, measured.

    Attributes:
        name: "hybrid", one memory alone ("graph"), or all but one ("hybrid without graph").
        metrics: "recall@5", "all@5", "mrr" and so on, each with its 95 % bootstrap interval over questions.
        gain: paired difference in recall@5 to "hybrid"; None for that arm itself.
    """

    name: str
    metrics: dict[str, Interval]
    gain: Interval | None = None


@dataclass(frozen=True)
class EvaluationReport:
    """What an evaluation found.

    Attributes:
        arms: every way of retrieving, "hybrid" first.
        questions: how many were asked.
        skipped: how many name no source (unanswerable ones, small talk) and were not.
    """

    arms: tuple[Arm, ...]
    questions: int
    skipped: int

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON."""
        return asdict(self)


def read_questions(source: str | Path | Iterable[Mapping[str, Any]]) -> tuple[list[Question], int]:
    """Read questions from a JSON lines file or from rows.

    Args:
        source: rows with "question" and "expected_sources" (or "gold"), a list of names.

    Returns:
        the questions that name a source, and how many do not.

    Raises:
        IngestError: the file cannot be read, or a row is not of that form; names the line.
    """
    rows = (
        _lines(Path(source)) if isinstance(source, str | Path) else ((f"row {i}", row) for i, row in enumerate(source))
    )
    asked, skipped = [], 0
    for place, row in rows:
        text = row.get("question") if isinstance(row, Mapping) else None
        gold = (row.get("expected_sources") or row.get("gold") or []) if isinstance(row, Mapping) else None
        if not isinstance(text, str) or not isinstance(gold, list | tuple):
            raise IngestError(
                f"{place}: expected {{'question': text, 'expected_sources': [names]}}, found {row!r:.200}"
            )
        if gold:
            asked.append(Question(text, frozenset(map(str, gold))))
        else:
            skipped += 1
    return asked, skipped


def evaluate(
    index: HybridMemoryIndex,
    questions: str | Path | Iterable[Mapping[str, Any]],
    *,
    seed: int = 0,
    **retriever: Any,
) -> EvaluationReport:
    """Measure an index on questions with known sources.

    Args:
        index: what is measured.
        questions: see `read_questions`.
        seed: of the bootstrap.
        **retriever: arguments of `HybridMemoryIndex.as_retriever`, held the same for every arm.

    Raises:
        IngestError: unreadable questions, or none that names a source.
    """
    asked, skipped = read_questions(questions)
    if not asked:
        raise IngestError("no question names an expected source, so there is nothing to measure")
    ways = {"hybrid": MEMORIES, **{name: (name,) for name in MEMORIES}}
    ways |= {f"hybrid without {name}": tuple(m for m in MEMORIES if m != name) for name in MEMORIES}
    top_k = max(*KS, retriever.pop("similarity_top_k", 0))
    ranked = {
        name: [ranking(index.as_retriever(stores=stores, similarity_top_k=top_k, **retriever), q) for q in asked]
        for name, stores in ways.items()
    }
    base = _at(ranked["hybrid"], asked, 5)
    arms = [
        Arm(
            name,
            _metrics(lists, asked, seed),
            None if name == "hybrid" else paired_difference(_at(lists, asked, 5), base, seed),
        )
        for name, lists in ranked.items()
    ]
    return EvaluationReport(tuple(arms), len(asked), skipped)


def ranking(retriever: BaseRetriever, question: Question) -> list[str]:
    """Retrieve for a question; each node is called by the gold name it answers to, else by its id, each name once."""
    return list(dict.fromkeys(_called(found.node, question.gold) for found in retriever.retrieve(question.question)))


def _called(node: BaseNode, gold: frozenset[str]) -> str:
    names = [node.node_id, node.ref_doc_id or ""]
    for key in _SOURCE_KEYS:
        value = str(node.metadata.get(key) or "")
        names += [value, PurePath(value).name, PurePath(value).stem]
    return next((name for name in names if name in gold), node.node_id)


def _at(lists: Sequence[Sequence[str]], asked: Sequence[Question], k: int) -> list[float]:
    return [recall_at_k(found, question.gold, k) for found, question in zip(lists, asked, strict=True)]


def _metrics(lists: Sequence[Sequence[str]], asked: Sequence[Question], seed: int) -> dict[str, Interval]:
    pairs = list(zip(lists, (question.gold for question in asked), strict=True))
    values = {f"recall@{k}": [recall_at_k(found, gold, k) for found, gold in pairs] for k in KS}
    values["all@5"] = [all_gold_at_k(found, gold, 5) for found, gold in pairs]
    values["mrr"] = [reciprocal_rank(found, gold) for found, gold in pairs]
    return {name: bootstrap_interval(numbers, seed) for name, numbers in values.items()}


def _lines(path: Path) -> Iterable[tuple[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise IngestError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield f"{path}, line {number}", json.loads(line)
            except ValueError as error:
                raise IngestError(f"{path}, line {number}: not JSON: {error}") from error
