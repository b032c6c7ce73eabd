"""Asking a model as it was trained on exported rows, and reading its answer back; knows no engine, store or route.

An adapter that learned from `export_dataset` has seen one form of prompt: the wording's system turn, then the user's
turn with passages and question. Any other prompt is one that it was not trained for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from llama_index.core.base.response.schema import RESPONSE_TYPE
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import LLM, ChatMessage, MessageRole
from llama_index.core.llms.llm import astream_chat_response_to_tokens, stream_chat_response_to_tokens
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.response_synthesizers import BaseSynthesizer
from llama_index.core.schema import NodeWithScore, QueryType
from llama_index.core.types import RESPONSE_TEXT_TYPE

from .export.layouts import prompt
from .export.record import encodable
from .export.targets import Parsed, parse_target
from .export.wording import Wording
from .noise.passages import to_passages
from .noise.scene import Passage

ADAPTER: Literal["adapter"] = "adapter"
Worded: TypeAlias = Wording | Literal["adapter"]
"""A wording, or the one that the answering adapter was trained with."""


def turns(question: str, passages: Sequence[Passage], wording: Wording) -> list[ChatMessage]:
    """Give the turns that a model reads: byte for byte those of a row of `export.formats` with the same passages.

    Args:
        question: as asked.
        passages: best first, see `noise.passages.to_passages`.
        wording: that of the export.
    """
    system = wording.system_prompt()
    said = [] if system is None else [ChatMessage(role=MessageRole.SYSTEM, content=encodable(system))]
    return [*said, ChatMessage(role=MessageRole.USER, content=encodable(prompt(question, passages, wording)))]


class WordedSynthesizer(BaseSynthesizer):
    """A LlamaIndex synthesizer that asks in the words of a training set, in one call, for any query engine.

    The model gets `turns`, and nothing else: no facts, no examples, no system prompt of the LLM (what the model itself
    adds to a chat is its own matter). All passages go into one prompt; where that is too long, retrieve fewer: an
    adapter has learned on as many as the export's ``top_k``. Without any passage the answer is the wording's
    abstention, and no model is asked. The text is what the model wrote; `reading` takes it apart.

    Args:
        wording: the one that the training set was exported with.
        llm: None for `Settings.llm`; asked through its chat methods.
        streaming: whether answers come as streams.
        callback_manager: default `Settings.callback_manager`; never put on the llm.
    """

    def __init__(
        self,
        wording: Wording,
        llm: LLM | None = None,
        *,
        streaming: bool = False,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        super().__init__(llm=llm, streaming=streaming, empty_response=wording.abstain[0])
        self.wording = wording
        if callback_manager is not None:
            self._callback_manager = callback_manager  # its setter would silence the user's handlers on the model

    def synthesize(
        self,
        query: QueryType,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **response_kwargs: Any,
    ) -> RESPONSE_TYPE:
        """Answer from nodes: LlamaIndex would hand on their texts only, and a passage has metadata of its own."""
        passages = to_passages(nodes)
        return super().synthesize(query, nodes, additional_source_nodes, passages=passages, **response_kwargs)

    async def asynthesize(
        self,
        query: QueryType,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **response_kwargs: Any,
    ) -> RESPONSE_TYPE:
        """As `synthesize`."""
        passages = to_passages(nodes)
        return await super().asynthesize(query, nodes, additional_source_nodes, passages=passages, **response_kwargs)

    def get_response(self, query_str: str, text_chunks: Sequence[str], **response_kwargs: Any) -> RESPONSE_TEXT_TYPE:
        """Ask the model; texts that come without their nodes are passages without metadata."""
        messages = self._turns(query_str, text_chunks, response_kwargs)
        if self._streaming:
            return stream_chat_response_to_tokens(self._llm.stream_chat(messages))
        return self._llm.chat(messages).message.content or ""

    async def aget_response(
        self, query_str: str, text_chunks: Sequence[str], **response_kwargs: Any
    ) -> RESPONSE_TEXT_TYPE:
        """As `get_response`."""
        messages = self._turns(query_str, text_chunks, response_kwargs)
        if self._streaming:
            return await astream_chat_response_to_tokens(await self._llm.astream_chat(messages))
        return (await self._llm.achat(messages)).message.content or ""

    def _turns(self, question: str, texts: Sequence[str], given: Mapping[str, Any]) -> list[ChatMessage]:
        alone = [Passage(str(number), text) for number, text in enumerate(texts, start=1)]
        return turns(question, given.get("passages", alone), self.wording)

    def _get_prompts(self) -> PromptDictType:
        return {}  # a wording is no template: what was trained on is not to be changed

    def _update_prompts(self, prompts: PromptDictType) -> None:
        """There is nothing to change."""


def reading(text: str, wording: Wording) -> dict[str, Any]:
    """Read an answer as the wording has it, in plain JSON types.

    Returns:
        ``answer`` (without citations, quotes and reason), ``abstained``, ``cited`` (numbers of passages, the first
        being 1), ``quotes`` (``source`` and ``text``) and ``reason``. Text of another form is all answer.
    """
    parsed: Parsed = parse_target(text, wording)
    return {
        "answer": parsed.answer,
        "abstained": parsed.abstained,
        "cited": list(parsed.cited),
        "quotes": [{"source": each.source, "text": each.text} for each in parsed.quotes],
        "reason": parsed.reason,
    }


def citing(text: str, wording: Wording) -> str:
    """Give the part of an answer whose citations are claims; a reason also names what it rejects."""
    return text.rpartition("\nAnswer:")[2].strip() if wording.target == "reasoned" else text


def wording_of(version: Any) -> Wording | None:
    """Give the wording that an adapter was trained with.

    Args:
        version: an `AdapterVersion`, or its lineage: what `Wording.to_json` gave stands there under ``wording``.

    Returns:
        None where the lineage names none.

    Raises:
        ConfigurationError: what stands there is no wording.
    """
    lineage = version if isinstance(version, Mapping) else version.lineage
    found = lineage.get("wording")
    place = "a lineage" if version is lineage else f"the lineage of {version.id}"
    return None if found is None else Wording.from_json(found, f"{place}: wording")


def wording_in(llm: LLM) -> Wording | None:
    """Give the wording of the adapter that answers here; None for the base, and for LLMs that know of no adapters.

    Raises:
        AdapterError: the adapter is unknown, or refused, and may not be left out.
        ConfigurationError: see `wording_of`.
    """
    version = llm.answering() if hasattr(llm, "answering") else None
    return None if version is None else wording_of(version)
