"""A training set in one call: questions, an app's own retriever, the noise to make; decides nothing by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.indices.base import BaseIndex

from llama_index_hybridmem.export.asking import Asked, read_asked
from llama_index_hybridmem.export.collecting import collect, contents_of, lookup_in, some_of
from llama_index_hybridmem.export.describing import describe, format_files
from llama_index_hybridmem.export.description import Description
from llama_index_hybridmem.export.drafting import Gathering
from llama_index_hybridmem.export.exporter import export
from llama_index_hybridmem.export.options import SPLITS, ExportOptions
from llama_index_hybridmem.export.parquet import write_parquet
from llama_index_hybridmem.extras import require
from llama_index_hybridmem.noise.profile import Profile

if TYPE_CHECKING:
    from llama_index_hybridmem.index import HybridMemoryIndex

Progress = Callable[[str, int, int], None]
"""("asking" or "writing", how many are done, of how many)."""


def export_dataset(
    source: HybridMemoryIndex | BaseIndex[Any] | BaseRetriever,
    questions: str | Path | Iterable[Asked],
    folder: str | Path,
    options: ExportOptions | None = None,
    profile: Profile | None = None,
    *,
    gathering: Gathering | None = None,
    num_proc: int = 1,
    ray: bool = False,
    parquet: bool = False,
    tokenizer: Any = None,
    max_length: int | None = None,
    progress: Progress | None = None,
) -> Description:
    """Make a training set; called again, go on where it was. `hybridmem dataset export` is the same as a command.

    Args:
        source: a hybrid memory, any index of LlamaIndex, or any retriever (best with a few more results than
            ``options.top_k``: those beyond become hard distractors).
        questions: a JSONL or CSV file with "question", and "answer" and "expected_sources" where they are known; or
            `export.asking.Asked`.
        folder: a new one, or one to go on with.
        options: default `ExportOptions()`.
        profile: the noise; default `NoiseProfile.default()`.
        gathering: how passages are collected; default for a hybrid memory: with passages of its own to draw from.
        num_proc: processes; the bytes are the same for any number.
        ray: make shards on Ray, see `exporter.export`.
        parquet: write each format's parts as one Parquet file each, too: <format>/train.parquet.
        tokenizer: name or folder of the model's, or an object with ``encode``; None: lengths are estimated.
        max_length: the trainer's, in tokens; None: TRL's default, 1024.
        progress: told how far it is.

    Returns:
        what the set is like; the same stands in its report.json, report.html and README.md.

    Raises:
        IngestError: the questions cannot be read; names the line.
        ConfigurationError: the folder holds something else, or an export of other questions or with other options.
        StoreError: the disk is full or read-only; what is done stays.
        MissingExtraError: ``ray`` without the extra ray, ``parquet`` without the extra train.
    """
    check_extras(ray, parquet)
    options = options or ExportOptions()
    asked = read_asked(questions) if isinstance(questions, str | Path) else list(questions)
    reached = _reached(source, options, gathering)
    collect(asked, folder=folder, options=options, progress=_told(progress, "asking"), **reached)
    export(None, folder, options, profile, num_proc=num_proc, ray=ray, progress=_told(progress, "writing"))
    if parquet:
        to_parquet(folder)
    return describe(folder, tokenizer, max_length)


def check_extras(ray: bool, parquet: bool) -> None:
    """Say that a library is missing before anything is asked or written.

    Raises:
        MissingExtraError: one is.
    """
    if ray:
        require("an export on Ray", "ray", "ray")
    if parquet:
        require("Parquet files", "train", "datasets", "pyarrow")


def to_parquet(folder: str | Path) -> list[Path]:
    """Write each format's parts of a finished export as one Parquet file each, see `parquet.write_parquet`.

    Returns:
        the files, <format>/train.parquet and so on; a part without rows has none.
    """
    folder, made = Path(folder), []
    for name, files in format_files(folder).items():
        for split in SPLITS:
            if paths := [path for part, path in files if part == split]:
                made.append(folder / name / f"{split}.parquet")
                write_parquet(paths, made[-1])
    return made


def of_index(
    index: HybridMemoryIndex, options: ExportOptions, how: Gathering | None = None, *, add_gold: bool = False
) -> Mapping[str, Any]:
    """Give `collect` what it needs of a hybrid memory: ``retriever`` and ``how``.

    Args:
        index: the memory.
        options: ``top_k`` is used.
        how: default: passages of the memory are what operators may draw from.
        add_gold: where no source of a question was retrieved, put the passage that answers in.
    """
    how = replace(how or Gathering(more=some_of(index)), store=contents_of(index))
    how = replace(how, add_gold=lookup_in(index)) if add_gold else how
    return {"retriever": index.as_retriever(similarity_top_k=options.top_k + how.near, deadline_s=None), "how": how}


def _reached(
    source: HybridMemoryIndex | BaseIndex[Any] | BaseRetriever, options: ExportOptions, how: Gathering | None
) -> Mapping[str, Any]:
    if hasattr(source, "graph_store"):
        return of_index(cast("HybridMemoryIndex", source), options, how)
    how = how or Gathering()
    if isinstance(source, BaseIndex):
        return {"retriever": source.as_retriever(similarity_top_k=options.top_k + how.near), "how": how}
    return {"retriever": source, "how": how}


def _told(progress: Progress | None, step: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(step, done, total)
