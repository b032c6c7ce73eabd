"""An app's own Qdrant store, with a blocking client, an async one or both, answers our engine from both sides."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery
from qdrant_places import URL
from vector_nodes import make_node

from llama_index_hybridmem.deadlines import within
from llama_index_hybridmem.existing import as_hybrid, hybrid_of
from llama_index_hybridmem.retriever import HybridRetriever, Store
from llama_index_hybridmem.vector.sides import both_sides, two_sided

qdrant_client = pytest.importorskip("qdrant_client", reason="needs the extra 'qdrant'")
integration = pytest.importorskip("llama_index.vector_stores.qdrant", reason="needs the extra 'qdrant'")

EMBEDDING = MockEmbedding(embed_dim=4)
NODES = [make_node(str(uuid5(NAMESPACE_URL, word)), word, [0.5] * 4, f"d-{word}") for word in ("cell", "page", "row")]
WORDS = {"cell", "page", "row"}
KINDS = ["blocking", "async", "both, filled by threads", "both, filled on a loop"]


@pytest.fixture(params=[*KINDS, *(f"{kind} server" for kind in KINDS if URL)])
def store(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A store of LlamaIndex's with three nodes in it, and the clients that the kind says."""
    kind, remote = request.param.removesuffix(" server"), request.param.endswith(" server")
    place = {"url": URL} if remote else {"location": ":memory:"}
    client = qdrant_client.QdrantClient(**place) if kind != "async" else None
    aclient = qdrant_client.AsyncQdrantClient(**place) if kind != "blocking" else None
    store = integration.QdrantVectorStore(f"test-{uuid4()}", client, aclient, index_doc_id=False)
    if kind in ("async", "both, filled on a loop"):
        asyncio.run(store.async_add(NODES))
    else:
        store.add(NODES)
    yield store
    if client is not None:
        client.delete_collection(store.collection_name)
        client.close()
    if aclient is not None and not remote:
        asyncio.run(aclient.close())


def retriever_of(store: Any) -> Any:
    """An app's retriever over the store."""
    return VectorStoreIndex.from_vector_store(store, embed_model=EMBEDDING).as_retriever(similarity_top_k=3)


def wrapped(store: Any) -> dict[str, HybridRetriever]:
    """The store in each form in which an app may hand it to us."""
    index = VectorStoreIndex.from_vector_store(store, embed_model=EMBEDDING)
    return {
        "an index": hybrid_of({"vector": index}),
        "a retriever": as_hybrid(retriever_of(store)),
        "a retriever by name": HybridRetriever({"vector": retriever_of(store)}),
        "a store": HybridRetriever([Store("vector", retriever_of(store))]),
        "a store asked on the event loop": HybridRetriever([Store("vector", retriever_of(store), use_async=True)]),
    }


QUERY = VectorStoreQuery(query_embedding=[0.5] * 4, similarity_top_k=3)
FORMS = ["an index", "a retriever", "a retriever by name", "a store", "a store asked on the event loop"]


@pytest.mark.parametrize("form", FORMS)
def test_answers_from_both_sides(store: Any, form: str) -> None:
    """From a thread, and from one event loop after the other, the answer is the same."""
    retriever = wrapped(store)[form]
    assert {found.node.get_content() for found in retriever.retrieve("word")} == WORDS
    for _ in range(2):
        assert {found.node.get_content() for found in asyncio.run(retriever.aretrieve("word"))} == WORDS
    assert {found.node.get_content() for found in retriever.retrieve("word")} == WORDS


def test_the_app_s_own_objects_stay_as_they_are(store: Any) -> None:
    """Neither the app's retriever nor its store is changed; what needs no other side is taken as it is."""
    retriever = retriever_of(store)
    clients = store._client, store._aclient
    HybridRetriever({"vector": retriever}).retrieve("word")
    assert retriever._vector_store is store
    assert (store._client, store._aclient) == clients
    assert two_sided("no store") == "no store"


def test_writes_from_both_sides(store: Any) -> None:
    """A wrapped store also takes nodes, gives them back, deletes and clears, from threads and from loops."""
    sided = two_sided(store)
    more = [make_node(str(uuid4()), word, [0.1] * 4, f"d-{word}") for word in ("gate", "fuse")]

    def texts(nodes: list[TextNode]) -> set[str]:
        return {node.get_content() for node in nodes}

    def runs(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(coroutine)

    sided.add(more[:1])
    runs(sided.async_add(more[1:]))
    assert texts(sided.get_nodes()) == texts(runs(sided.aget_nodes())) == WORDS | {"gate", "fuse"}
    sided.delete("d-gate")
    runs(sided.adelete("d-fuse"))
    assert texts(sided.get_nodes()) == WORDS
    sided.delete_nodes([NODES[0].node_id])
    runs(sided.adelete_nodes([NODES[1].node_id]))
    assert texts(runs(sided.aget_nodes())) == {"row"}
    assert sided.collection_name == store.collection_name
    assert texts(copy.copy(sided).get_nodes()) == texts(runs(copy.copy(sided).aget_nodes())) == {"row"}


@contextmanager
def counting() -> Iterator[tuple[str, list[str]]]:
    """A server that finds nothing, and notes what it was asked."""
    seen: list[str] = []
    body = json.dumps({"result": {"points": []}, "status": "ok", "time": 0.0}).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # noqa: N802 - the name is the library's
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append(self.path)
            self.send_response(200 if self.path.endswith("query") else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


def loops() -> list[threading.Thread]:
    """The loop threads of ours that are alive."""
    return [thread for thread in threading.enumerate() if thread.name == "hybridmem-qdrant"]


def test_an_async_client_to_a_server_is_not_taken_from_its_loop() -> None:
    """Connections of the app's client stay on the app's loop: threads ask through a twin, which ends with its user."""
    with counting() as (url, seen):

        async def app() -> None:
            aclient = qdrant_client.AsyncQdrantClient(url, check_compatibility=False)
            store = integration.QdrantVectorStore("c", aclient=aclient)
            store._legacy_vector_format = False
            for _ in range(3):  # connections are kept alive between the calls on either side
                await aclient.query_points("c", query=[0.5] * 4)
                sided = two_sided(store)
                await asyncio.to_thread(sided.query, QUERY)
                await sided.aquery(QUERY)
            await aclient.close()
            del sided, store
            gc.collect()

        asyncio.run(app())
        assert sum(path.endswith("query") for path in seen) == 9
    for thread in loops():
        thread.join(3)
    assert loops() == []


def test_a_deadline_ends_a_call_of_the_missing_side() -> None:
    """Against a server that says nothing, a thread that asks an async store comes back when its time is over."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        aclient = qdrant_client.AsyncQdrantClient(url, check_compatibility=False, timeout=60)
        sided = two_sided(integration.QdrantVectorStore("c", aclient=aclient))
        with within(0.1), pytest.raises(TimeoutError):
            sided.query(QUERY)
        del sided
        gc.collect()
    for thread in loops():
        thread.join(3)
    assert loops() == []


def test_other_retrievers_are_taken_as_they_are() -> None:
    """Over LlamaIndex's own store there is nothing to do."""
    retriever = VectorStoreIndex(NODES, embed_model=EMBEDDING).as_retriever()
    assert both_sides(retriever) is retriever
