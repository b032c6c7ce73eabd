"""Replaced stretches of a text: applied, and followed through later ones; pure, knows no reason for any of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from llama_index_hybridmem.errors import ConfigurationError

Span = tuple[int, int]
"""(first character, the character behind the last); the two are equal where something was lost."""


class Edit(NamedTuple):
    """What stands at ``text[start:end]`` is replaced.

    Attributes:
        start: first character, in the text before any edit.
        end: the character behind the last; ``start`` for an insertion.
        put: what comes there instead; empty for a deletion.
    """

    start: int
    end: int
    put: str


def edited(text: str, edits: Sequence[Edit]) -> tuple[str, list[Span]]:
    """Apply edits.

    Args:
        text: the text.
        edits: in order of their start, none overlapping another.

    Returns:
        the new text, and where in it each edit's ``put`` stands.

    Raises:
        ConfigurationError: edits out of order, overlapping, or outside of the text.
    """
    parts: list[str] = []
    spans: list[Span] = []
    read = length = 0
    size = len(text)
    for edit in edits:
        start, end, put = edit
        if not read <= start <= end <= size:
            raise ConfigurationError(
                f"edits must follow one another inside the text (0 to {size}): found {edit!r:.100} after {read}"
            )
        parts += (text[read:start], put)
        begin = length + start - read
        length = begin + len(put)
        spans.append((begin, length))
        read = end
    parts.append(text[read:])
    return "".join(parts), spans


def moved(spans: Iterable[Span], edits: Sequence[Edit]) -> list[Span]:
    """Follow spans of a text through edits of it.

    What stood between edits moves with them; what an edit replaced shrinks to that edit's place. Spans that come to lie
    on one another are kept once.

    Args:
        spans: of the text before the edits.
        edits: as for `edited`.
    """
    starts = [edit.start for edit in edits]
    shifts = [0]  # by how much what follows each edit moves
    for edit in edits:
        shifts.append(shifts[-1] + len(edit.put) - (edit.end - edit.start))

    def place(at: int) -> int:
        before = bisect_right(starts, at)
        if before and at < edits[before - 1].end:  # inside of what was replaced
            return edits[before - 1].start + shifts[before - 1]
        return at + shifts[before]

    return list(dict.fromkeys((place(start), max(place(start), place(end))) for start, end in spans))
