"""Records what was wrong with the passages of every query, as JSON lines, and reads them; knows no profile.

The cost handler hands on each finished query, and detection runs on its thread, after the answer. Without ``texts`` a
line has counts and names of noise only: no question, no answer, no text, title or value of metadata, and of a document
a hash of its id.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from llama_index_hybridmem.costs.exporters.jsonl import JsonlTraces
from llama_index_hybridmem.disk import on_disk
from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.noise.detectors.catalog import detect, detectors
from llama_index_hybridmem.noise.findings import Finding
from llama_index_hybridmem.noise.measuring import NEEDS_QUESTION
from llama_index_hybridmem.noise.passages import NOISE_KEY, to_passages
from llama_index_hybridmem.noise.retrievals import OPINIONS, Found, Retrieval, retrieval_from_json
from llama_index_hybridmem.noise.scene import Passage, Scene

if TYPE_CHECKING:
    from llama_index_hybridmem.costs.exporting import Finished
    from llama_index_hybridmem.costs.trace import QueryTrace

FEEDBACK = "feedback"
"""The tag that says what the user thought of an answer: ``good`` or ``bad``; other values say nothing."""

_logger = logging.getLogger(__name__)


class RetrievalTraces:
    """An exporter for `CostLatencyHandler`: appends a line for every query with source nodes.

    Locking, rotation and what a kill leaves behind are those of `JsonlTraces`; docs/noise-profiles.md describes a line.
    Tag queries with the user's opinion, ``handler.tags(feedback="bad")``, to learn which noise goes with bad answers.

    Args:
        path: the file; its folder is made.
        texts: also record question, answer and passages, so that they can be exported, and looked at again by newer
            detectors.
        max_bytes: a file that would grow past this is put aside as ``NAME.1.jsonl``, …; 64 MiB by default.
        keep: how many files put aside are kept.

    Raises:
        ConfigurationError: ``max_bytes`` or ``keep`` is below 1.
    """

    name = "retrievals"

    def __init__(self, path: str | Path, texts: bool = False, *, max_bytes: int = 64 * 2**20, keep: int = 10) -> None:
        self._lines = JsonlTraces(path, max_bytes, keep)
        self._path, self._texts, self._told = path, texts, False

    def context(self) -> None:
        """Nothing of the asking thread is needed."""

    def export(self, finished: Finished) -> None:
        """Look at the passages of one query, and append what was found; a query without any is left out.

        So is one into which noise was injected: that says nothing about how the app retrieves.

        Raises:
            StoreError: the line could not be written; the next one tries again.
        """
        nodes = getattr(finished.response, "source_nodes", None)
        if nodes and any(NOISE_KEY in each.node.metadata for each in nodes):
            if not self._told:
                _logger.warning("%s: queries with injected noise are not recorded", self._path)
            self._told = True
        elif nodes:
            scene = Scene(finished.question or "", to_passages(nodes))
            line = _Line(_retrieval(finished, scene, self._texts))
            self._lines.export(replace(finished, trace=cast("QueryTrace", line)))

    def close(self) -> None:
        """Nothing is left: every line is in the file already."""
        self._lines.close()


class RetrievalFile:
    """The retrievals of a file; iterate over it, as often as you like: each time it reads what is there then.

    Args:
        path: see `read_retrievals`.
        strict: see `read_retrievals`.

    Attributes:
        skipped: lines of the latest iteration that were no retrieval.
        first: what was wrong with the first of them; None without any.
    """

    def __init__(self, path: str | Path, strict: bool = True) -> None:
        self._path = Path(path)
        self._strict = strict
        self.skipped = 0
        self.first: ConfigurationError | None = None

    def __iter__(self) -> Iterator[Retrieval]:
        """Read file after file, oldest line first.

        Raises:
            ConfigurationError: no such file; with ``strict``, a line that is no retrieval: names file and line.
            StoreError: a file cannot be read.
        """
        self.skipped, self.first = 0, None
        with ExitStack() as stack:
            files: dict[tuple[int, int], IO[bytes]] = {}
            for member in _members(self._path):  # newest first: one that is rotated meanwhile turns up twice
                with on_disk(member):
                    file = stack.enter_context(open(member, "rb"))
                    status = os.fstat(file.fileno())
                    files.setdefault((status.st_dev, status.st_ino), file)
            for opened in reversed(files.values()):
                yield from self._read(opened)

    def _read(self, file: IO[bytes]) -> Iterator[Retrieval]:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            place = f"{file.name}, line {number}"
            try:
                yield retrieval_from_json(_parsed(line, place), place)
            except _TornError as error:
                if line.endswith(b"\n"):  # else it is being written, or was when its writer was killed
                    self._skip(error)
            except ConfigurationError as error:
                self._skip(error)

    def _skip(self, error: ConfigurationError) -> None:
        if self._strict:
            raise error
        if self.first is None:
            _logger.warning("left out %s (further lines are only counted)", error)
        self.first = self.first or error
        self.skipped += 1


def read_retrievals(path: str | Path, *, strict: bool = True) -> RetrievalFile:
    """Read what `RetrievalTraces` wrote, oldest first, over the files that rotation has put aside.

    The last line of a file may be torn: a process is writing, or was killed.

    Args:
        path: the file; name one that was put aside to read that alone.
        strict: raise for a line that is no retrieval. Otherwise it is left out and counted (`RetrievalFile.skipped`),
            and the first one logged; a process that was killed leaves such a line.

    Returns:
        an iterable of retrievals.
    """
    return RetrievalFile(path, strict)


class _TornError(ConfigurationError):
    """A line that is no JSON."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A line in the place of a trace: all that `JsonlTraces` wants of one is its JSON."""

    retrieval: Retrieval

    def to_json(self) -> dict[str, Any]:
        return self.retrieval.to_json()


def _retrieval(finished: Finished, scene: Scene, texts: bool) -> Retrieval:
    asked = [each for each in detectors() if scene.question.strip() or each.kind not in NEEDS_QUESTION]
    found = detect(scene, [each.name for each in asked])
    trace = finished.trace
    return Retrieval(
        id=trace.id,
        asked=trace.started,
        passages=tuple(_found(each, found, texts) for each in scene.passages),
        whole=found.get(None, ()),
        detectors={each.name: each.version for each in asked},
        status=trace.status,
        route=trace.route,
        abstained=None if trace.answer is None else trace.answer == "abstained",
        tenant=trace.tenant,
        good=OPINIONS.get(trace.tags.get(FEEDBACK, "")),
        question=scene.question if texts else None,
        answer=finished.text if texts else None,
    )


def _found(passage: Passage, found: Mapping[str | None, tuple[Finding, ...]], texts: bool) -> Found:
    source = passage.source
    if source is not None and not texts:  # an id may well be a path, or a title
        source = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return Found(found.get(passage.id, ()), source, passage.score, passage if texts else None)


def _members(path: Path) -> list[Path]:
    """A file and what rotation has put aside of it, newest first."""
    aside = re.compile(re.escape(path.stem) + r"\.([1-9][0-9]*)" + re.escape(path.suffix))
    with on_disk(path.parent):
        beside = list(path.parent.iterdir()) if path.parent.is_dir() else []
    numbered = sorted((int(match[1]), each) for each in beside if (match := aside.fullmatch(each.name)))
    members = [each for each in (path, *(each for _, each in numbered)) if each.is_file()]
    if not members:
        raise ConfigurationError(f"{path}: no such file; name one that RetrievalTraces has written")
    return members


def _parsed(line: bytes, place: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _TornError(f"{place}: no JSON: {type(error).__name__}: {error}") from error
