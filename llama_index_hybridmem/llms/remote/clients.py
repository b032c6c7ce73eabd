"""The HTTP clients behind a remote LLM: one for all threads, one per event loop; knows no adapters and no prompts."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from llama_index_hybridmem.extras import require

if TYPE_CHECKING:
    from llama_index.llms.openai_like import OpenAILike
    from openai import OpenAI


class OpenAIClients:
    """`OpenAILike` objects that only carry requests: no option of theirs is ever sent.

    An asynchronous client belongs to the event loop that it first ran on; used on another one, it fails with "Event
    loop is closed". So each loop has its own.

    Args:
        model: the base model's name on the server.
        is_chat: whether chats go to ``/chat/completions``.
        tools: whether the model takes tools.
        connection: arguments of `openai.OpenAI`.
        http_client: an `httpx.Client` of the caller's, or None.
        async_http_client: an `httpx.AsyncClient` of the caller's, or None; then used on every loop.

    Raises:
        MissingExtraError: llama-index-llms-openai-like is not installed.
    """

    def __init__(
        self,
        model: str,
        is_chat: bool,
        tools: bool,
        connection: dict[str, Any],
        http_client: Any = None,
        async_http_client: Any = None,
    ) -> None:
        require("RemoteLoraLLM", "remote", "llama_index.llms.openai_like")
        self._fields: dict[str, Any] = {"model": model, "is_chat_model": is_chat, "is_function_calling_model": tools}
        self._connection, self._http, self._async_http = connection, http_client, async_http_client
        self._lock = threading.Lock()
        self._sync: OpenAILike | None = None
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, OpenAILike] = WeakKeyDictionary()

    def sync(self) -> OpenAILike:
        """For calls from threads."""
        with self._lock:
            if self._sync is None:
                import openai

                client = openai.OpenAI(**self._connection, http_client=self._http)
                self._sync = self._carrier(openai_client=client)
            return self._sync

    def loop(self) -> OpenAILike:
        """For calls from the running event loop."""
        running = asyncio.get_running_loop()
        with self._lock:
            if running not in self._loops:
                import openai

                client = openai.AsyncOpenAI(**self._connection, http_client=self._async_http)
                self._loops[running] = self._carrier(async_openai_client=client)
            return self._loops[running]

    def client(self) -> OpenAI:
        """The client itself, for calls that are no answers."""
        return self.sync()._get_client()

    def close(self) -> None:
        """Closes the connections of threads; the next call opens new ones."""
        with self._lock:
            carrier, self._sync = self._sync, None
        if carrier is not None and self._http is None:
            carrier._get_client().close()

    async def aclose(self) -> None:
        """Closes those of threads and of the running event loop."""
        self.close()
        with self._lock:
            carrier = self._loops.pop(asyncio.get_running_loop(), None)
        if carrier is not None and self._async_http is None:
            await carrier._get_aclient().close()

    def _carrier(self, **clients: Any) -> OpenAILike:
        from llama_index.llms.openai_like import OpenAILike

        # max_retries=0: the client inside retries already, and two layers would multiply. The address and the key are
        # given so that none are looked up in the environment.
        given: dict[str, Any] = {
            "api_base": self._connection["base_url"],
            "api_key": self._connection["api_key"],
            "max_retries": 0,
        }
        return OpenAILike(**self._fields, **given, **clients)
