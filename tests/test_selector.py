"""Choosing a route: rules, fixed, policy, and LlamaIndex selectors with every kind of bad reply."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from llama_index.core.base.base_selector import BaseSelector, MultiSelection, SingleSelection
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.llms import CompletionResponse, CompletionResponseGen, CustomLLM, LLMMetadata
from llama_index.core.prompts import PromptTemplate
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.schema import QueryBundle
from llama_index.core.selectors import LLMMultiSelector, LLMSingleSelector
from llama_index.core.tools.types import ToolMetadata
from llama_index_instrumentation import get_dispatcher

from llama_index_hybridmem.errors import ConfigurationError, UnknownRouteError
from llama_index_hybridmem.events import RouteFallbackEvent, RouteSelectedEvent
from llama_index_hybridmem.routing.decision import Route, RouteDecision
from llama_index_hybridmem.routing.selector import Router
from llama_index_hybridmem.routing.table import RouteSettings, default_route, route_table

TABLE = route_table(["vector", "keyword", "graph"])
QUESTION = QueryBundle("How does NVM compare to DRAM?")


class _Says(CustomLLM):
    """A model that always gives one reply."""

    reply: str
    prompts: list[str] = []

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata()

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self.prompts.append(prompt)
        return CompletionResponse(text=self.reply)

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        raise NotImplementedError


class _Picks(BaseSelector):
    """A selector without any model."""

    def __init__(self, *places: int, error: Exception | None = None) -> None:
        self.places = places
        self.error = error

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts: PromptDictType) -> None:
        return

    def _select(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> MultiSelection:
        if self.error:
            raise self.error
        return MultiSelection(selections=[SingleSelection(index=place, reason="why") for place in self.places])

    async def _aselect(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> MultiSelection:
        return self._select(choices, query)


class _Recorder(BaseEventHandler):
    """Keeps our events."""

    seen: list[Any] = []

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        if isinstance(event, (RouteSelectedEvent, RouteFallbackEvent)):
            self.seen.append(event)


@pytest.fixture
def events() -> Iterator[list[Any]]:
    """The route events fired during the test."""
    root, recorder = get_dispatcher(), _Recorder(seen=[])
    root.add_event_handler(recorder)
    yield recorder.seen
    root.event_handlers.remove(recorder)


def test_rules_retrieve_unless_nothing_is_needed(events: list[Any]) -> None:
    """Without a chooser questions go to all memories and greetings to none, and an event tells which."""
    router = Router(TABLE)
    assert router.decide(QUESTION).route is Route.HYBRID
    greeting = router.decide(QueryBundle("Hi!"))
    assert (greeting.route, greeting.source, greeting.reason) == (Route.PARAMETRIC, "rules", "greeting or thanks")
    assert [(event.route, event.source) for event in events] == [("hybrid", "rules"), ("parametric", "rules")]


def test_a_fixed_route_is_always_taken() -> None:
    """A fixed route is taken even for a greeting; one without its store is refused."""
    assert Router(TABLE, route="graph").decide(QueryBundle("Hi")).route is Route.GRAPH
    with pytest.raises(UnknownRouteError, match="graph"):
        Router(route_table(["vector"]), route="graph")
    with pytest.raises(ConfigurationError, match="one of"):
        Router(TABLE, route="graph", policy=lambda question: "graph")


async def test_a_policy_is_any_callable() -> None:
    """A policy answers with a name, a member or a whole decision with scores, which is kept as it is."""
    assert Router(TABLE, policy=lambda question: "vector").decide(QUESTION).route is Route.VECTOR
    decision = RouteDecision(Route.GRAPH, "two names", "policy", {"graph": 0.8})
    assert await Router(TABLE, policy=lambda question: decision).adecide(QUESTION) is decision


@pytest.mark.parametrize("answer", ["nonsense", None, 3, "graph", ZeroDivisionError()])
def test_a_policy_that_fails_costs_no_answer(answer: Any, events: list[Any]) -> None:
    """An unknown route, one without a store or an exception takes the default route and says so."""

    def policy(question: str) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    decision = Router(route_table(["vector"]), policy=policy).decide(QUESTION)
    assert (decision.route, decision.source) == (Route.HYBRID, "fallback")
    assert [type(event) for event in events] == [RouteFallbackEvent, RouteSelectedEvent]


@pytest.mark.parametrize(
    ("reply", "route"),
    [
        ('[{"choice": 2, "reason": "a fact"}]', Route.VECTOR),
        ('```json\n[{"choice": 3, "reason": "linked"}]\n```', Route.GRAPH),
        ('<think>[1] or [2]?</think>[{"choice": 3, "reason": "linked"}]', Route.GRAPH),
        ('{"choice": "graph", "reason": "by name"}', Route.GRAPH),
        ('[{"choice": 1}]', Route.PARAMETRIC),
        ("Vector", Route.VECTOR),
        ("I choose option 4.", Route.HYBRID),
        ('[{"choice": 2, "reason": "a"}, {"choice": 3, "reason": "b"}]', Route.HYBRID),
    ],
)
async def test_a_clear_reply_is_understood(reply: str, route: Route, events: list[Any]) -> None:
    """Replies on which LlamaIndex's parser fails, but whose intent is clear, are followed, sync and async."""
    for selector in (LLMSingleSelector, LLMMultiSelector):
        router = Router(TABLE, selector=selector.from_defaults(llm=_Says(reply=reply)))
        assert router.decide(QUESTION).route is route
        assert (await router.adecide(QUESTION)).route is route
    assert not any(isinstance(event, RouteFallbackEvent) for event in events)


@pytest.mark.parametrize(
    "reply",
    [
        '[{"choice": 0, "reason": "counted from 0?"}]',
        '[{"choice": -1, "reason": "the last"}]',
        '[{"choice": 9, "reason": "out of range"}]',
        "Both the vector route and the graph route could work.",
        "",
        "[]",
        "null",
        "I am not able to decide.",
    ],
)
async def test_an_unclear_reply_takes_the_default_route(reply: str, events: list[Any]) -> None:
    """0, -1, out of range, prose and empty replies never run a route by accident; the event carries the reply."""
    router = Router(TABLE, selector=LLMSingleSelector.from_defaults(llm=_Says(reply=reply)))
    for decision in (router.decide(QUESTION), await router.adecide(QUESTION)):
        assert (decision.route, decision.source) == (Route.HYBRID, "fallback")
    fallbacks = [event for event in events if isinstance(event, RouteFallbackEvent)]
    assert len(fallbacks) == 2
    assert fallbacks[0].raw == reply


@pytest.mark.parametrize("selector", [_Picks(-1), _Picks(4), _Picks(), _Picks(0, error=ConnectionError("down"))])
async def test_any_selector_may_fail(selector: _Picks) -> None:
    """Selectors without a model that answer out of range, with nothing or with an exception fall back, too."""
    router = Router(TABLE, selector=selector)
    assert router.decide(QUESTION).source == (await router.adecide(QUESTION)).source == "fallback"
    assert Router(TABLE, selector=_Picks(1, 2)).decide(QUESTION).route is Route.HYBRID


def test_the_users_selector_stays_as_it_was() -> None:
    """Listening to the reply changes neither the selector nor its prompt, and its updated prompt is used."""
    llm = _Says(reply="2", prompts=[])
    selector = LLMSingleSelector.from_defaults(llm=llm)
    parser = selector._prompt.output_parser
    router = Router(TABLE, selector=selector)
    router.decide(QUESTION)
    assert selector._prompt.output_parser is parser
    selector.update_prompts({"prompt": PromptTemplate("Mine: {context_list} {query_str}", output_parser=parser)})
    router.decide(QUESTION)
    assert llm.prompts[-1].startswith("Mine: (1) parametric")


def test_the_table_holds_the_routes_whose_stores_are_there() -> None:
    """Default routes need one of their stores; a route's own settings are kept; what is not there is refused."""
    assert list(route_table(["vector"])) == [Route.PARAMETRIC, Route.VECTOR, Route.HYBRID]
    table = route_table(["keyword", "docs"], {"vector": RouteSettings(top_k=3)})
    assert table[Route.VECTOR].stores == ("keyword",)
    assert table[Route.VECTOR].top_k == 3
    assert table[Route.HYBRID].stores == ("keyword", "docs")
    assert default_route(route_table([])) is Route.PARAMETRIC
    with pytest.raises(UnknownRouteError, match="'web'.*vector"):
        route_table(["vector"], {Route.HYBRID: RouteSettings(stores=("vector", "web"))})
    with pytest.raises(UnknownRouteError, match="graph"):
        route_table(["vector"], {Route.GRAPH: RouteSettings(top_k=2)})
    with pytest.raises(ConfigurationError, match="no store"):
        route_table(["vector"], {Route.VECTOR: RouteSettings(stores=())})
    with pytest.raises(ConfigurationError, match="top_k"):
        route_table(["vector"], {Route.VECTOR: RouteSettings(top_k=0)})
