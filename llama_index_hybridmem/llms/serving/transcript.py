"""Token ids to text as they come, up to a stop text; knows no model.

A token can end inside a character, and a tokenizer may write a token differently after another one. So each step
decodes the last readable stretch with and without the new token and takes the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

_HALF = "\ufffd"  # what a decoder writes for bytes that are no character yet


class Transcript:
    """The text of one answer.

    Args:
        decode: token ids to text, without special tokens.
        stop: texts that end the answer.

    Attributes:
        text: what is readable so far, cut before the stop text.
        stopped: whether a stop text was found.
    """

    def __init__(self, decode: Callable[[list[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = tuple(text for text in stop if text)
        self._ids: list[int] = []
        self._start = self._read = 0  # ids[start:read] is readable and stands in the text; what follows is not yet
        self._told = 0
        self.text = ""
        self.stopped = False

    def add(self, token: int) -> None:
        """Take the next token."""
        self._ids.append(token)
        before, after = self._decode(self._ids[self._start : self._read]), self._decode(self._ids[self._start :])
        if len(after) > len(before) and not after.endswith(_HALF):
            self._append(after[len(before) :])
            self._start, self._read = self._read, len(self._ids)

    def end(self) -> None:
        """Take what still waits: after the last token half a character is all there will be."""
        before, after = self._decode(self._ids[self._start : self._read]), self._decode(self._ids[self._start :])
        self._append(after[len(before) :])
        self._start = self._read = len(self._ids)

    def tell(self, everything: bool = False) -> str:
        """What became certain since the last call; the beginning of a stop text waits unless `everything` is wanted."""
        certain = len(self.text) - (0 if everything or self.stopped else self._held_back())
        told, self._told = self._told, max(self._told, certain)
        return self.text[told : self._told]

    @property
    def told(self) -> str:
        """All that was told."""
        return self.text[: self._told]

    def _append(self, text: str) -> None:
        if self.stopped or not text:
            return
        longest = max(map(len, self._stop), default=0)
        seen = max(0, len(self.text) - longest + 1)
        self.text += text
        found = [(place + len(stop), place) for stop in self._stop if (place := self.text.find(stop, seen)) >= 0]
        if found:  # the one that was whole first: how the text was cut into tokens must not decide
            self.text, self.stopped = self.text[: min(found)[1]], True

    def _held_back(self) -> int:
        """Length of the longest end of the text that could become a stop text."""
        longest = max((len(stop) - 1 for stop in self._stop), default=0)
        for length in range(min(longest, len(self.text)), 0, -1):
            end = self.text[-length:]
            if any(stop.startswith(end) for stop in self._stop):
                return length
        return 0
