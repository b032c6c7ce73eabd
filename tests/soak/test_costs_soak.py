"""Memory and open state of the cost handler over very many queries of every sort."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
from conftest import SOAK
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from truthful import Native

from llama_index_hybridmem import CostLatencyHandler

KEPT = 200
LEAST = 0.1  # blocks a query may leave behind
SLICE = 500  # queries between two waits for the thread that makes the traces

pytestmark = pytest.mark.filterwarnings("ignore:unclosed (event loop|<socket):ResourceWarning")


class Passage(BaseRetriever):
    """Finds one passage, always the same."""

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [NodeWithScore(node=NODE, score=1.0)]


NODE = TextNode(id_="p", text="a passage")


@pytest.fixture
def no_callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """LlamaIndex's own managers keep a name for every event of some engines for ever, which would hide what we keep."""
    monkeypatch.setattr(CallbackManager, "on_event_start", lambda self, *_, event_id=None, **__: event_id or "")
    monkeypatch.setattr(CallbackManager, "on_event_end", lambda self, *_, **__: None)


def engine(streaming: bool = False, **model: Any) -> RetrieverQueryEngine:
    """The cheapest real engine."""
    return RetrieverQueryEngine.from_args(Passage(), llm=Native(**model), streaming=streaming)


class Statuses:
    """An exporter that counts how queries ended."""

    name = "statuses"

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()

    def context(self) -> None:
        """Nothing to note."""

    def export(self, finished: Any) -> None:
        """Count."""
        self.counted[finished.trace.status] += 1

    def close(self) -> None:
        """Nothing to write."""


class Mix:
    """Six sorts of queries in turn: whole, read, half read, unread, failing, and the model by itself."""

    def __init__(self) -> None:
        self._whole, self._stream, self._failing = engine(), engine(streaming=True), engine(fails=True)
        self._llm = Native()

    def ask(self, number: int) -> None:
        """Ask one query; its sort goes by its number."""
        question = f"query {number % 1000}"
        sort = number % 6
        if sort == 0:
            self._whole.query(question)
        elif sort == 4:
            with pytest.raises(RuntimeError, match="down"):
                self._failing.query(question)
        elif sort == 5:
            self._llm.complete(question)
        else:
            self._read(self._stream.query(question), sort)

    @staticmethod
    def _read(answer: Any, sort: int) -> None:
        if sort == 1:
            list(answer.response_gen)
        elif sort == 2:
            next(answer.response_gen)


STATUSES = {0: "ok", 1: "ok", 2: "abandoned", 3: "never_consumed", 4: "error", 5: "ok"}


def blocks(handler: CostLatencyHandler) -> int:
    """Blocks of memory in use when nothing waits any more."""
    handler.flush(60)
    gc.collect()
    handler.flush(60)
    return sys.getallocatedblocks()


@pytest.mark.skipif(not SOAK, reason="twenty seconds: run by make soak")
def test_memory_stays_flat(no_callbacks: None, volume: Callable[[int], int]) -> None:
    """From the middle to the end of 100,000 queries nothing grows; all are counted, none is open, the ring is full."""
    whole, mix, statuses = volume(100_000), Mix(), Statuses()
    with CostLatencyHandler(keep=KEPT, exporters=[statuses]).attach() as handler:
        seen = []
        for number in range(whole):
            mix.ask(number)
            if number % SLICE == SLICE - 1 or number == whole - 1:
                seen.append((number, blocks(handler)))
    (middle, then), (end, now) = seen[len(seen) // 2], seen[-1]
    assert (now - then) / (end - middle) < LEAST, seen[:: max(1, len(seen) // 10)]
    health = handler.health()
    assert (health["traces"], health["kept"], health["evicted"]) == (whole, KEPT, whole - KEPT)
    left = ("open", "forced", "faults", "waiting", "dropped", "failed")
    assert {name: health[name] for name in left} == dict.fromkeys(left, 0), health
    assert not handler.tracker.queries.spans
    assert statuses.counted == Counter(STATUSES[number % 6] for number in range(whole))


def test_streams_that_are_kept_unread(volume: Callable[[int], int]) -> None:
    """An app that hoards unread streams has at most `max_open` queries open, whatever it hoards; all end as traces."""
    whole = volume(20_000)
    with CostLatencyHandler(keep=10, max_open=100).attach() as handler:
        stream = engine(streaming=True)
        hoard = [stream.query("query 1") for _ in range(whole)]
        health = handler.health()
        assert (health["open"], health["forced"]) == (100, whole - 100)
        assert all("".join(answer.response_gen) == "this is the answer 1" for answer in islice(hoard, 3))
        hoard.clear()
        gc.collect()
        handler.flush(60)
        health = handler.health()
        assert (health["open"], health["faults"], health["failed"]) == (0, 0, 0), health
        assert not handler.tracker.queries.spans
        assert health["traces"] >= whole
