"""Methods of training on the same rows: parameters, memory, seconds, what is learned and what is forgotten.

    OMP_NUM_THREADS=2 python benchmarks/methods.py --out DIR [--quick] > methods.jsonl     # about an hour

SmolLM2-135M-Instruct learns support tickets (`sample/behaviours`) by each method of `method_arms/arms.py`: 240 rows,
seen once, in the same order and by the same recipe but for the one thing that the method is. Then it is asked tickets
made of other texts, and probes of seven skills that were in no training row, as the base was before. Each training and
each asking is a process of its own, one at a time, so that a peak of memory is the method's own; what
`training/plan.py` foretold stands beside it.

Prints JSON lines, and writes them with the tables in Markdown (`method_arms/table.py`) under --out. Whatever was
trained or answered is kept there, and not done again: a run that was stopped goes on, arms and seeds can be added.
Needs the extras `lora` and `train`, for QLoRA `quantized`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from method_arms.answering import MAX_NEW_TOKENS, answered, asked_probes
from method_arms.arms import ARMS, FEW, GROUND, HOUR, QUICK, Job, Size
from method_arms.costs import trained
from method_arms.judging import Judged, forgotten, levels, over, quality
from method_arms.table import tables

from llama_index_hybridmem.disk import atomic_write_text
from llama_index_hybridmem.errors import HybridMemoryError
from llama_index_hybridmem.llms.smollm2 import SHA256, model_folder
from llama_index_hybridmem.sample.behaviours.tickets import tickets

SEED = 0
PACKAGES = ("llama-index-hybridmem", "torch", "transformers", "peft", "trl", "bitsandbytes")
RUN = "run"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bench:
    """One run.

    Attributes:
        out: for what is kept.
        size: of everything.
        arms: which of `ARMS`.
        seeds: of each.
    """

    out: Path
    size: Size
    arms: Sequence[str]
    seeds: int

    def run(self) -> Iterator[dict[str, Any]]:
        """Train, ask and judge; give lines."""
        rows, probes = tickets(self.size.asked, SEED, "test"), asked_probes(self.size.probes)
        parts = {"tickets": rows, "probes": [each.example for each in probes]}
        said = _kept(self.out, _answers_name(parts, "base"), answered, None, "", parts)
        base = Judged.of(said, rows, probes)
        yield {"part": "base", **_how(said), **quality([base]), "skills": levels(base)}
        judged: dict[str, list[Judged]] = {}
        for job in [Job(arm, seed, self.size, self.out) for arm in self.arms for seed in range(self.seeds)]:
            line, told = self._one(job, parts)
            yield {"part": "method", **job.to_json(), **line}
            if told is not None:
                judged.setdefault(job.arm, []).append(Judged.of(told, rows, probes))
        for arm, seeds in judged.items():
            against = {} if arm == GROUND or GROUND not in judged else {"over": over(seeds, judged[GROUND])}
            learned = {"gain": over(seeds, [base]), **against}
            yield {
                "part": "arm",
                "arm": arm,
                "seeds": len(seeds),
                **quality(seeds),
                **learned,
                **forgotten(base, seeds),
            }

    def _one(self, job: Job, parts: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """What one job took and answered; where it failed, why."""
        try:
            took = _kept(job.folder, "trained.json", trained, job, job.folder / RUN)
            weights = job.folder / RUN / took["weights"]
            told = _kept(job.folder, _answers_name(parts, "trained"), answered, weights, job.recipe.method, parts)
        except (HybridMemoryError, BrokenProcessPool) as error:
            logger.warning("%s, seed %d: %s", job.arm, job.seed, error)
            return {"failed": f"{type(error).__name__}: {error}"}, None
        return {**took, **_how(told)}, told


def _kept(folder: Path, name: str, work: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    """What is written there, or else what a fresh process makes of it, written down."""
    path = folder / name
    if not path.exists():
        logger.info("%s, %s", folder.name, path.stem)
        folder.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            found = fresh.submit(work, *given).result()
        atomic_write_text(path, json.dumps(found))
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return told


def _answers_name(parts: dict[str, Any], who: str) -> str:
    """Answers to other rows lie in another file."""
    asked = [[dict(turn) for turn in each.prompt] for rows in parts.values() for each in rows]
    decided = json.dumps([SHA256, MAX_NEW_TOKENS, asked])
    return f"answers-{who}-{hashlib.sha256(decided.encode()).hexdigest()[:8]}.json"


def _how(told: dict[str, Any]) -> dict[str, Any]:
    return {"answered_by": told["path"], "asking_s": told["seconds"]}


def arguments() -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("methods"), help="folder of what is kept")
    parser.add_argument("--quick", action="store_true", help="six steps of few methods: 8 CPU minutes, shows nothing")
    parser.add_argument("--arms", nargs="+", choices=ARMS, metavar="ARM", help=f"default: all of {'; '.join(ARMS)}")
    parser.add_argument("--seeds", type=int, default=1, help="of each method (1)")
    for name in ("rows", "asked", "probes", "max_steps"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"default: {getattr(HOUR, name)}")
    parser.add_argument("--epochs", type=float, help=f"default: {HOUR.epochs:g}")
    return parser.parse_args()


def size_of(options: argparse.Namespace) -> Size:
    """The size of a run, but for what was said."""
    known = asdict(QUICK if options.quick else HOUR)
    said = {name: getattr(options, name) for name in known}
    return Size(**(known | {name: value for name, value in said.items() if value is not None}))


def main() -> None:
    """Run, print and write."""
    options = arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    model_folder()  # is converted once, and that is no method's
    bench = Bench(options.out, size_of(options), options.arms or (FEW if options.quick else tuple(ARMS)), options.seeds)
    lines: list[dict[str, Any]] = [_about(bench.size)]
    print(json.dumps(lines[0]), flush=True)
    for line in bench.run():
        lines.append(line)
        print(json.dumps(line), flush=True)
    atomic_write_text(options.out / "results.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    atomic_write_text(options.out / "tables.md", tables(lines))


def _about(size: Size) -> dict[str, Any]:
    machine = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    threads = os.environ.get("OMP_NUM_THREADS", "as many as cores")
    load = round(os.getloadavg()[0], 1)
    versions = {name: version(name) for name in PACKAGES}
    return {
        "part": "about",
        **machine,
        "threads": threads,
        "load": load,
        "seed": SEED,
        "size": asdict(size),
        **versions,
    }


if __name__ == "__main__":
    main()
