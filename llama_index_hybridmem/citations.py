"""Whether the words that an answer cites or quotes stand in its sources, word for word; pure, knows no model.

`answers.verify_citations` asks whether a source has enough of a sentence's words; this asks for the words themselves,
as an answer that was copied (`llms.copying`) or a quoting target (`export.targets`) has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llama_index_hybridmem.export.targets import BEGIN, END
from llama_index_hybridmem.noise.support import quoted
from llama_index_hybridmem.terms import sentences, words

_NUMBERS = r"\[[0-9]{1,9}(?:\s?[,;–-]\s?[0-9]{1,9})*\]"
_MARKS = re.compile(rf"\s*{_NUMBERS}(?:\s*{_NUMBERS})*")
_PART = re.compile(r"([0-9]+)(?:\s?[–-]\s?([0-9]+))?")
_BEHIND_STOP = re.compile(rf"([.!?])({_MARKS.pattern})")
_QUOTE = re.compile(rf"(?:\[([0-9]{{1,9}})\][ \t]*)?{BEGIN}(.*?){END}", re.DOTALL)
_LINE = re.compile(r'^[ \t]*(?:[-*][ \t]*)?(?:\[([0-9]{1,9})\][ \t]*)?"(.*)"[ \t]*$')
_QUOTES, _ANSWER = re.compile(r"\A\s*Quotes:[ \t]*$", re.MULTILINE), re.compile(r"^Answer:", re.MULTILINE)
_LONGEST_RANGE = 50
_JOINT, _LETTER = re.compile(r"(?<=\d)[.,:/](?=\d)"), "\ua4f8"
"""What joins digits counts as a letter, so that "$1" is not found in "$1,200"."""
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


@dataclass(frozen=True)
class Cited:
    """One citation or quote.

    Attributes:
        number: of the source that it names, the first being 1; None for a quote that names none.
        text: the words that should stand there.
        exists: whether there is such a source; True where none is named.
        found: whether they do, in that source, or in any where none is named; None when there are no words to look for.
        elsewhere: numbers of the other sources that have them.
    """

    number: int | None
    text: str
    exists: bool
    found: bool | None
    elsewhere: tuple[int, ...] = ()


@dataclass(frozen=True)
class Citations:
    """What became of an answer's citations and quotes.

    Attributes:
        each: in reading order, quotes before what the rest of the answer cites.
        verbatim: whether every one names a source that has its words; None when there is nothing to check.
    """

    each: tuple[Cited, ...]
    verbatim: bool | None


def check_citations(answer: str, sources: Sequence[str]) -> Citations:
    """Look up every citation and quote of an answer in its sources.

    Case, runs of blanks, and punctuation at the edges make no difference. A mark stands behind the words since the
    beginning of its sentence or the mark before ("Five days [1], for a fee of $25 [2]."), before or after the full
    stop. In an answer that begins with "Quotes:" only what follows "Answer:" is searched for marks, beside the quotes.

    Args:
        answer: with marks like [1], [1][2], [1, 2] or [1-3], RAFT's quotes (##begin_quote## to ##end_quote##), or lines
            of ``[1] "words"`` under "Quotes:".
        sources: the numbered sources, the first being [1].
    """
    quotes, rest = _quotes(answer)
    found = [_look_up(number, text, sources) for number, text in [*quotes, *_marked(rest)]]
    checked = [each.found for each in found if each.found is not None]
    return Citations(tuple(found), all(checked) if checked else None)


def _quotes(answer: str) -> tuple[list[tuple[int | None, str]], str]:
    """The quotes with the numbers they name, and what is left to search for marks."""
    head = _QUOTES.match(answer)
    begins = _ANSWER.search(answer) if head else None
    section = answer[head.end() : begins.start() if begins else len(answer)] if head else ""
    lines = [match for line in section.splitlines() if (match := _LINE.match(line))]
    places = [*lines, *_QUOTE.finditer(answer)]
    rest = answer[begins.end() :] if begins else "" if head else answer
    return [(int(each[1]) if each[1] else None, each[2].strip()) for each in places], _QUOTE.sub(" ", rest)


def _marked(text: str) -> Iterator[tuple[int, str]]:
    """Each number that is cited, with the words it stands behind."""
    for sentence in sentences(_BEHIND_STOP.sub(r"\2\1", text)):
        at = 0
        for mark in _MARKS.finditer(sentence):
            said = sentence[at : mark.start()].strip(" \t\r\n,;:")
            at = mark.end()
            for number in dict.fromkeys(_numbers(mark[0])):
                yield number, said


def _numbers(mark: str) -> Iterator[int]:
    """Of [1], [1][2], [1, 2] and [1-3]; a range of more than 50 is its two ends."""
    for part in _PART.finditer(mark):
        first, last = int(part[1]), int(part[2] or part[1])
        yield from range(first, last + 1) if 0 <= last - first <= _LONGEST_RANGE else (first, last)


def _look_up(number: int | None, text: str, sources: Sequence[str]) -> Cited:
    exists = number is None or 1 <= number <= len(sources)
    if not words(text):
        return Cited(number, text, exists, None if exists else False)
    holding = tuple(place for place, source in enumerate(sources, start=1) if _holds(source, text))
    found = bool(holding) if number is None else number in holding
    return Cited(number, text, exists, found, tuple(place for place in holding if place != number))


def _holds(source: str, text: str) -> bool:
    """Whether a source has the words; in scripts without blanks any stretch is words."""
    source, text = (_JOINT.sub(_LETTER, " ".join(each.split())) for each in (source, text))
    if quoted(text, source) is not None:
        return True
    return _UNSPACED.search(text) is not None and text.casefold() in source.casefold()
