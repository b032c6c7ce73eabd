"""What costs and answers come to: quality of the tickets, what was forgotten; pure, asks no model.

With several seeds a row's value is its mean over them, and intervals are over the rows that are asked: seeds make a
figure steadier, not its interval narrower. Shares have Wilson intervals (of the mean of the fields wider than need be),
differences paired bootstrap ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llama_index_hybridmem.example import Example
from llama_index_hybridmem.sample.behaviours.tickets import KEYS, check, right
from llama_index_hybridmem.statistics import Interval, paired_difference, wilson
from llama_index_hybridmem.training.probes import Forgetting, Measured, Probe, measure

SEED = 0
FIELDS, VALID, FORM, ALL = "mean of the fields", "valid JSON", "in the form", "measurable skills together"


@dataclass(frozen=True)
class Judged:
    """What one model's answers are worth.

    Attributes:
        tickets: of each ticket, what is right: each field, `FIELDS`, `VALID`, and `FORM`: also keys and values of ours.
        skills: of each skill, which probes are right.
    """

    tickets: tuple[Mapping[str, float], ...]
    skills: Mapping[str, Measured]

    @classmethod
    def of(cls, answers: Mapping[str, Any], rows: Sequence[Example], probes: Sequence[Probe]) -> Judged:
        """Judge the answers to tickets and probes, whole as they are: what runs on behind its JSON is no JSON."""
        tickets = tuple(_ticket(said, row) for said, row in zip(answers["tickets"], rows, strict=True))
        return cls(tickets, measure(lambda _: answers["probes"], probes))


def quality(seeds: Sequence[Judged]) -> dict[str, Any]:
    """Share of tickets whose fields are right, and of answers in the right form, with 95 % intervals."""
    return {name: asdict(_share(_means(seeds, name))) for name in (*KEYS, FIELDS, VALID, FORM)}


def over(seeds: Sequence[Judged], ground: Sequence[Judged]) -> dict[str, float]:
    """The fields' mean against another model's, ticket by ticket."""
    return asdict(paired_difference(_means(seeds, FIELDS), _means(ground, FIELDS), SEED))


def forgotten(before: Judged, after: Sequence[Judged]) -> dict[str, Any]:
    """What became of each skill, and of all probes together of skills that the base has."""
    found = {skill: _forgotten(skill, old, [each.skills[skill] for each in after]) for skill, old in _skills(before)}
    seen = [skill for skill, each in found.items() if each.measurable]
    together = None
    if seen:
        old = [float(each) for skill in seen for each in before.skills[skill].right]
        new = [value for skill in seen for value in _rights([each.skills[skill] for each in after])]
        together = asdict(paired_difference(new, old, SEED))
    return {ALL: together, "skills": {skill: each.to_json() for skill, each in found.items()}}


def levels(base: Judged) -> dict[str, Any]:
    """What the base itself can do: share of right probes, and whether that is above chance."""
    return {
        skill: {"share": each.share, "chance": each.chance, "n": len(each.right), "measurable": each.above_chance}
        for skill, each in _skills(base)
    }


def _ticket(said: str, row: Example) -> dict[str, float]:
    fields = {name: float(each) for name, each in right(said, row).items()}
    wrong = check(said)
    is_valid = wrong not in (["no JSON"], ["no JSON object"])
    return {**fields, FIELDS: sum(fields.values()) / len(fields), VALID: float(is_valid), FORM: float(not wrong)}


def _means(seeds: Sequence[Judged], name: str) -> list[float]:
    count = len(seeds)
    return [sum(each[name] for each in same) / count for same in zip(*(one.tickets for one in seeds), strict=True)]


def _share(values: Sequence[float]) -> Interval:
    low, high = wilson(round(sum(values)), len(values))
    return Interval(sum(values) / len(values), low, high)


def _skills(judged: Judged) -> list[tuple[str, Measured]]:
    return list(judged.skills.items())


def _rights(seeds: Sequence[Measured]) -> list[float]:
    return [sum(map(float, same)) / len(seeds) for same in zip(*(each.right for each in seeds), strict=True)]


def _forgotten(skill: str, before: Measured, after: Sequence[Measured]) -> Forgetting:
    now = _rights(after)
    change = paired_difference(now, [float(each) for each in before.right], SEED)
    share = sum(now) / len(now)
    return Forgetting(skill, len(now), before.share, share, before.chance, change, measurable=before.above_chance)
