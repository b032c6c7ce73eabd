"""One SQLite file, or memory: one writer at a time, readers beside it, errors in our terms; knows no table."""

from __future__ import annotations

import queue
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import StoreClosedError, StoreDamagedError, StoreError, StoreMismatchError

APPLICATION = 0x68796D67  # "hymg" in the file's header marks it as ours
_BUSY_TIMEOUT_S = 10.0


class Database:
    """Connections to one SQLite database.

    WAL mode: readers never wait for the writer. A commit survives the death of the process (kill -9); with
    `synchronous=NORMAL` the last commits before a power cut may be lost, the file stays whole. Other processes may read
    it, too, and take turns writing.

    Args:
        path: the file, created when absent; None keeps everything in memory.
        schema: SQL statements, run once in a new file.
        version: of the schema.

    Raises:
        StoreDamagedError: the file is no database, or its pages are damaged.
        StoreMismatchError: it is somebody else's database, or of another version.
    """

    def __init__(self, path: Path | None, schema: str, version: int) -> None:
        self.path = path
        self._place = f"graph store {path or 'in memory'}"
        self._lock = threading.RLock()
        self._idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._closed = False
        self._writer = self._connect()
        forgotten = weakref.finalize(self, _close_all, self._writer, self._idle)
        forgotten.atexit = False  # threads may still be reading; the operating system closes the file
        try:
            with self._errors():
                self._prepare(schema, version)
        except BaseException:
            self._writer.close()
            raise

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Read what the last commit left; from within `writing`, in memory only, what it has written so far."""
        if self.path is None:  # a memory database lives in one connection
            with self._lock, self._errors():
                return self._writer.execute(sql, parameters).fetchall()
        connection = self._reader()
        try:
            with self._errors():
                return connection.execute(sql, parameters).fetchall()
        finally:
            self._idle.put(connection)
            if self._closed:
                _close_idle(self._idle)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Open the one write transaction: committed at the end, taken back on any exception."""
        with self._lock, self._errors():
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close every connection, after the writer has finished; closing twice is fine."""
        with self._lock:
            self._closed = True
            _close_all(self._writer, self._idle)

    def _connect(self) -> sqlite3.Connection:
        target = str(self.path) if self.path else ":memory:"
        with self._errors():
            connection = sqlite3.connect(target, timeout=_BUSY_TIMEOUT_S, check_same_thread=False, isolation_level=None)
            try:
                connection.create_function("lowered", 1, str.lower, deterministic=True)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
            except BaseException:
                connection.close()
                raise
        return connection

    def _reader(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreClosedError(f"{self._place} is closed")
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._connect()

    def _prepare(self, schema: str, version: int) -> None:
        found = [self._pragma("application_id"), self._pragma("user_version")]
        if found == [APPLICATION, version]:
            return
        if found[0] == APPLICATION:
            raise StoreMismatchError(f"{self._place} has schema {found[1]}, this version reads {version}; ingest anew")
        if self._writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise StoreMismatchError(f"{self._place} is another application's database")
        marks = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {version};"
        self._writer.executescript(f"BEGIN IMMEDIATE; {schema} {marks} COMMIT;")

    def _pragma(self, name: str) -> int:
        return int(self._writer.execute(f"PRAGMA {name}").fetchone()[0])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if self._closed:
                raise StoreClosedError(f"{self._place} is closed") from error
            if type(error) is sqlite3.DatabaseError:  # the bare class: not a database, or corrupt
                raise StoreDamagedError(
                    f"{self._place} cannot be read: {error}; restore a copy or ingest anew"
                ) from error
            raise StoreError(f"{self._place}: {error}") from error
        except UnicodeEncodeError as error:
            raise StoreError(f"{self._place}: text holds a lone surrogate, which no file can keep: {error}") from error


def _close_all(writer: sqlite3.Connection, idle: queue.LifoQueue[sqlite3.Connection]) -> None:
    writer.close()
    _close_idle(idle)


def _close_idle(idle: queue.LifoQueue[sqlite3.Connection]) -> None:
    """Close each connection once: two threads that close the same one at a time abort Python 3.10."""
    while not idle.empty():
        try:
            idle.get_nowait().close()
        except queue.Empty:  # another thread was faster
            return
