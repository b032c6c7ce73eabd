"""Reads a training set as its trainer will, and names every place where something is wrong; changes nothing."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_index_hybridmem.disk import on_disk
from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.export.checks import faults
from llama_index_hybridmem.export.describing import format_files, record_files
from llama_index_hybridmem.export.exporter import read_options
from llama_index_hybridmem.export.formats import Prints, prints, tell
from llama_index_hybridmem.export.formats import row as row_of
from llama_index_hybridmem.export.lengths import Lengths
from llama_index_hybridmem.export.names import Names
from llama_index_hybridmem.export.options import FORMATS, SPLITS
from llama_index_hybridmem.export.parts import Drafts
from llama_index_hybridmem.export.record import Record, encodable, record_from_json
from llama_index_hybridmem.export.schemas import check_count, check_row
from llama_index_hybridmem.export.shards import COLLECTED, RECORDS, SETTINGS, part
from llama_index_hybridmem.export.wording import Wording

NAMED = 100
"""Problems that are named; more are counted."""
_BY_COLUMN = {
    "instruction": "alpaca",
    "conversations": "sharegpt",
    "messages": "messages",
    "completion": "prompt-completion",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong.

    Attributes:
        place: file and line.
        what: a sentence.
    """

    place: str
    what: str


@dataclass(frozen=True, slots=True)
class Validation:
    """What was looked at, and what was wrong.

    Attributes:
        records: how many records.
        rows: format to how many rows.
        wrong: how many problems.
        problems: the first `NAMED` of them.
    """

    records: int
    rows: Mapping[str, int]
    wrong: int
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {
            "ok": self.ok,
            "records": self.records,
            "rows": dict(self.rows),
            "wrong": self.wrong,
            "problems": [{"place": each.place, "what": each.what} for each in self.problems],
        }


def validate(
    path: str | Path, format: str | None = None, tokenizer: Any = None, max_length: int | None = None
) -> Validation:
    """Check a training set, or one file of it.

    Every record is read again and its answer looked up in its passages, see `checks.faults`; every row is held against
    its format's schema. Of a folder, each format must have the records' ids, in their order, and where its export.json
    is there, every row must be the one that its record gives.

    Args:
        path: folder of an export, or a file of records or rows.
        format: of a file's rows, or the only one of a folder to look at; None: told by folder and columns.
        tokenizer: counts tokens when ``max_length`` is given, see `lengths.Lengths`.
        max_length: a row that is longer is a problem; None: any length is fine.

    Raises:
        ConfigurationError: there is nothing to check, or no such format.
        StoreError: a file cannot be read.
    """
    if format is not None and format not in FORMATS:
        raise ConfigurationError(f"no format {format!r:.40}; there are {', '.join(FORMATS)}")
    path, found = Path(path), _Found(tokenizer, max_length)
    if path.is_dir():
        _folder(path, format, found)
    elif path.is_file():
        _file(path, format, found)
    else:
        raise ConfigurationError(f"there is no {path}")
    found.judge_lengths()
    return found.result()


@dataclass
class _Found:
    """What was found so far."""

    tokenizer: Any
    max_length: int | None
    records: int = 0
    wrong: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    lengths: dict[str, Lengths] = field(default_factory=dict)
    wording: Wording | None = None
    ids: Names = field(default_factory=Names)

    def say(self, place: str, what: str) -> None:
        self.wrong += 1
        if len(self.problems) < NAMED:
            self.problems.append(Problem(place, what))

    def record(self, place: str, row: Any) -> Record | None:
        """Check a record."""
        self.records += 1
        try:
            record = record_from_json(row, "it")
        except ConfigurationError as error:
            self.say(place, str(error))
            return None
        self.ids.add(record.id)
        for fault in faults(record):
            self.say(place, f"record {record.id!r:.80}: {fault}")
        if self.wording is not None and not record.answerable and record.answer not in self.wording.abstain:
            self.say(place, f"record {record.id!r:.80}: abstains in words that its export does not know")
        return record

    def wanted(self, place: str, record: Record, formats: tuple[str, ...]) -> Iterator[tuple[str, Prints]]:
        """Say of each format what a record's row must be; {} where it cannot be told."""
        if self.wording is None:
            yield from ((name, {}) for name in formats)
            return
        try:
            told = tell(record, self.wording)
        except ConfigurationError as error:
            self.say(place, str(error))
            yield from ((name, {}) for name in formats)
            return
        yield from ((name, prints(row_of(record, name, self.wording, told))) for name in formats)

    def row(self, place: str, row: Any, format: str) -> bool:
        """Check a row."""
        self.rows[format] += 1
        problems = check_row(row, format)
        for problem in problems:
            self.say(place, problem)
        if problems:
            return False
        if self.max_length is not None:
            self.lengths.setdefault(format, Lengths(format, self.tokenizer, self.max_length)).add(row)
        return True

    def judge_lengths(self) -> None:
        for format, measured in self.lengths.items():
            report = measured.result()
            if long := report.cut + report.gone:
                told = f"{long:,} rows are longer than {report.max_length:,} tokens ({report.tokenizer})"
                self.say(format, f"{told}; the first: {', '.join(report.examples)}; {report.recommended:,} would do")

    def result(self) -> Validation:
        return Validation(self.records, dict(self.rows), self.wrong, tuple(self.problems))


def _file(path: Path, format: str | None, found: _Found) -> None:
    for place, row in _rows(path, found):
        columns = set(row) if isinstance(row, Mapping) else set()
        if format is None and {"clean", "noisy"} <= columns:
            found.record(place, row)
        else:
            found.row(place, row, format or _guessed(path, columns, row))
    if not found.records and not found.rows and not found.wrong:
        raise ConfigurationError(f"{path} has no lines")
    for name, count in found.rows.items():
        for problem in check_count(count, name):
            found.say(str(path), problem)


def _guessed(path: Path, columns: set[str], row: Any) -> str:
    if path.parent.name in FORMATS:
        return path.parent.name
    name = next((name for column, name in _BY_COLUMN.items() if column in columns), FORMATS[0])
    if name == "prompt-completion" and isinstance(row, Mapping) and isinstance(row.get("prompt"), str):
        return "completion"
    return "openai" if name == "messages" and columns == {"messages"} else name


def _folder(folder: Path, format: str | None, found: _Found) -> None:
    files = {name: places for name, places in format_files(folder).items() if format in (None, name)}
    if format is not None and not files:
        raise ConfigurationError(f"{folder} has no rows of {format}")
    left = {path for places in files.values() for _, path in places}
    paths = record_files(folder)
    found.wording = read_options(folder).wording if (folder / SETTINGS).exists() else None
    for path in paths:
        left -= _shard(folder, path, left, tuple(files), found)
    _complete(folder, paths, found)
    _once(paths, found)
    for path in sorted(left):
        found.say(str(path), "belongs to no file of records")
    for name in files:
        for problem in check_count(found.rows[name], name):
            found.say(str(folder / name), problem)


def _complete(folder: Path, paths: list[Path], found: _Found) -> None:
    """Say which shards are missing: an export that was interrupted, or a file that was lost."""
    if not (folder / COLLECTED).exists():
        return
    there = {path.name for path in paths}
    for number, (rows, _) in enumerate(Drafts.read(folder).parts):
        place = part(folder, RECORDS, number)
        if place.name not in there:
            found.say(str(place), f"is missing: {rows:,} drafts wait for it; run the same export again")


def _once(paths: list[Path], found: _Found) -> None:
    """Say which ids occur twice."""
    twice = found.ids.twice()
    seen: dict[str, str] = {}
    for path in paths if twice else ():
        for place, row in _rows(path, _Found(None, None)):
            id_ = row.get("id") if isinstance(row, Mapping) else None
            if isinstance(id_, str) and id_ in twice and seen.setdefault(id_, place) != place:
                found.say(place, f"the id {id_!r:.80} is that of {seen[id_]}, too")


def _shard(folder: Path, path: Path, known: set[Path], formats: tuple[str, ...], found: _Found) -> set[Path]:
    """Check a file of records and those of rows that belong to it; gives the latter."""
    wanted: dict[tuple[str, str], list[tuple[str, Prints]]] = defaultdict(list)
    for place, row in _rows(path, found):
        if (record := found.record(place, row)) is not None:
            for name, must in found.wanted(place, record, formats):
                wanted[name, record.split].append((encodable(record.id), must))
    mine = {
        (name, split): folder / name / f"{split}-{path.stem.removeprefix('part-')}.jsonl"
        for name in formats
        for split in SPLITS
    }
    for (name, split), rows in mine.items():
        if (name, split) in wanted or rows in known:
            _compare(name, rows, wanted[name, split], found)
    return set(mine.values())


def _compare(format: str, path: Path, wanted: list[tuple[str, Prints]], found: _Found) -> None:
    """Check a file's rows, and that they are the records', in their order."""
    if not path.exists():
        found.say(str(path), f"is missing: {len(wanted):,} records belong there")
        return
    rows: list[tuple[str, str | None, Prints]] = []
    for place, row in _rows(path, found):
        good = found.row(place, row, format)
        rows.append((place, str(row["id"]) if good and "id" in row else None, prints(row) if good else {}))
    if len(rows) != len(wanted):
        found.say(str(path), f"{len(rows):,} rows for {len(wanted):,} records")
        return
    for (place, row_id, has), (id_, must) in zip(rows, wanted, strict=True):
        if row_id not in (None, id_):
            found.say(place, f"is row {row_id!r:.80}, where record {id_!r:.80} belongs")
            return
        if has and must and (others := sorted(name for name in must if has.get(name) != must[name])):
            found.say(place, f"is not what record {id_!r:.80} gives: {', '.join(others)}")


def _rows(path: Path, found: _Found) -> Iterator[tuple[str, Any]]:
    """Lines that are JSON; the others are problems."""
    with on_disk(path):
        content = path.read_bytes()
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            place = f"{path}, line {number}"
            try:
                yield place, json.loads(line)
            except (ValueError, RecursionError) as error:
                found.say(place, f"not JSON: {error}")
