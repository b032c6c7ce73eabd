"""What a LlamaIndex span is to a query's time: a stage, a model call, nothing of its own; pure, imports no LlamaIndex.

LlamaIndex names a span ``Class.method-<uuid>`` and hands over the instance. Both are read by name, the classes of the
instance included, so that no integration has to be installed to be recognised.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

_UUID = 37  # "-" and the 36 characters of a UUID

JOBS = "run_jobs"
"""The function of LlamaIndex under which extractors ask their models."""

LLM_METHODS = frozenset(
    f"{how}{stream}{what}" for how in ("", "a") for stream in ("", "stream_") for what in ("chat", "complete")
)
"""The eight methods of an LLM that reach the model."""

_WRITERS = ("write_response_to_history", "awrite_response_to_history")
_KINDS = {
    "BaseWorkflowAgent": "agent",
    "AgentWorkflow": "agent",
    "Workflow": "workflow",
    "BaseChatEngine": "chat",
    "BaseQueryEngine": "query",
    "BaseRetriever": "retrieve",
    "BaseSynthesizer": "query",
    "BaseLLM": "llm",
    "BaseEmbedding": "embed",
    "IngestionPipeline": "ingest",
    "TransformComponent": "ingest",
}
_STAGES = {
    "BaseEmbedding": "embed",
    "BaseSelector": "route",
    "BaseSynthesizer": "prompt",
}
_STORES = (
    ("keyword", ("BM25", "Keyword", "TFIDF")),
    ("graph", ("PGRetriever", "KnowledgeGraph", "KGTable", "Cypher", "Graph", "LLMSynonym", "VectorContext")),
    ("vector", ("VectorIndex", "VectorRetriever", "SummaryIndexEmbedding")),
)
"""Parts of retrievers' class names, and what they search; any other retriever is "retrieve"."""


@dataclass(frozen=True, slots=True)
class Role:
    """What a span is.

    Attributes:
        name: the span's, without its UUID.
        kind: of a query that begins with it (`trace.QueryTrace.kind`).
        stage: its stage; None where its time is that of the stage around it.
        calls_model: whether it is one of an LLM's eight methods.
        writes_chat: whether it reads a chat engine's stream, in a thread or task of its own, after the engine returned.
        fans_out: whether it asks stores side by side, and tells of each by an event.
        on_loop: whether it may share its thread with other tasks, so that the thread's CPU is not its own.
        plain: none of the three before that.
        names_base: whether the model says what its base is called, which is one under many adapters.
        phase: of a query that begins with it and is not tagged (`trace.QueryTrace.phase`).
    """

    name: str
    kind: str
    stage: str | None
    calls_model: bool
    writes_chat: bool
    fans_out: bool
    on_loop: bool
    plain: bool = True
    names_base: bool = False
    phase: str = "query"


def span_name(id_: str) -> str:
    """A span's name without its UUID."""
    return id_[:-_UUID] if len(id_) > _UUID and id_[-_UUID] == "-" else id_


def role_of(name: str, instance: object) -> Role:
    """Read a span's role from its name and the classes of its instance."""
    method = name.rpartition(".")[2]
    classes = [each.__name__ for each in type(instance).__mro__]
    calls_model = "BaseLLM" in classes and method in LLM_METHODS
    writes_chat, fans_out = method in _WRITERS, "HybridRetriever" in classes
    kind = next((kind for kind in (_KINDS.get(each) for each in classes) if kind), "other")
    return Role(
        name=name,
        kind=kind,
        stage=None if calls_model or fans_out else _stage(classes),
        calls_model=calls_model,
        writes_chat=writes_chat,
        fans_out=fans_out,
        on_loop=method.lstrip("_").startswith("a") or kind in ("agent", "workflow"),
        plain=not (calls_model or writes_chat or fans_out),
        names_base=calls_model and hasattr(instance, "base_model"),
        phase=_phase(kind, classes[0], method),
    )


def role_of_jobs(role: Role, jobs: object) -> Role:
    """What a span of LlamaIndex's `run_jobs` is, told from the first job: extractors have no span of their own."""
    owner = getattr(jobs[0], "__qualname__", "") if isinstance(jobs, list) and jobs else ""
    if "Extractor" not in owner:
        return role
    return replace(role, name=owner, kind="ingest", phase=_phase("ingest", owner, ""))


def _phase(kind: str, class_name: str, method: str) -> str:
    """What a query without a tag is for: texts and transformations are ingested, an LLM's triplets build a graph."""
    if kind == "ingest" and "PathExtractor" in class_name:
        return "graph_build"
    return "ingest" if kind == "ingest" or (kind == "embed" and "text" in method) else "query"


def _stage(classes: list[str]) -> str | None:
    if "BaseRetriever" in classes:
        named = (store for store, parts in _STORES if any(part in classes[0] for part in parts))
        return next(named, "retrieve")
    if "BaseNodePostprocessor" in classes:
        return "rerank" if "rerank" in classes[0].lower() else "postprocess"
    return next((stage for stage in map(_STAGES.get, classes) if stage), None)
