"""Drafts on disk, in parts, and a sample of their passages; knows no retriever and nothing of what is made of them."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from llama_index_hybridmem.disk import atomic_write_bytes, make_folder, on_disk
from llama_index_hybridmem.errors import ConfigurationError, StoreDamagedError
from llama_index_hybridmem.export.names import Names, Twice
from llama_index_hybridmem.export.record import Draft, draft_from_json
from llama_index_hybridmem.export.shards import (
    COLLECTED,
    DRAFTS,
    POOL,
    line,
    part,
    read_object,
    read_rows,
    write_object,
)
from llama_index_hybridmem.noise.scene import Passage, World, passage_from_json, passage_to_json

POOL_SIZE = 2000
"""Passages in the sample that operators draw from: enough that two records seldom get the same one."""


@dataclass(frozen=True)
class Drafts:
    """What is known of the drafts in a folder.

    Attributes:
        parts: of each part, how many drafts it has and the SHA-256 of its file.
        answered: drafts with a passage that answers among those the prompt gets.
        unanswered: the others.
        left_out: reason to how many questions became no draft.
    """

    parts: tuple[tuple[int, str], ...]
    answered: int
    unanswered: int
    left_out: Mapping[str, int]

    @classmethod
    def read(cls, folder: Path) -> Drafts:
        """Read what `finish` wrote.

        Raises:
            ConfigurationError: there are no drafts, or not all yet.
            StoreDamagedError: the file is not what was written.
        """
        place = folder / COLLECTED
        if not place.is_file():
            raise ConfigurationError(f"{folder} holds no complete drafts: give drafts, or collect them first")
        row = read_object(place)
        try:
            parts = tuple((int(each["rows"]), str(each["sha256"])) for each in row["parts"])
            left_out = {str(why): int(n) for why, n in row["left_out"].items()}
            return cls(parts, int(row["answered"]), int(row["unanswered"]), left_out)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreDamagedError(f"{place}: not what an export writes: {error!r}") from error

    def load(self, folder: Path, number: int) -> Iterator[Draft]:
        """Read a part's drafts.

        Raises:
            StoreDamagedError: the file has changed since it was written.
        """
        place = part(folder, DRAFTS, number)
        with on_disk(place):
            content = place.read_bytes()
        if hashlib.sha256(content).hexdigest() != self.parts[number][1]:
            raise StoreDamagedError(f"{place} is not the file that was written; begin in a new folder")
        return (draft_from_json(row, where) for where, row in read_rows(place, content))


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Cut a stream into lists of this size; the last may be shorter."""
    stream = iter(items)
    while some := list(islice(stream, size)):
        yield some


def put_part(folder: Path, number: int, drafts: Sequence[Draft], left_out: Mapping[str, Sequence[str]]) -> None:
    """Write a part, or find it as it is.

    Args:
        folder: of the export.
        number: of the part.
        drafts: at most as many as a shard has rows.
        left_out: reason to the ids of questions that became no draft.

    Raises:
        ConfigurationError: a draft's id occurs twice or is no Unicode, or the part is there with other drafts.
        StoreError: it cannot be written.
    """
    for id_, count in Counter(each.id for each in drafts).items():
        if count > 1:
            raise ConfigurationError(f"{count} drafts have the id {id_!r}: each needs its own")
        if not id_.isascii() and id_.encode("utf-8", "ignore").decode("utf-8") != id_:
            raise ConfigurationError(f"the id {id_!r} holds half a character, so that no file can name it")
    place, content = part(folder, DRAFTS, number), b"".join(line(each.to_json()) for each in drafts)
    if place.exists():
        with on_disk(place):
            if place.read_bytes() != content:
                raise ConfigurationError(
                    f"{place} was written from other drafts than those given now; use a new folder"
                )
        return
    make_folder(place.parent)
    write_object(place.with_suffix(".json"), {reason: list(ids) for reason, ids in left_out.items()})
    atomic_write_bytes(place, content)


def has_part(folder: Path, number: int) -> bool:
    """Whether a part is whole."""
    return part(folder, DRAFTS, number).exists()


def finish(
    folder: Path, count: int, top_k: int, more: Iterable[Passage] = (), lost: Mapping[str, int] | None = None
) -> None:
    """Say that all parts are there: writes the sample of passages, then what is known of the drafts.

    Args:
        folder: of the export.
        count: of parts.
        top_k: passages that the prompt gets.
        more: further passages of the corpus for the sample.
        lost: reason to how many questions could not even be read.
    """
    if (folder / COLLECTED).exists():
        return
    sample, left_out, answered = Sample(POOL_SIZE), Counter(lost or {}), 0
    parts: list[dict[str, Any]] = []
    ids = Names()
    for number in range(count):
        place = part(folder, DRAFTS, number)
        with on_disk(place):
            content = place.read_bytes()
        drafts = [draft_from_json(row, where) for where, row in read_rows(place, content)]
        for draft in drafts:
            ids.add(draft.id)
            sample.add((*draft.scene.passages, *draft.scene.near))
        answered += sum(is_answered(draft, top_k) for draft in drafts)
        parts.append({"rows": len(drafts), "sha256": hashlib.sha256(content).hexdigest()})
        left_out.update({why: len(ids) for why, ids in read_object(place.with_suffix(".json")).items()})
    if twice := ids.twice():
        _refuse(folder, count, twice)
    sample.add(more)
    unanswered = sum(each["rows"] for each in parts) - answered
    atomic_write_bytes(folder / POOL, b"".join(line(passage_to_json(each)) for each in sample.passages()))
    found = {"parts": parts, "answered": answered, "unanswered": unanswered, "left_out": dict(left_out)}
    write_object(folder / COLLECTED, found)


def _refuse(folder: Path, count: int, twice: Twice) -> None:
    """Refuse ids that occur in two parts."""
    seen: dict[str, str] = {}
    for number in range(count):
        for place, row in read_rows(part(folder, DRAFTS, number)):
            if row["id"] in twice and seen.setdefault(row["id"], place) != place:
                raise ConfigurationError(
                    f"{place}: the id {row['id']!r:.80} is that of the draft at {seen[row['id']]}, too: each needs its "
                    "own; begin in a new folder"
                )


def is_answered(draft: Draft, top_k: int) -> bool:
    """Whether one of the passages that the prompt gets answers."""
    return any(each.id in draft.scene.gold for each in draft.scene.passages[:top_k])


def read_world(folder: Path) -> World:
    """Read the sample of passages.

    Raises:
        StoreError: it cannot be read.
        StoreDamagedError: it is not what was written.
    """
    try:
        return World(tuple(passage_from_json(row) for _, row in read_rows(folder / POOL)))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreDamagedError(f"{folder / POOL}: not what an export writes: {error!r}") from error


class Sample:
    """Passages whose ids have the smallest hashes: the same for the same passages, in whatever order they come.

    Args:
        size: of the sample.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: dict[str, Passage] = {}
        self._heap: list[tuple[int, str]] = []  # the largest hash first, negated

    def add(self, passages: Iterable[Passage]) -> None:
        """Offer passages; of two with one id the first stays."""
        for each in passages:
            if each.id not in self._kept and each.text.strip():
                self._offer(each)

    def _offer(self, passage: Passage) -> None:
        name = hashlib.blake2b(passage.id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        key = (-int.from_bytes(name, "big"), passage.id)
        if len(self._heap) >= self._size:
            if key <= self._heap[0]:
                return
            del self._kept[heapq.heappop(self._heap)[1]]
        heapq.heappush(self._heap, key)
        self._kept[passage.id] = replace(passage, score=None, damage=())

    def passages(self) -> list[Passage]:
        """The sample, in order of hash."""
        return [self._kept[id_] for _, id_ in sorted(self._heap, reverse=True)]
