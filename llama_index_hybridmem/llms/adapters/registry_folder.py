"""A registry's files: what is read without locks, and each change as one atomic step; decides nothing.

adapters/
  brand/
    aliases.json        which version each alias stands for, now and before
    1a2b…64 digits/     a version: adapter_config.json, adapter_model.safetensors, hybridmem.json (its record)
  .changing/            lock and unfinished work of who changes the registry; readers never look here
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llama_index_hybridmem.disk import LOCK_NAME, FolderLock, atomic_write_text, make_folder, on_disk, sync_folder
from llama_index_hybridmem.errors import AdapterNameError, AdapterRefusedError, StoreError, StoreLockedError
from llama_index_hybridmem.llms.adapters.aliases import Aliases
from llama_index_hybridmem.llms.adapters.files import CONFIG_FILE, WEIGHTS_FILE, AdapterFiles, open_adapter
from llama_index_hybridmem.llms.adapters.folders import state_of
from llama_index_hybridmem.llms.adapters.names import HASH_DIGITS, check_name, looks_like_a_hash
from llama_index_hybridmem.llms.adapters.version import RECORD, AdapterVersion, as_text, damaged, read_version

ALIASES = "aliases.json"
CHANGING = ".changing"

_AGAIN_S = 0.02  # between two looks at a lock that another process holds


class RegistryFolder:
    """The folder of a registry; safe to share between threads.

    Args:
        path: it is made by the first change.
        lock_timeout_s: how long a change waits for another process's.
    """

    def __init__(self, path: Path, lock_timeout_s: float) -> None:
        self.path = path
        self._lock_timeout_s = lock_timeout_s
        self._work = path / CHANGING
        self._versions: dict[Path, tuple[object, AdapterVersion]] = {}
        self._moves: dict[str, tuple[bytes, Aliases]] = {}

    def names(self) -> list[str]:
        """Give the adapters with at least one version, sorted; anything else in the folder is passed over."""
        return sorted(name for name in _folders(self.path) if _is_name(name) and self.hashes(name))

    def hashes(self, name: str) -> list[str]:
        """Give the hashes of an adapter's versions, in no order; none where there is no such adapter."""
        return [each for each in _folders(self.path / name) if len(each) == HASH_DIGITS and looks_like_a_hash(each)]

    def aliases(self, name: str) -> Aliases:
        """Give an adapter's aliases; they are read each time, since a file's time does not tell two quick moves apart.

        Raises:
            StoreDamagedError: the file is not what was written.
        """
        place = self.path / name / ALIASES
        with on_disk(place):
            try:
                content = place.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return Aliases()
        known = self._moves.get(name)
        if known is None or known[0] != content:
            known = self._moves[name] = content, Aliases.from_json(_parsed(content), str(place))
        return known[1]

    def version(self, name: str, sha256: str) -> AdapterVersion | None:
        """Give a version by its whole hash; None where it is not there (any more).

        Raises:
            AdapterRefusedError: its record is damaged.
        """
        folder = self.path / name / sha256
        state = state_of(folder / RECORD)
        known = self._versions.get(folder)
        if known is not None and known[0] == state:
            return known[1]
        with on_disk(folder / RECORD):
            try:
                version = read_version(folder, name)
            except (FileNotFoundError, NotADirectoryError) as error:
                if not folder.is_dir():
                    return None
                raise damaged(folder / RECORD, "it is missing") from error
        self._versions[folder] = state, version
        return version

    # -- changes, each within `changing` -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Keep other processes and threads from changing anything.

        Raises:
            StoreError: another process does not end, or the folder cannot be written.
        """
        with self._lock(), on_disk(self.path):
            for left in self._work.iterdir():  # by a killed process: its lock is ours now
                if left.name != LOCK_NAME:
                    _delete(left)
            yield

    def place(self, files: AdapterFiles, version: AdapterVersion) -> None:
        """Copy what is served of an adapter, make it durable, then let it appear under its name by one rename.

        Raises:
            AdapterRefusedError: the files changed since they were checked.
        """
        unfinished = self._work / version.sha256
        unfinished.mkdir()
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            shutil.copyfile(files.folder / name, unfinished / name)
            _sync_file(unfinished / name)
        if open_adapter(unfinished).sha256 != files.sha256:
            problem = "the files changed while they were being copied"
            raise AdapterRefusedError(files.folder, None, problem, "Add the adapter again when its training has ended")
        atomic_write_text(unfinished / RECORD, as_text(version.to_json()))
        place = self.path / version.name / version.sha256
        make_folder(place.parent)
        sync_folder(self.path)
        os.rename(unfinished, place)
        sync_folder(place.parent)

    def point(self, name: str, aliases: Aliases) -> None:
        """Put an adapter's aliases in place of those before, where they differ."""
        if aliases != self.aliases(name):
            atomic_write_text(self._work / ALIASES, as_text(aliases.to_json()))
            os.replace(self._work / ALIASES, self.path / name / ALIASES)
            sync_folder(self.path / name)

    def discard(self, name: str, sha256: str | None = None) -> None:
        """Let a version, or an adapter with all of them, vanish in one step; its files are deleted afterwards."""
        folder = self.path / name if sha256 is None else self.path / name / sha256
        gone = self._work / folder.name
        os.rename(folder, gone)
        sync_folder(folder.parent)
        _delete(gone)

    def _lock(self) -> FolderLock:
        ends = time.monotonic() + self._lock_timeout_s
        while True:
            try:
                return FolderLock(self._work)
            except StoreLockedError as error:
                if time.monotonic() >= ends:
                    owner = "another process" if error.pid is None else f"process {error.pid}"
                    raise StoreError(
                        f"{self.path} is being changed by {owner}, for more than {self._lock_timeout_s:g} s now; try "
                        "again when it is done. Reading goes on meanwhile."
                    ) from error
            time.sleep(_AGAIN_S)


def _sync_file(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, which need not be there."""
    with on_disk(folder):
        try:
            with os.scandir(folder) as entries:
                return [entry.name for entry in entries if entry.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []


def _is_name(name: str) -> bool:
    try:
        return bool(check_name(name))
    except AdapterNameError:
        return False


def _parsed(content: bytes) -> Any:
    """A JSON file's value; None, which no reader takes, where it is no JSON."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
