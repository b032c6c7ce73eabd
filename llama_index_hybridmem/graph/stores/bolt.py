"""One Neo4j over Bolt, for threads: every call under a limit, errors in our terms; knows no schema and no graph.

It speaks through the driver's async half on a loop thread of ours, because only there does a limit hold: a call that is
cancelled ends, whatever the server does (see `loop_thread`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from ...deadlines import seconds_left
from ...errors import (
    ConfigurationError,
    StoreAccessError,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
    told,
)
from ...extras import require
from .bolt_line import Asked, Line, Parameters, Row, ask, begin, leave, read, rows_of

if TYPE_CHECKING:
    from neo4j import AsyncSession, AsyncTransaction

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SCHEMES = ("bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc")
_FAREWELL_S = 1.0
_POOL = 100
"""Connections that the driver holds at most, by its own default."""
_PAUSES_S = (0.1, 0.3, 1.0)
_REFUSALS = ("Neo.ClientError.Security.", "Neo.ClientError.Database.DatabaseNotFound")
_TOO_SLOW = "Neo.ClientError.Transaction.TransactionTimedOut"


class Bolt:
    """Calls to one database of a Neo4j server. Safe to share between threads; connects with the first call.

    Args:
        uri: `bolt://`, `neo4j://` (routing; on a single server, too) or their `+s` and `+ssc` forms.
        username: None: no authentication.
        password: its password.
        database: None: the user's home database.
        timeout_s: seconds a read has (default 5), less where `deadlines.seconds_left` says so.
        write_timeout_s: seconds each statement of a write transaction has (default 60).
        **driver_options: for `neo4j.AsyncGraphDatabase.driver`, such as `max_connection_pool_size`.

    Raises:
        MissingExtraError: the driver is not installed.
        ConfigurationError: no URI of a Neo4j server.
    """

    def __init__(
        self,
        uri: str,
        *,
        username: str | None = None,
        password: str | None = None,
        database: str | None = None,
        timeout_s: float = 5.0,
        write_timeout_s: float = 60.0,
        **driver_options: Any,
    ) -> None:
        require("Neo4j", "neo4j", "neo4j")
        _check(uri)
        self.uri = uri
        self.database = database
        self.timeout_s = timeout_s
        self.write_timeout_s = write_timeout_s
        self._place = f"Neo4j at {uri}" + (f", database {database!r}" if database else "")
        self._auth = (username, password or "") if username is not None else None
        self._options = driver_options
        self._lock = threading.Lock()
        self._line: Line | None = None
        pool = int(driver_options.get("max_connection_pool_size", _POOL))
        self._writers = threading.BoundedSemaphore(max(1, pool // 2))  # each may read on a second connection meanwhile
        self._closed = False

    def __repr__(self) -> str:
        return f"Bolt({self.uri!r}, database={self.database!r})"

    def read(
        self,
        cypher: str,
        parameters: Parameters | None = None,
        *,
        timeout_s: float | None = None,
        current: bool = False,
    ) -> list[Row]:
        """Run one statement in a READ session, once more when a connection was lost that had been idle.

        Where a branch's deadline ends the waiting earlier, the statement goes on alone until `timeout_s`: a server that
        was just started takes seconds to plan it, and plans anew each time that it is stopped short.

        Args:
            cypher: the statement.
            parameters: its parameters.
            timeout_s: seconds it has in place of the store's.
            current: whether it must see what others have just written: in a cluster, the leader is asked.

        Returns:
            rows in column order.

        Raises:
            StoreUnavailableError: the server is down, frozen, too slow, or cut the connection.
            StoreAccessError: it refuses us.
            StoreClosedError: after `close`.
            StoreError: it refuses the statement.
        """
        whole = self.timeout_s if timeout_s is None else timeout_s
        limit = self._limit(whole)
        patience = limit if limit < whole else None
        mode = "WRITE" if current else "READ"
        return self._run(lambda line: read(line, cypher, parameters or {}, self.database, whole, mode), whole, patience)

    def ask(
        self, cypher: str, parameters: Parameters | None = None, *, rows: int, timeout_s: float | None = None
    ) -> Asked:
        """Have the server say what a statement does, and run it if it only reads; errors as of `read`.

        Args:
            cypher: the statement.
            parameters: its parameters.
            rows: most rows fetched, however many there are.
            timeout_s: seconds it has in place of the store's.
        """
        limit = self._limit(self.timeout_s if timeout_s is None else timeout_s)
        return self._run(lambda line: ask(line, cypher, parameters or {}, self.database, limit, rows), limit)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Open a write transaction: committed at the end, taken back on any exception.

        Raises:
            StoreUnavailableError: as `read`; when the connection is lost while committing, it is unknown whether the
                server has committed.
        """
        limit = self._limit(self.write_timeout_s)
        if not self._writers.acquire(timeout=limit):
            raise StoreUnavailableError(f"{self._place} was not asked: other writes took {limit:.2g} s; try again")
        try:
            session, transaction = self._run(lambda line: begin(line, self.database), self._limit(self.write_timeout_s))
            try:
                yield Transaction(self, transaction)
                self._commit(transaction)
            finally:
                self._part(session, transaction)
        finally:
            self._writers.release()

    def _commit(self, transaction: AsyncTransaction) -> None:
        try:
            self._run(lambda _: transaction.commit(), self._limit(self.write_timeout_s))
        except StoreUnavailableError as error:
            raise StoreUnavailableError(
                f"{error} It was asked to commit: whether it has is unknown, and making the change again is harmless"
            ) from error

    def schema(self, statements: list[str]) -> None:
        """Run statements that change indexes or constraints, each in a transaction of its own.

        Who makes the same at the same moment is in the way: a deadlock, or "already exists" despite IF NOT EXISTS.
        """
        for statement in statements:
            for pause_s in _PAUSES_S:
                try:
                    self._run_alone(statement)
                    break
                except StoreError as error:
                    if not _is_collision(error):
                        raise
                    time.sleep(pause_s)
            else:
                self._run_alone(statement)

    def _run_alone(self, statement: str) -> None:
        with self.writing() as transaction:
            transaction.run(statement)

    def close(self) -> None:
        """Close every connection and end the thread; further calls raise StoreClosedError. Closing twice is fine."""
        with self._lock:
            self._closed = True
            line, self._line = self._line, None
        if line is not None:
            line.thread.close()

    def _limit(self, limit_s: float) -> float:
        left = seconds_left()
        return limit_s if left is None else min(limit_s, left)

    def _run(
        self, call: Callable[[Line], Coroutine[Any, Any, T]], limit_s: float, patience_s: float | None = None
    ) -> T:
        waits_s = limit_s if patience_s is None else patience_s
        line = self._opened()
        if waits_s <= 0:
            raise StoreUnavailableError(f"{self._place} was not asked: no time is left")
        try:
            return line.thread.run(call(line), limit_s, patience_s=patience_s)
        except Exception as error:
            raise self._told(error, waits_s) from error

    def _opened(self) -> Line:
        with self._lock:
            if self._closed:
                raise StoreClosedError(f"{self._place} is closed")
            line = self._line
            if line is None or line.pid != os.getpid():  # of a parent process: its thread did not come along
                options = {"connection_timeout": self.timeout_s, **self._options}
                line = self._line = Line(self.uri, self._auth, options)
                weakref.finalize(self, line.thread.stop).atexit = False  # at exit the operating system closes sockets
            return line

    def _part(self, session: AsyncSession, transaction: AsyncTransaction) -> None:
        """Leave a transaction; on a committed one that does nothing, on a lost connection there is nobody to tell."""
        line = self._line
        if line is not None:
            try:
                line.thread.run(leave(line, session, transaction), _FAREWELL_S)
            except Exception as error:  # noqa: BLE001 - the transaction's own error is the one to raise
                logger.info("%s: a transaction was not left in order, the server ends it: %s", self._place, told(error))

    def _told(self, error: Exception, limit_s: float) -> Exception:
        """Give a driver's error in our terms."""
        from neo4j import exceptions

        if self._closed:
            return StoreClosedError(f"{self._place} is closed")
        code = getattr(error, "code", None) or ""
        if isinstance(error, (TimeoutError, asyncio.TimeoutError)) or code.startswith(_TOO_SLOW):
            return StoreUnavailableError(f"{self._place} did not answer within {limit_s:.2g} s: is it up?")
        if code.startswith(_REFUSALS) or isinstance(error, exceptions.AuthError):
            return StoreAccessError(f"{self._place} refuses us: {told(error)}; check user, password, role and database")
        if isinstance(error, exceptions.ConfigurationError):
            return ConfigurationError(f"{self._place}: {told(error)}")
        if passing := _passing(error):
            return StoreUnavailableError(f"{self._place} {passing[0]}: {told(error)}; {passing[1]}")
        if isinstance(error, UnicodeEncodeError):
            return StoreError(f"{self._place}: text holds a lone surrogate, which no server takes: {error}")
        return StoreError(f"{self._place}: {told(error)}")


def _check(uri: str) -> None:
    """Refuse what is no address of a Neo4j, telling nothing that may be a password."""
    scheme, _, rest = uri.partition("://")
    try:
        parts = urlsplit(uri)
        good = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0 and parts.path in ("", "/")
    except ValueError:  # its message quotes the address
        good = False
    if not good or "@" in uri or "#" in uri:
        place = rest.rpartition("@")[2] if scheme in _SCHEMES else ""
        raise ConfigurationError(
            f"no address of a Neo4j server{f' ({scheme}://…)' if place else ''}: expected bolt://host:port or "
            "neo4j://host:port, and user, password and database as arguments of their own"
        )


def _passing(error: Exception) -> tuple[str, str] | None:
    """Say what happened and what to do, where the same call may succeed later."""
    from neo4j import exceptions

    if isinstance(error, (exceptions.NotALeader, exceptions.ForbiddenOnReadOnlyDatabase)):
        return "takes no writes", "give a cluster's address as neo4j://, which leads to the member that does"
    if isinstance(error, exceptions.TransientError):  # a deadlock, no memory left, a leader that has changed
        return "cannot do it now", "try again"
    if isinstance(error, (exceptions.ServiceUnavailable, exceptions.SessionExpired, OSError)):
        return "cannot be reached", "is it running?"
    return None


def _is_collision(error: StoreError) -> bool:
    code = str(getattr(error.__cause__, "code", None) or "")
    return code.startswith(("Neo.TransientError.Transaction.", "Neo.ClientError.Schema."))


class Transaction:
    """An open write transaction."""

    def __init__(self, bolt: Bolt, transaction: AsyncTransaction) -> None:
        self._bolt = bolt
        self._transaction = transaction

    def run(self, cypher: str, parameters: Parameters | None = None) -> list[Row]:
        """Run one statement; arguments, rows and errors as of `Bolt.read`."""
        limit = self._bolt._limit(self._bolt.write_timeout_s)
        return self._bolt._run(lambda _: rows_of(self._transaction, cypher, parameters or {}), limit)
