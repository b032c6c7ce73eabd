"""General rows and probes of our own: what a small chat model can do and must keep; knows no trainer."""

from __future__ import annotations

from llama_index_hybridmem.training.general.probes import SKILLS, probes
from llama_index_hybridmem.training.general.rows import general_rows

__all__ = ["SKILLS", "general_rows", "probes"]
