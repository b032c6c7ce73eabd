"""One request to a language model and the way its answer travels back; knows no model and no LlamaIndex.

The engine's thread writes into a `Ticket`, one waiting side reads it: a thread that blocks or a task on an event loop,
through the same coroutines (`Ticket.next`, `Ticket.last`), as in `branches`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from llama_index_hybridmem.bells import Bell
from llama_index_hybridmem.errors import CancelledGenerationError

if TYPE_CHECKING:
    from torch import Tensor

    from llama_index_hybridmem.llms.adapters.version import AdapterVersion

T = TypeVar("T")
Processor = Callable[[Sequence[int], "Tensor"], "Tensor"]
"""Takes the ids written so far (without the prompt) and the next token's logits, (vocabulary,); returns logits. A
`LogitsProcessor` of transformers is called as there: ids of prompt and answer, (1, tokens); logits, (1, vocabulary)."""


@dataclass(frozen=True)
class Options:
    """How one answer is written.

    Attributes:
        max_new_tokens: tokens at most.
        temperature: 0 takes the likeliest token each time.
        top_p: share of probability that is drawn from; 1 is all of it.
        top_k: likeliest tokens that are drawn from; 0 is all of them.
        repetition_penalty: above 1 makes tokens of prompt and answer less likely (CTRL, arXiv 1909.05858, 4.1).
        seed: of the draws; the same seed gives the same answer whatever else is in the batch.
        stop: texts that end the answer, and are not part of it.
        stop_ids: tokens that end it, beside the model's own end tokens.
        top_logprobs: likeliest tokens whose log-probabilities are kept for each step, beside the chosen one's.
        copy_from: texts that the answer must be copied from, "prompt" for what the prompt shows, "off" for freedom.
        copy_also: whole texts that may be written instead of a copy.
        copy_unit: "span" for one stretch of one text, "word" for words of the texts in any order.
        processors: change the logits before anything else does.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    stop_ids: frozenset[int] = frozenset()
    top_logprobs: int = 0
    copy_from: str | tuple[str, ...] = "off"
    copy_also: tuple[str, ...] = ("Not in the sources.",)
    copy_unit: Literal["span", "word"] = "span"
    processors: tuple[Processor, ...] = ()


@dataclass(frozen=True)
class Token:
    """One written token.

    Attributes:
        id: in the vocabulary.
        logprob: of the token under the model, before temperature and top-p.
        margin: log-probability of the likeliest token minus that of the second.
        top: the likeliest tokens with their log-probabilities, best first.
    """

    id: int
    logprob: float
    margin: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Result:
    """A whole answer.

    Attributes:
        text: without special tokens and stop texts.
        tokens: all that were written, the end token included.
        finish_reason: "stop" (end token or stop text) or "length".
        prompt_tokens: tokens of the prompt.
        reused_tokens: those of the prompt whose keys and values were taken from an earlier request.
        fallback: why the base answered although an adapter was asked for; None where it did not.
    """

    text: str
    tokens: tuple[Token, ...]
    finish_reason: str
    prompt_tokens: int
    reused_tokens: int = 0
    fallback: str | None = None


@dataclass(frozen=True)
class Piece:
    """What became readable.

    Attributes:
        text: all of it so far.
        delta: what this piece adds.
        result: with the last piece only.
    """

    text: str
    delta: str
    result: Result | None = None


class Ticket:
    """What a caller holds while its request waits and runs; one side writes, one reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pieces: deque[Piece] = deque()
        self._error: BaseException | None = None
        self._done = False
        self._bell: Bell | None = None
        self.cancelled = False

    @property
    def done(self) -> bool:
        """Whether the last piece or an error was written."""
        return self._done

    def listen(self, bell: Bell) -> None:
        """Say what is rung with each piece."""
        with self._lock:
            self._bell = bell

    def write(self, piece: Piece) -> None:
        """Hand on a piece; the one with a result is the last."""
        with self._lock:
            if self._done:
                return
            self._pieces.append(piece)
            self._done = piece.result is not None
            bell = self._bell
        if bell is not None:
            bell.ring()

    def fail(self, error: BaseException) -> None:
        """End with an error, which the reading side gets behind the pieces; after the end it changes nothing."""
        with self._lock:
            if self._done:
                return
            self._error, self._done = error, True
            bell = self._bell
        if bell is not None:
            bell.ring()

    def cancel(self) -> None:
        """Nobody reads any more: generation ends within a token."""
        self.cancelled = True
        self.fail(CancelledGenerationError("the request was cancelled"))

    async def next(self) -> Piece | None:
        """Wait for the next piece; None behind the last.

        Raises:
            GenerationError: what the request ended with.
        """
        while True:
            with self._lock:
                if self._pieces:
                    return self._pieces.popleft()
                if self._error is not None:
                    raise self._error
                if self._done:
                    return None
                bell = self._bell
            assert bell is not None, "listen() comes first"
            await bell.wait(threading.TIMEOUT_MAX if not bell.on_loop else _A_DAY_S)

    async def last(self) -> Result:
        """Wait for the whole answer.

        Raises:
            GenerationError: what the request ended with.
        """
        while (piece := await self.next()) is not None:
            if piece.result is not None:
                return piece.result
        raise AssertionError("the last piece has a result")


_A_DAY_S = 86_400.0  # an event loop takes no endless timer; `next` looks again


@dataclass(eq=False)
class Request:
    """What the engine is asked.

    Attributes:
        prompt: token ids.
        options: how the answer is written.
        adapter: whose weights answer; None for the base.
        on_refused: "raise", or "base" to answer without an adapter that cannot be loaded.
        fallback: why the base answers although an adapter was asked for, where that is known already.
        stream: whether pieces are wanted before the last.
        ticket: where the answer goes.
    """

    prompt: tuple[int, ...]
    options: Options
    adapter: AdapterVersion | None = None
    on_refused: str = "raise"
    fallback: str | None = None
    stream: bool = False
    ticket: Ticket = field(default_factory=Ticket)

    @property
    def lane(self) -> str:
        """Requests of one lane may share a batch: all plain adapters do, an exclusive one only with itself."""
        return self.adapter.sha256 if self.adapter is not None and self.adapter.exclusive else "mixed"

    @property
    def weights(self) -> str | None:
        """What tells this request's adapter from others: the hash of its tensors."""
        return None if self.adapter is None else self.adapter.weights_sha256

    @property
    def room(self) -> int:
        """Tokens of prompt and answer."""
        return len(self.prompt) + self.options.max_new_tokens


def blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine whose bells all block the thread: it never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    coroutine.close()
    raise AssertionError("a threaded bell never suspends")
