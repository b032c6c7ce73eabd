"""Opens the graph that a command names, a store's folder or a Neo4j server's address; knows no command."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..graph.stores.base import PortableGraphStore
    from ..graph.stores.bolt import Bolt

_SQLITE = ".sqlite"
_SCHEMES = ("bolt", "neo4j")
TIMEOUT_S = 30.0
"""That a read of a server has: nobody's deadline hangs on it, and a foreign graph is searched through for each page."""


@dataclass(frozen=True)
class Server:
    """A Neo4j server's address.

    Attributes:
        uri: without user, password and database.
        username: None: no authentication.
        password: from the address, None where it has none.
        database: None: the user's home database.
        store: which of our stores in that database.
    """

    uri: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str | None = None
    store: str = "main"

    def __str__(self) -> str:
        user = f"{self.username}@" if self.username else ""
        scheme, _, host = self.uri.partition("://")
        return f"{scheme}://{user}{host}{f'/{self.database}' if self.database else ''}"

    def options(self) -> dict[str, Any]:
        """Arguments for what connects."""
        known = {"username": self.username, "password": self.password, "database": self.database}
        return {**known, "timeout_s": TIMEOUT_S}

    def with_password(self, variable: str) -> Server:
        """Find the password: in the address, in the environment, or by asking for it.

        Raises:
            ConfigurationError: nowhere, and there is no terminal to ask at.
        """
        return replace(self, password=self._password(variable)) if self.username else self

    def _password(self, variable: str) -> str:
        from . import screen

        if self.password is not None:
            remark = f"A password in the address stays in the shell's history; {variable} in the environment does not."
            screen.aside().print(remark, markup=False, soft_wrap=True)
            return self.password
        if variable in os.environ:
            return os.environ[variable]
        if not sys.stdin.isatty():
            raise ConfigurationError(
                f"no password for {self}: set {variable}, or name another variable by --password-env"
            )
        from getpass import getpass

        return getpass(f"Password of {self.username} at {self.uri}: ")


def place(named: str, store: str = "main", password_variable: str | None = None) -> Path | Server:
    """Read where a graph is: `neo4j://user@host:port/database`, or a path.

    Args:
        named: by the user.
        store: which of our graphs in the database.
        password_variable: where the password is; None: it is not wanted.

    Raises:
        ConfigurationError: an address of something else, or no password for it.
    """
    if "://" not in named:
        return Path(named)
    try:
        parts = urlsplit(named)
        host = parts.hostname and f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise ConfigurationError(f"not an address of a server: {error}") from error
    database = unquote(parts.path.strip("/"))
    if parts.scheme.partition("+")[0] not in _SCHEMES or not host or "/" in database or parts.query or parts.fragment:
        shown = f"{parts.scheme}://{host or ''}{port}{parts.path}"
        raise ConfigurationError(f"{shown}: expected neo4j://user@host:port/database, or bolt:// or their +s forms")
    username, password = (unquote(part) if part else None for part in (parts.username, parts.password))
    server = Server(f"{parts.scheme}://{host}{port}", username, password, database or None, store)
    return server.with_password(password_variable) if password_variable else server


def graph_file(path: Path) -> Path:
    """Name the file a store's graph is in: a store's folder has one, and the file itself will do."""
    from ..manifest import GRAPH

    return path if path.suffix == _SQLITE and not path.is_dir() else path / GRAPH


@contextmanager
def opened(where: Path | Server, *, new: bool = False) -> Iterator[PortableGraphStore]:
    """Open a graph of ours; others may have it open, too.

    Args:
        where: see `place`.
        new: whether it is made when it is not there.

    Raises:
        ConfigurationError: there is no graph in that folder.
        StoreError: it cannot be opened.
    """
    if isinstance(where, Server):
        from ..graph.stores.neo4j.store import Neo4jGraphStore

        store: Any = Neo4jGraphStore(where.uri, store=where.store, **where.options())
    else:
        from ..disk import make_folder
        from ..graph.stores.sqlite import SqliteGraphStore

        file = graph_file(where)
        if not new and not (file.is_file() and file.stat().st_size):
            raise ConfigurationError(f"no graph in {where}; make a store: hybridmem ingest PATH --store {where}")
        make_folder(file.parent)
        store = SqliteGraphStore(file)
    try:
        yield store
    finally:
        store.close()


def bolt(server: Server) -> Bolt:
    """Connect to a server, to read what others have written there."""
    from ..graph.stores.bolt import Bolt

    return Bolt(server.uri, **server.options())
