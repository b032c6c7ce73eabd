"""Routes, their record, and reading one out of a model's reply."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index_hybridmem.errors import UnknownRouteError
from llama_index_hybridmem.routing.decision import Route, RouteDecision, combine, read_choice

ALL = [Route.PARAMETRIC, Route.VECTOR, Route.GRAPH, Route.HYBRID]


@pytest.mark.parametrize(
    ("reply", "route"),
    [
        ('[{"choice": 2, "reason": "facts"}]', Route.VECTOR),
        ('```json\n{"choice": "3"}\n```', Route.GRAPH),
        ('<think>maybe [1] or graph</think>\n[{"choice": 4, "reason": "both"}]', Route.HYBRID),
        ('{"choice": "graph", "reason": "relations"}', Route.GRAPH),
        ("{choice: 1}", Route.PARAMETRIC),
        ('{"choice": 2, "rea', Route.VECTOR),
        ("3", Route.GRAPH),
        ("(3)", Route.GRAPH),
        ("Vector.", Route.VECTOR),
        ("I would take option 2 here.", Route.VECTOR),
        ("The graph route fits best.", Route.GRAPH),
        ('[{"choice": 2, "reason": "a"}, {"choice": 3, "reason": "b"}]', Route.HYBRID),
        ('[{"choice": 1}, {"choice": 2}]', Route.VECTOR),
    ],
)
def test_clear_replies_are_understood(reply: str, route: Route) -> None:
    """JSON and its near misses, thoughts, fences, names, bare numbers and plain prose are read."""
    assert read_choice(reply, ALL) is route


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "0",
        "-1",
        "7",
        '[{"choice": 0, "reason": "none"}]',
        '[{"choice": -1, "reason": "last"}]',
        '[{"choice": 5, "reason": "?"}]',
        '[{"choice": 2}, {"choice": 9}]',
        "I cannot decide between the 4 of them.",
        "Either the vector route or the graph route.",
        "<think>option 2",
        "[]",
        "This question is about graph theory and vector spaces.",
    ],
)
def test_unclear_replies_are_not_guessed_at(reply: str) -> None:
    """0, -1, out of range, empty, undecided or unrelated replies give no route."""
    assert read_choice(reply, ALL) is None


def test_numbers_count_what_was_shown() -> None:
    """Numbers refer to the routes that were offered, and a name that was not offered is no choice."""
    offered = [Route.VECTOR, Route.HYBRID]
    assert read_choice("2", offered) is Route.HYBRID
    assert read_choice("graph", offered) is None


def test_several_routes_become_one() -> None:
    """Retrieving beats not retrieving; two retrieving routes are hybrid; what is not there is not chosen."""
    assert combine([Route.PARAMETRIC, Route.GRAPH], ALL) is Route.GRAPH
    assert combine([Route.VECTOR, Route.GRAPH, Route.GRAPH], ALL) is Route.HYBRID
    assert combine([], ALL) is None
    assert combine([Route.VECTOR, Route.GRAPH], [Route.VECTOR, Route.GRAPH]) is None


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=200))
def test_any_reply_gives_a_route_or_none(reply: str) -> None:
    """No reply makes reading fail."""
    assert read_choice(reply, ALL) in (*ALL, None)


def test_a_decision_is_json() -> None:
    """A decision survives json, with absent scores as null and not as zeros."""
    decision = RouteDecision(Route.GRAPH, "relations", "policy", {"graph": 0.7})
    assert json.loads(json.dumps(decision.to_json())) == {
        "route": "graph",
        "scores": {"graph": 0.7},
        "reason": "relations",
        "source": "policy",
    }
    assert RouteDecision(Route.GRAPH, "r", "fixed").to_json()["scores"] is None
    assert RouteDecision("graph", "r", "policy").route is Route.GRAPH  # type: ignore[arg-type]


def test_route_names_are_read() -> None:
    """A route is given by name or member; an unknown name lists the known ones."""
    assert Route.of(" Graph ") is Route.GRAPH
    assert str(Route.of(Route.HYBRID)) == "hybrid"
    with pytest.raises(UnknownRouteError, match="parametric, vector, graph, hybrid"):
        Route.of("both")
    with pytest.raises(UnknownRouteError):
        Route.of(3)  # type: ignore[arg-type]
