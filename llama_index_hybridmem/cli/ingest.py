"""`hybridmem ingest`: files into a store, as far as they are not there already."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigurationError
from .files import InputFile, Problem, find, read, taken_by
from .options import Json, Store
from .store import unindexed

if TYPE_CHECKING:
    from llama_index.core.schema import Document
    from rich.console import RenderableType

    from ..index import HybridMemoryIndex

UNINDEXED = 10_000
"""Points compared one by one before the search index is built: up to here a question takes 1 ms more without it."""
_BATCH = 32  # documents written together; as many as one acknowledgement covers

Step = Callable[[int, int], None]
"""Told of progress: files done with, documents in the store."""


@dataclass
class IngestReport:
    """What an ingest did.

    Attributes:
        store: the folder.
        written: documents new or changed.
        unchanged: documents that were there as they are.
        facts: statements added from --facts, None when it was not given.
        problems: what could not be read.
        optimized: whether the search index was built.
        seconds: wall time.
        totals: documents, passages, names, links and facts in the store now.
    """

    store: str
    written: int = 0
    unchanged: int = 0
    facts: int | None = None
    problems: list[Problem] = field(default_factory=list)
    optimized: bool = False
    seconds: float = 0.0
    totals: dict[str, int] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 when anything of what was given is in the store, else 1."""
        return 0 if self.written or self.unchanged or self.facts is not None else 1


def ingest(
    store: Store,
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH", help="Files and folders.")] = None,
    encoder: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a new store: minilm (the default) or a Hugging Face name.")
    ] = None,
    language: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a new store's keyword memory; english unless given.")
    ] = None,
    facts: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Facts, with the columns subject, relation, object.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Index files; what is there already costs nothing.

    Markdown, text, HTML, PDF and JSON lines; folders are searched through, without hidden files. A line of JSON is
    {"text": …}, with "title", "id" and metadata if you like. Stop it at any time: what was written stays, and the same
    command goes on from there.
    """
    from . import screen

    if not paths and facts is None:
        raise ConfigurationError("nothing to ingest: name files or folders, or --facts")
    began = time.perf_counter()
    files, problems = find(paths or [])
    report = IngestReport(str(store), problems=problems)
    if files or facts is not None:
        with screen.results_only(), _index(store, encoder, language) as index:
            _ingest(index, files, facts, report)
    report.seconds = time.perf_counter() - began
    if as_json:
        screen.write_json({**asdict(report), "exit_code": report.exit_code})
    else:
        screen.page().print(_table(report))
        for line in _problem_lines(report.problems):
            screen.aside().print(line, markup=False, soft_wrap=True)
    raise typer.Exit(report.exit_code)


def take_in(index: HybridMemoryIndex, files: Sequence[InputFile], report: IngestReport, step: Step) -> None:
    """Read files into an index and note in the report what became of them.

    Args:
        index: any.
        files: see `files.find`.
        report: is added to.
        step: told of progress.
    """
    new = index.graph_store.passage_count == 0
    documents = _documents(files, report)
    places = {file.doc_id: place for place, file in enumerate(files)}
    while batch := list(islice(documents, _BATCH)):
        taken = _taken(index, batch)
        report.problems += taken.values()
        free = [document for document, _ in batch if document.doc_id not in taken]
        written = sum(index.refresh_ref_docs(free))
        report.written += written
        report.unchanged += len(free) - written
        step(places[batch[-1][1].doc_id], report.written + report.unchanged)
    if report.written:
        _look_after(index, report, new=new)
    counts = index.stats()["graph"]
    report.totals = {key: counts[key] for key in ("documents", "passages", "names", "links", "facts")}


def _look_after(index: HybridMemoryIndex, report: IngestReport, *, new: bool) -> None:
    """Do what the store wants: keyword weights of the whole first ingest, not of its first batch; the search index."""
    vectors = index.stats()["vector"]
    if new and vectors.get("reindex_sparse_advised"):
        index.reindex_sparse()
    if unindexed(vectors) > UNINDEXED:
        index.optimize()
        report.optimized = True


def _ingest(index: HybridMemoryIndex, files: Sequence[InputFile], facts: Path | None, report: IngestReport) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from . import screen

    if facts is not None:
        report.facts = _add_facts(index, facts)
    console = screen.aside()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("files", total=len(files))

        def step(done: int, documents: int) -> None:
            progress.update(task, completed=done, description=f"{documents:,} documents; files")

        take_in(index, files, report, step)


def _index(store: Path, encoder: str | None, language: str | None) -> HybridMemoryIndex:
    """Open the store, or make it."""
    from ..index import HybridMemoryIndex
    from ..manifest import FILE, Manifest

    if (store / FILE).exists():
        built = Manifest.read(store)
        if language is not None and language != built.language:
            raise ConfigurationError(f"{store} is in {built.language}, not {language}; ingest into another store")
        return HybridMemoryIndex.open(store, embed_model=encoder or built.encoder["name"])
    chosen = language or "english"
    return HybridMemoryIndex.from_documents([], persist_dir=store, embed_model=encoder, language=chosen)


def _add_facts(index: HybridMemoryIndex, path: Path) -> int:
    before = index.stats()["graph"]["facts"]
    index.add_knowledge(triples=path)
    return int(index.stats()["graph"]["facts"] - before)


def _documents(files: Iterable[InputFile], report: IngestReport) -> Iterator[tuple[Document, InputFile]]:
    """Read everything that can be read; of documents with one id the first."""
    seen: dict[str, str] = {}
    for file in files:
        for found in read(file):
            if isinstance(found, Problem):
                report.problems.append(found)
            elif found.doc_id in seen:
                report.problems.append(Problem(str(file.path), taken_by(found.doc_id, seen[found.doc_id])))
            else:
                seen[found.doc_id] = str(file.path)
                yield found, file


def _taken(index: HybridMemoryIndex, batch: Sequence[tuple[Document, InputFile]]) -> dict[str, Problem]:
    """Find the documents whose id, made from a file's name, is in the store for another file that is still there.

    That one is kept. A row of JSON lines with an id of its own says itself which document it is, and replaces it.
    """
    named = {document.doc_id: file for document, file in batch if document.doc_id.startswith(file.doc_id)}
    known = [node_id for doc_id in named for node_id in index.graph_store.document_node_ids(doc_id)[:1]]
    taken = {}
    for node in index.vector_store.get_nodes(known) if known else []:
        theirs, ours = Path(str(node.metadata.get("path") or "")), named[str(node.ref_doc_id)].path
        if theirs != ours and theirs.is_file() and not theirs.samefile(ours):
            taken[str(node.ref_doc_id)] = Problem(str(ours), taken_by(str(node.ref_doc_id), str(theirs)))
    return taken


def _table(report: IngestReport) -> RenderableType:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_row("Store", report.store)
    documents = f"{report.written:,} written, {report.unchanged:,} unchanged"
    table.add_row("Documents", f"{report.totals.get('documents', 0):,}  ({documents})")
    for name in ("passages", "names", "links", "facts"):
        table.add_row(name.capitalize(), f"{report.totals.get(name, 0):,}")
    table.add_row("Seconds", f"{report.seconds:.1f}")
    return table


def _problem_lines(problems: Sequence[Problem]) -> list[str]:
    if not problems:
        return []
    return [f"\nNot read ({len(problems)}):", *(f"  {problem.place}: {problem.reason}" for problem in problems)]
