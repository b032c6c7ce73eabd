"""Which tokens go on with an answer that only copies its sources; pure, knows token spellings, no model.

A path is what is still to be written: some bytes, then the sources from a place on, or what may end an answer. All
paths that agree with what was written stand side by side, and a token is allowed where one of them spells it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from llama_index_hybridmem.llms.copy_text import BREAK, QuotedText, openings

Unit: TypeAlias = Literal["span", "word"]

_TAIL = -1  # in place of a place in the sources: behind the words
_STOPS = (b".", b"!", b"?")


class Path(NamedTuple):
    """One way on.

    Attributes:
        ahead: bytes to be written first.
        at: place in the sources after that; -1 behind the words.
        cited: the last source cited; marks go up.
        stopped: whether the answer ends in a full stop.
    """

    ahead: bytes
    at: int
    cited: int = 0
    stopped: bool = False


class Spellings:
    """A vocabulary, to be asked for the tokens that a text begins with.

    Args:
        spelled: bytes by token id; empty ones are left out.
    """

    def __init__(self, spelled: Mapping[int, bytes]) -> None:
        self.spelled = {token: text for token, text in spelled.items() if text and BREAK not in text}
        self.longest = max(map(len, self.spelled.values()), default=0)
        found: dict[bytes, list[int]] = {}
        for token, text in self.spelled.items():
            found.setdefault(text, []).append(token)
        self._beginnings: dict[bytes, tuple[int, ...]] = {}  # of every token, with the tokens that are just that
        for text, tokens in found.items():
            for length in range(1, len(text)):
                self._beginnings.setdefault(text[:length], ())
            self._beginnings[text] = tuple(tokens)

    def opening(self, text: bytes) -> list[int]:
        """The tokens that a text begins with."""
        tokens: list[int] = []
        for length in range(1, len(text) + 1):
            found = self._beginnings.get(text[:length])
            if found is None:
                break
            tokens += found
        return tokens


class CopyPaths:
    """What may be written, token by token.

    Args:
        spellings: of the vocabulary.
        sources: to copy from.
        also: whole texts that may be written instead.
        unit: "span" for one stretch of a source, "word" for words of the sources in any order.
        marks: how many numbers may be cited behind the words, from [1] up.
    """

    def __init__(
        self, spellings: Spellings, sources: Sequence[str], also: Sequence[str], unit: Unit, marks: int
    ) -> None:
        self._spellings = spellings
        self._sources = QuotedText(sources)
        self._marks = marks
        self._tokens: dict[Path, list[int]] = {}
        words = [(opening, at + len(sign.encode())) for at, sign in self._sources.starts for opening in openings(sign)]
        texts = [text.encode("utf-8", "replace") for text in also if text.strip()]
        self._words = tuple(Path(opening, at) for opening, at in words)
        self._next_words = tuple(path for path in self._words if path.ahead[:1] == b" ") if unit == "word" else ()
        self.start: frozenset[Path] = frozenset([*self._words, *(path for text in texts for path in self._whole(text))])

    def after(self, paths: Iterable[Path], token: int) -> frozenset[Path]:
        """The ways on once a token is written; none where it was not allowed."""
        text = self._spellings.spelled.get(token, b"")
        if not text:
            return frozenset()
        going = [path for path in (self._along(path, text) for path in paths) if path is not None]
        further = [each for path in going if self._may_end(path) for each in self._behind(path)]
        words = self._next_words if any(path.at != _TAIL and self._may_end(path) for path in going) else ()
        return frozenset([*going, *further, *words])

    def allowed(self, paths: Iterable[Path]) -> tuple[set[int], bool]:
        """The tokens that may come next, and whether the answer may end here."""
        tokens: set[int] = set()
        ends = False
        for path in paths:
            tokens.update(self._opening(path))
            ends = ends or self._may_end(path)
        return tokens, ends

    def _whole(self, text: bytes) -> Iterable[Path]:
        """The paths of a text of the caller's, which is closed by its own full stop if it has one."""
        words = text.decode().strip()
        stopped = words.encode()[-1:] in _STOPS
        for opening in openings(words[0]):
            yield Path(opening + words[1:].encode(), _TAIL, self._marks if stopped else 0, stopped)

    def _along(self, path: Path, text: bytes) -> Path | None:
        """What is left of a path when a text is written; None where it spells another."""
        ahead = path.ahead
        if len(text) <= len(ahead):
            return path._replace(ahead=ahead[len(text) :]) if ahead.startswith(text) else None
        rest = text[len(ahead) :]
        if not text.startswith(ahead) or path.at == _TAIL or not self._sources.text.startswith(rest, path.at):
            return None
        return Path(b"", path.at + len(rest))

    def _opening(self, path: Path) -> list[int]:
        """The tokens that a path begins with; looked up once."""
        tokens = self._tokens.get(path)
        if tokens is None:
            text = path.ahead
            if path.at != _TAIL:
                text += self._sources.text[path.at : path.at + self._spellings.longest]
            tokens = self._tokens[path] = self._spellings.opening(text)
        return tokens

    def _may_end(self, path: Path) -> bool:
        return not path.ahead and (path.at == _TAIL or path.at in self._sources.ends)

    def _behind(self, path: Path) -> list[Path]:
        """Further marks, and the full stop that closes them: "five days [2]."."""
        text = self._sources.text
        stopped = path.stopped or (path.at != _TAIL and text[path.at - 1 : path.at] in _STOPS)
        marks = [
            Path(b"%s[%d]" % (lead, number), _TAIL, number, stopped)
            for number in range(path.cited + 1, self._marks + 1)
            for lead in (b"", b" ")
        ]
        return marks if stopped else [*marks, Path(b".", _TAIL, self._marks, True)]
