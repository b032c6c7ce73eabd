"""The vector store at its full size: how long it stops an event loop, what optimize() changes, what a kill costs."""

from __future__ import annotations

import asyncio
import gc
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from vector_nodes import make_node, text

from llama_index_hybridmem.vector.store import QdrantEdgeVectorStore

DIMENSION = 384
CENTRES = np.random.default_rng(0).standard_normal((300, DIMENSION))
"""Vectors of texts come in clusters; plain noise would be harder than anything real, and kinder to nobody."""

LONGEST_PAUSE_S = 0.05
ADDED = 64  # nodes per add, each replacing an older one after a while, so that the store keeps its size
ROUNDS = 3
"""Of which the quietest counts: other programs on the machine can only add to a pause."""

TESTS = Path(__file__).parent.parent
WRITER = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from vector_nodes import corpus
from llama_index_hybridmem.vector.store import QdrantEdgeVectorStore
store = QdrantEdgeVectorStore(sys.argv[1])
start = int(sys.argv[2])
while True:
    nodes = corpus(1 + start % 7, start)
    print(*store.add(nodes), flush=True)
    start += len(nodes)
"""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Pause:
    """How long an event loop stood still.

    Attributes:
        wall_s: by the clock, which counts other programs on the machine as well.
        own_s: as much of it as this process was at work, which is the store's doing and what is held to the limit.
    """

    wall_s: float
    own_s: float


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Shows a measured figure on the terminal."""

    def show(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n  {line}\n")

    return show


def clustered(count: int, start: int) -> list[TextNode]:
    """Nodes with texts of forty words and clustered vectors; the same for the same numbers."""
    random_numbers = np.random.default_rng(start + 1)
    vectors = CENTRES[random_numbers.integers(0, len(CENTRES), count)] + random_numbers.standard_normal(
        (count, DIMENSION)
    )
    return [
        make_node(f"n{i}", text(i, 40), vector, f"d{i // 20}", {"number": i, "title": f"Title {i % 500}"})
        for i, vector in enumerate(vectors.tolist(), start)
    ]


def question(seed: int) -> list[float]:
    """A vector near one of the clusters."""
    random_numbers = np.random.default_rng(seed)
    vector = CENTRES[random_numbers.integers(0, len(CENTRES))] + random_numbers.standard_normal(DIMENSION)
    return [float(number) for number in vector]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, volume: Callable[[int], int]) -> Iterator[QdrantEdgeVectorStore]:
    """A store of 100,000 points, not optimized."""
    with QdrantEdgeVectorStore(tmp_path_factory.mktemp("volume")) as store:
        for start in range(0, volume(100_000), 1000):
            store.add(clustered(1000, start))
        yield store


async def longest_pause(duration_s: float) -> Pause:
    """How late a task came to its turn, at worst, while it asked for 1 ms again and again."""
    wall = own = 0.0
    end = time.perf_counter() + duration_s
    while (before := time.perf_counter()) < end:
        before_own = time.process_time()
        await asyncio.sleep(0.001)
        late = time.perf_counter() - before - 0.001
        wall, own = max(wall, late), max(own, min(late, time.process_time() - before_own))
    return Pause(wall, own)


async def pause_beside(store: QdrantEdgeVectorStore, nodes: Sequence[TextNode], duration_s: float) -> Pause:
    """The longest pause beside adds and queries of three modes, all through the async twins.

    Nodes and questions are made before: what the test itself does on the loop would count as the store's.
    """
    modes = (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.SPARSE)
    queries = [
        VectorStoreQuery(question(seed), 10, query_str=text(seed, 6), mode=mode) for seed in range(50) for mode in modes
    ]
    busy = True

    async def add() -> None:
        for batch in cycle([nodes[start : start + ADDED] for start in range(0, len(nodes), ADDED)]):
            await store.async_add(batch)
            if not busy:
                return

    async def ask(mode: VectorStoreQueryMode) -> None:
        for query in cycle([query for query in queries if query.mode == mode]):
            await store.aquery(query)
            if not busy:
                return

    tasks = [asyncio.ensure_future(task) for task in (add(), *(ask(mode) for mode in modes))]
    pause = await longest_pause(duration_s)
    busy = False
    await asyncio.gather(*tasks)
    return pause


@pytest.mark.parametrize("state", ["fresh", "optimized"])
async def test_event_loop_goes_on(
    store: QdrantEdgeVectorStore, state: str, volume: Callable[[int], int], say: Say
) -> None:
    """Beside adds and queries the loop never stops for longer than 50 ms, before and after optimize()."""
    if state == "optimized":
        store.optimize_in_child()
    duration_s = volume(10_000) / 1000
    gc.freeze()  # a full collection stops any app that holds LlamaIndex for 70 ms, with this store or without
    bare = [await longest_pause(duration_s) for _ in range(ROUNDS)]
    nodes = clustered(64 * ADDED, 10**7)
    beside = [await pause_beside(store, nodes, duration_s) for _ in range(ROUNDS)]
    say(f"{state}, {volume(100_000)} points: longest pauses {listed(beside)}; of a bare loop {listed(bare)}")
    gc.unfreeze()
    assert min(pause.own_s for pause in beside) <= LONGEST_PAUSE_S


def listed(pauses: Sequence[Pause]) -> str:
    """Pauses as text."""
    wall = ", ".join(f"{1000 * pause.wall_s:.0f}" for pause in pauses)
    own = ", ".join(f"{1000 * pause.own_s:.0f}" for pause in pauses)
    return f"{wall} ms by the clock, {own} ms of it at work"


def test_scores_before_and_after_optimize(tmp_path: Path, volume: Callable[[int], int], say: Say) -> None:
    """A node that is found before and after has the same score within 1e-3, and hardly any is found only before."""
    with QdrantEdgeVectorStore(tmp_path) as store:
        for start in range(0, volume(100_000), 1000):
            store.add(clustered(1000, start))
        before = [searches(store, seed) for seed in range(50)]
        started = time.perf_counter()
        store.optimize()
        seconds = time.perf_counter() - started
        after = [searches(store, seed) for seed in range(50)]
        for (dense, sparse), (dense_after, sparse_after) in zip(before, after, strict=True):
            for old, new in ((dense, dense_after), (sparse, sparse_after)):
                assert all(abs(old[node_id] - new[node_id]) <= 1e-3 for node_id in old.keys() & new.keys())
                assert sorted(old.values())[-5:] == pytest.approx(sorted(new.values())[-5:], abs=1e-3)
        recall = np.mean(
            [len(old.keys() & new.keys()) / len(old) for (old, _), (new, _) in zip(before, after, strict=True)]
        )
        late = clustered(200, 10**7)
        store.add(late)
        assert all(store.search_dense(node.embedding or [], 1)[0][0] == node.node_id for node in late[::20])
    say(f"{volume(100_000)} points: optimize() {seconds:.1f} s, recall@20 after it {recall:.3f}")
    assert recall >= 0.95


def searches(store: QdrantEdgeVectorStore, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """Twenty nodes by vector and fifty by BM25."""
    return dict(store.search_dense(question(seed), 20)), dict(store.search_sparse(text(seed, 6), 50))


def test_kill_loop(tmp_path: Path, volume: Callable[[int], int], say: Say) -> None:
    """Again and again killed without warning at some moment, the store never loses what it acknowledged."""
    acknowledged: set[str] = set()
    moments = random.Random(0)
    kills = volume(20)
    for kill in range(kills):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "store"), str(10**6 * kill)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            first = writer.stdout.readline()
            time.sleep(moments.uniform(0, 1.0))
            writer.kill()
            lines = [first, *writer.stdout.readlines()]
        acknowledged.update(node_id for line in lines if line.endswith("\n") for node_id in line.split())
        with QdrantEdgeVectorStore(tmp_path / "store") as store:
            assert acknowledged <= {node.node_id for node in store.get_nodes()}
    say(f"{kills} kills: {len(acknowledged)} acknowledged nodes, none lost")
    assert acknowledged


def test_kill_amid_optimize(tmp_path: Path, volume: Callable[[int], int], say: Say) -> None:
    """A child that is killed while it optimizes leaves a store that opens with every point."""
    nodes = volume(20_000)
    with QdrantEdgeVectorStore(tmp_path) as store:
        for start in range(0, nodes, 1000):
            store.add(clustered(1000, start))
    code = "import sys, qdrant_edge as e; s = e.EdgeShard.load(sys.argv[1]); print(flush=True); s.optimize()"
    for delay_s in (0.05, 0.4, 1.0):
        with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "shard")], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(delay_s)
            child.kill()
        with QdrantEdgeVectorStore(tmp_path) as store:
            assert store.stats()["points"] == nodes
            assert len(store.search_dense(question(1), nodes)) == nodes
    say(f"three kills amid optimize(): all {nodes} points there")
