"""Reads what a model is trained on: an export's folder, or a file of rows; knows no tokenizer and no trainer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_index_hybridmem.errors import ConfigurationError, IngestError, StoreDamagedError, StoreError
from llama_index_hybridmem.example import Example, Message
from llama_index_hybridmem.export.describing import records
from llama_index_hybridmem.export.exporter import read_options
from llama_index_hybridmem.export.facts import unsupported
from llama_index_hybridmem.export.formats import tell
from llama_index_hybridmem.export.lengths import parted
from llama_index_hybridmem.export.record import Record
from llama_index_hybridmem.export.shards import SETTINGS, read_rows
from llama_index_hybridmem.export.targets import parse_target
from llama_index_hybridmem.export.wording import Wording

DEV_SHARE, MOST_DEV = 0.1, 200
"""Of a file without parts: so many rows are kept from training to see when it goes too far."""

_ORIGINS = {"generated": "model"}
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class TrainingSet:
    """Rows to train on and rows to watch it by.

    Attributes:
        name: of the folder or file.
        train: trained on.
        dev: never trained on; the loss on them says when to stop.
        test: held back for comparisons.
        wording: how an export put its records into words; None for a file.
        facts_in_targets: share of the answerable training rows whose target has a fact that its sources do not have;
            None when there are no records to tell it from.
        made_of: what the rows come from, for a lineage: hashes of options and profile.
    """

    name: str
    train: tuple[Example, ...]
    dev: tuple[Example, ...] = ()
    test: tuple[Example, ...] = ()
    wording: Wording | None = None
    facts_in_targets: float | None = None
    made_of: Mapping[str, Any] = field(default_factory=dict)


def read_set(path: Path | str) -> TrainingSet:
    """Read a training set.

    Args:
        path: the folder that `hybridmem dataset export` made, whatever formats it has; or a JSONL file with rows of any
            of its formats, of which every tenth, chosen by its words, is watched and not trained on.

    Raises:
        ConfigurationError: neither; or a row or record is not of its form: names the place.
        IngestError: the file cannot be read, or a line is no JSON.
        StoreDamagedError: a record's line is no JSON.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / SETTINGS).is_file():
            raise ConfigurationError(
                f"{path} is no training set: it has no {SETTINGS}. Make one with `hybridmem dataset export`, or name a "
                "JSONL file of rows"
            )
        return _of_export(path)
    return _of_file(path)


def of_record(record: Record, wording: Wording) -> Example:
    """Put a record into words as a row to train on.

    Raises:
        ConfigurationError: see `targets.target`.
    """
    told = tell(record, wording)
    system: list[Message] = [] if told.system is None else [{"role": "system", "content": told.system}]
    return Example(
        record.id,
        (*system, {"role": "user", "content": told.user}),
        told.assistant,
        parse_target(told.assistant, wording).answer,
        record.answerable,
        record.kinds(),
        tuple(each.text for each in record.noisy),
        _ORIGINS.get(record.origin, record.origin),
    )


def _of_export(folder: Path) -> TrainingSet:
    options = read_options(folder)
    parts: dict[str, list[Example]] = {"train": [], "dev": [], "test": []}
    answerable = with_facts = 0
    profiles = set()
    for _, record in records(folder):
        parts[record.split].append(of_record(record, options.wording))
        profiles.add(record.profile)
        if record.split == "train" and record.answerable:
            answerable += 1
            with_facts += bool(unsupported(record))
    return TrainingSet(
        folder.resolve().name,
        tuple(parts["train"]),
        tuple(parts["dev"]),
        tuple(parts["test"]),
        wording=options.wording,
        facts_in_targets=with_facts / answerable if answerable else None,
        made_of={"options": options.hash, "profiles": sorted(profiles), "wording": options.wording.to_json()},
    )


def _of_file(path: Path) -> TrainingSet:
    try:
        rows = [_example(row, place) for place, row in read_rows(path)]
    except (StoreError, StoreDamagedError) as error:
        raise IngestError(f"{error}; give a JSONL file of rows, or an export's folder") from error
    _check_ids(rows, path)
    ranked = sorted(rows, key=lambda each: hashlib.sha256(repr(each.row()).encode("utf-8", "replace")).digest())
    watched = {each.id for each in ranked[: min(int(DEV_SHARE * len(rows)), MOST_DEV)]}
    train = tuple(each for each in rows if each.id not in watched)
    return TrainingSet(path.name, train, tuple(each for each in rows if each.id in watched))


def _check_ids(rows: Sequence[Example], path: Path) -> None:
    seen: set[str] = set()
    for each in rows:
        if each.id in seen:
            raise ConfigurationError(f"{path}: two rows have the id {each.id!r:.60}; each needs its own")
        seen.add(each.id)


def _example(row: Any, place: str) -> Example:
    """A row of any format; what an export wrote beside it is kept."""
    if not isinstance(row, Mapping):
        raise ConfigurationError(f"{place}: a row is a JSON object, not {row!r:.60}")
    try:
        prompt, completion = parted(row)
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        last = [{"role": "assistant", "content": completion}] if isinstance(completion, str) else completion
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}: {error}") from error
    turns = [_turn(each, place) for each in turns]
    if len(last) != 1 or not turns or turns[-1]["role"] != "user":
        raise ConfigurationError(f"{place}: expected turns that end with the user's, and one answer of the assistant")
    about = _provenance(row.get("provenance"))
    answer = _turn(last[0], place)["content"]
    if not answer.strip():
        raise ConfigurationError(f"{place}: the answer is empty, so there is nothing to learn")
    origin = str(about.get("origin", "user"))
    return Example(
        str(row.get("id", place.rpartition(", ")[2])),
        tuple(turns),
        answer,
        answerable=about.get("answerable") if isinstance(about.get("answerable"), bool) else None,
        origin=_ORIGINS.get(origin, origin),
    )


def _turn(turn: Any, place: str) -> dict[str, str]:
    if not isinstance(turn, Mapping) or turn.get("role") not in _ROLES or not isinstance(turn.get("content"), str):
        raise ConfigurationError(f"{place}: a turn has a role ({', '.join(_ROLES)}) and a content, unlike {turn!r:.60}")
    return {"role": turn["role"], "content": turn["content"]}


def _provenance(text: Any) -> Mapping[str, Any]:
    try:
        found = json.loads(text) if isinstance(text, str) else text
    except ValueError:  # somebody else's column of that name
        return {}
    return found if isinstance(found, Mapping) else {}
