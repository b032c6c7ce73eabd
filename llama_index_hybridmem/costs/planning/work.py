"""The work that a corpus and a plan make: calls, tokens and seconds; pure, knows no price."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from llama_index_hybridmem.costs.planning import assumptions as known
from llama_index_hybridmem.costs.planning.assumptions import Input, Range, constant
from llama_index_hybridmem.errors import ConfigurationError

Graph = Literal["none", "entities", "llm"]
"""No graph, this package's entity graph, or one that a language model extracts (`PropertyGraphIndex`)."""

Phase = Literal["build", "month"]
GRAPHS: tuple[Graph, ...] = get_args(Graph)
LOCAL = "local"
"""The provider of a model in this process."""


@dataclass(frozen=True)
class Corpus:
    """A corpus in numbers.

    Attributes:
        documents: how many.
        characters: of their texts.
        tokens: of their texts.
        chunks: into how many they are cut.
        chunk_tokens: of all chunks, with title and section.
        largest_chunk: tokens of the longest.
        chunk_size: tokens that a chunk may have.
        counted_by: who counted the tokens.
    """

    documents: int
    characters: int
    tokens: int
    chunks: int
    chunk_tokens: int
    largest_chunk: int
    chunk_size: int
    counted_by: str


@dataclass(frozen=True)
class Plan:
    """What shall be built and asked.

    Attributes:
        llm: the language model.
        llm_provider: who is paid for it.
        embedding: the embedding model.
        embedding_provider: who is paid for it; ``local`` for one in this process.
        graph: see `Graph`.
        queries_per_month: 0 leaves asking out.
        top_k: chunks in the prompt.

    Raises:
        ConfigurationError: names the field.
    """

    llm: str = "gpt-4o-mini"
    llm_provider: str = "openai"
    embedding: str = "text-embedding-3-small"
    embedding_provider: str = "openai"
    graph: Graph = "none"
    queries_per_month: int = 0
    top_k: int = 5

    def __post_init__(self) -> None:
        if self.graph not in GRAPHS:
            raise ConfigurationError(f"graph: one of {', '.join(GRAPHS)}, not {self.graph!r}")
        if self.queries_per_month < 0:
            raise ConfigurationError(f"queries_per_month: 0 or more, not {self.queries_per_month}")
        if self.top_k < 1:
            raise ConfigurationError(f"top_k: 1 or more, not {self.top_k}")


@dataclass(frozen=True)
class Work:
    """One kind of work, not yet priced.

    Attributes:
        phase: ``build``, once, or ``month``.
        name: what is done.
        kind: ``llm``, ``embedding`` or ``machine``.
        provider: who is paid.
        model: by what it is done.
        calls: how many.
        input: tokens that each of them reads.
        output: tokens that each writes.
        seconds: of all calls together on a machine of one's own; None when nobody can say.
    """

    phase: Phase
    name: str
    kind: str
    provider: str
    model: str
    calls: int
    input: Range
    output: Range = constant(0)
    seconds: Range | None = None


def works(corpus: Corpus, plan: Plan) -> list[Work]:
    """Give all of it, building first."""
    if not corpus.chunks:
        return []
    found = [_embedded("build", "chunks embedded", plan, _chunk(corpus) * corpus.chunks)]
    if plan.graph == "entities":
        found.append(_names(corpus))
    if plan.graph == "llm":
        found += _extraction(corpus, plan)
    return [*found, *_month(corpus, plan)] if plan.queries_per_month else found


def inputs(corpus: Corpus, plan: Plan) -> list[Input]:
    """Give every figure that goes into the work."""
    counted = (
        ("tokens of the texts", corpus.tokens),
        (f"chunks of at most {corpus.chunk_size}", corpus.chunks),
        ("tokens of the chunks", corpus.chunk_tokens),
    )
    found = [Input(name, constant(count), "measured", corpus.counted_by) for name, count in counted]
    found.append(known.TOKENIZER)
    if plan.embedding_provider == LOCAL:
        found.append(known.ENCODER_S)
    if plan.graph == "entities":
        found.append(known.NAMES_S)
    if plan.graph == "llm":
        found += [known.TRIPLETS, known.EXTRACTION, known.WRITTEN, known.EMBEDDED]
    if plan.queries_per_month:
        found += [known.QUESTION, known.ANSWER, known.TEMPLATE]
        found += [known.SYNONYMS, known.KEYWORDS, known.FACTS] if plan.graph == "llm" else []
    return found


def _chunk(corpus: Corpus) -> Range:
    """Tokens of a chunk, by the tokenizer of whatever model reads it."""
    return known.TOKENIZER.value * (corpus.chunk_tokens / corpus.chunks)


def _embedded(phase: Phase, name: str, plan: Plan, tokens: Range) -> Work:
    seconds = known.ENCODER_S.value * (tokens * 1e-6) if plan.embedding_provider == LOCAL else None
    return Work(phase, name, "embedding", plan.embedding_provider, plan.embedding, 1, tokens, seconds=seconds)


def _names(corpus: Corpus) -> Work:
    seconds = known.NAMES_S.value * (corpus.chunk_tokens * 1e-6)
    return Work("build", "graph: names, links", "machine", "", "vCPU", 1, constant(0), seconds=seconds)


def _extraction(corpus: Corpus, plan: Plan) -> Iterator[Work]:
    triplets, chunk = known.TRIPLETS.value, _chunk(corpus)
    read, written = chunk + known.EXTRACTION.value, triplets * known.WRITTEN.value
    name = "graph: triplets"
    yield Work("build", name, "llm", plan.llm_provider, plan.llm, corpus.chunks, read, written)
    tokens = (chunk + triplets * known.EMBEDDED.value) * corpus.chunks
    yield _embedded("build", "graph: embedded", plan, tokens)


def _month(corpus: Corpus, plan: Plan) -> Iterator[Work]:
    asked, question = plan.queries_per_month, known.QUESTION.value
    yield _embedded("month", "questions embedded", plan, question * asked)
    read = known.TEMPLATE.value + question + _chunk(corpus) * min(plan.top_k, corpus.chunks)
    if plan.graph == "llm":
        yield Work(
            "month",
            "graph: synonyms",
            "llm",
            plan.llm_provider,
            plan.llm,
            asked,
            known.SYNONYMS.value + question,
            known.KEYWORDS.value,
        )
        read = read + known.FACTS.value
    yield Work("month", "answers", "llm", plan.llm_provider, plan.llm, asked, read, known.ANSWER.value)
