"""What happened to one question, kept for `response.metadata["hybridmem"]`; knows no engine, store or model.

The metadata is one live dictionary of plain JSON types: a stream's last entries are written when the stream ends.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.base.response.schema import (
    RESPONSE_TYPE,
    AsyncStreamingResponse,
    PydanticResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index_instrumentation import get_dispatcher

from .answers import verify_citations
from .errors import ConfigurationError
from .events import METADATA_KEY, AbstainEvent
from .export.wording import Wording
from .prompts import Context
from .report import RetrievalReport
from .routing.arbiter import Evidence
from .routing.decision import Route, RouteDecision
from .streaming import afollow, aone, follow, one
from .synthesis import NO_ANSWER
from .worded import citing, reading

L = TypeVar("L", bound=BaseLLM)
dispatcher = get_dispatcher(__name__)

VECTOR_STORE = "vector"
"""The store whose scores are cosines."""


class QueryRecord:
    """Collects route, stores, evidence, timings and citations of one question.

    Args:
        query: the question.
        clock: seconds, monotonic.

    Raises:
        ConfigurationError: the question is empty.
    """

    def __init__(self, query: QueryBundle, clock: Callable[[], float] = time.perf_counter) -> None:
        if not query.query_str.strip():
            raise ConfigurationError("the question is empty")
        self.query = query
        self.nodes: list[NodeWithScore] = []
        self.extra_nodes: list[NodeWithScore] = []
        self.context = Context((), (), (), ())
        self._checks_citations = False
        self._wording: Wording | None = None
        self._inside = contextvars.Context()
        self._clock = clock
        self._start = clock()
        self._timings: dict[str, float] = {}
        self._degraded: list[str] = []
        self.summary: dict[str, Any] = {
            "route": None,
            "scores": None,
            "reason": None,
            "source": None,
            "answer": None,
            "model": None,
            "stores": {},
            "degraded": self._degraded,
            "timings": self._timings,
            "evidence": None,
            "facts": [],
            "citations": None,
            "reading": None,
        }

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Note how many seconds a step took, also when it fails."""
        start = self._clock()
        try:
            yield
        finally:
            self._timings[step] = self._timings.get(step, 0.0) + self._clock() - start

    def decided(self, decision: RouteDecision) -> Route:
        """Note the route."""
        self.summary.update(decision.to_json())
        return decision.route

    def retrieved(self, nodes: Sequence[NodeWithScore], report: RetrievalReport) -> None:
        """Note what the stores gave."""
        self.nodes = list(nodes)
        self.summary["stores"] = {
            outcome.store: {
                "status": outcome.status,
                "latency_s": outcome.latency_s,
                "node_count": outcome.node_count,
                "error": outcome.error,
            }
            for outcome in report.outcomes
        }
        self._degraded += report.degraded
        if report.embed_latency_s is not None:
            self._timings["embed"] = report.embed_latency_s
        self._timings["fuse"] = report.fuse_latency_s

    def asks(self, llm: L) -> L:
        """Note which model, with which adapter, is asked."""
        self.summary["model"] = llm.metadata.model_name
        return llm

    def laid_out(self, context: Context, checks_citations: bool, wording: Wording | None = None) -> None:
        """Note what an answer is made from.

        Args:
            context: the passages and sections.
            checks_citations: whether the answer's citations will be checked against them.
            wording: how the model is asked, and its answer read; None for a prompt.
        """
        self.context = context
        self._checks_citations = checks_citations
        self._wording = wording
        self._inside = contextvars.copy_context()  # a stream ends outside of the query, whose event an abstention is
        self.summary["facts"] = [{"text": fact, "source": number} for fact, number in context.facts]

    def left_out(self, reason: str) -> None:
        """Note what the answer had to do without."""
        self._degraded.append(reason)

    def judged(self, evidence: Evidence) -> None:
        """Note the evidence."""
        self.summary["evidence"] = evidence.to_json()

    @property
    def cosine(self) -> float | None:
        """Similarity of the passage closest to the question, None when no store says."""
        scores = [_store_score(each, VECTOR_STORE) for each in self.nodes]
        known = [score for score in scores if score is not None and -1.001 <= score <= 1.001]
        return max(known, default=None)

    def said(self, text: str, answer: str, *, streaming: bool, is_async: bool) -> RESPONSE_TYPE:
        """Return a text that no model wrote as a response of the kind that was asked for.

        Args:
            text: the text.
            answer: what it is: "sources" or "abstained".
            streaming: whether it comes as a stream.
            is_async: whether the stream is an async one.
        """
        if not streaming:
            return self.answered(Response(text), answer)
        return self.answered(AsyncStreamingResponse(aone(text)) if is_async else StreamingResponse(one(text)), answer)

    def answered(self, response: RESPONSE_TYPE, answer: str) -> RESPONSE_TYPE:
        """Put sources and metadata on a response; a stream reports its end by itself.

        Args:
            response: as LlamaIndex's synthesizers return it, with nodes of ours in the place of the sections.
            answer: how it came about: "generated", "open", "parametric", "sources" or "abstained".
        """
        self.summary["answer"] = answer
        response.source_nodes = [*self.nodes, *self.extra_nodes]
        response.metadata = {each.node.node_id: each.node.metadata for each in response.source_nodes}
        response.metadata[METADATA_KEY] = self.summary
        if isinstance(response, StreamingResponse):
            response.response_gen = follow(iter(response.response_gen), self)
        elif isinstance(response, AsyncStreamingResponse):
            response.response_gen = afollow(response.response_gen.__aiter__(), self)
        else:
            self.ended(str(response), structured=isinstance(response, PydanticResponse))
        return response

    def began(self) -> None:
        """Note the time to the first token."""
        self._timings["first_token"] = self._clock() - self._start

    def ended(self, text: str, error: BaseException | None = None, *, structured: bool = False) -> None:
        """Note the end of the answer, read it, and check its citations."""
        self._timings["total"] = self._clock() - self._start
        if text.strip() in NO_ANSWER:
            self._degraded.append("the language model gave no answer")
        elif not structured:
            if self.summary["answer"] == "generated" and self._wording is not None:
                text = self._read(text, self._wording)
            if self._checks_citations:
                self.summary["citations"] = verify_citations(text, self.context.sources).to_json()

    def _read(self, text: str, wording: Wording) -> str:
        """Note what the model said in the form that it has learned; give the part that cites."""
        self.summary["reading"] = found = reading(text, wording)
        if found["abstained"]:
            self.summary["answer"] = "abstained"
            self._inside.run(_abstained)
        return citing(text, wording)


def _abstained() -> None:
    dispatcher.event(AbstainEvent(reason="the model that was asked found no answer in the sources"))


def _store_score(found: NodeWithScore, store: str) -> float | None:
    noted = found.node.metadata.get(METADATA_KEY)
    score = noted.get("stores", {}).get(store, {}).get("score") if isinstance(noted, dict) else None
    return None if score is None else float(score)
