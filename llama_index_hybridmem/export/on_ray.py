"""Shards made on a Ray cluster, of one machine or many; knows nothing of what a shard is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llama_index_hybridmem.export.parallel import Make
from llama_index_hybridmem.extras import require


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
    """
    require("an export on Ray", "ray", "ray")
    import ray.data

    def one(row: dict[str, Any]) -> dict[str, Any]:
        make(folder, int(row["number"]))
        return {"number": int(row["number"])}

    shards = ray.data.from_items([{"number": number} for number in numbers], override_num_blocks=len(numbers))
    for row in shards.map(one).iter_rows():
        yield int(row["number"])
