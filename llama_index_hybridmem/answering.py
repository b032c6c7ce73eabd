"""From retrieved nodes to a response: evidence, policy for no answer, sections, model; knows no routes or stores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from llama_index.core.base.response.schema import RESPONSE_TYPE
from llama_index.core.llms import LLM
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.response_synthesizers import BaseSynthesizer, ResponseMode
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index_instrumentation import get_dispatcher

from .branches import Call, Outcome, arun, run
from .breaker import Breaker
from .errors import ConfigurationError, NotInSourcesError, told
from .events import AbstainEvent, EvidenceEvent
from .export.wording import Wording
from .few_shot import Example, FewShot
from .prompts import ABSTAINED, NOTHING_TO_SHOW, context, without_model
from .query_record import QueryRecord
from .routing.arbiter import Evidence, EvidenceRules, Frequencies, judge
from .synthesis import Synthesis

logger = logging.getLogger(__name__)
dispatcher = get_dispatcher(__name__)

COUNTS_DEADLINE_S = 2.0
"""Seconds for counting words, which takes milliseconds; without them the judgement is weaker."""

NoAnswer = Literal["abstain", "llm", "raise"]


@dataclass(frozen=True)
class AnswerPolicy:
    """What an answer must have behind it.

    Attributes:
        no_answer: what happens when the evidence does not answer the question.
        abstain_message: what is said then under "abstain".
        rules: when evidence counts as not answering.
        frequencies: words to passage counts.
        corpus_size: number of passages, or a callable that tells it.
        citations: whether sources are numbered, to be cited, and citations checked.
        counted_by: the store behind `frequencies` and `corpus_size`; when it was lost for a question, it is not asked
            to count either.

    Raises:
        ConfigurationError: an unknown `no_answer`.
    """

    no_answer: NoAnswer = "abstain"
    abstain_message: str = ABSTAINED
    rules: EvidenceRules = EvidenceRules()  # noqa: RUF009 - frozen
    frequencies: Frequencies | None = None
    corpus_size: int | Callable[[], int] | None = None
    citations: bool = False
    counted_by: str | None = None

    def __post_init__(self) -> None:
        """Refuse a policy that does not exist."""
        if self.no_answer not in ("abstain", "llm", "raise"):
            raise ConfigurationError(f'no_answer is "abstain", "llm" or "raise", not {self.no_answer!r}')


@dataclass(frozen=True)
class Ask:
    """How a model is asked.

    Attributes:
        llm: the model; None where none is needed.
        template: the route's own prompt; None for the engine's.
        wording: instead of a prompt, how a model was trained to be asked; None for a prompt.
        streaming: whether the answer comes as a stream.
        is_async: whether the stream is an async one.
    """

    llm: LLM | None
    template: BasePromptTemplate | None
    wording: Wording | None
    streaming: bool
    is_async: bool = False


@dataclass(frozen=True)
class _Step:
    """The one call that is left to make."""

    synthesizer: BaseSynthesizer
    nodes: list[NodeWithScore]
    answer: str


class Answerer:
    """Turns a record with its nodes into a response.

    Args:
        synthesis: builds the synthesizers.
        policy: what an answer must have behind it.
        few_shot: worked examples for the prompt.
    """

    def __init__(self, synthesis: Synthesis, policy: AnswerPolicy, few_shot: FewShot) -> None:
        self.synthesis = synthesis
        self.policy = policy
        self.few_shot = few_shot
        self._counting = Breaker()

    def from_question(self, record: QueryRecord, ask: Ask) -> RESPONSE_TYPE:
        """Answer without any source."""
        step = self._plain(record, ask)
        return self._run(step, record) if isinstance(step, _Step) else step

    async def afrom_question(self, record: QueryRecord, ask: Ask) -> RESPONSE_TYPE:
        """Answer without any source."""
        step = self._plain(record, ask)
        return await self._arun(step, record) if isinstance(step, _Step) else step

    def from_nodes(self, record: QueryRecord, ask: Ask) -> RESPONSE_TYPE:
        """Answer from the record's nodes, or not at all.

        Raises:
            NotInSourcesError: the evidence does not answer, and the policy says "raise".
        """
        self._lay_out(record, ask, [] if ask.wording else self.few_shot.pick(record.query))
        with record.timed("judge"):
            evidence = self._judged(record, run(self._judging(record)))
        step = self._grounded(record, ask, evidence)
        return self._run(step, record) if isinstance(step, _Step) else step

    async def afrom_nodes(self, record: QueryRecord, ask: Ask) -> RESPONSE_TYPE:
        """As `from_nodes`."""
        self._lay_out(record, ask, [] if ask.wording else await self.few_shot.apick(record.query))
        with record.timed("judge"):
            evidence = self._judged(record, await arun(self._judging(record)))
        step = self._grounded(record, ask, evidence)
        return await self._arun(step, record) if isinstance(step, _Step) else step

    def _run(self, step: _Step, record: QueryRecord) -> RESPONSE_TYPE:
        with record.timed("synthesize"):
            response = step.synthesizer.synthesize(record.query, step.nodes)
        return record.answered(response, step.answer)

    async def _arun(self, step: _Step, record: QueryRecord) -> RESPONSE_TYPE:
        with record.timed("synthesize"):
            response = await step.synthesizer.asynthesize(record.query, step.nodes)
        return record.answered(response, step.answer)

    def _plain(self, record: QueryRecord, ask: Ask, answer: str = "parametric") -> _Step | RESPONSE_TYPE:
        if ask.llm is None:
            return self._said(record, ask, NOTHING_TO_SHOW, "sources")
        return _Step(self.synthesis.from_question(record.asks(ask.llm), ask.template, ask.streaming), [], answer)

    def _lay_out(self, record: QueryRecord, ask: Ask, examples: list[Example]) -> None:
        laid_out = context(
            record.nodes,
            numbered=self.policy.citations,
            examples=examples,
            separate=self.synthesis.separate,
        )
        if ask.wording is not None:  # its prompt has passages only: nothing else is evidence, or told of
            laid_out = replace(laid_out, facts=(), texts=())
        record.laid_out(laid_out, checks_citations=self.policy.citations, wording=ask.wording)

    def _grounded(self, record: QueryRecord, ask: Ask, evidence: Evidence) -> _Step | RESPONSE_TYPE:
        laid_out = record.context
        template = ask.template
        answer = "generated"
        if not self._answerable(record, evidence):
            if self.policy.no_answer == "abstain":
                return self._said(record, ask, self.policy.abstain_message, "abstained")
            template, answer = self.synthesis.templates["open_qa_template"], "open"
        if ask.wording is not None and ask.llm is not None:
            return self._worded(record, ask, ask.llm, ask.wording)
        if ask.llm is None:
            shows_context = self.synthesis.mode == ResponseMode.CONTEXT_ONLY
            text = "\n\n".join(laid_out.texts) if shows_context else without_model(record.query.query_str, laid_out)
            return self._said(record, ask, text, "sources")
        if not record.nodes:
            return _Step(self.synthesis.from_question(record.asks(ask.llm), None, ask.streaming), [], answer)
        sections = [NodeWithScore(node=TextNode(text=text)) for text in laid_out.texts]
        nodes = record.nodes if self.synthesis.multimodal else sections
        return _Step(self.synthesis.from_context(record.asks(ask.llm), template, ask.streaming), nodes, answer)

    def _worded(self, record: QueryRecord, ask: Ask, llm: LLM, wording: Wording) -> _Step | RESPONSE_TYPE:
        """Ask as the model was trained, whatever the evidence: it has learned itself when to abstain."""
        if not record.nodes:
            return self._said(record, ask, wording.abstain[0], "abstained")
        return _Step(self.synthesis.in_words(record.asks(llm), wording, ask.streaming), record.nodes, "generated")

    def _answerable(self, record: QueryRecord, evidence: Evidence) -> bool:
        """Tell the instrumentation what the evidence is worth, and raise where the policy says so."""
        policy = self.policy
        record.judged(evidence)
        finding = {"reason": evidence.reason, "coverage": evidence.coverage, "missing": list(evidence.missing)}
        dispatcher.event(EvidenceEvent.model_validate({"sufficient": evidence.sufficient, **finding}))
        if evidence.sufficient:
            return True
        if policy.no_answer != "llm":
            dispatcher.event(AbstainEvent.model_validate(finding))
        if policy.no_answer == "raise":
            raise NotInSourcesError(record.query.query_str, evidence.reason)
        return False

    def _judging(self, record: QueryRecord) -> dict[str, Call[Evidence]]:
        """Plan the judgement with word counts, a branch of its own: they may come from a server."""
        policy = self.policy
        counts = record.summary["stores"].get(policy.counted_by, {"status": "ok"})["status"] == "ok"
        if policy.frequencies is None or not counts:
            return {}

        def judged() -> Evidence:
            size = policy.corpus_size() if callable(policy.corpus_size) else policy.corpus_size
            return self._judge(record)(frequencies=policy.frequencies, corpus_size=size)

        return {"word counts": Call(judged, COUNTS_DEADLINE_S, self._counting)}

    def _judged(self, record: QueryRecord, outcomes: Mapping[str, Outcome[Evidence]]) -> Evidence:
        for outcome in outcomes.values():
            if outcome.value is not None:
                return outcome.value
            if outcome.error is not None:
                logger.warning("the evidence is judged without word counts: %s", told(outcome.error))
                record.left_out(f"word counts: {told(outcome.error)}")
        return self._judge(record)()

    def _judge(self, record: QueryRecord) -> Callable[..., Evidence]:
        texts = [*record.context.sources, *(fact for fact, _ in record.context.facts)]
        return partial(judge, record.query.query_str, texts, cosine=record.cosine, rules=self.policy.rules)

    def _said(self, record: QueryRecord, ask: Ask, text: str, answer: str) -> RESPONSE_TYPE:
        return record.said(text, answer, streaming=ask.streaming, is_async=ask.is_async)
