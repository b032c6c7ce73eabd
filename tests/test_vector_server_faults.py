"""What a Qdrant server can do to a store: every failure has our name, comes in time, and costs nothing beforehand."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from servers.ports import free_port
from vector_nodes import corpus, unit

from llama_index_hybridmem.deadlines import within
from llama_index_hybridmem.errors import (
    InvalidVectorError,
    StoreAccessError,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
)
from llama_index_hybridmem.vector.server import QdrantServerVectorStore
from llama_index_hybridmem.vector.server_errors import NoCollectionError, TakenError, translated

qdrant_client = pytest.importorskip("qdrant_client", reason="needs the extra 'qdrant'")

QUESTION = unit(1)


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """A server that says the same to everything; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name is the library's
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def silent() -> Iterator[str]:
    """A server that is frozen: it takes connections and says nothing; gives its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def failure(store: QdrantServerVectorStore) -> StoreError:
    """What a search ends with."""
    with pytest.raises(StoreError) as failed:
        store.search_dense(QUESTION, 3)
    return failed.value


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, StoreAccessError),
        (403, StoreAccessError),
        (429, StoreUnavailableError),
        (500, StoreUnavailableError),
        (503, StoreUnavailableError),
        (400, StoreError),
    ],
)
def test_each_status_has_a_name(status: int, kind: type[StoreError]) -> None:
    """A key that is refused, an overloaded or broken server and a refused request are told apart."""
    said = json.dumps({"status": {"error": "because"}}).encode()
    with answering(status, said) as url, QdrantServerVectorStore("c", url=url) as store:
        error = failure(store)
    assert type(error) is kind
    assert "'c'" in str(error)


def test_an_answer_that_is_none_and_a_full_server() -> None:
    """What is no answer of Qdrant's is an error of the store; a server that says when to come back is unavailable."""
    with answering(200, b'{"result": 1}') as url, QdrantServerVectorStore("c", url=url) as store:
        assert type(failure(store)) is StoreError
    with answering(429, b"{}", Retry_After="3") as url, QdrantServerVectorStore("c", url=url) as store:
        assert type(failure(store)) is StoreUnavailableError


@pytest.mark.parametrize("kind", ["url", "client", "aclient"])
@pytest.mark.parametrize("grpc", [False, True])
def test_a_dead_server_costs_nothing_until_it_is_asked(kind: str, grpc: bool) -> None:
    """A store is made without a word to the server; then every call says that it is not there, by REST and by gRPC."""
    options: dict[str, Any] = {
        "check_compatibility": False,
        "prefer_grpc": grpc,
        "grpc_port": free_port(),
        "timeout": 1,
    }
    url = f"http://127.0.0.1:{free_port()}"
    client = qdrant_client.QdrantClient(url, **options)
    given: dict[str, Any] = {
        "url": {"url": url, "client_options": options},
        "client": {"client": client},
        "aclient": {"aclient": qdrant_client.AsyncQdrantClient(url, **options)},
    }[kind]
    with QdrantServerVectorStore("c", timeout_s=1, **given) as store:
        for call in (lambda: store.search_dense(QUESTION, 3), lambda: store.add(corpus(2)), store.stats):
            with pytest.raises(StoreUnavailableError, match="reach"):
                call()
    client.close()


def test_a_frozen_server_is_left_at_the_limit() -> None:
    """A call ends at its own limit, or where the work under way has less time, at that; nothing runs on."""
    with silent() as url, QdrantServerVectorStore("c", url=url, timeout_s=0.2) as store:
        began = time.monotonic()
        assert isinstance(failure(store), StoreUnavailableError)
        with within(0.05):
            assert isinstance(failure(store), StoreUnavailableError)
        with within(0.0):
            assert isinstance(failure(store), StoreUnavailableError)
        assert time.monotonic() - began < 5  # not the client's own five seconds, let alone a minute
    assert not [thread for thread in threading.enumerate() if thread.name == "hybridmem-qdrant"]


def test_a_client_of_the_app_is_told_the_deadline() -> None:
    """A blocking client against a frozen server gives up when the work has no time left, in whole seconds."""
    client = qdrant_client.QdrantClient("http://127.0.0.1:1", check_compatibility=False, timeout=60)
    asked: list[Any] = []
    client.scroll = lambda **arguments: asked.append(arguments.get("timeout"))
    with QdrantServerVectorStore("c", client=client) as store:
        with within(1.5):
            store.client.ask("scroll", {"collection_name": "c"})
        store.client.ask("scroll", {"collection_name": "c"})
    assert asked == [2, None]
    client.close()


def test_of_both_clients_the_one_is_asked_that_can_be_cancelled() -> None:
    """A twin of the async one; in local mode, where there is nothing to cancel and no twin, the blocking one."""
    dead = qdrant_client.QdrantClient(f"http://127.0.0.1:{free_port()}", check_compatibility=False)
    with answering(403, b"{}") as url:
        aclient = qdrant_client.AsyncQdrantClient(url, check_compatibility=False)
        with QdrantServerVectorStore("c", client=dead, aclient=aclient) as store:
            assert type(failure(store)) is StoreAccessError
    dead.close()
    client, aclient = qdrant_client.QdrantClient(":memory:"), qdrant_client.AsyncQdrantClient(":memory:")
    with QdrantServerVectorStore("c", client=client, aclient=aclient) as store:
        store.add(corpus(2))
    assert client.count("c").count == 2
    client.close()
    asyncio.run(aclient.close())


def test_errors_by_their_text() -> None:
    """What local mode and the server say in words is understood; a dimension is a vector's fault."""
    assert isinstance(translated("c", ValueError("Collection c not found")), NoCollectionError)
    assert isinstance(translated("c", ValueError("Collection c already exists")), TakenError)
    assert isinstance(translated("c", RuntimeError("QdrantLocal instance is closed.")), StoreClosedError)
    assert isinstance(translated("c", ValueError("Vector dimension error: expected 4, got 2")), InvalidVectorError)
    assert "me:secret" not in str(translated("c", OSError("http://me:secret@host refused")))
