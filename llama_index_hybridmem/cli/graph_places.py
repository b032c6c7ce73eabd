"""Opens the graph that a command names, a store's folder or a Neo4j server's address; knows no command."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..errors import ConfigurationError
from ..graph.stores.neo4j.schema import tenant_store
from ..manifest import tenant_folder

if TYPE_CHECKING:
    from ..graph.stores.base import PortableGraphStore
    from ..graph.stores.bolt import Bolt

_SQLITE = ".sqlite"
_SCHEME = re.compile(r"(?:bolt|neo4j)(?:\+s|\+ssc)?", re.IGNORECASE)
_MEANT = re.compile(r"(?:bolt|neo4j)[+a-z]*:", re.IGNORECASE)
_WHERE = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s/?#:@\[\]]+)(?P<port>:[0-9]{1,5})?(?:/(?P<database>[\w.-]*)/?)?", re.ASCII
)
TIMEOUT_S = 30.0
"""That a read of a server has: nobody's deadline hangs on it, and a foreign graph is looked through as a whole."""


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


def place(
    named: str, store: str = "main", password_variable: str | None = None, *, tenant: str | None = None
) -> Path | Server:
    """Read where a graph is: `neo4j://user@host:port/database`, or a path.

    A password in an address may hold any character, up to the last @; only a % is written %25.

    Args:
        named: by the user.
        store: which of our graphs in the database.
        password_variable: where the password is; None: it is not wanted.
        tenant: whose part of the graph; None: the one beside all tenants'.

    Raises:
        ConfigurationError: an address of something else, or no password for it.
    """
    if "://" not in named and not _MEANT.match(named):
        return Path(named) if tenant is None else _tenant_place(Path(named), tenant)
    scheme, _, rest = named.partition(":")
    credentials, _, where = rest.removeprefix("//").rpartition("@")
    username, colon, password = credentials.partition(":")
    found = _WHERE.fullmatch(where)
    if not (found and _SCHEME.fullmatch(scheme) and rest.startswith("//") and "/" not in username):
        host = re.split(r"[^\w.-]", where, maxsplit=1)[0]  # and nothing else, which may be a part of a password
        raise ConfigurationError(
            f"{scheme}://{host}: expected neo4j://user@host:port/database, or bolt:// or their +s forms"
        )
    uri = f"{scheme.lower()}://{found['host'].lower()}{found['port'] or ''}"
    name = store if tenant is None else tenant_store(store, tenant)
    server = Server(
        uri, unquote(username) or None, unquote(password) if colon else None, found["database"] or None, name
    )
    return server.with_password(password_variable) if password_variable else server


def _tenant_place(path: Path, tenant: str) -> Path:
    if path.suffix == _SQLITE and not path.is_dir():
        raise ConfigurationError(f"{path} is one graph; a store's folder has tenants")
    return tenant_folder(path, tenant)


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
