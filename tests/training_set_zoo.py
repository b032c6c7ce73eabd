"""Records made by hand, and an export's folder with them, for the tests of what reads one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_index_hybridmem.export.formats import row
from llama_index_hybridmem.export.options import ExportOptions
from llama_index_hybridmem.export.record import Quote, Record
from llama_index_hybridmem.export.shards import (
    PROFILE,
    SETTINGS,
    Shard,
    line,
    training_line,
    write_object,
    write_shard,
)
from llama_index_hybridmem.noise.profile import KindRate, Profile
from llama_index_hybridmem.noise.scene import Damage, Passage, digest

ABSTAINS = "Not in the sources."
PROFILE_OF_SET = Profile(
    {"truncation": KindRate(0.2, 0.1, 0.3), "gold_removed": KindRate(0.25, 0.2, 0.3)}, source="made by hand"
)


def record(n: int, **changes: Any) -> Record:
    """A sound record: answered from the first of two passages, the second of which is cut."""
    who = f"Inventor Nr{n}"
    text = f"The machine number {n} was built by {who} in a shed. It was painted green and sold soon after."
    gold = Passage(f"g{n}", text, {"title": f"Machine {n}"}, source=f"doc{n}")
    other = Passage(f"o{n}", "Rain fell on the town for days. Nobody minded.", {"title": "Rain"}, source="rain")
    cut = Damage("truncate_tail", "truncation", 0.5, "s", digest(other), ((31, 31),))
    damaged = Passage(other.id, other.text[:31], other.metadata, other.source, damage=(cut,))
    fields: dict[str, Any] = {
        "id": f"r{n}",
        "question": f"Who built the machine number {n}?",
        "answer": who,
        "expected": who,
        "answerable": True,
        "clean": (gold, other),
        "noisy": (gold, damaged),
        "removed": (),
        "gold": frozenset({gold.id}),
        "quotes": (Quote(gold.id, who),),
        "seed": f"0:r{n}",
        "profile": PROFILE_OF_SET.hash,
        "split": ("train", "train", "dev", "test")[n % 4],
    }
    return Record(**{**fields, **changes})


def abstaining(n: int, **changes: Any) -> Record:
    """A sound record whose gold passage was taken away."""
    whole = record(n)
    gold, other = whole.clean
    taken = Passage(
        gold.id,
        gold.text,
        gold.metadata,
        gold.source,
        damage=(Damage("gold_removed", "gold_removed", 1.0, "s", digest(gold)),),
    )
    fields = {"answer": ABSTAINS, "answerable": False, "quotes": (), "noisy": (other,), "removed": (taken,)}
    return record(n, **{**fields, **changes})


def write(folder: Path, records: Sequence[Record], formats: Sequence[str] = ("prompt-completion",)) -> Path:
    """Write an export's folder, ten records to a shard."""
    options = ExportOptions(formats=tuple(formats)).of(PROFILE_OF_SET)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"schema": 1, "made_by": "0", "options": options.to_json(), "hash": options.hash}
    write_object(folder / SETTINGS, settings)
    write_object(folder / PROFILE, PROFILE_OF_SET.to_json())
    for number, start in enumerate(range(0, len(records), 10)):
        shard = Shard(number, summary={"left_out": {"straddles": ["x"]}})
        for each in records[start : start + 10]:
            shard.records.append(line(each.to_json()))
            for name in formats:
                made = training_line(row(each, name, options.wording))
                shard.files.setdefault(f"{name}/{each.split}", []).append(made)
        write_shard(folder, shard)
    return folder


def reread(path: Path) -> list[Any]:
    """The rows of a file."""
    return [json.loads(each) for each in path.read_text(encoding="utf-8").splitlines()]
