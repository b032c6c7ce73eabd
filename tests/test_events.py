"""Tests of our own instrumentation events."""

from __future__ import annotations

import json

import pytest
from llama_index.core.instrumentation.events.base import BaseEvent

from llama_index_hybridmem.events import (
    AbstainEvent,
    BranchEndEvent,
    EvidenceEvent,
    FusionEndEvent,
    RouteFallbackEvent,
    RouteSelectedEvent,
)


@pytest.mark.parametrize(
    "event",
    [
        RouteSelectedEvent(route="hybrid", scores={"hybrid": 0.9}, reason="asks for facts", source="rules"),
        RouteFallbackEvent(route="hybrid", reason="choice 7 of 3", raw="7"),
        BranchEndEvent(store="graph", status="late", latency_s=2.0, node_count=0, error="BranchTimeoutError: late"),
        FusionEndEvent(mode="rrf", node_count=10, latency_s=0.001),
        EvidenceEvent(sufficient=False, reason="no text names it", coverage=0.2, missing=["FeRAM"]),
        AbstainEvent(reason="no text names it"),
    ],
)
def test_every_event_is_plain_json_and_names_its_class(event: BaseEvent) -> None:
    """Any exporter can write an event as it stands, and tell the kinds apart."""
    written = json.loads(json.dumps(event.model_dump(mode="json")))
    assert written["class_name"] == type(event).__name__
    assert all(written[name] == getattr(event, name) for name in type(event).__annotations__)
