"""One fault of each class, over real parts and under load: every question is answered in time, and all is well after.

The whole table is `soak/test_chaos_soak`'s, the results are in docs/reliability.md.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from chaos import (
    CHUNKS,
    Fault,
    Foreign,
    Ingest,
    LoadKind,
    Stand,
    Trial,
    document,
    nothing_left,
    our_threads,
    passages,
    question,
    quietest,
    tmpfs_command,
    wrong_password,
)
from conftest import SOAK
from llama_index.core.schema import TextNode
from servers.neo4j.server import Neo4jServer
from servers.proxy import Mode, TcpProxy

from llama_index_hybridmem.errors import AllStoresFailedError, StoreError, StoreUnavailableError
from llama_index_hybridmem.graph.stores.neo4j.store import Neo4jGraphStore
from llama_index_hybridmem.graph.stores.sqlite import SqliteGraphStore
from llama_index_hybridmem.vector.store import QdrantEdgeVectorStore

GRAPH_LOST = "^graph: (BranchTimeoutError|StoreUnavailableError|BreakerOpenError): "
USERS_TIMEOUT_S = 15.0
"""Of the store itself: a server that was just started may plan a statement for so long on a busy machine."""


@dataclass
class Scene:
    """The server, the proxy in front of it, and what is asked through both."""

    server: Neo4jServer
    proxy: TcpProxy
    stand: Stand

    def mode(self, mode: Mode) -> Callable[[], None]:
        """Something that switches the proxy."""
        return lambda: setattr(self.proxy, "mode", mode)

    def network(self, name: str, mode: Mode) -> Fault:
        """A fault of the network."""
        return Fault(name, self.mode(mode), self.mode("pass"), GRAPH_LOST)


def graph_at(server: Neo4jServer, port: int, **options: Any) -> Neo4jGraphStore:
    """Our store in a server behind a port."""
    assert server.auth is not None
    user, password = server.auth
    options = {"timeout_s": USERS_TIMEOUT_S, **options}
    uri = f"bolt://127.0.0.1:{port}"
    return Neo4jGraphStore(uri, username=user, password=password, database=server.database, **options)


@pytest.fixture(scope="module", name="scene")
def _scene(fragile_neo4j: Neo4jServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Qdrant Edge and a real Neo4j behind a proxy; afterwards no thread, file or connection of it is left."""
    with TcpProxy(fragile_neo4j.port, delay_s=3.0) as proxy, nothing_left():
        graph = graph_at(fragile_neo4j, proxy.port)
        stand = Stand(tmp_path_factory.mktemp("vectors"), graph, deadline_s=2.0, documents=12)
        yield Scene(fragile_neo4j, proxy, stand)
        stand.close()
    assert fragile_neo4j.query("SHOW TRANSACTIONS YIELD currentQuery RETURN count(*)") == [[1]], "but this one"


@pytest.fixture(name="embedded")
def _embedded(tmp_path: Path) -> Iterator[Stand]:
    """Everything in this process."""
    with nothing_left():
        stand = Stand(tmp_path / "vectors", SqliteGraphStore(tmp_path / "graph.sqlite"))
        yield stand
        stand.close()


def check(trial: Trial) -> None:
    """What every fault must come to; a second of margin for a machine that does other things, too."""
    assert (trial.unanswered, trial.unmarked) == (0, 0), trial
    assert trial.within(1.0), trial


# -- a server ---------------------------------------------------------------------------------------------------------


def test_a_frozen_server_costs_its_own_answers_and_no_more(scene: Scene) -> None:
    """SIGSTOP: connections stay open and nothing comes; asked from an event loop."""
    check(quietest(scene.stand, Fault("frozen", scene.server.freeze, scene.server.thaw, GRAPH_LOST), "tasks"))


@pytest.mark.parametrize(
    ("name", "mode", "kind"),
    [
        ("connections refused", "refuse", "threads"),
        ("connections cut half-way", "drop", "tasks"),
        ("every packet 3 s late", "slow", "threads"),
    ],
)
def test_a_broken_network_costs_the_graphs_answers_and_no_more(
    scene: Scene, name: str, mode: Mode, kind: LoadKind
) -> None:
    """Refused, cut or slow: the other stores answer, the reason is told, and the graph comes back by itself."""
    check(quietest(scene.stand, scene.network(name, mode), kind))


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="a server is killed and started, a minute: run by make soak")
def test_a_killed_server_loses_nothing_that_was_acknowledged(scene: Scene) -> None:
    """Kill -9 amid queries and writes: queries are answered, each document is there wholly or not at all."""
    with Ingest(graph_at(scene.server, scene.proxy.port)) as ingest:

        def kill() -> None:
            ingest.wait_for(3)
            scene.server.kill()

        check(quietest(scene.stand, Fault("killed", kill, scene.server.start, GRAPH_LOST), "threads", tries=1))
        ingest.wait_for(2)
    assert ingest.failed, "the kill hit no write"
    assert ingest.judged() == ([], [])
    ingest.again()
    assert ingest.judged() == ([], [])
    ingest.close()


def test_a_password_that_is_wrong_is_told_and_keeps_no_breaker_open(scene: Scene) -> None:
    """The server is there and refuses us: each answer says so, and the right password is enough to be back."""
    fault = wrong_password(scene.server, scene.proxy, scene.stand)
    check(quietest(scene.stand, fault, "threads", tries=1))


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="the server plans anew, a quarter of a minute: run by make soak")
def test_a_schema_that_is_gone_is_made_again_by_the_next_write(scene: Scene) -> None:
    """Indexes and constraints dropped while running: nothing is lost but the time in which the server plans anew."""

    def drop() -> None:
        for (name,) in scene.server.query("SHOW CONSTRAINTS YIELD name"):
            scene.server.query(f"DROP CONSTRAINT {name}")
        for (name,) in scene.server.query("SHOW INDEXES YIELD name, type WHERE type <> 'LOOKUP' RETURN name"):
            scene.server.query(f"DROP INDEX {name}")

    rewrite = lambda: scene.stand.graph.replace(["doc-0"], passages(0))  # noqa: E731
    check(quietest(scene.stand, Fault("schema missing", drop, rewrite, GRAPH_LOST, may=True), "threads", tries=1))
    names = {name for (name,) in scene.server.query("SHOW INDEXES YIELD name")}
    assert isinstance(scene.stand.graph, Neo4jGraphStore)
    assert set(scene.stand.graph.schema.index_names) <= names


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="ten seconds with a server: run by make soak")
def test_a_database_that_was_emptied_contributes_nothing_and_fails_nothing(scene: Scene) -> None:
    """No results are an answer; what is written again is found again."""

    def refill() -> None:
        scene.stand.graph.upsert([one for number in range(scene.stand.documents) for one in passages(number)])

    empty = Fault(
        "database emptied", lambda: scene.server.query("MATCH (n) DETACH DELETE n"), refill, GRAPH_LOST, may=True
    )
    check(quietest(scene.stand, empty, "threads", tries=1))
    found = scene.stand.engine.query(question(3)).metadata["hybridmem"]["stores"]["graph"]
    assert found["node_count"] > 0


def test_without_any_store_one_error_names_each_cause(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers: the error has every store's own, and all is well when they are back."""

    def lose() -> None:
        break_vectors(scene.stand, monkeypatch, StoreError("no space left on device"))
        scene.proxy.mode = "refuse"

    def mend() -> None:
        monkeypatch.undo()
        scene.proxy.mode = "pass"

    reason = r"vector: StoreError: no space left.*keyword: StoreError: no space left.*graph: "
    check(quietest(scene.stand, Fault("all stores gone", lose, mend, reason, everything=True), "tasks", tries=1))


# -- this process -----------------------------------------------------------------------------------------------------


def break_vectors(stand: Stand, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let the engine of the vector store fail whatever it is asked."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(stand.vectors._shard, "call", fail)


def test_vectors_that_fail_leave_the_graph(embedded: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Qdrant Edge raises: the graph goes on with words and names alone."""
    broken = lambda: break_vectors(embedded, monkeypatch, StoreError("input/output error"))  # noqa: E731
    check(quietest(embedded, Fault("vectors fail", broken, monkeypatch.undo, "^vector: StoreError: input"), "threads"))


def test_a_clock_that_jumps_changes_nothing(embedded: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day back and forth, at every look: deadlines, breakers and waits go by a clock that does not jump."""
    now, days = time.time, cycle([-86_400.0, 86_400.0])
    jump = lambda: monkeypatch.setattr(time, "time", lambda: now() + next(days))  # noqa: E731
    check(quietest(embedded, Fault("clock jumps", jump, monkeypatch.undo, None), "tasks"))


def test_a_foreign_store_that_hangs_costs_counted_threads(tmp_path: Path) -> None:
    """Nobody can end its calls: they are counted, few, and gone when it comes back."""
    foreign = Foreign(TextNode(id_="f", text="A foreign text."))
    counted: list[tuple[int, int]] = []

    def come_back() -> None:
        counted.append((stand.engine.health()["foreign"]["hanging"], our_threads().count("hybridmem-foreign")))
        foreign.gate.set()

    with nothing_left():
        stand = Stand(tmp_path / "v", SqliteGraphStore(tmp_path / "g.sqlite"), foreign={"foreign": foreign})
        check(quietest(stand, Fault("hangs", foreign.gate.clear, come_back, "^foreign: B"), "threads"))
        assert stand.engine.health()["foreign"] == {
            "state": "closed", "hanging": 0, "misses": 0, "retry_in_s": None, "error": None,
        }  # fmt: skip
        stand.close()
    hanging, threads = counted[0]
    assert 4 <= hanging <= threads <= 4 + 4, "its limit, and what was under way when it was reached"


def test_empty_stores_are_answers(tmp_path: Path) -> None:
    """Stores without a single document answer nothing, and that is no failure."""
    with nothing_left():
        stand = Stand(tmp_path / "v", SqliteGraphStore(tmp_path / "g.sqlite"), documents=0)
        response = stand.engine.query(question(0))
        stand.close()
    assert response.source_nodes == []
    assert response.metadata["hybridmem"]["degraded"] == []


FULL_DISK = """
    import shutil, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from chaos import Stand, document, passages, question
    from llama_index_hybridmem.errors import StoreError
    from llama_index_hybridmem.graph.stores.sqlite import SqliteGraphStore
    from llama_index_hybridmem.vector.store import QdrantEdgeVectorStore

    def whole():
        summary = stand.engine.query(question(3)).metadata["hybridmem"]
        assert not summary["degraded"], summary["degraded"]
        assert all(each["node_count"] for each in summary["stores"].values())

    def embedded(number):
        return [node.model_copy(update={"embedding": [0.1] * 32}) for node in document(number)]

    def until_full(write):
        for number in range(1000, 9000):
            try:
                write(number)
            except StoreError as error:
                print(error)
                return range(1000, number)
        raise AssertionError("never full")

    folder = Path(sys.argv[1])
    stand = Stand(folder / "v", SqliteGraphStore(folder / "g.sqlite"))
    whole()
    def fill(leave):
        with (folder / "filler").open("ab") as filler:
            left = shutil.disk_usage(folder).free - leave * 2**20
            while left > 0:
                left -= filler.write(bytes(2**20))

    fill(20)
    vectors = until_full(lambda number: stand.vectors.add(embedded(number)))
    assert not vectors
    gone = [node.node_id for node in document(39)]
    stand.vectors.delete_nodes(gone)
    fill(3)
    vectors = until_full(lambda number: stand.vectors.add(embedded(number)))
    whole()
    graph = until_full(lambda number: stand.graph.replace([f"doc-{number}"], passages(number)))
    whole()
    (folder / "filler").unlink()
    stand.vectors.add(embedded(9001))
    stand.graph.upsert(passages(9001))
    whole()
    stand.close()
    with QdrantEdgeVectorStore(folder / "v") as store:
        ids = {node.node_id for node in store.get_nodes()}
    store = SqliteGraphStore(folder / "g.sqlite")
    for number in (*vectors, 9001):
        assert {node.node_id for node in document(number)} <= ids, number
    assert ids.isdisjoint(gone)
    for number in (*graph, 9001):
        assert len(store.document_node_ids(f"doc-{number}")) == 3, number
    assert len(store.documents()) == 40 + len(graph) + 1
    store.close()
    print("whole")
"""


def test_a_full_disk_refuses_writes_and_answers_questions(tmp_path: Path) -> None:
    """A real one of 200 MB: writes are refused by name, deletes are done, nothing is lost, room again is enough."""
    command = tmpfs_command(tmp_path, 200)
    if command is None:
        pytest.skip("no file system may be mounted here; the next test injects the fault")
    program = [*command, sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path), str(Path(__file__).parent)]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    said = ended.stdout.splitlines()
    assert "its disk is full" in said[0]
    assert "its disk is full" in said[1]
    assert "database or disk is full" in said[2]
    assert said[3:] == ["whole"]


def test_the_vector_store_asks_for_room_before_its_engine_dies_of_none(
    embedded: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Qdrant's engine writes through memory maps, and without room for a page the system kills the whole process."""
    node, other = (document(number)[0].model_copy(update={"embedding": [0.1] * 32}) for number in (99, 98))
    embedded.vectors.add([node, other])
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100 * 2**20})())
    for write in (lambda: embedded.vectors.add([node]), embedded.vectors.optimize, embedded.vectors.optimize_in_child):
        with pytest.raises(StoreError, match="its disk is full: 100 MiB are free, the engine needs 1"):
            write()
    embedded.vectors.delete_nodes([document(98)[0].node_id])
    assert not embedded.engine.query(question(3)).metadata["hybridmem"]["degraded"]
    folder = Path(str(embedded.vectors.path))
    embedded.vectors.close()
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10 * 2**20})())
    with pytest.raises(StoreError, match="the engine needs 64; what is stored is safe"):
        QdrantEdgeVectorStore(folder)
    monkeypatch.undo()
    with QdrantEdgeVectorStore(folder) as again:
        assert len(again.get_nodes()) == 40 * CHUNKS + 1


# -- before the first call --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["refuse", "silent"])
def test_a_server_that_was_never_there_holds_nothing_up(fragile_neo4j: Neo4jServer, tmp_path: Path, mode: Mode) -> None:
    """An engine is built at once over a server that is down or silent, answers without it, and gets it later."""
    with TcpProxy(fragile_neo4j.port) as proxy, nothing_left():
        proxy.mode = mode
        began = time.monotonic()
        graph = graph_at(fragile_neo4j, proxy.port, store="late")
        stand = Stand(tmp_path / "v", graph, filled=True)
        response = stand.engine.query(question(1))
        assert time.monotonic() - began < 30, "the driver's own limit"
        assert [reason.partition(":")[0] for reason in response.metadata["hybridmem"]["degraded"]] == ["graph"]
        assert response.source_nodes
        proxy.mode = "pass"
        limit = time.monotonic() + 60
        while stand.engine.query(question(1)).metadata["hybridmem"]["degraded"]:
            assert time.monotonic() < limit
            time.sleep(0.05)
        stand.close()


def test_all_stores_gone_from_the_start(fragile_neo4j: Neo4jServer, tmp_path: Path) -> None:
    """The error comes as fast as the causes, and its message holds them."""
    with TcpProxy(fragile_neo4j.port) as proxy, nothing_left():
        proxy.mode = "refuse"
        stand = Stand(tmp_path / "v", graph_at(fragile_neo4j, proxy.port), filled=True)
        stand.vectors.close()
        with pytest.raises(AllStoresFailedError) as raised:
            stand.engine.query(question(1))
        stand.graph.close()
    assert raised.value.causes.keys() == {"vector", "keyword", "graph"}
    assert isinstance(raised.value.causes["graph"], StoreUnavailableError)
    assert threading.active_count() < 50
