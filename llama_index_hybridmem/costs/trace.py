"""What happened to one query, in numbers: stages, model calls, status, cost; pure, knows nobody who measures them.

A trace is what the ring keeps, the exporters get and the reports read. `to_json` and `from_json` are the schema of the
JSON lines (docs/traces.md).
"""

from __future__ import annotations

import marshal
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from operator import attrgetter
from typing import Any, Literal, get_args

from llama_index_hybridmem.costs.tokens.usage import Source, Usage
from llama_index_hybridmem.errors import ConfigurationError

SCHEMA = 1
"""Of the JSON lines; a reader takes its own and older ones."""

Status = Literal["ok", "error", "cancelled", "abandoned", "never_consumed"]
"""How it ended: "abandoned" is a stream closed early, "never_consumed" one that nobody read."""

STATUSES: tuple[Status, ...] = get_args(Status)

FIXED_STAGES = frozenset({"route", "embed", "retrieve", "fuse", "rerank", "postprocess", "judge", "prompt", "llm"})
"""Every other stage is a store that was asked."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Time spent in one kind of work of a query.

    Stages that ran side by side overlap, so their sum may exceed the query's wall time.

    Attributes:
        name: ``route``, ``embed``, ``retrieve``, ``fuse``, ``rerank``, ``postprocess``, ``judge``, ``prompt``, ``llm``,
            or the store that was asked: ``vector``, ``keyword``, ``graph``, … ("retrieve" is a retriever's own time,
            or a retriever that is none of these).
        started_s: seconds from the query's start to the stage's first.
        wall_s: seconds, all of the stage's calls together, without those of stages inside it.
        cpu_s: seconds of CPU of the threads that did it; None where that cannot be known (on an event loop, on a
            server).
        count: calls.
    """

    name: str
    started_s: float
    wall_s: float
    cpu_s: float | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One real call of a model, counted once however many decorators saw it; of an embedding model, all of the query.

    Attributes:
        kind: ``llm``, ``embedding`` or ``rerank``.
        model: the model's name, None when unknown.
        provider: who is paid for it, as genai-prices names them (``openai``, ``anthropic``); ``local`` for a model in
            this process or on a machine of one's own; None when unknown.
        adapter: ``name@version`` of the LoRA adapter that answered, None without one.
        streamed: whether it came as a stream.
        status: how it ended.
        started_s: seconds from the query's start.
        wall_s: seconds it took; of a stream, to its end.
        first_token_s: seconds from the call to its first token; None when not streamed.
        busy_s: its share of the seconds in which this model was busy: while n calls run, each gets 1/n of the time.
        usage: token counts; None when nobody knows.
        cost: in the trace's currency; None when unpriced.
        price: where the price comes from, with its date; None when unpriced.
        error: the type of what was raised; None when nothing was.
        count: calls that this entry sums up: 1, but for embeddings.
    """

    kind: str
    model: str | None
    provider: str | None
    adapter: str | None
    streamed: bool
    status: Status
    started_s: float
    wall_s: float
    first_token_s: float | None
    busy_s: float
    usage: Usage | None
    cost: Decimal | None = None
    price: str | None = None
    error: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class QueryTrace:
    """One query, from its start to the end of its answer.

    Attributes:
        id: unique.
        kind: ``query``, ``chat``, ``agent``, ``retrieve``, ``llm``, ``embed``, ``ingest``, ``workflow`` or ``other``:
            what the outermost call was.
        name: that call, ``HybridRouterQueryEngine.query``.
        started: Unix seconds.
        wall_s: seconds to the end of the answer, the last token of a stream.
        cpu_s: seconds of CPU in this process as far as they can be told apart, None where they cannot.
        first_token_s: seconds to the first token that the user saw; None when not streamed.
        status: how it ended.
        error: "Type: message" of what was raised; None without.
        route: ``parametric``, ``vector``, ``graph``, ``hybrid``, or another router's choice; None without a router.
        route_source: who chose it.
        answer: ``generated``, ``open``, ``parametric``, ``sources`` or ``abstained``; None from other engines.
        degraded: a reason for every store that the answer had to do without.
        phase: what it was done for: ``query``, or the ledger it belongs to (``graph_build``, ``evaluation``, …).
        tenant: who asked, as tagged; None when not tagged, as the next two.
        user: see tenant.
        run: see tenant; an experiment's arm, a release.
        tags: further tags, as text.
        stages: in the order of their start.
        calls: of models, in the order of their start.
        currency: of all costs.
    """

    id: str
    kind: str
    name: str
    started: float
    wall_s: float
    cpu_s: float | None = None
    first_token_s: float | None = None
    status: Status = "ok"
    error: str | None = None
    route: str | None = None
    route_source: str | None = None
    answer: str | None = None
    degraded: tuple[str, ...] = ()
    phase: str = "query"
    tenant: str | None = None
    user: str | None = None
    run: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    calls: tuple[ModelCall, ...] = ()
    currency: str = "USD"

    @property
    def cost_known(self) -> Decimal:
        """The sum of the priced calls."""
        return sum((call.cost for call in self.calls if call.cost is not None), Decimal(0))

    @property
    def unpriced(self) -> int:
        """How many calls have no price."""
        return sum(call.cost is None for call in self.calls)

    @property
    def uncounted(self) -> int:
        """How many calls have no token counts."""
        return sum(call.usage is None for call in self.calls)

    @property
    def cost(self) -> Decimal | None:
        """What the models cost; None when a call is unpriced, 0 when none was made."""
        return None if self.unpriced else self.cost_known

    def stage_s(self, name: str) -> float | None:
        """Wall seconds of a stage; None when there was none."""
        return next((stage.wall_s for stage in self.stages if stage.name == name), None)

    def tokens(self) -> tuple[int, int]:
        """Input and output tokens of all language model calls, as far as they are known."""
        known = [call.usage for call in self.calls if call.kind == "llm" and call.usage is not None]
        return sum(usage.input for usage in known), sum(usage.output for usage in known)

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types; costs are texts, so that no digit is lost."""
        own = {name: getattr(self, name) for name in _PLAIN}
        return {
            "schema": SCHEMA,
            **own,
            "degraded": list(self.degraded),
            "tags": dict(self.tags),
            "stages": [{name: getattr(stage, name) for name in _STAGE} for stage in self.stages],
            "calls": [_call_json(call) for call in self.calls],
            "cost": _text(self.cost),
            "cost_known": _text(self.cost_known),
            "unpriced": self.unpriced,
            "uncounted": self.uncounted,
        }


_STAGE = tuple(Stage.__dataclass_fields__)
_USAGE = tuple(Usage.__dataclass_fields__)
_PLAIN_CALL = tuple(name for name in ModelCall.__dataclass_fields__ if name not in ("usage", "cost"))
_PLAIN = tuple(name for name in QueryTrace.__dataclass_fields__ if name not in ("degraded", "tags", "stages", "calls"))
_LATER = {"error": None, "count": 1}  # fields that the first files of schema 1 do not have
_of_stage, _of_usage = attrgetter(*_STAGE), attrgetter(*_USAGE)
_of_call, _of_trace = attrgetter(*_PLAIN_CALL), attrgetter(*_PLAIN)

_YEAR_9999 = 253_370_764_800  # in Unix seconds; a month after its last is beyond Python's calendar
_CHECKS: dict[str, tuple[str, Callable[[Any], Any]]] = {  # by a field's type: what its JSON is, and whether it is
    "str": ("a text", lambda it: isinstance(it, str)),
    "bool": ("true or false", lambda it: isinstance(it, bool)),
    "int": ("a whole number, 0 or more", lambda it: type(it) is int and 0 <= it < 2**63),
    "float": ("seconds, from 0 to the year 9999", lambda it: type(it) in (int, float) and 0 <= it < _YEAR_9999),
    "Decimal": ("an amount as text", lambda it: isinstance(it, str) and re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]+)?", it)),
    "Status": (f"one of {', '.join(STATUSES)}", lambda it: it in STATUSES),
    "Source": (f"one of {', '.join(get_args(Source))}", lambda it: it in get_args(Source)),
    "Usage": ("an object", lambda it: isinstance(it, dict)),
    "Mapping[str, str]": ("an object of texts", lambda it: isinstance(it, dict) and _are(str, [*it, *it.values()])),
    "tuple[str, ...]": ("a list of texts", lambda it: isinstance(it, list) and _are(str, it)),
    "tuple[Stage, ...]": ("a list of objects", lambda it: isinstance(it, list) and _are(dict, it)),
    "tuple[ModelCall, ...]": ("a list of objects", lambda it: isinstance(it, list) and _are(dict, it)),
}
_FORMS = {
    kind: [(each.name, "None" in each.type, *_CHECKS[each.type.removesuffix(" | None")]) for each in fields(kind)]
    for kind in (QueryTrace, Stage, ModelCall, Usage)
}


def from_json(row: Mapping[str, Any], place: str = "a trace") -> QueryTrace:
    """Read what `to_json` wrote.

    Args:
        row: the object of one line; fields that it does not know are left alone.
        place: names it in errors.

    Raises:
        ConfigurationError: it is no trace, or of a newer schema; names the field.
    """
    place = f"{place}: no trace"
    if "schema" not in row:
        raise ConfigurationError(f"{place}: lacks the field 'schema'")
    if row["schema"] not in range(1, SCHEMA + 1):
        raise ConfigurationError(f"{place}: schema {row['schema']!r:.40} is none of 1 to {SCHEMA}; update this package")
    own = _fields(QueryTrace, row, place)
    stages = [Stage(**_fields(Stage, each, place, f"stages[{n}].")) for n, each in enumerate(own["stages"])]
    calls = [_call(each, place, f"calls[{n}].") for n, each in enumerate(own["calls"])]
    return QueryTrace(**{**own, "degraded": tuple(own["degraded"]), "stages": tuple(stages), "calls": tuple(calls)})


def _call_json(call: ModelCall) -> dict[str, Any]:
    own = {name: getattr(call, name) for name in _PLAIN_CALL}
    usage = None if call.usage is None else {name: getattr(call.usage, name) for name in _USAGE}
    return {**own, "usage": usage, "cost": _text(call.cost)}


def _are(kind: type, values: Iterable[object]) -> bool:
    return all(isinstance(value, kind) for value in values)


def _fields(kind: Any, row: Mapping[str, Any], place: str, within: str = "") -> dict[str, Any]:
    """Take what a class has out of an object; refuse what would go on into sums, labels and pages as something else."""
    for name, may_be_null, expected, fits in _FORMS[kind]:
        if name not in row:
            raise ConfigurationError(f"{place}: lacks the field '{within}{name}'")
        if not ((value := row[name]) is None and may_be_null or fits(value)):
            raise ConfigurationError(f"{place}: {within}{name} is {value!r:.40}, not {expected}")
    return {name: row[name] for name, *_ in _FORMS[kind]}


def _call(row: Mapping[str, Any], place: str, within: str) -> ModelCall:
    own = _fields(ModelCall, {**_LATER, **row}, place, within)
    if own["usage"] is not None:
        own["usage"] = Usage(**_fields(Usage, own["usage"], place, f"{within}usage."))
    return ModelCall(**{**own, "cost": own["cost"] and Decimal(own["cost"])})


def pack(trace: QueryTrace) -> bytes:
    """Make a trace small, for the ring: a third of the objects' size. Read it in the same process only."""
    stages = [_of_stage(stage) for stage in trace.stages]
    calls = [(*_of_call(call), call.usage and _of_usage(call.usage), _text(call.cost)) for call in trace.calls]
    return marshal.dumps((_of_trace(trace), trace.degraded, dict(trace.tags), stages, calls))


def unpack(packed: bytes) -> QueryTrace:
    """Undo `pack`."""
    own, degraded, tags, stages, calls = marshal.loads(packed)
    return QueryTrace(
        **dict(zip(_PLAIN, own, strict=True)),
        degraded=degraded,
        tags=tags,
        stages=tuple(Stage(*stage) for stage in stages),
        calls=tuple(_unpacked_call(call) for call in calls),
    )


def _unpacked_call(packed: tuple[Any, ...]) -> ModelCall:
    *plain, usage, cost = packed
    return ModelCall(
        **dict(zip(_PLAIN_CALL, plain, strict=True)),
        usage=None if usage is None else Usage(*usage),
        cost=None if cost is None else Decimal(cost),
    )


def _text(cost: Decimal | None) -> str | None:
    return None if cost is None else f"{cost:f}"
