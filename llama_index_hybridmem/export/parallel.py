"""Shards made side by side by worker processes; knows nothing of what a shard is."""

from __future__ import annotations

import multiprocessing
import os
import threading
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
    with ProcessPoolExecutor(min(processes, len(numbers)), mp_context=context, initializer=_follow) as pool:
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


def _follow() -> None:
    """End this worker when the process that started it is killed: it would wait for more to do for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # a pool's workers have one

    def wait() -> None:
        parent.join()
        os._exit(1)  # a shard is written whole or not at all

    threading.Thread(target=wait, name="hybridmem-export-parent", daemon=True).start()
