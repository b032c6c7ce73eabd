"""How often each detector is right: clean scenes are damaged by every operator and looked at; pure, knows none of them.

A detector that misses half of the cut passages, or sees cuts where there are none, makes a measured rate wrong. Both
shares are measured here, on texts whose damage is known, so that a rate can be corrected by them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from random import Random
from typing import Any, NamedTuple

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.noise.findings import detect, detectors
from llama_index_hybridmem.noise.kinds import KINDS, LIST_KINDS, Kind
from llama_index_hybridmem.noise.measuring import USABLE
from llama_index_hybridmem.noise.operators.registry import Operator, damage
from llama_index_hybridmem.noise.scene import Passage, Scene, World
from llama_index_hybridmem.statistics import wilson

BLIND = 0.1
"""Share found of what an operator damaged up to which its damage cannot be seen."""


class Share(NamedTuple):
    """How many of how many.

    Attributes:
        found: how many.
        of: of how many.
    """

    found: int
    of: int

    @property
    def rate(self) -> float | None:
        """0 to 1; None of none."""
        return self.found / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the rate (Wilson 1927), which is sound near 0 and 1, too; (0, 1) of none."""
        return wilson(self.found, self.of)

    def plus(self, other: Share) -> Share:
        """Both together."""
        return Share(self.found + other.found, self.of + other.of)


class Errors(NamedTuple):
    """How far the findings of a kind can be trusted.

    Attributes:
        sensitivity: share of the damaged passages (scenes, for kinds of lists) in which it is found.
        specificity: share of the clean ones in which it is not.
        damaged: how many damaged ones were looked at.
        clean: how many clean ones.
    """

    sensitivity: float
    specificity: float
    damaged: int = 0
    clean: int = 0

    @property
    def usable(self) -> bool:
        """Whether a rate can be corrected with them."""
        return self.sensitivity + self.specificity - 1 >= USABLE


DetectorErrors = Mapping[Kind, Errors]
"""Kinds whose detectors were measured."""


@dataclass(frozen=True)
class Confusion:
    """Detectors against operators.

    Attributes:
        found: (kind of finding, operator) to the share of what the operator damaged in which it was found.
        alarms: kind of finding to the share of the clean passages (scenes, for kinds of lists) in which it was found.
        kinds: operator to the kind of noise that it makes.
        idle: operator to how often it found nothing to break.
    """

    found: Mapping[tuple[Kind, str], Share]
    alarms: Mapping[Kind, Share]
    kinds: Mapping[str, Kind]
    idle: Mapping[str, int]

    def errors(self) -> dict[Kind, Errors]:
        """Sensitivity over the operators of a kind, each as often as it found something to break, and specificity.

        Operators whose damage cannot be seen (`blind`) are left out, unless all of a kind's are: what a profile tells
        of a kind is how often it can be seen. Kinds that no detector looks for, or of which nothing was made, are
        left out.
        """
        return {kind: each for kind in self.alarms if (each := self._errors(kind)) is not None}

    def blind(self) -> tuple[str, ...]:
        """Operators of kinds that are looked for, whose damage goes unseen all the same: `BLIND` of it is found."""
        return tuple(
            sorted(name for (kind, name), share in self.found.items() if kind == self.kinds[name] and _is_blind(share))
        )

    def plus(self, other: Confusion) -> Confusion:
        """Both together, as if measured on the scenes of either."""
        return Confusion(
            _together(self.found, other.found),
            _together(self.alarms, other.alarms),
            {**self.kinds, **other.kinds},
            {name: self.idle.get(name, 0) + other.idle.get(name, 0) for name in {**self.idle, **other.idle}},
        )

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {
            "detectors": {
                kind: {
                    "alarms": _share_json(alarms),
                    "found": {
                        name: _share_json(self.found[kind, name]) for name in self.kinds if (kind, name) in self.found
                    },
                }
                for kind, alarms in self.alarms.items()
            },
            "errors": {kind: {**each._asdict(), "usable": each.usable} for kind, each in self.errors().items()},
            "operators": dict(self.kinds),
            "blind": list(self.blind()),
            "idle": {name: count for name, count in self.idle.items() if count},
        }

    def table(self) -> str:
        """Write the table as Markdown: an operator a line, percent of what it damaged in which each kind was found.

        The first line is of clean passages; what an operator's own kind found is bold; "·" stands for nothing found.
        """
        kinds = list(self.alarms)
        lines = [f"| operator | n | {' | '.join(kinds)} |", "|---" * (len(kinds) + 2) + "|"]
        clean = max((each.of for each in self.alarms.values()), default=0)
        lines.append(f"| (clean) | {clean} | {' | '.join(_cell(self.alarms[kind]) for kind in kinds)} |")
        for name in sorted(self.kinds, key=lambda name: (KINDS.index(self.kinds[name]), name)):
            row = {kind: self.found.get((kind, name), Share(0, 0)) for kind in kinds}
            cells = (_cell(share, bold=kind == self.kinds[name]) for kind, share in row.items())
            lines.append(f"| {name} | {max((each.of for each in row.values()), default=0)} | {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"

    def _errors(self, kind: Kind) -> Errors | None:
        own = [share for (found, name), share in self.found.items() if found == kind == self.kinds[name]]
        seen = [share for share in own if not _is_blind(share)] or own
        made = reduce(Share.plus, seen, Share(0, 0))
        sensitivity, alarms = made.rate, self.alarms[kind].rate
        if sensitivity is None or alarms is None:
            return None
        return Errors(sensitivity, 1 - alarms, made.of, self.alarms[kind].of)


def confusion(
    scenes: Iterable[Scene],
    operators: Iterable[Operator],
    severities: Sequence[float],
    seed: str,
    world: World = World(),  # noqa: B008 - frozen
) -> Confusion:
    """Damage each clean scene with each operator once, and see what all registered detectors find.

    An operator of passages gets one passage, drawn for it. What an operator of scenes changed is known by its marks;
    where it put a copy beside a passage, a finding on either of the two counts.

    Args:
        scenes: clean ones; what the detectors find in them counts as false alarms.
        operators: to try.
        severities: one is drawn each time, all above 0 and at most 1.
        seed: of what is drawn; the same seed gives the same table.
        world: what operators may draw from.

    Raises:
        ConfigurationError: no severity, or one that is out of range.
    """
    if not severities or not all(0 < each <= 1 for each in severities):
        raise ConfigurationError(f"severities must be above 0 and at most 1, and at least one: found {severities!r}")
    chosen = list(operators)
    looked_for: tuple[Kind, ...] = tuple(kind for kind in KINDS if any(detectors(kind)))
    alarms = dict.fromkeys(looked_for, Share(0, 0))
    found: dict[tuple[Kind, str], Share] = {}
    idle: Counter[str] = Counter()
    for number, scene in enumerate(scenes):
        _count(alarms, scene, [{each.id} for each in scene.passages], looked_for)
        for each in chosen:
            damaged, units = _damaged(scene, each, severities, f"{seed}:{number}:{each.name}", world)
            idle[each.name] += damaged is scene
            if damaged is not scene:
                cells = dict.fromkeys(looked_for, Share(0, 0))
                _count(cells, damaged, units, looked_for)
                for kind, share in cells.items():
                    found[kind, each.name] = found.get((kind, each.name), Share(0, 0)).plus(share)
    return Confusion(found, alarms, {each.name: each.kind for each in chosen}, dict(idle))


def _damaged(
    scene: Scene, which: Operator, severities: Sequence[float], seed: str, world: World
) -> tuple[Scene, list[set[str]]]:
    """The damaged scene, and of each damaged passage the ids that may be blamed."""
    draw = Random(seed)
    at = draw.randrange(len(scene.passages)) if scene.passages else 0
    if not scene.passages and which.scope == "passage":
        return scene, []
    damaged = damage(scene, which, draw.choice(severities), seed, world, at)
    return damaged, [blamed for each in damaged.passages if (blamed := _blamed(each, which.name))]


def _blamed(passage: Passage, name: str) -> set[str]:
    done = [each for each in passage.damage if each.operator == name]
    return {passage.id, *(each.note["id"] for each in done if "id" in each.note)} if done else set()


def _count(cells: dict[Kind, Share], scene: Scene, units: Collection[set[str]], looked_for: Iterable[Kind]) -> None:
    kinds = {id_: {each.kind for each in found} for id_, found in detect(scene).items()}
    for kind in looked_for:
        blamed = [{None}] if kind in LIST_KINDS else units
        hits = sum(any(kind in kinds.get(id_, ()) for id_ in ids) for ids in blamed)
        cells[kind] = cells[kind].plus(Share(hits, len(blamed)))


def _is_blind(share: Share) -> bool:
    return share.rate is not None and share.rate <= BLIND


def _together(some: Mapping[Any, Share], others: Mapping[Any, Share]) -> dict[Any, Share]:
    return {key: some.get(key, Share(0, 0)).plus(others.get(key, Share(0, 0))) for key in {**some, **others}}


def _share_json(share: Share) -> dict[str, Any]:
    return {"found": share.found, "of": share.of, "rate": share.rate, "interval": list(share.interval)}


def _cell(share: Share, bold: bool = False) -> str:
    if share.rate is None:
        return ""
    percent = f"{100 * share.rate:.0f}" if share.found else "·"
    if bold:
        low, high = share.interval
        return f"**{percent}** [{100 * low:.0f}, {100 * high:.0f}]"
    return percent
