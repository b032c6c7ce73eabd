"""Where this package keeps what it can make again; knows nothing of what that is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

CACHE_VARIABLE = "HYBRIDMEM_CACHE"


def cache_folder() -> Path:
    """The folder that ``HYBRIDMEM_CACHE`` names, else the platform's cache folder for us; it may not exist yet."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "llama-index-hybridmem"
