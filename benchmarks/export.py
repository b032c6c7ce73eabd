"""What a record of a training set costs: the export from drafts on disk, with each sort of noise, next to a RAFT loop.

    OMP_NUM_THREADS=1 python benchmarks/export.py [--quick] [--parts speed whole memory operators] > export.jsonl

Drafts have five passages of about 150 words; a record is read, damaged, labelled, put into words, and written twice:
as the canonical record and as a row to train on. Arms take turns, in an order of its own in each round, on the same
shard; a figure is the median of the rounds, in CPU time of the process, and ratios are to the RAFT loop of the same
round. Prints JSON lines; `goal` and `met` stand where a figure has a goal, and
`python benchmarks/_export_table.py < export.jsonl` makes the tables. Needs the extra `noise`.

Memory is measured here with 5,000 and 50,000 records; the soak test (`HYBRIDMEM_SOAK=1 pytest tests/soak`) takes a
million small ones.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

from _export_drafts import TOP_K, drafts
from _export_raft import Asked, raft

from llama_index_hybridmem.export.exporter import Maker, export
from llama_index_hybridmem.export.options import ExportOptions
from llama_index_hybridmem.export.record import Draft
from llama_index_hybridmem.export.shards import write_shard
from llama_index_hybridmem.noise.defaults import default_profile
from llama_index_hybridmem.noise.operators.catalog import operators
from llama_index_hybridmem.noise.operators.registry import Operator, damage
from llama_index_hybridmem.noise.profile import KindRate, Profile
from llama_index_hybridmem.noise.scene import Scene, World
from llama_index_hybridmem.noise.structure import links, structure

SEED = 0
SEVERITY = 0.5
TEXT = ("truncation", "ocr", "encoding", "layout", "html")
"""Kinds whose operators see nothing but a text."""

ONE_IN_FIVE = 0.2
GOALS = {"text operators on one passage in five": 2000.0, "Markdown damage on one passage in five": 300.0}
"""Records a second on one core, at least (issue 7)."""

SHARDS = 3
GROWTH = 1.1
"""Memory at ten times the records, at most, to that before: the same, but for what any process gains while it runs."""

PACKAGES = ("llama-index-core", "markdown-it-py", "ftfy", "numpy")


def say(part: str, **found: Any) -> None:
    """Print a line."""
    print(json.dumps({"part": part, **found}), flush=True)


def rates(kinds: tuple[str, ...], share: float) -> Profile:
    """A profile that damages a share of the passages, by kinds of noise that are all as likely."""
    each = 1 - (1 - share) ** (1 / len(kinds))
    return Profile({kind: KindRate(each, each, each) for kind in kinds})  # type: ignore[misc]


PLAIN = ExportOptions(fitted=False)
ARMS: dict[str, tuple[Profile, ExportOptions]] = {
    "no noise": (Profile({}), PLAIN),
    "text operators on one passage in five": (rates(TEXT, ONE_IN_FIVE), PLAIN),
    "text operators on every other passage": (rates(TEXT, 0.5), PLAIN),
    "Markdown damage on one passage in five": (rates(("markdown",), ONE_IN_FIVE), PLAIN),
    "default profile": (default_profile(), ExportOptions()),
}


def cpu(work: Callable[..., object], *given: Any) -> float:
    """Seconds of CPU time of this process; what was left to collect before is collected before."""
    gc.collect()
    began = time.process_time()
    work(*given)
    return time.process_time() - began


def microseconds(seconds: list[float], count: int) -> dict[str, float]:
    """The median, the least and the quartiles of some rounds, for one of so many things."""
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    named = {"us": middle, "least": min(seconds), "low": low, "high": high}
    return {name: round(1e6 * value / count, 1) for name, value in named.items()}


@dataclass(frozen=True)
class Arm:
    """An export whose drafts are on disk.

    Attributes:
        folder: of it.
        maker: of its shards.
    """

    folder: Path
    maker: Maker

    def make(self, number: int) -> None:
        """Read, damage, label and write one shard."""
        write_shard(self.folder, self.maker.shard(number))

    def shares(self) -> dict[str, float]:
        """Share of the passages that are damaged, of the records that abstain, and bytes of a record."""
        lines = [line for path in sorted((self.folder / "records").iterdir()) for line in path.open("rb")]
        records = [json.loads(line) for line in lines]
        passages = [passage for each in records for passage in each["noisy"]]
        return {
            "damaged": round(sum(bool(each.get("damage")) for each in passages) / len(passages), 3),
            "abstained": round(sum(not each["answerable"] for each in records) / len(records), 3),
            "record_bytes": round(sum(map(len, lines)) / len(lines)),
        }


@dataclass(frozen=True)
class Bench:
    """The size of this run.

    Attributes:
        folder: for what is written.
        seed: of the drafts, and of the order of everything.
        quick: whether a part will do.
    """

    folder: Path
    seed: int
    quick: bool

    def speed(self) -> None:
        """CPU time of a record from drafts that are there, for each arm."""
        rows, rounds = (150, 5) if self.quick else (500, 15)
        found = list(drafts(SHARDS * rows, self.seed))
        arms = {name: self._arm(name, found, rows) for name in ARMS}
        work = {name: arm.make for name, arm in arms.items()} | {"RAFT loop": self._raft(found, rows)}
        spent: dict[str, list[float]] = {name: [] for name in work}
        order = Random(self.seed)
        for number in range(rounds):
            for name in order.sample(list(work), len(work)):
                spent[name].append(cpu(work[name], number % SHARDS))
        base = spent["RAFT loop"]
        for name, seconds in spent.items():
            ratio = statistics.median(one / other for one, other in zip(seconds, base, strict=True))
            line = {**microseconds(seconds, rows), "ratio": round(ratio, 2), "rounds": rounds, "records": rows}
            per_second = round(1e6 / line["us"])
            goal = {"goal": GOALS[name], "met": per_second >= GOALS[name]} if name in GOALS else {}
            shown = arms[name].shares() if name in arms else {}
            say("speed", arm=name, records_a_second=per_second, **line, **shown, **goal)

    def whole(self) -> None:
        """CPU time of an export with all its steps: drafts taken in and written, sampled, the mix fitted, records."""
        count = 200 if self.quick else 2000
        found = list(drafts(count, self.seed))
        for name in ("no noise", "text operators on one passage in five", "default profile"):
            profile, options = ARMS[name]
            places = [self.folder / f"whole-{name}-{number}" for number in range(2 if self.quick else 3)]
            spent = [cpu(export, iter(found), place, options, profile) for place in places]
            say("whole", arm=name, records=count, **microseconds(spent, count))

    def memory(self) -> None:
        """Resident memory at its highest, of a fresh process for each size."""
        sizes = (200, 2_000) if self.quick else (5_000, 50_000)
        shard = sizes[0] // 5
        first = 0.0
        for count in sizes:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
                before, after = fresh.submit(peak, self.folder / f"memory-{count}", count, shard, self.seed).result()
            first = first or after
            judged = count > sizes[0] and not self.quick  # the sample of passages is not full yet in a quick run
            goal = {"goal": GROWTH, "met": after <= GROWTH * first} if judged else {}
            say("memory", records=count, shard_rows=shard, before_mb=before, peak_mb=after, **goal)

    def operators(self) -> None:
        """CPU time of each operator alone, for a passage or a list that it changes."""
        scenes = [each.scene for each in drafts(30 if self.quick else 100, self.seed, near=3)]
        world = World(tuple(passage for each in drafts(60, self.seed + 1) for passage in each.scene.passages))
        works = {which.name: Work.of(which, scenes, world) for which in operators()}
        spent: dict[str, list[float]] = {name: [] for name in works}
        order = Random(self.seed)
        for number in range(3 if self.quick else 15):
            for name in order.sample(list(works), len(works)):
                structure.cache_clear()  # as in an export, where each text is met for the first time
                links.cache_clear()
                spent[name].append(cpu(works[name].run, number))
        for name, work in works.items():
            line = microseconds(spent[name], len(work.on))
            say("operator", operator=name, kind=work.which.kind, scope=work.which.scope, changes=len(work.on), **line)

    def _arm(self, name: str, found: list[Draft], rows: int) -> Arm:
        profile, options = ARMS[name]
        folder = self.folder / name.replace(" ", "-")
        export(iter(found), folder, ExportOptions(fitted=options.fitted, shard_rows=rows), profile)
        return Arm(folder, Maker(folder))

    def _raft(self, found: list[Draft], rows: int) -> Callable[[int], object]:
        """The peer's loop over the same questions and passages, all of them in memory."""
        chunks = [passage.text for each in found for passage in each.scene.passages]
        asked = [
            Asked(each.scene.question, passage.text, each.scene.answer or "")
            for each in found
            for passage in each.scene.passages
            if passage.id in each.scene.gold
        ]
        place, draw = self.folder / "raft.jsonl", Random(self.seed)
        return lambda number: raft(asked[number * rows : (number + 1) * rows], chunks, place, draw)


def peak(folder: Path, count: int, shard: int, seed: int) -> tuple[float, float]:
    """Megabytes of memory at the highest, before and after an export of so many records from a stream."""
    list(drafts(5, seed))
    before = _peak()
    options = ExportOptions(fitted=False, shard_rows=shard)
    export(drafts(count, seed), folder, options, rates(TEXT, ONE_IN_FIVE))
    return before, _peak()


@dataclass(frozen=True)
class Work:
    """An operator, and what it changes.

    Attributes:
        which: the operator.
        on: scenes, and which of their passages.
        world: what it may draw from.
    """

    which: Operator
    on: list[tuple[Scene, int]]
    world: World

    @classmethod
    def of(cls, which: Operator, scenes: list[Scene], world: World) -> Work:
        """Find the passages of scenes, or the scenes, that an operator changes."""
        every = [(each, at) for each in scenes for at in range(TOP_K if which.scope == "passage" else 1)]
        return cls(which, [on for on in every if damage(on[0], which, SEVERITY, "0", world, on[1]) is not on[0]], world)

    def run(self, number: int) -> None:
        """Change each of them once."""
        for scene, at in self.on:
            damage(scene, self.which, SEVERITY, f"{number}:{at}", self.world, at)


def _peak() -> float:
    """Resident megabytes at the highest so far, as Linux counts them."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise OSError("/proc/self/status does not tell the highest resident memory")
    return round(int(found[1]) / 2**10, 1)


PARTS = ("speed", "whole", "memory", "operators")


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller rounds, under a minute")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="all by default")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    about = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    say("about", **about, seed=options.seed, **{name: version(name) for name in PACKAGES}, load=_load())
    for part in options.parts:
        with tempfile.TemporaryDirectory(prefix="hybridmem-bench-") as folder:
            getattr(Bench(Path(folder), options.seed, options.quick), part)()
    say("about", load=_load())


def _load() -> float:
    return round(os.getloadavg()[0], 1)


if __name__ == "__main__":
    main()
