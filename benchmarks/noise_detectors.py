"""How often the detectors of noise are right: on what our operators damage, and on what others collected.

    OMP_NUM_THREADS=1 python benchmarks/noise_detectors.py [--data DIR] [--scenes 150] [--write] > noise.jsonl

Clean scenes of each source are damaged by every operator once, and looked at by every detector. The limits of the
detectors were set on the sample documents and the first SQuAD split; HotpotQA, MuSiQue and RetrievalQA were looked at
for false alarms; the second SQuAD split and NoiserBench were held out. Prints JSON lines: per source the rates with
95 % intervals and microseconds a passage; then what is found in real retrieved passages (RetrievalQA) and in noise that
others made (NoiserBench). Tables in Markdown go to standard error. `--write` puts the figures of all clean sources
together into `noise/detectors/measured.py`. Only the sample documents and the documentation are ours and in the
repository: sets that are not there are left out, and the script says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

from _noise_scenes import SEED, documentation, multi_hop, read, sample, xquad

from llama_index_hybridmem.noise.confusion import Confusion, Share, confusion
from llama_index_hybridmem.noise.detectors import measured
from llama_index_hybridmem.noise.detectors.catalog import detect, detectors
from llama_index_hybridmem.noise.operators.catalog import operators
from llama_index_hybridmem.noise.scene import Passage, Scene, World

DATA = Path(os.environ.get("HYBRIDMEM_DATA", Path(__file__).resolve().parents[1] / ".." / "shared" / "data"))
SEVERITIES = (0.25, 0.5, 0.75, 1.0)
FIGURES = "# figures, written by the benchmark\n"
END = "# end of figures\n"
STARTS = ("truncate_head", "truncate_chunk")


def clean_sources(data: Path) -> Iterator[tuple[str, list[Scene], World]]:
    """Give each source of clean scenes that is there."""
    yield "sample documents", *sample()
    yield "documentation", *documentation(Path(__file__).resolve().parents[1])
    for split, name in (("train", "SQuAD paragraphs"), ("dev", "SQuAD paragraphs, held out")):
        if (path := data / "xquad_en" / f"{split}.jsonl").exists():
            yield name, *xquad(path)
    for folder, name in (("hotpot100", "HotpotQA paragraphs"), ("musique100", "MuSiQue paragraphs")):
        if (data / folder).exists():
            yield name, *multi_hop(data / folder)


def microseconds(scenes: Sequence[Scene], name: str | None = None) -> float:
    """CPU time of all detectors, or of one, for a passage; the median of five rounds."""
    only = None if name is None else [name]
    passages = sum(len(each.passages) for each in scenes)
    rounds = []
    for _ in range(5):
        began = time.process_time()
        for each in scenes:
            detect(each, only)
        rounds.append(time.process_time() - began)
    return round(1e6 * sorted(rounds)[2] / max(passages, 1), 1)


def rates(scenes: Iterable[Scene]) -> dict[str, Any]:
    """Share of the passages in which each kind is found, and of the scenes for kinds of lists."""
    found: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    passages = questions = 0
    for scene in scenes:
        questions += 1
        passages += len(scene.passages)
        for id_, findings in detect(scene).items():
            found.update({each.kind if id_ else f"{each.kind} (questions)" for each in findings})
            ends.update("starts cut" for each in findings if each.operator in STARTS)
            ends.update("ends cut" for each in findings if each.kind == "truncation" and each.operator != STARTS[0])
    shares = {name: (count, questions if name.endswith("(questions)") else passages) for name, count in found.items()}
    shares |= {name: (ends[name], passages) for name in ("starts cut", "ends cut")}
    return {
        "passages": passages,
        "questions": questions,
        "percent": {
            name: [round(100 * each, 1) for each in (count / of, *Share(count, of).interval)] if of else None
            for name, (count, of) in sorted(shares.items())
        },
    }


def retrieved(path: Path) -> dict[str, list[Scene]]:
    """RetrievalQA: questions with what search engines and a Wikipedia index gave for them, by where they come from."""
    found: dict[str, list[Scene]] = {}
    for row in read(path):
        passages = [
            Passage(str(n), each, {})
            if isinstance(each, str)
            else Passage(str(n), each.get("text") or "", _title(each))
            for n, each in enumerate(row["context"])
        ]
        found.setdefault(row["data_source"], []).append(Scene(row["question"], tuple(passages)))
    return found


def made_by_others(path: Path) -> dict[str, list[Scene]]:
    """NoiserBench: a gold text and its noisy forms, each put among the question's other passages."""
    found: dict[str, list[Scene]] = {}
    for row in json.loads(path.read_text(encoding="utf-8")):
        for name, text in _noisy_forms(row):
            found.setdefault(name, []).append(Scene(row["question"], (Passage("0", text),)))
    return found


def _noisy_forms(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "gold text", row["gold_text"]
    yield "counterfactual", row["counterfactual noise"]
    for level, text in row["orthographic noise"].items():
        yield f"orthographic {level}", text
    for name in ("semantic noise", "supportive noise", "illegal sentence noise", "datatype noise"):
        for each in row[name][:1]:
            yield name.removesuffix(" noise"), each if isinstance(each, str) else each["text"]


def _title(row: Mapping[str, Any]) -> dict[str, str]:
    return {"title": row["title"]} if row.get("title") else {}


def measure(data: Path, most: int) -> tuple[Confusion, list[str]]:
    """Print the lines of all clean sources; give their tables together, and what they were measured on."""
    chosen = list(operators())
    whole: Confusion | None = None
    measured_on = []
    for name, scenes, world in clean_sources(data):
        some = Random(SEED).sample(scenes, min(most, len(scenes)))
        table = confusion(some, chosen, SEVERITIES, SEED, world)
        speed = {each.name: microseconds(some, each.name) for each in detectors()}
        words = sum(each.text.count(" ") + 1 for scene in some for each in scene.passages)
        passages = sum(len(scene.passages) for scene in some)
        show(
            {
                "source": name,
                "questions": len(some),
                "passages": passages,
                "words_a_passage": round(words / passages, 1),
                "us_a_passage": {"all": microseconds(some), **speed},
                **table.to_json(),
            }
        )
        print(f"\n### {name}\n\n{table.table()}", file=sys.stderr)
        measured_on.append(f"{len(some)} questions on {name}")
        whole = table if whole is None else whole.plus(table)
    assert whole is not None, "the sample documents are in the package"
    print(f"\n### All together\n\n{whole.table()}", file=sys.stderr)
    show({"source": "all", **whole.to_json()})
    return whole, measured_on


def written(table: Confusion, measured_on: Sequence[str]) -> str:
    """The source text of `measured.py` with new figures."""
    path = Path(measured.__file__)
    head, _, rest = path.read_text(encoding="utf-8").partition(FIGURES)
    tail = rest.partition(END)[2]
    versions = "".join(f'    "{each.name}": {each.version},\n' for each in detectors())
    errors = "".join(
        f'    "{kind}": Errors({each.sensitivity:.4f}, {each.specificity:.4f}, {each.damaged}, {each.clean}),\n'
        for kind, each in sorted(table.errors().items())
    )
    figures = (
        f'MEASURED = "{date.today()}"\n"""When."""\n\n'
        f"MEASURED_ON: tuple[str, ...] = ({_names(measured_on)})\n"
        '"""On what: clean passages, and the same damaged by every operator once."""\n\n'
        f'VERSIONS: Mapping[str, int] = {{\n{versions}}}\n"""Of the detectors then."""\n\n'
        f"UNSEEN: tuple[str, ...] = ({_names(table.blind())})\n"
        '"""Operators whose damage they do not see; no sensitivity counts it."""\n\n'
        f"_ERRORS: DetectorErrors = {{\n{errors}}}\n"
    )
    return f"{head}{FIGURES}{figures}{END}{tail}"


def _names(names: Iterable[str]) -> str:
    lines = "".join(f'    "{each}",\n' for each in names)
    return f"\n{lines}" if lines else ""


def show(line: Mapping[str, Any]) -> None:
    """Print a JSON line."""
    print(json.dumps(line), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Error rates of the noise detectors.")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the public sets")
    parser.add_argument("--scenes", type=int, default=150, help="questions of each source at most")
    parser.add_argument("--write", action="store_true", help="write the figures into the package")
    options = parser.parse_args()
    show(
        {
            "source": "about",
            "package": version("llama-index-hybridmem"),
            "python": platform.python_version(),
            "machine": platform.machine(),
            "seed": SEED,
            "severities": SEVERITIES,
        }
    )
    table, measured_on = measure(options.data, options.scenes)
    for reader, file in ((retrieved, "retrievalqa_gpt4.jsonl"), (made_by_others, "noiserbench_bamboogle.json")):
        path = options.data / "noise" / file
        if not path.exists():
            print(f"{path} is not there: left out", file=sys.stderr)
            continue
        for name, scenes in reader(path).items():
            show({"source": f"{path.stem}: {name}", **rates(scenes)})
    if options.write:
        Path(measured.__file__).write_text(written(table, measured_on), encoding="utf-8")


if __name__ == "__main__":
    main()
