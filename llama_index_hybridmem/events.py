"""What hybrid memory tells LlamaIndex's instrumentation beyond LlamaIndex's own events; knows nothing of who listens.

Every field is plain JSON, so that any exporter can write an event as it stands: ``event.model_dump(mode="json")``.
"""

from __future__ import annotations

from llama_index.core.instrumentation.events import BaseEvent
from pydantic import Field

METADATA_KEY = "hybridmem"
"""Where the metadata of a returned node or response says what hybrid memory did."""


class RouteSelectedEvent(BaseEvent):
    """A route was chosen for a query.

    Attributes:
        route: ``parametric``, ``vector``, ``graph`` or ``hybrid``.
        scores: route to score where the chooser has scores.
        reason: why, in one sentence.
        source: who chose: a rule, a selector, the caller.
    """

    route: str
    scores: dict[str, float] | None = None
    reason: str
    source: str

    @classmethod
    def class_name(cls) -> str:
        """Return the class name."""
        return "RouteSelectedEvent"


class RouteFallbackEvent(BaseEvent):
    """A chooser's answer could not be used, and the default route was taken.

    Attributes:
        route: the route taken.
        reason: what was wrong with the answer.
        raw: the answer as it came, as text.
    """

    route: str
    reason: str
    raw: str | None = None

    @classmethod
    def class_name(cls) -> str:
        """Return the class name."""
        return "RouteFallbackEvent"


class BranchEndEvent(BaseEvent):
    """One store's branch of a retrieval ended.

    Attributes:
        store: the store's name.
        status: ``ok``, ``failed``, ``late`` or ``skipped``.
        latency_s: seconds from its start to its end or abandonment.
        node_count: nodes it contributed, after its filter and top k.
        error: what went wrong; None when ``ok``.
        started_s: seconds from the start of the retrieval to its own.
    """

    store: str
    status: str
    latency_s: float
    node_count: int
    error: str | None = None
    started_s: float = 0.0

    @classmethod
    def class_name(cls) -> str:
        """Return the class name."""
        return "BranchEndEvent"


class FusionEndEvent(BaseEvent):
    """The branches were merged into one list.

    Attributes:
        mode: ``rrf`` or ``score``.
        node_count: nodes handed on.
        latency_s: seconds the merge took.
        degraded: one reason per store that is missing from the merge.
    """

    mode: str
    node_count: int
    latency_s: float
    degraded: list[str] = Field(default_factory=list)

    @classmethod
    def class_name(cls) -> str:
        """Return the class name."""
        return "FusionEndEvent"


class EvidenceEvent(BaseEvent):
    """The retrieved texts were judged as evidence for an answer.

    Attributes:
        sufficient: whether they carry one.
        reason: why, in one sentence.
        coverage: share of the question's terms that the texts cover, 0 … 1; None when not measured.
        missing: question terms found in no text.
    """

    sufficient: bool
    reason: str
    coverage: float | None = None
    missing: list[str] = Field(default_factory=list)

    @classmethod
    def class_name(cls) -> str:
        """Return the class name."""
        return "EvidenceEvent"


class AbstainEvent(BaseEvent):
    """No answer was given because the sources do not hold one.

    Attributes:
        reason: the evidence that was missing.
        coverage: share of the question's terms that the texts cover, 0 … 1; None when not measured.
        missing: question terms found in no text.
    """

    reason: str
    coverage: float | None = None
    missing: list[str] = Field(default_factory=list)

    @classmethod
    def class_name(cls) -> str:
        """Return the class name."""
        return "AbstainEvent"


class AdapterFallbackEvent(BaseEvent):
    """The base model answered in the place of an adapter that could not, as its policy allows.

    Attributes:
        adapter: the adapter asked for.
        model: the base's name.
        reason: why the adapter could not answer.
    """

    adapter: str
    model: str
    reason: str

    @classmethod
    def class_name(cls) -> str:
        """Return the class name."""
        return "AdapterFallbackEvent"


class NoiseInjectedEvent(BaseEvent):
    """Retrieved nodes were damaged on purpose.

    Attributes:
        mode: ``stress`` or ``export``.
        kinds: of noise that were made, each once.
        answerable: whether the question still has its support; None where that is unknown.
    """

    mode: str
    kinds: list[str]
    answerable: bool | None = None

    @classmethod
    def class_name(cls) -> str:
        """Return the class name."""
        return "NoiseInjectedEvent"
