"""Token counts of one model call, read from wherever an integration puts them; pure, knows no prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Source = Literal["reported", "extracted", "estimated"]
"""Who counted: the provider, we from what the model returned, or we from the text."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call.

    Attributes:
        input: all tokens of the prompt, cached ones included.
        output: all tokens written, reasoning included.
        cached_read: of the input, those read from the provider's cache.
        cached_write: of the input, those written to it.
        reasoning: of the output, those not shown.
        source: who counted.
    """

    input: int
    output: int
    cached_read: int = 0
    cached_write: int = 0
    reasoning: int = 0
    source: Source = "reported"
