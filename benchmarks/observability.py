"""What observing a query costs and what it gets right: ours against LlamaIndex's handlers and OpenTelemetry packages.

    OMP_NUM_THREADS=1 python benchmarks/observability.py [--quick] [--parts hot paired tokens memory counts budget]

One process, one app: a router over two query engines, mock embeddings of 384 dimensions, and a model whose token counts
name the query that it answered. Prints JSON lines: CPU microseconds that observing adds to a routed query and to a
streamed token, paired, with 95 % bootstrap intervals; what our handler takes on the asking thread, timed in place and
replayed; bytes of a kept trace, and bytes that stay for each query; of how many queries each observer counts exactly
the tokens, in every way in which an app asks; and how far a limit is overspent. `goal` and `met` stand where a figure
has a goal. `python benchmarks/observability.py | python benchmarks/_observability_table.py` prints the tables.

Needs the extras `otel`, `prices` and `prometheus` and the dependency group `bench`; an observer whose library is not
there is left out, and named.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import _observability_arms as arms
from _observability_app import App, ask
from _observability_budget import overspending
from _observability_counts import attribution
from _observability_hot_path import in_place, record, replay
from _observability_paired import compare, of_async_tokens, of_queries, of_tokens, slope
from llama_index.core import Document, MockEmbedding

from llama_index_hybridmem import CostLatencyHandler, HybridMemoryIndex

SEED = 0
GOALS = {"query_us": 50.0, "token_us": 2.0, "trace_bytes": 1024}
"""CPU of the asking thread for a routed query and for a streamed token; of a trace in memory, on average."""

PACKAGES = (
    "llama-index-core",
    "genai-prices",
    "opentelemetry-sdk",
    "openinference-instrumentation-llama-index",
    "llama-index-observability-otel",
    "prometheus-client",
)


def say(part: str, **found: Any) -> None:
    """Print a line."""
    print(json.dumps({"part": part, **found}), flush=True)


def judged(value: float, goal: str) -> dict[str, Any]:
    """Say whether a goal is met."""
    return {"goal": GOALS[goal], "met": value <= GOALS[goal]}


@dataclass(frozen=True)
class Bench:
    """The app with the size of this run.

    Attributes:
        app: is observed.
        folder: for what is written.
        seed: of the order of everything.
        quick: whether a tenth will do.
    """

    app: App
    folder: Path
    seed: int
    quick: bool

    def times(self, whole: int, quick: int) -> int:
        """How often."""
        return quick if self.quick else whole

    def paired(self) -> None:
        """What observing adds to a routed query."""
        queries = 10
        block = of_queries(ask(self.app.routed(self.app.native())), queries)
        everyone = arms.everyone(self.app.callbacks, self.folder)
        for row in compare(everyone, block, self.times(80, 10), queries, self.seed):
            goal = judged(row["thread_us"]["mean"], "query_us") if row["arm"] == arms.OURS else {}
            say("paired", unit="routed query", **row, **goal)

    def hot(self) -> None:
        """What our handler takes of the asking thread's time."""
        for name, engine in (("routed", self.app.routed(self.app.native())), ("hybrid", self._hybrid())):
            one = ask(engine)
            one(0)
            found = replay(record(one), self.times(20, 5), self.times(100, 30))
            if name == "routed":  # in threads, the clock would count how long they wait for each other
                found["in_place_us"] = in_place(one, self.times(20, 3), self.times(20, 10))
                found |= judged(found["in_place_us"], "query_us")
            say("hot", query=name, **found)

    def tokens(self) -> None:
        """What observing adds to a streamed token."""
        length = 2000
        native, nested = self.app.native(length=length), self.app.nested(length=length)
        blocks = {
            "chat model": of_tokens(self.app.routed(native, streaming=True)),
            "CustomLLM": of_tokens(self.app.routed(nested, streaming=True)),
            "chat model, async": of_async_tokens(self.app.routed(native, streaming=True)),
        }
        plain = [arm for arm in arms.everyone(self.app.callbacks, self.folder) if " + " not in arm.name]
        for name, block in blocks.items():
            for row in compare(plain, block, self.times(40, 10), length, self.seed):
                goal = judged(row["thread_us"]["mean"], "token_us") if row["arm"] == arms.OURS else {}
                say("tokens", unit=name, **row, **goal)

    def memory(self) -> None:
        """How large a kept trace is, and what stays allocated."""
        for name, engine in (("routed", self.app.routed(self.app.native())), ("hybrid", self._hybrid())):
            sizes = _sizes(ask(engine), self.times(500, 50))
            goal = judged(sum(sizes) / len(sizes), "trace_bytes")
            say("trace bytes", query=name, mean=round(sum(sizes) / len(sizes)), most=max(sizes), **goal)
        one, queries = ask(self.app.routed(self.app.native())), self.times(300, 30)
        full = arms.ours(f"{arms.OURS}, its ring full", keep=10)
        for arm in [full, *(arm for arm in arms.everyone(self.app.callbacks, self.folder) if " + " not in arm.name)]:
            say("memory", arm=arm.name, queries=queries, bytes_per_query=round(slope(arm, one, queries)))

    def counts(self) -> None:
        """Of how many queries each observer counts exactly the tokens."""
        for row in attribution(self.app):
            say("counts", **row)

    def budget(self) -> None:
        """How far a limit is overspent."""
        for row in overspending(self.app):
            say("budget", **row)

    def _hybrid(self) -> Any:
        """Our own engine: three stores asked side by side, and one answer."""
        texts = [f"text {number} of Ada Quist and the Lund Bakery in Orbeck" for number in range(20)]
        memory = HybridMemoryIndex.from_documents(
            [Document(text=text) for text in texts], embed_model=MockEmbedding(embed_dim=384)
        )
        return memory.as_query_engine(self.app.native())


def _sizes(one: Callable[[int], Any], queries: int) -> list[int]:
    """Bytes of each trace that the ring keeps, tagged as an app would."""
    with CostLatencyHandler().attach() as handler:
        with handler.tags(tenant="acme", user="user-4711", run="release-12"):
            for number in range(queries):
                one(number)
        handler.flush()
        return [sys.getsizeof(packed) for packed in handler._pipeline._ring]


PARTS = ("hot", "paired", "tokens", "memory", "counts", "budget")


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="all by default")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    for name in arms.missing():
        print(f"skipped: {name} is not installed", file=sys.stderr)
    about = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    say("about", **about, seed=options.seed, **_versions(), load=_load())
    for part in options.parts:  # each as in a process that has just begun
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            fresh.submit(measure, part, options.seed, options.quick).result()
    say("about", load=_load())


def measure(part: str, seed: int, quick: bool) -> None:
    """Run one part."""
    random.seed(seed)  # of whoever uses the global one
    with tempfile.TemporaryDirectory(prefix="hybridmem-bench-") as folder:
        getattr(Bench(App(), Path(folder), seed, quick), part)()


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _load() -> float:
    return round(os.getloadavg()[0], 1)


if __name__ == "__main__":
    main()
