"""Traces as three tidy pandas tables: queries, stages, calls; knows nothing of where they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from llama_index_hybridmem.costs.trace import ModelCall, QueryTrace
from llama_index_hybridmem.extras import require

if TYPE_CHECKING:
    import pandas

TEXT, NUMBER, COUNT, FLAG, TIME = "string", "float64", "Int64", "bool", "datetime64[ns, UTC]"

QUERIES = {
    "trace": TEXT,
    "kind": TEXT,
    "name": TEXT,
    "started": TIME,
    "wall_s": NUMBER,
    "cpu_s": NUMBER,
    "first_token_s": NUMBER,
    "status": TEXT,
    "error": TEXT,
    "route": TEXT,
    "route_source": TEXT,
    "answer": TEXT,
    "degraded": COUNT,
    "degraded_reasons": TEXT,
    "phase": TEXT,
    "tenant": TEXT,
    "user": TEXT,
    "run": TEXT,
    "input_tokens": COUNT,
    "output_tokens": COUNT,
    "cost": NUMBER,
    "cost_text": TEXT,
    "cost_known": NUMBER,
    "cost_known_text": TEXT,
    "currency": TEXT,
    "unpriced": COUNT,
    "uncounted": COUNT,
}
STAGES = {"trace": TEXT, "stage": TEXT, "started_s": NUMBER, "wall_s": NUMBER, "cpu_s": NUMBER, "count": COUNT}
CALLS = {
    "trace": TEXT,
    "call": COUNT,
    "kind": TEXT,
    "model": TEXT,
    "provider": TEXT,
    "adapter": TEXT,
    "streamed": FLAG,
    "status": TEXT,
    "error": TEXT,
    "started_s": NUMBER,
    "wall_s": NUMBER,
    "first_token_s": NUMBER,
    "busy_s": NUMBER,
    "count": COUNT,
    "input": COUNT,
    "output": COUNT,
    "cached_read": COUNT,
    "cached_write": COUNT,
    "reasoning": COUNT,
    "source": TEXT,
    "cost": NUMBER,
    "cost_text": TEXT,
    "currency": TEXT,
    "price": TEXT,
}
_USAGE = ("input", "output", "cached_read", "cached_write", "reasoning", "source")
_CALL = (
    *("kind", "model", "provider", "adapter", "streamed", "status", "error"),
    *("started_s", "wall_s", "first_token_s", "busy_s", "count"),
)
_QUERY = (
    *("kind", "name", "wall_s", "cpu_s", "first_token_s", "status", "error", "route", "route_source", "answer"),
    *("phase", "tenant", "user", "run", "currency", "unpriced", "uncounted"),
)


@dataclass(frozen=True)
class Frames:
    """Traces as tables; the column ``trace`` joins them.

    What is absent in a trace is NaN or NA, never 0. Each cost is there twice: as a float to compute with, and exact, as
    text (``cost_text``).

    Attributes:
        queries: a row for each trace; a column ``tag_NAME`` for each further tag. ``input_tokens`` and
            ``output_tokens`` are those of the language models, NA when one of its calls was not counted.
        stages: a row for each stage of a trace.
        calls: a row for each model call; ``call`` counts them within the trace, from 0.
    """

    queries: pandas.DataFrame
    stages: pandas.DataFrame
    calls: pandas.DataFrame


def frames(traces: Iterable[QueryTrace]) -> Frames:
    """Make tables of traces.

    Args:
        traces: from `CostLatencyHandler.traces` or `read_traces`; none gives empty tables with the same columns.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    require("frames", "report", "pandas")
    queries: list[dict[str, Any]] = []
    stages: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    tags: dict[str, str] = {}
    for trace in traces:
        tags.update((f"tag_{tag}", TEXT) for tag in trace.tags)
        queries.append(_query(trace))
        for stage in trace.stages:
            own = {name: getattr(stage, name) for name in STAGES if name not in ("trace", "stage")}
            stages.append({"trace": trace.id, "stage": stage.name, **own})
        calls += [_call(trace, number, call) for number, call in enumerate(trace.calls)]
    return Frames(_table(queries, {**QUERIES, **tags}), _table(stages, STAGES), _table(calls, CALLS))


def _query(trace: QueryTrace) -> dict[str, Any]:
    is_counted = all(call.usage is not None for call in trace.calls if call.kind == "llm")
    tokens = trace.tokens() if is_counted else (None, None)
    return {
        "trace": trace.id,
        "started": round(trace.started * 1e9),
        **{name: getattr(trace, name) for name in _QUERY},
        "degraded": len(trace.degraded),
        "degraded_reasons": "; ".join(trace.degraded) or None,
        "input_tokens": tokens[0],
        "output_tokens": tokens[1],
        **_money("cost", trace.cost),
        **_money("cost_known", trace.cost_known),
        **{f"tag_{tag}": value for tag, value in trace.tags.items()},
    }


def _call(trace: QueryTrace, number: int, call: ModelCall) -> dict[str, Any]:
    return {
        "trace": trace.id,
        "call": number,
        **{name: getattr(call, name) for name in _CALL},
        **{name: getattr(call.usage, name, None) for name in _USAGE},
        **_money("cost", call.cost),
        "currency": trace.currency,
        "price": call.price,
    }


def _money(name: str, amount: Decimal | None) -> dict[str, float | str | None]:
    return {name: None if amount is None else float(amount), f"{name}_text": None if amount is None else str(amount)}


def _table(rows: Sequence[Mapping[str, Any]], types: Mapping[str, str]) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame({name: _column([row.get(name) for row in rows], kind) for name, kind in types.items()})


def _column(values: list[Any], kind: str) -> pandas.Series:
    import pandas

    if kind == TIME:
        return pandas.to_datetime(pandas.Series(values, dtype="int64"), unit="ns", utc=True)
    if kind == TEXT:  # half a character cannot be kept by every kind of column
        values = [value and value.encode("utf-8", "replace").decode() for value in values]
    return pandas.Series(values, dtype=kind)
