"""A file of chained records that processes share and a kill does not break; knows nothing of what a record says."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from llama_index_hybridmem.costs.audit.chain import START, Fault, Head, canonical, checked, head_of, parse, seal
from llama_index_hybridmem.disk import FolderLock, make_folder, on_disk, sync_folder
from llama_index_hybridmem.errors import ConfigurationError, StoreDamagedError, StoreError, StoreLockedError

_PATIENCE_S, _PAUSE_S = 60.0, 0.002
_BLOCK = 1 << 16
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
_OWNER_ONLY = 0o600
_NAME = re.compile(rb'"(?:prev|hash)":')
_MARKS = {b'"prev":', b'"hash":'}


class ChainFile:
    """A file of chained records.

    Args:
        path: the file, made by the first writer for its owner alone; a folder ``<path>.lock`` keeps writers apart.
        key: of the seals; None for none.
        clock: Unix seconds.
    """

    def __init__(self, path: Path, key: bytes | None, clock: Callable[[], float]) -> None:
        self._path = path
        self._key = key
        self._clock = clock

    def head(self) -> Head:
        """Say where the chain ends; asks no lock."""
        with on_disk(self._path), open(self._path, "rb") as file:
            last, _ = _tail(file)
        return self._head(last)

    def lines(self) -> Iterator[bytes]:
        """Give the lines as they stand, with their ends; asks no lock."""
        with on_disk(self._path), open(self._path, "rb") as file:
            yield from file

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Wait for one's turn, then write; a torn last line is cut off first, and a record says so.

        Raises:
            StoreError: the file cannot be written, or another process does not let go of it for a minute.
            StoreDamagedError: the last record does not hold.
            ConfigurationError: it is sealed with another key.
        """
        make_folder(self._path.parent)
        with self._turn(), on_disk(self._path), os.fdopen(os.open(self._path, _FLAGS, _OWNER_ONLY), "r+b") as file:
            _unfinished(self._path).unlink(missing_ok=True)  # a kill may have left it, with what was to be removed
            last, end = _tail(file)
            writer = Writer(self._path, file, self._head(last), end, self._key)
            torn = file.seek(0, os.SEEK_END) - end
            if torn:
                writer.append({"kind": "repaired", "at": round(self._clock(), 3), "torn_bytes": torn})
            yield writer

    def _head(self, last: bytes) -> Head:
        if not last:
            return START
        record = checked(last, 0, self._key)
        if not isinstance(record, Fault):
            return head_of(record)
        if record.problem == "key":
            raise ConfigurationError(f"{self._path}: {record.message}; give that key, or begin another file")
        raise StoreDamagedError(
            f"{self._path}, last line: {record.message}; move the file aside and look at it: hybridmem audit verify"
        )

    @contextmanager
    def _turn(self) -> Iterator[None]:
        # Not a lock on the file itself: a rewrite puts another file in its place.
        folder = self._path.with_name(f"{self._path.name}.lock")
        latest = time.monotonic() + _PATIENCE_S
        while True:
            try:
                lock = FolderLock(folder)
                break
            except StoreLockedError as error:
                if time.monotonic() > latest:
                    told = f"{self._path}: process {error.pid} has not let go of it for {_PATIENCE_S:g} s"
                    raise StoreError(told) from error
            time.sleep(_PAUSE_S)
        with lock:
            yield


class Writer:
    """Writes to a file of chained records, as long as it is its turn.

    Attributes:
        head: where the chain ends.
    """

    def __init__(self, path: Path, file: BinaryIO, head: Head, end: int, key: bytes | None) -> None:
        self.head = head
        self._path = path
        self._file = file
        self._end = end
        self._key = key

    def append(self, fields: Mapping[str, Any]) -> None:
        """Seal a record and put it on the disk."""
        record = seal(fields, self.head, self._key)
        line = canonical(record) + b"\n"
        self._file.seek(self._end)
        self._file.write(line)
        self._file.truncate()
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._end == 0:
            sync_folder(self._path.parent)
        self._end += len(line)
        self.head = head_of(record)

    def lines(self) -> Iterator[bytes]:
        """Give the lines that are there, with their ends."""
        self._file.seek(0)
        return iter(self._file)  # no generator: closing one that yields from a file closes the file

    def replace(self, lines: Iterable[bytes]) -> None:
        """Put another file in the place of this one, whole or not at all; nothing can be written after it."""
        unfinished = _unfinished(self._path)
        try:
            with os.fdopen(os.open(unfinished, _FLAGS | os.O_TRUNC, _OWNER_ONLY), "wb") as file:
                shutil.copymode(self._path, unfinished)
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            self._file.close()
            os.replace(unfinished, self._path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        sync_folder(self._path.parent)


def _unfinished(path: Path) -> Path:
    """Where a new file is written; one name, so that the next writer finds what a kill left."""
    return path.with_name(f".{path.name}.new")


def _tail(file: BinaryIO) -> tuple[bytes, int]:
    """The last whole line, b"" without one, and the place where it ends."""
    size = place = file.seek(0, os.SEEK_END)
    content = b""
    while place > 0 and content.count(b"\n") < 2:
        step = min(_BLOCK, place)
        place -= step
        file.seek(place)
        content = file.read(step) + content
    whole, _, torn = content.rpartition(b"\n")
    end = size - len(torn)
    return (whole.rpartition(b"\n")[2] + b"\n" if end else b""), end


def holds_records(path: Path) -> bool:
    """Tell whether a file may be a log, damaged or not: it is empty, torn in line 1, or has a line with both hashes.

    Args:
        path: a file.

    Raises:
        StoreError: it cannot be read.
    """
    with on_disk(path), open(path, "rb") as file:
        first = file.readline()
        return not first.endswith(b"\n") or any(set(_NAME.findall(line)) >= _MARKS for line in chain([first], file))


def readable(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Give the records among lines, whether they hold or not."""
    return (record for record in (parse(line.rstrip(b"\n")) for line in lines) if record is not None)
