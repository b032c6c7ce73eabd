"""A server that speaks five APIs of language models and always counts the same tokens; real HTTP, for tests.

Its answers have the shape of OpenAI's chat completions, completions and responses, of Anthropic's messages and of
Ollama's chat, whole and streamed. The counts have nothing to do with what was asked: who reads them right, reads these.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from typing import Any, NamedTuple

from llama_index_hybridmem.costs.tokens.usage import Usage

OPENAI = Usage(input=1200, output=300, cached_read=1024, reasoning=200)
ANTHROPIC = Usage(input=1600, output=300, cached_read=1000, cached_write=500)
OLLAMA = Usage(input=26, output=259)
WORDS = ("Forty", " two", ".")

Body = Mapping[str, Any]
Event = dict[str, Any]

_CHAT_USAGE = {
    "prompt_tokens": 1200,
    "completion_tokens": 300,
    "total_tokens": 1500,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 200, "audio_tokens": 0},
}
_RESPONSES_USAGE = {
    "input_tokens": 1200,
    "input_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 0},
    "output_tokens": 300,
    "output_tokens_details": {"reasoning_tokens": 200},
    "total_tokens": 1500,
}
_ANTHROPIC_CACHE = {"cache_creation_input_tokens": 500, "cache_read_input_tokens": 1000}
_OLLAMA_USAGE = {"prompt_eval_count": 26, "prompt_eval_duration": 130, "eval_count": 259, "eval_duration": 4232}


@contextmanager
def usage_server(*, repeats_cache: bool = True) -> Iterator[str]:
    """The server on a free port of loopback.

    Args:
        repeats_cache: whether the last counts of an Anthropic stream name the cache again, as they do today; the first
            ones always do.

    Yields:
        Its address, without a path: OpenAI's clients need ``/v1`` after it, the others nothing.
    """
    handler = type("Handler", (_Handler,), {"repeats_cache": repeats_cache})
    server = _Listener(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # the default of 5 resets connections when many come at once


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer waits for the client's acknowledgement of its head
    repeats_cache: bool

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_POST(self) -> None:  # noqa: N802 - http.server names it
        """One answer, whole or streamed."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        api = _APIS[self.path]
        with suppress(OSError):  # a reader may go away in the middle of a stream
            if body.get("stream"):
                self._stream(chain(map(api.frame, api.events(body, self.repeats_cache)), api.end))
            else:
                self._whole(json.dumps(api.whole(body)).encode())

    def _whole(self, content: bytes) -> None:
        self._head("application/json", "Content-Length", str(len(content)))
        self.wfile.write(content)

    def _stream(self, frames: Iterator[str]) -> None:
        self._head("text/event-stream", "Transfer-Encoding", "chunked")
        for frame in frames:
            self.wfile.write(f"{len(frame.encode()):x}\r\n{frame}\r\n".encode())
        self.wfile.write(b"0\r\n\r\n")

    def _head(self, kind: str, measure: str, value: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header(measure, value)
        self.send_header("Connection", "close")  # a client that is never closed leaves no socket open
        self.end_headers()


def _openai(body: Body, kind: str, choices: list[Any], **more: Any) -> Event:
    return {"id": "one", "object": kind, "created": 1, "model": body["model"], "choices": choices, **more}


def _chat(body: Body) -> Event:
    message = {"role": "assistant", "content": "".join(WORDS)}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return _openai(body, "chat.completion", [choice], usage=_CHAT_USAGE)


def _chat_events(body: Body, _: bool) -> Iterator[Event]:
    for word in WORDS:
        choice = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}
        yield _openai(body, "chat.completion.chunk", [choice])
    yield _openai(body, "chat.completion.chunk", [{"index": 0, "delta": {}, "finish_reason": "stop"}])
    if (body.get("stream_options") or {}).get("include_usage"):
        yield _openai(body, "chat.completion.chunk", [], usage=_CHAT_USAGE)


def _completion(body: Body) -> Event:
    choice = {"index": 0, "text": "".join(WORDS), "finish_reason": "stop", "logprobs": None}
    return _openai(body, "text_completion", [choice], usage=_CHAT_USAGE)


def _completion_events(body: Body, _: bool) -> Iterator[Event]:
    for word in WORDS:
        choice = {"index": 0, "text": word, "finish_reason": "stop" if word == WORDS[-1] else None, "logprobs": None}
        yield _openai(body, "text_completion", [choice])
    if (body.get("stream_options") or {}).get("include_usage"):
        yield _openai(body, "text_completion", [], usage=_CHAT_USAGE)


def _response(body: Body) -> Event:
    text = {"type": "output_text", "text": "".join(WORDS), "annotations": []}
    message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [text]}
    return {
        "id": "one",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": body["model"],
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": _RESPONSES_USAGE,
    }


def _response_events(body: Body, _: bool) -> Iterator[Event]:
    begun = {**_response(body), "status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "sequence_number": 0, "response": begun}
    for place, word in enumerate(WORDS, 1):
        where = {"item_id": "m", "output_index": 0, "content_index": 0, "logprobs": []}
        yield {"type": "response.output_text.delta", "sequence_number": place, "delta": word, **where}
    yield {"type": "response.completed", "sequence_number": len(WORDS) + 1, "response": _response(body)}


def _message(body: Body) -> Event:
    return {
        "id": "one",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [{"type": "text", "text": "".join(WORDS)}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 100, "output_tokens": 300, **_ANTHROPIC_CACHE},
    }


def _message_events(body: Body, repeats_cache: bool) -> Iterator[Event]:
    first = {"input_tokens": 100, "output_tokens": 1, **_ANTHROPIC_CACHE}
    last = {"input_tokens": 100, "output_tokens": 300, **_ANTHROPIC_CACHE} if repeats_cache else {"output_tokens": 300}
    begun = {**_message(body), "content": [], "stop_reason": None, "usage": first}
    yield {"type": "message_start", "message": begun}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    for word in WORDS:
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
    yield {"type": "content_block_stop", "index": 0}
    yield {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": last}
    yield {"type": "message_stop"}


def _ollama(body: Body, word: str, **more: Any) -> Event:
    message = {"role": "assistant", "content": word}
    return {"model": body["model"], "created_at": "2026-11-01T00:00:00Z", "message": message, "done": False, **more}


def _ollama_chat(body: Body) -> Event:
    return _ollama(body, "".join(WORDS), done=True, done_reason="stop", **_OLLAMA_USAGE)


def _ollama_events(body: Body, _: bool) -> Iterator[Event]:
    yield from (_ollama(body, word) for word in WORDS)
    yield _ollama(body, "", done=True, done_reason="stop", **_OLLAMA_USAGE)


def _data(event: Event) -> str:
    return f"data: {json.dumps(event)}\n\n"


def _named(event: Event) -> str:
    return f"event: {event['type']}\n{_data(event)}"


def _line(event: Event) -> str:
    return f"{json.dumps(event)}\n"


class _Api(NamedTuple):
    """How one API answers: whole, as events, how an event is written, and what comes after the last."""

    whole: Callable[[Body], Event]
    events: Callable[[Body, bool], Iterator[Event]]
    frame: Callable[[Event], str]
    end: tuple[str, ...] = ()


_DONE = ("data: [DONE]\n\n",)
_APIS = {
    "/v1/chat/completions": _Api(_chat, _chat_events, _data, _DONE),
    "/v1/completions": _Api(_completion, _completion_events, _data, _DONE),
    "/v1/responses": _Api(_response, _response_events, _named),
    "/v1/messages": _Api(_message, _message_events, _named),
    "/api/chat": _Api(_ollama_chat, _ollama_events, _line),
}
