"""Writes the generated questions: `python -m llama_index_hybridmem.sample.asking [--out FILE] [--seed N]`."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

from llama_index_hybridmem.disk import atomic_write_text
from llama_index_hybridmem.sample import documents_folder, facts_path, generated_path
from llama_index_hybridmem.sample.asking.generate import SEED, generate
from llama_index_hybridmem.sample.asking.sheets import Material, material

_SHEETS = ("wordings", "names", "domains", "elsewhere", "bridges", "comparisons", "groups", "twins")


def sample_material() -> Material:
    """Read the sample's documents, its facts and the sheets beside this file."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(documents_folder().glob("*.md"))}
    here = Path(__file__).resolve().parent
    sheets = {name: _rows(here / f"{name}.csv", ";") for name in _SHEETS}
    return material(texts, {**sheets, "facts": _rows(facts_path(), ",")})


def _rows(path: Path, delimiter: str) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def as_lines(seed: int = SEED) -> str:
    """The generated questions as JSON lines."""
    rows = generate(sample_material(), seed)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description="Make questions from the sample's facts.")
    parser.add_argument("--out", type=Path, default=generated_path(), metavar="FILE", help="Default: the shipped file.")
    parser.add_argument("--seed", type=int, default=SEED, help="The same seed, the same bytes.")
    chosen = parser.parse_args()
    atomic_write_text(chosen.out, as_lines(chosen.seed))


if __name__ == "__main__":
    main()
