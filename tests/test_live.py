"""Tests of a function as a live source."""

from __future__ import annotations

import asyncio
import functools
from datetime import datetime, timezone
from typing import Any

import pytest
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

from llama_index_hybridmem.errors import RetrievalError
from llama_index_hybridmem.live import LiveSource

NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
KNOWN = TextNode(id_="known", text="a node", metadata={"k": ["v"]}, embedding=[1.0])


def found(question: str) -> list[Any]:
    """Everything a function may return."""
    return [
        f"echo {question}",
        {"text": "a text", "id": "d1", "score": 0.7, "metadata": {"a": 1}, "b": 2},
        {"price": 3, "on": NOON.date()},
        KNOWN,
        NodeWithScore(node=KNOWN, score=0.25),
    ]


async def found_later(question: str) -> list[Any]:
    """The same, async."""
    await asyncio.sleep(0)
    return found(question)


@pytest.mark.parametrize(
    "function", [found, found_later, functools.partial(found_later), lambda question: found_later(question)]
)
@pytest.mark.parametrize("way", ["sync", "async", "sync in a loop"])
def test_texts_mappings_rows_and_nodes_become_stamped_nodes(function: Any, way: str) -> None:
    """Sync and async functions, asked sync, async and sync from inside a running loop, give the same nodes."""
    source = LiveSource(function, clock=lambda: NOON)

    async def inside() -> list[NodeWithScore]:
        return source.retrieve("q")

    async def outside() -> list[NodeWithScore]:
        return await source.aretrieve("q")

    nodes = source.retrieve("q") if way == "sync" else asyncio.run(outside() if way == "async" else inside())
    assert [each.node.get_content() for each in nodes] == ["echo q", "a text", "price: 3\non: 2026-11-21", "a node"]
    assert [each.score for each in nodes] == [None, 0.7, None, None]
    assert nodes[1].node.node_id == "d1"
    assert nodes[1].node.metadata == {"a": 1, "b": 2, "read_at": "2026-11-21T12:00:00+00:00"}
    assert nodes[2].node.metadata["price"] == 3
    assert {each.node.metadata["read_at"] for each in nodes} == {NOON.isoformat()}


def test_each_question_asks_again_at_its_own_time() -> None:
    """Nothing is cached: two questions are two calls with two read times; one text keeps one id."""
    calls, hours = [], iter(range(24))
    source = LiveSource(lambda question: calls.append(question) or "now", clock=lambda: NOON.replace(hour=next(hours)))
    (first,), (second,) = source.retrieve("q"), source.retrieve("q")
    assert calls == ["q", "q"]
    assert first.node.metadata["read_at"] != second.node.metadata["read_at"]
    assert first.node.node_id == second.node.node_id
    assert LiveSource(lambda _: "now", name="other").retrieve("q")[0].node.node_id != first.node.node_id


def test_the_functions_own_nodes_are_untouched_and_lose_no_text_to_the_stamp() -> None:
    """The stamp is on a copy, is read by a language model and never by an encoder; no embedding is passed on."""
    before = KNOWN.model_dump_json()
    (node,) = LiveSource(lambda _: KNOWN, clock=lambda: NOON).retrieve("q")
    node.node.metadata["k"].append("changed")
    assert KNOWN.model_dump_json() == before
    assert node.node.embedding is None
    assert "read_at" not in node.node.get_content(metadata_mode=MetadataMode.EMBED)
    assert "read_at: 2026-11-21T12" in node.node.get_content(metadata_mode=MetadataMode.LLM)


def test_a_rows_columns_stand_in_the_prompt_once() -> None:
    """A row is text and metadata; a model reads each column once."""
    (node,) = LiveSource(lambda _: {"price": 3}, clock=lambda: NOON).retrieve("q")
    assert node.node.get_content(metadata_mode=MetadataMode.LLM).count("price") == 1


def test_nothing_found_is_no_error() -> None:
    """None and an empty list are empty answers."""
    assert LiveSource(lambda _: None).retrieve("q") == LiveSource(lambda _: []).retrieve("q") == []


@pytest.mark.parametrize("function", [lambda _: [7], lambda _: [["nested"]]])
def test_what_cannot_be_a_node_is_named(function: Any) -> None:
    """A number in the list is an error that names the source and the type."""
    with pytest.raises(RetrievalError, match="live source 'prices' returned a (int|list)"):
        LiveSource(function, name="prices").retrieve("q")


def test_an_async_functions_error_is_raised_as_it_is() -> None:
    """The own thread of an async function changes nothing about its error."""

    async def fail(question: str) -> None:
        raise RuntimeError("the API is down")

    with pytest.raises(RuntimeError, match="the API is down"):
        LiveSource(fail).retrieve("q")
