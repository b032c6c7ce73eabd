"""Reads what a graph knows of one name: spellings, facts, names beside it, passages; draws nothing, ranks no answer.

It asks any graph store a handful of questions, whatever the size of the graph, and gives the same for the same graph in
whichever store it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .entities import normalise
from .search import GraphSearch
from .stores.base import Fact, GraphStore, Ids, Link, Name

MOST_PASSAGES = 500
"""Passages of a name that are read; a name in more of them is judged by the first, in the order of their node ids."""
_FACTS_PER_PASSAGE = 100
_NEAR, _NEAR_SECOND, _SECOND = 24, 4, 8  # names beside the name; beside each of those; of how many those are sought
_EXCERPTS, _EXCERPT_CHARACTERS = 10, 240


@dataclass(frozen=True)
class Statement:
    """A fact, with everything it was read from.

    Attributes:
        node_ids: the passages it was read from; none when the user stated it.
        sources: where it came from, as the graph has it ("triples.csv", "kg_extractors").
    """

    subject: str
    relation: str
    object: str
    node_ids: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Near:
    """A name that shares passages with another.

    Attributes:
        name: normalised form.
        written: the spelling most of those passages have.
        passages: how many they share.
        beside: normalised form of the other name.
    """

    name: str
    written: str
    passages: int
    beside: str


@dataclass(frozen=True)
class Excerpt:
    """A passage with the name in it.

    Attributes:
        text: the words around the name's first mention, on one line.
        titled: whether the name is its title.
    """

    node_id: str
    title: str
    text: str
    titled: bool


@dataclass(frozen=True)
class Portrait:
    """What a graph knows of one name.

    Attributes:
        name: normalised form, as the graph keys it.
        written: the spelling most passages have.
        forms: every spelling and how many passages have it, most first.
        passages: how many passages have the name.
        passages_read: how many of them what follows was read from; see `MOST_PASSAGES`.
        common: whether the search follows it nowhere, being written in lower case more often than not.
        statements: facts about the name, alphabetically.
        ties: facts between the other names listed here.
        near: names that share passages with it, strongest first, then those beside the strongest.
        excerpts: some of its passages, those titled by it first.
    """

    name: str
    written: str
    forms: Mapping[str, int]
    passages: int
    passages_read: int
    common: bool
    statements: tuple[Statement, ...]
    ties: tuple[Statement, ...]
    near: tuple[Near, ...]
    excerpts: tuple[Excerpt, ...]


@dataclass
class _Around:
    """The passages of one name: node ids by the store's numbers, in their order, and the names in each."""

    name: Name
    node_ids: dict[int, str]
    links: Mapping[int, list[Link]]
    shared: Counter[str] = field(default_factory=Counter)
    forms: dict[str, Counter[str]] = field(default_factory=dict)
    known: dict[str, Name] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for passage in self.node_ids:
            for link in self.links.get(passage, ()):
                self.known[link.name.name] = link.name
                self.shared[link.name.name] += 1
                self.forms.setdefault(link.name.name, Counter())[" ".join(link.surface.split())] += 1

    def written(self, name: str) -> str:
        return _most(self.forms[name])[0][0] if name in self.forms else name


def portrait(store: GraphStore, entity: str, *, hops: int = 1) -> Portrait | None:
    """Read what a graph knows of a name.

    Args:
        store: any.
        entity: the name in any case, with or without accents of its own.
        hops: 2 also lists names beside the strongest names beside it.

    Returns:
        None when the graph does not know the name; `similar_names` may.
    """
    key = normalise(entity)
    name = store.find_names([key]).get(key)
    if name is None:
        return None
    min_case = GraphSearch(store).rule().min_case
    around = _around(store, name)
    near = list(_near(around, min_case, _NEAR, {key}))
    found = [around]
    if hops > 1:
        for first in near[:_SECOND]:
            beside = _around(store, around.known[first.name])
            near += _near(beside, min_case, _NEAR_SECOND, {key, *(each.name for each in near)})
            found.append(beside)
    facts = [fact for each in found for fact in _facts(store, each)]
    shown = {key, *(each.name for each in near)}
    ends = {id(fact): {normalise(fact.subject), normalise(fact.object)} for fact in facts}
    return Portrait(
        name=key,
        written=around.written(key),
        forms=dict(_most(around.forms.get(key, Counter()))),
        passages=name.df,
        passages_read=len(around.node_ids),
        common=name.case < min_case,
        statements=tuple(_statements(fact for fact in facts if key in ends[id(fact)])),
        ties=tuple(_statements(fact for fact in facts if key not in ends[id(fact)] and ends[id(fact)] <= shown)),
        near=tuple(near),
        excerpts=tuple(_excerpts(store, around)),
    )


def _around(store: GraphStore, name: Name) -> _Around:
    passages = store.links_of_names(_ids([name.id])).passages
    in_order = sorted(store.node_ids(passages).items(), key=lambda each: each[1])[:MOST_PASSAGES]
    node_ids = dict(in_order)
    return _Around(name, node_ids, store.names_in(_ids(node_ids)))


def _near(around: _Around, min_case: float, count: int, but: set[str]) -> Iterator[Near]:
    """The names that share most passages, common words left out; then those that lead elsewhere, then the rarer."""
    names = [name for name, known in around.known.items() if name not in but and known.case >= min_case]
    names.sort(key=lambda name: (-around.shared[name], around.known[name].df == 1, around.known[name].df, name))
    for name in names[:count]:
        yield Near(name, around.written(name), around.shared[name], around.name.name)


def _facts(store: GraphStore, around: _Around) -> Iterator[Fact]:
    for fact, passage in store.facts_about(_ids([around.name.id]), _ids(around.node_ids), _FACTS_PER_PASSAGE):
        node_id = None if passage is None else around.node_ids.get(passage)
        yield Fact(fact.subject, fact.relation, fact.object, node_id, fact.source)


def _statements(facts: Iterable[Fact]) -> list[Statement]:
    """Each fact once."""
    read: dict[tuple[str, str, str], list[Fact]] = {}
    for fact in facts:
        read.setdefault((fact.subject, fact.relation, fact.object), []).append(fact)
    return [
        Statement(
            *words,
            node_ids=tuple(sorted({fact.node_id for fact in found if fact.node_id is not None})),
            sources=tuple(sorted({fact.source for fact in found if fact.source})),
        )
        for words, found in sorted(read.items())
    ]


def _excerpts(store: GraphStore, around: _Around) -> Iterator[Excerpt]:
    key = around.name.name
    mine = {passage: link for passage, links in around.links.items() for link in links if link.name.name == key}
    chosen = sorted(mine, key=lambda passage: (not mine[passage].titled, around.node_ids[passage]))[:_EXCERPTS]
    stored = store.load(_ids(chosen))
    for passage in chosen:
        if passage in stored:  # else deleted since
            text = _window(stored[passage].text, mine[passage].surface)
            yield Excerpt(stored[passage].node_id, stored[passage].title, text, mine[passage].titled)


def _window(text: str, surface: str) -> str:
    """Some words of a text around what is sought in it, or its first ones."""
    start = max(0, text.find(surface) - _EXCERPT_CHARACTERS // 3)
    start = text.find(" ", start) + 1 if start else 0
    words = " ".join(text[start : start + 2 * _EXCERPT_CHARACTERS].split())
    whole = len(words) <= _EXCERPT_CHARACTERS
    cut = words if whole else words[:_EXCERPT_CHARACTERS].rpartition(" ")[0] or words[:_EXCERPT_CHARACTERS]
    return f"{'… ' if start else ''}{cut}{'' if whole else ' …'}"


def _most(counts: Counter[str]) -> Sequence[tuple[str, int]]:
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))


def _ids(numbers: Iterable[int]) -> Ids:
    return np.fromiter(numbers, dtype=np.int64)
