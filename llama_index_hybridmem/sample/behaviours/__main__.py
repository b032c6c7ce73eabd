"""Writes the rows of behaviour: `python -m llama_index_hybridmem.sample.behaviours --out FOLDER [--only tickets]`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from llama_index_hybridmem.disk import atomic_write_text, make_folder
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.sample.behaviours import sealed, tickets, voices
from llama_index_hybridmem.sample.behaviours.parts import PARTS, Part

SEED = 20261122
COUNTS: dict[Part, int] = {"train": 420, "dev": 60, "test": 120}
"""Rows of each set: about what a small model learns a form from, and half an hour of one CPU core."""

SETS: dict[str, Callable[[int, int, Part], list[Example]]] = {
    "tickets": tickets.tickets,
    **{voice.lower(): partial(voices.rows, voice) for voice in voices.VOICES},
    "sealed": sealed.rows,
}


def as_lines(examples: Iterable[Example]) -> str:
    """Give rows as JSON lines: what a trainer reads, and what it takes to judge an answer."""
    return "".join(json.dumps(_row(each), ensure_ascii=False) + "\n" for each in examples)


def _row(example: Example) -> dict[str, object]:
    about = {"answerable": example.answerable, "kinds": sorted(example.kinds), "origin": example.origin}
    return {"id": example.id, **example.row(), "expected": example.answer, "provenance": about}


def write(out: Path, names: Iterable[str], seed: int = SEED) -> list[Path]:
    """Write FOLDER/SET/PART.jsonl for each set and part.

    Args:
        out: the folder; it is made.
        names: of sets.
        seed: same seed, same bytes.

    Returns:
        The files.

    Raises:
        StoreError: a file cannot be written.
    """
    written = []
    for name in names:
        make_folder(out / name)
        for part, count in COUNTS.items():
            written.append(out / name / f"{part}.jsonl")
            atomic_write_text(written[-1], as_lines(SETS[name](count, seed, part)))
    return written


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=f"Make rows that teach a behaviour, in parts: {', '.join(PARTS)}.")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="Gets a folder for each set.")
    parser.add_argument("--only", choices=sorted(SETS), action="append", help="This set; may be given more than once.")
    parser.add_argument("--seed", type=int, default=SEED, help="The same seed, the same bytes.")
    chosen = parser.parse_args()
    write(chosen.out, chosen.only or SETS, chosen.seed)


if __name__ == "__main__":
    main()
