"""How often each kind of noise is made in an export, so that its passages show the profile's rates; pure, no file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.export.options import ExportOptions
from llama_index_hybridmem.export.record import Draft
from llama_index_hybridmem.noise.detectors import catalog as _detectors  # noqa: F401 - registers them
from llama_index_hybridmem.noise.fitting import fitted
from llama_index_hybridmem.noise.kinds import Kind
from llama_index_hybridmem.noise.measuring import Errors, measure
from llama_index_hybridmem.noise.mix import Mix, Recipe
from llama_index_hybridmem.noise.operators.registry import Operator, operator, operators
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
        ``rates`` (kind to chance), ``operators`` (kind to operator to its share), ``natural`` (kind to the share that
        has it as it was retrieved) and ``applicable`` (kind to the share in which it can be made); all but the
        operators' shares rounded, so that they are the same on every machine.
    """
    target = Mix.of(profile, strength=options.strength)
    if not options.fitted or not target.recipes:
        return _made({}, target)
    scenes = [_scene(each, options.top_k) for each in islice(drafts, LOOKED_AT)]
    fit = fitted(target, measure(scenes, errors), scenes, world)
    return _made({"natural": _rounded(fit.natural), "applicable": _rounded(fit.applicable)}, fit.mix)


def mix_of(profile: Profile, found: Mapping[str, Any]) -> Mix:
    """Give the mix that `fit_mix` has found, with the same operators in every process.

    Args:
        profile: the same one.
        found: what `fit_mix` gave, also as read back from JSON.

    Raises:
        ConfigurationError: an operator is not registered in this process.
    """
    recipes = {
        kind: Recipe(rate, each.severity, _known(kind, found["operators"][kind]))
        for kind, each in profile.kinds.items()
        if (rate := found["rates"].get(kind))
    }
    return Mix(recipes, profile.together, profile.hash)


def _made(rest: Mapping[str, Any], mix: Mix) -> dict[str, Any]:
    """Kinds in the order of the alphabet, operators in that in which they are drawn."""
    shares = {kind: {which.name: share for which, share in each.operators} for kind, each in mix.recipes.items()}
    rates = {kind: each.rate for kind, each in mix.recipes.items()}
    return {"rates": _rounded(rates), "operators": dict(sorted(shares.items())), **rest}


def _known(kind: Kind, shares: Mapping[str, float]) -> tuple[tuple[Operator, float], ...]:
    here = {each.name for each in operators(kind)}
    for name in shares:
        if name not in here:
            raise ConfigurationError(
                f"this export makes {kind} noise with the operator {name!r}, which this process has not registered: "
                "register it in a module that is imported wherever the export runs, not under "
                'if __name__ == "__main__":'
            )
    return tuple((operator(name), share) for name, share in shares.items())


def _scene(draft: Draft, top_k: int) -> Any:
    return replace(draft.scene, passages=draft.scene.passages[:top_k])


def _rounded(shares: Mapping[Any, float]) -> dict[str, float]:
    return {kind: round(share, 6) for kind, share in sorted(shares.items())}
