"""Finds which adapter a call to a server means, and checks its files before the server loads it; knows no HTTP.

A server takes an adapter of another base model with status 200 and answers garbage, so the checks are ours.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index_hybridmem.errors import AdapterRefusedError, UnknownAdapterError
from llama_index_hybridmem.llms.remote.dialects import Dialect, seen_by_server
from llama_index_hybridmem.llms.tenancy import Tenants, own_adapters

if TYPE_CHECKING:
    from llama_index_hybridmem.llms.adapters.checks import Base
    from llama_index_hybridmem.llms.adapters.registry import Adapters
    from llama_index_hybridmem.llms.adapters.version import AdapterVersion


@dataclass(frozen=True)
class Target:
    """Who answers a call.

    Attributes:
        asked: the reference that the call, its view or its tenant gave; None for the base model.
        name: the adapter's name on the server; None for the base model.
        path: its place as the server sees it; empty if only the server knows.
        version: what we know of it; None for one that only the server knows.
        number: llama.cpp's id of it.
        fallback: why the base answers although an adapter was asked for; None where it does not.
    """

    asked: str | None = None
    name: str | None = None
    path: str = ""
    version: AdapterVersion | None = None
    number: int | None = None
    fallback: str | None = None

    @property
    def serves(self) -> AdapterVersion | None:
        """The version whose prompts and defaults count; None where the base model answers."""
        return None if self.fallback else self.version

    def note(self) -> dict[str, Any] | None:
        """What an answer says of its adapter; None for the base model that was asked for as such."""
        if self.asked is None:
            return None
        if self.fallback is not None:
            return {"asked": self.asked, "name": None, "sha256": None, "fallback": self.fallback}
        if self.version is None:
            return {"asked": self.asked, "name": self.name, "version": None, "sha256": None}
        version = self.version
        return {"asked": self.asked, "name": version.name, "version": version.id, "sha256": version.sha256}


@dataclass(frozen=True)
class Known:
    """Who can be named on this side.

    Attributes:
        versions: adapters whose files are on this machine; None for none.
        elsewhere: name to folder as the server sees it.
        is_open: whether any other name is one that the server may have.
    """

    versions: Adapters | None = None
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    is_open: bool = False


def adapters_of(given: Any) -> tuple[Known, str | dict[str, str] | None]:
    """Adapters by name, and how they are kept in a serialised LLM.

    Args:
        given: an `AdapterRegistry` or its folder, name to folder here or on the server, or None for whatever the server
            has.
    """
    from llama_index_hybridmem.llms.adapters.folders import FolderAdapters
    from llama_index_hybridmem.llms.adapters.registry import AdapterRegistry

    if given is None:
        return Known(is_open=True), None
    if isinstance(given, Mapping):
        folders = {str(name): str(path) for name, path in given.items()}
        here = {name: path for name, path in folders.items() if Path(path).is_dir()}
        elsewhere = {name: path for name, path in folders.items() if name not in here}
        return Known(FolderAdapters(here) if here else None, elsewhere), folders
    if isinstance(given, AdapterRegistry):
        return Known(given), str(given.path)
    if hasattr(given, "get") and hasattr(given, "names"):
        return Known(given), None
    return Known(AdapterRegistry(given)), str(given)


class RemoteAdapters:
    """The adapters that calls may name.

    Args:
        known: who they are.
        dialect: of the server.
        load_paths: see `seen_by_server`.
        base: folder of the base model on this machine, which adapters are checked against; None checks only what the
            adapter's own files tell.
        base_model: the base model's name on the server.
        tenants: where there are some, nobody is told of another's adapters.
    """

    def __init__(
        self,
        known: Known,
        dialect: Dialect,
        load_paths: Mapping[str, str],
        base: str | None,
        base_model: str,
        tenants: Tenants | None = None,
    ) -> None:
        self._known, self._dialect, self._load_paths = known, dialect, load_paths
        self._base, self._base_model, self._tenants = base, base_model, tenants
        self._record: Base | None = None
        self._lock = threading.Lock()

    def find(self, asked: str | None) -> Target:
        """Who a reference stands for now.

        Raises:
            UnknownAdapterError: nobody.
            AdapterNameError: no adapter can be called so.
        """
        if asked is None:
            return Target()
        if self._known.is_open:
            return Target(asked, asked)
        if asked in self._known.elsewhere:
            return Target(asked, asked, self._known.elsewhere[asked])
        if self._known.versions is None:
            raise self.unknown(asked)
        try:
            version = self._known.versions.get(asked)
        except UnknownAdapterError as error:
            raise self.unknown(asked, error.known) from error
        path = seen_by_server(version.folder.as_posix(), self._load_paths)
        ours = self._dialect.loads or self._dialect.fetches  # else whoever started the server gave it its name
        return Target(asked, version.id if ours else version.name, path, version)

    def unknown(self, asked: str, known: Sequence[str] | None = None) -> UnknownAdapterError:
        """The error for a reference that stands for nobody; a tenant hears of its own adapters only."""
        if self._tenants is not None:
            return UnknownAdapterError(asked, own_adapters(self._tenants))
        return UnknownAdapterError(asked, list(known) if known else self.names())

    def names(self) -> list[str]:
        """What can be named; empty where only the server knows."""
        here = [] if self._known.versions is None else list(self._known.versions.names())
        return sorted([*here, *self._known.elsewhere])

    def check(self, target: Target) -> None:
        """Reads an adapter's files and holds them against the base model.

        Args:
            target: one without a version passes: its files are not on this machine.

        Raises:
            AdapterRefusedError: file, key, what to do.
        """
        if target.version is None or self._known.versions is None:
            return
        from llama_index_hybridmem.llms.adapters.checks import base_of, static_checks

        files = self._known.versions.verify(target.version)
        if files.config.exclusive:
            raise AdapterRefusedError(
                files.folder / "adapter_config.json",
                None,
                "model servers do not serve adapters with DoRA or modules_to_save",
                "Use LoraHuggingFaceLLM for it, or train a plain LoRA",
            )
        with self._lock:
            if self._record is None and self._base is not None:
                self._record = base_of(self._base)
        for _ in static_checks(files, self._record, [self._base_model]):
            pass
