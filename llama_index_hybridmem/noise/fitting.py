"""How much noise must be added so that retrieved text shows a profile's rates, given what it shows already; pure.

Passages come from a real retriever, so some are cut or broken before anything is done to them; and an operator finds
nothing to break in many (no table, no date). Both are tried on a sample, and the chances set accordingly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from llama_index_hybridmem.noise.kinds import LIST_KINDS, Kind
from llama_index_hybridmem.noise.mix import Mix, Recipe
from llama_index_hybridmem.noise.operators.registry import damage
from llama_index_hybridmem.noise.profile import Profile
from llama_index_hybridmem.noise.scene import Scene, World
from llama_index_hybridmem.noise.support import evidence

TRIED = 400
"""Passages on which each kind's operators are tried: settles a share to within 5 points."""


@dataclass(frozen=True)
class Fit:
    """A mix for certain passages, and what it was made from.

    Attributes:
        mix: what to add.
        natural: kind to the share that has it already.
        applicable: kind to the share of passages (of questions, for kinds of lists) in which it can be made at all.
    """

    mix: Mix
    natural: Mapping[Kind, float]
    applicable: Mapping[Kind, float]


def fitted(target: Mix, natural: Profile, sample: Sequence[Scene], world: World | None = None) -> Fit:
    """Fit a mix to passages.

    Args:
        target: the rates that are wanted.
        natural: what was measured on the passages as they are; a kind that is not in it is taken not to occur.
        sample: of their scenes.
        world: what operators may draw from.

    Returns:
        a mix whose chance of a kind is (wanted - natural) / (1 - natural) / applicable, between 0 and 1; a kind that
        the passages show often enough as they are is not made at all.
    """
    shown = {kind: natural.kinds[kind].rate for kind in target.recipes if kind in natural.kinds}
    if "gold_removed" in target.recipes:
        shown["gold_removed"] = _unanswered(sample)
    possible = {kind: _applicable(recipe, kind, sample, world or World()) for kind, recipe in target.recipes.items()}
    recipes = {
        kind: replace(recipe, rate=_rate(recipe.rate, shown.get(kind, 0.0), possible[kind]))
        for kind, recipe in target.recipes.items()
    }
    mix = replace(target, recipes={kind: each for kind, each in recipes.items() if each.rate > 0})
    return Fit(mix, shown, possible)


def _rate(wanted: float, shown: float, possible: float) -> float:
    missing = (wanted - shown) / (1 - shown) if shown < wanted else 0.0
    return min(1.0, missing / possible) if possible else 0.0


def _unanswered(sample: Sequence[Scene]) -> float:
    """Share of the questions with a known answer that nothing retrieved supports."""
    known = [each for each in sample if each.answer is not None]
    return sum(not evidence(each) for each in known) / len(known) if known else 0.0


def _applicable(recipe: Recipe, kind: Kind, sample: Sequence[Scene], world: World) -> float:
    severity = max(recipe.severity[2], 0.01)
    tried = changed = 0
    for number, (scene, at) in enumerate(islice(_places(sample, kind), TRIED)):
        tried += 1
        changed += any(
            damage(scene, which, severity, f"{which.name}/{number}", world, at) is not scene
            for which, _ in recipe.operators
        )
    return changed / tried if tried else 1.0


def _places(sample: Sequence[Scene], kind: Kind) -> list[tuple[Scene, int]]:
    if kind in LIST_KINDS:
        return [(scene, 0) for scene in sample if scene.passages]
    return [(scene, at) for scene in sample for at in range(len(scene.passages))]
