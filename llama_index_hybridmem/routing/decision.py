"""The four routes, the record of a choice between them, and how to read one out of a model's reply; knows no model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from ..errors import UnknownRouteError


class Route(str, Enum):
    """Which memories answer: none, semantic and keyword, relational, or all of them."""

    PARAMETRIC = "parametric"
    VECTOR = "vector"
    GRAPH = "graph"
    HYBRID = "hybrid"

    def __str__(self) -> str:
        """The route's plain name, on every Python version."""
        return self.value

    @classmethod
    def of(cls, value: Route | str) -> Route:
        """Read a route's name.

        Raises:
            UnknownRouteError: there is no such route.
        """
        try:
            return cls(value.strip().lower())
        except (ValueError, AttributeError) as error:
            raise UnknownRouteError(str(value), [route.value for route in cls]) from error


@dataclass(frozen=True)
class RouteDecision:
    """Which route a question takes, and why.

    Attributes:
        route: the route taken.
        reason: one readable phrase.
        source: who decided: "rules", "fixed", "selector", "policy" or "fallback".
        scores: route name to score where the decider gives scores, else None; never made up.
    """

    route: Route
    reason: str
    source: str
    scores: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        """Take a route's name for the route."""
        object.__setattr__(self, "route", Route.of(self.route))

    def to_json(self) -> dict[str, object]:
        """The decision in plain JSON types."""
        scores = None if self.scores is None else {str(name): float(score) for name, score in self.scores.items()}
        return {"route": self.route.value, "scores": scores, "reason": self.reason, "source": self.source}


def combine(routes: Iterable[Route], available: Sequence[Route]) -> Route | None:
    """Turn several chosen routes into one.

    Retrieving beats not retrieving, and two different retrieving routes are the hybrid one.

    Args:
        routes: what was chosen, in any order.
        available: what there is to choose from.

    Returns:
        None when nothing was chosen, or what was chosen is not available.
    """
    chosen = set(routes)
    retrieving = chosen - {Route.PARAMETRIC}
    if len(retrieving) > 1:
        chosen = {Route.HYBRID}
    elif retrieving:
        chosen = retrieving
    route = next(iter(chosen), None)
    return route if route in available else None


_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|$)", re.DOTALL | re.IGNORECASE)
_FIELD = re.compile(
    r"[\"']?\b(?:choice|choices|route|selection|selected|option|answer|index|name)\b[\"']?\s*[:=]\s*[\[\"'`*(]*(-?\w+)",
    re.IGNORECASE,
)
_NUMBER_IN_PROSE = re.compile(
    r"^\W*?(-?\d+)\W*$|\((\d+)\)|\b(?:option|choice|answer|number|route|select|choose|pick)(?:\s+is)?\s+#?(\d+)\b",
    re.IGNORECASE,
)
_ROUTE_NAMES = "|".join(route.value for route in Route)
_NAME_IN_PROSE = re.compile(
    rf"^\W*({_ROUTE_NAMES})\W*$|[\"'`*]({_ROUTE_NAMES})[\"'`*]|\b({_ROUTE_NAMES})\s+(?:route|option|choice)\b"
    rf"|\b(?:route|option|choice|answer|choose|select|pick|use)(?:\s+(?:is|the))*\s+({_ROUTE_NAMES})\b",
    re.IGNORECASE,
)


def read_choice(reply: str, available: Sequence[Route]) -> Route | None:
    """Read a route out of a model's reply where the intent is clear.

    Understands JSON and its near misses, fences, thoughts before the answer, a bare number or name, and prose that
    says "option 2" or "the graph route".

    Args:
        reply: what the model wrote.
        available: the choices it was shown, numbered from 1.

    Returns:
        None when nothing, something unknown (0, -1, out of range) or more than one reading is there.
    """
    text = _THOUGHT.sub(" ", reply).strip()
    fields: list[str] = _FIELD.findall(text)
    if fields:
        read = [_choice(value, available) for value in fields]
        return None if None in read else combine([route for route in read if route], available)
    numbers = {_choice(next(filter(None, groups)), available) for groups in _NUMBER_IN_PROSE.findall(text)}
    names = {_choice(next(filter(None, groups)), available) for groups in _NAME_IN_PROSE.findall(text)}
    readings = numbers | names
    return readings.pop() if len(readings) == 1 else None


def _choice(value: str, available: Sequence[Route]) -> Route | None:
    if re.fullmatch(r"-?\d+", value):
        position = int(value) - 1
        return available[position] if 0 <= position < len(available) else None
    return next((route for route in available if route.value == value.lower()), None)
