"""A real Neo4j as pytest fixtures: two servers per test run, however many tests use them.

- `neo4j_server`: with APOC, without passwords; or the one at `NEO4J_URI`. It stays up: nobody freezes or kills it.
- `neo4j`: the same, emptied before each test but for the indexes of a `Neo4jGraphStore` by its default name.
- `fragile_neo4j`: ours in any case, without APOC, with a password, its default database named "memory". Tests may
  freeze, kill and restart it. A start costs 5 s on two cores, so it is one server for the whole run; each module gets
  it answering and empty.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import NoReturn

import pytest

from servers.neo4j.server import Neo4jAddress, Neo4jServer, NoNeo4jError


def not_here(reason: str) -> NoReturn:
    """A skip; a failure where real servers are required."""
    if os.environ.get("HYBRIDMEM_REQUIRE_NEO4J") == "1":
        pytest.fail(f"HYBRIDMEM_REQUIRE_NEO4J=1, but {reason}")
    pytest.skip(f"no Neo4j: {reason}")


@contextmanager
def _started(
    factory: pytest.TempPathFactory, *, apoc: bool, auth: tuple[str, str] | None, database: str
) -> Iterator[Neo4jServer]:
    try:
        server = Neo4jServer(factory.mktemp("neo4j"), apoc=apoc, auth=auth, database=database)
    except NoNeo4jError as error:
        not_here(str(error))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session", name="neo4j_server")
def _neo4j_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neo4jAddress]:
    uri, password = os.environ.get("NEO4J_URI"), os.environ.get("NEO4J_PASSWORD")
    if uri:
        auth = (os.environ.get("NEO4J_USERNAME", "neo4j"), password) if password else None
        given = nullcontext(Neo4jAddress(uri, auth, os.environ.get("NEO4J_DATABASE", "neo4j")))
    with given if uri else _started(tmp_path_factory, apoc=True, auth=None, database="neo4j") as server:
        yield server


@pytest.fixture(name="neo4j")
def _neo4j(neo4j_server: Neo4jAddress) -> Neo4jAddress:
    if not isinstance(neo4j_server, Neo4jServer) and os.environ.get("NEO4J_WIPE") != "1":
        not_here("the one at NEO4J_URI would be emptied; NEO4J_WIPE=1 says that it may be")
    # Indexes made anew cost a second, and every plan of a statement is made anew with them, which costs ten.
    neo4j_server.wipe(but=("hybridmem_main_", "hybridmem_stores"))
    return neo4j_server


@pytest.fixture(scope="session")
def _fragile_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neo4jServer]:
    auth = ("neo4j", "a password of tests")
    with _started(tmp_path_factory, apoc=False, auth=auth, database="memory") as server:
        yield server


@pytest.fixture(scope="module", name="fragile_neo4j")
def _fragile_neo4j(_fragile_process: Neo4jServer) -> Neo4jServer:
    _fragile_process.recover()
    _fragile_process.wipe()
    return _fragile_process
