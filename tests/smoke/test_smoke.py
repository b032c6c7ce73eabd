"""The built wheel works with nothing but its own dependencies; `make build` runs a copy of this file elsewhere."""

from __future__ import annotations

import math
import re
import zlib
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from pkgutil import walk_packages

from llama_index.core import Document
from llama_index.core.base.embeddings.base import BaseEmbedding

import llama_index_hybridmem as package

DOCUMENTS = [
    Document(text="Phase-change memory keeps its state without power.", id_="pcm"),
    Document(text="DRAM stores a bit in a capacitor and must be refreshed every 64 ms.", id_="dram"),
    Document(text="The Ames Bakery in Delft sells rye bread on Fridays.", id_="bread"),
]


class WordEmbedding(BaseEmbedding):
    """Counts words in 64 places: enough to tell three sentences apart, and no model."""

    def _embed(self, text: str) -> list[float]:
        vector = [0.0] * 64
        for word in re.findall(r"\w+", text.lower()):
            vector[zlib.crc32(word.encode()) % 64] += 1.0
        length = math.hypot(*vector) or 1.0
        return [value / length for value in vector]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embed(text)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embed(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._embed(query)


def test_the_version_is_the_distribution_s() -> None:
    """What was installed is what is imported."""
    assert version("llama-index-hybridmem") == package.__version__


def test_every_module_imports() -> None:
    """No module needs an extra merely to be imported; only the command line, which is an extra itself, may."""
    names = [found.name for found in walk_packages(package.__path__, f"{package.__name__}.")]
    modules = [name for name in names if not name.startswith(f"{package.__name__}.cli")]
    assert f"{package.__name__}.graph.walk" in modules
    for name in modules:
        import_module(name)


def test_every_public_name_loads() -> None:
    """The public names need no extra either."""
    assert all(getattr(package, name) is not None for name in package.__all__)


def test_the_package_says_that_it_is_typed() -> None:
    """The marker that lets type checkers read our annotations is in the wheel."""
    assert (Path(package.__path__[0]) / "py.typed").is_file()


def test_documents_in_and_the_right_one_out(tmp_path: Path) -> None:
    """An index on disk finds the document that a question is about, also after it is opened again."""
    question = "Why must DRAM be refreshed?"
    with package.HybridMemoryIndex.from_documents(
        DOCUMENTS, persist_dir=tmp_path, embed_model=WordEmbedding()
    ) as index:
        first = index.as_retriever(similarity_top_k=2).retrieve(question)
    with package.HybridMemoryIndex.open(tmp_path, embed_model=WordEmbedding()) as index:
        again = index.as_retriever(similarity_top_k=2).retrieve(question)
    assert [found.node.ref_doc_id for found in (first[0], again[0])] == ["dram", "dram"]
