"""Finds files and reads them as LlamaIndex documents; knows no index. What cannot be read is returned, not raised."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import HybridMemoryError, IngestError
from ..extras import require

if TYPE_CHECKING:
    from llama_index.core.schema import Document

_RESERVED = "hybridmem"  # the metadata key under which answers carry our provenance


@dataclass(frozen=True)
class InputFile:
    """A file to read.

    Attributes:
        path: absolute; symbolic links in it are kept.
        doc_id: its path relative to the argument it was found through, with forward slashes.
    """

    path: Path
    doc_id: str


@dataclass(frozen=True)
class Problem:
    """What could not be read, and why.

    Attributes:
        place: a path, for a line of a file "path:line".
        reason: one phrase.
    """

    place: str
    reason: str


def find(arguments: Sequence[Path]) -> tuple[list[InputFile], list[Problem]]:
    """Find the files to read: files named, whatever their ending, and below folders those of a kind we know.

    Hidden files and folders are passed over, links to folders followed once. A file reached twice counts once; another
    file with an id that is taken is a problem.
    """
    found: dict[str, Path] = {}
    problems: list[Problem] = []
    for argument in arguments:
        below = os.path.isdir(argument)
        for path in _below(argument, problems) if below else [argument]:
            doc_id = _storable((path.relative_to(argument) if below else Path(path.name)).as_posix())
            absolute = Path(os.path.abspath(path))
            if not os.path.isfile(path):  # reading a pipe would wait for ever
                problems.append(Problem(str(path), "not a file" if os.path.lexists(path) else "no such file or folder"))
            elif found.setdefault(doc_id, absolute) != absolute:
                problems.append(Problem(str(path), taken_by(doc_id, str(found[doc_id]))))
    return [InputFile(path, doc_id) for doc_id, path in found.items()], problems


def read(file: InputFile) -> Iterator[Document | Problem]:
    """Read a file: one document, or one per line of JSON lines; a problem in place of each that cannot be read."""
    reader = _READERS.get(file.path.suffix.lower(), _text)
    try:
        yield from reader(file)
    except UnicodeDecodeError as error:
        yield Problem(str(file.path), f"not UTF-8 text (byte {error.object[error.start]:#04x} at {error.start})")
    except OSError as error:
        yield Problem(str(file.path), error.strerror or str(error))
    except HybridMemoryError as error:
        yield Problem(str(file.path), str(error))


def taken_by(doc_id: str, path: str) -> str:
    """Word the problem of two files with one document id."""
    return f"its document id {doc_id!r} is taken by {path}; ingest the folder above both, so that their ids differ"


def _below(folder: Path, problems: list[Problem]) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        problems.append(Problem(str(error.filename), error.strerror or str(error)))

    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:  # a link back up, or to where we were before
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in _READERS:
                yield Path(place, name)


def _storable(text: str) -> str:
    """The text as every store can hold it: file names may be bytes that are no text, some PDFs have half characters."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _document(file: InputFile, text: str, **metadata: Any) -> Document:
    from llama_index.core.schema import Document

    if not text.strip():
        raise IngestError("no text in it")
    known = {"file_name": _storable(file.path.name), "path": _storable(str(file.path))}
    return Document(doc_id=file.doc_id, text=_storable(text), metadata={**known, **metadata})


def _text(file: InputFile) -> Iterator[Document]:
    text = file.path.read_text(encoding="utf-8-sig")
    if "\0" in text:
        raise IngestError("not text, to judge by its zero bytes")
    yield _document(file, text)


def _html(file: InputFile) -> Iterator[Document]:
    from ..chunking import title_of
    from .markup import decoded, to_markdown

    title, text = to_markdown(decoded(file.path.read_bytes()))
    yield _document(file, text, **({"title": title} if title and not title_of(text) else {}))


def _pdf(file: InputFile) -> Iterator[Document]:
    require("reading PDF files", "files", "llama_index.readers.file", "pypdf")
    from llama_index.readers.file import PDFReader

    try:
        pages = PDFReader(return_full_document=True).load_data(file.path)
    except Exception as error:  # noqa: BLE001 - a damaged PDF can fail anywhere in the parser
        cause = error.__cause__ or error  # LlamaIndex's retries wrap it
        raise IngestError(f"not a readable PDF: {type(cause).__name__}: {cause}") from error
    yield _document(file, "\n\n".join(page.get_content() for page in pages))


def _json_lines(file: InputFile) -> Iterator[Document | Problem]:
    with file.path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield _row(file, number, line)
                except ValueError as error:
                    yield Problem(f"{file.path}:{number}", str(error))


def _row(file: InputFile, number: int, line: str) -> Document:
    """A row as a document; it has no file_name, which would stand in for the title of every row alike."""
    from llama_index.core.schema import Document

    row = json.loads(line, parse_constant=_refused)
    if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not row["text"].strip():
        raise IngestError(f'expected an object with a "text", found {_storable(line.strip())[:80]}')
    if _storable(json.dumps(row, ensure_ascii=False)) != json.dumps(row, ensure_ascii=False):
        raise IngestError("not UTF-8 text")
    if _RESERVED in row:
        raise IngestError(f"the key {_RESERVED!r} is kept for provenance; rename it")
    metadata = {key: value for key, value in row.items() if key not in ("text", "id")}
    doc_id = f"{file.doc_id}#{number}" if row.get("id") is None else str(row["id"])
    return Document(doc_id=doc_id, text=row["text"], metadata={"path": _storable(str(file.path)), **metadata})


def _refused(constant: str) -> None:
    raise IngestError(f"{constant} is no JSON")


_READERS: dict[str, Callable[[InputFile], Iterator[Document | Problem]]] = {
    ".md": _text,
    ".markdown": _text,
    ".txt": _text,
    ".text": _text,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
}
