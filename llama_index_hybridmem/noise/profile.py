"""How often each kind of noise occurs, how badly, and which together; pure, knows no text and nobody who measures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.noise.kinds import KINDS, Kind

SCHEMA = 1
P = TypeVar("P", bound="Profile")
UNIFORM = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Quantiles of a severity of which nothing is known."""

_MOST = 1e15
"""More than any count, weight or share that makes sense, and exact as a float."""


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
        _check_whole(self)

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that name what is in it."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    def weighted(self: P, gains: Mapping[str, float]) -> P:
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

    def completed(self: P, other: Profile) -> P:
        """Take from another profile the kinds that this one does not have: those that could not be measured.

        Args:
            other: `NoiseProfile.default()`, for one.
        """
        missing = {kind: each for kind, each in other.kinds.items() if kind not in self.kinds}
        told = f"from another profile: {', '.join(missing)}" if missing else ""
        source = "; ".join(filter(None, (self.source, told)))
        return replace(self, kinds={**self.kinds, **missing}, source=source)

    def without(self: P, kinds: Collection[str]) -> P:
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
    def from_json(cls: type[P], row: Any, place: str = "a noise profile") -> P:
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
            top_k = {int(k): n for k, n in row["top_k"].items()}
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
    """Refuse what is no rate: files are edited by hand, and JSON knows NaN, texts and lists, too."""
    if kind not in KINDS:
        raise ConfigurationError(f"{kind!r:.40} is no kind of noise; there are {', '.join(KINDS)}")
    for name in ("rate", "low", "high"):
        _number(f"{kind}: {name}", getattr(each, name), 0, 1)
    if each.seen is not None:
        _number(f"{kind}: seen", each.seen, 0, 1)
    _number(f"{kind}: weight", each.weight, 0, _MOST)
    for at, severity in enumerate(each.severity):
        _number(f"{kind}: severity, quantile {at + 1}", severity, 0, 1)
    if len(each.severity) != 5 or list(each.severity) != sorted(each.severity):
        raise ConfigurationError(f"{kind}: severity needs five rising quantiles, 0 to 1, not {each.severity!r:.80}")
    for name, share in each.operators.items():
        _number(f"{kind}: share of {name!s:.40}", share, 0, _MOST)
    _text(f"{kind}: source", each.source)


def _check_whole(profile: Profile) -> None:
    for pair, value in profile.together.items():
        if not all(name in KINDS for name in pair.split("|")) or pair.count("|") != 1:
            raise ConfigurationError(f'together: "kind|other" is expected, not {pair!r:.40}')
        _number(f"together: {pair}", value, -1, 1)
    counts = {"passages": profile.passages, "questions": profile.questions}
    counts |= {f"top_k: {k}": n for k, n in profile.top_k.items()}
    counts |= {f"detectors: {name!s:.40}": version for name, version in profile.detectors.items()}
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= _MOST:
            raise ConfigurationError(f"{name}: a whole number of 0 or more is expected, not {count!r:.40}")
    _text("source", profile.source)


def _number(name: str, value: object, least: float, most: float) -> None:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not least <= value <= most:  # type: ignore[operator]
        span = f"{least:g} to {most:g}" if most < _MOST else f"{least:g} or more"
        raise ConfigurationError(f"{name}: a number, {span}, is expected, not {value!r:.40}")


def _text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ConfigurationError(f"{name}: a text is expected, not {value!r:.40}")
