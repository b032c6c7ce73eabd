"""One thread per model that answers requests in mixed batches; knows token ids and adapters, no text and no LlamaIndex.

A model is not safe to share between threads, and adapters less so: unlocked, most concurrent answers came from another
tenant's weights. So one thread owns it, requests queue up, and every row of a batch sees its own adapter. Rows join and
leave between two steps. When a step fails, its rows go on one by one, and only the one that fails alone is given up.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from llama_index_hybridmem.bells import Bell
from llama_index_hybridmem.errors import (
    AdapterRefusedError,
    ConfigurationError,
    EngineBusyError,
    EngineClosedError,
    GenerationError,
    told,
)
from llama_index_hybridmem.llms.batching import Limits, Seat, alike, joining
from llama_index_hybridmem.llms.decoding import Batch, Forward, Row, failed
from llama_index_hybridmem.llms.prefixes import Layers, PrefixStore, common
from llama_index_hybridmem.llms.request import Request
from llama_index_hybridmem.llms.residents import Resident, Residents
from llama_index_hybridmem.llms.sampling import Sampler
from llama_index_hybridmem.llms.slots import BASE
from llama_index_hybridmem.llms.transcript import Transcript

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

T = TypeVar("T")
_IDLE_S = (
    5.0  # then the thread ends, so that a model nobody uses any more can be freed; the next request starts another
)


@dataclass(frozen=True)
class EngineOptions:
    """How one model is shared.

    Attributes:
        slots: adapters that lie in memory at the same time.
        max_batch: rows computed together.
        batch_tokens: rows times the longest prompt and answer, at most; bounds the memory of keys and values.
        batch_wait_s: seconds that an idle engine waits for company before it starts.
        queue_size: requests that wait, at most; further callers wait outside.
        queue_timeout_s: seconds that a caller waits for room in the queue.
        prefix_tokens: tokens whose keys and values are kept for prompts that begin alike; 0 for none.
    """

    slots: int = 8
    max_batch: int = 8
    batch_tokens: int = 16_384
    batch_wait_s: float = 0.004
    queue_size: int = 256
    queue_timeout_s: float = 60.0
    prefix_tokens: int = 4_096

    def __post_init__(self) -> None:
        for setting in fields(self):
            value, least = getattr(self, setting.name), int(setting.name in ("slots", "max_batch", "queue_size"))
            if value < least:
                raise ConfigurationError(f"{setting.name}={value}; it is at least {least}")

    @property
    def limits(self) -> Limits:
        """What a batch may hold."""
        return Limits(self.max_batch, self.batch_tokens, self.slots)


@dataclass(frozen=True)
class EngineStats:
    """What an engine is doing, and did.

    Attributes:
        waiting: requests in the queue.
        running: rows in the batch.
        peak_waiting: the longest the queue ever was.
        leases: rows that use an adapter now.
        loaded: names of the adapters in memory.
        steps: times the model was called.
        adapter_bytes: memory of all slots.
    """

    waiting: int
    running: int
    peak_waiting: int
    leases: int
    loaded: tuple[str, ...]
    steps: int
    adapter_bytes: int


class _NoSlotError(Exception):
    """Every slot is leased: wait until a row ends."""


class Engine:
    """Answers requests with one model, from any number of threads and event loops.

    Args:
        model: a causal language model of transformers, in eval mode; gets forward hooks, which `close` takes away.
        tokenizer: its tokenizer.
        options: see there.
        names: further names of the base that an adapter's config may give.

    Raises:
        ConfigurationError: the model is in training mode (dropout would change answers), or is no plain base model.
    """

    def __init__(
        self, model: Any, tokenizer: Any, options: EngineOptions | None = None, names: Sequence[str] = ()
    ) -> None:
        _check_model(model)
        self.options = options or EngineOptions()
        self.model = model
        self.tokenizer = tokenizer
        self.residents = Residents(model, tokenizer, self.options.slots, names, _full_logits(model))
        self._forward = Forward(model)
        self._reusable = self._forward.reusable
        self._prefixes = PrefixStore(self.options.prefix_tokens if self._reusable else 0)
        self._ends = _end_ids(model, tokenizer)
        self._vocabulary = int(model.get_input_embeddings().weight.shape[0])
        self._batch = self._new_batch()
        self._leased: dict[int, Resident] = {}  # by id of the row
        self._alone: deque[Row] = deque()  # rows of a failed batch: they go on one by one
        self._queue: deque[Request] = deque()
        self._outside: dict[Request, Bell] = {}  # callers that wait for room in the queue, in their order
        self._tasks: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._peak = self._steps = 0
        weakref.finalize(self, self.residents.close)

    async def admit(self, request: Request, bell: Bell) -> None:
        """Put a request into the queue, waiting for room; its ticket tells the rest.

        Raises:
            EngineBusyError: there was no room in time.
            EngineClosedError: the engine is closed.
            GenerationError: the prompt is empty, or has ids that the model does not know.
        """
        self._check_ids(request)
        request.ticket.listen(bell)
        deadline = time.monotonic() + self.options.queue_timeout_s
        self._enqueue(request, bell)
        try:
            while self._is_outside(request) and (left := deadline - time.monotonic()) > 0:
                await bell.wait(left)
        finally:
            with self._changed:
                turned_away = self._outside.pop(request, None) is not None
        if turned_away:
            raise EngineBusyError(self.options.queue_size, self.options.queue_timeout_s)

    def cancel(self, request: Request) -> None:
        """Stop a request, waiting or running; one that ended is fine."""
        request.ticket.cancel()
        with self._changed:
            self._outside.pop(request, None)
            if request in self._queue:
                self._queue.remove(request)
                self._call_in()

    def call(self, task: Callable[[], T]) -> Future[T]:
        """Run something between two steps, on the thread that owns the model.

        Raises:
            EngineClosedError: the engine is closed.
        """
        future: Future[T] = Future()
        with self._changed:
            self._check_open()
            self._tasks.append((task, future))
            self._wake()
        return future

    def stats(self) -> EngineStats:
        """What the engine is doing."""
        loaded = self.residents.loaded()
        return EngineStats(
            waiting=len(self._queue),
            running=len(self._batch.rows) + len(self._alone),
            peak_waiting=self._peak,
            leases=sum(resident.leases for resident in loaded),
            loaded=tuple(resident.name for resident in loaded),
            steps=self._steps,
            adapter_bytes=self.residents.pool.nbytes(),
        )

    def close(self) -> None:
        """Stop; what waits or runs ends with `EngineClosedError`, and the model is as it was before. Twice is fine."""
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._shut()

    @property
    def closed(self) -> bool:
        """Whether it was closed; `engine_of` makes another one."""
        return self._closed

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosedError("the engine of this model was closed")

    def _check_ids(self, request: Request) -> None:
        """Before the model sees them: an empty row would answer at random, an unknown id would stop a GPU for good."""
        if not request.prompt:
            raise GenerationError("the prompt has no tokens")
        if not (min(request.prompt) >= 0 and max(request.prompt) < self._vocabulary):
            raise GenerationError(
                f"the prompt has token {max(request.prompt)}, the model {self._vocabulary} of them: the tokenizer is "
                "another model's, or the model was not resized with it"
            )

    def _enqueue(self, request: Request, bell: Bell) -> None:
        with self._changed:
            self._check_open()
            self._outside[request] = bell
            self._call_in()
            self._wake()

    def _is_outside(self, request: Request) -> bool:
        with self._changed:
            return request in self._outside

    def _call_in(self) -> None:
        """Under the lock: who waits outside longest comes into the queue, as far as there is room."""
        while self._outside and len(self._queue) < self.options.queue_size:
            request = next(iter(self._outside))
            bell = self._outside.pop(request)
            self._queue.append(request)
            bell.ring()
        self._peak = max(self._peak, len(self._queue))

    def _wake(self) -> None:
        """Under the lock: the thread runs, and looks."""
        if self._thread is None or not self._thread.is_alive():  # ended, or lost in a fork
            self._thread = threading.Thread(target=self._work, name="hybridmem-engine", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    # What follows runs on the engine's thread.

    def _work(self) -> None:
        import torch

        with torch.inference_mode():
            while self._awake():
                try:
                    self._run_tasks()
                    self._admit_waiting()
                    self._advance()
                except BaseException as error:  # noqa: BLE001 - a thread's boundary: nobody may wait for ever
                    logger.exception("the engine failed outside of any request")
                    self._fail_running(error)
        if self._thread is threading.current_thread():  # closed; who only ran out of work has signed off
            self._shut()

    def _awake(self) -> bool:
        with self._changed:
            idle = not (self._queue or self._tasks or self._batch.rows or self._alone)
            if idle and not self._closed:
                self._changed.wait(_IDLE_S)
                if not (self._queue or self._tasks or self._closed):
                    self._thread = None
                    return False
            return not self._closed

    def _run_tasks(self) -> None:
        while self._tasks:
            task, future = self._tasks.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(task())
            except BaseException as error:  # noqa: BLE001 - it is the caller's
                future.set_exception(error)

    def _admit_waiting(self) -> None:
        if self._alone or not self._queue:
            return
        if not self._batch.rows:
            self._wait_for_company()
        rows = self._leasing(self._next_requests())
        together = alike([len(row.ids) for row in rows]) if self._reusable else [list(range(len(rows)))] * bool(rows)
        for group in together:  # what cannot be joined later begins together
            self._start([rows[place] for place in group])

    def _wait_for_company(self) -> None:
        deadline = time.monotonic() + self.options.batch_wait_s
        with self._changed:
            while len(self._queue) < self.options.max_batch and not self._closed:
                if (left := deadline - time.monotonic()) <= 0:
                    return
                self._changed.wait(left)

    def _next_requests(self) -> list[Request]:
        """Take from the queue what joins the batch, and let as many callers in."""
        with self._changed:
            self._queue = deque(request for request in self._queue if not request.ticket.done)
            running = [_seat(row.request) for row in self._batch.rows]
            free = self._reusable or not running
            seats = [_seat(request) for request in list(self._queue)[: self.options.max_batch]]
            count = joining(seats, running, self.options.limits) if free else 0
            return [self._queue.popleft() for _ in range(count)]

    def _leasing(self, requests: Sequence[Request]) -> list[Row]:
        """Rows with their adapters held; who finds every slot leased waits in front, and nobody behind overtakes."""
        rows = []
        for place, request in enumerate(requests):
            try:
                row = self._row(request)
            except _NoSlotError:
                with self._changed:
                    self._queue.extendleft(reversed(requests[place:]))
                break
            if row is not None:
                rows.append(row)
        with self._changed:
            self._call_in()
        return rows

    def _row(self, request: Request) -> Row | None:
        """Lease the adapter; None when the request ended here."""
        resident, fallback = None, request.fallback
        if request.adapter is not None:
            try:
                resident = self.residents.lease(request.adapter)
            except AdapterRefusedError as error:
                if request.on_refused != "base":
                    request.ticket.fail(error)
                    return None
                fallback = told(error)
            except Exception as error:  # noqa: BLE001 - whatever a file holds, only its request fails
                request.ticket.fail(failed(error))
                return None
            if resident is None and fallback is None:
                if self._leased:
                    raise _NoSlotError
                request.ticket.fail(self._all_pinned())
                return None
        options = request.options
        transcript = Transcript(self._decoded, options.stop)
        slot = BASE if resident is None else resident.slot
        row = Row(request, slot, Sampler(options, request.prompt), transcript, fallback=fallback)
        if resident is not None:
            self._leased[id(row)] = resident
        return row

    def _all_pinned(self) -> GenerationError:
        pinned = ", ".join(one.name for one in self.residents.loaded() if one.pinned)
        return GenerationError(f"every adapter slot is pinned ({pinned}): unpin one, or raise slots")

    def _start(self, rows: list[Row]) -> None:
        """Compute the prompts of rows of about one length and join them to the batch."""
        fresh = self._new_batch()
        try:
            prefix = self._shared_prefix(rows)
            with self.residents.pool.applied([row.slot for row in rows]):
                self._steps += 1
                done = fresh.fill(rows, prefix)
            self._end(fresh, done)
            if fresh.rows:
                self._batch.join(fresh)
        except BaseException as error:  # noqa: BLE001 - whatever the model raises
            self._isolate(rows, error)

    def _shared_prefix(self, rows: Sequence[Row]) -> Layers:
        """Keys and values that all rows begin with: known ones, or worth computing once for several rows."""
        if not self._reusable or any(row.weights != rows[0].weights for row in rows):
            return []
        prompts = [row.ids for row in rows]
        shared = min(common(prompts[0], prompt) for prompt in prompts)
        wanted = prompts[0][: shared + 1] if len(rows) > 1 else prompts[0]
        wanted = wanted[: min(map(len, prompts))]  # at least one id of every prompt is left to compute
        known, layers = self._prefixes.find(rows[0].weights, wanted)
        if len(rows) > 1 and len(wanted) - 1 > known and len(wanted) > 2 * self._prefixes.shortest:
            known, layers = len(wanted) - 1, self._compute(rows[0], wanted[:-1], layers)
            self._prefixes.keep(rows[0].weights, wanted[:-1], layers)
        for row in rows:
            row.reused = min(known, len(row.request.prompt))
        return layers

    def _compute(self, row: Row, ids: list[int], known: Layers) -> Layers:
        """Keys and values of ids, of which some are known."""
        import torch

        cache, device = self._forward.cache_of(known), self._forward.device
        old = known[0][0].shape[2] if known else 0
        mask = torch.ones(1, len(ids), dtype=torch.long, device=device)
        with self.residents.pool.applied([row.slot]):
            self._steps += 1
            self._forward(torch.tensor([ids[old:]], device=device), mask, cache)
        return [(layer.keys, layer.values) for layer in cache.layers]

    def _advance(self) -> None:
        """One step of the batch; without one, of what is left of a failed one."""
        if not self._batch.rows:
            if self._alone:
                self._start([self._alone.popleft()])
            return
        rows = list(self._batch.rows)
        try:
            with self.residents.pool.applied([row.slot for row in rows]):
                self._steps += 1
                done = self._batch.step()
            self._end(self._batch, done)
        except BaseException as error:  # noqa: BLE001 - whatever the model raises
            self._batch = self._new_batch()
            self._isolate(rows, error)

    def _end(self, batch: Batch, done: Sequence[Row]) -> None:
        """Let finished rows go; what a lone one computed serves later prompts."""
        if not done:
            return
        if (left := batch.prefix(done[0])) is not None:
            self._prefixes.keep(done[0].weights, *left)
        for row in done:
            self._release(row)
        batch.drop(done)

    def _release(self, row: Row) -> None:
        if (resident := self._leased.pop(id(row), None)) is not None:
            self.residents.release(resident)

    def _isolate(self, rows: Sequence[Row], error: BaseException) -> None:
        """Give up a lone row; let several go on one by one: only the guilty one will fail again."""
        going = [row for row in rows if not row.request.ticket.done]
        for row in rows:
            if row.request.ticket.done or len(rows) == 1:
                row.request.ticket.fail(failed(error))
                self._release(row)
        if len(rows) > 1:
            logger.warning("a batch of %d failed (%s); its rows go on alone", len(rows), told(error))
            self._alone.extend(going)

    def _fail_running(self, error: BaseException) -> None:
        rows = [*self._batch.rows, *self._alone]
        self._batch = self._new_batch()
        self._alone.clear()
        for row in rows:
            row.request.ticket.fail(failed(error))
            self._release(row)

    def _shut(self) -> None:
        """Nothing runs any more: everybody who waits is told, the model gets its hooks off."""
        closed = EngineClosedError("the engine of this model was closed")
        with self._changed:
            running = [row.request for row in (*self._batch.rows, *self._alone)]
            requests, tasks = [*running, *self._queue, *self._outside], list(self._tasks)
            for own in (self._queue, self._alone, self._tasks, self._outside):
                own.clear()
            self._batch, self._thread = self._new_batch(), None
        for request in requests:
            request.ticket.fail(closed)
        for _, future in tasks:
            if future.set_running_or_notify_cancel():
                future.set_exception(closed)
        self._leased.clear()
        self._prefixes.clear()
        self.residents.close()

    def _new_batch(self) -> Batch:
        return Batch(self._forward, self._ends, min(self._ends, default=0))

    def _decoded(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text


_ENGINES: weakref.WeakValueDictionary[int, Engine] = weakref.WeakValueDictionary()
_MAKING = threading.Lock()


def engine_of(model: Any, tokenizer: Any, wanted: Mapping[str, Any] | None = None, names: Sequence[str] = ()) -> Engine:
    """The one engine of a model, made by who asks first; it lives as long as somebody holds it.

    Args:
        model: see `Engine`.
        tokenizer: see `Engine`.
        wanted: fields of `EngineOptions` that differ from the defaults.
        names: see `Engine`; they count when the engine is made.

    Raises:
        ConfigurationError: there is one already, with other options.
    """
    with _MAKING:
        engine = _ENGINES.get(id(model))  # the engine holds the model, so the id is this model's while it lives
        if engine is None or engine.closed:
            engine = _ENGINES[id(model)] = Engine(model, tokenizer, EngineOptions(**(wanted or {})), names)
        for name, value in (wanted or {}).items():
            if (own := getattr(engine.options, name)) != value:
                raise ConfigurationError(f"this model is served already, with {name}={own}; asked for {value}")
        return engine


def _seat(request: Request) -> Seat:
    return Seat(request.lane, request.weights, request.room)


def _end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Ids that end an answer: a chat model's generation config often names more than its tokenizer does."""
    settings = getattr(model, "generation_config", None)
    named = [getattr(settings, "eos_token_id", None), tokenizer.eos_token_id]
    return frozenset(
        one for each in named if each is not None for one in (each if isinstance(each, list | tuple) else [each])
    )


def _full_logits(model: Any) -> Callable[[list[int]], Tensor]:
    """Logits of all positions; a function that does not hold the engine, which must be able to go."""

    def logits(ids: list[int]) -> Tensor:
        import torch

        device = model.get_input_embeddings().weight.device
        with torch.inference_mode():
            found: Tensor = model(input_ids=torch.tensor([ids], device=device), use_cache=False).logits
        return found

    return logits


def _check_model(model: Any) -> None:
    if getattr(model, "peft_config", None) is not None or type(model).__module__.startswith("peft."):
        raise ConfigurationError(
            "the model carries PEFT adapters already: give the base model (peft_model.unload()), and the adapters as "
            "folders in adapters={…}"
        )
    if getattr(model, "training", False):
        raise ConfigurationError(
            "the model is in training mode, where dropout changes answers: call model.eval() first"
        )
    if not callable(getattr(model, "get_input_embeddings", None)) or not hasattr(model, "config"):
        raise ConfigurationError(f"{type(model).__name__} is no causal language model of transformers")
