"""Options that several subcommands share; knows no subcommand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Store = Annotated[Path, typer.Option("--store", "-s", metavar="DIR", help="The store's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to standard output, and nothing else there.")]
LLM_HELP = (
    "The language model: smollm2, huggingface:NAME, openai:MODEL, ollama:MODEL, openai-like:URL,MODEL "
    "(key in HYBRIDMEM_API_KEY), or none."
)
