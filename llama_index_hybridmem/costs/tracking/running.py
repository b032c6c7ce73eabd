"""A query while it runs: its spans, model calls and stages, as raw as they come; knows no LlamaIndex and no prices."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from llama_index_hybridmem.costs.trace import Status
from llama_index_hybridmem.costs.tracking.meter import Meter
from llama_index_hybridmem.costs.tracking.roles import Role


class Running:
    """One query, from its outermost span to the end of its answer.

    Attributes:
        id: of the trace to be.
        role: of the outermost span.
        started: Unix seconds.
        began: seconds of `time.perf_counter`, as all times here.
        tags: LlamaIndex's instrumentation tags when it began.
        asked: the first argument of the outermost call.
        notes: what the exporters noted when it began.
        ids: spans that lead here.
        stages: name to [first start, wall, CPU or None, count].
        calls: of language models and rerankers, in the order of their start; those that only wrap another, too.
        reading: those whose stream is not at its end.
        is_block: whether it is a block of the app's own, in which engines answer.
        embeddings: (class, model) to the sum of its calls.
        embedding: embedding calls under way, by span: when, which model, the meter's start.
        open_calls: calls that have not ended.
        streams: streams that somebody may still read.
        root_done: whether the outermost call has returned.
        over: whether the trace is made, or being made.
        ended: the last thing that ended.
        outcome: what the outermost call returned that matters here: text, sources, metadata.
        cpu_elsewhere_s: seconds of CPU of its stages on other threads than the one that asked.
        late: stores whose search nobody waited for.
        thread: the one that asked.
        chat: who waits for a chat's stream to be written down, if anybody.
        written: whether it was.
        spent_by_budget: a budget with a limit for queries, and this query's account there.
    """

    __slots__ = (
        "answer", "asked", "began", "calls", "chat", "cpu_elsewhere_s", "cpu_s", "degraded", "embedding", "embeddings",
        "ended", "error", "first", "id", "ids", "is_block", "late", "notes", "open_calls", "outcome", "over", "reading",
        "role", "root_done", "route", "route_source", "spent_by_budget", "stages", "started", "status", "streams",
        "tags", "thread", "watches", "written",
    )  # fmt: skip

    def __init__(self, id_: str, role: Role, started: float, tags: Mapping[str, Any], asked: Any) -> None:
        self.id, self.role, self.started = id_, role, started
        self.tags, self.asked = tags, asked
        self.began = self.ended = time.perf_counter()
        self.ids: set[str] = set()
        self.stages: dict[str, list[Any]] = {}
        self.calls: list[Call] = []
        self.reading: list[Call] = []
        self.embeddings: dict[tuple[str, str], Embedded] = {}
        self.embedding: dict[str, list[tuple[float, tuple[str, str], float]]] = {}
        self.open_calls = self.streams = 0
        self.root_done = self.over = self.is_block = False
        self.status: Status = "ok"
        self.error: BaseException | None = None
        self.cpu_s: float | None = None
        self.cpu_elsewhere_s = 0.0
        self.late: tuple[str, ...] = ()
        self.thread = threading.get_ident()
        self.first: float | None = None
        self.route: str | None = None
        self.route_source: str | None = None
        self.answer: str | None = None
        self.degraded: tuple[str, ...] = ()
        self.outcome = Outcome()
        self.notes: tuple[Any, ...] = ()
        self.watches: list[Any] = []
        self.chat: Any = None
        self.written = False
        self.spent_by_budget: dict[Any, Any] = {}

    def spent(self, stage: str, began: float, wall_s: float, cpu_s: float | None) -> None:
        """Add to a stage."""
        known = self.stages.get(stage)
        if known is None:
            self.stages[stage] = [began, wall_s, cpu_s, 1]
            return
        known[0] = min(known[0], began)
        known[1] += wall_s
        known[2] = None if known[2] is None or cpu_s is None else known[2] + cpu_s
        known[3] += 1

    def failed(self, status: Status, error: BaseException | None) -> None:
        """Note how it ended, if that was not well; the first reason counts."""
        if self.status == "ok":
            self.status = status
            self.error = None if status in ("abandoned", "never_consumed") else error


class Outcome:
    """What a query gave, without the response itself: that would keep an unread stream alive."""

    __slots__ = ("metadata", "source_nodes", "text")

    def __init__(self, text: str | None = None, source_nodes: Any = (), metadata: Any = None) -> None:
        self.text, self.source_nodes, self.metadata = text, source_nodes, metadata


class Embedded:
    """The embedding calls of one model within one query, summed."""

    __slots__ = ("began", "busy_s", "bytes", "count", "wall_s")

    def __init__(self, began: float) -> None:
        self.began = began
        self.wall_s = self.busy_s = 0.0
        self.bytes = self.count = 0


class Call:
    """One call of a language model or reranker, real or wrapping another one.

    Attributes:
        query: whose it is.
        kind: ``llm`` or ``rerank``.
        class_name: of the model, as LlamaIndex serialises it.
        model: the model's name.
        instance: the model.
        prompt: a text or chat messages.
        options: keyword arguments of the call.
        outer: the open call that it runs inside of.
        wraps: how many calls ran inside of it; then it is none itself.
        streamed: whether it gave a stream.
        last: the last response.
        said: the text of a stream, as it came.
        usage: token counts, where they were read before the query's end.
        done: whether it has ended.
        error: the type of what was raised.
        on_end: is told when it has.
    """

    __slots__ = (
        "began", "busy_s", "class_name", "done", "ended", "error", "first", "instance", "kind", "last", "lazy",
        "meter", "metered", "model", "on_end", "options", "outer", "prompt", "query", "said", "status", "streamed",
        "usage", "watch", "wraps",
    )  # fmt: skip

    def __init__(
        self, query: Running, kind: str, class_name: str, model: str | None, instance: Any, prompt: Any
    ) -> None:
        self.query, self.kind, self.class_name, self.model = query, kind, class_name, model
        self.instance, self.prompt = instance, prompt
        self.began = self.ended = time.perf_counter()
        self.first: float | None = None
        self.last: Any = None
        self.said: list[str] = []
        self.usage: Any = None
        self.options: Mapping[str, Any] = {}
        self.streamed = self.done = False
        self.status: Status = "ok"
        self.error: str | None = None
        self.outer: Call | None = None
        self.wraps = 0
        self.busy_s = 0.0
        self.meter: Meter | None = None
        self.metered = 0.0
        self.lazy: tuple[int, str, int] | None = None
        self.on_end: Callable[[Call], None] | None = None
        self.watch: Any = None


class Span:
    """A span that is a stage or a model call; the ids of all other spans lead to the one around them.

    Attributes:
        id: LlamaIndex's.
        query: whose it is.
        role: what it is.
        parent: the span around it.
        call: the model call that it is.
        outer: the nearest call around it.
        stage: whose time it is; None where it is no stage.
        in_store: whether it is the search of one of several stores, or inside of it.
        root: whether the query begins with it.
        instance: the identity of the object.
        object: the object, where it is a model, a chat's stream or a retriever over stores.
        argument: the identity of the first argument.
        inner_s: seconds of the stages and calls inside it.
    """

    __slots__ = (
        "argument", "began", "call", "cpu", "id", "in_store", "inner_cpu_s", "inner_s", "instance", "object", "outer",
        "parent", "query", "role", "root", "stage", "thread",
    )  # fmt: skip

    def __init__(self, id_: str, query: Running, role: Role, parent: Span | None, instance: object) -> None:
        self.id, self.query, self.role, self.parent = id_, query, role, parent
        self.call: Call | None = None
        self.outer: Call | None = None if parent is None else parent.call or parent.outer
        self.stage = role.stage
        self.in_store: bool = parent is not None and parent.in_store
        self.instance = id(instance)
        self.object: Any = None if role.plain else instance
        self.root = parent is None
        self.argument = 0
        self.inner_s = self.inner_cpu_s = 0.0
        self.thread = threading.get_ident()
        self.cpu = time.thread_time()
        self.began = time.perf_counter()

    def cpu_s(self) -> float | None:
        """Seconds of CPU of its thread so far; None where they may be others'."""
        if self.role.on_loop or threading.get_ident() != self.thread:
            return None
        return time.thread_time() - self.cpu
