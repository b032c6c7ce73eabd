"""The async half of Bolt: a driver, the thread it lives on and the calls that run there; knows no error of ours.

Every call is a coroutine on the thread's loop; whoever waits for it cancels it when it takes too long.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ...loop_thread import LoopThread

if TYPE_CHECKING:
    from neo4j import AsyncBookmarkManager, AsyncDriver, AsyncSession, AsyncTransaction

T = TypeVar("T")
Row = list[Any]
Parameters = Mapping[str, object]

_ROWS_PER_FETCH = 20_000
"""So that an answer comes in one round trip; the driver's 1,000 would make a second one of a large neighbourhood."""


@dataclass(frozen=True)
class Asked:
    """What a statement does, and what it gave.

    Attributes:
        does: "r" reads, "w", "rw" and "s" (schema) write; those were not run.
        columns: names.
        rows: values in column order.
    """

    does: str
    columns: tuple[str, ...]
    rows: list[Row]


class Line:
    """A driver and the thread it lives on."""

    def __init__(self, uri: str, auth: tuple[str, str] | None, options: Mapping[str, Any]) -> None:
        self.pid = os.getpid()
        self.thread = LoopThread("hybridmem-bolt", self._farewell)
        self._uri, self._auth, self._options = uri, auth, options
        self._driver: AsyncDriver | None = None
        self.bookmarks: AsyncBookmarkManager | None = None
        self.open: set[AsyncSession] = set()
        """Sessions whose transactions are still open."""

    async def driver(self) -> AsyncDriver:
        """Make the driver on its own loop; it connects when first used."""
        if self._driver is None:
            from neo4j import AsyncGraphDatabase

            defaults = {"max_transaction_retry_time": 0, "notifications_min_severity": "OFF"}
            self.bookmarks = AsyncGraphDatabase.bookmark_manager()
            self._driver = AsyncGraphDatabase.driver(self._uri, auth=self._auth, **{**defaults, **self._options})
        return self._driver

    async def _farewell(self) -> None:
        for session in list(self.open):
            session.cancel()
            await session.close()
        if self._driver is not None:
            await self._driver.close()


async def _session(line: Line, database: str | None, mode: str, rows_per_fetch: int = _ROWS_PER_FETCH) -> AsyncSession:
    driver = await line.driver()
    return driver.session(
        database=database,
        default_access_mode=mode,
        fetch_size=rows_per_fetch,
        bookmark_manager=line.bookmarks,  # in a cluster, what one call wrote the next one sees
    )


async def _twice(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Call again when a connection was lost: a restarted server leaves dead ones, which the driver drops now."""
    from neo4j import exceptions

    try:
        return await call()
    except (exceptions.ServiceUnavailable, exceptions.SessionExpired):
        return await call()


async def read(
    line: Line, cypher: str, parameters: Parameters, database: str | None, limit_s: float, mode: str
) -> list[Row]:
    """Run one statement in a session of its own."""
    from neo4j import Query

    async def once() -> list[Row]:
        async with await _session(line, database, mode) as session:
            return await rows_of(session, Query(cypher, timeout=limit_s or None), parameters)

    return await _twice(once)


async def ask(
    line: Line, cypher: str, parameters: Parameters, database: str | None, limit_s: float, rows: int
) -> Asked:
    """Have a statement explained, and run it if it reads."""
    from neo4j import Query

    async def once() -> Asked:
        async with await _session(line, database, "READ", rows) as session:
            explained = await session.run(Query(f"EXPLAIN {cypher}", timeout=limit_s or None), dict(parameters))
            does = str((await explained.consume()).query_type)
            if does != "r":
                return Asked(does, (), [])
            result = await session.run(Query(cypher, timeout=limit_s or None), dict(parameters))
            records = await result.fetch(rows)
            return Asked(does, tuple(result.keys()), [record.values() for record in records])

    return await _twice(once)


async def begin(line: Line, database: str | None) -> tuple[AsyncSession, AsyncTransaction]:
    """Open a write transaction on a connection that lives."""
    return await _twice(lambda: _begin_once(line, database))


async def _begin_once(line: Line, database: str | None) -> tuple[AsyncSession, AsyncTransaction]:
    session = await _session(line, database, "WRITE")
    try:
        transaction = await session.begin_transaction()
        await rows_of(transaction, "RETURN 1", {})  # BEGIN alone does not tell whether the connection lives
    except BaseException:
        await session.close()
        raise
    line.open.add(session)
    return session, transaction


async def leave(line: Line, session: AsyncSession, transaction: AsyncTransaction) -> None:
    """Take back what was not committed, and hand the connection back."""
    line.open.discard(session)
    try:
        await transaction.close()
    finally:
        await session.close()


async def rows_of(runner: Any, cypher: Any, parameters: Parameters) -> list[Row]:
    """Run one statement and fetch all it gives."""
    result = await runner.run(cypher, dict(parameters))
    return [record.values() async for record in result]
