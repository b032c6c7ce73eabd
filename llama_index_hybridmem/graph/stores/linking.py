"""Keeps names and links exact under changes, inside one transaction; knows no database and no threads.

After any sequence of changes the tables equal those of a fresh build from the surviving passages. Two things make that
so: a passage's links are always computed whole, from its own words and the current dictionary; and whenever the
dictionary changes, exactly the passages that can see the change are computed again. A new name is looked up in an
inverted index of words (a phrase search, no scan); a name that goes away was linked wherever it mattered.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from ...errors import StoreError
from ..entities import Gazetteer, Mention, is_short, mentions, normalise, title_names, words
from .base import Fact, Passage

_PER_ROUND = 256
"""Passages whose texts and links are held in memory at a time."""

LinkRow = tuple[int, int, int, str]
"""A link's total, upper, titled (0 or 1) and surface."""
FactRow = tuple[str, str, str, str, str, str]
"""A fact's subject, relation, object, source, and the names of subject and object."""
Change = tuple[int, int, int]
"""How a name's df, total and upper change."""


def fact_names(fact: Fact) -> list[str]:
    """Name the ends of a fact, if both are written as names.

    Measured on MuSiQue with GPT-3.5 triples: letting common-noun ends ("monthly publication") into the dictionary costs
    recall, names alone add to it; so other facts are kept to be read and cited, but tie nothing together.
    """
    ends = (fact.subject.strip(), fact.object.strip())
    names = [normalise(end) for end in ends]
    written_as_names = all(end[:1].isupper() for end in ends)
    return names if written_as_names and all(names) and all(is_short(name) for name in names) else []


def stated_names(fact: Fact) -> list[str]:
    """Name those ends of a stated fact that are written as names; the user's own words are trusted one by one."""
    ends = [normalise(end) for end in (fact.subject.strip(), fact.object.strip()) if end[:1].isupper()]
    return [name for name in ends if name and is_short(name)]


def fact_rows(facts: Iterable[Fact]) -> list[FactRow]:
    """Write facts as rows; of a statement from several sources the first in alphabetical order stays."""
    rows: dict[tuple[str, str, str], FactRow] = {}
    for fact in facts:
        subject, target = fact_names(fact) or (normalise(fact.subject), normalise(fact.object))
        row = (fact.subject, fact.relation, fact.object, fact.source, subject, target)
        rows[row[:3]] = min(row, rows.get(row[:3], row), key=lambda row: row[3])
    return list(rows.values())


def digest(passage: Passage) -> str:
    """Hash all of a passage: another hash, another passage."""
    parts = [
        passage.doc_id, passage.doc_hash, passage.long, passage.title, passage.lead, passage.text, passage.node,
        sorted(passage.names), [[f.subject, f.relation, f.object, f.source] for f in passage.facts],
        dict(passage.metadata),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Row:
    """A passage as the tables take it.

    Attributes:
        passage: the passage.
        digest: see `digest`.
        declared: the names it declares: its own, its title's, and the ends of its facts.
        facts: its facts.
        title_words: normalised, one blank apart.
        text_words: the same of its text.
    """

    passage: Passage
    digest: str
    declared: frozenset[str]
    facts: tuple[FactRow, ...]
    title_words: str
    text_words: str

    @classmethod
    def of(cls, passage: Passage, digest: str) -> Row:
        """Make the row of a passage.

        Raises:
            StoreError: an id that no store can keep.
        """
        if "\0" in passage.node_id + passage.doc_id:
            raise StoreError(f"a NUL character in node id {passage.node_id!r} or document id {passage.doc_id!r}")
        ends = [name for fact in passage.facts for name in fact_names(fact)]
        declared = frozenset({*passage.names, *title_names(passage.title if passage.lead else ""), *ends})
        facts = tuple(fact_rows(passage.facts))
        return cls(passage, digest, declared, facts, _words(passage.title), _words(passage.text))

    @property
    def written(self) -> Written:
        """What names are read from."""
        passage = self.passage
        return Written(passage.title if passage.lead else "", passage.text, tuple(row[:3] for row in self.facts))


@dataclass(frozen=True)
class Written:
    """What a stored passage's links are computed from: the title it declares, its text, its facts' three parts."""

    title: str
    text: str
    facts: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Removed:
    """What went with removed passages: the names they declared, and how many of them were long."""

    declared: Counter[str]
    long: int


class Tables(Protocol):
    """What the linker asks of a database, inside one write transaction; everything in batches."""

    def insert(self, rows: Sequence[Row]) -> list[int]:
        """Insert passages without their links; returns their new numbers."""

    def remove(self, passages: Sequence[int]) -> Removed:
        """Delete passages, whose links are gone already, with their facts."""

    def passage_count(self) -> int:
        """Count the passages."""

    def change_names(self, uses: Mapping[str, int], given: Collection[str]) -> tuple[list[str], list[str]]:
        """Change how many passages declare each name, and mark those the user gave.

        Returns:
            (names that were not there before, names that nobody declares or gave any more).
        """

    def passages_with(self, names: Sequence[str]) -> set[int]:
        """Find the passages that have one of the names, a sequence of words, in title or text."""

    def linked_to(self, names: Sequence[str]) -> set[int]:
        """Find the passages linked to one of the names."""

    def written(self, passages: Sequence[int]) -> dict[int, Written]:
        """Read what links are computed from."""

    def links_of(self, passages: Sequence[int]) -> dict[int, dict[str, LinkRow]]:
        """Read the links of passages, by name; passages without links may be missing."""

    def relink(self, gone: Sequence[tuple[int, str]], come: Sequence[tuple[int, str, LinkRow]]) -> None:
        """Delete and insert links; a link that changes is in both."""

    def count_mentions(self, changes: Mapping[str, Change]) -> None:
        """Change what is counted of each name."""

    def forget_names(self, names: Sequence[str]) -> None:
        """Delete names that nothing is linked to any more."""

    def count(self, changes: Mapping[str, int]) -> None:
        """Change what is counted over the whole store."""


class Dictionary(Protocol):
    """The known names, wherever they are kept."""

    def within(self, texts: Iterable[str]) -> Gazetteer:
        """Give a gazetteer that holds at least the known names in these texts."""

    def change(self, appeared: Collection[str], vanished: Collection[str]) -> None:
        """Follow a change of the names in the tables."""


class HeldDictionary:
    """All known names in memory."""

    def __init__(self, gazetteer: Gazetteer) -> None:
        self._gazetteer = gazetteer

    def within(self, texts: Iterable[str]) -> Gazetteer:
        """See `Dictionary`."""
        return self._gazetteer

    def change(self, appeared: Collection[str], vanished: Collection[str]) -> None:
        """See `Dictionary`."""
        self._gazetteer.add(appeared)
        self._gazetteer.discard(vanished)


class Linker:
    """Applies changes to the tables of one open transaction.

    Args:
        tables: within a write transaction.
        dictionary: the names as the tables have them; changed in step with them.
    """

    def __init__(self, tables: Tables, dictionary: Dictionary) -> None:
        self._tables = tables
        self._dictionary = dictionary
        self._uses: Counter[str] = Counter()  # change in the number of passages that declare a name
        self._given: set[str] = set()
        self._fresh: dict[int, Written] = {}
        self._changes: dict[str, Change] = {}  # by name
        self._counted: Counter[str] = Counter()  # change in what is counted over the whole store

    def add(self, rows: Sequence[Row]) -> None:
        """Insert passages that the tables do not have."""
        if not rows:
            return
        numbers = self._tables.insert(rows)
        for number, row in zip(numbers, rows, strict=True):
            self._fresh[number] = row.written
            self._uses.update(row.declared)
            self._counted["long"] += row.passage.long

    def remove(self, passages: Iterable[int]) -> None:
        """Delete passages and everything that hangs on them."""
        for some in _rounds(passages):
            self._relink(some, {})
            removed = self._tables.remove(some)
            self._uses.subtract(removed.declared)
            self._counted["long"] -= removed.long

    def give(self, names: Iterable[str]) -> None:
        """Note names that the user states and no passage need declare."""
        self._given.update(names)

    def settle(self) -> bool:
        """Bring dictionary and links in line with what was added and removed; says whether names changed."""
        uses = {name: change for name, change in self._uses.items() if change}
        appeared, vanished = self._tables.change_names(uses, self._given) if uses or self._given else ([], [])
        stale = set(self._fresh)
        if appeared and len(self._fresh) < self._tables.passage_count():
            stale.update(self._tables.passages_with(appeared))
        if vanished:
            stale.update(self._tables.linked_to(vanished))
        self._dictionary.change(appeared, vanished)
        for some in _rounds(sorted(stale)):
            self._relink(some, self._mentions(some))
        self._tables.count_mentions({name: change for name, change in self._changes.items() if any(change)})
        if vanished:
            self._tables.forget_names(vanished)
        self._tables.count({key: change for key, change in self._counted.items() if change})
        return bool(appeared or vanished)

    def _mentions(self, passages: Sequence[int]) -> dict[int, dict[str, Mention]]:
        old = [passage for passage in passages if passage not in self._fresh]
        written = {**(self._tables.written(old) if old else {}), **self._fresh}
        gazetteer = self._dictionary.within(
            text for passage in passages for text in (written[passage].title, written[passage].text)
        )
        return {passage: _mentions(written[passage], gazetteer) for passage in passages}

    def _relink(self, passages: Sequence[int], found: Mapping[int, Mapping[str, Mention]]) -> None:
        """Make passages' links what they should be, touching only those that differ."""
        linked = [passage for passage in passages if passage not in self._fresh]
        old = self._tables.links_of(linked) if linked else {}
        gone: list[tuple[int, str, LinkRow]] = []
        come: list[tuple[int, str, LinkRow]] = []
        for passage in passages:
            before = old.get(passage, {})
            after = {name: (m.total, m.upper, int(m.titled), m.surface) for name, m in found.get(passage, {}).items()}
            gone += [(passage, name, link) for name, link in before.items() if after.get(name) != link]
            come += [(passage, name, link) for name, link in after.items() if before.get(name) != link]
        if gone or come:
            self._tables.relink([(passage, name) for passage, name, _ in gone], come)
        for sign, links in ((-1, gone), (1, come)):
            for _, name, (total, upper, _, _) in links:
                before_ = self._changes.get(name, (0, 0, 0))
                self._changes[name] = (before_[0] + sign, before_[1] + sign * total, before_[2] + sign * upper)
                self._counted["total"] += sign * total
                self._counted["upper"] += sign * upper


def _mentions(written: Written, gazetteer: Gazetteer) -> dict[str, Mention]:
    found = mentions(written.text, written.title, title_names(written.title), gazetteer)
    for subject, relation, target in sorted(written.facts):
        for name, surface in zip(fact_names(Fact(subject, relation, target)), (subject, target), strict=False):
            found.setdefault(name, Mention(surface, 0, 0))
    return found


def _rounds(passages: Iterable[int]) -> Iterator[list[int]]:
    remaining = iter(passages)
    while some := list(islice(remaining, _PER_ROUND)):
        yield some


def _words(text: str) -> str:
    return " ".join(words(text).texts)
