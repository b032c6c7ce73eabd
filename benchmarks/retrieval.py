"""Retrieval on public multi-hop questions: ours against what a LlamaIndex user has today, same encoder, one run.

    OMP_NUM_THREADS=1 python benchmarks/retrieval.py [--data DIR] [--sets musique100 hotpot100] [--fast]

Prints one JSON line per set and arm: recall@2/5/10 and all@5 in percent with 95 % bootstrap intervals over questions,
the
paired difference in recall@5 to dense retrieval, and CPU milliseconds per query (p50, p95; encoding included).
`--fast` leaves
out LlamaIndex's property graph, which takes minutes. The data are not ours and not in the repository: without them
the script
says so and ends. `python benchmarks/retrieval.py | python benchmarks/_table.py` prints the table of
benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.graph_stores import SimplePropertyGraphStore
from llama_index.core.graph_stores.types import TRIPLET_SOURCE_KEY, EntityNode, Relation
from llama_index.core.indices.property_graph import PropertyGraphIndex, VectorContextRetriever
from llama_index.core.llms import MockLLM
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import Document, TextNode
from tqdm import tqdm

from llama_index_hybridmem import HybridMemoryIndex, MiniLMEmbedding
from llama_index_hybridmem.evaluation import Question, ranking
from llama_index_hybridmem.graph.stores.base import Fact
from llama_index_hybridmem.statistics import all_gold_at_k, bootstrap_interval, paired_difference, recall_at_k

DATA = Path(os.environ.get("HYBRIDMEM_DATA", Path(__file__).resolve().parents[1] / ".." / "shared" / "data"))
KS = (2, 5, 10)
GLUED = 6
SEED = 0

Rows = list[dict[str, Any]]


def read(path: Path) -> Rows:
    """Read a JSON lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def documents(corpus: Rows, *, titles: bool = True) -> list[Document]:
    """Make a document of every passage; without titles, the title stands in the text alone."""
    if titles:
        return [Document(doc_id=row["id"], text=row["text"], metadata={"title": row["title"]}) for row in corpus]
    return [Document(doc_id=row["id"], text=f"{row['title']}\n{row['text']}") for row in corpus]


def glued(corpus: Rows, questions: Rows) -> tuple[list[TextNode], Rows]:
    """Glue six random passages at a time into one long untitled node; a question's gold is then glued nodes."""
    order = list(corpus)
    random.Random(SEED).shuffle(order)
    groups = [order[start : start + GLUED] for start in range(0, len(order), GLUED)]
    nodes = [
        TextNode(id_=f"glued{i:04d}", text="\n\n".join(f"{row['title']}\n{row['text']}" for row in group))
        for i, group in enumerate(groups)
    ]
    home = {row["id"]: f"glued{i:04d}" for i, group in enumerate(groups) for row in group}
    return nodes, [{**row, "gold": sorted({home[gold] for gold in row["gold"]})} for row in questions]


def property_graph(triples: Rows, corpus: Rows, encoder: MiniLMEmbedding) -> BaseRetriever:
    """Build LlamaIndex's own graph retrieval over the given triples."""
    store = SimplePropertyGraphStore()
    nodes = {row["id"]: TextNode(id_=row["id"], text=f"{row['title']}\n{row['text']}") for row in corpus}
    store.upsert_llama_nodes(list(nodes.values()))
    entities: dict[str, EntityNode] = {}
    relations = []
    for row in triples:
        for subject, relation, target in (triple for triple in row["triples"] if len(triple) == 3):
            for name in (str(subject), str(target)):
                entities.setdefault(name, EntityNode(name=name, properties={TRIPLET_SOURCE_KEY: row["id"]}))
            ends = {"source_id": entities[str(subject)].id, "target_id": entities[str(target)].id}
            relations.append(Relation(label=str(relation), properties={TRIPLET_SOURCE_KEY: row["id"]}, **ends))
    vectors = encoder.get_text_embedding_batch(list(entities))
    for entity, vector in zip(entities.values(), vectors, strict=True):
        entity.embedding = vector
    store.upsert_nodes(list(entities.values()))
    store.upsert_relations(relations)
    index = PropertyGraphIndex.from_existing(store, embed_model=encoder, llm=MockLLM(), embed_kg_nodes=False)
    context = VectorContextRetriever(
        store, embed_model=encoder, similarity_top_k=10, vector_store=_entity_vectors(entities), include_text=True
    )
    return index.as_retriever(sub_retrievers=[context])


def _entity_vectors(entities: dict[str, EntityNode]) -> Any:
    from llama_index.core.graph_stores.types import VECTOR_SOURCE_KEY
    from llama_index.core.vector_stores.simple import SimpleVectorStore

    store = SimpleVectorStore()
    store.add(
        [
            TextNode(id_=entity.id, text=name, metadata={VECTOR_SOURCE_KEY: entity.id}, embedding=entity.embedding)
            for name, entity in entities.items()
        ]
    )
    return store


def fusion(index: HybridMemoryIndex) -> BaseRetriever:
    """Build what LlamaIndex offers for hybrid search today: reciprocal rank fusion of dense and keyword."""
    parts = [store.retriever for store in index.as_retriever(stores=("vector", "keyword"), similarity_top_k=100).stores]
    for part in parts:
        part.similarity_top_k = 100
    return QueryFusionRetriever(
        parts, llm=MockLLM(), mode="reciprocal_rerank", num_queries=1, similarity_top_k=10, use_async=False
    )


def cpu(call: Callable[[], Any]) -> tuple[Any, float]:
    """Run a call; returns its result and the CPU seconds of the whole process."""
    began = time.process_time()
    result = call()
    return result, time.process_time() - began


def measure(retriever: BaseRetriever, questions: Rows, arm: str) -> tuple[list[list[str]], list[float]]:
    """Retrieve for every question; returns the rankings and CPU seconds."""
    asked = [Question(row["question"], frozenset(row["gold"])) for row in questions]
    for question in asked[:3]:  # warm: the first queries load the encoder and fill caches
        ranking(retriever, question)
    answers = [
        cpu(lambda question=question: ranking(retriever, question))
        for question in tqdm(asked, arm, leave=False, file=sys.stderr)
    ]
    return [found for found, _ in answers], [seconds for _, seconds in answers]


def line(
    arm: str, lists: list[list[str]], seconds: list[float], questions: Rows, dense: list[float] | None
) -> dict[str, Any]:
    """Sum an arm up."""
    gold = [row["gold"] for row in questions]
    at5 = recalls(lists, questions, 5)
    metrics = {
        f"recall@{k}": _interval([recall_at_k(found, g, k) for found, g in zip(lists, gold, strict=True)]) for k in KS
    }
    metrics["all@5"] = _interval([all_gold_at_k(found, g, 5) for found, g in zip(lists, gold, strict=True)])
    gain = paired_difference(at5, dense, SEED) if dense is not None else None
    p50, p95 = np.percentile(seconds, [50, 95]) * 1e3
    return {
        "arm": arm,
        **metrics,
        "gain_over_dense@5": _percent(asdict(gain)) if gain else None,
        "cpu_ms": {"p50": round(float(p50), 1), "p95": round(float(p95), 1)},
    }


def recalls(lists: list[list[str]], questions: Rows, k: int) -> list[float]:
    """Recall at k of every question."""
    return [recall_at_k(found, row["gold"], k) for found, row in zip(lists, questions, strict=True)]


def _interval(values: Sequence[float]) -> dict[str, float]:
    return _percent(asdict(bootstrap_interval(values, SEED)))


def _percent(interval: dict[str, float]) -> dict[str, float]:
    return {key: round(100 * value, 1) for key, value in interval.items()}


def arms(index: HybridMemoryIndex) -> Iterator[tuple[str, BaseRetriever]]:
    """List the ways of retrieving from one index."""
    yield "dense", index.as_retriever(stores=("vector",))
    yield "bm25", index.as_retriever(stores=("keyword",))
    yield "llamaindex fusion (rrf)", fusion(index)
    for hops in (1, 2):
        yield f"graph hops={hops}", index.as_retriever(stores=("graph",), hops=hops)
        yield f"hybrid hops={hops}", index.as_retriever(hops=hops)


def run_arms(ways: Iterator[tuple[str, BaseRetriever]], questions: Rows, context: dict[str, Any]) -> None:
    """Measure and print arm after arm; "dense" comes first, the others are paired with it."""
    dense = None
    for arm, retriever in ways:
        lists, seconds = measure(retriever, questions, f"{context['set']} {arm}")
        print(json.dumps({**context, **line(arm, lists, seconds, questions, dense)}), flush=True)
        if arm == "dense":
            dense = recalls(lists, questions, 5)


def build(name: str, make: Callable[[Path], HybridMemoryIndex], count: int) -> HybridMemoryIndex:
    """Build an index and print what it cost."""
    folder = Path(tempfile.mkdtemp(prefix="hybridmem-bench-"))
    index, seconds = cpu(lambda: make(folder))
    _, optimizing = cpu(index.optimize)
    size = sum(512 * file.stat().st_blocks for file in folder.rglob("*") if file.is_file())
    cost = {
        "set": name, "arm": "index", "passages": count, "cpu_s": round(seconds, 1), "optimize_cpu_s":
        round(optimizing, 1),
        "cpu_ms_per_passage": round(1e3 * seconds / count, 2), "bytes_per_passage": round(size / count),
    }  # fmt: skip
    print(json.dumps(cost), flush=True)
    return index


def discard(index: HybridMemoryIndex) -> None:
    """Close an index and remove its folder."""
    index.close()
    if index.folder is not None:
        shutil.rmtree(index.folder)


def run_set(name: str, data: Path, encoder: MiniLMEmbedding, fast: bool) -> None:
    """Measure everything on one set."""
    corpus, questions = read(data / name / "corpus.jsonl"), read(data / name / "questions.jsonl")

    def made(docs: list[Document], **options: Any) -> Callable[[Path], HybridMemoryIndex]:
        return lambda folder: HybridMemoryIndex.from_documents(docs, persist_dir=folder, embed_model=encoder, **options)

    index = build(name, made(documents(corpus)), len(corpus))
    run_arms(arms(index), questions, {"set": name})
    discard(index)
    bare = build(f"{name} no titles", made(documents(corpus, titles=False)), len(corpus))
    run_arms(arms(bare), questions, {"set": f"{name} no titles"})
    discard(bare)
    nodes, asked = glued(corpus, questions)

    def from_nodes(folder: Path) -> HybridMemoryIndex:
        made_index = HybridMemoryIndex.from_documents([], persist_dir=folder, embed_model=encoder)
        made_index.insert_nodes(nodes)
        return made_index

    long = build(f"{name} glued", from_nodes, len(nodes))
    run_arms(arms(long), asked, {"set": f"{name} glued"})
    discard(long)
    if (data / name / "openie.jsonl").exists():
        run_triples(name, corpus, questions, read(data / name / "openie.jsonl"), encoder, fast)


def run_triples(name: str, corpus: Rows, questions: Rows, triples: Rows, encoder: MiniLMEmbedding, fast: bool) -> None:
    """Measure with the given triples: ours, and LlamaIndex's property graph over the same."""
    facts = {
        row["id"]: [Fact(*map(str, triple), node_id=row["id"]) for triple in row["triples"] if len(triple) == 3]
        for row in triples
    }
    nodes = [TextNode(id_=row["id"], text=row["text"], metadata={"title": row["title"]}) for row in corpus]

    def make(folder: Path) -> HybridMemoryIndex:
        index = HybridMemoryIndex.from_documents([], persist_dir=folder, embed_model=encoder)
        index.insert_nodes(nodes, facts=facts)
        return index

    index = build(f"{name} triples", make, len(corpus))
    run_arms(arms(index), questions, {"set": f"{name} triples"})
    discard(index)
    if not fast:
        theirs = property_graph(triples, corpus, encoder)
        run_arms(iter([("llamaindex property graph", theirs)]), questions, {"set": f"{name} triples"})


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--sets", nargs="+", default=["musique100", "hotpot100"])
    parser.add_argument("--fast", action="store_true", help="leave out LlamaIndex's property graph")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(
            f"skipped: no evaluation data in {options.data}; name them with --data or HYBRIDMEM_DATA", file=sys.stderr
        )
        return
    import torch

    torch.set_num_threads(1)
    packages = ("llama-index-core", "qdrant-edge-py", "torch", "numpy")
    about = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count(), "seed": SEED}
    print(json.dumps({"arm": "about", **about, **{name: version(name) for name in packages}}), flush=True)
    encoder = MiniLMEmbedding()
    for name in options.sets:
        run_set(name, options.data, encoder, options.fast)


if __name__ == "__main__":
    main()
