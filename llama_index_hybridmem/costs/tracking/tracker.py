"""Follows every query through LlamaIndex's spans and events; counts no tokens, knows no prices, writes nothing.

It runs inside the app's calls, in whatever thread, so it only looks, notes the time and keeps references; what takes
longer is done by whoever is handed the finished query. How LlamaIndex's instrumentation behaves, and which traps it
has, stands in docs/costs.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from llama_index_instrumentation.dispatcher import active_instrument_tags

from llama_index_hybridmem.costs.tracking.answer_streams import AnswerStreams
from llama_index_hybridmem.costs.tracking.model_calls import Later, ModelCalls, status_of
from llama_index_hybridmem.costs.tracking.open_queries import OpenQueries
from llama_index_hybridmem.costs.tracking.roles import JOBS, Role, role_of, role_of_jobs, span_name
from llama_index_hybridmem.costs.tracking.running import Call, Running, Span
from llama_index_hybridmem.events import AbstainEvent, BranchEndEvent, FusionEndEvent, RouteSelectedEvent

_ANSWERING = ("query", "chat", "agent", "workflow")

MANY = 1000
"""Spans of one query after which those that have ended are forgotten, as of an ingest: nothing comes late there."""


class Tracker:
    """Notes what happens to the queries that run, and hands on those that are over.

    Args:
        finish: takes a query that is over; must not block, and may be called from any thread.
        later: see `ModelCalls`.
        settle: see `ModelCalls`.
        ready: is called when a query begins, before anything can be handed on.
        max_open: queries kept open at most; the oldest is then finished as it stands (`forced` counts them).
        clock: Unix seconds.

    Attributes:
        notes: what to ask when a query begins, on the thread that asks; kept for the exporters.
        on_event: class of event to who takes it.
    """

    def __init__(
        self,
        finish: Callable[[Running], None],
        later: Later,
        settle: Callable[[Call], None],
        *,
        ready: Callable[[], None],
        max_open: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._finish = finish
        self.queries = OpenQueries(self._over)
        self._calls = ModelCalls(self.queries, later, settle)
        self._answers = AnswerStreams(self.queries, later)
        self._ready, self._max_open, self._clock = ready, max_open, clock
        self._roles: dict[str, Role] = {}
        self.forced = 0
        self.notes: tuple[Callable[[], Any], ...] = ()
        self.on_event: dict[type, Callable[[Any], None]] = {
            **self._calls.on_event,
            RouteSelectedEvent: self._routed,
            BranchEndEvent: self._branch_ended,
            FusionEndEvent: self._fused,
            AbstainEvent: self._abstained,
        }

    def enter(self, id_: str, arguments: Any, instance: object, parent_id: str | None, tags: Any) -> None:
        """A span began."""
        spans = self.queries.spans
        if id_ in spans:
            return
        role = self._roles.get(id_[:-37]) or self._learned(id_, instance)
        above = spans.get(parent_id) if parent_id else None
        if above is None:
            self._begin(id_, role, instance, arguments, tags)
            return
        above.query.ids.add(id_)
        if above.query.is_block and tags:
            above.query.tags = {**above.query.tags, **tags}
        if role.plain:
            inside = role.stage is None or role.stage == above.stage or (above.in_store and role.kind == "retrieve")
        else:
            inside = role.fans_out and (above.in_store or above.instance == id(instance))
        span = above if inside else _own_span(id_, role, above, instance, arguments)
        spans[id_] = span
        if span.query.over:  # closed by another thread, just now
            spans.pop(id_, None)

    def leave(self, id_: str, result: Any, error: BaseException | None = None, arguments: Any = None) -> None:
        """A span ended."""
        span = self.queries.spans.get(id_)
        if span is None:
            return
        query = span.query
        if error is not None and query.embedding:
            self._calls.embedding_failed(query, id_)
        if span.id == id_:
            self._left(span, result, error, arguments)
        elif query.is_block and error is None:
            self._answered_within(query, id_, result)
        if len(query.ids) > MANY and not span.root:
            query.ids.discard(id_)
            self.queries.spans.pop(id_, None)

    def block(self, id_: str, name: str, parent_id: str | None) -> None:
        """A block of the app's own began; inside of a query it is a part of that."""
        above = self.queries.spans.get(parent_id) if parent_id else None
        if above is None:
            query = self._begin(id_, Role(name, "query", None, False, False, False, False), None, None, None)
            query.is_block = True
        else:
            above.query.ids.add(id_)
            self.queries.spans[id_] = above

    def _answered_within(self, query: Running, id_: str, result: Any) -> None:
        """An engine inside a block answered: the last answer is the block's."""
        role = self._roles.get(id_[:-37])
        if role is not None and role.kind in _ANSWERING and not role.name.rpartition(".")[2].startswith("_"):
            self._answers.answered(query, result)

    def adopt(self, id_: str | None) -> None:
        """Take a span for the beginning of a query whose real beginning was not seen."""
        if id_ is not None and id_ not in self.queries.spans:
            role = Role(span_name(id_), "query", None, False, False, False, True)
            self._begin(id_, role, None, None, None)

    def stop(self) -> None:
        """Finish every open query as it stands."""
        for query in list(self.queries.open.values()):
            self._force(query)

    def _over(self, query: Running) -> None:
        """Hand a query on, without the embeddings whose end was never told."""
        for id_ in tuple(query.embedding):
            self._calls.embedding_failed(query, id_)
        self._finish(query)

    def _learned(self, id_: str, instance: object) -> Role:
        role = role_of(span_name(id_), instance)
        return self._roles.setdefault(role.name, role)

    def _begin(self, id_: str, role: Role, instance: object, arguments: Any, tags: Any) -> Running:
        self._ready()
        asked = first_argument(arguments)
        if role.name == JOBS:
            role, asked = role_of_jobs(role, asked), None
        query = Running(id_[-36:], role, self._clock(), tags or active_instrument_tags.get(), asked)
        if self.notes:
            query.notes = tuple([note() for note in self.notes])
        span = Span(id_, query, role, None, instance)
        span.argument = id(asked)
        self.queries.begin(query, span)
        if len(self.queries.open) > self._max_open:
            self._make_room()
        return query

    def _make_room(self) -> None:
        try:
            oldest = next(iter(self.queries.open.values()))
        except RuntimeError:  # another thread begins or ends a query just now: the next one makes room
            return
        self.forced += 1
        self._force(oldest)

    def _force(self, query: Running) -> None:
        """Finish a query as it stands."""
        if query.streams or not query.root_done:
            query.failed("never_consumed" if query.streams and query.first is None else "abandoned", None)
        for call in query.calls:
            self._calls.unread(call)
        query.ended = time.perf_counter()
        self.queries.close(query)

    def _left(self, span: Span, result: Any, error: BaseException | None, arguments: Any) -> None:
        query, role = span.query, span.role
        cpu_s = self._timed(span)
        if span.call is not None:
            self._calls.left(span.call, result, error)
        if role.stage == "route" and query.route is None and result is not None:
            query.route, query.route_source = _selected(result, arguments), "selector"
        if role.writes_chat:
            self._answers.written(query, span.object, error)
        if span.root:
            query.cpu_s = None if cpu_s is None else cpu_s + query.cpu_elsewhere_s
            self._root_left(query, result, error)

    def _timed(self, span: Span) -> float | None:
        """Add a span's time to its stage, without that of the stages inside it; give its CPU."""
        query, above = span.query, span.parent
        wall_s, cpu_s = time.perf_counter() - span.began, span.cpu_s()
        with self.queries.lock:
            if span.stage is not None and span.stage not in query.late:
                own_cpu_s = None if cpu_s is None else max(0.0, cpu_s - span.inner_cpu_s)
                query.spent(span.stage, span.began, max(0.0, wall_s - span.inner_s), own_cpu_s)
                if own_cpu_s is not None and span.thread != query.thread:
                    query.cpu_elsewhere_s += own_cpu_s
            if above is not None:
                above.inner_s += wall_s
                if above.thread == span.thread and cpu_s is not None:
                    above.inner_cpu_s += cpu_s
        return cpu_s

    def _root_left(self, query: Running, result: Any, error: BaseException | None) -> None:
        query.ended = time.perf_counter()
        if error is not None:
            query.failed(status_of(error), error)
        elif not query.is_block:
            self._answers.answered(query, result)
        query.root_done = True
        self.queries.close_if_over(query)

    def _routed(self, event: Any) -> None:
        if (query := self.queries.at(event.span_id)) is not None:
            query.route, query.route_source = event.route, event.source

    def _branch_ended(self, event: Any) -> None:
        """A store's search is over; its span has told of its time, unless nobody waited for it."""
        span = self.queries.spans.get(event.span_id)
        if span is not None and not span.in_store and event.status == "late":
            with self.queries.lock:
                span.query.late = (*span.query.late, event.store)
                span.query.spent(event.store, span.began + event.started_s, event.latency_s, None)

    def _fused(self, event: Any) -> None:
        span = self.queries.spans.get(event.span_id)
        if span is not None and not span.in_store:
            with self.queries.lock:
                span.query.spent("fuse", time.perf_counter() - event.latency_s, event.latency_s, None)
                span.query.degraded = (*span.query.degraded, *event.degraded)

    def _abstained(self, event: Any) -> None:
        if (query := self.queries.at(event.span_id)) is not None:
            query.answer = "abstained"


def _own_span(id_: str, role: Role, above: Span, instance: object, arguments: Any) -> Span:
    span = Span(id_, above.query, role, above, instance)
    if above.role.fans_out and role.kind == "retrieve":
        span.in_store = True
        span.stage = _store_name(above.object, instance) or role.stage
    if role.calls_model:
        span.argument = id(first_argument(arguments))
    return span


def _store_name(hybrid: Any, retriever: object) -> str | None:
    """What a `HybridRetriever` calls the store that a retriever of its searches."""
    return next((store.name for store in hybrid.stores if store.retriever is retriever), None)


def first_argument(arguments: Any) -> Any:
    """A span's first argument; a decorated method has them as ``*args`` and ``**kwargs``."""
    first = None if arguments is None else next(iter(arguments.arguments.values()), None)
    if isinstance(first, tuple):
        return first[0] if first else None
    return next(iter(first.values()), None) if isinstance(first, dict) else first


def _selected(result: Any, arguments: Any) -> str | None:
    """What a LlamaIndex selector chose: the tools' names, or their numbers where they have none of their own."""
    places = [each.index for each in getattr(result, "selections", ())]
    choices: Iterable[Any] = () if arguments is None else arguments.arguments.get("choices", ())
    names = [getattr(choice, "name", None) for choice in choices]
    told = len(set(names)) == len(names) and all(names)
    return "+".join(str(names[place]) if told else f"choice {place + 1}" for place in places) or None
