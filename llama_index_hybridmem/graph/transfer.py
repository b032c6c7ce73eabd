"""Copies a graph whole from one store into another and proves that it arrived; knows no server and no terminal.

Every batch is one transaction of the store that takes it, and what is there already is left alone: whatever stops a
copy, the same copy goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from ..errors import StoreMismatchError
from .stores.base import Fact, Passage, PortableGraphStore
from .stores.linking import digest

T = TypeVar("T")
Step = Callable[[int], None]
"""Told how many passages are done with."""

PAGE = 500
_STATED_PAGE = 2_000
_COUNTED = ("passages", "names", "links", "facts")


@dataclass(frozen=True)
class Copied:
    """What a copy brought, and what both sides have now.

    Attributes:
        passages: of the source; each is in the target, equal in everything.
        names: that somebody stated.
        facts: that somebody stated, of no passage.
        others: passages that only the target has; they were left alone.
        totals: passages, names, links and facts of the target.
    """

    passages: int
    names: int
    facts: int
    others: int
    totals: dict[str, int]


def copy(source: PortableGraphStore, target: PortableGraphStore, *, step: Step | None = None) -> Copied:
    """Bring everything that a store has into another, then compare the two.

    What only the target has stays. Into an empty store, or one that this copy was begun into before, the copy is whole:
    the same names, links, facts and counts, and so the same rankings.

    Args:
        source: is only read.
        target: passages with the same node ids are replaced where they differ.
        step: told of progress, of writing as of comparing: twice the number of passages in all.

    Raises:
        StoreMismatchError: afterwards something is missing or different; say, because the source was written to.
        StoreError: either store failed; the same call goes on from there.
    """
    done = step or (lambda _: None)
    names, facts = source.stated()
    state(target, names, facts)
    expected: dict[str, str] = {}
    for page in pages(source):
        target.upsert(page)
        expected.update((passage.node_id, digest(passage)) for passage in page)
        done(len(page))
    others = _compare(expected, target, done)
    _compare_stated(names, facts, target)
    totals = {key: target.stats()[key] for key in _COUNTED}
    if not others and target.stated() == (names, facts):
        _compare_counts(source.stats(), totals)
    return Copied(len(expected), len(names), len(facts), others, totals)


def take_over(
    target: PortableGraphStore,
    *,
    facts: Iterable[Fact],
    names: Iterable[str] = (),
    passages: Iterable[Passage] = (),
    step: Step | None = None,
) -> Copied:
    """Bring facts, names and passages from anywhere into a store; what it has already stays.

    Args:
        target: passages with the same node ids are replaced where they differ.
        facts: with a `node_id` among the passages they belong to that passage, else to none. They are held in memory.
        names: joined by the ends of facts.
        passages: whatever facts they bring along stay theirs.
        step: told how many passages are done with.

    Raises:
        StoreError: the store failed; the same call goes on from there.
    """
    done = step or (lambda _: None)
    read: dict[str | None, list[Fact]] = {}
    for fact in facts:
        read.setdefault(fact.node_id, []).append(fact)
    expected: dict[str, str] = {}
    for page in runs(passages, PAGE):
        whole = [replace(each, facts=(*each.facts, *read.pop(each.node_id, ()))) for each in page]
        target.upsert(whole)
        expected.update((passage.node_id, "") for passage in whole)
        done(len(page))
    stated, known = [fact for found in read.values() for fact in found], list(names)
    state(target, known, stated)
    if lost := expected.keys() - target.passage_ids(list(expected)).keys():
        raise StoreMismatchError(f"{len(lost)} passages are missing, {min(lost)!r} among them; bring them in again")
    _compare_stated([], stated, target)
    totals = {key: target.stats()[key] for key in _COUNTED}
    return Copied(len(expected), len(set(known)), len(stated), totals["passages"] - len(expected), totals)


def state(target: PortableGraphStore, names: Sequence[str], facts: Sequence[Fact]) -> None:
    """Add names and facts of no passage, some at a time."""
    for some_facts in runs(facts, _STATED_PAGE):
        target.add_facts(some_facts)
    for some_names in runs(names, _STATED_PAGE):
        target.add_names(some_names)


def pages(store: PortableGraphStore) -> Iterator[list[Passage]]:
    """Read every passage of a store, page by page."""
    after = None
    while page := store.export_passages(after, PAGE):
        yield page
        after = page[-1].node_id


def runs(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut anything into lists of at most `size`."""
    remaining = iter(items)
    while some := list(islice(remaining, size)):
        yield some


def _compare(expected: dict[str, str], target: PortableGraphStore, step: Step) -> int:
    """Compare passage by passage; returns how many only the target has."""
    missing = dict(expected)
    different, others = [], 0
    for page in pages(target):
        for passage in page:
            wanted = missing.pop(passage.node_id, None)
            others += wanted is None
            if wanted not in (None, digest(passage)):
                different.append(passage.node_id)
        step(sum(passage.node_id in expected for passage in page))
    if missing or different:
        first = next(iter([*missing, *different]))
        raise StoreMismatchError(
            f"after the copy {len(missing)} passages are missing and {len(different)} differ ({first!r} is the first): "
            "was one of the stores written to meanwhile? The same copy again mends it"
        )
    return others


def _compare_stated(names: Sequence[str], facts: Sequence[Fact], target: PortableGraphStore) -> None:
    """A statement that the target has from another source, too, counts as there."""
    known_names, known_facts = target.stated()
    known = {(fact.subject, fact.relation, fact.object) for fact in known_facts}
    lost = [str(fact) for fact in facts if (fact.subject, fact.relation, fact.object) not in known]
    lost += set(names).difference(known_names)
    if lost:
        raise StoreMismatchError(
            f"after the copy {len(lost)} stated names and facts are missing, {lost[0]!r} among them"
        )


def _compare_counts(source: dict[str, int], target: dict[str, int]) -> None:
    wrong = [f"{target[key]:,} {key} for {source[key]:,}" for key in _COUNTED if source[key] != target[key]]
    if wrong:
        raise StoreMismatchError(
            f"after the copy the target has {', '.join(wrong)}: was the source written to meanwhile? The same copy "
            "again mends it"
        )
