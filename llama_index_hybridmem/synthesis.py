"""From sections of context to an answer: language model, templates and response mode; knows no stores and no evidence.

A LlamaIndex synthesizer is built for each answer (15 µs), so that streaming, model and prompt are plain arguments and
concurrent queries share no state.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import LLM, ChatMessage, MessageRole
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.response_synthesizers import (
    Accumulate,
    BaseSynthesizer,
    Refine,
    ResponseMode,
    get_response_synthesizer,
)
from llama_index.core.settings import Settings
from pydantic import BaseModel

from .errors import ConfigurationError, NoLLMError, told
from .export.wording import Wording
from .prompts import OPEN_QA, PLAIN, TEXT_QA, Conversation
from .routing.decision import Route
from .routing.table import RouteTable
from .worded import ADAPTER, Worded, WordedSynthesizer, wording_in

WITHOUT_LLM = frozenset({ResponseMode.NO_TEXT, ResponseMode.CONTEXT_ONLY})
"""Modes that ask no language model."""

NO_ANSWER = frozenset({"", "None", "Empty Response"})
"""What LlamaIndex returns when the model said nothing, or raised a ValueError inside the refine loop."""

_OPTIONAL_TEMPLATES = (
    "refine_template",
    "summary_template",
    "chat_content_qa_template",
    "chat_content_refine_template",
)


class Synthesis:
    """Builds synthesizers.

    Args:
        llm: answers; None for `Settings.llm` at the time of the question.
        response_synthesizer: used for every retrieving route instead of building one.
        table: the routes, which may have a model and a prompt of their own.
        response_mode: as in LlamaIndex; "no_text" and "context_only" ask no model.
        templates: LlamaIndex's template arguments by name, None for the default; "text_qa_template" and
            "simple_template" default to ours.
        output_cls: the answer's pydantic class.
        use_async: for tree_summarize and accumulate.
        verbose: LlamaIndex's.
        multimodal: whether nodes go to the model with their images, without our sections.
        callback_manager: for the synthesizers that are built; never put on the model.
        wording: of the retrieving routes that have neither wording nor prompt of their own.

    Raises:
        ConfigurationError: unknown response mode, no wording, or a wording or a route's own model or prompt beside a
            response_synthesizer.
    """

    def __init__(
        self,
        llm: LLM | None = None,
        response_synthesizer: BaseSynthesizer | None = None,
        table: RouteTable | None = None,
        *,
        response_mode: ResponseMode | str = ResponseMode.COMPACT,
        templates: Mapping[str, BasePromptTemplate | None] | None = None,
        output_cls: type[BaseModel] | None = None,
        use_async: bool = False,
        verbose: bool = False,
        multimodal: bool = False,
        callback_manager: CallbackManager | None = None,
        wording: Worded | None = None,
    ) -> None:
        try:
            self.mode = ResponseMode(response_mode)
        except ValueError as error:
            known = ", ".join(mode.value for mode in ResponseMode)
            raise ConfigurationError(f"unknown response_mode {response_mode!r}; known: {known}") from error
        if response_synthesizer is not None and wording is not None:
            raise ConfigurationError("a wording does not go with a response_synthesizer; give a WordedSynthesizer")
        own = dict(table or {})
        if response_synthesizer is not None and any(
            each.llm or each.text_qa_template or each.wording for each in own.values()
        ):
            raise ConfigurationError("a route's own llm or prompt does not go with a given response_synthesizer")
        self.given = response_synthesizer
        self.output_cls = output_cls
        self.multimodal = multimodal
        self._llm = llm
        self._llms = {route: settings.llm for route, settings in own.items()}
        self._wordings: dict[Route, Worded | None] = {
            route: _checked(settings.wording or (None if settings.text_qa_template else wording))
            for route, settings in own.items()
            if route is not Route.PARAMETRIC
        }
        self._options: dict[str, Any] = {"use_async": use_async, "verbose": verbose, "multimodal": multimodal}
        self._callback_manager = callback_manager
        defaults = {"text_qa_template": TEXT_QA, "open_qa_template": OPEN_QA, "simple_template": PLAIN}
        of_routes = {_template_name(route): settings.text_qa_template for route, settings in own.items()}
        chosen = {
            name: template for name, template in {**(templates or {}), **of_routes}.items() if template is not None
        }
        self.templates: dict[str, BasePromptTemplate] = {**defaults, **chosen}

    @property
    def asks_llm(self) -> bool:
        """Whether answering takes a language model."""
        return self.given is not None or self.mode not in WITHOUT_LLM

    @property
    def separate(self) -> bool:
        """Whether each text goes to the model in a call of its own (refine and accumulate, not their compact forms)."""
        if self.given is not None:
            return type(self.given) in (Refine, Accumulate)
        return self.mode in (ResponseMode.REFINE, ResponseMode.ACCUMULATE)

    def in_conversation(self, earlier: Sequence[ChatMessage], system_prompt: str | None) -> Synthesis:
        """Return a copy that answers plain questions after earlier messages, and all of them under a system prompt.

        A wording has a system prompt of its own, and keeps it.
        """
        system = [ChatMessage(role=MessageRole.SYSTEM, content=system_prompt)] if system_prompt else []
        plain = ("simple_template", _template_name(Route.PARAMETRIC))
        view = copy.copy(self)
        view.templates = dict(self.templates)
        for name, template in self.templates.items():
            if before := [*system, *(earlier if name in plain else ())]:
                view.templates[name] = Conversation(before, template)
        return view

    def template_of(self, route: Route) -> BasePromptTemplate | None:
        """Return the route's own prompt, None when it has none."""
        return self.templates.get(_template_name(route))

    def llm(self, route: Route) -> LLM:
        """Return the model that answers on a route.

        Raises:
            NoLLMError: none was given and `Settings.llm` cannot be resolved.
        """
        chosen = self._llms.get(route) or self._llm or getattr(self.given, "_llm", None)
        if chosen is not None:
            return chosen
        try:
            return Settings.llm
        except (ImportError, ValueError) as error:  # the package of the default model is missing, or its API key
            raise NoLLMError(
                'no language model: give llm=, set Settings.llm, or use response_mode="no_text" to get sources and '
                f"facts without one ({told(error)})"
            ) from error

    def wording(self, route: Route, llm: LLM) -> Wording | None:
        """Return the wording in which a route asks a model; None where it uses a prompt.

        Raises:
            AdapterError: the wording is the adapter's, and that is unknown or refused.
        """
        if self.given is not None:
            return self.given.wording if isinstance(self.given, WordedSynthesizer) else None
        chosen = self._wordings.get(route)
        return wording_in(llm) if chosen == ADAPTER else chosen

    def in_words(self, llm: LLM, wording: Wording, streaming: bool) -> BaseSynthesizer:
        """Return a synthesizer that answers from nodes as a training set asks."""
        if self.given is not None:
            return _switched(self.given, streaming)
        streams = streaming and not self.structured(llm)
        return WordedSynthesizer(wording, llm, streaming=streams, callback_manager=self._callback_manager)

    def from_context(self, llm: LLM, template: BasePromptTemplate | None, streaming: bool) -> BaseSynthesizer:
        """Return a synthesizer that answers from texts.

        Args:
            llm: the model.
            template: instead of text_qa_template (and of summary_template in tree_summarize).
            streaming: whether it streams; structured answers never do.
        """
        if self.given is not None:
            return _switched(self.given, streaming)
        optional = {name: self.templates[name] for name in _OPTIONAL_TEMPLATES if name in self.templates}
        if template is not None:
            optional["summary_template"] = template
        return self._built(
            llm,
            response_mode=self.mode,
            text_qa_template=template or self.templates["text_qa_template"],
            simple_template=self.templates["simple_template"],
            output_cls=self.output_cls,
            streaming=streaming and not self.structured(llm),
            **optional,
            **self._options,
        )

    def from_question(self, llm: LLM, template: BasePromptTemplate | None, streaming: bool) -> BaseSynthesizer:
        """Return a synthesizer that hands the model the plain question; it needs no nodes."""
        structured = self.structured(llm)
        if self.output_cls is not None and not isinstance(llm, StructuredLLM):
            llm = llm.as_structured_llm(self.output_cls)
        return self._built(
            llm,
            response_mode=ResponseMode.GENERATION,
            simple_template=template or self.templates["simple_template"],
            streaming=streaming and not structured,
        )

    def structured(self, llm: LLM) -> bool:
        """Whether answers are pydantic objects."""
        return self.output_cls is not None or isinstance(llm, StructuredLLM)

    def _built(self, llm: LLM, **arguments: Any) -> BaseSynthesizer:
        # LlamaIndex puts the callback manager it is given on the model, where it silences the user's handlers: it is
        # given the model's own, and the synthesizer gets ours afterwards.
        synthesizer = get_response_synthesizer(llm=llm, callback_manager=llm.callback_manager, **arguments)
        if self._callback_manager is not None:
            synthesizer._callback_manager = self._callback_manager
        return synthesizer


def _checked(wording: Worded | None) -> Worded | None:
    if wording is None or isinstance(wording, Wording) or wording == ADAPTER:
        return wording
    raise ConfigurationError(f'a wording is a Wording, or "{ADAPTER}" for that of the adapter, not {wording!r:.60}')


def _template_name(route: Route) -> str:
    return f"{route}_text_qa_template"


def _switched(synthesizer: BaseSynthesizer, streaming: bool) -> BaseSynthesizer:
    """Return a user's synthesizer with streaming on or off, the user's own object untouched."""
    if synthesizer._streaming == streaming:
        return synthesizer
    switched = copy.copy(synthesizer)
    switched._streaming = streaming
    return switched
