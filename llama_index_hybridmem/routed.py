"""Retrieval by route: the route's stores, the filter, the postprocessors; knows no question rules and no answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore

from .errors import ConfigurationError
from .existing import as_hybrid
from .filters import evaluate, parse
from .query_record import QueryRecord
from .report import retrieval_report
from .routing.decision import Route
from .routing.table import RouteSettings, RouteTable, default_route, route_table


class RoutedRetrieval:
    """Retrieves what a route asks for.

    Args:
        retriever: over all stores.
        routes: settings over the defaults.
        top_k: nodes to retrieve where the route does not say; None for the retriever's own setting.
        filters: nodes that do not pass are dropped.
        postprocessors: LlamaIndex's, in order; those without handlers of their own get the callback manager.
        callback_manager: see there.

    Raises:
        UnknownRouteError: a route without its stores.
        ConfigurationError: a top_k below 1.
        FilterError: malformed filters.
    """

    def __init__(
        self,
        retriever: BaseRetriever,
        routes: Mapping[Route | str, RouteSettings],
        *,
        top_k: int | None,
        filters: object,
        postprocessors: Sequence[BaseNodePostprocessor],
        callback_manager: CallbackManager,
    ) -> None:
        self.retriever = as_hybrid(retriever)
        self.table: RouteTable = route_table([store.name for store in self.retriever.stores], routes)
        if top_k is not None and top_k < 1:
            raise ConfigurationError(f"similarity_top_k is at least 1, not {top_k}")
        self._routes, self._top_k, self._filters = routes, top_k, filters
        self._filter = parse(filters)
        self._postprocessors = list(postprocessors)
        self._callback_manager = callback_manager
        for postprocessor in self._postprocessors:
            if not postprocessor.callback_manager.handlers:
                postprocessor.callback_manager = callback_manager

    def over(self, retriever: BaseRetriever) -> RoutedRetrieval:
        """The same over another retriever."""
        return RoutedRetrieval(
            retriever,
            self._routes,
            top_k=self._top_k,
            filters=self._filters,
            postprocessors=self._postprocessors,
            callback_manager=self._callback_manager,
        )

    def retrieving(self, route: Route | None) -> Route:
        """The route itself, or the default one where it retrieves nothing."""
        return default_route(self.table) if route is None or route is Route.PARAMETRIC else route

    def retrieve(self, route: Route, record: QueryRecord) -> list[NodeWithScore]:
        """Ask the route's stores.

        Args:
            route: the parametric route stands for the default one here.
            record: has the question; nodes, latencies and losses are noted in it.

        Raises:
            AllStoresFailedError: no store answered.
        """
        with retrieval_report() as report, record.timed("retrieve"):
            nodes = self._passing(self._view(route).retrieve(record.query))
        with record.timed("postprocess"):
            for postprocessor in self._postprocessors:
                nodes = postprocessor.postprocess_nodes(nodes, query_bundle=record.query)
        record.retrieved(nodes, report)
        return nodes

    async def aretrieve(self, route: Route, record: QueryRecord) -> list[NodeWithScore]:
        """As `retrieve`."""
        with retrieval_report() as report, record.timed("retrieve"):
            nodes = self._passing(await self._view(route).aretrieve(record.query))
        with record.timed("postprocess"):
            for postprocessor in self._postprocessors:
                nodes = await postprocessor.apostprocess_nodes(nodes, query_bundle=record.query)
        record.retrieved(nodes, report)
        return nodes

    def _view(self, route: Route) -> BaseRetriever:
        settings = self.table[self.retrieving(route)]
        return self.retriever.with_stores(settings.stores or (), settings.top_k or self._top_k)

    def _passing(self, nodes: Sequence[NodeWithScore]) -> list[NodeWithScore]:
        return [each for each in nodes if self._filter is None or evaluate(self._filter, each.node.metadata)]
