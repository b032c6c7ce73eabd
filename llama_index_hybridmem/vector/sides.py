"""LlamaIndex's Qdrant store, answering threads and event loops alike whichever client the app gave it.

By itself it has no answer on the side whose client is missing: with a blocking client `aretrieve` fails, with an async
one `retrieve`. The app's own store is left as it is.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from llama_index.core.base.base_retriever import BaseRetriever

from ..branches import in_thread
from .server_client import LoopClient, is_local

R = TypeVar("R", bound=BaseRetriever)

_TWINS = {
    "query": "aquery",
    "add": "async_add",
    "delete": "adelete",
    "delete_nodes": "adelete_nodes",
    "get_nodes": "aget_nodes",
    "clear": "aclear",
}
_BLOCKING = {twin: name for name, twin in _TWINS.items()}
_LIMIT_S = 60.0
"""Seconds a call has where nothing under way has less: the app's client has a limit of its own, which comes first."""


def both_sides(retriever: R) -> R:
    """Give a retriever that can be asked from both sides: itself, or a copy of one over a Qdrant store with one client.

    Args:
        retriever: any; left as it is.
    """
    store = getattr(retriever, "_vector_store", None)
    sided = two_sided(store)
    if sided is store:
        return retriever
    other = copy.copy(retriever)
    other._vector_store = sided  # type: ignore[attr-defined]  # looked at above
    return other


def two_sided(store: Any) -> Any:
    """Give a vector store that can be asked from both sides: itself, or LlamaIndex's Qdrant store in a wrapping.

    Of two local clients only one can have the collection, as they share nothing; that one then answers for both.

    Args:
        store: any; left as it is.
    """
    integration = sys.modules.get("llama_index.vector_stores.qdrant")
    if integration is None or not isinstance(store, integration.QdrantVectorStore):
        return store
    client, aclient = store._client, store._aclient
    if client is not None and aclient is not None:
        if not (is_local(client) and is_local(aclient)):
            return store
        return _FromBlocking(store) if client.collection_exists(store.collection_name) else _FromAsync(store)
    return _FromAsync(store) if client is None else _FromBlocking(store)


class _Wrapped:
    """A store with some of its methods answered otherwise."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        if name == "_store" or name.startswith("__"):  # a copy is asked for these before it has anything
            raise AttributeError(name)
        return getattr(self._store, name)


class _FromBlocking(_Wrapped):
    """Async methods are the blocking ones on a thread of ours."""

    def __getattr__(self, name: str) -> Any:
        if name not in _BLOCKING:
            return super().__getattr__(name)
        blocking: Callable[..., Any] = getattr(self._store, _BLOCKING[name])

        async def awaited(*arguments: Any, **options: Any) -> Any:
            return await in_thread(blocking, *arguments, **options)

        return awaited


class _FromAsync(_Wrapped):
    """Blocking methods are the async ones on a loop thread of ours; a client to a server gets a twin for that loop."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self._line = LoopClient(lambda: _Twin(store), _LIMIT_S, _LIMIT_S)

    def __getattr__(self, name: str) -> Any:
        if name not in _TWINS:
            return super().__getattr__(name)

        def blocking(*arguments: Any, **options: Any) -> Any:
            return self._line.ask("call", {"name": _TWINS[name], "arguments": arguments, "options": options})

        return blocking


class _Twin:
    """The store as our loop uses it: an async client that has spoken to a server belongs to the app's loop."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._ours: Any = None
        if not is_local(store._aclient) and hasattr(store._aclient, "init_options"):
            settings = {**store._aclient.init_options, "check_compatibility": False}
            self._ours = type(store._aclient)(**settings)
            self._store = copy.copy(store)
            self._store._aclient = self._ours

    async def call(self, name: str, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        return await getattr(self._store, name)(*arguments, **options)

    async def close(self) -> None:
        if self._ours is not None:
            await self._ours.close()
