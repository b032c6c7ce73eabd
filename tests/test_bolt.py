"""Tests of calls to a Neo4j server: each ends in time, in our terms, and leaves nothing behind."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import neo4j as driver_package
import pytest
from neo4j import exceptions
from servers.neo4j.server import Neo4jAddress, Neo4jServer
from servers.ports import free_port
from servers.proxy import Mode, TcpProxy

from llama_index_hybridmem.deadlines import within
from llama_index_hybridmem.errors import (
    ConfigurationError,
    StoreAccessError,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
)
from llama_index_hybridmem.graph.stores.bolt import Bolt

SPARE_S = 4.0
"""What a call may take beyond its limit before a test fails: a machine may be busy, a driver's own limits are 30 s."""
LONG = "UNWIND range(1, 100000) AS i UNWIND range(1, 100000) AS j WITH i, j WHERE i * j < 0 RETURN count(*) AS endless"


_made: weakref.WeakSet[Bolt] = weakref.WeakSet()


def bolt_to(server: Neo4jAddress, **changes: Any) -> Bolt:
    """A connection to a server of tests, closed at the end of the test."""
    user, password = server.auth or (None, None)
    settings = {"uri": server.uri, "username": user, "password": password, "database": server.database, "timeout_s": 30}
    bolt = Bolt(**{**settings, **changes})
    _made.add(bolt)
    return bolt


def threads() -> int:
    """How many threads of ours there are."""
    return sum(thread.name == "hybridmem-bolt" for thread in threading.enumerate())


def soon(true: Callable[[], bool], limit_s: float = 15) -> bool:
    """Whether something comes true."""
    end = time.monotonic() + limit_s
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


@contextmanager
def takes_at_most(seconds: float) -> Iterator[None]:
    """Fails when it took longer than that and what a busy machine takes."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds + SPARE_S


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    """No test leaves a thread."""
    yield
    for bolt in list(_made):
        bolt.close()
    gc.collect()
    assert soon(lambda: threads() == 0)


@pytest.fixture
def bolt(neo4j_server: Neo4jAddress) -> Iterator[Bolt]:
    """A connection to the server that stays up; nodes labelled BoltTest are gone afterwards."""
    one = bolt_to(neo4j_server)
    yield one
    if not one._closed:
        with one.writing() as transaction:
            transaction.run("MATCH (n:BoltTest) DETACH DELETE n")


@pytest.fixture
def behind_proxy(neo4j_server: Neo4jAddress) -> Iterator[tuple[Bolt, TcpProxy]]:
    """A connection through a proxy that breaks it."""
    host, port = neo4j_server.uri.removeprefix("bolt://").split(":")
    assert host in ("127.0.0.1", "localhost"), "the proxy knows loopback"
    with TcpProxy(int(port)) as proxy:
        one = bolt_to(neo4j_server, uri=f"bolt://127.0.0.1:{proxy.port}", timeout_s=20.0)
        yield one, proxy
        proxy.mode = "pass"
        one.close()


def transact(bolt: Bolt, *steps: str | Callable[[], object]) -> None:
    """Runs statements, and whatever else, in one transaction."""
    with bolt.writing() as transaction:
        for step in steps:
            if isinstance(step, str):
                transaction.run(step)
            else:
                step()


def count(bolt: Bolt) -> int:
    """How many nodes of the test there are."""
    return int(bolt.read("MATCH (n:BoltTest) RETURN count(n)")[0][0])


# -- what it does -----------------------------------------------------------------------------------------------------


def test_rows_come_in_column_order_and_nothing_is_asked_before_the_first_call(bolt: Bolt) -> None:
    """Values are Python's own; parameters are parameters, whatever they hold."""
    assert threads() == 0
    odd = "'}) RETURN 1 // \u2028 \0 `"
    assert bolt.read("UNWIND $xs AS x RETURN x, x + 1, $odd", {"xs": [1, 2], "odd": odd}) == [[1, 2, odd], [2, 3, odd]]
    assert bolt.read("RETURN 1 LIMIT 0") == []
    assert threads() == 1


def test_a_transaction_is_committed_at_its_end(bolt: Bolt) -> None:
    """Its own statements see what it wrote, others see it afterwards."""
    with bolt.writing() as transaction:
        transaction.run("CREATE (:BoltTest {x: $x})", {"x": 1})
        assert transaction.run("MATCH (n:BoltTest) RETURN n.x") == [[1]]
        assert count(bolt) == 0
    assert count(bolt) == 1


class Interrupt(BaseException):
    """As KeyboardInterrupt, which would end the test run."""


@pytest.mark.parametrize("error", [ValueError, Interrupt, StoreError])
def test_whatever_the_caller_raises_takes_the_transaction_back(bolt: Bolt, error: type[BaseException]) -> None:
    """The caller's own error comes out; nothing was written, nothing is locked."""

    def fail() -> None:
        raise error

    with pytest.raises(error):
        transact(bolt, "CREATE (:BoltTest)", fail)
    assert count(bolt) == 0
    transact(bolt, "CREATE (:BoltTest)")
    assert count(bolt) == 1


def test_a_statement_that_is_refused_takes_the_transaction_back(bolt: Bolt) -> None:
    """What the server says stays in the message."""
    with pytest.raises(StoreError, match=r"SyntaxError.*Invalid input 'NONSENSE'"):
        transact(bolt, "CREATE (:BoltTest)", "NONSENSE")
    assert count(bolt) == 0
    with pytest.raises(StoreError, match="lone surrogate"):
        bolt.read("RETURN $x", {"x": "\ud800"})
    with pytest.raises(StoreError, match="Expected parameter"):
        bolt.read("RETURN $x")
    assert bolt.read("RETURN 1") == [[1]]


@pytest.mark.parametrize("cypher", ["CREATE (:BoltTest)", "CREATE INDEX bolt_test FOR (n:BoltTest) ON (n.x)"])
def test_a_read_writes_nothing(bolt: Bolt, cypher: str) -> None:
    """The session is a READ session, and the server refuses: also where the user may write."""
    with pytest.raises(StoreError, match="(?i)read access mode|in read.*mode") as caught:
        bolt.read(cypher)
    assert not isinstance(caught.value, StoreUnavailableError)
    assert count(bolt) == 0


def test_what_is_asked_for_is_explained_first_and_cut_at_its_rows(bolt: Bolt) -> None:
    """A statement that writes is told and not run; the server is not made to send what nobody wants."""
    assert bolt.ask("CREATE (n:BoltTest) RETURN n", rows=5).does == "rw"
    asked = bolt.ask("UNWIND range(1, $n) AS i RETURN i, i * 2 AS twice", {"n": 10**9}, rows=3)
    assert (asked.does, asked.columns, asked.rows) == ("r", ("i", "twice"), [[1, 2], [2, 4], [3, 6]])
    assert count(bolt) == 0


def test_a_routing_address_works_on_one_server(neo4j_server: Neo4jAddress) -> None:
    """`neo4j://` asks the server for its members: one."""
    bolt = bolt_to(neo4j_server, uri=neo4j_server.uri.replace("bolt://", "neo4j://"))
    transact(bolt, "CREATE (n:BoltTest) DELETE n")
    assert bolt.read("RETURN 1") == [[1]]


def test_the_users_home_database_is_taken_whatever_its_name(fragile_neo4j: Neo4jServer) -> None:
    """Without a database argument; here it is called "memory" and there is no "neo4j"."""
    bolt = bolt_to(fragile_neo4j, database=None)
    assert bolt.read("CALL db.info() YIELD name") == [["memory"]]
    with bolt.writing() as transaction:
        assert transaction.run("CALL db.info() YIELD name") == [["memory"]]


def test_many_threads_share_a_small_pool(neo4j_server: Neo4jAddress) -> None:
    """Fifty threads read and write over four connections: each gets its own rows."""
    bolt = bolt_to(neo4j_server, max_connection_pool_size=4, timeout_s=60)
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            for turn in range(3):
                if bolt.read("RETURN $x", {"x": [number, turn]}) != [[[number, turn]]]:
                    wrong.append(number)
            with bolt.writing() as transaction:
                wrong.extend([] if transaction.run("RETURN $x", {"x": number}) == [[number]] else [number])
        except Exception as error:  # noqa: BLE001  # a thread's failure must reach the test
            wrong.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(50)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []
    assert threads() == 1


# -- limits -----------------------------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_told_at_once() -> None:
    """Nothing is retried until a timeout; construction asks nobody."""
    port = free_port()
    with takes_at_most(1):
        bolt = bolt_to(Neo4jAddress(f"bolt://127.0.0.1:{port}", None, "neo4j"))
        with pytest.raises(StoreUnavailableError, match=rf"(?s)Neo4j at bolt://127\.0\.0\.1:{port}.*is it running"):
            bolt.read("RETURN 1")
        with pytest.raises(StoreUnavailableError, match="(?s)is it running"):
            transact(bolt)


def test_a_routing_address_of_nobody_is_told_at_once() -> None:
    """The driver says that it has no routing table."""
    with takes_at_most(1):
        bolt = bolt_to(Neo4jAddress(f"neo4j://127.0.0.1:{free_port()}", None, "neo4j"))
        with pytest.raises(StoreUnavailableError, match="(?s)is it running"):
            bolt.read("RETURN 1")
        bolt.close()


def test_a_frozen_server_costs_the_limit_and_no_more(fragile_neo4j: Neo4jServer) -> None:
    """On a connection that is open and on a new one, reading, writing and in a transaction; after the thaw it works."""
    bolt, fresh = bolt_to(fragile_neo4j), bolt_to(fragile_neo4j, timeout_s=0.5, write_timeout_s=0.5)
    bolt.read("RETURN 1")
    fragile_neo4j.freeze()
    try:
        for one in (bolt, fresh):
            with takes_at_most(0.5), pytest.raises(StoreUnavailableError, match=r"did not answer within 0\.5 s"):
                one.read("RETURN 1", timeout_s=0.5)
            with takes_at_most(0.2), within(0.2), pytest.raises(StoreUnavailableError, match="did not answer"):
                one.read("RETURN 1")
            with takes_at_most(0.2), within(0.2), pytest.raises(StoreUnavailableError):
                transact(one)
        with takes_at_most(0.5), pytest.raises(StoreUnavailableError, match=r"within 0\.5 s"):
            transact(fresh)
        with within(0), takes_at_most(0), pytest.raises(StoreUnavailableError):
            bolt.read("RETURN 1")
        with takes_at_most(2):
            fresh.close()
    finally:
        fragile_neo4j.thaw()
    assert bolt.read("RETURN 1") == [[1]]
    transact(bolt, "RETURN 1")


def test_freezing_in_a_transaction_takes_it_back(fragile_neo4j: Neo4jServer) -> None:
    """The statement ends at its limit, nothing of it is there after the thaw, and no lock stays."""
    bolt = bolt_to(fragile_neo4j, write_timeout_s=20)

    def freeze() -> None:
        fragile_neo4j.freeze()
        stack.callback(fragile_neo4j.thaw)
        stack.enter_context(within(0.3))

    merge = "MERGE (n:BoltTest {x: 1}) SET n.y = 1"
    with ExitStack() as stack, takes_at_most(1.5), pytest.raises(StoreUnavailableError, match="did not answer"):
        transact(bolt, merge, freeze, "CREATE (:BoltTest)")
    assert soon(lambda: count(bolt) == 0)
    transact(bolt, f"{merge} DELETE n")


def test_a_statement_that_takes_too_long_ends_on_the_server_too(bolt: Bolt, neo4j_server: Neo4jAddress) -> None:
    """A limit of the store ends it there; a deadline of a branch lets it go on for as long as the store would."""

    def running() -> int:
        cypher = "SHOW TRANSACTIONS YIELD currentQuery WHERE currentQuery CONTAINS 'endless' RETURN count(*) - 1"
        return int(bolt.read(cypher)[0][0])

    with takes_at_most(0.5), pytest.raises(StoreUnavailableError, match=r"within 0\.5 s"):
        bolt.read(LONG, timeout_s=0.5)
    assert soon(lambda: running() == 0)
    with takes_at_most(0.1), within(0.1), pytest.raises(StoreUnavailableError):
        bolt.read(LONG, timeout_s=2)
    assert running() == 1
    assert soon(lambda: running() == 0)
    short = bolt_to(neo4j_server, write_timeout_s=0.5)
    with takes_at_most(1.5), pytest.raises(StoreUnavailableError):
        transact(short, LONG)
    assert soon(lambda: running() == 0)


def test_transactions_that_are_given_up_leave_their_connections_to_others(neo4j_server: Neo4jAddress) -> None:
    """Deadlines that pass in the middle, again and again, do not use up the pool."""
    bolt = bolt_to(neo4j_server, max_connection_pool_size=2, connection_acquisition_timeout=5)
    for _ in range(4):
        with pytest.raises(StoreUnavailableError), within(0.5):
            transact(bolt, "CREATE (:BoltTest)", lambda: time.sleep(0.5), "CREATE (:BoltTest)")
        with within(0.0), pytest.raises(StoreUnavailableError):
            transact(bolt)
        with within(0.0), pytest.raises(StoreUnavailableError):
            bolt.read("RETURN 1")
    for _ in range(3):
        with bolt.writing() as transaction:
            assert transaction.run("MATCH (n:BoltTest) RETURN count(n)") == [[0]]


# -- lost connections -------------------------------------------------------------------------------------------------


def test_an_idle_connection_that_died_is_replaced(behind_proxy: tuple[Bolt, TcpProxy]) -> None:
    """A restart of the server between two calls is not noticed, in reading and in writing."""
    bolt, proxy = behind_proxy
    for _ in range(2):
        assert bolt.read("RETURN 1") == [[1]]
        proxy.mode = "refuse"
        proxy.mode = "pass"
        with bolt.writing() as transaction:
            assert transaction.run("RETURN 1") == [[1]]
        proxy.mode = "refuse"
        proxy.mode = "pass"


@pytest.mark.parametrize("mode", ["refuse", "drop"])
def test_a_connection_lost_in_a_transaction_takes_it_back(behind_proxy: tuple[Bolt, TcpProxy], mode: Mode) -> None:
    """It is not begun anew behind the caller's back; the next one works."""
    bolt, proxy = behind_proxy
    with takes_at_most(5), pytest.raises(StoreUnavailableError, match="cannot be reached"):
        transact(bolt, "CREATE (:BoltTest)", lambda: setattr(proxy, "mode", mode), "CREATE (:BoltTest)")
    proxy.mode = "pass"
    assert count(bolt) == 0
    transact(bolt, "CREATE (n:BoltTest) DELETE n")


def test_a_connection_lost_in_a_commit_leaves_it_open_whether_it_was_made(
    behind_proxy: tuple[Bolt, TcpProxy],
) -> None:
    """The server got it or not: nobody can know, and the message says so."""
    bolt, proxy = behind_proxy
    with pytest.raises(StoreUnavailableError, match=r"commit.*unknown"):
        transact(bolt, "CREATE (:BoltTest)", lambda: setattr(proxy, "mode", "drop"))
    proxy.mode = "pass"
    assert count(bolt) in (0, 1)
    transact(bolt, "MATCH (n:BoltTest) DELETE n")


def test_an_answer_cut_half_way_is_asked_for_once_more(behind_proxy: tuple[Bolt, TcpProxy]) -> None:
    """While the network cuts each, the caller is told soon; then all is well."""
    bolt, proxy = behind_proxy
    rows = "UNWIND range(1, 20000) AS i RETURN i"
    assert len(bolt.read(rows)) == 20_000
    before = proxy.accepted
    proxy.mode = "drop"
    with takes_at_most(5), pytest.raises(StoreUnavailableError, match="cannot be reached"):
        bolt.read(rows)
    assert proxy.accepted - before <= 2
    proxy.mode = "pass"
    assert len(bolt.read(rows)) == 20_000


@pytest.mark.parametrize("mode", ["silent", "slow"])
def test_a_network_that_crawls_costs_the_limit(behind_proxy: tuple[Bolt, TcpProxy], mode: Mode) -> None:
    """Accepted and never answered, or answered a second late."""
    bolt, proxy = behind_proxy
    proxy.delay_s = 3.0
    proxy.mode = mode
    with takes_at_most(0.3), pytest.raises(StoreUnavailableError, match=r"did not answer within 0\.3 s"):
        bolt.read("RETURN 1", timeout_s=0.3)
    proxy.mode = "pass"
    assert bolt.read("RETURN 1") == [[1]]


# -- access -----------------------------------------------------------------------------------------------------------


def test_a_wrong_password_or_database_is_told_and_the_password_is_not(fragile_neo4j: Neo4jServer) -> None:
    """At once, with what to look at; neither message nor repr holds a secret."""
    wrong = bolt_to(fragile_neo4j, password="s3cret wrong")
    with takes_at_most(2), pytest.raises(StoreAccessError, match="check user, password") as caught:
        wrong.read("RETURN 1")
    with pytest.raises(StoreAccessError) as in_writing:
        transact(wrong)
    for told in (repr(wrong), *map(str, (caught.value, in_writing.value, caught.value.__cause__))):
        assert "s3cret" not in told
    wrong.close()
    elsewhere = bolt_to(fragile_neo4j, database="nowhere")
    with takes_at_most(2), pytest.raises(StoreAccessError, match="nowhere"):
        elsewhere.read("RETURN 1")
    elsewhere.close()
    nobody = bolt_to(fragile_neo4j, username=None)
    with takes_at_most(2), pytest.raises(StoreAccessError, match="check user, password"):
        nobody.read("RETURN 1")


@pytest.mark.parametrize(
    "uri",
    [
        "http://host", "host:7687", "", "bolt://", "bolt://user:s3cret@host", "bolt://:s3cret@host", "bolt://@host",
        "bolt://[::1", "bolt://host:s3cret", "bolt://host:99999",
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_is_refused_without_telling_what_was_in_it(uri: str) -> None:
    """Credentials belong into arguments of their own."""
    with pytest.raises(ConfigurationError, match="expected bolt://host:port or neo4j://") as caught:
        Bolt(uri)
    assert "s3cret" not in str(caught.value)


# -- the end ----------------------------------------------------------------------------------------------------------


def connections(server: Neo4jAddress) -> int:
    """Connections to the server from this process's tests, less the one that asks."""
    cypher = "CALL dbms.listConnections() YIELD userAgent WHERE userAgent CONTAINS 'python' RETURN count(*) - 1"
    return int(server.query(cypher)[0][0])


def test_closing_leaves_no_thread_and_no_connection(fragile_neo4j: Neo4jServer) -> None:
    """Also amid a transaction and amid a read; later calls say that it is closed, whichever they are."""
    assert soon(lambda: connections(fragile_neo4j) == 0)
    bolt = bolt_to(fragile_neo4j)
    outcome: list[BaseException] = []

    def read() -> None:
        try:
            bolt.read(LONG)
        except StoreError as error:
            outcome.append(error)

    reader = threading.Thread(target=read)

    def close() -> None:
        reader.start()
        assert soon(lambda: connections(fragile_neo4j) == 2)
        with takes_at_most(3):
            bolt.close()
            bolt.close()

    with pytest.raises(StoreClosedError):
        transact(bolt, close, "RETURN 1")
    reader.join(SPARE_S)
    assert [type(error) for error in outcome] == [StoreClosedError]
    assert threads() == 0
    assert soon(lambda: connections(fragile_neo4j) == 0)
    calls: list[Callable[[], object]] = [
        lambda: bolt.read("RETURN 1"), lambda: bolt.ask("RETURN 1", rows=1), lambda: bolt.writing().__enter__(),
        lambda: bolt.schema(["RETURN 1"]),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(StoreClosedError, match="is closed"):
            call()


def test_closing_while_threads_begin_leaves_no_thread(bolt: Bolt) -> None:
    """A call that comes at the same moment is refused or answered, and starts nothing anew."""
    odd: list[BaseException] = []

    def read() -> None:
        try:
            while True:
                bolt.read("RETURN 1")
        except StoreClosedError:
            pass
        except BaseException as error:  # noqa: BLE001  # a thread's failure must reach the test
            odd.append(error)

    readers = [threading.Thread(target=read) for _ in range(12)]
    for reader in readers:
        reader.start()
    time.sleep(0.05)
    bolt.close()
    for reader in readers:
        reader.join(SPARE_S)
        assert not reader.is_alive()
    assert odd == []
    assert threads() == 0


def test_one_that_is_forgotten_leaves_no_thread(neo4j_server: Neo4jAddress) -> None:
    """Garbage collection is enough; its warnings would be errors here."""
    bolt = bolt_to(neo4j_server)
    bolt.read("RETURN 1")
    assert threads() == 1
    del bolt
    gc.collect()
    assert soon(lambda: threads() == 0)


def test_a_child_process_has_a_connection_of_its_own(bolt: Bolt) -> None:
    """After a fork both go on: neither takes the other's answers, and the child's end ends nothing here."""
    bolt.read("RETURN 1")
    child = os.fork()
    if not child:
        try:
            right = bolt.read("RETURN $x", {"x": "child"}) == [["child"]]
            bolt.close()
            os._exit(0 if right else 1)
        finally:
            os._exit(2)
    assert [bolt.read("RETURN $x", {"x": i}) for i in range(20)] == [[[i]] for i in range(20)]
    assert os.waitpid(child, 0)[1] == 0
    assert bolt.read("RETURN 1") == [[1]]


# -- errors that this server cannot make: roles, databases, clusters ---------------------------------------------------


class _Failing:
    """A driver, its session and its transaction, all of which raise what they were given."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.closed = False

    def session(self, **_: object) -> _Failing:
        return self

    async def __aenter__(self) -> _Failing:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def begin_transaction(self) -> _Failing:
        return self

    async def run(self, *_: object) -> None:
        raise self.error

    async def close(self) -> None:
        self.closed = True


def of_server(code: str, message: str = "as the server says") -> Exception:
    """What the driver makes of an error of the server."""
    return exceptions.Neo4jError._hydrate_neo4j(code=code, message=message)


def of_driver(kind: type[Exception], message: str) -> Exception:
    """What the driver raises by itself."""
    return kind(message)


ERRORS = [
    (of_server("Neo.ClientError.Security.Forbidden", "Read on (:Person) is denied"), StoreAccessError, "role"),
    (of_server("Neo.ClientError.Security.AuthenticationRateLimit"), StoreAccessError, "password"),
    (of_server("Neo.ClientError.Security.CredentialsExpired"), StoreAccessError, "password"),
    (of_server("Neo.ClientError.Security.AuthorizationExpired"), StoreAccessError, "password"),
    (of_server("Neo.ClientError.Security.TokenExpired"), StoreAccessError, "password"),
    (of_server("Neo.ClientError.Database.DatabaseNotFound", "no database 'x'"), StoreAccessError, "database"),
    (of_server("Neo.TransientError.Database.DatabaseUnavailable"), StoreUnavailableError, "try again"),
    (of_server("Neo.ClientError.Cluster.NotALeader"), StoreUnavailableError, "neo4j://"),
    (of_server("Neo.ClientError.General.ForbiddenOnReadOnlyDatabase"), StoreUnavailableError, "neo4j://"),
    (of_server("Neo.TransientError.Transaction.DeadlockDetected"), StoreUnavailableError, "try again"),
    (of_server("Neo.TransientError.General.MemoryPoolOutOfMemoryError"), StoreUnavailableError, "try again"),
    (of_server("Neo.TransientError.Transaction.LockAcquisitionTimeout"), StoreUnavailableError, "try again"),
    (of_server("Neo.ClientError.Transaction.TransactionTimedOutClientConfiguration"), StoreUnavailableError, "within"),
    (of_server("Neo.ClientError.Transaction.TransactionTimedOut"), StoreUnavailableError, "within"),
    (of_server("Neo.ClientError.Schema.ConstraintValidationFailed"), StoreError, "as the server says"),
    (of_server("Neo.DatabaseError.General.UnknownError", "No space left"), StoreError, "No space left"),
    (
        of_driver(exceptions.ServiceUnavailable, "Unable to retrieve routing information"),
        StoreUnavailableError,
        "routing",
    ),
    (
        of_driver(exceptions.SessionExpired, "Failed to read from defunct connection"),
        StoreUnavailableError,
        "is it running",
    ),
    (of_driver(exceptions.WriteServiceUnavailable, "no leader"), StoreUnavailableError, "is it running"),
    (of_driver(exceptions.ConfigurationError, "no such option"), ConfigurationError, "no such option"),
    (OSError(24, "Too many open files"), StoreUnavailableError, "Too many open files"),
]


@pytest.mark.parametrize(
    ("error", "ours", "advice"), ERRORS, ids=[getattr(error, "code", type(error).__name__) for error, *_ in ERRORS]
)
def test_errors_of_roles_databases_and_clusters_come_in_our_terms(
    error: Exception, ours: type[StoreError], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Injected, since the Community edition has none of these: the class, the server's words and what to do."""
    failing = _Failing(error)
    monkeypatch.setattr(driver_package.AsyncGraphDatabase, "driver", lambda *_, **__: failing)
    place = Neo4jAddress("bolt://db.example:7687", ("reader", "s3cret"), "facts")
    bolt = bolt_to(place)
    for call in (lambda: bolt.read("RETURN 1"), lambda: transact(bolt)):
        with pytest.raises(ours, match=advice) as caught:
            call()
        assert type(caught.value) is ours
        assert caught.value.__cause__ is error
        assert "db.example" in str(caught.value)
        assert "s3cret" not in f"{caught.value}{bolt!r}"
    bolt.close()
    assert failing.closed


# -- for real on an Enterprise server ---------------------------------------------------------------------------------


@pytest.fixture
def enterprise(neo4j_server: Neo4jAddress) -> Neo4jAddress:
    """A server with roles and databases, where NEO4J_URI names one."""
    edition = neo4j_server.query("CALL dbms.components() YIELD edition")[0][0]
    if edition != "enterprise":
        pytest.skip(f"roles and several databases need an Enterprise server at NEO4J_URI; this one is {edition}")
    return neo4j_server


def test_a_role_that_may_only_read_reads(enterprise: Neo4jAddress) -> None:
    """Writing is refused as a matter of access, and told so."""
    steps = [
        "CREATE ROLE hybridmem_reader IF NOT EXISTS", "GRANT MATCH {*} ON GRAPH * TO hybridmem_reader",
        "CREATE USER hybridmem_test IF NOT EXISTS SET PASSWORD 'only for tests' CHANGE NOT REQUIRED",
        "GRANT ROLE hybridmem_reader TO hybridmem_test",
    ]  # fmt: skip
    admin = bolt_to(enterprise, database="system")
    try:
        admin.schema(steps)
        reader = bolt_to(enterprise, username="hybridmem_test", password="only for tests")
        assert reader.read("MATCH (n) RETURN count(n) >= 0") == [[True]]
        with pytest.raises(StoreAccessError, match="role"):
            transact(reader, "CREATE (:BoltTest)")
    finally:
        admin.schema(["DROP USER hybridmem_test IF EXISTS", "DROP ROLE hybridmem_reader IF EXISTS"])
        admin.close()


def test_databases_of_one_server_share_nothing(enterprise: Neo4jAddress) -> None:
    """What is written in one is not in the other."""
    admin = bolt_to(enterprise, database="system")
    try:
        admin.schema(["CREATE DATABASE hybridmemtest IF NOT EXISTS WAIT"])
        here, there = bolt_to(enterprise), bolt_to(enterprise, database="hybridmemtest")
        transact(there, "CREATE (:BoltTest)")
        assert (count(here), count(there)) == (0, 1)
    finally:
        admin.schema(["DROP DATABASE hybridmemtest IF EXISTS"])
        admin.close()
