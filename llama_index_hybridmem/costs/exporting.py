"""What a finished query is handed on as, and to whom; knows no destination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from llama_index_hybridmem.costs.trace import QueryTrace


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished query with what the trace leaves out, and its repr does.

    Attributes:
        trace: the numbers.
        question: as asked; None where the outermost call has none.
        response: the `running.Outcome`: ``source_nodes`` (those of an agent's tools, too) and ``metadata``.
        text: the answer; None where there is none.
        prompts: what each call of ``trace.calls`` was asked: a text, chat messages, or None.
        context: what this exporter's own `context` returned when the query began, on the thread that asked.
    """

    trace: QueryTrace
    question: str | None = field(default=None, repr=False)
    response: Any = field(default=None, repr=False)
    text: str | None = field(default=None, repr=False)
    prompts: Sequence[Any] = field(default=(), repr=False)
    context: Any = field(default=None, repr=False)


def without_message(reason: str) -> str:
    """Leave out what may quote the question: of "graph: TimeoutError: no answer to …" the store and the type stay."""
    store, _, told = reason.partition(": ")
    kind = told.partition(":")[0]
    return f"{store}: {kind}" if kind.isidentifier() else store


class Exporter(Protocol):
    """Takes finished queries, one at a time, on a thread of the handler's own.

    What it raises is counted and logged once (`CostLatencyHandler.health`), and reaches neither the query nor another
    exporter.
    """

    name: str

    def context(self) -> Any:
        """Note something when a query begins, on the thread that asks; None, and quick, as a rule."""

    def export(self, finished: Finished) -> None:
        """Take one."""

    def close(self) -> None:
        """Write what is left; twice is fine."""
