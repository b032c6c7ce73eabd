"""From what detectors find to a noise profile, in constant memory; pure, knows no trace, index or file.

A share that detectors find is not the share that there is: they miss some and see some that is not there. It is
corrected by their own measured error rates (Rogan and Gladen 1978, "Estimating prevalence from the results of a
screening test", American Journal of Epidemiology 107(1), 71-76): true = (found + specificity - 1) / (sensitivity +
specificity - 1), cut to 0 to 1. Its interval is Wilson's of the share found (1927), mapped the same way: it says how
far the sample can be trusted, not how well the error rates are known, nor that passages of one question are alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from random import Random
from typing import Protocol

from llama_index_hybridmem.noise.findings import Finding, detect, detectors, versions
from llama_index_hybridmem.noise.kinds import KINDS, LIST_KINDS, Kind
from llama_index_hybridmem.noise.profile import UNIFORM, KindRate, Profile
from llama_index_hybridmem.noise.scene import Scene
from llama_index_hybridmem.statistics import wilson

NEEDS_QUESTION: frozenset[Kind] = LIST_KINDS | {"irrelevant", "distractor", "language"}
"""Kinds that cannot be told without a question: a passage is off topic, or in the wrong language, for somebody."""

LEAST_PHI = 0.05
"""Correlations nearer to 0 are taken for none."""

LEAST_SEEN = 10
"""Passages in which each of two kinds must have been found before their correlation is given."""

USABLE = 0.2
"""Least sensitivity + specificity - 1 with which a rate can be corrected. The correction divides by it, so that the
interval of a corrected rate is five times as wide here, and soon says nothing at all."""

RESERVOIR = 1000
"""Severities kept of a kind; their quartiles are within 3 points of the whole's, 19 times in 20."""


class Errors(Protocol):
    """How reliable the detectors of one kind are.

    Attributes:
        sensitivity: share of the damaged passages in which they find it.
        specificity: share of the sound passages in which they find nothing.
    """

    @property
    def sensitivity(self) -> float:
        """Share of the damaged in which it is found."""

    @property
    def specificity(self) -> float:
        """Share of the sound in which nothing is found."""


class Tally:
    """Counts findings as they come.

    What is kept does not grow with what is counted: how often each set of kinds occurred, and a sample of severities.

    Args:
        without: kinds that are not looked for.
    """

    def __init__(self, without: Collection[Kind] = ()) -> None:
        self.passages = self.questions = 0
        self._all = [each for each in detectors() if each.kind not in without]
        self._plain = [each for each in self._all if each.kind not in NEEDS_QUESTION]
        self._top_k: Counter[int] = Counter()
        self._sets: Counter[tuple[frozenset[Kind], frozenset[Kind]]] = Counter()  # (looked for, found) of passages
        self._lists: Counter[tuple[frozenset[Kind], frozenset[Kind]]] = Counter()  # the same of questions
        self._operators: dict[Kind, Counter[str]] = {}
        self._severities: dict[Kind, _Sample] = {}

    def look(self, scene: Scene, *, listed: bool = True) -> None:
        """Let the detectors look at a scene, and count what they find.

        Args:
            scene: without a question, only what can be told without one is looked for.
            listed: whether the passages are what one query got; False for any others, such as chunks of an index.
        """
        chosen = self._all if scene.question.strip() else self._plain
        found = detect(scene, [each.name for each in chosen])
        passages = [found.get(each.id, ()) for each in scene.passages]
        self.add(passages, found.get(None, ()), {each.kind for each in chosen}, listed=listed)

    def add(
        self,
        passages: Sequence[Iterable[Finding]],
        whole: Iterable[Finding],
        looked_for: Collection[Kind],
        *,
        listed: bool = True,
    ) -> None:
        """Count what was found.

        Args:
            passages: of each passage, what was found in it.
            whole: what was found wrong with the list.
            looked_for: kinds that a detector was asked for; the others are not counted as absent.
            listed: see `look`.
        """
        of_passages, of_lists = frozenset(looked_for) - LIST_KINDS, LIST_KINDS & frozenset(looked_for)
        for findings in passages:
            self._sets[of_passages, self._noted(findings, of_passages)] += 1
        self.passages += len(passages)
        if listed:
            self._lists[of_lists, self._noted(whole, of_lists)] += 1
            self.questions += 1
            self._top_k[len(passages)] += 1

    def profile(
        self,
        errors: Mapping[Kind, Errors] | None = None,
        source: str = "",
        versions: Mapping[str, int] | None = None,
    ) -> Profile:
        """Say how often each kind occurs, by what was counted so far.

        Args:
            errors: how reliable each kind's detectors are; None: what was found is taken as it is.
            source: what was measured; which kinds could not be is added to it.
            versions: of the detectors.
        """
        kinds: dict[Kind, KindRate] = {}
        missing: dict[str, list[str]] = {}
        for kind in KINDS:
            known = None if errors is None else errors.get(kind)
            if reason := self._unmeasurable(kind, known):
                missing.setdefault(reason, []).append(kind)
            else:
                kinds[kind] = self._rate(kind, known)
        told = ", ".join(f"{', '.join(those)} ({why})" for why, those in missing.items())
        return Profile(
            kinds,
            self._together(kinds),
            self.passages,
            self.questions,
            dict(self._top_k),
            dict(versions or {}),
            "; ".join(filter(None, (source, told and f"not measured: {told}"))),
        )

    def _noted(self, findings: Iterable[Finding], wanted: frozenset[Kind]) -> frozenset[Kind]:
        """Note operators and severities; of several findings of one kind, the worst says how bad it is."""
        worst: dict[Kind, float] = {}
        ways: set[tuple[Kind, str]] = set()
        for each in findings:
            if each.kind in wanted:
                worst[each.kind] = max(worst.get(each.kind, 0.0), each.severity)
                ways.add((each.kind, each.operator))
        for kind, severity in worst.items():
            self._severities.setdefault(kind, _Sample(kind)).add(min(max(severity, 0.0), 1.0))
        for kind, operator in ways:
            self._operators.setdefault(kind, Counter())[operator] += 1
        return frozenset(worst)

    def _counts(self, kind: Kind) -> tuple[int, int]:
        """How many were found to have it, and how many were looked at."""
        sets = self._lists if kind in LIST_KINDS else self._sets
        looked = [(found, n) for (wanted, found), n in sets.items() if kind in wanted]
        return sum(n for found, n in looked if kind in found), sum(n for _, n in looked)

    def _unmeasurable(self, kind: Kind, known: Errors | None) -> str:
        if not self._counts(kind)[1]:
            if next(detectors(kind), None) is None:
                return "no detector"
            return "takes a question" if kind in NEEDS_QUESTION and not self.questions else "not looked for"
        if known is not None and known.sensitivity + known.specificity - 1 < USABLE:
            return f"detectors err too often, {_told(known)}"
        return ""

    def _rate(self, kind: Kind, known: Errors | None) -> KindRate:
        count, total = self._counts(kind)
        low, high = wilson(count, total)
        none = wilson(0, total)[1]  # that nothing was found never says that there is nothing
        ways = self._operators.get(kind, Counter())
        what = "questions" if kind in LIST_KINDS else "passages"
        how = "not corrected" if known is None else f"corrected for {_told(known)}"
        return KindRate(
            round(corrected(count / total, known), 6),
            round(corrected(low, known), 6),
            round(max(corrected(high, known), none), 6),
            round(count / total, 6),
            self._severities[kind].quartiles() if count else UNIFORM,
            {name: round(n / ways.total(), 6) for name, n in sorted(ways.items())},
            source=f"measured on {total:,} {what}; {how}",
        )

    def _together(self, kinds: Collection[Kind]) -> dict[str, float]:
        """Correlations (phi) of kinds within passages, of those that were looked for together."""
        pairs = combinations(sorted(kind for kind in kinds if kind not in LIST_KINDS), 2)
        found = {f"{one}|{other}": self._phi(one, other) for one, other in pairs}
        return {pair: phi for pair, phi in found.items() if phi is not None and abs(phi) >= LEAST_PHI}

    def _phi(self, one: Kind, other: Kind) -> float | None:
        both = first = second = total = 0
        for (wanted, found), n in self._sets.items():
            if one in wanted and other in wanted:
                total += n
                first += n * (one in found)
                second += n * (other in found)
                both += n * (one in found and other in found)
        if min(first, second, total - first, total - second) < LEAST_SEEN:
            return None
        spread = math.sqrt(first * (total - first)) * math.sqrt(second * (total - second))
        return round((both * total - first * second) / spread, 4)


def measure(
    scenes: Iterable[Scene],
    errors: Mapping[Kind, Errors] | None = None,
    source: str = "",
    *,
    without: Collection[Kind] = (),
) -> Profile:
    """Let all registered detectors look at scenes, one after the other.

    Args:
        scenes: any number; a scene without a question counts for kinds that need none.
        errors: how reliable each kind's detectors are; None: what they find is taken as it is.
        source: what is measured.
        without: kinds that are not looked for.

    Returns:
        shares of passages, for kinds of lists of questions, with 95 % intervals; kinds that nobody can measure are left
        out, and named in the profile's ``source``.
    """
    tally = Tally(without)
    for scene in scenes:
        tally.look(scene, listed=bool(scene.question.strip()))
    return tally.profile(errors, source, versions())


def corrected(share: float, errors: Errors | None) -> float:
    """Give the true share for one that detectors found (Rogan and Gladen 1978), 0 to 1; without errors, as found."""
    if errors is None:
        return share
    return min(1.0, max(0.0, (share + errors.specificity - 1) / (errors.sensitivity + errors.specificity - 1)))


def _told(errors: Errors) -> str:
    return f"sensitivity {errors.sensitivity:.2f} and specificity {errors.specificity:.2f}"


class _Sample:
    """An even sample of severities, however many come (Vitter 1985, algorithm R); the same in every process."""

    def __init__(self, kind: Kind) -> None:
        self._draw = Random(f"severity:{kind}")
        self._kept: list[float] = []
        self._count = 0

    def add(self, severity: float) -> None:
        self._count += 1
        if len(self._kept) < RESERVOIR:
            self._kept.append(severity)
        elif (place := int(self._draw.random() * self._count)) < RESERVOIR:
            self._kept[place] = severity

    def quartiles(self) -> tuple[float, float, float, float, float]:
        """Its quantiles 0, ¼, ½, ¾, 1, linear between neighbours."""
        kept = sorted(self._kept)
        found = []
        for quarter in range(5):
            place = quarter / 4 * (len(kept) - 1)
            low = int(place)
            high = min(low + 1, len(kept) - 1)
            found.append(round(kept[low] + (place - low) * (kept[high] - kept[low]), 4))
        return found[0], found[1], found[2], found[3], found[4]
