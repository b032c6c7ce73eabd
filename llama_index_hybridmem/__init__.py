"""Hybrid memory for LlamaIndex: the public names, each loaded on first use; importing this package loads nothing else.

Vector, keyword and graph memory stand side by side, are fused by chunk, and answer with their sources and reasons.
Start with `HybridMemoryIndex`; everything else can be used alone in an existing LlamaIndex app.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .chat_engine import HybridChatEngine
    from .citations import check_citations
    from .costs.audit.log import AuditLog
    from .costs.bills.ledger import Ledger
    from .costs.budgets.budget import Budget
    from .costs.exporters.jsonl import JsonlTraces
    from .costs.exporters.otel import OpenTelemetryTraces
    from .costs.exporters.prometheus import PrometheusMetrics
    from .costs.exporters.reading import read_traces
    from .costs.handler import CostLatencyHandler
    from .costs.prices.book import PriceBook
    from .costs.prices.row import PriceRow
    from .encoder import MiniLMEmbedding
    from .errors import BudgetExceededError, HybridMemoryError
    from .export.dataset import export_dataset
    from .export.options import ExportOptions
    from .export.wording import Wording
    from .graph.retriever import EntityGraphRetriever
    from .graph.stores.bolt import Bolt
    from .graph.stores.neo4j.store import Neo4jGraphStore
    from .graph.stores.property_graph import PropertyGraphMemory
    from .graph.stores.sqlite import SqliteGraphStore
    from .graph.text_to_cypher import CypherRetriever
    from .graph.transform import EntityGraphTransform
    from .index import HybridMemoryIndex
    from .live import LiveSource
    from .llms.adapters.registry import AdapterRegistry
    from .llms.local import LoraHuggingFaceLLM
    from .llms.remote.llm import RemoteLoraLLM
    from .llms.tenancy import tenant
    from .memory_block import HybridMemoryBlock
    from .noise.app_profile import NoiseProfile
    from .noise.postprocessor import Gold, NoiseInjectionPostprocessor
    from .noise.traces import RetrievalTraces
    from .query_engine import HybridRouterQueryEngine
    from .retriever import HybridRetriever
    from .routing.arbiter import EvidenceRules
    from .routing.decision import Route, RouteDecision
    from .routing.table import RouteSettings
    from .splitter import StructureSplitter
    from .stores import Store
    from .vector.server import QdrantServerVectorStore
    from .vector.sparse import Bm25Encoder
    from .vector.store import QdrantEdgeVectorStore
    from .worded import WordedSynthesizer

__version__ = "0.1.0"

__all__ = [
    "AdapterRegistry",
    "AuditLog",
    "Bm25Encoder",
    "Bolt",
    "Budget",
    "BudgetExceededError",
    "CostLatencyHandler",
    "CypherRetriever",
    "EntityGraphRetriever",
    "EntityGraphTransform",
    "EvidenceRules",
    "ExportOptions",
    "Gold",
    "HybridChatEngine",
    "HybridMemoryBlock",
    "HybridMemoryError",
    "HybridMemoryIndex",
    "HybridRetriever",
    "HybridRouterQueryEngine",
    "JsonlTraces",
    "Ledger",
    "LiveSource",
    "LoraHuggingFaceLLM",
    "MiniLMEmbedding",
    "Neo4jGraphStore",
    "NoiseInjectionPostprocessor",
    "NoiseProfile",
    "OpenTelemetryTraces",
    "PriceBook",
    "PriceRow",
    "PrometheusMetrics",
    "PropertyGraphMemory",
    "QdrantEdgeVectorStore",
    "QdrantServerVectorStore",
    "RemoteLoraLLM",
    "RetrievalTraces",
    "Route",
    "RouteDecision",
    "RouteSettings",
    "SqliteGraphStore",
    "Store",
    "StructureSplitter",
    "WordedSynthesizer",
    "Wording",
    "check_citations",
    "export_dataset",
    "read_traces",
    "tenant",
]

_HOMES = {
    "AdapterRegistry": "llms.adapters.registry",
    "AuditLog": "costs.audit.log",
    "Bm25Encoder": "vector.sparse",
    "Bolt": "graph.stores.bolt",
    "Budget": "costs.budgets.budget",
    "BudgetExceededError": "errors",
    "CostLatencyHandler": "costs.handler",
    "CypherRetriever": "graph.text_to_cypher",
    "EntityGraphRetriever": "graph.retriever",
    "EntityGraphTransform": "graph.transform",
    "EvidenceRules": "routing.arbiter",
    "ExportOptions": "export.options",
    "Gold": "noise.postprocessor",
    "HybridChatEngine": "chat_engine",
    "HybridMemoryBlock": "memory_block",
    "HybridMemoryError": "errors",
    "HybridMemoryIndex": "index",
    "HybridRetriever": "retriever",
    "HybridRouterQueryEngine": "query_engine",
    "JsonlTraces": "costs.exporters.jsonl",
    "Ledger": "costs.bills.ledger",
    "LiveSource": "live",
    "LoraHuggingFaceLLM": "llms.local",
    "MiniLMEmbedding": "encoder",
    "Neo4jGraphStore": "graph.stores.neo4j.store",
    "NoiseInjectionPostprocessor": "noise.postprocessor",
    "NoiseProfile": "noise.app_profile",
    "OpenTelemetryTraces": "costs.exporters.otel",
    "PriceBook": "costs.prices.book",
    "PriceRow": "costs.prices.row",
    "PrometheusMetrics": "costs.exporters.prometheus",
    "PropertyGraphMemory": "graph.stores.property_graph",
    "QdrantEdgeVectorStore": "vector.store",
    "QdrantServerVectorStore": "vector.server",
    "RemoteLoraLLM": "llms.remote.llm",
    "RetrievalTraces": "noise.traces",
    "Route": "routing.decision",
    "RouteDecision": "routing.decision",
    "RouteSettings": "routing.table",
    "SqliteGraphStore": "graph.stores.sqlite",
    "Store": "stores",
    "StructureSplitter": "splitter",
    "WordedSynthesizer": "worded",
    "Wording": "export.wording",
    "check_citations": "citations",
    "export_dataset": "export.dataset",
    "read_traces": "costs.exporters.reading",
    "tenant": "llms.tenancy",
}


if not TYPE_CHECKING:  # a type checker would take any name for public

    def __getattr__(name: str) -> object:
        """Loads a public name from its module and keeps it, so that this runs once per name."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
