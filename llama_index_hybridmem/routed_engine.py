"""A query engine from its parts: route, retrieve, answer, sync and async; knows no store, prompt or rule by itself."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.response.schema import RESPONSE_TYPE
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts.mixin import PromptDictType, PromptMixinType
from llama_index.core.schema import NodeWithScore, QueryBundle
from typing_extensions import Self

from .answering import Answerer, Ask
from .query_record import QueryRecord
from .retriever import HybridRetriever
from .routed import RoutedRetrieval
from .routing.decision import Route, RouteDecision
from .routing.selector import Router
from .synthesis import Synthesis


class RoutedQueryEngine(BaseQueryEngine):
    """Answers questions with the parts it is given. Queries share no state, so threads and tasks may ask at once.

    Args:
        retrieval: retrieves by route.
        router: chooses the route.
        answerer: answers from what was retrieved.
        callback_manager: LlamaIndex's.
        streaming: whether answers come as streams; may be set at any time.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        retrieval: RoutedRetrieval,
        router: Router,
        answerer: Answerer,
        *,
        callback_manager: CallbackManager,
        streaming: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__(callback_manager=callback_manager)
        self.streaming = streaming
        self._retrieval = retrieval
        self._router = router
        self._answerer = answerer
        self._clock = clock

    @property
    def router(self) -> Router:
        """Who chooses the route."""
        return self._router

    @property
    def synthesis(self) -> Synthesis:
        """Models, prompts and response mode."""
        return self._answerer.synthesis

    @property
    def retriever(self) -> HybridRetriever:
        """The retriever of all stores."""
        return self._retrieval.retriever

    def with_retriever(self, retriever: BaseRetriever) -> Self:
        """Return an engine like this one over another retriever."""
        retrieval = self._retrieval.over(retriever)
        return self._view(_retrieval=retrieval, _router=self._router.over(retrieval.table))

    def in_conversation(
        self,
        earlier: Sequence[ChatMessage],
        *,
        streaming: bool,
        system_prompt: str | None = None,
        decision: RouteDecision | None = None,
    ) -> Self:
        """Return a view for one turn of a chat.

        Args:
            earlier: what was said; the parametric route continues it.
            streaming: whether the view streams.
            system_prompt: stands in front of every prompt; not of a wording's, which has its own.
            decision: the route, where it is decided already.
        """
        synthesis = self._answerer.synthesis.in_conversation(earlier, system_prompt)
        answerer = Answerer(synthesis, self._answerer.policy, self._answerer.few_shot)
        router = self._router if decision is None else self._router.settled(decision)
        return self._view(streaming=streaming, _answerer=answerer, _router=router)

    def retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """Return what the question's route retrieves, postprocessed; the default route's where it needs nothing."""
        record = QueryRecord(query_bundle, self._clock)
        return self._retrieval.retrieve(self._router.decide(query_bundle).route, record)

    async def aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """As `retrieve`."""
        record = QueryRecord(query_bundle, self._clock)
        return await self._retrieval.aretrieve((await self._router.adecide(query_bundle)).route, record)

    def synthesize(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> RESPONSE_TYPE:
        """Answer from the given nodes, with the prompt and model of the default route (or the fixed one)."""
        record, ask = self._given(query_bundle, nodes, additional_source_nodes)
        return self._answerer.from_nodes(record, ask)

    async def asynthesize(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> RESPONSE_TYPE:
        """As `synthesize`."""
        record, ask = self._given(query_bundle, nodes, additional_source_nodes)
        return await self._answerer.afrom_nodes(record, replace(ask, is_async=True))

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        record = QueryRecord(query_bundle, self._clock)
        with self.callback_manager.event(CBEventType.QUERY, {EventPayload.QUERY_STR: query_bundle.query_str}) as event:
            with record.timed("route"):
                route = record.decided(self._router.decide(query_bundle))
            ask = self._ask(route)
            if route is Route.PARAMETRIC:
                response = self._answerer.from_question(record, ask)
            else:
                self._retrieval.retrieve(route, record)
                response = self._answerer.from_nodes(record, ask)
            event.on_end({EventPayload.RESPONSE: response})
        return response

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        record = QueryRecord(query_bundle, self._clock)
        with self.callback_manager.event(CBEventType.QUERY, {EventPayload.QUERY_STR: query_bundle.query_str}) as event:
            with record.timed("route"):
                route = record.decided(await self._router.adecide(query_bundle))
            ask = replace(self._ask(route), is_async=True)
            if route is Route.PARAMETRIC:
                response = await self._answerer.afrom_question(record, ask)
            else:
                await self._retrieval.aretrieve(route, record)
                response = await self._answerer.afrom_nodes(record, ask)
            event.on_end({EventPayload.RESPONSE: response})
        return response

    def _ask(self, route: Route) -> Ask:
        """How this route's model is asked; settled before retrieving, so that a missing model costs no time."""
        synthesis = self._answerer.synthesis
        llm = synthesis.llm(route) if synthesis.asks_llm else None
        wording = None if llm is None else synthesis.wording(route, llm)
        return Ask(llm, synthesis.template_of(route), wording, self.streaming)

    def _given(self, query: QueryBundle, *nodes: Sequence[NodeWithScore] | None) -> tuple[QueryRecord, Ask]:
        record = QueryRecord(query, self._clock)
        record.nodes, record.extra_nodes = (list(each or ()) for each in nodes)
        route = self._retrieval.retrieving(self._router.fixed)
        record.decided(RouteDecision(route, "nodes were given", "fixed"))
        return record, self._ask(route)

    def _view(self, **changes: Any) -> Self:
        """A light copy that shares everything but the changes."""
        view = copy.copy(self)
        view.__dict__.update(changes)
        return view

    def _get_prompts(self) -> PromptDictType:
        return dict(self._answerer.synthesis.templates)

    def _update_prompts(self, prompts: PromptDictType) -> None:
        own = self._answerer.synthesis.templates
        own.update({name: template for name, template in prompts.items() if name in own})

    def _get_prompt_modules(self) -> PromptMixinType:
        modules = {"response_synthesizer": self._answerer.synthesis.given, "selector": self._router.selector}
        return {name: module for name, module in modules.items() if module is not None}
