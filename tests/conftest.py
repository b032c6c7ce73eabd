"""What every test stands on: no model hub, the same hypothesis examples each time, volume tests at a twentieth."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read at import by huggingface_hub: before anything else is imported

import pytest
from hypothesis import HealthCheck, settings

SOAK = os.environ.get("HYBRIDMEM_SOAK") == "1"
pytest_plugins = [
    "models",  # small language models and adapters, made when a test asks for them
    "servers.neo4j.fixtures",  # a real Neo4j, started when a test asks for it
    "servers.qdrant",  # a real Qdrant, where one is named
]
SHARE = 20  # a volume test's share of its full size in `make test`

settings.register_profile(
    "house",
    derandomize=True,  # the same examples each time: a red test is the change's doing
    database=None,
    deadline=None,  # no wall-clock limits: the machine may be busy
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what lies in tests/soak as soak, and what lies in tests/smoke as smoke."""
    for item in items:
        if Path(item.path).parent.name in {"soak", "smoke"}:
            item.add_marker(Path(item.path).parent.name)


@pytest.fixture(scope="session")
def volume() -> Callable[[int], int]:
    """Scales a volume test: `volume(100_000)` is 100,000 in `make soak` and 5,000 in `make test`."""
    return lambda full: full if SOAK else max(1, full // SHARE)
