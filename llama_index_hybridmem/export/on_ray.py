"""Shards made on a Ray cluster, of one machine or many; knows nothing of what a shard is."""

from __future__ import annotations

import inspect
import pickle
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llama_index_hybridmem.errors import HybridMemoryError, StoreError, told
from llama_index_hybridmem.export.parallel import Make
from llama_index_hybridmem.extras import require

RETRIES = 3
"""Times that a shard is tried again after its worker died; Ray itself would never stop."""


def run(make: Make, folder: str, numbers: Sequence[int]) -> Iterator[int]:
    """Make shards as tasks of ``ray.data``.

    Args:
        make: makes one; its bytes do not depend on where it runs.
        folder: its first argument: one that every machine of the cluster sees under the same path.
        numbers: of the shards.

    Yields:
        the number of each shard when it is done, in any order.

    Raises:
        MissingExtraError: Ray is not installed.
        StoreError: no cluster could be reached or begun, or a worker died `RETRIES` times over; what was done whole is
            kept.
        HybridMemoryError: whatever ``make`` raises.
    """
    require("an export on Ray", "ray", "ray")
    import ray.data

    def one(row: dict[str, Any]) -> dict[str, Any]:
        try:
            make(folder, int(row["number"]))
        except HybridMemoryError as error:  # Ray would hand on its text alone
            return {"number": int(row["number"]), "error": pickle.dumps(error)}
        return {"number": int(row["number"]), "error": b""}

    try:
        shards = ray.data.from_items([{"number": number} for number in numbers], override_num_blocks=len(numbers))
        for row in _mapped(shards, one).iter_rows():
            if row["error"]:
                raise pickle.loads(row["error"])
            yield int(row["number"])
    except HybridMemoryError:
        raise
    except Exception as error:
        raise StoreError(
            f"{folder}: Ray failed ({told(error):.200}): is the cluster up, has each worker memory enough, and does it "
            "see the folder under this path? Shards that are done stay, so call the same again, or without Ray"
        ) from error


def _mapped(shards: Any, one: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Bound the retries while Ray lets us: 2.60 warns of the only way to, and 2.64 is to take it away."""
    kinds = {each.kind for each in inspect.signature(shards.map).parameters.values()}
    bounded = {"max_retries": RETRIES} if inspect.Parameter.VAR_KEYWORD in kinds else {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        return shards.map(one, **bounded)
