"""All detectors that come with the package, registered by being imported; pure."""

from __future__ import annotations

from llama_index_hybridmem.noise.detectors import (  # noqa: F401 - each registers what it has
    cuts,
    duplicates,
    encoding,
    html,
    language,
    layout,
    markdown,
    metadata,
    ocr,
    relevance,
    statements,
)
from llama_index_hybridmem.noise.findings import detect, detectors, versions

__all__ = ["detect", "detectors", "versions"]
