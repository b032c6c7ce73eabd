"""Writes a training set from drafts, shard by shard, in one process or many; knows no retriever and no terminal.

All that decides a shard's bytes lies in the folder: drafts, sample of passages, profile, options, mix. So a shard is
the same whoever makes it, and whenever.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from llama_index_hybridmem import __version__
from llama_index_hybridmem.errors import ConfigurationError, StoreDamagedError
from llama_index_hybridmem.export import on_ray, parallel
from llama_index_hybridmem.export.formats import provenance_row, row, tell
from llama_index_hybridmem.export.making import Chances, LeftOut, make_record
from llama_index_hybridmem.export.mixing import fit_mix, mix_of
from llama_index_hybridmem.export.options import ExportOptions
from llama_index_hybridmem.export.parts import Drafts, batched, finish, has_part, put_part, read_world
from llama_index_hybridmem.export.record import Draft, Record
from llama_index_hybridmem.export.shards import (
    COLLECTED,
    MIX,
    POOL,
    PROFILE,
    SETTINGS,
    SUMMARIES,
    Shard,
    fingerprint,
    is_done,
    keep,
    line,
    owned,
    part,
    read_object,
    training_line,
    write_object,
    write_shard,
)
from llama_index_hybridmem.export.splitting import held_out_sources, split_of
from llama_index_hybridmem.noise.defaults import default_profile
from llama_index_hybridmem.noise.detectors.measured import errors
from llama_index_hybridmem.noise.profile import Profile

SCHEMA = 1
Progress = Callable[[int, int], None]
"""(shards done, shards in all)."""


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        folder: where.
        shards: how many there are.
        made: how many of them this run made; 0: all were there.
        splits: split to records.
        abstained: records that are answered by abstaining.
        left_out: reason to questions and drafts that became no record; `shards/` names each by its id.
    """

    folder: str
    shards: int
    made: int
    splits: Mapping[str, int]
    abstained: int
    left_out: Mapping[str, int]

    @property
    def records(self) -> int:
        """Records in all."""
        return sum(self.splits.values())

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {**asdict(self), "records": self.records}


def export(
    drafts: Iterable[Draft] | None,
    folder: str | Path,
    options: ExportOptions | None = None,
    profile: Profile | None = None,
    *,
    num_proc: int = 1,
    ray: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write a training set; called again after a kill, go on where it was, and when all is there, do nothing.

    What is held in memory does not grow with the number of drafts: a shard and the sample of passages.

    Args:
        drafts: a stream is fine; the same ones each time. None: those that `collecting.collect` left in the folder.
        folder: the set's own; it is made if it is missing.
        options: default `ExportOptions()`.
        profile: the noise to make; default `noise.defaults.default_profile`.
        num_proc: processes; the bytes are the same for any number.
        ray: make shards on the Ray cluster that this process is connected to, or on one of this machine.
        progress: told of each shard.

    Raises:
        ConfigurationError: the folder holds an export with other options, another profile or other drafts (names the
            difference), or there are no drafts.
        StoreLockedError: another process is writing there.
        StoreError: the disk is full or read-only, or a worker died; shards that are done stay.
        MissingExtraError: Ray is not installed.
    """
    folder, profile = Path(folder), profile or default_profile()
    options = (options or ExportOptions()).of(profile)
    with owned(folder):
        _agree(folder, options, profile)
        if drafts is not None:
            _put(drafts, folder, options)
        known = Drafts.read(folder)
        _fit(folder, known, options, profile)
        missing = [number for number in range(len(known.parts)) if not is_done(folder, number)]
        place = str(folder.absolute())
        made = on_ray.run(make, place, missing) if ray and missing else parallel.run(make, place, missing, num_proc)
        for done, _ in enumerate(made, start=len(known.parts) - len(missing) + 1):
            if progress is not None:
                progress(done, len(known.parts))
        return _tally(folder, known, len(missing))


def make(folder: str, number: int) -> None:
    """Make and write one shard of the export in a folder."""
    place = Path(folder)
    made_of = "".join(fingerprint(place / name) for name in (SETTINGS, COLLECTED, MIX))
    write_shard(place, _maker(folder, made_of).shard(number))


class Maker:
    """Makes shards of one export, from what lies in its folder.

    Args:
        folder: of the export.

    Raises:
        StoreError: something that belongs there cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._options = read_options(folder)
        self._drafts = Drafts.read(folder)
        self._world = read_world(folder)
        profile = Profile.from_json(read_object(folder / PROFILE), str(folder / PROFILE))
        found = _mix(folder)
        mix = mix_of(profile, found)
        self._held_out = frozenset(found["held_out"])
        self._mixes = {"test": mix, "train": mix.without(self._options.held_out_kinds)}
        self._mixes["dev"] = self._mixes["train"]
        self._chances = Chances.of(self._options, self._drafts.answered, self._drafts.unanswered)

    def record(self, draft: Draft) -> Record | LeftOut:
        """Make a draft's record."""
        split = split_of(draft, self._options, self._held_out)
        mix = self._mixes[split or "train"]
        return make_record(draft, self._options, mix, self._world, split, self._chances)

    def shard(self, number: int) -> Shard:
        """Make a shard."""
        shard, splits, left_out = Shard(number), Counter[str](), dict[str, list[str]]()
        abstained = 0
        for draft in self._drafts.load(self._folder, number):
            record = self.record(draft)
            if isinstance(record, LeftOut):
                left_out.setdefault(record.reason, []).append(draft.id)
                continue
            splits[record.split] += 1
            abstained += not record.answerable
            self._add(shard, record, splits[record.split])
        shard.summary = {"splits": dict(splits), "abstained": abstained, "left_out": left_out}
        return shard

    def _add(self, shard: Shard, record: Record, place: int) -> None:
        shard.records.append(line(record.to_json()))
        told = tell(record, self._options.wording)
        for name in self._options.formats:
            made = training_line(row(record, name, self._options.wording, told))
            shard.files.setdefault(f"{name}/{record.split}", []).append(made)
        if "openai" in self._options.formats:
            beside = {**provenance_row(record), "split": record.split, "line": place}
            shard.files.setdefault("openai/provenance", []).append(training_line(beside))


@lru_cache(maxsize=1)
def _maker(folder: str, made_of: str) -> Maker:
    """A process's maker; ``made_of`` tells exports in one folder, one after the other, apart."""
    return Maker(Path(folder))


def _agree(folder: Path, options: ExportOptions, profile: Profile) -> None:
    settings = {"schema": SCHEMA, "made_by": __version__, "options": options.to_json(), "hash": options.hash}
    advice = "Give the same again to go on with it, or a new folder"
    keep(folder / SETTINGS, settings, "an export", advice)
    keep(folder / PROFILE, profile.to_json(), "a profile", advice)


def _put(drafts: Iterable[Draft], folder: Path, options: ExportOptions) -> None:
    count, complete = 0, (folder / COLLECTED).exists()
    for some in batched(drafts, options.shard_rows):
        if complete and not has_part(folder, count):
            raise ConfigurationError(f"{folder} was made from fewer drafts than are given now; use a new folder")
        put_part(folder, count, some, {})
        count += 1
    if has_part(folder, count):
        raise ConfigurationError(f"{folder} was made from more drafts than are given now; use a new folder")
    finish(folder, count, options.top_k)


def _fit(folder: Path, known: Drafts, options: ExportOptions, profile: Profile) -> None:
    if (folder / MIX).exists():
        return
    found = fit_mix(profile, options, _stream(folder, known), read_world(folder), errors())
    held_out = held_out_sources(_stream(folder, known), options) if options.held_out_domains else ()
    found["held_out"] = sorted(held_out)
    found["made_from"] = _sources(folder)
    write_object(folder / MIX, {**found, "hash": _hash(found)})


def _stream(folder: Path, known: Drafts) -> Iterator[Draft]:
    return (draft for number in range(len(known.parts)) for draft in known.load(folder, number))


def read_options(folder: Path) -> ExportOptions:
    """Read the options that an export in a folder was begun with.

    Raises:
        ConfigurationError: they are no options.
        StoreDamagedError: the file is not what was written.
        StoreError: it cannot be read.
    """
    place = folder / SETTINGS
    return ExportOptions.from_json(read_object(place, "options")["options"], str(place))


def _mix(folder: Path) -> Mapping[str, Any]:
    """Read what was fitted; what decides a shard's bytes must not have changed since."""
    found = read_object(folder / MIX, "rates", "made_from")
    if found.pop("hash", None) != _hash(found):
        raise StoreDamagedError(f"{folder / MIX} is not the file that was written; begin in a new folder")
    for name, was in _sources(folder).items():
        if found["made_from"].get(name) != was:
            raise StoreDamagedError(f"{folder / name} is not the file that was written; begin in a new folder")
    return found


def _sources(folder: Path) -> dict[str, str]:
    return {name: fingerprint(folder / name) for name in (COLLECTED, POOL)}


def _hash(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(row).encode()).hexdigest()[:16]


def _tally(folder: Path, known: Drafts, made: int) -> Exported:
    splits, left_out, abstained = Counter[str](), Counter(known.left_out), 0
    for number in range(len(known.parts)):
        place = part(folder, SUMMARIES, number)
        found = read_object(place)
        try:
            splits.update(found["splits"])
            left_out.update({reason: len(ids) for reason, ids in found["left_out"].items()})
            abstained += found["abstained"]
        except (KeyError, TypeError, AttributeError) as error:
            raise StoreDamagedError(f"{place}: not what an export writes: {error!r}") from error
    return Exported(str(folder), len(known.parts), made, dict(splits), abstained, dict(left_out))
