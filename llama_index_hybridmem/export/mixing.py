"""How often each kind of noise is made in an export, so that its passages show the profile's rates; pure, no file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from llama_index_hybridmem.export.options import ExportOptions
from llama_index_hybridmem.export.record import Draft
from llama_index_hybridmem.noise.detectors import catalog as _detectors  # noqa: F401 - registers them
from llama_index_hybridmem.noise.fitting import fitted
from llama_index_hybridmem.noise.kinds import Kind
from llama_index_hybridmem.noise.measuring import Errors, measure
from llama_index_hybridmem.noise.mix import Mix
from llama_index_hybridmem.noise.profile import Profile
from llama_index_hybridmem.noise.scene import World

LOOKED_AT = 100
"""Drafts whose passages tell how noisy retrieved text is as it is: 500 at 5 each, which settles a share to 4 points."""


def fit_mix(
    profile: Profile,
    options: ExportOptions,
    drafts: Iterable[Draft],
    world: World,
    errors: Mapping[Kind, Errors] | None = None,
) -> dict[str, Any]:
    """Say how often each kind must be made.

    Args:
        profile: the rates that passages shall show in the end.
        options: ``strength``, ``fitted`` and ``top_k`` are used.
        drafts: the first `LOOKED_AT` are looked at.
        world: what operators draw from.
        errors: how reliable each kind's detectors are; None: what they find is taken as it is.

    Returns:
        ``rates`` (kind to chance), ``natural`` (kind to the share that has it as it was retrieved) and ``applicable``
        (kind to the share in which it can be made), rounded so that they are the same on every machine.
    """
    target = Mix.of(profile, strength=options.strength)
    if not options.fitted or not target.recipes:
        return {"rates": _rounded({kind: each.rate for kind, each in target.recipes.items()})}
    scenes = [_scene(each, options.top_k) for each in islice(drafts, LOOKED_AT)]
    fit = fitted(target, measure(scenes, errors), scenes, world)
    rates = {kind: each.rate for kind, each in fit.mix.recipes.items()}
    return {"rates": _rounded(rates), "natural": _rounded(fit.natural), "applicable": _rounded(fit.applicable)}


def mix_of(profile: Profile, options: ExportOptions, rates: Mapping[str, float]) -> Mix:
    """Give the mix with rates that `fit_mix` has found."""
    target = Mix.of(profile, strength=options.strength)
    recipes = {kind: replace(each, rate=rates[kind]) for kind, each in target.recipes.items() if rates.get(kind)}
    return replace(target, recipes=recipes)


def _scene(draft: Draft, top_k: int) -> Any:
    return replace(draft.scene, passages=draft.scene.passages[:top_k])


def _rounded(shares: Mapping[Any, float]) -> dict[str, float]:
    return {kind: round(share, 6) for kind, share in sorted(shares.items())}
