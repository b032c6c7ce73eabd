"""Tests of the ledgers: each phase by itself, people's time apart from money, nothing lost on the way to the disk."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.costs.bills.entry import PHASES, Entry
from llama_index_hybridmem.costs.bills.ledger import Ledger
from llama_index_hybridmem.costs.prices.book import PriceBook
from llama_index_hybridmem.costs.prices.row import PriceRow
from llama_index_hybridmem.costs.tokens.usage import Usage
from llama_index_hybridmem.costs.trace import ModelCall, QueryTrace
from llama_index_hybridmem.errors import ConfigurationError, StoreDamagedError

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
AMOUNTS = st.decimals(0, 10**6, places=9)


def trace(phase: str, *costs: str | None, started: float = 0.0) -> QueryTrace:
    """A trace of one language model call for each cost, 10 tokens in and 1 out, a second long."""
    calls = tuple(
        ModelCall(
            "llm",
            "m",
            "p",
            None,
            False,
            "ok",
            0.0,
            1.0,
            None,
            1.0,
            Usage(10, 1),
            None if cost is None else Decimal(cost),
        )
        for cost in costs
    )
    return QueryTrace("t7", "query", "q", started, 1.0, phase=phase, calls=calls)


def spent(phase: str, amount: str | None, **more: object) -> Entry:
    """An entry by hand."""
    money = None if amount is None else Decimal(amount)
    return Entry(phase=phase, at=NOW, what="rent", amount=money, **more)  # type: ignore[arg-type]


def test_traces_are_summed_by_the_phase_they_were_made_for() -> None:
    """Building the graph and asking it are two ledgers; what has no price is counted, not taken for 0."""
    traces = [
        trace("query", "0.10", "0.20", started=5.0),
        trace("graph_build", "3", None, started=9.0),
        trace("query", None, started=2.0),
    ]
    ledger = Ledger.of_traces(iter(traces))
    query, build = ledger.total("query"), ledger.total("graph_build")
    assert (query.amount, query.unpriced, query.queries) == (Decimal("0.30"), 1, 2)
    assert (query.input_tokens, query.output_tokens, query.wall_s) == (30, 3, 2.0)
    assert (build.amount, build.unpriced, build.queries) == (Decimal(3), 1, 1)
    assert [total.phase for total in ledger.totals()] == ["graph_build", "query"]
    assert [entry.at.timestamp() for entry in ledger.entries] == [5.0, 9.0]
    assert ledger.total("training").entries == 0


def test_rent_machines_training_and_people_are_added_by_hand() -> None:
    """Each from a dated price, whose source the entry keeps."""
    book, ledger = PriceBook(), Ledger()
    rent = book.row("database", "neo4j", "AuraDB Professional", "GB-month")
    people = book.row("person", "us", "engineer", "person-hour")
    gpu = PriceRow("machine", "me", "gpu", "hour", Decimal(2), Decimal(3), Decimal(4), "USD", "bill", date(2026, 11, 1))
    assert rent is not None
    assert people is not None
    ledger.add(Entry.of_price("graph_upkeep", NOW, "Neo4j, 4 GB, November", rent, 4))
    ledger.add(Entry.of_price("graph_upkeep", NOW, "cleaning names", people, "2.5"))
    ledger.add(Entry.of_price("training", NOW, "router adapter", gpu, "1.5", level="high"))
    upkeep, training = ledger.total("graph_upkeep"), ledger.total("training")
    assert (upkeep.amount, upkeep.hours, upkeep.people) == (Decimal(260), Decimal("2.5"), Decimal("173.75"))
    assert (upkeep.with_people, upkeep.unpriced) == (Decimal("433.75"), 0)
    assert training.amount == Decimal(6)
    assert ledger.entries[0].source == rent.origin


def test_money_and_hours_are_never_mixed_without_a_rate() -> None:
    """Hours without a rate stay hours: the sum with people is unknown until somebody names one."""
    ledger = Ledger([spent("graph_build", "10"), spent("graph_build", None, hours=Decimal(3))])
    plain, rated = ledger.total("graph_build"), ledger.total("graph_build", per_hour=50)
    assert (plain.amount, plain.hours, plain.people, plain.with_people) == (Decimal(10), Decimal(3), None, None)
    assert plain.unpriced == 0
    assert (rated.amount, rated.people, rated.with_people) == (Decimal(10), Decimal(150), Decimal(160))
    ledger.add(spent("graph_build", None, hours=Decimal(1), rate=Decimal(80)))
    assert ledger.total("graph_build", per_hour="50").people == Decimal(230)
    assert ledger.total("query").with_people == 0


def test_an_amount_that_nobody_knows_is_counted() -> None:
    """It is not 0."""
    total = Ledger([spent("dataset", None), spent("dataset", "2")]).total("dataset")
    assert (total.amount, total.unpriced) == (Decimal(2), 1)


@given(st.lists(st.tuples(st.sampled_from(PHASES), AMOUNTS)))
def test_the_phases_together_are_the_whole(entries: list[tuple[str, Decimal]]) -> None:
    """No entry is lost or counted twice, to the last digit."""
    ledger = Ledger(spent(phase, str(amount)) for phase, amount in entries)
    assert sum(total.amount for total in ledger.totals()) == sum(amount for _, amount in entries)
    assert sum(total.entries for total in ledger.totals()) == len(entries)


@given(AMOUNTS, st.text(), st.integers(0, 10**12), st.floats(0, 1e9), st.integers(-12, 14))
def test_an_entry_survives_the_way_through_json(
    amount: Decimal, what: str, count: int, seconds: float, zone: int
) -> None:
    """Every field, whatever it holds, and the moment in whatever time zone."""
    at = NOW.astimezone(timezone(timedelta(hours=zone)))
    entry = Entry(phase="ingest", at=at, what=what, amount=amount, quantity=amount, queries=count, wall_s=seconds)
    for each in (entry, replace(entry, amount=None, hours=amount, rate=amount, unit="person-hour", source="s")):
        assert Entry.from_json(json.loads(json.dumps(each.to_json())), "here") == each


def test_a_ledger_on_disk_is_found_again(tmp_path: Path) -> None:
    """What was added is there after the process, and more can be added."""
    path = tmp_path / "money" / "ledger.jsonl"
    first = Ledger.open(path)
    assert not path.exists()
    first.add(spent("ingest", "1.10"))
    second = Ledger.open(path)
    second.add(spent("ingest", "2.20"))
    assert Ledger.open(path).entries == (*first.entries, second.entries[1])
    assert Ledger.open(path).total("ingest").amount == Decimal("3.30")


def test_an_entry_cut_off_by_a_kill_is_dropped(tmp_path: Path) -> None:
    """It was never acknowledged; the next one takes its place."""
    path = tmp_path / "ledger.jsonl"
    Ledger.open(path).add(spent("ingest", "1"))
    with path.open("a") as file:
        file.write('{"phase": "ing')
    ledger = Ledger.open(path)
    ledger.add(spent("ingest", "2"))
    assert Ledger.open(path).total("ingest").amount == Decimal(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phase": "holiday"}, r"line 2: phase: unknown 'holiday'"),
        ({"amount": "much"}, r"line 2: amount: 'much' is no number"),
        ({"amount": "-1"}, r"line 2: amount: .* not negative"),
        ({"queries": "many"}, r"line 2: .*'many'"),
        ({"at": "yesterday"}, r"line 2: .*yesterday"),
        ({"at": "2026-11-21T12:00:00"}, r"line 2: at: .* no time zone"),
        ({"currency": "EUR"}, r"line 2: currency: 'rent' is in EUR"),
        (None, r"line 2: .*lacks 'phase'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, change: dict[str, object] | None, message: str) -> None:
    """File, line and field."""
    path = tmp_path / "ledger.jsonl"
    good = spent("ingest", "1").to_json()
    bad = {} if change is None else {**good, **change}
    path.write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n")
    with pytest.raises(ConfigurationError, match=message) as caught:
        Ledger.open(path)
    assert str(path) in str(caught.value)


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    """The file is damaged there."""
    path = tmp_path / "ledger.jsonl"
    path.write_text("{}}\n")
    with pytest.raises(StoreDamagedError, match=r"ledger\.jsonl, line 1"):
        Ledger.open(path)


def test_an_entry_that_cannot_be_summed_up_is_refused() -> None:
    """Both money and hours, a rate for nothing, an unknown phase, another currency; also of a trace."""
    with pytest.raises(ConfigurationError, match="no amount of money"):
        spent("ingest", "1", hours=Decimal(1))
    with pytest.raises(ConfigurationError, match="no hours"):
        spent("ingest", "1", rate=Decimal(1))
    with pytest.raises(ConfigurationError, match="unknown 'retrieval'"):
        Ledger().total("retrieval")
    with pytest.raises(ConfigurationError, match="per_hour: 'lots'"):
        Ledger().total("ingest", per_hour="lots")
    with pytest.raises(ConfigurationError, match="trace t7: phase 'holiday' in USD"):
        Ledger.of_traces([trace("holiday")])
    with pytest.raises(ConfigurationError, match="trace t7: phase 'query' in USD"):
        Ledger.of_traces([trace("query")], currency="EUR")
    ledger = Ledger()
    with pytest.raises(ConfigurationError, match="nothing is converted"):
        ledger.add(spent("ingest", "1", currency="EUR"))
    assert ledger.entries == ()
