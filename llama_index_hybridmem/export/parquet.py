"""Format files as one Parquet file that ``datasets`` loads; knows the rows' columns, no record and no trainer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from llama_index_hybridmem.disk import on_disk, sync_folder
from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.extras import require

BATCH = 1_000
"""Rows that are held in memory, and that a row group has."""


def write_parquet(jsonl_paths: Sequence[str | Path], path: str | Path) -> int:
    """Write rows to Parquet, in the same order; memory does not grow with their number.

    The columns' types are those of the first row (texts, and lists of objects of texts), so that they are the same for
    every shard; ``datasets.load_dataset("parquet", data_files=path)`` gives the rows back.

    Args:
        jsonl_paths: files of one format, in order.
        path: the Parquet file; it appears when it is whole, an older one is replaced.

    Returns:
        how many rows it has.

    Raises:
        MissingExtraError: without the extra ``train``.
        ConfigurationError: no rows, or one that is no JSON object or has other columns or types than the first; names
            file and line.
        StoreError: a file cannot be read or written.
    """
    require("Parquet files", "train", "datasets", "pyarrow")
    from pyarrow.parquet import ParquetWriter

    path = Path(path)
    rows = _rows([Path(each) for each in jsonl_paths])
    first = next(rows, None)
    if first is None:
        raise ConfigurationError(f"{path}: there are no rows to write")
    shape = _shape(first[0])
    schema = _features(*first).arrow_schema  # with what `datasets` needs to know in its metadata
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    count = 0
    with on_disk(path):
        try:
            with ParquetWriter(unfinished, schema) as writer:
                for batch in _batches(chain([first], rows)):
                    writer.write_table(_table(batch, shape, schema))
                    count += len(batch)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        sync_folder(path.parent)
    return count


def _rows(paths: Sequence[Path]) -> Iterator[tuple[dict[str, Any], str]]:
    """Give each row and its place."""
    for path in paths:
        with on_disk(path), open(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                place = f"{path}, line {number}"
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise ConfigurationError(f"{place}: no JSON: {error}") from error
                if not isinstance(row, dict):
                    raise ConfigurationError(f"{place}: a JSON object is expected, not {type(row).__name__}")
                yield row, place


def _batches(rows: Iterator[tuple[dict[str, Any], str]]) -> Iterator[list[tuple[dict[str, Any], str]]]:
    while batch := list(islice(rows, BATCH)):
        yield batch


def _table(batch: Sequence[tuple[dict[str, Any], str]], shape: str, schema: Any) -> Any:
    import pyarrow

    for row, place in batch:
        if (found := _shape(row)) != shape:
            raise ConfigurationError(f"{place}: has {found}; the first row has {shape}")
    try:
        return pyarrow.Table.from_pylist([row for row, _ in batch], schema=schema)
    except (pyarrow.ArrowException, UnicodeError) as error:
        raise ConfigurationError(f"{batch[0][1]} and the {len(batch) - 1} lines after it: {error}") from error


def _features(row: Mapping[str, Any], place: str) -> Any:
    from datasets import Features, List, Value

    columns: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, str):
            columns[name] = Value("string")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            columns[name] = List({key: Value("string") for key in value[0]})
        else:
            raise ConfigurationError(f"{place}, {name}: a text or a list of turns is expected")
    return Features(columns)


def _shape(row: Mapping[str, Any]) -> str:
    """Columns with their types, in words: Arrow would take what is missing for null, and drop what it does not know."""
    shapes = []
    for name in sorted(row):
        value = row[name]
        turns = value if isinstance(value, list) else []
        keys = {",".join(sorted(each)) if isinstance(each, dict) else type(each).__name__ for each in turns}
        shapes.append(f"{name}: {type(value).__name__}{sorted(keys) or ''}")
    return "; ".join(shapes)
