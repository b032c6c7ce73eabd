"""What it would cost: corpora cut as ingest cuts them, ranges with their reasons, prices shown, traces repriced."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.schema import Document, MetadataMode
from typer.testing import CliRunner

from llama_index_hybridmem.cli import costs as command
from llama_index_hybridmem.costs.planning.corpus import default_count, measure
from llama_index_hybridmem.costs.planning.estimate import BY_THE_HOUR, NO_PRICE, Estimate, Line, estimate
from llama_index_hybridmem.costs.planning.work import GRAPHS, Corpus, Graph, Plan
from llama_index_hybridmem.costs.prices import genai
from llama_index_hybridmem.costs.prices.book import PriceBook
from llama_index_hybridmem.costs.prices.row import LEVELS, Level, PriceRow
from llama_index_hybridmem.costs.tokens.usage import Usage
from llama_index_hybridmem.costs.trace import ModelCall, QueryTrace, from_json
from llama_index_hybridmem.errors import ConfigurationError, HybridMemoryError
from llama_index_hybridmem.splitter import StructureSplitter

NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)
THOUSAND = Corpus(10, 2_000_000, 512_000, 1000, 512_000, 512, 512, "a test")
"""A thousand chunks of 512 tokens."""

TEXTS = [
    "# DRAM\n\nDRAM stores a bit in a capacitor.\n\n## Refresh\n\n" + "Refreshing every 64 ms costs energy. " * 40,
    "Plain text without a heading. " * 60,
    "| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 80,
    "短い文章です。" * 30,
]


def price(kind: str, provider: str, model: str, unit: str, *amounts: str) -> PriceRow:
    """A row: one amount, or low, typical and high."""
    low, typical, high = map(Decimal, amounts if len(amounts) == 3 else amounts * 3)
    return PriceRow(kind, provider, model, unit, low, typical, high, "USD", "a test", date(2026, 11, 1))


ROWS = [
    price("llm", "openai", "gpt-4o-mini", "1M input tokens", "0.10", "0.15", "0.20"),
    price("llm", "openai", "gpt-4o-mini", "1M output tokens", "0.60"),
    price("embedding", "openai", "text-embedding-3-small", "1M input tokens", "0.02"),
    price("embedding", "local", "MiniLM", "hour", "0.18"),
    price("llm", "local", "mine", "hour", "2.00"),
    price("machine", "*", "vCPU", "vCPU-hour", "0.03", "0.04", "0.05"),
]


def books(rows: list[PriceRow] = ROWS) -> Mapping[Level, PriceBook]:
    """A book for each level, of these rows alone."""
    return {level: PriceBook(rows, level=level, only_rows=True, clock=NOW.timestamp) for level in LEVELS}


def estimated(corpus: Corpus = THOUSAND, **plan: Any) -> Estimate:
    """An estimate by the rows above."""
    return estimate(corpus, Plan(**plan), books(), NOW)


def line(found: Estimate, name: str) -> Line:
    """The line of a kind of work."""
    return next(each for each in found.lines if each.work.name == name)


def typical(found: Estimate, name: str) -> float:
    """What a line typically costs."""
    cost = line(found, name).cost
    assert cost is not None
    return float(cost.typical)


# -- the corpus -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [40, 200, 512])
def test_chunks_are_those_of_ingest(size: int) -> None:
    """As many chunks, of as many tokens, as the splitter makes of the same documents."""
    count, name = default_count()
    documents = [Document(text=text, metadata={"file_name": f"{place}.md"}) for place, text in enumerate(TEXTS)]
    found = measure(documents, size)
    nodes = StructureSplitter(count=count, max_tokens=size)(documents)
    sizes = [count(node.get_content(MetadataMode.EMBED)) for node in nodes]
    assert (found.documents, found.chunks, found.chunk_tokens) == (len(TEXTS), len(nodes), sum(sizes))
    assert (found.tokens, found.largest_chunk) == (sum(map(count, TEXTS)), max(sizes))
    assert found.counted_by == name == "cl100k_base, by LlamaIndex"


def test_another_count_is_named() -> None:
    """A tokenizer of one's own counts, and is named; a chunk needs room."""
    found = measure([Document(text="one two three")], 50, lambda text: len(text.split()), "words")
    assert (found.tokens, found.chunks, found.counted_by) == (3, 1, "words")
    with pytest.raises(ConfigurationError, match="chunk_size"):
        measure([], 0)


# -- the arithmetic ---------------------------------------------------------------------------------------------------


def test_a_graph_by_a_model_costs_what_was_measured() -> None:
    """A thousand chunks: vectors $0.010; `PropertyGraphIndex` with gpt-4o-mini $0.17 and $0.025 more."""
    found = estimated(graph="llm")
    assert typical(found, "chunks embedded") == pytest.approx(0.01024)
    assert typical(found, "graph: triplets") == pytest.approx(0.1716)
    assert typical(found, "graph: embedded") == pytest.approx(0.0247, rel=0.01)
    assert line(found, "graph: triplets").work.calls == 1000
    assert found.totals["build"] == found.known["build"]


def test_the_entity_graph_calls_no_model() -> None:
    """It takes CPU time alone: thousandths of a cent, by the price of a vCPU."""
    found = estimated(graph="entities")
    assert [each.work.kind for each in found.lines] == ["embedding", "machine"]
    assert typical(found, "graph: names, links") == pytest.approx(3 * 0.512 / 3600 * 0.04)
    assert line(found, "graph: names, links").price == "a test, read 2026-11-01"


def test_a_month_of_questions() -> None:
    """Each question: itself, the prompt around and five chunks in, an answer out; a graph by a model one call more."""
    found = estimated(queries_per_month=1000)
    read, written = 1000 * (35 + 15 + 5 * 512), 1000 * 150
    assert typical(found, "answers") == pytest.approx((read * 0.15 + written * 0.60) / 1e6)
    assert typical(found, "questions embedded") == pytest.approx(1000 * 15 * 0.02 / 1e6)
    more = estimated(queries_per_month=1000, graph="llm")
    assert line(more, "graph: synonyms").work.calls == 1000
    assert typical(more, "answers") > typical(found, "answers")
    assert [each.work.phase for each in estimated().lines] == ["build"]


def test_fewer_chunks_than_asked_for() -> None:
    """A corpus of two chunks puts two into the prompt, not five."""
    small = Corpus(1, 800, 200, 2, 200, 100, 512, "a test")
    assert line(estimated(small, queries_per_month=1), "answers").work.input.typical == 35 + 15 + 200


@given(
    st.integers(1, 10**6),
    st.integers(1, 2000),
    st.sampled_from(GRAPHS),
    st.integers(0, 10**6),
    st.integers(1, 20),
)
def test_ranges_are_in_order(chunks: int, size: int, graph: Graph, queries: int, top_k: int) -> None:
    """Low is never above typical, nor typical above high, and totals are the sums of their lines."""
    corpus = Corpus(1, 1, chunks * size, chunks, chunks * size, size, size, "a test")
    found = estimated(corpus, graph=graph, queries_per_month=queries, top_k=top_k)
    costs = [each.cost for each in found.lines]
    assert all(cost is not None and cost.low <= cost.typical <= cost.high for cost in costs)
    total = found.totals["build"], found.totals["month"]
    assert sum(each.typical for each in total if each) == sum(cost.typical for cost in costs if cost)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["schema"] == 1


def test_every_input_says_how_it_is_known() -> None:
    """What was counted names who counted, what was measured or is assumed says so; only what is used is listed."""
    found = estimated(graph="llm", queries_per_month=1)
    assert {each.mark for each in found.inputs} == {"measured", "assumed"}
    assert all(each.source for each in found.inputs)
    assert found.inputs[0].source == "a test"
    assert len(found.inputs) > len(estimated().inputs)


# -- what has no price ------------------------------------------------------------------------------------------------


def test_an_unknown_model_makes_the_total_unknown() -> None:
    """Not smaller, and not 0: the total is None, and what is known stands beside it."""
    found = estimated(llm="mystery", queries_per_month=1000)
    assert (line(found, "answers").cost, line(found, "answers").price) == (None, NO_PRICE)
    assert found.totals["month"] is None
    assert found.known["month"].typical == Decimal("0.0003")
    assert found.totals["build"] is not None
    assert found.to_json()["totals"]["month"] is None


def test_a_model_by_the_hour() -> None:
    """How long a language model of one's own takes nobody knows yet: unpriced; an encoder here was measured."""
    found = estimated(llm="mine", llm_provider="local", queries_per_month=10)
    assert (line(found, "answers").cost, line(found, "answers").price) == (None, BY_THE_HOUR)
    here = estimated(embedding="MiniLM", embedding_provider="local")
    assert typical(here, "chunks embedded") == pytest.approx(0.512 * 230 / 3600 * 0.18)


def test_no_price_of_a_vcpu() -> None:
    """Without a row for CPU time the entity graph is unpriced, not free."""
    found = estimate(THOUSAND, Plan(graph="entities"), books(ROWS[:3]), NOW)
    assert (line(found, "graph: names, links").cost, found.totals["build"]) == (None, None)


@pytest.mark.parametrize("wrong", [{"graph": "big"}, {"queries_per_month": -1}, {"top_k": 0}])
def test_plans_that_cannot_be(wrong: dict[str, Any]) -> None:
    """A wrong field is refused by its name."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Plan(**wrong)


# -- the command line -------------------------------------------------------------------------------------------------


def called(*arguments: object) -> Any:
    """Runs `hybridmem costs …`."""
    result = CliRunner().invoke(command.app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two documents, a file that is none, and a table of prices."""
    place = tmp_path_factory.mktemp("costs")
    (place / "docs").mkdir()
    for name, text in zip(("a.md", "b.txt"), TEXTS, strict=False):
        (place / "docs" / name).write_text(text, encoding="utf-8")
    (place / "docs" / "c.md").write_bytes(b"caf\xe9")
    (place / "prices.csv").write_text(
        "kind,provider,model,unit,typical,source,read_on\n"
        "llm,openai,house-model,1M input tokens,1.5,our contract,2026-11-01\n"
        "llm,openai,house-model,1M output tokens,6,our contract,2026-11-01\n"
        "llm,openai,old-model,1M input tokens,3,a letter,2020-01-01\n"
        "llm,openai,old-model,1M output tokens,9,a letter,2020-01-01\n",
        encoding="utf-8",
    )
    return place


def test_the_estimate_is_told(folder: Path) -> None:
    """A sentence, the work, what it rests on, where prices come from; what cannot be read is told apart."""
    own = ("--llm", "house-model", "--prices", folder / "prices.csv")
    result = called("estimate", folder / "docs", *own, "--graph", "llm", "--queries-per-month", 1000)
    words = " ".join(result.stdout.split())
    assert words.startswith("2 documents, ")
    for told in (
        "Building once: $",
        "A month of questions: $",
        "graph: triplets",
        "assumed",
        "our contract, read 2026",
    ):
        assert told in words
    assert "c.md: not UTF-8" in result.stderr


def test_the_estimate_in_json(folder: Path) -> None:
    """One value; an unknown model leaves the month's total null."""
    result = called("estimate", folder / "docs", "--llm", "mystery", "--queries-per-month", 5, "--json")
    found = json.loads(result.stdout)
    assert found["totals"]["month"] is None
    assert found["corpus"]["documents"] == 2
    assert [problem["reason"][:9] for problem in found["problems"]] == ["not UTF-8"]
    told = called("estimate", folder / "docs", "--llm", "mystery", "--queries-per-month", 5)
    assert "unknown, because mystery has no price; the rest $" in " ".join(told.stdout.split())


def test_nothing_to_estimate(folder: Path) -> None:
    """No text is an error that names the place."""
    with pytest.raises(HybridMemoryError, match=r"no text to estimate from; .*c\.md: not UTF-8"):
        called("estimate", folder / "docs" / "c.md")


def test_prices_are_shown_with_their_source(folder: Path) -> None:
    """Rows with source and date, old ones marked; a model that nobody knows is said to be unpriced."""
    own = ("--prices", folder / "prices.csv", "--provider", "openai")
    shown = called("prices", "house-model", *own).stdout
    assert "our contract" in shown
    assert "2026-11-01" in shown
    rows = json.loads(called("prices", "old-model", *own, "--json").stdout)["rows"]
    assert [(row["unit"], row["typical"], row["stale"]) for row in rows] == [
        ("1M input tokens", "3", True),
        ("1M output tokens", "9", True),
    ]
    assert "STALE" in called("prices", "old-model", *own).stdout
    unknown = " ".join(called("prices", "nobody-knows-this", *own).stdout.split())
    for told in ("openai/nobody-knows-this: its calls stay unpriced", "--prices FILE", "PriceBook().self_hosted"):
        assert told in unknown
    assert f"4 prices of {folder / 'prices.csv'}; " in " ".join(called("prices", *own).stdout.split())


@pytest.fixture
def without_genai(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without genai-prices."""
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    genai.installed.cache_clear()
    yield
    genai.installed.cache_clear()


def test_a_missing_library_is_named_where_a_price_is_missing(folder: Path, tmp_path: Path, without_genai: None) -> None:
    """Estimate, prices and reprice say what to install; where every price is known nothing is said."""
    pip = 'pip install "llama-index-hybridmem[prices]"'
    asked = ("estimate", folder / "docs" / "a.md", "--queries-per-month", 5)
    assert pip in called(*asked).stderr
    assert pip not in called(*asked, "--llm", "house-model", "--prices", folder / "prices.csv").stderr
    assert pip in " ".join(called("prices", "gpt-4o").stdout.split())
    old = tmp_path / "old.jsonl"
    old.write_text(json.dumps(trace("gpt-4o", "1")) + "\n")
    assert pip in called("reprice", old, "-o", tmp_path / "new.jsonl").stdout
    with pytest.raises(ConfigurationError, match=re.escape(pip)):
        called("reprice", old, "-o", tmp_path / "other.jsonl", "--as-model", "openai/gpt-4o")


def test_a_model_is_found_without_its_provider() -> None:
    """Everybody who has it is shown, by genai-prices and by the tables; an encoder is called one."""
    pytest.importorskip("genai_prices")
    rows = json.loads(called("prices", "gpt-4o-mini", "--json").stdout)["rows"]
    found = {(row["kind"], row["provider"], row["unit"]): row["typical"] for row in rows}
    assert found["llm", "openai", "1M input tokens"] == "0.15"
    assert found["llm", "azure", "1M output tokens"] == "0.6"
    assert found["training", "openai", "1M training tokens"] == "3"
    encoders = json.loads(called("prices", "text-embedding-3-small", "--json").stdout)["rows"]
    assert {row["kind"] for row in encoders} == {"embedding"}


def test_prices_of_a_kind() -> None:
    """--kind filters with and without a model, and is one of those there are."""
    machines = json.loads(called("prices", "--kind", "machine", "--json").stdout)["rows"]
    assert {row["kind"] for row in machines} == {"machine"}
    assert len(machines) < len(json.loads(called("prices", "--json").stdout)["rows"])
    assert json.loads(called("prices", "gpt-4o-mini", "--kind", "rerank", "--json").stdout)["rows"] == []
    with pytest.raises(ConfigurationError, match="--kind: unknown 'machines'; one of llm, embedding, rerank, machine"):
        called("prices", "--kind", "machines")


def test_no_name_is_cut_at_80_columns(tmp_path: Path) -> None:
    """Every name stands whole, over several lines where it is long; sources stand once, below."""
    path = tmp_path / "long.csv"
    names = [f"a-model-with-a-very-long-name-of-its-own-{place}-and-an-end" for place in range(2)]
    lines = [f"llm,provider-of-long-names,{name},hour,1,1234567.123456,9999999.5,bill,2020-01-01" for name in names]
    path.write_text("\n".join(["kind,provider,model,unit,low,typical,high,source,read_on", *lines]) + "\n")
    shown = called("prices", "--prices", path).stdout
    first, end = "", 0
    for line in shown.splitlines():
        end = line.find(" unit") if line.startswith("provider/model") else end
        first += "".join(line[:end].split())
    rows = json.loads(called("prices", "--prices", path, "--json").stdout)["rows"]
    assert len(rows) == 25
    for row in rows:
        assert f"{row['provider']}/{row['model']}".replace(" ", "") in first
    assert shown.count("bill, read 2020-01-01") == 1
    assert max(map(len, shown.splitlines())) <= 80


def test_small_prices_are_plain_decimals(tmp_path: Path) -> None:
    """No exponent in JSON, however small the price."""
    path = tmp_path / "small.csv"
    path.write_text("kind,provider,model,unit,typical,source,read_on\nrerank,x,tiny,search,4.2E-8,bill,2026-11-01\n")
    rows = json.loads(called("prices", "tiny", "--prices", path, "--json").stdout)["rows"]
    assert [row["typical"] for row in rows] == ["0.000000042"]


def test_a_price_file_that_is_not_there(tmp_path: Path) -> None:
    """It is an error of the command line, with exit code 2, and no page of a disk error."""
    with pytest.raises(ConfigurationError, match=r"--prices: no file .*none\.csv"):
        called("prices", "--prices", tmp_path / "none.csv")


def test_a_model_that_is_asked_nothing_is_told(folder: Path) -> None:
    """--llm without questions and without a graph by a model is in no figure, and is not passed over."""
    own = ("estimate", folder / "docs" / "a.md", "--llm", "house-model")
    assert "house-model is asked nothing" in called(*own).stderr
    assert "asked nothing" not in called(*own, "--queries-per-month", 1).stderr
    assert "asked nothing" not in called(*own, "--graph", "llm").stderr
    assert "asked nothing" not in called(*own[:2]).stderr
    with pytest.raises(ConfigurationError, match="^--graph: one of none, entities, llm, not 'big'"):
        called(*own, "--graph", "big")


def test_seconds_have_a_column_of_their_own(folder: Path) -> None:
    """Time never stands among tokens, and where nothing takes time there is no such column."""
    asked = ("estimate", folder / "docs" / "a.md")
    assert re.search(r"tokens in +out +time +cost", called(*asked, "--graph", "entities").stdout)
    assert re.search(r"graph: names, +– +– +– +[\d.]+\sm?s ", called(*asked, "--graph", "entities").stdout)
    assert not re.search(r"\btime\b", called(*asked).stdout)


def test_prices_of_the_library_are_shown() -> None:
    """What genai-prices knows is shown by the million tokens, with the library's version."""
    pytest.importorskip("genai_prices")
    rows = json.loads(called("prices", "gpt-4o-mini", "--provider", "openai", "--kind", "llm", "--json").stdout)["rows"]
    assert [(row["unit"], row["typical"]) for row in rows] == [("1M input tokens", "0.15"), ("1M output tokens", "0.6")]
    assert rows[0]["source"].startswith("genai-prices ")


def trace(model: str, cost: str | None) -> dict[str, Any]:
    """A trace of one call of 1,000 tokens in and 100 out, as JSON."""
    amount = None if cost is None else Decimal(cost)
    usage = Usage(1000, 100)
    call = ModelCall("llm", model, "openai", None, False, "ok", 0, 1, None, 1, usage, amount, "then")
    return QueryTrace(f"t-{model}", "query", "q", 1_790_000_000.0, 1.0, calls=(call,)).to_json()


def test_traces_are_repriced(folder: Path, tmp_path: Path) -> None:
    """Old traces at other prices: into a new file, costs and sources set anew, unpriced calls counted."""
    old = tmp_path / "old.jsonl"
    old.write_text("".join(json.dumps(trace(*each)) + "\n" for each in (("house-model", "1"), ("mystery", "2"))))
    new = tmp_path / "new.jsonl"
    own = ("--prices", folder / "prices.csv")
    found = json.loads(called("reprice", old, "-o", new, *own, "--json").stdout)
    assert {key: found[key] for key in ("traces", "before", "after", "unpriced_before", "unpriced_after")} == {
        "traces": 2,
        "before": "3",
        "after": "0.0021",
        "unpriced_before": 0,
        "unpriced_after": 1,
    }
    read = [from_json(json.loads(line)) for line in new.read_text().splitlines()]
    assert [one.cost for one in read] == [Decimal("0.0021"), None]
    assert read[0].calls[0].price == "our contract, read 2026-11-01"
    with pytest.raises(ConfigurationError, match="is there already"):
        called("reprice", old, "-o", new)


def test_traces_as_of_another_model(folder: Path, tmp_path: Path) -> None:
    """What it would have cost with another language model; a name without provider is refused."""
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    old.write_text(json.dumps(trace("mystery", None)) + "\ntorn {\n")
    result = called("reprice", old, "-o", new, "--as-model", "openai/house-model", "--prices", folder / "prices.csv")
    assert "1\u00a0trace written" in result.stdout.replace("\n", "")
    words = " ".join(result.stdout.split())
    assert ": $0.0021, before nothing known. Calls without a price: 0, before 1." in words
    assert "Prices: as openai/house-model: our contract, read 2026-11-01 (1 call)." in words
    assert "1 lines were no trace" in result.stderr
    with pytest.raises(ConfigurationError, match="PROVIDER/MODEL"):
        called("reprice", old, "-o", tmp_path / "x.jsonl", "--as-model", "house-model")
    assert not list(tmp_path.glob("*.tmp"))


def test_what_is_not_priced_is_not_zero(folder: Path, tmp_path: Path) -> None:
    """Nothing known where no call has a price, at least so much where some have one; null in JSON, never 0."""
    old, own = tmp_path / "old.jsonl", ("--prices", folder / "prices.csv")
    old.write_text(json.dumps(trace("mystery", None)) + "\n")
    shown = " ".join(called("reprice", old, "-o", tmp_path / "1.jsonl", *own).stdout.split())
    assert "1.jsonl: nothing known, before nothing known. Calls without a price: 1, before 1." in shown
    found = json.loads(called("reprice", old, "-o", tmp_path / "2.jsonl", *own, "--json").stdout)
    assert (found["before"], found["after"], found["calls"], found["prices"]) == (None, None, 1, {})
    old.write_text("".join(json.dumps(trace(*each)) + "\n" for each in (("house-model", "1"), ("mystery", "2"))))
    shown = " ".join(called("reprice", old, "-o", tmp_path / "3.jsonl", *own).stdout.split())
    assert "3.jsonl: at least $0.0021, before $3.00." in shown


def test_a_model_nobody_knows_is_no_price(folder: Path, tmp_path: Path) -> None:
    """A typo in --as-model is refused by its name before a file is written."""
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    old.write_text(json.dumps(trace("house-model", "1")) + "\n")
    with pytest.raises(ConfigurationError, match=r"a price of openai/nosuch, .*--prices FILE, PriceBook\.self_hosted"):
        called("reprice", old, "-o", new, "--as-model", "openai/nosuch", "--prices", folder / "prices.csv")
    assert not new.exists()
