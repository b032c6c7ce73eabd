"""Runs a causal language model of transformers: loaded once, one generation at a time; knows nothing of LlamaIndex."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from llama_index_hybridmem.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from torch import Tensor

_LOADING = threading.Lock()  # two threads that ask first must not load the weights twice


@dataclass(frozen=True)
class Loaded:
    """A model and its tokenizer, shared by all who name it.

    Attributes:
        model: a transformers model with ``generate``.
        tokenizer: its tokenizer.
        lock: held while it generates, since `generate` keeps state in the model.
    """

    model: Any
    tokenizer: Any
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def has_template(self) -> bool:
        """Whether the tokenizer knows how a chat is written."""
        return bool(self.tokenizer.chat_template)

    def encode(self, text: str) -> list[int]:
        """A text's token ids."""
        return list(self.tokenizer(text)["input_ids"])

    def render(self, turns: Sequence[Mapping[str, str]]) -> list[int]:
        """A chat's token ids, ready for the answer; ``role: content`` lines where there is no template.

        Args:
            turns: each with ``role`` and ``content``.
        """
        if not self.has_template:
            return self.encode("\n".join([*(f"{turn['role']}: {turn['content']}" for turn in turns), "assistant:"]))
        ids = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=False)
        return list(ids)


def load(path: str, dtype: str, device: str) -> Loaded:
    """Loads a model once per process, whoever asks.

    Args:
        path: a model folder or a name on the hub.
        dtype: of the weights in memory, as torch names it.
        device: as torch names it.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        ConfigurationError: the files are missing or damaged, or of a kind that transformers does not know.
    """
    with _LOADING:
        return _load(path, dtype, device)


@lru_cache(maxsize=4)
def _load(path: str, dtype: str, device: str) -> Loaded:
    try:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("a local language model", "lora") from error
    try:
        with _no_progress_bar():
            tokenizer = AutoTokenizer.from_pretrained(path)
            model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype))
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        raise ConfigurationError(f"the language model {path} could not be loaded: {error}") from error
    return Loaded(model.to(device).eval(), tokenizer)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    from transformers.utils import logging as settings

    shown = settings.is_progress_bar_enabled()
    settings.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            settings.enable_progress_bar()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Piece:
    """What was written.

    Attributes:
        text: all of it so far.
        delta: what this piece adds.
        usage: token counts, known with the last piece only.
    """

    text: str
    delta: str
    usage: dict[str, int] | None = None


class Generation:
    """One answer being written; `generate` of transformers writes to it as its ``streamer``.

    Args:
        loaded: the model.
        prompt: token ids.
        options: keyword arguments of `generate`.
    """

    def __init__(self, loaded: Loaded, prompt: list[int], options: Mapping[str, Any]) -> None:
        self.loaded = loaded
        self.prompt = prompt
        self.options = options
        self.ids: list[int] | None = None  # None until the prompt, which comes first, has passed
        self.text = ""

    def run(self) -> Piece:
        """Writes the whole answer, in the calling thread."""
        import torch

        tokenizer = self.loaded.tokenizer
        padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        ids = torch.tensor([self.prompt], device=self.loaded.model.device)
        options = {"pad_token_id": padding, "attention_mask": torch.ones_like(ids), **self.options}
        with self.loaded.lock:
            self.loaded.model.generate(ids, streamer=self, **options)
        text, written = self._decoded(), len(self.ids or [])
        usage = {"prompt_tokens": len(self.prompt), "completion_tokens": written}
        return Piece(text, text[len(self.text) :], {**usage, "total_tokens": sum(usage.values())})

    def put(self, ids: Tensor) -> None:
        """Takes the prompt, then each new token."""
        self.ids = [] if self.ids is None else [*self.ids, *ids.flatten().tolist()]

    def end(self) -> None:
        """Called behind the last token."""

    def _decoded(self) -> str:
        text: str = self.loaded.tokenizer.decode(self.ids or [], skip_special_tokens=True)
        return text


class StreamedGeneration(Generation):
    """A `Generation` on a daemon thread of its own, which starts at once.

    Attributes:
        abandoned: set it, and the thread ends with the next token.
    """

    def __init__(self, loaded: Loaded, prompt: list[int], options: Mapping[str, Any]) -> None:
        super().__init__(loaded, prompt, options)
        self.abandoned = threading.Event()
        self._pieces: SimpleQueue[Piece | BaseException | None] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True, name="hybridmem-generation").start()

    def put(self, ids: Tensor) -> None:
        """Hands on what became readable; half a character waits for its other half."""
        super().put(ids)
        if self.abandoned.is_set():
            raise _AbandonedError
        text = self._decoded()
        if len(text) > len(self.text) and not text.endswith("\ufffd"):
            self._pieces.put(Piece(text, text[len(self.text) :]))
            self.text = text

    def next(self) -> Piece | None:
        """Waits for the next piece; the last one has the usage, and None follows it.

        Raises:
            BaseException: what the generation ended with.
        """
        piece = self._pieces.get()
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def _work(self) -> None:
        try:
            self._pieces.put(self.run())
            self._pieces.put(None)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the consumer must not wait for ever
            self._pieces.put(error)


class _AbandonedError(Exception):
    """Ends `generate` when nobody listens any more."""
