"""How far produced noise is from the profile that it follows; pure, knows no injector.

The produced texts are measured by the same detectors, with the same correction, as the target was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from llama_index_hybridmem.noise.findings import detectors
from llama_index_hybridmem.noise.kinds import KINDS, Kind
from llama_index_hybridmem.noise.profile import Profile


@dataclass(frozen=True, slots=True)
class Gap:
    """One kind of noise, as it should be and as it came out.

    Attributes:
        kind: of noise.
        target: wanted share, the kind's weight included.
        achieved: measured share.
        low: lower end of the 95 % interval of the achieved share.
        high: its upper end.
    """

    kind: Kind
    target: float
    achieved: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """Achieved minus target."""
        return self.achieved - self.target

    @property
    def interval(self) -> tuple[float, float]:
        """Of the difference, as far as it comes from the achieved share."""
        return self.low - self.target, self.high - self.target

    @property
    def met(self) -> bool:
        """Whether the target lies within the interval of what was achieved."""
        return self.low <= self.target <= self.high


@dataclass(frozen=True, slots=True)
class Distance:
    """How a target and what was achieved compare.

    Attributes:
        gaps: of every kind that both have.
        left_out: kind to why it could not be compared.
    """

    gaps: tuple[Gap, ...] = ()
    left_out: Mapping[Kind, str] = field(default_factory=dict)

    @property
    def total_variation(self) -> float | None:
        """Share of all noise that would have to be of another kind for the mix to be the target's, 0 to 1.

        Half the sum of the differences between each kind's share of all noise; it says nothing of how much noise there
        is. None where one of the two has none.
        """
        wanted = sum(each.target for each in self.gaps)
        made = sum(each.achieved for each in self.gaps)
        if not wanted or not made:
            return None
        return sum(abs(each.target / wanted - each.achieved / made) for each in self.gaps) / 2

    @property
    def worst(self) -> Gap | None:
        """The kind that is furthest off; None without one."""
        return max(self.gaps, key=lambda each: abs(each.difference), default=None)

    @property
    def mean(self) -> float | None:
        """Mean of the kinds' absolute differences; None without one."""
        return sum(abs(each.difference) for each in self.gaps) / len(self.gaps) if self.gaps else None

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        worst = self.worst
        return {
            "kinds": {
                each.kind: {
                    **{name: value for name, value in asdict(each).items() if name != "kind"},
                    "difference": each.difference,
                    "interval": list(each.interval),
                    "met": each.met,
                }
                for each in self.gaps
            },
            "left_out": dict(self.left_out),
            "total_variation": self.total_variation,
            "mean_difference": self.mean,
            "worst": None if worst is None else worst.kind,
        }


def distance(target: Profile, achieved: Profile) -> Distance:
    """Compare what noise was to be with what it came to be.

    Args:
        target: rates count times their weights, at most 1.
        achieved: as measured in what was made of it.

    Returns:
        a gap for every kind that both have; the others are named with the reason. A kind whose detectors have changed
        between the two measurements is not compared.
    """
    changed = _changed(target, achieved)
    gaps: list[Gap] = []
    left_out: dict[Kind, str] = {}
    for kind in KINDS:
        wanted, made = target.kinds.get(kind), achieved.kinds.get(kind)
        if wanted is None and made is None:
            continue
        if wanted is None:
            left_out[kind] = "not in the target"
        elif made is None:
            left_out[kind] = "cannot be measured in what was made"
        elif kind in changed:
            left_out[kind] = f"its detectors have changed: {changed[kind]}"
        else:
            gaps.append(Gap(kind, min(1.0, wanted.rate * wanted.weight), made.rate, made.low, made.high))
    return Distance(tuple(gaps), left_out)


def _changed(target: Profile, achieved: Profile) -> dict[Kind, str]:
    """Kinds with a detector that is another in the two; a profile that was not measured has none to differ."""
    if not target.detectors or not achieved.detectors:
        return {}
    found: dict[Kind, str] = {}
    for each in detectors():
        was, now = target.detectors.get(each.name), achieved.detectors.get(each.name)
        if was != now:
            found[each.kind] = f"{each.name} {was or 'none'} and {now or 'none'}"
    return found
