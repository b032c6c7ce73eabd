"""Prometheus metrics: exact sums, a bounded number of series, and nothing that breaks a scrape."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from trace_zoo import EDGES, trace, traffic, uncounted, unpriced

from llama_index_hybridmem.costs.exporters.prometheus import PrometheusMetrics
from llama_index_hybridmem.costs.exporting import Exporter, Finished
from llama_index_hybridmem.costs.trace import QueryTrace
from llama_index_hybridmem.errors import ConfigurationError, MissingExtraError

PAGE = Path(__file__).parents[1] / "docs" / "traces.md"


def counted(made: Sequence[QueryTrace], **settings: object) -> CollectorRegistry:
    """A registry that has seen traces."""
    registry = CollectorRegistry()
    metrics: Exporter = PrometheusMetrics(registry, **settings)  # type: ignore[arg-type]
    for each in made:
        metrics.export(Finished(each, context=metrics.context()))
    return registry


def total(registry: CollectorRegistry, name: str, **labels: str) -> float:
    """The sum of the series with these labels; of none, 0."""
    samples = [sample for family in registry.collect() for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def values(registry: CollectorRegistry, label: str) -> set[str]:
    """The values that a label takes anywhere; not those of the metric that counts labels."""
    samples = [sample for family in registry.collect() for sample in family.samples]
    return {sample.labels[label] for sample in samples if label in sample.labels}


def test_sums_are_those_of_the_traces() -> None:
    """Queries, seconds, tokens by direction and by who counted, money, degraded answers."""
    made = traffic(200)
    registry = counted(made)
    calls = [call for each in made for call in each.calls]
    usages = [call.usage for call in calls if call.usage is not None]
    assert total(registry, "hybridmem_queries_total") == len(made)
    failed = [each for each in made if each.status == "error" and each.route == "vector"]
    assert failed
    assert total(registry, "hybridmem_queries_total", status="error", route="vector") == len(failed)
    assert total(registry, "hybridmem_query_seconds_sum") == pytest.approx(sum(each.wall_s for each in made))
    graph = [stage.wall_s for each in made for stage in each.stages if stage.name == "graph"]
    assert total(registry, "hybridmem_stage_seconds_count", stage="graph") == len(graph)
    assert total(registry, "hybridmem_stage_seconds_sum", stage="graph") == pytest.approx(sum(graph))
    streamed = [each for each in made if each.first_token_s is not None]
    assert total(registry, "hybridmem_first_token_seconds_count") == len(streamed)
    assert total(registry, "hybridmem_tokens_total", direction="input") == sum(usage.input for usage in usages)
    estimated = sum(usage.output for usage in usages if usage.source == "estimated")
    assert total(registry, "hybridmem_tokens_total", direction="output", source="estimated") == estimated
    spent = sum((each.cost_known for each in made), Decimal(0))
    assert total(registry, "hybridmem_cost_total", currency="USD") == pytest.approx(float(spent))
    assert total(registry, "hybridmem_unpriced_calls_total") == sum(each.unpriced for each in made)
    assert total(registry, "hybridmem_degraded_total") == sum(bool(each.degraded) for each in made) > 0


def test_unknown_is_counted_and_adds_nothing() -> None:
    """Neither an unpriced nor an uncounted call makes a series of zero money or zero tokens."""
    registry = counted([unpriced(trace("a")), uncounted(trace("b"))])
    assert total(registry, "hybridmem_unpriced_calls_total") == 4
    assert total(registry, "hybridmem_uncounted_calls_total") == 2
    names = {sample.name for family in registry.collect() for sample in family.samples}
    assert "hybridmem_cost_total" not in names
    assert "hybridmem_tokens_total" in names


def test_what_a_trace_does_not_have_is_none() -> None:
    """A query without a router, a call of a nameless model; they take no place among the values."""
    nameless = trace("x", None)
    nameless = replace(nameless, calls=tuple(replace(call, model=None) for call in nameless.calls))
    registry = counted([nameless, trace("y", "vector")], max_label_values=1)
    assert total(registry, "hybridmem_queries_total", route="none") == 1
    assert values(registry, "route") == {"none", "vector"}
    assert "none" in values(registry, "model")


@given(st.lists(st.text(max_size=3)), st.integers(1, 5))
def test_labels_are_bounded(routes: list[str], most: int) -> None:
    """The first so many values stand; every later one is "other", and is counted."""
    kept = list(dict.fromkeys(routes))[:most]
    registry = counted(
        [trace("x", calls=(), stages=(), degraded=(), route=route) for route in routes], max_label_values=most
    )
    assert values(registry, "route") <= {*kept, "other"}
    late = [route for route in routes if route not in kept]
    assert total(registry, "hybridmem_queries_total", route="other") == len(late) + routes.count("other") * (
        "other" in kept
    )
    assert total(registry, "hybridmem_queries_total") == len(routes)
    assert (total(registry, "hybridmem_dropped_labels_total", label="route") > 0) == bool(late)


def test_tenants_are_counted_only_when_asked_for() -> None:
    """Not by default; those named and "other"; or the first so many and "other"."""
    made = [trace(f"t{number}", tenant=f"tenant-{number}") for number in range(6)] + [trace("none", tenant=None)]
    assert values(counted(made), "tenant") == set()
    named = counted(made, tenants=["tenant-4"], max_label_values=1)
    assert values(named, "tenant") == {"tenant-4", "other", "none"}
    assert total(named, "hybridmem_tenant_queries_total", tenant="other") == 5
    first = counted(made, tenants=2)
    assert values(first, "tenant") == {"tenant-0", "tenant-1", "other", "none"}
    assert total(first, "hybridmem_dropped_labels_total", label="tenant") == 4


@pytest.mark.parametrize("settings", [{"max_label_values": 0}, {"tenants": 0}, {"tenants": "acme"}])
def test_settings_that_cannot_be_meant(settings: dict[str, object]) -> None:
    """No values at all, or a name where a list of names belongs."""
    with pytest.raises(ConfigurationError, match="PrometheusMetrics: "):
        counted([], **settings)


def test_one_for_a_registry() -> None:
    """A second one is refused with what to do and leaves the first alone; close() makes room, also twice."""
    registry = CollectorRegistry()
    first = PrometheusMetrics(registry)
    with pytest.raises(ConfigurationError, match=r"close\(\) the old one first"):
        PrometheusMetrics(registry)
    first.export(Finished(trace("x")))
    assert total(registry, "hybridmem_queries_total") == 1
    first.close()
    first.close()
    assert list(registry.collect()) == []
    PrometheusMetrics(registry).export(Finished(trace("y")))
    assert total(registry, "hybridmem_queries_total") == 1


def test_registered_whole_or_not_at_all() -> None:
    """One name that is taken keeps all of them out."""
    registry = CollectorRegistry()
    Counter("hybridmem_cost", "Somebody else's.", registry=registry)
    with pytest.raises(ConfigurationError):
        PrometheusMetrics(registry)
    assert [family.name for family in registry.collect()] == ["hybridmem_cost"]


@pytest.mark.parametrize("edge", ["unicode", "hostile", "all failed", "no models", "only ledgers"])
def test_what_is_scraped_can_be_read(edge: str) -> None:
    """Whatever is in a name; every metric is ours by its prefix and has a text."""
    registry = counted(EDGES[edge](), tenants=10)
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    assert {family.name.removesuffix("_created").partition("_")[0] for family in families} == {"hybridmem"}
    assert all(family.documentation for family in families)
    assert total(registry, "hybridmem_queries_total") == len(EDGES[edge]())


def test_every_metric_is_documented() -> None:
    """docs/traces.md has each with its kind and its labels, and no other."""
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(hybridmem_\w+?)(?:_total)?` \| (\w+) \| ([^|]*) \|", page, re.MULTILINE)
    told = {(name, kind, tuple(re.sub(r" \(.*?\)", "", labels).split(", "))) for name, kind, labels in rows}
    families = counted([*traffic(60), uncounted(trace("x"))], tenants=1, max_label_values=1).collect()
    made = [(family, family.samples[0].labels.keys() - {"le"}) for family in families]
    assert {(family.name, family.type, frozenset(labels)) for family, labels in made} == {
        (name, kind, frozenset(labels)) for name, kind, labels in told
    }


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library: which extra brings it."""
    monkeypatch.setattr("llama_index_hybridmem.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"llama-index-hybridmem\[prometheus\]"):
        PrometheusMetrics()
