"""An export of very many records: memory, a kill at every step, and Ray."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import SOAK
from test_export_exporter import FEW, NOISE, content, drafts, kill_everywhere

from llama_index_hybridmem.export.exporter import export
from llama_index_hybridmem.export.options import ExportOptions
from llama_index_hybridmem.export.record import Draft
from llama_index_hybridmem.noise.profile import KindRate, Profile
from llama_index_hybridmem.noise.scene import Passage, Scene

RECORDS = 1_000_000
SHARE = 4  # of what `volume` gives in `make test`: enough shards to see growth, in a few seconds
GROWTH = 24 * 2**20  # bytes; what is kept of a million parts' names would be more

full = pytest.mark.skipif(not SOAK, reason="only at full size")


def small(count: int) -> Iterator[Draft]:
    """The smallest drafts that get damage and an answer."""
    for number in range(count):
        text = f"Lock {number} of the canal was built in {1500 + number % 500}."
        passages = (Passage(f"n{number}", text, {}, f"d{number % 997}"), Passage(f"m{number}", "Boats pass."))
        scene = Scene(f"When was lock {number} built?", passages, (), frozenset([f"n{number}"]), text[-5:-1])
        yield Draft(f"q{number}", scene)


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_does_not_grow_with_the_records(tmp_path: Path, volume: Callable[[int], int]) -> None:
    """Neither while drafts are taken in nor while shards are made; and none is lost."""
    count = volume(RECORDS) if SOAK else volume(RECORDS) // SHARE
    taken: list[int] = []
    made: list[int] = []

    def watched() -> Iterator[Draft]:
        for number, each in enumerate(small(count)):
            if number % (count // 10) == 0:
                taken.append(resident())
            yield each

    profile = Profile({"truncation": KindRate(0.2, 0.2, 0.2)})
    options = ExportOptions(fitted=False, shard_rows=count // 50, splits={"train": 1.0, "dev": 0.0, "test": 0.0})
    if SOAK:
        options = ExportOptions(fitted=False, splits=options.splits)
    found = export(watched(), tmp_path, options, profile, progress=lambda done, total: made.append(resident()))
    assert found.records == count
    assert 0.05 * count < found.abstained < 0.3 * count
    assert max(taken) - taken[2] < GROWTH
    assert max(made) - made[len(made) // 5] < GROWTH


@full
def test_a_kill_at_every_step_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Every write and every rename."""
    assert kill_everywhere(tmp_path, 1) > 25


@full
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray", "ignore::ResourceWarning")
def test_ray_writes_the_same_bytes(tmp_path: Path) -> None:
    """Made by tasks on a cluster, the files are those of one process."""
    ray = pytest.importorskip("ray")
    one = export(drafts(14), tmp_path / "one", FEW, NOISE)
    try:
        other = export(drafts(14), tmp_path / "ray", FEW, NOISE, ray=True)
    finally:
        ray.shutdown()
    assert content(tmp_path / "one") == content(tmp_path / "ray")
    assert (one.splits, one.abstained) == (other.splits, other.abstained)
