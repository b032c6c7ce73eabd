"""Traces as JSON lines in a file that several processes may share; knows nothing of how they are read."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from llama_index_hybridmem.costs.exporters.reading import rotated
from llama_index_hybridmem.costs.exporting import Finished
from llama_index_hybridmem.costs.trace import QueryTrace
from llama_index_hybridmem.disk import make_folder, on_disk
from llama_index_hybridmem.errors import ConfigurationError, StoreError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_PATIENCE_S = 5.0
"""How long an append waits for the other processes: theirs take microseconds, unless one of them was stopped."""


class JsonlTraces:
    """Appends a line of JSON for every trace; docs/traces.md describes its fields.

    A line is written whole, by one call of the system, while this process alone holds the lock
    (``.traces.jsonl.lock`` beside the file); a line is in the file when `export` returns, and survives a kill of the
    process. It is not forced to the disk one by one: a power cut may take the last seconds. What another process left
    half-written when it was killed is ended with a line break, so that nothing else is lost with it.

    Args:
        path: the file; its folder is made.
        max_bytes: a file that would grow past this is put aside as ``traces.1.jsonl``, the one before it as
            ``traces.2.jsonl``, …; 64 MiB by default, some 29,000 traces.
        keep: how many files put aside are kept; the oldest beyond them is deleted.

    Raises:
        ConfigurationError: ``max_bytes`` or ``keep`` is below 1.
    """

    name = "jsonl"

    def __init__(self, path: str | Path, max_bytes: int = 64 * 2**20, keep: int = 10) -> None:
        for setting, value in (("max_bytes", max_bytes), ("keep", keep)):
            if value < 1:
                raise ConfigurationError(f"JsonlTraces: {setting} is {value}; it must be 1 or more")
        self._path = Path(path)
        self._lock = self._path.with_name(f".{self._path.name}.lock")
        self._max_bytes = max_bytes
        self._keep = keep

    def context(self) -> None:
        """Nothing of the asking thread is needed."""

    def export(self, finished: Finished) -> None:
        """Append one trace.

        Raises:
            StoreError: the disk is full or read-only, or another process does not let go of the lock; nothing was
                written, and the next trace tries again.
        """
        line = _line(finished.trace)
        make_folder(self._path.parent)
        with on_disk(self._path), _held(self._lock):
            if self._is_full(len(line)):
                self._rotate()
            _append(self._path, line)

    def close(self) -> None:
        """Nothing is left: every line is in the file already."""

    def _is_full(self, more: int) -> bool:
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return False
        return size > 0 and size + more > self._max_bytes

    def _rotate(self) -> None:
        """Put the full file aside; from the oldest on, so that a kill in between leaves a gap and loses nothing."""
        rotated(self._path, self._keep).unlink(missing_ok=True)
        for number in range(self._keep - 1, -1, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(rotated(self._path, number), rotated(self._path, number + 1))


def _line(trace: QueryTrace) -> bytes:
    """Give a line that every reader of JSON takes: without halves of characters, NaN and infinity."""
    text = json.dumps(trace.to_json(), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace") + b"\n"


def _append(path: Path, line: bytes) -> None:
    with open(path, "a+b", buffering=0) as file:  # unbuffered: one write is one call of the system
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            if file.read(1) != b"\n":
                line = b"\n" + line
        if file.write(line) != len(line):
            file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def _held(lock: Path) -> Iterator[None]:
    """Hold a lock file; the system frees it when this process dies."""
    with open(lock, "ab") as file:
        deadline = time.monotonic() + _PATIENCE_S
        while not _take(file.fileno()):
            if time.monotonic() > deadline:
                raise StoreError(f"{lock}: held by another process for {_PATIENCE_S:g} s; is one of them stopped?")
            time.sleep(0.001)
        try:
            yield
        finally:
            _free(file.fileno())


if sys.platform == "win32":

    def _take(descriptor: int) -> bool:
        try:
            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _free(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
else:

    def _take(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _free(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # by name: a fork in between has the same lock and would keep it
