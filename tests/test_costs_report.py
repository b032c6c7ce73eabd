"""The report: a page that loads and runs nothing, says every figure in words, and holds whatever names traces bring."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from html import unescape
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from rich.cells import cell_len
from rich.console import Console
from trace_zoo import EDGES, FOREIGN, HOSTILE, MEAN, trace, traffic, unpriced
from typer.testing import CliRunner

from llama_index_hybridmem.cli.report import report
from llama_index_hybridmem.cli.report_view import Blocks, shown, view
from llama_index_hybridmem.costs.figures.summary import Summary, summarise
from llama_index_hybridmem.costs.report import drawing, wording
from llama_index_hybridmem.costs.report.cost_plots import cost_by_route, cost_by_tenant
from llama_index_hybridmem.costs.report.month_plot import budget_curve, month_sentence
from llama_index_hybridmem.costs.report.page import compose, render
from llama_index_hybridmem.costs.report.rows import ticks
from llama_index_hybridmem.costs.report.sections import Section, sections
from llama_index_hybridmem.costs.report.tables import Table, group, models, route_latencies, troubles
from llama_index_hybridmem.costs.report.time_plots import latency_by_route, waterfalls
from llama_index_hybridmem.costs.report.trouble_plots import endings
from llama_index_hybridmem.costs.trace import Stage
from llama_index_hybridmem.errors import ConfigurationError, MissingExtraError

TAGS = set(
    "html head meta title style body main header h1 h2 h3 p nav a dl div dt dd section figure figcaption svg desc path "
    "text table thead tbody tr th td footer".split()
)
EMPTY = {"meta"}


class Reader(HTMLParser):
    """Reads a page as a browser would: its tags, what they hold, and whether they close."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it, and what it has."""
        self.tags.append((tag, dict(attrs)))
        self.open += [tag] if tag not in EMPTY else []

    def handle_endtag(self, tag: str) -> None:
        """It closes what was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note it."""
        self.texts.append(data)

    def values(self, name: str) -> list[str]:
        """The values of an attribute, wherever it stands."""
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


@dataclass(frozen=True)
class Text:
    """A text of a plot and where it stands."""

    said: str
    left: float
    right: float
    top: float
    bottom: float


@pytest.fixture(scope="module")
def summary() -> Summary:
    """A few weeks of traffic."""
    return summarise(traffic(600), limit=Decimal("0.7"))


@pytest.fixture(scope="module")
def page(summary: Summary) -> str:
    """The report on it."""
    extra = Section("Was it worth it?", "A <b> lead.", markup='<p class="extra">yes &amp; no</p>')
    return render(summary, [extra], source="From a & b.", made="2026-11-21")


@pytest.fixture(scope="module")
def mean_page() -> str:
    """The report on traces in which every name is an attack."""
    return render(summarise(EDGES["hostile"](), by=("tenant", "tags.class")))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are laid out, and drawn by nobody: a tenth of the time."""
    monkeypatch.setattr(drawing.Drawing, "_rendered", lambda self: b'<svg xmlns="http://www.w3.org/2000/svg"/>')


def texts(svg: str) -> Iterator[Text]:
    """The texts of a plot with their boxes, measured in DejaVu Sans, which is wider than most."""
    for x, y, style, escaped in re.findall(r'<text x="([^"]+)" y="([^"]+)" style="([^"]+)">([^<]*)</text>', svg):
        look = dict(each.split(": ") for each in style.split("; "))
        size, said = float(look["font-size"].removesuffix("px")), unescape(escaped)
        font = FontProperties(family="DejaVu Sans", size=size, weight=look.get("font-weight", "normal"))
        wide = text_to_path.get_text_width_height_descent(said, font, ismath=False)[0]
        left = float(x) - wide * {"start": 0, "middle": 0.5, "end": 1}[look["text-anchor"]]
        yield Text(said, left, left + wide, float(y) - 0.75 * size, float(y) + 0.2 * size)


def plots(page: str) -> list[str]:
    """The plots of a page."""
    return re.findall(r"<svg .*?</svg>", page, re.DOTALL)


# -- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_is_whole_and_loads_nothing(page: str) -> None:
    """Every tag closes, none fetches or runs anything, and the page's own policy would forbid it."""
    read = Reader(page)
    assert read.open == []
    assert {tag for tag, _ in read.tags} <= TAGS
    assert not {name for _, attrs in read.tags for name in attrs if name in ("src", "srcset", "action", "data")}
    assert not [name for _, attrs in read.tags for name in attrs if name.startswith("on")]
    assert "default-src 'none'" in page
    assert not re.search(r"url\(|@import|https?:|javascript:", page)
    targets = read.values("href")
    assert targets
    assert {target.removeprefix("#") for target in targets} <= set(read.values("id"))


def test_the_questions_stand_in_the_order_of_a_reader(page: str) -> None:
    """What it cost comes first, trust last, and another section before that."""
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == [
        "What did it cost?",
        "How long did it take, and where?",
        "Who and what caused it?",
        "What went wrong?",
        "Was it worth it?",
        "How far can these figures be trusted?",
    ]
    assert "A &lt;b&gt; lead." in page
    assert '<p class="extra">yes &amp; no</p>' in page
    assert "From a &amp; b." in page
    assert "Written 2026-11-21." in page


def test_every_plot_is_told_in_words(page: str) -> None:
    """Title and description of each plot have ids of their own; the description is the sentence, with a figure."""
    read = Reader(page)
    ids = read.values("id")
    assert len(ids) == len(set(ids))
    drawn = plots(page)
    assert len(drawn) == 19
    for svg in drawn:
        title, described = re.search(r'aria-labelledby="(\S+) (\S+)"', svg).groups()  # type: ignore[union-attr]
        assert f'<title id="{title}">' in svg
        told = unescape(re.search(rf'<desc id="{described}">(.*?)</desc>', svg)[1])  # type: ignore[index]
        assert re.search(r"\d", told)
        assert told in read.texts


def test_plots_take_font_and_colours_from_the_page(page: str) -> None:
    """No colour and no font of its own: every colour is a variable with a value for light and one for dark."""
    drawn = "".join(plots(page))
    assert "font-family" not in drawn
    assert not re.search(r"#[0-9a-fA-F]{3}", drawn)
    style = page[page.index("<style>") : page.index("</style>")]
    for role in drawing.ROLES:
        assert len(re.findall(rf"--{role}: #", style)) == 3  # light, dark, paper
    assert set(re.findall(r"var\(--(\w+)\)", drawn)) <= set(drawing.ROLES)
    assert not re.search(r"(fill|stroke): (?!none|var)", drawn)


@pytest.mark.parametrize("made", ["page", "mean_page"])
def test_no_text_of_a_plot_is_cut_or_covered(made: str, request: pytest.FixtureRequest) -> None:
    """Texts stay on their sheet, and none stands on another."""
    for svg in plots(request.getfixturevalue(made)):
        found = list(texts(svg))
        for text in found:
            assert text.left > -1, text
            assert text.right < drawing.WIDTH + 1, text
        for one, other in combinations(found, 2):
            beside = one.right <= other.left + 1 or other.right <= one.left + 1
            assert beside or one.bottom <= other.top or other.bottom <= one.top, (one, other)


@pytest.mark.parametrize("limit", ["0.05", "0.57", "0.93", "5"])
def test_the_limits_line_crosses_no_text(limit: str) -> None:
    """Passed early, nearly reached, just above the month's end, or far away."""
    drawn = budget_curve(summarise(traffic(600), limit=Decimal(limit)))
    assert drawn is not None
    (line,) = re.findall(r'd="M 0 ([\d.]+) L 340 \1" style="[^"]*dasharray[^"]*var\(--two\)', drawn.svg)
    assert not [text for text in texts(drawn.svg) if text.top + 1 < float(line) < text.bottom - 1]


def test_names_are_text_whatever_they_hold(mean_page: str) -> None:
    """Markup, templates and formulas in names of routes, tenants, models, stores, errors and tags stay letters."""
    read = Reader(mean_page)
    assert read.open == []
    assert {tag for tag, _ in read.tags} <= TAGS
    seen = set(read.texts)
    assert set(MEAN) <= seen  # cells of tables
    assert "49" not in seen  # {{ 7*7 }}
    assert HOSTILE not in mean_page


def test_the_same_traces_give_the_same_bytes(summary: Summary, page: str) -> None:
    """Whatever the user has set in matplotlib, which is left as it was."""
    mine = {"font.size": 30.0, "font.family": ["serif"], "path.sketch": (1.0, 1.0, 1.0), "savefig.bbox": "tight"}
    with matplotlib.rc_context(mine):  # type: ignore[arg-type]
        again = cost_by_route(summary)
        assert {key: matplotlib.rcParams[key] for key in mine} == mine
    assert again is not None
    assert again.svg in page


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.usefixtures("undrawn")
def test_every_kind_of_traces_has_a_page(name: str) -> None:
    """None, one, strange or many: each page is whole, and says nothing of what is not known."""
    made = summarise(EDGES[name](), by=("tags.class",), limit=Decimal("0.02"))
    written = render(made)
    read = Reader(written.encode("utf-8").decode("utf-8"))
    assert read.open == []
    said = " ".join(read.texts)
    assert not re.search(r"\b(None|nan|inf|Decimal)\b", said)
    for section in sections(made):
        assert section.lead or section.plots or any(table.rows for table in section.tables), section.title
        assert all(re.search(r"\d|No ", plot.sentence) for plot in section.plots)


@pytest.mark.usefixtures("undrawn")
def test_no_plot_is_empty() -> None:
    """What has nothing to show is not drawn: no prices, no costs; no failures, no plot of them."""
    bare = {plot.title for section in sections(summarise(EDGES["unpriced"]())) for plot in section.plots}
    assert "Cost of a query, by route" not in bare
    assert "Spent, month by month" not in bare
    assert "Calls without a price, by model" in bare
    fine = [trace(f"a{place}", status="ok", error=None, degraded=()) for place in range(30)]
    made = sections(summarise(fine))
    assert made[3].lead == "Nothing: every query ended well, with all of its stores."
    assert not made[3].plots
    assert "Calls without a price, by model" not in {plot.title for plot in made[4].plots}


@pytest.mark.usefixtures("undrawn")
def test_sentences_say_the_figures(summary: Summary) -> None:
    """The dear route against the cheap one, what is left out, the month and its limit."""
    told = {plot.title: plot.sentence for section in sections(summary) for plot in section.plots}
    plain = {title: re.sub("[\u2068\u2069]", "", sentence).replace("\u00a0", " ") for title, sentence in told.items()}
    assert plain["Cost of a query, by route"] == (
        "A query by hybrid costs $0.0022 on average, 8 times as much as one by graph ($0.00027). 66 queries have no "
        "price and are left out."
    )
    assert plain["Spent, month by month"] == (
        "At least $0.53 was spent in November 2026 up to 18 Nov; at that pace the month ends at $0.88. The limit of "
        "$0.70 would be reached on 24 Nov."
    )
    assert plain["What the latency is made of"] == "Retrieval takes 7.1 % of the latency, the language model 93 %."
    assert plain["Calls without a price, by model"].startswith("66 of 1,207 calls (5.5 %) have no price")


def plain(text: str) -> str:
    """Without what keeps names and units together."""
    return re.sub("[\u2068\u2069]", "", text).replace("\u00a0", " ")


@pytest.mark.usefixtures("undrawn")
def test_abstentions_are_told_of_those_that_say() -> None:
    """One of the three that name a kind of answer, whatever else ended well."""
    answers = ["abstained", "generated", "sources", *[None] * 9]
    made = summarise([trace(f"a{place}", status="ok", answer=each) for place, each in enumerate(answers)])
    (lead,) = [section.lead for section in sections(made) if section.title == "What went wrong?"]
    told = "1 of the 3 queries that say what kind of answer they gave found no answer in the sources (33 %)."
    assert plain(lead) in (told, "Nothing: every query ended well, with all of its stores.")


@pytest.mark.usefixtures("undrawn")
def test_few_queries_have_no_high_percentiles() -> None:
    """Not in the tables, not in the sentences, not in the plot; from 20 on they have."""
    for count, has in ((1, False), (19, False), (20, True)):
        made = summarise([trace(f"a{place}", status="ok", wall_s=2.0, error=None) for place in range(count)])
        row = dict(zip(route_latencies(made).columns, route_latencies(made).rows[0], strict=True))
        assert plain(row["#p50"]) == "2.0 s"
        assert (row["#p95"] != "too few") == (row["#p99"] != "too few") == has
        assert ("too few" in group(made, "route").rows[0]) != has
        drawn = latency_by_route(made)
        assert drawn is not None
        assert ("95 of 100" in drawn.sentence) == has
        assert ("too few" in drawn.sentence) != has


@pytest.mark.usefixtures("undrawn")
def test_the_dearest_tenant_is_one_that_has_a_name() -> None:
    """What is tagged with no tenant is told apart; where nothing else has a cost there is no plot."""
    made = [trace(f"a{place}", tenant=None) for place in range(9)]
    assert cost_by_tenant(summarise([*made, unpriced(trace("b", tenant="acme"))])) is None
    drawn = cost_by_tenant(summarise([*made, trace("b", tenant="acme")]))
    assert drawn is not None
    assert plain(drawn.sentence).startswith("acme caused $")
    assert drawn.sentence.endswith("is tagged with no tenant.")


def test_a_stream_that_nobody_read_is_told_in_words() -> None:
    """In the table and in the plot."""
    made = summarise([trace("a", status="never_consumed", error=None), trace("b", status="ok")])
    assert troubles("", made.errors, "error").rows[0][0] == "never read"
    drawn = endings(made)
    assert drawn is not None
    assert ">never read<" in drawn.svg


def test_time_in_no_stage_is_told() -> None:
    """33 ms of which a tenth of one is routing."""
    made = [trace(f"a{place}", status="ok", wall_s=0.033, stages=(Stage("route", 0.0, 0.0001),)) for place in range(3)]
    (drawn,) = waterfalls(summarise(made))
    assert plain(drawn.sentence).endswith("the longest stage is route, with 0.10 ms; 33 ms pass in no stage.")
    assert ">elsewhere<" in drawn.svg


def test_only_models_that_raise_have_failed() -> None:
    """A reader who leaves, or never comes, is no failure of theirs; the column says so."""
    (answered,) = trace("a").calls[-1:]
    ways = ("ok", "error", "abandoned", "cancelled", "never_consumed")
    made = [trace(way, calls=(replace(answered, status=way),)) for way in ways]  # type: ignore[arg-type]
    found = models(summarise(made))
    assert found.rows[0][found.columns.index("#failed")] == "1"
    assert found.rows[0][found.columns.index("#calls")] == "5"


def test_a_limit_that_is_passed_or_kept() -> None:
    """The sentence says which, and when."""
    traces = traffic(200)
    passed, kept = (month_sentence(summarise(traces, limit=Decimal(limit))) for limit in ("0.05", "50"))
    assert re.search(r"The limit of \$0\.05 was reached on \d+\u00a0Nov\.", passed)
    assert kept.endswith("The limit of $50 is not reached.")


def test_a_missing_library_is_named(summary: Summary, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the line that installs it."""
    monkeypatch.setattr("llama_index_hybridmem.extras.find_spec", lambda module: None)
    with pytest.raises(MissingExtraError, match=r"llama-index-hybridmem\[report\]"):
        render(summary)


# -- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "told"),
    [
        ("0", "$0"), ("0.00000001", "<$0.0000001"), ("0.00042", "$0.00042"), ("0.004199", "$0.0042"),
        ("0.02", "$0.020"), ("0.0996", "$0.10"), ("0.42", "$0.42"),
        ("12.345", "$12.34"), ("999.994", "$999.99"), ("1204.5", "$1,204"),
        ("-3", "−$3.00"), (None, "–"),
    ],
)  # fmt: skip
def test_amounts(amount: str | None, told: str) -> None:
    """Two digits that say something, cents from ten cents on, whole units from a thousand on; a dash for unknown."""
    assert wording.money(None if amount is None else Decimal(amount)) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.0, "0 ms"), (0.00042, "0.42 ms"), (0.0042, "4.2 ms"), (0.0384, "38 ms"), (0.9994, "999 ms"),
        (0.9996, "1.0 s"), (1.24, "1.2 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min"),
        (125.0, "2 min 5 s"), (3599.6, "1 h"),
        (7800.0, "2 h 10 min"), (None, "–"),
    ],
)  # fmt: skip
def test_times(value: float | None, told: str) -> None:
    """In the unit that fits, and never "1000 ms" or "60 s"."""
    assert wording.seconds(value).replace("\u00a0", " ") == told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.0, "0 %"), (0.0004, "<0.1 %"), (0.0316, "3.2 %"), (0.311, "31 %"), (0.9961, "99.6 %"), (0.99999, ">99.9 %"),
        (1.0, "100 %"),
    ],
)  # fmt: skip
def test_shares(value: float, told: str) -> None:
    """Nothing that is there is 0 %, and nothing that lacks something is 100 %."""
    assert wording.share(value).replace("\u00a0", " ") == told


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (None, "–"), (0, "0"), (9_999, "9,999"), (84_412, "84k"), (999_600, "1.0M"), (12_400_000, "12M"),
        (2_000_000_000, "2.0B"),
    ],
)  # fmt: skip
def test_token_counts(number: int | None, told: str) -> None:
    """Short where they are long."""
    assert wording.tokens(number) == told


def test_other_currencies_are_named() -> None:
    """A sign where there is one, else the code."""
    assert wording.money(Decimal("1.5"), "EUR") == "€1.50"
    assert wording.money(Decimal("1.5"), "CHF") == "CHF\u00a01.50"


@given(st.text(st.characters(codec=None), max_size=40) | st.sampled_from(FOREIGN))
def test_any_name_becomes_a_line_that_a_page_can_hold(name: str) -> None:
    """No control, no lone surrogate, nothing that turns the words beside it around; and it fits its room."""
    told = wording.clean(name)
    assert not re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]", told)
    told.encode("utf-8")
    short = wording.shortened(name, 60)
    assert wording.width(short) <= 60 or len(short) <= 2


@given(st.floats(1e-6, 1e9))
def test_scales_have_round_values(highest: float) -> None:
    """Two to six of them, from 0, evenly apart, none beyond the highest."""
    found = ticks(highest)
    assert found[0] == 0
    assert 2 <= len(found) <= 6
    assert found[-1] <= highest * (1 + 1e-6)


# -- the command ------------------------------------------------------------------------------------------------------


def file_of(folder: Path, traces: Sequence[Any]) -> Path:
    """A file of traces."""
    path = folder / "traces.jsonl"
    path.write_text("".join(json.dumps(each.to_json()) + "\n" for each in traces), encoding="utf-8")
    return path


def command() -> typer.Typer:
    """The command, by itself."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(report)
    return app


def ran(*arguments: object) -> str:
    """What the command writes to standard output; its errors come through."""
    ended = CliRunner().invoke(command(), [str(argument) for argument in arguments])
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return ended.stdout


def test_tables_in_a_terminal(tmp_path: Path) -> None:
    """The figures, routes, tenants, models and the month, 80 columns wide; names are no markup."""
    traces = [*traffic(60), *(trace(f"m{place}", "[bold]x[/]") for place in range(3))]
    out = ran(file_of(tmp_path, traces), "--limit", "0.02")
    assert "63 queries, and 73 other traces." in out.replace("\u00a0", " ")
    for said in ("Queries by route", "Besides the queries", "Tenants", "Models", "[bold]x[/]", "The limit of $0.02"):
        assert said in out
    assert max(len(line) for line in out.splitlines()) <= 80


def test_json_is_the_summary(tmp_path: Path) -> None:
    """And nothing else is written there; a line that is no trace is left out."""
    path = file_of(tmp_path, traffic(20))
    path.write_text(path.read_text(encoding="utf-8") + "torn", encoding="utf-8")
    read = json.loads(ran(path, "--json", "--by", "tenant"))
    assert read == summarise(traffic(20), by=("tenant",)).to_json() | {"limit": None}


@pytest.mark.usefixtures("undrawn")
def test_a_page_in_a_file(tmp_path: Path) -> None:
    """Its place is said, and nothing else is left beside it."""
    target = tmp_path / "new" / "report.html"
    target.parent.mkdir()
    assert str(target) in ran(file_of(tmp_path, traffic(20)), "-o", target)
    assert target.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


@pytest.mark.usefixtures("undrawn")
def test_a_page_through_a_link(tmp_path: Path) -> None:
    """The file that the link names is written; the link stays one."""
    kept, link = tmp_path / "kept.html", tmp_path / "link.html"
    link.symlink_to(kept)
    ran(file_of(tmp_path, traffic(5)), "-o", link)
    assert link.is_symlink()
    assert kept.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_an_empty_file_is_no_failure(tmp_path: Path) -> None:
    """It says so, and how traces come into one; there is no page of nothing."""
    target = tmp_path / "report.html"
    for more in ((), ("-o", target)):
        out = ran(file_of(tmp_path, []), *more)
        assert "There are no traces to report on." in out
        assert "JsonlTraces" in out
    assert not target.exists()


def test_a_file_of_anything_else_is_a_failure(tmp_path: Path) -> None:
    """One line says so, and no page is written."""
    other, target = tmp_path / "README.md", tmp_path / "report.html"
    other.write_text("# A heading\n\nand a line\n", encoding="utf-8")
    ended = CliRunner().invoke(command(), [str(other), "-o", str(target)])
    assert ended.exit_code == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"{other}: no trace in 2 lines")
    assert not target.exists()


def test_an_experiment_is_reported_on_by_its_phase(tmp_path: Path) -> None:
    """Its arms are groups, and everything else is a ledger; without --phase the tables say how to get there."""
    arms = [trace(f"a{place}", phase="evaluation", run=f"arm-{place % 2}") for place in range(6)]
    path = file_of(tmp_path, arms)
    out = ran(path, "--by", "run", "--phase", "evaluation").replace("\u00a0", " ")
    assert re.search(r"6 queries of the phase \W?evaluation", out)
    assert re.search(r"^arm-0 +3 ", out, re.MULTILINE)
    assert "--phase NAME reports on those of another phase: evaluation." in ran(path)


def test_what_cannot_be_done_is_said_first(tmp_path: Path) -> None:
    """Before anything is read or written: a page over the traces, an amount that is none, a file that is not there."""
    path = file_of(tmp_path, traffic(5))
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="would overwrite what is read"):
        ran(path, "-o", path)
    (tmp_path / "linked").symlink_to(tmp_path)
    for folder in (tmp_path, tmp_path / "linked"):
        with pytest.raises(ConfigurationError, match="is a folder; name a file in it"):
            ran(path, "-o", folder)
    with pytest.raises(ConfigurationError, match="there is no folder .*new; make it first"):
        ran(path, "-o", tmp_path / "new" / "report.html")
    assert not (tmp_path / "new").exists()
    with pytest.raises(ConfigurationError, match="--limit is an amount"):
        ran(path, "--limit", "ten")
    with pytest.raises(ConfigurationError, match="no such file"):
        ran(tmp_path / "missing.jsonl")
    assert path.read_bytes() == before


def test_the_terminal_says_what_is_not_known() -> None:
    """A dash, and never a zero."""
    console = Console(width=80, file=io.StringIO())
    with console.capture() as kept:
        console.print(view(summarise([unpriced(trace("a", status="ok", error=None))])))
    line = next(line for line in kept.get().splitlines() if line.startswith("vector"))
    assert line.split()[2:4] == ["–", "–"]


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("name", ["long names", "unicode", "few", "months", "slow", "twelve routes"])
def test_no_letter_is_lost_in_a_narrow_terminal(name: str, width: int) -> None:
    """Columns without room follow below: figures stand whole, names are broken, and nothing is beyond the edge."""
    made = summarise(EDGES[name](), by=("tenant", "answer", "tags.class"), limit=Decimal("0.02"))
    console = Console(width=width, file=io.StringIO())
    for table in shown(made):
        with console.capture() as kept:
            console.print(Blocks(table))
        out = kept.get()
        assert max(cell_len(line) for line in out.splitlines()) <= width
        for row in table.rows:
            figures = [cell for cell, column in zip(row, table.columns, strict=True) if column.startswith("#")]
            assert all(figure in out for figure in figures)
        letters = Counter("".join("".join(row) for row in table.rows))
        assert not {letter for letter in letters - Counter(out) if not letter.isspace()}


def test_the_terminal_says_where_the_time_went(tmp_path: Path) -> None:
    """Every stage with its share, and what no stage accounts for."""
    stages = (Stage("vector", 0.0, 1.0, 0.5), Stage("llm", 1.0, 2.0))
    made = [trace(f"a{place}", status="ok", wall_s=4.0, stages=stages) for place in range(3)]
    out = ran(file_of(tmp_path, made)).replace("\u00a0", " ")
    found = out[out.index("Where the time went") :]
    for line in ("llm 3 2.0 s 50 % –", "vector 3 1.0 s 25 % 500 ms", "elsewhere 3 1.0 s 25 % –"):
        assert line in [" ".join(told.split()) for told in found.splitlines()]


def test_a_table_without_rows_is_left_out() -> None:
    """Nor has the page its heading."""
    section = Section("Empty", tables=[Table("Nothing in it", ("a", "#b"), [])])
    written = compose("T", "H", [], [section])
    assert "Nothing in it" not in written
    assert "<h2>Empty</h2>" in written
