"""Reads an export's folder once from end to end, says all that can be said of it, and writes its report and card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from llama_index_hybridmem.disk import atomic_write_text, on_disk
from llama_index_hybridmem.errors import ConfigurationError, StoreDamagedError
from llama_index_hybridmem.export.card import card
from llama_index_hybridmem.export.checks import Tallies, Tally
from llama_index_hybridmem.export.description import Description, FactsFound, Noise, noise_lines
from llama_index_hybridmem.export.drift import Drifting
from llama_index_hybridmem.export.facts import unsupported
from llama_index_hybridmem.export.leakage import Leaks
from llama_index_hybridmem.export.lengths import Lengths
from llama_index_hybridmem.export.near_duplicates import Questions
from llama_index_hybridmem.export.options import FORMATS, SPLITS, ExportOptions
from llama_index_hybridmem.export.parts import Drafts
from llama_index_hybridmem.export.record import Record, encodable, record_from_json
from llama_index_hybridmem.export.report_page import page
from llama_index_hybridmem.export.sampled import Sampled
from llama_index_hybridmem.export.shards import (
    COLLECTED,
    PROFILE,
    RECORDS,
    SETTINGS,
    SUMMARIES,
    part,
    read_object,
    read_rows,
)
from llama_index_hybridmem.export.style import Style
from llama_index_hybridmem.noise.detectors import catalog
from llama_index_hybridmem.noise.detectors.measured import errors as detectors_errors
from llama_index_hybridmem.noise.distance import distance
from llama_index_hybridmem.noise.measuring import measure
from llama_index_hybridmem.noise.profile import KindRate, Profile
from llama_index_hybridmem.noise.scene import Passage, Scene
from llama_index_hybridmem.statistics import wilson

MEASURED = 5000
"""Records that the detectors look at, those of the smallest hashes: a share is then known to 1.4 points at worst (half
of a 95 % interval, taking passages of one record for one)."""
REPORT, PAGE, CARD = "report.json", "report.html", "README.md"
HELD_OUT = "held out: made in test alone, while shares are of all records"
UNFINISHED = "the export was interrupted before them; run it again"
_NAMED = 20
_DETECTORS = catalog  # importing it registers them


def describe(
    folder: str | Path,
    tokenizer: Any = None,
    max_length: int | None = None,
    *,
    measured: int = MEASURED,
    write: bool = True,
) -> Description:
    """Say all that can be said of a training set.

    Args:
        folder: of an export.
        tokenizer: name or folder of one of transformers, an object with ``encode``, a function of a text to its
            tokens; None: lengths are estimated from bytes.
        max_length: the trainer's, to be judged; None: TRL's default, 1024.
        measured: how many records the detectors look at.
        write: put report.json, report.html and README.md, the dataset card, into the folder.

    Returns:
        the description.

    Raises:
        ConfigurationError: the folder is no export, or a line is no record: names the place.
        StoreDamagedError: a line is no JSON: names the place.
        StoreError: something cannot be read or written.
        MissingExtraError: the tokenizer is a name, and transformers is not installed.
    """
    folder = Path(folder)
    found = _Reading(folder, tokenizer, max_length, measured).description()
    if write:
        for name, content in ((REPORT, _json(found)), (PAGE, page(found)), (CARD, card(found, _old(folder / CARD)))):
            atomic_write_text(folder / name, encodable(content))
    return found


def records(folder: str | Path) -> Iterator[tuple[str, Record]]:
    """Read a training set's records, in order.

    Args:
        folder: of an export.

    Yields:
        where it stands, and the record.

    Raises:
        ConfigurationError: the folder is no export, or a line is no record.
        StoreError: something cannot be read.
    """
    for path in record_files(Path(folder)):
        for place, row in read_rows(path):
            yield place, record_from_json(row, place)


def record_files(folder: Path) -> list[Path]:
    """Name the record files of an export, in order; of one that was made from no drafts there are none.

    Raises:
        ConfigurationError: there should be some.
    """
    found = sorted((folder / RECORDS).glob("part-*.jsonl"))
    if not found and not ((folder / COLLECTED).exists() and not Drafts.read(folder).parts):
        raise ConfigurationError(f"{folder} is no finished export: it has no {RECORDS}/part-*.jsonl")
    return found


def format_files(folder: Path) -> dict[str, list[tuple[str, Path]]]:
    """Name the format files of an export: format to (split, file), in order of the shards."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for name in FORMATS:
        files = [(str(split), path) for split in SPLITS for path in (folder / name).glob(f"{split}-*.jsonl")]
        if files:
            found[name] = sorted(files, key=lambda each: (each[1].stem.rpartition("-")[2], each[0]))
    return found


class _Reading:
    """One pass over a folder."""

    def __init__(self, folder: Path, tokenizer: Any, max_length: int | None, measured: int) -> None:
        self._folder = folder
        self._files = format_files(folder)
        first = next(iter(self._files), None)
        self._lengths = None if first is None else Lengths(first, tokenizer, max_length)
        self._tally, self._leaks, self._style, self._drift = Tally(), Leaks(), Style(), Drifting()
        self._facts: Counter[str] = Counter()
        self._doubtful: list[tuple[str, str]] = []
        self._sample = Sampled(measured)

    def description(self) -> Description:
        settings = _settings(self._folder)
        with Questions() as questions:
            for path in record_files(self._folder):
                for row, (place, at) in _placed(path):
                    self._add(record_from_json(row, place), questions, path, at)
            rows = dict(self._rows())
            tallies = self._tally.result()
            profile = self._profile()
            noise = self._noise(tallies, profile, settings)
            return Description(
                self._folder.absolute().name,
                settings,
                profile,
                tallies,
                _left_out(self._folder),
                noise,
                questions.result(),
                self._leaks.result(),
                self._facts_found(tallies),
                self._style.result(),
                self._drift.result(),
                None if self._lengths is None else self._lengths.result(),
                rows,
            )

    def _add(self, record: Record, questions: Questions, path: Path, at: tuple[int, int]) -> None:
        self._tally.add(record)
        self._leaks.add(record)
        self._drift.add(record)
        questions.add(record)
        self._sample.add(record.id, (path, at))
        if record.answerable:
            self._style.add(record.id, record.answer)
        if missing := unsupported(record):
            self._facts["any"] += 1
            self._facts.update({each.kind for each in missing})
            if len(self._doubtful) < _NAMED:
                self._doubtful.append((record.id, "; ".join(f"{each.kind} {each.text!r}" for each in missing)))

    def _rows(self) -> Iterator[tuple[str, Mapping[str, int]]]:
        """Count each format's rows; those of the first are measured, too."""
        for name, files in self._files.items():
            counts: Counter[str] = Counter()
            for split, path in files:
                if self._lengths is not None and name == next(iter(self._files)):
                    for _, row in read_rows(path):
                        self._lengths.add(row)
                        counts[split] += 1
                else:
                    counts[split] += _lines(path)
            yield name, {split: counts[split] for split in SPLITS if counts[split]}

    def _facts_found(self, tallies: Tallies) -> FactsFound:
        kinds = {kind: n for kind, n in sorted(self._facts.items()) if kind != "any"}
        return FactsFound(tallies.answerable, self._facts["any"], kinds, tuple(self._doubtful))

    def _profile(self) -> Profile | None:
        path = self._folder / PROFILE
        return Profile.from_json(read_object(path), str(path)) if path.exists() else None

    def _noise(self, tallies: Tallies, profile: Profile | None, settings: Mapping[str, Any]) -> Noise:
        """Measure a sample, as retrieved and as damaged."""
        errors = detectors_errors()
        natural = measure((_scene(each, each.clean) for each in self._sample.records()), errors, "as retrieved")
        natural = _labelled(natural, tallies.without_gold, tallies.records)
        achieved = measure((_scene(each, each.noisy) for each in self._sample.records()), errors, "with noise")
        achieved = _labelled(achieved, tallies.abstained, tallies.records)
        options = ExportOptions.from_json(settings.get("options", {}))
        target = None if profile is None else _wanted(profile, options, natural)
        gaps = distance((target or Profile({})).without(options.held_out_kinds), achieved)
        left_out = {**gaps.left_out, **dict.fromkeys(options.held_out_kinds, HELD_OUT)}
        lines = noise_lines(tallies, target, natural, achieved, left_out)
        return Noise(lines, len(self._sample), gaps.total_variation, gaps.mean)


def _scene(record: Record, passages: tuple[Passage, ...]) -> Scene:
    """What a detector may see: neither the damage nor what answers."""
    return Scene(record.question, tuple(replace(each, damage=()) if each.damage else each for each in passages))


def _placed(path: Path) -> Iterator[tuple[Any, tuple[str, tuple[int, int]]]]:
    """Each row, its place for messages, and the bytes where it stands."""
    with on_disk(path):
        content = path.read_bytes()
    start = 0
    lines = content.split(b"\n")
    for number, text in enumerate(lines, start=1):
        if text:
            yield _row(text, f"{path}, line {number}"), (f"{path}, line {number}", (start, len(text)))
        start += len(text) + 1


def _row(text: bytes, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoreDamagedError(f"{place}: not JSON: {error}") from error


def _lines(path: Path) -> int:
    with on_disk(path):
        return sum(1 for line in path.read_bytes().split(b"\n") if line)


def _left_out(folder: Path) -> dict[str, int]:
    """Reason to questions that became no record: no draft, none of their draft, or not yet."""
    found: Counter[str] = Counter()
    for path in sorted((folder / SUMMARIES).glob("part-*.json")):
        left_out = read_object(path, "left_out")["left_out"]
        found.update({why: len(ids) for why, ids in left_out.items()})
    if (folder / COLLECTED).exists():
        drafts = Drafts.read(folder)
        found.update(drafts.left_out)
        done = {path.name for path in record_files(folder)}
        missing = (rows for at, (rows, _) in enumerate(drafts.parts) if part(folder, RECORDS, at).name not in done)
        found.update({UNFINISHED: sum(missing)})
    return {why: n for why, n in sorted(found.items()) if n}


def _settings(folder: Path) -> dict[str, Any]:
    """Options, version and hash; {} for a folder that has lost them."""
    place = folder / SETTINGS
    found = read_object(place, "options") if place.exists() else {}
    ExportOptions.from_json(found.get("options", {}), str(place))
    return found


def _wanted(profile: Profile, options: ExportOptions, natural: Profile) -> Profile:
    """The profile with the export's strength as its weight; how often nothing answers is what the options ask for."""
    kinds = {kind: replace(each, weight=each.weight * options.strength) for kind, each in profile.kinds.items()}
    gone = options.abstain_share
    if options.p_gold is not None and "gold_removed" in natural.kinds:
        gone = 1 - options.p_gold * (1 - natural.kinds["gold_removed"].rate)
    if gone is not None:
        kinds["gold_removed"] = KindRate(gone, gone, gone, source="by the export's options")
    return replace(profile, kinds=kinds)


def _old(path: Path) -> str:
    with on_disk(path):
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _labelled(profile: Profile, unanswerable: int, records: int) -> Profile:
    """The profile with gold_removed as the labels have it: they know what detectors can only guess."""
    if not records:
        return profile
    low, high = wilson(unanswerable, records)
    rate = KindRate(unanswerable / records, low, high, source="by the records' labels")
    return replace(profile, kinds={**profile.kinds, "gold_removed": rate})


def _json(found: Description) -> str:
    return json.dumps(found.to_json(), indent=2) + "\n"
