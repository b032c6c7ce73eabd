"""Whether a candidate may take the place of the promoted version, or of the base; pure, knows no model and asks none.

Both were asked the same held-back rows. The candidate passes where it is certainly not worse by more than the margin:
on all rows, on clean rows alone, and in answering what can be answered; and where no skill was forgotten. That all
have to pass makes it no easier to pass by chance, so no interval is corrected for their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.statistics import Interval, paired_difference
from llama_index_hybridmem.training.probes import Forgetting, Measured, forgetting
from llama_index_hybridmem.training.scores import Score

MARGIN = 0.01
"""What a candidate may be worse by, as a share of right answers. A choice; it takes thousands of rows to see it."""
ALL, CLEAN, ANSWERING = "all rows", "clean rows", "answering what can be answered"
FORGETTING = "skills kept"
_Z = 1.96 + 0.8416
"""Of the lower end of a 95 % interval, and of a power of 80 %."""


@dataclass(frozen=True)
class Check:
    """One thing that a candidate must not be worse in.

    Attributes:
        name: of it.
        n: rows, or probes.
        change: of the candidate against the other, above 0 better, with its 95 % interval; None without rows, and of
            `FORGETTING`.
        passed: None: it cannot be told.
        needed: rows that would tell with 80 % certainty that two equally good ones are; None where it was told.
        line: in words.
    """

    name: str
    n: int
    change: Interval | None
    passed: bool | None
    needed: int | None
    line: str


@dataclass(frozen=True)
class Verdict:
    """What a comparison came to.

    Attributes:
        against: what the candidate was compared with.
        passed: whether it may take the other's place; None: it cannot be told with so few rows.
        better: whether it is right oftener, beyond chance.
        checks: what it rests on.
        forgotten: what became of each skill; () when none was asked about.
    """

    against: str
    passed: bool | None
    better: bool
    checks: tuple[Check, ...]
    forgotten: tuple[Forgetting, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """Explain it, what matters first."""
        told = {True: "passed", False: "not passed", None: "cannot be told"}[self.passed]
        beyond = ", and better beyond chance" if self.better else ""
        return (f"against {self.against}: {told}{beyond}", *(each.line for each in self.checks))

    @property
    def numbers(self) -> dict[str, Any]:
        """Give each check's numbers as plain JSON types."""
        return {
            each.name: {name: value for name, value in asdict(each).items() if name != "name"} for each in self.checks
        }

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {
            "against": self.against,
            "passed": self.passed,
            "better": self.better,
            "lines": list(self.lines),
            "checks": self.numbers,
            "skills": [each.to_json() for each in self.forgotten],
        }


def judge(
    against: Sequence[Score],
    candidate: Sequence[Score],
    examples: Sequence[Example],
    *,
    margin: float = MARGIN,
    general_before: Mapping[str, Measured] | None = None,
    general_after: Mapping[str, Measured] | None = None,
    name: str = "the base",
    seed: int = 0,
) -> Verdict:
    """Compare a candidate with what it would replace: the promoted version, or the base where none is promoted.

    Args:
        against: scores of the other, one for each example.
        candidate: scores of the candidate.
        examples: that were never trained on.
        margin: what the candidate may be worse by, above 0 and below 1.
        general_before: answers of the other to the probes of `probes`; None: forgetting is not judged.
        general_after: those of the candidate.
        name: of the other, for the words.
        seed: of the bootstrap; 0 or more.

    Raises:
        ConfigurationError: unequal lengths, a margin out of range, other probes, or probes of one of the two alone.
    """
    if not len(against) == len(candidate) == len(examples):
        raise ConfigurationError(f"scores of the same rows: {len(against)}, {len(candidate)} of {len(examples)} rows")
    if not 0 < margin < 1:
        raise ConfigurationError(f"margin: a share above 0 and below 1, not {margin!r:.40}")
    if (general_before is None) != (general_after is None):
        raise ConfigurationError("forgetting is judged by the answers of both, before and after")
    rows = list(zip(against, candidate, examples, strict=True))
    right = [(new.right - old.right, each) for old, new, each in rows]
    answering = [(float(old.abstained) - float(new.abstained), each) for old, new, each in rows]
    checks = [
        check(ALL, [change for change, _ in right], margin, seed),
        check(CLEAN, [change for change, each in right if not each.kinds], margin, seed),
        check(ANSWERING, [change for change, each in answering if each.answerable], margin, seed),
    ]
    better = checks[0].change is not None and checks[0].change.low > 0
    skills: tuple[Forgetting, ...] = ()
    if general_before is not None and general_after is not None:
        skills = tuple(forgetting(general_before, general_after, seed))
        checks.append(_kept(skills))
    return Verdict(name, together(each.passed for each in checks), better, tuple(checks), skills)


def check(name: str, changes: Sequence[float], margin: float, seed: int = 0) -> Check:
    """Tell whether changes, row by row, are certainly no loss beyond the margin.

    The interval is that of the rows and two more, one lost and one won: that nothing changed in a few rows proves
    little about the next ones (after Agresti and Min 2005, doi 10.1002/sim.1781). Of rows that all stay the same it
    takes about 3 / margin, as the rule of three has it.

    Args:
        name: what is checked.
        changes: -1 to 1 each.
        margin: above 0.
        seed: of the bootstrap; 0 or more.
    """
    if not changes:
        return Check(name, 0, None, None, None, f"? {name}: none was asked")
    spread = paired_difference([*changes, 1.0, -1.0], [0.0] * (len(changes) + 2), seed)
    change = Interval(math.fsum(changes) / len(changes), spread.low, spread.high)
    told = f"{name}: {_points(change.mean)} points ({_points(change.low)} to {_points(change.high)}), n={len(changes)}"
    if change.low >= -margin:
        return Check(name, len(changes), change, True, None, f"+ {told}")
    if change.high < -margin:
        return Check(name, len(changes), change, False, None, f"- {told}: worse by more than {100 * margin:g}")
    needed = rows_needed(changes, margin)
    advice = f"whether it is worse by more than {100 * margin:g} cannot be told with {len(changes):,} rows"
    more = f"; about {needed:,} are needed" if needed > len(changes) else ""
    return Check(name, len(changes), change, None, needed, f"? {told}: {advice}{more}")


def rows_needed(changes: Sequence[float], margin: float) -> int:
    """Give how many rows tell that two equally good models are not apart by more than a margin, 4 times of 5.

    n = (1.96 + 0.84)² d / margin², with d the mean of the squared changes: for right and wrong the share of rows that
    only one of the two has right. The two rows of `check` count, too, so that d is above 0.
    """
    spread = (math.fsum(change * change for change in changes) + 2) / (len(changes) + 2)
    return math.ceil(_Z * _Z * spread / margin**2)


def together(passed: Iterable[bool | None]) -> bool | None:
    """Tell whether all passed: not, where one did not; else None, where one cannot be told."""
    found = list(passed)
    return False if False in found else None if None in found else True


def _kept(skills: Sequence[Forgetting]) -> Check:
    probes = sum(each.n for each in skills)
    lost = [each for each in skills if each.verdict == "forgotten"]
    if lost:
        told = ", ".join(f"{each.skill} {100 * each.before:.0f} % to {100 * each.after:.0f} %" for each in lost)
        return Check(FORGETTING, probes, None, False, None, f"- {FORGETTING}: measurably worse: {told}")
    known = [each for each in skills if each.measurable]
    if not known:
        line = f"? {FORGETTING}: none can be measured on this model"
        return Check(FORGETTING, probes, None, None, None, line)
    line = f"+ {FORGETTING}: none of {len(known)} measurably worse{''.join(_unseen(skills))}"
    return Check(FORGETTING, probes, None, True, None, line)


def _unseen(skills: Sequence[Forgetting]) -> Iterator[str]:
    unseen = [each.skill for each in skills if not each.measurable]
    if unseen:
        yield f" (not measurable: {', '.join(unseen)})"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"
