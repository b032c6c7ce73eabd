"""Retrieval from a Neo4j server: ours against neo4j-graphrag and LlamaIndex's property graph, same data, one run.

    OMP_NUM_THREADS=1 python benchmarks/servers.py [--uri bolt://…] [--quick] [--data DIR]

MuSiQue's 100 questions over 1,890 passages and their triples, in one Neo4j. Prints JSON lines: recall@5 with 95 %
bootstrap intervals and ours minus theirs, paired; milliseconds of a question alone and of 16 clients at once, with the
question's encoding and without; round trips; and for a store of 100,000 links and more what its part takes and how many
bytes it has. `python benchmarks/servers.py | python benchmarks/_servers_table.py` prints the tables of README.md.

Needs the extras `encoder` and `neo4j`, the dependency group `bench`, the evaluation data, and a Neo4j: `--uri` or
NEO4J_URI (with NEO4J_USERNAME, NEO4J_PASSWORD, NEO4J_DATABASE; empty, with APOC, which LlamaIndex needs to write; what
is written is taken away at the end), or a JDK and Maven, with which it starts the Neo4j of the tests. Where one of them
is missing it says so and ends.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from _servers_place import ROOT, Address, Skipped, say, server

if TYPE_CHECKING:
    from _servers_corpus import Corpus, RememberingMiniLM
    from _servers_measure import Asked
    from _servers_peers import Arm
    from qdrant_client import QdrantClient

    from llama_index_hybridmem import HybridMemoryIndex, MiniLMEmbedding

DATA = Path(os.environ.get("HYBRIDMEM_DATA", ROOT / ".." / "shared" / "data"))
NEEDED = ("neo4j", "neo4j_graphrag", "llama_index.graph_stores.neo4j", "qdrant_client", "torch")
PACKAGES = ("llama-index-core", "neo4j", "neo4j-graphrag", "qdrant-client", "qdrant-edge-py", "torch")
PARTS = ("compare", "size")
CLIENTS = 16
# -- musique100 ------------------------------------------------------------------------------------------------------


def everyone(
    address: Address,
    chosen: dict[str, dict[str, Any]],
    qdrant: QdrantClient,
    index: HybridMemoryIndex,
    encoder: MiniLMEmbedding,
) -> list[Arm]:
    """Connect every arm to an address, ours first."""
    from _servers_ours import arms
    from _servers_peers import Arm, Graphrag, LlamaIndexGraph, makers

    graphrag, llama = Graphrag(address, encoder, qdrant), LlamaIndexGraph(address, encoder)
    closing = {"VectorCypherRetriever": graphrag.close, "LlamaIndex VectorContextRetriever": llama.close}
    others = [
        Arm(name, make(**chosen[name]), chosen[name], closing.get(name, lambda: None))
        for name, make in makers(graphrag, llama)
    ]
    return [*arms(address, "main", index, encoder), *others]


def tuned(
    address: Address, qdrant: QdrantClient, encoder: MiniLMEmbedding, asked: Asked, tries: int | None
) -> dict[str, dict[str, Any]]:
    """Give each of the others the settings with which it finds most of these very questions' passages."""
    from _servers_measure import recalls
    from _servers_peers import CANDIDATES, Graphrag, LlamaIndexGraph, makers

    graphrag, llama = Graphrag(address, encoder, qdrant), LlamaIndexGraph(address, encoder)
    chosen: dict[str, dict[str, Any]] = {}
    for name, make in makers(graphrag, llama):
        found = {}
        for number, settings in enumerate(CANDIDATES[name][:tries]):
            values = recalls(make(**settings), asked)
            found[number] = 100 * sum(values) / len(values)
            say(arm=name, tuning=settings, recall=round(found[number], 1))
        chosen[name] = CANDIDATES[name][max(found, key=lambda number: found[number])]
    graphrag.close()
    llama.close()
    return chosen


def compare(arms: Sequence[Arm], asked: Asked) -> None:
    """Print what each finds, and what the first two of ours find more."""
    from _servers_measure import difference, interval, recalls

    found = {arm.name: recalls(arm.ask, asked) for arm in arms}
    default, quick = (arm.name for arm in arms[:2])
    for arm in arms:
        say(
            arm=arm.name,
            settings=arm.settings,
            **{"recall@5": interval(found[arm.name])},
            gain={name: difference(found[name], found[arm.name]) for name in (default, quick)},
        )


def time_alone(arms: Sequence[Arm], asked: Asked, rounds: int, encoder: MiniLMEmbedding) -> None:
    """Print what a question takes, encoded before or in time."""
    from _servers_measure import one_by_one, spread

    for encode in (False, True):
        for name, figures in one_by_one(arms, asked, rounds, encode=encode).items():
            say(arm=name, encoding="included" if encode else "excluded", **figures)
    seconds = []
    for question, _, _ in asked:
        began = time.perf_counter()
        encoder.get_query_embedding(question)
        seconds.append(time.perf_counter() - began)
    say(arm="encoding a question", wall_ms=spread(seconds))


def time_together(arms: Sequence[Arm], asked: Asked, times: int) -> None:
    """Print what 16 clients get."""
    from _servers_measure import together

    for encode in (False, True):
        for arm in arms:
            figures = together(arm, asked, CLIENTS, times, encode=encode)
            say(arm=arm.name, encoding="included" if encode else "excluded", **figures)


def count_trips(address: Address, connect: Callable[[Address], list[Arm]], asked: Asked) -> None:
    """Print how often each goes to the server and back for a question, and what comes back."""
    from _servers_wire import Wire

    where = urlsplit(address.uri)
    with Wire(where.hostname or "127.0.0.1", where.port or 7687) as wire:
        arms = connect(replace(address, uri=f"bolt://127.0.0.1:{wire.port}"))
        for arm in arms:
            arm.ask(asked[0][0], asked[0][1])  # connects
            trips, received = wire.trips, wire.received
            for question, vector, _ in asked:
                arm.ask(question, vector)
            say(
                arm=arm.name,
                round_trips=round((wire.trips - trips) / len(asked), 2),
                kilobytes=round((wire.received - received) / len(asked) / 1000, 1),
            )
        for arm in arms:
            arm.close()


def on_musique(
    address: Address, corpus: Corpus, asked: Asked, builder: RememberingMiniLM, encoder: MiniLMEmbedding, quick: bool
) -> None:
    """Measure everyone."""
    import _servers_ours as ours
    import _servers_their_graph as theirs

    began = time.perf_counter()
    qdrant = theirs.write(address, corpus, builder)
    say(written="the others' graph", passages=len(corpus.nodes), wall_s=round(time.perf_counter() - began, 1))
    say(written="ours", passages=len(corpus.nodes), wall_s=round(ours.write(address, "main", corpus), 1))
    with tempfile.TemporaryDirectory(prefix="hybridmem-bench-") as folder:
        index = ours.embedded(corpus, builder, Path(folder) / "store")
        chosen = tuned(address, qdrant, encoder, asked, 1 if quick else None)

        def connect(to: Address) -> list[Arm]:
            return everyone(to, chosen, qdrant, index, encoder)

        arms = connect(address)
        compare(arms, asked)
        time_alone(arms, asked, 1 if quick else 3, encoder)
        time_together(arms, asked, 1 if quick else 2)
        for arm in arms:
            arm.close()
        count_trips(address, connect, asked[:20])
        index.close()


def run(options: argparse.Namespace) -> None:
    """Run the benchmark.

    Raises:
        Skipped: something that it needs is not here.
    """
    missing = [name for name in NEEDED if not _is_installed(name)]
    if missing:
        raise Skipped(f"not installed: {', '.join(missing)} (extras encoder and neo4j, dependency group bench)")
    if not options.data.is_dir():
        raise Skipped(f"no evaluation data in {options.data}; name them with --data or HYBRIDMEM_DATA")
    import torch
    from _servers_corpus import RememberingMiniLM, musique, union
    from _servers_size import at_size

    from llama_index_hybridmem import MiniLMEmbedding

    torch.set_num_threads(1)
    builder, encoder = RememberingMiniLM(), MiniLMEmbedding()
    builder.remember(options.vectors)
    with server(options.uri) as (address, own):
        about = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
        say(about=about | {name: version(name) for name in PACKAGES} | {"load": round(os.getloadavg()[0], 1)})
        corpus, questions = musique(options.data, builder, 20 if options.quick else None)
        asked = [(row["question"], encoder.get_query_embedding(row["question"]), row["gold"]) for row in questions]
        if "compare" in options.parts:
            on_musique(address, corpus, asked, builder, encoder, options.quick)
        if "size" in options.parts and not options.quick:
            at_size(address, own, union(options.data, builder), asked, builder, encoder)
        builder.keep(options.vectors)
        say(about={"load": round(os.getloadavg()[0], 1)})


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is not
        return False


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uri", default=os.environ.get("NEO4J_URI"), help="a Neo4j with an empty database")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--quick", action="store_true", help="20 questions, no tuning, no large store")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="all by default")
    parser.add_argument("--vectors", type=Path, help="a file (.npz) that keeps encoded passages for the next run")
    try:
        run(parser.parse_args())
    except Skipped as reason:
        print(f"skipped: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
