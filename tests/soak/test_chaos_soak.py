"""The whole table of faults, over real parts, from threads and from an event loop: no row without its answers.

Prints the table as JSON lines, from which the one in docs/reliability.md is made; with HYBRIDMEM_TABLE a file is
written, too.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from chaos import (
    Fault,
    Foreign,
    Ingest,
    LoadKind,
    Stand,
    Trial,
    nothing_left,
    passages,
    quietest,
    trial,
    wrong_password,
)
from llama_index.core.schema import TextNode
from servers.neo4j.server import Neo4jServer
from servers.proxy import Mode, TcpProxy

from llama_index_hybridmem.errors import StoreError
from llama_index_hybridmem.graph.stores.neo4j.store import Neo4jGraphStore
from llama_index_hybridmem.graph.stores.sqlite import SqliteGraphStore

pytestmark = pytest.mark.skipif(
    os.environ.get("HYBRIDMEM_SOAK") != "1",
    reason="a quarter of an hour: run by make soak; test_faults has one fault of each class",
)

DEADLINE_S = 2.0
MARGIN_S = 0.3
"""Beside the tenth of the deadline; in the quietest of three trials, for other programs can only slow us."""
BACK_WITHIN_S = 60.0
LOST = "(BranchTimeoutError|StoreUnavailableError|BreakerOpenError): "
KINDS: tuple[LoadKind, ...] = ("threads", "tasks")


@dataclass
class Scene:
    """What is asked, and what it stands on."""

    server: Neo4jServer
    proxy: TcpProxy
    stand: Stand
    foreign: Foreign
    patch: pytest.MonkeyPatch

    def mode(self, mode: Mode) -> Callable[[], None]:
        """Something that switches the proxy."""
        return lambda: setattr(self.proxy, "mode", mode)

    def fail(self, call: Callable[..., Any]) -> None:
        """Let the vector store's engine do that instead."""
        self.patch.setattr(self.stand.vectors._shard, "call", call)


def graph_at(server: Neo4jServer, port: int) -> Neo4jGraphStore:
    """Our store behind a port."""
    assert server.auth is not None
    user, password = server.auth
    uri = f"bolt://127.0.0.1:{port}"
    return Neo4jGraphStore(uri, username=user, password=password, database=server.database, timeout_s=15.0)


@pytest.fixture(scope="module", name="scene")
def _scene(fragile_neo4j: Neo4jServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    foreign = Foreign(TextNode(id_="f", text="A foreign text."))
    with TcpProxy(fragile_neo4j.port, delay_s=3.0) as proxy, nothing_left(), pytest.MonkeyPatch.context() as patch:
        stand = Stand(
            tmp_path_factory.mktemp("vectors"),
            graph_at(fragile_neo4j, proxy.port),
            deadline_s=DEADLINE_S,
            foreign={"foreign": foreign},
        )
        yield Scene(fragile_neo4j, proxy, stand, foreign, patch)
        stand.close()
    assert fragile_neo4j.query("SHOW TRANSACTIONS YIELD currentQuery RETURN count(*)") == [[1]], "but this one"


def boom(*_: object) -> None:
    """What a broken engine does."""
    raise StoreError("input/output error")


def crawl(*_: object) -> None:
    """What a very slow one does, and then it fails."""
    time.sleep(0.5)
    raise StoreError("input/output error, after half a second")


def frozen(scene: Scene) -> Fault:
    """SIGSTOP."""
    return Fault("Neo4j frozen (SIGSTOP)", scene.server.freeze, scene.server.thaw, f"^graph: {LOST}")


def killed(scene: Scene) -> Fault:
    """Kill -9, start again."""
    return Fault("Neo4j killed (-9) and started again", scene.server.kill, scene.server.start, f"^graph: {LOST}")


def network(name: str, mode: Mode) -> Callable[[Scene], Fault]:
    """A fault of the network."""
    return lambda scene: Fault(name, scene.mode(mode), scene.mode("pass"), f"^graph: {LOST}")


def password(scene: Scene) -> Fault:
    """The server's password changes, and changes back."""
    return wrong_password(scene.server, scene.proxy, scene.stand)


def schema(scene: Scene) -> Fault:
    """Indexes and constraints dropped."""

    def drop() -> None:
        for (name,) in scene.server.query("SHOW CONSTRAINTS YIELD name"):
            scene.server.query(f"DROP CONSTRAINT {name}")
        for (name,) in scene.server.query("SHOW INDEXES YIELD name, type WHERE type <> 'LOOKUP' RETURN name"):
            scene.server.query(f"DROP INDEX {name}")

    def rewrite() -> None:
        scene.stand.graph.replace(["doc-0"], passages(0))

    return Fault("indexes and constraints dropped", drop, rewrite, f"^graph: {LOST}", may=True)


def emptied(scene: Scene) -> Fault:
    """Nothing in the database any more."""

    def refill() -> None:
        scene.stand.graph.upsert([one for number in range(scene.stand.documents) for one in passages(number)])

    gone = lambda: scene.server.query("MATCH (n) DETACH DELETE n")  # noqa: E731
    return Fault("database emptied", gone, refill, f"^graph: {LOST}", may=True)


def hanging(scene: Scene) -> Fault:
    """A store of another maker, sync, without deadlines."""
    return Fault("foreign sync store hangs", scene.foreign.gate.clear, scene.foreign.gate.set, f"^foreign: {LOST}")


def failing(scene: Scene) -> Fault:
    """Qdrant Edge raises."""
    return Fault("Qdrant Edge fails", lambda: scene.fail(boom), scene.patch.undo, "^vector: StoreError: input")


def slow_vectors(scene: Scene) -> Fault:
    """Qdrant Edge is slow and then raises."""
    return Fault("Qdrant Edge slow, then fails", lambda: scene.fail(crawl), scene.patch.undo, "^vector: ")


def clock(scene: Scene) -> Fault:
    """The wall clock jumps by days."""
    now, days = time.time, cycle([-86_400.0, 86_400.0])
    jump = lambda: scene.patch.setattr(time, "time", lambda: now() + next(days))  # noqa: E731
    return Fault("wall clock jumps by a day, both ways", jump, scene.patch.undo, None)


def all_gone(scene: Scene) -> Fault:
    """No store left."""

    def lose() -> None:
        scene.fail(boom)
        scene.foreign.gate.clear()
        scene.proxy.mode = "refuse"

    def mend() -> None:
        scene.patch.undo()
        scene.foreign.gate.set()
        scene.proxy.mode = "pass"

    return Fault(
        "all stores gone", lose, mend, "(?s)(?=.*vector: )(?=.*keyword: )(?=.*graph: )(?=.*foreign: )", everything=True
    )


FAULTS: dict[str, Callable[[Scene], Fault]] = {
    "frozen": frozen,
    "killed": killed,
    "refused": network("connections refused", "refuse"),
    "cut": network("connections cut half-way", "drop"),
    "slow": network("every packet 3 s late", "slow"),
    "silent": network("connections accepted, never answered", "silent"),
    "password": password,
    "schema": schema,
    "emptied": emptied,
    "hanging": hanging,
    "failing": failing,
    "crawling": slow_vectors,
    "clock": clock,
    "everything": all_gone,
}


@pytest.fixture(scope="module", name="table")
def _table() -> Iterator[list[Trial]]:
    """Collects the rows; written when all are there."""
    rows: list[Trial] = []
    yield rows
    if place := os.environ.get("HYBRIDMEM_TABLE"):
        Path(place).write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAULTS)
def test_every_question_is_answered_in_time_and_all_is_well_after(
    scene: Scene, table: list[Trial], name: str, kind: LoadKind, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row of the table: answered, marked, within the deadline and a tenth, back by itself."""
    for _ in range(3):
        row = trial(scene.stand, FAULTS[name](scene), kind, hold_s=3.0, asked=40)
        if row.within(MARGIN_S):
            break
    table.append(row)
    with capsys.disabled():
        sys.stdout.write(f"\n{json.dumps(asdict(row), ensure_ascii=False)}\n")
    assert (row.unanswered, row.unmarked) == (0, 0)
    assert row.within(MARGIN_S)
    assert row.back_s <= BACK_WITHIN_S


@pytest.mark.parametrize("round_", range(3))
def test_no_acknowledged_write_is_lost_in_neo4j(scene: Scene, round_: int) -> None:
    """Kill -9 at any moment of a row of writes: each document is there wholly or not at all, acknowledged ones are."""
    with Ingest(graph_at(scene.server, scene.server.port)) as ingest:
        ingest.wait_for(10 + 7 * round_)
        time.sleep(0.05 * round_)
        scene.server.restart()
        ingest.wait_for(5)
    assert ingest.failed, "the kill hit no write"
    assert ingest.judged() == ([], [])
    ingest.again()
    assert ingest.judged() == ([], [])
    ingest.close()


def test_no_acknowledged_write_is_lost_through_cut_connections(scene: Scene) -> None:
    """Cut in the midst of answers, also of a commit's: wholly there or not at all, and again is harmless."""
    with TcpProxy(scene.server.port) as proxy:
        with Ingest(graph_at(scene.server, proxy.port)) as ingest:
            for after in (20, 60, 200, 700):
                ingest.wait_for(3)
                proxy.drop_after = after
                proxy.mode = "drop"
                time.sleep(1.0)
                proxy.mode = "pass"
            ingest.wait_for(3)
        assert ingest.failed, "no write was cut"
        assert ingest.judged() == ([], [])
        ingest.again()
        assert ingest.judged() == ([], [])
        ingest.close()


def test_the_embedded_stores_are_asked_through_all_of_it(tmp_path: Path) -> None:
    """With SQLite in Neo4j's place: what is left when vectors fail, from threads and from a loop."""
    with nothing_left(), pytest.MonkeyPatch.context() as patch:
        stand = Stand(tmp_path / "v", SqliteGraphStore(tmp_path / "g.sqlite"), deadline_s=DEADLINE_S)
        for kind in KINDS:
            fail = lambda: patch.setattr(stand.vectors._shard, "call", boom)  # noqa: E731
            row = quietest(stand, Fault("vectors", fail, patch.undo, "^vector: "), kind, margin_s=MARGIN_S)
            assert (row.unanswered, row.unmarked) == (0, 0)
            assert row.within(MARGIN_S)
        stand.close()
