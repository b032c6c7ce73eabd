"""A batch of answers being written, one token a row and step; knows no queue, no threads and no LlamaIndex.

Not `generate` of transformers: there a finished row is computed until the longest ends, and nobody can join. Here rows
leave with their last token and others join between two steps.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llama_index_hybridmem.errors import GenerationError, HybridMemoryError, told
from llama_index_hybridmem.llms.serving.prefixes import Layers
from llama_index_hybridmem.llms.serving.request import Piece, Request, Result, Token
from llama_index_hybridmem.llms.serving.sampling import Sampler, next_tokens
from llama_index_hybridmem.llms.serving.transcript import Transcript

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(eq=False)
class Row:
    """One answer under way. It holds all that is needed to go on in another batch.

    Attributes:
        request: what was asked.
        slot: where the adapter's weights lie.
        sampler: chooses the tokens.
        transcript: the text so far.
        tokens: written so far.
        reused: tokens of the prompt that an earlier request had computed.
        written: their ids.
        fallback: why the base answers although an adapter was asked for.
        finished: whether the answer is whole.
    """

    request: Request
    slot: int
    sampler: Sampler
    transcript: Transcript
    tokens: list[Token] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    reused: int = 0
    fallback: str | None = None
    finished: bool = False

    @property
    def ids(self) -> list[int]:
        """Prompt and answer so far."""
        return [*self.request.prompt, *self.written]

    @property
    def weights(self) -> str | None:
        """Hash of the tensors that answer; None for the base."""
        return None if self.fallback is not None else self.request.weights

    def take(self, token: Token | Exception, ends: frozenset[int]) -> bool:
        """Write a token; tells the ticket, and whether the answer is over.

        Args:
            token: or why there is none.
            ends: ids of the model's end tokens.
        """
        ticket, transcript, options = self.request.ticket, self.transcript, self.request.options
        if ticket.done:  # cancelled
            return True
        if isinstance(token, Exception):
            ticket.fail(failed(token))
            return True
        self.tokens.append(token)
        self.written.append(token.id)
        ended = token.id in ends or token.id in options.stop_ids
        if not ended:
            transcript.add(token.id)
        if ended or transcript.stopped or len(self.tokens) >= options.max_new_tokens:
            self._finish("stop" if ended else "length")
            return True
        if self.request.stream and (delta := transcript.tell()):
            ticket.write(Piece(transcript.told, delta))
        return False

    def _finish(self, reason: str) -> None:
        transcript = self.transcript
        if not transcript.stopped:
            transcript.end()
        reason = "stop" if transcript.stopped else reason
        prompt = len(self.request.prompt)
        result = Result(transcript.text, tuple(self.tokens), reason, prompt, self.reused, self.fallback)
        self.finished = True
        self.request.ticket.write(Piece(transcript.text, transcript.tell(everything=True), result))


def failed(error: BaseException) -> HybridMemoryError:
    """An exception as one of ours, which it becomes the cause of; one of ours is left as it is."""
    if isinstance(error, HybridMemoryError):
        return error
    ours = GenerationError(f"the language model failed: {told(error)}")
    ours.__cause__ = error
    return ours


class Forward:
    """Calls a model for the next token's logits, with what its `forward` takes.

    Args:
        model: a causal language model of transformers.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        taken = inspect.signature(model.forward).parameters
        self._positions = "position_ids" in taken
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in taken else {}

    @property
    def device(self) -> Any:
        """Where ids go in."""
        return self.model.get_input_embeddings().weight.device

    def __call__(self, ids: Tensor, mask: Tensor, cache: Any) -> Tensor:
        """Logits of the next token.

        Args:
            ids: (rows, new tokens).
            mask: (rows, old and new tokens), 0 where there is padding.
            cache: keys and values of the old tokens; gets those of the new.

        Returns:
            (rows, vocabulary).
        """
        given: dict[str, Any] = dict(self._last_only)
        if self._positions:
            given["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = self.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **given)
        logits: Tensor = out.logits[:, -1]
        return logits

    def empty_cache(self) -> Any:
        """A cache that fits the model's layers."""
        from transformers import DynamicCache

        return DynamicCache(config=self.model.config)

    def cache_of(self, layers: Layers) -> Any:
        """A cache filled with a copy of keys and values."""
        cache = self.empty_cache()
        for number, (keys, values) in enumerate(layers):
            cache.update(keys, values, number)
        return cache

    @cached_property
    def reusable(self) -> bool:
        """Whether keys and values can be cut and joined: not where layers forget (sliding windows, states)."""
        from transformers.cache_utils import DynamicLayer

        if getattr(self.model.config.get_text_config(decoder=True), "num_kv_shared_layers", 0):
            return False  # layers without keys of their own
        cache = self.empty_cache()
        return all(type(layer) is DynamicLayer for layer in cache.layers)


class Batch:
    """Rows that are computed together.

    Args:
        forward: calls the model.
        ends: ids of the end tokens.
        pad: id that fills gaps; which one does not matter, it is masked.
    """

    def __init__(self, forward: Forward, ends: frozenset[int], pad: int) -> None:
        self.rows: list[Row] = []
        self._forward = forward
        self._ends = ends
        self._pad = pad
        self._cache: Any = None
        self._mask: Any = None

    def fill(self, rows: Sequence[Row], prefix: Layers) -> list[Row]:
        """Compute the prompts of the first rows and write their first tokens; the caller has applied their slots.

        Args:
            rows: whose `ids` all begin with the prefix.
            prefix: keys and values of one row, which all share; empty for none.

        Returns:
            The rows whose answer is over.
        """
        import torch

        device = self._forward.device
        known = prefix[0][0].shape[2] if prefix else 0
        rest = [row.ids[known:] for row in rows]
        width = max(map(len, rest))
        ids = torch.tensor([[self._pad] * (width - len(one)) + one for one in rest], device=device)
        mask = torch.tensor([[1] * known + [0] * (width - len(one)) + [1] * len(one) for one in rest], device=device)
        shared = [(keys.expand(len(rows), -1, -1, -1), values.expand(len(rows), -1, -1, -1)) for keys, values in prefix]
        self.rows, self._mask = list(rows), mask
        self._cache = self._forward.cache_of(shared)
        return self._write(self._forward(ids, mask, self._cache))

    def step(self) -> list[Row]:
        """Write one token a row; returns the rows whose answer is over."""
        import torch

        mask = self._mask
        ids = torch.tensor([[row.written[-1]] for row in self.rows], device=mask.device)
        self._mask = torch.cat([mask, mask.new_ones(len(self.rows), 1)], dim=1)
        return self._write(self._forward(ids, self._mask, self._cache))

    def join(self, other: Batch) -> None:
        """Take over the rows of another batch; gaps on the left fill the shorter one."""
        if not self.rows:
            self.rows, self._cache, self._mask = other.rows, other._cache, other._mask
            return
        import torch.nn.functional as functional

        width = max(self._mask.shape[1], other._mask.shape[1])
        layers = []
        for one, two in zip(self._layers(), other._layers(), strict=True):
            layers.append(tuple(_joined(a, b, width) for a, b in zip(one, two, strict=True)))
        self._cache = self._forward.cache_of(layers)  # type: ignore[arg-type]  # pairs
        masks = [functional.pad(batch._mask, (width - batch._mask.shape[1], 0)) for batch in (self, other)]
        self._mask = _stacked(masks)
        self.rows = [*self.rows, *other.rows]

    def drop(self, done: Sequence[Row]) -> None:
        """Let rows go; the others are computed without them."""
        import torch

        left = [place for place, row in enumerate(self.rows) if not any(row is one for one in done)]
        self.rows = [self.rows[place] for place in left]
        if not left:
            self._cache = self._mask = None
            return
        places = torch.tensor(left)  # on the CPU, which serves layers on any device
        self._cache.batch_select_indices(places)
        self._mask = self._mask[places]
        gap = int(self._mask.argmax(dim=1).min())  # what only the leaving rows needed
        if gap and self._forward.reusable:
            self._mask = self._mask[:, gap:]
            self._cache = self._forward.cache_of([(k[:, :, gap:], v[:, :, gap:]) for k, v in self._layers()])

    def prefix(self, row: Row) -> tuple[list[int], Layers] | None:
        """What a lone row leaves behind for others: the ids that were computed, and their keys and values."""
        if len(self.rows) != 1 or not row.finished or not bool(self._mask.all()) or not self._forward.reusable:
            return None
        return row.ids[: self._mask.shape[1]], self._layers()

    def _layers(self) -> Layers:
        return [(layer.keys, layer.values) for layer in self._cache.layers]

    def _write(self, logits: Tensor) -> list[Row]:
        tokens = next_tokens(logits, [row.sampler for row in self.rows], [row.written for row in self.rows])
        return [row for row, token in zip(self.rows, tokens, strict=True) if _is_over(row, token, self._ends)]


def _is_over(row: Row, token: Token | Exception, ends: frozenset[int]) -> bool:
    """Let a row take its token; what its own text or ticket raises fails that row, not the batch."""
    try:
        return row.take(token, ends)
    except Exception as error:  # noqa: BLE001 - whatever a tokenizer raises
        row.request.ticket.fail(failed(error))
        return True


def _joined(one: Tensor, two: Tensor, width: int) -> Tensor:
    """Two layers' keys (or values) as one batch, zeros on the left of the shorter."""
    import torch.nn.functional as functional

    return _stacked([functional.pad(part, (0, 0, width - part.shape[2], 0)) for part in (one, two)])


def _stacked(parts: list[Tensor]) -> Tensor:
    import torch

    return torch.cat(parts)
