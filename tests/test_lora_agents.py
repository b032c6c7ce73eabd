"""LlamaIndex's agents, chat engines and structured outputs on a real model that says what the test wants.

Its readout is solved for, prompt by prompt, so that the wanted answer is by far the most likely one: everything else,
from messages over token ids and streams to tool calls, runs as it does with a model that knows.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentStream, FunctionAgent, ReActAgent
from llama_index.core.chat_engine import CondensePlusContextChatEngine, SimpleChatEngine
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.prompts import PromptTemplate
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.tools import FunctionTool
from models import LLAMA_TEMPLATE, QWEN_TEMPLATE
from pydantic import BaseModel

from llama_index_hybridmem.llms.local import LoraHuggingFaceLLM

pytestmark = [
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("peft", "torch", "transformers", "safetensors")),
        reason="needs the extra 'lora'",
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # LlamaIndex's agents use what its workflows deprecate
]
QUESTION = "What is 2 plus 3?"


class Coach:
    """A random Qwen over bytes that learns the answer to a chat when the chat is rendered, just before it answers.

    Attributes:
        answer: what to answer to a prompt; set by the test.
        prompts: the prompts so far, as text.
        llm: the model as a LlamaIndex LLM.
    """

    WIDTH = 256  # tokens of answers that can be taught exactly

    def __init__(self) -> None:
        import torch
        from transformers import Qwen2Config, Qwen2ForCausalLM

        self.answer: Callable[[str], str] = lambda prompt: "Yes."
        self.prompts: list[str] = []
        self.tokenizer = _byte_tokenizer()
        sizes = {"hidden_size": self.WIDTH, "intermediate_size": 256, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
        ends = {"bos_token_id": None, "eos_token_id": self.tokenizer.eos_token_id}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            # weights of 0.1 let attention look at few places, so that hidden states differ from place to place
            settings = {"max_position_embeddings": 8192, "initializer_range": 0.1, **ends, **sizes, **heads}
            config = Qwen2Config(vocab_size=258, **settings)
            self.model = Qwen2ForCausalLM(config).eval()
        self._render = self.tokenizer.apply_chat_template
        self.tokenizer.apply_chat_template = self._rendered
        self.llm = LoraHuggingFaceLLM(model=self.model, tokenizer=self.tokenizer, model_name="pupil")

    def begin(self, template: str | None) -> None:
        """Forgets every lesson and takes another chat template."""
        self._states: list[Any] = []
        self._targets: list[int] = []
        self.prompts.clear()
        self.tokenizer.chat_template = template

    def _rendered(self, *arguments: Any, **options: Any) -> list[int]:
        ids: list[int] = list(self._render(*arguments, **options))
        self.prompts.append(self.tokenizer.decode(ids))
        self._learn(ids, self.answer(self.prompts[-1]))
        return ids

    def _learn(self, ids: list[int], answer: str) -> None:
        """Makes the answer the likeliest one, by least squares over the hidden states of all answers so far."""
        import torch

        said = [*self.tokenizer(answer)["input_ids"], self.tokenizer.eos_token_id]
        with torch.no_grad():
            states = self.model.model(torch.tensor([ids + said])).last_hidden_state[0]
            self._states.append(states[len(ids) - 1 : -1].double())
            self._targets += said
            assert len(self._targets) <= self.WIDTH
            wanted = torch.nn.functional.one_hot(torch.tensor(self._targets), 258).double()
            readout = torch.linalg.lstsq(torch.cat(self._states), 10 * wanted).solution
            self.model.lm_head.weight.copy_(readout.T)


def _byte_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.decoder = decoders.ByteLevel()
    letters.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="<|im_end|>", model_max_length=8192)


@pytest.fixture(scope="module")
def only_coach() -> Iterator[Coach]:
    """One model for all tests, whose engine ends with them."""
    coach = Coach()
    yield coach
    coach.llm.close()


@pytest.fixture
def coach(only_coach: Coach) -> Coach:
    """A model that has learnt nothing yet, with a template that takes tools."""
    only_coach.begin(QWEN_TEMPLATE)
    return only_coach


def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


ADD = FunctionTool.from_defaults(add)


def memory() -> ChatMemoryBuffer:
    """Room for a chat; LlamaIndex's default one leaves its SQLite connection open."""
    return ChatMemoryBuffer.from_defaults(token_limit=4000)


def call(name: str, /, **arguments: Any) -> str:
    """A call as Qwen writes it."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def adds_first(prompt: str) -> str:
    """Calls the tool, and answers once it has the result."""
    return "It is 5." if "<tool_response>\n5\n" in prompt else call("add", a=2, b=3)


@pytest.mark.parametrize("streaming", [True, False])
async def test_function_agent_calls_a_tool_and_answers(coach: Coach, streaming: bool) -> None:
    """The model's call reaches the tool, the tool's result reaches the model, and the call is no text of the answer."""
    coach.answer = adds_first
    run = FunctionAgent(tools=[ADD], llm=coach.llm, system_prompt="Be brief.", streaming=streaming).run(
        QUESTION, memory=memory()
    )
    streamed = [event.delta async for event in run.stream_events() if isinstance(event, AgentStream)]
    result = await run
    assert str(result) == "It is 5."
    assert [(used.tool_name, used.tool_kwargs, used.tool_output.raw_output) for used in result.tool_calls] == [
        ("add", {"a": 2, "b": 3}, 5)
    ]
    first, second = coach.prompts
    assert "Be brief." in first
    assert '"name": "add"' in first
    assert call("add", a=2, b=3) in second
    assert second.startswith(first.removesuffix("<|im_start|>assistant\n"))
    if streaming:
        assert "".join(streamed).endswith("It is 5.")


async def test_function_agent_makes_two_calls_at_once(coach: Coach) -> None:
    """Both calls of one answer are made, and both results come back under the right call."""

    def answer(prompt: str) -> str:
        done = "<tool_response>\n5\n" in prompt and "<tool_response>\n9\n" in prompt
        return "5 and 9." if done else f"{call('add', a=2, b=3)}\n{call('add', a=4, b=5)}"

    coach.answer = answer
    result = await FunctionAgent(tools=[ADD], llm=coach.llm).run("What are 2 plus 3 and 4 plus 5?", memory=memory())
    assert str(result) == "5 and 9."
    assert sorted(used.tool_output.raw_output for used in result.tool_calls) == [5, 9]
    assert len({used.tool_id for used in result.tool_calls}) == 2


@pytest.mark.parametrize("said", ['<tool_call>{"name": "add", "arg', '<tool_call>{"name": "sub", "arguments": {}}'])
async def test_a_malformed_call_is_the_answer(coach: Coach, said: str) -> None:
    """Neither a call that breaks off nor one of an unknown tool is an exception or a call."""
    coach.answer = lambda prompt: said
    result = await FunctionAgent(tools=[ADD], llm=coach.llm).run(QUESTION, memory=memory())
    assert str(result) == said
    assert result.tool_calls == []


async def test_function_agent_remembers_its_calls(coach: Coach) -> None:
    """A second question with the same memory comes with the first one's call and result."""
    coach.answer = adds_first
    agent, remembered = FunctionAgent(tools=[ADD], llm=coach.llm), memory()
    await agent.run(QUESTION, memory=remembered)
    coach.answer = lambda prompt: "Yes, 5."
    assert str(await agent.run("Sure?", memory=remembered)) == "Yes, 5."
    assert call("add", a=2, b=3) in coach.prompts[-1]
    assert "It is 5.<|im_end|>" in coach.prompts[-1]


async def test_react_agent_reasons_in_text(coach: Coach) -> None:
    """Without a template that takes tools, the tool is described, called and answered in the chat."""
    coach.begin(LLAMA_TEMPLATE)
    action = 'Thought: I need a tool.\nAction: add\nAction Input: {"a": 2, "b": 3}'
    answer = "Thought: I can answer.\nAnswer: It is 5."
    coach.answer = lambda prompt: answer if "Observation: 5" in prompt else action
    result = await ReActAgent(tools=[ADD], llm=coach.llm).run(QUESTION, memory=memory())
    assert str(result) == "It is 5."
    assert [used.tool_output.raw_output for used in result.tool_calls] == [5]
    assert not coach.llm.metadata.is_function_calling_model


def test_predict_and_call(coach: Coach) -> None:
    """LlamaIndex's one-step tool use, in sync code."""
    coach.answer = adds_first
    assert str(coach.llm.predict_and_call([ADD], QUESTION)) == "5"


def test_simple_chat_engine_streams(coach: Coach) -> None:
    """The second question is asked with the first one and its answer before it."""
    engine = SimpleChatEngine.from_defaults(llm=coach.llm, memory=memory())
    coach.answer = lambda prompt: "Hello there, Ann." if "I am Ann." in prompt else "Who?"
    first = engine.stream_chat("I am Ann.")
    pieces = list(first.response_gen)
    assert "".join(pieces) == "Hello there, Ann."
    assert len(pieces) > 1
    coach.answer = lambda prompt: "Ann." if "Hello there, Ann." in prompt else "?"
    assert engine.chat("What is my name?").response == "Ann."
    assert [message.content for message in engine.chat_history] == [
        *("I am Ann.", "Hello there, Ann."),
        *("What is my name?", "Ann."),
    ]


class OneNote(BaseRetriever):
    """Finds the same note whatever is asked, and remembers what was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        self.asked.append(query_bundle.query_str)
        return [NodeWithScore(node=TextNode(text="The dog is called Rex."), score=1.0)]


def answers_from_the_note(prompt: str) -> str:
    """Rewrites a follow-up question, and answers from what was found."""
    if "Standalone question:" in prompt:
        return "How old is Rex?"
    return "Rex, by the note." if "The dog is called Rex." in prompt else "?"


def test_condensing_chat_engine_streams(coach: Coach) -> None:
    """A follow-up is rewritten by a completion, searched for, and answered by a stream from what was found."""
    coach.answer = answers_from_the_note
    notes = OneNote()
    engine = CondensePlusContextChatEngine.from_defaults(notes, llm=coach.llm, memory=memory())
    assert engine.chat("What is the dog called?").response == "Rex, by the note."
    answer = engine.stream_chat("How old is he?")
    assert "".join(answer.response_gen) == "Rex, by the note."
    assert notes.asked == ["What is the dog called?", "How old is Rex?"]
    assert answer.source_nodes[0].text == "The dog is called Rex."


async def test_condensing_chat_engine_streams_async(coach: Coach) -> None:
    """The same without blocking the event loop."""
    coach.answer = answers_from_the_note
    engine = CondensePlusContextChatEngine.from_defaults(OneNote(), llm=coach.llm, memory=memory())
    answer = await engine.astream_chat("What is the dog called?")
    assert "".join([piece async for piece in answer.async_response_gen()]) == "Rex, by the note."


class Dog(BaseModel):
    """A dog."""

    name: str
    age: int


REX = Dog(name="Rex", age=4)


@pytest.fixture(params=["tools", "text"])
def structured(request: pytest.FixtureRequest, coach: Coach) -> Coach:
    """A model that describes a dog: by calling it as a tool, or as JSON where the template takes no tools."""
    coach.begin(QWEN_TEMPLATE if request.param == "tools" else LLAMA_TEMPLATE)
    described = {"tools": call("Dog", name="Rex", age=4), "text": REX.model_dump_json()}
    coach.answer = lambda prompt: described[request.param]
    return coach


def test_structured_predict(structured: Coach) -> None:
    """The answer is an object of the wanted class."""
    assert structured.llm.structured_predict(Dog, PromptTemplate("Describe {who}."), who="Rex") == REX
    assert "Describe Rex." in structured.prompts[0]


def test_stream_structured_predict(structured: Coach) -> None:
    """A stream ends with the whole object."""
    objects = structured.llm.stream_structured_predict(Dog, PromptTemplate("Describe {who}."), who="Rex")
    assert list(objects)[-1] == REX


async def test_structured_predict_async(structured: Coach) -> None:
    """The same awaited."""
    assert await structured.llm.astructured_predict(Dog, PromptTemplate("Describe {who}."), who="Rex") == REX


def test_as_structured_llm(structured: Coach) -> None:
    """An LLM whose every answer is of the class, as query engines take it."""
    llm = structured.llm.as_structured_llm(Dog)
    response = llm.complete("Describe Rex.")
    assert response.raw == REX
    assert json.loads(response.text) == REX.model_dump()
