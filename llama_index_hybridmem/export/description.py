"""All that can be said of a training set, and which of it is a warning; pure, knows no file and no page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from llama_index_hybridmem.export.checks import Tallies, verdict
from llama_index_hybridmem.export.drift import Drift
from llama_index_hybridmem.export.leakage import Leakage
from llama_index_hybridmem.export.shapes import LengthReport, NearDuplicates
from llama_index_hybridmem.export.style import Oddity
from llama_index_hybridmem.noise.kinds import KINDS, Kind
from llama_index_hybridmem.noise.profile import KindRate, Profile

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95 % interval.

    Attributes:
        share: 0 to 1.
        low: lower end.
        high: upper end.
    """

    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class NoiseLine:
    """One kind of noise: as wanted, as made, as found.

    Attributes:
        kind: of noise.
        target: the profile's, weight and strength included; None: the profile has not got it.
        natural: found by the detectors in the passages as they were retrieved; None: it cannot be measured.
        injected: exact share by provenance, what was added to the natural noise.
        achieved: found by the detectors in the noisy passages; None: it cannot be measured.
        why: why target and achieved cannot be compared; "" where they can.
    """

    kind: Kind
    target: Rate | None
    natural: Rate | None
    injected: float | None
    achieved: Rate | None
    why: str = ""

    @property
    def difference(self) -> float | None:
        """Achieved minus target; None where they cannot be compared."""
        if self.target is None or self.achieved is None or self.why:
            return None
        return self.achieved.share - self.target.share

    @property
    def met(self) -> bool | None:
        """Whether the intervals of target and achieved meet."""
        if self.difference is None or self.target is None or self.achieved is None:
            return None
        return self.target.low <= self.achieved.high and self.achieved.low <= self.target.high

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {**asdict(self), "difference": self.difference, "met": self.met}


@dataclass(frozen=True, slots=True)
class Noise:
    """The noise of a set.

    Attributes:
        lines: a line for each kind that is wanted, made or found.
        measured: records that the detectors looked at.
        total_variation: share of the noise that would have to be of another kind, 0 to 1; None: cannot be told.
        mean_difference: mean of the kinds' absolute differences; None: nothing can be compared.
    """

    lines: tuple[NoiseLine, ...] = ()
    measured: int = 0
    total_variation: float | None = None
    mean_difference: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {**asdict(self), "lines": [each.to_json() for each in self.lines]}


@dataclass(frozen=True, slots=True)
class FactsFound:
    """Facts in answers that the passages do not have.

    Attributes:
        answers: answers looked at.
        unsupported: those with at least one such fact.
        kinds: "price", "date", "quantity", "name", "quotation" to answers that have one.
        examples: the first, as (id, the facts).
    """

    answers: int = 0
    unsupported: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[tuple[str, str], ...] = ()

    @property
    def share(self) -> float | None:
        """Share of the answers; None without any."""
        return self.unsupported / self.answers if self.answers else None

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        examples = [{"id": id_, "facts": facts} for id_, facts in self.examples]
        return {**asdict(self), "share": self.share, "examples": examples}


@dataclass(frozen=True, slots=True)
class Description:
    """All that is known of a training set.

    Attributes:
        name: of its folder.
        settings: what it was made with: version, options and their hash.
        profile: the noise it was to have; None: unknown.
        tallies: how many records of what.
        left_out: reason to drafts that became no record.
        noise: target and achieved.
        duplicates: near-duplicate questions, and conflicting answers.
        leakage: what train knows of dev and test.
        facts: in answers, that the passages do not have.
        style: answers that are unlike the others.
        drift: over time.
        lengths: of the first format's rows; None without format files.
        files: format to split to rows.
    """

    name: str
    settings: Mapping[str, Any]
    profile: Profile | None
    tallies: Tallies
    left_out: Mapping[str, int]
    noise: Noise
    duplicates: NearDuplicates
    leakage: Leakage
    facts: FactsFound
    style: tuple[Oddity, ...]
    drift: tuple[Drift, ...]
    lengths: LengthReport | None
    files: Mapping[str, Mapping[str, int]]

    @property
    def verdict(self) -> tuple[str, str]:
        """Whether there is enough to train on: a word and a sentence."""
        return verdict(self.tallies.splits.get("train", (0, 0))[0])

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to look at before training on it, the gravest first."""
        return (*_errors(self), *_lengths(self), *_abstention(self), *_labels(self), *_style(self), *_noise(self))

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        word, sentence = self.verdict
        return {
            "schema": SCHEMA,
            "name": self.name,
            "settings": dict(self.settings),
            "profile": None if self.profile is None else {"hash": self.profile.hash, **self.profile.to_json()},
            "verdict": {"is": word, "says": sentence},
            "warnings": list(self.warnings),
            "records": self.tallies.to_json(),
            "left_out": dict(self.left_out),
            "noise": self.noise.to_json(),
            "duplicates": self.duplicates.to_json(),
            "leakage": self.leakage.to_json(),
            "facts": self.facts.to_json(),
            "style": [each.to_json() for each in self.style],
            "drift": [each.to_json() for each in self.drift],
            "lengths": None if self.lengths is None else self.lengths.to_json(),
            "files": {name: dict(splits) for name, splits in self.files.items()},
        }


def noise_lines(
    tallies: Tallies,
    target: Profile | None,
    natural: Profile,
    achieved: Profile,
    left_out: Mapping[Kind, str],
) -> tuple[NoiseLine, ...]:
    """Put target, natural, injected and achieved noise side by side.

    Args:
        tallies: of all records.
        target: what was wanted, its strength multiplied in; None: unknown.
        natural: measured in the passages as retrieved.
        achieved: measured in the noisy passages.
        left_out: kind to why target and achieved cannot be compared.
    """
    lines = []
    for kind in KINDS:
        wanted = None if target is None else _rate(target.kinds.get(kind))
        found = [_rate(each.kinds.get(kind)) for each in (natural, achieved)]
        injected = tallies.share_of(kind)
        if wanted or injected or any(each and each.share for each in found):
            lines.append(NoiseLine(kind, wanted, found[0], injected, found[1], left_out.get(kind, "")))
    return tuple(lines)


def _rate(known: KindRate | None) -> Rate | None:
    if known is None:
        return None
    rate, low, high = (min(1.0, share * known.weight) for share in (known.rate, known.low, known.high))
    return Rate(rate, low, high)


def _errors(of: Description) -> Iterator[str]:
    """What makes a set wrong."""
    for fault, n in of.tallies.faults.items():
        yield f"{_counted(n, 'record')}: {fault}. Run hybridmem dataset validate; this must not be."
    for name, splits in of.files.items():
        wanted = {split: n for split, (n, _) in of.tallies.splits.items()}
        if dict(splits) != wanted:
            yield f"{name}: {sum(splits.values()):,} rows for {of.tallies.records:,} records, or other splits."
    documents, passages = of.leakage.documents, of.leakage.passages
    if documents.as_gold:
        yield f"Leak: {_counted(documents.as_gold, 'document')} that answer in dev or test answer in train, too."
    if passages.as_gold:
        yield f"Leak: {_counted(passages.as_gold, 'passage')} that answer in dev or test answer in train, too."


def _lengths(of: Description) -> Iterator[str]:
    found = of.lengths
    if found is not None and (found.cut or found.gone):
        lost = "dropped" if found.format == "prompt-completion" else "trained on without an answer"
        yield (
            f"At max_length {found.max_length:,}, {_counted(found.gone, 'row')} would be {lost}, and of {found.cut:,} "
            f"the end of the answer would be lost; max_length {found.recommended:,} cuts nothing."
        )
    word, sentence = of.verdict
    if word != "enough":
        yield sentence


def _labels(of: Description) -> Iterator[str]:
    twins, facts, seen = of.duplicates, of.facts, of.leakage
    if twins.conflicting:
        yield f"Asking the same and answered differently: {_counted(twins.conflicting, 'record')}."
    if twins.within > 0.05 * twins.questions:
        yield f"Near-duplicates of their own split's: {_counted(twins.within, 'question')}."
    if twins.across:
        yield f"Near-duplicates of another split's: {_counted(twins.across, 'question')}."
    if seen.documents.as_distractor:
        held = _counted(seen.documents.as_distractor, "document")
        yield f"Seen in train as distractors: {held} of those that answer in dev or test."
    if facts.share is not None and facts.unsupported:
        kinds = ", ".join(f"{kind} {n:,}" for kind, n in facts.kinds.items())
        yield f"{facts.share:.1%} of the answers have facts that their passages do not have ({kinds})."


def _style(of: Description) -> Iterator[str]:
    for each in of.style:
        yield f"{each.trait.capitalize()} of {_counted(each.count, 'answer')}: {each.found}; of most: {each.usual}."
    for change in of.drift:
        if change.drifted:
            yield f"{change.trait.capitalize()} drifts: {change.first} in the first third, {change.last} in the last."


def _abstention(of: Description) -> Iterator[str]:
    abstained = of.tallies.abstained
    if of.tallies.records and not abstained:
        yield "No record abstains: the model will not learn to say that the sources do not answer."
    elif abstained > of.tallies.records / 2:
        yield f"{abstained / of.tallies.records:.0%} of the records abstain: the model may learn to refuse."


def _noise(of: Description) -> Iterator[str]:
    for each in of.noise.lines:
        if each.met is False and each.target is not None and each.achieved is not None:
            told = f"{each.kind}: {each.achieved.share:.1%} achieved, {each.target.share:.1%} wanted"
            had = each.natural
            over = had is not None and had.low > each.target.share
            yield f"{told}; the passages have more than that as retrieved." if over else f"{told}."


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
