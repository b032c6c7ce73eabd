"""How often each kind of noise occurs, how badly, and which together; pure, knows no text and nobody who measures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.noise.kinds import KINDS, Kind

SCHEMA = 1
UNIFORM = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Quantiles of a severity of which nothing is known."""


@dataclass(frozen=True, slots=True)
class KindRate:
    """How often one kind of noise occurs.

    Attributes:
        rate: share of the passages (of the questions, for kinds of lists) that have it, 0 to 1, corrected for the
            detectors' errors.
        low: lower end of its 95 % interval.
        high: upper end of its 95 % interval.
        seen: share in which a detector found it; None where none was asked.
        severity: quantiles 0, ¼, ½, ¾, 1 of its severity.
        operators: how it comes about: operator to its share, summing to 1; empty: any of the kind's.
        weight: what training on it is worth: its rate is multiplied by this when noise is made; 0 drops the kind.
        source: where the figure comes from.
    """

    rate: float
    low: float
    high: float
    seen: float | None = None
    severity: tuple[float, float, float, float, float] = UNIFORM
    operators: Mapping[str, float] = field(default_factory=dict)
    weight: float = 1.0
    source: str = ""


@dataclass(frozen=True, slots=True)
class Profile:
    """How retrieved text is broken in one app, or is assumed to be.

    Attributes:
        kinds: kind to how often it occurs; a kind that is not in it is not made.
        together: "kind|other", in order of the alphabet, to the correlation of the two in a passage, -1 to 1; pairs
            that are left out are taken to be independent.
        passages: how many were looked at; 0 for a profile that was not measured.
        questions: how many were looked at.
        top_k: passages per question to how many questions had so many.
        detectors: detector to its version.
        source: what was measured.
    """

    kinds: Mapping[Kind, KindRate]
    together: Mapping[str, float] = field(default_factory=dict)
    passages: int = 0
    questions: int = 0
    top_k: Mapping[int, int] = field(default_factory=dict)
    detectors: Mapping[str, int] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled from."""
        for kind, each in self.kinds.items():
            _check(kind, each)

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that name what is in it."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    def weighted(self, gains: Mapping[str, float]) -> Profile:
        """Weigh kinds by what they bought in an earlier evaluation.

        Args:
            gains: kind to its weight: 1 as often as it occurs, 2 twice as often, 0 never. Others stay.

        Raises:
            ConfigurationError: a kind that is not in the profile, or a negative weight.
        """
        for kind in gains:
            if kind not in self.kinds:
                raise ConfigurationError(f"the profile has no kind {kind!r}; it has {', '.join(self.kinds) or 'none'}")
        kinds = {
            kind: replace(each, weight=gains[kind]) if kind in gains else each for kind, each in self.kinds.items()
        }
        return replace(self, kinds=kinds)

    def without(self, kinds: Collection[str]) -> Profile:
        """The profile without some kinds."""
        return replace(self, kinds={kind: each for kind, each in self.kinds.items() if kind not in kinds})

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {
            "schema": SCHEMA,
            "source": self.source,
            "passages": self.passages,
            "questions": self.questions,
            "top_k": {str(k): n for k, n in sorted(self.top_k.items())},
            "kinds": {
                kind: {**asdict(each), "severity": list(each.severity)} for kind, each in sorted(self.kinds.items())
            },
            "together": dict(sorted(self.together.items())),
            "detectors": dict(sorted(self.detectors.items())),
        }

    @classmethod
    def from_json(cls, row: Any, place: str = "a noise profile") -> Profile:
        """Read what `to_json` gave.

        Raises:
            ConfigurationError: it is no profile, of a newer schema, or a figure is out of range; names the place.
        """
        if not isinstance(row, Mapping) or row.get("schema") not in range(1, SCHEMA + 1):
            raise ConfigurationError(f"{place}: no noise profile of schema 1 to {SCHEMA}")
        try:
            kinds = {
                kind: KindRate(**{**each, "severity": tuple(each["severity"])}) for kind, each in row["kinds"].items()
            }
            top_k = {int(k): int(n) for k, n in row["top_k"].items()}
            return cls(
                kinds,
                dict(row["together"]),
                row["passages"],
                row["questions"],
                top_k,
                dict(row["detectors"]),
                row["source"],
            )
        except KeyError as error:
            raise ConfigurationError(f"{place}: lacks the field {error}") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigurationError(f"{place}: a field is of the wrong form: {error}") from error
        except ConfigurationError as error:
            raise ConfigurationError(f"{place}: {error}") from error


def _check(kind: str, each: KindRate) -> None:
    if kind not in KINDS:
        raise ConfigurationError(f"{kind!r} is no kind of noise; there are {', '.join(KINDS)}")
    for name in ("rate", "low", "high"):
        if not 0 <= getattr(each, name) <= 1:
            raise ConfigurationError(f"{kind}: {name} is a share, 0 to 1, not {getattr(each, name)}")
    if len(each.severity) != 5 or list(each.severity) != sorted(each.severity) or each.severity[0] < 0:
        raise ConfigurationError(f"{kind}: severity needs five rising quantiles, 0 to 1, not {each.severity}")
    if each.severity[-1] > 1 or each.weight < 0 or any(share < 0 for share in each.operators.values()):
        raise ConfigurationError(f"{kind}: a severity above 1, or a negative weight or share")
