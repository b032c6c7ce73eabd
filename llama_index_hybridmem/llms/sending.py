"""One call on its way through the engine: whole or as a stream, blocking or awaited; knows no prompts and no adapters.

Whoever stops waiting, by closing a stream or cancelling a task, stops the generation.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse

from llama_index_hybridmem.bells import LoopBell, ThreadBell
from llama_index_hybridmem.llms.responses import Responses
from llama_index_hybridmem.llms.serving.engine import Engine
from llama_index_hybridmem.llms.serving.request import Piece, Request, blocking

R = TypeVar("R", CompletionResponse, ChatResponse)


@dataclass(frozen=True)
class Asked:
    """One call: where it goes, and what its pieces become."""

    engine: Engine
    request: Request
    responses: Responses


async def last(asked: Asked, bell: ThreadBell | LoopBell) -> Piece:
    """Wait for the whole answer.

    Raises:
        GenerationError: what the request ended with.
    """
    try:
        await asked.engine.admit(asked.request, bell)
        result = await asked.request.ticket.last()
    finally:
        asked.engine.cancel(asked.request)
    return Piece(result.text, result.text, result)


def stream(asked: Asked, as_response: Callable[[Piece], R]) -> Generator[R, None, None]:
    """Give the answer piece by piece; nothing is asked before the first is wanted."""
    try:
        blocking(asked.engine.admit(asked.request, ThreadBell()))
        while (piece := blocking(asked.request.ticket.next())) is not None:
            yield as_response(piece)
    finally:
        asked.engine.cancel(asked.request)


async def astream(asked: Asked, as_response: Callable[[Piece], R]) -> AsyncGenerator[R, None]:
    """`stream` on an event loop."""
    try:
        await asked.engine.admit(asked.request, LoopBell())
        while (piece := await asked.request.ticket.next()) is not None:
            yield as_response(piece)
    finally:
        asked.engine.cancel(asked.request)
