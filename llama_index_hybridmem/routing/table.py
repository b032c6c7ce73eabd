"""The routing table: which stores, language model and prompt a route uses, checked against the stores there are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from llama_index.core.llms import LLM
from llama_index.core.prompts import BasePromptTemplate

from ..errors import ConfigurationError, UnknownRouteError
from ..export.wording import Wording
from .decision import Route


@dataclass(frozen=True)
class RouteSettings:
    """What one route uses; None everywhere means "as the engine has it".

    Attributes:
        stores: names of the stores to ask; None for the route's own (vector: "vector" and "keyword", graph: "graph",
            hybrid: all). Ignored for the parametric route, which asks none.
        llm: any LlamaIndex LLM, one with an adapter for example.
        text_qa_template: prompt with {context_str} and {query_str}; for the parametric route {query_str} alone.
        wording: instead of a prompt, as an adapter was trained on exported rows, see `HybridRouterQueryEngine`; not for
            the parametric route, which shows no passages.
        top_k: nodes to retrieve.
        description: what a selector is told about the route.
    """

    stores: tuple[str, ...] | None = None
    llm: LLM | None = None
    text_qa_template: BasePromptTemplate | None = None
    wording: Wording | Literal["adapter"] | None = None
    top_k: int | None = None
    description: str | None = None


RouteTable = Mapping[Route, RouteSettings]

_OWN_STORES: Mapping[Route, tuple[str, ...]] = MappingProxyType(
    {Route.VECTOR: ("vector", "keyword"), Route.GRAPH: ("graph",)}
)
_DESCRIPTIONS: Mapping[Route, str] = MappingProxyType(
    {
        Route.PARAMETRIC: "parametric: no documents needed; greetings, small talk, arithmetic, rewriting given text",
        Route.VECTOR: "vector: a fact, definition or description that a single passage of the documents states",
        Route.GRAPH: "graph: how named things are connected, or a chain from one thing over another to a third",
        Route.HYBRID: "hybrid: a question to the documents that needs both, or when in doubt",
    }
)


def route_table(stores: Sequence[str], custom: Mapping[Route | str, RouteSettings] | None = None) -> RouteTable:
    """Lay out the routes that can be taken with the given stores.

    Args:
        stores: the names of the stores there are.
        custom: settings that replace a route's own.

    Returns:
        The parametric route, every route whose stores are there (a default one with at least one of its own), in the
        order of `Route`, each with stores and description filled in.

    Raises:
        UnknownRouteError: a custom route that does not exist, or one that names a store that is not there.
        ConfigurationError: a custom retrieving route without any store, a top_k below 1, or a wording beside a prompt
            or on the parametric route.
    """
    given = {Route.of(route): settings for route, settings in (custom or {}).items()}
    table: dict[Route, RouteSettings] = {}
    for route in Route:
        settings = given.get(route, RouteSettings())
        asked = () if route is Route.PARAMETRIC else _stores_of(route, settings, stores)
        if asked or route is Route.PARAMETRIC:
            description = settings.description or _DESCRIPTIONS[route]
            table[route] = replace(settings, stores=asked, description=description)
        elif route in given:
            raise UnknownRouteError(" or ".join(settings.stores or _OWN_STORES.get(route, ())), list(stores))
        if settings.top_k is not None and settings.top_k < 1:
            raise ConfigurationError(f"top_k of route {route} is {settings.top_k}; it must be at least 1")
        if settings.wording is not None and (settings.text_qa_template is not None or route is Route.PARAMETRIC):
            raise ConfigurationError(f"route {route}: a wording goes neither with a prompt nor without passages")
    return MappingProxyType(table)


def default_route(table: RouteTable) -> Route:
    """The route for a question that no one has decided on: hybrid, else the first retrieving one there is."""
    retrieving = [route for route in table if route is not Route.PARAMETRIC]
    return Route.HYBRID if Route.HYBRID in table else next(iter(retrieving), Route.PARAMETRIC)


def _stores_of(route: Route, settings: RouteSettings, stores: Collection[str]) -> tuple[str, ...]:
    if settings.stores is not None:
        if not settings.stores:
            raise ConfigurationError(f"route {route} names no store; only the parametric route asks none")
        for name in settings.stores:
            if name not in stores:
                raise UnknownRouteError(name, list(stores))
        return settings.stores
    own = _OWN_STORES.get(route, tuple(stores))
    return tuple(name for name in own if name in stores)
