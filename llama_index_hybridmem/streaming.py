"""Token streams that stay inside the query they belong to; knows nothing of what is streamed.

A model streams after `query` has returned. LlamaIndex then loses the call: its span has no parent and its tags are
gone. The wrappers here run every step under the span and tags of the moment when they were made, and tell an observer
about the first token and the end, also when the consumer stops early.
"""

from __future__ import annotations

import contextvars
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any, Protocol, TypeVar

from llama_index_instrumentation.dispatcher import active_instrument_tags
from llama_index_instrumentation.span import active_span_id

T = TypeVar("T")


class Observer(Protocol):
    """Who wants to know how a stream goes."""

    def began(self) -> None:
        """The first token is there."""

    def ended(self, text: str, error: BaseException | None = None) -> None:
        """The stream is over; `text` is all that came.

        Args:
            text: all that came.
            error: why there is no more: what was raised, GeneratorExit when it was closed early; None at its end.
        """


def follow(tokens: Iterator[T], observer: Observer, said: Callable[[T], str] = str) -> Generator[T, None, None]:
    """Stream tokens, each step in a copy of the present context; `said` gives the text of one."""
    context = contextvars.copy_context()

    def steps() -> Generator[T, None, None]:
        came: list[str] = []
        failure: BaseException | None = None
        try:
            while True:
                try:
                    token = context.run(next, tokens)
                except StopIteration:
                    break
                if not came:
                    observer.began()
                came.append(said(token))
                yield token
        except BaseException as error:
            failure = error
            raise
        finally:
            try:
                if isinstance(tokens, Generator):
                    context.run(tokens.close)
            finally:
                observer.ended("".join(came), failure)

    return steps()


def afollow(tokens: AsyncIterator[T], observer: Observer, said: Callable[[T], str] = str) -> AsyncGenerator[T, None]:
    """Stream tokens, each step under the present span and tags; `said` gives the text of one."""
    inside = _Inside(active_span_id.get(), active_instrument_tags.get())

    async def steps() -> AsyncGenerator[T, None]:
        came: list[str] = []
        failure: BaseException | None = None
        try:
            while True:
                with inside:
                    try:
                        token = await tokens.__anext__()
                    except StopAsyncIteration:
                        break
                if not came:
                    observer.began()
                came.append(said(token))
                yield token
        except BaseException as error:
            failure = error
            raise
        finally:
            try:
                if isinstance(tokens, AsyncGenerator):
                    with inside:
                        await tokens.aclose()
            finally:
                observer.ended("".join(came), failure)

    return steps()


class _Inside:
    """A span and its tags, entered for a step at a time; a generator-made context manager takes 2 µs a token more."""

    __slots__ = ("_before", "_span", "_tags")

    def __init__(self, span: str | None, tags: dict[str, Any]) -> None:
        self._span, self._tags = span, tags

    def __enter__(self) -> None:
        self._before = active_span_id.set(self._span), active_instrument_tags.set(self._tags)

    def __exit__(self, *_: object) -> None:
        span, tags = self._before
        active_instrument_tags.reset(tags)
        active_span_id.reset(span)


def one(text: str) -> Generator[str, None, None]:
    """A finished text as a stream."""
    yield text


async def aone(text: str) -> AsyncGenerator[str, None]:
    """A finished text as an async stream."""
    yield text
