"""What `servers.py` puts into every store: passages, triples and vectors, made once; knows no server.

MuSiQue's 100 questions over 1,890 passages with the triples that GPT-3.5 once made of them; and, for the size of a
store, the union of every passage in the evaluation data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import MetadataMode, TextNode

from llama_index_hybridmem import MiniLMEmbedding
from llama_index_hybridmem.graph.nodes import to_passage
from llama_index_hybridmem.graph.stores.base import Fact, Passage

Rows = list[dict[str, Any]]


class RememberingMiniLM(MiniLMEmbedding):
    """MiniLM that encodes a text once per file of vectors; used for building alone, queries are encoded each time."""

    _seen: dict[str, list[float]] = PrivateAttr(default_factory=dict)

    def remember(self, path: Path | None) -> None:
        """Take up what an earlier run encoded."""
        if path is not None and path.exists():
            with np.load(path) as kept:
                self._seen.update(zip(kept["texts"].tolist(), kept["vectors"].tolist(), strict=True))

    def keep(self, path: Path | None) -> None:
        """Leave what was encoded to a later run."""
        if path is not None:
            vectors = np.asarray(list(self._seen.values()), dtype=np.float32)
            np.savez(path, texts=np.asarray(list(self._seen)), vectors=vectors)

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        new = list(dict.fromkeys(text for text in texts if text not in self._seen))
        self._seen.update(zip(new, super()._get_text_embeddings(new) if new else [], strict=True))
        return [self._seen[text] for text in texts]


@dataclass(frozen=True)
class Corpus:
    """Passages with the facts read from each.

    Attributes:
        nodes: the passages, each with its vector.
        facts: statements by node id.
    """

    nodes: Sequence[TextNode]
    facts: Mapping[str, Sequence[Fact]]

    def passages(self) -> list[Passage]:
        """Write them as the graph stores take them."""
        read = ((to_passage(node), tuple(self.facts.get(node.node_id, ()))) for node in self.nodes)
        return [replace(passage, facts=(*passage.facts, *facts)) for passage, facts in read]

    def link_count(self) -> int:
        """Count the facts; passage–name links are counted in the store."""
        return sum(len(facts) for facts in self.facts.values())


def musique(data: Path, encoder: RememberingMiniLM, limit: int | None = None) -> tuple[Corpus, Rows]:
    """Read MuSiQue's passages, triples and questions; with a limit, so many questions and every passage."""
    folder = data / "musique100"
    nodes = [_node(row["id"], row["title"], row["text"]) for row in read(folder / "corpus.jsonl")]
    return Corpus(encoded(nodes, encoder), _facts(folder)), read(folder / "questions.jsonl")[:limit]


def union(data: Path, encoder: RememberingMiniLM) -> Corpus:
    """Read every passage of the evaluation data, each text once; the triples where there are any."""
    texts: dict[str, TextNode] = {}
    for number, (name, title, text) in enumerate(_passages(data)):
        texts.setdefault(text, _node(name or f"passage{number}", title, text))
    return Corpus(encoded(list(texts.values()), encoder), _facts(data / "musique100"))


def encoded(nodes: Sequence[TextNode], encoder: MiniLMEmbedding) -> list[TextNode]:
    """Give nodes their vectors; title and text are encoded, as an index does."""
    vectors = encoder.get_text_embedding_batch([node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes])
    return [node.model_copy(update={"embedding": vector}) for node, vector in zip(nodes, vectors, strict=True)]


def read(path: Path) -> Rows:
    """Read a JSON lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _node(name: str, title: str, text: str) -> TextNode:
    return TextNode(id_=name, text=text, metadata={"title": title})


def _facts(folder: Path) -> dict[str, list[Fact]]:
    return {
        row["id"]: [Fact(str(s), str(p), str(o), row["id"]) for s, p, o in filter(_is_whole, row["triples"])]
        for row in read(folder / "openie.jsonl")
    }


def _is_whole(triple: Sequence[object]) -> bool:
    return len(triple) == 3


def _passages(data: Path) -> Iterator[tuple[str, str, str]]:
    """List (id or "", title, text) of every passage there is."""
    for name in ("musique100", "hotpot100"):
        yield from ((row["id"], row["title"], row["text"]) for row in read(data / name / "corpus.jsonl"))
    for part in ("train", "dev"):
        yield from (("", row["title"], row["context"]) for row in read(data / "xquad_en" / f"{part}.jsonl"))
    for row in json.loads((data / "noise" / "noiserbench_bamboogle.json").read_text(encoding="utf-8")):
        found = [item for value in row.values() if isinstance(value, list) for item in value if isinstance(item, dict)]
        yield from (("", item.get("title", ""), item["text"]) for item in found if item.get("text"))
    for row in read(data / "noise" / "retrievalqa_gpt4.jsonl"):
        found = [item for item in row["context"] if isinstance(item, dict)]
        yield from (("", item["title"], item["text"]) for item in found if item.get("text"))
