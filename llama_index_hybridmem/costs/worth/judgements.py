"""Reads a file of judgements; knows no trace."""

from __future__ import annotations

import json
from pathlib import Path

from llama_index_hybridmem.costs.worth.judged import Judgement, judgement
from llama_index_hybridmem.errors import ConfigurationError


def read_judgements(path: str | Path) -> list[Judgement]:
    """Read JSON lines of ``{"question": id, "run": name, "correct": 0 … 1, "class": name}``; the class may be missing.

    Args:
        path: UTF-8; blank lines are passed over.

    Raises:
        ConfigurationError: the file cannot be read, or a line is of another form; names the line and the field.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            place = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ConfigurationError(f"{place}: not JSON: {error}") from error
            found.append(judgement(row, place))
    return found
