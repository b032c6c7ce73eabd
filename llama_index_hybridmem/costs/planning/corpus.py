"""Measures a corpus before anything is built of it: documents, tokens, chunks; knows no prices.

Tokens are those of LlamaIndex's tokenizer (`get_tokenizer`: cl100k_base unless the app has set another). Chunks are cut
where `StructureSplitter` cuts them, title and section in front as the encoder reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath

from llama_index.core.schema import Document
from llama_index.core.utils import get_tokenizer

from llama_index_hybridmem.chunking import Count, chunk, title_of
from llama_index_hybridmem.costs.planning.work import Corpus
from llama_index_hybridmem.errors import ConfigurationError


def measure(
    documents: Iterable[Document],
    chunk_size: int = 512,
    count: Count | None = None,
    counted_by: str = "the given tokenizer",
) -> Corpus:
    """Count and cut, one document at a time; about 1.5 MB a second.

    Args:
        documents: read once, none is kept.
        chunk_size: tokens that a chunk may have, title and section included.
        count: counts tokens in place of LlamaIndex's tokenizer.
        counted_by: names it.

    Raises:
        ConfigurationError: a chunk size below 1.
    """
    if chunk_size < 1:
        raise ConfigurationError(f"chunk_size: 1 or more, not {chunk_size}")
    if count is None:
        count, counted_by = default_count()
    number = characters = tokens = 0
    sizes: list[int] = []
    for document in documents:
        number += 1
        characters += len(document.text)
        tokens += count(document.text)
        sizes += _chunk_sizes(document, chunk_size, count)
    return Corpus(number, characters, tokens, len(sizes), sum(sizes), max(sizes, default=0), chunk_size, counted_by)


def default_count() -> tuple[Count, str]:
    """Give LlamaIndex's tokenizer as a count, and its name."""
    tokenizer = get_tokenizer()
    encoding = getattr(getattr(tokenizer, "func", None), "__self__", None)
    name = getattr(encoding, "name", None) or type(tokenizer).__name__
    return lambda text: len(tokenizer(text)), f"{name}, by LlamaIndex"


def _chunk_sizes(document: Document, chunk_size: int, count: Count) -> list[int]:
    text, metadata = document.text, document.metadata
    title = str(metadata.get("title") or title_of(text) or PurePath(str(metadata.get("file_name") or "")).stem)

    def prefix(sections: Sequence[str]) -> str:
        path = " > ".join(name for place, name in enumerate(sections) if place or name != title)
        return "\n".join(filter(None, (title, path)))

    pieces = chunk(text, count=count, max_tokens=chunk_size, prefix=prefix)
    return [count("\n\n".join(filter(None, (prefix(piece.sections), piece.text)))) for piece in pieces]
