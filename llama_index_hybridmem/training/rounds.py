"""The folder in which an adapter is improved, round by round; knows no store and no model.

A round's folder has its failures, its set, its run and its verdict; the verdict is written last. What was failed on
may be answered anew: an older row with the same question is then neither replayed nor asked, its answer was wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llama_index_hybridmem.disk import atomic_write_text, make_folder, on_disk
from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.export.asking import Asked
from llama_index_hybridmem.export.shards import read_rows
from llama_index_hybridmem.training.admission import MAX_MODEL_SHARE
from llama_index_hybridmem.training.candidates import VERDICT
from llama_index_hybridmem.training.failures import from_lines, key_of, lines, without
from llama_index_hybridmem.training.replay import of_earlier
from llama_index_hybridmem.training.report import held_back
from llama_index_hybridmem.training.rows import TrainingSet, read_set

ROUNDS, FAILURES, DATASET, RUN = "rounds", "failures.jsonl", "dataset", "run"
FIRST = "first"
"""Names the set that the first version was trained on."""
_QUESTION = re.compile(r"(?:\A|\n)Question: |</DOCUMENT>")


@dataclass(frozen=True)
class Round:
    """One round.

    Attributes:
        folder: its own.
    """

    folder: Path

    @property
    def name(self) -> str:
        """Its number, in four digits."""
        return self.folder.name

    @property
    def done(self) -> bool:
        """Whether it was judged."""
        return (self.folder / VERDICT).is_file()

    @property
    def failures(self) -> tuple[Asked, ...]:
        """What it learns from.

        Raises:
            StoreDamagedError: a line is not what was written.
        """
        return from_lines(row for _, row in read_rows(self.folder / FAILURES))


@dataclass(frozen=True)
class Part:
    """The rows of one round, or of the first set; their ids begin with its name."""

    name: str
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    held_back: tuple[Example, ...]


def rounds_of(workspace: Path) -> list[Round]:
    """Give the rounds that were begun, the oldest first."""
    folder = workspace / ROUNDS
    with on_disk(folder):
        begun = sorted(folder.glob("[0-9][0-9][0-9][0-9]")) if folder.is_dir() else []
    return [Round(each) for each in begun if (each / FAILURES).is_file()]


def begin(workspace: Path, given: Sequence[Asked], fewest: int) -> Round:
    """Begin a round with what is new, or find the one that was not finished.

    Args:
        workspace: the folder.
        given: reviewed failures, known ones among them.
        fewest: new ones that a round takes.

    Raises:
        ConfigurationError: nothing is new, or too little, or a round with other failures is not finished yet.
    """
    known = rounds_of(workspace)
    taken = frozenset(key_of(each) for done in known for each in done.failures)
    if known and not known[-1].done:
        if without(known[-1].failures, frozenset(map(key_of, given))):
            raise ConfigurationError(
                f"{known[-1].folder} is not finished, and was begun with other failures: give these again, or remove "
                "the folder"
            )
        return known[-1]
    fresh = without(given, taken)
    if not fresh:
        raise ConfigurationError(f"nothing new: all {len(given):,} failures were learned from in {workspace}")
    if len(fresh) < fewest:
        raise ConfigurationError(
            f"{len(fresh):,} new reviewed failures: {fewest - len(fresh):,} more are needed for a round of {fewest:,}, "
            "or go on with few_rows=True (--few-rows)"
        )
    folder = workspace / ROUNDS / f"{len(known) + 1:04d}"
    make_folder(folder)
    atomic_write_text(folder / FAILURES, lines(fresh))
    return Round(folder)


def part_of(name: str, rows: TrainingSet, measure: int) -> Part:
    """Give a set's rows under ids of their own.

    Args:
        name: of the round.
        rows: its set.
        measure: rows that are asked at most.
    """

    def named(some: Iterable[Example]) -> tuple[Example, ...]:
        return tuple(replace(each, id=f"{name}/{each.id}") for each in some)

    return Part(name, named(rows.train), named(rows.dev), named(held_back(rows, measure)))


def earlier_parts(workspace: Path, first: Path | str | None, measure: int) -> list[Part]:
    """Read the rows of the first set and of the rounds that are done, the oldest first."""
    parts = [] if first is None else [part_of(FIRST, read_set(first), measure)]
    done = [each for each in rounds_of(workspace) if each.done]
    return [*parts, *(part_of(each.name, read_set(each.folder / DATASET), measure) for each in done)]


def current(parts: Sequence[Part]) -> list[Part]:
    """Leave of each part what no later one answers anew."""
    answered: set[str] = set()
    kept = []
    for part in reversed(parts):
        old = frozenset(answered)
        train, dev, asked = (
            tuple(each for each in rows if question_of(each) not in old)
            for rows in (part.train, part.dev, part.held_back)
        )
        kept.append(Part(part.name, train, dev, asked))
        answered |= {question_of(each) for rows in (part.train, part.dev, part.held_back) for each in rows}
    return kept[::-1]


def learned(parts: Sequence[Part], rows: TrainingSet, earlier: float, seed: int) -> tuple[TrainingSet, dict[str, int]]:
    """Give what a round trains on: its new rows, and earlier ones.

    Args:
        parts: all, the new one last; see `current`.
        rows: the new set.
        earlier: rows replayed for each new one.
        seed: which.

    Returns:
        the set; and how many rows of which kind are in it, or were left out.
    """
    *old, new = parts
    asked = {question_of(each) for part in parts for each in part.held_back}
    fresh = [each for each in new.train if question_of(each) not in asked]
    known = [[each for each in part.train if question_of(each) not in asked] for part in old]
    shares = evenly([len(some) for some in known], round(earlier * len(fresh)))
    replayed = [each for some, count in zip(known, shares, strict=True) for each in of_earlier(some, count, seed)]
    train = capped([*fresh, *replayed])
    watched = of_earlier([each for part in old for each in part.dev], round(earlier * len(new.dev)), seed)
    counts = {
        "new": len(fresh),
        "earlier": len(replayed),
        "asked, not trained on": len(new.train) - len(fresh),
        "model-written, left out": len(fresh) + len(replayed) - len(train),
        "model-written": sum(each.origin == "model" for each in train),
    }
    return replace(rows, train=tuple(train), dev=(*new.dev, *watched), test=new.held_back), counts


def evenly(sizes: Sequence[int], count: int) -> list[int]:
    """Share a count among parts as evenly as their sizes allow, so that a small round is not lost beside a large one.

    Args:
        sizes: what each part has.
        count: what is wanted of all together; all of it where there is no more.
    """
    shares = [0] * len(sizes)
    for turn, place in enumerate(sorted(range(len(sizes)), key=lambda each: sizes[each])):
        shares[place] = min(sizes[place], (count - sum(shares)) // (len(sizes) - turn))
    return shares


def capped(rows: Sequence[Example], share: float = MAX_MODEL_SHARE) -> list[Example]:
    """Leave out the last of the rows that a model wrote, until they are no more than a share of all."""
    written = sum(each.origin == "model" for each in rows)
    room = int(share * (len(rows) - written) / (1 - share)) if share < 1 else written
    kept, used = [], 0
    for each in rows:
        used += each.origin == "model"
        if each.origin != "model" or used <= room:
            kept.append(each)
    return kept


def question_of(example: Example) -> str:
    """Give the question at the end of a prompt."""
    return _QUESTION.split(example.prompt[-1]["content"])[-1].strip()
