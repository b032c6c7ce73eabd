"""What a graph is worth: intervals that hold, ratios that are refused, money without zeros, and what users see."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from llama_index_hybridmem.cli import value as command
from llama_index_hybridmem.costs.tokens.usage import Usage
from llama_index_hybridmem.costs.trace import ModelCall, QueryTrace
from llama_index_hybridmem.costs.value import UNPRICED, ValueReport, value
from llama_index_hybridmem.costs.worth import judged as rooms
from llama_index_hybridmem.costs.worth.balance import NO_VOLUME, NO_WORTH, NOT_SHOWN, WORSE
from llama_index_hybridmem.costs.worth.fixed import Fixed
from llama_index_hybridmem.costs.worth.judged import Answers, Judged, Judgement, Pairs, judged, judgement, pair
from llama_index_hybridmem.costs.worth.judgements import read_judgements
from llama_index_hybridmem.costs.worth.page import page
from llama_index_hybridmem.costs.worth.paired import interval, needed_pairs, ratio, resampled
from llama_index_hybridmem.costs.worth.tables import tables
from llama_index_hybridmem.costs.worth.words import class_verdicts, verdict
from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.statistics import paired_difference

TODAY = date(2026, 11, 21)
PAID = Fixed(as_of=TODAY, monthly_rent=260, build_compute=0, build_hours=24, upkeep_hours_monthly=2.5, hourly_rate=80)
"""$620 a month, $360 of it for people."""


def balances(report: ValueReport) -> tuple[Any, Any]:
    """Without and with the hours of people."""
    money = report.everything.money
    assert money is not None
    return money.without_hours, money.with_hours


def row(question: int, arm: str, correct: float, cost: str | None = "0.001", **more: Any) -> Judged:
    """An answer."""
    return Judged(f"q{question}", arm, correct, None if cost is None else Decimal(cost), 1.0, **more)


def pairs(both: int = 0, up: int = 0, down: int = 0, neither: int = 0, **costs: str | None) -> Pairs:
    """Pairs of answers by who was right; `with_cost` and `without_cost` of each."""
    kinds = [(1, 1)] * both + [(1, 0)] * up + [(0, 1)] * down + [(0, 0)] * neither
    rows = []
    for place, (one, other) in enumerate(kinds):
        rows.append(row(place, "g", one, costs.get("with_cost", "0.001")))
        rows.append(row(place, "v", other, costs.get("without_cost", "0.001")))
    return pair(rows, "g", "v")


def simulated(size: int, seed: int, gain: float = 0.05, differ: float = 0.2) -> Pairs:
    """Questions of which the vector run answers .60, the graph run as many more as `gain` says."""
    draws = np.random.default_rng(seed)
    up, down = (differ + gain) / 2, (differ - gain) / 2
    counts = draws.multinomial(size, [0.6 - down, up, down, 1 - 0.6 - up])
    return pairs(*map(int, counts))


# -- the gain ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40), st.integers(0, 9))
def test_one_seed_gives_one_interval(answers: list[tuple[float, float]], seed: int) -> None:
    """The joint resamples of gain and cost are those of `paired_difference`: the figures of a report agree."""
    one, other = zip(*answers, strict=True)
    columns = np.column_stack([np.subtract(one, other), np.ones(len(one))])
    drawn = resampled(columns, seed, 200)
    expected = paired_difference(one, other, seed, resamples=200)
    found = interval(expected.mean, drawn[:, 0])
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert np.all(drawn[:, 1] == 1)


def test_the_interval_covers_the_truth() -> None:
    """Of 400 evaluations of 150 questions, the 95 % interval holds the true gain in 92 to 98 of 100."""
    held = 0
    draws = np.random.default_rng(6)
    for seed in range(400):
        change = draws.choice([1.0, -1.0, 0.0], size=(150, 1), p=[0.125, 0.075, 0.8])
        found = interval(float(change.mean()), resampled(change, seed, 400)[:, 0])
        held += found.low <= 0.05 <= found.high
    assert 0.92 <= held / 400 <= 0.98


@pytest.mark.parametrize(("size", "width"), [(100, 0.17), (300, 0.10), (2000, 0.04)])
def test_the_gain_is_as_sure_as_the_questions_are_many(size: int, width: float) -> None:
    """A true gain of 5 points, a fifth answered differently: 17 points wide at 100 questions, 10 at 300, 4 at 2000."""
    gain = value(simulated(size, 1)).everything.gain
    assert gain.high - gain.low == pytest.approx(width, rel=0.2)
    assert gain.low - 0.03 < 0.05 < gain.high + 0.03


def test_an_extra_answer_costs_what_it_should() -> None:
    """$620 a month, 100,000 queries, 5 points: $0.124 in truth; at 2,000 questions 0.08 to 0.25 or so."""
    report = value(simulated(2000, 0), PAID, queries_per_month=100_000)
    assert report.everything.money is not None
    assert report.everything.money.with_hours is not None
    price = report.everything.money.with_hours.per_extra_correct.value
    assert price is not None
    assert price.low < 0.124 < price.high
    assert 0.05 < price.low < price.mean < price.high < 0.40
    assert price.mean == pytest.approx(620 / (100_000 * report.everything.gain.mean))


def test_no_ratio_where_the_gain_is_not_shown() -> None:
    """With 300 questions and +4.3 points the interval holds 0: no price, but the questions it would take."""
    report = value(pairs(both=160, up=37, down=24, neither=79), PAID, queries_per_month=100_000)
    assert report.everything.gain.low < 0 < report.everything.gain.mean
    money = report.everything.money
    assert money is not None
    assert money.without_hours.per_extra_correct.value is None
    assert money.without_hours.per_extra_correct.why == NOT_SHOWN
    assert report.everything.needed == needed_pairs(np.repeat([1.0, -1.0, 0.0], [37, 24, 239]))
    assert 700 < (report.everything.needed or 0) < 900
    assert verdict(report).startswith("The graph's gain is not shown: +4.3 points, interval −")
    assert "four times in five" in verdict(report)


def test_as_many_questions_as_needed_show_the_gain() -> None:
    """Of evaluations with as many questions as `needed_pairs` says, about four in five show it."""
    needed = needed_pairs(np.repeat([1.0, -1.0, 0.0], [16, 4, 80]))
    assert needed is not None
    draws, shown = np.random.default_rng(3), 0
    for seed in range(200):
        change = draws.choice([1.0, -1.0, 0.0], size=(needed, 1), p=[0.16, 0.04, 0.8])
        shown += interval(0.0, resampled(change, seed, 300)[:, 0]).low > 0
    assert 0.72 <= shown / 200 <= 0.9


def test_five_differences_show_nothing() -> None:
    """Five of 200 answered differently, all for the graph: the bootstrap is sure, a sign test is not."""
    five, six = value(pairs(both=195, up=5)), value(pairs(both=194, up=6))
    assert five.everything.gain.low > 0
    assert (five.everything.verdict, six.everything.verdict) == ("not shown", "better")
    assert "200 paired questions, 5 of them answered differently" in verdict(five)


def test_few_questions_show_nothing() -> None:
    """Below the least number of pairs nothing is shown, however clear it looks, and no chance is given."""
    report = value(pairs(both=9, up=20), PAID, queries_per_month=1000, worth_per_correct=1)
    assert report.everything.verdict == "not shown"
    assert report.everything.needed == 30
    less, _ = balances(report)
    assert (less.per_extra_correct.value, less.volume.value, less.probability, less.curve) == (None, None, None, ())
    assert "probability" not in verdict(report)
    assert "fewer than 30 priced pairs" in {cell for table in tables(report) for row in table.rows for cell in row}


@pytest.mark.parametrize("size", [1, 2, 29])
def test_few_questions_have_no_interval(size: int) -> None:
    """Neither gain nor cost, latency or a month's cost has one below the least number; the page draws none."""
    report = value(pairs(both=size, with_cost="0.002"), PAID, queries_per_month=1000, worth_per_correct=1)
    assert report.everything.money is not None
    assert report.everything.seconds is not None
    found = [report.everything.with_graph, report.everything.gain, report.everything.money.difference]
    found += [report.everything.seconds, *(each.extra for each in balances(report))]
    assert [(each.low, each.high) for each in found] == [(-math.inf, math.inf)] * 6
    cells = [cell for table in tables(report) for row in table.rows for cell in row]
    assert "$0.0010" in cells
    assert not [cell for cell in cells if re.search(r"\d to [−$\d]", cell)]
    assert cells.count("too few") == 2
    assert verdict(report).startswith(f"The graph's gain is not shown: +0.0 points on {size} paired question")
    assert "interval" not in verdict(report).partition(".")[0]
    assert json.loads(json.dumps(report.to_json()))["everything"]["gain"] == {"mean": 0.0, "low": None, "high": None}
    assert re.findall(r'<title id="([a-z-]+)-title"', page(report)) == ["gains"]


def test_a_class_of_few_questions_has_no_interval() -> None:
    """Beside a class with many: its own gain is told without one."""
    few, many = value(classed([("few", 9, 0, 0), ("many", 80, 25, 10)])).classes
    assert math.isinf(few.gain.high)
    assert not math.isinf(many.gain.high)


def test_the_marks_of_small_months_differ() -> None:
    """At ten queries a month the plane's scale has halves, and no mark is written twice."""
    drawn = page(value(pairs(both=160, up=20, down=2), PAID, queries_per_month=10, worth_per_correct=1))
    plane = drawn[drawn.index('"plane-title"') : drawn.index('"net-benefit-title"')]
    marks = re.findall(r">([\d.]+)</text>", plane)
    assert len(marks) > 2
    assert len(set(marks)) == len(marks)


def test_a_loss_is_said() -> None:
    """A graph that answers fewer right is a loss, and has no price per extra answer."""
    report = value(pairs(both=100, down=30, neither=20), PAID, queries_per_month=1000, worth_per_correct=1)
    assert report.everything.verdict == "worse"
    assert "is a loss, and that is shown" in verdict(report)
    assert "never breaks even" in verdict(report)
    money = report.everything.money
    assert money is not None
    assert money.without_hours.per_extra_correct.why == WORSE


def test_no_difference_at_all() -> None:
    """Runs that answer alike give no gain, no number of questions, and no error."""
    report = value(pairs(both=40, neither=10))
    assert (report.everything.verdict, report.everything.needed) == ("not shown", None)
    assert verdict(report).startswith("The graph's gain is not shown: +0.0 points")


# -- money ------------------------------------------------------------------------------------------------------------


def test_hours_stand_apart() -> None:
    """Compute, rent and hours are told one by one; the two balances differ by the hours alone."""
    report = value(pairs(both=240, up=60, down=20, neither=80), PAID, queries_per_month=100_000, worth_per_correct=0.5)
    assert (report.monthly.compute, report.monthly.rent, report.monthly.hours) == (0, 260, 360)
    less, more = balances(report)
    assert more.extra.mean - less.extra.mean == pytest.approx(360)
    assert less.net.mean - more.net.mean == pytest.approx(360)
    assert report.monthly.as_of == TODAY
    assert {"$260.00", "$360.00"} <= {cell for table in tables(report) for row in table.rows for cell in row}


def test_building_is_spread_over_its_months() -> None:
    """$120 of compute and 12 hours at $50, over 6 months."""
    monthly = Fixed(as_of=TODAY, build_compute=120, build_hours=12, hourly_rate=50, months=6).monthly()
    assert (monthly.compute, monthly.rent, monthly.hours) == (20, None, 100)
    assert monthly.not_stated == ("rent",)
    assert (monthly.total(hours=False), monthly.total(hours=True)) == (20, 120)


def test_what_nobody_stated_is_no_zero() -> None:
    """Hours that nobody stated give no second balance, and what is missing is said."""
    report = value(pairs(both=240, up=60, down=20, neither=80), queries_per_month=1000)
    assert balances(report)[1] is None
    assert "Not stated, and so in no figure: the graph's compute and rent." in verdict(report)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"monthly_rent": -1}, "monthly_rent"),
        ({"build_compute": float("nan")}, "build_compute"),
        ({"build_hours": 3}, "hourly_rate"),
        ({"months": 0}, "months"),
    ],
)
def test_costs_that_cannot_be(given: dict[str, Any], named: str) -> None:
    """A wrong amount is refused by the name of its field."""
    with pytest.raises(ConfigurationError, match=named):
        Fixed(as_of=TODAY, **given)


@pytest.mark.parametrize("given", [{"queries_per_month": 0}, {"share_sent": 0}, {"worth_per_correct": -1}])
def test_settings_that_cannot_be(given: dict[str, Any]) -> None:
    """A wrong setting is refused by its name."""
    with pytest.raises(ConfigurationError, match=next(iter(given))):
        value(pairs(both=40), **given)


def test_the_volume_that_pays() -> None:
    """At the break-even volume the month's net benefit is 0; more fixed cost needs more queries."""
    found = pairs(both=240, up=60, down=20, neither=80)
    less, more = balances(value(found, PAID, queries_per_month=1, worth_per_correct=0.5))
    assert less.volume.value.mean < more.volume.value.mean
    at = value(found, PAID, queries_per_month=more.volume.value.mean, worth_per_correct=0.5)
    assert balances(at)[1].net.mean == pytest.approx(0, abs=1e-6)
    half = value(found, PAID, queries_per_month=1, worth_per_correct=0.5, share_sent=0.5)
    assert balances(half)[1].volume.value.mean == pytest.approx(2 * more.volume.value.mean)


def test_a_volume_that_never_comes() -> None:
    """Where an answer's worth does not pay for its models, no volume is enough: infinite, told as never."""
    costly = pairs(both=140, up=40, down=5, neither=15, with_cost="0.5", without_cost="0.001")
    report = value(costly, PAID, queries_per_month=1000, worth_per_correct=0.1)
    assert math.isinf(balances(report)[1].volume.value.mean)
    assert "never breaks even" in verdict(report)
    told = report.to_json()["everything"]["money"]["with_hours"]["volume"]["value"]
    assert told == {"mean": None, "low": None, "high": None}


def test_a_graph_that_saves_money() -> None:
    """Fewer cents and more right answers: the price of an extra one is below 0, and the sentence says so."""
    report = value(pairs(both=140, up=40, down=5, neither=15, with_cost="0.001", without_cost="0.01"))
    assert balances(report)[0].per_extra_correct.value.mean < 0
    assert "The graph answers more and costs less" in verdict(report)


def test_figures_say_what_they_lack() -> None:
    """Without a volume fixed costs cannot be spread, without a worth nothing breaks even."""
    less, _ = balances(value(pairs(both=240, up=60, down=20, neither=80), PAID))
    assert (less.per_extra_correct.why, less.volume.why) == (NO_VOLUME, NO_WORTH)
    assert (less.extra, less.net, less.probability, less.curve) == (None, None, None, ())


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.001, 5), st.integers(1, 10**6))
def test_the_curve_rises_to_the_price(up: int, down: int, worth: float, queries: int) -> None:
    """Net benefit grows with worth where the gain is above 0, its chance lies in 0 … 1, and it is 0 at the price."""
    report = value(
        pairs(both=60, up=up, down=down, neither=1),
        PAID,
        queries_per_month=queries,
        worth_per_correct=worth,
        resamples=60,
    )
    for balance in balances(report):
        nets = [point.net for point in balance.curve]
        assert (sorted(nets) if up >= down else sorted(nets, reverse=True)) == pytest.approx(nets)
        assert all(0 <= point.probability <= 1 and point.low <= point.high for point in balance.curve)
        price = balance.per_extra_correct.value
        if price is not None:
            at = value(
                pairs(both=60, up=up, down=down, neither=1),
                PAID,
                queries_per_month=queries,
                worth_per_correct=price.mean,
                resamples=60,
            )
            hours = balance is balances(report)[1]
            assert balances(at)[hours].net.mean == pytest.approx(0, abs=1e-6 * queries + 1e-6)


def test_a_ratio_over_nothing_is_endless() -> None:
    """A resample without gain has no price that is enough, and ends of intervals stay in order."""
    drawn = ratio(np.array([1.0, 1.0, 0.0]), np.array([2.0, 0.0, -1.0]))
    assert drawn.tolist() == [0.5, math.inf, math.inf]
    found = interval(0.5, np.array([0.5] * 90 + [math.inf] * 10))
    assert (found.low, found.high) == (0.5, math.inf)


# -- what is unpriced -------------------------------------------------------------------------------------------------


def test_unpriced_pairs_are_counted_and_left_out() -> None:
    """A pair with one unpriced answer is in the gain and in no figure of money."""
    rows = [
        row(place, arm, place % 2, None if place < 7 and arm == "g" else "0.002") for place in range(60) for arm in "gv"
    ]
    report = value(pair(rows, "g", "v"))
    assert report.everything.pairs == 60
    assert report.everything.money is not None
    assert report.everything.money.pairs == 53
    assert report.counted == {UNPRICED: 7}
    assert [cost.unpriced for cost in report.runs] == [7, 0]


def test_nothing_priced_leaves_the_gain() -> None:
    """With no price at all there is a gain and no cost, and nowhere a zero."""
    report = value(pairs(both=60, up=20, with_cost=None, without_cost=None), PAID, queries_per_month=10)
    assert report.everything.verdict == "better"
    assert report.everything.money is None
    assert [cost.cost for cost in report.runs] == [None, None]
    assert "nothing can be said of the costs" in verdict(report)
    assert "net-benefit" not in page(report)


def test_a_right_answer_pays_for_the_wrong_ones() -> None:
    """40 answers at $0.01, 10 of them right: $0.04 each; few answers, or none right, give no figure."""
    rows = [row(place, "g", place % 4 == 0, "0.01", route="graph" if place else "hybrid") for place in range(40)]
    rows += [row(place, "v", 0, "0.01") for place in range(40)]
    report = value(pair(rows, "g", "v"))
    assert report.runs[0].per_correct.value is not None
    assert report.runs[0].per_correct.value.mean == pytest.approx(0.04)
    assert report.runs[1].per_correct.why == "no right answer among them"
    assert {cost.route: cost.answers for cost in report.routes} == {"graph": 39, "hybrid": 1}
    assert report.routes[1].per_correct.why == "fewer than 30 priced answers"


# -- classes ----------------------------------------------------------------------------------------------------------


def classed(sizes: Sequence[tuple[str, int, int, int]]) -> Pairs:
    """Pairs by class: (name, both right, graph alone, vector alone)."""
    rows, place = [], 0
    for name, both, up, down in sizes:
        for one, other in [(1, 1)] * both + [(1, 0)] * up + [(0, 1)] * down:
            rows += [row(place, "g", one, question_class=name), row(place, "v", other, question_class=name)]
            place += 1
    return pair(rows, "g", "v")


def test_classes_hide_no_sign() -> None:
    """A gain on multi-hop and a loss on single-hop questions are both seen where the whole shows nothing."""
    report = value(classed([("multi", 60, 30, 5), ("single", 60, 5, 30)]))
    assert report.everything.verdict == "not shown"
    assert [(each.question_class, each.verdict) for each in report.classes] == [
        ("multi", "better"),
        ("single", "worse"),
    ]
    assert len(class_verdicts(report)) == 2


def test_each_class_is_a_look() -> None:
    """With two classes each interval holds 97.5 %: wider than the same questions alone."""
    two = value(classed([("a", 80, 25, 10), ("b", 80, 25, 10)])).classes[0]
    alone = value(classed([("a", 80, 25, 10)])).everything
    assert (two.level, alone.level) == (pytest.approx(0.975), 0.95)
    assert two.gain.low < alone.gain.low < alone.gain.high < two.gain.high


def test_too_many_classes_are_refused() -> None:
    """A class for every question is a mistake, and named as one."""
    with pytest.raises(ConfigurationError, match="21 classes of questions, as 'c00' and 'c01'"):
        value(classed([(f"c{place:02}", 1, 1, 1) for place in range(21)]))


def test_a_class_carries_the_graph_alone() -> None:
    """Half of the questions: the graph pays from twice the queries on, if only they are sent."""
    report = value(classed([("a", 50, 40, 5), ("b", 50, 40, 5)]), PAID, queries_per_month=1000, worth_per_correct=1)
    money = report.classes[0].money
    assert money is not None
    assert money.without_hours.volume.value is not None
    whole = balances(report)[0].volume.value
    assert money.without_hours.volume.value.mean == pytest.approx(2 * whole.mean)


# -- traces and judgements --------------------------------------------------------------------------------------------


def traced(question: str | None, run: str | None, **more: Any) -> QueryTrace:
    """A trace of one priced call."""
    tags = {**({} if question is None else {"question": question}), **more.pop("tags", {})}
    cost = more.pop("cost", Decimal("0.002"))
    call = ModelCall("llm", "m", "openai", None, False, "ok", 0, 1, None, 1, Usage(10, 2), cost, "test, 2026-11-21")
    known = {"id": f"{question}-{run}-{more.get('kind')}", "kind": "query", "name": "q", "started": 0.0, "wall_s": 1.5}
    return QueryTrace(**{**known, "run": run, "tags": tags, "calls": (call,), **more})


def test_traces_meet_their_judgements() -> None:
    """Question, run, cost, seconds, route and class come from the trace; right or wrong from the judgement or a tag."""
    found = judged(
        [
            traced("q1", "g", route="graph", tags={"class": "multi"}),
            traced("q2", "g", tags={"correct": "true"}),
            traced("q3", "g", tags={"correct": "0.5"}, cost=None),
        ],
        [Judgement("q1", "g", 0)],
    )
    assert found.rows == (
        Judged("q1", "g", 0.0, Decimal("0.002"), 1.5, "multi", "graph"),
        Judged("q2", "g", 1.0, Decimal("0.002"), 1.5),
        Judged("q3", "g", 0.5, None, 1.5),
    )
    assert found.counted == {}


def test_what_does_not_fit_is_counted() -> None:
    """Untagged traces, answers without judgement, judgements without trace, a judge's own calls: each by its name."""
    found = judged(
        [
            traced(None, "g"),
            traced("q1", None),
            traced("q1", "g", tags={"correct": "1"}, kind="llm"),
            traced("q1", "g", tags={"correct": "1"}),
            traced("q2", "g"),
            traced("q3", "g", status="error"),
        ],
        [Judgement("q9", "g", 1)],
    )
    assert found.counted == {rooms.UNTAGGED: 2, rooms.BESIDE: 1, rooms.UNJUDGED: 1, rooms.FAILED: 1, rooms.UNASKED: 1}
    assert {each.question: each.correct for each in found.rows} == {"q1": 1.0, "q3": 0.0}


@pytest.mark.parametrize(
    ("traces", "judgements", "said"),
    [
        (
            [traced("q1", "g"), traced("q1", "g", id="again")],
            [],
            r"'q1' was asked twice in run 'g' \(traces q1-g-None, again",
        ),
        (
            [traced("q1", "g")],
            [Judgement("q1", "g", 1)] * 1 + [Judgement("q1", "g", 0)],
            "two judgements of question 'q1'",
        ),
        ([traced("q1", "g", tags={"correct": "1"})], [Judgement("q1", "g", 0)], "but the judgement of 'q1' says 0"),
        ([traced("q1", "g", tags={"correct": "yes"})], [], "tag correct"),
        ([traced("q1", "g"), traced("q2", "g", currency="EUR")], [], "EUR, USD"),
    ],
)
def test_what_contradicts_is_refused(traces: list[QueryTrace], judgements: list[Judgement], said: str) -> None:
    """Doubled traces and judgements, contradictions and mixed currencies are errors that name the question."""
    with pytest.raises(ConfigurationError, match=said):
        judged(traces, judgements)


def test_pairs_name_what_is_missing() -> None:
    """A run that is not there is answered with those that are; lone questions and other runs are counted."""
    rows = [row(1, "g", 1), row(2, "g", 1), row(1, "v", 0), row(3, "v", 0), row(1, "other", 1)]
    found = pair(Answers(tuple(rows)), "g", "v")
    assert len(found) == 1
    assert found.counted == {rooms.OTHER_RUNS: 1, rooms.ALONE.format("g"): 1, rooms.ALONE.format("v"): 1}
    with pytest.raises(ConfigurationError, match=r"no judged answers of run 'w'; there are: 'g' \(2\), 'other' \(1\)"):
        pair(rows, "g", "w")
    with pytest.raises(ConfigurationError, match="not 'g' with itself"):
        pair(rows, "g", "g")
    with pytest.raises(ConfigurationError, match="'q1' is judged twice in run 'g'"):
        pair([*rows, row(1, "g", 0)], "g", "v")
    with pytest.raises(ConfigurationError, match="two classes: a, b"):
        pair([row(1, "g", 1, question_class="a"), row(1, "v", 1, question_class="b")], "g", "v")
    with pytest.raises(ConfigurationError, match="'g' has q1, q2; 'v' has q3|no question was answered"):
        pair([row(1, "g", 1), row(3, "v", 1)], "g", "v")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"question": "q"}', '"run" is a text'),
        ('{"question": 3, "run": "g", "correct": 1}', '"question" is a text'),
        ('{"question": "q", "run": "g"}', '"correct" is a number'),
        ('{"question": "q", "run": "g", "correct": "1"}', '"correct" is a number'),
        ('{"question": "q", "run": "g", "correct": 2}', "from 0 to 1"),
        ('{"question": "q", "run": "g", "correct": NaN}', "from 0 to 1"),
        ('{"question": "q", "run": "g", "correct": 1, "class": 2}', '"class" is a text'),
        ("[]", "expected an object"),
        ("{", "not JSON"),
    ],
)
def test_bad_judgements_are_named(line: str, said: str, tmp_path: Path) -> None:
    """A line of another form is refused with file, line and field."""
    file = tmp_path / "j.jsonl"
    file.write_text(f'{{"question": "q", "run": "v", "correct": true}}\n\n{line}\n', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=rf"j\.jsonl, line 3: .*{said}"):
        read_judgements(file)


@given(st.text(min_size=1), st.text(min_size=1), st.floats(0, 1), st.none() | st.text(min_size=1))
def test_judgements_come_back(question: str, run: str, correct: float, named: str | None) -> None:
    """Whatever the names, a judgement is read as it was written."""
    line = json.loads(json.dumps({"question": question, "run": run, "correct": correct, "class": named}))
    assert judgement(line, "here") == Judgement(question, run, correct, named)


# -- what users see ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Traces of 200 questions in two runs, and their judgements."""
    folder, lines, judgements = tmp_path_factory.mktemp("value"), [], []
    for place in range(200):
        for run, right in (("with-graph", place % 10 < 7), ("without-graph", place % 10 < 5)):
            lines.append(json.dumps(traced(f"q{place}", run, route="graph" if place % 2 else "vector").to_json()))
            judgements.append(json.dumps({"question": f"q{place}", "run": run, "correct": int(right)}))
    (folder / "traces.jsonl").write_text("\n".join([*lines, "torn {"]) + "\n", encoding="utf-8")
    (folder / "judged.jsonl").write_text("\n".join(judgements), encoding="utf-8")
    return folder / "traces.jsonl", folder / "judged.jsonl"


def called(*arguments: object) -> Any:
    """Runs `hybridmem value`."""
    app = typer.Typer()
    app.command()(command.value)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


COSTS = ("--rent", 65, "--build-compute", 12, "--build-hours", 40, "--upkeep-hours", 2, "--hourly-rate", 80)
ASKED = ("--queries-per-month", 50_000, "--worth", 0.5, "--as-of", "2026-11-01")


def test_the_command_says_it_in_words_first(files: tuple[Path, Path]) -> None:
    """The verdict opens, tables follow, the torn line is told apart."""
    result = called(files[0], "--judgements", files[1], *COSTS, *ASKED)
    assert result.exit_code == 0, result.output
    words = " ".join(result.stdout.split())
    assert words.startswith(
        "The graph's gain is shown: +20.0 points, interval +14.5 to +26.0, on 200 paired questions."
    )
    for told in ("Right answers", "with-graph: graph", "As of 2026-11-01.", "$65.00", "queries a month to break"):
        assert told in words
    assert "1 lines of" in result.stderr


def test_the_command_writes_json_and_a_page(files: tuple[Path, Path], tmp_path: Path) -> None:
    """JSON is one value with the verdict in it; the page loads nothing and holds the five plots."""
    out = tmp_path / "value.html"
    result = called(files[0], "--judgements", files[1], *COSTS, *ASKED, "-o", out, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["verdict"].startswith("The graph's gain is shown")
    assert found["monthly"] == {"compute": "1", "rent": "65", "hours": found["monthly"]["hours"], "as_of": "2026-11-01"}
    text = out.read_text(encoding="utf-8")
    assert re.findall(r'<title id="([a-z-]+)-title"', text) == [
        "gains",
        "cost-per-correct",
        "plane",
        "net-benefit",
        "probability",
    ]
    assert not re.search(r"<script|src=|href=\"http|url\(", text)


def test_the_page_does_not_replace_what_it_reads(files: tuple[Path, Path], tmp_path: Path) -> None:
    """-o with the name of the traces is refused before anything is written."""
    before = files[0].read_bytes()
    link = tmp_path / "link.html"
    link.symlink_to(files[0])
    for place, said in ((files[0], "overwrite"), (link, "overwrite"), (tmp_path, r"is a folder; .*value\.html")):
        result = called(files[0], "--judgements", files[1], "-o", place)
        assert isinstance(result.exception, ConfigurationError)
        assert re.search(said, str(result.exception))
    assert files[0].read_bytes() == before


def test_a_page_is_told_by_its_name(files: tuple[Path, Path], tmp_path: Path) -> None:
    """With -o one line, as `report` has it; through a link the file behind it is written, and the link stays."""
    link, place = tmp_path / "link.html", tmp_path / "value.html"
    link.symlink_to(place)
    result = called(files[0], "--judgements", files[1], "-o", link)
    assert result.stdout == f"{link}: 200\u00a0paired questions\n"
    assert place.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert link.is_symlink()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--build-hours", 3), "^--hourly-rate: hours of people"),
        (("--rent", "inf"), "^--rent: "),
        (("--upkeep-compute", "inf"), "^--upkeep-compute: "),
        (("--worth", "inf"), "^--worth: "),
        (("--queries-per-month", "inf"), "^--queries-per-month: "),
    ],
)
def test_errors_name_the_option(given: tuple[object, ...], said: str, files: tuple[Path, Path]) -> None:
    """Not the argument of a Python function."""
    result = called(files[0], "--judgements", files[1], *given)
    assert isinstance(result.exception, ConfigurationError)
    assert re.search(said, str(result.exception))


def test_without_judgements_the_command_says_how_to_give_them(files: tuple[Path, Path]) -> None:
    """A file or a tag; how many answers wait for one is told."""
    result = called(files[0])
    assert isinstance(result.exception, ConfigurationError)
    for told in ("400 answers without a judgement", "--judgements FILE", "tag each query with correct"):
        assert told in str(result.exception)


def test_hostile_names_stay_text(files: tuple[Path, Path]) -> None:
    """A class named like markup is escaped in tables and plots."""
    named = [("<script>x</script>", 60, 30, 5), ("b&b [red]\x1b\x00" + "long " * 90, 60, 5, 30)]
    report = value(classed(named), PAID, queries_per_month=10)
    text = page(report)
    assert "\x1b" not in text
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert page(report) == text


def test_json_is_strict() -> None:
    """No NaN and no Infinity, whatever is missing."""
    report = value(pairs(both=60, down=30, with_cost="0.1"), PAID, queries_per_month=10, worth_per_correct=0.1)
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["everything"]["verdict"] == "worse"
