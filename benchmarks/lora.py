"""Many adapters on one base: ours against PEFT, merged weights and LlamaIndex's HuggingFaceLLM, in one run.

    OMP_NUM_THREADS=1 python benchmarks/lora.py [--smollm2] [--dtypes float32 bfloat16 4bit] [--device cuda] [--quick]

Prints one JSON line per dtype and row. Speed is CPU time of the whole process (wall time on a GPU), the median of the
rounds; a ratio is the median of the ratios to the baseline of the same round. Every way writes the same number of
tokens; ours reuses nothing between calls. `goal` and `met` stand where a row has a goal. The base is a random Llama of
193M parameters with random adapters of rank 16 on all linear layers, `--smollm2` takes the real SmolLM2-135M-Instruct
with such adapters. `python benchmarks/lora.py | python benchmarks/_lora_table.py` prints the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _lora_arms import Ours, Peft, Plain, at_once, llamaindex, merged
from _lora_loading import our_loading, peft_loading
from _lora_models import load, medium, prompts, write_adapters
from _lora_setting import Setting, judged
from tqdm import tqdm
from transformers.utils import logging as transformers_logging

ROWS, ADAPTERS = 8, 4
CERTAIN = 0.05  # top-2 margin, in log-probability, above which a step of bf16 or 4-bit has to be the same
GOALS = {
    "ours, mixed batch of 8 over 4 adapters": {"float32": 1.25, "bfloat16": 1.6},
    "ours, active adapter": {"float32": 1.12, "bfloat16": 1.3},
}

Arms = dict[str, tuple[str, Callable[[], Any]]]


class Bench:
    """One dtype: every way of answering, on models of its own where a way changes its model."""

    def __init__(self, setting: Setting, dtype: str) -> None:
        self.setting, self.dtype = setting, dtype
        few = dict(list(setting.adapters.items())[:ADAPTERS])
        model, tokenizer = load(setting.base, dtype, setting.device)
        self.plain = Plain(model, tokenizer, setting.tokens)
        self.llamaindex = llamaindex(model, tokenizer, setting.tokens)
        self.ours = Ours(*self._load(), setting.tokens, few, slots=ADAPTERS)
        self.peft = Peft(*self._load(), setting.tokens, few)
        self.merged = merged(*self._load(), setting.tokens, next(iter(few.values()))) if dtype != "4bit" else None
        self.texts = prompts(tokenizer, 2 * ROWS, setting.prompt, seed=1)
        self.names = [list(few)[number % ADAPTERS] for number in range(2 * ROWS)]

    def _load(self) -> tuple[Any, Any]:
        return load(self.setting.base, self.dtype, self.setting.device)

    def say(self, row: str, **found: Any) -> None:
        """Print a row."""
        self.setting.say(self.dtype, row, **found)

    def arms(self) -> Arms:
        """Give every row with its baseline and its call; the baseline of a row comes before it."""
        one, eight, names = self.texts[0], self.texts[:ROWS], self.names[:ROWS]
        first = names[0]
        alone, batch = "plain, one", "plain, batch of 8"
        found: Arms = {
            alone: (alone, lambda: self.plain([one])),
            batch: (batch, lambda: self.plain(eight)),
            "LlamaIndex HuggingFaceLLM": (alone, lambda: self.llamaindex(one)),
            "PEFT set_adapter": (alone, lambda: self.peft.locked([one], [first])),
            "PEFT adapter_names": (alone, lambda: self.peft.named([one], [first])),
            "PEFT adapter_names, mixed batch of 8": (batch, lambda: self.peft.named(eight, names)),
            "PEFT set_adapter, 8 one by one": (batch, lambda: self.peft.locked(eight, names)),
            "ours, base": (alone, lambda: self.ours.one(one)),
            "ours, active adapter": (alone, lambda: self.ours.one(one, first)),
            "ours, mixed batch of 8 over 4 adapters": (batch, lambda: self.ours.together(eight, names)),
            "ours, 8 one by one": (batch, lambda: self.ours.sequential(eight, names)),
        }
        if (merged_model := self.merged) is not None:
            found["merged weights"] = (alone, lambda: merged_model([one]))
        return found

    def speed(self) -> None:
        """Measure all rows in turn, round after round, after one that is not counted."""
        arms = self.arms()
        seconds: dict[str, dict[int, float]] = {row: {} for row in arms}
        for number in range(self.setting.rounds + 1):
            for row, (_, call) in tqdm(arms.items(), f"{self.dtype} round {number}", leave=False, file=sys.stderr):
                if "one by one" in row and number != 1:
                    continue  # eight times a row that is there already: once will do
                _, seconds[row][number] = self.setting.spent(call)
        for row, (baseline, _) in arms.items():
            counted = {number: spent for number, spent in seconds[row].items() if number}
            ratio = statistics.median(spent / seconds[baseline][number] for number, spent in counted.items())
            found = {"ms": round(1e3 * statistics.median(counted.values())), "to": baseline, "ratio": round(ratio, 3)}
            self.say(row, **found, **judged(ratio, GOALS.get(row, {}).get(self.dtype)))

    def exactness(self) -> None:
        """Compare what rows of a mixed batch say with what they say alone, token by token."""
        texts, names = self.texts, [None if place % 5 == 4 else name for place, name in enumerate(self.names)]
        alone = [self.ours.one(text, name, top_logprobs=2) for text, name in zip(texts, names, strict=True)]
        mixed = self.ours.together(texts, names, top_logprobs=2)
        steps = [_parting(one, other) for one, other in zip(alone, mixed, strict=True)]
        kinds = [_judge(one, step) for one, step in zip(alone, steps, strict=True)]
        found: dict[str, Any] = {"rows": len(kinds), "equal": kinds.count("equal"), "wrong": kinds.count("wrong")}
        found["unsure"] = kinds.count("unsure")
        found["distinct_answers"] = len({answer.text for answer in alone})
        found["least_margin"] = round(min(margin for one in alone for margin in _margins(one)), 5)
        parted = [_margins(one)[step] for one, step in zip(alone, steps, strict=True) if step is not None]
        found["widest_margin_at_a_difference"] = round(max(parted, default=0.0), 3)
        batches = [self.plain(texts[start : start + ROWS]) for start in range(0, len(texts), ROWS)]
        lone = [self.plain([text])[0] for text in texts]
        found["plain_equal"] = f"{sum(map(str.__eq__, lone, sum(batches, [])))} of {len(lone)}"
        goal = "token-identical" if self.dtype == "float32" else f"identical to the first margin < {CERTAIN}"
        met = found["equal"] == len(kinds) if self.dtype == "float32" else not found["wrong"]
        if self.dtype == "float32":
            theirs = [self.peft.locked([t], [n])[0] for t, n in zip(texts, names, strict=True) if n]
            ours = [answer.text for answer, name in zip(alone, names, strict=True) if name]
            found["equal_to_peft"] = f"{sum(map(str.__eq__, ours, theirs))} of {len(ours)}"
        self.say("exactness, mixed against alone", **found, goal=goal, met=met)

    def simultaneous(self) -> None:
        """Let 16 requests over 4 adapters come at once: how long each waits, by the clock."""
        many = list(zip(self.texts, self.names, strict=True))

        def timed(call: Callable[[], Any]) -> Callable[[], float]:
            def run() -> float:
                began = time.perf_counter()
                call()
                return time.perf_counter() - began

            return run

        ways = {
            "16 at once, PEFT under a lock": [timed(lambda t=t, n=n: self.peft.locked([t], [n])) for t, n in many],
            "16 at once, ours": [timed(lambda t=t, n=n: self.ours.one(t, n)) for t, n in many],
        }
        for row, calls in ways.items():
            waits, spent = self.setting.spent(lambda calls=calls: at_once(calls))
            p50, p95 = np.percentile(waits, [50, 95])
            found = {"p50_s": round(float(p50), 2), "p95_s": round(float(p95), 2), "cpu_s": round(spent, 2)}
            self.say(row, **found)

    def run(self) -> None:
        """Measure everything that answers."""
        self.speed()
        self.exactness()
        self.simultaneous()
        self.ours.llm.close()


def _margins(answer: Any) -> list[float]:
    return [step[0].logprob - step[1].logprob for step in answer.logprobs]


def _parting(alone: Any, mixed: Any) -> int | None:
    """Give the first step at which two answers differ."""
    pairs = enumerate(zip(alone.logprobs, mixed.logprobs, strict=True))
    return next((step for step, (one, other) in pairs if one[0].token != other[0].token), None)


def _judge(alone: Any, step: int | None) -> str:
    """Say whether answers are equal, or part after a step that was unsure alone, or before any."""
    if step is None:
        return "equal"
    return "unsure" if min(_margins(alone)[: step + 1]) < CERTAIN else "wrong"


def answering(setting: Setting, dtype: str) -> None:
    """Measure everything that answers."""
    Bench(setting, dtype).run()


def _quiet() -> None:
    """Set up a process: one thread, and nothing on the screen but results."""
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # PEFT's, of transformers 5
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)


def prepared(options: argparse.Namespace, root: Path) -> Setting:
    """Give the base asked for, with its adapters."""
    if options.smollm2:
        from llama_index_hybridmem.llms.smollm2 import model_folder

        base = model_folder()
    else:
        base = medium(root / "llama-193M")
    adapters = write_adapters(base, root / "adapters", 12 if options.quick else 51)
    tokens, rounds = (8, 1) if options.quick else (24, 5)
    return Setting(base, adapters, options.device, tokens, options.prompt, rounds)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smollm2", action="store_true", help="the real SmolLM2-135M-Instruct as base")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16", "4bit"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prompt", type=int, default=32, help="tokens of a prompt")
    parser.add_argument("--quick", action="store_true", help="one round, short answers, 12 adapters")
    options = parser.parse_args()
    _quiet()
    packages = ("torch", "transformers", "peft", "llama-index-core", "llama-index-llms-huggingface")
    about = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    about["device"] = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
    print(json.dumps({"row": "about", **about, **{name: version(name) for name in packages}}), flush=True)
    with tempfile.TemporaryDirectory(prefix="hybridmem-bench-") as root:
        setting = prepared(options, Path(root))
        for dtype in options.dtypes:
            if dtype == "4bit" and find_spec("bitsandbytes") is None:
                print("4bit skipped: bitsandbytes is not installed", file=sys.stderr)
                continue
            for part in (answering, our_loading, peft_loading):
                with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_quiet) as fresh:
                    fresh.submit(part, setting, dtype).result()


if __name__ == "__main__":
    main()
