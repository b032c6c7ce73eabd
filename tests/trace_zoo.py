"""Traces as a few weeks of traffic leave them, and the awkward ones; made up from a seed, knows no handler.

    summarise(traffic(600))
    for name, made in EDGES.items():
        render(summarise(made()))

Everything in a trace follows from its key, so the same call gives the same traces.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from types import MappingProxyType
from typing import Any

from llama_index_hybridmem.costs.tokens.usage import Source, Usage
from llama_index_hybridmem.costs.trace import ModelCall, QueryTrace, Stage, Status

START = 1_793_491_200.0
"""1 November 2026, 00:00 UTC."""

DAY = 86_400.0
HOSTILE = '<script>alert("1")</script>'
MEAN = (HOSTILE, '"><img src=x onerror=alert(2)>', "$x^2$ & {{ 7*7 }} {% raw %}", "]]>", "</title></svg><b>")
FOREIGN = ("Ωmega €uro", "検索ルート" * 4, "🚀🚀 launch", "مسار البحث", "a\u202eb\x00\x1b[31m\ud800")
LONG = "the-department-of-very-long-names-and-of-even-longer-explanations-of-them@" + "9f" * 20


@dataclass(frozen=True)
class Model:
    """A model as a trace knows it; prices per million tokens in, out and cached, or none."""

    name: str
    provider: str
    price: tuple[str, str, str] | None
    source: Source
    quoted: str | None
    adapter: str | None = None


MINI = Model("gpt-4o-mini", "openai", ("0.15", "0.60", "0.075"), "reported", "genai-prices 0.2.3 (2026-11-04)")
HAIKU = Model("claude-haiku-4-5", "anthropic", ("1", "5", "0.10"), "reported", "genai-prices 0.2.3 (2026-11-04)")
SMOL = Model("smollm2-135m", "local", None, "extracted", None, adapter="brand@1a2b3c4d")
SMALL = Model("text-embedding-3-small", "openai", ("0.02", "0", "0.02"), "estimated", "genai-prices 0.2.3 (2026-11-04)")
RENTED = Model(
    "llama-3.1-8b", "local", ("0.4", "0.4", "0.4"), "extracted", "gpu-hour A100-80, own table, read 2026-02-10"
)

ROUTES: Mapping[str, tuple[float, tuple[str, ...], Model]] = MappingProxyType(
    {
        "vector": (0.46, ("vector", "keyword"), MINI),
        "hybrid": (0.28, ("vector", "keyword", "graph"), HAIKU),
        "graph": (0.14, ("graph",), MINI),
        "parametric": (0.12, (), SMOL),
    }
)
"""Share of the traffic, stores asked, model that answers."""

_STORE_S = MappingProxyType({"vector": 0.018, "keyword": 0.009, "graph": 0.085})
_TENANTS = (("acme", 0.5), ("globex", 0.24), ("initech", 0.14), ("umbrella", 0.07), (None, 0.05))
_LOST = (
    "graph: BranchTimeoutError: no answer within 0.5 s",
    "graph: StoreUnavailableError: no server at the address",
    "vector: BreakerOpenError: skipped, its calls were late",
)


def trace(key: str, route: str | None = "vector", **changes: Any) -> QueryTrace:
    """One realistic query.

    Args:
        key: its id, and the seed of everything about it.
        route: a key of `ROUTES`, or any other name, which then behaves like "vector"; None without a router.
        changes: fields of the trace that differ.
    """
    draw = random.Random(f"trace:{key}")
    _, stores, model = ROUTES.get(route or "", ROUTES["vector"])
    stages, at = _retrieval(draw, stores)
    degraded = (draw.choice(_LOST[:2] if "graph" in stores else _LOST[2:]),) if stores and draw.random() < 0.06 else ()
    streamed = draw.random() < 0.6
    answering = call(draw, model, at, streamed)
    stages.append(Stage("llm", at, answering.wall_s, 0.004))
    embedding = [call(draw, SMALL, stages[1].started_s, False, "embedding")] if stores else []
    first = None if answering.first_token_s is None else at + answering.first_token_s
    made = QueryTrace(
        id=key,
        kind="query",
        name="HybridRouterQueryEngine.query",
        started=START + draw.random() * 18 * DAY,
        wall_s=at + answering.wall_s + 0.002,
        cpu_s=0.012 + draw.random() / 100,
        first_token_s=first,
        route=route,
        route_source=None if route is None else "rules",
        answer="parametric" if route == "parametric" else "generated" if draw.random() < 0.93 else "abstained",
        degraded=degraded,
        tenant=_pick(draw, _TENANTS),
        stages=tuple(stages),
        calls=(*embedding, answering),
    )
    return replace(_ended(draw, made), **changes)


def traffic(count: int = 600) -> list[QueryTrace]:
    """A few weeks: routes, tenants, streams, failures, lost stores, a cache, and ledgers beside the queries."""
    return list(_traffic(count))


@cache
def _traffic(count: int) -> tuple[QueryTrace, ...]:
    draw = random.Random(f"traffic:{count}")
    shares = [(route, share) for route, (share, _, _) in ROUTES.items()]
    asked = [trace(f"q{number}", _pick(draw, shares)) for number in range(count)]
    return tuple(sorted([*asked, *ledgers()], key=lambda each: each.started))


def ledgers() -> list[QueryTrace]:
    """What was done besides answering: a graph built, an evaluation, documents embedded."""
    built = [_ledger(f"build{number}", "graph_build", 2 * DAY + 90 * number) for number in range(40)]
    judged = [_ledger(f"judge{number}", "evaluation", 9 * DAY + 30 * number) for number in range(25)]
    embedded = [_ledger(f"embed{number}", "query", DAY + number, "embed") for number in range(8)]
    return [*built, *judged, *embedded]


def call(draw: random.Random, model: Model, at: float, streamed: bool, kind: str = "llm") -> ModelCall:
    """One call of a model, priced where the model has a price."""
    tokens_in = int(draw.lognormvariate(7.2 if kind == "llm" else 2.7, 0.35))
    tokens_out = int(draw.lognormvariate(4.9, 0.5)) if kind == "llm" else 0
    cached = tokens_in // 2 if model.provider == "openai" and kind == "llm" and draw.random() < 0.4 else 0
    source = model.source if not streamed or draw.random() < 0.8 else "estimated"
    wall = 0.25 + tokens_out * draw.uniform(0.006, 0.011) if kind == "llm" else draw.lognormvariate(-3.4, 0.3)
    return ModelCall(
        kind=kind,
        model=model.name,
        provider=model.provider,
        adapter=model.adapter,
        streamed=streamed,
        status="ok",
        started_s=at,
        wall_s=wall,
        first_token_s=min(wall, draw.uniform(0.18, 0.5)) if streamed else None,
        busy_s=wall,
        usage=Usage(tokens_in, tokens_out, cached_read=cached, source=source),
        cost=_cost(model, tokens_in - cached, cached, tokens_out),
        price=model.quoted,
    )


def unpriced(made: QueryTrace) -> QueryTrace:
    """The same query of models that nobody has a price for."""
    return replace(made, calls=tuple(replace(each, cost=None, price=None) for each in made.calls))


def uncounted(made: QueryTrace) -> QueryTrace:
    """The same query of models that report no tokens, so that there is nothing to price either."""
    return replace(made, calls=tuple(replace(each, usage=None, cost=None, price=None) for each in made.calls))


def without_models(made: QueryTrace) -> QueryTrace:
    """The same query in an app that only retrieves."""
    stages = tuple(stage for stage in made.stages if stage.name not in ("llm", "prompt"))
    wall = max((stage.started_s + stage.wall_s for stage in stages), default=0.001)
    return replace(made, kind="retrieve", answer=None, first_token_s=None, stages=stages, calls=(), wall_s=wall)


def _named(count: int, names: Sequence[str]) -> list[QueryTrace]:
    """Traffic in which everything that has a name has an awkward one."""
    awkward = [names[number % len(names)] for number in range(count)]
    return [_renamed(trace(f"n{number}", name), name) for number, name in enumerate(awkward)]


def _renamed(made: QueryTrace, name: str) -> QueryTrace:
    calls = tuple(replace(each, model=name, adapter=name, price=each.price and name) for each in made.calls)
    stages = tuple(replace(stage, name=name if stage.name == "vector" else stage.name) for stage in made.stages)
    lost, error = (f"{name}: {name}",), f"{name}: {name}"
    return replace(
        made, tenant=name, run=name, calls=calls, stages=stages, degraded=lost, error=error, tags={"class": name}
    )


EDGES: Mapping[str, Callable[[], list[QueryTrace]]] = MappingProxyType(
    {
        "empty": list,
        "one": lambda: [trace("one", "hybrid", status="ok", error=None)],
        "few": lambda: [trace(f"few{number}", "graph") for number in range(7)],
        "unpriced": lambda: [unpriced(trace(f"u{number}")) for number in range(40)],
        "uncounted": lambda: [uncounted(trace(f"c{number}", "hybrid")) for number in range(40)],
        "no models": lambda: [without_models(trace(f"r{number}", "hybrid")) for number in range(40)],
        "no router": lambda: [trace(f"p{number}", None, tenant=None) for number in range(40)],
        "all failed": lambda: [
            trace(f"f{number}", status="error", error="ReadTimeout: the read operation timed out", answer=None)
            for number in range(30)
        ],
        "only ledgers": ledgers,
        "free": lambda: [
            replace(made, calls=tuple(replace(each, cost=Decimal(0)) for each in made.calls))
            for made in (trace(f"z{number}") for number in range(30))
        ],
        "fifty tenants": lambda: [
            trace(f"t{number}", "hybrid", tenant=f"tenant-{number % 50:02d}") for number in range(150)
        ],
        "twelve routes": lambda: [trace(f"w{number}", f"route-{number % 12}") for number in range(240)],
        "long names": lambda: _named(60, [LONG, LONG[::-1]]),
        "unicode": lambda: _named(60, FOREIGN),
        "hostile": lambda: _named(60, MEAN),
        "months": lambda: [replace(made, started=START + (made.started - START) * 4) for made in traffic(200)],
        "slow": lambda: [replace(made, wall_s=made.wall_s * 900) for made in traffic(60)],
    }
)
"""Names of awkward traces, and what makes them."""


def _retrieval(draw: random.Random, stores: Sequence[str]) -> tuple[list[Stage], float]:
    """The stages before the model's, and when they ended; stores side by side."""
    stages, at = [Stage("route", 0.0004, 0.0006, 0.0006)], 0.001
    if stores:
        embed = draw.lognormvariate(-3.4, 0.3)
        stages.append(Stage("embed", at, embed, 0.002))
        at += embed
        searched = [Stage(store, at, _STORE_S[store] * draw.lognormvariate(0, 0.4), None) for store in stores]
        at += max(stage.wall_s for stage in searched)
        stages += [*searched, Stage("fuse", at, 0.0008, 0.0008)]
        at += 0.0008
    if len(stores) > 2:
        rerank = 0.12 * draw.lognormvariate(0, 0.3)
        stages.append(Stage("rerank", at, rerank, 0.11))
        at += rerank
    return [*stages, Stage("prompt", at, 0.0012, 0.0012)], at + 0.0012


def _ended(draw: random.Random, made: QueryTrace) -> QueryTrace:
    """Seven of a hundred end badly."""
    luck = draw.random()
    if luck > 0.07:
        return made
    ways: tuple[tuple[Status, str | None], ...] = (
        ("error", "ReadTimeout: the read operation timed out"),
        ("error", "RateLimitError: 429 too many requests"),
        ("abandoned", None),
        ("cancelled", "CancelledError"),
    )
    status, error = ways[int(luck / 0.07 * len(ways)) % len(ways)]
    calls = tuple(replace(each, status=status) if each.kind == "llm" else each for each in made.calls)
    return replace(made, status=status, error=error, answer=None, calls=calls)


def _ledger(key: str, phase: str, after: float, kind: str = "other") -> QueryTrace:
    draw = random.Random(f"ledger:{key}")
    embedding = kind == "embed"
    asked = call(draw, SMALL if embedding else RENTED, 0.0, False, "embedding" if embedding else "llm")
    return QueryTrace(
        id=key,
        kind=kind,
        name="BaseEmbedding.get_text_embedding_batch" if embedding else "extract",
        started=START + after,
        wall_s=asked.wall_s + 0.01,
        phase=phase,
        stages=(Stage("embed" if embedding else "llm", 0.0, asked.wall_s),),
        calls=(asked,),
    )


def _cost(model: Model, fresh: int, cached: int, written: int) -> Decimal | None:
    if model.price is None:
        return None
    of_fresh, of_written, of_cached = (Decimal(price) for price in model.price)
    return (fresh * of_fresh + written * of_written + cached * of_cached) / 1_000_000


def _pick(draw: random.Random, shares: Sequence[tuple[Any, float]]) -> Any:
    return draw.choices([each for each, _ in shares], [share for _, share in shares])[0]
