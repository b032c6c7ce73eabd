"""Named stores: what a hybrid retriever is told about each of them; knows nothing of threads or fusion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding

from .errors import ConfigurationError, UnknownRouteError

ENCODER = "encoder:"  # how the branches that embed the query are named; no store may be


@dataclass(frozen=True)
class Store:
    """One named store of a ``HybridRetriever``.

    Attributes:
        name: how answers, reports and events call it.
        retriever: any LlamaIndex retriever.
        weight: its say in the fusion, 0 or more (default 1).
        deadline_s: seconds it has for a query (default 2); None for no limit.
        top_k: at most so many of its nodes enter the fusion; None for all that it returns. It cannot make a retriever
            return more than its own setting.
        filters: anything ``filters.parse`` takes; nodes it does not pass are dropped after retrieval. Give the same
            filter to the retriever where it can search by it, or few nodes may be left. Bare graph triplets carry no
            metadata: what is asked of a field drops them.
        embed_model: embeds the query for this store; None: the retriever's own (its ``_embed_model``), if it has one.
        use_async: whether ``aretrieve`` awaits the retriever's own ``aretrieve`` on the event loop. Only for retrievers
            that are truly async: most of LlamaIndex's block the loop.

    Raises:
        ConfigurationError: a value out of range.
    """

    name: str
    retriever: BaseRetriever
    weight: float = 1.0
    deadline_s: float | None = 2.0
    top_k: int | None = None
    filters: object = None
    embed_model: BaseEmbedding | None = None
    use_async: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work now, not at the first query."""
        if not self.name or self.name.startswith(ENCODER):
            raise ConfigurationError(f"a store's name is not empty and does not start with {ENCODER!r}: {self.name!r}")
        _check_weight(self.name, self.weight)
        checked_deadline(f"{self.name}: deadline_s", self.deadline_s)
        if self.top_k is not None and self.top_k < 1:
            raise ConfigurationError(f"{self.name}: top_k is at least 1, or None for all, not {self.top_k}")


def encoders(stores: Sequence[Store], default: BaseEmbedding | None) -> dict[str, tuple[str, BaseEmbedding]]:
    """Return store name to the branch that embeds for it and its model; one branch per model object."""
    named: dict[int, tuple[str, BaseEmbedding]] = {}
    chosen = {store.name: model for store in stores if (model := _embed_model(store, default)) is not None}
    for model in chosen.values():
        named.setdefault(id(model), (f"{ENCODER}{type(model).__name__}-{len(named) + 1}", model))
    return {name: named[id(model)] for name, model in chosen.items()}


def _embed_model(store: Store, default: BaseEmbedding | None) -> BaseEmbedding | None:
    """Return the model that embeds for a store; None when its retriever makes no use of an embedding."""
    if store.embed_model is not None:
        return store.embed_model
    uses = getattr(store.retriever, "_needs_embedding", None)  # LlamaIndex's VectorIndexRetriever in a sparse mode
    if callable(uses) and not uses():
        return None
    own: BaseEmbedding | None = getattr(store.retriever, "_embed_model", None)
    return own or (default if getattr(store.retriever, "needs_embedding", False) else None)


def by_name(stores: Sequence[Store]) -> dict[str, Store]:
    """Return name to store, in order; refuses none and doubles."""
    if not stores:
        raise ConfigurationError("a hybrid retriever needs at least one store")
    named = {store.name: store for store in stores}
    if len(named) < len(stores):
        raise ConfigurationError(f"every store needs a name of its own: {', '.join(store.name for store in stores)}")
    return named


def merged_weights(stores: Mapping[str, Store], weights: Mapping[str, float]) -> dict[str, float]:
    """Return every store's weight: its own, or the one given instead."""
    for name, weight in weights.items():
        if name not in stores:
            raise UnknownRouteError(name, list(stores))
        _check_weight(name, weight)
    return {name: weights.get(name, store.weight) for name, store in stores.items()}


def _check_weight(name: str, weight: float) -> None:
    if not (math.isfinite(weight) and weight >= 0):
        raise ConfigurationError(f"{name}: a weight is finite and 0 or more, not {weight}")


def checked_top_k(top_k: int) -> int:
    """Return a ``similarity_top_k`` that makes sense."""
    if top_k < 1:
        raise ConfigurationError(f"similarity_top_k is at least 1, not {top_k}")
    return top_k


def checked_deadline(name: str, seconds: float | None) -> float | None:
    """Return a deadline that makes sense."""
    if seconds is not None and not seconds > 0:
        raise ConfigurationError(f"{name} is above 0, or None for no limit, not {seconds}")
    return seconds
