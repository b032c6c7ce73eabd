"""All operators that come with the package, registered by being imported; pure."""

from __future__ import annotations

from llama_index_hybridmem.noise.operators import (  # noqa: F401 - each registers what it has
    cuts,
    encoding,
    html,
    language,
    layout,
    lists,
    markdown,
    metadata,
    ocr,
    statements,
)
from llama_index_hybridmem.noise.operators.registry import operator, operators

__all__ = ["operator", "operators"]
