"""Follows every call of a language model, embedding model or reranker, and counts each once; knows no stages.

LlamaIndex fires two or three pairs of events for one call where it makes a model's missing methods out of others
(`CustomLLM`): only the innermost counts. An unread stream fires no end at all: the garbage collector tells of it.
"""

from __future__ import annotations

import asyncio
import sys
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from types import FrameType
from typing import Any

from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent, EmbeddingStartEvent
from llama_index.core.instrumentation.events.exception import ExceptionEvent
from llama_index.core.instrumentation.events.llm import (
    LLMChatEndEvent,
    LLMChatInProgressEvent,
    LLMChatStartEvent,
    LLMCompletionEndEvent,
    LLMCompletionInProgressEvent,
    LLMCompletionStartEvent,
)
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent

from llama_index_hybridmem.costs.trace import Status
from llama_index_hybridmem.costs.tracking.meter import Meter
from llama_index_hybridmem.costs.tracking.open_queries import OpenQueries
from llama_index_hybridmem.costs.tracking.running import Call, Embedded, Running, Span

MANY = 100
"""Calls of one query after which each call's texts are let go when it ends, as of a graph that a model builds."""

Later = Callable[[Callable[[], None]], None]


class ModelCalls:
    """Notes the calls on their queries.

    Args:
        queries: that are under way.
        later: takes a step to be done soon on another thread; takes no lock, for the garbage collector calls it.
        settle: reads the token counts of a call that has ended, where its texts should not be kept.

    Attributes:
        on_event: class of event to who takes it.
    """

    def __init__(self, queries: OpenQueries, later: Later, settle: Callable[[Call], None]) -> None:
        self._queries, self._later, self._settle = queries, later, settle
        self._lazy: dict[tuple[int, str, int], list[Call]] = {}
        self._meters: dict[tuple[str, str | None], Meter] = {}
        self.on_event: dict[type, Callable[[Any], None]] = {
            LLMChatStartEvent: self._chat_began,
            LLMCompletionStartEvent: self._completion_began,
            LLMChatInProgressEvent: self._llm_progressed,
            LLMCompletionInProgressEvent: self._llm_progressed,
            LLMChatEndEvent: self._llm_ended,
            LLMCompletionEndEvent: self._llm_ended,
            ExceptionEvent: self._llm_failed,
            EmbeddingStartEvent: self._embedding_began,
            EmbeddingEndEvent: self._embedding_ended,
            ReRankStartEvent: self._rerank_began,
            ReRankEndEvent: self._rerank_ended,
        }

    def left(self, call: Call, result: Any, error: BaseException | None) -> None:
        """The model's method, or the reranker's, returned: for good, or a stream that is to be read."""
        if error is not None:
            self.end(call, status_of(error), error)
        elif call.kind == "rerank":
            self.end(call, "ok")
        elif isinstance(result, Generator | AsyncGenerator):
            call.streamed = True
            call.watch = weakref.ref(result, lambda _: self._later(partial(self.unread, call)))
            with self._queries.lock:
                if not call.done:
                    call.query.reading.append(call)

    def unread(self, call: Call) -> None:
        """Nobody can read the stream any more, or nobody waits for the call."""
        if not call.done:  # it ended with what was last seen of it, not now that the garbage collector came by
            seen = call.query.ended if call.first is None else max(call.query.ended, call.first)
            self.end(call, "never_consumed" if call.first is None else "abandoned", at=max(seen, call.began))

    def end(self, call: Call, status: Status, error: BaseException | None = None, at: float | None = None) -> None:
        """A call is over, well or not; now, or at a time that has passed."""
        query = call.query
        with self._queries.lock:
            if call.done:
                return
            call.done = True
            query.open_calls -= 1
            if call in query.reading:
                query.reading.remove(call)
            call.ended = query.ended = time.perf_counter() if at is None else at
            if call.lazy is not None:
                self._forget(call, call.lazy)
        call.status = status
        if error is not None and not isinstance(error, GeneratorExit):
            call.error = type(error).__name__
        self._unmetered(call, call.ended)
        if status != "ok" and query.root_done and not query.streams:
            query.failed(status, error)
        if len(query.calls) > MANY and call.usage is None:
            self._settle(call)
        try:
            if call.on_end is not None:
                call.on_end(call)
        finally:
            self._queries.close_if_over(query)

    # -- language models -------------------------------------------------------------------------------------------

    def _chat_began(self, event: Any) -> None:
        self._llm_began(event, event.messages)

    def _completion_began(self, event: Any) -> None:
        self._llm_began(event, event.prompt)

    def _llm_began(self, event: Any, prompt: Any) -> None:
        span = self._queries.spans.get(event.span_id)
        if span is None or span.id != event.span_id or not span.role.calls_model:
            return
        if span.call is not None and not span.call.done:
            return
        model = event.model_dict
        class_name = model.get("class_name", "")
        name = model.get("model_name") or model.get("model")
        if span.role.names_base:
            name = span.object.base_model
        call = Call(span.query, "llm", class_name, name, span.object, prompt)
        call.options = event.additional_kwargs
        span.call = call
        self._nest(call, span)
        self._began(call)

    def _began(self, call: Call) -> None:
        with self._queries.lock:
            call.query.calls.append(call)
            call.query.open_calls += 1
        call.meter = self._meter((call.class_name, call.model))
        call.metered = call.meter.start(call.began)

    def _nest(self, call: Call, span: Span) -> None:
        """Find the open call that this one runs inside of; that one is then no call of its own.

        Three ways: by the spans; or, where a model's stream asks another model only when it is read, by the stream that
        is being read just here; or, where LlamaIndex makes an async stream out of a sync one, by model, method and
        prompt, because the inner call then begins in the reader's context, which may be of no query or another one.
        """
        method = span.role.name.rpartition(".")[2]
        outer = span.outer or _being_read(call.query.reading)
        if outer is None and method.startswith("stream_"):
            outer = self._lazily_around(call, (span.instance, method, span.argument))
            if outer is not None and outer.query is not call.query:
                self._queries.move(span, outer.query)
                call.query = outer.query
        elif method.startswith("astream_"):
            call.lazy = (span.instance, method[1:], span.argument)
            with self._queries.lock:
                self._lazy.setdefault(call.lazy, []).append(call)
        if outer is not None and not outer.done:
            call.outer = outer
            outer.wraps += 1
            self._unmetered(outer, call.began)

    def _lazily_around(self, call: Call, key: tuple[int, str, int]) -> Call | None:
        with self._queries.lock:
            waiting = [each for each in self._lazy.get(key, ()) if not each.done and not each.wraps]
        return next((each for each in waiting if each.query is call.query), waiting[0] if waiting else None)

    def _forget(self, call: Call, key: tuple[int, str, int]) -> None:
        waiting = self._lazy[key]
        waiting.remove(call)
        if not waiting:
            del self._lazy[key]

    def _llm_progressed(self, event: Any) -> None:
        span = self._queries.spans.get(event.span_id)
        call = None if span is None else span.call
        if call is not None:
            if call.first is None:
                call.first = time.perf_counter()
            call.last = event.response
            if event.response.delta:
                call.said.append(event.response.delta)

    def _llm_ended(self, event: Any) -> None:
        if (call := self._queries.call_at(event.span_id)) is not None:
            if event.response is not None:
                call.last = event.response
            self.end(call, "ok")

    def _llm_failed(self, event: Any) -> None:
        if (call := self._queries.call_at(event.span_id)) is not None:
            self.end(call, status_of(event.exception), event.exception)

    # -- embedding models and rerankers ----------------------------------------------------------------------------

    def _embedding_began(self, event: Any) -> None:
        if (query := self._queries.at(event.span_id)) is not None:
            model = event.model_dict
            key = (model.get("class_name", ""), model.get("model_name") or "")
            began = time.perf_counter()
            under_way = query.embedding.setdefault(event.span_id, [])  # several where batches run at once
            under_way.append((began, key, self._meter(key).start(began)))

    def _embedding_ended(self, event: Any) -> None:
        query = self._queries.at(event.span_id)
        under_way = None if query is None else query.embedding.get(event.span_id)
        if query is None or not under_way:
            return
        began, key, metered = under_way.pop(0)
        now = time.perf_counter()
        busy_s = self._meters[key].stop(metered, now)
        size = sum(len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in event.chunks)
        with self._queries.lock:
            embedded = query.embeddings.get(key)
            if embedded is None:
                embedded = query.embeddings[key] = Embedded(began)
            embedded.wall_s += now - began
            embedded.busy_s += busy_s
            embedded.bytes += size
            embedded.count += 1

    def embedding_failed(self, query: Running, id_: str) -> None:
        """The embeddings that a span began will not end."""
        for _, key, metered in query.embedding.pop(id_, ()):
            self._meters[key].stop(metered, time.perf_counter())

    def _rerank_began(self, event: Any) -> None:
        span = self._queries.spans.get(event.span_id)
        if span is not None and (span.call is None or span.call.done):
            class_name = span.role.name.partition(".")[0]
            span.call = Call(span.query, "rerank", class_name, event.model_name, None, None)
            self._began(span.call)

    def _rerank_ended(self, event: Any) -> None:
        span = self._queries.spans.get(event.span_id)
        if span is not None and span.call is not None and span.call.kind == "rerank":
            self.end(span.call, "ok")

    # -- busy time -------------------------------------------------------------------------------------------------

    def _meter(self, key: tuple[str, str | None]) -> Meter:
        return self._meters.get(key) or self._meters.setdefault(key, Meter())

    def _unmetered(self, call: Call, now: float) -> None:
        meter, call.meter = call.meter, None
        if meter is not None:
            share_s = meter.stop(call.metered, now)
            call.busy_s = 0.0 if call.status == "never_consumed" else share_s


def _being_read(streams: list[Call]) -> Call | None:
    """The call whose stream runs on this stack: what begins now, begins inside of it."""
    if not streams:
        return None
    frames = {}
    for call in tuple(streams):
        stream = call.watch()
        frames[getattr(stream, "gi_frame", None) or getattr(stream, "ag_frame", None)] = call
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame in frames:
            return frames[frame]
        frame = frame.f_back
    return None


def status_of(error: BaseException) -> Status:
    """How a call or a stream ended that raised this."""
    if isinstance(error, GeneratorExit):
        return "abandoned"
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "error"
