"""What our store's part of a question takes in a graph of 100,000 links and more, and what a link costs on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import _servers_ours as ours
from _servers_corpus import Corpus, RememberingMiniLM
from _servers_measure import Asked, spread
from _servers_peers import Arm
from _servers_place import Address, on_disk, say, size

from llama_index_hybridmem import MiniLMEmbedding
from llama_index_hybridmem.graph.stores.bolt import Bolt
from llama_index_hybridmem.manifest import GRAPH, VECTOR

if TYPE_CHECKING:
    from servers.neo4j.server import Neo4jServer

STORE = "size"


def at_size(
    address: Address,
    own: Neo4jServer | None,
    corpus: Corpus,
    asked: Asked,
    builder: RememberingMiniLM,
    encoder: MiniLMEmbedding,
) -> None:
    """Measure what the store's part takes in a larger graph, and what a passage and a link cost on disk."""
    before = size(own)
    seconds = ours.write(address, STORE, corpus)
    with tempfile.TemporaryDirectory(prefix="hybridmem-bench-") as folder:
        index = ours.embedded(corpus, builder, Path(folder))
        graph = ours.graph_store(address, STORE, ours.TimedBolt)
        counts = graph.stats()
        links = counts["links"] + counts["facts"]
        say(written="ours", passages=counts["passages"], links=links, wall_s=round(seconds, 1))
        for hops in (1, 2):
            arm = ours.asking(f"hops={hops}", graph, index, encoder, hops, {})
            parts, reads = _parts(arm, graph.bolt, asked)
            say(store_part=arm.name, links=links, reads=round(reads, 2), wall_ms=spread(parts))
        ours.close(graph)
        after = size(own)
        index.close()
        taken = {
            "Neo4j": after - before if before is not None and after is not None else None,
            "SQLite": on_disk(Path(folder), f"{GRAPH}*"),
            "Qdrant Edge": on_disk(Path(folder) / VECTOR),
        }
    for name, count in taken.items():
        each = {"bytes_per_passage": counts["passages"], "bytes_per_link": links}
        say(store=name, **counts, **{key: round(count / number) for key, number in each.items() if count is not None})


def _parts(arm: Arm, bolt: Bolt, asked: Asked) -> tuple[list[float], float]:
    """Seconds inside the store of each question, and statements of a question; two rounds to warm up."""
    assert isinstance(bolt, ours.TimedBolt)
    for question, vector, _ in [*asked] * 2:
        arm.ask(question, vector)
    parts, began = [], bolt.reads
    for question, vector, _ in [*asked] * 3:
        before = bolt.seconds
        arm.ask(question, vector)
        parts.append(bolt.seconds - before)
    return parts, (bolt.reads - began) / len(parts)
