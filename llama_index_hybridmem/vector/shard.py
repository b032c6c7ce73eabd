"""The engine in use: opens, guards, scans and closes one Qdrant Edge shard; knows no node, question or filter tree.

The engine holds the interpreter's lock in every call. So whatever takes long is cut into short calls here, with a
chance for the other threads in between.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import qdrant_edge as edge

from ..disk import FolderLock, sync_folder
from ..errors import HybridMemoryError, StoreClosedError, StoreError, StoreLockedError
from .conditions import can_index
from .files import ROOM_TO_WRITE, SHARD, Settings, check_room, create, guarded, load, number_index, optimize_in_child

T = TypeVar("T")

UPSERT = 64
"""Points per engine call (the limit of the house is 256): 2 ms with 384 dimensions; larger calls save little."""
PAGE = 256
"""Points per page of a scan, payload included: about 5 ms."""


class Shard:
    """One shard: not made yet, open, or closed. Safe to share between threads; one process owns it.

    Args:
        folder: the store's folder; None: a temporary one, made with the shard and removed on close or at exit.
    """

    def __init__(self, folder: Path | None) -> None:
        self.lock = threading.RLock()
        self.settings: Settings | None = None
        self.writes = 0
        """Counts changes, so that what was computed from the content can be told stale."""
        self._folder = folder
        self._engine: edge.EdgeShard | None = None
        self._owner: FolderLock | None = None
        self._closed = False
        self._discard: Callable[[], object] | None = None
        self._pid = os.getpid()
        if folder is not None and (folder / SHARD).is_dir():
            self._open()

    @property
    def engine(self) -> edge.EdgeShard | None:
        """The engine itself; None while no shard is made."""
        return self._engine

    @property
    def folder(self) -> Path | None:
        """The store's folder; None for a temporary one that is not made yet."""
        return self._folder

    def check(self) -> None:
        """Raise if this shard cannot be used here and now.

        Raises:
            StoreClosedError: it was closed.
            StoreLockedError: this is a forked child of the owner.
        """
        if self._closed:
            raise StoreClosedError(f"the vector store {self._folder or 'in memory'} is closed")
        if self._pid != os.getpid():
            raise StoreLockedError(self._folder or Path(), self._pid)

    def call(self, operation: Callable[[edge.EdgeShard], T]) -> T:
        """Ask the engine, one thread at a time; its bare exceptions come out as ours.

        Raises:
            StoreError: the engine refused.
            StoreDamagedError: it panicked: its files are not what it wrote.
        """
        with self.lock:
            self.check()
            if self._engine is None:
                raise StoreError(f"no vector store in {self._folder or 'memory'} yet: add nodes first")
            with guarded(self._place()):
                answer = operation(self._engine)
            # Hands the interpreter's lock to whoever waits for it, while ours keeps the next caller from the engine: an
            # event loop waits for one call, and not for as many as there are threads.
            time.sleep(0)
            return answer

    def change(self, operation: edge.UpdateOperation, room: int = ROOM_TO_WRITE) -> None:
        """Apply one update, logged by the engine before this returns: it survives a kill.

        Args:
            operation: the update.
            room: bytes that must be free on the disk.

        Raises:
            StoreError: the disk is full, or the engine refused.
        """
        with self.lock:
            check_room(self._place().parent, room)
            self.writes += 1
            self.call(lambda engine: engine.update(operation))

    def make(self, settings: Settings) -> None:
        """Make the shard, empty: beside its place, and moved there when whole, so that a folder has a store or none.

        If another process has made one there meanwhile, that one is opened.

        Raises:
            StoreLockedError: another process owns the folder.
        """
        with self.lock:
            self.check()
            folder = self._own()
            if (folder / SHARD).is_dir():  # another process made it since we looked, and closed it again
                return self._open()
            check_room(folder, ROOM_TO_WRITE)
            for leftover in ("shard.new", "shard.old"):
                shutil.rmtree(folder / leftover, ignore_errors=True)
            (folder / "shard.new").mkdir()
            create(folder / "shard.new", settings)
            settings.write(folder)
            os.replace(folder / "shard.new", folder / SHARD)
            sync_folder(folder)
            return self._open()

    def amend(self, settings: Settings) -> None:
        """Write other settings for the shard as it now is."""
        with self.lock:
            self.check()
            settings.write(self._place().parent)
            self.settings = settings

    def empty(self) -> None:
        """Go back to having no shard."""
        with self.lock:
            self.check()
            if self._engine is not None:
                self._engine.close()
                self._engine, self.settings = None, None
                self.writes += 1
                old = self._place().with_name("shard.old")
                os.replace(self._place(), old)
                shutil.rmtree(old, ignore_errors=True)

    def index_numbers(self, keys: Sequence[str]) -> None:
        """Give fields a number index; takes 1 ms per 100 stored points and holds the interpreter's lock meanwhile."""
        with self.lock:
            settings = self.settings
            new = [key for key in keys if can_index(key) and settings and key not in settings.number_fields]
            for key in new:
                self.change(number_index(key))
            if new and settings:
                self.amend(replace(settings, number_fields=(*settings.number_fields, *new)))

    def upsert(self, points: Iterable[edge.Point]) -> None:
        """Write points in short calls; each is safe once its call is over."""
        made = batches(points, UPSERT)
        while self._upsert_next(made):
            pass

    def revise(self, vectors: Iterable[tuple[UUID, dict[str, edge.NamedVector]]]) -> None:
        """Put other vectors in the place of points' present ones of the same names, in short calls."""
        for some in batches(vectors, UPSERT):
            self.change(edge.UpdateOperation.update_vectors([edge.PointVectors(*one) for one in some]))

    def retrieve(self, ids: Sequence[UUID], vectors: bool = False) -> list[edge.Record]:
        """Read points with their payload; those that are not there are left out."""
        return self.call(lambda engine: engine.retrieve(list(ids), True, vectors))

    def pages(
        self,
        condition: edge.Filter | None,
        payload: bool | list[str] = False,
        *,
        vectors: bool = False,
        start: UUID | None = None,
    ) -> Iterator[list[edge.Record]]:
        """Scan the points under a condition, in the order of their ids.

        Args:
            condition: None for all.
            payload: whether to read it, or which keys of it.
            vectors: whether to read them.
            start: the first point; None: from the beginning.
        """
        offset: edge.PointId | None = start
        while True:
            request = edge.ScrollRequest(offset, PAGE, condition, with_payload=payload, with_vector=vectors)
            page, offset = self._scroll(request)
            yield page
            if offset is None:
                return

    def count(self, condition: edge.Filter | None = None) -> int:
        """Count the points under a condition."""
        return self.call(lambda engine: engine.count(edge.CountRequest(filter=condition, exact=True)))

    def optimize(self) -> None:
        """Build the search index here; the interpreter's lock is held until it is done."""
        self._check_room_for_twice()
        self.call(lambda engine: engine.optimize())

    def optimize_in_child(self) -> None:
        """Build the search index in a child process; calls from other threads wait, the interpreter does not.

        Raises:
            StoreError: the child failed; the shard is open again as it was.
        """
        with self.lock:
            self._check_room_for_twice()
            self.call(lambda engine: engine.close())
            self._engine = None
            try:
                optimize_in_child(self._place())
            finally:
                self._engine = load(self._place())

    def flush(self) -> None:
        """Write everything to its final place; without it the engine's log holds it."""
        if self._engine is not None:
            self.call(lambda engine: engine.flush())

    def close(self) -> None:
        """Close the engine and let others have the folder; twice is fine."""
        with self.lock:
            if self._closed or self._pid != os.getpid():
                return
            self._closed = True
            engine, self._engine = self._engine, None
            try:
                if engine is not None:
                    with guarded(self._place()):
                        engine.close()
            finally:
                if self._owner is not None:
                    self._owner.release()
                if self._discard is not None:
                    self._discard()

    def bytes_on_disk(self) -> int:
        """Add up what the engine's files take up, its log included; most of them have holes."""
        with self.lock:
            files = self._place().rglob("*") if self._engine is not None else ()
            return sum(_occupied(path.stat()) for path in files if path.is_file())

    def _upsert_next(self, made: Iterator[list[edge.Point]]) -> bool:
        # The points are made under our lock, too. Else several threads would wait for the interpreter's, which is
        # handed out at random: an event loop among them could lose many times in a row.
        with self.lock:
            some = next(made, None)
            if some is not None:
                self.change(edge.UpdateOperation.upsert_points(some))
            return some is not None

    def _scroll(self, request: edge.ScrollRequest) -> tuple[list[edge.Record], edge.PointId | None]:
        return self.call(lambda engine: engine.scroll(request))

    def _check_room_for_twice(self) -> None:
        """The engine writes its segments anew beside the old ones."""
        check_room(self._place().parent, self.bytes_on_disk() + ROOM_TO_WRITE)

    def _place(self) -> Path:
        assert self._folder is not None, "a shard that was made has a folder"
        return self._folder / SHARD

    def _own(self) -> Path:
        """Take hold of the folder, once."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="hybridmem-"))
            # At exit if not before: what nobody gave a place is not meant to stay.
            self._discard = weakref.finalize(self, _discard, self._folder, self._pid)
        if self._owner is None:
            self._owner = FolderLock(self._folder)
        return self._folder

    def _open(self) -> None:
        folder = self._own()
        try:
            self.settings = Settings.read(folder)
            self._engine = load(self._place())
        except HybridMemoryError:
            if self._owner is not None:
                self._owner.release()
                self._owner = None
            raise


def _discard(folder: Path, pid: int) -> None:
    """Remove a temporary folder, in the process that made it: a forked child may end first."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def _occupied(stat: os.stat_result) -> int:
    blocks: int | None = getattr(stat, "st_blocks", None)  # of 512 bytes each; not on Windows
    return stat.st_size if blocks is None else blocks * 512


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut into lists of at most `size`, lazily."""
    some: list[T] = []
    for item in items:
        some.append(item)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some
