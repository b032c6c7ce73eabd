"""What a model forgets in training, skill by skill; pure, knows no item and no model.

An item is asked before and after; its rule judges both answers. A skill that the base has not, because it does no
better than one that guesses in the right form, cannot be seen to be forgotten: that is said, not counted as nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.statistics import Interval, paired_difference, wilson

Answering = Callable[[Sequence[Example]], Sequence[str]]
"""Asks a model: an answer to each example, in order."""


@dataclass(frozen=True)
class Probe:
    """A question and a rule for its answers.

    Attributes:
        skill: what it shows.
        example: the question; its completion is one right answer.
        judge: whether an answer is right.
        chance: share of right answers of who guesses in the right form: 1/2 for yes or no, 0 for a free answer.
    """

    skill: str
    example: Example
    judge: Callable[[str], bool]
    chance: float = 0.0


@dataclass(frozen=True)
class Measured:
    """The answers of one model to a skill's probes.

    Attributes:
        right: of each probe, in order.
        chance: mean of the probes' chances.
    """

    right: tuple[bool, ...]
    chance: float

    @property
    def share(self) -> float:
        """Share of right answers."""
        return sum(self.right) / len(self.right)

    @property
    def above_chance(self) -> bool:
        """Whether the share lies above the 95 % Wilson interval of as many guesses."""
        return self.share > wilson(round(self.chance * len(self.right)), len(self.right))[1]


@dataclass(frozen=True)
class Forgetting:
    """What became of one skill.

    Attributes:
        skill: its name.
        n: probes.
        before: share of right answers of the base.
        after: share of right answers after training.
        chance: share that guessing gets.
        change: after - before, probe by probe, with its interval; below 0 throughout: forgotten.
        measurable: whether the base did better than chance; if not, ``change`` says nothing about forgetting.
    """

    skill: str
    n: int
    before: float
    after: float
    chance: float
    change: Interval
    measurable: bool

    @property
    def verdict(self) -> str:
        """In words."""
        if not self.measurable:
            return "not measurable on this base"
        if self.change.high < 0:
            return "forgotten"
        return "improved" if self.change.low > 0 else "no change seen"

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {**asdict(self), "verdict": self.verdict}


def measure(answer: Answering, probes: Sequence[Probe]) -> dict[str, Measured]:
    """Ask all probes at once and judge the answers.

    Args:
        answer: the model.
        probes: of any skills.

    Returns:
        The skills in the order of their first probes.

    Raises:
        ConfigurationError: as many answers as probes are needed.
    """
    said = answer([each.example for each in probes])
    if len(said) != len(probes):
        raise ConfigurationError(f"an answer for every probe is needed: {len(said)} against {len(probes)}")
    found: dict[str, list[tuple[bool, float]]] = {}
    for probe, text in zip(probes, said, strict=True):
        found.setdefault(probe.skill, []).append((probe.judge(text), probe.chance))
    return {
        skill: Measured(tuple(right for right, _ in each), sum(chance for _, chance in each) / len(each))
        for skill, each in found.items()
    }


def forgetting(before: Mapping[str, Measured], after: Mapping[str, Measured], seed: int = 0) -> list[Forgetting]:
    """Compare two models, skill by skill.

    Args:
        before: the base's answers.
        after: the trained model's, to the same probes.
        seed: of the bootstrap; 0 or more.

    Raises:
        ConfigurationError: other skills, or other numbers of probes.
    """
    if before.keys() != after.keys():
        raise ConfigurationError(f"the same skills are needed, not {sorted(before)} against {sorted(after)}")
    return [_forgotten(skill, old, after[skill], seed) for skill, old in before.items()]


def _forgotten(skill: str, before: Measured, after: Measured, seed: int) -> Forgetting:
    change = paired_difference([float(each) for each in after.right], [float(each) for each in before.right], seed)
    return Forgetting(
        skill, len(before.right), before.share, after.share, before.chance, change, measurable=before.above_chance
    )
