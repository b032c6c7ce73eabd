"""Which noise is made, how often and how badly: a profile made ready for drawing; pure, knows no scene."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from random import Random
from statistics import NormalDist
from typing import Any

import numpy as np

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.noise.kinds import FALSE_KINDS, KINDS, Kind
from llama_index_hybridmem.noise.operators import catalog
from llama_index_hybridmem.noise.operators.registry import Operator
from llama_index_hybridmem.noise.profile import UNIFORM, Profile


@dataclass(frozen=True)
class Recipe:
    """How one kind of noise is made.

    Attributes:
        rate: chance that a passage (for kinds of lists: a question) gets it, 0 to 1.
        severity: its quantiles 0, ¼, ½, ¾, 1.
        operators: who makes it, each with its share.
    """

    rate: float
    severity: tuple[float, ...] = UNIFORM
    operators: tuple[tuple[Operator, float], ...] = ()

    def __reduce__(self) -> tuple[Callable[..., Recipe], tuple[Any, ...]]:
        """Pickle operators by their names: they are functions, and registered in every process."""
        return _recipe, (self.rate, self.severity, tuple((each.name, share) for each, share in self.operators))

    def draw_severity(self, draw: Random) -> float:
        """A severity as it occurs: linear between the quantiles."""
        place = draw.random() * (len(self.severity) - 1)
        low = int(place)
        return self.severity[low] + (place - low) * (self.severity[low + 1] - self.severity[low])

    def draw_operators(self, draw: Random) -> list[Operator]:
        """The operators in the order in which they are tried: one by its share, then the others by theirs."""
        left = list(self.operators)
        drawn = []
        while left:
            sums = list(accumulate(share for _, share in left))
            at = min(bisect_left(sums, draw.random() * sums[-1]), len(left) - 1)
            drawn.append(left.pop(at)[0])
        return drawn


@dataclass(frozen=True)
class Mix:
    """What is done to scenes, and how often.

    Attributes:
        recipes: kind to how it is made.
        together: "kind|other" to the correlation of the two in a passage.
        profile: hash of the profile that it follows, "" for rates given by hand.
    """

    recipes: Mapping[Kind, Recipe]
    together: Mapping[str, float] = field(default_factory=dict)
    profile: str = ""

    @classmethod
    def of(
        cls,
        profile: Profile,
        *,
        without: Collection[str] = (),
        strength: float = 1.0,
        operators: Collection[str] | None = None,
    ) -> Mix:
        """Follow a profile.

        Args:
            profile: its rates, times the weight of each kind, are the chances.
            without: kinds that are not made.
            strength: every rate is multiplied by this; a chance stays at most 1.
            operators: only these are used; None: all.

        Raises:
            ConfigurationError: the strength is negative, or a kind or an operator is unknown.
        """
        if not 0 <= strength < float("inf"):
            raise ConfigurationError(f"strength multiplies the rates: a number of 0 or more, not {strength}")
        for kind in without:
            if kind not in KINDS:
                raise ConfigurationError(f"{kind!r} is no kind of noise; there are {', '.join(KINDS)}")
        allowed = None if operators is None else {catalog.operator(name).name for name in operators}
        recipes = {
            kind: Recipe(
                min(1.0, each.rate * each.weight * strength),
                each.severity,
                _shares(kind, each.operators, allowed),
            )
            for kind, each in profile.kinds.items()
            if kind not in without
        }
        return cls(
            {kind: each for kind, each in recipes.items() if each.rate > 0 and each.operators},
            profile.together,
            profile.hash,
        )

    @classmethod
    def at(cls, rates: Mapping[str, float], severity: float | None = None) -> Mix:
        """Make noise at rates given by hand.

        Args:
            rates: kinds or operators to their chance, 0 to 1.
            severity: of all of them; None: drawn between 0 and 1.

        Raises:
            ConfigurationError: an unknown name, or a number out of range.
        """
        if severity is not None and not 0 <= severity <= 1:
            raise ConfigurationError(f"a severity lies between 0 and 1, not {severity}")
        found: dict[Kind, list[tuple[Operator, float]]] = {}
        for name, rate in rates.items():
            if not 0 <= rate <= 1:
                raise ConfigurationError(f"{name}: a rate is a chance, 0 to 1, not {rate}")
            named = list(catalog.operators(name)) if name in KINDS else [catalog.operator(name)]
            found.setdefault(named[0].kind, []).extend((each, rate / len(named)) for each in named)
        quantiles = UNIFORM if severity is None else (severity,) * 5
        recipes = {
            kind: Recipe(min(1.0, sum(share for _, share in each)), quantiles, tuple(each))
            for kind, each in found.items()
        }
        return cls({kind: each for kind, each in recipes.items() if each.rate > 0})

    @cached_property
    def truthful(self) -> Mix:
        """The mix without the kinds that say something false."""
        return self.without(FALSE_KINDS)

    def without(self, kinds: Collection[str]) -> Mix:
        """The mix without some kinds."""
        return replace(self, recipes={kind: each for kind, each in self.recipes.items() if kind not in kinds})

    @cached_property
    def of_passages(self) -> tuple[Kind, ...]:
        """Kinds that some operator makes in a passage alone."""
        return tuple(kind for kind in KINDS if kind in self.recipes and self._scopes(kind) & {"passage"})

    @cached_property
    def of_lists(self) -> tuple[Kind, ...]:
        """Kinds that some operator makes by copies, additions or order, ``gold_removed`` left out."""
        return tuple(
            kind for kind in KINDS if kind in self.recipes and kind != "gold_removed" and self._scopes(kind) & {"scene"}
        )

    @cached_property
    def thresholds(self) -> tuple[float, ...]:
        """Of each kind in `of_passages`: below which standard normal value it is made."""
        normal = NormalDist()
        rates = (self.recipes[kind].rate for kind in self.of_passages)
        return tuple(8.3 if rate >= 1 else normal.inv_cdf(rate) for rate in rates)  # beyond what a float tells from 1

    @cached_property
    def factor(self) -> tuple[tuple[float, ...], ...] | None:
        """Rows that turn independent normal values into correlated ones; None when all kinds are independent."""
        names = self.of_passages
        wanted = np.eye(len(names))
        for pair, value in self.together.items():
            one, _, other = pair.partition("|")
            if one in names and other in names and one != other:
                row, column = names.index(one), names.index(other)
                wanted[row, column] = wanted[column, row] = _latent(value)
        if np.count_nonzero(wanted) == len(names):
            return None
        values, vectors = np.linalg.eigh(wanted)
        # Of what may be no correlation at all the nearest that is; its symmetric root, for that one is unique, while
        # eigenvectors come with another sign from another processor's library; rounded for the same reason.
        rows = (vectors * np.sqrt(np.clip(values, 1e-9, None))) @ vectors.T
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return tuple(tuple(round(float(value), 9) for value in row) for row in rows)

    def _scopes(self, kind: Kind) -> set[str]:
        return {each.scope for each, _ in self.recipes[kind].operators}


def _recipe(rate: float, severity: tuple[float, ...], operators: Sequence[tuple[str, float]]) -> Recipe:
    return Recipe(rate, severity, tuple((catalog.operator(name), share) for name, share in operators))


def _latent(phi: float) -> float:
    """The correlation of the normal values whose thresholding gives about this correlation of yes and no.

    For rates that are not extreme, sin(pi/2 * phi); exact for rates of one half (Pearson 1900).
    """
    return float(np.clip(np.sin(np.pi / 2 * phi), -0.95, 0.95))


def _shares(
    kind: Kind, shares: Mapping[str, float], allowed: Collection[str] | None
) -> tuple[tuple[Operator, float], ...]:
    """The operators of a kind with their shares: as measured, or all alike."""
    for name in shares:
        if catalog.operator(name).kind != kind:
            raise ConfigurationError(f"{name} makes {catalog.operator(name).kind} noise, not {kind}")
    known = [each for each in catalog.operators(kind) if allowed is None or each.name in allowed]
    found = [(each, shares.get(each.name, 0.0)) for each in known]
    if sum(share for _, share in found) > 0:
        return tuple((each, share) for each, share in found if share > 0)
    return tuple((each, 1.0) for each in known)
