"""Damages a scene as a mix of noise says, and tells whether its question can still be answered; pure, knows no store.

First the list (copies, distractors, order), then each passage; last, where it is due, what answers is taken away. Where
the gold passages are known, the label follows from what is left: see `support`. Nothing is labelled of which a reader
could make out something else than the label says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from llama_index_hybridmem.noise.kinds import FALSE_KINDS, LIST_KINDS, Kind
from llama_index_hybridmem.noise.mix import Mix, Recipe
from llama_index_hybridmem.noise.operators import catalog
from llama_index_hybridmem.noise.operators.registry import Operator, damage, damage_passage, mark
from llama_index_hybridmem.noise.scene import Passage, Scene, World
from llama_index_hybridmem.noise.support import evidence, may_be_read, quoted, support
from llama_index_hybridmem.terms import content_stems

Want = Literal["answerable", "unanswerable"]


@dataclass(frozen=True, slots=True)
class Injected:
    """A damaged scene.

    Attributes:
        scene: with its damage.
        answerable: whether the answer still has its support; None when gold passages or answer are unknown.
        support: (passage id, words) that support it.
    """

    scene: Scene
    answerable: bool | None = None
    support: tuple[tuple[str, str], ...] = ()


def inject(scene: Scene, mix: Mix, key: str, world: World | None = None, want: Want | None = None) -> Injected:
    """Damage a scene.

    Args:
        scene: as retrieved; it stays as it is.
        mix: what is done, and how often.
        key: what all random numbers are drawn from: the same key, mix, scene and world give the same result.
        world: what operators may draw from.
        want: "answerable" takes damage back that would leave the answer without support; "unanswerable" takes what
            answers away if the damage has not; None lets fall what falls, but takes damage back that leaves the answer
            garbled or halved, so that nobody can say whether it is there. Without gold it makes no difference.

    Returns:
        the scene, as long as it was unless that would cost a gold passage. A false statement is never put into a gold
        passage itself, and false copies are left only beside the truth.
    """
    draw = Random(key)
    world = world or World()
    needed = evidence(scene)
    taken = want == "unanswerable" or (want is None and _happens(mix, "gold_removed", draw))
    if taken:
        mix = mix.truthful
    listed = _list_damage(scene, mix, draw, key, world)
    damaged = _passage_damage(listed, mix, draw, key, world)
    if not needed:
        return Injected(_without_gold(damaged, key, world) if taken and scene.gold else damaged, _unknown(scene))
    held = support(scene, damaged, needed)
    in_doubt = not held and may_be_read(damaged, needed)
    if want == "answerable" or (in_doubt and not taken):
        damaged = _mended(scene, listed, damaged, needed)
        held = support(scene, damaged, needed)
    if held and not taken:
        return Injected(damaged, True, held)
    if held or in_doubt:
        damaged = _without_gold(damaged, key, world)
    return Injected(_without_answer(damaged, needed, key), False)


def _unknown(scene: Scene) -> bool | None:
    """Without evidence: False when the answer is known and nothing that was retrieved holds it, else None."""
    return False if scene.answer is not None and not scene.gold else None


def _happens(mix: Mix, kind: Kind, draw: Random) -> bool:
    return kind in mix.recipes and draw.random() < mix.recipes[kind].rate


def _list_damage(scene: Scene, mix: Mix, draw: Random, key: str, world: World) -> Scene:
    before = scene
    for kind in mix.of_lists:
        recipe = mix.recipes[kind]
        if kind in LIST_KINDS:
            if draw.random() < recipe.rate:
                which = recipe.draw_operators(draw)[0]
                scene = damage(scene, which, recipe.draw_severity(draw), f"{key}/{which.name}", world)
            continue
        flags = sum(draw.random() < recipe.rate for _ in before.passages)
        wanted = Counter(recipe.draw_operators(draw)[0].name for _ in range(flags))
        for which, _ in recipe.operators:
            if which.scope == "scene" and wanted[which.name]:
                scene = _add(scene, which, wanted[which.name], recipe, draw, key, world)
    return _shortened(scene, before)


def _add(scene: Scene, which: Operator, count: int, recipe: Recipe, draw: Random, key: str, world: World) -> Scene:
    """Let an operator of lists add so many passages: one by one, or as a share of the list."""
    if not which.adds_one:
        return damage(scene, which, min(1.0, count / len(scene.passages)), f"{key}/{which.name}", world)
    for number in range(count):
        scene = damage(scene, which, recipe.draw_severity(draw), f"{key}/{number}/{which.name}", world)
    return scene


def _shortened(scene: Scene, before: Scene) -> Scene:
    """As long as before: what was added takes the places of the last ones that neither answer nor were added.

    What a false copy is told apart by stays, too.
    """
    there = {each.id for each in before.passages} - _compared(scene)
    kept = list(scene.passages)
    for at in range(len(kept) - 1, -1, -1):
        if len(kept) <= len(before.passages):
            break
        if kept[at].id in there and not scene.is_gold(kept[at]):
            del kept[at]
    return scene if len(kept) == len(scene.passages) else scene.with_passages(kept)


def _passage_damage(scene: Scene, mix: Mix, draw: Random, key: str, world: World) -> Scene:
    passages = [_damaged(scene, each, at, mix, draw, key, world) for at, each in enumerate(scene.passages)]
    changed = any(new is not old for new, old in zip(passages, scene.passages, strict=True))
    return scene.with_passages(passages) if changed else scene


def _compared(scene: Scene) -> set[str]:
    """Ids of false copies and of what they were copied from: told apart by their metadata."""
    copies = [each for each in scene.passages if each.has("stale", "conflict")]
    return {each.id for each in copies} | {damage.note.get("id", "") for each in copies for damage in each.damage}


def _damaged(scene: Scene, passage: Passage, at: int, mix: Mix, draw: Random, key: str, world: World) -> Passage:
    for kind in _flags(mix, draw):
        if kind in FALSE_KINDS and (scene.is_gold(passage) or passage.damage):
            continue
        if kind == "metadata" and passage.id in _compared(scene):
            continue  # they show which of the two is to be believed
        recipe = mix.recipes[kind]
        severity = recipe.draw_severity(draw)
        tried = recipe.draw_operators(draw)
        for which in tried if tried[0].scope == "passage" else ():  # else it was made of the list, or will not be
            if which.scope == "passage":
                changed = damage_passage(passage, which, severity, f"{key}/{at}/{which.name}", world)
                if changed is not passage:
                    passage = changed
                    break
    return passage


def _flags(mix: Mix, draw: Random) -> list[Kind]:
    """The kinds of damage that one passage gets."""
    kinds = mix.of_passages
    if mix.factor is None:
        return [kind for kind in kinds if draw.random() < mix.recipes[kind].rate]
    free = [draw.gauss(0, 1) for _ in kinds]
    values = (sum(a * b for a, b in zip(row, free, strict=True)) for row in mix.factor)
    return [kind for kind, value, below in zip(kinds, values, mix.thresholds, strict=True) if value < below]


def _mended(before: Scene, listed: Scene, damaged: Scene, needed: Sequence[str]) -> Scene:
    """Take damage to gold passages back, one after the other, until the answer has its support again."""
    whole = {each.id: each for each in listed.passages}
    for at, each in enumerate(damaged.passages):
        if support(before, damaged, needed):
            break
        if damaged.is_gold(each):
            passages = [*damaged.passages[:at], whole[each.id], *damaged.passages[at + 1 :]]
            damaged = damaged.with_passages(passages)
    return damaged


def _without_gold(scene: Scene, key: str, world: World) -> Scene:
    return damage(scene, catalog.operator("gold_removed"), 1.0, f"{key}/gold_removed", world)


def _without_answer(scene: Scene, needed: Sequence[str], key: str) -> Scene:
    """Where the truth has gone, its false copies go, too, and whatever else has all of the answer's words."""
    gone = [each for each in scene.passages if _tells(each, scene, needed)]
    if not gone:
        return scene
    left = tuple(each for each in scene.passages if each not in gone)
    marked = (mark(each, "gold_removed", 1.0, f"{key}/gold_removed", {"id": each.id}) for each in gone)
    return replace(scene, passages=left, removed=(*scene.removed, *marked))


def _tells(passage: Passage, scene: Scene, needed: Sequence[str]) -> bool:
    if passage.has(*FALSE_KINDS) and any(each.note.get("id") in scene.gold for each in passage.damage):
        return True
    if any(quoted(words, passage.text) for words in needed):
        return True
    roots = [set(content_stems(words)) for words in needed]
    low = f"{passage.title} {passage.text}".lower()
    # Stems of a whole passage take long, and most passages do not even begin a word so.
    likely = [each for each in roots if each and all(root[:2] in low for root in each if root.isalpha())]
    told = set(content_stems(low)) if likely else set()
    return any(each <= told for each in likely)
