"""Where the seconds of queries went, stage by stage; pure, knows traces and nothing of what stages do."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from llama_index_hybridmem.costs.trace import QueryTrace, Stage

NOT_RETRIEVAL = frozenset({"route", "prompt", "llm", "judge", "postprocess"})
"""Every other stage is retrieval: embedding, the stores by whatever name, merging, reranking."""

MODEL = frozenset({"llm"})
"""The stage in which a language model writes."""

_MOST_KEPT = 2_000  # queries of a route that its waterfall is drawn from; a fair sample of more
_MIDDLE = (0.4, 0.6)


@dataclass(frozen=True, slots=True)
class StageTime:
    """One stage over many queries.

    Attributes:
        name: the stage's.
        n: queries that had it.
        mean_s: mean wall seconds of those, without stages inside it.
        share: of the wall time of all queries, 0 … 1. Stages that ran side by side are each counted in full, so shares
            may add up to more than 1.
        cpu_s: mean seconds of CPU of those that know it; None when none does.
        calls: mean number of calls.
    """

    name: str
    n: int
    mean_s: float
    share: float | None
    cpu_s: float | None
    calls: float


@dataclass(frozen=True, slots=True)
class Split:
    """How the wall time divides, each moment counted once; the first three add up to 1.

    Attributes:
        retrieval: while the question was embedded, a store searched, results merged or reranked.
        model: while a language model wrote, and nothing was retrieved.
        rest: all other time: routing, judging, prompts, waiting.
        elsewhere: of the rest, what all stages together do not come to: at least so much passed in none.
    """

    retrieval: float
    model: float
    rest: float
    elsewhere: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A stage in a waterfall: its mean start and length, in seconds, over the `n` queries that had it."""

    name: str
    start_s: float
    length_s: float
    n: int


@dataclass(frozen=True, slots=True)
class Waterfall:
    """The stages of the queries in the middle: those whose wall time lies between the 40th and the 60th percentile.

    Attributes:
        n: how many those are.
        wall_s: their mean wall time.
        first_token_s: when the first token came: the start of the "llm" bar, and the mean time from there to the first
            token of those that were streamed; None when none was, or when most had no such stage.
        streamed: how many that mean is of.
        elsewhere_s: mean seconds that all their stages together do not come to: at least so much passed in none.
        bars: stages that at least half of them had, in the order of their start.
    """

    n: int
    wall_s: float
    first_token_s: float | None
    streamed: int
    elsewhere_s: float
    bars: tuple[Bar, ...]


@dataclass(slots=True)
class _Sum:
    n: int = 0
    wall_s: float = 0.0
    calls: int = 0
    cpu_s: float = 0.0
    with_cpu: int = 0


@dataclass(slots=True)
class _Kept:
    wall_s: float
    first_token_s: float | None
    stages: tuple[Stage, ...]


@dataclass(slots=True)
class Stopwatch:
    """Adds up the stages of queries, one after the other."""

    n: int = 0
    wall_s: float = 0.0
    retrieval_s: float = 0.0
    model_s: float = 0.0
    stages_s: float = 0.0
    stages: dict[str, _Sum] = field(default_factory=dict)
    kept: list[_Kept] = field(default_factory=list)
    draw: random.Random = field(default_factory=lambda: random.Random("waterfall"))

    def add(self, trace: QueryTrace) -> None:
        """Count one."""
        self.n += 1
        self.wall_s += trace.wall_s
        retrieval_s = _retrieval_s(trace)
        self.retrieval_s += retrieval_s
        self.model_s += min(
            covered((each for each in trace.stages if each.name in MODEL), trace.wall_s), trace.wall_s - retrieval_s
        )
        self.stages_s += trace.wall_s - _elsewhere_s(trace)
        for stage in trace.stages:
            self._add_stage(stage)
        self._keep(_Kept(trace.wall_s, trace.first_token_s, trace.stages))

    def split(self) -> Split | None:
        """Divide the time; None without any."""
        if not self.wall_s:
            return None
        retrieval, model = self.retrieval_s / self.wall_s, self.model_s / self.wall_s
        return Split(retrieval, model, max(0.0, 1 - retrieval - model), max(0.0, 1 - self.stages_s / self.wall_s))

    def times(self) -> tuple[StageTime, ...]:
        """Give every stage, the one that took most first."""
        longest = sorted(self.stages.items(), key=lambda each: (-each[1].wall_s, each[0]))
        return tuple(self._time(name, of_stage) for name, of_stage in longest)

    def waterfall(self) -> Waterfall | None:
        """Average the queries in the middle; None without queries, or without stages."""
        ordered = sorted(self.kept, key=lambda each: each.wall_s)
        low, high = (int(len(ordered) * edge) for edge in _MIDDLE)
        middle = ordered[low : max(high, low + 1)]
        bars = _bars(middle)
        if not bars:
            return None
        waits = [wait for each in middle if (wait := _wait(each)) is not None]
        asked = next((bar.start_s for bar in bars if bar.name in MODEL), None)
        first = None if asked is None or not waits else asked + sum(waits) / len(waits)
        wall_s, elsewhere_s = fmean(each.wall_s for each in middle), fmean(map(_elsewhere_s, middle))
        return Waterfall(len(middle), wall_s, first, len(waits), elsewhere_s, bars)

    def _add_stage(self, stage: Stage) -> None:
        of_stage = self.stages.setdefault(stage.name, _Sum())
        of_stage.n += 1
        of_stage.wall_s += stage.wall_s
        of_stage.calls += stage.count
        if stage.cpu_s is not None:
            of_stage.cpu_s += stage.cpu_s
            of_stage.with_cpu += 1

    def _time(self, name: str, of_stage: _Sum) -> StageTime:
        return StageTime(
            name,
            of_stage.n,
            of_stage.wall_s / of_stage.n,
            of_stage.wall_s / self.wall_s if self.wall_s else None,
            of_stage.cpu_s / of_stage.with_cpu if of_stage.with_cpu else None,
            of_stage.calls / of_stage.n,
        )

    def _keep(self, one: _Kept) -> None:
        """Keep a fair sample (Vitter's algorithm R)."""
        if len(self.kept) < _MOST_KEPT:
            self.kept.append(one)
        elif (place := self.draw.randrange(self.n)) < _MOST_KEPT:
            self.kept[place] = one


def covered(stages: Iterable[Stage], wall_s: float) -> float:
    """Seconds in which at least one of the stages ran, as far as start and length tell; no more than the query took."""
    seconds, upto = 0.0, 0.0
    for start, end in sorted((each.started_s, each.started_s + each.wall_s) for each in stages):
        seconds += max(0.0, min(end, wall_s) - max(start, upto))
        upto = max(upto, end)
    return seconds


def _retrieval_s(trace: QueryTrace) -> float:
    """Seconds until the sources were there.

    A store's own time may surround that of its embedding, so its start and length do not tell its end: all of them
    together, but no more than passed until the prompt was begun, or whatever came next.
    """
    stages = [each for each in trace.stages if each.name not in NOT_RETRIEVAL]
    if not stages:
        return 0.0
    began = min(each.started_s for each in stages)
    later = (each.started_s for each in trace.stages if each.name in NOT_RETRIEVAL and each.started_s > began)
    block_s = min(later, default=trace.wall_s) - began
    return min(trace.wall_s, max(covered(stages, trace.wall_s), min(sum(each.wall_s for each in stages), block_s)))


def _elsewhere_s(one: QueryTrace | _Kept) -> float:
    """Seconds beyond all stages; a stage's own time may surround others', so that their ends say nothing of gaps."""
    return max(0.0, one.wall_s - sum(stage.wall_s for stage in one.stages))


def _wait(one: _Kept) -> float | None:
    """Seconds from the language model's start to the first token; None where there was no such thing."""
    asked = min((stage.started_s for stage in one.stages if stage.name in MODEL), default=None)
    return None if asked is None or one.first_token_s is None else max(0.0, one.first_token_s - asked)


def _bars(middle: Sequence[_Kept]) -> tuple[Bar, ...]:
    found: dict[str, list[Stage]] = {}
    for each in middle:
        for stage in each.stages:
            found.setdefault(stage.name, []).append(stage)
    bars = [
        Bar(name, sum(each.started_s for each in stages) / len(stages), _mean_length(stages), len(stages))
        for name, stages in found.items()
        if 2 * len(stages) >= len(middle)
    ]
    return tuple(sorted(bars, key=lambda bar: (bar.start_s, bar.name)))


def _mean_length(stages: Sequence[Stage]) -> float:
    return sum(each.wall_s for each in stages) / len(stages)
