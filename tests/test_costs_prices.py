"""Tests of the price book: exact amounts, who wins, what stays unpriced, how old prices show."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.costs.prices import genai
from llama_index_hybridmem.costs.prices.book import PriceBook
from llama_index_hybridmem.costs.prices.file import read_rows, shipped_rows
from llama_index_hybridmem.costs.prices.row import CACHED, HOUR, INPUT, OUTPUT, SEARCH, WRITTEN, PriceRow
from llama_index_hybridmem.costs.tokens.usage import Usage
from llama_index_hybridmem.costs.trace import ModelCall, QueryTrace
from llama_index_hybridmem.errors import ConfigurationError, StoreError

NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)
HEADER = "kind,provider,model,unit,low,typical,high,currency,source,read_on,note"
LINE = "llm,acme,m,hour,1,2,3,USD,the bill,2026-11-01,"
COUNTS = st.integers(0, 10**7)
USAGES = st.builds(
    lambda plain, read, written, output: Usage(plain + read + written, output, read, written),
    COUNTS,
    COUNTS,
    COUNTS,
    COUNTS,
)


def call(
    provider: str | None, model: str | None, usage: Usage | None = None, busy_s: float = 0.0, kind: str = "llm"
) -> ModelCall:
    """A call with what prices look at."""
    return ModelCall(kind, model, provider, None, False, "ok", 0.0, 1.0, None, busy_s, usage)


def row(unit: str, typical: str, model: str = "m", **changes: object) -> PriceRow:
    """A row of acme's, read today."""
    amount = Decimal(typical)
    plain = PriceRow("llm", "acme", model, unit, amount, amount, amount, "USD", "the bill", NOW.date())
    return replace(plain, **changes)  # type: ignore[arg-type]


def tokens(model: str = "m", **changes: object) -> list[PriceRow]:
    """Rows for every sort of token."""
    amounts = {INPUT: "3", CACHED: "0.30", WRITTEN: "3.75", OUTPUT: "15"}
    return [row(unit, amount, model, **changes) for unit, amount in amounts.items()]


def amount(book: PriceBook, of: ModelCall, at: datetime = NOW) -> Decimal | None:
    """What a call costs."""
    priced = book.cost(of, at)
    return None if priced is None else priced.amount


@pytest.fixture
def without_genai(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without genai-prices."""
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    genai.installed.cache_clear()
    yield
    genai.installed.cache_clear()


def test_each_sort_of_token_has_its_own_price() -> None:
    """1,000 of 1,600 input tokens read from the cache and 500 written to it, 300 out: to the last digit."""
    book = PriceBook(tokens(), only_rows=True)
    priced = book.cost(call("acme", "m", Usage(1600, 300, 1000, 500)), NOW)
    assert priced is not None
    assert priced.amount == Decimal("0.006975")  # 100 x 3 + 1000 x .30 + 500 x 3.75 + 300 x 15 millionths
    assert (priced.currency, priced.source) == ("USD", "the bill, read 2026-11-21")


def test_cached_tokens_without_a_price_of_their_own_cost_as_much_as_others() -> None:
    """Nobody said that they are cheaper."""
    book = PriceBook([row(INPUT, "3"), row(OUTPUT, "15")], only_rows=True)
    assert amount(book, call("acme", "m", Usage(1000, 0, 400, 100))) == Decimal("0.003")


def test_counts_that_contradict_one_another_never_give_money_back() -> None:
    """More cached tokens than input: each cached one costs, nothing else does; genai-prices gets the same counts."""
    assert amount(PriceBook(tokens(), only_rows=True), call("acme", "m", Usage(10, 0, 20))) == Decimal("0.000006")
    assert amount(PriceBook(), call("openai", "gpt-4o", Usage(10, 0, 20))) == Decimal("0.000025")


@given(USAGES, USAGES)
def test_costs_of_tokens_add_up_and_never_fall(one: Usage, other: Usage) -> None:
    """Two calls cost what one with the tokens of both would, and no more tokens cost less."""
    book = PriceBook(tokens(), only_rows=True)
    both = Usage(
        one.input + other.input,
        one.output + other.output,
        one.cached_read + other.cached_read,
        one.cached_write + other.cached_write,
    )
    single, rest, whole = (amount(book, call("acme", "m", usage)) for usage in (one, other, both))
    assert single is not None
    assert rest is not None
    assert single + rest == whole
    assert whole >= max(single, rest)


@given(st.floats(0, 1e7), st.floats(0, 1e7))
def test_machine_time_costs_by_the_hour(one: float, other: float) -> None:
    """More busy seconds never cost less, and two calls cost what their sum does, to the twelfth place."""
    book = PriceBook(only_rows=True).self_hosted("mine*", "1.99", "invoice of May", "2026-11-01")
    first, second, both = (amount(book, call(None, "mine-8b", None, busy)) for busy in (one, other, one + other))
    assert first is not None
    assert second is not None
    assert both is not None
    assert (one <= other) <= (first <= second)
    assert abs(first + second - both) <= Decimal("1e-8")


def test_a_self_hosted_model_needs_no_token_counts() -> None:
    """Half an hour busy at 1.99; the book that it was made from still does not know it."""
    plain = PriceBook()
    book = plain.self_hosted("my-model*", "1.99", "invoice of May", date(2026, 11, 1), kind="embedding")
    mine = call("local", "My-Model-v2", None, 1800.0, "embedding")
    priced = book.cost(mine, NOW)
    assert priced is not None
    assert (priced.amount, priced.source) == (Decimal("0.995"), "invoice of May, read 2026-11-01")
    assert plain.cost(mine, NOW) is None
    assert book.cost(replace(mine, kind="llm"), NOW) is None


def test_a_rerank_call_costs_a_search() -> None:
    """The dearer model is told from the others."""
    book = PriceBook()
    assert amount(book, call("cohere", "rerank-v3.5", kind="rerank")) == Decimal("0.002")
    assert amount(book, call("cohere", "rerank-v4.0-pro", kind="rerank")) == Decimal("0.0025")


def test_what_runs_in_this_process_is_priced_and_a_model_on_a_gpu_is_not_guessed() -> None:
    """The encoder and the small model of this package have a range; another local model needs its machine's price."""
    small = call("local", "SmolLM2-135M-Instruct", None, 3600.0)
    low, typical, high = (amount(PriceBook(level=level), small) for level in ("low", "typical", "high"))  # type: ignore[arg-type]
    assert low is not None
    assert typical is not None
    assert high is not None
    assert 0 < low < typical < high
    book = PriceBook()
    assert amount(book, call("local", "all-MiniLM-L6-v2", None, 1.0, "embedding")) is not None
    assert amount(book, call("local", "Qwen3-8B", Usage(10, 10), 1.0)) is None


def test_the_level_shows_in_the_source() -> None:
    """A figure at the high end does not look like any other."""
    book = PriceBook([row(HOUR, "2", low=Decimal(1), high=Decimal(3))], level="high", only_rows=True)
    priced = book.cost(call("acme", "m", None, 3600.0), NOW)
    assert priced is not None
    assert (priced.amount, priced.source) == (Decimal(3), "the bill, read 2026-11-21, high")


@pytest.mark.parametrize(
    ("model", "usage", "at", "expected"),
    [
        ("anthropic/claude-sonnet-4-5", Usage(300_000, 1000), NOW, "1.8225"),  # the tier above 200,000
        ("anthropic/claude-sonnet-4-5", Usage(1600, 300, 1000, 500), NOW, "0.006975"),
        ("openai/o3", Usage(10**6, 10**6), datetime(2025, 6, 9, tzinfo=timezone.utc), "50"),
        ("openai/o3", Usage(10**6, 10**6), datetime(2025, 6, 11, tzinfo=timezone.utc), "10"),
    ],
)
def test_genai_prices_knows_tiers_and_dates(model: str, usage: Usage, at: datetime, expected: str) -> None:
    """What no table has comes from it, with its version."""
    provider, _, name = model.partition("/")
    priced = PriceBook().cost(call(provider, name, usage), at)
    assert priced is not None
    assert priced.amount == Decimal(expected)
    assert priced.source == f"genai-prices {genai.installed()}"


def test_a_book_made_for_a_moment_prices_as_of_then() -> None:
    """`at` of the book wins over the call's."""
    book = PriceBook(at=datetime(2025, 6, 9, tzinfo=timezone.utc))
    assert amount(book, call("openai", "o3", Usage(10**6, 10**6)), NOW) == Decimal(50)


@pytest.mark.parametrize(
    "unknown",
    [
        call("nobody", "gpt-4o", Usage(10, 10)),
        call(None, "gpt-4o", Usage(10, 10)),
        call("openai", "gpt-99", Usage(10, 10)),
        call("openai", None, Usage(10, 10)),
        call("openai", "gpt-4o", None),
        call("acme", "m", None),
        call("cohere", "command-r", Usage(10, 10), kind="rerank"),
        call("github-copilot", "gpt-4o", Usage(10, 10)),  # known to genai-prices, without any price
        call("openai", "text-embedding-3-small", Usage(10, 10)),  # an llm call of a model without a price for output
    ],
    ids=lambda of: f"{of.provider}-{of.model}-{of.kind}",
)
def test_what_nobody_knows_is_unpriced(unknown: ModelCall) -> None:
    """None, never 0: an unknown provider or model, unknown tokens, tokens without a price."""
    assert PriceBook(tokens()).cost(unknown, NOW) is None


def test_own_rows_win_and_the_newest_first() -> None:
    """Over the table and over genai-prices; a book knows nothing of the books made from it."""
    small = call("openai", "text-embedding-3-small", Usage(10**6, 0), kind="embedding")
    plain = PriceBook()
    first = plain.with_rows([row(INPUT, "7", "text-*", kind="embedding", provider="openai")])
    second = first.with_rows([row(INPUT, "8", "text-embedding-*", kind="embedding", provider="OpenAI")])
    assert [amount(book, small) for book in (plain, first, second)] == [Decimal("0.02"), Decimal(7), Decimal(8)]
    own = PriceBook([*tokens("gpt-4o*", provider="*")])
    assert amount(own, call("openai", "gpt-4o", Usage(10**6, 0))) == Decimal(3)


def test_within_a_table_the_first_that_fits_decides() -> None:
    """So the particular stands above the general."""
    book = PriceBook([row(HOUR, "1", "m-small"), row(HOUR, "9", "m-*")], only_rows=True)
    assert [amount(book, call("acme", name, None, 3600.0)) for name in ("m-small", "m-large")] == [1, 9]


def test_without_the_library_the_tables_price(without_genai: None, caplog: pytest.LogCaptureFixture) -> None:
    """Tokens of a language model are unpriced then, embeddings are not, and the log says why, once."""
    caplog.set_level(logging.DEBUG)
    book = PriceBook()
    assert book.cost(call("openai", "gpt-4o", Usage(10, 10)), NOW) is None
    assert book.cost(call("openai", "gpt-4o", Usage(10, 10)), NOW) is None
    assert amount(book, call("openai", "text-embedding-3-small", Usage(10**6, 0), kind="embedding")) == Decimal("0.02")
    assert [record.levelname for record in caplog.records if "genai-prices" in record.message] == ["DEBUG"]
    assert book.sources()[-1] == 'genai-prices is not installed (pip install "llama-index-hybridmem[prices]")'
    assert "openai" in book.providers()
    assert "anthropic" not in book.providers()


def test_a_book_names_its_sources(tmp_path: Path) -> None:
    """Own rows, those of a file by its name, the table with its dates, the library with its version."""
    path = tmp_path / "mine.csv"
    path.write_text(f"{HEADER}\n{LINE}\n{LINE.replace(',m,', ',n,')}\n")
    assert PriceBook.from_file(path, only_rows=True).sources() == (f"2 prices of {path}",)
    own, table, library = PriceBook(tokens()).sources()
    assert own == "4 own prices"
    assert table.startswith(f"{len(shipped_rows())} prices of this package")
    assert table.endswith(f"to {max(row.read_on for row in shipped_rows())}")
    assert library == f"genai-prices {genai.installed()}"
    assert PriceBook(tokens(), only_rows=True).sources() == ("4 own prices",)
    assert PriceBook([row(HOUR, "1")], only_rows=True).sources() == ("1 own price",)


def test_a_book_says_what_it_knows() -> None:
    """A model with a price in tokens or by the hour is known, a misspelt one or one of another provider is not."""
    book = PriceBook(tokens(), only_rows=True).self_hosted("mine", 2, "invoice", NOW.date())
    assert book.knows("llm", "acme", "m")
    assert book.knows("llm", "anybody", "mine")
    assert not book.knows("llm", "acme", "nosuch")
    assert not book.knows("llm", "openai", "m")
    assert book.providers() == ("*", "acme")


def test_a_stale_price_warns_once_and_shows(caplog: pytest.LogCaptureFixture) -> None:
    """More than so many days old on the day of use, by the book's clock."""
    old = [row(HOUR, "1", "a", read_on=date(2026, 5, 24)), row(HOUR, "1", "b", read_on=date(2026, 5, 25))]
    book = PriceBook(old, only_rows=True, stale_after_days=180, clock=NOW.timestamp)
    sources = [book.cost(call("acme", model, None, 1.0), NOW) for model in ("a", "a", "b")]
    assert [priced and priced.source for priced in sources] == [
        "the bill, read 2026-05-24, stale",
        "the bill, read 2026-05-24, stale",
        "the bill, read 2026-05-25",
    ]
    assert [record.message for record in caplog.records] == [
        "the price of a is older than 180 days: the bill, read 2026-05-24"
    ]
    assert book.stale() == (old[0],)
    assert book.stale(date(2026, 12, 1)) == tuple(old)


def test_rows_can_be_looked_up() -> None:
    """For what nobody bills per call: rent, machines, people; with the range, for reports."""
    book = PriceBook()
    rent = book.row("database", "neo4j", "AuraDB Professional", "GB-month")
    assert rent is not None
    assert rent.typical == Decimal(65)
    gpu = book.row("machine", "runpod", "NVIDIA H100 80GB HBM3", HOUR)
    assert gpu is not None
    assert gpu.low < gpu.typical < gpu.high
    assert book.lookup("database", "qdrant", "Cloud Standard") == ()
    assert book.row("database", "neo4j", "AuraDB Professional", "month") is None


def test_the_table_of_this_package_says_where_each_price_comes_from() -> None:
    """Its rows are in one currency and dated, and what is second-hand or assumed says so."""
    rows = shipped_rows()
    assert {row.currency for row in rows} == {"USD"}
    assert set(rows) == set(PriceBook().rows)
    for each in rows:
        assert each.source.startswith("genai-prices") or each.note.startswith(("secondary", "assumed")), each


def test_an_old_trace_is_priced_anew() -> None:
    """At its own date, at another, as another model; what nobody prices any more becomes unpriced."""
    calls = (call("openai", "o3", Usage(10**6, 10**6)), replace(call("nobody", "x"), cost=Decimal(5), price="a guess"))
    started = datetime(2025, 6, 1, tzinfo=timezone.utc).timestamp()
    trace = QueryTrace("1", "query", "q", started, 1.0, calls=calls, currency="EUR")
    book = PriceBook()
    then, now = book.reprice(trace), book.reprice(trace, at=NOW)
    assert [then.cost_known, now.cost_known] == [Decimal(50), Decimal(10)]
    assert (then.unpriced, then.calls[1].price, then.currency) == (1, None, "USD")
    embedded = call("openai", "text-embedding-3-small", Usage(10**6, 0), kind="embedding")
    other = book.reprice(replace(trace, calls=(*calls, embedded)), ("anthropic", "claude-haiku-4-5"), NOW)
    assert [each.cost for each in other.calls] == [Decimal(6), None, Decimal("0.02")]
    assert other.calls[0].price == f"as anthropic/claude-haiku-4-5: genai-prices {genai.installed()}"
    assert other.calls[0].model == "o3"


def test_a_book_reads_a_file(tmp_path: Path) -> None:
    """Columns in any order, low and high from the typical amount, a mark of Excel's at the start."""
    path = tmp_path / "prices.csv"
    path.write_text(
        "\ufeffunit,kind,model,provider,typical,read_on,source\nsearch,rerank,r*,acme,0.5,2026-11-01,bill\n"
    )
    book = PriceBook.from_file(path, level="high", only_rows=True)
    assert amount(book, call("acme", "r1", kind="rerank")) == Decimal("0.5")
    assert book.rows[0].low == book.rows[0].high == Decimal("0.5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEADER}\n{LINE}\n{LINE.replace(',2,', ',two,')}\n", r"line 3, typical: 'two' is no number"),
        (f"{HEADER}\n{LINE.replace(',2,', ',-2,')}\n", r"line 2, typical: '-2' must be finite and not negative"),
        (f"{HEADER}\n{LINE.replace(',2,', ',NaN,')}\n", r"line 2, typical: 'NaN' must be finite"),
        (f"{HEADER}\n{LINE.replace(',1,', ',2.5,')}\n", r"line 2, typical: 2 must lie between low 2.5 and high 3"),
        (f"{HEADER}\n{LINE.replace('2026-11-01', 'May')}\n", r"line 2, read_on: 'May' is no date"),
        (f"{HEADER}\n{LINE.replace('hour', 'day')}\n", r"line 2, unit: llm has none of 'day'"),
        (f"{HEADER}\n{LINE.replace('llm', 'model')}\n", r"line 2, kind: unknown 'model'"),
        (f"{HEADER}\n{LINE.replace('the bill', ' ')}\n", r"line 2, source: must not be empty"),
        (f"{HEADER}\n{LINE},extra\n", r"line 2: the row has not as many cells"),
        (f"{HEADER}\nllm,acme\n", r"line 2: the row has not as many cells"),
        (f"{HEADER.replace('unit,', '')}\n", r"line 1: lacks the column 'unit'"),
        (f"{HEADER},typcial\n", r"line 1: has an unknown column 'typcial'"),
        ("", r"line 1: lacks the column 'kind'"),
        (f'{HEADER}\n"llm\n', r"no CSV in UTF-8"),
        (f"{HEADER}\n{LINE}\n{LINE}\n", r"prices.csv: llm acme/m: two prices for one unit"),
        (f"{HEADER}\n{LINE.replace('USD', 'EUR')}\n", r"prices.csv: m: priced in EUR, the book is in USD"),
    ],
)
def test_a_bad_file_is_refused_by_line_and_field(tmp_path: Path, text: str, message: str) -> None:
    """The error names the file, the line and the field, and what is wrong with it."""
    path = tmp_path / "prices.csv"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message) as caught:
        PriceBook.from_file(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_an_error(tmp_path: Path) -> None:
    """Of the disk, or of the file."""
    with pytest.raises(StoreError, match="none.csv"):
        read_rows(tmp_path / "none.csv")
    (tmp_path / "zip.csv").write_bytes(b"PK\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="no CSV in UTF-8"):
        read_rows(tmp_path / "zip.csv")


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([row(INPUT, "3")], {}, "no price for 1M output tokens"),
        ([row(OUTPUT, "3", kind="embedding")], {}, "no price for 1M input tokens"),
        ([*tokens(), row(HOUR, "1")], {}, "take tokens, searches or hours"),
        ([row(SEARCH, "1"), row(HOUR, "1")], {}, "take tokens, searches or hours"),
        ([], {"currency": "EUR"}, "only_rows=True"),
        ([], {"level": "most"}, "unknown 'most'"),
        ([row(HOUR, "1", currency="EUR")], {}, "nothing is converted"),
    ],
)
def test_a_book_that_could_not_price_rightly_is_refused(
    rows: list[PriceRow], settings: dict[str, object], message: str
) -> None:
    """Half a price, two ways of pricing, another currency."""
    with pytest.raises(ConfigurationError, match=message):
        PriceBook(rows, **settings)  # type: ignore[arg-type]


def test_a_book_may_be_in_another_currency() -> None:
    """With own rows only; nothing is converted."""
    book = PriceBook([row(HOUR, "2", currency="EUR")], only_rows=True, currency="EUR")
    priced = book.cost(call("acme", "m", None, 3600.0), NOW)
    assert priced is not None
    assert (priced.amount, priced.currency) == (Decimal(2), "EUR")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rows": [{"kind": "llm"}]}, r"rows: number 1 is no PriceRow"),
        ({"rows": [row(HOUR, "1"), None]}, r"rows: number 2 is no PriceRow: None"),
        ({"rows": 5}, r"rows: a list of PriceRow is expected"),
        ({"rows": "prices.csv"}, r"PriceBook\.from_file reads a file"),
        ({"rows": Path("prices.csv")}, r"PriceBook\.from_file reads a file"),
        ({"at": "2026-11-21"}, r"at: a datetime"),
        ({"at": NOW.date()}, r"at: a datetime"),
        ({"level": ["low"]}, r"level: unknown"),
        ({"only_rows": "no"}, r"only_rows: True or False"),
        ({"currency": None, "only_rows": True}, r"currency: a text"),
        ({"stale_after_days": "180"}, r"stale_after_days: a whole number"),
        ({"stale_after_days": -1}, r"stale_after_days: a whole number"),
        ({"clock": 0.0}, r"clock: a function"),
    ],
    ids=str,
)
def test_arguments_of_another_type_are_refused_by_name(wrong: dict[str, object], message: str) -> None:
    """When the book is made, not when the first call is priced."""
    with pytest.raises(ConfigurationError, match=message):
        PriceBook(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"high": "1.5"}, r"high: a Decimal is expected, not '1.5'"),
        ({"low": 1.0}, r"low: a Decimal is expected"),
        ({"provider": None}, r"provider: a text is expected"),
        ({"kind": ["llm"]}, r"kind: a text is expected"),
        ({"read_on": "2026-11-01"}, r"read_on: a date"),
        ({"read_on": NOW}, r"read_on: a date without a time"),
    ],
    ids=str,
)
def test_a_row_of_other_types_is_refused(wrong: dict[str, object], message: str) -> None:
    """By the field, so that no price turns out to be a text when it is multiplied."""
    with pytest.raises(ConfigurationError, match=message):
        row(HOUR, "1", **wrong)
    with pytest.raises(ConfigurationError, match="the path of a price table"):
        read_rows(5)  # type: ignore[arg-type]
