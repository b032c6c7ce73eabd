"""One row to train on, or to ask a model and compare with; pure, knows no file, tokenizer or model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Message = Mapping[str, str]
"""A turn: ``role`` and ``content``."""


@dataclass(frozen=True)
class Example:
    """A prompt and what a model shall say to it.

    Attributes:
        id: unique in its set.
        prompt: the turns that are given; the last is the user's.
        completion: the assistant's turn that is learned.
        expected: the answer alone, without citations, quotes or reasons: what an answer is scored against; None when
            the completion itself is.
        answerable: whether the prompt's sources hold the answer; None when the row has no sources.
        kinds: of noise in the prompt.
        sources: the texts that the prompt shows, in their order; () when unknown.
        origin: who wrote the completion: ``user``, ``traces``, ``model`` or ``general`` (a replayed row).
    """

    id: str
    prompt: tuple[Message, ...]
    completion: str
    expected: str | None = None
    answerable: bool | None = None
    kinds: frozenset[str] = frozenset()
    sources: tuple[str, ...] = ()
    origin: str = "user"

    @property
    def answer(self) -> str:
        """What an answer is compared with."""
        return self.completion if self.expected is None else self.expected

    def row(self) -> dict[str, Any]:
        """Give the row that a trainer reads: conversational prompt and completion."""
        return {
            "prompt": [dict(turn) for turn in self.prompt],
            "completion": [{"role": "assistant", "content": self.completion}],
        }


def digest(examples: Iterable[Example]) -> str:
    """SHA-256 over what is trained on, in order: the data's name in a lineage."""
    found = hashlib.sha256()
    for each in examples:
        found.update(json.dumps(each.row(), sort_keys=True).encode("ascii") + b"\n")
    return found.hexdigest()
