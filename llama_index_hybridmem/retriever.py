"""Named LlamaIndex retrievers asked side by side under deadlines, and fused; knows nothing of what is in them."""

from __future__ import annotations

import copy
import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index_instrumentation import get_dispatcher

from .branches import Call, Outcome, arun, run
from .breaker import Breaker
from .errors import AllStoresFailedError, ConfigurationError, EncoderError, UnknownRouteError, told
from .events import BranchEndEvent, FusionEndEvent
from .filters import Filter, evaluate, parse
from .fusion import rrf
from .live import LiveSource
from .merging import Hit, Mode, merge, preambles, read_hits
from .report import BranchReport, RetrievalReport, hidden_report, open_report, retrieval_report
from .stores import ENCODER, Store, by_name, checked_deadline, checked_top_k, encoders, merged_weights
from .vector.sides import both_sides

__all__ = ["BranchReport", "HybridRetriever", "LiveSource", "RetrievalReport", "Store", "retrieval_report"]

logger = logging.getLogger(__name__)
dispatcher = get_dispatcher(__name__)


class HybridRetriever(BaseRetriever):
    """Asks every store at the same time and fuses what comes back in time, by chunk.

    A store that fails, is late or hangs is left out: the answer comes from the rest, the reason is in the report, in
    an event and in each node's ``metadata["hybridmem"]["degraded"]``. A store without results is no failure. Returned
    nodes are copies; ``metadata["hybridmem"]`` says which stores found them at which rank, with which facts and path.

    The query is embedded once per embedding model, on a branch of its own. An embedding that the caller put on the
    ``QueryBundle`` is used instead when all stores share one model. When embedding fails, only the stores that cannot
    do without (attribute ``needs_embedding`` of the retriever, True where it is missing) fail with it.

    Args:
        stores: ``Store`` objects, or name to retriever with the defaults of ``Store``.
        mode: "rrf" (default, ranks only) or "score" (each store's scores stretched to 0 … 1).
        similarity_top_k: nodes returned, after fusion (default 10).
        weights: store name to weight, instead of ``Store.weight``.
        rrf_k: the k of rrf (default 60, see ``fusion.rrf``).
        embed_model: for stores whose retriever says ``needs_embedding`` but has no model.
        embed_deadline_s: seconds for embedding the query (default 30: the first call may load the model, which took
            HuggingFaceEmbedding 17-20 s); None for no limit.
        retry_s: seconds that a store is skipped for when four of its calls in a row were late or found no server, or
            four hang; then one query tries it again, and when that succeeds all do (default 5).
        callback_manager: LlamaIndex's; the stores keep their own.

    Raises:
        ConfigurationError: no stores, a name twice, or a value out of range.
        UnknownRouteError: a weight for a store that is not there.
        FilterError: a store's filter is malformed.
    """

    def __init__(
        self,
        stores: Sequence[Store] | Mapping[str, BaseRetriever],
        *,
        mode: Mode = "rrf",
        similarity_top_k: int = 10,
        weights: Mapping[str, float] | None = None,
        rrf_k: float = 60,
        embed_model: BaseEmbedding | None = None,
        embed_deadline_s: float | None = 30.0,
        retry_s: float = 5.0,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        super().__init__(callback_manager=callback_manager)
        if isinstance(stores, Mapping):
            stores = [Store(name, retriever) for name, retriever in stores.items()]
        stores = [dataclasses.replace(store, retriever=both_sides(store.retriever)) for store in stores]
        if mode not in ("rrf", "score"):
            raise ConfigurationError(f'mode is "rrf" or "score", not {mode!r}')
        self._stores = by_name(stores)
        self._mode: Mode = mode
        self.similarity_top_k = checked_top_k(similarity_top_k)
        self._weights = merged_weights(self._stores, weights or {})
        self._rrf_k = rrf_k
        rrf({}, k=rrf_k)  # refuses a senseless k now, not at the first query
        self._embed_deadline_s = checked_deadline("embed_deadline_s", embed_deadline_s)
        self._filters: dict[str, Filter | None] = {store.name: parse(store.filters) for store in stores}
        self._encoders = encoders(stores, embed_model)
        branches = (*self._stores, *(name for name, _ in self._encoders.values()))
        self._breakers = {name: Breaker(retry_s=retry_s, name=name) for name in branches}

    @property
    def stores(self) -> tuple[Store, ...]:
        """The stores that this retriever asks."""
        return tuple(self._stores.values())

    def with_stores(self, names: Sequence[str], top_k: int | None = None) -> HybridRetriever:
        """Return a light view that asks only these stores; deadlines missed through either count for both.

        Args:
            names: of stores that this retriever has.
            top_k: the view's ``similarity_top_k``; None keeps this one's.

        Raises:
            UnknownRouteError: a name that this retriever does not have.
            ConfigurationError: no names, or ``top_k`` below 1.
        """
        for name in names:
            if name not in self._stores:
                raise UnknownRouteError(name, list(self._stores))
        view = copy.copy(self)
        view._stores = by_name([self._stores[name] for name in dict.fromkeys(names)])
        view.similarity_top_k = self.similarity_top_k if top_k is None else checked_top_k(top_k)
        return view

    def health(self) -> dict[str, dict[str, Any]]:
        """Say how each store and each embedding model stands, JSON-safe; asks nobody.

        Returns:
            name to: state ("closed": it is asked; "open": it is skipped; "half-open": one query tries it), hanging
            (calls that missed their deadline and have not come back), misses (calls in a row that were late or found no
            server), retry_in_s (seconds to the next try; None while closed) and error (of the last miss).
        """
        models = (self._encoders[name][0] for name in self._stores if name in self._encoders)
        return {name: self._breakers[name].health() for name in dict.fromkeys((*self._stores, *models))}

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._answer(run(self._calls(query_bundle)))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._answer(await arun(self._calls(query_bundle)))

    def _calls(self, query: QueryBundle) -> dict[str, Call[Any]]:
        """Plan the branches: one per embedding model that is needed, one per store, which may wait for the former."""
        models = dict(self._encoders[name] for name in self._stores if name in self._encoders)
        query = _whole(query)
        given = query.embedding is not None and len(models) <= 1
        if not given:
            query = dataclasses.replace(query, embedding=None)
        calls: dict[str, Call[Any]] = {}
        if texts := [] if given else list(query.embedding_strs):
            for encoder, model in models.items():
                embed = partial(model.get_agg_embedding_from_queries, texts)
                calls[encoder] = Call(embed, self._embed_deadline_s, self._breakers[encoder])
        for name, store in self._stores.items():
            encoder, _ = self._encoders.get(name, ("", None))
            calls[name] = Call(
                partial(self._ask, store, query),
                store.deadline_s,
                self._breakers[name],
                native=partial(self._aask, store, query) if store.use_async else None,
                after=encoder if encoder in calls else None,
            )
        return calls

    def _ask(self, store: Store, query: QueryBundle, embedded: Outcome[Any] | None = None) -> dict[str, Hit]:
        """Ask one store; runs on the branch's thread."""
        hidden_report()
        return self._read(store, store.retriever.retrieve(_own_query(store, query, embedded)))

    async def _aask(self, store: Store, query: QueryBundle, embedded: Outcome[Any] | None = None) -> dict[str, Hit]:
        """Ask one store on the event loop."""
        hidden_report()
        return self._read(store, await store.retriever.aretrieve(_own_query(store, query, embedded)))

    def _read(self, store: Store, nodes: Sequence[NodeWithScore] | None) -> dict[str, Hit]:
        """Guard by the store's filter, cut to its top k, group by chunk."""
        condition = self._filters[store.name]
        passed = [each for each in nodes or () if condition is None or evaluate(condition, each.node.metadata)]
        return read_hits(passed[: store.top_k], preambles(store.retriever))

    def _answer(self, outcomes: Mapping[str, Outcome[Any]]) -> list[NodeWithScore]:
        """Tell what happened, then fuse what came back."""
        branches = [_branch_report(outcomes[name]) for name in self._stores]
        for branch in branches:
            dispatcher.event(BranchEndEvent(**dataclasses.asdict(branch)))
        embeddings = [outcome for name, outcome in outcomes.items() if name.startswith(ENCODER)]
        lost = [outcome for outcome in (*embeddings, *(outcomes[name] for name in self._stores)) if outcome.error]
        degraded = [f"{outcome.name}: {told(outcome.error)}" for outcome in lost if outcome.error]
        if degraded:  # that a store is skipped was said when its breaker opened
            news = any(outcome.status != "skipped" for outcome in lost)
            logger.log(logging.WARNING if news else logging.DEBUG, "retrieval is degraded: %s", "; ".join(degraded))
        report = open_report()
        report.add_branches(branches, degraded, [outcome.latency_s for outcome in embeddings])
        found: dict[str, Any] = {name: outcomes[name].value for name in self._stores if outcomes[name].status == "ok"}
        if not found:
            causes = {name: error for name in self._stores if (error := outcomes[name].error) is not None}
            raise AllStoresFailedError(causes) from next(iter(causes.values()))
        began = time.perf_counter()
        nodes = merge(
            found,
            mode=self._mode,
            weights=self._weights,
            rrf_k=self._rrf_k,
            top_n=self.similarity_top_k,
            degraded=degraded,
        )
        fuse_s = time.perf_counter() - began
        report.fuse_latency_s += fuse_s
        dispatcher.event(FusionEndEvent(mode=self._mode, node_count=len(nodes), latency_s=fuse_s, degraded=degraded))
        return nodes


def _branch_report(outcome: Outcome[Any]) -> BranchReport:
    error = None if outcome.error is None else told(outcome.error)
    found = len(outcome.value or ())
    return BranchReport(outcome.name, outcome.status, outcome.latency_s, found, error, outcome.started_s)


def _whole(query: QueryBundle) -> QueryBundle:
    """Replace half characters (lone surrogates) in a question by "?": stores, encoders and servers cannot take them."""
    texts = query.custom_embedding_strs
    return dataclasses.replace(
        query,
        query_str=_encodable(query.query_str),
        custom_embedding_strs=None if texts is None else [_encodable(text) for text in texts],
    )


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _own_query(store: Store, query: QueryBundle, embedded: Outcome[Any] | None) -> QueryBundle:
    """Copy the query for one branch, so that what a retriever writes on it reaches no other."""
    embedding, strings = query.embedding, query.custom_embedding_strs
    if embedded is not None and embedded.error is None:
        embedding = embedded.value
    elif embedded is not None and embedded.error is not None:
        if getattr(store.retriever, "needs_embedding", True):
            raise EncoderError(f"the query could not be embedded: {told(embedded.error)}") from embedded.error
        strings = []  # nothing to embed: a retriever that can do without must not wait for the same encoder again
    return dataclasses.replace(
        query,
        embedding=None if embedding is None else list(embedding),
        custom_embedding_strs=None if strings is None else list(strings),
    )
