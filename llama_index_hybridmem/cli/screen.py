"""Where things are written: results to standard output, everything else to standard error; knows nothing of what."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager, redirect_stdout
from typing import Any

from rich.console import Console

NARROW, WIDE = 80, 100


def page() -> Console:
    """Standard output, 80 to 100 columns wide, without colours where it is not a terminal."""
    width = Console().width
    return Console(width=min(max(width, NARROW), WIDE), highlight=False, emoji=False)


def aside() -> Console:
    """Standard error, for progress, prompts and remarks."""
    return Console(stderr=True, highlight=False, emoji=False)


def results_only() -> AbstractContextManager[Any]:
    """Sends to standard error what libraries print to standard output, which is kept for our results."""
    return redirect_stdout(sys.stderr)


def write_json(value: Any, *, lines: bool = False) -> None:
    """Write one JSON value: indented, or on one line where several follow one another; ASCII, so any encoding does."""
    sys.stdout.write(json.dumps(value, indent=None if lines else 2) + "\n")
