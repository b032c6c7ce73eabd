"""Answers in words of their sources only, as a processor of logits; knows tokenizers and tensors, no model.

Why: of 665 wrong answers of a small model 49 % stood nowhere in its context, and forbidding those gave 2 to 6 points
without any training (a 3.4M-parameter reader, trained to answer in the words of its context). A model that was not
trained to answer shortly gains nothing by it: see docs/adapters.md.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.llms.copy_paths import CopyPaths, Path, Spellings, Unit

if TYPE_CHECKING:
    from torch import Tensor

ABSTAIN = "Not in the sources."
"""What the LLM may write where the sources hold no answer."""


class CopyConstraint:
    """Lets a row write what stands in its sources, and nothing else; a processor (`request.Processor`) for one row.

    An answer is a stretch of a source from a word's beginning to a word's end, or one of the further texts; its first
    letter may be upper or lower case, runs of blanks count as one. Citation marks and a full stop may follow, then it
    ends. All else gets minus infinity, and what is allowed keeps its logit, so log-probabilities that are reported stay
    the model's. Where nothing is allowed the answer ends.

    Bytes are compared, not the tokens of the prompt: " Kas" and "Kas" are two tokens, and either may stand in an
    answer. One token never spells both the last of the words and a mark behind them ("]." is written as two).

    Args:
        tokenizer: of transformers: byte-level, or with "▁" for blanks (SentencePiece).
        sources: what may be copied, source n being `sources[n - 1]`.
        also: whole texts that may be written instead.
        unit: "span" for one stretch of one source, "word" for words of the sources in any order.
        marks: whether [n] may follow, n being the number of a source; a number allows those up to it.
        ends: tokens that end an answer; None takes the tokenizer's own end token.

    Raises:
        ConfigurationError: the tokenizer spells its tokens in a way that is not known, or no token ends an answer.
    """

    def __init__(
        self,
        tokenizer: Any,
        sources: Sequence[str],
        *,
        also: Sequence[str] = (ABSTAIN,),
        unit: Unit = "span",
        marks: bool | int = True,
        ends: Iterable[int] | None = None,
    ) -> None:
        own = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        self._ends = frozenset(own if ends is None else ends)
        if not self._ends:
            raise ConfigurationError("the tokenizer has no end token: say which tokens end an answer, ends=[…]")
        numbers = len(sources) if marks is True else int(marks)
        self._paths = CopyPaths(spellings(tokenizer), sources, also, unit, numbers)
        self._last: tuple[tuple[int, ...], frozenset[Path]] = ((), self._paths.start)
        self._paths.allowed(self._paths.start)  # the longest of all looks, here and not on the engine's thread

    def __call__(self, written: Sequence[int], logits: Tensor) -> Tensor:
        """Mask one row's logits.

        Args:
            written: ids of the answer so far.
            logits: of the next token, (vocabulary,).
        """
        import torch

        tokens, may_end = self._paths.allowed(self._ways(tuple(written)))
        tokens = {token for token in tokens if token < len(logits)}
        places = torch.tensor(sorted(tokens | self._ends if may_end or not tokens else tokens), device=logits.device)
        masked = torch.full_like(logits, -math.inf)
        masked[places] = logits[places]
        return masked

    def _ways(self, written: tuple[int, ...]) -> frozenset[Path]:
        """The ways on; continued from the last call where that was this answer's."""
        known, ways = self._last
        if written[: len(known)] != known:
            known, ways = (), self._paths.start
        for token in written[len(known) :]:
            ways = self._paths.after(ways, token)
        self._last = (written, ways)
        return ways


def spellings(tokenizer: Any) -> Spellings:
    """The bytes of every token that is text, made once per tokenizer.

    Args:
        tokenizer: of transformers.

    Raises:
        ConfigurationError: it is neither byte-level nor a SentencePiece one.
    """
    size = len(tokenizer)
    with _MAKING:
        known = _MADE.get(tokenizer)
        if known is None or known[0] != size:  # tokens were added since
            known = _MADE[tokenizer] = (size, Spellings(_spelled(tokenizer)))
        return known[1]


_MAKING = threading.Lock()
_MADE: WeakKeyDictionary[Any, tuple[int, Spellings]] = WeakKeyDictionary()
_PROBE = "a b"


def _spelled(tokenizer: Any) -> dict[int, bytes]:
    """Bytes by token, in the first way of spelling under which the tokens of a text spell that text."""
    added: Mapping[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    special = {*tokenizer.all_special_ids, *(token for token, each in added.items() if each.special)}
    ids = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    for spell in (_bytewise(), _with_blanks):
        found = {
            token: text.encode() if token in added else spell(text)
            for text, token in tokenizer.get_vocab().items()
            if token not in special
        }
        if b"".join(found.get(token, b"") for token in ids).strip() == _PROBE.encode():
            return found
    raise ConfigurationError(
        f"copying is known for byte-level and SentencePiece tokenizers; {type(tokenizer).__name__} spells "
        f"{_PROBE!r} as {tokenizer.convert_ids_to_tokens(ids)}"
    )


def _bytewise() -> Callable[[str], bytes]:
    """The spelling of byte-level BPE: a sign for each byte, itself where it can be seen (GPT-2, encoder.py)."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    unseen = [byte for byte in range(256) if byte not in seen]
    bytes_of = {chr(byte): byte for byte in seen} | {chr(256 + place): byte for place, byte in enumerate(unseen)}

    def spell(text: str) -> bytes:
        return bytes(bytes_of[sign] for sign in text) if all(sign in bytes_of for sign in text) else text.encode()

    return spell


_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def _with_blanks(text: str) -> bytes:
    """The spelling of SentencePiece: "▁" for a blank, "<0xE8>" for a byte of a sign that has no token."""
    byte = _BYTE.fullmatch(text)
    return bytes([int(byte[1], 16)]) if byte else text.replace("▁", " ").encode()
