"""How far a limit on tokens is overspent: LlamaIndex's `token_budget` and our `Budget`, the same fifty queries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from _observability_app import App, Native, question
from _observability_arms import COUNTING
from _observability_modes import QUERIES
from llama_index.core.callbacks import TokenCountingHandler

from llama_index_hybridmem import Budget, CostLatencyHandler

LIMIT = 20_000
"""Tokens of prompts and answers; a query takes about 1,650."""

OURS = "Budget"
EMPTY = "Empty Response"

Limited = Callable[[], Any]


@contextmanager
def _theirs(app: App, llm: Native) -> Iterator[Native]:
    handler = TokenCountingHandler(token_budget=LIMIT)
    app.callbacks.add_handler(handler)
    try:
        yield llm
    finally:
        app.callbacks.remove_handler(handler)


@contextmanager
def _ours(app: App, llm: Native) -> Iterator[Native]:
    with CostLatencyHandler().attach() as handler:
        yield Budget(handler, per_day=LIMIT, unit="tokens").guard(llm)


def _in_turn(engine: Any) -> list[Any]:
    answers: list[Any] = []
    for number in range(QUERIES):
        try:
            answers.append(engine.query(question(number)))
        except Exception as error:  # noqa: BLE001 - a refusal, of whatever kind
            answers.append(error)
    return answers


def _gathered(engine: Any) -> list[Any]:
    async def every() -> list[Any]:
        asked = (engine.aquery(question(number)) for number in range(QUERIES))
        return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(every())


def overspending(app: App) -> Iterator[dict[str, Any]]:
    """Ask fifty queries under a limit for twelve.

    Yields:
        ``spent``: tokens that the model used, by its own count; ``calls`` of it; ``answers`` that came back, ``empty``
        ones that say nothing of the limit, and ``refused`` queries, whose caller got an error.
    """
    for mode, ask in (("one after the other", _in_turn), ("asyncio.gather", _gathered)):
        for name, limited in ((COUNTING, _theirs), (OURS, _ours)):
            llm = app.native(pause_s=0.02)
            with limited(app, llm) as used:
                answers = ask(app.routed(used))
            said = [str(answer) for answer in answers if not isinstance(answer, BaseException)]
            yield {
                "mode": mode,
                "arm": name,
                "limit": LIMIT,
                "spent": llm.spent["tokens"],
                "calls": llm.spent["calls"],
                "answers": sum(text != EMPTY for text in said),
                "empty": said.count(EMPTY),
                "refused": len(answers) - len(said),
            }
