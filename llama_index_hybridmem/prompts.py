"""The prompts, and the labelled sections that stand for {context_str}: examples, facts, passages; knows no engine.

Sections come as texts for a LlamaIndex synthesizer, so they work with every template that has {context_str}.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate, PromptTemplate, PromptType
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore
from pydantic import PrivateAttr

from .answers import best_sentences, number_sources
from .events import METADATA_KEY

TEXT_QA = PromptTemplate(
    "Here is what the sources hold.\n"
    "---------------------\n"
    "{context_str}\n"
    "---------------------\n"
    "Answer the question from these sources alone, without other knowledge. "
    "If they do not hold the answer, say that they do not.\n"
    "Question: {query_str}\n"
    "Answer: ",
    prompt_type=PromptType.QUESTION_ANSWER,
)
OPEN_QA = PromptTemplate(
    "Here is what the sources hold; it may not be about the question.\n"
    "---------------------\n"
    "{context_str}\n"
    "---------------------\n"
    "Answer the question. Where the sources do not help, answer from your own knowledge and say that you do.\n"
    "Question: {query_str}\n"
    "Answer: ",
    prompt_type=PromptType.QUESTION_ANSWER,
)
PLAIN = PromptTemplate("{query_str}", prompt_type=PromptType.SIMPLE_INPUT)

CONDENSE = PromptTemplate(
    "Rewrite the last message of this conversation as one question that can be understood without the conversation. "
    "Write the question and nothing else.\n"
    "Conversation:\n"
    "{chat_history}\n"
    "Last message: {question}\n"
    "Question: "
)

ABSTAINED = "The sources do not seem to answer this question."
NOTHING_TO_SHOW = "This needs no documents, and no language model was asked (the response mode works without one)."
BEST_SENTENCES = 3
"""With three sentences, 93 % of 317 questions on SQuAD paragraphs had their answer among them; with one, 80 %."""


class Conversation(ChatPromptTemplate):
    """A prompt with messages in front of it that are sent as they are.

    A plain ChatPromptTemplate would also fill in a "{query_str}" that someone wrote in the chat.

    Args:
        earlier: the messages before the prompt.
        prompt: what follows them.
    """

    _earlier: list[ChatMessage] = PrivateAttr(default_factory=list)
    _prompt: BasePromptTemplate = PrivateAttr()

    def __init__(self, earlier: Sequence[ChatMessage], prompt: BasePromptTemplate) -> None:
        super().__init__(message_templates=[], output_parser=prompt.output_parser)
        self.template_vars = prompt.template_vars
        self._earlier, self._prompt = list(earlier), prompt

    def partial_format(self, **values: Any) -> Conversation:
        """Return a copy with some of the prompt's variables filled in."""
        return Conversation(self._earlier, self._prompt.partial_format(**values))

    def format_messages(self, llm: BaseLLM | None = None, **values: Any) -> list[ChatMessage]:
        """Return the earlier messages, then the prompt's."""
        return [*self._earlier, *self._prompt.format_messages(llm=llm, **values)]

    def get_template(self, llm: BaseLLM | None = None) -> str:
        """Return the prompt's own text."""
        return self._prompt.get_template(llm=llm)


@dataclass(frozen=True)
class Context:
    """What a synthesizer is given to answer from.

    Attributes:
        sources: the passages as an answer cites them, source n being `sources[n - 1]`.
        bodies: the same without the metadata (titles, sections) in front.
        facts: statements with the number of the passage they came with.
        texts: the sections, for {context_str}.
    """

    sources: tuple[str, ...]
    bodies: tuple[str, ...]
    facts: tuple[tuple[str, int], ...]
    texts: tuple[str, ...]


def context(
    nodes: Sequence[NodeWithScore],
    *,
    numbered: bool = False,
    examples: Sequence[tuple[str, str]] = (),
    separate: bool = False,
) -> Context:
    """Lay nodes out in labelled sections.

    Args:
        nodes: best first; facts are taken from `metadata["hybridmem"]["facts"]`.
        numbered: whether passages carry their numbers and the label asks to cite them.
        examples: worked (question, answer) pairs.
        separate: whether the synthesizer sends each text in a call of its own; each then carries all it needs.
    """
    sources = tuple(passage(each.node) for each in nodes)
    facts = tuple((fact, number) for number, each in enumerate(nodes, start=1) for fact in facts_of(each.node))
    shown = number_sources(sources) if numbered else list(sources)
    worked = [_examples(examples)] if examples else []
    if separate:
        texts = [
            "\n\n".join([*worked, *_facts([each for each in facts if each[1] == number], numbered), text])
            for number, text in enumerate(shown, start=1)
        ]
    else:
        label = "Passages (cite them by their numbers, like [1]):" if numbered else "Passages:"
        texts = [*worked, *_facts(facts, numbered), *([f"{label}\n{shown[0]}", *shown[1:]] if shown else [])]
    return Context(sources, tuple(each.node.get_content() for each in nodes), facts, tuple(texts))


def passage(node: BaseNode) -> str:
    """A node's text with the metadata that its owner shows to language models, ours left aside."""
    if METADATA_KEY in node.metadata and METADATA_KEY not in node.excluded_llm_metadata_keys:
        own = {key: value for key, value in node.metadata.items() if key != METADATA_KEY}
        node = node.model_copy(update={"metadata": own})
    return node.get_content(metadata_mode=MetadataMode.LLM).strip()


def facts_of(node: BaseNode) -> list[str]:
    """The statements that came with a node."""
    noted = node.metadata.get(METADATA_KEY)
    return [str(fact) for fact in noted.get("facts") or ()] if isinstance(noted, dict) else []


def _facts(facts: Sequence[tuple[str, int]], numbered: bool) -> list[str]:
    """The facts section, each statement once; none without facts."""
    lines: dict[str, list[int]] = {}
    for fact, number in facts:
        lines.setdefault(fact, []).append(number)
    if not lines:
        return []
    marks = {fact: "".join(f" [{number}]" for number in numbers) if numbered else "" for fact, numbers in lines.items()}
    return ["\n".join(["Facts from the graph:", *(f"- {fact}{mark}" for fact, mark in marks.items())])]


def _examples(examples: Sequence[tuple[str, str]]) -> str:
    worked = (f"Question: {question}\nAnswer: {answer}" for question, answer in examples)
    return "\n\n".join(["Examples of how to answer, on other sources:", *worked])


def without_model(question: str, laid_out: Context) -> str:
    """Say what the sources hold in their own words: facts and best sentences, with the numbers of their passages."""
    picked = best_sentences(question, laid_out.bodies, BEST_SENTENCES)
    parts = ["No language model was asked; this is what the sources say."]
    parts += _facts(laid_out.facts, numbered=True)
    if picked:
        parts.append("\n".join(["Best sentences:", *(f"- {each.text} [{each.source}]" for each in picked)]))
    return "\n\n".join(parts)
