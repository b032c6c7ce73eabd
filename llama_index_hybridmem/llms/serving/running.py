"""The requests that run: leased, started, stepped, ended, isolated when a step fails; knows no queue and no threads."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from llama_index_hybridmem.errors import AdapterRefusedError, ConfigurationError, GenerationError, told
from llama_index_hybridmem.llms.serving.batching import Seat, alike, joining
from llama_index_hybridmem.llms.serving.decoding import Batch, Forward, Row, failed
from llama_index_hybridmem.llms.serving.options import EngineOptions
from llama_index_hybridmem.llms.serving.prefixes import Layers, PrefixStore, common
from llama_index_hybridmem.llms.serving.request import Request
from llama_index_hybridmem.llms.serving.residents import Resident, Residents
from llama_index_hybridmem.llms.serving.sampling import Sampler
from llama_index_hybridmem.llms.serving.slots import BASE
from llama_index_hybridmem.llms.serving.transcript import Transcript

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)


class _NoSlotError(Exception):
    """Every slot is leased: wait until a row ends."""


class Running:
    """The batch of one model. Not thread-safe: the engine's thread owns it, and `stats` may look.

    Args:
        model: a causal language model of transformers, in eval mode; gets forward hooks, which `close` takes away.
        tokenizer: its tokenizer.
        options: of the engine.
        names: further names of the base that an adapter's config may give.

    Attributes:
        residents: the adapters in the slots.
        vocabulary: ids that the model knows.
        steps: times the model was called.

    Raises:
        ConfigurationError: the model is in training mode (dropout would change answers), or is no plain base model.
    """

    def __init__(self, model: Any, tokenizer: Any, options: EngineOptions, names: Sequence[str] = ()) -> None:
        _check_model(model)
        self.residents = self._residents = Residents(model, tokenizer, options.slots, names, _full_logits(model))
        self.vocabulary = int(model.get_input_embeddings().weight.shape[0])
        self.steps = 0
        self._tokenizer = tokenizer
        self._options = options
        self._forward = Forward(model)
        self._prefixes = PrefixStore(options.prefix_tokens if self._forward.reusable else 0)
        self._ends = end_ids(model, tokenizer)
        self._batch = self._empty()
        self._leased: dict[int, Resident] = {}  # by id of the row
        self._alone: deque[Row] = deque()  # rows of a failed batch: they go on one by one

    def __len__(self) -> int:
        return len(self._batch.rows) + len(self._alone)

    @property
    def isolating(self) -> bool:
        """Whether rows of a failed batch still wait for their turn: nobody joins until they have had it."""
        return bool(self._alone)

    def room_for(self, waiting: Sequence[Request]) -> int:
        """How many of the waiting, from the front, join what runs."""
        running = [_seat(row.request) for row in self._batch.rows]
        if running and not self._forward.reusable:
            return 0
        return joining([_seat(request) for request in waiting], running, self._options.limits)

    def start(self, requests: Sequence[Request]) -> list[Request]:
        """Begin requests that `room_for` let through.

        Returns:
            Those that have to wait on, since every slot is leased: the first that found none, and all behind it.
        """
        rows, left = self._leasing(requests)
        every = [list(range(len(rows)))] if rows else []
        for group in alike([len(row.ids) for row in rows]) if self._forward.reusable else every:
            self._start([rows[place] for place in group])  # what cannot be joined later begins together
        return left

    def stop(self) -> list[Request]:
        """Give everything up and take the hooks off the model; returns the requests that were running."""
        requests = [row.request for row in (*self._batch.rows, *self._alone)]
        self._batch = self._empty()
        self._alone.clear()
        self._leased.clear()
        self._prefixes.clear()
        self._residents.close()
        return requests

    def _leasing(self, requests: Sequence[Request]) -> tuple[list[Row], list[Request]]:
        """Rows with their adapters held; who finds every slot leased is not overtaken by those behind."""
        rows: list[Row] = []
        for place, request in enumerate(requests):
            try:
                row = self._row(request)
            except _NoSlotError:
                return rows, list(requests[place:])
            except BaseException:
                for leased in rows:
                    self._release(leased)
                raise
            if row is not None:
                rows.append(row)
        return rows, []

    def _row(self, request: Request) -> Row | None:
        """Lease the adapter; None when the request ended here."""
        resident, fallback = None, request.fallback
        if request.adapter is not None:
            try:
                resident = self._residents.lease(request.adapter)
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
        pinned = ", ".join(one.name for one in self._residents.loaded() if one.pinned)
        return GenerationError(f"every adapter slot is pinned ({pinned}): unpin one, or raise slots")

    def _start(self, rows: list[Row]) -> None:
        """Compute the prompts of rows of about one length and join them to the batch."""
        fresh = self._empty()
        try:
            prefix = self._shared_prefix(rows)
            with self._residents.pool.applied([row.slot for row in rows]):
                self.steps += 1
                done = fresh.fill(rows, prefix)
            self._end(fresh, done)
            if fresh.rows:
                self._batch.join(fresh)
        except BaseException as error:  # noqa: BLE001 - whatever the model raises
            self._isolate(rows, error)

    def _shared_prefix(self, rows: Sequence[Row]) -> Layers:
        """Keys and values that all rows begin with: known ones, or worth computing once for several rows."""
        if not self._forward.reusable or any(row.weights != rows[0].weights for row in rows):
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
        with self._residents.pool.applied([row.slot]):
            self.steps += 1
            self._forward(torch.tensor([ids[old:]], device=device), mask, cache)
        return [(layer.keys, layer.values) for layer in cache.layers]

    def advance(self) -> None:
        """One step of the batch; without one, of what is left of a failed one."""
        if not self._batch.rows:
            if self._alone:
                self._start([self._alone.popleft()])
            return
        rows = list(self._batch.rows)
        try:
            with self._residents.pool.applied([row.slot for row in rows]):
                self.steps += 1
                done = self._batch.step()
            self._end(self._batch, done)
        except BaseException as error:  # noqa: BLE001 - whatever the model raises
            self._batch = self._empty()
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
            self._residents.release(resident)

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

    def fail(self, error: BaseException) -> None:
        """Give up all that runs."""
        rows = [*self._batch.rows, *self._alone]
        self._batch = self._empty()
        self._alone.clear()
        for row in rows:
            row.request.ticket.fail(failed(error))
            self._release(row)

    def _empty(self) -> Batch:
        return Batch(self._forward, self._ends, min(self._ends, default=0))

    def _decoded(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text


def _seat(request: Request) -> Seat:
    return Seat(request.lane, request.weights, request.room)


def end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
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
