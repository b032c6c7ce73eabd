"""What the model shall say to a record, and read back what it said; pure, knows no layout and no language model.

The three parts of a reasoned target, each on lines of its own::

    Quotes:
    [2] "Refunds take five working days."
    Reason: [2] answers the question. [1] is cut off.
    Answer: Five working days [2].

An abstention has no quotes. Every quote stands verbatim in the noisy passage that it names, or there is no target.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.export.reasons import reason
from llama_index_hybridmem.export.record import Record
from llama_index_hybridmem.export.wording import Wording
from llama_index_hybridmem.terms import content_stems, sentences

BEGIN, END = "##begin_quote##", "##end_quote##"
"""RAFT's marks around a quote (its reference implementation, raft.py)."""

_NUMBER = r"\[[0-9]{1,9}(?:\s?[,;–-]\s?[0-9]{1,9})*\]"
_MARKS = re.compile(rf"\s{{0,3}}(?<![\w\])\[]){_NUMBER}(?:\s{{0,3}}{_NUMBER})*")
_RANGES = re.compile(r"([0-9]+)(?:\s?[–-]\s?([0-9]+))?")
_QUOTE_MARKS = re.compile(rf"{BEGIN}|{END}")
_RAFT_QUOTE = re.compile(rf"(?:\[([0-9]{{1,9}})\] )?{BEGIN}(.*?){END}", re.DOTALL)
_LINE_QUOTE = re.compile(r'\[([0-9]{1,9})\] "(.*?)"(?:\n|\Z)', re.DOTALL)
_REASONED = re.compile(r"\s*Reason:[ ]*(.*?)\nAnswer:[ ]*(.*)\Z", re.DOTALL)
_ENDS_RAFT = re.compile(r"##(?:begin|end)_quote")
_ENDS_LINE = re.compile(r'"\n')
_STOPPED = re.compile(r"(?<=[^\s.!?])[.!?]\Z")
_STRUCTURED = ("{", "[", "<", "```")


@dataclass(frozen=True)
class Quoted:
    """A quote in a target.

    Attributes:
        source: number of the passage it names, the first being 1; None when it names none.
        text: the words.
    """

    source: int | None
    text: str


@dataclass(frozen=True)
class Parsed:
    """What a target, or a model's output in its form, says.

    Attributes:
        quotes: in reading order.
        cited: numbers of the passages that the answer cites; where citations are no numbers, those quoted.
        answer: without citations, quotes and reason.
        abstained: whether the answer is one of the wordings of abstention, but for case and full stop.
        reason: "" without one.
    """

    quotes: tuple[Quoted, ...]
    cited: tuple[int, ...]
    answer: str
    abstained: bool
    reason: str = ""


def target(record: Record, wording: Wording) -> str:
    """Give what the model shall say.

    Args:
        record: where it is not answerable, the target abstains in the wording's words, whatever its answer.
        wording: of answer, citations and abstention.

    Raises:
        ConfigurationError: the record is answerable but has no answer, or a quote is not in the noisy passage that it
            names, or a reasoned target is asked for and nothing is quoted. Names the record.
    """
    quotes = _quotes(record, wording) if record.answerable else ()
    if wording.target == "reasoned":
        return _reasoned(record, wording, quotes)
    return _answer(record, wording, quotes)


def parse_target(text: str, wording: Wording) -> Parsed:
    """Read a target back, or what a model wrote in its form; what has another form is all answer.

    Args:
        text: as `target` gives it.
        wording: the one it was written with.
    """
    quotes: list[Quoted] = []
    told, body = "", text
    if wording.target == "reasoned":
        quotes, rest = _read_quotes(text, wording)
        if match := _REASONED.match(rest):
            told, body = match.groups()
        else:
            quotes = []
    elif wording.citation == "quotes":
        quotes = [Quoted(None, words) for _, words in _RAFT_QUOTE.findall(text)]
        body = text.split(BEGIN, 1)[0]
    cited = [number for mark in _MARKS.findall(body) for number in _numbers(mark)] if _is_numbered(wording) else []
    cited = cited if _is_numbered(wording) else [each.source for each in quotes if each.source is not None]
    answer = _bare(body, wording)
    known = {_plainly(each) for each in wording.abstain}
    return Parsed(tuple(quotes), tuple(dict.fromkeys(cited)), answer, _plainly(answer) in known, told)


def _is_numbered(wording: Wording) -> bool:
    return wording.citation == "numbers"


def _reasoned(record: Record, wording: Wording, quotes: Sequence[Quoted]) -> str:
    if record.answerable and not quotes:
        raise ConfigurationError(
            f"record {record.id!r:.80}: a reasoned target needs a quote, and nothing supports the answer; "
            'give its gold passages, or set the wording\'s target to "answer"'
        )
    used = sorted({each.source for each in quotes if each.source is not None})
    said = [f"[{each.source}] {_marked(each.text, wording)}" for each in quotes]
    head = "\n".join(["Quotes:", *said, ""]) if said else ""
    return f"{head}Reason: {reason(record, wording, used)}\nAnswer: {_cited(record, wording, quotes)}"


def _answer(record: Record, wording: Wording, quotes: Sequence[Quoted]) -> str:
    parts = [_cited(record, wording, quotes)]
    if wording.citation == "quotes":
        parts += dict.fromkeys(_marked(each.text, wording) for each in quotes)
    return " ".join(parts)


def _cited(record: Record, wording: Wording, quotes: Sequence[Quoted]) -> str:
    if not record.answerable:
        return wording.abstention(record.seed)
    answer = _bare(record.answer, wording)
    if not answer:
        raise ConfigurationError(f"record {record.id!r:.80}: answerable, but its answer is empty or only citations")
    return _with_numbers(answer, quotes) if _is_numbered(wording) and quotes else answer


def _with_numbers(answer: str, quotes: Sequence[Quoted]) -> str:
    """Put [n] behind each sentence that ends in a full stop, and at the end."""
    pieces = [] if answer.startswith(_STRUCTURED) else sentences(answer)
    if len(pieces) < 2:
        return _put(answer, quotes)
    done, read = [], 0
    for piece in pieces[:-1]:
        at = answer.find(piece, read)
        if at < 0 or not _STOPPED.search(piece):
            continue
        done += [answer[read:at], _put(piece, _closest(piece, quotes))]
        read = at + len(piece)
    return "".join(done) + _put(answer[read:], _closest(pieces[-1], quotes))


def _closest(sentence: str, quotes: Sequence[Quoted]) -> Sequence[Quoted]:
    """The quotes that share most words with a sentence; all of them when none shares any."""
    if len(quotes) < 2:
        return quotes
    stems = set(content_stems(sentence))
    shared = [len(stems & set(content_stems(each.text))) for each in quotes]
    return [each for each, count in zip(quotes, shared, strict=True) if count == max(shared)]


def _put(sentence: str, quotes: Sequence[Quoted]) -> str:
    marks = "".join(f"[{number}]" for number in sorted({each.source or 0 for each in quotes}))
    if _STOPPED.search(sentence):
        return f"{sentence[:-1]} {marks}{sentence[-1]}"
    return f"{sentence} {marks}"


def _quotes(record: Record, wording: Wording) -> tuple[Quoted, ...]:
    places = {each.id: (number, each.text) for number, each in enumerate(record.noisy, start=1)}
    found: list[Quoted] = []
    for each in record.quotes:
        number, text = places.get(each.passage, (0, ""))
        if not each.text.strip() or each.text not in text:
            raise ConfigurationError(
                f"record {record.id!r:.80}: the quote {each.text!r:.60} is not in the passage {each.passage!r:.80} "
                "that the prompt shows; quote from the noisy passages"
            )
        found.append(Quoted(number, _quotable(each.text, wording)))
    return tuple(dict.fromkeys(each for each in found if each.text.strip()))


def _quotable(text: str, wording: Wording) -> str:
    """The quote, or its longest piece without what would end it too early."""
    ends = _ENDS_RAFT if wording.citation == "quotes" else _ENDS_LINE
    return max(ends.split(text), key=len)


def _marked(text: str, wording: Wording) -> str:
    return f"{BEGIN}{text}{END}" if wording.citation == "quotes" else f'"{text}"'


def _read_quotes(text: str, wording: Wording) -> tuple[list[Quoted], str]:
    body = text.lstrip()
    if not body.startswith("Quotes:\n"):
        return [], text
    pattern = _RAFT_QUOTE if wording.citation == "quotes" else _LINE_QUOTE
    quotes, at = [], len("Quotes:\n")
    while match := pattern.match(body, at):
        quotes.append(Quoted(int(match[1]) if match[1] else None, match[2]))
        at = match.end() + (body[match.end() : match.end() + 1] == "\n")
    return quotes, body[at:]


def _bare(answer: str, wording: Wording) -> str:
    """An answer without marks that a reader would take for citations."""
    pattern = {"numbers": _MARKS, "quotes": _QUOTE_MARKS}.get(wording.citation)
    while pattern is not None and (shorter := pattern.sub("", answer)) != answer:
        answer = shorter
    return answer.strip()


def _numbers(mark: str) -> list[int]:
    """Of [1], [1][2], [1, 2] and [1-3]; a range of more than 50 is its two ends."""
    found: list[int] = []
    for part in _RANGES.findall(mark):
        first, last = int(part[0]), int(part[1] or part[0])
        found += range(first, last + 1) if 0 <= last - first < 50 else (first, last)
    return found


def _plainly(words: str) -> str:
    return words.strip().rstrip(".!").strip().casefold()
