"""Adapters by name: immutable versions, and aliases that move from one to the next; knows no model in memory.

A version's folder appears by one rename and never changes, so readers need no lock. Who holds an `AdapterVersion`
keeps serving it, wherever aliases move. Changes are made by one process at a time; what a killed one left unfinished
is swept by the next. Where the files lie says `registry_folder`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from llama_index_hybridmem.errors import AdapterNameError, ConfigurationError, UnknownAdapterError
from llama_index_hybridmem.llms.adapters.checks import base_of, static_checks
from llama_index_hybridmem.llms.adapters.files import AdapterFiles, open_adapter
from llama_index_hybridmem.llms.adapters.folders import FolderAdapters, OpenedAdapters
from llama_index_hybridmem.llms.adapters.names import LATEST, SHOWN_DIGITS, Reference, check_alias, check_name, parse
from llama_index_hybridmem.llms.adapters.registry_folder import RegistryFolder
from llama_index_hybridmem.llms.adapters.version import AdapterVersion, version_of

__all__ = ["AdapterRegistry", "AdapterVersion", "Adapters", "FolderAdapters"]


class Adapters(Protocol):
    """Adapters by name, wherever they lie; safe to share between threads."""

    def get(self, reference: str) -> AdapterVersion:
        """Find a version."""

    def names(self) -> list[str]:
        """Give the adapters' names, sorted."""

    def verify(self, version: AdapterVersion) -> AdapterFiles:
        """Check that a version's files are those that it was made of."""


class AdapterRegistry:
    """A folder of adapters that any number of processes and threads read and change.

    Args:
        path: the folder; it is made by the first `add`.
        lock_timeout_s: how long a change waits for another process's.

    Raises:
        ConfigurationError: the path is something else than a folder.
    """

    def __init__(self, path: Path | str, *, lock_timeout_s: float = 60.0) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise ConfigurationError(f"a registry of adapters is a folder, unlike {self.path}")
        self._folder = RegistryFolder(self.path, lock_timeout_s)
        self._opened = OpenedAdapters()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def get(self, reference: str) -> AdapterVersion:
        """Find a version; it costs microseconds when it was found before.

        Args:
            reference: ``brand`` (the same as ``brand@latest``), ``brand@prod``, or ``brand@1a2b3c4d``: eight or more
                digits of a version's hash.

        Raises:
            AdapterNameError: it is no reference.
            UnknownAdapterError: no such adapter, alias or version; lists those there are.
            AdapterRefusedError: the version's record is not what was written; its weights are looked at by `verify`.
            StoreError: the registry's files cannot be read.
        """
        wanted = parse(reference)
        sha256 = self._resolve(wanted)
        version = self._folder.version(wanted.name, sha256)
        while version is None and (now := self._resolve(wanted)) != sha256:  # the alias moved, and the old one went
            sha256, version = now, self._folder.version(wanted.name, now)
        if version is None:
            raise self._unknown(wanted)
        return version

    def names(self) -> list[str]:
        """Give the names of adapters with at least one version, sorted."""
        return self._folder.names()

    def versions(self, name: str) -> list[AdapterVersion]:
        """Give an adapter's versions, the one added last first.

        Raises:
            UnknownAdapterError: there is no such adapter.
            AdapterRefusedError: a version's record is damaged.
        """
        found = [self._folder.version(name, sha256) for sha256 in self._hashes(check_name(name))]
        there = [version for version in found if version is not None]
        return sorted(there, key=lambda version: (version.added, version.sha256), reverse=True)

    def aliases(self, name: str) -> dict[str, str]:
        """Give an adapter's aliases, each with the whole hash of the version that it stands for.

        Raises:
            UnknownAdapterError: there is no such adapter.
        """
        self._hashes(check_name(name))
        return self._folder.aliases(name).now

    def verify(self, version: AdapterVersion) -> AdapterFiles:
        """Check that a version's files are those that were added; reads them once per process, unless they change.

        Returns:
            The opened files, for loading.

        Raises:
            AdapterRefusedError: they are not, or they are not even an adapter's.
        """
        return self._opened.of(version)

    def check(
        self, reference: str, base: Path | str | tuple[Any, Any] | None = None, also_known_as: Sequence[str] = ()
    ) -> list[str]:
        """Run every check that needs no forward pass on a version as it lies in the registry.

        Args:
            reference: see `get`.
            base: see `add`.
            also_known_as: see `add`.

        Returns:
            A line for each check; all were passed.

        Raises:
            AdapterRefusedError: a check failed; names file, key and what to do.
            UnknownAdapterError: see `get`.
        """
        files = self.verify(self.get(reference))
        return list(static_checks(files, None if base is None else base_of(base), also_known_as))

    def add(
        self,
        folder: Path | str,
        name: str,
        *,
        base: Path | str | tuple[Any, Any] | None = None,
        aliases: Sequence[str] = (LATEST,),
        also_known_as: Sequence[str] = (),
        description: str = "",
        prompt_template: str | None = None,
        system_prompt: str | None = None,
        defaults: Mapping[str, Any] | None = None,
        lineage: Mapping[str, Any] | None = None,
    ) -> AdapterVersion:
        """Check an adapter, copy it into the registry, and let aliases stand for it.

        The same files with the same words are the version that is there already, and only the aliases move. With other
        prompts, defaults, description, lineage or another base they are a new version of the same weights: what a
        version says never changes. Killed before the end, it leaves no version, or one without its new aliases.

        Args:
            folder: as PEFT's ``save_pretrained`` wrote it; its configuration and its safetensors file are copied.
            name: see `names.check_name`.
            base: a model's folder, or (model, tokenizer); None leaves the comparison to whoever loads the adapter.
            aliases: see `names.check_alias`.
            also_known_as: further names of the base, for adapters that only name theirs.
            description: for people.
            prompt_template: must hold ``{prompt}``, which stands for the user's text.
            system_prompt: of calls that give none.
            defaults: options of calls that do not say: ``{"temperature": 0.2}``.
            lineage: what the adapter was made from; JSON values.

        Raises:
            AdapterNameError: the name or an alias cannot be had.
            AdapterRefusedError: a check failed; names file, key and what to do. Nothing was added.
            ConfigurationError: a template, default or lineage cannot be kept, or the base cannot be read.
            StoreError: the registry cannot be written, or another process kept it longer than the timeout.
        """
        check_name(name)
        pointing = [check_alias(alias) for alias in ([aliases] if isinstance(aliases, str) else aliases)]
        files = open_adapter(Path(folder))
        said: dict[str, Any] = {
            "description": description,
            "prompt_template": prompt_template,
            "system_prompt": system_prompt,
            "defaults": defaults,
            "lineage": lineage,
        }
        version_of(files, name, **said)  # what cannot be kept is told before the base is read, which takes seconds
        described = None if base is None else base_of(base)
        for _ in static_checks(files, described, also_known_as):
            pass
        made_for = files.made_for or (None if described is None else described.record)
        added = datetime.now(timezone.utc).isoformat(timespec="microseconds")
        version = version_of(files, name, made_for=made_for, added=added, **said)
        return self._keep(files, version, pointing)

    def alias(self, name: str, alias: str, version: str) -> AdapterVersion:
        """Let an alias stand for a version.

        Args:
            name: the adapter's.
            alias: see `names.check_alias`.
            version: another alias, eight or more digits of a hash, or a whole reference to this adapter.

        Returns:
            The version that the alias stands for now.

        Raises:
            AdapterNameError: the alias or the version cannot be called so, or the version is another adapter's.
            UnknownAdapterError: no such version.
            AdapterRefusedError: the version's record is damaged.
            StoreError: see `add`.
        """
        check_alias(alias)
        wanted = parse(version) if "@" in version else Reference(name, version)
        if wanted.name != name:
            raise AdapterNameError(f"{version} is no version of {name!r}")
        with self._folder.changing():
            found = self.get(str(wanted))
            self._folder.point(name, self._folder.aliases(name).moved([alias], found.sha256))
        return found

    def rollback(self, name: str, alias: str = LATEST) -> AdapterVersion:
        """Let an alias stand for what it stood for before; twice goes back twice.

        Returns:
            The version that the alias stands for now.

        Raises:
            UnknownAdapterError: no such adapter.
            ConfigurationError: no such alias, or it never stood for another version that is still there.
            AdapterRefusedError: the version's record is damaged.
            StoreError: see `add`.
        """
        check_name(name)
        with self._folder.changing():
            self._hashes(name)
            aliases = self._folder.aliases(name).rolled_back(alias)
            found = self.get(f"{name}@{aliases.now[alias]}")
            self._folder.point(name, aliases)
        return found

    def remove(self, reference: str, *, force: bool = False) -> None:
        """Remove one version (``brand@1a2b3c4d``, ``brand@old``), or an adapter with all of them (``brand``).

        Args:
            reference: see `get`, but that a bare name is the whole adapter.
            force: remove also what aliases stand for; they are gone with it, so that calls by them are refused.

        Raises:
            ConfigurationError: an alias stands for the version, or one other than ``latest`` for one of the adapter's.
            UnknownAdapterError: there is no such adapter or version.
            StoreError: see `add`.
        """
        wanted = parse(reference)
        with self._folder.changing():
            hashes = self._hashes(wanted.name)
            if "@" not in reference:
                self._refuse_standing(wanted.name, {*hashes}, force, but=LATEST)
                self._folder.discard(wanted.name)
                return
            sha256 = self._resolve(wanted)
            self._refuse_standing(reference, {sha256}, force)
            if hashes == [sha256]:
                self._folder.discard(wanted.name)
                return
            self._folder.point(wanted.name, self._folder.aliases(wanted.name).without(sha256))
            self._folder.discard(wanted.name, sha256)

    def _keep(self, files: AdapterFiles, version: AdapterVersion, aliases: Sequence[str]) -> AdapterVersion:
        """Write a new version, or take the one that is there, and move the aliases."""
        with self._folder.changing():
            kept = self._folder.version(version.name, version.sha256)
            if kept is None:
                self._folder.place(files, version)
                kept = self.get(f"{version.name}@{version.sha256}")
            else:
                self.verify(kept)
            self._folder.point(version.name, self._folder.aliases(version.name).moved(aliases, version.sha256))
        return kept

    def _refuse_standing(self, reference: str, hashes: set[str], force: bool, but: str | None = None) -> None:
        """Keep what aliases stand for; with force nothing is kept, so that a damaged list of aliases is no obstacle."""
        if force:
            return
        now = self._folder.aliases(parse(reference).name).now
        standing = sorted(alias for alias, sha256 in now.items() if sha256 in hashes and alias != but)
        if standing:
            raise ConfigurationError(
                f"{reference} is in use as {', '.join(standing)}: let that stand for another version first, or remove "
                "by force, which takes the alias away, too"
            )

    def _hashes(self, name: str) -> list[str]:
        """The hashes of an adapter that is there."""
        hashes = self._folder.hashes(name)
        if not hashes:
            raise UnknownAdapterError(name, self.names())
        return hashes

    def _resolve(self, wanted: Reference) -> str:
        """The whole hash of the version that a reference means."""
        hashes = self._hashes(wanted.name)
        if not wanted.by_hash:
            now = self._folder.aliases(wanted.name).now.get(wanted.version)
            if now is None:
                raise self._unknown(wanted)
            return now
        found = [sha256 for sha256 in hashes if sha256.startswith(wanted.version)]
        if len(found) > 1:
            raise AdapterNameError(f"{wanted} could be {' or '.join(sorted(found))}: give more digits")
        if not found:
            raise self._unknown(wanted)
        return found[0]

    def _unknown(self, wanted: Reference) -> UnknownAdapterError:
        """The error that lists what the adapter does have."""
        digits = sorted(sha256[:SHOWN_DIGITS] for sha256 in self._folder.hashes(wanted.name))
        known = [*sorted(self._folder.aliases(wanted.name).now), *digits]
        return UnknownAdapterError(str(wanted), [f"{wanted.name}@{version}" for version in known])
