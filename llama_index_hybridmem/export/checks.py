"""What a record must hold true by itself, how many there are of what, and whether that is enough; pure, reads no file.

`faults` looks at one record; `Tally` counts them as they pass and keeps nothing else of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from llama_index_hybridmem.export.facts import unsupported
from llama_index_hybridmem.export.options import SPLITS
from llama_index_hybridmem.export.record import Record
from llama_index_hybridmem.noise.kinds import LIST_KINDS, Kind
from llama_index_hybridmem.noise.scene import Damage, Passage, Scene, digest
from llama_index_hybridmem.noise.support import evidence, quoted, support

FEWEST, LIMITED = 100, 500
"""Rows to train on: below the first, examples in the prompt do as well and cost nothing to change; below the second,
a model learns the form of the answers and little else. Rules of thumb, not measured here."""

_DOMAINS, _OTHERS = 1000, "(others)"  # so that domains that are all different do not fill the memory
_FALSE: tuple[Kind, ...] = ("counterfactual", "stale", "conflict")


@dataclass(frozen=True, slots=True)
class Tallies:
    """How many records there are of what.

    Attributes:
        records: all.
        answerable: those whose passages support the answer; the others abstain.
        splits: split to (records, answerable ones).
        origins: origin to records.
        domains: domain to records, "" for those of none.
        kinds: kind of noise to split to records that have it.
        operators: operator to how often it was used.
        passages: noisy passages in all.
        injected: kind to how many passages have it by provenance (questions, for kinds of lists).
        undamaged: records without any noise.
        without_gold: records of which nothing that was retrieved answers.
        faults: what a record must not have (`faults`) to how many have it.
        faulty: the first of them, as (id, what is wrong).
    """

    records: int = 0
    answerable: int = 0
    splits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    origins: Mapping[str, int] = field(default_factory=dict)
    domains: Mapping[str, int] = field(default_factory=dict)
    kinds: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    operators: Mapping[str, int] = field(default_factory=dict)
    passages: int = 0
    injected: Mapping[str, int] = field(default_factory=dict)
    undamaged: int = 0
    without_gold: int = 0
    faults: Mapping[str, int] = field(default_factory=dict)
    faulty: tuple[tuple[str, str], ...] = ()

    @property
    def abstained(self) -> int:
        """Records that abstain."""
        return self.records - self.answerable

    def share_of(self, kind: str) -> float | None:
        """Share of the passages (of the questions, for kinds of lists) with a kind; None without any."""
        whole = self.records if kind in LIST_KINDS else self.passages
        return self.injected.get(kind, 0) / whole if whole else None

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        row = asdict(self)
        row["splits"] = {split: {"records": n, "answerable": can} for split, (n, can) in self.splits.items()}
        row["faulty"] = [{"id": id_, "fault": fault} for id_, fault in self.faulty]
        return {**row, "abstained": self.abstained}


class Tally:
    """Counts records.

    Args:
        named: how many faulty ones are named.
    """

    def __init__(self, named: int = 20) -> None:
        self._named = named
        self._passages = 0
        self._undamaged = 0
        self._without_gold = 0
        self._records: Counter[tuple[str, bool]] = Counter()
        self._origins: Counter[str] = Counter()
        self._domains: Counter[str] = Counter()
        self._kinds: Counter[tuple[str, str]] = Counter()
        self._operators: Counter[str] = Counter()
        self._injected: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._faulty: list[tuple[str, str]] = []

    def add(self, record: Record) -> None:
        """Count a record."""
        self._records[record.split, record.answerable] += 1
        self._origins[record.origin] += 1
        domain = record.domain or ""
        self._domains[domain if domain in self._domains or len(self._domains) < _DOMAINS else _OTHERS] += 1
        self._passages += len(record.noisy)
        kinds = record.kinds()
        self._undamaged += not kinds
        self._without_gold += not record.gold
        self._kinds.update((kind, record.split) for kind in kinds)
        self._injected.update(kinds & LIST_KINDS)
        for passage in record.noisy:
            self._injected.update({each.kind for each in passage.damage} - LIST_KINDS)
            self._operators.update(each.operator for each in passage.damage)
        self._operators.update(each.operator for passage in record.removed for each in passage.damage[-1:])
        for fault in faults(record):
            self._faults[fault.split(":")[0]] += 1
            if len(self._faulty) < self._named:
                self._faulty.append((record.id, fault))

    def result(self) -> Tallies:
        """Give the counts so far."""
        counts = self._records
        present = [split for split in SPLITS if counts[split, True] + counts[split, False]]
        return Tallies(
            counts.total(),
            sum(n for (_, answerable), n in counts.items() if answerable),
            {split: (counts[split, True] + counts[split, False], counts[split, True]) for split in present},
            _sorted(self._origins),
            _sorted(self._domains),
            {
                kind: {split: self._kinds[kind, split] for split in present}
                for kind in sorted({kind for kind, _ in self._kinds})
            },
            _sorted(self._operators),
            self._passages,
            _sorted(self._injected),
            self._undamaged,
            self._without_gold,
            _sorted(self._faults),
            tuple(self._faulty),
        )


def verdict(train_rows: int) -> tuple[str, str]:
    """Tell whether there is enough to train on.

    Args:
        train_rows: records in train.

    Returns:
        "too few", "limited" or "enough", and a sentence on what to do.
    """
    if train_rows < FEWEST:
        return "too few", f"{train_rows:,} training rows: use retrieval and few-shot examples instead of training."
    if train_rows < LIMITED:
        return "limited", f"{train_rows:,} training rows: limited; expect form and abstention to be learned, not more."
    return "enough", f"{train_rows:,} training rows: enough to train on and to measure what it brought."


def faults(record: Record) -> Iterator[str]:
    """Name everything about a record that cannot be right, each as "what: where".

    What the answer needs is looked up in the passages again, as when the record was made: an answer must have its
    support there, word for word, in one that answers and was not made false, and quote it; an abstention must have
    none. Spans must lie inside their texts; what was changed must say so; hashes must match.
    """
    if record.split not in SPLITS:
        yield f"unknown split: {record.split!r:.40}"
    if record.answerable:
        yield from _answer_faults(record)
    else:
        yield from _abstention_faults(record)
    yield from _quote_faults(record)
    yield from _passage_faults(record)


def _answer_faults(record: Record) -> Iterator[str]:
    if record.answer != record.expected:
        yield "answers otherwise than expected: the answer is not the expected one"
    found = _support(record)
    if not found:
        yield "answers without support: the passages do not hold the answer"
    elif facts := _made_up(record):
        yield f"answers what no passage says: {', '.join(facts):.80}"
    if not record.quotes:
        yield "answers without quotes: nothing says what supports the answer"
    for id_, words in found if record.quotes else ():
        if not any(each.passage == id_ and quoted(words, each.text) for each in record.quotes):
            yield f"quotes too little: {words!r:.80} of passage {id_!r:.80} stands in no quote"


def _abstention_faults(record: Record) -> Iterator[str]:
    if record.expected is not None and record.answer == record.expected:
        yield "answers though labelled as abstaining: the answer is the expected one"
    for id_, words in _support(record)[:1]:
        yield f"abstains though answerable: {words!r:.80} stands in passage {id_!r:.80}"
    if record.quotes:
        yield "abstains with quotes: something supports the answer after all"


def _support(record: Record) -> tuple[tuple[str, str], ...]:
    """What supports the expected answer in the noisy passages: (passage id, words); () without all of it."""
    before = Scene(record.question, record.clean, gold=record.gold, answer=record.expected, quotes=record.given)
    return support(before, before.with_passages(record.noisy), evidence(before))


def _made_up(record: Record) -> list[str]:
    """Figures and names of an answer in other words than its passages that these do not have; quotes may imply some."""
    if record.given or any(quoted(record.answer, each.text) is not None for each in record.noisy):
        return []
    return [each.text for each in unsupported(record)]


def _quote_faults(record: Record) -> Iterator[str]:
    scene = Scene(record.question, record.noisy, gold=record.gold)
    found = {each.id: each for each in record.noisy}
    for n, quote in enumerate(record.quotes):
        passage = found.get(quote.passage)
        if passage is None or quote.text not in passage.text:
            yield f"quotes what is not there: quotes[{n}], passage {quote.passage!r:.80}"
        elif not scene.is_gold(passage) or passage.has(*_FALSE):
            yield f"quotes what does not answer: quotes[{n}], passage {quote.passage!r:.80}"


def _passage_faults(record: Record) -> Iterator[str]:
    clean = {each.id: each for each in record.clean}
    ids = [each.id for each in record.noisy]
    if len(set(ids)) < len(ids):
        yield "two passages of one id: noisy"
    for n, passage in enumerate((*record.noisy, *record.removed)):
        place = f"noisy[{n}]" if n < len(record.noisy) else f"removed[{n - len(record.noisy)}]"
        was = clean.get(passage.id)
        if was is not None and not passage.damage and (was.text, was.metadata) != (passage.text, passage.metadata):
            yield f"changed without provenance: {place}"
        for damage in passage.damage:
            yield from _damage_faults(damage, passage, was, place)


def _damage_faults(damage: Damage, passage: Passage, was: Passage | None, place: str) -> Iterator[str]:
    if any(not 0 <= start <= end <= len(passage.text) for start, end in damage.spans):
        yield f"span outside of its text: {place}, {damage.operator}"
    if not 0 <= damage.severity <= 1:
        yield f"severity out of range: {place}, {damage.operator}"
    if was is not None and damage.original != digest(was):
        yield f"hash of another passage: {place}, {damage.operator}"


def _sorted(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items()))
