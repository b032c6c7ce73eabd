"""A small OpenAI-compatible server with vLLM's contract for LoRA adapters, over any `Backend`; real HTTP, for tests.

What a request meets here was measured on vLLM 0.32: 404 for an unknown model, 400 for a name loaded twice, 404 for a
path without an adapter, 200 for an adapter of another base model, adapters with `parent` in the list of models.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

Prompt = str | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Token:
    """One written token: what it adds to the text, its log-probability."""

    text: str
    logprob: float


@dataclass(frozen=True)
class Answer:
    """One answer, ready to be sent whole or piece by piece."""

    tokens: Sequence[Token]
    prompt_tokens: int
    finish_reason: str = "stop"

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(token.text for token in self.tokens)

    @property
    def usage(self) -> dict[str, int]:
        """Token counts as OpenAI names them."""
        written = len(self.tokens)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": written,
            "total_tokens": self.prompt_tokens + written,
        }


class Backend(Protocol):
    """What answers; the server knows names, the backend knows weights."""

    window: int

    def load(self, path: str) -> object:
        """An adapter, from its folder. Raises FileNotFoundError where there is none."""

    def answer(self, prompt: Prompt, adapter: object | None, options: Mapping[str, Any]) -> Answer:
        """Answers a text or a chat."""


class EchoBackend:
    """Says who it is and what it was asked; each adapter has log-probabilities of its own."""

    window = 512

    def load(self, path: str) -> object:
        """Any folder is an adapter, called as its last part."""
        if not Path(path).is_dir():
            raise FileNotFoundError(path)
        return Path(path).name

    def answer(self, prompt: Prompt, adapter: object | None, options: Mapping[str, Any]) -> Answer:
        """Its name, then the words of the prompt, cut to max_tokens."""
        said = prompt if isinstance(prompt, str) else "|".join(f"{one['role']}:{one['content']}" for one in prompt)
        words = f"{adapter or 'base'} heard: {said}".split()
        limit = options.get("max_tokens") or len(words)
        confidence = -0.1 - sum(map(ord, str(adapter or ""))) % 97 / 100
        tokens = [Token(f"{' ' if place else ''}{word}", confidence) for place, word in enumerate(words[:limit])]
        return Answer(tokens, len(said.split()), "length" if limit < len(words) else "stop")


@dataclass
class Faults:
    """What the server does wrong, switched on and off while it runs.

    Attributes:
        mixes_up: requests for the base that run beside one for an adapter get the adapter loaded last.
        ignores: adapters, by name, that are loaded and have no effect.
        status: refuses answers with this status.
        drops: breaks the connection off, in a stream after its first piece.
        hold_s: seconds that an answer takes longer.
        load_s: seconds that a load takes longer.
        frozen: the calls that load and unload do not exist.
        echoes_key: repeats the key in what it says of an error.
        forgets: drops every adapter before the next answer.
        page: answers with a page of HTML, as a proxy does.
    """

    mixes_up: bool = False
    ignores: set[str] = field(default_factory=set)
    status: int = 0
    drops: bool = False
    hold_s: float = 0.0
    load_s: float = 0.0
    frozen: bool = False
    echoes_key: bool = False
    forgets: bool = False
    page: bool = False


class OpenAIServer:
    """The server on a free port; a context manager.

    Args:
        backend: answers.
        base: the base model's name.
        preloaded: name to path of adapters that it starts with.

    Attributes:
        calls: how often each path was called.
        bodies: what was posted, in order, with its path.
        keys: what came as authorization.
        broken_off: streams whose reader went away.
        adapters: name to path and what the backend made of it.
        running: answers under way by name.
        unloaded_in_use: names that were unloaded while one of their answers was under way.
        numbered: what llama.cpp lists; None for a server that is none.
        is_sglang: whether it speaks as SGLang: ``base:name``, loads at the root, 400 for an unknown adapter.
    """

    def __init__(self, backend: Backend, base: str = "tiny", preloaded: Mapping[str, str] | None = None) -> None:
        self.backend, self.base, self.faults = backend, base, Faults()
        self.calls: Counter[str] = Counter()
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        self.keys: set[str] = set()
        self.broken_off = 0
        self.lock = threading.Lock()
        self.adapters: dict[str, tuple[str, object]] = {}
        self.running: Counter[str] = Counter()
        self.unloaded_in_use: list[str] = []
        self.numbered: list[dict[str, Any]] | None = None
        self.is_sglang = False
        for name, path in (preloaded or {}).items():
            self.adapters[name] = path, backend.load(path)
        self._http = _Listener(("127.0.0.1", 0), type("Handler", (_Handler,), {"served": self}))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    @property
    def root(self) -> str:
        """Its address without /v1."""
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def url(self) -> str:
        """What an OpenAI client is given."""
        return f"{self.root}/v1"

    def __enter__(self) -> OpenAIServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def models(self) -> dict[str, Any]:
        """The list of models as vLLM gives it."""
        with self.lock:
            loaded = dict(self.adapters)
        base = {"id": self.base, "object": "model", "root": "/models/base", "parent": None}
        entries = [
            {"id": name, "object": "model", "root": path, "parent": self.base, "max_model_len": None}
            for name, (path, _) in loaded.items()
        ]
        return {"object": "list", "data": [{**base, "max_model_len": self.backend.window}, *entries]}

    def load(self, body: Mapping[str, Any]) -> tuple[int, Any]:
        """Loads as vLLM does."""
        name, path = body.get("lora_name"), body.get("lora_path")
        time.sleep(self.faults.load_s)
        if not name or not path:
            return 400, _error(400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided.")
        with self.lock:
            if name in self.adapters and not body.get("load_inplace"):
                return 400, _error(400, "InvalidUserInput", f"The lora adapter '{name}' has already been loaded.")
        try:
            adapter = self.backend.load(path)
        except FileNotFoundError:
            return 404, _error(404, "NotFoundError", f"Loading lora {name} failed: No adapter found for {path}")
        except ValueError as error:
            return 500, _error(500, "InternalServerError", str(error))
        with self.lock:
            self.adapters[name] = path, adapter
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, body: Mapping[str, Any]) -> tuple[int, Any]:
        """Unloads as vLLM does."""
        name = body.get("lora_name", "")
        with self.lock:
            if name not in self.adapters:
                return 404, _error(404, "NotFoundError", f"The lora adapter '{name}' cannot be found.")
            del self.adapters[name]
            if self.running[name]:
                self.unloaded_in_use.append(name)
        return 200, f"Success: LoRA adapter '{name}' removed successfully."

    def answer(self, prompt: Prompt, model: str, body: Mapping[str, Any]) -> Answer | None:
        """An answer by whoever the model's name stands for; None where it stands for nobody."""
        if self.is_sglang:
            model = model.removeprefix(f"{self.base}:")
        with self.lock:
            if self.faults.forgets:
                self.adapters.clear()
                self.faults.forgets = False
            if model != self.base and model not in self.adapters:
                return None
            adapter = self.adapters[model][1] if model in self.adapters else None
            self.running[model] += 1
        try:
            time.sleep(self.faults.hold_s)
            with self.lock:
                beside = sum(count for name, count in self.running.items() if name != self.base)
                if self.faults.mixes_up and adapter is None and beside and self.adapters:
                    adapter = list(self.adapters.values())[-1][1]
            return self.backend.answer(prompt, None if model in self.faults.ignores else adapter, body)
        finally:
            with self.lock:
                self.running[model] -= 1


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # the default of 5 resets connections when twenty come at once

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that went away is counted where it matters, and printed nowhere."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: OpenAIServer

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:  # noqa: N802 - http.server names it
        """Health and models."""
        self._note()
        if self.path == "/v1/models":
            self._send(200, self.served.models())
        elif self.path == "/lora-adapters" and self.served.numbered is not None:
            self._send(200, self.served.numbered)
        elif self.path == "/health":
            self._send(200, "")
        else:
            self._send(404, {"detail": "Not Found"})

    def do_POST(self) -> None:  # noqa: N802 - http.server names it
        """Load, unload, answers."""
        self._note()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.served.lock:
            self.served.bodies.append((self.path, body))
        prefix = "" if self.served.is_sglang else "/v1"
        adapters = {
            f"{prefix}/load_lora_adapter": self.served.load,
            f"{prefix}/unload_lora_adapter": self.served.unload,
        }
        if self.path in adapters and not self.served.faults.frozen:
            self._send(*adapters[self.path](body))
        elif self.path in ("/v1/chat/completions", "/v1/completions"):
            self._answer(body)
        else:
            self._send(404, {"detail": "Not Found"})

    def _note(self) -> None:
        with self.served.lock:
            self.served.calls[self.path] += 1
            self.served.keys.add(self.headers.get("Authorization", ""))

    def _answer(self, body: dict[str, Any]) -> None:
        faults, is_chat = self.served.faults, self.path.endswith("/chat/completions")
        if faults.status:
            said = f"no, {self.headers.get('Authorization')}" if faults.echoes_key else "no"
            self._send(faults.status, _error(faults.status, "InternalServerError", said))
            return
        if faults.page:
            self._send(200, "<html>Please log in</html>")
            return
        if faults.drops and not body.get("stream"):
            self.close_connection = True
            self.connection.close()
            return
        try:
            answer = self.served.answer(body["messages"] if is_chat else body["prompt"], body["model"], body)
        except ValueError as error:
            self._send(400, _error(400, "BadRequestError", str(error)))
            return
        if answer is None and self.served.is_sglang:
            said = f"The following requested LoRA adapters are not loaded: {body['model']}"
            self._send(400, _error(400, "BadRequestError", said))
        elif answer is None:
            self._send(404, _error(404, "NotFoundError", f"The model `{body['model']}` does not exist."))
        elif body.get("stream"):
            self._stream(answer, body, is_chat)
        else:
            choice = _whole(answer, body, is_chat)
            self._send(200, _envelope(body, is_chat, [choice]) | {"usage": answer.usage})

    def _stream(self, answer: Answer, body: dict[str, Any], is_chat: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for place, event in enumerate(_events(answer, body, is_chat)):
                self._chunk(f"data: {json.dumps(event)}\n\n")
                if self.served.faults.drops and place:
                    self.close_connection = True
                    self.connection.close()
                    return
            self._chunk("data: [DONE]\n\n")
            self._chunk("")
        except OSError:
            with self.served.lock:
                self.served.broken_off += 1
            self.close_connection = True

    def _chunk(self, text: str) -> None:
        content = text.encode()
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def _send(self, status: int, content: Any) -> None:
        sent = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)


def _error(code: int, kind: str, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _envelope(body: Mapping[str, Any], is_chat: bool, choices: list[Any]) -> dict[str, Any]:
    kind = "chat.completion" if is_chat else "text_completion"
    if is_chat and body.get("stream"):
        kind += ".chunk"
    return {"id": "cmpl-1", "object": kind, "created": 1, "model": body["model"], "choices": choices}


def _whole(answer: Answer, body: Mapping[str, Any], is_chat: bool) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": answer.finish_reason, "logprobs": None}
    if body.get("logprobs"):
        choice["logprobs"] = _logprobs(answer.tokens, is_chat)
    if is_chat:
        return {**choice, "message": {"role": "assistant", "content": answer.text}}
    return {**choice, "text": answer.text}


def _events(answer: Answer, body: Mapping[str, Any], is_chat: bool) -> Iterator[dict[str, Any]]:
    for place, token in enumerate(answer.tokens):
        said = {"delta": {"role": "assistant", "content": token.text}} if is_chat else {"text": token.text}
        ends = place == len(answer.tokens) - 1
        choice = {"index": 0, **said, "finish_reason": answer.finish_reason if ends else None, "logprobs": None}
        if body.get("logprobs"):
            choice["logprobs"] = _logprobs([token], is_chat)
        yield _envelope(body, is_chat, [choice])
    if (body.get("stream_options") or {}).get("include_usage"):
        yield _envelope(body, is_chat, []) | {"usage": answer.usage}


def _logprobs(tokens: Sequence[Token], is_chat: bool) -> dict[str, Any]:
    if is_chat:
        return {
            "content": [
                {
                    "token": token.text,
                    "logprob": token.logprob,
                    "bytes": list(token.text.encode()),
                    "top_logprobs": [{"token": token.text, "logprob": token.logprob, "bytes": None}],
                }
                for token in tokens
            ]
        }
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{token.text: token.logprob} for token in tokens],
        "text_offset": [0 for _ in tokens],
    }
