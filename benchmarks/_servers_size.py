"""What our store's part of a question takes in a graph of 100,000 links and more, and what a link costs on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path

import _servers_ours as ours
from _servers_corpus import Corpus, RememberingMiniLM
from _servers_measure import Asked, spread
from _servers_peers import Arm
from _servers_place import Address, on_disk, say, size

from llama_index_hybridmem import MiniLMEmbedding
from llama_index_hybridmem.manifest import GRAPH, VECTOR


def at_size(
    address: Address,
    home: Path | None,
    corpus: Corpus,
    asked: Asked,
    builder: RememberingMiniLM,
    encoder: MiniLMEmbedding,
) -> None:
    """Measure what the store's part takes in a larger graph, and what a link costs on disk."""
    import _servers_ours as ours

    before = size(address, home)
    seconds = ours.write(address, "size", corpus)
    after = size(address, home)
    with tempfile.TemporaryDirectory(prefix="hybridmem-bench-") as folder:
        index = ours.embedded(corpus, builder, Path(folder) / "store")
        graph = ours.graph_store(address, "size", ours.TimedBolt)
        bolt = graph.bolt
        assert isinstance(bolt, ours.TimedBolt)
        counts = graph.stats()
        links = counts["links"] + counts["facts"]
        neo4j = after - before if before is not None and after is not None else None
        embedded = {
            "SQLite": on_disk(Path(folder), f"{GRAPH}*"),
            "Qdrant Edge": on_disk(Path(folder) / "store" / VECTOR),
        }
        for name, count in {"Neo4j": neo4j, **embedded}.items():
            per = {"passage": len(corpus.nodes), "link": links}
            bytes_each = {f"bytes_per_{one}": round(count / number) for one, number in per.items()} if count else {}
            say(store=name, **counts, **bytes_each)
        say(written="ours", passages=len(corpus.nodes), links=links, wall_s=round(seconds, 1))
        for hops in (1, 2):
            arm = ours.asking(f"hops={hops}", graph, index, encoder, hops, {})
            parts, reads = _parts(arm, bolt, asked)
            say(store_part=arm.name, links=links, reads=round(reads, 2), wall_ms=spread(parts))
        ours.close(graph)
        index.close()


def _parts(arm: Arm, bolt: ours.TimedBolt, asked: Asked) -> tuple[list[float], float]:
    """Seconds inside the store of each question, and statements of a question; one round to warm up."""
    for question, vector, _ in asked:
        arm.ask(question, vector)
    parts, began = [], bolt.reads
    for question, vector, _ in [*asked] * 3:
        before = bolt.seconds
        arm.ask(question, vector)
        parts.append(bolt.seconds - before)
    return parts, (bolt.reads - began) / len(parts)
