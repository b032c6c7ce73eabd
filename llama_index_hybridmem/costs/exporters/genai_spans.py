"""What a trace looks like as spans in the words of OpenTelemetry's GenAI conventions; pure, knows no tracer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llama_index_hybridmem.costs.exporters import genai_names as names
from llama_index_hybridmem.costs.exporting import Finished, without_message
from llama_index_hybridmem.costs.tokens.usage import Usage
from llama_index_hybridmem.costs.trace import FIXED_STAGES, ModelCall, QueryTrace, Stage

Attributes = dict[str, Any]

_OPERATIONS = {"llm": names.CHAT, "embedding": names.EMBEDDINGS, "rerank": names.RERANK}
_OF_QUERY = ("kind", "name", "status", "route", "route_source", "answer", "phase", "tenant", "user", "run", "cpu_s")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is told beyond numbers that were counted.

    Attributes:
        content: questions, prompts, answers, messages of errors.
        costs: what calls and queries cost.
        estimated: token counts that were estimated from a text.
    """

    content: bool = False
    costs: bool = False
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """What becomes a span below the query's: a model call, or a store that was asked.

    Attributes:
        title: of the span.
        started_s: seconds from the query's start.
        wall_s: seconds it took.
        is_remote: whether it may have left this process.
        measured: attributes of the span and of the metrics.
        described: attributes of the span alone.
        tokens: to report, by direction.
    """

    title: str
    started_s: float
    wall_s: float
    is_remote: bool
    measured: Attributes
    described: Attributes
    tokens: tuple[tuple[str, int], ...] = ()

    @property
    def error_type(self) -> str | None:
        """The class of what went wrong; None when nothing did."""
        return self.measured.get(names.ERROR_TYPE)


def of_query(finished: Finished, wanted: Wanted) -> Attributes:
    """Give the attributes of the query's own span."""
    trace = finished.trace
    attributes = {
        names.OPERATION: names.WORKFLOW,
        "hybrid_rag.trace_id": trace.id,
        **{f"hybrid_rag.{field}": getattr(trace, field) for field in _OF_QUERY},
        "hybrid_rag.first_token_s": trace.first_token_s,
        "hybrid_rag.degraded": _missing(trace, wanted) or None,
        "hybrid_rag.uncounted_calls": trace.uncounted,
        **{f"hybrid_rag.stage.{stage.name}.wall_s": stage.wall_s for stage in trace.stages},
        **{f"hybrid_rag.tag.{tag}": value for tag, value in trace.tags.items()},
    }
    if wanted.costs:
        attributes |= _money(trace)
    if wanted.content:
        attributes |= _texts(finished)
    return _present(attributes)


def operations(finished: Finished, wanted: Wanted) -> Iterator[Operation]:
    """Give what becomes a span of its own: stores first, then model calls."""
    trace = finished.trace
    yield from _of_stages(trace)
    for number, call in enumerate(trace.calls):
        prompt = finished.prompts[number] if wanted.content and number < len(finished.prompts) else None
        yield _of_call(call, prompt, trace.currency, wanted)


def _of_stages(trace: QueryTrace) -> Iterator[Operation]:
    """Give the stores that were asked, or the retriever as a whole, and the reranking that no model call tells of."""
    stores = [stage for stage in trace.stages if stage.name not in FIXED_STAGES]
    for stage in stores:
        yield _of_stage(stage, names.RETRIEVAL, {names.DATA_SOURCE: stage.name}, f"{names.RETRIEVAL} {stage.name}")
    for stage in trace.stages:
        if stage.name == "retrieve" and not stores:
            yield _of_stage(stage, names.RETRIEVAL, {}, names.RETRIEVAL)
        elif stage.name == "rerank" and all(call.kind != "rerank" for call in trace.calls):
            yield _of_stage(stage, names.RERANK, {}, names.RERANK)


def _of_stage(stage: Stage, operation: str, described: Attributes, title: str) -> Operation:
    measured = {names.OPERATION: operation}
    is_remote = operation == names.RETRIEVAL  # the conventions have it so; rerankers without a call of a model run here
    return Operation(sendable(title), stage.started_s, stage.wall_s, is_remote, measured, _present(described))


def _of_call(call: ModelCall, prompt: Any, currency: str, wanted: Wanted) -> Operation:
    operation = _OPERATIONS.get(call.kind, call.kind)
    provider = names.UNKNOWN_PROVIDER if call.provider is None else call.provider
    measured = {
        names.OPERATION: operation,
        names.PROVIDER: names.PROVIDERS.get(provider, provider),
        names.MODEL: call.model,
        names.ERROR_TYPE: (call.error or names.ERROR_OTHER) if call.status == "error" else None,
    }
    is_told = call.usage is not None and (wanted.estimated or call.usage.source != "estimated")
    usage = call.usage if is_told else None
    described = {
        names.STREAM: call.streamed or None,
        names.FIRST_CHUNK_S: call.first_token_s,
        "hybrid_rag.status": call.status,
        "hybrid_rag.adapter": call.adapter,
        "hybrid_rag.busy_s": call.busy_s,
        "hybrid_rag.usage.source": None if call.usage is None else call.usage.source,
        **_of_usage(usage, operation),
    }
    if operation == names.CHAT:
        described |= _only_chats(call, prompt, currency, wanted)
    title = sendable(f"{operation} {call.model}" if call.model else operation)
    is_remote = call.provider != "local"
    tokens = _counts(usage, operation)
    return Operation(title, call.started_s, call.wall_s, is_remote, _present(measured), _present(described), tokens)


def _only_chats(call: ModelCall, prompt: Any, currency: str, wanted: Wanted) -> Attributes:
    attributes: Attributes = {names.INPUT_MESSAGES: None if prompt is None else _messages(prompt)}
    if wanted.costs and call.cost is not None:
        attributes[names.COST_AMOUNT] = float(call.cost)
        attributes[names.COST_CURRENCY] = currency
        attributes[names.COST_SOURCE] = names.COST_LOCAL
    return attributes


def _of_usage(usage: Usage | None, operation: str) -> Attributes:
    """Give the counts; a part that is 0 is left out, as it may also not have been told."""
    if usage is None:
        return {}
    return {
        names.INPUT_TOKENS: usage.input,
        names.OUTPUT_TOKENS: usage.output if operation == names.CHAT else None,
        names.CACHE_READ: usage.cached_read or None,
        names.CACHE_WRITE: usage.cached_write or None,
        names.REASONING: usage.reasoning or None,
    }


def _counts(usage: Usage | None, operation: str) -> tuple[tuple[str, int], ...]:
    if usage is None:
        return ()
    written = ((names.TOKEN_OUTPUT, usage.output),) if operation == names.CHAT else ()
    return ((names.TOKEN_INPUT, usage.input), *written)


def _money(trace: QueryTrace) -> Attributes:
    return {
        "hybrid_rag.cost.amount": None if trace.cost is None else float(trace.cost),
        "hybrid_rag.cost.known": float(trace.cost_known),
        "hybrid_rag.cost.currency": trace.currency,
        "hybrid_rag.cost.unpriced_calls": trace.unpriced,
    }


def _missing(trace: QueryTrace, wanted: Wanted) -> list[str]:
    return list(trace.degraded) if wanted.content else [without_message(reason) for reason in trace.degraded]


def _texts(finished: Finished) -> Attributes:
    reason = "stop" if finished.trace.status == "ok" else finished.trace.status
    text = finished.text
    return {
        names.INPUT_MESSAGES: None if finished.question is None else _messages(finished.question),
        names.OUTPUT_MESSAGES: None if text is None else json.dumps([_said("assistant", text, finish_reason=reason)]),
    }


def _messages(prompt: Any) -> str:
    """Give a prompt, a text or LlamaIndex's chat messages, as the conventions' JSON."""
    if isinstance(prompt, str):
        return json.dumps([_said("user", prompt)])
    return json.dumps([_said(message.role.value, message.content or "") for message in prompt])


def _said(role: str, text: str, **more: str) -> Attributes:
    return {"role": role, "parts": [{"type": "text", "content": text}], **more}


def _present(attributes: Mapping[str, Any]) -> Attributes:
    return {name: sendable(value) for name, value in attributes.items() if value is not None}


def sendable(value: Any) -> Any:
    """Replace halves of characters: one would cost the batch of spans that it is sent with."""
    if isinstance(value, list):
        return [sendable(each) for each in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
