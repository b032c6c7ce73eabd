"""The next token of every row from its logits; knows no model.

Draws use the Gumbel trick with a generator per row (arXiv 1611.01144, eq. 1): adding Gumbel noise to logits/temperature
and taking the largest is an exact draw from the softmax, and depends on the row's own seed only, not on what else is
in the batch or on torch's global generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llama_index_hybridmem.errors import GenerationError
from llama_index_hybridmem.llms.serving.request import Options, Token

if TYPE_CHECKING:
    from torch import Generator, Tensor


class Sampler:
    """Chooses one row's tokens.

    Args:
        options: temperature, top-p, top-k, seed, penalty and processors.
        prompt: token ids, which the repetition penalty counts too.
    """

    def __init__(self, options: Options, prompt: Sequence[int] = ()) -> None:
        self.options = options
        self._prompt = tuple(prompt)
        self._generator: Generator | None = None

    @property
    def plain(self) -> bool:
        """Whether it takes the likeliest token as the model has it."""
        options = self.options
        return options.temperature == 0 and not options.processors and options.repetition_penalty == 1

    def choose(self, logits: Tensor, written: Sequence[int]) -> int:
        """Choose a token.

        Args:
            logits: of the next token, (vocabulary,), float32.
            written: ids of the answer so far.
        """
        logits = self._penalised(logits, written)
        if self.options.processors:
            logits = self._processed(logits, written)
        if self.options.temperature == 0:
            return int(logits.argmax())
        logits = (logits - logits.max()) / self.options.temperature  # the largest at 0: nothing overflows
        logits = _nucleus(logits, self.options.top_k, self.options.top_p)
        return int((logits + self._noise(logits)).argmax())

    def _processed(self, logits: Tensor, written: Sequence[int]) -> Tensor:
        """What the caller's processors make of the logits; they get copies, which they may change in place."""
        import torch
        from transformers import LogitsProcessor

        logits, ids = logits.clone(), tuple(written)
        for process in self.options.processors:
            if isinstance(process, LogitsProcessor):  # transformers' own form: rows, and the prompt before the answer
                read = torch.tensor([[*self._prompt, *ids]], device=logits.device)
                logits = process(read, logits[None])[0]
            else:
                logits = process(ids, logits)
        if not float(logits.max()) > -math.inf:  # nor if it is NaN, which argmax would take for the largest
            raise GenerationError("a processor left no token that can be chosen")
        return logits

    def _penalised(self, logits: Tensor, written: Sequence[int]) -> Tensor:
        import torch

        penalty = self.options.repetition_penalty
        if penalty == 1:
            return logits
        seen = torch.tensor(sorted({*self._prompt, *written}), device=logits.device)
        values = logits[seen]
        return logits.index_copy(0, seen, torch.where(values > 0, values / penalty, values * penalty))

    def _noise(self, logits: Tensor) -> Tensor:
        """Gumbel noise, drawn on the CPU so that a seed means the same on every device."""
        import torch

        if self._generator is None:
            self._generator = torch.Generator().manual_seed(self.options.seed)
        return -torch.empty(logits.shape).exponential_(generator=self._generator).log().to(logits.device)


def _nucleus(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Minus infinity for all but the likeliest `top_k`, and of these all but the fewest that reach `top_p`."""
    if 0 < top_k < logits.numel():
        logits = logits.masked_fill(logits < logits.topk(top_k).values[-1], float("-inf"))
    if top_p < 1:
        ordered, places = logits.sort(descending=True)
        before = ordered.softmax(0).cumsum(0) - ordered.softmax(0)
        dropped = places[before >= top_p]  # never the first: nothing stands before it
        logits = logits.index_fill(0, dropped, float("-inf"))
    return logits


def next_tokens(
    logits: Tensor, samplers: Sequence[Sampler], written: Sequence[Sequence[int]]
) -> list[Token | Exception]:
    """Choose every row's next token, with log-probabilities as the model has them.

    Args:
        logits: (rows, vocabulary).
        samplers: one a row.
        written: every row's answer so far.

    Returns:
        A token a row, or why the row has none: its logits are not finite numbers, or a processor of its own raised.
    """
    logits = logits.float()
    total = logits.logsumexp(-1)
    count = max(2, max(sampler.options.top_logprobs for sampler in samplers))
    best = logits.topk(min(count, logits.shape[-1]))
    likeliest = logits.argmax(-1).tolist()  # of several alike the first, as transformers does; topk takes any
    totals, values, places = total.tolist(), best.values.tolist(), best.indices.tolist()
    tokens: list[Token | Exception] = []
    for row, sampler in enumerate(samplers):
        if not math.isfinite(totals[row]):
            tokens.append(GenerationError("the model's logits are not finite: damaged weights, or an overflow"))
            continue
        try:
            chosen = likeliest[row] if sampler.plain else sampler.choose(logits[row], written[row])
            value = values[row][0] if chosen == likeliest[row] else float(logits[row, chosen])
        except Exception as error:  # noqa: BLE001 - a caller's own processor fails its own row, not the batch
            tokens.append(error)
            continue
        top = tuple(zip(places[row], (value - totals[row] for value in values[row]), strict=True))
        margin = values[row][0] - values[row][1]
        tokens.append(Token(chosen, value - totals[row], margin, top[: sampler.options.top_logprobs]))
    return tokens
