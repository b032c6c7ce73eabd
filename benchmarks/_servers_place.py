"""A Neo4j to measure on: the user's own, if it is empty, or the one of the tests; measures nothing but its size."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from servers.neo4j.server import Neo4jServer

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Address:
    """Where Neo4j is."""

    uri: str
    auth: tuple[str, str] | None
    database: str


class Skipped(Exception):  # noqa: N818  # no error: something is not here
    """What is missing."""


@contextmanager
def server(uri: str | None) -> Iterator[tuple[Address, Neo4jServer | None]]:
    """Give an empty Neo4j, emptied again afterwards, and the server itself where it is our own."""
    # The Neo4j of the tests is no part of the package: it is found beside this folder, in a checkout.
    sys.path.insert(0, str(ROOT / "tests"))
    from servers.neo4j.server import Neo4jAddress, Neo4jServer, NoNeo4jError

    with ExitStack() as after:
        if uri is not None:
            password = os.environ.get("NEO4J_PASSWORD")
            auth = (os.environ.get("NEO4J_USERNAME", "neo4j"), password) if password else None
            found = Neo4jAddress(uri, auth, os.environ.get("NEO4J_DATABASE", "neo4j"))
            own = None
            if found.query("MATCH (n) RETURN count(n)")[0][0]:
                raise Skipped(
                    f"the database {found.database!r} of {uri} is not empty; name an empty one: NEO4J_DATABASE"
                )
            after.callback(found.wipe)
        else:
            home = Path(after.enter_context(tempfile.TemporaryDirectory(prefix="hybridmem-bench-")))
            try:
                found = own = Neo4jServer(home, apoc=True, auth=None, java_options=())
            except NoNeo4jError as error:
                raise Skipped(f"no Neo4j: {error}") from error
            own.start()
            after.callback(own.stop)
        yield Address(found.uri, found.auth, found.database), own


def size(own: Neo4jServer | None) -> int | None:
    """Bytes that the database has on disk, transaction logs left out; None for a server that is not ours to restart.

    What was written reaches the store's files at a checkpoint; Neo4j makes one when it recovers from a kill.
    """
    if own is None:
        return None
    own.restart()
    return on_disk(own.home / "data" / "databases" / own.database)


def on_disk(folder: Path, pattern: str = "*") -> int:
    """Bytes that the files in a folder take."""
    return sum(512 * file.stat().st_blocks for file in folder.rglob(pattern) if file.is_file())


def say(**line: object) -> None:
    """Print a JSON line."""
    print(json.dumps(line), flush=True)
