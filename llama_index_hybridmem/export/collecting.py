"""Questions and the app's own retriever, or its traces, become drafts on disk; knows no noise and no layout."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import BaseNode

from llama_index_hybridmem.export.asking import Asked
from llama_index_hybridmem.export.drafting import Gathering, Lookup, draft_of, draft_of_trace, hashed, is_plain
from llama_index_hybridmem.export.making import LeftOut
from llama_index_hybridmem.export.options import ExportOptions
from llama_index_hybridmem.export.parts import POOL_SIZE, Drafts, batched, finish, has_part, put_part
from llama_index_hybridmem.export.record import Draft
from llama_index_hybridmem.export.shards import GATHERING, keep, owned
from llama_index_hybridmem.noise.passages import to_passage
from llama_index_hybridmem.noise.retrievals import Retrieval
from llama_index_hybridmem.noise.scene import Passage
from llama_index_hybridmem.noise.traces import read_retrievals

if TYPE_CHECKING:
    from llama_index_hybridmem.index import HybridMemoryIndex

DAMAGED = "damaged lines of the traces"

Progress = Callable[[int, int], None]
"""(questions done, questions in all)."""


def collect(
    questions: Sequence[Asked],
    retriever: BaseRetriever,
    folder: str | Path,
    options: ExportOptions | None = None,
    how: Gathering | None = None,
    progress: Progress | None = None,
) -> Drafts:
    """Ask the retriever every question, and keep the drafts in an export's folder.

    Called again after a kill, go on with the first part that is missing; when all is there, ask nothing.

    Args:
        questions: see `asking.read_asked`.
        retriever: any, best with ``options.top_k`` + ``how.near`` results.
        folder: of the export.
        options: ``top_k`` and ``shard_rows`` are used.
        how: default `Gathering()`.
        progress: told after each part.

    Raises:
        ConfigurationError: the folder holds drafts of other questions, of another store or one that has changed since
            (where ``how.store`` names it), or made with other options.
        StoreError: the disk is full or read-only; or whatever the retriever raises. Whole parts stay.
    """
    options, how, folder = options or ExportOptions(), how or Gathering(), Path(folder)
    settings = {
        "questions": _fingerprint(questions),
        "count": len(questions),
        "retriever": type(retriever).__name__,
        "similarity_top_k": getattr(retriever, "similarity_top_k", None),
        "hash of the store's documents": how.store,
        "near": how.near,
        "add_gold": how.add_gold is not None,
    }

    def drafts(some: Sequence[Asked]) -> Iterator[Draft | LeftOut]:
        with ThreadPoolExecutor(how.at_once) as threads:
            found = threads.map(lambda each: [] if is_plain(each) else retriever.retrieve(each.question), some)
            for each, nodes in zip(some, found, strict=True):
                yield draft_of(each, nodes, options.top_k, how)

    told = None if progress is None else lambda done: progress(done, len(questions))
    return _gather(folder, options, settings, questions, drafts, how.more, told)


def collect_traces(
    path: str | Path, folder: str | Path, options: ExportOptions | None = None, more: Iterable[Passage] = ()
) -> Drafts:
    """Keep what an app was asked, found and answered as drafts; nothing is asked again.

    The answers are a model's, and marked so (origin "traces"). Those that no retrieved passage supports are left out,
    and so are damaged lines, such as a killed process leaves; both are counted.

    Args:
        path: what `RetrievalTraces` wrote with ``texts=True``.
        folder: of the export.
        options: ``top_k`` and ``shard_rows`` are used.
        more: passages of the corpus that operators may draw from.

    Raises:
        ConfigurationError: the file cannot be read or has grown since, or the folder holds other drafts.
        StoreError: the disk is full or read-only.
    """
    file, names, count = read_retrievals(path, strict=False), "", 0
    for each in file:
        names, count = hashed(f"{names} {each.id}"), count + 1
    if not count and file.first is not None:
        raise file.first
    settings = {"traces": Path(path).name, "count": count, "ids": names}
    lost = {DAMAGED: file.skipped} if file.skipped else {}

    def drafts(some: Sequence[Retrieval]) -> Iterator[Draft | LeftOut]:
        return (draft_of_trace(each) for each in some)

    rows = islice(file, count)  # what was added meanwhile is not among those that were counted
    return _gather(Path(folder), options or ExportOptions(), settings, rows, drafts, more, None, lost)


def lookup_in(index: HybridMemoryIndex) -> Lookup:
    """Give what finds the nodes of documents by id, file name with or without ending, or of nodes by id."""
    graph = index.graph_store
    called: dict[str, list[str]] = {}
    for doc_id in sorted(graph.documents()):
        for name in dict.fromkeys((doc_id, PurePath(doc_id).name, PurePath(doc_id).stem)):
            called.setdefault(name, []).append(doc_id)

    def lookup(names: frozenset[str]) -> Sequence[BaseNode]:
        documents = dict.fromkeys(doc_id for name in sorted(names) for doc_id in called.get(name, ()))
        ids = [node_id for doc_id in documents for node_id in graph.document_node_ids(doc_id)]
        return index.vector_store.get_nodes([*ids, *sorted(names - called.keys())])

    return lookup


def contents_of(index: HybridMemoryIndex) -> str:
    """Name what a store holds: a hash of its documents and their versions."""
    return hashed(json.dumps(sorted(index.graph_store.documents().items())))


def some_of(index: HybridMemoryIndex, count: int = POOL_SIZE) -> Iterator[Passage]:
    """Give passages of a store, the same for the same content."""
    return map(to_passage, index.vector_store.get_nodes(index.graph_store.sample(count)))


def _gather(
    folder: Path,
    options: ExportOptions,
    settings: Mapping[str, Any],
    rows: Iterable[Any],
    drafts: Callable[[Sequence[Any]], Iterator[Draft | LeftOut]],
    more: Iterable[Passage],
    progress: Callable[[int], None] | None,
    lost: Mapping[str, int] | None = None,
) -> Drafts:
    done = parts = 0
    with owned(folder):
        wanted = {**settings, "top_k": options.top_k, "shard_rows": options.shard_rows}
        keep(folder / GATHERING, wanted, "drafts", "Give the same again to go on with them, or a new folder")
        for some in batched(rows, options.shard_rows):
            if not has_part(folder, parts):
                _put(folder, parts, some, drafts(some))
            done, parts = done + len(some), parts + 1
            if progress is not None:
                progress(done)
        finish(folder, parts, options.top_k, more, lost)
    return Drafts.read(folder)


def _put(folder: Path, number: int, some: Sequence[Any], made: Iterator[Draft | LeftOut]) -> None:
    left_out: dict[str, list[str]] = {}
    drafts = []
    for each, draft in zip(some, made, strict=True):
        if isinstance(draft, LeftOut):
            left_out.setdefault(draft.reason, []).append(each.id)
        else:
            drafts.append(draft)
    put_part(folder, number, drafts, left_out)


def _fingerprint(questions: Sequence[Asked]) -> str:
    rows = ({**asdict(each), "gold": sorted(each.gold)} for each in questions)
    return hashed("\n".join(json.dumps(row, sort_keys=True) for row in rows))
