"""What a retrieval did, collected for whoever asked for it; knows nothing of how the retrieval works."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class BranchReport:
    """How one store did.

    Attributes:
        store: its name.
        status: ``ok``, ``failed``, ``late`` or ``skipped``.
        latency_s: seconds from its start to its end or abandonment, without the embedding of the query.
        node_count: chunks it contributed.
        error: what went wrong; None when ``ok``.
        started_s: seconds from the start of the retrieval to its own.
    """

    store: str
    status: str
    latency_s: float
    node_count: int
    error: str | None
    started_s: float = 0.0


@dataclass
class RetrievalReport:
    """What the retrievals inside one ``retrieval_report()`` did; several add up.

    Attributes:
        outcomes: one per store and retrieval.
        degraded: a reason for every store or encoder that is missing from an answer.
        embed_latency_s: seconds the query waited for its embedding; None when none was made.
        fuse_latency_s: seconds spent merging.
    """

    outcomes: list[BranchReport] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    embed_latency_s: float | None = None
    fuse_latency_s: float = 0.0

    def add_branches(self, outcomes: Sequence[BranchReport], degraded: Sequence[str], embed_s: Sequence[float]) -> None:
        """Add one retrieval's branches.

        Args:
            outcomes: one per store.
            degraded: the reasons why some are missing.
            embed_s: seconds of each embedding model; they ran side by side, so the longest counts.
        """
        self.outcomes.extend(outcomes)
        self.degraded.extend(degraded)
        if embed_s:
            self.embed_latency_s = (self.embed_latency_s or 0.0) + max(embed_s)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return asdict(self)


_REPORT: ContextVar[RetrievalReport | None] = ContextVar("hybridmem_retrieval_report", default=None)


@contextmanager
def retrieval_report() -> Iterator[RetrievalReport]:
    """Collect what ``HybridRetriever`` does inside the ``with`` block, sync or async, in this task or thread only.

    Yields:
        The report; filled when the block's retrievals end, also when they raise.
    """
    report = RetrievalReport()
    token = _REPORT.set(report)
    try:
        yield report
    finally:
        _REPORT.reset(token)


def open_report() -> RetrievalReport:
    """Return the report being collected here, or one that nobody reads."""
    return _REPORT.get() or RetrievalReport()


def hidden_report() -> None:
    """End the collection in the present context: a hybrid retriever used as a store keeps its details to itself."""
    _REPORT.set(None)
