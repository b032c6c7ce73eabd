"""Follows every query through LlamaIndex's spans and events; counts no tokens, knows no prices, writes nothing.

It runs inside the app's calls, in whatever thread, so it only looks, notes the time and keeps references; what takes
longer is done by whoever is handed the finished query. How LlamaIndex's instrumentation behaves, and which traps it
has, stands in docs/costs.md.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from functools import partial
from typing import Any

from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
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
from llama_index_instrumentation.dispatcher import active_instrument_tags

from llama_index_hybridmem.costs.meter import Meter
from llama_index_hybridmem.costs.roles import Role, role_of, span_name
from llama_index_hybridmem.costs.running import Call, Embedded, Outcome, Running, Span
from llama_index_hybridmem.costs.trace import Status
from llama_index_hybridmem.events import AbstainEvent, BranchEndEvent, FusionEndEvent, RouteSelectedEvent
from llama_index_hybridmem.merging import METADATA_KEY
from llama_index_hybridmem.streaming import afollow, follow

MANY = 1000
"""Spans of one query after which those that have ended are forgotten, as of an ingest: nothing comes late there."""

Finish = Callable[[Running], None]
Later = Callable[[Callable[[], None]], None]


class Tracker:
    """Keeps the queries that run, and hands on those that are over.

    Args:
        finish: takes a query that is over; must not block, and may be called from any thread.
        later: takes a step to be done soon on another thread; may be called by the garbage collector, so it takes no
            lock.
        settle: reads the token counts of a call that has ended, where a query has so many that their answers should
            not be kept.
        max_open: queries kept open at most; the oldest is then finished as it stands (`forced` counts them).
        clock: Unix seconds.
    """

    def __init__(
        self,
        finish: Finish,
        later: Later,
        settle: Callable[[Call], None],
        *,
        max_open: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._finish, self._later, self._settle, self._clock = finish, later, settle, clock
        self._max_open = max_open
        self._lock = threading.Lock()
        self._spans: dict[str, Span] = {}
        self._roles: dict[str, Role] = {}
        self._lazy: dict[tuple[int, str, int], list[Call]] = {}
        self._meters: dict[tuple[str, str | None], Meter] = {}
        self.open: dict[str, Running] = {}
        self.forced = 0
        self.notes: tuple[Callable[[], Any], ...] = ()
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
            RouteSelectedEvent: self._routed,
            BranchEndEvent: self._branch_ended,
            FusionEndEvent: self._fused,
            AbstainEvent: self._abstained,
        }

    # -- spans -----------------------------------------------------------------------------------------------------

    def enter(self, id_: str, arguments: Any, instance: object, parent_id: str | None, tags: Any) -> None:
        """A span began."""
        role = self._roles.get(id_[:-37]) or self._learned(id_, instance)
        above = self._spans.get(parent_id) if parent_id else None
        if above is None:
            self._begin(id_, role, instance, arguments, tags)
            return
        above.query.ids.add(id_)
        if not role.calls_model and _has_no_time_of_its_own(role, above, instance):
            self._spans[id_] = above
            if above.query.over:  # by another thread, just now
                self._spans.pop(id_, None)
            return
        span = Span(id_, above.query, role, above, instance)
        span.covered = span.covered or (above.role.fans_out and role.kind == "retrieve")
        if role.calls_model:
            span.argument = id(_first(arguments))
        self._spans[id_] = span
        if span.query.over:  # by another thread, just now
            self._spans.pop(id_, None)

    def leave(self, id_: str, result: Any, error: BaseException | None = None, arguments: Any = None) -> None:
        """A span ended."""
        span = self._spans.get(id_)
        if span is None:
            return
        query = span.query
        if span.id == id_:
            self._left(span, result, error, arguments)
        if len(query.ids) > MANY and span.parent is not None:
            query.ids.discard(id_)
            self._spans.pop(id_, None)

    def adopt(self, id_: str | None) -> None:
        """Take a span for the beginning of a query whose real beginning was not seen."""
        if id_ is not None and id_ not in self._spans:
            self._begin(id_, Role(span_name(id_), "query", None, False, False, True), None, None, None)

    def marked(self, id_: str | None) -> Running | None:
        """The query that a span belongs to; None for an unknown one."""
        span = self._spans.get(id_) if id_ else None
        return None if span is None else span.query

    def call_of(self, id_: str | None) -> Call | None:
        """The model call that a span is; None where it is none."""
        span = self._spans.get(id_) if id_ else None
        return span.call if span is not None and span.id == id_ else None

    def stop(self) -> None:
        """Finish every open query as it stands."""
        for query in list(self.open.values()):
            self._close(query)

    def _learned(self, id_: str, instance: object) -> Role:
        role = role_of(span_name(id_), instance)
        return self._roles.setdefault(role.name, role)

    def _begin(self, id_: str, role: Role, instance: object, arguments: Any, tags: Any) -> None:
        asked = _first(arguments)
        query = Running(id_[-36:], role, self._clock(), tags or active_instrument_tags.get(), asked)
        query.ids.add(id_)
        query.notes = tuple(note() for note in self.notes)
        span = Span(id_, query, role, None, instance)
        span.argument = id(asked)
        self._spans[id_] = span
        self.open[id_] = query
        if len(self.open) > self._max_open:
            self._make_room()

    def _make_room(self) -> None:
        oldest = next(iter(list(self.open.values())), None)
        if oldest is not None:
            self.forced += 1
            self._close(oldest)

    def _left(self, span: Span, result: Any, error: BaseException | None, arguments: Any) -> None:
        query, role, above = span.query, span.role, span.parent
        wall_s, cpu_s = time.perf_counter() - span.began, span.cpu_s()
        with self._lock:
            if role.stage is not None and not span.covered and not role.fans_out:
                own_cpu = None if cpu_s is None else max(0.0, cpu_s - span.inner_cpu_s)
                query.spent(role.stage, span.began, max(0.0, wall_s - span.inner_s), own_cpu)
            if above is not None:
                above.inner_s += wall_s
                if above.thread == span.thread and cpu_s is not None:
                    above.inner_cpu_s += cpu_s
        if span.call is not None:
            self._call_left(span.call, result, error)
        if role.stage == "route" and query.route is None and result is not None:
            query.route, query.route_source = _selected(result, arguments), "selector"
        if above is None:
            query.cpu_s = cpu_s
            self._root_left(query, result, error)

    def _root_left(self, query: Running, result: Any, error: BaseException | None) -> None:
        query.ended = time.perf_counter()
        if error is not None:
            query.failed(_status_of(error), error)
        else:
            self._answered(query, result)
        query.root_done = True
        self._close_if_over(query)

    def _answered(self, query: Running, result: Any) -> None:
        """Note what came back, and follow it where it is a stream that is still to be read."""
        metadata = getattr(result, "metadata", None)
        text = getattr(result, "response", None)
        nodes = getattr(result, "source_nodes", ())
        query.outcome = Outcome(text if isinstance(text, str) else None, nodes, metadata)
        if isinstance(metadata, dict) and isinstance(own := metadata.get(METADATA_KEY), dict):
            own["trace"] = query.id
        if isinstance(result, StreamingResponse | AsyncStreamingResponse):
            watched = _Watched(self, query)
            query.streams += 1
            stream: Any
            if isinstance(result, StreamingResponse):
                stream = result.response_gen = follow(iter(result.response_gen), watched)
            else:
                stream = result.response_gen = afollow(result.response_gen.__aiter__(), watched)
            query.watches.append(weakref.ref(stream, lambda _: self._later(watched.gone)))

    def _close_if_over(self, query: Running) -> None:
        if query.root_done and not query.open_calls and not query.streams:
            self._close(query)

    def _close(self, query: Running) -> None:
        with self._lock:
            if query.over:
                return
            query.over = True
        for id_ in tuple(query.ids):
            self._spans.pop(id_, None)
            self.open.pop(id_, None)
        for call in query.calls:
            if not call.done:
                self._end(call, _unfinished(call))
        self._finish(query)

    # -- calls of language models ----------------------------------------------------------------------------------

    def _chat_began(self, event: Any) -> None:
        self._llm_began(event, event.messages)

    def _completion_began(self, event: Any) -> None:
        self._llm_began(event, event.prompt)

    def _llm_began(self, event: Any, prompt: Any) -> None:
        span = self._spans.get(event.span_id)
        if span is None or span.id != event.span_id or not span.role.calls_model:
            return
        model = event.model_dict
        name = model.get("model_name") or model.get("model")
        call = Call(span.query, "llm", model.get("class_name", ""), name, span.model, prompt)
        call.options = event.additional_kwargs
        call.covered = span.covered
        span.call = call
        self._nest(call, span)
        with self._lock:
            call.query.calls.append(call)
            call.query.open_calls += 1
        self._metered(call)

    def _nest(self, call: Call, span: Span) -> None:
        """Find the open call that this one runs inside of; that one is then no call of its own.

        Two ways: by the spans; or, where LlamaIndex makes an async stream out of a sync one, by model, method and
        prompt, because the inner call then begins after the outer span has ended, in the reader's context.
        """
        method = span.role.name.rpartition(".")[2]
        outer = span.outer
        if outer is None and method.startswith("stream_"):
            outer = self._lazily_around(call, (span.instance, method, span.argument))
        elif method.startswith("astream_"):
            call.lazy = (span.instance, method[1:], span.argument)
            with self._lock:
                self._lazy.setdefault(call.lazy, []).append(call)
        if outer is not None and not outer.done:
            call.outer = outer
            outer.wraps += 1
            self._unmetered(outer)

    def _lazily_around(self, call: Call, key: tuple[int, str, int]) -> Call | None:
        with self._lock:
            waiting = [each for each in self._lazy.get(key, ()) if not each.done and not each.wraps]
        if not waiting:
            return None
        outer = next((each for each in waiting if each.query is call.query), waiting[0])
        call.query = outer.query
        return outer

    def _llm_progressed(self, event: Any) -> None:
        span = self._spans.get(event.span_id)
        call = None if span is None else span.call
        if call is not None:
            if call.first is None:
                call.first = time.perf_counter()
            call.last = event.response

    def _llm_ended(self, event: Any) -> None:
        if (call := self.call_of(event.span_id)) is not None:
            if event.response is not None:
                call.last = event.response
            self._end(call, "ok")

    def _llm_failed(self, event: Any) -> None:
        if (call := self.call_of(event.span_id)) is not None:
            self._end(call, _status_of(event.exception), event.exception)

    def _call_left(self, call: Call, result: Any, error: BaseException | None) -> None:
        """The method returned: a stream that is to be read, or for good."""
        if error is not None:
            self._end(call, _status_of(error), error)
        elif isinstance(result, Generator | AsyncGenerator):
            call.streamed = True
            call.watch = weakref.ref(result, lambda _: self._later(partial(self._unread, call)))

    def _unread(self, call: Call) -> None:
        """Nobody can read the stream any more."""
        if not call.done:
            self._end(call, _unfinished(call))

    def _end(self, call: Call, status: Status, error: BaseException | None = None) -> None:
        query = call.query
        with self._lock:
            if call.done:
                return
            call.done = True
            query.open_calls -= 1
            call.ended = query.ended = time.perf_counter()
            if call.lazy is not None:
                waiting = self._lazy[call.lazy]
                waiting.remove(call)
                if not waiting:
                    del self._lazy[call.lazy]
        call.status = status
        self._unmetered(call)
        if call.on_end is not None:
            call.on_end(call)
        if status != "ok" and query.root_done and not query.streams:
            query.failed(status, error)
        if len(query.calls) > MANY // 10:
            self._settle(call)
        self._close_if_over(query)

    def _metered(self, call: Call) -> None:
        key = (call.class_name, call.model)
        call.meter = self._meters.get(key) or self._meters.setdefault(key, Meter())
        call.metered = call.meter.start(call.began)

    def _unmetered(self, call: Call) -> None:
        meter, call.meter = call.meter, None
        if meter is not None:
            call.busy_s = meter.stop(call.metered, time.perf_counter())

    # -- everything else -------------------------------------------------------------------------------------------

    def _embedding_began(self, event: Any) -> None:
        if (query := self.marked(event.span_id)) is not None:
            model = event.model_dict
            key = (model.get("class_name", ""), model.get("model_name") or "")
            meter = self._meters.get(key) or self._meters.setdefault(key, Meter())
            began = time.perf_counter()
            query.embedding[event.span_id] = (began, key, meter.start(began))

    def _embedding_ended(self, event: Any) -> None:
        query = self.marked(event.span_id)
        under_way = None if query is None else query.embedding.pop(event.span_id, None)
        if query is None or under_way is None:
            return
        began, key, metered = under_way
        now = time.perf_counter()
        busy_s = self._meters[key].stop(metered, now)
        size = sum(len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in event.chunks)
        with self._lock:
            embedded = query.embeddings.get(key)
            if embedded is None:
                embedded = query.embeddings[key] = Embedded(began)
            embedded.wall_s += now - began
            embedded.busy_s += busy_s
            embedded.bytes += size

    def _rerank_began(self, event: Any) -> None:
        if (query := self.marked(event.span_id)) is not None:
            call = Call(query, "rerank", "", event.model_name, None, None)
            with self._lock:
                query.calls.append(call)
                query.open_calls += 1
            self._metered(call)

    def _rerank_ended(self, event: Any) -> None:
        query = self.marked(event.span_id)
        for call in () if query is None else reversed(query.calls):
            if call.kind == "rerank" and not call.done:
                self._end(call, "ok")
                return

    def _routed(self, event: Any) -> None:
        if (query := self.marked(event.span_id)) is not None:
            query.route, query.route_source = event.route, event.source

    def _branch_ended(self, event: Any) -> None:
        span = self._spans.get(event.span_id)
        if span is not None and not span.covered and event.status != "skipped":
            began = time.perf_counter() - event.latency_s
            with self._lock:
                span.query.spent(event.store, began, event.latency_s, event.cpu_s)

    def _fused(self, event: Any) -> None:
        span = self._spans.get(event.span_id)
        if span is not None and not span.covered:
            with self._lock:
                span.query.spent("fuse", time.perf_counter() - event.latency_s, event.latency_s, None)
                span.query.degraded = (*span.query.degraded, *event.degraded)

    def _abstained(self, event: Any) -> None:
        if (query := self.marked(event.span_id)) is not None:
            query.answer = "abstained"


class _Watched:
    """The stream of a query's answer, as its reader reads it."""

    def __init__(self, tracker: Tracker, query: Running) -> None:
        self._tracker, self._query = tracker, query
        self._over = False

    def began(self) -> None:
        """The first token is there."""
        self._query.first = time.perf_counter()

    def ended(self, text: str, error: BaseException | None = None) -> None:
        """It was read to its end, closed or broken."""
        self._query.outcome.text = text
        self._end("ok" if error is None else _status_of(error), error)

    def gone(self) -> None:
        """Nobody can read it any more."""
        self._end("never_consumed" if self._query.first is None else "abandoned", None)

    def _end(self, status: Status, error: BaseException | None) -> None:
        query = self._query
        with self._tracker._lock:
            if self._over:
                return
            self._over = True
            query.streams -= 1
            query.ended = time.perf_counter()
        if status != "ok":
            query.failed(status, error)
        self._tracker._close_if_over(query)


def _has_no_time_of_its_own(role: Role, above: Span, instance: object) -> bool:
    """Whether a span's time is the one's around it."""
    if role.fans_out and above.role.fans_out:
        return above.instance == id(instance)
    if above.covered:
        return True
    return (role.stage is None and not role.fans_out) or role.stage == above.role.stage


def _first(arguments: Any) -> Any:
    """A span's first argument; a decorated method has them as ``*args`` and ``**kwargs``."""
    first = None if arguments is None else next(iter(arguments.arguments.values()), None)
    if isinstance(first, tuple):
        return first[0] if first else None
    return next(iter(first.values()), None) if isinstance(first, dict) else first


def _status_of(error: BaseException) -> Status:
    if isinstance(error, GeneratorExit):
        return "abandoned"
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "error"


def _unfinished(call: Call) -> Status:
    return "never_consumed" if call.first is None else "abandoned"


def _selected(result: Any, arguments: Any) -> str | None:
    """What a LlamaIndex selector chose: the tools' names, or their numbers where they have none of their own."""
    places = [each.index for each in getattr(result, "selections", ())]
    choices: Iterable[Any] = () if arguments is None else arguments.arguments.get("choices", ())
    names = [getattr(choice, "name", None) for choice in choices]
    told = len(set(names)) == len(names) and all(names)
    return "+".join(str(names[place]) if told else f"choice {place + 1}" for place in places) or None
