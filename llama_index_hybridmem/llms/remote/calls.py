"""One call to a model server: its adapter held while it runs, loaded again if the server lost it, errors as ours.

Knows nothing of templates and options: it sends what it is given.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from llama_index_instrumentation import get_dispatcher

from llama_index_hybridmem.branches import in_thread
from llama_index_hybridmem.errors import (
    AdapterRefusedError,
    ConfigurationError,
    RemoteModelError,
    UnknownAdapterError,
    told,
)
from llama_index_hybridmem.events import AdapterFallbackEvent
from llama_index_hybridmem.llms.remote.adapters import RemoteAdapters, Target
from llama_index_hybridmem.llms.remote.clients import OpenAIClients
from llama_index_hybridmem.llms.remote.dialects import Wording, find_served
from llama_index_hybridmem.llms.remote.requests import Prompt, signed
from llama_index_hybridmem.llms.remote.residents import Resident, ServerAdapters
from llama_index_hybridmem.llms.remote.server import ModelServer

Response = ChatResponse | CompletionResponse
R = TypeVar("R", ChatResponse, CompletionResponse)


Build = Callable[[Target], Prompt]


@dataclass(frozen=True)
class _Held:
    """A call under way: who answers it and what is sent."""

    target: Target
    resident: Resident | None
    prompt: Prompt

    @property
    def is_chat(self) -> bool:
        return not isinstance(self.prompt.content, str)


class RemoteCalls:
    """Makes calls, from any thread or task.

    Args:
        clients: carry the requests.
        server: what it offers.
        adapters: who can be asked for.
        residents: who is loaded.
        base_model: the base model's name on the server.
        on_missing: whether the base answers, flagged, where an adapter cannot.
    """

    def __init__(
        self,
        clients: OpenAIClients,
        server: ModelServer,
        adapters: RemoteAdapters,
        residents: ServerAdapters,
        base_model: str,
        on_missing: Literal["raise", "base"],
    ) -> None:
        import httpx
        import openai

        self._clients, self._server, self._adapters = clients, server, adapters
        self._residents, self._base_model, self._on_missing = residents, base_model, on_missing
        # the last three: an answer that is not built as the API's are, such as a proxy's page
        self._faults = (openai.OpenAIError, httpx.HTTPError, TypeError, AttributeError, json.JSONDecodeError)

    def run(self, asked: str | None, build: Build, shape: Callable[[Response], R]) -> R:
        """A whole answer.

        Args:
            asked: an adapter's reference; None for the base model.
            build: makes what is sent, for whoever was found.
            shape: makes a chat's answer or a completion of what came.
        """
        for last in (False, True):
            held = self._begin(asked, build)
            try:
                send = self._clients.sync()._chat if held.is_chat else self._clients.sync()._complete
                return shape(signed(send(held.prompt.content, **held.prompt.options), held.target.note()))
            except self._faults as error:
                self._failed(error, held, last)
            finally:
                self._end(held)
        raise AssertionError("the second failure raises")

    async def arun(self, asked: str | None, build: Build, shape: Callable[[Response], R]) -> R:
        """`run` without blocking the event loop."""
        for last in (False, True):
            held = await self._abegin(asked, build)
            try:
                send = self._clients.loop()._achat if held.is_chat else self._clients.loop()._acomplete
                return shape(signed(await send(held.prompt.content, **held.prompt.options), held.target.note()))
            except self._faults as error:
                self._failed(error, held, last)
            finally:
                self._end(held)
        raise AssertionError("the second failure raises")

    def stream(self, asked: str | None, build: Build, shape: Callable[[Response], R]) -> Generator[R, None, None]:
        """An answer as it is written; nothing is sent before the first piece is asked for."""
        started = False
        for last in (False, True):
            held = self._begin(asked, build)
            try:
                client = self._clients.sync()
                pieces = (client._stream_chat if held.is_chat else client._stream_complete)(
                    held.prompt.content, **_streamed(held.prompt.options)
                )
                try:
                    for piece in pieces:
                        started = True
                        yield shape(signed(piece, held.target.note()))
                finally:
                    pieces.close()
                return
            except self._faults as error:
                self._failed(error, held, last or started)
            finally:
                self._end(held)

    async def astream(self, asked: str | None, build: Build, shape: Callable[[Response], R]) -> AsyncGenerator[R, None]:
        """`stream` without blocking the event loop."""
        started = False
        for last in (False, True):
            held = await self._abegin(asked, build)
            try:
                client = self._clients.loop()
                pieces = await (client._astream_chat if held.is_chat else client._astream_complete)(
                    held.prompt.content, **_streamed(held.prompt.options)
                )
                try:
                    async for piece in pieces:
                        started = True
                        yield shape(signed(piece, held.target.note()))
                finally:
                    await pieces.aclose()
                return
            except self._faults as error:
                self._failed(error, held, last or started)
            finally:
                self._end(held)

    def names(self) -> list[str]:
        """Who can be asked for, the server's own where it decides."""
        known = self._adapters.names()
        return known or [one.name for one in self._server.models() if one.parent is not None]

    def _begin(self, asked: str | None, build: Build) -> _Held:
        target, resident = self._hold(asked)
        try:
            wording = self._server.dialect.wording(
                self._base_model, None if target.fallback else target.name, target.path, target.number
            )
            prompt = build(target)
            return _Held(target, resident, replace(prompt, options=_worded(prompt.options, wording)))
        except BaseException:
            if resident is not None:
                self._residents.give(resident)
            raise

    async def _abegin(self, asked: str | None, build: Build) -> _Held:
        """`_begin` on a thread; a cancelled task gives back what the thread still takes."""
        begun = asyncio.ensure_future(in_thread(self._begin, asked, build))
        try:
            return await asyncio.shield(begun)
        except asyncio.CancelledError:
            begun.add_done_callback(self._abandon)
            raise

    def _abandon(self, begun: asyncio.Future[_Held]) -> None:
        if not begun.cancelled() and begun.exception() is None:
            self._end(begun.result())

    def _end(self, held: _Held) -> None:
        if held.resident is not None:
            self._residents.give(held.resident)

    def _hold(self, asked: str | None) -> tuple[Target, Resident | None]:
        try:
            return self._found(asked)
        except (UnknownAdapterError, AdapterRefusedError, RemoteModelError) as error:
            if self._on_missing == "raise":
                raise
            reason = told(error)
            event = AdapterFallbackEvent(adapter=asked or "", model=self._base_model, reason=reason)
            get_dispatcher(__name__).event(event)
            return Target(asked, fallback=reason), None

    def _found(self, asked: str | None) -> tuple[Target, Resident | None]:
        target = self._adapters.find(asked)
        if target.name is None:
            return target, None
        if self._server.dialect.by_number:
            return self._numbered(target), None
        self._residents.point(target.asked or "", target.name)
        try:
            return target, self._residents.take(target.name, target.path, lambda: self._adapters.check(target))
        except UnknownAdapterError as error:
            raise self._adapters.unknown(target.asked or "", error.known) from error

    def _numbered(self, target: Target) -> Target:
        # asked each time: after a restart the numbers may stand for others
        names = [target.name or ""] + ([target.version.id] if target.version else [])
        served = find_served(self._server.models(), *names)
        if served is None:
            self._server.dialect.load(names[-1], target.path)  # says how
        return replace(target, number=served.number if served else None)

    def _failed(self, error: Exception, held: _Held, last: bool) -> None:
        """Returns if the call is worth another try, else raises our error."""
        import httpx
        import openai

        if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
            raise ConfigurationError(f"no such option: {error}") from error
        target = held.target
        if not isinstance(error, openai.OpenAIError | httpx.HTTPError):
            raise RemoteModelError(f"{target.name or self._base_model!r} answered with something else") from error
        gone = isinstance(error, openai.APIStatusError) and self._server.dialect.is_unknown(
            error.status_code, error.response.text
        )
        if not gone or held.resident is None:
            self._server.refuse(error, f"asking {target.name or self._base_model!r}")
        self._residents.forget(held.resident)
        if last:
            raise self._adapters.unknown(target.asked or "") from error


_CHOOSING = {"model", "adapter_id", "adapter_source", "lora_path", "lora"}
"""What chooses an adapter in some dialect: a call's body must not choose past `adapter=` and the tenant."""


def _worded(options: dict[str, Any], wording: Wording) -> dict[str, Any]:
    given = dict(options)
    body = {name: value for name, value in given.pop("extra_body", {}).items() if name not in _CHOOSING}
    body |= wording.extra_body
    return {**given, "model": wording.model} | ({"extra_body": body} if body else {})


def _streamed(options: dict[str, Any]) -> dict[str, Any]:
    return {"stream_options": {"include_usage": True}, **options}
