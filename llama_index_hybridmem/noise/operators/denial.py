"""Edits that make a text deny what it says: values swapped for others, the answer's first; pure, knows no operator."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from random import Random
from typing import NamedTuple

from llama_index_hybridmem.noise.edits import Edit, edited
from llama_index_hybridmem.noise.others import another
from llama_index_hybridmem.noise.scene import Passage, Scene, World
from llama_index_hybridmem.noise.support import quoted
from llama_index_hybridmem.noise.values import Value, figures, merged, names, spots, stands, values, words_of_series

Older = Callable[[str, Random], "str | None"]
_POOL = 2  # passages of the world that lend their names


class Denial(NamedTuple):
    """What makes a text say otherwise.

    Attributes:
        edits: of the text, in order.
        put: old value to new one, the first first.
        title: with the same changes.
    """

    edits: list[Edit]
    put: dict[str, str]
    title: str


def denial(
    scene: Scene,
    passage: Passage,
    severity: float,
    draw: Random,
    world: World,
    *,
    first: Older | None = None,
    renamed: Mapping[str, str] | None = None,
) -> Denial | None:
    """Change values of a passage, so that it does not give the answer any more.

    Args:
        scene: tells the answer and the question.
        passage: the passage.
        severity: share of the values that change; at least one, and all in which it gives the answer.
        draw: random numbers.
        world: lends names.
        first: what dates, years and versions are made of where it can; None: they are treated as other values.
        renamed: names that are already spoken for: old one to new one.

    Returns:
        the edits; None when there is nothing to change, or the answer would still stand there.
    """
    text, spoken = passage.text, dict(renamed or {})
    must, found = answering(scene, text)
    if must is None:
        return None
    must = [each for each in must if each.text not in spoken]
    others = _others(scene, passage, must, found)
    draw.shuffle(others)
    order = [*must, *others]
    pool = names_of(world, draw, scene) if any(each.type == "name" for each in order) else ()
    avoid = (scene.answer or "", scene.question, passage.title, text)
    put = swapped(order, severity, draw, pool, avoid, must=len(must), first=first)
    edits = everywhere(text, found, {**spoken, **put})
    title = retitled(passage.title, {**spoken, **put})
    return Denial(edits, put, title) if put and not _still_says(scene, text, edits, title, must) else None


def answering(scene: Scene, text: str) -> tuple[list[Value] | None, list[Value]]:
    """The values in which a text gives the answer, and all that were found; None for the former when it is no value."""
    answer, found = scene.answer, figures_of(text)
    if answer is None or not answer.strip():
        return [], found
    places = spots(answer, text)
    if not places:
        if quoted(answer, text):
            return None, found  # it stands there with other blanks
        told = [place for each in values(answer) for place in spots(each.text, text)]
        told = [(start, end) for start, end in told if not stands(text[start:end], scene.question)]
        return distinct(_touched(told, found)), found
    if not _covered(places, found):
        found = merged(found, names(text))
    free = _untouched(places, found)
    if any(not text[start].isupper() for start, _ in free):
        return None, found  # a common word: nobody knows another of its type
    found = sorted([*found, *(Value(start, end, text[start:end], "name") for start, end in free)])
    return distinct(_touched(places, found)), found


def swapped(
    order: Sequence[Value],
    severity: float,
    draw: Random,
    pool: Sequence[Value],
    avoid: Sequence[str],
    *,
    must: int = 0,
    first: Older | None = None,
) -> dict[str, str]:
    """Find new values for a share of some, in their order.

    Args:
        order: the values, none twice.
        severity: the share, at least one.
        draw: random numbers.
        pool: names.
        avoid: texts in which no new name may stand; no new figure in the first.
        must: how many of the first must change.
        first: see `denial`.

    Returns:
        old to new; empty when one that must cannot.
    """
    wanted = max(1, must, round(severity * len(order)))
    put: dict[str, str] = {}
    for n, value in enumerate(order):
        if len(put) == wanted:
            break
        shunned = avoid if value.type == "name" else avoid[:1]
        old = first(value.text, draw) if first and value.type in ("date", "year", "version") else None
        new = old if old and not stands(avoid[0], old) else another(value, draw, pool, shunned)
        if new is not None:
            put[value.text] = new
        elif n < must:
            return {}
    return put


def everywhere(text: str, found: Sequence[Value], put: Mapping[str, str]) -> list[Edit]:
    """Edits that put new values wherever the old ones stand: names at every place, whether found there or not."""
    types = {each.text: each.type for each in found}
    edits = [Edit(each.start, each.end, put[each.text]) for each in found if each.text in put]
    taken = {at for edit in edits for at in range(edit.start, edit.end)}
    for old, new in put.items():
        if types.get(old, "name") != "name":
            continue
        for start, end in spots(old, text):
            if text[start:end] == old and taken.isdisjoint(range(start, end)):
                edits.append(Edit(start, end, new))
                taken.update(range(start, end))
    return sorted(edits)


def retitled(title: str, put: Mapping[str, str]) -> str:
    """A title with the new values at the places of the old ones."""
    edits = everywhere(title, [], put) if title else []
    return edited(title, edits)[0]


def was_and_now(put: Mapping[str, str]) -> dict[str, str]:
    """The first of the changes, for a damage's note."""
    was, now = next(iter(put.items()))
    return {"was": was, "now": now}


def names_of(world: World, draw: Random, scene: Scene | None = None) -> list[Value]:
    """Names from elsewhere: of a few passages of the world and of the scene's near ones, else of its own."""
    size = len(world.passages)
    others = [world.passages[draw.randrange(size)] for _ in range(_POOL if size else 0)]
    if scene is not None:
        others += scene.near[:2]
    if not others and scene is not None:
        others += scene.passages
    return [name for each in others for name in _known_names(each.text)]


@lru_cache(maxsize=1024)  # passages of the world lend their names again and again
def _known_names(text: str) -> tuple[Value, ...]:
    return tuple(names(text))


def figures_of(text: str) -> list[Value]:
    """All values but names: what can be false without making a passage speak of something else."""
    return merged(figures(text), words_of_series(text))


def distinct(found: Sequence[Value]) -> list[Value]:
    """One value of each text."""
    return list({each.text: each for each in found}.values())


def _others(scene: Scene, passage: Passage, must: Sequence[Value], found: Sequence[Value]) -> list[Value]:
    """Values that may change, too: figures; where there is nothing else, names that the question does not ask about."""
    known = {each.text for each in must}
    others = [each for each in distinct(found) if each.type != "name" and each.text not in known]
    if others or must:
        return others
    about = f"{scene.question} {passage.title}"
    return [each for each in distinct(names(passage.text)) if not stands(each.text, about)]


def _covered(places: Sequence[tuple[int, int]], found: Sequence[Value]) -> bool:
    return not _untouched(places, found)


def _touched(places: Sequence[tuple[int, int]], found: Sequence[Value]) -> list[Value]:
    """The values that lie on one of the places; neither overlap among themselves."""
    ordered = sorted(places)
    return [each for each in found if _meets(each.start, each.end, ordered)]


def _untouched(places: Sequence[tuple[int, int]], found: Sequence[Value]) -> list[tuple[int, int]]:
    """The places on which no value lies."""
    ordered = sorted((each.start, each.end) for each in found)
    return [(start, end) for start, end in places if not _meets(start, end, ordered)]


def _meets(start: int, end: int, ordered: Sequence[tuple[int, int]]) -> bool:
    before = bisect_left(ordered, (end,))
    return before > 0 and start < ordered[before - 1][1]


def _still_says(scene: Scene, text: str, edits: Sequence[Edit], title: str, must: Sequence[Value]) -> bool:
    new = f"{title}\n{edited(text, edits)[0]}"
    if scene.answer and quoted(scene.answer, new):
        return True
    return any(stands(each.text, new) for each in must)
