"""Who chooses the route: rules, a fixed route, a LlamaIndex selector or any callable; knows no store and no prompt.

Whatever the chooser says or raises, a route comes out: a reply whose intent is clear is read, any other takes the
default route and is reported with an event. A badly chosen route costs some quality, none would cost the answer.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

from llama_index.core.base.base_selector import BaseSelector, SelectorResult
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.schema import QueryBundle
from llama_index.core.tools.types import ToolMetadata
from llama_index.core.types import BaseOutputParser
from llama_index_instrumentation import get_dispatcher

from ..errors import ConfigurationError, UnknownRouteError, told
from ..events import RouteFallbackEvent, RouteSelectedEvent
from .decision import Route, RouteDecision, combine, read_choice
from .need import retrieval_need
from .table import RouteTable, default_route

logger = logging.getLogger(__name__)
dispatcher = get_dispatcher(__name__)

Policy = Callable[[str], "Route | str | RouteDecision"]
"""Question to route: the seam for learned routing. Called on the event loop too, so it should take milliseconds."""

_RAW_LENGTH = 500
"""Characters of an unusable reply that go into the event: enough to see what went wrong."""


class Router:
    """Chooses a route for each question and tells the instrumentation.

    Args:
        table: the routes there are.
        route: always this route.
        selector: a LlamaIndex selector; it is shown the routes' descriptions as choices.
        policy: a callable from the question to a route.
            Without any of the three: the default route, unless plain rules see that nothing need be retrieved.

    Raises:
        ConfigurationError: more than one of route, selector and policy.
        UnknownRouteError: the fixed route is not in the table.
    """

    def __init__(
        self,
        table: RouteTable,
        *,
        route: Route | str | None = None,
        selector: BaseSelector | None = None,
        policy: Policy | None = None,
    ) -> None:
        if sum(chooser is not None for chooser in (route, selector, policy)) > 1:
            raise ConfigurationError("give one of route, selector and policy, not several")
        self.table = table
        self.selector = selector
        self.policy = policy
        self.default = default_route(table)
        self.fixed = None if route is None else Route.of(route)
        if self.fixed is not None and self.fixed not in table:
            raise UnknownRouteError(self.fixed.value, [known.value for known in table])

    def over(self, table: RouteTable) -> Router:
        """Return a router that chooses in the same way from another table."""
        return Router(table, route=self.fixed, selector=self.selector, policy=self.policy)

    def settled(self, decision: RouteDecision) -> Router:
        """Return a router that has decided already."""
        return Router(self.table, policy=lambda question: decision)

    def at_once(self, question: str) -> RouteDecision | None:
        """The decision of fixed route or rules; None where a selector or policy must be asked. Fires no event."""
        if self.fixed is not None:
            return RouteDecision(self.fixed, "the route is fixed", "fixed")
        if self.selector is not None or self.policy is not None:
            return None
        need = retrieval_need(question)
        return RouteDecision(self.default if need.needed else Route.PARAMETRIC, need.reason, "rules")

    def decide(self, query: QueryBundle) -> RouteDecision:
        """Choose a route; fires RouteSelectedEvent, and RouteFallbackEvent first when the chooser was of no use."""
        asking = self._begin(query.query_str)
        if isinstance(asking, RouteDecision):
            return _announced(asking)
        try:
            result = asking.selector.select(asking.choices, query)
        except Exception as error:  # noqa: BLE001 - whatever a selector raises must not cost the answer
            return _announced(asking.read_failure(error))
        return _announced(asking.read(result))

    async def adecide(self, query: QueryBundle) -> RouteDecision:
        """Choose a route, awaiting the selector; otherwise as `decide`."""
        asking = self._begin(query.query_str)
        if isinstance(asking, RouteDecision):
            return _announced(asking)
        try:
            result = await asking.selector.aselect(asking.choices, query)
        except Exception as error:  # noqa: BLE001 - whatever a selector raises must not cost the answer
            return _announced(asking.read_failure(error))
        return _announced(asking.read(result))

    def _begin(self, question: str) -> RouteDecision | _Asking:
        decision = self.at_once(question)
        if decision is not None:
            return decision
        if self.selector is not None:
            return _Asking(self.table, self.default, self.selector)
        return self._by_policy(question)

    def _by_policy(self, question: str) -> RouteDecision:
        assert self.policy is not None
        try:
            chosen = self.policy(question)
            decision = chosen if isinstance(chosen, RouteDecision) else RouteDecision(Route.of(chosen), "", "policy")
        except Exception as error:  # noqa: BLE001 - whatever a policy raises must not cost the answer
            logger.warning("the routing policy failed", exc_info=True)
            return _fallback(self.default, f"the policy failed: {told(error)}")
        if decision.route not in self.table:
            return _fallback(self.default, f"the policy chose {decision.route}, for which there is no store")
        return decision


class _Asking:
    """One question to a selector: what it is shown, what its model was heard to say, how its answer is read."""

    def __init__(self, table: RouteTable, default: Route, selector: BaseSelector) -> None:
        self._routes = list(table)
        self._default = default
        self.choices = [
            ToolMetadata(name=route.value, description=settings.description or route.value)
            for route, settings in table.items()
        ]
        self._listener = _Listener()
        self.selector = self._listener.attached_to(selector)

    def read(self, result: SelectorResult) -> RouteDecision:
        """The decision in a selector's result; several choices become one route."""
        places = [selection.index for selection in result.selections]
        if places and all(0 <= place < len(self._routes) for place in places):
            route = combine([self._routes[place] for place in places], self._routes)
            if route is not None:
                reasons = "; ".join(filter(None, (selection.reason for selection in result.selections)))
                return RouteDecision(route, reasons, "selector")
        return self._read_reply(f"the selector chose {places or 'nothing'}, counted from 0, of {len(self._routes)}")

    def read_failure(self, error: Exception) -> RouteDecision:
        """The decision when a selector raised: what its model said may be clear all the same."""
        return self._read_reply(f"the selector failed: {told(error)}")

    def _read_reply(self, problem: str) -> RouteDecision:
        heard = self._listener.heard
        route = read_choice(heard, self._routes) if heard else None
        if route is None:
            return _fallback(self._default, problem, heard)
        return RouteDecision(route, "read from the selector's reply", "selector")


class _Listener(BaseOutputParser):
    """Stands in front of a selector's output parser and remembers what the model said."""

    def __init__(self) -> None:
        self.heard: str | None = None
        self._parser: BaseOutputParser | None = None

    def attached_to(self, selector: BaseSelector) -> BaseSelector:
        """A copy of the selector that parses through this listener; selectors without an output parser stay."""
        prompt = selector.get_prompts().get("prompt")  # LlamaIndex hands out a copy
        if prompt is None or prompt.output_parser is None:
            return selector
        self._parser, prompt.output_parser = prompt.output_parser, self
        listened_to = copy.copy(selector)
        listened_to.update_prompts({"prompt": prompt})
        return listened_to

    def parse(self, output: str) -> Any:
        self.heard = output
        return self._parser.parse(output) if self._parser else output

    def format(self, query: str) -> str:
        return self._parser.format(query) if self._parser else query

    def format_messages(self, messages: list[ChatMessage]) -> list[ChatMessage]:
        return self._parser.format_messages(messages) if self._parser else messages


def _fallback(route: Route, reason: str, raw: str | None = None) -> RouteDecision:
    dispatcher.event(RouteFallbackEvent(route=route.value, reason=reason, raw=raw and raw[:_RAW_LENGTH]))
    return RouteDecision(route, reason, "fallback")


def _announced(decision: RouteDecision) -> RouteDecision:
    recorded = decision.to_json()
    dispatcher.event(RouteSelectedEvent.model_validate(recorded))
    return decision
