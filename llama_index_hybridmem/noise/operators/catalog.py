"""All operators that come with the package, registered by being imported; pure."""

from __future__ import annotations

import importlib
import pkgutil

import llama_index_hybridmem.noise.operators as _folder
from llama_index_hybridmem.noise.operators.registry import operator, operators

for _module in pkgutil.iter_modules(_folder.__path__):
    if _module.name not in ("catalog", "registry"):
        importlib.import_module(f"{_folder.__name__}.{_module.name}")

__all__ = ["operator", "operators"]
