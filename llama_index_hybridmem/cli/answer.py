"""What came back for a question, as plain values for the screen and for programs; knows no terminal."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..answers import Sentence, best_sentences

if TYPE_CHECKING:
    from llama_index.core.llms import LLM
    from llama_index.core.schema import NodeWithScore

    from ..query_engine import HybridRouterQueryEngine

BEST = 3
"""Sentences shown; with three, 93 % of 317 questions on SQuAD paragraphs had their answer among them."""


@dataclass(frozen=True)
class Source:
    """A passage that an answer stands on.

    Attributes:
        number: its place, the best being 1; [n] in answers and sentences.
        node_id: of the passage.
        document: its document's id.
        title: "" without one.
        section: the headings above it, "" at the top.
        path: the file it came from, None where it came from none.
        text: the passage.
        score: after fusion; comparable within one answer only.
        stores: by memory that found it, rank and score there.
        facts: statements that came with it.
        graph_path: which names led to it and from where, None where none did.
    """

    number: int
    node_id: str
    document: str
    title: str
    section: str
    path: str | None
    text: str
    score: float | None
    stores: dict[str, dict[str, Any]]
    facts: list[str]
    graph_path: dict[str, Any] | None


@dataclass(frozen=True)
class Answer:
    """What an engine said to a question.

    Attributes:
        question: as asked.
        llm: the name of the model that wrote the text, None when none was asked.
        text: the answer; None when no model wrote one and the engine did not abstain.
        sentences: the sources' own sentences that say most about the question.
        sources: best first.
        hybridmem: what the engine says of itself: route, reason, stores, timings (see `HybridRouterQueryEngine`).
    """

    question: str
    llm: str | None
    text: str | None
    sentences: list[Sentence]
    sources: list[Source]
    hybridmem: dict[str, Any]

    @property
    def abstained(self) -> bool:
        """Whether the engine held the sources not to answer the question."""
        return bool(self.hybridmem["answer"] == "abstained")

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return asdict(self)


def ask(engine: HybridRouterQueryEngine, question: str, llm: LLM | None) -> Answer:
    """Put a question to an engine.

    Args:
        engine: of an index.
        question: the text.
        llm: the engine's model, None where it answers without one.
    """
    response = engine.query(question)
    record = (response.metadata or {})["hybridmem"]
    sources = [_source(number, found) for number, found in enumerate(response.source_nodes, start=1)]
    abstained = record["answer"] == "abstained"
    picked = [] if abstained else best_sentences(question, [source.text for source in sources], BEST)
    return Answer(
        question,
        None if llm is None or abstained else llm.metadata.model_name,
        str(response).strip() if llm is not None or abstained else None,
        picked,
        sources,
        record,
    )


def _source(number: int, found: NodeWithScore) -> Source:
    node = found.node
    noted = node.metadata.get("hybridmem", {})
    return Source(
        number,
        node.node_id,
        node.ref_doc_id or node.node_id,
        str(node.metadata.get("title") or ""),
        str(node.metadata.get("section") or ""),
        node.metadata.get("path"),
        node.get_content(),
        found.score,
        noted.get("stores", {}),
        noted.get("facts", []),
        noted.get("path"),
    )
