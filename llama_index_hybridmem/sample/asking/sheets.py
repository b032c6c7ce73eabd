"""What the sheets say: facts, how to ask for them, names, domains, bridges, comparisons, twins; pure, opens no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Rows = Sequence[Mapping[str, str]]
_LIST = "|"


@dataclass(frozen=True)
class Fact:
    """A fact and where it stands: what the tables of several documents state is one fact.

    Attributes:
        documents: whose tables have it.
        also: whose prose says it, too.
    """

    entity: str
    attribute: str
    value: str
    unit: str
    documents: tuple[str, ...]
    also: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """All documents that answer."""
        return (*self.documents, *self.also)


@dataclass(frozen=True)
class Wording:
    """How to ask for an attribute.

    Attributes:
        answer: as the document writes it, where this is not value and unit; "" leaves it to them.
        direct: a question.
        again: another, told in other words.
        clause: what follows "tell me".
        keywords: for a search box.
    """

    attribute: str
    answer: str
    direct: str
    again: str
    clause: str
    keywords: str


@dataclass(frozen=True)
class Bridge:
    """The entity named through a fact of another one: "the maker of HBM3"."""

    entity: str
    attribute: str
    through: str
    phrase: str


@dataclass(frozen=True)
class Comparison:
    """Entities that differ in a number, and how to ask which has more (or less) of it."""

    attribute: str
    entities: tuple[str, ...]
    lowest_wins: bool
    wordings: tuple[str, ...]


@dataclass(frozen=True)
class Twin:
    """What else could be asked for an attribute, without an answer; cues are beginnings of words that would tell it."""

    attribute: str
    entities: tuple[str, ...]
    cues: tuple[str, ...]


@dataclass(frozen=True)
class Material:
    """Everything that questions are made from; documents are their prose by file stem, without the table of facts."""

    documents: Mapping[str, str]
    tables: Mapping[str, str]
    facts: tuple[Fact, ...]
    wordings: Mapping[tuple[str, str], Wording]
    names: Mapping[str, tuple[str, ...]]
    short: Mapping[str, str]
    domains: Mapping[str, str]
    bridges: tuple[Bridge, ...]
    comparisons: tuple[Comparison, ...]
    twins: Mapping[str, Twin]

    def wording(self, fact: Fact) -> Wording | None:
        """How to ask for a fact; None when it is not asked for."""
        found = self.wordings.get((fact.entity, fact.attribute)) or self.wordings.get(("", fact.attribute))
        return found if found and found.direct else None

    def named(self, entity: str) -> tuple[str, ...]:
        """What an entity is called in running text."""
        return self.names.get(entity, (entity,))

    def shortly(self, entity: str) -> str:
        """What it is called in a search box."""
        return self.short.get(entity, entity.removeprefix("the "))


def material(texts: Mapping[str, str], sheets: Mapping[str, Rows]) -> Material:
    """Build the material from texts and from the rows of the sheets.

    Args:
        texts: documents by file stem.
        sheets: the rows of facts, elsewhere, wordings, names, domains, bridges, comparisons, groups, twins by name.
    """
    halves = {stem: text.partition("\n## Facts\n") for stem, text in texts.items()}
    groups = {row["group"]: _parts(row["entities"]) for row in sheets["groups"]}
    return Material(
        {stem: prose for stem, (prose, _, _) in halves.items()},
        {stem: table for stem, (_, _, table) in halves.items()},
        _facts(sheets["facts"], sheets["elsewhere"]),
        {(row["entity"], row["attribute"]): _wording(row) for row in sheets["wordings"]},
        {row["entity"]: _parts(row["names"]) for row in sheets["names"]},
        {row["entity"]: row["short"] for row in sheets["names"]},
        {stem: row["domain"] for row in sheets["domains"] for stem in _parts(row["documents"])},
        tuple(Bridge(row["entity"], row["attribute"], row["through"], row["phrase"]) for row in sheets["bridges"]),
        tuple(map(_comparison, sheets["comparisons"])),
        {row["attribute"]: _twin(row, groups) for row in sheets["twins"]},
    )


def _parts(cell: str) -> tuple[str, ...]:
    return tuple(cell.split(_LIST))


def _facts(rows: Rows, elsewhere: Rows) -> tuple[Fact, ...]:
    also = {(row["entity"], row["attribute"]): _parts(row["documents"]) for row in elsewhere}
    found: dict[tuple[str, str], Fact] = {}
    for row in rows:
        key = row["entity"], row["attribute"]
        known = found[key].documents if key in found else ()
        found[key] = Fact(*key, row["value"], row["unit"], (*known, row["document"]), also.get(key, ()))
    return tuple(found.values())


def _wording(row: Mapping[str, str]) -> Wording:
    return Wording(row["attribute"], row["answer"], row["direct"], row["again"], row["clause"], row["keywords"])


def _comparison(row: Mapping[str, str]) -> Comparison:
    wordings = (row["first"], row["second"], row["third"])
    return Comparison(row["attribute"], _parts(row["entities"]), row["wins"] == "low", wordings)


def _twin(row: Mapping[str, str], groups: Mapping[str, tuple[str, ...]]) -> Twin:
    """A twin; "@memories" stands for all of a group."""
    entities = dict.fromkeys(each for part in _parts(row["entities"]) for each in groups.get(part, (part,)))
    return Twin(row["attribute"], tuple(entities), _parts(row["cues"]))
