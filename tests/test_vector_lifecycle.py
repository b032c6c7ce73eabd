"""The vector store over time: owners, kills, damage, threads, and the search index."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import qdrant_edge
from vector_nodes import corpus, cosines, make_node, ranked, small_store, unit

from llama_index_hybridmem.errors import (
    ConfigurationError,
    HybridMemoryError,
    StoreClosedError,
    StoreDamagedError,
    StoreError,
    StoreLockedError,
    StoreMismatchError,
)
from llama_index_hybridmem.vector import files
from llama_index_hybridmem.vector.shard import UPSERT, batches
from llama_index_hybridmem.vector.store import QdrantEdgeVectorStore

QUESTION = unit(1000)

WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from vector_nodes import corpus
from llama_index_hybridmem.vector.store import QdrantEdgeVectorStore
store = QdrantEdgeVectorStore(sys.argv[1])
for start in range(0, 10**6, 3):
    print(*store.add(corpus(3, start)), flush=True)
"""


# -- owners -----------------------------------------------------------------------------------------------------------


def test_another_process_owns_it_and_is_killed(tmp_path: Path) -> None:
    """While it lives we are told its pid; after kill -9 amid its adds nothing acknowledged is lost."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "store"), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline() for _ in range(20)]
        with pytest.raises(StoreLockedError, match="server") as refused:
            QdrantEdgeVectorStore(tmp_path / "store")
        assert refused.value.pid == writer.pid
        writer.kill()
        acknowledged += writer.stdout.readlines()
    whole = [node_id for line in acknowledged if line.endswith("\n") for node_id in line.split()]
    assert len(whole) >= 60
    with QdrantEdgeVectorStore(tmp_path / "store") as store:
        present = {node.node_id for node in store.get_nodes()}
        assert set(whole) <= present
        assert len(store.search_dense(QUESTION, 10**6)) == len(present)
        store.add(corpus(3, 10**6))


def test_a_second_open_in_one_process(tmp_path: Path) -> None:
    """It is refused with our own pid."""
    with QdrantEdgeVectorStore(tmp_path) as store:
        store.add(corpus(1))
        with pytest.raises(StoreLockedError, match=str(os.getpid())):
            QdrantEdgeVectorStore(tmp_path)


def test_an_engine_that_came_past_our_lock(tmp_path: Path) -> None:
    """Opened by the engine itself elsewhere, the store is locked, by nobody we know."""
    with QdrantEdgeVectorStore(tmp_path) as store:
        store.add(corpus(1))
    foreign = qdrant_edge.EdgeShard.load(str(tmp_path / "shard"))
    with pytest.raises(StoreLockedError, match="another process"):
        QdrantEdgeVectorStore(tmp_path)
    foreign.close()
    QdrantEdgeVectorStore(tmp_path).close()


def test_a_store_made_by_another_meanwhile(tmp_path: Path) -> None:
    """Two objects for a folder without a store: the second to add finds what the first has made, or its lock."""
    late = QdrantEdgeVectorStore(tmp_path / "store")
    with QdrantEdgeVectorStore(tmp_path / "store") as early:
        early.add(corpus(2))
        with pytest.raises(StoreLockedError):
            late.add(corpus(1, 5))
    late.add(corpus(1, 5))
    assert len(late.get_nodes()) == 3
    late.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_cannot_touch_it() -> None:
    """The child of a fork gets an error instead of a race with its parent, and does not remove a temporary store."""
    with QdrantEdgeVectorStore() as store:
        store.add(corpus(1))
        read, write = os.pipe()
        child = os.fork()
        if child == 0:  # no assertions and no cleaning up in here: it must end without pytest
            try:
                store.get_nodes()
            except StoreLockedError as error:
                os.write(write, str(error.pid).encode())
            finally:
                store.close()
                os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 100) == str(os.getpid()).encode()
        os.close(read)
        os.close(write)
        assert len(store.get_nodes()) == 1


def test_a_store_without_a_path_leaves_nothing() -> None:
    """Its folder is made by the first add, and gone after close()."""
    store = QdrantEdgeVectorStore()
    assert store._shard.folder is None
    store.add(corpus(1))
    folder = store._shard.folder
    assert folder is not None
    store.close()
    assert not folder.exists()


USES: list[Callable[[QdrantEdgeVectorStore], object]] = [
    lambda store: store.add(corpus(1)),
    lambda store: store.add([]),
    lambda store: store.delete("d1"),
    lambda store: store.delete_nodes(["n1"]),
    lambda store: store.clear(),
    lambda store: store.get_nodes(),
    lambda store: store.search_dense(QUESTION, 3),
    lambda store: store.search_sparse("memory", 3),
    lambda store: store.score_dense(QUESTION, ["n1"]),
    lambda store: store.optimize(),
    lambda store: store.optimize_in_child(),
    lambda store: store.reindex_sparse(),
    lambda store: store.stats(),
]


@pytest.mark.parametrize("filled", [True, False])
def test_use_after_close(filled: bool) -> None:
    """Every use of a closed store is StoreClosedError, whether it ever held anything; closing twice is fine."""
    with small_store() as store:
        if filled:
            store.add(corpus(2))
        store.close()
        store.close()
        for use in USES:
            with pytest.raises(StoreClosedError):
                use(store)


# -- damage and mismatch ----------------------------------------------------------------------------------------------


def corrupt(folder: Path) -> None:
    """Overwrite every file under a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(b"rubbish " * 8)


def truncate(folder: Path) -> None:
    """Cut every file under a folder short."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.truncate(path, 3)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "store.json").unlink(),
        lambda folder: (folder / "store.json").write_text("{"),
        lambda folder: (folder / "store.json").write_text("[]"),
        lambda folder: (folder / "store.json").write_text('{"format": 1}'),
        lambda folder: (folder / "shard" / "edge_config.json").write_text("{"),
        lambda folder: shutil.rmtree(folder / "shard" / "segments"),
        lambda folder: shutil.rmtree(folder / "shard" / "wal"),
        lambda folder: corrupt(folder / "shard" / "wal"),
        lambda folder: corrupt(folder / "shard" / "segments"),
        lambda folder: truncate(folder / "shard" / "segments"),
    ],
)
def test_damaged_files(tmp_path: Path, damage: Callable[[Path], None], capfd: pytest.CaptureFixture[str]) -> None:
    """A damaged store is StoreDamagedError with the place and a way out, never empty and never a crash; unlocked."""
    with QdrantEdgeVectorStore(tmp_path) as store:
        store.add(corpus(5))
    damage(tmp_path)
    for _ in range(2):  # the second time: the lock was given back
        with pytest.raises(StoreDamagedError, match=f"{tmp_path.name}.*ingest anew"):
            QdrantEdgeVectorStore(tmp_path)
    capfd.readouterr()  # Rust writes of its panics to the terminal


def test_a_store_of_a_later_version(tmp_path: Path) -> None:
    """A format that this version does not know is a mismatch, not damage."""
    with QdrantEdgeVectorStore(tmp_path) as store:
        store.add(corpus(1))
    settings = json.loads((tmp_path / "store.json").read_text())
    (tmp_path / "store.json").write_text(json.dumps({**settings, "format": 2}))
    with pytest.raises(StoreMismatchError, match="format 2"):
        QdrantEdgeVectorStore(tmp_path)


def test_another_dimension_or_language(tmp_path: Path) -> None:
    """What the store was built with is named beside what was asked for; asking for nothing or the same is fine."""
    with QdrantEdgeVectorStore(tmp_path, language="german") as store:
        store.add(corpus(1))
    with pytest.raises(StoreMismatchError, match="dimension 8, not 384"):
        QdrantEdgeVectorStore(tmp_path, dimension=384)
    with pytest.raises(StoreMismatchError, match="'german', not 'english'"):
        QdrantEdgeVectorStore(tmp_path, language="english")
    QdrantEdgeVectorStore(tmp_path).close()
    QdrantEdgeVectorStore(tmp_path, dimension=8, language="german").close()


def test_a_half_made_store_is_no_store(tmp_path: Path) -> None:
    """A kill while the first shard is being made leaves leftovers that neither hinder nor count as a store."""
    (tmp_path / "shard.new").mkdir()
    (tmp_path / "shard.new" / "edge_config.json").write_text("{")
    files.Settings(3, "german", 60.0).write(tmp_path)
    with QdrantEdgeVectorStore(tmp_path) as store:
        assert store.get_nodes() == []
        store.add(corpus(2))
        assert store.stats()["dimension"] == 8
    assert not (tmp_path / "shard.new").exists()


def test_the_engine_s_own_refusals_are_ours() -> None:
    """What the engine raises bare comes out as a StoreError with its cause."""
    with small_store() as store:
        store.add(corpus(1))
        with pytest.raises(StoreError, match="dimension") as refused:
            store._shard.upsert([qdrant_edge.Point(1, {"text-dense": [1.0]}, {})])
        assert refused.value.__cause__ is not None


# -- the search index -------------------------------------------------------------------------------------------------


def test_optimize_changes_no_score_and_hides_no_new_node() -> None:
    """Before and after, here or in a child process, the same nodes have the same scores; later ones are found too."""
    nodes = corpus(300)
    with small_store() as store:
        store.add(nodes, window_embeddings={"n7": [unit(5)]})
        before = [dict(store.search_dense(QUESTION, 300)), dict(store.search_sparse("flash page", 300))]
        for optimize in (store.optimize, store.optimize_in_child):
            optimize()
            after = [dict(store.search_dense(QUESTION, 300)), dict(store.search_sparse("flash page", 300))]
            assert after == [pytest.approx(one, abs=1e-5) for one in before]
        late = make_node("late", "flash", QUESTION)
        store.add([late])
        assert store.search_dense(QUESTION, 1)[0][0] == "late"
        assert "late" in dict(store.search_sparse("flash", 301))


def test_a_failed_child_leaves_the_store_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the child process fails, that is said with its own words, and the store goes on."""
    monkeypatch.setattr(files, "_OPTIMIZE", "raise SystemExit('no memory left')")
    with small_store() as store:
        store.add(corpus(3))
        with pytest.raises(StoreError, match="no memory left"):
            store.optimize_in_child()
        assert len(store.search_dense(QUESTION, 9)) == 3


def test_calls_wait_while_a_child_optimizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query from another thread is answered once the child is done, and not refused."""
    slow = files._OPTIMIZE + "; import time; time.sleep(0.3)"
    monkeypatch.setattr(files, "_OPTIMIZE", slow)
    with small_store() as store:
        store.add(corpus(3))
        optimizing = threading.Thread(target=store.optimize_in_child)
        optimizing.start()
        while store.client is not None and optimizing.is_alive():
            pass
        assert len(store.search_dense(QUESTION, 9)) == 3
        optimizing.join()


# -- threads ----------------------------------------------------------------------------------------------------------


def test_threads_share_it() -> None:
    """Adds, deletes and queries of many threads at once leave exactly what they should, and no answer is wrong."""
    nodes = corpus(240)
    failures: list[BaseException] = []

    def work(own: int) -> None:
        try:
            mine = nodes[own * 40 : own * 40 + 40]
            for node in mine:
                store.add([node])
                assert store.search_dense(QUESTION, 3)
            store.delete_nodes([node.node_id for node in mine[::2]])
        except BaseException as error:  # noqa: BLE001 - a thread's boundary: the test shows it
            failures.append(error)

    with small_store() as store:
        threads = [threading.Thread(target=work, args=(own,)) for own in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        expected = ranked(cosines(nodes[1::2], QUESTION))
        assert [node_id for node_id, _ in store.search_dense(QUESTION, 999)] == expected


def test_close_beside_working_threads() -> None:
    """Closing under the hands of other threads gives them StoreClosedError and nothing else."""
    outcomes: list[type[BaseException]] = []

    def work() -> None:
        try:
            for i in range(10**6):
                store.add(corpus(1, i))
                store.search_dense(QUESTION, 3)
        except HybridMemoryError as error:
            outcomes.append(type(error))

    with small_store() as store:
        store.add(corpus(5))
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        store.search_sparse("memory", 1)
        store.close()
        for thread in threads:
            thread.join()
    assert outcomes == [StoreClosedError] * 4


def test_no_call_takes_more_than_256_points() -> None:
    """The engine holds the interpreter's lock in each call, so calls are kept short."""
    assert UPSERT <= 256
    assert [len(some) for some in batches(range(300), UPSERT)] == [64, 64, 64, 64, 44]


def test_first_adds_of_different_lengths_at_once() -> None:
    """Of two threads that make the store with different vectors one wins, the other gets a clear error."""
    outcomes: list[str] = []
    gate = threading.Barrier(2)

    def add(dimension: int) -> None:
        gate.wait()
        try:
            store.add(corpus(2, dimension=dimension))
            outcomes.append("added")
        except ConfigurationError:
            outcomes.append("wrong error")
        except StoreError:
            outcomes.append("refused")

    with small_store() as store:
        threads = [threading.Thread(target=add, args=(dimension,)) for dimension in (3, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(outcomes) == ["added", "refused"]
