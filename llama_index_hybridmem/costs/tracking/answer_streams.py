"""Follows the stream of a query's answer to whoever reads it, wherever and whenever; knows no models and no stages.

A response synthesizer of LlamaIndex asks the model when the stream is read, long after the query has returned, so the
stream of a `StreamingResponse` is replaced by one that runs each step inside the query (`streaming.follow`). A chat
engine's stream is read by a thread or task of its own, whose span tells of it.
"""

from __future__ import annotations

import time
import weakref
from typing import Any

from llama_index.core.base.llms.types import ChatResponse
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index.core.chat_engine.types import StreamingAgentChatResponse

from llama_index_hybridmem.costs.trace import Status
from llama_index_hybridmem.costs.tracking.model_calls import Later, status_of
from llama_index_hybridmem.costs.tracking.open_queries import OpenQueries
from llama_index_hybridmem.costs.tracking.running import Outcome, Running
from llama_index_hybridmem.events import METADATA_KEY
from llama_index_hybridmem.streaming import afollow, follow


class AnswerStreams:
    """Holds a query open while its answer may still be read.

    Args:
        queries: that are under way.
        later: see `ModelCalls`.
    """

    def __init__(self, queries: OpenQueries, later: Later) -> None:
        self._queries, self._later = queries, later

    def answered(self, query: Running, result: Any) -> None:
        """The query returned: note what came back, and follow it where it is a stream."""
        if any(watch() is getattr(result, "response_gen", result) for watch in query.watches):
            return  # an engine around the one whose answer it is
        metadata = getattr(result, "metadata", None)
        query.outcome = Outcome(_text(result), _nodes(result), metadata)
        if isinstance(metadata, dict) and isinstance(own := metadata.get(METADATA_KEY), dict):
            own["trace"] = query.id  # of our own engine's answers, which say what happened to them
        if isinstance(result, StreamingAgentChatResponse) and not result.is_writing_to_memory:
            self._follow_own_chat(query, result)
        elif isinstance(result, StreamingAgentChatResponse):
            self._follow_chat(query, result)
        elif isinstance(result, StreamingResponse):
            reader = self._reader(query)
            result.response_gen = follow(iter(result.response_gen), reader)
            self._watch(query, result.response_gen, reader)
        elif isinstance(result, AsyncStreamingResponse):
            reader = self._reader(query)
            result.response_gen = afollow(result.response_gen.__aiter__(), reader)
            self._watch(query, result.response_gen, reader)

    def written(self, query: Running, chat: Any, error: BaseException | None) -> None:
        """A chat engine's stream was read to its end, and the answer noted in the chat's memory."""
        query.outcome.text = chat.response
        with self._queries.lock:
            query.written = True
            reader = query.chat
        if reader is not None:
            reader.ended(chat.response, error)

    def _follow_chat(self, query: Running, response: StreamingAgentChatResponse) -> None:
        with self._queries.lock:
            if query.written:  # the thread was faster than the engine
                return
            query.chat = reader = Reader(self._queries, query)
            query.streams += 1
        self._watch(query, response, reader)

    def _follow_own_chat(self, query: Running, response: StreamingAgentChatResponse) -> None:
        """Of an engine that writes the chat down itself: its reader reads the model's stream."""
        reader = self._reader(query)
        if response.chat_stream is not None:
            response.chat_stream = follow(iter(response.chat_stream), reader, _said)
            self._watch(query, response.chat_stream, reader)
        elif response.achat_stream is not None:
            response.achat_stream = afollow(aiter(response.achat_stream), reader, _said)
            self._watch(query, response.achat_stream, reader)

    def _reader(self, query: Running) -> Reader:
        query.streams += 1
        return Reader(self._queries, query)

    def _watch(self, query: Running, stream: Any, reader: Reader) -> None:
        """Be told when nobody can read the stream any more. Nothing kept here may refer to it."""
        query.watches.append(weakref.ref(stream, lambda _: self._later(reader.gone)))


def _text(result: Any) -> str | None:
    """The answer of an engine, of an agent (a chat message), or none yet."""
    text = getattr(result, "response", None)
    text = getattr(text, "content", text)
    return text if isinstance(text, str) else None


def _nodes(result: Any) -> list[Any]:
    """The sources of an engine's answer, or those that an agent's tools brought it, each once."""
    found = getattr(result, "source_nodes", None)
    if found is None:
        outputs = (getattr(call, "tool_output", None) for call in getattr(result, "tool_calls", None) or ())
        answers = (getattr(output, "raw_output", None) for output in outputs)
        found = [each for answer in answers for each in getattr(answer, "source_nodes", ())]
    return list({each.node.node_id: each for each in found}.values())


def _said(answer: ChatResponse) -> str:
    return answer.delta or ""


class Reader:
    """What the reader of one stream does; an observer of `streaming.follow`."""

    def __init__(self, queries: OpenQueries, query: Running) -> None:
        self._queries, self._query = queries, query
        self._over = False

    def began(self) -> None:
        """The first token is there."""
        self._query.first = time.perf_counter()

    def ended(self, text: str, error: BaseException | None = None) -> None:
        """It was read to its end, closed or broken."""
        self._query.outcome.text = text
        self._end("ok" if error is None else status_of(error), error)

    def gone(self) -> None:
        """Nobody can read it any more."""
        self._end("never_consumed" if self._query.first is None else "abandoned", None, is_news=False)

    def _end(self, status: Status, error: BaseException | None, is_news: bool = True) -> None:
        query = self._query
        with self._queries.lock:
            if self._over:
                return
            self._over = True
            query.streams -= 1
            if is_news:  # a response that nobody kept ended when it was last used, not when it was collected
                query.ended = time.perf_counter()
        if status != "ok":
            query.failed(status, error)
        self._queries.close_if_over(query)
