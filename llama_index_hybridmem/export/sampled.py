"""A sample of an export's records, kept as the places where they stand; knows nothing of what is looked for in them."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterator
from pathlib import Path

from llama_index_hybridmem.disk import on_disk
from llama_index_hybridmem.export.record import Record, record_from_json


class Sampled:
    """Where the records of the smallest hashes stand: the same sample whatever the order of the shards.

    Args:
        most: records in the sample.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[int, str, int, int]] = []  # the largest hash first

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, id_: str, place: tuple[Path, tuple[int, int]]) -> None:
        """Offer a record: its id, its file, and the byte where it begins and its length in bytes."""
        hashed = hashlib.blake2b(id_.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        path, (start, size) = place
        entry = (-int.from_bytes(hashed, "big"), str(path), start, size)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, entry)
        elif self._heap and entry > self._heap[0]:
            heapq.heapreplace(self._heap, entry)

    def records(self) -> Iterator[Record]:
        """Read them again."""
        for _, path, start, size in sorted(self._heap, key=lambda each: each[1:]):
            with on_disk(Path(path)), open(path, "rb") as file:
                file.seek(start)
                content = file.read(size)
            yield record_from_json(json.loads(content), path)
