"""The ways in which an app asks fifty queries; knows nobody who observes them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from _observability_app import App, question

QUERIES = 50
CUSTOM = "CustomLLM: "


def in_turn(engine: Any) -> None:
    """One after the other."""
    for number in range(QUERIES):
        engine.query(question(number))


def gathered(engine: Any) -> None:
    """All at once on one event loop."""

    async def every() -> None:
        await asyncio.gather(*(engine.aquery(question(number)) for number in range(QUERIES)))

    asyncio.run(every())


def threaded(engine: Any) -> None:
    """Sixteen threads."""
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: engine.query(question(number)), range(QUERIES)))


def read_at_once(engine: Any) -> None:
    """Each stream is read before the next query."""
    for number in range(QUERIES):
        list(engine.query(question(number)).response_gen)


def _asked(engine: Any) -> list[Any]:
    """All streams, unread, in another order."""
    answers = [engine.query(question(number)) for number in range(QUERIES)]
    random.Random(7).shuffle(answers)
    return answers


def read_late(engine: Any) -> None:
    """All streams are read after all queries, in another order."""
    for answer in _asked(engine):
        list(answer.response_gen)


def read_in_threads(engine: Any) -> None:
    """The streams are read by other threads than asked."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda answer: list(answer.response_gen), _asked(engine)))


def read_async(engine: Any) -> None:
    """Async streams, all asked and then all read at once."""

    async def read(answer: Any) -> None:
        async for _ in answer.response_gen:
            await asyncio.sleep(0)

    async def every() -> None:
        answers = await asyncio.gather(*(engine.aquery(question(number)) for number in range(QUERIES)))
        await asyncio.gather(*map(read, answers))

    asyncio.run(every())


def modes(app: App) -> dict[str, Callable[[], None]]:
    """Give every mode by name."""
    native, nested = app.native(pause_s=0.001), app.nested()
    plain, streamed = app.routed(native), app.routed(native, streaming=True)
    custom, custom_streamed = app.routed(nested), app.routed(nested, streaming=True)
    return {
        "one after the other": lambda: in_turn(plain),
        "asyncio.gather": lambda: gathered(plain),
        "16 threads": lambda: threaded(plain),
        "streams, read at once": lambda: read_at_once(streamed),
        "streams, read late and shuffled": lambda: read_late(streamed),
        "streams, read in other threads": lambda: read_in_threads(streamed),
        "async streams": lambda: read_async(streamed),
        f"{CUSTOM}one after the other": lambda: in_turn(custom),
        f"{CUSTOM}asyncio.gather": lambda: gathered(custom),
        f"{CUSTOM}streams, read late and shuffled": lambda: read_late(custom_streamed),
        f"{CUSTOM}async streams": lambda: read_async(custom_streamed),
    }
