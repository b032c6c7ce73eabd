"""From the embedded store to a server and back: nothing lost, nothing changed, killed or not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from qdrant_places import KINDS, Place, places
from test_cli import run
from vector_nodes import corpus, make_node, small_store, unit

from llama_index_hybridmem.cli import migrate as migrate_command
from llama_index_hybridmem.disk import Journal
from llama_index_hybridmem.errors import ConfigurationError, StoreDamagedError, StoreError, StoreMismatchError
from llama_index_hybridmem.vector.migration import JOURNAL, Migration, migrate
from llama_index_hybridmem.vector.point_store import PointVectorStore
from llama_index_hybridmem.vector.server import QdrantServerVectorStore
from llama_index_hybridmem.vector.server_client import LoopClient
from llama_index_hybridmem.vector.store import QdrantEdgeVectorStore

qdrant_client = pytest.importorskip("qdrant_client", reason="needs the extra 'qdrant'")

QUESTION = unit(1000)
NODES = [
    *corpus(300),
    make_node("no words", "...", unit(7), "d-odd", {"n": 2**70, "list": [1, "a", True], "ü": None}),
    make_node("5c56c793-69f3-4fbf-87e6-c4bf54c28c26", "flash page", unit(8)),
]
WINDOWS = {"n3": [unit(2001), QUESTION, unit(2002)], "no words": [unit(2003)]}


@pytest.fixture(params=[kind for kind in KINDS if kind != "aclient"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A place on a server."""
    yield from places(request.param)


@pytest.fixture
def source() -> Iterator[QdrantEdgeVectorStore]:
    """An embedded store with nodes of every kind in it."""
    with small_store() as store:
        store.add(NODES, window_embeddings=WINDOWS)
        yield store


@pytest.fixture
def quick() -> Iterator[Path]:
    """A folder in shared memory where there is some: the local mode syncs the disk after every point."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def answers(store: PointVectorStore) -> list[dict[str, float]]:
    """What a store finds, by vector, by words and with a filter."""
    found = []
    for mode, filters in (("default", None), ("sparse", None), ("hybrid", {"key": "even", "value": True})):
        query = VectorStoreQuery(
            query_embedding=QUESTION,
            query_str="flash memory page",
            similarity_top_k=2000,
            mode=VectorStoreQueryMode(mode),
            filters=filters,  # type: ignore[arg-type]  # ours is taken, too
        )
        result = store.query(query)
        found.append(dict(zip(result.ids or (), result.similarities or (), strict=True)))
    return found


def assert_alike(one: PointVectorStore, other: PointVectorStore) -> None:
    """Two stores find the same, with the same scores, and hold the same nodes."""
    for here, there in zip(answers(one), answers(other), strict=True):
        assert there == pytest.approx(here, abs=1e-5)
    nodes: list[dict[str, TextNode]] = [{node.node_id: node for node in store.get_nodes()} for store in (one, other)]  # type: ignore[misc]
    assert nodes[0] == nodes[1]


@pytest.mark.parametrize("tenant", [None, "acme"])
def test_there_and_back(source: QdrantEdgeVectorStore, place: Place, tmp_path: Path, tenant: str | None) -> None:
    """A server finds what the embedded store finds, and so does an embedded store that is made from the server."""
    seen: list[tuple[str, int, int]] = []
    before = answers(source)
    with place.store(tenant=tenant) as server, small_store() as again:
        there = migrate(source, server, tmp_path / JOURNAL, progress=lambda *step: seen.append(step))
        back = migrate(server, again, tmp_path / JOURNAL)
        assert_alike(source, server)
        assert_alike(source, again)
        assert answers(source) == before
        assert there.points == there.copied == back.points == len(NODES)
        assert (there.resumed, there.repaired, there.others) == (0, 0, 0)
        assert again.stats()["average_length"] == source.stats()["average_length"]
        assert again.stats()["points_with_windows"] == 2
    assert seen[-1] == ("comparing", len(NODES), len(NODES))
    assert ("copying", len(NODES), len(NODES)) in seen
    assert not (tmp_path / JOURNAL).exists()


def test_the_checksum_is_of_the_content(source: QdrantEdgeVectorStore, place: Place, tmp_path: Path) -> None:
    """It is the same whatever the order, and another as soon as one number of one point is another."""
    with small_store() as shuffled, small_store() as changed:
        shuffled.add(NODES[::-1], window_embeddings=WINDOWS)
        other = NODES[5].model_copy(update={"embedding": unit(77)})
        changed.add([*NODES[:5], other, *NODES[6:]], window_embeddings=WINDOWS)
        sums = []
        for store in (source, shuffled, changed):
            with place.store() as server:
                sums.append(migrate(store, server, tmp_path / JOURNAL, merge=True).checksum)
                server.clear()
    assert sums[0] == sums[1] != sums[2]


class Losing:
    """A client that changes a vector on the way and says all is well; injected, as no server does that on purpose."""

    def __init__(self, inner: Any, times: int) -> None:
        self.inner, self.times, self.is_local = inner, times, inner.is_local

    def ask(self, method: str, arguments: Any) -> Any:
        """Passes a call on; the first points of the first upserts come out wrong."""
        if method == "upsert" and self.times:
            self.times -= 1
            arguments["points"][0].vector["text-dense"] = unit(4242)
        return self.inner.ask(method, arguments)

    def close(self) -> None:
        """Closes nothing."""


def broken(place: Place, times: int) -> QdrantServerVectorStore:
    """A store whose client changes a vector in its first writes."""
    store = place.store()
    store._here.collection.client = Losing(store.client, times)  # type: ignore[assignment]
    return store


def test_a_changed_vector_is_found_and_mended(source: QdrantEdgeVectorStore, place: Place, tmp_path: Path) -> None:
    """What does not come back as it was written is written again; when that does not help, it is an error."""
    with broken(place, 1) as server:
        report = migrate(source, server, tmp_path / JOURNAL)
        assert (report.repaired, report.points) == (1, len(NODES))
        assert_alike(source, server)
        server.clear()
    with broken(place, 10**6) as server, pytest.raises(StoreError, match="read back"):
        migrate(source, server, tmp_path / JOURNAL)
    with place.store() as server:
        assert migrate(source, server, tmp_path / JOURNAL).repaired > 0
        assert_alike(source, server)


CHILD = """
import sys, time
from pathlib import Path
from qdrant_client import QdrantClient
from llama_index_hybridmem.vector.migration import migrate
from llama_index_hybridmem.vector.server import QdrantServerVectorStore
from llama_index_hybridmem.vector.store import QdrantEdgeVectorStore

folder, journal, kind, where, collection = sys.argv[1:]
options = {"url": where} if kind == "url" else {"client": QdrantClient(path=where)}
with QdrantEdgeVectorStore(folder) as source, QdrantServerVectorStore(collection, **options) as server:
    migrate(source, server, Path(journal), progress=lambda *step: time.sleep(0.3))
"""


@pytest.mark.parametrize("kind", ["path", *(["url"] if "url" in KINDS else [])])
def test_killed_half_way_it_goes_on(kind: str, quick: Path, tmp_path: Path) -> None:
    """After kill -9 amid the copy the next run copies the rest only, and all of it is there, once."""
    folder, journal, where = quick / "store", quick / JOURNAL, quick / "server"
    nodes = corpus(400)
    with QdrantEdgeVectorStore(folder) as source:
        source.add(nodes)
    target = (kind, os.environ["QDRANT_URL"]) if kind == "url" else (kind, str(where))
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder), str(journal), *target, tmp_path.name])
    while len(Journal(journal).entries()) < 2:
        assert child.poll() is None, "the child ended before it was killed"
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    options = {"url": target[1]} if kind == "url" else {"client": qdrant_client.QdrantClient(path=str(where))}
    with (
        QdrantEdgeVectorStore(folder) as source,
        QdrantServerVectorStore(tmp_path.name, **options) as server,
    ):
        report = migrate(source, server, journal)
        assert report.resumed >= 255
        assert report.copied == 400 - report.resumed
        assert (report.points, report.repaired, report.others) == (400, 0, 0)
        assert_alike(source, server)
        server._here.collection.ask("delete_collection")
    if kind == "path":
        options["client"].close()


def test_a_source_that_changed_meanwhile(source: QdrantEdgeVectorStore, place: Place, tmp_path: Path) -> None:
    """Nodes that came before the point at which a copy was stopped are copied all the same; others are counted."""
    with place.store() as server:
        stop: list[int] = []

        def stopping(doing: str, done: int, total: int) -> None:
            stop.append(done)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            migrate(source, server, tmp_path / JOURNAL, progress=stopping)
        source.add([make_node(f"late{i}", "late", unit(i)) for i in range(50)])
        source.delete("d0")
        report = migrate(source, server, tmp_path / JOURNAL)
        assert report.points == len(NODES) + 47
        assert report.repaired > 0
        assert report.others in (0, 1, 2, 3)
        server.delete("d0")
        assert_alike(source, server)


def test_what_would_be_mixed_up_is_refused(source: QdrantEdgeVectorStore, place: Place, tmp_path: Path) -> None:
    """A target with points in it, of another dimension or language, or of another copy under way, is not written to."""
    journal = tmp_path / JOURNAL
    with place.store() as server:
        server.add([make_node("theirs", "flash", unit(3))])
        with pytest.raises(ConfigurationError, match="1 points already"):
            migrate(source, server, journal)
        assert server.stats()["points"] == 1
        report = migrate(source, server, journal, merge=True)
        assert (report.points, report.others) == (len(NODES), 1)
        with small_store(dimension=3) as small, small_store(language="german") as german:
            small.add([make_node("a", "x", [1.0, 2.0, 3.0])])
            german.add([make_node("a", "x", unit(1))])
            for other, what in ((small, "dimension"), (german, "language")):
                with pytest.raises(StoreMismatchError, match=what):
                    migrate(other, server, journal, merge=True)
    Journal(journal).append({"source": "embedded", "target": "elsewhere", "last": None, "points": 0})
    with place.store() as server, pytest.raises(ConfigurationError, match="not finished"):
        migrate(source, server, journal)
    journal.unlink()
    with place.store() as server:
        Journal(journal).append({"source": "embedded", "target": _name(place), "last": "x", "points": 0})
        with pytest.raises(StoreDamagedError, match="cannot be read"):
            migrate(source, server, journal)


def test_a_number_of_many_digits_is_no_damage(place: Place, tmp_path: Path) -> None:
    """The embedded engine may lose a number's last bit; the copy is whole all the same, and the node has its number."""
    numbers = [0.49649365599282835, [0.17151709517771863, "a"], {"deep": 0.09168312261651779}]
    nodes = [make_node(f"n{i}", "flash", unit(i), None, {"number": number}) for i, number in enumerate(numbers)]
    with place.store() as server, small_store() as embedded:
        server.add(nodes)
        assert migrate(server, embedded, tmp_path / JOURNAL).repaired == 0
        assert [node.metadata["number"] for node in embedded.get_nodes(["n0", "n1", "n2"])] == numbers


@pytest.mark.parametrize("back", [False, True])
def test_merged_nodes_are_weighed_as_those_that_were_there(place: Place, tmp_path: Path, back: bool) -> None:
    """Two stores with two average lengths become one with one: it scores as if all had been added to the target."""
    theirs = [make_node(f"theirs{i}", "flash memory", unit(i)) for i in range(3)]
    with small_store(average_length=40.0) as embedded, place.store(average_length=5.0) as server:
        source, target, average = (server, embedded, 40.0) if back else (embedded, server, 5.0)
        source.add(NODES, window_embeddings=WINDOWS)
        target.add(theirs)
        report = migrate(source, target, tmp_path / JOURNAL, merge=True)
        assert (report.points, report.repaired, report.others) == (len(NODES), 0, 3)
        assert target.stats()["average_length"] == average
        with small_store(average_length=average) as alone:
            alone.add([*theirs, *NODES], window_embeddings=WINDOWS)
            assert_alike(alone, target)


def _name(place: Place) -> str:
    return f"{place.options['url']} {place.collection}" if place.kind == "url" else place.collection


def test_an_empty_store_is_soon_copied(place: Place, tmp_path: Path) -> None:
    """Where there is nothing, nothing is made and nothing is said to be there."""
    with small_store() as empty, place.store() as server:
        assert migrate(empty, server, tmp_path / JOURNAL) == Migration(0, 0, 0, 0, 0, "0" * 32, 0.0)
        assert not (tmp_path / JOURNAL).exists()


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(place: Place, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Lets the command find the place where it would connect to a server; gives what it was told of it."""
    told: list[tuple[Any, ...]] = []

    def open_server(*arguments: Any) -> QdrantServerVectorStore:
        told.append(arguments)
        return place.store(tenant=arguments[2])

    monkeypatch.setattr(migrate_command, "open_server", open_server)
    return told


def test_the_command_gives_a_slow_line_time() -> None:
    """A page of points takes longer than a search may: the limits of a copy are minutes, not those of a question."""
    with migrate_command.open_server("http://localhost:1", "c", None, None) as store:
        assert isinstance(store.client, LoopClient)
        assert min(store.client._limits) >= 60


def test_the_command_there_and_back(
    place: Place, opened: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`migrate STORE --to URL` and `--from URL --to DIR`, in words and as JSON; the key comes from the environment."""
    with QdrantEdgeVectorStore(tmp_path / "store") as source:
        source.add(NODES)
    monkeypatch.setenv("MY_KEY", "s3cret")
    url = "http://localhost:6333"
    there = run("migrate", tmp_path / "store", "--to", url, "--tenant", "acme", "--api-key-env", "MY_KEY")
    assert there.code == 0
    assert f"{len(NODES)} points, each read back and equal" in there.words
    assert opened[0] == (url, "hybridmem", "acme", "s3cret")
    assert "s3cret" not in there.out + there.err
    back = run("migrate", "--from", url, "--to", tmp_path / "again", "--tenant", "acme", "--json")
    assert back.code == 0
    assert back.json["points"] == len(NODES)
    assert len(back.json["checksum"]) == 32
    with QdrantEdgeVectorStore(tmp_path / "store") as source, QdrantEdgeVectorStore(tmp_path / "again") as again:
        assert_alike(source, again)
    twice = run("migrate", tmp_path / "store", "--to", url, "--tenant", "acme")
    assert (twice.code, "already" in twice.err) == (2, True)
    assert run("migrate", tmp_path / "store", "--to", url, "--tenant", "acme", "--merge").code == 0


def test_the_command_takes_the_vectors_of_an_index(opened: list[tuple[Any, ...]], tmp_path: Path) -> None:
    """Of an index's folder the vectors are copied, and nothing in the folder is changed."""
    (tmp_path / "vector").mkdir()
    (tmp_path / "manifest.json").write_text(json.dumps({}))
    with QdrantEdgeVectorStore(tmp_path / "vector") as source:
        source.add(NODES[:9])
    assert run("migrate", tmp_path, "--to", "http://localhost:6333", "--json").json["points"] == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "vector"]
    with QdrantEdgeVectorStore(tmp_path / "vector") as source:
        assert len(source.get_nodes()) == 9


@pytest.mark.parametrize(
    "arguments",
    [
        ["store"],
        ["--to", "http://x"],
        ["store", "--from", "http://x", "--to", "http://y"],
        ["store", "--to", "folder"],
        ["missing", "--to", "http://x"],
    ],
)
def test_the_command_refuses_half_a_copy(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a source and a target that can be, it says in one line what it needs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    result = run("migrate", *arguments)
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
