"""The query engine: what an app has goes in, a router engine over hybrid memory comes out; the steps are elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.base_selector import BaseSelector
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import LLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.response_synthesizers import BaseSynthesizer, ResponseMode
from llama_index.core.settings import Settings
from pydantic import BaseModel

from .answering import Answerer, AnswerPolicy, NoAnswer
from .chat_engine import HybridChatEngine
from .errors import ConfigurationError
from .existing import Source, hybrid_of
from .export.wording import Wording
from .few_shot import Example, FewShot
from .prompts import ABSTAINED
from .routed import RoutedRetrieval
from .routed_engine import RoutedQueryEngine
from .routing.arbiter import EvidenceRules, Frequencies
from .routing.decision import Route
from .routing.selector import Policy, Router
from .routing.table import RouteSettings
from .stores import encoders
from .synthesis import Synthesis
from .worded import Worded


class HybridRouterQueryEngine(RoutedQueryEngine):
    """Answers from the memories that a question needs, and says what it did in `response.metadata["hybridmem"]`.

    That entry is plain JSON: route, scores, reason, source (of the decision), answer ("generated", "open",
    "parametric", "sources" or "abstained"), stores (name to status, latency_s, node_count, error), degraded (reasons),
    timings (seconds; "total" and, for streams, "first_token" are there when the answer ends), evidence, facts,
    citations and, with a wording, reading (the answer without citations, whether the model abstained, what it cites and
    quotes, its reason).

    Args:
        retriever: a `HybridRetriever`; any other retriever becomes one with a single store.
        llm: None for `Settings.llm` at the time of the question.
        response_synthesizer, response_mode, text_qa_template, refine_template, summary_template, simple_template,
            output_cls, use_async, streaming, verbose, multimodal, chat_content_qa_template,
            chat_content_refine_template: as in `RetrieverQueryEngine.from_args`. response_mode="no_text" gives sources,
            facts and their best sentences without a model. simple_template is the parametric route's. Structured
            answers are not streamed.
        node_postprocessors: run on our copies of the nodes.
        callback_manager: default `Settings.callback_manager`; never put on the llm.
        filters: nodes that do not pass are dropped. Give them to the stores too, which then search by them.
        similarity_top_k: nodes to retrieve; None for the retriever's own setting.
        route: always this route.
        selector: a LlamaIndex selector that chooses the route.
        policy: a callable that does. Without any of the three, plain rules: hybrid, or parametric where no retrieval
            is needed.
        routes: route to `RouteSettings`, over the defaults.
        no_answer: when the evidence does not answer: "abstain" with a fixed sentence, let the "llm" try with a prompt
            that says so, or "raise" NotInSourcesError.
        abstain_message: the fixed sentence.
        evidence_rules: when evidence counts as not answering.
        frequencies: words to passage counts, so that rare words weigh more in the evidence.
        corpus_size: number of passages, or a callable that tells it.
        counted_by: the store behind these two; when it is lost for a question, words are not counted.
        citations: whether the model is asked to cite sources as [n], and each [n] is verified.
        few_shot: worked (question, answer) pairs for the prompt.
        few_shot_top_k: only the nearest so many.
        embed_model: for the nearest examples; None for the retriever's.
        clock: seconds, monotonic.
        wording: asks as an adapter was trained on rows of `export_dataset`, instead of with a prompt: what the model
            gets on a retrieving route is the wording's system prompt and its layout of the passages, byte for byte as
            in the rows, and nothing else; facts of graphs are left out, as in the rows. Whatever the model says in the
            wording's words of abstention is "abstained". "adapter" takes the wording from the lineage of the adapter
            that answers, and the prompts where it names none. A route's own prompt or wording wins. With
            no_answer="llm" the model alone decides when to abstain; otherwise the evidence is judged first.

    Raises:
        ConfigurationError: arguments that contradict each other or are out of range.
        UnknownRouteError: a route without its stores.
        FilterError: malformed filters.
    """

    def __init__(
        self,
        retriever: BaseRetriever,
        llm: LLM | None = None,
        response_synthesizer: BaseSynthesizer | None = None,
        node_postprocessors: Sequence[BaseNodePostprocessor] | None = None,
        callback_manager: CallbackManager | None = None,
        response_mode: ResponseMode | str = ResponseMode.COMPACT,
        text_qa_template: BasePromptTemplate | None = None,
        refine_template: BasePromptTemplate | None = None,
        summary_template: BasePromptTemplate | None = None,
        simple_template: BasePromptTemplate | None = None,
        chat_content_qa_template: BasePromptTemplate | None = None,
        chat_content_refine_template: BasePromptTemplate | None = None,
        output_cls: type[BaseModel] | None = None,
        use_async: bool = False,
        streaming: bool = False,
        verbose: bool = False,
        multimodal: bool = False,
        *,
        filters: object = None,
        similarity_top_k: int | None = None,
        route: Route | str | None = None,
        selector: BaseSelector | None = None,
        policy: Policy | None = None,
        routes: Mapping[Route | str, RouteSettings] | None = None,
        no_answer: NoAnswer = "abstain",
        abstain_message: str = ABSTAINED,
        evidence_rules: EvidenceRules | None = None,
        frequencies: Frequencies | None = None,
        corpus_size: int | Callable[[], int] | None = None,
        counted_by: str | None = None,
        citations: bool = False,
        few_shot: Sequence[Example] = (),
        few_shot_top_k: int | None = None,
        embed_model: BaseEmbedding | None = None,
        clock: Callable[[], float] = time.perf_counter,
        wording: Worded | None = None,
    ) -> None:
        if isinstance(wording, Wording):
            own = ResponseMode.COMPACT
            _refuse_beside_wording(
                response_mode=response_mode not in (own, own.value),
                text_qa_template=text_qa_template,
                refine_template=refine_template,
                summary_template=summary_template,
                chat_content_qa_template=chat_content_qa_template,
                chat_content_refine_template=chat_content_refine_template,
                output_cls=output_cls,
                multimodal=multimodal,
                few_shot=few_shot,
            )
        given_manager = getattr(response_synthesizer, "callback_manager", None)
        manager = callback_manager or given_manager or Settings.callback_manager
        retrieval = RoutedRetrieval(
            retriever,
            dict(routes or {}),
            top_k=similarity_top_k,
            filters=filters,
            postprocessors=node_postprocessors or (),
            callback_manager=manager,
        )
        synthesis = Synthesis(
            llm,
            response_synthesizer,
            retrieval.table,
            response_mode=response_mode,
            templates={
                "text_qa_template": text_qa_template,
                "refine_template": refine_template,
                "summary_template": summary_template,
                "simple_template": simple_template,
                "chat_content_qa_template": chat_content_qa_template,
                "chat_content_refine_template": chat_content_refine_template,
            },
            output_cls=output_cls,
            use_async=use_async,
            verbose=verbose,
            multimodal=multimodal,
            callback_manager=manager,
            wording=wording,
        )
        rules = evidence_rules or EvidenceRules()
        policies = AnswerPolicy(no_answer, abstain_message, rules, frequencies, corpus_size, citations, counted_by)
        models = [model for _, model in encoders(retrieval.retriever.stores, embed_model).values()]
        examples = FewShot(few_shot, few_shot_top_k, embed_model or next(iter(models), None))
        super().__init__(
            retrieval,
            Router(retrieval.table, route=route, selector=selector, policy=policy),
            Answerer(synthesis, policies, examples),
            callback_manager=manager,
            streaming=streaming or getattr(response_synthesizer, "_streaming", False),
            clock=clock,
        )

    @classmethod
    def from_defaults(
        cls, retriever: BaseRetriever, llm: LLM | None = None, **settings: Any
    ) -> HybridRouterQueryEngine:
        """Build an engine; the arguments are the constructor's."""
        return cls(retriever, llm, **settings)

    @classmethod
    def from_stores(
        cls,
        vector: Source | None = None,
        graph: Source | None = None,
        keyword: Source | None = None,
        *,
        stores: Mapping[str, Source] | None = None,
        llm: LLM | None = None,
        similarity_top_k: int | None = None,
        filters: object = None,
        deadline_s: float | None = 2.0,
        **settings: Any,
    ) -> HybridRouterQueryEngine:
        """Build an engine over the indexes or retrievers that an app already has.

        Args:
            vector: a VectorStoreIndex or any retriever.
            graph: a PropertyGraphIndex or any retriever.
            keyword: a retriever, BM25 for example.
            stores: further ones by name; the hybrid route asks them, too.
            llm: None for `Settings.llm`.
            similarity_top_k: nodes per vector index, and in the end (default 10).
            filters: pushed down to vector indexes, and checked on what every store returns.
            deadline_s: seconds that each store has (default 2); None for no limit.
            settings: the constructor's other arguments.
        """
        named = {"vector": vector, "keyword": keyword, "graph": graph, **(stores or {})}
        retriever = hybrid_of(named, similarity_top_k=similarity_top_k, filters=filters, deadline_s=deadline_s)
        return cls(retriever, llm, filters=filters, **settings)

    def health(self) -> dict[str, dict[str, Any]]:
        """Say how each store stands, JSON-safe; asks nobody. See `HybridRetriever.health`."""
        return self._retrieval.retriever.health()

    def as_chat_engine(self, **settings: Any) -> HybridChatEngine:
        """Return a chat engine on this engine; the arguments are `HybridChatEngine.from_defaults`'s."""
        return HybridChatEngine.from_defaults(self, **settings)


def _refuse_beside_wording(**others: object) -> None:
    """Refuse what would have no effect on a prompt that the training set fixes."""
    if given := [name for name, value in others.items() if value]:
        raise ConfigurationError(f"wording= fixes the whole prompt; leave out {', '.join(given)}")
