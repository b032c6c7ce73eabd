"""Judges from greedy answers whether a server keeps its adapters apart; knows no server and no HTTP.

Two faults that servers have had, each without any error: adapters that are loaded and do nothing, and requests for the
base model that are answered by an adapter when both are in one batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SAME = 1e-3
"""Mean difference of log-probabilities below which two answers of the same words come from the same weights: the same
request twice differs by 1e-5 in float32, adapters that do something by more than 1e-2."""
NOISE = 0.05
"""Distance that a batch's rounding may put between two answers of the same weights in bfloat16."""


@dataclass(frozen=True)
class Probe:
    """One greedy answer.

    Attributes:
        tokens: its tokens, or its words where the server gives none.
        logprobs: theirs; empty where the server gives none.
    """

    tokens: tuple[str, ...]
    logprobs: tuple[float, ...] = ()


def distance(some: Probe, other: Probe) -> float:
    """How far two answers lie apart: 0 for the same, at least 1 if they differ from the first token.

    Mean difference of log-probabilities over the tokens that both begin with, plus the share that is not common.
    """
    longest = max(len(some.tokens), len(other.tokens))
    if longest == 0:
        return 0.0
    common = 0
    while common < min(len(some.tokens), len(other.tokens)) and some.tokens[common] == other.tokens[common]:
        common += 1
    pairs = list(zip(some.logprobs[:common], other.logprobs[:common], strict=False))
    gap = sum(abs(one - another) for one, another in pairs) / len(pairs) if pairs else 0.0
    return gap + 1 - common / longest


@dataclass(frozen=True)
class Conformance:
    """What came out; "" stands for the base model.

    Attributes:
        names: who was asked, the base first.
        inactive: adapters that answered as the base does, although alone.
        mixed: who was answered as somebody else when all were asked at once, and as whom.
    """

    names: tuple[str, ...]
    inactive: tuple[str, ...] = ()
    mixed: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.inactive and not self.mixed

    def __str__(self) -> str:
        """What was found and what to do about it."""
        lines = [f"{_called(name)} answered as {_called(other)}" for name, other in self.mixed.items()]
        found = []
        if lines:
            found.append(
                f"the server mixes up requests that run at the same time: {'; '.join(lines)}. vLLM on CPU does so when "
                "every LoRA slot is full: start it with --max-loras one above the number of adapters, or never ask "
                "for the base model there"
            )
        if self.inactive:
            named = ", ".join(_called(name) for name in self.inactive)
            found.append(
                f"loaded without effect, same answers as the base model's: {named}. The server ignores these "
                "adapters' modules: compare their target_modules with what it serves (vLLM: --lora-target-modules and "
                "its log), or they change nothing on the probe's prompts: give it others"
            )
        return ". ".join(found) or f"the server keeps {len(self.names)} models apart"


def judge(alone: Mapping[str, Sequence[Probe]], together: Mapping[str, Sequence[Probe]]) -> Conformance:
    """Compares answers given one by one with answers to requests at the same time.

    Args:
        alone: name ("" for the base) to its answers, one per prompt.
        together: the same, under load; an answer's place in the sequence modulo the number of prompts is its prompt.
    """
    base = alone[""]
    inactive = tuple(
        name for name, probes in alone.items() if name and max(map(distance, probes, base), default=0.0) < SAME
    )
    mixed = {}
    for name, probes in together.items():
        for number, probe in enumerate(probes):
            prompt = number % len(base)
            own = distance(probe, alone[name][prompt])
            nearest = min(alone, key=lambda other: distance(probe, alone[other][prompt]))  # noqa: B023 - used at once
            if own > NOISE and distance(probe, alone[nearest][prompt]) < own:
                mixed[name] = nearest
    return Conformance(tuple(alone), inactive, mixed)


def _called(name: str) -> str:
    return repr(name) if name else "the base model"
