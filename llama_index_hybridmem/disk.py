"""Files that survive a kill: atomic writes, a lock that names its owner, a journal; knows nothing of the content."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from .errors import StoreDamagedError, StoreError, StoreLockedError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_NAME = "owner.lock"
_LOCKED_BYTE = 1 << 30  # far past the pid: on Windows a locked byte cannot be read by others


@contextlib.contextmanager
def on_disk(path: Path) -> Iterator[None]:
    """Tell what the system says of a place on disk as our error: full, read-only, no folder.

    Raises:
        StoreError: names the place; the system's error is its cause.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}") from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; one that is there is fine.

    Raises:
        StoreError: it cannot be made.
    """
    with on_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or the next process after a kill, sees all of it or the old one.

    Args:
        path: the file; its folder must exist.
        content: all of the new content.

    Raises:
        StoreError: it cannot be written; the old file stands.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    with on_disk(path):
        try:
            with open(unfinished, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def atomic_write_text(path: Path, content: str) -> None:
    """`atomic_write_bytes` in UTF-8, line ends as they are."""
    atomic_write_bytes(path, content.encode("utf-8"))


def sync_folder(folder: Path) -> None:
    """Make a rename or a new name in a folder durable; Windows has no such call and needs none."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class FolderLock:
    """One owner at a time for a folder, across processes and within one; the system frees it when the owner dies.

    Args:
        folder: the folder; it is made if it is missing.

    Raises:
        StoreLockedError: somebody owns it already; names the pid, as far as it can be read.
        StoreError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self._folder = folder
        with on_disk(folder):
            self._descriptor: int | None = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(self._descriptor)
        except OSError as error:
            owner = _read_pid(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
            raise StoreLockedError(folder, owner) from error
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, b"%d\n" % os.getpid())

    def release(self) -> None:
        """Let others have the folder; twice is fine. The file stays: removing it would race with the next owner."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.ftruncate(descriptor, 0)
            _unlock(descriptor)
            os.close(descriptor)

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Journal:
    """A file of JSON lines, each on the disk before ``append`` returns; safe to share between threads.

    A kill in the middle of an append leaves a torn last line: it was never acknowledged, so it is dropped.

    Args:
        path: the file; it is made by the first append.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry.

        Args:
            entry: anything ``json.dumps`` takes as an object.

        Raises:
            StoreError: it cannot be written.
        """
        line = json.dumps(entry, ensure_ascii=False).encode("utf-8") + b"\n"
        with self._lock, on_disk(self._path):
            is_new = not self._path.exists()
            with open(self._path, "a+b") as file:
                file.truncate(_acknowledged(file))
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                sync_folder(self._path.parent)

    def entries(self) -> list[dict[str, Any]]:
        """Give every acknowledged entry, in order.

        Raises:
            StoreDamagedError: a line that is not the torn last one cannot be read.
            StoreError: the file cannot be opened.
        """
        with self._lock, on_disk(self._path):
            content = self._path.read_bytes() if self._path.exists() else b""
        *lines, _torn = content.split(b"\n")
        found = []
        for number, line in enumerate(lines, start=1):
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise StoreDamagedError(f"{self._path}, line {number}: not a JSON line: {error}") from error
        return found

    def clear(self) -> None:
        """Drop all entries."""
        with self._lock, on_disk(self._path), contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
            sync_folder(self._path.parent)


def _acknowledged(file: BinaryIO) -> int:
    """Return the size of a journal without its torn last line."""
    file.seek(0)
    return file.read().rfind(b"\n") + 1


if sys.platform == "win32":

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
else:

    def _lock(descriptor: int) -> None:
        # flock, not lockf: a POSIX record lock would be lost as soon as this process closes the file anywhere else,
        # and would not keep a second opener in the same process out.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _read_pid(descriptor: int) -> int | None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    written = os.read(descriptor, 32).strip()
    return int(written) if written.isdigit() else None
