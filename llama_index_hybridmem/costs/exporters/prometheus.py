"""Traces as Prometheus metrics with a bounded number of series; knows nothing of how they are scraped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from llama_index_hybridmem.costs.exporting import Finished
from llama_index_hybridmem.costs.trace import ModelCall, QueryTrace
from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.extras import require

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics import MetricWrapperBase
    from prometheus_client.metrics_core import Metric

OTHER = "other"
"""The label value of everything past the bound."""

ABSENT = "none"
"""The label value of what a trace does not have: a query without a router, a call of a nameless model."""

_QUERY_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80)
_STAGE_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 40)


class PrometheusMetrics:
    """Counts every finished query in metrics named ``hybridmem_…``; docs/traces.md lists them.

    What has no price or no token count is counted as such (``hybridmem_unpriced_calls_total``,
    ``hybridmem_uncounted_calls_total``) and adds nothing to the sums. Sums of money are floats here, as Prometheus
    knows nothing else; the exact ones are in the traces.

    Args:
        registry: where the metrics are registered; Prometheus's default one when None.
        tenants: whether queries are counted by tenant too: None not at all; a list, these and "other"; a number, the
            first so many that come and "other".
        max_label_values: how many distinct values a label (route, model, stage, …) may take; later ones become "other"
            and are counted in ``hybridmem_dropped_labels_total``.

    Raises:
        MissingExtraError: prometheus-client is not installed.
        ConfigurationError: the registry has such metrics already, or a bound is below 1.
    """

    name = "prometheus"

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        tenants: Sequence[str] | int | None = None,
        max_label_values: int = 50,
    ) -> None:
        require("PrometheusMetrics", "prometheus", "prometheus_client")
        from prometheus_client import REGISTRY, Counter, Histogram

        made = _Families(max_label_values, _tenant_bound(tenants))
        self._queries = made.add(Counter, "queries", "Queries that ended.", "kind", "route", "status")
        self._query_s = made.add(
            Histogram, "query_seconds", "Seconds from question to end of answer.", "kind", "route", buckets=_QUERY_S
        )
        self._first_token_s = made.add(
            Histogram, "first_token_seconds", "Seconds from question to first token.", "kind", "route", buckets=_QUERY_S
        )
        self._stage_s = made.add(Histogram, "stage_seconds", "Seconds of a stage.", "stage", buckets=_STAGE_S)
        self._tokens = made.add(Counter, "tokens", "Tokens of model calls.", "model", "direction", "source")
        self._cost = made.add(Counter, "cost", "Cost of the priced model calls.", "model", "currency")
        self._unpriced = made.add(Counter, "unpriced_calls", "Model calls without a price.", "model")
        self._uncounted = made.add(Counter, "uncounted_calls", "Model calls without token counts.", "model")
        self._degraded = made.add(Counter, "degraded", "Answers that did without a store.", "route")
        self._tenants = None
        if tenants is not None:
            self._tenants = made.add(Counter, "tenant_queries", "Queries that ended, by tenant.", "tenant", "status")
        self._registry: CollectorRegistry | None = registry if registry is not None else REGISTRY
        self._families = made
        self._register(self._registry)

    def context(self) -> None:
        """Nothing of the asking thread is needed."""

    def export(self, finished: Finished) -> None:
        """Count one query."""
        trace = finished.trace
        self._count_query(trace)
        for stage in trace.stages:
            self._stage_s.at(stage.name).observe(stage.wall_s)
        for call in trace.calls:
            self._count_call(call, trace.currency)

    def close(self) -> None:
        """Take the metrics out of the registry."""
        registry, self._registry = self._registry, None
        if registry is not None:
            registry.unregister(self._families)

    def _register(self, registry: CollectorRegistry) -> None:
        try:
            registry.register(self._families)
        except ValueError as error:
            raise ConfigurationError(
                "PrometheusMetrics: this registry has metrics named hybridmem_… already; use one PrometheusMetrics for "
                "a registry, close() the old one first, or pass registry=CollectorRegistry()"
            ) from error

    def _count_query(self, trace: QueryTrace) -> None:
        self._queries.at(trace.kind, trace.route, trace.status).inc()
        self._query_s.at(trace.kind, trace.route).observe(trace.wall_s)
        if trace.first_token_s is not None:
            self._first_token_s.at(trace.kind, trace.route).observe(trace.first_token_s)
        if trace.degraded:
            self._degraded.at(trace.route).inc()
        if self._tenants is not None:
            self._tenants.at(trace.tenant, trace.status).inc()

    def _count_call(self, call: ModelCall, currency: str) -> None:
        if call.usage is None:
            self._uncounted.at(call.model).inc()
        else:
            self._tokens.at(call.model, "input", call.usage.source).inc(call.usage.input)
            self._tokens.at(call.model, "output", call.usage.source).inc(call.usage.output)
        if call.cost is None:
            self._unpriced.at(call.model).inc()
        else:
            self._cost.at(call.model, currency).inc(float(call.cost))


class _Bound:
    """The values of one label: those given, or the first ones that come."""

    def __init__(self, limit: int, only: Iterable[str] | None = None) -> None:
        if limit < 1:
            raise ConfigurationError(f"PrometheusMetrics: a label with {limit} values; it must be 1 or more")
        self._kept = {ABSENT, *(only or ())}
        self._free = limit if only is None else 0

    def keeps(self, value: str) -> bool:
        if value not in self._kept and self._free > 0:
            self._kept.add(value)
            self._free -= 1
        return value in self._kept


class _Family:
    """One metric and its series, each looked up once in prometheus-client: that is what takes its time."""

    def __init__(self, metric: MetricWrapperBase, labels: tuple[str, ...], families: _Families) -> None:
        self.metric = metric
        self._labels = labels
        self._families = families
        self._series: dict[tuple[str, ...], Any] = {}

    def at(self, *values: str | None) -> Any:
        bounded = tuple(map(self._families.bounded, self._labels, values))
        series = self._series.get(bounded)
        if series is None:
            series = self._series[bounded] = self.metric.labels(*bounded)
        return series


class _Families:
    """All metrics, registered as one: all of them or none."""

    def __init__(self, limit: int, tenants: _Bound | None) -> None:
        from prometheus_client import Counter

        self._limit = limit
        self._bounds = {} if tenants is None else {"tenant": tenants}
        self._dropped = Counter(
            "hybridmem_dropped_labels", "Label values that became 'other'.", ["label"], registry=None
        )
        self._all: list[MetricWrapperBase] = [self._dropped]

    def add(self, kind: type[MetricWrapperBase], name: str, text: str, *labels: str, **options: Any) -> _Family:
        metric = kind(f"hybridmem_{name}", text, labels, registry=None, **options)
        self._all.append(metric)
        for label in labels:
            self._bounds.setdefault(label, _Bound(self._limit))
        return _Family(metric, labels, self)

    def bounded(self, label: str, value: str | None) -> str:
        value = (
            ABSENT if value is None else value.encode("utf-8", "replace").decode()
        )  # half a character breaks a scrape
        if self._bounds[label].keeps(value):
            return value
        self._dropped.labels(label).inc()
        return OTHER

    def collect(self) -> Iterator[Metric]:
        for metric in self._all:
            yield from metric.collect()

    def describe(self) -> Iterator[Metric]:
        for metric in self._all:
            yield from metric.describe()


def _tenant_bound(tenants: Sequence[str] | int | None) -> _Bound | None:
    if tenants is None:
        return None
    if isinstance(tenants, str):
        raise ConfigurationError(f"PrometheusMetrics: tenants is the text {tenants!r}; give a list of them or a number")
    return _Bound(tenants) if isinstance(tenants, int) else _Bound(1, tenants)
