"""Hybrid memory inside an agent's Memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

import pytest
from fake_llm import ScriptedLLM
from fakes import WordsEmbedding
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.llms import ChatMessage
from llama_index.core.llms.mock import MockFunctionCallingLLMWithChatMemoryOfLastCall
from llama_index.core.memory import InsertMethod, Memory
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle, TextNode
from sqlalchemy.ext.asyncio import create_async_engine

from llama_index_hybridmem import HybridMemoryIndex
from llama_index_hybridmem.errors import AllStoresFailedError
from llama_index_hybridmem.memory_block import SESSION_KEY, HybridMemoryBlock

DRAM = "DRAM must be refreshed every 64 ms."


class _Fixed(BaseRetriever):
    """Returns what it was given, and counts."""

    def __init__(self, nodes: Sequence[BaseNode] = (), error: Exception | None = None) -> None:
        super().__init__()
        self.nodes, self.error, self.asked = list(nodes), error, list[str]()

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        self.asked.append(query_bundle.query_str)
        if self.error:
            raise self.error
        return [NodeWithScore(node=node, score=1.0) for node in self.nodes]


NewMemory = Callable[..., Memory]


@pytest.fixture
async def new_memory() -> AsyncIterator[NewMemory]:
    """Makes a LlamaIndex Memory whose database connection is closed after the test."""
    engine = create_async_engine("sqlite+aiosqlite:///:memory:")
    yield partial(Memory.from_defaults, async_engine=engine)
    await engine.dispose()


def _user(text: str, **kwargs: Any) -> ChatMessage:
    return ChatMessage(role="user", content=text, **kwargs)


async def test_passages_and_facts_on_the_latest_message_reach_the_memory(new_memory: NewMemory) -> None:
    """Memory's system message holds the labelled sections on what the user asked last."""
    node = TextNode(text=DRAM, metadata={"hybridmem": {"facts": ["DRAM → needs → refresh"]}})
    retriever = _Fixed([node])
    memory = new_memory(session_id="s", memory_blocks=[HybridMemoryBlock(retriever=retriever)])
    await memory.aput_messages([_user("Old question?"), ChatMessage(role="assistant", content="Old."), _user("DRAM?")])
    history = await memory.aget()
    assert retriever.asked == ["DRAM?"]
    assert history[0].role == "system"
    shown = history[0].content or ""
    assert "<HybridMemory>" in shown
    assert "Facts from the graph:\n- DRAM → needs → refresh" in shown
    assert f"Passages:\n{DRAM}" in shown


async def test_small_talk_and_silence_retrieve_nothing() -> None:
    """A greeting, an empty message and no user message at all ask no store."""
    retriever = _Fixed([TextNode(text=DRAM)])
    block = HybridMemoryBlock(retriever=retriever)
    for messages in ([_user("Hi!")], [_user("")], [ChatMessage(role="assistant", content="Hello")], [], None):
        assert await block.aget(messages) == ""
    assert retriever.asked == []


async def test_messages_are_remembered_in_an_index_and_only_in_their_session() -> None:
    """Flushed messages become one node; the same session finds it, another does not, and documents are for all."""
    index = VectorStoreIndex([TextNode(text=DRAM)], embed_model=WordsEmbedding())
    block = HybridMemoryBlock(index=index)
    question = [_user("How many DIMMs has my server?")]
    assert "12" not in await block.aget(question, session_id="one")
    said = [_user("My server has 12 DIMMs."), ChatMessage(role="assistant", content="Noted: 12 DIMMs.")]
    await block.aput(said, from_short_term_memory=True, session_id="one")
    await block.aput(said, from_short_term_memory=True, session_id="one")
    mine = await block.aget(question, session_id="one")
    assert mine.count("user: My server has 12 DIMMs.\nassistant: Noted: 12 DIMMs.") == 1
    assert SESSION_KEY not in mine
    assert "DIMMs" not in await block.aget(question, session_id="two")
    assert DRAM in await block.aget(question, session_id="two")


async def test_without_an_index_nothing_is_written() -> None:
    """A block that only reads takes flushed messages without an error and inserts nothing."""
    index = VectorStoreIndex([TextNode(text=DRAM)], embed_model=WordsEmbedding())
    await HybridMemoryBlock(retriever=index.as_retriever()).aput([_user("Remember me")])
    assert len(index.docstore.docs) == 1


async def test_a_memory_that_overflows_flushes_into_the_index(new_memory: NewMemory) -> None:
    """What Memory ejects from the short-term history is found again by the block."""
    index = VectorStoreIndex([], embed_model=WordsEmbedding())
    block = HybridMemoryBlock(index=index)
    memory = new_memory(session_id="s", token_limit=120, token_flush_size=20, memory_blocks=[block])
    for turn in range(8):
        await memory.aput(_user(f"My badge number {turn} is {1000 + turn} and I like it very much."))
        await memory.aput(ChatMessage(role="assistant", content="Noted, thank you for telling me about it."))
    assert "1000" in await block.aget([_user("What is my badge number 0?")], session_id="s")


async def test_truncation_drops_the_least_relevant_first() -> None:
    """Sections go from the end until enough tokens are saved; None when all are gone."""
    block = HybridMemoryBlock(retriever=_Fixed())
    content = "Passages:\nfirst passage\n\nsecond passage\n\nthird passage"
    assert await block.atruncate(content, 1) == "Passages:\nfirst passage\n\nsecond passage"
    assert await block.atruncate(content, 10_000) is None


async def test_top_k_limits_the_passages() -> None:
    """similarity_top_k cuts what a retriever returns."""
    block = HybridMemoryBlock(retriever=_Fixed([TextNode(text=f"DRAM {n}") for n in range(5)]), similarity_top_k=2)
    assert (await block.aget([_user("DRAM?")])).count("DRAM") == 2


async def test_a_dead_memory_is_an_error_and_not_an_empty_one() -> None:
    """When every store fails, the agent learns so."""
    with pytest.raises(AllStoresFailedError, match="down"):
        await HybridMemoryBlock(retriever=_Fixed(error=ConnectionError("down"))).aget([_user("DRAM?")])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # LlamaIndex's agents use what its workflows deprecate
async def test_an_agent_reads_it(new_memory: NewMemory) -> None:
    """Agents have the passage in their prompt: a FunctionAgent as it is, a ReActAgent where Memory inserts as user."""
    block = HybridMemoryBlock(retriever=_Fixed([TextNode(text=DRAM)]))
    calling = MockFunctionCallingLLMWithChatMemoryOfLastCall()
    await FunctionAgent(tools=[], llm=calling, streaming=False).run(
        "How often is DRAM refreshed?", memory=new_memory(memory_blocks=[block])
    )
    assert DRAM in "".join(message.content or "" for message in calling.last_chat_messages or ())
    llm = ScriptedLLM(reply="Thought: I can answer.\nAnswer: every 64 ms", is_chat=True)
    memory = new_memory(memory_blocks=[block], insert_method=InsertMethod.USER)
    result = await ReActAgent(tools=[], llm=llm, streaming=False).run("How often is DRAM refreshed?", memory=memory)
    assert "64 ms" in str(result)
    assert DRAM in llm.prompts[0]


def test_a_block_needs_something_to_read() -> None:
    """Neither retriever nor index is a mistake, found at once."""
    with pytest.raises(ValueError, match="needs a retriever, an index, or both"):
        HybridMemoryBlock()


async def test_the_hybrid_index_remembers_conversations() -> None:
    """HybridMemoryIndex as the block's index: flushed messages stand in vector, keyword and graph memory."""
    with HybridMemoryIndex.from_documents([Document(text=DRAM)], embed_model=WordsEmbedding()) as index:
        block = HybridMemoryBlock(index=index)
        await block.aput([_user("My dog Rex eats at nine.")], session_id="one")
        assert "Rex eats at nine" in await block.aget([_user("When does Rex eat?")], session_id="one")
        assert "Rex" not in await block.aget([_user("When does Rex eat?")], session_id="two")
