"""Operators of the list of passages: more that do not answer, copies, another order, none that answers.

Pure, knows no detector. ``severity`` is the share of the list that is added or moved: 1 adds as many passages as there
are. What is added comes to drawn places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

from llama_index_hybridmem.noise.kinds import FALSE_KINDS
from llama_index_hybridmem.noise.operators.registry import mark, of_scene
from llama_index_hybridmem.noise.operators.rewording import reworded
from llama_index_hybridmem.noise.scene import Passage, Scene, World, fresh_id
from llama_index_hybridmem.noise.support import quoted
from llama_index_hybridmem.terms import content_stems

CLOSE = 0.5
"""Share of the question's words from which on a passage may be about it: such a one is not called irrelevant."""
SAMPLE = 20
"""Passages of the world that are looked at for each one wanted."""


@of_scene("irrelevant_passage", "irrelevant")
def irrelevant_passage(scene: Scene, severity: float, draw: Random, world: World) -> Scene | None:
    """Adds passages about something else; severity 1 adds as many as there are."""
    return _added(scene, _foreign(scene, draw, world, _count(scene, severity)), "irrelevant_passage", severity, draw)


@of_scene("hard_distractor", "distractor")
def hard_distractor(scene: Scene, severity: float, draw: Random, world: World) -> Scene | None:
    """Adds passages that are close and do not answer; severity 1 adds as many as there are."""
    wanted = _count(scene, severity)
    near = [each for each in scene.near if _may_be_added(each, scene)][:wanted]
    ids = {each.id for each in near}
    rest = replace(scene, near=tuple(each for each in scene.near if each.id not in ids))
    known = [*scene.passages, *scene.near]
    return _added(
        rest, near + _closest(scene, known, draw, world, wanted - len(near)), "hard_distractor", severity, draw
    )


@of_scene("duplicate", "duplicate")
def duplicate(scene: Scene, severity: float, draw: Random, world: World) -> Scene | None:
    """Adds copies of passages; severity 1 copies each."""
    return _copied(scene, severity, draw, "duplicate")


@of_scene("near_duplicate", "duplicate")
def near_duplicate(scene: Scene, severity: float, draw: Random, world: World) -> Scene | None:
    """Adds lightly reworded copies of passages; severity 1 copies each."""
    return _copied(scene, severity, draw, "near_duplicate")


@of_scene("shuffle", "order")
def shuffle(scene: Scene, severity: float, draw: Random, world: World) -> Scene | None:
    """Puts passages out of order; severity 1 keeps nothing of it, less moves them less far."""
    size = len(scene.passages)
    if size < 2:
        return None
    seed, own = _start(draw)
    keys = [(1 - severity) * at / size + severity * own.random() for at in range(size)]
    order = sorted(range(size), key=keys.__getitem__)
    if order == list(range(size)):
        at = own.randrange(size - 1)
        order[at], order[at + 1] = order[at + 1], order[at]
    moved = [
        each if was == now else mark(each, "shuffle", severity, seed, {"was": str(was + 1), "now": str(now + 1)})
        for now, was in enumerate(order)
        for each in (scene.passages[was],)
    ]
    return scene.with_passages(moved)


@of_scene("gold_removed", "gold_removed")
def gold_removed(scene: Scene, severity: float, draw: Random, world: World) -> Scene | None:
    """Takes away all that answers, whatever the severity, and fills the list up with what was found beyond it.

    What is not known to answer, but has the answer's words and the question's, goes too.
    """
    if not any(scene.is_gold(each) for each in scene.passages):
        return None
    seed, own = _start(draw)
    stems = _stems(scene.question)
    gone = [each for each in scene.passages if scene.is_gold(each) or _seems_to_answer(each, scene, stems)]
    ids = {each.id for each in gone}
    left = [each for each in scene.passages if each.id not in ids]
    near = [each for each in scene.near if _may_be_added(each, scene)][: len(gone)]
    taken = {each.id for each in near}
    after = replace(
        scene,
        passages=(*left, *near),
        near=tuple(each for each in scene.near if each.id not in taken),
        removed=(*scene.removed, *(mark(each, "gold_removed", severity, seed) for each in gone)),
    )
    more = _foreign(after, own, world, len(gone) - len(near))
    return _added(after, more, "irrelevant_passage", severity, own) or after


def _start(draw: Random) -> tuple[str, Random]:
    """A seed to be noted, and the random numbers that come from it."""
    seed = f"{draw.getrandbits(64):016x}"
    return seed, Random(seed)


def _count(scene: Scene, severity: float) -> int:
    return max(1, round(severity * len(scene.passages)))


def _added(scene: Scene, more: Sequence[Passage], name: str, severity: float, draw: Random) -> Scene | None:
    """The scene with passages at drawn places, marked; None when there are none."""
    passages = list(scene.passages)
    for each in more:
        seed, own = _start(draw)
        copy = replace(each, id=fresh_id(each, name, (*passages, *scene.near, *scene.removed)))
        passages.insert(own.randint(0, len(passages)), mark(copy, name, severity, seed, {"id": each.id}))
    return scene.with_passages(passages) if more else None


def _copied(scene: Scene, severity: float, draw: Random, name: str) -> Scene | None:
    passages = list(scene.passages)
    wanted = _count(scene, severity)
    keep = (scene.answer or "", *scene.quotes)
    for each in draw.sample(scene.passages, len(scene.passages)):
        if len(passages) == len(scene.passages) + wanted:
            break
        seed, own = _start(draw)
        edits = reworded(each.text, own, keep, scene.question) if name == "near_duplicate" and each.text else []
        if not each.text.strip() or (name == "near_duplicate" and not edits):
            continue
        copy = replace(each, id=fresh_id(each, name, (*passages, *scene.near, *scene.removed)))
        passages.insert(own.randint(0, len(passages)), mark(copy, name, severity, seed, {"id": each.id}, edits=edits))
    return scene.with_passages(passages) if len(passages) > len(scene.passages) else None


def _foreign(scene: Scene, draw: Random, world: World, wanted: int) -> list[Passage]:
    """Passages of the world about something else, of sources that are not there yet."""
    stems = _stems(scene.question)
    sources = {each.source for each in (*scene.passages, *scene.removed) if each.source is not None}
    found: list[Passage] = []
    for each in _sample(world, draw, SAMPLE * wanted):
        if len(found) >= wanted:
            break
        if each.source in sources or _share(stems, each) >= CLOSE or not _may_be_added(each, scene):
            continue
        if all(each.text != other.text for other in (*scene.passages, *found)):
            found.append(each)
    return found


def _closest(scene: Scene, known: Sequence[Passage], draw: Random, world: World, wanted: int) -> list[Passage]:
    """Those of a sample of the world that have most of the question's words."""
    if wanted <= 0:
        return []
    stems = _stems(scene.question)
    texts = {each.text for each in known}
    fit = [
        (share, -n, each)
        for n, each in enumerate(_sample(world, draw, SAMPLE * (wanted + 1)))
        if each.text not in texts and (share := _share(stems, each)) and _may_be_added(each, scene)
    ]
    return [each for _, _, each in sorted(fit, key=lambda one: one[:2], reverse=True)[:wanted]]


def _sample(world: World, draw: Random, size: int) -> Iterator[Passage]:
    """Some passages of the world, none twice, in drawn order."""
    for at in draw.sample(range(len(world.passages)), min(size, len(world.passages))):
        yield world.passages[at]


def _may_be_added(passage: Passage, scene: Scene) -> bool:
    """Whether a passage is new, not gold, has text, and does not give the answer."""
    if passage.id in scene.gold or not passage.text.strip() or any(passage.id == each.id for each in scene.passages):
        return False
    return not _gives(scene.answer, f"{passage.title}\n{passage.text}")


def _seems_to_answer(passage: Passage, scene: Scene, stems: Sequence[str]) -> bool:
    untrue = passage.has(*FALSE_KINDS)
    return not untrue and _gives(scene.answer, passage.text) and _share(stems, passage) >= CLOSE


def _gives(answer: str | None, text: str) -> bool:
    """Whether an answer stands in a text; most texts lack one of its words, which is quick to see."""
    low = text.casefold()
    return (
        bool(answer) and all(part in low for part in str(answer).casefold().split()) and bool(quoted(str(answer), text))
    )


def _stems(question: str) -> list[str]:
    return list(dict.fromkeys(content_stems(question)))


def _share(stems: Sequence[str], passage: Passage) -> float:
    """Share of stems that a passage has somewhere, within words too: quick, and errs on the side of close."""
    low = f"{passage.title} {passage.text}".lower()
    return sum(stem in low for stem in stems) / len(stems) if stems else 0.0
