"""The files of one store: settings, a new shard, a shard opened again; knows no point and keeps nothing open.

A store's folder holds ``owner.lock``, ``store.json`` (what the shard was made with) and ``shard`` (the engine's files).
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import qdrant_edge as edge

from ..disk import atomic_write_text
from ..errors import StoreDamagedError, StoreError, StoreLockedError, StoreMismatchError
from .conditions import field_path
from .points import DENSE, SPARSE, TERMS, WINDOWS

FORMAT = 1
SETTINGS = "store.json"
SHARD = "shard"
MEND = "restore the folder from a copy or ingest anew"

ROOM_TO_OPEN, ROOM_TO_WRITE, ROOM_TO_DELETE = 64 * 2**20, 128 * 2**20, 16 * 2**20
"""Bytes that must be free on the disk. The engine writes through memory maps: where there is no room for a page of
them, the operating system kills the process (SIGBUS). Opening a shard took up to 61 MiB, adding 64 points well under
one, deleting 6,000 half of one: whoever makes room is not asked for as much as who takes it."""

_OPTIMIZE = "import sys, qdrant_edge as e; s = e.EdgeShard.load(sys.argv[1]); s.optimize(); s.close()"


@dataclass(frozen=True)
class Settings:
    """What a shard was made with.

    Attributes:
        dimension: floats per vector.
        language: of the BM25 encoder.
        average_length: BM25 terms per document that its sparse vectors were weighed with.
        number_fields: metadata fields with a number index.
        format: of this file and of the points.
    """

    dimension: int
    language: str
    average_length: float
    number_fields: tuple[str, ...] = ()
    format: int = FORMAT

    def write(self, folder: Path) -> None:
        """Write them into a store's folder, atomically."""
        atomic_write_text(folder / SETTINGS, json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Settings:
        """Read them.

        Raises:
            StoreDamagedError: the file is missing or not what we write.
            StoreMismatchError: written by a later version.
        """
        place = folder / SETTINGS
        try:
            fields = json.loads(place.read_text(encoding="utf-8"))
            written = fields.get("format")
            if written != FORMAT:
                raise StoreMismatchError(f"{place} has format {written!r}, this version reads {FORMAT}")
            return cls(**{**fields, "number_fields": tuple(fields["number_fields"])})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreDamagedError(f"{place} cannot be read: {error}; {MEND}") from error


def create(place: Path, settings: Settings) -> None:
    """Make an empty shard in an empty folder, with its indexes: later they would have to be built point by point."""

    def dense(several: edge.MultiVectorConfig | None = None) -> edge.EdgeVectorParams:
        return edge.EdgeVectorParams(settings.dimension, edge.Distance.Cosine, multivector_config=several)

    config = edge.EdgeConfig(
        vectors={DENSE: dense(), WINDOWS: dense(edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim))},
        sparse_vectors={SPARSE: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)},
    )
    # No graph links per term: measured, they cost a quarter of optimize() and no filtered search got better.
    keywords = edge.KeywordIndexParams(enable_hnsw=False)
    operations = [edge.UpdateOperation.create_field_index(TERMS, keywords), *map(number_index, settings.number_fields)]
    with guarded(place):
        engine = edge.EdgeShard.create(str(place), config)
        for operation in operations:
            engine.update(operation)
        engine.close()


def load(place: Path) -> edge.EdgeShard:
    """Open a shard.

    Raises:
        StoreLockedError: another process has it open.
        StoreDamagedError: its files cannot be read.
        StoreError: the disk is full.
    """
    check_room(place.parent, ROOM_TO_OPEN)
    for part in ("segments", "wal"):  # the engine would take a missing one for an empty one, and lose the points
        if not (place / part).is_dir() or not any((place / part).iterdir()):
            raise StoreDamagedError(f"{place} has no {part}; {MEND}")
    try:
        with guarded(place):
            return edge.EdgeShard.load(str(place))
    except StoreDamagedError:
        raise
    except StoreError as error:
        if "WouldBlock" in str(error):  # opened by the engine itself, past our lock
            raise StoreLockedError(place.parent, None) from error
        raise StoreDamagedError(f"{error}; {MEND}") from error


def optimize_in_child(place: Path) -> None:
    """Build a closed shard's search index in a process of its own.

    Raises:
        StoreError: it failed, with what it said.
    """
    done = subprocess.run([sys.executable, "-c", _OPTIMIZE, str(place)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StoreError(f"optimizing {place} failed (exit {done.returncode}): {done.stderr.strip()[-500:]}")


def check_room(folder: Path, needed: int) -> None:
    """See that the engine can do its work.

    Args:
        folder: a store's.
        needed: bytes.

    Raises:
        StoreError: less is free on its disk.
        StoreDamagedError: the folder is gone.
    """
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise StoreDamagedError(f"{folder} is gone: {error}; {MEND}") from error
    if free < needed:
        raise StoreError(
            f"{folder}: its disk is full: {free >> 20} MiB are free, the engine needs {needed >> 20}; what is stored "
            "is safe; make room and try again"
        )


def number_index(key: str) -> edge.UpdateOperation:
    """Give the update that makes a number index on a metadata field."""
    return edge.UpdateOperation.create_field_index(field_path(key), edge.FloatIndexParams(enable_hnsw=False))


@contextlib.contextmanager
def guarded(place: Path) -> Iterator[None]:
    """Turn the engine's bare exceptions into ours.

    Raises:
        StoreError: it refused.
        StoreDamagedError: it panicked: its files are not what it wrote.
    """
    try:
        yield
    except Exception as error:
        raise StoreError(f"{place}: {error}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # Rust's panic; its class cannot be imported
            raise
        raise StoreDamagedError(f"{place}: the engine gave up ({error}); {MEND}") from error
