"""Shards made side by side by worker processes; knows nothing of what a shard is."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from llama_index_hybridmem.errors import StoreError

Make = Callable[[str, int], None]
"""(folder, number of a shard): makes and writes it. A function at the top of a module, so that it can be sent."""


def run(make: Make, folder: str, numbers: Sequence[int], processes: int = 1) -> Iterator[int]:
    """Make shards.

    Args:
        make: makes one.
        folder: its first argument.
        numbers: of the shards.
        processes: worker processes; 1 or fewer shards than two: this one. They are started anew (spawn), so that no
            lock or thread of this one is copied: a script that calls this needs its ``if __name__ == "__main__":``.

    Yields:
        the number of each shard when it is done, in any order.

    Raises:
        StoreError: a worker died; what it had done whole is kept.
    """
    if processes <= 1 or len(numbers) < 2:
        for number in numbers:
            make(folder, number)
            yield number
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(numbers)), mp_context=context) as pool:
        waiting = {pool.submit(make, folder, number): number for number in numbers}
        try:
            for done in as_completed(waiting):
                done.result()
                yield waiting[done]
        except BrokenProcessPool as error:
            raise StoreError(
                f"{folder}: a worker process died (out of memory, killed, or the script that started it lacks its "
                'if __name__ == "__main__":); shards that are done stay, so call the same again'
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
