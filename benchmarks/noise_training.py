"""Four arms on broken context: base, base with a better prompt, LoRA on clean rows, LoRA on noisy rows.

    OMP_NUM_THREADS=1 python benchmarks/noise_training.py [--out DIR] [--quick] > noise_training.jsonl

SmolLM2-135M-Instruct answers questions of `xquad_en` (written by people) and our own on the sample documents, each with
one kind of noise alone. Both adapters are trained on the same questions, as many rows, as many abstentions, other
documents than those of the tests; one of them with a mix of noise. All arms are told the same policy in the system
prompt; the better prompt was chosen among three on training questions. Each arm answers freely, and under the copy
constraint. Some kinds of noise are in no training row.

Prints JSON lines, and writes them with the tables in Markdown (`noise_arms/table.py`) under --out. Whatever was trained
or answered is kept there: a run that was stopped goes on, arms can be added, and two processes with other --arms can
share the work before a last run without --arms makes the table. Needs the extras `lora`, `train` and `noise`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from noise_arms.adapters import PROFILES, Plan
from noise_arms.answering import Asker
from noise_arms.damage import TRIALS, Asked, damaged_rows
from noise_arms.judging import GOALS, GROUPS, PAIRS, Answered, by_seed, difference, group_mean, table
from noise_arms.prompting import VARIANTS, best, prompted
from noise_arms.questions import Questions, encyclopedia, own
from noise_arms.table import ALL, tables

from llama_index_hybridmem.cache import cache_folder
from llama_index_hybridmem.llms.smollm2 import SHA256, model_folder, smollm2
from llama_index_hybridmem.training.recipe import Recipe
from llama_index_hybridmem.training.scores import score

DATA = Path(os.environ.get("HYBRIDMEM_DATA", Path(__file__).resolve().parents[1] / ".." / "shared" / "data"))
SEED = 0
ARMS = ("base", "prompted", "clean", "noisy")
PACKAGES = ("llama-index-hybridmem", "torch", "transformers", "peft", "trl")


@dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes:
        rows: to train an adapter on, dev rows included.
        seeds: adapters of each kind.
        questions: of each source and kind.
        tuning: questions of each source and kind on which the prompt is chosen.
        epochs: see `Recipe`.
        max_steps: see `Recipe`.
    """

    rows: int
    seeds: int
    questions: int
    tuning: int
    epochs: float = 1.0
    max_steps: int | None = None


QUICK = Size(60, 1, 2, 1, max_steps=10)
"""About ten minutes, and no result: it shows that all parts run."""

ON_CPU = Size(300, 3, 8, 2)
"""About 80 minutes on two cores, a process each; two seeds fit an hour: 12 CPU seconds a step of four, 1 an answer."""
ON_GPU = Size(2000, 5, 200, 8, epochs=2.0)


@dataclass(frozen=True)
class Bench:
    """One run.

    Attributes:
        out: for what is kept.
        sources: of questions.
        size: of everything.
        arms: which of `ARMS` are run.
        copies: ways of answering: freely (False), under the copy constraint (True).
        device: a torch device.
        dtype: of the weights while answering.
    """

    out: Path
    sources: Sequence[Questions]
    size: Size
    arms: Sequence[str]
    copies: Sequence[bool]
    device: str
    dtype: str

    def run(self) -> Iterator[dict[str, Any]]:
        """Train, ask, judge; give lines."""
        found = [(kind, seed) for kind in PROFILES if kind in self.arms for seed in range(self.size.seeds)]
        plan = Plan(self.out / "adapters", model_folder(), self.size.rows, self._recipe())
        adapters: dict[str, Path] = {}
        for kind, seed in found:
            adapters[f"{kind}-{seed}"], told = plan.adapter(kind, seed, self.sources)
            yield {"part": "training", "arm": kind, "seed": seed, **told}
        folders = {name: str(path) for name, path in adapters.items()} or None
        llm = smollm2(dtype=self.dtype, device=self.device, adapters=folders, batch_tokens=self._batch_tokens())
        asker = Asker(llm, SHA256, self.out / "answers", adapters)
        asker.folder.mkdir(parents=True, exist_ok=True)
        yield from self._ask(asker)
        seconds, cpu, count = asker.spent
        if count:
            each = {"s_per_answer": round(seconds / count, 3), "cpu_s_per_answer": round(cpu / count, 3)}
            yield {"part": "speed", "answers": count, **each}

    def _ask(self, asker: Asker) -> Iterator[dict[str, Any]]:
        rows = [row for each in self.sources for row in damaged_rows(each, self.size.questions, SEED)]
        answered: dict[tuple[str, bool], Answered] = {}
        variant = None
        if "prompted" in self.arms:
            means = self._tuned(asker)
            variant = best(means)
            yield {"part": "prompt", "chosen": variant, "means": means}
        for arm in self.arms:
            for copies in self.copies:
                answered[arm, copies] = self._answers(asker, arm, copies, rows, variant)
        yield from judged(answered, [each.name for each in self.sources])

    def _answers(self, asker: Asker, arm: str, copies: bool, rows: Sequence[Asked], variant: str | None) -> Answered:
        examples = [row.example for row in rows]
        if arm == "prompted":
            examples = [prompted(each, str(variant)) for each in examples]
        names = {seed: f"{arm}-{seed}" for seed in range(self.size.seeds)} if arm in PROFILES else {SEED: arm}
        said = {seed: asker.answers(name, examples, copies=copies) for seed, name in names.items()}
        return Answered.of(f"{arm}{', copying' if copies else ''}", rows, said)

    def _tuned(self, asker: Asker) -> dict[str, float]:
        """How right the base is with each better prompt, on training questions."""
        rows = [row for each in self.sources for row in damaged_rows(each, self.size.tuning, SEED, "train")]
        means = {}
        for name in VARIANTS:
            examples = [prompted(row.example, name) for row in rows]
            said = asker.answers("tuning", examples)
            scores = [score(answer, example) for answer, example in zip(said, examples, strict=True)]
            means[name] = round(sum(each.right for each in scores) / len(scores), 4)
        return means

    def _recipe(self) -> Recipe:
        """The facts' recipe for this model: rank 16, all linear layers, 4e-4, batches of 4; no replay."""
        return Recipe(
            epochs=self.size.epochs,
            max_steps=self.size.max_steps,
            batch_size=4,
            micro_batch=4,
            replay=0.0,
            evaluations=1,
            patience=0,
        )

    def _batch_tokens(self) -> int:
        return 16_384 if self.device == "cpu" else 131_072


def judged(answered: dict[tuple[str, bool], Answered], sources: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Give the lines that answers make: kinds, both ways of abstaining, groups, differences, goals."""
    for source in (ALL, *sources):
        where = None if source == ALL else source
        for found in answered.values():
            yield from _levels(found, source, where)
        for (one, other), copies in [(pair, copies) for copies in (False, True) for pair in PAIRS]:
            if (one, copies) in answered and (other, copies) in answered:
                yield from _compared(answered[one, copies], answered[other, copies], source, where)
        for arm in ARMS:
            if (arm, True) in answered and (arm, False) in answered:
                yield from _compared(answered[arm, True], answered[arm, False], source, where)
    yield from _goals(answered)


def _levels(found: Answered, source: str, where: str | None) -> Iterator[dict[str, Any]]:
    for trial in TRIALS:
        told = found.trial(trial.name, where)
        if told is not None:
            yield {
                "part": "kind",
                "source": source,
                "arm": found.arm,
                "trial": trial.name,
                "seen": trial.is_seen,
                **told,
            }
    if where is None:
        yield {"part": "ways", "arm": found.arm, **_ways(found)}
    for group in GROUPS:
        middle = group_mean(table(found.rows, found.values(), group, where))
        if middle is not None:
            seeds = [group_mean(table(found.rows, found.values(seed), group, where)) for seed in found.scores]
            yield {"part": "group", "source": source, "arm": found.arm, "group": group, "mean": middle, "seeds": seeds}


def _ways(found: Answered) -> dict[str, Any]:
    """Over all test rows, whatever their kind."""
    whole = Answered(found.arm, [_as(row) for row in found.rows], found.scores, found.said)
    return whole.trial("", None) or {}


def _as(row: Asked) -> Asked:
    return Asked(row.source, "", row.question, row.example, row.lure)


def _compared(one: Answered, other: Answered, source: str, where: str | None) -> Iterator[dict[str, Any]]:
    for group in GROUPS:
        found = difference(one, other, group, where)
        if found is not None:
            names = {"source": source, "pair": f"{one.arm} - {other.arm}", "group": group}
            yield {"part": "difference", **names, **asdict(found), "seeds": by_seed(one, other, group, where)}


def _goals(answered: dict[tuple[str, bool], Answered]) -> Iterator[dict[str, Any]]:
    for copies in (False, True):
        for goal in GOALS:
            pair = [answered.get((arm, copies)) for arm in goal.pair]
            if pair[0] is None or pair[1] is None:
                continue
            found = difference(pair[0], pair[1], goal.group, None)
            if found is not None:
                limit = f"above {goal.points:+g} with the interval" if goal.is_low else f"≥ {goal.points:+g}"
                what = f"{goal.pair[0]} over {goal.pair[1]}, {goal.group}: {limit}"
                seeds = by_seed(pair[0], pair[1], goal.group, None)
                yield {
                    "part": "goal",
                    "what": what,
                    "copies": copies,
                    **asdict(found),
                    "seeds": seeds,
                    "met": goal.met(found),
                }


def arguments() -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=cache_folder() / "noise_training", help="what is kept; default: in the user's cache"
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the public sets")
    parser.add_argument("--quick", action="store_true", help="a few questions and steps: ten minutes, shows nothing")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS, help="all by default")
    parser.add_argument("--copying", choices=("no", "yes", "both"), default="both", help="copy constraint (both)")
    parser.add_argument("--rows", type=int, help="to train on, for each adapter")
    parser.add_argument("--seeds", type=int, help="adapters of each kind")
    parser.add_argument("--questions", type=int, help="of each source and kind of noise")
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda")
    parser.add_argument("--dtype", default="bfloat16", help="of the weights while answering (bfloat16)")
    return parser.parse_args()


def size_of(options: argparse.Namespace, device: str) -> Size:
    """The size of a run: as the machine can bear it, but for what was said."""
    known = asdict(QUICK if options.quick else ON_CPU if device == "cpu" else ON_GPU)
    said = {name: getattr(options, name) for name in ("rows", "seeds", "questions", "epochs")}
    return Size(**(known | {name: value for name, value in said.items() if value is not None}))


def main() -> None:
    """Run, print and write."""
    options = arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    import torch

    torch.set_flush_denormal(True)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    folder = options.data / "xquad_en"
    sources = [each for each in (encyclopedia(folder) if folder.exists() else None, own()) if each is not None]
    if not sources:
        raise SystemExit(f"neither {folder} nor generated questions of our own are there")
    size = size_of(options, device)
    copies = {"no": (False,), "yes": (True,), "both": (False, True)}[options.copying]
    bench = Bench(options.out, sources, size, options.arms, copies, device, options.dtype)
    about = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    began, lines = (
        time.perf_counter(),
        [{"part": "about", **about, "device": device, "dtype": options.dtype, "seed": SEED}],
    )
    lines[0] |= {name: version(name) for name in PACKAGES} | {"size": asdict(size)}
    lines[0]["questions"] = {each.name: {"train": len(each.train), "test": len(each.test)} for each in sources}
    print(json.dumps(lines[0]), flush=True)
    for line in bench.run():
        lines.append(line)
        print(json.dumps(line), flush=True)
    lines.append({"part": "speed", "seconds": round(time.perf_counter() - began)})
    print(json.dumps(lines[-1]))
    (options.out / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (options.out / "tables.md").write_text(tables(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
