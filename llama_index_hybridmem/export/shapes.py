"""What was found out about a set's questions and about the lengths of its rows; pure, computes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Twins:
    """Two questions.

    Attributes:
        first: id and question.
        second: id and question.
        splits: of the two.
    """

    first: tuple[str, str]
    second: tuple[str, str]
    splits: tuple[str, str]

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        both = zip((self.first, self.second), self.splits, strict=True)
        return {
            name: {"id": id_, "question": question, "split": split}
            for name, ((id_, question), split) in zip(("first", "second"), both, strict=True)
        }


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """What questions have in common.

    Attributes:
        questions: all.
        within: those with a near-duplicate in their own part of the set.
        across: those with one in another part.
        conflicting: those that ask the same, by their content words, and are answered differently.
        pairs: the first of those ``across``, then those ``within``.
        conflicts: the first of the conflicting ones.
    """

    questions: int = 0
    within: int = 0
    across: int = 0
    conflicting: int = 0
    pairs: tuple[Twins, ...] = field(default=())
    conflicts: tuple[Twins, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {
            "questions": self.questions,
            "within": self.within,
            "across": self.across,
            "conflicting": self.conflicting,
            "pairs": [each.to_json() for each in self.pairs],
            "conflicts": [each.to_json() for each in self.conflicts],
        }


@dataclass(frozen=True, slots=True)
class Spread:
    """How long something is over all rows.

    Attributes:
        shortest: in tokens; None without rows.
        median: half are not longer.
        p95: 95 % are not longer.
        p99: 99 % are not longer.
        longest: the longest.
        histogram: (from, to, rows) in bins of one width; ``to`` is not in the bin.
    """

    shortest: int | None = None
    median: int | None = None
    p95: int | None = None
    p99: int | None = None
    longest: int | None = None
    histogram: tuple[tuple[int, int, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {
            "shortest": self.shortest,
            "median": self.median,
            "p95": self.p95,
            "p99": self.p99,
            "longest": self.longest,
            "histogram": [list(each) for each in self.histogram],
        }


@dataclass(frozen=True, slots=True)
class LengthReport:
    """Lengths of the rows of one format.

    Attributes:
        format: its name.
        tokenizer: its name, or `lengths.ESTIMATE`.
        estimated: whether it is one.
        rows: how many.
        prompt: tokens before the answer, with the chat template's frame where there is one.
        completion: tokens of the answer, with its end.
        total: both.
        max_length: that was asked for.
        cut: rows whose answer would lose its end at that length.
        gone: rows whose prompt alone fills it: the answer is lost altogether, and the row dropped or wasted.
        recommended: length that cuts nothing; None without rows.
        p99_length: length that most rows fit into.
        p99_loses: rows that would be cut or gone at that length.
        examples: ids of the first rows cut or gone.
    """

    format: str
    tokenizer: str
    estimated: bool
    rows: int
    prompt: Spread
    completion: Spread
    total: Spread
    max_length: int
    cut: int
    gone: int
    recommended: int | None
    p99_length: int | None
    p99_loses: int
    examples: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        row = {name: getattr(self, name) for name in self.__slots__}
        return {
            **row,
            "prompt": self.prompt.to_json(),
            "completion": self.completion.to_json(),
            "total": self.total.to_json(),
            "examples": list(self.examples),
        }
