"""Chat on hybrid memory: small talk, follow-ups, abstention, streams, and sources in every response."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fake_llm import ScriptedLLM
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.chat_engine.types import AgentChatResponse, BaseChatEngine
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from llama_index_hybridmem.chat_engine import HybridChatEngine
from llama_index_hybridmem.chat_turn import ChatStream
from llama_index_hybridmem.query_engine import HybridRouterQueryEngine

DRAM = "DRAM must be refreshed every 64 ms. It keeps charge in a capacitor."
QUESTION = "How often must DRAM be refreshed?"
ABSTAINED = "The sources do not seem to answer this question."


class _Memory(BaseRetriever):
    """One passage, close to questions about DRAM only."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = list[str]()

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        self.asked.append(query_bundle.query_str)
        score = 0.8 if "DRAM" in query_bundle.query_str else 0.1
        return [NodeWithScore(node=TextNode(id_="dram", text=DRAM), score=score)]


def _replies(prompt: str) -> str:
    """Greets, condenses follow-ups on DRAM, and answers from the passage."""
    if "Rewrite the last message" in prompt:
        return "\nWhy must DRAM be refreshed?\nBecause"
    if DRAM in prompt:
        return "because of the charge" if "Why must" in prompt else "every 64 ms"
    return f"Hello! ({prompt.count('user: ')} messages)"


def _chat(**settings: Any) -> tuple[HybridChatEngine, ScriptedLLM, _Memory]:
    llm, memory = ScriptedLLM(reply=_replies, is_chat=True), _Memory()
    return HybridRouterQueryEngine.from_stores(vector=memory, llm=llm).as_chat_engine(**settings), llm, memory


async def _say(chat: HybridChatEngine, message: str, how: str, history: list[ChatMessage] | None = None) -> Any:
    """One turn in one of the four ways: (text, response)."""
    if how == "chat":
        response: Any = chat.chat(message, history)
        return response.response, response
    if how == "achat":
        response = await chat.achat(message, history)
        return response.response, response
    if how == "stream_chat":
        response = chat.stream_chat(message, history)
        return "".join(response.response_gen), response
    response = await chat.astream_chat(message, history)
    return "".join([token async for token in response.async_response_gen()]), response


ways = pytest.mark.parametrize("how", ["chat", "achat", "stream_chat", "astream_chat"])


@ways
async def test_a_whole_conversation(how: str) -> None:
    """A greeting is answered by the model, a question from the memory, a follow-up is condensed first."""
    chat, llm, memory = _chat()
    assert isinstance(chat, BaseChatEngine)
    text, response = await _say(chat, "Hi", how)
    assert text == "Hello! (1 messages)"
    assert response.source_nodes == []
    assert response.metadata["hybridmem"]["route"] == "parametric"
    assert memory.asked == []

    text, response = await _say(chat, QUESTION.replace("DRAM", "it"), how)
    assert memory.asked == ["Why must DRAM be refreshed?"]
    assert "user: Hi\nassistant: Hello!" in llm.prompts[-2]

    chat.reset()
    memory.asked.clear()
    text, response = await _say(chat, QUESTION, how)
    assert text == "every 64 ms"
    assert [each.node.node_id for each in response.source_nodes] == ["dram"]
    assert response.sources[0].raw_output.source_nodes[0].node.node_id == "dram"
    assert response.metadata["hybridmem"]["answer"] == "generated"
    assert response.metadata["hybridmem"]["timings"]["total"] > 0

    text, response = await _say(chat, "Why?", how)
    assert text == "because of the charge"
    assert memory.asked == [QUESTION, "Why must DRAM be refreshed?"]
    assert [each.node.node_id for each in response.source_nodes] == ["dram"]

    assert [message.content for message in chat.chat_history] == [QUESTION, "every 64 ms", "Why?", text]
    assert isinstance(response, ChatStream if "stream" in how else AgentChatResponse)


@ways
async def test_the_unknown_is_not_made_up(how: str) -> None:
    """An unanswerable question abstains with its sources attached, and the abstention is part of the history."""
    chat, llm, _ = _chat()
    text, response = await _say(chat, "Who directed the film Casablanca?", how)
    assert text == ABSTAINED
    assert len(response.source_nodes) == 1
    assert llm.prompts == []
    assert chat.chat_history[-1].content == ABSTAINED


@ways
async def test_small_talk_knows_the_conversation(how: str) -> None:
    """The parametric route continues the chat: the model sees what was said, braces and placeholders as they were."""
    said = [ChatMessage(role="user", content="I am Ann {query_str}"), ChatMessage(role="assistant", content="Hi Ann")]
    chat, llm, _ = _chat(system_prompt="Be brief.")
    await _say(chat, "Thanks!", how, said)
    assert llm.prompts == ["system: Be brief.\nuser: I am Ann {query_str}\nassistant: Hi Ann\nuser: Thanks!"]


@ways
async def test_a_turn_that_fails_leaves_no_trace(how: str) -> None:
    """When the model breaks, the error reaches the caller and the history stays as it was."""

    def breaks(prompt: str) -> str:
        raise ConnectionError("gone")

    chat, llm, _ = _chat()
    llm.reply = breaks
    with pytest.raises(ConnectionError):
        await _say(chat, QUESTION, how)
    assert chat.chat_history == []


async def test_a_stream_closed_early_keeps_what_was_said() -> None:
    """Closing after the first token stores the question and the part that came, sync and async."""
    for close in ("sync", "async"):
        chat, _, _ = _chat()
        if close == "sync":
            stream = chat.stream_chat(QUESTION)  # kept: the garbage collector would close it otherwise
            tokens = stream.response_gen
            assert next(tokens) == "every"
            tokens.close()
        else:
            stream = await chat.astream_chat(QUESTION)
            atokens = stream.async_response_gen()
            assert await atokens.__anext__() == "every"
            await atokens.aclose()
        assert [message.content for message in chat.chat_history] == [QUESTION, "every"]


def test_the_system_prompt_stands_before_every_prompt() -> None:
    """Questions to the memory are asked under the system prompt, too, without the earlier turns."""
    chat, llm, _ = _chat(system_prompt="Be brief.")
    chat.chat("Hi")
    chat.chat(QUESTION)
    assert llm.prompts[-1].startswith("system: Be brief.\nuser: Here is what the sources hold.")


def test_condensing_can_be_left_out() -> None:
    """With skip_condense a follow-up is asked as it is."""
    chat, _, memory = _chat(skip_condense=True)
    chat.chat("Hi")
    chat.chat("Why DRAM?")
    assert memory.asked == ["Why DRAM?"]


def test_without_a_model_it_shows_sources() -> None:
    """In no_text mode chat needs no model: nothing is condensed, and answers are facts and best sentences."""
    engine = HybridRouterQueryEngine.from_stores(vector=_Memory(), response_mode="no_text")
    chat = engine.as_chat_engine()
    chat.chat("Hi")
    assert "It must" not in chat.chat(QUESTION).response
    assert "DRAM must be refreshed every 64 ms. [1]" in chat.chat(QUESTION).response


def test_given_history_and_memory_are_used() -> None:
    """chat_history starts the new history; a given memory is the history."""
    started = [ChatMessage(role="user", content="Hi"), ChatMessage(role="assistant", content="Hello")]
    chat, _, _ = _chat(chat_history=started)
    assert chat.chat_history == started
    memory = ChatMemoryBuffer.from_defaults(token_limit=1000)
    chat, _, _ = _chat(memory=memory)
    chat.chat(QUESTION)
    assert len(memory.get_all()) == 2


@pytest.mark.parametrize(("route", "asked"), [("parametric", 0), ("vector", 1)])
def test_a_fixed_route_holds_in_chat(route: str, asked: int) -> None:
    """A fixed parametric route asks no store, a fixed retrieving one also for a greeting."""
    llm, memory = ScriptedLLM(reply=_replies, is_chat=True), _Memory()
    chat = HybridRouterQueryEngine.from_stores(vector=memory, llm=llm, route=route).as_chat_engine()
    chat.chat(QUESTION if route == "parametric" else "Hi")
    assert len(memory.asked) == asked


def test_the_engine_below_stays_as_it_was() -> None:
    """Streaming a chat does not switch the engine to streaming, and prompts set on the engine later are used."""
    llm: ScriptedLLM = ScriptedLLM(reply=_replies, is_chat=True)
    engine = HybridRouterQueryEngine.from_stores(vector=_Memory(), llm=llm)
    chat = engine.as_chat_engine()
    list(chat.stream_chat(QUESTION).response_gen)
    assert engine.streaming is False
    assert str(engine.query(QUESTION)) == "every 64 ms"
    template: Callable[..., Any] = type(engine.get_prompts()["text_qa_template"])
    engine.update_prompts({"text_qa_template": template("NEW {context_str} {query_str}")})
    chat.reset()
    chat.chat(QUESTION)
    assert llm.prompts[-1].startswith("user: NEW ")
