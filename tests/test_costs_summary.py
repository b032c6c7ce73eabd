"""Traces added up: nothing unknown becomes a zero, sums are exact, intervals hold, and nothing is counted twice."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_zoo import DAY, EDGES, START, ledgers, trace, traffic, uncounted, unpriced, without_models

from llama_index_hybridmem.costs.figures.groups import Group
from llama_index_hybridmem.costs.figures.spread import money, quantiles, seconds
from llama_index_hybridmem.costs.figures.summary import OUTSIDE, Summary, summarise
from llama_index_hybridmem.costs.figures.waterfall import Stopwatch, covered
from llama_index_hybridmem.costs.tokens.usage import Usage
from llama_index_hybridmem.costs.trace import QueryTrace, Stage
from llama_index_hybridmem.errors import ConfigurationError

COSTS = st.lists(st.decimals(min_value=0, max_value=1000, places=9), min_size=1, max_size=60)
TIMES = st.lists(st.floats(min_value=0, max_value=1e6), min_size=1, max_size=60)
STAGES = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), max_size=8)


@pytest.fixture(scope="module")
def summary() -> Summary:
    """A few weeks of traffic."""
    return summarise(traffic(600), limit=Decimal("0.7"))


def costing(key: str, cost: str | None, **changes: object) -> QueryTrace:
    """A query with one call of that price."""
    made = trace(key, status="ok", error=None, degraded=())
    amount = None if cost is None else Decimal(cost)
    return replace(made, calls=(replace(made.calls[-1], cost=amount),), **changes)


def at(month: int, day: int, hour: int = 0) -> float:
    """A moment of 2026."""
    return datetime(2026, month, day, hour, tzinfo=timezone.utc).timestamp()


def named(groups: Sequence[Group], name: str | None) -> Group:
    """The group of that name."""
    return next(group for group in groups if group.name == name)


# -- money ------------------------------------------------------------------------------------------------------------


def test_a_route_without_a_price_has_no_cost(summary: Summary) -> None:
    """Absent is not zero: the local model has no price, so its route has no total, mean or percentile, but a count."""
    group = named(summary.routes, "parametric")
    assert group.cost is None
    assert group.spending.total is None
    assert group.spending.known is None
    assert group.spending.unpriced == group.n > 0


def test_a_query_without_models_costs_nothing() -> None:
    """No call is a known cost of 0, unlike a call without a price."""
    made = summarise([without_models(trace("a"))]).queries
    assert made.spending.total == 0
    assert made.cost is not None
    assert made.cost.mean == 0


@given(COSTS)
def test_sums_are_exact(costs: list[Decimal]) -> None:
    """No digit is lost between the calls and the total, and routes, tenants and months add up to it."""
    traces = [
        costing(f"c{place}", str(cost), route=f"r{place % 3}", tenant=f"t{place % 4}")
        for place, cost in enumerate(costs)
    ]
    made = summarise(traces)
    assert made.spending.total == sum(costs)
    for parts in ([group.spending for group in made.routes], [each.spending for each in made.tenants]):
        assert sum(part.total or 0 for part in parts) == sum(costs)
    assert sum(month.known for month in made.months) == sum(costs)


def test_what_is_known_of_an_unpriced_query_counts_as_at_least() -> None:
    """A query with one priced and one unpriced call is unpriced; its known part is in `known` and not in `total`."""
    priced, partly = costing("a", "0.5"), costing("b", "0.25")
    partly = replace(partly, calls=(*partly.calls, replace(partly.calls[0], cost=None)))
    spent = summarise([priced, partly]).spending
    assert (spent.priced, spent.unpriced) == (1, 1)
    assert (spent.total, spent.known) == (Decimal("0.5"), Decimal("0.75"))


@given(COSTS)
def test_percentiles_of_costs_are_costs_that_occurred(costs: list[Decimal]) -> None:
    """At least the named share costs no more, and fewer do without the percentile itself."""
    made = money(costs, ranges=False)
    assert made is not None
    for percent, value in ((50, made.p50), (90, made.p90), (95, made.p95), (99, made.p99)):
        assert value in costs
        assert 100 * sum(cost <= value for cost in costs) >= percent * len(costs)
        assert 100 * sum(cost < value for cost in costs) < percent * len(costs)


def test_several_currencies_are_refused() -> None:
    """Dollars and euros are never added; a currency without any cost does no harm."""
    euro = costing("b", "1", currency="EUR")
    with pytest.raises(ConfigurationError, match="several currencies cannot be added: EUR, USD"):
        summarise([costing("a", "1"), euro])
    assert summarise([unpriced(trace("c")), euro]).currency == "EUR"


# -- intervals --------------------------------------------------------------------------------------------------------


def test_too_few_values_have_no_range() -> None:
    """Below 20 the mean has no range, below 72 the 95th percentile has none; from there on both hold their value."""
    draw = np.random.default_rng(0)
    for count, has_mean, has_p95 in ((19, False, False), (20, True, False), (71, True, False), (72, True, True)):
        made = seconds(list(draw.lognormal(size=count)))
        assert made is not None
        assert (made.mean_range is not None, made.p95_range is not None) == (has_mean, has_p95)
        if made.mean_range is not None:
            assert made.mean_range.low < made.mean < made.mean_range.high
        if made.p95_range is not None:
            assert made.p95_range.low < made.p95 <= made.p95_range.high


@pytest.mark.parametrize("count", [72, 100, 333, 1000])
def test_the_range_of_the_95th_percentile_holds_19_times_of_20(count: int) -> None:
    """By the binomial: the share of samples whose range misses the true percentile is at most 2.5 % on either side."""
    made = seconds([float(rank) for rank in range(1, count + 1)])  # a value is its own rank
    assert made is not None
    assert made.p95_range is not None
    low, high = int(made.p95_range.low), int(made.p95_range.high)
    chance = [math.comb(count, k) * 0.95**k * 0.05 ** (count - k) for k in range(count + 1)]
    assert sum(chance[:low]) <= 0.025  # fewer than `low` values lie below: the range is too high
    assert sum(chance[high:]) <= 0.025  # `high` or more do: it is too low
    assert sum(chance[: low + 1]) > 0.025  # and no narrower ranks would do
    assert sum(chance[high - 1 :]) > 0.025


def test_ranges_are_the_same_each_time() -> None:
    """The bootstrap is seeded."""
    assert summarise(traffic(60)) == summarise(traffic(60))


@given(TIMES)
def test_percentiles_of_seconds_are_those_of_numpy(times: list[float]) -> None:
    """In any order, with the curve of all percentiles beside them."""
    made, curve = seconds(times, ranges=False), quantiles(times)
    assert made is not None
    assert made.p95 == np.percentile(times, 95) == curve[95]
    assert curve[0] == min(times)
    assert curve[100] == max(times)


# -- what is counted --------------------------------------------------------------------------------------------------


def test_latency_is_of_queries_that_ended_well(summary: Summary) -> None:
    """A failed query has a cost and a status, but no say in the latency."""
    asked = summary.queries
    assert asked.latency is not None
    assert asked.latency.n == asked.statuses["ok"] < asked.n == 600
    slow = trace("slow", status="error", wall_s=1e6)
    made = summarise([trace("a", status="ok", wall_s=1.0), slow]).queries
    assert made.latency is not None
    assert made.latency.p99 == 1.0
    assert made.spending.priced == 2


def test_ledgers_stay_out_of_the_figures_per_query(summary: Summary) -> None:
    """A graph that is built and documents that are embedded change the bill and nothing else."""
    alone = summarise([each for each in traffic(600) if each.id.startswith("q")], limit=Decimal("0.7"))
    assert summary.queries == alone.queries
    assert {each.name: each.traces for each in summary.ledgers} == {"graph_build": 40, "evaluation": 25, OUTSIDE: 8}
    assert summary.spending.known == (alone.spending.known or 0) + sum(each.cost_known for each in ledgers())


def test_ingesting_is_a_ledger_of_its_own() -> None:
    """Unless a phase says otherwise."""
    made = [trace("a", kind="ingest"), trace("b", kind="ingest", phase="graph_build")]
    assert {each.name for each in summarise(made).ledgers} == {"ingest", "graph_build"}


def test_the_queries_are_those_of_a_phase() -> None:
    """An experiment's, when asked for; users' queries are then a ledger, and every trace is on the bill either way."""
    made = [
        trace("a"),
        trace("b", phase="evaluation", run="one"),
        trace("c", phase="evaluation", run="two"),
        trace("d", phase="evaluation", kind="llm"),
    ]
    found = summarise(made, by=("run",), phase="evaluation")
    assert {group.name: group.n for group in found.groups["run"]} == {"one": 1, "two": 1}
    assert {each.name: each.traces for each in found.ledgers} == {"query": 1, OUTSIDE: 1}
    assert found.spending == summarise(made).spending
    assert found.to_json()["phase"] == "evaluation"


def test_the_order_of_traces_changes_no_count() -> None:
    """Files may come in any order."""
    forward, backward = summarise(traffic(80)), summarise(traffic(80)[::-1])
    assert forward.spending == backward.spending
    assert forward.months == backward.months
    assert [(each.name, each.n, each.spending) for each in forward.routes] == [
        (each.name, each.n, each.spending) for each in backward.routes
    ]


def test_groups_by_tags_and_fields() -> None:
    """Queries without the tag are a group of their own, named None."""
    traces = [trace(f"a{place}", tags={"class": "multi-hop"} if place % 3 else {}) for place in range(9)]
    found = summarise(traces, by=("tags.class", "user")).groups
    assert {group.name: group.n for group in found["tags.class"]} == {"multi-hop": 6, None: 3}
    assert [group.n for group in found["user"]] == [9]
    assert [group.name for group in found["route"]] == ["vector"]
    with pytest.raises(ConfigurationError, match="not by 'wall_s'"):
        summarise(traces, by=("wall_s",))


def test_a_store_that_was_missing_twice_counts_once_a_query() -> None:
    """Queries are counted, by store; the reasons stand beside them."""
    lost = ("graph: BranchTimeoutError: late", "graph: BranchTimeoutError: late", "vector: BreakerOpenError: skipped")
    made = summarise([trace("a", degraded=lost), trace("b", degraded=lost[:1]), trace("c", degraded=())])
    assert [(each.name, each.n) for each in made.degraded] == [("graph", 2), ("vector", 1)]
    assert made.degraded[0].reasons == (("BranchTimeoutError: late", 2),)
    assert made.queries.degraded == 2


def test_failures_are_told_by_type() -> None:
    """A stream that was closed early has no error: its status names it."""
    made = summarise(
        [
            trace("a", status="error", error="ReadTimeout: too late"),
            trace("b", status="abandoned", error=None),
            trace("c", status="ok", error="ReadTimeout: mended by a retry"),
        ]
    )
    assert [(each.name, each.n, each.reasons) for each in made.errors] == [
        ("ReadTimeout", 1, (("too late", 1),)),
        ("abandoned", 1, ()),
    ]


def test_abstentions_are_of_those_who_say(summary: Summary) -> None:
    """Other engines name no kind of answer, and do not count as having answered."""
    made = summarise(
        [trace(f"a{place}", status="ok", answer=answer) for place, answer in enumerate(["abstained", None])]
    )
    assert (made.queries.answered, made.queries.abstained) == (1, 1)
    assert summary.queries.answered == summary.queries.statuses["ok"]


# -- models -----------------------------------------------------------------------------------------------------------


def test_tokens_nobody_counted_are_unknown() -> None:
    """Calls without counts are counted as calls, and have no tokens, not 0."""
    made = summarise([uncounted(trace("a")), trace("b")])
    unknown = [one for one in made.counted if one.source == "unknown"]
    assert [(one.calls, one.input, one.output) for one in unknown] == [(1, None, None)] * 2
    only = summarise([uncounted(trace("a"))])
    assert only.queries.tokens is None
    assert [use.input for use in only.models] == [None, None]
    assert only.cached_share is None


def test_the_cached_share_is_of_counted_input() -> None:
    """Of language models alone: 30 of 100 tokens."""
    made = costing("a", "1")
    call = replace(made.calls[0], usage=Usage(100, 5, cached_read=30))
    embedding = replace(call, kind="embedding", usage=Usage(1000, 0))
    assert summarise([replace(made, calls=(call, embedding))]).cached_share == 0.3


def test_prices_with_their_dates() -> None:
    """The latest date that a source names, and its age at the last trace; a number that looks like a date is none."""
    sources = ("book 1.2, read 2026-10-02, corrected 2026-10-22", "by hand 2026-99-99")
    made = [costing(f"a{place}", "1", started=START) for place in range(2)]
    priced = [
        replace(each, calls=(replace(each.calls[0], price=source),)) for each, source in zip(made, sources, strict=True)
    ]
    found = {price.source: (price.read, price.age_days) for price in summarise(priced).prices}
    assert found == {sources[0]: ("2026-10-22", 10), sources[1]: (None, None)}


def test_an_entry_counts_as_many_calls_as_it_sums() -> None:
    """Five embeddings in one second are five calls of a fifth each, all of them without a price."""
    made = trace("a")
    call = replace(made.calls[0], kind="embedding", status="ok", wall_s=1.0, count=5, cost=None, usage=None)
    (use,) = summarise([replace(made, calls=(call,))]).models
    assert (use.calls, use.unpriced, use.uncounted, use.failed) == (5, 5, 5, 0)
    assert use.latency is not None
    assert use.latency.p50 == 0.2


def test_an_adapter_is_a_row_of_its_own(summary: Summary) -> None:
    """What a fine-tuned model costs and takes is told apart from its base's."""
    assert ("smollm2-135m", "brand@1a2b3c4d", 66) in {(use.model, use.adapter, use.unpriced) for use in summary.models}


# -- time -------------------------------------------------------------------------------------------------------------


def test_a_stores_own_time_around_its_embedding_is_all_retrieval() -> None:
    """30 ms of a store's own, 50 ms of embedding inside it: the sources were there after 80 ms of 200."""
    stages = (
        Stage("graph", 0.0, 0.03),
        Stage("embed", 0.01, 0.05),
        Stage("prompt", 0.08, 0.02),
        Stage("llm", 0.1, 0.1),
    )
    watch = Stopwatch()
    watch.add(QueryTrace("1", "query", "q", 0.0, 0.2, stages=stages))
    split = watch.split()
    assert split is not None
    assert (round(split.retrieval, 6), round(split.model, 6)) == (0.4, 0.5)


@given(STAGES, st.floats(0.001, 20))
def test_covered_time_counts_a_moment_once(spans: list[tuple[float, float]], wall: float) -> None:
    """Never more than the stages' sum, their hull or the query; never less than the longest of them inside it."""
    stages = [Stage("vector", start, length) for start, length in spans]
    seen = covered(stages, wall)
    inside = [max(0.0, min(start + length, wall) - start) for start, length in spans]
    assert max(inside, default=0.0) - 1e-9 <= seen <= min(wall, sum(inside)) + 1e-9


def test_stores_side_by_side_count_once_in_retrievals_share() -> None:
    """Half a second of embedding, then two stores of one second at the same time, in three seconds: a half."""
    stages = (
        Stage("embed", 0.0, 0.5),
        Stage("vector", 0.5, 1.0),
        Stage("my own store", 0.5, 1.0),
        Stage("llm", 1.5, 1.2),
    )
    split = summarise([trace("a", status="ok", wall_s=3.0, stages=stages)]).queries.split
    assert split is not None
    assert (split.retrieval, split.model, split.rest) == pytest.approx((0.5, 0.4, 0.1))


def test_a_split_adds_up(summary: Summary) -> None:
    """For every route; without language models all but a little is retrieval."""
    for group in summary.routes:
        assert group.split is not None
        assert group.split.retrieval + group.split.model + group.split.rest == pytest.approx(1)
    bare = summarise(EDGES["no models"]()).queries.split
    assert bare is not None
    assert bare.model == 0
    assert bare.retrieval > 0.9


def test_the_waterfall_is_that_of_queries_in_the_middle() -> None:
    """Of ten queries the fifth and sixth; a stage that a minority had is left out."""
    traces = [
        trace(
            f"a{place}",
            status="ok",
            wall_s=float(place),
            stages=(Stage("vector", 0.1, float(place)), *((Stage("rerank", 0.2, 1.0),) if place > 8 else ())),
        )
        for place in range(10)
    ]
    found = summarise(traces).queries.waterfall
    assert found is not None
    assert (found.n, found.wall_s) == (2, 4.5)
    assert [(bar.name, bar.start_s, bar.length_s, bar.n) for bar in found.bars] == [("vector", 0.1, 4.5, 2)]


def test_the_first_token_comes_after_the_model_is_asked() -> None:
    """Streamed queries that were quick and others that were slow to ask: the mean wait counts from the mean start."""
    quick = (Stage("llm", 0.1, 1.0),)
    slow = (Stage("vector", 0.0, 0.9), Stage("llm", 0.9, 1.0))
    made = [
        trace("a", status="ok", wall_s=1.9, stages=quick, first_token_s=0.3),
        trace("b", status="ok", wall_s=1.9, stages=slow, first_token_s=None),
    ]
    watch = Stopwatch()
    for _ in range(5):
        for each in made:
            watch.add(each)
    found = watch.waterfall()
    assert found is not None
    asked = next(bar.start_s for bar in found.bars if bar.name == "llm")
    assert asked == pytest.approx(0.5)
    assert (found.first_token_s, found.streamed) == (pytest.approx(0.7), 1)
    assert found.elsewhere_s == pytest.approx((0.9 + 0.0) / 2)


def test_time_elsewhere_is_what_all_stages_do_not_come_to() -> None:
    """Half of it; never less than nothing where stages ran side by side."""
    made = [
        trace("a", status="ok", wall_s=2.0, stages=(Stage("route", 0.0, 1.0),)),
        trace("b", status="ok", wall_s=2.0, stages=(Stage("vector", 0.0, 2.0), Stage("graph", 0.0, 2.0))),
    ]
    split = summarise(made).queries.split
    assert split is not None
    assert split.elsewhere == pytest.approx(0.25)
    assert split.elsewhere <= split.rest


def test_a_million_queries_need_no_million_stages() -> None:
    """The waterfall is drawn from a sample of bounded size; the sums are of all."""
    watch, made = Stopwatch(), trace("a", status="ok", wall_s=1.0)
    for _ in range(5_000):
        watch.add(made)
    assert len(watch.kept) == 2_000
    assert watch.times()[0].n == 5_000


def test_stage_times_are_of_queries_that_had_the_stage(summary: Summary) -> None:
    """The mean of a reranker is that of hybrid queries; CPU that nobody knows is None."""
    found = {each.name: each for each in summary.queries.stages}
    hybrid = named(summary.routes, "hybrid")
    assert found["rerank"].n == hybrid.statuses["ok"]
    assert found["vector"].cpu_s is None
    assert found["rerank"].cpu_s == pytest.approx(0.11)


# -- months -----------------------------------------------------------------------------------------------------------


def test_each_month_begins_at_nothing() -> None:
    """Months of UTC, each with its own curve, whose last point is exact; December is followed by January."""
    spent = [(at(11, 30, 23), "1"), (at(12, 1), "2"), (at(12, 31, 23), "4"), (at(12, 31, 23) + 3600, "8")]
    made = summarise([costing(f"a{place}", cost, started=when) for place, (when, cost) in enumerate(spent)])
    assert [(month.name, month.known) for month in made.months] == [("2026-11", 1), ("2026-12", 6), ("2027-01", 8)]
    assert made.months[1].curve == ((at(12, 1), 2), (at(12, 31, 23), 6))
    assert made.months[1].end == made.months[2].start


def test_a_limit_that_was_reached_and_one_that_will_be() -> None:
    """Eleven dollars in ten of thirty days: 33 at the end. 5 were reached on the 5th, 22 will be on the 21st."""
    traces = [costing(f"a{day}", "1", started=at(11, day), wall_s=0.0) for day in range(1, 12)]
    late, early = (summarise(traces, limit=Decimal(limit)) for limit in ("22", "5"))
    assert late.outlook is not None
    assert late.outlook.projected == 33
    assert late.outlook.reaches == pytest.approx(at(11, 21))
    assert late.months[0].reached is None
    assert early.months[0].reached == at(11, 5)
    assert early.outlook is not None
    assert early.outlook.reaches is None


def test_less_than_a_day_says_nothing_of_a_month() -> None:
    """No line is drawn on from an hour of traces."""
    traces = [costing(f"a{place}", "1", started=START + place * DAY / 24) for place in range(20)]
    assert summarise(traces).outlook is None


@pytest.mark.parametrize("limit", ["0", "-1", "NaN", "Infinity"])
def test_a_limit_is_an_amount(limit: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ConfigurationError, match="amount above 0"):
        summarise([], limit=Decimal(limit))


def test_a_long_curve_is_thinned() -> None:
    """A picture's worth of points, from the first to the exact end."""
    made = costing("a", "0.1")
    traces = [replace(made, started=START + place) for place in range(1_000)]
    (month,) = summarise(traces).months
    assert len(month.curve) < 200
    assert month.curve[-1] == (START + 999, Decimal("100.0"))


# -- all of it --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EDGES)
def test_every_summary_is_plain_json(name: str) -> None:
    """From none to many, strange or unpriced traces: no NaN, and costs as text."""
    made = summarise(EDGES[name](), by=("tenant", "tags.class"), limit=Decimal(1))
    read = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert read["traces"] == len(EDGES[name]())
    known = made.spending.known
    assert read["spending"]["known"] == (None if known is None else str(known))
    assert read["limit"] == "1"


def test_nothing_comes_of_nothing() -> None:
    """Without traces no figure is made up."""
    made = summarise([])
    assert (made.first, made.last, made.spending.known, made.queries.latency, made.outlook) == (None,) * 5
    assert made.routes == made.tenants == made.models == made.months == ()
