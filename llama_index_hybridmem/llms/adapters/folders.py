"""Adapters in folders of the user's, by name, where they lie: nothing copied, opened on use; knows no registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from llama_index_hybridmem.errors import AdapterRefusedError, UnknownAdapterError
from llama_index_hybridmem.llms.adapters.files import (
    CONFIG_FILE,
    RECORD_FILE,
    TEMPLATE_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    AdapterFiles,
    open_adapter,
)
from llama_index_hybridmem.llms.adapters.names import LATEST, check_name, parse
from llama_index_hybridmem.llms.adapters.version import AdapterVersion, version_of

_READ = (CONFIG_FILE, WEIGHTS_FILE, RECORD_FILE, TOKENIZER_FILE, TEMPLATE_FILE)


class FolderAdapters:
    """Adapters by name from a plain dict of folders; safe to share between threads.

    A folder is opened when its adapter is asked for, and again when its files changed; then it is another version.

    Args:
        folders: name to the folder that PEFT's ``save_pretrained`` wrote.

    Raises:
        AdapterNameError: a name that no adapter can have.
    """

    def __init__(self, folders: Mapping[str, Path | str]) -> None:
        self._folders = {check_name(name): Path(folder) for name, folder in folders.items()}
        self._opened = OpenedAdapters()
        self._versions: dict[str, tuple[AdapterFiles, AdapterVersion]] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({ {name: str(folder) for name, folder in self._folders.items()} })"

    def names(self) -> list[str]:
        """Give the adapters' names, sorted."""
        return sorted(self._folders)

    def get(self, reference: str) -> AdapterVersion:
        """Give an adapter as its folder is now; microseconds while the files stay as they are.

        Args:
            reference: ``brand``, ``brand@latest``, or ``brand@1a2b3c4d``, which holds the files to that version.

        Raises:
            AdapterNameError: it is no reference.
            UnknownAdapterError: no such adapter, or its folder holds another version.
            AdapterRefusedError: the folder holds no adapter that can be served.
        """
        wanted = parse(reference)
        if wanted.name not in self._folders:
            raise UnknownAdapterError(reference, self.names())
        files = self._opened.open(self._folders[wanted.name])
        before = self._versions.get(wanted.name)
        if before is None or before[0] is not files:
            before = self._versions[wanted.name] = files, version_of(files, wanted.name, made_for=files.made_for)
        version = before[1]
        if wanted.version != LATEST and not (wanted.by_hash and version.sha256.startswith(wanted.version)):
            raise UnknownAdapterError(reference, [f"{wanted.name}@{LATEST}", version.id])
        return version

    def verify(self, version: AdapterVersion) -> AdapterFiles:
        """Check that the files are still those of a version.

        Raises:
            AdapterRefusedError: they changed since.
        """
        return self._opened.of(version)


class OpenedAdapters:
    """Opened folders, hashed once and again when a file changed; safe to share between threads.

    A change is seen by a file's time, size and place on disk: who rewrites a file and sets all three back goes unseen
    until the next process.
    """

    def __init__(self) -> None:
        self._known: dict[Path, tuple[object, AdapterFiles]] = {}

    def open(self, folder: Path) -> AdapterFiles:
        """Open a folder.

        Raises:
            AdapterRefusedError: see `files.open_adapter`.
        """
        state = [state_of(folder / name) for name in _READ]  # before reading: what changes meanwhile is read again
        known = self._known.get(folder)
        if known is None or known[0] != state:
            known = self._known[folder] = state, open_adapter(folder)
        return known[1]

    def of(self, version: AdapterVersion) -> AdapterFiles:
        """Open a version's folder, which must hold what the version was made of.

        Raises:
            AdapterRefusedError: it does not.
        """
        files = self.open(version.folder)
        if files.sha256 != version.weights_sha256:
            raise AdapterRefusedError(
                version.folder,
                None,
                f"{CONFIG_FILE} or {WEIGHTS_FILE} is not what it was when {version.id} was made",
                "Restore the folder from a copy, or remove the version and add the adapter again",
            )
        return replace(
            files,
            made_for=version.made_for,
            tokenizer_sha256=version.tokenizer_sha256,
            chat_template_sha256=version.chat_template_sha256,
        )


def state_of(path: Path) -> object:
    """What changes when a file is written or replaced; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
