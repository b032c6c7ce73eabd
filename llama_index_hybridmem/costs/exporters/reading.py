"""Trace files read back, oldest line first, over what rotation has left; knows nobody who writes them."""

from __future__ import annotations

import glob
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from llama_index_hybridmem.costs.trace import QueryTrace, from_json
from llama_index_hybridmem.disk import on_disk
from llama_index_hybridmem.errors import ConfigurationError

_logger = logging.getLogger(__name__)


def rotated(path: Path, number: int) -> Path:
    """Name the file that was put aside `number` rotations ago: ``traces.jsonl``, ``traces.1.jsonl``, …; 0 is itself."""
    return path.with_name(f"{path.stem}.{number}{path.suffix}") if number else path


class TraceFiles:
    """The traces of some files; iterate over it, as often as you like: each time reads what is there then.

    Args:
        sources: paths and glob patterns; the files of a path are itself and what rotation has made of it.
        strict: whether a line that is no trace ends the iteration.

    Attributes:
        skipped: lines of the latest iteration that were no trace.
    """

    def __init__(self, sources: Sequence[str | Path], strict: bool = False) -> None:
        self._sources = tuple(sources)
        self._strict = strict
        self.skipped = 0

    def __iter__(self) -> Iterator[QueryTrace]:
        """Read file after file.

        Raises:
            ConfigurationError: no such file; with ``strict``, a line that is no trace: names file and line.
            StoreError: a file cannot be read.
        """
        self.skipped = 0
        for path in _bases(self._sources):
            with on_disk(path), _opened(path) as files:
                for file in files:
                    yield from self._traces(file)

    def _traces(self, file: BinaryIO) -> Iterator[QueryTrace]:
        is_first = True
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            place = f"{file.name}, line {number}"
            try:
                yield from_json(_parsed(line, place), place)
            except ConfigurationError as error:
                if self._strict:
                    raise
                self.skipped += 1
                if is_first:
                    _logger.warning("skipped %s (further ones of this file are only counted)", error)
                is_first = False


def read_traces(source: str | Path | Sequence[str | Path], strict: bool = False) -> TraceFiles:
    """Read the JSON lines that `JsonlTraces` has written; docs/traces.md describes them.

    Reading while others write is fine: a file that is rotated meanwhile is read once.

    Args:
        source: a path, a glob pattern, or several of them. A path stands for its rotated files too, read before it;
            name a rotated file (``traces.2.jsonl``) to read that alone.
        strict: raise for a line that is no trace. Otherwise it is counted (`TraceFiles.skipped`) and the first one of
            each file is logged; a process that was killed leaves such a line.

    Returns:
        an iterable of traces, in the order in which the queries of each path ended.
    """
    return TraceFiles([source] if isinstance(source, str | Path) else source, strict)


def _parsed(line: bytes, place: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{place}: no JSON: {type(error).__name__}: {error}") from error
    if not isinstance(row, dict):
        raise ConfigurationError(f"{place}: no trace: not an object")
    return row


def _bases(sources: Sequence[str | Path]) -> list[Path]:
    """Give the files that others are rotated from, each once, and rotated ones that were named without theirs."""
    found = list(dict.fromkeys(path for source in sources for path in _named(source)))
    return [path for path in found if _origin(path)[0] == path or _origin(path)[0] not in found]


def _named(source: str | Path) -> list[Path]:
    path = Path(source)
    if _members(path):
        return [path]
    matches = [Path(name) for name in glob.glob(str(source), recursive=True)]
    files = sorted((match for match in matches if match.is_file()), key=_origin)
    if not files:
        raise ConfigurationError(f"{source}: no such file; name a file of traces or a pattern such as 'logs/*.jsonl'")
    return files


def _origin(path: Path) -> tuple[Path, int]:
    """Give the file that a path was rotated from, and minus its number: in this order the oldest comes first."""
    match = re.fullmatch(r"(.+)\.([1-9][0-9]*)", path.stem)
    return (path.with_name(match[1] + path.suffix), -int(match[2])) if match else (path, 0)


def _members(path: Path) -> list[Path]:
    """List a path and its rotated files as far as they are there, newest first."""
    with on_disk(path.parent):
        beside = list(path.parent.iterdir()) if path.parent.is_dir() else []
    own = (other for other in beside if path in (other, _origin(other)[0]) and other.is_file())
    return sorted(own, key=_origin, reverse=True)


@contextmanager
def _opened(path: Path) -> Iterator[list[BinaryIO]]:
    """Open a path and its rotated files, oldest first.

    They are opened newest first: a rotation in between moves a file to a name that is still to come, where it is
    known again; the other way round it would be missed. For the same reason one name more than there are is tried.
    """
    members = _members(path)
    oldest = -_origin(members[-1])[1] if members else 0
    files: dict[tuple[int, int], BinaryIO] = {}
    with ExitStack() as stack:
        for member in [*members, rotated(path, oldest + 1)]:
            with on_disk(member), suppress(FileNotFoundError):
                file = stack.enter_context(open(member, "rb"))
                status = os.fstat(file.fileno())
                files.setdefault((status.st_dev, status.st_ino), file)
        yield list(files.values())[::-1]
