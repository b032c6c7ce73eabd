"""Which sources are used and which rejected and why, in words, from what was done to them; pure, knows no layout.

Only what a reader can see is told: a passage that was cut at a full stop is not called cut, a number that was changed
in place is not called wrong, a copy is only called a copy beside its original, and only contradicts it where both
values can be read; a distractor is called close only where it has words of the question.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import NamedTuple

from llama_index_hybridmem.export.layouts import FIELDS, visible
from llama_index_hybridmem.export.record import Record
from llama_index_hybridmem.export.wording import Wording
from llama_index_hybridmem.noise.kinds import Kind
from llama_index_hybridmem.noise.scene import Damage, Passage
from llama_index_hybridmem.noise.support import quoted
from llama_index_hybridmem.terms import content_stems

CLOSE = 1 / 3
"""Share of the question's words from which on a passage is called close to it. Our judgement."""
MOST = 2
"""Remarks on one passage; the first ones weigh most."""

_USED = ("{names} answer{s} the question.", "The answer is in {names}.", "{names} {have} the answer.")
_STILL = ("but the answer is still there.", "but that does not touch the answer.")
_NONE = ("None of the sources answers the question", "No source gives the answer", "The sources do not say")
_IRRELEVANT = ("{be} about something else", "{have} nothing to do with the question")
_NEAR = ("{be} close to the question but do{es} not answer it", "answer{s} something close to the question")
_SILENT = ("do{es} not answer the question", "do{es} not say")
_STALE = ("{be} an older version ({value})", "{be} out of date ({value})")
_CONFLICT = ("disagree{s} with {of}", "say{s} otherwise than {of}")
_FROM = " and come{s} from {value}"
_COPY = ("repeat{s} {of}", "say{s} the same as {of}")
_NEARLY = ("say{s} nearly the same as {of}",)
_CUT = ("{be} cut off", "break{s} off in the middle")
_CUT_HEAD = ("{have} lost the beginning", "begin{s} in the middle")
_CUT_BEFORE = ("{be} cut off before that", "break{s} off before that")
_TEXT: Mapping[Kind, tuple[int, tuple[str, ...]]] = {  # the places it takes for a reader to see it
    "ocr": (3, ("{have} misread letters", "{be} hard to read")),
    "encoding": (1, ("{have} broken characters",)),
    "layout": (3, ("{be} badly laid out",)),
    "html": (1, ("{have} leftovers of HTML",)),
    "markdown": (1, ("{have} broken formatting",)),
    "language": (1, ("{have} words in another language",)),
}
_WRONG_TITLE = ("{have} a title that does not fit",)
_MISSING = ("{have} no {value}",)
_EMPTY = ("none", "unknown", "untitled", "n/a")  # a reader takes such a value for none

_ONE = {"be": "is", "have": "has", "s": "s", "es": "es"}
_MANY = {"be": "are", "have": "have", "s": "", "es": ""}


class Remark(NamedTuple):
    """What is told of a passage.

    Attributes:
        forms: ways to say it, one of which is drawn.
        of: the other passage, as [n].
        value: a date, source or field's name, as the reader sees it.
    """

    forms: tuple[str, ...]
    of: str = ""
    value: str = ""


def reason(record: Record, wording: Wording, used: Sequence[int]) -> str:
    """Say on one line which sources are used and which rejected and why.

    Args:
        record: with its damage.
        wording: which metadata a reader sees.
        used: numbers of the passages that are quoted, the first being 1; empty for an abstention.

    Returns:
        a few sentences; the same record gives the same.
    """
    draw = Random(f"{record.seed}:reason")
    remarks = dict(_remarks(record, wording, used))
    rejected = [*_told({number: each for number, each in remarks.items() if number not in used}, draw)]
    if not used:
        return "; ".join([draw.choice(_NONE), *rejected]) + "."
    parts = [_say(draw.choice(_USED), used)]
    kept = {number: each for number, each in remarks.items() if number in used}
    parts += [f"{told}, {draw.choice(_STILL)}" for told in _told(kept, draw)]
    return " ".join([*parts, *(f"{told}." for told in rejected)])


def _remarks(record: Record, wording: Wording, used: Sequence[int]) -> Iterator[tuple[int, tuple[Remark, ...]]]:
    scene = _Scene(record, wording)
    for number, passage in enumerate(record.noisy, start=1):
        found = [*scene.of(passage, number in used)]
        if not found and used and number not in used and scene.is_silent(passage):
            found = [Remark(_SILENT)]
        if found:
            yield number, tuple(dict.fromkeys(found))[:MOST]


def _told(remarks: Mapping[int, tuple[Remark, ...]], draw: Random) -> Iterator[str]:
    """A clause for each group of passages of which the same is to be told."""
    groups: dict[tuple[Remark, ...], list[int]] = {}
    for number, each in remarks.items():
        groups.setdefault(each, []).append(number)
    for told, numbers in groups.items():
        clauses = [_say(draw.choice(each.forms), numbers, each) for each in told]
        yield f"{_names(numbers)} {' and '.join(clauses)}"


def _say(form: str, numbers: Sequence[int], remark: Remark | None = None) -> str:
    _, of, value = remark or Remark(())
    return form.format(names=_names(numbers), of=of, value=value, **(_ONE if len(numbers) == 1 else _MANY))


def _names(numbers: Sequence[int]) -> str:
    *first, last = [f"[{each}]" for each in numbers]
    return f"{', '.join(first)} and {last}" if first else last


class _Scene:
    """What a reader sees of a record's passages beside one another."""

    def __init__(self, record: Record, wording: Wording) -> None:
        self._record = record
        self._wording = wording
        self._at = {each.id: number for number, each in enumerate(record.noisy, start=1)}
        self._asked = set(content_stems(record.question))
        self._answer = (record.expected or "").strip().casefold()

    def of(self, passage: Passage, used: bool) -> Iterator[Remark]:
        """What is to be told of a passage, what weighs most first."""
        shown = visible(passage, self._wording) if passage.damage else {}
        if not used:
            yield from self._standing(passage, shown)
        yield from self._cuts(passage)
        for each in passage.damage:
            least, forms = _TEXT.get(each.kind, (0, ()))
            if forms and len(each.spans) >= least:
                yield Remark(forms)
        for each in passage.damage:
            if each.kind == "metadata":
                yield from self._metadata(each, shown)

    def is_silent(self, passage: Passage) -> bool:
        """Whether it is safe to say that it does not answer."""
        known = self._record.gold and passage.id not in self._record.gold
        return bool(known) and bool(self._answer) and self._answer not in passage.text.casefold()

    def _is_close(self, passage: Passage) -> bool:
        low = f"{passage.title} {passage.text}".casefold()
        return sum(stem in low for stem in self._asked) >= CLOSE * len(self._asked)  # within words, too: quick

    def _standing(self, passage: Passage, shown: Mapping[str, str]) -> Iterator[Remark]:
        for each in passage.damage:
            if each.kind == "irrelevant":
                yield Remark(_IRRELEVANT)
            elif each.kind == "distractor" and (each.operator == "fictitious" or self.is_silent(passage)):
                yield Remark(_NEAR if self._is_close(passage) else _SILENT)
            elif each.kind in ("stale", "conflict", "counterfactual", "duplicate"):
                yield from self._beside(passage, each, shown)

    def _beside(self, passage: Passage, damage: Damage, shown: Mapping[str, str]) -> Iterator[Remark]:
        """What only shows beside the passage that it is a copy of."""
        number = self._at.get(damage.note.get("id", ""))
        if number is None or self._record.noisy[number - 1] is passage:
            return
        beside = self._record.noisy[number - 1]
        original = visible(beside, self._wording)
        of = f"[{number}]"
        if damage.kind == "duplicate":
            yield Remark(_NEARLY if damage.operator == "near_duplicate" else _COPY, of)
            return
        if damage.kind == "stale":
            names = [name for name in ("date", "version") if name in shown and shown[name] != original.get(name)]
            if names:
                yield Remark(_STALE, value=shown[names[0]])
                return
        if not _is_read(damage, "now", passage) or not _is_read(damage, "was", beside):
            return
        if damage.kind != "stale" and "source" in shown and shown["source"] != original.get("source", ""):
            yield Remark(tuple(form + _FROM for form in _CONFLICT), of, shown["source"])
        else:
            yield Remark(_CONFLICT, of)

    def _held(self, passage: Passage) -> bool:
        """Whether nothing but a cut has taken the answer out of a passage."""
        was = next((each.text for each in self._record.clean if each.id == passage.id), self._answer)
        alone = len({each.kind for each in passage.damage}) == 1
        return passage.id in self._record.gold and alone and self._answer in was.casefold()

    def _cuts(self, passage: Passage) -> Iterator[Remark]:
        text = passage.text.strip()
        spans = [span for each in passage.damage if each.kind == "truncation" for span in each.spans]
        if not spans or not text:
            return
        if any(end >= len(passage.text.rstrip()) for _, end in spans) and _breaks_off(text):
            is_why = not self._record.answerable and self._held(passage) and all(start > 0 for start, _ in spans)
            yield Remark(_CUT_BEFORE if is_why else _CUT)
        elif any(start == 0 for start, _ in spans) and _starts_amid(text):
            yield Remark(_CUT_HEAD)

    def _metadata(self, damage: Damage, shown: Mapping[str, str]) -> Iterator[Remark]:
        for name in self._wording.shown:
            if not set(FIELDS.get(name, (name,))) & set(damage.fields):
                continue
            if shown.get(name, "none").casefold() in _EMPTY:
                yield Remark(_MISSING, value=name)
            elif name == "title":
                yield Remark(_WRONG_TITLE)


def _is_read(damage: Damage, name: str, passage: Passage) -> bool:
    """Whether a value of a damage's note, if it is noted, can be read in a passage."""
    return name not in damage.note or quoted(damage.note[name], passage.text) is not None


def _breaks_off(text: str) -> bool:
    return text[-1].isalnum() or text[-1] in ",;:-–(" or text.endswith(("...", "…"))


def _starts_amid(text: str) -> bool:
    return text[0].islower() or text[0] in ",;:.)!?"
