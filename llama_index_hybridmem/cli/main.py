"""The way in: turns every failure into one line and an exit code; knows nothing of the subcommands."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from ..errors import AdapterError, ConfigurationError, HybridMemoryError, MissingExtraError
from ..extras import require

USAGE, FAILURE = 2, 1
"""Exit codes: mended by another command line or installation; everything else."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends by `SystemExit`.

    Args:
        arguments: without the program's name; None for those of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without our arrows shows "?", and no traceback
            stream.reconfigure(errors="replace")
    # Read by torch's OpenMP when it loads. Its threads would spin while they wait for each other: on two busy cores the
    # small model then took 24 s of CPU for what takes 2.7 s when they sleep, and on idle ones no less.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        require("the command line", "cli", "typer", "rich")
        from .program import app

        app(given, prog_name="hybridmem")
    except HybridMemoryError as error:
        code = USAGE if isinstance(error, ConfigurationError | AdapterError | MissingExtraError) else FAILURE
        _fail(error, str(error), code, debug="--debug" in given)
    except Exception as error:  # noqa: BLE001 - the outermost boundary: a user gets a line, not a traceback
        told = f"unexpected {type(error).__name__}: {error} (hybridmem --debug … shows where)"
        _fail(error, told, FAILURE, debug="--debug" in given)


def _fail(error: Exception, message: str, code: int, *, debug: bool) -> None:
    if debug:
        raise error
    sys.stderr.write(f"hybridmem: {' '.join(message.split())}\n")
    raise SystemExit(code) from error
