"""The report page of a run: complete, escaped, self-contained, and what is missing is left out."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index_hybridmem.training.drawing import Axis, Line, Whisker, curves
from llama_index_hybridmem.training.learning_curve import Fit, Point, learning_curve
from llama_index_hybridmem.training.page import page
from llama_index_hybridmem.training.recipe import Recipe
from llama_index_hybridmem.training.scaling_curve import Point as Scored
from llama_index_hybridmem.training.scaling_curve import scaling_curve

HOSTILE = "<script>alert(1)</script>\ud800\u202e\x00&\"'"
VOID = {"meta", "br"}


class Checked(HTMLParser):
    """Reads a page: every tag that opens closes, and what it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what opens and what it names."""
        self.tags.add(tag)
        self.loads += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the last that opened."""
        assert self.open.pop() == tag


def read(html: str) -> Checked:
    """Check a page."""
    html.encode("utf-8")
    found = Checked()
    found.feed(html)
    found.close()
    assert found.open == []
    return found


def summary(n: int, mean: float) -> dict[str, Any]:
    """A summary of scores, as `scores.Summary` gives it."""
    return {"n": n, "right": {"mean": mean, "low": max(0, mean - 0.1), "high": min(1, mean + 0.1)}}


def losses(dev: tuple[float, ...] = (1.2, 0.8, 0.75, 0.9, 1.1)) -> list[dict[str, float]]:
    """Of a run of 100 steps."""
    train = [{"step": n, "epoch": n / 50, "loss": 0.2 + 2 / n**0.5 + 0.1 * math.sin(7 * n)} for n in range(1, 101)]
    return [*train, *({"step": 20 * n, "epoch": n / 2.5, "dev_loss": loss} for n, loss in enumerate(dev, start=1))]


def full() -> dict[str, Any]:
    """A report with all its parts."""
    curve = Fit(0.8, 3.0, 0.5)
    grown = [Point(n, curve.at(n), curve.at(n) - 0.04, curve.at(n) + 0.04) for n in (100, 250, 500, 1000)]
    scaled = [
        Scored(scale, [float(n < task) for n in range(100)], [float(n < general) for n in range(100)])
        for scale, task, general in ((0.0, 11, 60), (0.25, 30, 60), (0.5, 51, 60), (1.0, 52, 59), (1.25, 50, 52))
    ]
    kinds = {"clean": (0.11, 0.52), "unanswerable": (0.0, 0.83), "broken_markdown": (0.11, 0.48)}
    report = {
        "name": "failures",
        "recipe": Recipe().to_json(),
        "data": {"train": 440, "replayed": 44, "dev": 60, "test": 0, "facts_in_targets": None, "tokens": 198000},
        "warnings": ["Overfitted: the dev loss was lowest at step 60."],
        "losses": losses(),
        "kept_step": 60,
        "steps": 100,
        "planned_steps": 110,
        "seconds": 660.0,
        "scores": {
            "before": summary(64, 0.1),
            "after": summary(64, 0.55),
            "difference": {"mean": 0.45, "low": 0.33, "high": 0.57},
            "kinds": {name: {"before": summary(20, a), "after": summary(20, b)} for name, (a, b) in kinds.items()},
        },
        "learning_curve": learning_curve(grown, resamples=50).to_json(),
        "scaling_curve": scaling_curve(scaled).to_json(),
        "lineage": {"base": "SmolLM2", "data": {"rows": "53aa" * 16}, "recipe": {"rank": 16}, "versions": {"trl": "1"}},
        "answers": [
            {
                "question": "What does a domestic wire transfer cost?",
                "expected": "$25",
                "before": "The fee is in the sources.",
                "after": "$25",
                "kinds": ["broken_markdown"],
            }
        ],
    }
    return dict(json.loads(json.dumps(report)))


HEADS = {
    "warnings": "Before you use it",
    "losses": "<h2>Loss</h2>",
    "scores": "Right answers, by kind of noise",
    "learning_curve": "What more data would buy",
    "scaling_curve": "How much of the adapter to use",
    "answers": "Some answers",
    "lineage": "<h3>Lineage</h3>",
    "recipe": "<h3>Recipe</h3>",
}


def test_a_full_report_has_all_its_parts() -> None:
    """Every part has its heading, and the main figures stand there in words."""
    html = page(full())
    assert all(head in html for head in HEADS.values())
    for told in ("Method lora of rank 16. 100 steps of 110 planned; kept is what step 60", "11 minutes", "55.0%"):
        assert told in html
    assert "+45.0 points on the same questions (+33.0 to +57.0)" in html
    assert "More data would buy at most" in html
    assert "Use 0.5 of the adapter" in html
    assert "data, rows" in html
    assert ">broken_markd…</text>" in html  # beside its bar; the table has it whole
    assert ">broken_markdown</th>" in html
    assert page(full()) == html


@pytest.mark.parametrize("part", HEADS)
@pytest.mark.parametrize("missing", ["absent", "none"])
def test_what_is_missing_is_left_out(part: str, missing: str) -> None:
    """That part alone, whether its key is gone or None."""
    report = full()
    if missing == "none":
        report[part] = None
    else:
        del report[part]
    html = page(report)
    read(html)
    assert [name for name, head in HEADS.items() if head not in html] == [part]


def test_a_report_of_nothing_is_a_page() -> None:
    """Not even a name is needed."""
    assert "<h1>Training run: without a name</h1>" in page({})
    read(page({}))


def test_it_loads_nothing_and_runs_nothing() -> None:
    """No scripts, links, images or frames; nothing that a style could fetch."""
    html = page(full())
    found = read(html)
    assert found.loads == []
    assert not found.tags & {"script", "link", "img", "iframe", "object", "form", "a"}
    assert "url(" not in html
    assert "default-src 'none'" in html


def test_hostile_texts_are_escaped_everywhere() -> None:
    """Tags, quotes, lone surrogates and signs that turn the text round change nothing."""
    report = full()
    report |= {"name": HOSTILE, "warnings": [HOSTILE], "lineage": {HOSTILE: {HOSTILE: HOSTILE}}}
    report["answers"] = [{**dict.fromkeys(("question", "expected", "before", "after"), HOSTILE), "kinds": [HOSTILE]}]
    report["scores"]["kinds"] = {HOSTILE: report["scores"]["kinds"]["clean"]}
    report["learning_curve"]["sentence"] = report["scaling_curve"]["sentence"] = HOSTILE
    report["recipe"]["method"] = HOSTILE
    html = page(report)
    assert "script" not in read(html).tags
    assert not re.search("[\x00\u202e\ud800]", html)
    assert html.count("&lt;script&gt;") >= 11


def test_overfitting_is_shaded_and_the_kept_step_marked() -> None:
    """Shaded only where it is one."""
    report = full()
    assert "kept, step 60" in page(report)
    assert "opacity:.12" in page(report)
    assert "Shaded" in page(report)
    report["losses"] = losses((1.2, 0.8, 0.75, 0.7, 0.69))
    assert "opacity:.12" not in page(report)
    assert "Shaded" not in page(report)


def test_without_dev_rows_that_is_said() -> None:
    """The train loss alone is drawn."""
    html = page({"name": "a", "losses": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]})
    assert "No dev rows" in html
    assert "Train loss" in html


def test_a_curve_without_a_fit_shows_its_points_and_why() -> None:
    """Two sizes: no fitted line, but the reason."""
    report = {"learning_curve": learning_curve([Point(100, 0.3, 0.2, 0.4), Point(200, 0.4, 0.3, 0.5)]).to_json()}
    html = page(report)
    assert "cannot be told: it takes 3 numbers of rows, not 2" in html
    assert html.count("<circle") == 2
    assert "fitted" not in html


NUMBERS = st.floats(-1e9, 1e9) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0])
PLACES = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=8)


@settings(max_examples=100)
@given(PLACES, st.booleans())
def test_any_line_is_drawn_inside_the_sheet(places: list[tuple[float, float]], dots: bool) -> None:
    """Whatever the figures: valid XML, every point on the sheet; "" without a finite one."""
    whiskers = [Whisker(x, y, y, y) for x, y in places]
    svg = curves("a < b", [Line("l", "one", () if dots else places, whiskers)], Axis("x"), Axis("y"))
    if not any(math.isfinite(x) and math.isfinite(y) for x, y in places):
        assert svg == ""
        return
    for element in ElementTree.fromstring(svg).iter():
        for pair in element.get("points", "").split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= 460
            assert 0 <= y <= 220
