"""One Neo4j process: started, frozen, killed and started again; it knows no test and no store of ours."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from servers.ports import free_port

HERE = Path(__file__).parent
SERVERS = HERE.parents[2] / ".servers"
START_LIMIT_S = 180  # 4.5 s here; a busy machine may take its time
FAST_START = ("-XX:TieredStopAtLevel=1",)  # 40 % less CPU until it is ready; long benchmarks do without
_ADD_OPENS = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in ("java.nio", "java.io", "sun.nio.ch")]


class NoNeo4jError(Exception):
    """A Neo4j cannot be had on this machine; the message says why."""


class Neo4jAddress:
    """Where a running Neo4j is, and how to empty it.

    Args:
        uri: as a driver takes it.
        auth: user and password, or None.
        database: the one to use.
    """

    def __init__(self, uri: str, auth: tuple[str, str] | None, database: str) -> None:
        self.uri, self.auth, self.database = uri, auth, database

    def query(self, cypher: str, **parameters: object) -> list[list[Any]]:
        """Rows of one auto-committed query, over a connection of its own."""
        from neo4j import GraphDatabase  # not where only the pure rooms are tested

        with (
            GraphDatabase.driver(self.uri, auth=self.auth) as driver,
            driver.session(database=self.database) as session,
        ):
            return [list(record) for record in session.run(cypher, parameters)]

    def wipe(self, *, but: tuple[str, ...] = ()) -> None:
        """Nodes, relations, constraints and indexes are gone afterwards, but those whose names begin like these."""
        self.query("MATCH (n) CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 5000 ROWS")
        for (name,) in self.query("SHOW CONSTRAINTS YIELD name"):
            if not name.startswith(but):
                self.query(f"DROP CONSTRAINT {_quoted(name)}")
        for (name,) in self.query("SHOW INDEXES YIELD name, type WHERE type <> 'LOOKUP' RETURN name"):
            if not name.startswith(but):
                self.query(f"DROP INDEX {_quoted(name)}")


class Neo4jServer(Neo4jAddress):
    """A Neo4j of our own. Its data survive `kill` and `restart`; its home belongs to the caller.

    A guard process holds a pipe from us: when it closes, because we want it or because we were killed ourselves, the
    guard kills the server, be it frozen or not.

    Args:
        home: its folder; made if it is not there.
        apoc: with APOC core or without.
        auth: user and password it asks for, the password of 8 characters at least; None asks for nothing.
        database: the default database's name.
        java_options: for the JVM.

    Raises:
        NoNeo4jError: no JDK, no Maven, or the packages could not be had.
    """

    def __init__(
        self,
        home: Path,
        *,
        apoc: bool,
        auth: tuple[str, str] | None,
        database: str = "neo4j",
        java_options: Sequence[str] = FAST_START,
    ) -> None:
        self.home, self.port = home, free_port()
        super().__init__(f"bolt://127.0.0.1:{self.port}", auth, database)
        self._options = ["-Xmx768m", "-XX:+UseSerialGC", *java_options, *_ADD_OPENS]
        self._folder = installed()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        (home / "plugins").mkdir(parents=True, exist_ok=True)
        for jar in (self._folder / "lib").glob("apoc-*.jar") if apoc else ():
            (home / "plugins" / jar.name).symlink_to(jar)

    @property
    def alive(self) -> bool:
        """Whether there is a process, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Returns when Bolt answers."""
        class_path = f"{self._folder / 'classes'}:{self._folder / 'lib'}/*"
        command = [_java("java"), *self._options, "-cp", class_path, "Server"]
        command += [str(self.home), str(self.port), self.database, *(self.auth or ())]
        console = self.home / "console.log"
        with console.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._guard = subprocess.Popen(
            ["sh", "-c", 'cat > /dev/null; kill -9 "$0"', str(self._process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        limit = time.monotonic() + START_LIMIT_S
        while b"ready" not in console.read_bytes().splitlines():
            if not self.alive or time.monotonic() > limit:
                self.kill()
                raise RuntimeError(f"Neo4j did not start: {console.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def freeze(self) -> None:
        """It keeps its connections and answers nothing, until `thaw`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # it has really stopped

    def thaw(self) -> None:
        """It goes on where it stood."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """As `kill -9`; returns when it is gone."""
        if self._guard is None or self._process is None:
            return
        self._guard.communicate()  # closes the pipe
        self._process.wait()
        self._guard = self._process = None

    stop = kill  # an orderly shutdown takes 10 s and nobody needs it

    def restart(self) -> None:
        """Kills it if it lives and starts it on the same home and port."""
        self.kill()
        self.start()

    def recover(self) -> None:
        """Whatever was done to it, it answers afterwards."""
        if self.alive:
            self.thaw()
        else:
            self.restart()


def installed() -> Path:
    """The folder with Neo4j's jars (`lib`) and our compiled `Server` (`classes`), fetched once.

    Raises:
        NoNeo4jError: no JDK, no Maven, or one of them failed.
    """
    folder = SERVERS / f"neo4j-{_version()}"
    lib, classes = folder / "lib", folder / "classes"
    pom, source = HERE / "pom.xml", HERE / "Server.java"
    javac, maven = _java("javac"), _tool("mvn", shutil.which("mvn"))
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={lib}"]
    with _alone():
        _make(lib, pom, [maven, "-B", "-q", "-f", str(pom), *goal])
        _make(classes, source, [javac, "-cp", f"{lib}/*", "-d", str(classes), str(source)])
    return folder


def _make(folder: Path, source: Path, command: list[str]) -> None:
    """Fills a folder from a source, unless it was; half a download counts as none, since the stamp is written last."""
    stamp = folder / "made-from"
    if stamp.is_file() and stamp.read_bytes() == source.read_bytes():
        return
    shutil.rmtree(folder, ignore_errors=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise NoNeo4jError(f"{Path(command[0]).name} failed: {done.stdout.strip()[:2000]}")
    stamp.write_bytes(source.read_bytes())


@contextmanager
def _alone() -> Iterator[None]:
    """One test run at a time."""
    import fcntl

    SERVERS.mkdir(exist_ok=True)
    with (SERVERS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _version() -> str:
    """Of Neo4j, from the pom."""
    found = ElementTree.parse(HERE / "pom.xml").find(".//{*}neo4j.version")
    assert found is not None
    assert found.text
    return found.text


def _java(name: str) -> str:
    """The JDK's program: of JAVA_HOME if it is set, as Maven does."""
    home = os.environ.get("JAVA_HOME")
    return _tool(name, shutil.which(name, path=f"{home}/bin" if home else None))


def _tool(name: str, path: str | None) -> str:
    if os.name != "posix":
        raise NoNeo4jError("processes are frozen and killed by POSIX signals")
    if path is None:
        raise NoNeo4jError(f"{name} is not there: install a JDK, 17 or newer, and Maven, or set NEO4J_URI")
    return path


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
