"""One thread per model that answers requests in mixed batches; knows token ids and adapters, no text and no LlamaIndex.

A model is not safe to share between threads, and adapters less so: unlocked, concurrent answers come from another
tenant's weights. So one thread owns it, requests queue up, and every row of a batch sees its own adapter. Rows join and
leave between two steps. When a step fails, its rows go on one by one, and only the one that fails alone is given up.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from llama_index_hybridmem.bells import Bell
from llama_index_hybridmem.errors import ConfigurationError, EngineBusyError, EngineClosedError, GenerationError
from llama_index_hybridmem.llms.serving.decoding import failed
from llama_index_hybridmem.llms.serving.options import EngineOptions
from llama_index_hybridmem.llms.serving.request import Request
from llama_index_hybridmem.llms.serving.residents import Residents
from llama_index_hybridmem.llms.serving.running import Running
from llama_index_hybridmem.llms.serving.waiting import WaitingLine

logger = logging.getLogger(__name__)

T = TypeVar("T")
_IDLE_S = 5.0  # then the thread ends, so that a model nobody uses can be freed; the next request starts another


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


_OPEN: weakref.WeakSet[Engine] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Before the interpreter goes: a daemon thread that it ends in the midst of torch aborts the whole process."""
    for engine in list(_OPEN):
        engine.close()


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
        self.options = options or EngineOptions()
        self.model = model
        self.tokenizer = tokenizer
        self._running = Running(model, tokenizer, self.options, names)
        self._line = WaitingLine(self.options.queue_size)
        self._tasks: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        weakref.finalize(self, self._running.residents.close)
        _OPEN.add(self)

    @property
    def residents(self) -> Residents:
        """The adapters in the slots; to be touched in a `call` only."""
        return self._running.residents

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
        with self._changed:
            self._check_open()
            self._line.add(request, bell)
            self._wake()
        try:
            while self._is_outside(request) and (left := deadline - time.monotonic()) > 0:
                await bell.wait(left)
        finally:
            with self._changed:
                turned_away = self._line.leave(request)
        if turned_away:
            raise EngineBusyError(self.options.queue_size, self.options.queue_timeout_s)

    def cancel(self, request: Request) -> None:
        """Stop a request, waiting or running; one that ended is fine."""
        request.ticket.cancel()
        with self._changed:
            self._line.remove(request)

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
            waiting=len(self._line),
            running=len(self._running),
            peak_waiting=self._line.peak,
            leases=sum(resident.leases for resident in loaded),
            loaded=tuple(resident.name for resident in loaded),
            steps=self._running.steps,
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
        known = self._running.vocabulary
        if not (min(request.prompt) >= 0 and max(request.prompt) < known):
            raise GenerationError(
                f"the prompt has token {max(request.prompt)}, the model {known} of them: the tokenizer is another "
                "model's, or the model was not resized with it"
            )

    def _is_outside(self, request: Request) -> bool:
        with self._changed:
            return self._line.is_outside(request)

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
                    self._running.advance()
                except BaseException as error:  # noqa: BLE001 - a thread's boundary: nobody may wait for ever
                    logger.exception("the engine failed outside of any request")
                    self._running.fail(error)
        if self._thread is threading.current_thread():  # closed; who only ran out of work has signed off
            self._shut()

    def _awake(self) -> bool:
        with self._changed:
            idle = not (len(self._line) or self._tasks or len(self._running))
            if idle and not self._closed:
                self._changed.wait(_IDLE_S)
                if not (len(self._line) or self._tasks or self._closed):
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
        if self._running.isolating or not len(self._line):
            return
        if not len(self._running):
            self._wait_for_company()
        with self._changed:
            waiting = self._line.first(self.options.max_batch)
            taken = self._line.take(self._running.room_for(waiting))
        left: list[Request] = []
        try:
            left = self._running.start(taken)
        except BaseException as error:
            for request in taken:
                request.ticket.fail(failed(error))
            raise
        finally:
            with self._changed:
                self._line.put_back(left)

    def _wait_for_company(self) -> None:
        deadline = time.monotonic() + self.options.batch_wait_s
        with self._changed:
            while len(self._line) < self.options.max_batch and not self._closed:
                if (left := deadline - time.monotonic()) <= 0:
                    return
                self._changed.wait(left)

    def _shut(self) -> None:
        """Nothing runs any more: everybody who waits is told, the model gets its hooks off."""
        closed = EngineClosedError("the engine of this model was closed")
        with self._changed:
            requests, tasks = [*self._running.stop(), *self._line.empty()], list(self._tasks)
            self._tasks.clear()
            self._thread = None
        for request in requests:
            request.ticket.fail(closed)
        for _, future in tasks:
            if future.set_running_or_notify_cancel():
                future.set_exception(closed)


_ENGINES: weakref.WeakValueDictionary[int, Engine] = weakref.WeakValueDictionary()
_MAKING = threading.Lock()


def engine_of(model: Any, tokenizer: Any, wanted: Mapping[str, Any] | None = None, names: Sequence[str] = ()) -> Engine:
    """The one engine of a model, made by who asks first; it lives as long as somebody holds it.

    Args:
        model: see `Engine`.
        tokenizer: see `Engine`.
        wanted: fields of `EngineOptions` that differ from the defaults.
        names: see `Engine`; they are added to those it knows.

    Raises:
        ConfigurationError: there is one already, with other options.
    """
    with _MAKING:
        engine = _ENGINES.get(id(model))  # the engine holds the model, so the id is this model's while it lives
        if engine is None or engine.closed:
            engine = _ENGINES[id(model)] = Engine(model, tokenizer, EngineOptions(**(wanted or {})), names)
        engine.residents.also_called(names)
        for name, value in (wanted or {}).items():
            if (own := getattr(engine.options, name)) != value:
                raise ConfigurationError(f"this model is served already, with {name}={own}; asked for {value}")
        return engine
