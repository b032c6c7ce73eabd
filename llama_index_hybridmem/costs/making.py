"""Makes the trace of a finished query from what was noted while it ran; knows no threads and no exporters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from llama_index_hybridmem.costs.bills.entry import PHASES
from llama_index_hybridmem.costs.exporting import Finished
from llama_index_hybridmem.costs.prices.book import PriceBook
from llama_index_hybridmem.costs.tokens.counting import Counter
from llama_index_hybridmem.costs.tokens.providers import provider_of
from llama_index_hybridmem.costs.tokens.usage import BYTES_A_TOKEN, Usage
from llama_index_hybridmem.costs.trace import ModelCall, QueryTrace, Stage
from llama_index_hybridmem.costs.tracking.roles import Role
from llama_index_hybridmem.costs.tracking.running import Call, Embedded, Running
from llama_index_hybridmem.errors import told
from llama_index_hybridmem.events import METADATA_KEY

_ERROR = 300  # characters kept of an error
_NAMELESS = (None, "", "unknown")  # what LlamaIndex's models are called that were given no name
_TAG = 200  # characters kept of a tag
_NEEDS_A_CALL = ("other", "llm", "embed", "ingest")  # else they are no work that anybody pays for
_AFTER = ("prompt", "llm")  # stages that come after the engine has judged
_FIELDS = ("tenant", "user", "run", "phase")
_FOREIGN = "llamaindex."  # LlamaIndex's own tags of workflows; they hold what users wrote


class Maker:
    """Makes traces.

    Args:
        prices: what calls cost.
        counter: counts tokens where they were not counted yet.
    """

    def __init__(self, prices: PriceBook, counter: Counter) -> None:
        self._prices, self._counter = prices, counter

    def __call__(self, query: Running) -> Finished | None:
        """Make the trace; None of what is no query: a text split, a model that was not asked after all."""
        real = [call for call in query.calls if not call.wraps]
        at = datetime.fromtimestamp(query.started, timezone.utc)
        asked = [(self._embedding(query, *item), None) for item in query.embeddings.items()]
        asked += [(self._call(query, call), call.prompt) for call in real]
        if query.role.kind in _NEEDS_A_CALL and not asked:
            return None
        asked.sort(key=lambda pair: pair[0].started_s)
        trace = QueryTrace(
            id=query.id,
            kind=query.role.kind,
            name=query.role.name,
            started=query.started,
            wall_s=query.ended - query.began,
            cpu_s=query.cpu_s,
            first_token_s=_first_token_s(query, real),
            status=query.status,
            error=None if query.error is None else _whole(told(query.error))[:_ERROR],
            **_routing(query),
            **_tags(query.tags, query.role),
            stages=_stages(query, real),
            calls=tuple(self._priced(call, at) for call, _ in asked),
            currency=self._prices.currency,
        )
        return Finished(
            trace=trace,
            question=_question(query.asked),
            response=query.outcome,
            text=query.outcome.text,
            prompts=tuple(prompt for _, prompt in asked),
        )

    def _call(self, query: Running, call: Call) -> ModelCall:
        return ModelCall(
            kind=call.kind,
            model=_model(call),
            provider=provider_of(call.class_name),
            adapter=_adapter(call),
            streamed=call.streamed,
            status=call.status,
            started_s=max(0.0, call.began - query.began),
            wall_s=call.ended - call.began,
            first_token_s=call.first - call.began if call.streamed and call.first is not None else None,
            busy_s=call.busy_s,
            error=call.error,
            usage=call.usage or (self._counter(call) if call.kind == "llm" else None),
        )

    def _embedding(self, query: Running, key: tuple[str, str], embedded: Embedded) -> ModelCall:
        """One entry for all texts of the query: nobody reports their tokens, so they are estimated."""
        class_name, model = key
        return ModelCall(
            kind="embedding",
            model=model or class_name or None,
            provider=provider_of(class_name),
            adapter=None,
            streamed=False,
            status="ok",
            started_s=max(0.0, embedded.began - query.began),
            wall_s=embedded.wall_s,
            first_token_s=None,
            busy_s=embedded.busy_s,
            count=embedded.count,
            usage=Usage(-(-embedded.bytes // BYTES_A_TOKEN), 0, source="estimated"),
        )

    def _priced(self, call: ModelCall, at: datetime) -> ModelCall:
        priced = self._prices.cost(call, at)
        return call if priced is None else replace(call, cost=priced.amount, price=priced.source)


def _stages(query: Running, real: Iterable[Call]) -> tuple[Stage, ...]:
    """All stages by their start: what spans and events told, the models, and what the engine timed itself."""
    for call in real:
        if call.kind == "llm":  # a reranker's time is that of its postprocessor's span
            query.spent("llm", call.began, call.ended - call.began, None)
    _add_the_engines_own(query)
    made = (Stage(name, max(0.0, began - query.began), *rest) for name, (began, *rest) in query.stages.items())
    return tuple(sorted(made, key=lambda stage: stage.started_s))


def _add_the_engines_own(query: Running) -> None:
    """The two stages that only our engine's timings tell of: it routes first, and judges what it has retrieved."""
    timings = _summary(query).get("timings")
    if not isinstance(timings, Mapping):
        return
    retrieved = [began + wall_s for name, (began, wall_s, *_) in query.stages.items() if name not in _AFTER]
    if "route" in timings and "route" not in query.stages:
        query.spent("route", query.began, timings["route"], None)
    if "judge" in timings:
        query.spent("judge", max(retrieved, default=query.began), timings["judge"], None)


def _first_token_s(query: Running, real: list[Call]) -> float | None:
    """When the reader saw the first token, or else when the last stream of a model gave it."""
    streamed = [call.first for call in real if call.streamed and call.first is not None]
    first = query.first if query.first is not None else streamed[-1] if streamed else None
    return None if first is None else first - query.began


def _summary(query: Running) -> Mapping[str, Any]:
    """What our own engine says of the query, in its response's metadata."""
    metadata = query.outcome.metadata
    own = metadata.get(METADATA_KEY) if isinstance(metadata, Mapping) else None
    return own if isinstance(own, Mapping) else {}


def _routing(query: Running) -> dict[str, Any]:
    own = _summary(query)
    return {
        "route": own.get("route") or query.route,
        "route_source": own.get("source") or query.route_source,
        "answer": own.get("answer") or query.answer,
        "degraded": tuple(_whole(str(reason)) for reason in own.get("degraded") or query.degraded),
    }


def _tags(tags: Mapping[str, Any], role: Role) -> dict[str, Any]:
    own = {str(name): str(value) for name, value in tags.items() if not str(name).startswith(_FOREIGN)}
    plain = {_whole(name): _whole(value)[:_TAG] for name, value in own.items()}
    fields = {name: plain.pop(name) for name in _FIELDS if name in plain and (name != "phase" or plain[name] in PHASES)}
    return {"phase": role.phase, **fields, "tags": plain}


def _model(call: Call) -> str | None:
    """The model's name, or else its class's."""
    named = call.model if call.model not in _NAMELESS else call.class_name
    return _whole(named) if named else None


def _adapter(call: Call) -> str | None:
    """Which LoRA adapter answered, with its version."""
    extra = getattr(call.last, "additional_kwargs", None)
    said = extra.get("adapter") if isinstance(extra, Mapping) else None
    if isinstance(said, str):
        return said
    if not isinstance(said, Mapping) or not said.get("name"):
        return None
    version = str(said.get("version") or str(said.get("sha256") or "")[:8])
    return version if "@" in version else f"{said['name']}@{version}".rstrip("@")


def _whole(text: str) -> str:
    """Replace half characters (lone surrogates) by "?": no file and no exporter can write them."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _question(asked: Any) -> str | None:
    text = getattr(asked, "query_str", asked)
    return text if isinstance(text, str) else None
