"""What tests of servers stand on does what it says: real Neo4j processes, and a proxy that breaks connections."""

from __future__ import annotations

import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from conftest import SOAK
from neo4j.exceptions import AuthError, ClientError
from servers.neo4j import server as server_module
from servers.neo4j.fixtures import not_here
from servers.neo4j.server import Neo4jAddress, Neo4jServer, NoNeo4jError
from servers.proxy import Mode, TcpProxy


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_gets_an_empty_database(neo4j: Neo4jAddress, turn: int) -> None:
    """Nodes, constraints and indexes of the test before are gone."""
    assert neo4j.query("MATCH (n) RETURN count(n)") == [[0]]
    neo4j.query("CREATE CONSTRAINT one FOR (n:Thing) REQUIRE n.name IS UNIQUE")
    neo4j.query("CREATE FULLTEXT INDEX `odd ``name` FOR (n:Thing) ON EACH [n.name]")
    neo4j.query("CREATE (:Thing {name: 'a'})-[:KNOWS]->(:Thing {name: 'b'})")
    assert neo4j.query("SHOW INDEXES YIELD name WHERE name IN ['one', 'odd `name'] RETURN count(*)") == [[2]]


def test_one_server_has_apoc(neo4j_server: Neo4jAddress) -> None:
    """The server that stays up has APOC."""
    if not isinstance(neo4j_server, Neo4jServer):
        pytest.skip("the one at NEO4J_URI is as it is")
    assert neo4j_server.query("RETURN apoc.version() STARTS WITH '5.'") == [[True]]


def test_the_other_server_has_no_apoc(fragile_neo4j: Neo4jServer) -> None:
    """What runs on the fragile server needs no APOC."""
    with pytest.raises(ClientError, match=r"Unknown function 'apoc\.version'"):
        fragile_neo4j.query("RETURN apoc.version()")


def test_the_other_server_asks_for_its_password(fragile_neo4j: Neo4jServer) -> None:
    """A wrong password is refused, the right one is not."""
    wrong = Neo4jAddress(fragile_neo4j.uri, ("neo4j", "another password"), fragile_neo4j.database)
    with pytest.raises(AuthError):
        wrong.query("RETURN 1")
    assert fragile_neo4j.query("RETURN 1") == [[1]]


def test_the_other_servers_default_database_has_another_name(fragile_neo4j: Neo4jServer) -> None:
    """There is no database "neo4j" to fall back on."""
    names = fragile_neo4j.query("SHOW DATABASES YIELD name, default RETURN name, default ORDER BY name")
    assert names == [["memory", True], ["system", False]]


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="a server is killed and started: run by make soak")
def test_data_survive_a_kill(fragile_neo4j: Neo4jServer) -> None:
    """Even a frozen server is killed; started again it has port, password and all that was committed."""
    fragile_neo4j.query("MERGE (:Kept {name: 'a'})")
    uri = fragile_neo4j.uri
    fragile_neo4j.freeze()
    fragile_neo4j.kill()
    assert not fragile_neo4j.alive
    fragile_neo4j.restart()
    assert fragile_neo4j.uri == uri
    assert fragile_neo4j.query("MATCH (n:Kept) RETURN n.name") == [["a"]]


def test_a_frozen_server_answers_after_the_thaw(fragile_neo4j: Neo4jServer) -> None:
    """Frozen, it keeps the connection and says nothing; thawed, it answers what it was asked meanwhile."""
    handshake = b"\x60\x60\xb0\x17" + b"\x00\x00\x04\x05" + 12 * b"\x00"  # Bolt 5.4, nothing else
    with socket.create_connection(("127.0.0.1", fragile_neo4j.port)) as connection:
        fragile_neo4j.freeze()
        connection.sendall(handshake)
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(4)
        fragile_neo4j.thaw()
        connection.settimeout(30)
        assert connection.recv(4) == b"\x00\x00\x04\x05"


def test_whatever_a_test_did_to_it_the_next_module_finds_it_answering(fragile_neo4j: Neo4jServer) -> None:
    """A server left frozen recovers."""
    fragile_neo4j.freeze()
    fragile_neo4j.recover()
    assert fragile_neo4j.query("RETURN 1") == [[1]]


def test_a_server_that_cannot_start_says_why(tmp_path: Path, neo4j_server: Neo4jAddress) -> None:
    """What Neo4j wrote is in the error, and no process is left."""
    server = Neo4jServer(tmp_path, apoc=False, auth=None, database="no name!")
    with pytest.raises(RuntimeError, match=r"initial\.dbms\.default_database"):
        server.start()
    assert not server.alive


def test_without_a_jdk_the_reason_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Java nor Maven is guessed at."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(NoNeo4jError, match="javac is not there: install a JDK, 17 or newer, and Maven"):
        Neo4jServer(tmp_path, apoc=False, auth=None)


def test_half_a_download_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Maven that fails is heard, and asked again the next time."""
    for name in ("javac", "mvn"):
        (tmp_path / name).write_text("#!/bin/sh\necho '[ERROR] the line is dead'\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(server_module, "SERVERS", tmp_path / "servers")
    for _ in range(2):
        with pytest.raises(NoNeo4jError, match="mvn failed: .*the line is dead"):
            server_module.installed()


@pytest.mark.parametrize(("required", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_where_servers_are_required_a_skip_is_a_failure(
    required: str, outcome: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`HYBRIDMEM_REQUIRE_NEO4J=1` is what CI says."""
    monkeypatch.setenv("HYBRIDMEM_REQUIRE_NEO4J", required)
    with pytest.raises(outcome, match="no Java"):
        not_here("no Java")


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with suppress(OSError):
            while chunk := self.request.recv(65536):
                self.request.sendall(chunk)


@contextmanager
def _echo() -> Iterator[int]:
    """The port of a server that says everything back."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(name="proxy")
def _proxy() -> Iterator[TcpProxy]:
    with _echo() as port, TcpProxy(port) as proxy:
        yield proxy


def _connected(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=30)


def _said_back(connection: socket.socket, said: bytes) -> bytes:
    connection.sendall(said)
    heard = b""
    while len(heard) < len(said):
        heard += connection.recv(65536)
    return heard


def test_a_driver_works_through_the_proxy(neo4j_server: Neo4jAddress) -> None:
    """In "pass" it is as if it were not there."""
    with TcpProxy(int(neo4j_server.uri.rpartition(":")[2])) as proxy:
        through = Neo4jAddress(f"bolt://127.0.0.1:{proxy.port}", neo4j_server.auth, neo4j_server.database)
        assert through.query("RETURN 1") == [[1]]
        assert proxy.accepted == 1


def test_refused(proxy: TcpProxy) -> None:
    """An open connection is reset and a new one refused; afterwards the same port answers again."""
    with _connected(proxy) as connection:
        assert _said_back(connection, b"hello") == b"hello"
        proxy.mode = "refuse"
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(ConnectionRefusedError):
        _connected(proxy)
    proxy.mode = "pass"
    with _connected(proxy) as connection:
        assert _said_back(connection, b"hello") == b"hello"


def test_dropped_half_way(proxy: TcpProxy) -> None:
    """An answer begins and does not end; what was answered before the change does not count."""
    with _connected(proxy) as connection:
        assert _said_back(connection, 100 * b"a") == 100 * b"a"
        proxy.mode = "drop"
        connection.sendall(100 * b"b")
        assert connection.recv(65536) == proxy.drop_after * b"b"
        with pytest.raises(ConnectionResetError):
            connection.recv(65536)


def test_slow(proxy: TcpProxy) -> None:
    """Each chunk is late, there and back, and nothing is lost."""
    proxy.delay_s, proxy.mode = 0.1, "slow"
    with _connected(proxy) as connection:
        start = time.monotonic()
        assert _said_back(connection, b"hello") == b"hello"
        assert time.monotonic() - start >= 0.2


def test_silent(proxy: TcpProxy) -> None:
    """It takes connections and words and answers nothing, until it may."""
    proxy.mode = "silent"
    with _connected(proxy) as connection:
        connection.sendall(b"hello")
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        proxy.mode = "pass"
        connection.settimeout(30)
        assert connection.recv(5) == b"hello"


def test_a_dead_server_behind_it() -> None:
    """The connection is reset: a proxy answers for nobody."""
    with TcpProxy(1) as before_nobody, pytest.raises(ConnectionResetError), _connected(before_nobody) as connection:
        connection.recv(1)


@pytest.mark.parametrize("mode", ["pass", "refuse", "drop", "slow", "silent"])
def test_nothing_is_left_of_a_proxy(mode: Mode) -> None:
    """Whatever its mode and whatever is open: no thread, and the port is free."""
    with _echo() as port, TcpProxy(port) as proxy, _connected(proxy):
        proxy.mode = mode
    assert "tcp-proxy" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ConnectionRefusedError):
        _connected(proxy)


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_of_qdrants_container_asks_whether_it_is_ready(status: int, healthy: bool) -> None:
    """The command in docker-compose.yml needs bash alone, and an open port is not enough for it."""

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    compose = yaml.safe_load((Path(__file__).parents[1] / "docker-compose.yml").read_text(encoding="utf-8"))
    _, *command = compose["services"]["qdrant"]["healthcheck"]["test"]
    with HTTPServer(("127.0.0.1", 0), Ready) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        here = [word.replace("$$", "$").replace("6333", str(server.server_port)) for word in command]
        done = subprocess.run(here, check=False, timeout=30)
        thread.join()
    assert (done.returncode == 0) is healthy
