"""Clean scenes for `noise_detectors.py`: questions with the passages that BM25 finds for them; knows no operator.

The sample documents are in the package; the public sets are not ours and not in this repository.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

from llama_index.core.node_parser import MarkdownNodeParser
from llama_index.core.schema import Document

from llama_index_hybridmem.graph.stores.bm25 import bm25
from llama_index_hybridmem.noise.scene import Passage, Scene, World
from llama_index_hybridmem.sample import documents_folder, questions_path
from llama_index_hybridmem.splitter import StructureSplitter
from llama_index_hybridmem.terms import content_stems

TOP_K = 5
WORLD = 300
MIN_WORDS, MAX_WORDS = 20, 400
SEED = "noise"


def read(path: Path) -> list[dict[str, Any]]:
    """Read a JSON lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Found:
    """Ranks passages for questions by BM25 over word stems, titles included."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = passages
        self.stems = [content_stems(f"{each.title} {each.text}") for each in passages]
        self.frequencies = Counter(stem for stems in self.stems for stem in set(stems))
        self.total = sum(map(len, self.stems))

    def __call__(self, question: str, k: int = TOP_K) -> list[Passage]:
        """Give the k best passages, each with its score."""
        asked = {stem: self.frequencies[stem] for stem in content_stems(question) if self.frequencies[stem]}
        scores = [bm25(stems, len(stems), asked, len(self.stems), self.total) for stems in self.stems]
        best = sorted(range(len(scores)), key=lambda n: (-scores[n], n))[:k]
        return [_scored(self.passages[n], scores[n]) for n in best]


def sample() -> tuple[list[Scene], World]:
    """The package's own documents, cut along their structure, with its questions that one of the passages answers."""
    documents = [
        Document(doc_id=path.stem, text=path.read_text(encoding="utf-8"), metadata=_as_read(path.name, n))
        for n, path in enumerate(sorted(documents_folder().glob("*.md")))
    ]
    nodes = StructureSplitter().get_nodes_from_documents(documents)
    passages = [Passage(each.node_id, each.get_content(), dict(each.metadata), each.ref_doc_id) for each in nodes]
    rows = [
        (
            row["question"],
            row["answer"],
            {
                each.id
                for each in passages
                if each.source in row["expected_sources"] and row["answer"].casefold() in each.text.casefold()
            },
        )
        for row in read(questions_path())
        if row["answer"]
    ]
    for each in documents:
        mine = [passage for passage in passages if passage.source == each.doc_id]
        rows.append((f"What is {mine[0].title}?", mine[0].text, {mine[0].id}))
    return list(_scenes(passages, rows)), _world(passages)


def documentation(root: Path) -> tuple[list[Scene], World]:
    """This repository's own Markdown, a passage per section with its heading, fences, lists and links; by heading."""
    files = [root / "README.md", *sorted((root / "docs").rglob("*.md")), root / "benchmarks" / "README.md"]
    documents = [
        Document(doc_id=path.stem, text=path.read_text(encoding="utf-8"), metadata={"file_name": path.name})
        for path in files
        if path.exists()
    ]
    nodes = MarkdownNodeParser(id_func=lambda n, document: f"{document.node_id}-{n}").get_nodes_from_documents(
        documents
    )
    passages = [
        Passage(f"{each.ref_doc_id}-{n}", each.get_content(), dict(each.metadata), each.ref_doc_id)
        for n, each in enumerate(nodes)
        if MIN_WORDS <= len(each.get_content().split()) <= MAX_WORDS
    ]
    rows = []
    for each in passages:
        heading = each.text.partition("\n")[0]
        if heading.startswith("#"):
            rows.append((heading.lstrip("# "), each.text, {each.id}))
    return list(_scenes(passages, rows)), _world(passages)


def xquad(path: Path) -> tuple[list[Scene], World]:
    """Wikipedia paragraphs with questions written for them."""
    rows = read(path)
    ids = {row["context"]: f"{row['document']}-{row['paragraph']}" for row in rows}
    about = {row["context"]: row for row in rows}
    passages = [
        Passage(id_, text, {"title": about[text]["title"]}, str(about[text]["document"])) for text, id_ in ids.items()
    ]
    asked = [(row["question"], row["answer"], {ids[row["context"]]}) for row in rows]
    return list(_scenes(passages, asked)), _world(passages)


def multi_hop(folder: Path) -> tuple[list[Scene], World]:
    """Wikipedia's first paragraphs with questions that need several of them."""
    passages = [
        Passage(row["id"], row["text"], {"title": row["title"]}, row["id"]) for row in read(folder / "corpus.jsonl")
    ]
    rows = [(row["question"], row["answer"], set(row["gold"])) for row in read(folder / "questions.jsonl")]
    return list(_scenes(passages, rows)), _world(passages)


def _scenes(passages: Sequence[Passage], rows: Sequence[tuple[str, str, set[str]]]) -> Iterator[Scene]:
    """Scenes whose gold was found, all of it: without it they would not be clean."""
    found = Found(passages)
    for question, answer, gold in rows:
        ranked = found(question, 2 * TOP_K)
        top = ranked[:TOP_K]
        if gold and gold & {each.id for each in top}:
            there = frozenset(gold & {each.id for each in ranked})
            yield Scene(question, tuple(top), tuple(ranked[TOP_K:]), there, answer)


def _world(passages: Sequence[Passage]) -> World:
    return World(tuple(Random(SEED).sample(list(passages), min(WORLD, len(passages)))))


def _as_read(name: str, n: int) -> dict[str, str]:
    """What a reader of files says of one; the dates are made up, a day apart."""
    return {"file_name": name, "last_modified_date": (date(2024, 1, 1) + timedelta(days=n)).isoformat()}


def _scored(passage: Passage, score: float) -> Passage:
    return Passage(passage.id, passage.text, passage.metadata, passage.source, score)
