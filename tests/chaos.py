"""Queries under load while a store is broken and mended again; says how they were answered, and what was left behind.

Shared by `test_faults` (one fault of each class) and `soak/test_chaos_soak` (the whole table).
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fakes import WordsEmbedding
from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeRelationship, NodeWithScore, QueryBundle, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from servers.neo4j.server import Neo4jServer
from servers.proxy import TcpProxy

from llama_index_hybridmem.errors import AllStoresFailedError, StoreError
from llama_index_hybridmem.graph.nodes import to_passage
from llama_index_hybridmem.graph.retriever import EntityGraphRetriever
from llama_index_hybridmem.graph.stores.base import GraphStore, Passage
from llama_index_hybridmem.query_engine import HybridRouterQueryEngine
from llama_index_hybridmem.retriever import HybridRetriever, Store
from llama_index_hybridmem.vector.store import QdrantEdgeVectorStore

if TYPE_CHECKING:
    from neo4j import Session

THREADS, TASKS = 4, 8
PAUSE_S = 0.1
"""Between two questions of one thread or task."""
CALM = 5
"""Undegraded answers in a row that say that all is well."""
WELL_WITHIN_S = 120
"""How long a store that is back may stay unnoticed before a trial gives up; the tests hold it to less."""
OURS = "hybridmem"
"""How the names of all our threads begin."""

PLACES = ("Umeå", "Tromsø", "Hobart", "Ushuaia", "Nuuk", "Darwin", "Turku", "Galway")
MAKERS = ("Northwind Devices", "Halden Radio", "Pixel Forge", "Corvid Works", "Lindqvist Optics", "Tamsin Mills")
CHUNKS = 3
"""Nodes per document."""

LoadKind = Literal["threads", "tasks"]


def document(number: int) -> list[TextNode]:
    """One document of `CHUNKS` nodes, which share names with each other and with other documents."""
    maker, place = MAKERS[number % len(MAKERS)], PLACES[number % len(PLACES)]
    product = f"Zephyr {number}"
    texts = (
        f"The {product} is a handheld console. Its maker was {maker}.",
        f"{maker} began in {place} and sold the {product} until {1900 + number % 120}.",
        f"In {place} a museum shows the {product} beside other machines by {maker}.",
    )
    owner = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc-{number}")}
    return [
        TextNode(id_=f"{number}-{part}", text=text, metadata={"title": product}, relationships=owner)
        for part, text in enumerate(texts)
    ]


def passages(number: int) -> list[Passage]:
    """The same document as the graph sees it."""
    return [to_passage(node) for node in document(number)]


def question(number: int) -> str:
    """One that the documents answer."""
    return f"Where did the maker of the Zephyr {number} begin?"


# -- what is asked ----------------------------------------------------------------------------------------------------


class Stand:
    """Vector, keyword and graph memory over one corpus, perhaps a foreign store beside them, and the engine over all.

    Args:
        graph: the graph store; it is filled here unless it is said to be full already.
        deadline_s: of each store.
        retry_s: of the breakers.
        foreign: retrievers of other makers, by name.
        documents: how many.
        filled: whether the graph holds them already.
    """

    def __init__(
        self,
        folder: Path | None,
        graph: GraphStore,
        *,
        deadline_s: float = 1.0,
        retry_s: float = 0.5,
        foreign: dict[str, BaseRetriever] | None = None,
        documents: int = 40,
        filled: bool = False,
    ) -> None:
        self.deadline_s, self.graph, self.documents = deadline_s, graph, documents
        model = WordsEmbedding()
        nodes = [node for number in range(documents) for node in document(number)]
        self.vectors = QdrantEdgeVectorStore(folder)
        self.vectors.add([node.model_copy(update={"embedding": model.get_text_embedding(node.text)}) for node in nodes])
        if not filled:
            graph.upsert([to_passage(node) for node in nodes])
        index = VectorStoreIndex.from_vector_store(self.vectors, embed_model=model)
        retrievers: dict[str, BaseRetriever] = {
            "vector": index.as_retriever(similarity_top_k=10),
            "keyword": index.as_retriever(
                similarity_top_k=10, sparse_top_k=10, vector_store_query_mode=VectorStoreQueryMode.SPARSE
            ),
            "graph": EntityGraphRetriever(graph, vector_store=self.vectors, embed_model=model, budget_s=deadline_s),
            **(foreign or {}),
        }
        stores = [Store(name, retriever, deadline_s=deadline_s) for name, retriever in retrievers.items()]
        self.engine = HybridRouterQueryEngine(
            HybridRetriever(stores, retry_s=retry_s), response_mode="no_text", route="hybrid"
        )

    def close(self) -> None:
        """Close both stores."""
        self.vectors.close()
        self.graph.close()


class Foreign(BaseRetriever):
    """A sync store of another maker: it knows no deadline, and while its gate is shut it hangs."""

    def __init__(self, *nodes: TextNode) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.nodes = nodes

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        self.gate.wait(600)
        return [NodeWithScore(node=node, score=1.0) for node in self.nodes]


# -- asking -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """One question and what became of it.

    Attributes:
        began: by the monotonic clock.
        ended: by the same.
        degraded: the answer's reasons.
        sources: ids of its nodes.
        statuses: store to status.
        error: None when there was an answer.
    """

    began: float
    ended: float
    degraded: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    statuses: dict[str, str] = field(default_factory=dict)
    error: BaseException | None = None

    @property
    def latency_s(self) -> float:
        """Seconds the answer took."""
        return self.ended - self.began

    @property
    def well(self) -> bool:
        """Answered, by all stores."""
        return self.error is None and not self.degraded


class Load:
    """Asks an engine from several threads, or tasks of one event loop, for as long as the block lasts."""

    def __init__(self, stand: Stand, kind: LoadKind) -> None:
        self._stand, self._kind = stand, kind
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._asked: list[Asked] = []
        count, target = (THREADS, self._ask_on) if kind == "threads" else (1, self._ask_on_a_loop)
        self._threads = [threading.Thread(target=target, args=(n,), name=f"chaos-{n}") for n in range(count)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a query never ended"

    def asked(self, since: float = 0.0, until: float = float("inf")) -> list[Asked]:
        """What was begun and has ended between two times, in the order of its beginning."""
        with self._lock:
            return sorted((a for a in self._asked if a.began >= since and a.ended <= until), key=lambda a: a.began)

    def wait(self, condition: Callable[[], bool], limit_s: float = WELL_WITHIN_S) -> None:
        """Let it run until something is so."""
        end = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end, f"not within {limit_s} s; last: {self.asked()[-3:]}"
            time.sleep(0.01)

    def well_since(self, since: float) -> float | None:
        """When the first of `CALM` undegraded answers in a row began; None while there are not so many."""
        row: list[Asked] = []
        for one in self.asked(since):
            row = [*row, one] if one.well else []
            if len(row) == CALM:
                return row[0].began
        return None

    def _ask_on(self, seed: int) -> None:
        number = seed
        while not self._stop.is_set():
            number += THREADS
            began = time.monotonic()
            try:
                self._note(began, self._stand.engine.query(question(number % self._stand.documents)), None)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                self._note(began, None, error)
            time.sleep(PAUSE_S)

    def _ask_on_a_loop(self, _: int) -> None:
        async def ask_on(number: int) -> None:
            while not self._stop.is_set():
                number += TASKS
                began = time.monotonic()
                try:
                    self._note(began, await self._stand.engine.aquery(question(number % self._stand.documents)), None)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                    self._note(began, None, error)
                await asyncio.sleep(PAUSE_S)

        async def all_of_them() -> None:
            await asyncio.gather(*map(ask_on, range(TASKS)))

        asyncio.run(all_of_them())

    def _note(self, began: float, response: Any, error: BaseException | None) -> None:
        ended = time.monotonic()
        summary = {} if response is None else response.metadata["hybridmem"]
        asked = Asked(
            began,
            ended,
            tuple(summary.get("degraded", ())),
            () if response is None else tuple(each.node.node_id for each in response.source_nodes),
            {name: entry["status"] for name, entry in summary.get("stores", {}).items()},
            error,
        )
        with self._lock:
            self._asked.append(asked)


# -- breaking ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """One way to break a store.

    Attributes:
        name: for the table.
        inject: breaks it; returns when it is broken.
        lift: mends it; returns when the store itself is back.
        reason: what every answer meanwhile must say (a regular expression); None: the answers are whole meanwhile.
        everything: whether no store is left, so that every query ends in the one error.
        may: whether answers may be whole meanwhile, too.
    """

    name: str
    inject: Callable[[], object]
    lift: Callable[[], object]
    reason: str | None
    everything: bool = False
    may: bool = False


@dataclass(frozen=True)
class Trial:
    """What one fault did to the queries, a row of the table.

    Attributes:
        fault: its name.
        load: "threads" or "tasks".
        deadline_s: of each store.
        asked: queries that began and ended while the fault was there.
        unanswered: those of them without an answer (where every store is gone: without the one error).
        unmarked: those whose answer does not give the reason.
        worst_s: the longest that began at any time of the trial, before, amid or after the fault.
        median_s: of those amid the fault.
        back_s: from the store's return to the first of many whole answers.
        lost_after: answers that were not whole after that.
        reasons: the different reasons given.
    """

    fault: str
    load: str
    deadline_s: float
    asked: int
    unanswered: int
    unmarked: int
    worst_s: float
    median_s: float
    back_s: float
    lost_after: int
    reasons: tuple[str, ...]

    def within(self, margin_s: float) -> bool:
        """Whether every query took the deadline and a tenth at most, and so much for a busy machine."""
        return self.worst_s <= self.deadline_s * 1.1 + margin_s


def wrong_password(server: Neo4jServer, proxy: TcpProxy, stand: Stand) -> Fault:
    """The server's password changes, and changes back; the breaker that opens between the two must close by itself."""
    from neo4j import GraphDatabase

    assert server.auth is not None
    user, password = server.auth
    opened = ExitStack()  # before the change: the server locks a user out for a while after three wrong passwords

    def change(admin: Session, new: str) -> None:
        admin.run("ALTER USER $user SET PASSWORD $new CHANGE NOT REQUIRED", user=user, new=new).consume()

    def wait_for(state: str) -> None:
        end = time.monotonic() + 30
        while (now := stand.engine.health()["graph"]["state"]) != state:
            assert time.monotonic() < end, f"the breaker is {now}, not {state}"
            time.sleep(0.01)

    def wrong() -> None:
        driver = opened.enter_context(GraphDatabase.driver(server.uri, auth=server.auth))
        admin = opened.enter_context(driver.session(database="system"))
        change(admin, "another password")
        opened.callback(change, admin, password)
        proxy.mode = "refuse"  # connections that are open stay logged in
        wait_for("open")
        proxy.mode = "pass"
        wait_for("closed")

    return Fault("wrong password", wrong, opened.close, "^graph: StoreAccessError: ")


def trial(stand: Stand, fault: Fault, kind: LoadKind, *, hold_s: float = 1.0, asked: int = 8) -> Trial:
    """Break a store under load, mend it, and wait until all is well.

    Args:
        stand: what is asked.
        fault: what is done.
        kind: how it is asked.
        hold_s: seconds it stays broken, at least.
        asked: queries that it stays broken for, at least.
    """
    with Load(stand, kind) as load:
        load.wait(lambda: load.well_since(0) is not None)
        try:
            fault.inject()
            broken = time.monotonic()
            load.wait(lambda: len(load.asked(broken)) >= asked and time.monotonic() > broken + hold_s)
            mending = time.monotonic()
        finally:
            fault.lift()
        mended = time.monotonic()
        load.wait(lambda: load.well_since(mended) is not None)
        well = load.well_since(mended)
        assert well is not None
        load.wait(lambda: len(load.asked(well)) >= 2 * CALM)
    amid = load.asked(broken, mending)
    latencies = sorted(one.latency_s for one in amid)
    return Trial(
        fault.name,
        kind,
        stand.deadline_s,
        len(amid),
        sum(not _answered(one, fault) for one in amid) + sum(one.error is not None for one in load.asked(well)),
        sum(not _marked(one, fault) for one in amid),
        max(one.latency_s for one in load.asked()),
        latencies[len(latencies) // 2],
        well - mended,
        sum(not one.well for one in load.asked(well)),
        tuple(sorted({_shape(reason) for one in amid for reason in one.degraded})),
    )


def _answered(one: Asked, fault: Fault) -> bool:
    return isinstance(one.error, AllStoresFailedError) if fault.everything else one.error is None


def _marked(one: Asked, fault: Fault) -> bool:
    if fault.everything:
        return fault.reason is None or bool(re.search(fault.reason, str(one.error)))
    if fault.reason is None or (fault.may and not one.degraded):
        return not one.degraded
    return any(re.search(fault.reason, reason) for reason in one.degraded)


def _shape(reason: str) -> str:
    """A reason without its numbers, so that alike ones are one."""
    return re.sub(r"\d+(\.\d+)?", "N", reason)


# -- what is left behind ----------------------------------------------------------------------------------------------


def our_threads() -> list[str]:
    """The names of our threads that run."""
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith(OURS))


def open_files() -> list[str]:
    """What this process has open: files, sockets, pipes."""
    found = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            found.append(re.sub(r"\[\d+\]", "", os.readlink(f"/proc/self/fd/{entry}")))
        except FileNotFoundError:  # the folder's own, closed by now
            continue
    return sorted(found)


@contextmanager
def nothing_left(limit_s: float = 10.0) -> Iterator[None]:
    """Whoever is inside leaves no thread of ours and no file or connection behind."""
    gc.collect()
    threads, files = our_threads(), open_files()
    yield
    end = time.monotonic() + limit_s
    while our_threads() != threads or len(open_files()) > len(files):
        gc.collect()
        assert time.monotonic() < end, f"left behind: {_more(our_threads(), threads)} {_more(open_files(), files)}"
        time.sleep(0.05)


def _more(now: Sequence[str], before: Sequence[str]) -> list[str]:
    left = list(now)
    for name in before:
        if name in left:
            left.remove(name)
    return left


# -- writing meanwhile ------------------------------------------------------------------------------------------------


class Ingest:
    """Replaces documents in a graph store, one after the other, for as long as the block lasts; closes the store.

    Attributes:
        acknowledged: documents whose `replace` returned.
        failed: those whose `replace` raised a StoreError.
    """

    FIRST = 10_000

    def __init__(self, graph: GraphStore) -> None:
        self.acknowledged: list[int] = []
        self.failed: list[int] = []
        self._graph = graph
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, name="chaos-ingest")

    def __enter__(self) -> Ingest:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(120)
        assert not self._thread.is_alive(), "a write never ended"

    def wait_for(self, more: int) -> None:
        """Until so many more documents are acknowledged."""
        wanted, end = len(self.acknowledged) + more, time.monotonic() + 120
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < end, "nothing is written any more"
            time.sleep(0.005)

    def judged(self) -> tuple[list[int], list[int]]:
        """Which documents are there in part, and which acknowledged ones are not there."""
        there = {number: self._graph.document_node_ids(f"doc-{number}") for number in self._tried()}
        torn = [number for number, ids in there.items() if len(ids) not in (0, CHUNKS)]
        return torn, [number for number in self.acknowledged if len(there[number]) != CHUNKS]

    def again(self) -> None:
        """Write what failed and some of the rest once more: what was there stays as it is, what was not comes."""
        for number in (*self.failed, *self.acknowledged[-3:]):
            self._graph.replace([f"doc-{number}"], passages(number))
        self.acknowledged = self._tried()

    def close(self) -> None:
        """Close the store."""
        self._graph.close()

    def _tried(self) -> list[int]:
        return sorted({*self.acknowledged, *self.failed})

    def _write(self) -> None:
        number = self.FIRST
        while not self._stop.is_set():
            number += 1
            try:
                self._graph.replace([f"doc-{number}"], passages(number))
            except StoreError:
                self.failed.append(number)
                time.sleep(0.1)
            else:
                self.acknowledged.append(number)
            time.sleep(PAUSE_S)


# -- where it is tried ------------------------------------------------------------------------------------------------


def quietest(stand: Stand, fault: Fault, kind: LoadKind, *, tries: int = 3, margin_s: float = 1.0, **how: Any) -> Trial:
    """The first of a few trials in which the machine let us answer in time, else the last: others can only slow us."""
    for _ in range(tries):
        tried = trial(stand, fault, kind, **how)
        if tried.within(margin_s):
            break
    return tried


def tmpfs_command(folder: Path, megabytes: int) -> list[str] | None:
    """How to run a program that finds a small file system of its own at a folder; None where none may be mounted.

    It is mounted in a namespace of the program's own, so that nothing is left of it, however the program ends.
    """
    mount = f'mount -t tmpfs -o size={megabytes}m tmpfs "$0" && exec "$@"'
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, str(folder)]
    try:
        tried = subprocess.run([*command, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return command if tried.returncode == 0 else None
